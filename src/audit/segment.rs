//! The segment files: append-only, each frame chained to all before it.
//!
//! A segment is `NNNNNNNNNN.rgseg`: a header of 56 bytes (magic and version, number, the chain's value so far,
//! microseconds since the epoch), then frames: payload length (32 bits), kind (1: records), chain value (BLAKE3 of the
//! chain's last value, the kind and the payload), payload. The payload is whole records, each led by its length as 32
//! bits: what lay in one queue when the disk was ready. The chain of a segment starts with BLAKE3 of its header.
//!
//! A link for many records costs a tenth of one for each: BLAKE3 is fast on long inputs only.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"RGSEG\0\0\x02";
const HEADER_LEN: usize = 56;
const FRAME_HEAD: usize = 4 + 1 + 32;
/// A frame of records.
const RECORDS: u8 = 1;
/// Records that one frame takes, in bytes: beyond this BLAKE3 is no faster, and a reader needs room for one frame.
const FRAME: usize = 256 << 10;
/// Longest frame that is believed: one of a single record, which is bounded well below it.
const MAX_FRAME: usize = 8 << 20;

/// A chain's value.
pub(super) type Chain = [u8; 32];

/// An open segment, at its end.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    pub(super) number: u64,
    pub(super) len: u64,
    pub(super) chain: Chain,
    /// Half-written frames could not be cut off yet.
    ragged: bool,
}

impl Segment {
    /// Makes segment `number`, which goes on after `chain`.
    pub(super) fn create(dir: &Path, number: u64, chain: Chain, now_us: i64) -> io::Result<Self> {
        let mut header = [0; HEADER_LEN];
        header[..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&number.to_le_bytes());
        header[16..48].copy_from_slice(&chain);
        header[48..].copy_from_slice(&now_us.to_le_bytes());
        let path = path(dir, number);
        let mut options = OpenOptions::new();
        let mut file = options.create_new(true).append(true).mode(0o600).open(&path)?;
        // The header before its name: a loss of power must not leave a segment without one.
        let written = file.write_all(&header).and_then(|()| file.sync_data());
        if let Err(error) = written.and_then(|()| sync_folder(dir)) {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        let chain = *blake3::hash(&header).as_bytes();
        Ok(Self { file, number, len: HEADER_LEN as u64, chain, ragged: false })
    }

    /// Opens the last segment to go on with it, after `scan` found where its whole frames end.
    pub(super) fn reopen(dir: &Path, scanned: &Scan) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(path(dir, scanned.number))?;
        file.set_len(scanned.end)?;
        let (number, len, chain) = (scanned.number, scanned.end, scanned.chain);
        Ok(Self { file, number, len, chain, ragged: false })
    }

    /// Appends frames made by [`frame`]. All or nothing: what was half written is cut off again.
    pub(super) fn append(&mut self, frames: &[u8], chain: Chain) -> io::Result<()> {
        if self.ragged {
            self.file.set_len(self.len)?;
            self.ragged = false;
        }
        if let Err(error) = self.file.write_all(frames) {
            self.ragged = self.file.set_len(self.len).is_err();
            return Err(error);
        }
        self.len += frames.len() as u64;
        self.chain = chain;
        Ok(())
    }

    /// Its file was deleted or replaced: what is appended now would be seen by nobody.
    pub(super) fn is_gone(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() == 0)
    }

    /// Makes everything appended durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Appends records, each led by its length, to `out` in as few frames as they need. Gives the chain's next value and
/// how many records they were.
pub(super) fn frame(chain: &Chain, records: &[u8], out: &mut Vec<u8>) -> (Chain, u64) {
    let (mut chain, mut count) = (*chain, 0);
    let (mut rest, mut payload) = (records, 0);
    while let Some((_, after)) = split_record(rest.get(payload..).unwrap_or_default()) {
        let next = rest.len() - after.len();
        if payload > 0 && next > FRAME {
            chain = frame_one(&chain, &rest[..payload], out);
            rest = &rest[payload..];
            payload = 0;
            continue;
        }
        payload = next;
        count += 1;
    }
    if payload > 0 {
        chain = frame_one(&chain, &rest[..payload], out);
    }
    (chain, count)
}

