//! Session tracking: what an OK says of the session's state, where the status has SESSION_STATE_CHANGED.

use nom::number::complete::le_u8;

use super::lenenc::lenenc_bytes;
use super::{CodecError, flatten, front, whole, write_lenenc_bytes};

/// A change of the session's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateChange<'a> {
    /// A system variable has this value now.
    Variable(&'a [u8], &'a [u8]),
    /// This database is current; empty for none.
    Schema(&'a [u8]),
    /// Another kind, by its number, with what it says.
    Other(u8, &'a [u8]),
}

const VARIABLES: u8 = 0;
const SCHEMA: u8 = 1;

impl StateChange<'_> {
    /// That this client's statements have left a state behind, and no more (see `session_track_state_change`).
    pub const STATE: u8 = 2;

    /// Appends it as the servers write it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut data = Vec::new();
        let kind = match *self {
            Self::Variable(name, value) => {
                write_lenenc_bytes(&mut data, name);
                write_lenenc_bytes(&mut data, value);
                VARIABLES
            }
            Self::Schema(name) => {
                write_lenenc_bytes(&mut data, name);
                SCHEMA
            }
            Self::Other(kind, said) => {
                data.extend_from_slice(said);
                kind
            }
        };
        out.push(kind);
        write_lenenc_bytes(out, &data);
    }
}

/// What follows the warnings of an OK whose status has SESSION_STATE_CHANGED: its text (with its own length in front;
/// nothing for none) and written changes.
pub fn write_state(out: &mut Vec<u8>, text: &[u8], changes: &[u8]) {
    if text.is_empty() {
        out.push(0);
    }
    out.extend_from_slice(text);
    write_lenenc_bytes(out, changes);
}

/// Reads what follows an OK's warnings: gives the length of its text (with its own length in front; 0 for none), and
/// calls `each` for every change.
pub fn state_changes<'a>(
    info: &'a [u8],
    mut each: impl FnMut(StateChange<'a>),
) -> Result<usize, CodecError> {
    let parts = |input| {
        let (rest, text) = lenenc_bytes(input)?;
        let len = if text.is_empty() { 0 } else { input.len() - rest.len() };
        let (rest, changes) = lenenc_bytes(rest)?;
        Ok((rest, (len, changes)))
    };
    let (len, mut changes) = front(info, parts)?;
    while !changes.is_empty() {
        let (rest, kind) = le_u8(changes).map_err(flatten)?;
        let (rest, data) = lenenc_bytes(rest).map_err(flatten)?;
        match kind {
            VARIABLES => variables(data, &mut each)?,
            SCHEMA => each(StateChange::Schema(whole(data, lenenc_bytes)?)),
            other => each(StateChange::Other(other, data)),
        }
        changes = rest;
    }
    Ok(len)
}

fn variables<'a>(
    mut data: &'a [u8],
    each: &mut impl FnMut(StateChange<'a>),
) -> Result<(), CodecError> {
    while !data.is_empty() {
        let (rest, name) = lenenc_bytes(data).map_err(flatten)?;
        let (rest, value) = lenenc_bytes(rest).map_err(flatten)?;
        each(StateChange::Variable(name, value));
        data = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_and_their_prefixes_are_errors() {
        let info = b"\x02ok\x16\x00\x0e\x04time\x03utc\x02tz\x01x\x01\x02\x01s\x05\x00";
        let read = |info: &[u8]| {
            let mut seen = Vec::new();
            state_changes(info, |change| seen.push(format!("{change:?}"))).map(|len| (len, seen))
        };
        let (len, seen) = read(info).unwrap();
        assert_eq!((len, seen.len()), (3, 4), "{seen:?}");
        assert_eq!(seen[2], format!("{:?}", StateChange::Schema(b"s")));
        assert_eq!(seen[3], format!("{:?}", StateChange::Other(5, b"")));
        for end in 0..info.len() {
            assert!(read(&info[..end]).is_err(), "{end}");
        }
        assert_eq!(read(b"\0\0").unwrap(), (0, Vec::new()));
    }

    #[test]
    fn changes_are_written_as_they_came() {
        // Of a MariaDB and of a MySQL, as they came.
        for (text, info) in [
            (&b""[..], &b"\0\x24\0\x11\x09time_zone\x06+01:00\0\x0f\nautocommit\x03OFF"[..]),
            (b"", b"\0\x08\x01\x06\x05other"),
            (b"\x02ok", b"\x02ok\x1a\0\x15\x0fmax_sort_length\x042000\x02\x011"),
        ] {
            let (mut changes, mut again) = (Vec::new(), Vec::new());
            let len = state_changes(info, |change| change.write(&mut changes)).unwrap();
            assert_eq!(info.get(..len), Some(text));
            write_state(&mut again, text, &changes);
            assert_eq!(again, info);
        }
    }
}
