//! The database's answer: hopped over in place, or held, checked and masked. It ends where the protocol says.

use std::sync::Arc;

use super::batch::Part;
use super::binding::Binding;
use super::definitions::{Collected, Definitions, undefined};
use super::machine::upstream_broken;
use super::masks::Masks;
use super::room::Taken;
use super::track::Tracked;
use super::upstream::last_words;
use super::{Op, Outcome, Ruling, Settings, Side, Step};
use crate::codec::{
    Capabilities, ColumnDefinition, ErrPacket, Header, OkPacket, PrepareOk, Reply, Status,
    write_err, write_frame, write_ok,
};
use crate::fault::Fault;
use crate::policy::PluginHost;
use crate::schema::SqlMode;

/// The most columns a result can have: a join of wide tables has more than the 4,096 of a table, and PREPARE counts them
/// in 16 bits.
const MAX_COLUMNS: u64 = 65_535;

/// Definitions held at the most, in bytes: 4,096 columns, each with six names of 64 four-byte characters, are under
/// 8 MiB.
pub(super) const MAX_HELD: usize = 16 << 20;

/// How the answer to `COM_STATISTICS` begins, the only one of a single packet that the governed get.
const STATISTICS: &[u8] = b"Uptime: ";

/// An EOF in its old form: its byte, warnings and status.
const EOF_LEN: usize = 5;

/// What kind of response.
#[derive(PartialEq, Eq)]
pub(super) enum Expect {
    /// OK, ERR or results in the text protocol.
    Query,
    /// PREPARE's.
    Prepare { text: Arc<[u8]> },
    /// Results in the binary protocol.
    Execute { id: u32 },
    /// Rows of an open cursor.
    Fetch { id: u32 },
    /// One packet, whatever it says, or ERR.
    One,
    /// Packets without end, until EOF or ERR.
    Events,
    /// OK or ERR.
    Plain,
}

/// Where in the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    First,
    /// The client sends a file.
    LocalFile,
    Parameters {
        left: u64,
        columns: u64,
    },
    ParametersEof {
        columns: u64,
    },
    Definitions {
        left: u64,
    },
    DefinitionsEof,
    Rows,
}

/// What is to be done with a packet.
pub(super) enum Packet {
    /// It goes on as it stands.
    Pass,
    /// It is held, or `out` has what goes in its place.
    Taken,
}

/// A response that is being read.
pub(super) struct Response {
    pub(super) expect: Expect,
    pub(super) at: At,
    pub(super) deprecate_eof: bool,
    /// What was agreed on that shapes results.
    pub(super) capabilities: Capabilities,
    pub(super) rewrite: bool,
    pub(super) governed: bool,
    pub(super) uses: Option<String>,
    /// The mode that the statement sets.
    pub(super) sets_mode: Option<SqlMode>,
    pub(super) worker: usize,
    pub(super) max_row_bytes: usize,
    pub(super) plugins: Option<Arc<dyn PluginHost>>,
    /// Being defined, or as the client has it. Whoever defines it has the only one.
    pub(super) binding: Option<Arc<Binding>>,
    pub(super) masks: Option<Masks>,
    /// Definitions, until the plan is bound to all of them.
    pub(super) held: Vec<u8>,
    /// What a packet that is awaited takes of the worker's room for long ones.
    pub(super) collecting: Option<Taken>,
    /// What is wrong with the packet that comes next. It is told once all before it is released, so that what the client
    /// gets does not depend on how much arrived at once.
    pub(super) broken: Option<Box<Fault>>,
    /// Of the packet that was looked at last: its bytes with its header, and how much `out` held before it.
    pub(super) last: (usize, usize),
    /// Of the statement's columns, where the database may leave them out: those that were kept, or that came with this.
    pub(super) definitions: Option<Definitions>,
    pub(super) collected: Collected,
    /// A PREPARE is answered with definitions; MySQL's sessions may have turned them off.
    pub(super) defined: bool,
    pub(super) statement_id: u32,
    pub(super) parameters: u16,
    /// Bytes of the packet in passing that are still to come.
    pub(super) skip: usize,
    /// The packet in passing goes on in the next.
    pub(super) continues: bool,
    /// The sequence id of the next packet.
    pub(super) seq: u8,
    pub(super) part: Part,
    /// What the database told of the session's state.
    pub(super) tracked: Option<Box<Tracked>>,
    /// The file that the database may ask the client for.
    pub(super) local_file: Option<Box<[u8]>>,
    pub(super) outcome: Outcome,
    pub(super) ended: Option<Status>,
}

