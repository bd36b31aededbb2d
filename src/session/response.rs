//! The database's answer: hopped over in place, or held, checked and masked. It ends where the protocol says.

use std::sync::Arc;

use super::binding::Binding;
use super::machine::{Phase, upstream_broken, wait};
use super::masks::Masks;
use super::{Op, Outcome, Ruling, Session, Settings, Side, Step};
use crate::codec::{
    Capabilities, ColumnDefinition, ErrPacket, HEADER_LEN, Header, OkPacket, PrepareOk, Reply,
    Status, write_err, write_frame, write_ok,
};
use crate::fault::{Fault, FaultKind};
use crate::policy::PluginHost;
use crate::schema::{Flavour, SqlMode};

/// The most columns a result can have: the servers' own limit.
const MAX_COLUMNS: u64 = 4_096;

/// What kind of response.
pub(super) enum Expect {
    /// OK, ERR or results in the text protocol.
    Query,
    /// PREPARE's.
    Prepare { text: Arc<[u8]> },
    /// Results in the binary protocol.
    Execute { id: u32 },
    /// Rows of an open cursor.
    Fetch { id: u32 },
    /// OK or ERR.
    Plain,
}

/// Where in the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    First,
    Parameters { left: u64, columns: u64 },
    ParametersEof { columns: u64 },
    Definitions { left: u64 },
    DefinitionsEof,
    Rows,
}

/// What is to be done with a packet.
enum Packet {
    /// It goes on as it stands.
    Pass,
    /// It is held, or `out` has what goes in its place.
    Taken,
}

/// A response that is being read.
pub(super) struct Response {
    expect: Expect,
    at: At,
    deprecate_eof: bool,
    rewrite: bool,
    governed: bool,
    uses: Option<String>,
    worker: usize,
    max_row_bytes: usize,
    plugins: Option<Arc<dyn PluginHost>>,
    /// Being defined.
    binding: Option<Binding>,
    masks: Option<Masks>,
    /// Definitions, until the plan is bound to all of them.
    held: Vec<u8>,
    statement_id: u32,
    parameters: u16,
    /// Bytes of the packet in passing that are still to come.
    skip: usize,
    /// The packet in passing goes on in the next.
    continues: bool,
    /// The sequence id of the next packet.
    seq: u8,
    outcome: Outcome,
    ended: Option<Status>,
}

impl Response {
    /// A response of OK or ERR, of which nothing is governed.
    pub(super) fn plain() -> Self {
        Self {
            expect: Expect::Plain,
            at: At::First,
            deprecate_eof: true,
            rewrite: false,
            governed: true,
            uses: None,
            worker: 0,
            max_row_bytes: 0,
            plugins: None,
            binding: None,
            masks: None,
            held: Vec::new(),
            statement_id: 0,
            parameters: 0,
            skip: 0,
            continues: false,
            seq: 1,
            outcome: Outcome::default(),
            ended: None,
        }
    }

    /// The response to a statement that ran under this ruling. `cursor`: what a FETCH's rows are masked by.
    pub(super) fn to(
        expect: Expect,
        ruling: Ruling,
        cursor: Option<Arc<Binding>>,
        settings: &Settings,
        capabilities: Capabilities,
        subject: &str,
    ) -> Result<Self, Fault> {
        let Ruling::Run { mask, plugins, rewrite_errors, governed, uses, .. } = ruling else {
            return Err(Fault::internal());
        };
        let mut response = Self {
            deprecate_eof: capabilities.has(Capabilities::DEPRECATE_EOF),
            rewrite: rewrite_errors,
            governed,
            uses,
            worker: settings.worker,
            max_row_bytes: settings.max_row_bytes,
            ..Self::plain()
        };
        if let Expect::Fetch { .. } = expect {
            response.at = At::Rows;
            if let Some(binding) = cursor {
                let worker = settings.worker;
                response.masks =
                    Some(Masks::open(&binding, true, plugins.as_ref(), worker, subject)?);
            }
        } else {
            response.binding = mask.map(Binding::new);
        }
        response.plugins = Some(plugins);
        response.expect = expect;
        Ok(response)
    }

