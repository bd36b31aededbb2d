//! One plugin's cells of a batch: gathered flat, handed over in one call, its edits checked and applied.

use super::masks::write_length;
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
    /// Where writing is: the next cell, its offset, the next edit, the next replacement byte.
    cell: usize,
    offset: u32,
    edit: usize,
    replaced: usize,
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
            cell: 0,
            offset: 0,
            edit: 0,
            replaced: 0,
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
        for edit in &self.edits.edits {
            let edit_end = edit.start.checked_add(edit.len);
            let inside = edit_end.is_some_and(|at| at <= all) && edit.start >= end && edit.len > 0;
            if !inside {
                return Err(self.broke("edits out of order or out of bounds"));
            }
            end = edit_end.unwrap_or(all);
            if edit.replacement_len != NULL {
                sum = sum.saturating_add(edit.replacement_len as usize);
            }
        }
        if sum != self.edits.replacement.len() || sum > MAX_REPLACEMENT {
            return Err(self.broke("replacement lengths that do not add up"));
        }
        Ok(())
    }

    /// Appends the next cell's masked value, with its length; nothing for NULL.
    pub(super) fn write(
        &mut self,
        raw: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<Written, PluginFault> {
        let column = self.cell % self.limits.len().max(1);
        let (may_keep, utf8) = self.limits.get(column).copied().unwrap_or((Some(0), true));
        self.cell += 1;
        let Some(raw) = raw else { return Ok(Written { is_null: true, changed: false }) };
        let start = self.offset;
        let end = start + u32::try_from(raw.len()).unwrap_or(0);
        self.offset = end;
        let first = self.edit;
        let (mut removed, mut added, mut to_null) = (0, 0_usize, false);
        while let Some(edit) = self.edits.edits.get(self.edit).filter(|edit| edit.start < end) {
            if edit.start + edit.len > end {
                return Err(self.broke("an edit over the end of a cell"));
            }
            removed += edit.len;
            match edit.replacement_len {
                NULL if edit.start == start && edit.len == end - start => to_null = true,
                NULL => return Err(self.broke("NULL for a part of a cell")),
                len => added += len as usize,
            }
            self.edit += 1;
        }
        if may_keep.is_some_and(|limit| end - start - removed > limit) {
            return Err(self.broke("more of a cell kept than its mask may"));
        }
        if to_null {
            return Ok(Written { is_null: true, changed: true });
        }
        let head = out.len();
        write_length(out, raw.len() - removed as usize + added);
        let value = out.len();
        self.apply(raw, start, first, out);
        let masked = out.get(value..).unwrap_or_default();
        if utf8 && std::str::from_utf8(masked).is_err() {
            return Err(self.broke("a value that is not UTF-8"));
        }
        let same = masked == raw;
        if same && may_keep.is_some() && !raw.is_empty() {
            // A mask that must change a value gave it back as it was: whatever its reason, NULL tells nothing.
            out.truncate(head);
            return Ok(Written { is_null: true, changed: true });
        }
        Ok(Written { is_null: false, changed: !same })
    }

    /// Appends the value with its edits applied.
    fn apply(&mut self, raw: &[u8], start: u32, first: usize, out: &mut Vec<u8>) {
        let mut at = 0;
        let edits: &[Edit] = self.edits.edits.get(first..self.edit).unwrap_or_default();
        for edit in edits {
            let from = (edit.start - start) as usize;
            out.extend_from_slice(raw.get(at..from).unwrap_or_default());
            let end = self.replaced + edit.replacement_len as usize;
            let new = self.edits.replacement.get(self.replaced..end).unwrap_or_default();
            out.extend_from_slice(new);
            self.replaced = end;
            at = from + edit.len as usize;
        }
        out.extend_from_slice(raw.get(at..).unwrap_or_default());
    }

    /// Forgets the batch, keeping its memory.
    pub(super) fn clear(&mut self) {
        self.cells.clear();
        self.lens.clear();
        self.edits.clear();
        self.cell = 0;
        self.offset = 0;
        self.edit = 0;
        self.replaced = 0;
    }

    fn broke(&self, why: &'static str) -> PluginFault {
        PluginFault::Contract { plugin: self.plugin.clone(), why }
    }
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
        let mut masked = Vec::new();
        for cell in cells {
            let mut out = Vec::new();
            let written = group.write(cell.map(str::as_bytes), &mut out);
            let written = written.map_err(|fault| fault.to_string())?;
            let text = out.get(1..).map(|text| String::from_utf8(text.to_vec()).unwrap());
            masked.push(text.filter(|_| !written.is_null));
        }
        Ok(masked)
    }

    #[test]
    fn edits_are_applied_to_their_cells() {
        let cells = [Some("call 4111 now"), None, Some("plain"), Some("x")];
        let got = check(&cells, None, &[edit(5, 4, 3), edit(18, 1, NULL)], b"[*]");
        let wanted = [Some("call [*] now"), None, Some("plain"), None];
        assert_eq!(got, Ok(wanted.map(|text| text.map(str::to_owned)).to_vec()));
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
