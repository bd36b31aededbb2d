//! Batches of cells in, edits out.

/// NULL, in lengths and as a replacement's length.
pub const NULL: u32 = u32::MAX;

/// A batch: cells flat, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'a> {
    /// The cells' bytes.
    pub bytes: &'a [u8],
    /// A length for each; [`NULL`] for NULL.
    pub lens: &'a [u32],
}

/// One cell that is not NULL.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a> {
    /// Its index in the batch, NULLs counted.
    pub index: usize,
    /// Where it starts in the batch.
    pub start: u32,
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> Cells<'a> {
    /// The cells that are not NULL, in order.
    pub fn iter(&self) -> impl Iterator<Item = Cell<'a>> {
        self.with(&[()]).map(|(cell, ())| cell)
    }

    /// The cells that are not NULL, in order, each with its column's mask.
    pub fn with<'m, M>(&self, masks: &'m [M]) -> impl Iterator<Item = (Cell<'a>, &'m M)> {
        let bytes = self.bytes;
        let mut at = 0;
        self.lens.iter().enumerate().zip(masks.iter().cycle()).filter_map(
            move |((index, len), mask)| {
                if *len == NULL {
                    return None;
                }
                let start = at;
                at += len;
                let value = bytes.get(start as usize..at as usize)?;
                Some((Cell { index, start, value }, mask))
            },
        )
    }
}

/// The answer to a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Triples start, length, replacement length.
    pub edits: Vec<u32>,
    /// The replacements' bytes.
    pub replacement: Vec<u8>,
}

impl Edits {
    /// Room for an edit of each of so many cells, and so many bytes of replacement.
    pub fn with_capacity(cells: usize, bytes: usize) -> Self {
        Self { edits: Vec::with_capacity(cells * 3), replacement: Vec::with_capacity(bytes) }
    }

    /// Replaces `len` bytes of a cell from `from` on.
    pub fn replace(&mut self, cell: &Cell<'_>, from: usize, len: usize, with: &[u8]) {
        if self.push(cell, from, len, with.len()) {
            self.replacement.extend_from_slice(with);
        }
    }

    /// Replaces `len` bytes of a cell from `from` on by `count` times the same byte.
    pub fn replace_by(&mut self, cell: &Cell<'_>, from: usize, len: usize, byte: u8, count: usize) {
        if self.push(cell, from, len, count) {
            // Blocks of a length that the compiler knows: a copy of another is a call out of the sandbox.
            let end = self.replacement.len() + count;
            while self.replacement.len() < end {
                self.replacement.extend_from_slice(&[byte; 16]);
            }
            self.replacement.truncate(end);
        }
    }

    fn push(&mut self, cell: &Cell<'_>, from: usize, len: usize, with_len: usize) -> bool {
        let start = cell.start + u32::try_from(from).unwrap_or(0);
        let (len, with_len) =
            (u32::try_from(len).unwrap_or(0), u32::try_from(with_len).unwrap_or(0));
        if len > 0 {
            self.edits.extend_from_slice(&[start, len, with_len]);
        }
        len > 0
    }

    /// Replaces a whole cell.
    pub fn replace_all(&mut self, cell: &Cell<'_>, with: &[u8]) {
        self.replace(cell, 0, cell.value.len(), with);
    }

    /// Makes a cell NULL.
    pub fn make_null(&mut self, cell: &Cell<'_>) {
        if !cell.value.is_empty() {
            let len = u32::try_from(cell.value.len()).unwrap_or(0);
            self.edits.extend_from_slice(&[cell.start, len, NULL]);
        }
    }

    /// The batch's cells with the edits applied, for tests; `None` for NULL.
    pub fn apply(&self, cells: &Cells<'_>) -> Vec<Option<Vec<u8>>> {
        let mut replacement = self.replacement.as_slice();
        let mut edits = self.edits.chunks_exact(3).peekable();
        let mut result: Vec<Option<Vec<u8>>> = vec![None; cells.lens.len()];
        for cell in cells.iter() {
            let (mut value, mut at, mut null) = (Vec::new(), 0, false);
            let end = cell.start as usize + cell.value.len();
            while let Some(edit) = edits.next_if(|edit| (edit[0] as usize) < end) {
                let from = edit[0] as usize - cell.start as usize;
                value.extend_from_slice(&cell.value[at..from]);
                at = from + edit[1] as usize;
                null |= edit[2] == NULL;
                if edit[2] != NULL {
                    let (new, rest) = replacement.split_at(edit[2] as usize);
                    value.extend_from_slice(new);
                    replacement = rest;
                }
            }
            value.extend_from_slice(&cell.value[at..]);
            result[cell.index] = (!null).then_some(value);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_come_with_their_columns_masks() {
        let cells = Cells { bytes: b"abcdef", lens: &[1, NULL, 2, 0, 3] };
        let found: Vec<_> = cells
            .with(&["first", "second"])
            .map(|(cell, mask)| (cell.index, cell.start, cell.value, *mask))
            .collect();
        let wanted: [(usize, u32, &[u8], &str); 4] = [
            (0, 0, b"a", "first"),
            (2, 1, b"bc", "first"),
            (3, 3, b"", "second"),
            (4, 3, b"def", "first"),
        ];
        assert_eq!(found, wanted);
    }
}
