//! The session itself: its state between calls, and who answers for which phase.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::batch::Batch;
use super::binding::Binding;
use super::definitions::Definitions;
use super::handshake::Handshaking;
use super::overlong::Overlong;
use super::response::{At, Response};
use super::room::Taken;
use super::{
    Facets, Op, Outcome, Ruling, Settings, Side, Statement, StatementKind, Step, UpstreamKey,
    UpstreamReady,
};
use crate::clock::Now;
use crate::codec::{Capabilities, Compression, OkPacket, Status, write_err, write_frame, write_ok};
use crate::fault::{Fault, FaultKind};
use crate::identity::Principal;
use crate::schema::SqlMode;

/// One client's connection.
pub struct Session {
    pub(super) settings: Settings,
    pub(super) phase: Phase,
    /// What is to be done before anything else is looked at, in order.
    pub(super) queue: VecDeque<Op>,
    /// Inside TLS.
    pub(super) tls: bool,
    /// What client and gateway agreed on.
    pub(super) capabilities: Capabilities,
    /// What was agreed on, until it begins.
    pub(super) compression: Option<Compression>,
    /// The client's collation.
    pub(super) collation: u16,
    pub(super) principal: Option<Arc<Principal>>,
    pub(super) schema: Option<String>,
    pub(super) sql_mode: SqlMode,
    pub(super) status: Status,
    /// A database connection is bound.
    pub(super) bound: bool,
    /// The sequence id of the gateway's own answer: it follows the command's last packet.
    pub(super) reply_seq: u8,
    pub(super) statements: BTreeMap<u32, Prepared>,
    /// What MariaDB's id -1 stands for: the last statement prepared, unless that failed.
    pub(super) last_prepared: Option<u32>,
    /// The statements of the command under way, where they are several.
    pub(super) batch: Option<Box<Batch>>,
    /// Room for the next response.
    spare: Option<Spare>,
    /// What the command under way takes of the worker's room for long packets.
    pub(super) collected: Option<Taken>,
}

/// Room for one response: what a statement needs and a session that waits does not. It says nothing of what it held.
pub struct Spare(Box<Response>);

/// Where the session is.
pub(super) enum Phase {
    /// Before the login is complete (or again, in COM_CHANGE_USER).
    Handshake(Handshaking),
    /// Waits for a command.
    Idle,
    /// One of several statements waits for what would be ruled on it, or has been told.
    Checking,
    /// A command goes by that is not collected.
    Overlong(Box<Overlong>),
    /// Between two of several statements.
    Between,
    /// A statement waits for its ruling.
    Deciding(Pending),
    /// It has one, and waits to be sent.
    Ruled(Pending, Ruling),
    /// It waits for a database connection.
    Connecting(Pending, Ruling),
    /// A KILL is carried out, or has been.
    Killing(Option<Result<(), Fault>>),
    /// The database answers.
    Response(Box<Response>),
    /// Over.
    Closed,
}

impl Phase {
    /// A statement is under way, and nothing of it was sent to the database.
    fn is_before_response(&self) -> bool {
        matches!(
            self,
            Self::Checking
                | Self::Between
                | Self::Deciding(_)
                | Self::Killing(_)
                | Self::Ruled(..)
                | Self::Connecting(..)
        )
    }
}

/// A command that waits: its bytes are still at the front of the client's buffer.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) kind: StatementKind,
    /// Bytes of the whole command; 0 for the login's own choice of a database.
    pub(super) total: usize,
    /// Bytes of query attributes in front of its text, there.
    pub(super) prefix: usize,
    /// The prepared statement's id, for EXECUTE and FETCH.
    pub(super) statement_id: u32,
    /// The text, where it is kept (PREPARE keeps it for later).
    pub(super) text: Option<Arc<[u8]>>,
    /// The login waits for this: answer as a login does, with this sequence id.
    pub(super) login_seq: Option<u8>,
}

impl Pending {
    pub(super) fn new(kind: StatementKind, total: usize, text: Option<Arc<[u8]>>) -> Self {
        Self { kind, total, prefix: 0, statement_id: 0, text, login_seq: None }
    }
}

