//! The record on disk: workers append to bounded queues of their own; one thread chains, writes and syncs.
//!
//! A worker pays for encoding and a copy, never for the disk. What can't be recorded is refused at admission; a disk
//! that fails is told to everyone who waits, and taken up again by itself once it works.

pub mod read;
pub mod replay;
mod segment;
mod thread;
mod writer;

pub use segment::SegmentError;
pub use writer::{AuditFault, AuditFull, Durable, Permit, Ticket, Writer};

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::clock::now_us;
use crate::config;
use crate::record::Event;
use segment::{Segment, scan};
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
    pub fn open(settings: &config::Audit, writers: usize) -> Result<Self, AuditError> {
        let dir = settings.dir.as_path();
        let folder = |error| AuditError::Folder(dir.to_path_buf(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(folder)?;
        let lock = lock(dir)?;
        let (segment, torn) = last_segment(dir)?;
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
            segment,
            segment_bytes: settings.segment_bytes,
            _lock: lock,
        };
        let thread = thread::start(Arc::clone(&shared), place).map_err(folder)?;
        let audit = Self { shared, thread };
        if torn > 0 {
            tracing::warn!(
                bytes = torn,
                "the record's last segment had a torn tail, which was cut"
            );
            let mut writer = audit.writer(writers.saturating_sub(1));
            writer.append(&Event::Admin {
                at_us: now_us(),
                by: "rowgate",
                action: "cut a torn tail of the record",
                subject: "audit",
            });
            writer.flush();
        }
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

/// The segment to go on with, and how many torn bytes were cut from it.
fn last_segment(dir: &Path) -> Result<(Option<Segment>, u64), AuditError> {
    let folder = |error| AuditError::Folder(dir.to_path_buf(), error);
    let mut torn = 0;
    let mut paths = segment::list(dir).map_err(folder)?;
    while let Some(last) = paths.pop() {
        match scan(&last, |_, _| {}) {
            Ok(scanned) => {
                let segment = Segment::reopen(dir, &scanned).map_err(folder)?;
                return Ok((Some(segment), torn + scanned.torn));
            }
            // The crash came while it was made: it holds nothing yet.
            Err(SegmentError::Short(bytes)) if torn == 0 => {
                torn = bytes.max(1);
                std::fs::remove_file(&last).map_err(folder)?;
            }
            Err(error) => return Err(AuditError::Segment(last, error)),
        }
    }
    Ok((None, torn))
}

#[cfg(test)]
mod tests;
