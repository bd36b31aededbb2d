//! One worker's counters: written by that worker alone, read by the scrape. A plain store after a plain load, on
//! memory that no other core writes, costs a nanosecond; a shared atomic would cost a cache line's journey.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::fault::FaultKind;
use crate::record::Completion;
use crate::sql::Verb;

/// Upper bounds of the latency histograms, in microseconds. 1 µs to 10 s in steps of 1, 2.5 and 5.
pub(super) const BOUNDS_US: [u64; 21] = [
    1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000,
    250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
];

/// How a login ended.
pub(super) const LOGIN_RESULTS: [&str; 17] = [
    "ok",
    "unknown",
    "proof",
    "expired",
    "revoked",
    // A gateway token that is not good here, or not from there.
    "scope",
    // Of an issuer's token: no key of its, another's name, claims that don't say who.
    "key",
    "name",
    "claims",
    "limit",
    "tls",
    "proxy",
    // What ends before there is a proof: too slow, malformed or too long, in a character set that is refused, one of too
    // many from its address, one of too many sessions.
    "timeout",
    "malformed",
    "charset",
    "unfinished",
    "sessions",
];

/// Whose failures say how late a failed login is answered.
pub(super) const LOGIN_DELAYS: [&str; 2] = ["address", "name"];

/// How a statement was decided.
pub(super) const VERDICTS: [&str; 4] = crate::policy::Effect::LABELS;

/// A counter with one writer.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram with one writer.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) buckets: [Cell; BOUNDS_US.len() + 1],
    pub(super) sum_us: Cell,
}

impl Times {
    fn observe(&self, us: u64) {
        let at = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.add(1);
        }
        self.sum_us.add(us);
    }
}

/// One worker's counters, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CoreCells {
    pub(super) statements: [[Cell; VERDICTS.len()]; Verb::ALL.len()],
    pub(super) faults: [Cell; FaultKind::ALL.len()],
    pub(super) logins: [Cell; LOGIN_RESULTS.len()],
    pub(super) login_delays: [Cell; LOGIN_DELAYS.len()],
    pub(super) audit_refused: Cell,
    pub(super) rows: Cell,
    pub(super) bytes: Cell,
    pub(super) masked_cells: Cell,
    pub(super) upstream_errors: Cell,
    pub(super) given_back: Cell,
    /// The gateway's own time.
    pub(super) gateway: Times,
    /// The database's.
    pub(super) upstream: Times,
    /// The approvers'.
    pub(super) hold: Times,
}

impl CoreCells {
    /// A login succeeded.
    pub fn login_ok(&self) {
        self.login_refused("ok");
    }

    /// A login was refused, for one of the reasons of the closed list.
    pub fn login_refused(&self, reason: &str) {
        let at = LOGIN_RESULTS.iter().position(|known| *known == reason);
        if let Some(cell) = at.and_then(|at| self.logins.get(at)) {
            cell.add(1);
        }
    }

    /// A failed login is answered late, as one of the closed list says.
    pub fn login_delayed(&self, by: &str) {
        let at = LOGIN_DELAYS.iter().position(|known| *known == by);
        if let Some(cell) = at.and_then(|at| self.login_delays.get(at)) {
            cell.add(1);
        }
    }

    /// A statement was refused because its record had no room.
    pub fn audit_refused(&self) {
        self.audit_refused.add(1);
    }

    /// An idle session gave its connection back.
    pub fn gave_back(&self) {
        self.given_back.add(1);
    }

    /// A statement was decided.
    pub fn statement(&self, verb: Verb, verdict: &str) {
        let row = Verb::ALL.iter().position(|known| *known == verb);
        let column = VERDICTS.iter().position(|known| *known == verdict);
        if let (Some(row), Some(column)) = (row, column)
            && let Some(cell) = self.statements.get(row).and_then(|row| row.get(column))
        {
            cell.add(1);
        }
    }

    /// An error of the gateway's own went to a client.
    pub fn fault(&self, kind: FaultKind) {
        let at = FaultKind::ALL.iter().position(|known| *known == kind);
        if let Some(cell) = at.and_then(|at| self.faults.get(at)) {
            cell.add(1);
        }
    }

    /// A statement ended.
    pub fn completed(&self, completion: &Completion, fault: Option<FaultKind>) {
        self.rows.add(completion.rows);
        self.bytes.add(completion.bytes);
        self.masked_cells.add(completion.masked_cells);
        match fault {
            Some(kind) => self.fault(kind),
            None if completion.error_code != 0 => self.upstream_errors.add(1),
            None => {}
        }
        // Deciding is the gateway's own time that a statement waits for before the database can start; the rest of the
        // total is the database's, the approver's, and the client's.
        self.gateway.observe(completion.decide_us + completion.queue_us);
        if completion.upstream_us > 0 {
            self.upstream.observe(completion.upstream_us);
        }
        if completion.hold_us > 0 {
            self.hold.observe(completion.hold_us);
        }
    }
}
