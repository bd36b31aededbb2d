//! MariaDB's COM_STMT_BULK_EXECUTE: one prepared statement, and the parameters of as many rows as the packet holds.

use nom::bytes::complete::take;
use nom::number::complete::{le_u8, le_u16, le_u32};

use super::column::BinaryForm;
use super::lenenc::lenenc_int;
use super::{CodecError, ColumnType, Parsed, fail, flatten, front};

/// The types of the parameters come with it. No other flag is offered.
const TYPES: u16 = 128;

/// A parameter has a value; NULL, the column's default, or nothing (the column stays as it is) have none.
const VALUE: u8 = 0;
const LAST_INDICATOR: u8 = 3;

/// What is read of COM_STMT_BULK_EXECUTE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkExecute<'a> {
    /// The statement's id.
    pub statement_id: u32,
    /// It brings the types of its parameters.
    pub has_types: bool,
    /// Types and rows, as they came.
    pub parameters: &'a [u8],
}

impl<'a> BulkExecute<'a> {
    /// Parses what follows the command byte.
    pub fn parse(payload: &'a [u8]) -> Result<Self, CodecError> {
        front(payload, bulk)
    }

    /// The types of so many parameters, two bytes each, and the rows. `None`: it brings no types.
    pub fn rows(&self, parameters: usize) -> Option<(&'a [u8], &'a [u8])> {
        self.parameters.split_at_checked(2 * parameters).filter(|_| self.has_types)
    }
}

/// Counts the rows, each of a value for each of these types; an error where the last is cut short.
pub fn bulk_rows(types: &[u8], rows: &[u8]) -> Result<usize, CodecError> {
    bulk_values(types, rows, |_, _| {})
}

/// Goes through the values, row by row, and counts the rows. `each` is given the type and the bytes, without their length;
/// `None`: NULL, or no value at all.
pub fn bulk_values<'a>(
    types: &[u8],
    mut rows: &'a [u8],
    mut each: impl FnMut(ColumnType, Option<&'a [u8]>),
) -> Result<usize, CodecError> {
    if types.is_empty() {
        return Err(CodecError::Value("the types of parameters"));
    }
    let mut count = 0;
    while !rows.is_empty() {
        for wire in types.chunks_exact(2) {
            let column_type = ColumnType(wire[0]);
            let (rest, value) = parameter(rows, column_type).map_err(flatten)?;
            each(column_type, value);
            rows = rest;
        }
        count += 1;
    }
    Ok(count)
}

fn bulk(input: &[u8]) -> Parsed<'_, BulkExecute<'_>> {
    let (rest, statement_id) = le_u32(input)?;
    let (rest, flags) = le_u16(rest)?;
    if flags & !TYPES != 0 {
        return fail(CodecError::Value("the flags of a bulk execution"));
    }
    let bulk = BulkExecute { statement_id, has_types: flags & TYPES != 0, parameters: rest };
    Ok((&rest[rest.len()..], bulk))
}

fn parameter(input: &[u8], column_type: ColumnType) -> Parsed<'_, Option<&[u8]>> {
    let (rest, indicator) = le_u8(input)?;
    if indicator > LAST_INDICATOR {
        return fail(CodecError::Value("a parameter's indicator"));
    }
    if indicator != VALUE {
        return Ok((rest, None));
    }
    let (rest, len) = match column_type.binary_form() {
        Some(BinaryForm::Fixed(len)) => (rest, len as u64),
        Some(BinaryForm::ShortLength | BinaryForm::Lenenc) => lenenc_int(rest)?,
        None => return fail(CodecError::Value("a parameter's type")),
    };
    let len = usize::try_from(len).map_err(|_| nom::Err::Failure(CodecError::Truncated))?;
    let (rest, value) = take(len)(rest)?;
    Ok((rest, Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_and_no_row_may_be_cut_short() {
        let body = b"\x07\0\0\0\x80\0\xfd\0\x03\0\0\x01a\x01\0\x02bc\0\x05\0\0\0\x02\x03";
        let bulk = BulkExecute::parse(body).unwrap();
        assert_eq!((bulk.statement_id, bulk.has_types), (7, true));
        let (types, rows) = bulk.rows(2).unwrap();
        assert_eq!((types, bulk_rows(types, rows)), (&b"\xfd\0\x03\0"[..], Ok(3)));
        let ends: Vec<_> =
            (0..=rows.len()).filter(|end| bulk_rows(types, &rows[..*end]).is_ok()).collect();
        assert_eq!(ends, [0, 4, 13, 15]);
        assert!(bulk_rows(b"\xfd\0", b"\x04").is_err(), "an indicator that is none");
        assert!(bulk_rows(b"\x20\0", b"\0a").is_err(), "a type that is none");
        assert!(bulk_rows(b"", b"\x01").is_err(), "no types");
    }

    #[test]
    fn types_may_be_left_out_and_results_for_each_row_may_not_be_asked_for() {
        assert_eq!(BulkExecute::parse(b"\x07\0\0\0\0\0\0\x01a").unwrap().rows(1), None);
        assert_eq!(BulkExecute::parse(b"\x07\0\0\0\x80\0\xfd").unwrap().rows(1), None);
        assert!(BulkExecute::parse(b"\x07\0\0\0\x40\0").is_err());
        assert!(BulkExecute::parse(b"\x07\0\0\0\x80").is_err());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, parameters in 0_usize..5) {
            if let Ok(bulk) = BulkExecute::parse(&bytes)
                && let Some((types, rows)) = bulk.rows(parameters)
            {
                proptest::prop_assert!(bulk_rows(types, rows).unwrap_or(0) <= bytes.len());
            }
        }
    }
}