/// A prepared statement.
pub(super) struct Prepared {
    pub(super) text: Arc<[u8]>,
    /// The database and the `sql_mode` of its PREPARE: by them the server reads its names, whatever came since.
    pub(super) schema: Option<String>,
    pub(super) sql_mode: SqlMode,
    /// How many parameters it has.
    pub(super) parameters: u16,
    /// The parameters' types as the last EXECUTE gave them: one that brings none has these.
    pub(super) types: Option<Box<[u8]>>,
    /// Bytes of SEND_LONG_DATA since the last EXECUTE.
    pub(super) long_data: usize,
    /// Of its columns, where the database may leave them out; `None` elsewhere, and where they are too long.
    pub(super) definitions: Option<Definitions>,
    /// What its open cursor's rows are masked by.
    pub(super) cursor: Option<Arc<Binding>>,
    /// An EXECUTE opened a cursor.
    pub(super) cursor_open: bool,
    /// What the attributes of an EXECUTE that asked for a cursor said of its run.
    pub(super) said: Option<Box<crate::run::Kept>>,
}

impl Session {
    /// A fresh connection: the greeting comes first.
    pub fn new(settings: Settings, _now: Now) -> Self {
        Self {
            sql_mode: settings.profile.sql_mode,
            settings,
            phase: Phase::Handshake(Handshaking::Greeting),
            // Few sessions ever queue more, and every one keeps its room.
            queue: VecDeque::with_capacity(2),
            tls: false,
            capabilities: Capabilities::default(),
            compression: None,
            collation: 0,
            principal: None,
            schema: None,
            status: Status(Status::AUTOCOMMIT),
            bound: false,
            reply_seq: 1,
            statements: BTreeMap::new(),
            last_prepared: None,
            batch: None,
            spare: None,
            collected: None,
        }
    }

    /// Looks at the bytes that one side sent and says what to do; see [`Step`]. `out` is for [`Op::Emit`].
    pub fn on_bytes(&mut self, side: Side, bytes: &mut [u8], out: &mut Vec<u8>, _now: Now) -> Step {
        if let Some(op) = self.queue.pop_front() {
            return Step { consumed: 0, op };
        }
        match (std::mem::replace(&mut self.phase, Phase::Closed), side) {
            (Phase::Handshake(state), Side::Client) => self.on_handshake(state, bytes, out),
            (Phase::Idle, Side::Client) => {
                self.phase = Phase::Idle;
                self.on_command(bytes, out)
            }
            (Phase::Overlong(overlong), Side::Client) => self.goes_by(overlong, bytes, out),
            (Phase::Checking, _) => self.check_next(),
            (Phase::Killing(answer), _) => self.killed(answer, out),
            (Phase::Between, Side::Server) if !bytes.is_empty() => {
                self.fail(&out_of_turn(), self.reply_seq, out)
            }
            (Phase::Between, _) => self.run_next(),
            (Phase::Ruled(pending, ruling), side)
                if side == Side::Client || self.batch.is_some() =>
            {
                self.on_ruled(pending, ruling, bytes, out)
            }
            (Phase::Response(response), Side::Server) => self.on_response(response, bytes, out),
            (Phase::Response(mut response), Side::Client) => {
                let step = match response.at {
                    At::LocalFile => response.file(bytes),
                    _ => wait(Side::Server, 1),
                };
                self.phase = Phase::Response(response);
                step
            }
            (phase @ (Phase::Idle | Phase::Overlong(_) | Phase::Handshake(_)), Side::Server) => {
                self.phase = phase;
                self.fail(&out_of_turn(), 0, out)
            }
            (phase @ (Phase::Deciding(_) | Phase::Connecting(..) | Phase::Ruled(..)), _) => {
                self.phase = phase;
                self.fail(&Fault::internal(), self.reply_seq, out)
            }
            (Phase::Closed, _) => Step { consumed: 0, op: Op::Close(None) },
        }
    }

    /// Lends the room that the next statement needs: else the session asks the allocator for it.
    pub fn lend(&mut self, spare: Spare) {
        self.spare = Some(spare);
    }

    /// Takes that room back, for another session, while no statement is under way.
    pub fn take_spare(&mut self) -> Option<Spare> {
        self.collected = None;
        self.spare.take()
    }

    pub(super) fn room_for(&mut self, response: Response) -> Box<Response> {
        let Some(Spare(mut room)) = self.spare.take() else { return Box::new(response) };
        *room = response;
        room
    }

    /// Keeps the room of a response that is over, and nothing of what was in it.
    pub(super) fn keep(&mut self, mut room: Box<Response>) {
        *room = Response::plain();
        self.spare = Some(Spare(room));
    }

    /// The answer to [`Op::Authenticate`].
    pub fn on_authenticated(&mut self, answer: Result<Arc<Principal>, Fault>) {
        if let Phase::Handshake(state) = &mut self.phase {
            state.answer(answer);
        }
    }

