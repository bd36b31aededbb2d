//! A segment, read frame by frame: the chain is checked at each, and no more than a frame is in memory.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::checkpoint::Checkpoint;
use super::frame::{CHECKPOINT, Chain, HEAD, MAX_PAYLOAD, OLD, Unreadable, count, link};
use super::header::{Header, OLD_VERSION, SegmentError};
use super::keys::PublicKey;

/// What is read at once.
const READ: usize = 256 << 10;

/// A frame.
#[derive(Debug)]
pub(super) struct Frame {
    /// Where it begins.
    pub(super) at: u64,
    pub(super) kind: u8,
    /// The chain's value before it.
    pub(super) before: Chain,
}

impl Frame {
    /// What a reader of contents has to say of it.
    pub(super) fn unreadable(&self, why: Unreadable) -> SegmentError {
        match why {
            Unreadable::Form => SegmentError::Form(self.at),
            Unreadable::Kind => SegmentError::Kind(self.at),
            Unreadable::Sealed => SegmentError::Sealed,
        }
    }
}

/// The frames of one segment.
pub(super) struct Frames {
    file: BufReader<File>,
    pub(super) header: Header,
    /// The end of the last whole frame that was read, and the next one's beginning.
    pub(super) at: u64,
    /// What the file had when it was opened: what is appended meanwhile is for the next reader.
    pub(super) len: u64,
    pub(super) chain: Chain,
    pub(super) payload: Vec<u8>,
}

impl Frames {
    pub(super) fn open(path: &Path) -> Result<Self, SegmentError> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut file = BufReader::with_capacity(READ, file);
        let (header, at, chain) = Header::read(&mut file, len)?;
        Ok(Self { file, header, at, len, chain, payload: Vec::new() })
    }

    /// Goes to a frame whose place, and the chain's value before which, are known.
    pub(super) fn seek(&mut self, at: u64, chain: Chain) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at))?;
        (self.at, self.chain) = (at, chain);
        Ok(())
    }

    /// Whether more has come since it was opened: what is appended is read from then on.
    pub(super) fn has_grown(&mut self) -> io::Result<bool> {
        let len = self.file.get_ref().metadata()?.len();
        if len <= self.len {
            return Ok(false);
        }
        self.len = len;
        // what was read ahead may be a half-written frame that was cut off again
        self.seek(self.at, self.chain)?;
        Ok(true)
    }

    /// The next frame; its payload is in `self.payload`. None at the end, and where a torn tail begins.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, SegmentError> {
        let left = self.len.saturating_sub(self.at);
        if left < HEAD as u64 {
            return Ok(None);
        }
        let mut head = [0; HEAD];
        self.file.read_exact(&mut head)?;
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if len > MAX_PAYLOAD {
            return Err(SegmentError::Changed(self.at));
        }
        if left < (HEAD + len) as u64 {
            return Ok(None);
        }
        self.payload.resize(len, 0);
        self.file.read_exact(&mut self.payload)?;
        let frame = Frame { at: self.at, kind: head[4], before: self.chain };
        let chain = link(&self.chain, frame.kind, &self.payload);
        if head[5..] != chain {
            return Err(SegmentError::Changed(self.at));
        }
        if (frame.kind == OLD) != (self.header.version == OLD_VERSION) {
            return Err(SegmentError::Kind(self.at));
        }
        self.chain = chain;
        self.at += (HEAD + len) as u64;
        Ok(Some(frame))
    }
}

/// A checkpoint that was met.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed {
    pub(super) by: PublicKey,
    pub(super) at_us: i64,
    /// Where its frame begins.
    pub(super) at: u64,
    /// The chain's value that it vouches for.
    pub(super) chain: Chain,
}

/// What reading a whole segment found.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    pub(super) header: Header,
    /// The chain's value after its last whole frame.
    pub(super) chain: Chain,
    /// Where its last whole frame ends.
    pub(super) end: u64,
    /// Bytes after that: a torn tail.
    pub(super) torn: u64,
    /// Records.
    pub(super) records: u64,
    /// Records behind the last checkpoint.
    pub(super) unsigned: u64,
    /// A checkpoint is the last frame.
    pub(super) signed: bool,
    pub(super) checkpoints: u64,
    pub(super) last: Option<Signed>,
}

/// Reads a whole segment without its records' contents, and hands over each value of the chain. Checkpoints are checked
/// against these keys; none: whoever signed, signed.
pub(super) fn scan(
    path: &Path,
    keys: Option<&[PublicKey]>,
    mut each: impl FnMut(&Chain),
) -> Result<Scan, SegmentError> {
    let mut frames = Frames::open(path)?;
    let mut scan = Scan {
        header: frames.header.clone(),
        chain: frames.chain,
        end: frames.at,
        torn: 0,
        records: 0,
        unsigned: 0,
        signed: false,
        checkpoints: 0,
        last: None,
    };
    each(&scan.chain);
    while let Some(frame) = frames.next()? {
        let count = count(frame.kind, &frames.payload).map_err(|why| frame.unreadable(why))?;
        scan.records += count;
        scan.unsigned += count;
        scan.signed = frame.kind == CHECKPOINT;
        if scan.signed {
            let id = scan.header.id();
            let found = Checkpoint::read(&frames.payload, id, &frame.before);
            let found = found.filter(|found| found.records == scan.records);
            let found = found.ok_or(SegmentError::Signature(frame.at))?;
            if keys.is_some_and(|keys| !keys.contains(&found.key)) {
                return Err(SegmentError::Signer(frame.at, found.key));
            }
            scan.checkpoints += 1;
            scan.unsigned = 0;
            let (by, at_us) = (found.key, found.at_us);
            scan.last = Some(Signed { by, at_us, at: frame.at, chain: frame.before });
        }
        each(&frames.chain);
    }
    (scan.chain, scan.end, scan.torn) = (frames.chain, frames.at, frames.len - frames.at);
    Ok(scan)
}
