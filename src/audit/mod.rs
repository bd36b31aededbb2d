//! The record on disk: workers append to bounded queues of their own; one thread chains, writes and syncs.
//!
//! A worker pays for encoding and a copy, never for the disk. What can't be recorded is refused at admission; a disk
//! that fails is told to everyone who waits, and taken up again by itself once it works.

mod checkpoint;
mod frame;
mod frames;
mod header;
pub mod holds;
mod index;
pub mod keys;
mod library;
pub mod prune;
pub mod read;
pub mod replay;
pub mod search;
mod segment;
mod thread;
mod tombstone;
pub mod verify;
mod writer;

pub use header::SegmentError;
pub use tombstone::Pruned;
pub use writer::{AuditFault, AuditFull, Durable, Permit, Ticket, Writer};

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock::now_us;
use crate::config;
use crate::record::Event;
use frame::Chain;
use frames::{Scan, scan};
use header::OLD_VERSION;
use keys::{Keys, PublicKey, SegmentId};
use segment::Segment;
use writer::Queue;

/// The record can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The folder.
    #[error("{0}: audit.dir: {1}; give a folder that the gateway's user may write")]
    Folder(PathBuf, std::io::Error),
    /// Someone else writes there.
    #[error(
        "{0}: audit.dir: another gateway writes its record here; give each a folder of its own"
    )]
    InUse(PathBuf),
    /// A tombstone is none.
    #[error("{0}: audit.dir: {1}; move the folder away as evidence and start with an empty one")]
    Tombstone(PathBuf, std::io::Error),
    /// The last segment was changed.
    #[error("{0}: audit.dir: {1}; move the folder away as evidence and start with an empty one")]
    Segment(PathBuf, SegmentError),
}

/// What all sides share.
pub(super) struct Shared {
    queues: Vec<Queue>,
    failed: AtomicBool,
    reason: Mutex<String>,
    records: AtomicU64,
    stop: AtomicBool,
    queue_bytes: usize,
    sync: bool,
}

impl Shared {
    fn fail(&self, reason: &str) {
        reason.clone_into(&mut self.reason.lock().unwrap_or_else(PoisonError::into_inner));
        self.failed.store(true, Ordering::Release);
    }

    fn recover(&self) {
        self.failed.store(false, Ordering::Release);
    }
}

/// How the record fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditState {
    /// Why nothing can be written; `None` while it can.
    pub failure: Option<String>,
    /// Bytes that wait for the disk.
    pub queued_bytes: u64,
    /// Records written since the start.
    pub records: u64,
}

/// The record.
pub struct Audit {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Audit {
    /// Opens the record with `writers` queues (workers, and one for the control plane): cuts a torn tail, goes on with
    /// the chain, starts the thread.
    pub fn open(settings: &config::Audit, keys: Keys, writers: usize) -> Result<Self, AuditError> {
        let dir = settings.dir.as_path();
        let folder = |error| AuditError::Folder(dir.to_path_buf(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(folder)?;
        let lock = lock(dir)?;
        let last = last_segment(dir, &keys)?;
        let notes = last.notes(keys.signing.public());
        let shared = Arc::new(Shared {
            queues: (0..writers.max(1)).map(|_| Queue::default()).collect(),
            failed: AtomicBool::new(false),
            reason: Mutex::new(String::new()),
            records: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            queue_bytes: settings.queue_bytes,
            sync: settings.durability == config::Durability::Sync,
        });
        let place = thread::Place {
            dir: dir.to_path_buf(),
            segment: last.segment,
            next: last.next,
            segment_bytes: settings.segment_bytes,
            keys,
            checkpoint: (Duration::from_secs(settings.checkpoint_s), settings.checkpoint_records),
            _lock: lock,
        };
        let thread = thread::start(Arc::clone(&shared), place).map_err(folder)?;
        let audit = Self { shared, thread };
        let mut writer = audit.writer(writers.saturating_sub(1));
        for (action, subject) in &notes {
            tracing::warn!(subject, "{action}");
            writer.append(&Event::Admin { at_us: now_us(), by: "rowgate", action, subject });
        }
        writer.flush();
        Ok(audit)
    }

    /// The writer of one queue. One for each worker, and one for the control plane: the last.
    pub fn writer(&self, queue: usize) -> Writer {
        Writer::new(Arc::clone(&self.shared), self.thread.thread().clone(), queue)
    }

    /// Whether intents are made durable before they count.
    pub fn is_sync(&self) -> bool {
        self.shared.sync
    }

    /// How it fares.
    pub fn state(&self) -> AuditState {
        self.watch().state()
    }

    /// A handle that only looks.
    pub fn watch(&self) -> AuditWatch {
        AuditWatch(Arc::clone(&self.shared))
    }

    /// Writes and syncs what is queued, then ends the thread.
    pub fn close(self) {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the audit thread ended by a panic");
        }
    }
}

/// Looks at how the record fares.
#[derive(Clone)]
pub struct AuditWatch(Arc<Shared>);

impl AuditWatch {
    /// How it fares.
    pub fn state(&self) -> AuditState {
        let failed = self.0.failed.load(Ordering::Acquire);
        let reason = || self.0.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        AuditState {
            failure: failed.then(reason),
            queued_bytes: self.0.queues.iter().map(Queue::queued_bytes).sum(),
            records: self.0.records.load(Ordering::Relaxed),
        }
    }
}

/// Keeps every other gateway out of the folder until it is dropped: two would break each other's chain.
fn lock(dir: &Path) -> Result<File, AuditError> {
    let folder = |error| AuditError::Folder(dir.to_path_buf(), error);
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(dir.join("lock")).map_err(folder)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AuditError::InUse(dir.to_path_buf())),
        Err(TryLockError::Error(error)) => Err(folder(error)),
    }
}

