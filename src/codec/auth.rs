//! Authentication between greeting and OK: switch requests and the plugins' own packets.

use nom::number::complete::le_u8;

use super::lenenc::lenenc_bytes;
use super::{CodecError, Parsed, fail, front, nul_text};

/// `mysql_native_password`.
pub const NATIVE_PASSWORD: &str = "mysql_native_password";
/// `caching_sha2_password`.
pub const CACHING_SHA2: &str = "caching_sha2_password";
/// `mysql_clear_password`.
pub const CLEAR_PASSWORD: &str = "mysql_clear_password";
/// `sha256_password`.
pub const SHA256_PASSWORD: &str = "sha256_password";
/// `client_ed25519`: MariaDB's.
pub const CLIENT_ED25519: &str = "client_ed25519";
/// `authentication_openid_connect_client`: MySQL's, from 9.1 on.
pub const OPENID_CONNECT: &str = "authentication_openid_connect_client";

/// caching_sha2's "the fast path succeeded".
pub const AUTH_FAST_OK: u8 = 3;
/// caching_sha2's "send the whole password".
pub const AUTH_FULL: u8 = 4;
/// caching_sha2's request for the server's public key.
pub const AUTH_KEY_REQUEST: u8 = 2;
/// sha256_password's request for the server's public key.
pub const SHA256_KEY_REQUEST: u8 = 1;

/// The plugins that are implemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plugin {
    /// `mysql_native_password`.
    Native,
    /// `caching_sha2_password`.
    CachingSha2,
    /// `mysql_clear_password`.
    Clear,
    /// `sha256_password`.
    Sha256,
    /// `client_ed25519`.
    Ed25519,
    /// `authentication_openid_connect_client`.
    OpenIdConnect,
}

impl Plugin {
    /// The plugin of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            NATIVE_PASSWORD => Some(Self::Native),
            CACHING_SHA2 => Some(Self::CachingSha2),
            CLEAR_PASSWORD => Some(Self::Clear),
            SHA256_PASSWORD => Some(Self::Sha256),
            CLIENT_ED25519 => Some(Self::Ed25519),
            OPENID_CONNECT => Some(Self::OpenIdConnect),
            _ => None,
        }
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => NATIVE_PASSWORD,
            Self::CachingSha2 => CACHING_SHA2,
            Self::Clear => CLEAR_PASSWORD,
            Self::Sha256 => SHA256_PASSWORD,
            Self::Ed25519 => CLIENT_ED25519,
            Self::OpenIdConnect => OPENID_CONNECT,
        }
    }
}

/// The token in an answer by `authentication_openid_connect_client`: a byte of capabilities, then `string<lenenc>`.
pub fn id_token(payload: &[u8]) -> Result<&[u8], CodecError> {
    front(payload, |input| {
        let (rest, _) = le_u8(input)?;
        lenenc_bytes(rest)
    })
}

/// "Answer by another plugin, to this challenge."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthSwitch<'a> {
    /// The plugin.
    pub plugin: &'a str,
    /// Its data: a scramble, mostly with a NUL behind it.
    pub data: &'a [u8],
}

impl<'a> AuthSwitch<'a> {
    /// Parses a payload that starts with 0xFE.
    pub fn parse(payload: &'a [u8]) -> Result<Self, CodecError> {
        front(payload, switch)
    }

    /// The challenge without its NUL, where it is one of 20 bytes.
    pub fn scramble(&self) -> Option<[u8; 20]> {
        self.data.get(..20).and_then(|bytes| bytes.try_into().ok())
    }
}

fn switch(input: &[u8]) -> Parsed<'_, AuthSwitch<'_>> {
    let Some((0xFE, rest)) = input.split_first() else {
        return fail(CodecError::Value("an auth switch request"));
    };
    let (rest, plugin) = nul_text(rest, "the plugin's name")?;
    Ok((&rest[rest.len()..], AuthSwitch { plugin, data: rest }))
}

/// Appends an AuthSwitchRequest's payload.
pub fn write_auth_switch(out: &mut Vec<u8>, plugin: &str, scramble: &[u8]) {
    out.push(0xFE);
    out.extend_from_slice(plugin.as_bytes());
    out.push(0);
    out.extend_from_slice(scramble);
    out.push(0);
}

/// Appends an AuthMoreData's payload.
pub fn write_auth_more(out: &mut Vec<u8>, data: &[u8]) {
    out.push(1);
    out.extend_from_slice(data);
}
