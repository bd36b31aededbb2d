//! Cells of text and binary rows, borrowed: walking a row allocates nothing.

use super::column::BinaryForm;
use super::lenenc::lenenc_int;
use super::{CodecError, ColumnType};

/// One cell: where it lies in the row's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell<'a> {
    /// The value without its length; `None` for NULL.
    pub value: Option<&'a [u8]>,
    /// The cell as it lies in the row, length and all; empty for NULL in a binary row.
    pub raw: &'a [u8],
}

/// A text row.
#[derive(Clone, Copy, Debug)]
pub struct TextRow<'a> {
    rest: &'a [u8],
}

impl<'a> TextRow<'a> {
    /// The cells of this payload.
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// The next cell; an error where the row ends early.
    #[inline]
    pub fn next_cell(&mut self) -> Result<Cell<'a>, CodecError> {
        let start = self.rest;
        let (&first, after) = start.split_first().ok_or(CodecError::Truncated)?;
        if first == 0xFB {
            self.rest = after;
            return Ok(Cell { value: None, raw: &start[..1] });
        }
        let (raw, value, rest) = lenenc_cell(start)?;
        self.rest = rest;
        Ok(Cell { value: Some(value), raw })
    }

    /// Whether every cell was taken.
    pub fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}

/// A binary row.
#[derive(Clone, Copy, Debug)]
pub struct BinaryRow<'a> {
    nulls: &'a [u8],
    rest: &'a [u8],
    at: usize,
}

impl<'a> BinaryRow<'a> {
    /// Bytes of the NULL bitmap of a row of so many columns.
    pub fn bitmap_len(columns: usize) -> usize {
        (columns + 9) / 8
    }

    /// The cells of this payload.
    pub fn new(payload: &'a [u8], columns: usize) -> Result<Self, CodecError> {
        let (&first, after) = payload.split_first().ok_or(CodecError::Truncated)?;
        if first != 0 {
            return Err(CodecError::Value("a binary row's header"));
        }
        let split = after.split_at_checked(Self::bitmap_len(columns));
        let (nulls, rest) = split.ok_or(CodecError::Truncated)?;
        Ok(Self { nulls, rest, at: 0 })
    }

    /// The next cell, which is of this type.
    #[inline]
    pub fn next_cell(&mut self, column_type: ColumnType) -> Result<Cell<'a>, CodecError> {
        let bit = self.at + 2;
        self.at += 1;
        let byte = self.nulls.get(bit / 8).ok_or(CodecError::Truncated)?;
        if byte & (1 << (bit % 8)) != 0 {
            return Ok(Cell { value: None, raw: &[] });
        }
        let form = column_type.binary_form().ok_or(CodecError::Value("a column's type"))?;
        let (raw, value, rest) = match form {
            BinaryForm::Fixed(len) => {
                let split = self.rest.split_at_checked(len).ok_or(CodecError::Truncated)?;
                (split.0, split.0, split.1)
            }
            BinaryForm::ShortLength => {
                let len = usize::from(*self.rest.first().ok_or(CodecError::Truncated)?);
                let split = self.rest.split_at_checked(len + 1).ok_or(CodecError::Truncated)?;
                (split.0, &split.0[1..], split.1)
            }
            BinaryForm::Lenenc => lenenc_cell(self.rest)?,
        };
        self.rest = rest;
        Ok(Cell { value: Some(value), raw })
    }

    /// Whether every cell was taken.
    pub fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}

/// A cell's bytes with its length, without it, and what follows.
type Split<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// A length-encoded cell at the front.
#[inline]
fn lenenc_cell(input: &[u8]) -> Result<Split<'_>, CodecError> {
    // One-byte lengths are nearly all there are: don't take the general way for them.
    let (head, len) = match input.first() {
        Some(&len @ 0..=0xFA) => (1, usize::from(len)),
        Some(_) => {
            let (rest, len) = lenenc_int(input).map_err(super::flatten)?;
            (input.len() - rest.len(), usize::try_from(len).map_err(|_| CodecError::Truncated)?)
        }
        None => return Err(CodecError::Truncated),
    };
    let end = head.checked_add(len).ok_or(CodecError::Truncated)?;
    let (raw, rest) = input.split_at_checked(end).ok_or(CodecError::Truncated)?;
    Ok((raw, &raw[head..], rest))
}

/// Appends a binary row's header byte and NULL bitmap: a bit for each column that `is_null` names.
pub fn write_binary_row_head(
    out: &mut Vec<u8>,
    columns: usize,
    mut is_null: impl FnMut(usize) -> bool,
) {
    out.push(0);
    let start = out.len();
    out.resize(start + BinaryRow::bitmap_len(columns), 0);
    for at in 0..columns {
        let bit = at + 2;
        if is_null(at)
            && let Some(byte) = out.get_mut(start + bit / 8)
        {
            *byte |= 1 << (bit % 8);
        }
    }
}
