//! Length-encoded integers and strings.

use nom::Parser as _;
use nom::bytes::complete::take;
use nom::number::complete::{le_u8, le_u16, le_u24, le_u64};

use super::{CodecError, Parsed, fail};

/// `int<lenenc>`: up to 0xFA as one byte; 0xFC, 0xFD, 0xFE lead two, three, eight. 0xFB is NULL and 0xFF an error.
pub fn lenenc_int(input: &[u8]) -> Parsed<'_, u64> {
    let (rest, first) = le_u8(input)?;
    match first {
        0..=0xFA => Ok((rest, u64::from(first))),
        0xFC => le_u16.map(u64::from).parse(rest),
        0xFD => le_u24.map(u64::from).parse(rest),
        0xFE => le_u64(rest),
        _ => fail(CodecError::Value("a length-encoded integer")),
    }
}

/// `string<lenenc>`.
pub fn lenenc_bytes(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (rest, len) = lenenc_int(input)?;
    match usize::try_from(len) {
        Ok(len) => take(len)(rest),
        Err(_) => fail(CodecError::Truncated),
    }
}

/// Appends an `int<lenenc>`.
#[inline]
pub fn write_lenenc_int(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_le_bytes();
    match value {
        0..=0xFA => out.push(bytes[0]),
        0xFB..=0xFFFF => {
            out.push(0xFC);
            out.extend_from_slice(&bytes[..2]);
        }
        0x1_0000..=0xFF_FFFF => {
            out.push(0xFD);
            out.extend_from_slice(&bytes[..3]);
        }
        _ => {
            out.push(0xFE);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Appends a `string<lenenc>`.
pub fn write_lenenc_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_lenenc_int(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_and_every_prefix() {
        for value in [0, 0xFA, 0xFB, 0xFFFF, 0x1_0000, 0xFF_FFFF, 0x100_0000, u64::MAX] {
            let mut out = Vec::new();
            write_lenenc_int(&mut out, value);
            assert_eq!(lenenc_int(&out).unwrap(), (&[][..], value));
            for end in 0..out.len() {
                assert!(lenenc_int(&out[..end]).is_err());
            }
        }
        assert!(lenenc_int(&[0xFB]).is_err());
        assert!(lenenc_int(&[0xFF]).is_err());
    }
}