    /// The sequence id that an error of the gateway's own would have.
    pub(super) fn next_seq(&self) -> u8 {
        self.seq
    }

    /// Takes one whole packet that is not an unmasked row.
    fn packet(
        &mut self,
        header: Header,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Packet, Fault> {
        let malformed = |_| upstream_broken("a result");
        match self.at {
            At::First => self.first(header, payload, out),
            At::Parameters { left, columns } => {
                self.at = match (left - 1, self.deprecate_eof) {
                    (0, true) => self.after_parameters(columns),
                    (0, false) => At::ParametersEof { columns },
                    (left, _) => At::Parameters { left, columns },
                };
                Ok(self.pass_or_hold(header, payload))
            }
            At::ParametersEof { columns } => {
                self.at = self.after_parameters(columns);
                Ok(self.pass_or_hold(header, payload))
            }
            At::Definitions { left } => {
                self.define(header, payload)?;
                if left > 1 {
                    self.at = At::Definitions { left: left - 1 };
                } else if self.deprecate_eof {
                    self.defined();
                } else {
                    self.at = At::DefinitionsEof;
                }
                Ok(if self.binding.is_some() { Packet::Taken } else { Packet::Pass })
            }
            At::DefinitionsEof => {
                let status = Reply::terminator_status(payload, false).map_err(malformed)?;
                let packet = self.pass_or_hold(header, payload);
                self.defined();
                if status.has(Status::CURSOR_EXISTS) {
                    self.ended = Some(status);
                }
                Ok(packet)
            }
            At::Rows if payload.first() == Some(&0xFF) => self.error(header, payload, out),
            At::Rows => {
                let status =
                    Reply::terminator_status(payload, self.deprecate_eof).map_err(malformed)?;
                self.end_of_result(status)?;
                Ok(Packet::Pass)
            }
        }
    }

    fn first(
        &mut self,
        header: Header,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Packet, Fault> {
        let malformed = |_| upstream_broken("the first packet of a response");
        if let (Expect::Prepare { .. }, Some(0)) = (&self.expect, payload.first()) {
            let ok = PrepareOk::parse(payload).map_err(malformed)?;
            self.statement_id = ok.statement_id;
            self.parameters = ok.parameters;
            let columns = u64::from(ok.columns);
            if let Some(binding) = self.binding.as_ref().filter(|_| columns > 0) {
                binding.check_count(usize::from(ok.columns))?;
            }
            self.at = match u64::from(ok.parameters) {
                0 => self.after_parameters(columns),
                left => At::Parameters { left, columns },
            };
            return Ok(self.pass_or_hold(header, payload));
        }
        match Reply::parse(payload).map_err(malformed)? {
            Reply::Err => self.error(header, payload, out),
            Reply::Ok => self.ok(header, payload, out),
            Reply::LocalInfile => Err(upstream_broken("a request for a local file")),
            Reply::Columns(columns) if columns <= MAX_COLUMNS && columns > 0 => {
                if let Expect::Plain | Expect::Prepare { .. } = self.expect {
                    return Err(upstream_broken("rows where none were asked for"));
                }
                if let Some(binding) = &self.binding {
                    binding.check_count(usize::try_from(columns).unwrap_or(usize::MAX))?;
                }
                self.at = At::Definitions { left: columns };
                Ok(self.pass_or_hold(header, payload))
            }
            Reply::Columns(_) => Err(upstream_broken("a column count")),
        }
    }

    fn after_parameters(&mut self, columns: u64) -> At {
        if columns == 0 {
            self.ended = Some(Status(Status::AUTOCOMMIT));
        }
        At::Definitions { left: columns }
    }

    fn define(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
        let Some(binding) = &mut self.binding else { return Ok(()) };
        let definition =
            ColumnDefinition::parse(payload).map_err(|_| upstream_broken("a column definition"))?;
        let mut result = Ok(());
        write_frame(&mut self.held, header.seq, |out| result = binding.define(&definition, out));
        result
    }

    /// All definitions were seen.
    fn defined(&mut self) {
        self.at = At::Rows;
        if let Expect::Prepare { .. } = self.expect {
            self.ended = Some(Status(Status::AUTOCOMMIT));
        }
    }

    fn pass_or_hold(&mut self, header: Header, payload: &[u8]) -> Packet {
        if self.binding.is_none() {
            return Packet::Pass;
        }
        write_frame(&mut self.held, header.seq, |out| out.extend_from_slice(payload));
        Packet::Taken
    }

    fn ok(&mut self, header: Header, payload: &[u8], out: &mut Vec<u8>) -> Result<Packet, Fault> {
        let ok = OkPacket::parse(payload).map_err(|_| upstream_broken("an OK packet"))?;
        self.outcome.affected_rows = self.outcome.affected_rows.saturating_add(ok.affected_rows);
        self.end_of_result(ok.status)?;
        if !self.rewrite || ok.info.is_empty() {
            return Ok(Packet::Pass);
        }
        // The info text counts rows and warnings of labelled data; the counts are in the packet anyway.
        let bare = OkPacket { info: &[], ..ok };
        write_frame(out, header.seq, |out| write_ok(out, 0, &bare));
        Ok(Packet::Taken)
    }

    fn error(
        &mut self,
        header: Header,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Packet, Fault> {
        let error = ErrPacket::parse(payload).map_err(|_| upstream_broken("an error"))?;
        self.outcome.error_code = error.code;
        self.ended = Some(Status(0));
        self.held.clear();
        if !self.rewrite {
            return Ok(Packet::Pass);
        }
        let text = format!(
            "Rowgate [RG-WITHHELD]: error {} of the database; its text may carry data and was withheld",
            error.code
        );
        write_frame(out, header.seq, |out| write_err(out, error.code, error.sqlstate, &text));
        Ok(Packet::Taken)
    }

    /// A result is over; another may follow.
    fn end_of_result(&mut self, status: Status) -> Result<(), Fault> {
        if !status.has(Status::MORE_RESULTS) {
            self.ended = Some(status);
            return Ok(());
        }
        if self.binding.is_some() || self.masks.is_some() {
            return Err(upstream_broken("more results than the statement's analysis"));
        }
        self.at = At::First;
        Ok(())
    }

    /// Whether this packet may end a result rather than be a row.
    fn may_end(&self, first: Option<u8>, len: usize) -> bool {
        let limit = if self.deprecate_eof { crate::codec::MAX_PAYLOAD } else { 9 };
        match first {
            Some(0xFF) => true,
            Some(0xFE) => len < limit,
            _ => len == 0,
        }
    }
}

impl Session {
    /// Bytes of the database's answer.
    pub(super) fn on_response(
        &mut self,
        mut response: Box<Response>,
        bytes: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Step {
        let step = if response.masks.is_some() && response.at == At::Rows {
            self.masked(&mut response, bytes, out)
        } else {
            self.hop(&mut response, bytes, out)
        };
        match step {
            Ok(step) => match response.ended {
                None => {
                    self.phase = Phase::Response(response);
                    step
                }
                Some(status) => self.finish(*response, status, step, out),
            },
            Err(fault) => self.abort(&response, &fault, out),
        }
    }

    /// Packets that pass as they stand, up to the first that does not.
    fn hop(
        &mut self,
        response: &mut Response,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Step, Fault> {
        let mut pos = 0;
        let at_least = loop {
            if response.skip > 0 {
                let passing = response.skip.min(bytes.len() - pos);
                response.skip -= passing;
                pos += passing;
                if response.skip > 0 {
                    break 1;
                }
            }
            let rest = bytes.get(pos..).unwrap_or_default();
            let Some(header) = Header::parse(rest) else { break HEADER_LEN };
            if response.continues {
                response.pass_row(header);
                continue;
            }
            if response.at == At::Rows && response.masks.is_none() {
                let first = rest.get(HEADER_LEN).copied();
                if first.is_none() && header.len > 0 {
                    break HEADER_LEN + 1;
                }
                if !response.may_end(first, header.len) {
                    response.outcome.rows += 1;
                    response.pass_row(header);
                    continue;
                }
            }
            if header.total() > response.max_row_bytes.max(64 << 10) {
                return Err(upstream_broken("a packet that is too long"));
            }
            let Some(payload) = header.payload(rest) else { break header.total() };
            let replaces = response.rewrite && matches!(payload.first(), Some(0xFF | 0));
            if replaces && pos > 0 && response.binding.is_none() {
                return Ok(response.forward(pos));
            }
            response.seq = header.seq.wrapping_add(1);
            let packet = response.packet(header, payload, out)?;
            pos += header.total();
            match packet {
                Packet::Pass if !response.held.is_empty() || response.binding.is_some() => {
                    // An OK or ERR where a masked result might have come.
                    out.extend_from_slice(rest.get(..header.total()).unwrap_or_default());
                    return Ok(response.emit(pos, out));
                }
                Packet::Pass => {}
                Packet::Taken if !out.is_empty() => return Ok(response.emit(pos, out)),
                Packet::Taken => {}
            }
            if self.release_definitions(response, out)? {
                return Ok(response.emit(pos, out));
            }
            if response.ended.is_some() {
                return Ok(response.forward(pos));
            }
        };
        if response.binding.is_some() {
            let op = Op::Read { side: Side::Server, at_least };
            return Ok(Step { consumed: pos, op });
        }
        if pos == 0 {
            return Ok(wait(Side::Server, at_least));
        }
        Ok(response.forward(pos))
    }

    /// Once every definition is bound to the plan: opens the masks, and lets the definitions go.
    fn release_definitions(
        &mut self,
        response: &mut Response,
        out: &mut Vec<u8>,
    ) -> Result<bool, Fault> {
        let done = response.at == At::Rows || response.ended.is_some();
        if !done || response.binding.is_none() || response.held.is_empty() {
            return Ok(false);
        }
        let Some(binding) = response.binding.take() else { return Ok(false) };
        let binding = Arc::new(binding);
        let binary = matches!(response.expect, Expect::Execute { .. });
        if !matches!(response.expect, Expect::Prepare { .. }) {
            let plugins = response.plugins.as_ref().ok_or_else(Fault::internal)?;
            let subject = self.principal.as_ref().map_or("", |principal| &principal.subject);
            let masks = Masks::open(&binding, binary, plugins.as_ref(), response.worker, subject)?;
            response.masks = Some(masks);
        }
        if let Expect::Execute { id } = response.expect {
            if let Some(statement) = self.statements.get_mut(&id) {
                statement.cursor = Some(binding);
            }
        }
        out.append(&mut response.held);
        Ok(true)
    }

    /// Rows under masks: as many whole ones as are there, and the end of the result if it is there too.
    fn masked(
        &mut self,
        response: &mut Response,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Step, Fault> {
        let Some(mut masks) = response.masks.take() else { return Err(Fault::internal()) };
        let mut pos = 0;
        let mut seq = response.seq;
        let mut end = None;
        let mut at_least = HEADER_LEN;
        while !masks.is_full() {
            let rest = bytes.get(pos..).unwrap_or_default();
            let Some(header) = Header::parse(rest) else { break };
            if header.continues() || header.total() > response.max_row_bytes {
                return Err(Fault::plugin("a row is longer than server.max_row_bytes"));
            }
            let Some(payload) = header.payload(rest) else {
                at_least = header.total();
                break;
            };
            if response.may_end(payload.first().copied(), header.len) {
                end = Some((header, pos));
                break;
            }
            masks.add(bytes, pos + HEADER_LEN, pos + header.total(), header.seq)?;
            seq = header.seq.wrapping_add(1);
            pos += header.total();
        }
        if masks.has_rows() {
            let rows = masks.batch_len();
            response.outcome.masked_cells += masks.flush(bytes, out)?;
            response.outcome.rows += rows;
            response.seq = seq;
        }
        if let Some((header, at)) = end {
            let payload = bytes.get(at + HEADER_LEN..at + header.total()).unwrap_or_default();
            // The end of a result under a plan is checked while the masks are still there to be seen.
            response.masks = Some(masks);
            if let Packet::Pass = response.packet(header, payload, out)? {
                let frame = bytes.get(at..at + header.total()).unwrap_or_default();
                out.extend_from_slice(frame);
            }
            return Ok(response.emit(at + header.total(), out));
        }
        response.masks = Some(masks);
        if out.is_empty() {
            return Ok(Step { consumed: pos, op: Op::Read { side: Side::Server, at_least } });
        }
        Ok(response.emit(pos, out))
    }

    /// The response is over: what it changed is taken over, and the statement is done.
    fn finish(
        &mut self,
        response: Response,
        status: Status,
        step: Step,
        out: &mut Vec<u8>,
    ) -> Step {
        let failed = response.outcome.error_code != 0;
        if !failed && !matches!(response.expect, Expect::Prepare { .. } | Expect::Plain) {
            self.status = status;
            if let Some(fault) = self.surprise(status, response.governed) {
                return self.abort(&response, &fault, out);
            }
        }
        match &response.expect {
            Expect::Prepare { text } if !failed => {
                let parameters = response.parameters;
                self.keep_statement(response.statement_id, Arc::clone(text), parameters);
            }
            Expect::Execute { id } | Expect::Fetch { id } => {
                if let Some(statement) = self.statements.get_mut(id) {
                    let opened = !failed && status.has(Status::CURSOR_EXISTS);
                    statement.cursor_open = opened && !status.has(Status::LAST_ROW_SENT);
                    if !statement.cursor_open {
                        statement.cursor = None;
                    }
                }
            }
            _ => {}
        }
        if let Some(schema) = response.uses.filter(|_| !failed) {
            self.schema = Some(schema);
        }
        self.phase = Phase::Idle;
        if !matches!(response.expect, Expect::Plain) {
            self.queue.push_back(Op::Done(response.outcome));
        }
        step
    }

    /// The server reads text otherwise than the lexer does: for the governed that ends the session.
    fn surprise(&mut self, status: Status, governed: bool) -> Option<Fault> {
        let mut mode = self.sql_mode.0 & !SqlMode::NO_BACKSLASH_ESCAPES;
        if status.has(Status::NO_BACKSLASH_ESCAPES) {
            mode |= SqlMode::NO_BACKSLASH_ESCAPES;
        }
        if self.settings.profile.flavour == Flavour::MariaDb {
            mode &= !SqlMode::ANSI_QUOTES;
            if status.has(Status::MARIADB_ANSI_QUOTES) {
                mode |= SqlMode::ANSI_QUOTES;
            }
        }
        if mode == self.sql_mode.0 {
            return None;
        }
        self.sql_mode = SqlMode(mode);
        governed.then(|| {
            let text = "Rowgate [RG-MODE]: sql_mode changed to one that reads text otherwise; the session ends";
            Fault::new(FaultKind::Analysis, 1231, *b"42000", text)
        })
    }

    /// Ends the session in the middle of a response: an error in place of what is still to come.
    fn abort(&mut self, response: &Response, fault: &Fault, out: &mut Vec<u8>) -> Step {
        self.bound = false; // whatever the database still sends belongs to nobody
        let mut outcome = response.outcome;
        outcome.error_code = fault.code;
        outcome.fault = Some(fault.kind);
        let in_packet = response.skip > 0;
        let mut step = self.fail(fault, response.seq, out);
        if in_packet {
            // Half a packet went out: an error can't be told apart from its rest.
            out.clear();
            step.op = self.queue.pop_front().unwrap_or(Op::Close(Some(fault.kind)));
        }
        self.queue.push_front(Op::Done(outcome));
        step
    }
}

impl Response {
    /// A row passes as it stands, perhaps before all of it is here.
    fn pass_row(&mut self, header: Header) {
        self.skip = header.total();
        self.continues = header.continues();
        self.seq = header.seq.wrapping_add(1);
    }

    fn forward(&mut self, len: usize) -> Step {
        self.outcome.bytes += len as u64;
        Step { consumed: len, op: Op::Forward }
    }

    fn emit(&mut self, consumed: usize, out: &[u8]) -> Step {
        self.outcome.bytes += out.len() as u64;
        Step { consumed, op: Op::Emit(Side::Client) }
    }
}