impl Response {
    /// A response of OK or ERR, of which nothing is governed.
    pub(super) fn plain() -> Self {
        Self {
            expect: Expect::Plain,
            at: At::First,
            deprecate_eof: true,
            capabilities: Capabilities(Capabilities::DEPRECATE_EOF),
            rewrite: false,
            governed: true,
            uses: None,
            sets_mode: None,
            worker: 0,
            max_row_bytes: 0,
            plugins: None,
            binding: None,
            masks: None,
            held: Vec::new(),
            collecting: None,
            broken: None,
            last: (0, 0),
            definitions: None,
            collected: Collected::No,
            defined: true,
            statement_id: 0,
            parameters: 0,
            skip: 0,
            continues: false,
            seq: 1,
            part: Part::default(),
            tracked: None,
            local_file: None,
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
            capabilities,
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
        } else if expect == Expect::Events {
            response.at = At::Rows;
        } else {
            response.binding = mask.map(|plan| Arc::new(Binding::new(plan)));
        }
        response.plugins = Some(plugins);
        response.expect = expect;
        Ok(response)
    }

    /// Whether the client has got a part of a packet and waits for its rest.
    pub(super) fn in_packet(&self) -> bool {
        self.skip > 0 || self.continues
    }

    /// Takes one whole packet that is not an unmasked row, by the sequence id that the client waits for.
    pub(super) fn numbered(
        &mut self,
        header: Header,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Packet, Fault> {
        let seq = header.seq.wrapping_add(self.part.shift);
        if seq != self.seq {
            let last_words = last_words(header, payload);
            return Err(last_words.unwrap_or_else(|| upstream_broken("packets out of order")));
        }
        self.last = (header.total(), out.len());
        let packet = self.packet(Header { seq, ..header }, payload, out)?;
        // A packet that is not understood is none that the client gets.
        self.seq = self.seq.wrapping_add(1);
        Ok(packet)
    }

    fn packet(
        &mut self,
        header: Header,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Packet, Fault> {
        let malformed = |_| upstream_broken("a result");
        match self.at {
            At::First => self.first(header, payload, out),
            At::LocalFile => Err(upstream_broken("an answer before the end of the file")),
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
                self.collect_one(payload);
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
                // MariaDB ends its events by an EOF in the old form, whatever was agreed on.
                let is_old = self.expect == Expect::Events && payload.len() == EOF_LEN;
                let (status, warnings) =
                    Reply::terminator(payload, self.deprecate_eof && !is_old).map_err(malformed)?;
                self.outcome.warnings = warnings;
                let tells = self.tells_state(payload);
                self.end_of_result(status)?;
                if tells { self.retell_state(header.seq, payload, out) } else { Ok(Packet::Pass) }
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
            let ok = PrepareOk::parse(payload, self.capabilities).map_err(malformed)?;
            self.statement_id = ok.statement_id;
            self.parameters = ok.parameters;
            self.outcome.warnings = ok.warnings;
            self.defined = ok.defined.unwrap_or(true);
            let columns = u64::from(ok.columns);
            if let Some(binding) = self.binding.as_ref().filter(|_| columns > 0) {
                binding.check_count(usize::from(ok.columns))?;
                if !self.defined {
                    return Err(undefined());
                }
            }
            self.collect();
            self.at = match u64::from(ok.parameters) {
                0 => self.after_parameters(columns),
                left if self.defined => At::Parameters { left, columns },
                _ if self.deprecate_eof => self.after_parameters(columns),
                _ => At::ParametersEof { columns },
            };
            return Ok(self.pass_or_hold(header, payload));
        }
        if matches!(self.expect, Expect::One) && payload.first() != Some(&0xFF) {
            if self.governed && !payload.starts_with(STATISTICS) {
                return Err(upstream_broken("statistics"));
            }
            self.ended = Some(Status(Status::AUTOCOMMIT));
            return Ok(Packet::Pass);
        }
        match Reply::parse(payload, self.capabilities).map_err(malformed)? {
            Reply::Err => self.error(header, payload, out),
            Reply::Ok => self.ok(header, payload, out),
            Reply::LocalInfile => self.asked_for(payload.get(1..).unwrap_or_default()),
            Reply::Columns { count, defined } if count <= MAX_COLUMNS && count > 0 => {
                if let Expect::Plain | Expect::Prepare { .. } = self.expect {
                    return Err(upstream_broken("rows where none were asked for"));
                }
                if let Some(binding) = &self.binding {
                    binding.check_count(usize::try_from(count).unwrap_or(usize::MAX))?;
                }
                if !defined {
                    return self.undefined(header, payload, count, out);
                }
                self.collect();
                self.at = At::Definitions { left: count };
                Ok(self.pass_or_hold(header, payload))
            }
            Reply::Columns { .. } => Err(upstream_broken("a column count")),
        }
    }

    fn after_parameters(&mut self, columns: u64) -> At {
        if columns > 0 && !self.defined && !self.deprecate_eof {
            return At::DefinitionsEof;
        }
        if columns == 0 || !self.defined {
            self.collected();
            self.ended = Some(Status(Status::AUTOCOMMIT));
        }
        At::Definitions { left: columns }
    }

    fn define(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
        let Some(binding) = &mut self.binding else { return Ok(()) };
        let binding = Arc::get_mut(binding).ok_or_else(Fault::internal)?;
        let definition = ColumnDefinition::parse(payload, self.capabilities)
            .map_err(|_| upstream_broken("a column definition"))?;
        let mut result = Ok(());
        write_frame(&mut self.held, header.seq, |out| result = binding.define(&definition, out));
        if self.held.len() > MAX_HELD {
            return Err(upstream_broken("definitions that are too long"));
        }
        result
    }

    /// All definitions were seen.
    fn defined(&mut self) {
        self.at = At::Rows;
        self.collected();
        if let Expect::Prepare { .. } = self.expect {
            self.ended = Some(Status(Status::AUTOCOMMIT));
        }
    }

    pub(super) fn pass_or_hold(&mut self, header: Header, payload: &[u8]) -> Packet {
        if self.binding.is_none() {
            return Packet::Pass;
        }
        write_frame(&mut self.held, header.seq, |out| out.extend_from_slice(payload));
        Packet::Taken
    }

    fn ok(&mut self, header: Header, payload: &[u8], out: &mut Vec<u8>) -> Result<Packet, Fault> {
        let ok = OkPacket::parse(payload).map_err(|_| upstream_broken("an OK packet"))?;
        self.outcome.affected_rows = self.outcome.affected_rows.saturating_add(ok.affected_rows);
        self.outcome.warnings = ok.warnings;
        let tells = self.tells_state(payload);
        self.end_of_result(ok.status)?;
        if tells {
            return self.retell_state(header.seq, payload, out);
        }
        if !self.rewrite || ok.info.is_empty() {
            return Ok(Packet::Pass);
        }
        // The info text counts rows and warnings of labelled data; the counts are in the packet anyway.
        let mut bare = OkPacket { info: &[], ..ok };
        if self.part.more {
            bare.status.0 |= Status::MORE_RESULTS;
        }
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
        // The client still waits for the first of the definitions that are held.
        let seq = Header::parse(&self.held).map_or(header.seq, |held| held.seq);
        self.held.clear();
        if !self.rewrite {
            return Ok(Packet::Pass);
        }
        let text = format!(
            "Rowgate [RG-WITHHELD]: error {} of the database; its text may carry data and was withheld",
            error.code
        );
        write_frame(out, seq, |out| write_err(out, error.code, error.sqlstate, &text));
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
    pub(super) fn may_end(&self, first: Option<u8>, len: usize) -> bool {
        let limit = if self.deprecate_eof { crate::codec::MAX_PAYLOAD } else { 9 };
        match first {
            Some(0xFF) => true,
            Some(0xFE) => len < limit,
            _ => len == 0,
        }
    }
}

impl Response {
    /// A row passes as it stands, perhaps before all of it is here. `bytes` begin with its header.
    pub(super) fn pass_row(&mut self, header: Header, bytes: &mut [u8]) {
        self.skip = header.total();
        self.continues = header.continues();
        self.seq = header.seq.wrapping_add(1);
        if self.part.shift != 0 {
            self.seq = self.part.renumber(bytes).wrapping_add(1);
        }
    }

    /// Makes a whole packet that was looked at a part of the answer to several statements.
    pub(super) fn take_part(&mut self, frame: &mut [u8]) {
        if self.part == Part::default() {
            return;
        }
        self.part.renumber(frame);
        let after_definitions = self.at == At::Rows && !self.deprecate_eof;
        if self.outcome.error_code == 0 && (self.ended.is_some() || after_definitions) {
            self.part.mark(frame, self.deprecate_eof);
        }
    }

    pub(super) fn forward(&mut self, len: usize) -> Step {
        self.outcome.bytes += len as u64;
        Step { consumed: len, op: Op::Forward }
    }

    pub(super) fn emit(&mut self, consumed: usize, out: &[u8]) -> Step {
        self.outcome.bytes += out.len() as u64;
        Step { consumed, op: Op::Emit(Side::Client) }
    }
}
