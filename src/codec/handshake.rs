//! The server's greeting: protocol::HandshakeV10, in MySQL's and in MariaDB's form.

use nom::bytes::complete::take;
use nom::number::complete::{le_u8, le_u16, le_u32};

use super::{Capabilities, CodecError, Parsed, fail, front, nul_bytes, nul_text, text};

/// Bytes of a scramble, without the NUL that follows it on the wire.
pub const SCRAMBLE_LEN: usize = 20;

/// A greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// The server's version string.
    pub version: &'a str,
    /// The server's connection id.
    pub connection_id: u32,
    /// The challenge.
    pub scramble: [u8; SCRAMBLE_LEN],
    /// What the server can do; MariaDB's extended flags in the upper half.
    pub capabilities: Capabilities,
    /// The server's default collation.
    pub collation: u8,
    /// Status flags.
    pub status: u16,
    /// The default authentication plugin.
    pub plugin: &'a str,
}

impl<'a> Handshake<'a> {
    /// Parses a greeting's payload.
    pub fn parse(payload: &'a [u8]) -> Result<Self, CodecError> {
        front(payload, handshake)
    }

    /// Appends the payload. Without [`Capabilities::LONG_PASSWORD`] it is MariaDB's form, with the extended
    /// capabilities in the filler.
    pub fn write(&self, out: &mut Vec<u8>) {
        let capabilities = self.capabilities.0.to_le_bytes();
        out.push(10);
        out.extend_from_slice(self.version.as_bytes());
        out.push(0);
        out.extend_from_slice(&self.connection_id.to_le_bytes());
        out.extend_from_slice(&self.scramble[..8]);
        out.push(0);
        out.extend_from_slice(&capabilities[..2]);
        out.push(self.collation);
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&capabilities[2..4]);
        out.push(21);
        out.extend_from_slice(&[0; 6]);
        let is_mysql = self.capabilities.has(Capabilities::LONG_PASSWORD);
        out.extend_from_slice(if is_mysql { &[0; 4] } else { &capabilities[4..8] });
        out.extend_from_slice(&self.scramble[8..]);
        out.push(0);
        out.extend_from_slice(self.plugin.as_bytes());
        out.push(0);
    }
}

fn handshake(input: &[u8]) -> Parsed<'_, Handshake<'_>> {
    let (rest, protocol) = le_u8(input)?;
    if protocol != 10 {
        return fail(CodecError::Value("the protocol version"));
    }
    let (rest, version) = nul_text(rest, "the server's version")?;
    let (rest, connection_id) = le_u32(rest)?;
    let (rest, first) = take(8_usize)(rest)?;
    let (rest, _) = le_u8(rest)?;
    let (rest, low) = le_u16(rest)?;
    let (rest, collation) = le_u8(rest)?;
    let (rest, status) = le_u16(rest)?;
    let (rest, high) = le_u16(rest)?;
    let (rest, _) = le_u8(rest)?;
    let (rest, _) = take(6_usize)(rest)?;
    let (rest, extended) = le_u32(rest)?;
    let (rest, second) = take(SCRAMBLE_LEN - 8)(rest)?;
    let (rest, _) = le_u8(rest)?;
    let basic = u64::from(low) | u64::from(high) << 16;
    let is_mysql = basic & Capabilities::LONG_PASSWORD != 0;
    let extended = if is_mysql { 0 } else { u64::from(extended) << 32 };
    if basic & Capabilities::PLUGIN_AUTH == 0 {
        return fail(CodecError::Value("capabilities (no authentication plugins)"));
    }
    // Some old servers leave out the plugin name's NUL.
    let (rest, plugin) = match nul_bytes(rest) {
        Ok(split) => split,
        Err(_) => (&rest[rest.len()..], rest),
    };
    let plugin = text(plugin, "the plugin's name")?;
    let mut scramble = [0; SCRAMBLE_LEN];
    scramble[..8].copy_from_slice(first);
    scramble[8..].copy_from_slice(second);
    let capabilities = Capabilities(basic | extended);
    Ok((
        rest,
        Handshake { version, connection_id, scramble, capabilities, collation, status, plugin },
    ))
}
