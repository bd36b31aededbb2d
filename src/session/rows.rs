//! One plugin's cells of a batch: gathered flat, handed over in one call, its edits checked and applied.

use std::ops::Range;

use crate::codec::write_lenenc_int;
use crate::fault::Fault;
use crate::policy::{Batch, Edit, Edits, NULL, PluginFault, RowFilter};

/// The longest answer to one batch: a batch is at most one row of 16 MiB, and a mask that grows cells past
/// that is broken.
const MAX_REPLACEMENT: usize = 16 << 20;

/// The cells that one plugin masks.
pub(super) struct Group {
    plugin: String,
    filter: Box<dyn RowFilter>,
    /// For each of its columns: how many bytes may survive, and whether values are UTF-8.
    limits: Vec<(Option<u32>, bool)>,
    cells: Vec<u8>,
    lens: Vec<u32>,
    edits: Edits,
    /// Cells and replacements are ASCII throughout, so whatever is put together of them is UTF-8.
    ascii: bool,
    /// No cell changes its length, and none becomes NULL by an edit.
    keeps_lengths: bool,
    at: Cursor,
}

/// Where writing is.
#[derive(Clone, Copy, Default)]
struct Cursor {
    /// The next cell's column.
    column: usize,
    /// Where that cell starts in the batch.
    offset: u32,
    /// The next edit.
    edit: usize,
    /// The next byte of the replacements.
    replaced: usize,
}

/// An edit of one cell: the bytes that go, and what comes in their place (`None`: the cell becomes NULL).
struct CellEdit {
    from: usize,
    to: usize,
    new: Option<Range<usize>>,
}

/// What was written for a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) is_null: bool,
    pub(super) changed: bool,
}

impl Written {
    /// NULL in place of a value (or of a NULL, which is no change).
    pub(super) fn null_for(raw: Option<&[u8]>) -> Self {
        Self { is_null: true, changed: raw.is_some() }
    }
}

impl Group {
    pub(super) fn new(
        plugin: &str,
        filter: Box<dyn RowFilter>,
        limits: Vec<(Option<u32>, bool)>,
    ) -> Self {
        Self {
            plugin: plugin.to_owned(),
            filter,
            limits,
            cells: Vec::new(),
            lens: Vec::new(),
            edits: Edits::default(),
            ascii: false,
            keeps_lengths: false,
            at: Cursor::default(),
        }
    }

    /// Adds a cell; its length in bytes.
    pub(super) fn push(&mut self, value: Option<&[u8]>) -> Result<usize, Fault> {
        let value_len = value.map_or(0, <[u8]>::len);
        let len = match value {
            None => NULL,
            Some(value) => u32::try_from(value.len())
                .ok()
                .filter(|len| *len < NULL)
                .ok_or_else(|| Fault::plugin("a cell is too long to be masked"))?,
        };
        self.cells.extend_from_slice(value.unwrap_or_default());
        self.lens.push(len);
        Ok(value_len)
    }

    /// Calls the plugin for the whole batch and checks the form of its answer.
    pub(super) fn filter(&mut self, rows: u32) -> Result<(), PluginFault> {
        self.edits.clear();
        let batch = Batch { rows, cells: &self.cells, lens: &self.lens };
        self.filter.filter(batch, &mut self.edits)?;
        let all = u32::try_from(self.cells.len()).map_err(|_| self.broke("a batch too long"))?;
        let mut end = 0;
        let mut sum = 0_usize;
        self.keeps_lengths = true;
        for edit in &self.edits.edits {
            let edit_end = edit.start.checked_add(edit.len);
            let inside = edit_end.is_some_and(|at| at <= all) && edit.start >= end && edit.len > 0;
            if !inside {
                return Err(self.broke("edits out of order or out of bounds"));
            }
            end = edit_end.unwrap_or(all);
            self.keeps_lengths &= edit.replacement_len == edit.len;
            if edit.replacement_len != NULL {
                sum = sum.saturating_add(edit.replacement_len as usize);
            }
        }
        if sum != self.edits.replacement.len() || sum > MAX_REPLACEMENT {
            return Err(self.broke("replacement lengths that do not add up"));
        }
        // One look at the batch in place of one at each cell.
        self.ascii = self.cells.is_ascii() && self.edits.replacement.is_ascii();
        Ok(())
    }

