//! Looking back: verifying the chain, and reading records.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::segment::{self, SegmentError, scan};
use crate::record::{Record, decode};

/// The record does not hold together.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The folder can't be read.
    #[error("{0}: {1}")]
    Folder(PathBuf, std::io::Error),
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

/// What was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Segments.
    pub segments: u64,
    /// Records.
    pub records: u64,
    /// Bytes of a torn tail of the last segment: a crash, or a record being written right now.
    pub torn_bytes: u64,
    /// The chain's last value, in hex: write it down elsewhere, and a truncation can be told later.
    pub chain: String,
}

/// Verifies every segment of a folder.
pub fn verify(dir: &Path) -> Result<Report, VerifyError> {
    each(dir, |_| {})
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

/// Verifies, and hands over every record in order.
pub fn each(dir: &Path, mut record: impl FnMut(Record)) -> Result<Report, VerifyError> {
    let paths = segment::list(dir).map_err(|e| VerifyError::Folder(dir.to_path_buf(), e))?;
    let mut report = Report::default();
    let mut chain: Option<[u8; 32]> = None;
    let mut expected = None;
    let last = paths.last().cloned();
    for path in paths {
        let (mut at, mut bad) = (0, None);
        let scanned = scan(&path, |payload| {
            at += 1;
            match decode(payload) {
                Ok(decoded) => record(decoded),
                Err(_) => bad = bad.or(Some(at)),
            }
        });
        let scanned = scanned.map_err(|error| VerifyError::Segment(path.clone(), error))?;
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
        report.segments += 1;
        report.records += scanned.frames;
        report.torn_bytes = scanned.torn;
        expected = Some(scanned.number + 1);
        chain = Some(scanned.chain);
    }
    report.chain =
        chain.map(|chain| blake3::Hash::from(chain).to_hex().to_string()).unwrap_or_default();
    Ok(report)
}
