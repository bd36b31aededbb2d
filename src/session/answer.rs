//! The session while the database answers: what is released, in which pieces, and what a response leaves behind.

use std::sync::Arc;

use super::machine::{Phase, upstream_broken, wait};
use super::masks::Masks;
use super::response::{At, Expect, Packet, Response};
use super::track::Tracked;
use super::{Op, Session, Side, Step};
use crate::codec::{HEADER_LEN, Header, MAX_PAYLOAD, Status};
use crate::fault::Fault;
use crate::schema::{Flavour, SqlMode};

impl Session {
    /// Bytes of the database's answer.
    pub(super) fn on_response(
        &mut self,
        mut response: Box<Response>,
        bytes: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Step {
        if let Some(fault) = response.broken.take() {
            return self.abort(&response, &fault, out);
        }
        if response.at == At::LocalFile && bytes.is_empty() {
            self.phase = Phase::Response(response);
            return wait(Side::Client, HEADER_LEN);
        }
        let step = if response.masks.is_some() && response.at == At::Rows {
            response.masked(bytes, out)
        } else {
            self.hop(&mut response, bytes, out)
        };
        match step {
            Ok(step) => match response.ended.filter(|_| response.broken.is_none()) {
                None => match self.collect_row(&mut response, &step) {
                    Ok(()) => {
                        self.phase = Phase::Response(response);
                        step
                    }
                    Err(fault) => self.abort(&response, &fault, out),
                },
                Some(status) => self.finish(response, status, step, out),
            },
            Err(fault) => self.abort(&response, &fault, out),
        }
    }

    /// Packets that pass as they stand, up to the first that does not.
    fn hop(
        &mut self,
        response: &mut Response,
        bytes: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Step, Fault> {
        let mut pos = 0;
        let at_least = loop {
            pos = response.hop_rest(bytes, pos);
            if response.skip > 0 {
                break 1;
            }
            let rest = bytes.get(pos..).unwrap_or_default();
            let Some(header) = Header::parse(rest) else { break HEADER_LEN };
            if response.continues {
                response.pass_row(header, bytes.get_mut(pos..).unwrap_or_default());
                continue;
            }
            if response.at == At::Rows && response.masks.is_none() {
                let first = rest.get(HEADER_LEN).copied();
                if first.is_none() && header.len > 0 {
                    break HEADER_LEN + 1;
                }
                if !response.may_end(first, header.len) {
                    response.outcome.rows += 1;
                    response.pass_row(header, bytes.get_mut(pos..).unwrap_or_default());
                    continue;
                }
            }
            if header.total() > response.max_row_bytes.max(64 << 10) {
                return response.forward_before(upstream_broken("a packet that is too long"), pos);
            }
            let Some(payload) = header.payload(rest) else { break header.total() };
            let replaces = response.rewrite && matches!(payload.first(), Some(0xFF | 0))
                || response.tells_state(payload);
            if replaces && pos > 0 && response.binding.is_none() {
                return Ok(response.forward(pos));
            }
            let packet = match response.numbered(header, payload, out) {
                Ok(packet) => packet,
                Err(fault) => return response.forward_before(fault, pos),
            };
            let frame = bytes.get_mut(pos..pos + header.total()).unwrap_or_default();
            response.take_part(frame);
            pos += header.total();
            match packet {
                Packet::Pass if !response.held.is_empty() || response.binding.is_some() => {
                    // An OK or ERR where a masked result might have come.
                    out.extend_from_slice(frame);
                    return Ok(response.emit(pos, out));
                }
                Packet::Pass => {}
                Packet::Taken if !out.is_empty() => return Ok(response.emit(pos, out)),
                Packet::Taken => {}
            }
            if self.release_definitions(response, out)? {
                return response.first_rows(bytes, pos, out);
            }
            if response.ended.is_some() || response.at == At::LocalFile {
                return Ok(response.forward(pos));
            }
        };
        if response.binding.is_some() || pos == 0 {
            let op = Op::Read { side: Side::Server, at_least };
            return Ok(Step { consumed: pos, op });
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
        response.sent(&binding);
        let binary = matches!(response.expect, Expect::Execute { .. });
        if !matches!(response.expect, Expect::Prepare { .. }) {
            let plugins = response.plugins.as_ref().ok_or_else(Fault::internal)?;
            let subject = self.principal.as_ref().map_or("", |principal| &principal.subject);
            let masks = Masks::open(&binding, binary, plugins.as_ref(), response.worker, subject)?;
            response.masks = Some(masks);
        }
        if let Expect::Execute { id } = response.expect
            && let Some(statement) = self.statements.get_mut(&id)
        {
            statement.cursor = Some(binding);
        }
        out.append(&mut response.held);
        Ok(true)
    }

    /// The response is over: what it changed is taken over, and the statement is done.
    fn finish(
        &mut self,
        mut response: Box<Response>,
        status: Status,
        step: Step,
        out: &mut Vec<u8>,
    ) -> Step {
        let failed = response.outcome.error_code != 0;
        if let Some(fault) = self.set_mode(response.sets_mode, failed, response.governed) {
            return self.abort_last(response, fault, step, out);
        }
        let tells =
            !matches!(response.expect, Expect::Prepare { .. } | Expect::Plain | Expect::One);
        if !failed && tells {
            self.status = status;
            if let Some(fault) = self.surprise(status, response.governed) {
                return self.abort_last(response, fault, step, out);
            }
        }
        match &response.expect {
            Expect::Prepare { text } if !failed => {
                let parameters = response.parameters;
                let (id, definitions) = (response.statement_id, response.definitions.take());
                self.keep_statement(id, Arc::clone(text), parameters);
                self.keep_definitions(id, definitions);
            }
            Expect::Execute { id } | Expect::Fetch { id } => {
                if let Some(statement) = self.statements.get_mut(id) {
                    let opened = !failed && status.has(Status::CURSOR_EXISTS);
                    if failed {
                        // It may not have come as far as the parameters.
                        statement.types = None;
                    }
                    statement.cursor_open = opened && !status.has(Status::LAST_ROW_SENT);
                    if !statement.cursor_open {
                        statement.cursor = None;
                    }
                }
                if matches!(response.expect, Expect::Execute { .. }) {
                    self.keep_definitions(*id, response.definitions.take());
                }
            }
            _ => {}
        }
        if let Some(schema) = response.uses.take().filter(|_| !failed) {
            self.schema = Some(schema);
        }
        if let Some(fault) = self.take_over(response.tracked.take(), response.governed) {
            return self.abort_last(response, fault, step, out);
        }
        self.reply_seq = response.seq;
        self.phase = if response.part.more && !failed { Phase::Between } else { Phase::Idle };
        if matches!(self.phase, Phase::Idle) {
            (self.batch, self.collected) = (None, None);
        }
        if !matches!(response.expect, Expect::Plain) {
            self.queue.push_back(Op::Done(response.outcome));
        }
        self.keep(response);
        step
    }

    /// The database's own word on the session's state is the last.
    fn take_over(&mut self, tracked: Option<Box<Tracked>>, governed: bool) -> Option<Fault> {
        let tracked = tracked?;
        if let Some(schema) = tracked.schema {
            self.schema = Some(schema).filter(|name| !name.is_empty());
        }
        let text = "the session's character set changed to one that reads text otherwise; it ends";
        (governed && tracked.strange).then(|| Fault::reads_otherwise(text))
    }

    /// A SET of `sql_mode` is over. Where it failed, what it had set before is not known: for the governed that ends the
    /// session, if text would be read otherwise under it.
    fn set_mode(&mut self, mode: Option<SqlMode>, failed: bool, governed: bool) -> Option<Fault> {
        let mode = mode.filter(|mode| *mode != self.sql_mode)?;
        if !failed {
            self.sql_mode = mode;
        }
        (failed && governed).then(mode_changed)
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
        governed.then(mode_changed)
    }

    /// What the last packet of a response tells ends the session: an error in its place, behind what came before it.
    fn abort_last(
        &mut self,
        mut response: Box<Response>,
        fault: Fault,
        step: Step,
        out: &mut Vec<u8>,
    ) -> Step {
        let Some(step) = response.without_last(step, out) else {
            return self.abort(&response, &fault, out);
        };
        response.broken = Some(Box::new(fault));
        self.phase = Phase::Response(response);
        step
    }

    /// Ends the session in the middle of a response: an error in place of what is still to come.
    pub(super) fn abort(&mut self, response: &Response, fault: &Fault, out: &mut Vec<u8>) -> Step {
        self.bound = false; // whatever the database still sends belongs to nobody
        let mut outcome = response.outcome;
        outcome.error_code = fault.code;
        outcome.fault = Some(fault.kind);
        // Definitions that are held were not sent: the client still waits for the first of them.
        let seq = Header::parse(&response.held).map_or(response.seq, |held| held.seq);
        let mut step = self.fail(fault, seq, out);
        let done = Op::Done(outcome);
        if response.in_packet() {
            // Half a packet went out: an error would be read as its rest, as data of the row.
            out.clear();
            step.op = done;
        } else {
            self.queue.push_front(done);
        }
        step
    }
}

fn mode_changed() -> Fault {
    Fault::reads_otherwise("sql_mode changed to one that reads text otherwise; the session ends")
}

impl Response {
    /// Hops over the rest of the packet in passing, and over the rows that follow it. Gives where it stopped.
    fn hop_rest(&mut self, bytes: &[u8], pos: usize) -> usize {
        let passing = self.skip.min(bytes.len() - pos);
        self.skip -= passing;
        // Rows of a later one of several statements get other sequence ids: not in the loop of little else.
        let as_they_are = self.masks.is_none() && self.part.shift == 0;
        let rows = self.at == At::Rows && as_they_are && !self.continues;
        if rows && self.skip == 0 { self.hop_rows(bytes, pos + passing) } else { pos + passing }
    }

    /// Hops over rows in a loop of little else: a streamed result has one for every hundred bytes or so. Stops before
    /// whatever may be no row (see [`Self::may_end`]) or may go on in a next packet.
    fn hop_rows(&mut self, bytes: &[u8], mut pos: usize) -> usize {
        while let Some(&[a, b, c, seq, first]) = bytes.get(pos..).and_then(<[u8]>::first_chunk) {
            let len = u32::from_le_bytes([a, b, c, 0]) as usize;
            if first >= 0xFE || len == 0 || len >= MAX_PAYLOAD {
                break;
            }
            self.outcome.rows += 1;
            self.seq = seq.wrapping_add(1);
            pos += HEADER_LEN + len;
            if let Some(missing) = pos.checked_sub(bytes.len()).filter(|missing| *missing > 0) {
                self.skip = missing;
                return bytes.len();
            }
        }
        pos
    }

    /// The packet behind the first `pos` bytes is wrong: those go first, unless they are held.
    fn forward_before(&mut self, fault: Fault, pos: usize) -> Result<Step, Fault> {
        if pos == 0 || self.binding.is_some() {
            return Err(fault);
        }
        self.broken = Some(Box::new(fault));
        Ok(self.forward(pos))
    }

    /// The same, where what goes first has been written to `out`.
    fn emit_before(&mut self, fault: Fault, pos: usize, out: &[u8]) -> Result<Step, Fault> {
        if out.is_empty() {
            return Err(fault);
        }
        self.broken = Some(Box::new(fault));
        Ok(self.emit(pos, out))
    }

    /// Takes the last packet back from a step that was to release it, since an error comes in its place. Gives what of the
    /// step is left, if that is anything.
    fn without_last(&mut self, step: Step, out: &mut Vec<u8>) -> Option<Step> {
        let (len, written) = self.last;
        self.seq = self.seq.wrapping_sub(1);
        self.ended = None;
        let (taken, consumed) = match step.op {
            Op::Forward => (len, step.consumed.saturating_sub(len)),
            _ => (out.len().saturating_sub(written), step.consumed),
        };
        let left = if matches!(step.op, Op::Forward) { consumed } else { written };
        out.truncate(written);
        self.outcome.bytes = self.outcome.bytes.saturating_sub(taken as u64);
        (left > 0).then_some(Step { consumed, ..step })
    }

    /// Lets definitions go, which `out` has, and with them the rows that are there from `pos` on, if those can be masked.
    fn first_rows(
        &mut self,
        bytes: &mut [u8],
        pos: usize,
        out: &mut Vec<u8>,
    ) -> Result<Step, Fault> {
        let rows = bytes.get_mut(pos..).unwrap_or_default();
        if self.masks.is_none() || self.at != At::Rows || rows.is_empty() {
            return Ok(self.emit(pos, out));
        }
        let step = self.masked(rows, out)?;
        Ok(Step { consumed: pos + step.consumed, ..step })
    }

    /// Rows under masks: the whole ones that are there, batch by batch, and the end of the result if it is there too.
    fn masked(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<Step, Fault> {
        let Some(mut masks) = self.masks.take() else { return Err(Fault::internal()) };
        let (mut pos, mut rows, mut masked_cells, mut seq) = (0, 0, 0, self.seq);
        let stop = loop {
            let (end, stop) = self.gather(&mut masks, bytes, pos);
            if end > pos {
                let (written, batch, next) = (out.len(), masks.batch_len(), masks.next_seq(seq));
                match masks.flush(bytes, out) {
                    Ok(changed) => masked_cells += changed,
                    Err(fault) => {
                        out.truncate(written);
                        break Gathered::Broken(fault);
                    }
                }
                (pos, seq) = (end, next);
                rows += batch;
            }
            // A write a batch would cost more than the batch, so one takes as many as fit without a larger buffer.
            let fits = bytes.len() - pos <= out.capacity().saturating_sub(out.len());
            if !matches!(stop, Gathered::Full) || !fits {
                break stop;
            }
        };
        self.masks = Some(masks);
        self.outcome.rows += rows;
        self.outcome.masked_cells += masked_cells;
        self.seq = seq;
        match stop {
            Gathered::End(header) => {
                let frame = bytes.get_mut(pos..pos + header.total()).unwrap_or_default();
                let payload = frame.get(HEADER_LEN..).unwrap_or_default();
                let packet = match self.numbered(header, payload, out) {
                    Ok(packet) => packet,
                    Err(fault) => return self.emit_before(fault, pos, out),
                };
                self.take_part(frame);
                if let Packet::Pass = packet {
                    out.extend_from_slice(frame);
                }
                Ok(self.emit(pos + header.total(), out))
            }
            Gathered::Broken(fault) => self.emit_before(fault, pos, out),
            Gathered::Short(at_least) if out.is_empty() => {
                Ok(Step { consumed: pos, op: Op::Read { side: Side::Server, at_least } })
            }
            Gathered::Full | Gathered::Short(_) => Ok(self.emit(pos, out)),
        }
    }

    /// Adds whole rows from `pos` on to the batch. Gives where they end, and why no more were added.
    fn gather(&self, masks: &mut Masks, bytes: &mut [u8], mut pos: usize) -> (usize, Gathered) {
        while !masks.is_full() {
            let rest = bytes.get(pos..).unwrap_or_default();
            let Some(header) = Header::parse(rest) else {
                return (pos, Gathered::Short(HEADER_LEN));
            };
            if header.continues() || header.total() > self.max_row_bytes {
                let fault = Fault::plugin("a row is longer than server.max_row_bytes");
                return (pos, Gathered::Broken(fault));
            }
            let Some(payload) = header.payload(rest) else {
                return (pos, Gathered::Short(header.total()));
            };
            if self.may_end(payload.first().copied(), header.len) {
                return (pos, Gathered::End(header));
            }
            let seq = self.part.renumber(bytes.get_mut(pos..).unwrap_or_default());
            if let Err(fault) = masks.add(bytes, pos + HEADER_LEN, pos + header.total(), seq) {
                masks.take_back();
                return (pos, Gathered::Broken(fault));
            }
            pos += header.total();
        }
        (pos, Gathered::Full)
    }
}

/// Why a batch of rows takes no more.
enum Gathered {
    /// It has as many as a plugin gets at once.
    Full,
    /// This packet may end the result; it is no row.
    End(Header),
    /// What comes next is not all here: it takes so many bytes.
    Short(usize),
    /// What comes next can't be released.
    Broken(Fault),
}
