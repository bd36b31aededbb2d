//! Commands: framed in the client's buffer, decided, sent. What is not named here is refused by its name.

use std::ops::Range;
use std::sync::Arc;

use super::batch::Part;
use super::machine::{Pending, Phase, broken, refused, wait};
use super::overlong::too_long;
use super::response::{Expect, Response};
use super::{Op, Ruling, Session, Side, StatementKind, Step, Text};
use crate::codec::{
    Capabilities, Command, HEADER_LEN, Header, MAX_PAYLOAD, OkPacket, write_eof, write_frame,
    write_ok,
};
use crate::fault::{Fault, FaultKind};
use crate::schema::Flavour;

/// Prepared statements of one session: the server's own default is 16,382 over all sessions, so one can't take
/// them all. Their texts are kept for EXECUTE, all together in no more bytes than one longest statement has.
const MAX_STATEMENTS: usize = 1_024;

/// MariaDB's id of the last prepared statement, so that EXECUTE can be sent before PREPARE is answered.
const LAST_PREPARED: u32 = u32::MAX;

/// COM_SET_OPTION's "multi-statements on".
const MULTI_STATEMENTS_ON: &[u8] = &[0, 0];

/// COM_SET_OPTION's "multi-statements off".
const MULTI_STATEMENTS_OFF: &[u8] = &[1, 0];

/// Commands that are no statements, which a policy may permit by their names.
const PERMISSIBLE: [Command; 7] = [
    Command::BINLOG_DUMP,
    Command::BINLOG_DUMP_GTID,
    Command::DEBUG,
    Command::PROCESS_INFO,
    Command::REFRESH,
    Command::REGISTER_SLAVE,
    Command::SHUTDOWN,
];

