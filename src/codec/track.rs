//! Session tracking: what an OK says of the session's state, where the status has SESSION_STATE_CHANGED.

use nom::number::complete::le_u8;

use super::lenenc::lenenc_bytes;
use super::{CodecError, flatten, front, whole};

/// A change of the session's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateChange<'a> {
    /// A system variable has this value now.
    Variable(&'a [u8], &'a [u8]),
    /// This database is current; empty for none.
    Schema(&'a [u8]),
    /// Another kind, by its number.
    Other(u8),
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
            0 => variables(data, &mut each)?,
            1 => each(StateChange::Schema(whole(data, lenenc_bytes)?)),
            other => each(StateChange::Other(other)),
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
        assert_eq!(seen[3], "Other(5)");
        for end in 0..info.len() {
            assert!(read(&info[..end]).is_err(), "{end}");
        }
        assert_eq!(read(b"\0\0").unwrap(), (0, Vec::new()));
    }
}