    /// Appends the next cell's masked value, with its length; nothing for NULL. After an error, what was appended
    /// is not to be used.
    pub(super) fn write(
        &mut self,
        raw: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<Written, PluginFault> {
        let (may_keep, utf8) = self.next_limits();
        let Some(raw) = raw else { return Ok(Written { is_null: true, changed: false }) };
        let head = out.len();
        out.push(0); // its length's place: one byte for nearly all
        let applied = self.apply(raw, out)?;
        self.check_kept(applied.kept, may_keep)?;
        let masked = out.get(head + 1..).unwrap_or_default();
        self.check_text(masked, utf8)?;
        let same = is_same(masked, raw);
        if applied.to_null || must_change(same, raw, may_keep) {
            out.truncate(head);
            return Ok(Written { is_null: true, changed: true });
        }
        set_length(out, head);
        Ok(Written { is_null: false, changed: !same })
    }

    /// Appends the value with its edits applied.
    fn apply(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<Applied, PluginFault> {
        let (start, end) = self.next_cell(raw);
        let mut applied = Applied { kept: 0, to_null: false };
        let mut at = 0;
        while let Some(edit) = self.next_edit(start, end)? {
            let before = raw.get(at..edit.from).unwrap_or_default();
            out.extend_from_slice(before);
            match edit.new {
                Some(new) => {
                    let new = self.edits.replacement.get(new);
                    out.extend_from_slice(new.unwrap_or_default());
                }
                None => applied.to_null = true,
            }
            applied.kept += before.len();
            at = edit.to;
        }
        let rest = raw.get(at..).unwrap_or_default();
        out.extend_from_slice(rest);
        applied.kept += rest.len();
        Ok(applied)
    }

    /// Whether [`Self::patch`] can do for this batch.
    pub(super) fn keeps_lengths(&self) -> bool {
        self.keeps_lengths
    }

    /// Writes the next cell's masked value over its copy in `place`. Gives whether it changed; `None` where it would have
    /// to become NULL, which takes [`Self::write`] after [`Self::rewind`].
    pub(super) fn patch(
        &mut self,
        raw: Option<&[u8]>,
        place: &mut [u8],
    ) -> Result<Option<bool>, PluginFault> {
        let (may_keep, utf8) = self.next_limits();
        let Some(raw) = raw else { return Ok(Some(false)) };
        if place.len() != raw.len() {
            return Err(self.broke("a copy of another length"));
        }
        let (start, end) = self.next_cell(raw);
        let mut kept = raw.len();
        while let Some(edit) = self.next_edit(start, end)? {
            let new = edit.new.and_then(|new| self.edits.replacement.get(new));
            match (place.get_mut(edit.from..edit.to), new) {
                (Some(old), Some(new)) if old.len() == new.len() => old.copy_from_slice(new),
                _ => return Err(self.broke("replacement lengths that do not add up")),
            }
            kept -= edit.to - edit.from;
        }
        self.check_kept(kept, may_keep)?;
        self.check_text(place, utf8)?;
        let same = is_same(place, raw);
        Ok((!must_change(same, raw, may_keep)).then_some(!same))
    }

    /// Back to the batch's first cell.
    pub(super) fn rewind(&mut self) {
        self.at = Cursor::default();
    }

    fn next_limits(&mut self) -> (Option<u32>, bool) {
        let limits = self.limits.get(self.at.column).copied().unwrap_or((Some(0), true));
        self.at.column += 1;
        if self.at.column >= self.limits.len() {
            self.at.column = 0;
        }
        limits
    }

    /// Where the next cell lies in the batch.
    fn next_cell(&mut self, raw: &[u8]) -> (u32, u32) {
        let start = self.at.offset;
        let end = start + u32::try_from(raw.len()).unwrap_or(0);
        self.at.offset = end;
        (start, end)
    }

    /// The next edit, if it is of the cell that lies there; checked to be of no other besides.
    fn next_edit(&mut self, start: u32, end: u32) -> Result<Option<CellEdit>, PluginFault> {
        let edit = self.edits.edits.get(self.at.edit).filter(|edit| edit.start < end);
        let Some(Edit { start: first, len, replacement_len }) = edit.copied() else {
            return Ok(None);
        };
        let (from, to) = (first - start, first - start + len);
        let new = match replacement_len {
            _ if to > end - start => return Err(self.broke("an edit over the end of a cell")),
            NULL if len == end - start => None,
            NULL => return Err(self.broke("NULL for a part of a cell")),
            len => Some(self.at.replaced..self.at.replaced + len as usize),
        };
        self.at.edit += 1;
        self.at.replaced = new.as_ref().map_or(self.at.replaced, |new| new.end);
        Ok(Some(CellEdit { from: from as usize, to: to as usize, new }))
    }

    fn check_kept(&self, kept: usize, may_keep: Option<u32>) -> Result<(), PluginFault> {
        if may_keep.is_some_and(|limit| kept > limit as usize) {
            return Err(self.broke("more of a cell kept than its mask may"));
        }
        Ok(())
    }

    fn check_text(&self, masked: &[u8], utf8: bool) -> Result<(), PluginFault> {
        if utf8 && !self.ascii && std::str::from_utf8(masked).is_err() {
            return Err(self.broke("a value that is not UTF-8"));
        }
        Ok(())
    }

    /// Forgets the cells behind those of the first so many rows.
    pub(super) fn keep(&mut self, rows: usize) {
        self.lens.truncate(rows * self.limits.len());
        let lens = self.lens.iter().filter(|len| **len != NULL).map(|len| *len as usize);
        self.cells.truncate(lens.sum());
    }

    /// Forgets the batch, keeping its memory.
    pub(super) fn clear(&mut self) {
        self.cells.clear();
        self.lens.clear();
        self.edits.clear();
        self.rewind();
    }

    fn broke(&self, why: &'static str) -> PluginFault {
        PluginFault::Contract { plugin: self.plugin.clone(), why }
    }
}

/// What the edits of a cell came to.
struct Applied {
    /// Bytes of the value that stay.
    kept: usize,
    to_null: bool,
}

/// Masks mostly change the first byte, which saves the comparison of the rest.
fn is_same(masked: &[u8], raw: &[u8]) -> bool {
    masked.first() == raw.first() && masked == raw
}

/// A mask that must change a value gave it back as it was: whatever its reason, NULL tells nothing.
fn must_change(same: bool, raw: &[u8], may_keep: Option<u32>) -> bool {
    same && may_keep.is_some() && !raw.is_empty()
}

/// Writes the length of the value behind `head`, where one byte was left for it.
fn set_length(out: &mut Vec<u8>, head: usize) {
    let len = out.len() - head - 1;
    if let (Ok(byte @ 0..=0xFA), Some(place)) = (u8::try_from(len), out.get_mut(head)) {
        *place = byte;
        return;
    }
    let mut longer = Vec::with_capacity(9);
    write_lenenc_int(&mut longer, len as u64);
    out.splice(head..=head, longer);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with these edits.
    struct Fixed(Vec<Edit>, &'static [u8]);

    impl RowFilter for Fixed {
        fn filter(&mut self, _: Batch<'_>, edits: &mut Edits) -> Result<(), PluginFault> {
            edits.edits.extend_from_slice(&self.0);
            edits.replacement.extend_from_slice(self.1);
            Ok(())
        }
    }

    fn edit(start: u32, len: u32, replacement_len: u32) -> Edit {
        Edit { start, len, replacement_len }
    }

    /// What becomes of these cells of one column; an error's text, or `None` for NULL.
    fn check(
        cells: &[Option<&str>],
        may_keep: Option<u32>,
        edits: &[Edit],
        replacement: &'static [u8],
    ) -> Result<Vec<Option<String>>, String> {
        let filter = Box::new(Fixed(edits.to_vec(), replacement));
        let mut group = Group::new("p", filter, vec![(may_keep, true)]);
        for cell in cells {
            group.push(cell.map(str::as_bytes)).unwrap();
        }
        group.filter(1).map_err(|fault| fault.to_string())?;
        let patched = group.keeps_lengths().then(|| patched(&mut group, cells));
        group.rewind();
        let mut masked = Vec::new();
        for cell in cells {
            let mut out = Vec::new();
            let written = group.write(cell.map(str::as_bytes), &mut out);
            let written = written.map_err(|fault| fault.to_string())?;
            let text = out.get(1..).map(|text| String::from_utf8(text.to_vec()).unwrap());
            masked.push(text.filter(|_| !written.is_null));
        }
        if let Some(Some(patched)) = patched {
            assert_eq!(patched, masked, "both ways of writing give the same");
        }
        Ok(masked)
    }

    /// The cells masked in their places; `None` where that can't be done, or must not.
    fn patched(group: &mut Group, cells: &[Option<&str>]) -> Option<Vec<Option<String>>> {
        let patch = |cell: Option<&str>| {
            let raw = cell.map(str::as_bytes);
            let mut place = raw.unwrap_or_default().to_vec();
            group.patch(raw, &mut place).ok()??;
            Some(raw.map(|_| String::from_utf8(place).unwrap()))
        };
        cells.iter().copied().map(patch).collect()
    }

    #[test]
    fn edits_are_applied_to_their_cells() {
        let cells = [Some("call 4111 now"), None, Some("plain"), Some("x")];
        let got = check(&cells, None, &[edit(5, 4, 3), edit(18, 1, NULL)], b"[*]");
        let wanted = [Some("call [*] now"), None, Some("plain"), None];
        assert_eq!(got, Ok(wanted.map(|text| text.map(str::to_owned)).to_vec()));
    }

    #[test]
    fn edits_that_keep_lengths() {
        let cells = [Some("4111"), None, Some(""), Some("note"), Some("x")];
        let got = check(&cells, None, &[edit(0, 2, 2), edit(3, 1, 1), edit(4, 4, 4)], b"**#MASK");
        let wanted = [Some("**1#"), None, Some(""), Some("MASK"), Some("x")];
        assert_eq!(got, Ok(wanted.map(|text| text.map(str::to_owned)).to_vec()));
        let mut group = Group::new("p", Box::new(Fixed(Vec::new(), b"")), vec![(Some(1), true)]);
        group.push(Some(b"secret")).unwrap();
        group.filter(1).unwrap();
        let kept = group.patch(Some(b"secret"), &mut b"secret".to_vec()).unwrap_err();
        assert!(kept.to_string().contains("kept"), "{kept}");
        group.rewind();
        let elsewhere = group.patch(Some(b"secret"), &mut []).unwrap_err();
        assert!(elsewhere.to_string().contains("another length"), "{elsewhere}");
    }

    #[test]
    fn a_long_value_gets_the_length_it_needs() {
        for len in [0, 249, 250, 251, 252, 65_535, 65_536, 70_000] {
            let raw = vec![b'x'; len + 1];
            let mut group =
                Group::new("p", Box::new(Fixed(vec![edit(0, 1, 0)], b"")), vec![(None, true)]);
            group.push(Some(&raw)).unwrap();
            group.filter(1).unwrap();
            let mut out = b"before".to_vec();
            group.write(Some(&raw), &mut out).unwrap();
            out.extend_from_slice(b"\x05after");
            let mut row = crate::codec::TextRow::new(out.strip_prefix(b"before").unwrap());
            assert_eq!(row.next_cell().unwrap().value, raw.get(1..), "{len}");
            assert_eq!(row.next_cell().unwrap().value, Some(&b"after"[..]));
            assert!(row.is_done());
        }
    }

    #[test]
    fn what_breaks_the_contract() {
        let cells = [Some("secret"), Some("other")];
        for (edits, replacement, wanted) in [
            (vec![edit(4, 4, 0)], &b""[..], "over the end"),
            (vec![edit(0, 6, 3)], b"ab", "add up"),
            (vec![edit(6, 5, 1), edit(0, 6, 1)], b"ab", "out of order"),
            (vec![edit(0, 60, 1)], b"a", "out of bounds"),
            (vec![edit(0, 0, 1)], b"a", "out of bounds"),
            (vec![edit(0, 6, 1)], b"a", "kept"),
            (vec![edit(0, 3, NULL)], b"", "NULL for a part"),
            (vec![edit(0, 6, 1), edit(6, 5, 1)], b"\xffa", "UTF-8"),
        ] {
            let error = check(&cells, Some(0), &edits, replacement).unwrap_err();
            assert!(error.contains(wanted), "{edits:?}: {error}");
        }
    }

    #[test]
    fn a_value_that_is_given_back_becomes_null() {
        let got = check(&[Some("secret")], Some(0), &[edit(0, 6, 6)], b"secret");
        assert_eq!(got, Ok(vec![None]));
    }
}