    /// The answer to [`Op::Decide`].
    pub fn on_ruling(&mut self, ruling: Ruling) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Deciding(pending) => Phase::Ruled(pending, ruling),
            Phase::Checking => self.on_checked(ruling),
            other => other,
        };
    }

    /// The answer to [`Op::Connect`].
    pub fn on_upstream(&mut self, answer: Result<UpstreamReady, Fault>) {
        self.phase = match (std::mem::replace(&mut self.phase, Phase::Closed), answer) {
            (Phase::Connecting(pending, ruling), Ok(_)) => {
                self.bound = true;
                if let Ruling::Run { uses: Some(name), .. } = &ruling {
                    // It is there already, whatever becomes of the statement.
                    self.schema = Some(name.clone());
                }
                Phase::Ruled(pending, ruling)
            }
            (Phase::Connecting(pending, ruling), Err(fault)) => {
                Phase::Ruled(pending, Ruling::Refuse(self.with_name(fault, &ruling)))
            }
            (other, _) => other,
        };
    }

    /// A database that is not there is told by its name, which the pool has not kept.
    fn with_name(&self, fault: Fault, ruling: &Ruling) -> Fault {
        const NO_SUCH_DATABASE: u16 = 1049;
        if fault.code != NO_SUCH_DATABASE {
            return fault;
        }
        let used = match ruling {
            Ruling::Run { uses: Some(name), .. } => Some(name),
            _ => self.schema.as_ref(),
        };
        // No name is longer.
        let name: String = used.into_iter().flat_map(|name| name.chars()).take(64).collect();
        Fault::new(fault.kind, fault.code, fault.sqlstate, format!("Unknown database '{name}'"))
    }

    /// The database's connection is gone.
    pub fn on_upstream_lost(&mut self, fault: &Fault, out: &mut Vec<u8>) -> Step {
        self.bound = false;
        self.statements.clear();
        self.on_close(fault, out)
    }

    /// The driver ends the session: a drain, a kill, a deadline.
    pub fn on_close(&mut self, fault: &Fault, out: &mut Vec<u8>) -> Step {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Response(response) => self.abort(&response, fault, out),
            phase => {
                let seq = if phase.is_before_response() { self.reply_seq } else { 0 };
                self.phase = phase;
                self.fail(fault, seq, out)
            }
        }
    }

    /// What has been released of the response under way, or of the one whose end is still to be told.
    pub fn released(&self) -> Outcome {
        if let Phase::Response(response) = &self.phase {
            return response.outcome;
        }
        let told = |op: &Op| if let Op::Done(outcome) = op { Some(*outcome) } else { None };
        self.queue.iter().find_map(told).unwrap_or_default()
    }

    /// What a decision needs to know; `None` before the login.
    pub fn facets(&self) -> Option<Facets<'_>> {
        let principal = self.principal.as_ref()?;
        let in_transaction = self.status.has(Status::IN_TRANS)
            || self.status.has(Status::IN_TRANS_READONLY)
            || !self.status.has(Status::AUTOCOMMIT)
            || self.statements.values().any(|statement| statement.cursor_open);
        let prepared = self.deciding_prepared();
        let now = (self.checked_schema().or(self.schema.as_deref()), self.sql_mode);
        let (schema, sql_mode) =
            prepared.map_or(now, |kept| (kept.schema.as_deref(), kept.sql_mode));
        Some(Facets { principal, schema, sql_mode, in_transaction })
    }

    /// The prepared statement that waits for its ruling, if it is one.
    fn deciding_prepared(&self) -> Option<&Prepared> {
        match &self.phase {
            Phase::Deciding(pending) if pending.kind.is_prepared() => {
                self.statements.get(&pending.statement_id)
            }
            _ => None,
        }
    }

    /// What an upstream connection must match.
    pub fn upstream_key(&self) -> UpstreamKey {
        UpstreamKey {
            capabilities: self.capabilities.0 & Capabilities::SHAPING,
            collation: self.collation,
        }
    }

    /// The database that a fresh upstream connection must be in.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// Between statements, so that a drain may end it. (What is not collected will be none.)
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Overlong(_)) && self.queue.is_empty()
    }

    /// The login is complete.
    pub fn is_logged_in(&self) -> bool {
        self.principal.is_some()
    }

    /// The bound connection is between responses and may go back to the pool.
    pub fn upstream_is_reusable(&self) -> bool {
        self.bound && !matches!(self.phase, Phase::Response(_))
    }

    /// Emits an error and closes. A statement under way ends with it.
    pub(super) fn fail(&mut self, fault: &Fault, seq: u8, out: &mut Vec<u8>) -> Step {
        let under_way = std::mem::replace(&mut self.phase, Phase::Closed).is_before_response();
        self.queue.clear();
        self.batch = None;
        out.clear();
        emit_fault(fault, seq, out);
        if under_way {
            let (error_code, fault) = (fault.code, Some(fault.kind));
            self.queue.push_back(Op::Done(Outcome { error_code, fault, ..Outcome::default() }));
        }
        self.queue.push_back(Op::Close(Some(fault.kind)));
        Step { consumed: 0, op: Op::Emit(Side::Client) }
    }

    /// Answers a command with an error; the connection stays usable.
    pub(super) fn refuse(&mut self, fault: &Fault, consumed: usize, out: &mut Vec<u8>) -> Step {
        self.phase = Phase::Idle;
        self.batch = None;
        self.collected = None;
        emit_fault(fault, self.reply_seq, out);
        Step { consumed, op: Op::Emit(Side::Client) }
    }

    /// An OK of the gateway's own.
    pub(super) fn emit_ok(&self, seq: u8, out: &mut Vec<u8>) {
        self.emit_status(0, seq, out);
    }

    /// An OK of the gateway's own, with one more flag.
    pub(super) fn emit_status(&self, flag: u16, seq: u8, out: &mut Vec<u8>) {
        let status = Status(self.own_status().0 | flag);
        let ok = OkPacket { status, ..OkPacket::default() };
        write_frame(out, seq, |out| write_ok(out, 0, &ok));
    }

    /// Forgets all state that the database kept for this session.
    pub(super) fn forget(&mut self) {
        self.statements.clear();
        self.last_prepared = None;
        self.sql_mode = self.fresh_mode();
        self.status = Status(Status::AUTOCOMMIT);
        if self.bound {
            self.bound = false;
            self.queue.push_back(Op::Release { schema: self.schema.clone() });
        }
    }

    /// A statement waits for its ruling.
    pub(super) fn decide(&mut self, pending: Pending, text: super::Text) -> Step {
        let kind = pending.kind;
        self.phase = Phase::Deciding(pending);
        Step { consumed: 0, op: Op::Decide(Statement { kind, text }) }
    }

    fn on_ruled(
        &mut self,
        pending: Pending,
        ruling: Ruling,
        bytes: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Step {
        let (fault, close) = match ruling {
            // Its answer is not analysed, so nothing of it could be masked: whoever ruled so was wrong.
            Ruling::Run { governed: true, .. } if pending.kind.is_command() => {
                (Fault::internal(), false)
            }
            ruling @ Ruling::Run { .. } => return self.send(pending, ruling, bytes, out),
            Ruling::Refuse(fault) => (fault, pending.login_seq.is_some()),
            Ruling::RefuseAndClose(fault) => (fault, true),
        };
        let outcome = refused(&fault);
        if close {
            let mut step = self.fail(&fault, pending.login_seq.unwrap_or(self.reply_seq), out);
            self.queue.push_front(Op::Done(outcome));
            step.consumed = pending.total;
            return step;
        }
        self.queue.push_back(Op::Done(outcome));
        self.refuse(&fault, pending.total, out)
    }
}

