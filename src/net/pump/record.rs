//! A statement's two records, its timings and its counts; and when its record is durable enough to go on.

use super::idle::left_by;
use super::waits::until_ended;
use super::{Pump, Stop};
use crate::audit::{Permit, Ticket};
use crate::clock::Now;
use crate::codec::Command;
use crate::fault::Fault;
use crate::net::decide::{Decision, Shape};
use crate::net::worker::Worker;
use crate::record::{Completion, Event, Intent, MAX_RELEASED, Released};
use crate::run::{self, Names};
use crate::session::{Outcome, StatementKind};
use crate::sql::{Digest, Leaves, Trace, Verb};

/// Refused commands that one session has recorded in a minute: each is cheap to send, and says no more than the first.
const MAX_REFUSED: u8 = 10;
const REFUSED_PERIOD_S: u32 = 60;

/// The statement under way.
#[derive(Default)]
pub(super) struct Current {
    /// Counts the session's statements, from 1.
    number: u64,
    /// Room for its two records; held from admission to completion.
    permit: Option<Permit>,
    /// Its intent is recorded, its completion is owed.
    open: bool,
    /// The intent's ticket, while a read's rows may not be released before it is durable.
    pub(super) gate: Option<Ticket>,
    /// Changes definitions: the schema is looked at again when it has succeeded.
    defines: bool,
    /// The text of a SET, to be remembered if it succeeds.
    pub(super) set: Option<Box<[u8]>>,
    /// Takes a lock that outlives it: nobody may wait for people with it.
    locks: bool,
    /// Bytes of its answer that may still be recorded; 0: nothing of it is.
    recordable: u32,
    /// What it sees and leaves on its connection.
    pub(super) trace: Trace,
    /// What of it the session could look for later.
    pub(super) leaves: Leaves,
    /// It was prepared before.
    pub(super) prepared: bool,
    /// It reads a table: if it succeeds, what tells of the last statement is its own.
    pub(super) reads: bool,
    verb: Verb,
    verdict: &'static str,
    arrived_ns: u64,
    decided_ns: u64,
    sent_ns: u64,
    first_byte_ns: u64,
    queue_ns: u64,
    hold_ns: u64,
}

impl Current {
    /// What it is, while it runs.
    pub(super) fn verb(&self) -> Option<Verb> {
        self.open.then_some(self.verb)
    }

    /// The whole command has arrived.
    pub(super) fn arrived(&mut self, now: Now) {
        self.arrived_ns = now.mono_ns;
    }

    /// It was analysed and decided.
    pub(super) fn decided(&mut self, now: Now) {
        self.decided_ns = now.mono_ns;
        self.sent_ns = now.mono_ns;
    }

    /// It waited for a connection.
    pub(super) fn queued(&mut self, asked: Now, now: Now) {
        self.queue_ns += now.mono_ns.saturating_sub(asked.mono_ns);
        self.sent_ns = now.mono_ns;
    }

    /// It waited for people.
    pub(super) fn held(&mut self, asked: Now, now: Now) {
        self.hold_ns += now.mono_ns.saturating_sub(asked.mono_ns);
        self.sent_ns = now.mono_ns;
    }

    /// The database's first byte came.
    pub(super) fn first_byte(&mut self, now: Now) {
        self.first_byte_ns = now.mono_ns;
    }

    /// Whether it came, or nobody asks.
    pub(super) fn has_first_byte(&self) -> bool {
        self.first_byte_ns != 0 || !self.open
    }

    /// Records a piece of its answer, just before the client gets it. What can't be recorded may not be released.
    pub(super) fn released(
        &mut self,
        worker: &Worker,
        (session, at_us): (u64, i64),
        capabilities: u64,
        bytes: &[u8],
    ) -> Result<(), Stop> {
        let most = self.recordable as usize;
        let (bytes, cut) = match bytes.get(..most) {
            Some(within) => (within, within.len() < bytes.len()),
            None => (bytes, false),
        };
        self.recordable -= u32::try_from(bytes.len()).unwrap_or(self.recordable);
        let statement = self.number;
        for piece in bytes.chunks(MAX_RELEASED) {
            let released = Released { session, statement, at_us, capabilities, cut, bytes: piece };
            worker.record_released(&released).map_err(|full| {
                worker.metrics().audit_refused();
                Stop::UpstreamLost(Fault::audit_withheld(&full.to_string()))
            })?;
        }
        Ok(())
    }

    /// Whether anything of its answer is still to be recorded.
    pub(super) fn records_answer(&self) -> bool {
        self.recordable > 0
    }

    fn begin(&mut self, permit: Permit) {
        *self = Self {
            number: self.number + 1,
            permit: Some(permit),
            arrived_ns: self.arrived_ns,
            ..Self::default()
        };
    }

