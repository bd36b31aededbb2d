//! Looking back: every record in its order, with its place.
//!
//! The chain is checked as far as is read. Whether all of it holds together, and who signed it, is the business of `verify`.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::frame::{Chain, Unpacker, split_record};
use super::frames::Frames;
use super::header::{Header, SegmentError};
use super::keys::{Cipher, EncryptionKey, PublicKey};
use super::segment;
use super::tombstone::{self, Tombstone};
use crate::record::{Record, decode};

/// The record does not hold together, or can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The folder can't be read.
    #[error(
        "{0}: audit.dir: {1}; name the folder of a gateway's record, as a user who may read it"
    )]
    Folder(PathBuf, std::io::Error),
    /// Not one segment, though a gateway records its own start first of all.
    #[error("{0}: audit.dir: no record is here; a gateway makes one at its start")]
    Empty(PathBuf),
    /// The first segments are missing.
    #[error("{0} is the first segment here, and was number {1}: those before it are missing")]
    Beheaded(PathBuf, u64),
    /// What was there once is there no more.
    #[error(
        "{0}: no record leads to chain value {1}: the record was cut off before it, or replaced"
    )]
    Lost(PathBuf, String),
    /// A segment was changed or can't be read.
    #[error("{0} {1}")]
    Segment(PathBuf, SegmentError),
    /// A segment is missing, or one was put in from elsewhere.
    #[error("{0} does not follow the segment before it: one is missing, or was replaced")]
    Gap(PathBuf),
    /// A segment other than the last ends in the middle of a record.
    #[error("{0} was cut short")]
    Truncated(PathBuf),
    /// A segment other than the last is not signed to its end.
    #[error("{0} was cut short: it does not end with a checkpoint")]
    Unsigned(PathBuf),
    /// A tombstone does not stand for what was there.
    #[error("{0} is no good tombstone: {1}")]
    Tombstone(PathBuf, std::io::Error),
    /// A tombstone by somebody else.
    #[error("{0} is signed by {1}, a key that was not named; name it with --key if it was yours")]
    Signer(PathBuf, PublicKey),
    /// A record's bytes are not of the format.
    #[error("{0}: record {1} of the frame at byte {2} is not of a known format")]
    Format(PathBuf, u32, u64),
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Position {
    /// The segment's number.
    pub segment: u64,
    /// Where its frame begins, in bytes.
    pub offset: u64,
    /// Which of the frame's records it is, from 0.
    pub index: u32,
}

/// A record and its place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// Where it is.
    pub position: Position,
    /// What it is.
    #[serde(flatten)]
    pub record: Record,
}

/// A record's folder, and the keys that open what is encrypted in it.
#[derive(Clone, Debug)]
pub struct Folder {
    pub(super) dir: PathBuf,
    keys: Vec<EncryptionKey>,
}

