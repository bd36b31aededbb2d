//! The client's answer to the greeting: SSLRequest and HandshakeResponse41.

use nom::bytes::complete::take;
use nom::number::complete::{le_u8, le_u32};

use super::lenenc::{lenenc_bytes, lenenc_int};
use super::{
    Capabilities, CodecError, Parsed, fail, front, nul_bytes, nul_text, text, whole,
    write_lenenc_bytes,
};

/// The most connection attributes that are read: real drivers send about ten.
const MAX_ATTRIBUTES: usize = 64;

/// How hard a server is to compress: its CPU is dearer than the network.
const ZSTD_LEVEL: u8 = 1;

/// The short packet that asks for TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SslRequest {
    /// Asked for; counts for nothing, since it came in clear.
    pub capabilities: Capabilities,
}

impl SslRequest {
    /// Parses the payload: 32 bytes exactly, with the SSL flag.
    pub fn parse(payload: &[u8]) -> Result<Self, CodecError> {
        let (capabilities, _, _) = whole(payload, head)?;
        if !capabilities.has(Capabilities::SSL) {
            return Err(CodecError::Value("an SSL request"));
        }
        Ok(Self { capabilities })
    }

    /// Appends the payload.
    pub fn write(capabilities: Capabilities, collation: u8, out: &mut Vec<u8>) {
        write_head(out, Capabilities(capabilities.0 | Capabilities::SSL), collation);
    }
}

/// A login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRequest<'a> {
    /// What the client asks for.
    pub capabilities: Capabilities,
    /// The longest packet it says it takes.
    pub max_packet: u32,
    /// The collation whose character set it speaks.
    pub collation: u8,
    /// The user name, attributes and all.
    pub user: &'a str,
    /// The answer to the greeting's challenge, by `plugin`.
    pub auth_response: &'a [u8],
    /// The database to start in.
    pub schema: Option<&'a str>,
    /// The plugin that the client answered with.
    pub plugin: Option<&'a str>,
    /// Connection attributes.
    pub attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> LoginRequest<'a> {
    /// Parses a login's payload.
    pub fn parse(payload: &'a [u8]) -> Result<Self, CodecError> {
        front(payload, login)
    }

    /// Appends the payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_head(out, self.capabilities, self.collation);
        out.extend_from_slice(self.user.as_bytes());
        out.push(0);
        if self.capabilities.has(Capabilities::PLUGIN_AUTH_LENENC) {
            write_lenenc_bytes(out, self.auth_response);
        } else {
            out.push(u8::try_from(self.auth_response.len()).unwrap_or(0));
            out.extend_from_slice(self.auth_response);
        }
        for (flag, value) in
            [(Capabilities::CONNECT_WITH_DB, self.schema), (Capabilities::PLUGIN_AUTH, self.plugin)]
        {
            if self.capabilities.has(flag) {
                out.extend_from_slice(value.unwrap_or("").as_bytes());
                out.push(0);
            }
        }
        if self.capabilities.has(Capabilities::CONNECT_ATTRS) {
            let mut all = Vec::new();
            for (key, value) in &self.attributes {
                write_lenenc_bytes(&mut all, key.as_bytes());
                write_lenenc_bytes(&mut all, value.as_bytes());
            }
            write_lenenc_bytes(out, &all);
        }
        if self.capabilities.has(Capabilities::ZSTD) {
            out.push(ZSTD_LEVEL);
        }
    }
}

fn write_head(out: &mut Vec<u8>, capabilities: Capabilities, collation: u8) {
    let flags = capabilities.0.to_le_bytes();
    out.extend_from_slice(&flags[..4]);
    out.extend_from_slice(&u32::try_from(super::MAX_PAYLOAD).unwrap_or(0).to_le_bytes());
    out.push(collation);
    out.extend_from_slice(&[0; 19]);
    let is_mysql = capabilities.has(Capabilities::LONG_PASSWORD);
    out.extend_from_slice(if is_mysql { &[0; 4] } else { &flags[4..] });
}

/// Capabilities, longest packet, collation, filler (MariaDB's extended capabilities in its last four bytes).
fn head(input: &[u8]) -> Parsed<'_, (Capabilities, u32, u8)> {
    let (rest, low) = le_u32(input)?;
    let (rest, max_packet) = le_u32(rest)?;
    let (rest, collation) = le_u8(rest)?;
    let (rest, _) = take(19_usize)(rest)?;
    let (rest, extended) = le_u32(rest)?;
    let low = u64::from(low);
    let is_mysql = low & Capabilities::LONG_PASSWORD != 0;
    let extended = if is_mysql { 0 } else { u64::from(extended) << 32 };
    Ok((rest, (Capabilities(low | extended), max_packet, collation)))
}

fn login(input: &[u8]) -> Parsed<'_, LoginRequest<'_>> {
    let (rest, (capabilities, max_packet, collation)) = head(input)?;
    if !capabilities.has(Capabilities::PROTOCOL_41) {
        return fail(CodecError::Value("capabilities (protocol 4.1 is required)"));
    }
    let (rest, user) = nul_text(rest, "the user name")?;
    let (rest, auth_response) = if capabilities.has(Capabilities::PLUGIN_AUTH_LENENC) {
        lenenc_bytes(rest)?
    } else {
        let (rest, len) = le_u8(rest)?;
        take(usize::from(len))(rest)?
    };
    let (rest, schema) = if capabilities.has(Capabilities::CONNECT_WITH_DB) {
        let (rest, name) = nul_text(rest, "the database's name")?;
        (rest, Some(name).filter(|name| !name.is_empty()))
    } else {
        (rest, None)
    };
    let (rest, plugin) = if capabilities.has(Capabilities::PLUGIN_AUTH) && !rest.is_empty() {
        let (rest, name) = nul_bytes(rest)?;
        (rest, Some(text(name, "the plugin's name")?))
    } else {
        (rest, None)
    };
    let (rest, attributes) = if capabilities.has(Capabilities::CONNECT_ATTRS) && !rest.is_empty() {
        attributes(rest)?
    } else {
        (rest, Vec::new())
    };
    let login = LoginRequest {
        capabilities,
        max_packet,
        collation,
        user,
        auth_response,
        schema,
        plugin,
        attributes,
    };
    Ok((rest, login))
}

/// Connection attributes; those that are not UTF-8 are dropped, since they are only recorded.
pub(super) fn attributes(input: &[u8]) -> Parsed<'_, Vec<(&str, &str)>> {
    let (rest, len) = lenenc_int(input)?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let (rest, mut all) = take(len)(rest)?;
    let mut attributes = Vec::new();
    while !all.is_empty() {
        let (after_key, key) = lenenc_bytes(all)?;
        let (after_value, value) = lenenc_bytes(after_key)?;
        all = after_value;
        if let (Ok(key), Ok(value)) = (std::str::from_utf8(key), std::str::from_utf8(value))
            && attributes.len() < MAX_ATTRIBUTES
        {
            attributes.push((key, value));
        }
    }
    Ok((rest, attributes))
}