    fn completion(&self, session: u64, outcome: &Outcome, now: Now) -> Completion {
        let us = |ns: u64| ns / 1_000;
        let since = |later: u64, earlier: u64| us(later.saturating_sub(earlier));
        Completion {
            session,
            statement: self.number,
            at_us: now.wall_us,
            rows: outcome.rows,
            bytes: outcome.bytes,
            masked_cells: outcome.masked_cells,
            error_code: outcome.error_code,
            queue_us: us(self.queue_ns),
            decide_us: since(self.decided_ns, self.arrived_ns),
            hold_us: us(self.hold_ns),
            upstream_us: if self.first_byte_ns == 0 {
                0
            } else {
                since(self.first_byte_ns, self.sent_ns)
            },
            total_us: since(now.mono_ns, self.arrived_ns),
        }
    }
}

/// Whether a statement may go on.
pub(super) enum Admission {
    Admitted,
    Refused(Fault),
}

impl Pump {
    /// Takes room for both records of a statement: what can't be recorded is not run.
    pub(super) fn reserve(&mut self) -> Result<(), Fault> {
        match self.worker.reserve() {
            Ok(permit) => {
                self.current.begin(permit);
                Ok(())
            }
            Err(full) => {
                self.worker.metrics().audit_refused();
                Err(Fault::audit(&full.to_string()))
            }
        }
    }

    /// The first record.
    pub(super) fn record_intent(
        &mut self,
        kind: StatementKind,
        decision: &Decision,
        text: Option<&str>,
    ) -> Result<(), Fault> {
        let shape = &decision.shape;
        let Some(facets) = self.session.facets() else { return Err(Fault::internal()) };
        let sent = self.session.attributes(self.client.peek()).total();
        let mut said = [("", ""); run::COUNT];
        // What its login said is in the session's record; but on whose behalf it is, in each of its own.
        let told = said.iter_mut().zip(self.said(decision, Names::ON_BEHALF_OF).pairs());
        let len = told.map(|(slot, pair)| *slot = pair).count();
        let intent = Intent {
            session: self.id,
            statement: self.current.number,
            at_us: self.now.wall_us,
            identity: &facets.principal.subject,
            target: &self.target.runtime.name,
            schema: facets.schema,
            command: command(kind),
            verb: shape.verb,
            digest: shape.digest,
            text: text.unwrap_or(&shape.digest_text),
            verdict: shape.label(),
            rules: &shape.rules,
            masked: &shape.masked,
            tables: &shape.tables,
            policy_version: &shape.policy_version,
            attribute_count: u32::try_from(sent).unwrap_or(u32::MAX),
            attributes: said.get(..len).unwrap_or_default(),
        };
        let ticket = self.worker.append(&Event::Intent(intent));
        self.current.gate = Some(ticket);
        self.current.open = true;
        self.current.prepared = kind.is_prepared();
        self.follow(kind, shape);
        self.cell.statement(self.current.number, shape.verb, &shape.digest_text);
        self.worker.metrics().statement(shape.verb, shape.label());
        Ok(())
    }

    /// Knows what runs by this decision: the first, or the one after people were asked.
    pub(super) fn follow(&mut self, kind: StatementKind, shape: &Shape) {
        let most = self.worker.shared.limits.recorded_bytes;
        let current = &mut self.current;
        current.defines = shape.defines;
        current.locks = shape.locks;
        current.recordable = if shape.records_rows && has_rows(kind) { most } else { 0 };
        current.trace = shape.trace;
        current.leaves = left_by(kind, shape.leaves);
        current.reads = !shape.tables.is_empty();
        current.verb = shape.verb;
        current.verdict = shape.label();
    }

    /// Records a command that is refused by its name, as a denied statement, unless this session has had many.
    pub(super) fn record_refused_command(&mut self, command: Command) {
        self.worker.metrics().statement(Verb::Unknown, "deny");
        let (since_s, count) = &mut self.refused;
        let now_s = u32::try_from(self.now.mono_ns / 1_000_000_000).unwrap_or(u32::MAX);
        if now_s.saturating_sub(*since_s) >= REFUSED_PERIOD_S {
            (*since_s, *count) = (now_s, 0);
        }
        *count = count.saturating_add(1);
        if *count > MAX_REFUSED || self.reserve().is_err() {
            return;
        }
        let Some(facets) = self.session.facets() else { return };
        let text = format!("{} (0x{:02x})", command.name(), command.0);
        let rules = ["command".to_owned()];
        let version = self.worker.with_snapshot(|snapshot| snapshot.version.clone());
        let intent = Intent {
            session: self.id,
            statement: self.current.number,
            at_us: self.now.wall_us,
            identity: &facets.principal.subject,
            target: &self.target.runtime.name,
            schema: facets.schema,
            command: "command",
            verb: Verb::Unknown,
            digest: Digest::default(),
            text: &text,
            verdict: "deny",
            rules: &rules,
            masked: &[],
            tables: &[],
            policy_version: &version,
            attribute_count: 0,
            attributes: &[],
        };
        self.worker.append(&Event::Intent(intent));
        self.current.open = true;
        self.current.decided(self.now);
        self.complete(&Outcome { error_code: 1047, ..Outcome::default() });
    }