impl Folder {
    /// A folder of segments that are not encrypted.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), keys: Vec::new() }
    }

    /// With these keys.
    #[must_use]
    pub fn with_keys(self, keys: Vec<EncryptionKey>) -> Self {
        Self { keys, ..self }
    }

    /// The segments' files in order, but for those that were pruned and not removed yet.
    pub(super) fn paths(&self) -> Result<Vec<PathBuf>, ReadError> {
        let paths = segment::list(&self.dir);
        let mut paths = paths.map_err(|error| ReadError::Folder(self.dir.clone(), error))?;
        // (listed behind the segments: what went in between has its tombstone by now)
        let stones = self.tombstones()?;
        if !stones.is_empty() {
            paths.retain(|path| {
                segment::number_of(path).is_none_or(|number| !tombstone::covers(&stones, number))
            });
        }
        Ok(paths)
    }

    /// What was pruned.
    pub(super) fn tombstones(&self) -> Result<Vec<Tombstone>, ReadError> {
        tombstone::all(&self.dir).map_err(|(path, error)| ReadError::Tombstone(path, error))
    }

    /// Every record from the first on. At the end, `next` may be asked again later: it goes on with what came meanwhile.
    pub fn records(&self) -> Result<Records, ReadError> {
        Ok(Records::new(self.clone(), self.paths()?))
    }

    /// The records of the last `count` segments; whether these are all.
    pub(super) fn last_segments(&self, count: usize) -> Result<(Records, bool), ReadError> {
        let mut paths = self.paths()?;
        let from = paths.len().saturating_sub(count);
        Ok((Records::new(self.clone(), paths.split_off(from)), from == 0))
    }

    /// The last `count` records, and what goes on behind them.
    pub fn tail(&self, count: usize) -> Result<(Vec<Found>, Records), ReadError> {
        let paths = self.paths()?;
        // As few segments from the end as have so many.
        let (mut from, mut step) = (paths.len(), 1);
        loop {
            from = from.saturating_sub(step);
            step *= 2;
            let some = paths.get(from..).unwrap_or_default().to_vec();
            let mut records = Records::new(self.clone(), some);
            let mut last = VecDeque::with_capacity(count.min(10_000));
            for found in &mut records {
                let found = found?;
                if last.len() == count {
                    last.pop_front();
                }
                if count > 0 {
                    last.push_back(found);
                }
            }
            if from == 0 || last.len() == count {
                return Ok((last.into(), records));
            }
        }
    }

    /// What opens a segment; none: it is not encrypted.
    pub(super) fn cipher(&self, header: &Header) -> Result<Option<Cipher>, SegmentError> {
        cipher(&self.keys, header)
    }
}

pub(super) fn cipher(
    keys: &[EncryptionKey],
    header: &Header,
) -> Result<Option<Cipher>, SegmentError> {
    if header.sealed.is_empty() {
        return Ok(None);
    }
    let key = keys.iter().find(|key| key.fits(&header.sealed)).ok_or(SegmentError::Sealed)?;
    let cipher = key.open(&header.id(), &header.sealed).ok_or(SegmentError::Header)?;
    Ok(Some(cipher))
}

/// One segment's records, frame by frame.
pub(super) struct Reader {
    path: PathBuf,
    pub(super) frames: Frames,
    cipher: Option<Cipher>,
    unpacker: Unpacker,
    records: Vec<u8>,
}

impl Reader {
    pub(super) fn open(folder: &Folder, path: &Path) -> Result<Self, ReadError> {
        let failed = |error| ReadError::Segment(path.to_path_buf(), error);
        let frames = Frames::open(path).map_err(failed)?;
        let cipher = folder.cipher(&frames.header).map_err(failed)?;
        let unpacker = Unpacker::new().map_err(|error| failed(error.into()))?;
        Ok(Self { path: path.to_path_buf(), frames, cipher, unpacker, records: Vec::new() })
    }

    /// Whose index words tell nothing to those who can't read the segment.
    pub(super) fn index_key(&self) -> [u8; 32] {
        self.cipher.as_ref().map_or([0; 32], |cipher| cipher.index_key)
    }

    pub(super) fn number(&self) -> u64 {
        self.frames.header.number
    }

    /// Goes to a frame that is known.
    pub(super) fn seek(&mut self, at: u64, chain: Chain) -> Result<(), ReadError> {
        let failed = |error| ReadError::Segment(self.path.clone(), SegmentError::Io(error));
        self.frames.seek(at, chain).map_err(failed)
    }

    /// The next frame's records, handed over one by one; false at the end.
    pub(super) fn frame(&mut self, mut each: impl FnMut(Found)) -> Result<bool, ReadError> {
        let failed = |error| ReadError::Segment(self.path.clone(), error);
        let Some(frame) = self.frames.next().map_err(failed)? else { return Ok(false) };
        let payload = (frame.kind, &self.frames.payload[..]);
        let unpacked = self.unpacker.unpack(self.cipher.as_ref(), payload, &mut self.records);
        unpacked.map_err(|why| ReadError::Segment(self.path.clone(), frame.unreadable(why)))?;
        let (segment, offset) = (self.number(), frame.at);
        let (mut rest, mut index) = (&self.records[..], 0);
        while let Some((bytes, after)) = split_record(rest) {
            let record =
                decode(bytes).map_err(|_| ReadError::Format(self.path.clone(), index, offset))?;
            each(Found { position: Position { segment, offset, index }, record });
            (rest, index) = (after, index + 1);
        }
        Ok(true)
    }
}

