//! The parameters of a statement that waits for its ruling, as people read them.

use super::machine::Phase;
use super::{Session, StatementKind};
use crate::codec::{ColumnType, bound_values, bulk_values, shown_value};

/// One row of parameters; `None` is NULL.
pub type ShownRow = Vec<Option<String>>;

/// A statement's parameters, as people read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShownParameters {
    /// What each is on the wire: `'0'` and `0` find other rows.
    pub types: Vec<&'static str>,
    /// Their values: one row of an EXECUTE, and many of a bulk execution.
    pub rows: Vec<ShownRow>,
}

/// Why parameters can't be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unshown {
    /// Not all of them are known.
    Unknown,
    /// There are too many.
    TooMany,
}

impl Session {
    /// The parameters as text, if there are at most so many; `bytes` are the client's.
    pub fn shown_parameters(&self, bytes: &[u8], most: usize) -> Result<ShownParameters, Unshown> {
        let bound = self.bound_parameters(bytes).ok_or(Unshown::Unknown)?;
        let Phase::Deciding(pending) = &self.phase else { return Ok(ShownParameters::default()) };
        let of = self.statements.get(&pending.statement_id).filter(|_| !bound.is_empty());
        let Some(statement) = of else { return Ok(ShownParameters::default()) };
        let own = usize::from(statement.parameters);
        let is_bulk = pending.kind == StatementKind::BulkExecute;
        let types = if is_bulk { 0 } else { own.div_ceil(8) + 1 };
        let types = bound.get(types..types + 2 * own).ok_or(Unshown::Unknown)?;
        let types = types.as_chunks::<2>().0;
        let (mut all, mut count) = (Vec::new(), 0);
        let mut each = |column_type: ColumnType, value: Option<&[u8]>| {
            let is_unsigned = types.get(count % own.max(1)).is_some_and(|wire| wire[1] & 0x80 != 0);
            count += 1;
            if count <= most {
                all.push(value.map(|value| text(column_type, is_unsigned, value)));
            }
        };
        let walked = if is_bulk {
            let (types, rows) = bound.split_at_checked(2 * own).ok_or(Unshown::Unknown)?;
            bulk_values(types, rows, &mut each).is_ok()
        } else {
            bound_values(&bound, own, &mut each).is_ok()
        };
        if !walked {
            return Err(Unshown::Unknown);
        }
        if count > most {
            return Err(Unshown::TooMany);
        }
        Ok(ShownParameters {
            types: types.iter().map(|wire| type_name(ColumnType(wire[0]))).collect(),
            rows: all.chunks(own.max(1)).map(<[_]>::to_vec).collect(),
        })
    }
}

fn type_name(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::TINY
        | ColumnType::SHORT
        | ColumnType::YEAR
        | ColumnType::LONG
        | ColumnType::INT24
        | ColumnType::LONGLONG => "integer",
        ColumnType::FLOAT | ColumnType::DOUBLE => "float",
        ColumnType::DECIMAL | ColumnType::NEWDECIMAL => "decimal",
        ColumnType::DATE | ColumnType::DATETIME | ColumnType::TIMESTAMP => "date",
        ColumnType::TIME => "time",
        ColumnType::NULL => "null",
        of if of.is_string() => "string",
        _ => "bytes",
    }
}

/// A value of the binary protocol as text: numbers and times as SQL writes them, texts as they are, other bytes in hex.
fn text(column_type: ColumnType, is_unsigned: bool, value: &[u8]) -> String {
    let plain = |value: &[u8]| std::str::from_utf8(value).ok().map(str::to_owned);
    let of_text = || if is_number(column_type) { None } else { plain(value) };
    shown_value(column_type, is_unsigned, value).or_else(of_text).unwrap_or_else(|| hex(value))
}

/// What has a form of its own on the wire.
fn is_number(column_type: ColumnType) -> bool {
    matches!(type_name(column_type), "integer" | "float" | "date" | "time")
}

fn hex(value: &[u8]) -> String {
    value.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02X}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_people_write_them() {
        let check = |column_type: ColumnType, is_unsigned: bool, value: &[u8], wanted: &str| {
            assert_eq!(text(column_type, is_unsigned, value), wanted);
        };
        check(ColumnType::TINY, false, &[0xFF], "-1");
        check(ColumnType::TINY, true, &[0xFF], "255");
        check(ColumnType::SHORT, false, &[0x00, 0x80], "-32768");
        check(ColumnType::LONG, false, &10_i32.to_le_bytes(), "10");
        check(ColumnType::LONGLONG, false, &i64::MIN.to_le_bytes(), "-9223372036854775808");
        check(ColumnType::LONGLONG, true, &u64::MAX.to_le_bytes(), "18446744073709551615");
        check(ColumnType::DOUBLE, false, &1.5_f64.to_le_bytes(), "1.5");
        check(ColumnType::FLOAT, false, &[1], "0x01");
        check(ColumnType::DATE, false, &[0xEA, 0x07, 11, 29], "2026-11-29");
        check(ColumnType::DATETIME, false, &[], "0000-00-00");
        let moment = [0xEA, 0x07, 11, 29, 6, 5, 4, 7, 0, 0, 0];
        check(ColumnType::DATETIME, false, &moment, "2026-11-29 06:05:04.000007");
        check(ColumnType::TIME, false, &[1, 1, 0, 0, 0, 2, 3, 4], "-26:03:04");
        check(ColumnType::STRING, false, "ü".as_bytes(), "ü");
        check(ColumnType::BLOB, false, &[0xFF, 0], "0xFF00");
    }
}