    /// Whether a statement may not go on before its intent is on the disk: with sync durability, and a write. (A read's
    /// rows wait in [`Self::may_release`].)
    pub(super) fn waits_for_disk(&mut self, verb: Verb) -> bool {
        let durable = self.worker.shared.limits.durable_records;
        if !durable {
            self.current.gate = None;
        }
        durable && verb.writes()
    }

    /// A write's wait for its intent.
    pub(super) async fn make_durable(&mut self, verb: Verb) -> Result<Admission, Stop> {
        if !self.waits_for_disk(verb) {
            return Ok(Admission::Admitted);
        }
        let Some(ticket) = self.current.gate.take() else { return Ok(Admission::Admitted) };
        let durable = self.worker.durable(ticket);
        Ok(match self.while_client_lives(durable).await? {
            Ok(()) => Admission::Admitted,
            Err(fault) => Admission::Refused(Fault::audit(&fault.to_string())),
        })
    }

    /// Nothing of a response goes out before its intent is durable.
    pub(super) async fn may_release(&mut self) -> Result<(), Stop> {
        let Some(ticket) = self.current.gate.take() else { return Ok(()) };
        let durable = self.worker.durable(ticket);
        match until_ended(&self.control, durable).await? {
            Ok(()) => Ok(()),
            Err(fault) => Err(Stop::UpstreamLost(Fault::audit_withheld(&fault.to_string()))),
        }
    }

    /// Answers [`crate::session::Op::Done`].
    pub(super) async fn done(&mut self, outcome: Outcome) -> Result<(), Stop> {
        let defined = self.current.open && self.current.defines && outcome.error_code == 0;
        if let Some(set) = self.current.set.take().filter(|_| outcome.error_code == 0) {
            self.sets.get_or_insert_default().set(&set);
        }
        if let Some(upstream) = self.upstream.as_mut().filter(|_| self.current.reads) {
            upstream.has_read(outcome.error_code == 0);
        }
        self.remember(&outcome);
        self.complete(&outcome);
        self.control.in_time();
        if defined {
            // The session's next statement should find what this one made.
            let shared = std::sync::Arc::clone(&self.worker.shared);
            let refreshed = shared.schemas.refresh(self.target_index);
            Box::pin(self.while_client_lives(refreshed)).await?;
        }
        Ok(())
    }

    /// The second record, and the counts.
    pub(super) fn complete(&mut self, outcome: &Outcome) {
        if !std::mem::take(&mut self.current.open) {
            return;
        }
        self.now = self.worker.now();
        let completion = self.current.completion(self.id, outcome, self.now);
        self.worker.append(&Event::Completion(completion));
        // An error may come after the lock: whatever was asked for may be held.
        self.locked |= self.current.locks;
        self.current.permit = None;
        self.current.gate = None;
        // The next of several statements has been here all the time; its own begins now.
        self.current.arrived(self.now);
        self.worker.metrics().completed(&completion, outcome.fault);
    }

    /// The session has ended.
    pub(super) fn closed(&mut self, reason: &'static str, lost: bool) {
        let error_code = if lost { 0 } else { 1158 };
        self.complete(&Outcome { error_code, ..self.session.released() });
        if std::mem::take(&mut self.recorded_open) {
            let at_us = self.worker.now().wall_us;
            let closed = Event::SessionClosed { session: self.id, at_us, reason };
            let _ = self.worker.record(&closed);
        }
        tracing::debug!(session = self.id, reason, "closed");
    }
}

/// Whether its answer can be rows: a PREPARE's tells of them only, and its EXECUTE's tells it again.
fn has_rows(kind: StatementKind) -> bool {
    use StatementKind::{BulkExecute, Execute, Fetch, Query};
    matches!(kind, Query | Execute | BulkExecute | Fetch)
}

fn command(kind: StatementKind) -> &'static str {
    match kind {
        StatementKind::Query => "query",
        StatementKind::InitDb => "init_db",
        StatementKind::Prepare => "prepare",
        StatementKind::Execute => "execute",
        StatementKind::BulkExecute => "bulk_execute",
        StatementKind::Fetch => "fetch",
        StatementKind::Statistics => "statistics",
        StatementKind::Command(_) => "command",
    }
}
