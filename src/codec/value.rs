//! A value of the binary protocol as text, as the databases' own clients show numbers and times.

use super::ColumnType;

/// The text; `None`: it is neither a number nor a time, or not in the form of its type.
pub fn shown(column_type: ColumnType, is_unsigned: bool, value: &[u8]) -> Option<String> {
    match column_type {
        ColumnType::TINY
        | ColumnType::SHORT
        | ColumnType::YEAR
        | ColumnType::LONG
        | ColumnType::INT24
        | ColumnType::LONGLONG => integer(value, is_unsigned),
        ColumnType::FLOAT => Some(f32::from_le_bytes(value.try_into().ok()?).to_string()),
        ColumnType::DOUBLE => Some(f64::from_le_bytes(value.try_into().ok()?).to_string()),
        ColumnType::DATE => date(value),
        ColumnType::DATETIME | ColumnType::TIMESTAMP => date_time(value),
        ColumnType::TIME => time(value),
        _ => None,
    }
}

/// Little-endian, of one to eight bytes.
fn integer(value: &[u8], is_unsigned: bool) -> Option<String> {
    let is_negative = !is_unsigned && value.last()? & 0x80 != 0;
    let mut wide = [if is_negative { 0xFF } else { 0 }; 8];
    wide.get_mut(..value.len())?.copy_from_slice(value);
    let number = u64::from_le_bytes(wide);
    Some(if is_unsigned { number.to_string() } else { number.cast_signed().to_string() })
}

/// `year month day`; none of them: all are zero.
fn date(value: &[u8]) -> Option<String> {
    match *value {
        [] => Some("0000-00-00".to_owned()),
        [low, high, month, day, ..] => {
            Some(format!("{:04}-{month:02}-{day:02}", u16::from_le_bytes([low, high])))
        }
        _ => None,
    }
}

/// The same and `hour minute second [microsecond]`, which are left out at midnight.
fn date_time(value: &[u8]) -> Option<String> {
    let date = date(value)?;
    Some(match value {
        [] => date,
        [_, _, _, _, hour, minute, second, rest @ ..] => {
            format!("{date} {hour:02}:{minute:02}:{second:02}{}", fraction(rest))
        }
        _ => format!("{date} 00:00:00"),
    })
}

/// `is_negative days hour minute second [microsecond]`
fn time(value: &[u8]) -> Option<String> {
    match value {
        [] => Some("00:00:00".to_owned()),
        [negative, a, b, c, d, hour, minute, second, rest @ ..] => {
            let hours = u64::from(u32::from_le_bytes([*a, *b, *c, *d])) * 24 + u64::from(*hour);
            let sign = if *negative == 0 { "" } else { "-" };
            Some(format!("{sign}{hours:02}:{minute:02}:{second:02}{}", fraction(rest)))
        }
        _ => None,
    }
}

/// Microseconds, where there are some.
fn fraction(rest: &[u8]) -> String {
    let micros = rest.try_into().map(u32::from_le_bytes);
    micros.map_or_else(|_| String::new(), |micros| format!(".{micros:06}"))
}
