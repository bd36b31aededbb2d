//! Prepared statements: the answer to PREPARE, and the head of EXECUTE.

use nom::bytes::complete::tag;
use nom::number::complete::{le_u8, le_u16, le_u32};

use super::{Capabilities, CodecError, Parsed, fail, front};

/// The first packet of an answer to COM_STMT_PREPARE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrepareOk {
    /// The statement's id.
    pub statement_id: u32,
    /// Columns of its result.
    pub columns: u16,
    /// Parameters.
    pub parameters: u16,
    /// Warnings.
    pub warnings: u16,
    /// Under MySQL's OPTIONAL_RESULTSET_METADATA: whether definitions follow.
    pub defined: Option<bool>,
}

impl PrepareOk {
    /// Parses a payload that starts with 0x00, by the capabilities of the login.
    pub fn parse(payload: &[u8], capabilities: Capabilities) -> Result<Self, CodecError> {
        front(payload, |input| prepare_ok(input, capabilities))
    }

    /// Appends the payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(0);
        out.extend_from_slice(&self.statement_id.to_le_bytes());
        out.extend_from_slice(&self.columns.to_le_bytes());
        out.extend_from_slice(&self.parameters.to_le_bytes());
        out.push(0);
        out.extend_from_slice(&self.warnings.to_le_bytes());
        out.extend(self.defined.map(u8::from));
    }
}

fn prepare_ok(input: &[u8], capabilities: Capabilities) -> Parsed<'_, PrepareOk> {
    let (rest, _) = tag(&[0][..])(input)?;
    let (rest, statement_id) = le_u32(rest)?;
    let (rest, columns) = le_u16(rest)?;
    let (rest, parameters) = le_u16(rest)?;
    let (rest, _) = le_u8(rest)?;
    let (rest, warnings) = le_u16(rest)?;
    let (rest, defined) = if capabilities.has(Capabilities::OPTIONAL_RESULTSET_METADATA) {
        let (rest, defined) = is_defined(rest)?;
        (rest, Some(defined))
    } else {
        (rest, None)
    };
    Ok((rest, PrepareOk { statement_id, columns, parameters, warnings, defined }))
}

/// Whether definitions follow: a byte, 0 or 1.
pub(super) fn is_defined(input: &[u8]) -> Parsed<'_, bool> {
    match le_u8(input)? {
        (rest, byte @ 0..=1) => Ok((rest, byte == 1)),
        _ => fail(CodecError::Value("whether definitions follow")),
    }
}

/// What is read of COM_STMT_EXECUTE: which statement, with which cursor. The rest is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecuteHead<'a> {
    /// The statement's id.
    pub statement_id: u32,
    /// Cursor flags.
    pub flags: u8,
    /// Always 1.
    pub iterations: u32,
    /// NULL bitmap, types and values, as they came.
    pub parameters: &'a [u8],
}

impl<'a> ExecuteHead<'a> {
    /// Parses what follows the command byte.
    pub fn parse(payload: &'a [u8]) -> Result<Self, CodecError> {
        front(payload, execute)
    }
}

fn execute(input: &[u8]) -> Parsed<'_, ExecuteHead<'_>> {
    let (rest, statement_id) = le_u32(input)?;
    let (rest, flags) = le_u8(rest)?;
    let (rest, iterations) = le_u32(rest)?;
    let head = ExecuteHead { statement_id, flags, iterations, parameters: rest };
    Ok((&rest[rest.len()..], head))
}
