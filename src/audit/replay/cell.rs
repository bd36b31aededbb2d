//! A cell as text, in the way in which the databases' own clients show it.

use super::result::Column;
use crate::codec::{ColumnFlags, shown_value};

/// The collation of bytes that are no text.
const BINARY: u16 = 63;

/// A cell that is text on the wire. Bytes that are no UTF-8 are shown in hex, as `0x…`.
pub(super) fn text(value: &[u8], charset: u16) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if charset != BINARY || !text.contains(char::is_control) => text.to_owned(),
        _ => hex(value),
    }
}

fn hex(value: &[u8]) -> String {
    let mut text = "0x".to_owned();
    for byte in value {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A cell of a binary row.
pub(super) fn binary(value: &[u8], column: &Column) -> String {
    let is_unsigned = column.flags.0 & ColumnFlags::UNSIGNED != 0;
    let shown = shown_value(column.kind, is_unsigned, value);
    shown.unwrap_or_else(|| text(value, column.charset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ColumnType;

    fn check(kind: ColumnType, unsigned: bool, value: &[u8], wanted: &str) {
        let flags = ColumnFlags(if unsigned { ColumnFlags::UNSIGNED } else { 0 });
        let column = Column { name: String::new(), from: String::new(), kind, flags, charset: 45 };
        assert_eq!(binary(value, &column), wanted, "{kind:?}");
    }

    #[test]
    fn binary_cells() {
        check(ColumnType::TINY, false, &[0xFE], "-2");
        check(ColumnType::TINY, true, &[0xFE], "254");
        check(ColumnType::LONG, false, &[0xFF, 0xFF, 0xFF, 0x7F], "2147483647");
        check(ColumnType::LONGLONG, true, &[0xFF; 8], "18446744073709551615");
        check(ColumnType::DOUBLE, false, &1.5_f64.to_le_bytes(), "1.5");
        check(ColumnType::DATE, false, &[0xEA, 0x07, 11, 29], "2026-11-29");
        check(ColumnType::DATETIME, false, &[0xEA, 0x07, 11, 29], "2026-11-29 00:00:00");
        let late = [0xEA, 0x07, 11, 29, 6, 7, 8, 9, 0, 0, 0];
        check(ColumnType::DATETIME, false, &late, "2026-11-29 06:07:08.000009");
        check(ColumnType::TIME, false, &[1, 1, 0, 0, 0, 2, 3, 4], "-26:03:04");
        check(ColumnType::VAR_STRING, false, b"\xc3\xbc", "\u{fc}");
        check(ColumnType::VAR_STRING, false, b"\xff\x00", "0xff00");
        check(ColumnType::LONG, false, &[], "");
    }
}
