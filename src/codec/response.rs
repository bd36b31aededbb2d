//! OK, ERR, EOF: the packets that end things.

use nom::bytes::complete::{tag, take};
use nom::number::complete::{le_u8, le_u16};

use super::lenenc::lenenc_int;
use super::prepare::is_defined;
use super::{Capabilities, CodecError, MAX_PAYLOAD, Parsed, front, write_lenenc_int};

/// Status flags of OK and EOF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(pub u16);

#[allow(missing_docs, reason = "the names are the manual's")]
impl Status {
    pub const IN_TRANS: u16 = 0x0001;
    pub const AUTOCOMMIT: u16 = 0x0002;
    pub const MORE_RESULTS: u16 = 0x0008;
    pub const CURSOR_EXISTS: u16 = 0x0040;
    pub const LAST_ROW_SENT: u16 = 0x0080;
    pub const DB_DROPPED: u16 = 0x0100;
    pub const NO_BACKSLASH_ESCAPES: u16 = 0x0200;
    pub const METADATA_CHANGED: u16 = 0x0400;
    pub const IN_TRANS_READONLY: u16 = 0x2000;
    pub const SESSION_STATE_CHANGED: u16 = 0x4000;
    pub const MARIADB_ANSI_QUOTES: u16 = 0x8000;
}

impl Status {
    /// Whether all of `bits` are set.
    pub fn has(self, bits: u16) -> bool {
        self.0 & bits == bits
    }

    /// Where the flags are in the payload of an OK or of a result's end.
    pub fn place(payload: &[u8], deprecate_eof: bool) -> Option<usize> {
        if payload.first() == Some(&0xFE) && !deprecate_eof {
            return Some(3);
        }
        let (rest, _) = lenenc_int(payload.get(1..)?).ok()?;
        let (rest, _) = lenenc_int(rest).ok()?;
        Some(payload.len() - rest.len()).filter(|_| rest.len() >= 2)
    }
}

/// An OK (also the one that ends a result under DEPRECATE_EOF).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OkPacket<'a> {
    /// Rows affected.
    pub affected_rows: u64,
    /// Last insert id.
    pub last_insert_id: u64,
    /// Status flags.
    pub status: Status,
    /// Warnings.
    pub warnings: u16,
    /// What follows: the info text, and session tracking where that is on.
    pub info: &'a [u8],
}

impl<'a> OkPacket<'a> {
    /// Parses a payload that starts with 0x00 or 0xFE.
    pub fn parse(payload: &'a [u8]) -> Result<Self, CodecError> {
        front(payload, ok)
    }
}

fn ok(input: &[u8]) -> Parsed<'_, OkPacket<'_>> {
    let (rest, _) = le_u8(input)?;
    let (rest, affected_rows) = lenenc_int(rest)?;
    let (rest, last_insert_id) = lenenc_int(rest)?;
    let (rest, status) = le_u16(rest)?;
    let (rest, warnings) = le_u16(rest)?;
    let ok =
        OkPacket { affected_rows, last_insert_id, status: Status(status), warnings, info: rest };
    Ok((&rest[rest.len()..], ok))
}

/// An error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrPacket<'a> {
    /// The number.
    pub code: u16,
    /// SQLSTATE; `HY000` where the packet has none (before the login).
    pub sqlstate: [u8; 5],
    /// The text, in the connection's character set.
    pub message: &'a [u8],
}

impl<'a> ErrPacket<'a> {
    /// Parses a payload that starts with 0xFF.
    pub fn parse(payload: &'a [u8]) -> Result<Self, CodecError> {
        front(payload, err)
    }
}

fn err(input: &[u8]) -> Parsed<'_, ErrPacket<'_>> {
    let (rest, _) = tag(&[0xFF][..])(input)?;
    let (rest, code) = le_u16(rest)?;
    let mut sqlstate = *b"HY000";
    let rest = match rest.split_first() {
        Some((b'#', after)) => {
            let (after, state) = take(5_usize)(after)?;
            sqlstate.copy_from_slice(state);
            after
        }
        _ => rest,
    };
    Ok((&rest[rest.len()..], ErrPacket { code, sqlstate, message: rest }))
}