/// Every record in order; see [`Folder::records`].
pub struct Records {
    folder: Folder,
    paths: VecDeque<PathBuf>,
    reader: Option<Reader>,
    /// The last segment's number, and the chain's value at its end, once one was read.
    before: Option<(u64, Chain)>,
    frame: VecDeque<Found>,
    failed: bool,
}

impl Records {
    fn new(folder: Folder, paths: Vec<PathBuf>) -> Self {
        let paths = paths.into();
        Self { folder, paths, reader: None, before: None, frame: VecDeque::new(), failed: false }
    }

    fn advance(&mut self) -> Result<Option<Found>, ReadError> {
        loop {
            if let Some(found) = self.frame.pop_front() {
                return Ok(Some(found));
            }
            let Some(reader) = &mut self.reader else {
                if self.paths.is_empty() {
                    self.paths = self.later(self.before.map(|(number, _)| number))?;
                }
                match self.paths.pop_front() {
                    Some(path) if self.open(&path)? => continue,
                    _ => return Ok(None),
                }
            };
            let frame = &mut self.frame;
            if reader.frame(|found| frame.push_back(found))? {
                continue;
            }
            // Perhaps more has come, here or in another segment; in this order, since the other comes last.
            if self.paths.is_empty() {
                let number = reader.number();
                self.paths = self.later(Some(number))?;
            }
            let Some(reader) = &mut self.reader else { continue };
            let grown = reader.frames.has_grown();
            if grown.map_err(|error| ReadError::Segment(reader.path.clone(), error.into()))? {
                continue;
            }
            if self.paths.is_empty() {
                return Ok(None);
            }
            if reader.frames.at < reader.frames.len {
                return Err(ReadError::Truncated(reader.path.clone()));
            }
            self.before = Some((reader.number(), reader.frames.chain));
            self.reader = None;
        }
    }

    /// The segments behind this number.
    fn later(&self, number: Option<u64>) -> Result<VecDeque<PathBuf>, ReadError> {
        let is_later = |path: &PathBuf| segment::number_of(path) > number;
        Ok(self.folder.paths()?.into_iter().filter(is_later).collect())
    }

    /// False: the segment is being made right now, or a crash left it so.
    fn open(&mut self, path: &Path) -> Result<bool, ReadError> {
        let reader = match Reader::open(&self.folder, path) {
            Err(ReadError::Segment(_, SegmentError::Short(_))) if self.paths.is_empty() => {
                return Ok(false);
            }
            // Pruned since it was listed: the next one must follow its tombstone.
            Err(error) if error.is_gone() => return Ok(true),
            other => other?,
        };
        let header = &reader.frames.header;
        let leads = |(number, chain)| header.number == number + 1 && header.before == chain;
        let follows = match self.before {
            None => true,
            Some(before) if leads(before) => true,
            Some(before) => leads(tombstone::bridge(&self.folder.tombstones()?, before)),
        };
        if !follows {
            return Err(ReadError::Gap(path.to_path_buf()));
        }
        self.reader = Some(reader);
        Ok(true)
    }
}

impl ReadError {
    /// The file is there no more.
    pub(super) fn is_gone(&self) -> bool {
        let Self::Segment(_, SegmentError::Io(error)) = self else { return false };
        error.kind() == std::io::ErrorKind::NotFound
    }
}

impl Iterator for Records {
    type Item = Result<Found, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.advance();
        self.failed = next.is_err();
        next.transpose()
    }
}

/// A chain's value in hex, as [`super::verify::Report::chain`] has it.
pub fn chain_of(hex: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(hex).ok().map(|hash| *hash.as_bytes())
}

/// A public key, as [`PublicKey`] prints it.
pub fn public_key_of(text: &str) -> Option<PublicKey> {
    text.parse().ok()
}
