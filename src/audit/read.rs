//! Looking back: verifying the chain, and reading records.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::segment::{self, Chain, SegmentError, scan};
use crate::record::{Record, decode};

/// The record does not hold together.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
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
    /// A record's bytes are not of the format.
    #[error("{0}: record {1} is not of a known format")]
    Format(PathBuf, u64),
}

/// A chain's value in hex, as [`Report::chain`] has it.
pub fn chain_of(hex: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(hex).ok().map(|hash| *hash.as_bytes())
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
}

/// Verifies every segment of a folder, from the first on. `held` is a chain value of an earlier verification: it must
/// still be in the chain, or what led up to it was cut off.
pub fn verify(dir: &Path, held: Option<[u8; 32]>) -> Result<Report, VerifyError> {
    let mut found = held.is_none();
    let report = walk(dir, |chain, _| found |= held.as_ref() == Some(chain))?;
    if report.segments == 0 {
        return Err(VerifyError::Empty(dir.to_path_buf()));
    }
    if report.first_segment != 1 {
        let first = segment::list(dir).ok().and_then(|paths| paths.into_iter().next());
        let first = first.unwrap_or_else(|| dir.to_path_buf());
        return Err(VerifyError::Beheaded(first, report.first_segment));
    }
    if !found {
        let held = blake3::Hash::from(held.unwrap_or_default()).to_hex().to_string();
        return Err(VerifyError::Lost(dir.to_path_buf(), held));
    }
    Ok(report)
}

/// How many records there are.
pub fn count(dir: &Path) -> Result<u64, VerifyError> {
    Ok(walk(dir, |_, _| {})?.records)
}

/// The last `count` records.
pub fn tail(dir: &Path, count: usize) -> Result<Vec<Record>, VerifyError> {
    let mut last = VecDeque::with_capacity(count.min(10_000));
    each(dir, |record| {
        if last.len() == count {
            last.pop_front();
        }
        if count > 0 {
            last.push_back(record);
        }
    })?;
    Ok(last.into())
}

/// Verifies what is there, and hands over every record in order.
pub fn each(dir: &Path, mut record: impl FnMut(Record)) -> Result<Report, VerifyError> {
    walk(dir, |_, found| found.into_iter().for_each(&mut record))
}

/// Verifies what is there, and hands over every value of the chain, with the record that led to it.
fn walk(dir: &Path, mut record: impl FnMut(&Chain, Option<Record>)) -> Result<Report, VerifyError> {
    let paths = segment::list(dir).map_err(|e| VerifyError::Folder(dir.to_path_buf(), e))?;
    let mut report = Report::default();
    let mut chain: Option<[u8; 32]> = None;
    let mut expected = None;
    let last = paths.last().cloned();
    for path in paths {
        let (mut at, mut bad) = (0, None);
        let scanned = scan(&path, |chain, payload| {
            at += 1;
            match decode(payload) {
                Ok(decoded) => record(chain, Some(decoded)),
                Err(_) => bad = bad.or(Some(at)),
            }
        });
        let scanned = match scanned {
            Ok(scanned) => scanned,
            Err(SegmentError::Short(bytes)) if last.as_ref() == Some(&path) => {
                report.torn_bytes = bytes.max(1);
                break;
            }
            Err(error) => return Err(VerifyError::Segment(path.clone(), error)),
        };
        if let Some(at) = bad {
            return Err(VerifyError::Format(path, at));
        }
        let first = if scanned.number == 1 { Some([0; 32]) } else { None };
        if chain.or(first).is_some_and(|chain| chain != scanned.before)
            || expected.is_some_and(|number| number != scanned.number)
        {
            return Err(VerifyError::Gap(path));
        }
        if scanned.torn > 0 && last.as_ref() != Some(&path) {
            return Err(VerifyError::Truncated(path));
        }
        if report.segments == 0 {
            report.first_segment = scanned.number;
        }
        if scanned.records == 0 {
            record(&scanned.chain, None);
        }
        report.segments += 1;
        report.records += scanned.records;
        report.torn_bytes = scanned.torn;
        expected = Some(scanned.number + 1);
        chain = Some(scanned.chain);
    }
    report.chain =
        chain.map(|chain| blake3::Hash::from(chain).to_hex().to_string()).unwrap_or_default();
    Ok(report)
}
