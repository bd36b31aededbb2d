//! Whether the record holds together: each frame follows from the one before, each segment from the one before, and every
//! checkpoint is by a known key. No record's content is looked at, so no encryption key is needed.

use super::frame::Chain;
use super::frames::{Scan, scan};
use super::header::{OLD_VERSION, SegmentError};
use super::keys::PublicKey;
use super::read::{Folder, ReadError};
use super::segment::number_of;

/// The last checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LastCheckpoint {
    /// In which segment.
    pub segment: u64,
    /// Where its frame begins.
    pub offset: u64,
    /// When it was made, in microseconds since the epoch.
    pub at_us: i64,
    /// Whose it is.
    pub key: PublicKey,
    /// The chain's value that it vouches for, in hex.
    pub chain: String,
}

/// What was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The number of the first segment: 1 where none is missing.
    pub first_segment: u64,
    /// Segments.
    pub segments: u64,
    /// Records.
    pub records: u64,
    /// Bytes of a torn tail of the last segment: a crash, or a record being written right now.
    pub torn_bytes: u64,
    /// The chain's last value, in hex: write it down elsewhere, and a truncation can be told later.
    pub chain: String,
    /// Checkpoints, each with a good signature by a known key.
    pub checkpoints: u64,
    /// The last of them.
    pub last_checkpoint: Option<LastCheckpoint>,
    /// Records behind it: whoever can write to the folder could have made them.
    pub unsigned_records: u64,
}

fn hex(chain: Chain) -> String {
    blake3::Hash::from(chain).to_hex().to_string()
}

impl Folder {
    /// Verifies every segment, from the first on. Checkpoints must be by one of `keys`. `held` is a chain value of an earlier
    /// verification: it must still be in the chain, or what led up to it was cut off.
    pub fn verify(&self, keys: &[PublicKey], held: Option<[u8; 32]>) -> Result<Report, ReadError> {
        let paths = self.paths()?;
        let Some(first) = paths.first() else { return Err(ReadError::Empty(self.dir.clone())) };
        let mut report = Report::default();
        let mut before: Option<Scan> = None;
        let mut found = held.is_none();
        for (at, path) in paths.iter().enumerate() {
            let is_last = at + 1 == paths.len();
            let scanned = match scan(path, Some(keys), |chain| found |= held == Some(*chain)) {
                Ok(scanned) => scanned,
                Err(SegmentError::Short(bytes)) if is_last => {
                    report.torn_bytes = bytes.max(1);
                    break;
                }
                Err(error) => return Err(ReadError::Segment(path.clone(), error)),
            };
            let is_named_so = number_of(path) == Some(scanned.header.number);
            if !is_named_so || !follows(before.as_ref(), &scanned) {
                return Err(ReadError::Gap(path.clone()));
            }
            if !is_last && scanned.torn > 0 {
                return Err(ReadError::Truncated(path.clone()));
            }
            if !is_last && !scanned.signed && scanned.header.version != OLD_VERSION {
                // A segment that is being made has no header yet: then this is the last one.
                return Err(ReadError::Unsigned(path.clone()));
            }
            report.add(&scanned);
            before = Some(scanned);
        }
        if before.is_none() {
            return Err(ReadError::Empty(self.dir.clone()));
        }
        if report.first_segment != 1 {
            return Err(ReadError::Beheaded(first.clone(), report.first_segment));
        }
        match held.filter(|_| !found) {
            Some(held) => Err(ReadError::Lost(self.dir.clone(), hex(held))),
            None => Ok(report),
        }
    }
}

/// Whether a segment is the one after `before`, of the same record and of no older format.
fn follows(before: Option<&Scan>, next: &Scan) -> bool {
    let header = &next.header;
    let Some(before) = before else { return header.number != 1 || header.before == [0; 32] };
    let is_old = before.header.version == OLD_VERSION;
    header.number == before.header.number + 1
        && header.before == before.chain
        && (is_old || header.record == before.header.record)
}

impl Report {
    fn add(&mut self, scan: &Scan) {
        if self.segments == 0 {
            self.first_segment = scan.header.number;
        }
        self.segments += 1;
        self.records += scan.records;
        self.torn_bytes = scan.torn;
        self.chain = hex(scan.chain);
        self.checkpoints += scan.checkpoints;
        self.unsigned_records =
            if scan.last.is_some() { scan.unsigned } else { self.unsigned_records + scan.records };
        if let Some(last) = scan.last {
            self.last_checkpoint = Some(LastCheckpoint {
                segment: scan.header.number,
                offset: last.at,
                at_us: last.at_us,
                key: last.by,
                chain: hex(last.chain),
            });
        }
    }
}
