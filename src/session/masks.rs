//! Masked rows: only the masked cells of a batch go to the plugins, every answer is checked, and the rows are
//! compacted into one output. Steady state: no allocation a row.

use std::sync::Arc;

use super::binding::Binding;
use super::rows::{Group, Written};
use crate::codec::{BinaryRow, HEADER_LEN, MAX_PAYLOAD, TextRow, write_frame};
use crate::fault::Fault;
use crate::policy::{PluginFault, PluginHost, StreamColumn, StreamInfo};

use super::machine::upstream_broken;

/// A batch's rows at the most: beyond it a call's fixed cost no longer shows.
const MAX_ROWS: usize = 256;

/// A batch's masked cells at the most, in bytes, unless one row alone has more.
const MAX_CELLS: usize = 32 << 10;

/// The masks of one open result.
pub(super) struct Masks {
    binary: bool,
    binding: Arc<Binding>,
    groups: Vec<Group>,
    /// The masked columns in order.
    columns: Vec<Masked>,
    rows: Vec<RowSpan>,
    /// The masked cells of `rows`, row by row: where they lie in the lent buffer.
    cells: Vec<CellSpan>,
    gathered: usize,
}

#[derive(Clone, Copy)]
struct Masked {
    index: usize,
    /// `None`: it becomes NULL, by its mask or for not being a string.
    group: Option<usize>,
}

#[derive(Clone, Copy)]
struct RowSpan {
    start: usize,
    end: usize,
    seq: u8,
}

#[derive(Clone, Copy)]
struct CellSpan {
    /// The cell with its length.
    start: usize,
    end: usize,
    /// Where its value starts; `None` for NULL.
    value: Option<usize>,
}

