//! Column definitions.

use nom::number::complete::{le_u8, le_u16, le_u32};

use super::lenenc::{lenenc_bytes, lenenc_int};
use super::{Capabilities, CodecError, Parsed, fail, front, write_lenenc_bytes, write_lenenc_int};

/// A column's type on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ColumnType(pub u8);

#[allow(missing_docs, reason = "the names are the manual's")]
impl ColumnType {
    pub const DECIMAL: Self = Self(0x00);
    pub const TINY: Self = Self(0x01);
    pub const SHORT: Self = Self(0x02);
    pub const LONG: Self = Self(0x03);
    pub const FLOAT: Self = Self(0x04);
    pub const DOUBLE: Self = Self(0x05);
    pub const NULL: Self = Self(0x06);
    pub const TIMESTAMP: Self = Self(0x07);
    pub const LONGLONG: Self = Self(0x08);
    pub const INT24: Self = Self(0x09);
    pub const DATE: Self = Self(0x0A);
    pub const TIME: Self = Self(0x0B);
    pub const DATETIME: Self = Self(0x0C);
    pub const YEAR: Self = Self(0x0D);
    pub const VARCHAR: Self = Self(0x0F);
    pub const BIT: Self = Self(0x10);
    pub const JSON: Self = Self(0xF5);
    pub const NEWDECIMAL: Self = Self(0xF6);
    pub const ENUM: Self = Self(0xF7);
    pub const SET: Self = Self(0xF8);
    pub const TINY_BLOB: Self = Self(0xF9);
    pub const MEDIUM_BLOB: Self = Self(0xFA);
    pub const LONG_BLOB: Self = Self(0xFB);
    pub const BLOB: Self = Self(0xFC);
    pub const VAR_STRING: Self = Self(0xFD);
    pub const STRING: Self = Self(0xFE);
    pub const GEOMETRY: Self = Self(0xFF);
}

/// How a value of a type lies in a binary row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BinaryForm {
    /// So many bytes.
    Fixed(usize),
    /// One byte of length, then so many.
    ShortLength,
    /// A length-encoded string.
    Lenenc,
}

impl ColumnType {
    /// A character or byte string, in which any text is a valid value.
    pub fn is_string(self) -> bool {
        matches!(
            self,
            Self::VARCHAR
                | Self::VAR_STRING
                | Self::STRING
                | Self::BLOB
                | Self::TINY_BLOB
                | Self::MEDIUM_BLOB
                | Self::LONG_BLOB
        )
    }

    /// How its values lie in binary rows; `None` for types that have no values there.
    pub(super) fn binary_form(self) -> Option<BinaryForm> {
        Some(match self {
            Self::NULL => BinaryForm::Fixed(0),
            Self::TINY => BinaryForm::Fixed(1),
            Self::SHORT | Self::YEAR => BinaryForm::Fixed(2),
            Self::LONG | Self::INT24 | Self::FLOAT => BinaryForm::Fixed(4),
            Self::LONGLONG | Self::DOUBLE => BinaryForm::Fixed(8),
            Self::DATE | Self::DATETIME | Self::TIMESTAMP | Self::TIME => BinaryForm::ShortLength,
            Self::DECIMAL
            | Self::VARCHAR
            | Self::BIT
            | Self::JSON
            | Self::NEWDECIMAL
            | Self::ENUM
            | Self::SET
            | Self::TINY_BLOB
            | Self::MEDIUM_BLOB
            | Self::LONG_BLOB
            | Self::BLOB
            | Self::VAR_STRING
            | Self::STRING
            | Self::GEOMETRY => BinaryForm::Lenenc,
            _ => return None,
        })
    }
}

/// Column flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnFlags(pub u16);

#[allow(missing_docs, reason = "the names are the manual's")]
impl ColumnFlags {
    pub const NOT_NULL: u16 = 1;
    pub const PRI_KEY: u16 = 2;
    pub const UNIQUE_KEY: u16 = 4;
    pub const MULTIPLE_KEY: u16 = 8;
    pub const UNSIGNED: u16 = 0x0020;
    pub const ENUM: u16 = 0x0100;
    pub const SET: u16 = 0x0800;
}

/// A column definition (protocol 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnDefinition<'a> {
    /// Always `def`.
    pub catalog: &'a [u8],
    /// Database of the table, or of the view.
    pub schema: &'a [u8],
    /// Table alias.
    pub table: &'a [u8],
    /// Table; empty for what is computed.
    pub org_table: &'a [u8],
    /// Column alias.
    pub name: &'a [u8],
    /// Column; empty for what is computed.
    pub org_name: &'a [u8],
    /// MariaDB's extended metadata, where that was agreed on: `json`, `uuid`, `inet6`, `point` and the like for types
    /// that are a string's on the wire. Empty for most columns.
    pub extended: Option<&'a [u8]>,
    /// Character set, by collation id.
    pub charset: u16,
    /// Longest value, in bytes.
    pub length: u32,
    /// Type.
    pub column_type: ColumnType,
    /// Flags.
    pub flags: ColumnFlags,
    /// Decimals.
    pub decimals: u8,
    /// What follows: two filler bytes, and a default value in COM_FIELD_LIST.
    pub tail: &'a [u8],
}

impl<'a> ColumnDefinition<'a> {
    /// Parses a definition's payload, by the capabilities of the login.
    pub fn parse(payload: &'a [u8], capabilities: Capabilities) -> Result<Self, CodecError> {
        front(payload, |input| definition(input, capabilities))
    }

    /// Appends the payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        for text in
            [self.catalog, self.schema, self.table, self.org_table, self.name, self.org_name]
        {
            write_lenenc_bytes(out, text);
        }
        if let Some(extended) = self.extended {
            write_lenenc_bytes(out, extended);
        }
        write_lenenc_int(out, 12);
        out.extend_from_slice(&self.charset.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.push(self.column_type.0);
        out.extend_from_slice(&self.flags.0.to_le_bytes());
        out.push(self.decimals);
        out.extend_from_slice(self.tail);
    }
}

fn definition(input: &[u8], capabilities: Capabilities) -> Parsed<'_, ColumnDefinition<'_>> {
    let (rest, catalog) = lenenc_bytes(input)?;
    let (rest, schema) = lenenc_bytes(rest)?;
    let (rest, table) = lenenc_bytes(rest)?;
    let (rest, org_table) = lenenc_bytes(rest)?;
    let (rest, name) = lenenc_bytes(rest)?;
    let (rest, org_name) = lenenc_bytes(rest)?;
    let (rest, extended) = if capabilities.has(Capabilities::MARIADB_EXTENDED_METADATA) {
        let (rest, extended) = lenenc_bytes(rest)?;
        (rest, Some(extended))
    } else {
        (rest, None)
    };
    let (rest, fixed) = lenenc_int(rest)?;
    if fixed != 12 {
        return fail(CodecError::Value("a column definition's fixed part"));
    }
    let (rest, charset) = le_u16(rest)?;
    let (rest, length) = le_u32(rest)?;
    let (rest, column_type) = le_u8(rest)?;
    let (rest, flags) = le_u16(rest)?;
    let (rest, decimals) = le_u8(rest)?;
    if rest.len() < 2 {
        return fail(CodecError::Truncated);
    }
    let definition = ColumnDefinition {
        catalog,
        schema,
        table,
        org_table,
        name,
        org_name,
        extended,
        charset,
        length,
        column_type: ColumnType(column_type),
        flags: ColumnFlags(flags),
        decimals,
        tail: rest,
    };
    Ok((&rest[rest.len()..], definition))
}