fn frame_one(chain: &Chain, payload: &[u8], out: &mut Vec<u8>) -> Chain {
    let next = link(chain, RECORDS, payload);
    let len = u32::try_from(payload.len()).unwrap_or(0);
    out.extend_from_slice(&len.to_le_bytes());
    out.push(RECORDS);
    out.extend_from_slice(&next);
    out.extend_from_slice(payload);
    next
}

/// The first record of a frame's payload, and what follows it.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, after) = bytes.split_first_chunk::<4>()?;
    after.split_at_checked(u32::from_le_bytes(*head) as usize)
}

fn link(chain: &Chain, kind: u8, payload: &[u8]) -> Chain {
    let mut hasher = blake3::Hasher::new();
    hasher.update(chain).update(&[kind]).update(payload);
    *hasher.finalize().as_bytes()
}

/// What reading a segment found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) number: u64,
    /// The chain's value that its header claims for what came before.
    pub(super) before: Chain,
    /// The chain's value after its last whole frame.
    pub(super) chain: Chain,
    /// Where its last whole frame ends.
    pub(super) end: u64,
    /// Bytes after that: a torn tail.
    pub(super) torn: u64,
    /// Records.
    pub(super) records: u64,
}

/// Why a segment can't be trusted.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// It can't be read.
    #[error("can't be read: {0}")]
    Io(#[from] io::Error),
    /// Its header is not one.
    #[error("has no valid header")]
    Header,
    /// It is shorter than a header, so it holds no record: a crash in the moment of its making leaves that.
    #[error("is cut short within its header")]
    Short(u64),
    /// A frame's chain value does not follow.
    #[error("was changed at byte {0}")]
    Changed(u64),
}

/// Reads a whole segment, and hands each record to `each`, with the value that the chain has after its frame.
pub(super) fn scan(path: &Path, mut each: impl FnMut(&Chain, &[u8])) -> Result<Scan, SegmentError> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let header = bytes.get(..HEADER_LEN).ok_or(SegmentError::Short(bytes.len() as u64))?;
    if header[..8] != MAGIC {
        return Err(SegmentError::Header);
    }
    let field = |at: usize| -> [u8; 8] {
        let mut field = [0; 8];
        field.copy_from_slice(&header[at..at + 8]);
        field
    };
    let mut before = [0; 32];
    before.copy_from_slice(&header[16..48]);
    let mut scan = Scan {
        number: u64::from_le_bytes(field(8)),
        before,
        chain: *blake3::hash(header).as_bytes(),
        end: HEADER_LEN as u64,
        torn: 0,
        records: 0,
    };
    let mut rest = bytes.get(HEADER_LEN..).unwrap_or_default();
    while let Some((head, after)) = rest.split_at_checked(FRAME_HEAD) {
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if len > MAX_FRAME {
            return Err(SegmentError::Changed(scan.end));
        }
        let Some((payload, next)) = after.split_at_checked(len) else { break };
        let chain = link(&scan.chain, head[4], payload);
        if head[5..] != chain {
            return Err(SegmentError::Changed(scan.end));
        }
        let mut records = payload;
        while head[4] == RECORDS && !records.is_empty() {
            let (record, after) = split_record(records).ok_or(SegmentError::Changed(scan.end))?;
            each(&chain, record);
            scan.records += 1;
            records = after;
        }
        scan.chain = chain;
        scan.end += (FRAME_HEAD + len) as u64;
        rest = next;
    }
    scan.torn = rest.len() as u64;
    Ok(scan)
}

/// The segments of a folder, in order.
pub(super) fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "rgseg") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.rgseg"))
}

fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
