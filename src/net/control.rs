//! By which a worker's main task reaches one session: why it must end, by when, and what it got in with.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::Waker;

use super::pool::Pool;
use super::worker::Worker;
use crate::identity::{Pass, PassEnd};
use crate::policy::Snapshot;

/// Why a session is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By an administrator.
    Kill,
    /// By a KILL of its own identity: at once when idle, otherwise after the statement, which the database ends.
    Killed,
    /// Its token or its identity was revoked: at once, whatever runs.
    Revoked,
    /// What it got in with has ended: at once when idle, otherwise after the statement.
    Expired,
    /// What it got in with is no longer configured: at once when idle, otherwise after the statement.
    Withdrawn,
    /// Its target was removed: at once when idle, otherwise after the statement.
    Removed,
    /// Its login took too long.
    LoginTimeout,
    /// Its client has said nothing for too long.
    IdleTimeout,
    /// Its statement took too long.
    StatementTimeout,
    /// Its client takes nothing.
    WriteTimeout,
    /// The gateway drains: at once when idle, otherwise after the statement.
    Drain,
    /// The drain's deadline has passed.
    Deadline,
}

impl End {
    /// Whether a running statement is let finish.
    pub(super) fn waits(self) -> bool {
        matches!(self, Self::Drain | Self::Killed | Self::Expired | Self::Withdrawn | Self::Removed)
    }
}

/// By which a worker's main task reaches one session.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) end: Cell<Option<End>>,
    pub(super) waker: RefCell<Option<Waker>>,
    deadline: Cell<Deadline>,
    /// When a write that waits for its client must be over; 0: none waits.
    write_deadline_ns: Cell<u64>,
    /// From when on the connection of the idle session may go back to the pool; 0: it may not.
    give_back_from_ns: Cell<u64>,
    /// It is asked for.
    asked_back: Cell<bool>,
    /// What the login rests on; the snapshot in which that was last looked up.
    pass: RefCell<Option<(Arc<Pass>, u64)>>,
}

/// By when what a session does must be over: there is one at a time, since it does one thing at a time.
#[derive(Clone, Copy, Debug, Default)]
enum Deadline {
    /// It may last.
    #[default]
    None,
    At(u64, End),
    /// It has passed.
    Passed(End),
}

impl Control {
    /// Asks the session to end. A stronger reason replaces a weaker one.
    pub(super) fn end(&self, why: End) {
        if self.end.get().is_none_or(End::waits) {
            self.end.set(Some(why));
        }
        self.wake();
    }

    /// Why to end, if it must; asked by the session whenever it waits.
    pub(super) fn ended(&self) -> Option<End> {
        self.end.get().or_else(|| self.overdue())
    }

    /// Why to end in the middle of a statement.
    pub(super) fn ended_hard(&self) -> Option<End> {
        self.end.get().filter(|why| !why.waits()).or_else(|| self.overdue())
    }

    fn overdue(&self) -> Option<End> {
        if let Deadline::Passed(why) = self.deadline.get() { Some(why) } else { None }
    }

    /// Its login has succeeded, by this snapshot.
    pub(super) fn admitted(&self, pass: Arc<Pass>, serial: u64) {
        *self.pass.borrow_mut() = Some((pass, serial));
    }

    /// Whether what the login rests on still counts: looked up once for each snapshot.
    pub(super) fn still_admitted(&self, snapshot: &Snapshot) -> Result<(), PassEnd> {
        let mut pass = self.pass.borrow_mut();
        let (pass, seen) = pass.as_mut().ok_or(PassEnd::Revoked)?;
        if *seen != snapshot.serial {
            (*pass, *seen) = (snapshot.directory.renewed(pass)?, snapshot.serial);
        }
        Ok(())
    }

    /// Whether the time of what the login rests on is over.
    pub(super) fn has_expired(&self, now_us: i64) -> bool {
        self.pass.borrow().as_ref().is_none_or(|(pass, _)| pass.has_expired(now_us))
    }

    /// Ends the session where the time of what it got in with is over.
    pub(super) fn end_expired(&self, now_us: i64) {
        let is_over = |(pass, _): &(Arc<Pass>, u64)| pass.has_expired(now_us);
        if self.end.get().is_none() && self.pass.borrow().as_ref().is_some_and(is_over) {
            self.end(End::Expired);
        }
    }

    /// Ends the session where what it got in with counts no more.
    pub(super) fn look_up(&self, snapshot: &Snapshot) {
        let is_logged_in = self.pass.borrow().is_some();
        if is_logged_in && let Err(end) = self.still_admitted(snapshot) {
            self.end(match end {
                PassEnd::Revoked => End::Revoked,
                PassEnd::Withdrawn => End::Withdrawn,
            });
        }
    }

    /// What begins now must be over by then, or the session ends for this reason.
    pub(super) fn must_end_by(&self, at_ns: u64, why: End) {
        self.deadline.set(Deadline::At(at_ns, why));
    }

    /// It is over in time, or was so by the time that anybody looked.
    pub(super) fn in_time(&self) {
        self.deadline.set(Deadline::None);
        self.give_back_from_ns.set(0);
    }

    /// From when on its connection may go back to the pool, while it is idle; 0: it may not.
    pub(super) fn may_give_back_from(&self, at_ns: u64) {
        self.give_back_from_ns.set(at_ns);
        self.asked_back.set(false);
    }

    /// Whether it was asked for since this was last looked at.
    pub(super) fn is_asked_back(&self) -> bool {
        self.asked_back.take()
    }

    /// Asks for the connection of a session that may do without.
    pub(super) fn ask_back(&self, now_ns: u64, pool: Option<&Pool>, worker: &Worker) {
        let from_ns = self.give_back_from_ns.get();
        let may = from_ns != 0;
        if may && pool.is_some_and(|pool| pool.asks_back(worker, now_ns >= from_ns)) {
            self.asked_back.set(true);
            self.wake();
        }
    }

    /// A write waits for its client from now on, or no longer.
    pub(super) fn must_write_by(&self, at_ns: u64) {
        self.write_deadline_ns.set(at_ns);
    }

    /// Looks at the clock for the session.
    pub(super) fn tick(&self, now_ns: u64) {
        let write_deadline_ns = self.write_deadline_ns.get();
        if write_deadline_ns != 0 && now_ns >= write_deadline_ns {
            self.end(End::WriteTimeout);
        }
        if let Deadline::At(at_ns, why) = self.deadline.get()
            && now_ns >= at_ns
        {
            self.deadline.set(Deadline::Passed(why));
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}
