//! Bytes ↔ borrowed MySQL and MariaDB packets. Pure functions: no I/O, no allocation on rows, no panic on any
//! input. A frame is found by hand ([`Header`]); payload parsers are nom's `complete` forms, so that "incomplete"
//! never leaves framing: a payload that is too short is an error.

mod attributes;
mod auth;
mod bulk;
mod capability;
mod change_user;
mod column;
mod command;
mod compressed;
mod frame;
mod handshake;
mod lenenc;
mod login;
mod prepare;
mod proxy;
mod response;
mod row;
#[cfg(test)]
mod tests;
mod track;
mod value;

pub use attributes::{
    Attribute, Attributes, MAX_ATTRIBUTES_LEN, MAX_QUERY_ATTRIBUTES, NamedParameters, bound_values,
};
pub use auth::{
    AUTH_FAST_OK, AUTH_FULL, AUTH_KEY_REQUEST, AuthSwitch, CACHING_SHA2, CLEAR_PASSWORD,
    CLIENT_ED25519, NATIVE_PASSWORD, OPENID_CONNECT, Plugin, SHA256_KEY_REQUEST, SHA256_PASSWORD,
    id_token, write_auth_more, write_auth_switch,
};
pub use bulk::{BulkExecute, bulk_rows, bulk_values};
pub use capability::Capabilities;
pub use change_user::ChangeUser;
pub use column::{ColumnDefinition, ColumnFlags, ColumnType};
pub use command::Command;
pub use compressed::{COMPRESSED_HEADER_LEN, CompressedHeader, Compression};
pub use frame::{HEADER_LEN, Header, MAX_PAYLOAD, write_frame, write_packet};
pub use handshake::{Handshake, SCRAMBLE_LEN};
pub use lenenc::{lenenc_bytes, lenenc_int, write_lenenc_bytes, write_lenenc_int};
pub use login::{LoginRequest, SslRequest};
pub use prepare::{ExecuteHead, PrepareOk};
pub use proxy::ProxyHeader;
pub use response::{
    ErrPacket, OkPacket, Reply, Status, write_columns, write_eof, write_err, write_ok,
};
pub use row::{BinaryRow, Cell, TextRow, write_binary_row_head};
pub use track::{StateChange, state_changes, write_state};
pub use value::shown as shown_value;

/// What is wrong with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// It ends before its last field.
    #[error("the packet ends early")]
    Truncated,
    /// It goes on after its last field.
    #[error("the packet has bytes left over")]
    Trailing,
    /// A tag or version byte has a value that is not understood.
    #[error("unexpected value in {0}")]
    Value(&'static str),
    /// A text is not UTF-8.
    #[error("{0} is not UTF-8")]
    Utf8(&'static str),
}

impl nom::error::ParseError<&[u8]> for CodecError {
    fn from_error_kind(_: &[u8], _: nom::error::ErrorKind) -> Self {
        Self::Truncated
    }

    fn append(_: &[u8], _: nom::error::ErrorKind, other: Self) -> Self {
        other
    }
}

/// What a parser gives: the rest and the value.
type Parsed<'a, T> = nom::IResult<&'a [u8], T, CodecError>;

/// Runs a parser over a whole payload; leftover bytes are an error.
fn whole<'a, T>(
    payload: &'a [u8],
    parser: impl FnOnce(&'a [u8]) -> Parsed<'a, T>,
) -> Result<T, CodecError> {
    match parser(payload) {
        Ok(([], value)) => Ok(value),
        Ok(_) => Err(CodecError::Trailing),
        Err(error) => Err(flatten(error)),
    }
}

/// Runs a parser at the front of a payload; what follows belongs to extensions that are not read.
fn front<'a, T>(
    payload: &'a [u8],
    parser: impl FnOnce(&'a [u8]) -> Parsed<'a, T>,
) -> Result<T, CodecError> {
    parser(payload).map(|(_, value)| value).map_err(flatten)
}

#[allow(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn flatten(error: nom::Err<CodecError>) -> CodecError {
    match error {
        nom::Err::Error(error) | nom::Err::Failure(error) => error,
        nom::Err::Incomplete(_) => CodecError::Truncated,
    }
}

/// A failure that no alternative mends.
fn fail<T>(error: CodecError) -> Result<T, nom::Err<CodecError>> {
    Err(nom::Err::Failure(error))
}

/// Bytes up to a NUL, which is taken too.
fn nul_bytes(input: &[u8]) -> Parsed<'_, &[u8]> {
    let at = input.iter().position(|byte| *byte == 0);
    match at.and_then(|at| Some((input.get(at + 1..)?, input.get(..at)?))) {
        Some(split) => Ok(split),
        None => fail(CodecError::Truncated),
    }
}

/// A NUL-terminated text.
fn nul_text<'a>(input: &'a [u8], what: &'static str) -> Parsed<'a, &'a str> {
    let (rest, bytes) = nul_bytes(input)?;
    Ok((rest, text(bytes, what)?))
}

fn text<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, nom::Err<CodecError>> {
    std::str::from_utf8(bytes).map_err(|_| nom::Err::Failure(CodecError::Utf8(what)))
}
