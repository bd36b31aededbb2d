//! Whether the record holds together: each frame follows from the one before, each segment from the one before, and every
//! checkpoint is by a known key. No record's content is looked at, so no encryption key is needed.

use super::frame::Chain;
use super::frames::{Scan, scan};
use super::header::{OLD_VERSION, SegmentError};
use super::keys::{PublicKey, digits};
use super::read::{Folder, ReadError};
use super::segment::number_of;
use super::tombstone::{Pruned, Tombstone};

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
    /// Ranges that were pruned, each with a good signature by a known key.
    pub pruned: Vec<Pruned>,
}

fn hex(chain: Chain) -> String {
    blake3::Hash::from(chain).to_hex().to_string()
}

impl Folder {
    /// Verifies every segment, from the first on. Checkpoints must be by one of `keys`. `held` is a chain value of an earlier
    /// verification: it must still be in the chain, or what led up to it was cut off.
    pub fn verify(&self, keys: &[PublicKey], held: Option<[u8; 32]>) -> Result<Report, ReadError> {
        // What is pruned meanwhile was there a moment ago: then it is looked at anew. Prunings are rare.
        for _ in 0..3 {
            match self.verify_once(keys, held) {
                Err(error) if error.is_gone() => {}
                done => return done,
            }
        }
        self.verify_once(keys, held)
    }

    fn verify_once(&self, keys: &[PublicKey], held: Option<Chain>) -> Result<Report, ReadError> {
        let (paths, stones) = (self.paths()?, self.tombstones()?);
        let Some(first) = paths.first() else { return Err(ReadError::Empty(self.dir.clone())) };
        let mut report = Report::default();
        let mut before: Option<End> = None;
        let mut found = held.is_none();
        let mut stones = stones.into_iter().peekable();
        for (at, path) in paths.iter().enumerate() {
            let is_last = at + 1 == paths.len();
            while let Some(stone) =
                stones.next_if(|stone| Some(stone.pruned.first) < number_of(path))
            {
                found |= held == Some(stone.before) || held == Some(stone.after);
                before = Some(report.bury(before.as_ref(), stone, keys)?);
            }
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
                return Err(ReadError::Unsigned(path.clone()));
            }
            report.add(&scanned);
            before = Some(End::of(&scanned));
        }
        if report.segments == 0 {
            return Err(ReadError::Empty(self.dir.clone()));
        }
        if report.first_segment != 1 {
            return Err(ReadError::Beheaded(first.clone(), report.first_segment));
        }
        // one that nothing follows
        if let Some(stone) = stones.next() {
            return Err(ReadError::Gap(stone.path));
        }
        match held.filter(|_| !found) {
            Some(held) => Err(ReadError::Lost(self.dir.clone(), hex(held))),
            None => Ok(report),
        }
    }
}

/// Where a segment, or a range that was pruned, ends.
struct End {
    number: u64,
    chain: Chain,
    record: [u8; 16],
}

impl End {
    fn of(scan: &Scan) -> Self {
        let header = &scan.header;
        Self { number: header.number, chain: scan.chain, record: header.record }
    }
}

/// Whether a segment is the one after `before`, of the same record and of no older format.
fn follows(before: Option<&End>, next: &Scan) -> bool {
    let header = &next.header;
    let Some(before) = before else { return header.number != 1 || header.before == [0; 32] };
    // (the format before has no id of a record: zeros)
    let is_old = before.record == [0; 16];
    header.number == before.number + 1
        && header.before == before.chain
        && (is_old || header.record == before.record)
}

impl Report {
    /// Takes over a range that was pruned, where it is the one after `before`.
    fn bury(
        &mut self,
        before: Option<&End>,
        stone: Tombstone,
        keys: &[PublicKey],
    ) -> Result<End, ReadError> {
        if !keys.contains(&stone.key) {
            return Err(ReadError::Signer(stone.path, stone.key));
        }
        let pruned = &stone.pruned;
        let mut record = [0; 16];
        let is_id = digits(pruned.record.as_bytes(), &mut record).is_some();
        let follows = match before {
            None => pruned.first != 1 || stone.before == [0; 32],
            Some(before) => {
                pruned.first == before.number + 1
                    && stone.before == before.chain
                    && (before.record == [0; 16] || before.record == record)
            }
        };
        if !is_id || !follows {
            return Err(ReadError::Gap(stone.path));
        }
        if self.first_segment == 0 {
            self.first_segment = pruned.first;
        }
        let end = End { number: pruned.last, chain: stone.after, record };
        self.pruned.push(stone.pruned);
        Ok(end)
    }

    fn add(&mut self, scan: &Scan) {
        if self.first_segment == 0 {
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
