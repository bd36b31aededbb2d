//! The parameters of a statement that waits for its ruling, as people read them.

use super::machine::Phase;
use super::{Session, StatementKind};
use crate::codec::{ColumnType, bound_values, bulk_values};

/// One row of parameters; `None` is NULL.
pub type ShownRow = Vec<Option<String>>;

impl Session {
    /// The parameters as text, in rows: one of an EXECUTE, and many of a bulk execution; `bytes` are the client's. `None`: not
    /// all of them are known.
    pub fn shown_parameters(&self, bytes: &[u8]) -> Option<Vec<ShownRow>> {
        let bound = self.bound_parameters(bytes)?;
        let Phase::Deciding(pending) = &self.phase else { return Some(Vec::new()) };
        let of = self.statements.get(&pending.statement_id).filter(|_| !bound.is_empty());
        let Some(statement) = of else { return Some(Vec::new()) };
        let own = usize::from(statement.parameters);
        let mut all = Vec::new();
        let is_bulk = pending.kind == StatementKind::BulkExecute;
        let types = if is_bulk { 0 } else { own.div_ceil(8) + 1 };
        let types = bound.get(types..types + 2 * own)?;
        let mut each = |column_type: ColumnType, value: Option<&[u8]>| {
            let wire = types.as_chunks::<2>().0.get(all.len() % own.max(1));
            let is_unsigned = wire.is_some_and(|wire| wire[1] & 0x80 != 0);
            all.push(value.map(|value| text(column_type, is_unsigned, value)));
        };
        if is_bulk {
            let (types, rows) = bound.split_at_checked(2 * own)?;
            bulk_values(types, rows, &mut each).ok()?;
        } else {
            bound_values(&bound, own, &mut each).ok()?;
        }
        Some(all.chunks(own.max(1)).map(<[_]>::to_vec).collect())
    }
}

/// A value of the binary protocol as text: numbers and times as SQL writes them, texts as they are, other bytes in hex.
fn text(column_type: ColumnType, is_unsigned: bool, value: &[u8]) -> String {
    match column_type {
        ColumnType::TINY
        | ColumnType::SHORT
        | ColumnType::YEAR
        | ColumnType::LONG
        | ColumnType::INT24
        | ColumnType::LONGLONG => integer(value, is_unsigned),
        ColumnType::FLOAT => {
            value.try_into().map_or_else(|_| hex(value), |b| f32::from_le_bytes(b).to_string())
        }
        ColumnType::DOUBLE => {
            value.try_into().map_or_else(|_| hex(value), |b| f64::from_le_bytes(b).to_string())
        }
        ColumnType::DATE | ColumnType::DATETIME | ColumnType::TIMESTAMP => {
            date(value).unwrap_or_else(|| hex(value))
        }
        ColumnType::TIME => time(value).unwrap_or_else(|| hex(value)),
        _ => std::str::from_utf8(value).map_or_else(|_| hex(value), str::to_owned),
    }
}

fn integer(value: &[u8], is_unsigned: bool) -> String {
    let mut wide = [0; 8];
    let Some(low) = wide.get_mut(..value.len()) else { return hex(value) };
    low.copy_from_slice(value);
    let number = u64::from_le_bytes(wide);
    if is_unsigned || value.is_empty() {
        return number.to_string();
    }
    // The sign's bit, carried up.
    let shift = 64 - 8 * u32::try_from(value.len()).unwrap_or(8);
    (number.cast_signed() << shift >> shift).to_string()
}

/// `year month day [hour minute second [microsecond]]`
fn date(value: &[u8]) -> Option<String> {
    if value.is_empty() {
        return Some("0000-00-00".to_owned());
    }
    let year = u16::from_le_bytes(value.get(..2)?.try_into().ok()?);
    let mut text = format!("{year:04}-{:02}-{:02}", value.get(2)?, value.get(3)?);
    if let Some([hour, minute, second]) = value.get(4..7) {
        text.push_str(&format!(" {hour:02}:{minute:02}:{second:02}"));
        text.push_str(&fraction(value.get(7..).unwrap_or_default()));
    }
    Some(text)
}

/// `is_negative days hour minute second [microsecond]`
fn time(value: &[u8]) -> Option<String> {
    if value.is_empty() {
        return Some("00:00:00".to_owned());
    }
    let sign = if *value.first()? == 0 { "" } else { "-" };
    let days = u32::from_le_bytes(value.get(1..5)?.try_into().ok()?);
    let hours = u64::from(days) * 24 + u64::from(*value.get(5)?);
    let text = format!("{sign}{hours:02}:{:02}:{:02}", value.get(6)?, value.get(7)?);
    Some(text + &fraction(value.get(8..).unwrap_or_default()))
}

fn fraction(value: &[u8]) -> String {
    let micros = value.try_into().map(u32::from_le_bytes);
    micros.map_or_else(|_| String::new(), |micros| format!(".{micros:06}"))
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