/// What the first packet of a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// OK: nothing follows (unless MORE_RESULTS is set).
    Ok,
    /// ERR.
    Err,
    /// LOCAL INFILE: the server wants a file from the client.
    LocalInfile,
    /// A result.
    Columns {
        /// With this many columns.
        count: u64,
        /// Their definitions follow. They always do, but under MariaDB's CACHE_METADATA (an EXECUTE's that are as they
        /// were told last) and MySQL's OPTIONAL_RESULTSET_METADATA (if the session turned them off).
        defined: bool,
    },
}

impl Reply {
    /// Reads the first payload of a response to a query, by the capabilities of the login.
    pub fn parse(payload: &[u8], capabilities: Capabilities) -> Result<Self, CodecError> {
        match payload.first() {
            Some(0x00) => Ok(Self::Ok),
            Some(0xFF) => Ok(Self::Err),
            Some(0xFB) => Ok(Self::LocalInfile),
            Some(_) => front(payload, |input| columns(input, capabilities)),
            None => Err(CodecError::Truncated),
        }
    }

    /// Whether this payload ends a result: 0xFE, and not a row that starts with an eight-byte length.
    pub fn is_terminator(payload: &[u8], deprecate_eof: bool) -> bool {
        let limit = if deprecate_eof { MAX_PAYLOAD } else { 9 };
        payload.first() == Some(&0xFE) && payload.len() < limit
    }

    /// The status flags of a terminator.
    pub fn terminator_status(payload: &[u8], deprecate_eof: bool) -> Result<Status, CodecError> {
        Self::terminator(payload, deprecate_eof).map(|(status, _)| status)
    }

    /// The status flags of a terminator, and how many warnings it tells of.
    pub fn terminator(payload: &[u8], deprecate_eof: bool) -> Result<(Status, u16), CodecError> {
        if deprecate_eof {
            return OkPacket::parse(payload).map(|ok| (ok.status, ok.warnings));
        }
        match *payload {
            [0xFE, few, many, low, high] => {
                Ok((Status(u16::from_le_bytes([low, high])), u16::from_le_bytes([few, many])))
            }
            _ => Err(CodecError::Truncated),
        }
    }
}

/// A column count, and a byte behind it where definitions may be left out. (MySQL's manual has that byte in front of the
/// count; what its servers send, and its client reads, is the same as MariaDB's: measured with 9.7.)
fn columns(input: &[u8], capabilities: Capabilities) -> Parsed<'_, Reply> {
    let (rest, count) = lenenc_int(input)?;
    let (rest, defined) =
        if capabilities.may_lack_definitions() { is_defined(rest)? } else { (rest, true) };
    Ok((rest, Reply::Columns { count, defined }))
}

/// Appends a result's first payload: how many columns, and where definitions may be left out, that they follow.
pub fn write_columns(out: &mut Vec<u8>, count: u64, capabilities: Capabilities) {
    write_lenenc_int(out, count);
    if capabilities.may_lack_definitions() {
        out.push(1);
    }
}

/// Appends an OK's payload, without info.
pub fn write_ok(out: &mut Vec<u8>, header: u8, ok: &OkPacket<'_>) {
    out.push(header);
    write_lenenc_int(out, ok.affected_rows);
    write_lenenc_int(out, ok.last_insert_id);
    out.extend_from_slice(&ok.status.0.to_le_bytes());
    out.extend_from_slice(&ok.warnings.to_le_bytes());
    out.extend_from_slice(ok.info);
}

/// Appends an EOF's payload.
pub fn write_eof(out: &mut Vec<u8>, warnings: u16, status: Status) {
    out.push(0xFE);
    out.extend_from_slice(&warnings.to_le_bytes());
    out.extend_from_slice(&status.0.to_le_bytes());
}

/// Appends an ERR's payload.
pub fn write_err(out: &mut Vec<u8>, code: u16, sqlstate: [u8; 5], message: &str) {
    out.push(0xFF);
    out.extend_from_slice(&code.to_le_bytes());
    out.push(b'#');
    out.extend_from_slice(&sqlstate);
    out.extend_from_slice(message.as_bytes());
}
