//! The segment files, written: append-only, each frame chained to all before it. `docs/record.md` has the format.
//!
//! A link for many records costs a tenth of one for each: BLAKE3 is fast on long inputs only. Reading is the business of
//! `frames`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;
use super::frame::{CHECKPOINT, Chain, put};
use super::frames::Scan;
use super::header::{Header, VERSION};
use super::keys::{Cipher, Keys, SegmentId, SigningKey};
use crate::clock::now_us;

/// An open segment, at its end.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    id: SegmentId,
    pub(super) cipher: Option<Cipher>,
    pub(super) len: u64,
    pub(super) chain: Chain,
    /// Records in it.
    records: u64,
    /// Records behind its last checkpoint.
    pub(super) unsigned: u64,
    /// A checkpoint is its last frame.
    signed: bool,
    /// Half-written frames could not be cut off yet.
    ragged: bool,
}

impl Segment {
    /// Makes this segment, which goes on after `chain`.
    pub(super) fn create(dir: &Path, id: SegmentId, chain: Chain, keys: &Keys) -> io::Result<Self> {
        let sealed = keys.encryption.as_ref().map(|key| key.segment(&id)).transpose()?;
        let (cipher, sealed) = sealed.map_or((None, Vec::new()), |(c, s)| (Some(c), s));
        let header = Header {
            version: VERSION,
            number: id.number,
            before: chain,
            made_us: now_us(),
            record: id.record,
            sealed,
        };
        let header = header.bytes();
        let path = path(dir, id.number);
        let mut options = OpenOptions::new();
        let mut file = options.create_new(true).append(true).mode(0o600).open(&path)?;
        // The header before its name: a loss of power must not leave a segment without one.
        let written = file.write_all(&header).and_then(|()| file.sync_data());
        if let Err(error) = written.and_then(|()| sync_folder(dir)) {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self {
            file,
            id,
            cipher,
            len: header.len() as u64,
            chain: *blake3::hash(&header).as_bytes(),
            records: 0,
            unsigned: 0,
            signed: false,
            ragged: false,
        })
    }

    /// Opens the last segment to go on with it, after `scan` found where its whole frames end.
    pub(super) fn reopen(path: &Path, scanned: &Scan, cipher: Option<Cipher>) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(path)?;
        file.set_len(scanned.end)?;
        Ok(Self {
            file,
            id: scanned.header.id(),
            cipher,
            len: scanned.end,
            chain: scanned.chain,
            records: scanned.records,
            unsigned: scanned.unsigned,
            signed: scanned.signed,
            ragged: false,
        })
    }

    /// Its number.
    pub(super) fn number(&self) -> u64 {
        self.id.number
    }

    /// The one after it.
    pub(super) fn next(&self) -> SegmentId {
        SegmentId { number: self.id.number + 1, ..self.id }
    }

    /// Appends frames of so many records, with a checkpoint behind them if there is a key. All or nothing: what was
    /// half written is cut off again.
    pub(super) fn append(
        &mut self,
        frames: &mut Vec<u8>,
        (mut chain, records): (Chain, u64),
        sign: Option<&SigningKey>,
    ) -> io::Result<()> {
        let sum = self.records + records;
        if let Some(key) = sign {
            let payload = Checkpoint::sign(key, self.id, &chain, (now_us(), sum));
            chain = put(&chain, CHECKPOINT, &payload, frames);
        }
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
        self.records = sum;
        self.signed = sign.is_some();
        self.unsigned = if self.signed { 0 } else { self.unsigned + records };
        Ok(())
    }

    /// Ends it: a checkpoint is its last frame, and all of it is durable.
    pub(super) fn finish(&mut self, key: &SigningKey) -> io::Result<()> {
        if !self.signed {
            self.append(&mut Vec::new(), (self.chain, 0), Some(key))?;
        }
        self.sync()
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

/// The segments of a folder, in order.
pub(super) fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    listed(dir, "rgseg")
}

/// The files of a folder that end so, in order.
pub(super) fn listed(dir: &Path, ending: &str) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == ending) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The number that a segment's file is named by.
pub(super) fn number_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// A segment's file.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.rgseg"))
}

pub(super) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