impl Session {
    /// A command at the front of the client's buffer, or the wish for one.
    pub(super) fn on_command(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> Step {
        let Some(header) = Header::parse(bytes) else { return wait(Side::Client, HEADER_LEN) };
        self.reply_seq = header.seq.wrapping_add(1);
        if header.seq != 0 {
            return self.fail(&broken("packets out of order"), self.reply_seq, out);
        }
        if header.continues() {
            return self.on_long_command(bytes, out);
        }
        if header.len > self.settings.max_statement_bytes {
            return self.let_go_by(too_long(), bytes, out);
        }
        if let Err(fault) = self.collect(header.total()) {
            return self.let_go_by(fault, bytes, out);
        }
        if bytes.len() < header.total() {
            return wait(Side::Client, header.total());
        }
        self.name_last(bytes);
        let payload = header.payload(bytes).unwrap_or_default();
        let Some((&command, body)) = payload.split_first() else {
            return self.fail(&broken("an empty command"), 1, out);
        };
        self.command(Command(command), header.total(), body, out)
    }

    /// A command in several packets: looked at once the last is here. It is collected, as a short one is, up to the
    /// same limit; what is analysed is one text, without the headers in between.
    fn on_long_command(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> Step {
        let (mut total, mut seq, mut payload) = (0, 0_u8, Vec::new());
        loop {
            let fragment = bytes.get(total..).unwrap_or_default();
            let Some(header) = Header::parse(fragment) else {
                return wait(Side::Client, total + HEADER_LEN);
            };
            let in_order = header.seq == seq;
            seq = header.seq.wrapping_add(1);
            self.reply_seq = seq;
            if !in_order {
                return self.fail(&broken("packets out of order"), seq, out);
            }
            total += header.total();
            if total > self.settings.max_statement_bytes {
                return self.let_go_by(too_long(), bytes, out);
            }
            if let Err(fault) = self.collect(total) {
                return self.let_go_by(fault, bytes, out);
            }
            if !header.continues() {
                break;
            }
        }
        if bytes.len() < total {
            return wait(Side::Client, total);
        }
        self.name_last(bytes);
        fragments(total, |range| payload.extend_from_slice(bytes.get(range).unwrap_or_default()));
        let Some((&command, body)) = payload.split_first() else {
            return self.fail(&broken("an empty command"), seq, out);
        };
        self.command(Command(command), total, body, out)
    }

    /// Puts the id of the last prepared statement where MariaDB's clients say "the last": the gateway's last and the
    /// database's are two, once the gateway has refused to prepare one.
    fn name_last(&self, bytes: &mut [u8]) {
        let Some((command, id)) =
            bytes.get_mut(HEADER_LEN..HEADER_LEN + 5).and_then(<[u8]>::split_first_mut)
        else {
            return;
        };
        let names_one = matches!(
            Command(*command),
            Command::STMT_EXECUTE
                | Command::MARIADB_STMT_BULK_EXECUTE
                | Command::STMT_SEND_LONG_DATA
                | Command::STMT_CLOSE
                | Command::STMT_RESET
                | Command::STMT_FETCH
        );
        if let Some(id) = id.first_chunk_mut().filter(|_| names_one) {
            *id = self.last_or(u32::from_le_bytes(*id)).to_le_bytes();
        }
    }

    /// The statement that the client names by this id.
    pub(super) fn last_or(&self, id: u32) -> u32 {
        let is_last = id == LAST_PREPARED && self.settings.profile.flavour == Flavour::MariaDb;
        self.last_prepared.filter(|_| is_last).unwrap_or(id)
    }

    fn command(&mut self, command: Command, total: usize, body: &[u8], out: &mut Vec<u8>) -> Step {
        match command {
            Command::QUERY => self.query(total, body, out),
            Command::INIT_DB => self.inline(StatementKind::InitDb, total, body, 0),
            Command::STMT_PREPARE if !self.may_keep(body.len()) => {
                self.last_prepared = None;
                self.refuse(&too_many_statements(), total, out)
            }
            Command::STMT_PREPARE => self.inline(StatementKind::Prepare, total, body, 0),
            Command::STMT_EXECUTE => self.execute(total, body, out),
            Command::MARIADB_STMT_BULK_EXECUTE if self.takes_bulk() => {
                self.bulk_execute(total, body, out)
            }
            Command::STMT_FETCH => match id_of(body) {
                Some(id) => self.prepared(StatementKind::Fetch, id, total, out),
                None => self.fail(&broken("malformed COM_STMT_FETCH"), 1, out),
            },
            Command::STMT_SEND_LONG_DATA => self.long_data(total, body),
            Command::STMT_CLOSE => match id_of(body) {
                Some(id) if self.statements.remove(&id).is_some() && self.bound => {
                    Step { consumed: total, op: Op::Forward }
                }
                _ => skip(total),
            },
            Command::STMT_RESET => self.reset_statement(total, body, out),
            Command::PROCESS_KILL => self.process_kill(total, body, out),
            Command::PING => {
                self.emit_ok(self.reply_seq, out);
                Step { consumed: total, op: Op::Emit(Side::Client) }
            }
            Command::RESET_CONNECTION => {
                self.forget();
                self.emit_ok(self.reply_seq, out);
                // What was bound goes back to the pool before the OK goes out.
                self.queue.push_back(Op::Emit(Side::Client));
                let op = self.queue.pop_front().unwrap_or(Op::Emit(Side::Client));
                Step { consumed: total, op }
            }
            Command::CHANGE_USER => self.change_user(total, body, out),
            Command::SET_OPTION if matches!(body, MULTI_STATEMENTS_ON | MULTI_STATEMENTS_OFF) => {
                self.set_option(body == MULTI_STATEMENTS_ON, total, out)
            }
            Command::QUIT => {
                self.phase = Phase::Closed;
                Step { consumed: total, op: Op::Close(None) }
            }
            Command::STATISTICS => {
                let kind = StatementKind::Statistics;
                self.decide(
                    Pending::new(kind, total, None),
                    Text::Kept(Arc::from(&b"SHOW STATUS"[..])),
                )
            }
            named if PERMISSIBLE.contains(&named) => {
                let text = Text::Kept(Arc::from(named.name().as_bytes()));
                self.decide(Pending::new(StatementKind::Command(named), total, None), text)
            }
            other => {
                let Step { consumed, op } =
                    self.refuse(&Fault::unsupported_command(other.name()), total, out);
                self.queue.push_back(op);
                Step { consumed, op: Op::Refused(other) }
            }
        }
    }

    /// Whether one more prepared statement, with a text of so many bytes, may be kept.
    fn may_keep(&self, len: usize) -> bool {
        let kept: usize = self.statements.values().map(|statement| statement.text.len()).sum();
        self.statements.len() < MAX_STATEMENTS && kept + len <= self.settings.max_statement_bytes
    }

    /// Several statements in one text, or no longer. Each is ruled on and sent alone, so nothing is lost by it, and the
    /// database is not told.
    fn set_option(&mut self, several: bool, total: usize, out: &mut Vec<u8>) -> Step {
        self.capabilities.0 &= !Capabilities::MULTI_STATEMENTS;
        if several {
            self.capabilities.0 |= Capabilities::MULTI_STATEMENTS;
        }
        let (status, ok) = (self.own_status(), OkPacket::default());
        let without_eofs = self.capabilities.has(Capabilities::DEPRECATE_EOF);
        write_frame(out, self.reply_seq, |out| {
            if without_eofs {
                write_ok(out, 0xFE, &OkPacket { status, ..ok });
            } else {
                write_eof(out, 0, status);
            }
        });
        Step { consumed: total, op: Op::Emit(Side::Client) }
    }

    fn query(&mut self, total: usize, body: &[u8], out: &mut Vec<u8>) -> Step {
        let prefix = match self.prefix_len(body) {
            Ok(prefix) => prefix,
            Err(fault) => return self.refuse(&fault, total, out),
        };
        let (attributes, text) = body.split_at_checked(prefix).unwrap_or((&[], body));
        match self.begin_batch(total, attributes, text, out) {
            Some(step) => step,
            None => self.inline(StatementKind::Query, total, text, prefix),
        }
    }

    /// A statement whose text is in the buffer, behind so many bytes of attributes.
    fn inline(&mut self, kind: StatementKind, total: usize, body: &[u8], prefix: usize) -> Step {
        if kind == StatementKind::Prepare {
            self.last_prepared = None;
        }
        let is_long = total >= HEADER_LEN + MAX_PAYLOAD;
        let keeps = is_long || kind != StatementKind::Query;
        let text: Option<Arc<[u8]>> = keeps.then(|| Arc::from(body));
        let decided = match &text {
            Some(text) if is_long => Text::Kept(Arc::clone(text)),
            _ => Text::Lent(HEADER_LEN + 1 + prefix..total),
        };
        self.decide(Pending { prefix, ..Pending::new(kind, total, text) }, decided)
    }

    /// EXECUTE or FETCH of a statement that was prepared here.
    pub(super) fn prepared(
        &mut self,
        kind: StatementKind,
        statement_id: u32,
        total: usize,
        out: &mut Vec<u8>,
    ) -> Step {
        let Some(statement) = self.statements.get(&statement_id) else {
            return self.refuse(&unknown_statement(statement_id), total, out);
        };
        if kind == StatementKind::Fetch && !statement.cursor_open {
            return self.refuse(&no_cursor(statement_id), total, out);
        }
        let text = Arc::clone(&statement.text);
        let kept = Text::Kept(Arc::clone(&text));
        self.decide(Pending { statement_id, ..Pending::new(kind, total, Some(text)) }, kept)
    }

    /// Has no reply: what is wrong with it shows at EXECUTE.
    fn long_data(&mut self, total: usize, body: &[u8]) -> Step {
        let limit = self.settings.max_statement_bytes;
        let statement = id_of(body).and_then(|id| self.statements.get_mut(&id));
        let Some(statement) = statement.filter(|_| self.bound) else { return skip(total) };
        statement.long_data = statement.long_data.saturating_add(body.len());
        if statement.long_data > limit {
            return skip(total);
        }
        Step { consumed: total, op: Op::Forward }
    }

    fn reset_statement(&mut self, total: usize, body: &[u8], out: &mut Vec<u8>) -> Step {
        let id = id_of(body).unwrap_or_default();
        let Some(statement) = self.statements.get_mut(&id).filter(|_| self.bound) else {
            return self.refuse(&unknown_statement(id), total, out);
        };
        statement.long_data = 0;
        statement.cursor = None;
        statement.cursor_open = false;
        self.phase = Phase::Response(self.room_for(Response::plain()));
        Step { consumed: total, op: Op::Forward }
    }

    /// Sends an allowed statement: first a connection, then the text.
    pub(super) fn send(
        &mut self,
        pending: Pending,
        ruling: Ruling,
        bytes: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Step {
        if let Some(seq) = pending.login_seq {
            return self.finish_login(pending, ruling, seq, out);
        }
        let Ruling::Run { canonical, uses, .. } = &ruling else {
            return self.fail(&Fault::internal(), 1, out);
        };
        let lent = bytes.get(HEADER_LEN + 1 + pending.prefix..pending.total).unwrap_or_default();
        let text = canonical.as_deref().or(pending.text.as_deref()).unwrap_or(lent);
        let told = self.keeps_told(&ruling, text);
        let refusal = unpreparable(pending.kind, uses.is_some(), told.is_some());
        if let Some(fault) = refusal.or_else(|| self.lacks_definitions(&pending, &ruling)) {
            self.queue.push_back(Op::Done(refused(&fault)));
            return self.refuse(&fault, pending.total, out);
        }
        if let Some(step) = self.kill(&pending, text, out) {
            return step;
        }
        let (file, sets_mode) = (self.local_file(&pending, text), self.sets_mode(&pending, text));
        if !self.bound {
            self.phase = Phase::Connecting(pending, ruling);
            return Step { consumed: 0, op: Op::Connect };
        }
        let patches = matches!(pending.kind, StatementKind::Query | StatementKind::Prepare);
        if let Some(canonical) = canonical.as_ref().filter(|_| patches && self.batch.is_none())
            && !put_text(bytes, pending.total, pending.prefix, canonical)
        {
            return self.fail(&Fault::internal(), self.reply_seq, out);
        }
        let consumed = pending.total;
        let instead = (told.as_deref(), canonical.as_deref());
        let part = self.send_part(&pending, bytes, instead, out);
        let expect = expectation(pending);
        self.executing(&expect, bytes.get(..consumed).unwrap_or_default());
        let (cursor, definitions) = match &expect {
            Expect::Fetch { id } => {
                (self.statements.get(id).and_then(|kept| kept.cursor.clone()), None)
            }
            Expect::Execute { id } => {
                (None, self.statements.get(id).and_then(|kept| kept.definitions.clone()))
            }
            _ => (None, None),
        };
        let subject = self.principal.as_ref().map_or("", |principal| &principal.subject);
        let (settings, capabilities) = (&self.settings, self.capabilities);
        let response = Response::to(expect, ruling, cursor, settings, capabilities, subject);
        self.phase = match file.and_then(|file| response.map(|response| (file, response))) {
            Ok((file, mut response)) => {
                response.local_file = file;
                response.definitions = definitions;
                response.sets_mode = sets_mode;
                (response.seq, response.part) = (self.reply_seq, part.unwrap_or_default());
                Phase::Response(self.room_for(response))
            }
            Err(fault) => {
                out.clear();
                self.queue.push_back(Op::Done(refused(&fault)));
                return self.refuse(&fault, consumed, out);
            }
        };
        let op = if part.is_some() { Op::Emit(Side::Server) } else { Op::Forward };
        Step { consumed, op }
    }

    /// Writes the command of one of several statements, or one whose text is longer than what came; `None` where the
    /// command is in the client's buffer. `told` is that longer text.
    fn send_part(
        &self,
        pending: &Pending,
        bytes: &[u8],
        (told, canonical): (Option<&[u8]>, Option<&[u8]>),
        out: &mut Vec<u8>,
    ) -> Option<Part> {
        if let Some(batch) = &self.batch {
            let text = told.or(canonical).or(pending.text.as_deref()).unwrap_or_default();
            return Some(Part::sent(&[batch.prefix(), text], self.reply_seq, batch.goes_on(), out));
        }
        let start = HEADER_LEN + 1;
        let prefix = bytes.get(start..start + pending.prefix).unwrap_or_default();
        Some(Part::sent(&[prefix, told?], self.reply_seq, false, out))
    }

    /// The login chose a database: a connection in that database answers for it.
    fn finish_login(
        &mut self,
        pending: Pending,
        ruling: Ruling,
        seq: u8,
        out: &mut Vec<u8>,
    ) -> Step {
        let name = pending.text.as_deref().unwrap_or_default();
        self.schema = String::from_utf8(name.to_vec()).ok();
        // Where it is known to be there, its first statement gets the connection: a client that waits costs the
        // database nothing.
        let known = matches!(ruling, Ruling::Run { known: true, .. });
        if !self.bound && !known {
            self.phase = Phase::Connecting(pending, ruling);
            return Step { consumed: 0, op: Op::Connect };
        }
        self.emit_login(seq, out);
        self.phase = Phase::Idle;
        self.queue.push_back(Op::Done(super::Outcome::default()));
        self.compress();
        Step { consumed: 0, op: Op::Emit(Side::Client) }
    }
}

fn expectation(pending: Pending) -> Expect {
    let id = pending.statement_id;
    match pending.kind {
        StatementKind::Query | StatementKind::InitDb => Expect::Query,
        StatementKind::Prepare => {
            Expect::Prepare { text: pending.text.unwrap_or_else(|| Arc::from(&[][..])) }
        }
        StatementKind::Statistics => Expect::One,
        StatementKind::Command(Command::PROCESS_INFO) => Expect::Query,
        StatementKind::Command(Command::BINLOG_DUMP | Command::BINLOG_DUMP_GTID) => Expect::Events,
        StatementKind::Command(_) => Expect::One,
        StatementKind::Execute | StatementKind::BulkExecute => Expect::Execute { id },
        StatementKind::Fetch => Expect::Fetch { id },
    }
}

/// The parts of a command's payload in its packets, which are `total` bytes long with their headers.
fn fragments(total: usize, mut each: impl FnMut(Range<usize>)) {
    let mut at = 0;
    while at < total {
        let start = at + HEADER_LEN;
        at = (start + MAX_PAYLOAD).min(total);
        each(start..at);
    }
}

/// Puts the text that is sent over the one that came, behind the command byte and so many bytes of attributes. Whether
/// it is as long.
fn put_text(bytes: &mut [u8], total: usize, prefix: usize, text: &[u8]) -> bool {
    let (mut rest, mut fits) = (text, true);
    fragments(total, |range| {
        let before = if range.start == HEADER_LEN { 1 + prefix } else { 0 };
        let start = range.start + before;
        let place = bytes.get_mut(start..range.end).unwrap_or_default();
        fits &= place.len() == range.end - start && place.len() <= rest.len();
        if fits {
            let (now, later) = rest.split_at(place.len());
            place.copy_from_slice(now);
            rest = later;
        }
    });
    fits && rest.is_empty()
}

/// Drops a command that has no reply.
/// A command without an answer that comes to nothing. What lies behind it may be the next one whole, so that to wait for
/// more bytes would be to wait for ever: nothing is written, and what is there is looked at.
fn skip(total: usize) -> Step {
    Step { consumed: total, op: Op::Emit(Side::Client) }
}

fn id_of(body: &[u8]) -> Option<u32> {
    body.get(..4).and_then(|id| id.try_into().ok()).map(u32::from_le_bytes)
}

fn unknown_statement(id: u32) -> Fault {
    let text = format!("Unknown prepared statement handler ({id}) given to the gateway");
    Fault::new(FaultKind::Protocol, 1243, *b"HY000", text)
}

fn no_cursor(id: u32) -> Fault {
    let text = format!("The statement ({id}) has no open cursor");
    Fault::new(FaultKind::Protocol, 1421, *b"HY000", text)
}

fn too_many_statements() -> Fault {
    let text = "Rowgate [RG-LIMIT]: too many prepared statements in this session, or too long ones; close some";
    Fault::new(FaultKind::Limit, 1461, *b"42000", text)
}

/// What can't be prepared: USE; and a SET whose text is made longer when it is sent (`told`).
fn unpreparable(kind: StatementKind, uses: bool, told: bool) -> Option<Fault> {
    if uses && kind == StatementKind::Prepare {
        return Some(unpreparable_use());
    }
    (told && kind != StatementKind::Query).then(|| {
        let text = "Rowgate [RG-UNSUPPORTED]: SET of session_track_system_variables can't be prepared; send it as a query";
        Fault::new(FaultKind::Unsupported, 1295, *b"HY000", text)
    })
}

/// The database a prepared USE leads to depends on where it was prepared, so that what is current could not be told.
/// (MySQL itself says so too.)
fn unpreparable_use() -> Fault {
    let text = "Rowgate [RG-UNSUPPORTED]: USE can't be prepared; send it as a query, or choose the database by COM_INIT_DB";
    Fault::new(FaultKind::Unsupported, 1295, *b"HY000", text)
}