impl Masks {
    /// Opens a stream at each plugin that the binding's plan names.
    pub(super) fn open(
        binding: &Arc<Binding>,
        binary: bool,
        plugins: &dyn PluginHost,
        worker: usize,
        subject: &str,
    ) -> Result<Self, Fault> {
        let mut masks = Self {
            binary,
            binding: Arc::clone(binding),
            groups: Vec::new(),
            columns: Vec::new(),
            rows: Vec::new(),
            cells: Vec::new(),
            gathered: 0,
        };
        let plan = &binding.plan;
        let mut names: Vec<&str> = Vec::new();
        for column in &plan.columns {
            let index = usize::from(column.index);
            let column_type = binding.types.get(index).copied().ok_or_else(out_of_plan)?;
            // NULL needs no plugin, and hides which values are NULL or empty.
            let masked = column_type.is_string() && !column.mask.is_null();
            let group = masked.then(|| {
                let name = column.mask.plugin.as_str();
                names.iter().position(|known| *known == name).unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                })
            });
            masks.columns.push(Masked { index, group });
        }
        for (at, name) in names.iter().enumerate() {
            let of_group = |masked: &&Masked| masked.group == Some(at);
            let indices: Vec<usize> =
                masks.columns.iter().filter(of_group).map(|masked| masked.index).collect();
            let group = open_group(binding, binary, plugins, worker, subject, name, &indices)?;
            masks.groups.push(group);
        }
        Ok(masks)
    }

    /// Whether the batch takes no more rows.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= MAX_ROWS || self.gathered >= MAX_CELLS
    }

    /// Rows in the batch.
    pub(super) fn batch_len(&self) -> u64 {
        self.rows.len() as u64
    }

    /// The sequence id after the batch's last row; `seq` where it has none.
    pub(super) fn next_seq(&self, seq: u8) -> u8 {
        self.rows.last().map_or(seq, |row| row.seq.wrapping_add(1))
    }

    /// Takes the row back that [`Self::add`] failed on: those before it are masked all the same.
    pub(super) fn take_back(&mut self) {
        self.rows.pop();
        let rows = self.rows.len();
        self.cells.truncate(rows * self.columns.len());
        self.groups.iter_mut().for_each(|group| group.keep(rows));
    }

    /// Adds the row whose payload lies at `start..end` of the lent buffer. After an error it is to be taken back.
    pub(super) fn add(
        &mut self,
        bytes: &[u8],
        start: usize,
        end: usize,
        seq: u8,
    ) -> Result<(), Fault> {
        let malformed = |_| upstream_broken("a row");
        let payload = bytes.get(start..end).ok_or_else(|| upstream_broken("a row"))?;
        self.rows.push(RowSpan { start, end, seq });
        let types = &self.binding.types;
        let mut wanted = self.columns.iter();
        let mut next = wanted.next();
        let mut text = TextRow::new(payload);
        let (mut row, mut at) = if self.binary {
            let row = BinaryRow::new(payload, types.len()).map_err(malformed)?;
            (Some(row), start + 1 + BinaryRow::bitmap_len(types.len()))
        } else {
            (None, start)
        };
        for (index, column_type) in types.iter().enumerate() {
            let Some(masked) = next else { break };
            let cell = match &mut row {
                Some(row) => row.next_cell(*column_type),
                None => text.next_cell(),
            };
            let cell = cell.map_err(malformed)?;
            let end = at + cell.raw.len();
            if masked.index == index {
                let value = cell.value.map(|value| end - value.len());
                self.cells.push(CellSpan { start: at, end, value });
                if let Some(group) = masked.group.and_then(|group| self.groups.get_mut(group)) {
                    self.gathered += group.push(cell.value)?;
                }
                next = wanted.next();
            }
            at = end;
        }
        Ok(())
    }

    /// Masks the batch and appends its rows to `out`. Gives how many cells changed.
    pub(super) fn flush(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<u64, Fault> {
        let count = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        for group in &mut self.groups {
            group.filter(count).map_err(|fault| plugin_fault(&fault))?;
        }
        let changed = match self.patch(bytes, out)? {
            Some(changed) => changed,
            None => self.rewrite(bytes, out)?,
        };
        self.rows.clear();
        self.cells.clear();
        self.gathered = 0;
        self.groups.iter_mut().for_each(Group::clear);
        Ok(changed)
    }

    /// Copies the batch whole and patches its cells, where no cell changes its length. `None`: it can't be done so.
    fn patch(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<u64>, Fault> {
        let in_place = self.columns.iter().all(|masked| masked.group.is_some())
            && self.groups.iter().all(Group::keeps_lengths);
        let (Some(first), Some(last)) = (self.rows.first(), self.rows.last()) else {
            return Ok(None);
        };
        let start = first.start - HEADER_LEN;
        // Rows that lie one behind the other, headers and all.
        let Some(rows) = bytes.get(start..last.end).filter(|_| in_place) else { return Ok(None) };
        let base = out.len();
        out.extend_from_slice(rows);
        let mut changed = 0;
        for (cell, masked) in self.cells.iter().zip(self.columns.iter().cycle()) {
            let Some(group) = masked.group.and_then(|group| self.groups.get_mut(group)) else {
                return Err(out_of_plan());
            };
            let raw = cell.value.and_then(|value| bytes.get(value..cell.end));
            let at = base + cell.value.unwrap_or(cell.end) - start;
            let place = out.get_mut(at..base + cell.end - start).unwrap_or_default();
            let patched = group.patch(raw, place).map_err(|fault| plugin_fault(&fault))?;
            let Some(other) = patched else {
                out.truncate(base);
                self.groups.iter_mut().for_each(Group::rewind);
                return Ok(None);
            };
            changed += u64::from(other);
        }
        Ok(Some(changed))
    }

    /// Appends row by row, cells with their new lengths.
    fn rewrite(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<u64, Fault> {
        let mut changed = 0;
        let mut cells = self.cells.iter();
        for row in &self.rows {
            let mut result = Ok(());
            let frame = out.len();
            write_frame(out, row.seq, |out| {
                let mut at = row.start;
                let bitmap = out.len() + 1;
                for masked in &self.columns {
                    let Some(cell) = cells.next() else { break };
                    if at < cell.start {
                        out.extend_from_slice(bytes.get(at..cell.start).unwrap_or_default());
                    }
                    at = cell.end;
                    let raw = cell.value.and_then(|value| bytes.get(value..cell.end));
                    let group = masked.group.and_then(|group| self.groups.get_mut(group));
                    let written = match group {
                        Some(group) => group.write(raw, out),
                        None => Ok(Written::null_for(raw)),
                    };
                    match written {
                        Ok(written) => {
                            changed += u64::from(written.changed);
                            if written.is_null {
                                write_null(self.binary, bitmap, masked.index, out);
                            }
                        }
                        Err(fault) => result = Err(plugin_fault(&fault)),
                    }
                }
                out.extend_from_slice(bytes.get(at..row.end).unwrap_or_default());
            });
            result?;
            if out.len() - frame >= HEADER_LEN + MAX_PAYLOAD {
                return Err(Fault::plugin("a masked row is longer than a packet of 16 MiB"));
            }
        }
        Ok(changed)
    }
}

/// NULL in the text protocol is a byte in the cell's place; in the binary one a bit of the row's bitmap.
fn write_null(binary: bool, bitmap: usize, index: usize, out: &mut Vec<u8>) {
    if !binary {
        out.push(0xFB);
        return;
    }
    let bit = index + 2;
    if let Some(byte) = out.get_mut(bitmap + bit / 8) {
        *byte |= 1 << (bit % 8);
    }
}

fn open_group(
    binding: &Arc<Binding>,
    binary: bool,
    plugins: &dyn PluginHost,
    worker: usize,
    subject: &str,
    name: &str,
    indices: &[usize],
) -> Result<Group, Fault> {
    let mut columns = Vec::with_capacity(indices.len());
    for index in indices {
        let masked = binding.masked(*index).ok_or_else(out_of_plan)?;
        let column_type = binding.types.get(*index).ok_or_else(out_of_plan)?;
        let charset = binding.charsets.get(*index).copied().ok_or_else(out_of_plan)?;
        columns.push(StreamColumn { masked, type_code: column_type.0, charset });
    }
    let limits = columns.iter().map(|column| (column.masked.may_keep, is_utf8(column.charset)));
    let limits = limits.collect();
    let info = StreamInfo { plugin: name, binary, columns, subject };
    let filter = plugins.open(worker, &info).map_err(|fault| plugin_fault(&fault))?;
    Ok(Group::new(name, filter, limits))
}

/// Collations of utf8mb3 and utf8mb4.
fn is_utf8(charset: u16) -> bool {
    matches!(charset, 33 | 45 | 46 | 76 | 83 | 192..=247 | 255..=323 | 576..=608 | 1057 | 1069 | 1070)
        || charset >= 2_048
}

pub(super) fn plugin_fault(fault: &PluginFault) -> Fault {
    Fault::plugin(&fault.to_string())
}

fn out_of_plan() -> Fault {
    Fault::analysis(
        "the result has fewer columns than the statement's analysis; nothing was released",
    )
}