/// Where the record ends.
struct Last {
    /// The segment to go on with.
    segment: Option<Segment>,
    /// The one to make where there is none, and the chain's value before it.
    next: (SegmentId, Chain),
    /// Bytes that were cut.
    torn: u64,
    /// What lies behind the last checkpoint was not signed by whoever wrote it.
    unsigned: u64,
    /// Whose the last checkpoint is.
    signer: Option<PublicKey>,
}

impl Last {
    /// What the record should say of how it goes on.
    fn notes(&self, key: PublicKey) -> Vec<(&'static str, String)> {
        let mut notes = Vec::new();
        if self.torn > 0 {
            notes.push(("cut a torn tail of the record", format!("audit: {} bytes", self.torn)));
        }
        if self.unsigned > 0 {
            let subject = format!("audit: {} records", self.unsigned);
            notes.push(("went on behind records that no checkpoint vouches for", subject));
        }
        if self.signer.is_some_and(|signer| signer != key) {
            notes.push(("signs the record with another key", format!("audit: {key}")));
        }
        notes
    }
}

/// Finds where the record ends, and cuts off what a crash left half written.
fn last_segment(dir: &Path, keys: &Keys) -> Result<Last, AuditError> {
    let folder = |error| AuditError::Folder(dir.to_path_buf(), error);
    let mut torn = 0;
    let stones = tombstone::all(dir).map_err(|(path, why)| AuditError::Tombstone(path, why))?;
    let mut paths = segment::list(dir).map_err(folder)?;
    // Of what was pruned, nothing is gone on with.
    paths.retain(|path| {
        segment::number_of(path).is_none_or(|number| !tombstone::covers(&stones, number))
    });
    while let Some(last) = paths.pop() {
        match scan(&last, None, |_| {}) {
            Ok(mut scanned) => {
                scanned.torn += torn;
                return go_on(&last, &scanned, keys).map_err(folder);
            }
            // The crash came while it was made: it holds nothing yet.
            Err(SegmentError::Short(bytes)) if torn == 0 => {
                torn = bytes.max(1);
                std::fs::remove_file(&last).map_err(folder)?;
            }
            Err(error) => return Err(AuditError::Segment(last, error)),
        }
    }
    let record = keys::new_id().map_err(folder)?;
    let (last, chain) = tombstone::bridge(&stones, (0, [0; 32]));
    let next = (SegmentId { record, number: last + 1 }, chain);
    Ok(Last { segment: None, next, torn, unsigned: 0, signer: None })
}

/// Goes on with the last segment, or behind it, where it is of the format before or hidden under another key.
fn go_on(path: &Path, scanned: &Scan, keys: &Keys) -> std::io::Result<Last> {
    let header = &scanned.header;
    let (is_old, sealed) = (header.version == OLD_VERSION, &header.sealed);
    let record = if is_old { keys::new_id()? } else { header.record };
    let cipher = match &keys.encryption {
        Some(key) if key.fits(sealed) => key.open(&header.id(), sealed),
        _ => None,
    };
    let fits = sealed.is_empty() == keys.encryption.is_none()
        && cipher.is_some() == keys.encryption.is_some();
    let mut segment = Segment::reopen(path, scanned, cipher)?;
    let mut unsigned = scanned.unsigned;
    if is_old {
        segment.sync()?;
        unsigned = 0;
    } else if !fits {
        segment.finish(&keys.signing)?;
    }
    let id = SegmentId { record, number: header.number + 1 };
    Ok(Last {
        next: (id, segment.chain),
        segment: (fits && !is_old).then_some(segment),
        torn: scanned.torn,
        unsigned,
        signer: scanned.last.map(|last| last.by),
    })
}

#[cfg(test)]
mod prune_tests;
#[cfg(test)]
mod search_tests;
#[cfg(test)]
mod tests;
