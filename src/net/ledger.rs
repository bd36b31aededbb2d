//! A worker's way to the record, the counters, the snapshot and the decisions: all of it without shared counters.
//!
//! Records are encoded into a batch of this worker's own and handed over once a turn, by a task that runs behind
//! whatever else is ready: no lock and no wake-up for each statement.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::decide::{Decision, Query};
use super::worker::Worker;
use crate::audit::{AuditFull, Durable, Permit, Ticket, Writer};
use crate::metrics::CoreCells;
use crate::policy::Snapshot;
use crate::record::{Event, Released};

/// A worker's writer, and the wish to have its batch handed over.
pub(super) struct Ledger {
    writer: RefCell<Writer>,
    wanted: Cell<bool>,
    flusher: RefCell<Option<Waker>>,
}

impl Ledger {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer: RefCell::new(writer), wanted: Cell::new(false), flusher: RefCell::default() }
    }

    /// Hands the batch over at the end of each turn in which there is one.
    pub(super) async fn flush_each_turn(worker: Rc<Worker>) {
        loop {
            let ledger = &worker.ledger;
            std::future::poll_fn(|cx| {
                if ledger.wanted.take() {
                    return Poll::Ready(());
                }
                let mut flusher = ledger.flusher.borrow_mut();
                if flusher.is_none() {
                    *flusher = Some(cx.waker().clone());
                }
                Poll::Pending
            })
            .await;
            ledger.flush();
        }
    }

    /// Hands the batch over now.
    pub(super) fn flush(&self) {
        self.writer.borrow_mut().flush();
    }

    fn append(&self, event: &Event<'_>) -> Ticket {
        let ticket = self.writer.borrow_mut().append(event);
        let flusher = self.flusher.borrow();
        if let Some(flusher) = flusher.as_ref().filter(|_| !self.wanted.replace(true)) {
            flusher.wake_by_ref();
        }
        ticket
    }
}

impl Worker {
    /// Room for both records of a statement.
    pub(super) fn reserve(&self) -> Result<Permit, AuditFull> {
        self.ledger.writer.borrow().reserve()
    }

    /// Records something that has its room.
    pub(super) fn append(&self, event: &Event<'_>) -> Ticket {
        self.ledger.append(event)
    }

    /// Records something that needs room of its own.
    pub(super) fn record(&self, event: &Event<'_>) -> Result<(), AuditFull> {
        let _room = self.reserve()?;
        self.ledger.append(event);
        Ok(())
    }

    /// Records what a statement answers, in the room that the record has beside what statements have reserved.
    pub(super) fn record_released(&self, released: &Released<'_>) -> Result<(), AuditFull> {
        self.ledger.writer.borrow().has_room(released.bytes.len())?;
        self.ledger.append(&Event::Released(*released));
        Ok(())
    }

    /// Waits until a record is durable.
    pub(super) fn durable(&self, ticket: Ticket) -> Durable {
        self.ledger.writer.borrow_mut().durable(ticket)
    }

    /// This worker's counters.
    pub(super) fn metrics(&self) -> &CoreCells {
        // one cell for each worker, and at least one, by construction
        let cores = &self.shared.cores;
        &cores[self.index.min(cores.len().saturating_sub(1))]
    }

    /// Looks at the live snapshot.
    pub(super) fn with_snapshot<T>(&self, look: impl FnOnce(&Snapshot) -> T) -> T {
        look(self.snapshot.borrow_mut().load())
    }

    /// Decides one statement under the live snapshot.
    pub(super) fn decide(&self, query: &Query<'_>) -> Decision {
        let mut snapshot = self.snapshot.borrow_mut();
        self.decider.borrow_mut().decide(snapshot.load(), query)
    }
}
