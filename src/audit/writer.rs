//! A worker's side of the record: encode into a batch of its own, hand the batch over once a turn.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::Thread;

use super::Shared;
use crate::record::{self, Event};

/// What a statement's two records take at the most in the usual case: admission counts with it.
const RESERVED: usize = 4 << 10;

/// There is no room for a statement's records, or the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditFull {
    /// The queue is full.
    #[error("the record's queue is full")]
    Queue,
    /// The disk fails.
    #[error("the record can't be written")]
    Failed,
}

/// A record could not be made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record can't be written")]
pub struct AuditFault;

/// Names a record of one writer: everything up to it is durable, or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Room for both records of one statement, given back when dropped.
#[derive(Debug)]
pub struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What has been handed over by one writer and waits for the disk.
#[derive(Default)]
pub(super) struct Queue {
    batch: Mutex<Handed>,
    bytes: AtomicUsize,
    /// The last record that is durable (written, where durability is not asked for).
    durable: AtomicU64,
}

#[derive(Default)]
pub(super) struct Handed {
    /// Records, each led by its length as 32 bits.
    pub(super) records: Vec<u8>,
    /// The last of them.
    pub(super) last: u64,
    wakers: Vec<(u64, Waker)>,
    /// Grows when the disk fails: who waits then is told so.
    failures: u64,
}

impl Queue {
    pub(super) fn queued_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed) as u64
    }

    /// Takes what was handed over: `spare` is swapped in for it.
    pub(super) fn take(&self, spare: &mut Vec<u8>) -> u64 {
        let mut handed = self.lock();
        std::mem::swap(&mut handed.records, spare);
        handed.last
    }

    /// So many bytes lie in the file now.
    pub(super) fn written(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Records up to `last` are durable: wakes who waited for them.
    pub(super) fn settle(&self, last: u64) {
        self.durable.store(last, Ordering::Release);
        let mut handed = self.lock();
        handed.wakers.retain(|(ticket, waker)| {
            let waits = *ticket > last;
            if !waits {
                waker.wake_by_ref();
            }
            waits
        });
    }

    /// The disk failed: whoever waits is told.
    pub(super) fn fail(&self) {
        let mut handed = self.lock();
        handed.failures += 1;
        handed.wakers.drain(..).for_each(|(_, waker)| waker.wake());
    }

    fn lock(&self) -> MutexGuard<'_, Handed> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One writer. It belongs to one thread.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Thread,
    queue: usize,
    batch: Vec<u8>,
    sequence: u64,
    outstanding: Arc<AtomicUsize>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, thread: Thread, queue: usize) -> Self {
        let queue = queue.min(shared.queues.len().saturating_sub(1));
        let sequence = shared.queues.get(queue).map_or(0, |q| q.lock().last);
        let outstanding = Arc::new(AtomicUsize::new(0));
        Self { shared, thread, queue, batch: Vec::new(), sequence, outstanding }
    }

    /// Takes room for a statement's two records; refuses where there is none.
    pub fn reserve(&self) -> Result<Permit, AuditFull> {
        self.has_room(RESERVED)?;
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        Ok(Permit(Arc::clone(&self.outstanding)))
    }

    /// Whether there is room for so many bytes beside what is reserved.
    pub fn has_room(&self, bytes: usize) -> Result<(), AuditFull> {
        if self.shared.failed.load(Ordering::Acquire) {
            return Err(AuditFull::Failed);
        }
        let queued = self.queue().bytes.load(Ordering::Relaxed) + self.batch.len();
        let reserved = self.outstanding.load(Ordering::Relaxed) * RESERVED;
        if queued + reserved + bytes > self.shared.queue_bytes {
            return Err(AuditFull::Queue);
        }
        Ok(())
    }

    /// Encodes a record into this turn's batch.
    pub fn append(&mut self, event: &Event<'_>) -> Ticket {
        self.sequence += 1;
        let start = self.batch.len();
        self.batch.extend_from_slice(&[0; 4]);
        let core = u16::try_from(self.queue).unwrap_or(u16::MAX);
        record::encode(core, self.sequence, event, &mut self.batch);
        let len = u32::try_from(self.batch.len() - start - 4).unwrap_or(0);
        if let Some(head) = self.batch.get_mut(start..start + 4) {
            head.copy_from_slice(&len.to_le_bytes());
        }
        Ticket(self.sequence)
    }

    /// Hands the batch over: once a turn. A system call only where the queue is a quarter full.
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let queue = self.queue();
        let mut handed = queue.lock();
        queue.bytes.fetch_add(self.batch.len(), Ordering::Relaxed);
        handed.records.extend_from_slice(&self.batch);
        handed.last = self.sequence;
        let fills = handed.records.len() > self.shared.queue_bytes / 4;
        drop(handed);
        self.batch.clear();
        if fills {
            self.thread.unpark();
        }
    }

    /// Waits until a record is durable (written, where durability is not asked for). Hands the batch over first.
    pub fn durable(&mut self, ticket: Ticket) -> Durable {
        self.flush();
        let failures = self.queue().lock().failures;
        self.thread.unpark();
        Durable { shared: Arc::clone(&self.shared), queue: self.queue, ticket, failures }
    }

    /// Records an event of the control plane: `Err` where nothing can be recorded.
    pub fn record(&mut self, event: &Event<'_>) -> Result<(), AuditFull> {
        let permit = self.reserve()?;
        self.append(event);
        self.flush();
        drop(permit);
        Ok(())
    }

    fn queue(&self) -> &Queue {
        // `new` keeps the index within bounds, and there is at least one queue.
        &self.shared.queues[self.queue]
    }
}

/// A wait for the disk.
pub struct Durable {
    shared: Arc<Shared>,
    queue: usize,
    ticket: Ticket,
    failures: u64,
}

impl Future for Durable {
    type Output = Result<(), AuditFault>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let queue = &self.shared.queues[self.queue];
        let mut handed = queue.lock();
        if queue.durable.load(Ordering::Acquire) >= self.ticket.0 {
            return Poll::Ready(Ok(()));
        }
        if handed.failures != self.failures || self.shared.failed.load(Ordering::Acquire) {
            return Poll::Ready(Err(AuditFault));
        }
        handed.wakers.push((self.ticket.0, cx.waker().clone()));
        Poll::Pending
    }
}