/// The outcome of a statement that the gateway itself answered with an error.
pub(super) fn refused(fault: &Fault) -> Outcome {
    Outcome { error_code: fault.code, fault: Some(fault.kind), ..Outcome::default() }
}

/// Asks for more bytes.
pub(super) fn wait(side: Side, at_least: usize) -> Step {
    Step { consumed: 0, op: Op::Read { side, at_least } }
}

pub(super) fn emit_fault(fault: &Fault, seq: u8, out: &mut Vec<u8>) {
    write_frame(out, seq, |out| write_err(out, fault.code, fault.sqlstate, &fault.message));
}

/// The database spoke out of turn: it is shutting down, or it broke the protocol.
fn out_of_turn() -> Fault {
    Fault::upstream_lost("the database closed the session")
}

/// A fault of the client's protocol.
pub(super) fn broken(what: &'static str) -> Fault {
    Fault::protocol(what)
}

/// The database's protocol is broken.
pub(super) fn upstream_broken(what: &'static str) -> Fault {
    Fault::new(
        FaultKind::Upstream,
        1835,
        *b"HY000",
        format!("Rowgate [RG-UPSTREAM]: malformed packet from the database: {what}"),
    )
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phase = match &self.phase {
            Phase::Handshake(_) => "handshake",
            Phase::Idle => "idle",
            Phase::Checking => "checking",
            Phase::Overlong(_) => "overlong",
            Phase::Between => "between",
            Phase::Killing(_) => "killing",
            Phase::Deciding(_) => "deciding",
            Phase::Ruled(..) => "ruled",
            Phase::Connecting(..) => "connecting",
            Phase::Response(_) => "response",
            Phase::Closed => "closed",
        };
        f.debug_struct("Session").field("phase", &phase).finish_non_exhaustive()
    }
}
