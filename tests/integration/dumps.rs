//! What a core dump of a process would hold: its memory, read by root as the kernel would write it. No core is written.

use std::fs;
use std::os::unix::fs::FileExt as _;

use memchr::memmem;

const PAGE_BYTES: u64 = 4_096;

/// Most that is read at once; more lies together only where something is wrong.
const MAX_PIECE: u64 = 256 << 20;

/// A part of the memory with pages of the process's own.
pub(crate) struct Region {
    from: u64,
    to: u64,
    /// Left out of dumps, whatever the filter says: `MADV_DONTDUMP`.
    pub(crate) left_out: bool,
}

/// All of them that can be read: reservations of WASM can't.
pub(crate) fn regions(pid: u32) -> Vec<Region> {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut found, mut range, mut own) = (Vec::new(), None, false);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if let Some((from, to)) = first.split_once('-') {
            let hex = |text| u64::from_str_radix(text, 16).unwrap();
            range = second.starts_with('r').then(|| (hex(from), hex(to)));
        } else if first == "Anonymous:" {
            own = second != "0";
        } else if first == "VmFlags:"
            && own
            && let Some((from, to)) = range
        {
            let left_out = second == "dd" || words.any(|flag| flag == "dd");
            found.push(Region { from, to, left_out });
        }
    }
    found
}

/// What the process would show of its memory, of these regions.
pub(crate) struct Memory {
    pieces: Vec<Vec<u8>>,
}

impl Memory {
    pub(crate) fn of<'a>(pid: u32, regions: impl Iterator<Item = &'a Region>) -> Self {
        let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
        let pages = fs::File::open(format!("/proc/{pid}/pagemap")).unwrap();
        let mut pieces = Vec::new();
        for region in regions {
            for (from, to) in present(&pages, region) {
                let mut piece = vec![0; usize::try_from(to - from).unwrap()];
                // What was given back meanwhile is not there.
                if memory.read_exact_at(&mut piece, from).is_ok() {
                    pieces.push(piece);
                }
            }
        }
        Self { pieces }
    }

    pub(crate) fn holds(&self, part: &[u8]) -> bool {
        self.pieces.iter().any(|piece| memmem::find(piece, part).is_some())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }
}

/// Runs of pages that are there, in memory or swapped.
fn present(pages: &fs::File, region: &Region) -> Vec<(u64, u64)> {
    let count = (region.to - region.from) / PAGE_BYTES;
    let mut entries = vec![0; usize::try_from(count * 8).unwrap()];
    pages.read_exact_at(&mut entries, region.from / PAGE_BYTES * 8).unwrap();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let starts = (region.from..region.to).step_by(usize::try_from(PAGE_BYTES).unwrap());
    for (entry, at) in entries.chunks_exact(8).zip(starts) {
        if entry[7] >> 6 == 0 {
            continue;
        }
        match runs.last_mut() {
            Some(last) if last.1 == at && at - last.0 < MAX_PIECE => last.1 += PAGE_BYTES,
            _ => runs.push((at, at + PAGE_BYTES)),
        }
    }
    runs
}
