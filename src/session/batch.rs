//! Several statements in one COM_QUERY. The database is never sent more than one: each is ruled on before the first is
//! sent, then each is decided, recorded, sent and answered like a statement that came alone, and its answer is
//! renumbered into the one response that the client waits for. So a mask can't meet another statement's result, and
//! no reading of where a statement ends can differ from the database's.

use std::ops::Range;
use std::sync::Arc;

use super::machine::{Pending, Phase};
use super::{Op, Ruling, Session, Side, Statement, StatementKind, Step, Text};
use crate::codec::{Capabilities, HEADER_LEN, MAX_PAYLOAD, Status, write_packet};
use crate::fault::{Fault, FaultKind};
use crate::sql::{self, Split};

/// The statements of one command.
pub(super) struct Batch {
    split: Split,
    /// The query attributes that came in front of them: each statement may read them.
    prefix: Box<[u8]>,
    /// The next one.
    at: usize,
    /// The database that a USE among those that were looked at leads to.
    schema: Option<String>,
}

impl Batch {
    fn take(&mut self) -> Option<Arc<[u8]>> {
        let range: Range<usize> = self.split.statements.get(self.at)?.clone();
        self.at += 1;
        self.split.text.get(range).map(Arc::from)
    }

    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Whether another statement follows the one that was taken last.
    pub(super) fn goes_on(&self) -> bool {
        self.at < self.split.statements.len()
    }
}

impl Session {
    /// Begins with the first of several statements; `None` where the text is one.
    pub(super) fn begin_batch(
        &mut self,
        total: usize,
        prefix: &[u8],
        text: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Step> {
        if !self.capabilities.has(Capabilities::MULTI_STATEMENTS) {
            return None;
        }
        let split = sql::split(text, &self.settings.profile, self.sql_mode)?;
        if split.statements.len() > sql::MAX_STATEMENTS {
            return Some(self.refuse(&too_many(), total, out));
        }
        self.batch = Some(Box::new(Batch { split, prefix: prefix.into(), at: 0, schema: None }));
        let mut step = self.check_next();
        step.consumed = total;
        Some(step)
    }

    /// Asks about the next statement, while none has been sent; after the last begins to run them.
    pub(super) fn check_next(&mut self) -> Step {
        let Some(text) = self.batch.as_mut().and_then(|batch| batch.take()) else {
            if let Some(batch) = &mut self.batch {
                (batch.at, batch.schema) = (0, None);
            }
            return self.run_next();
        };
        self.phase = Phase::Checking;
        let statement = Statement { kind: StatementKind::Query, text: Text::Kept(text) };
        Step { consumed: 0, op: Op::Check(statement) }
    }

    /// The ruling on a statement that was only asked about.
    pub(super) fn on_checked(&mut self, ruling: Ruling) -> Phase {
        let Ruling::Run { uses, governed, .. } = ruling else {
            return Phase::Ruled(piece(Arc::from(&[][..])), ruling);
        };
        if let Some(batch) = &mut self.batch {
            if uses.is_some() {
                batch.schema = uses;
            }
            if !governed && !batch.split.says {
                // All that can be refused to an identity without rules is what it says of its run, which is then of all
                // of these: it is not asked twice.
                batch.at = batch.split.statements.len();
            }
        }
        Phase::Checking
    }

    /// The database in which the statement that is asked about would run.
    pub(super) fn checked_schema(&self) -> Option<&str> {
        let batch = self.batch.as_ref().filter(|_| matches!(self.phase, Phase::Checking))?;
        batch.schema.as_deref()
    }

    /// Decides the next statement, as if it had come alone.
    pub(super) fn run_next(&mut self) -> Step {
        let Some(text) = self.batch.as_mut().and_then(|batch| batch.take()) else {
            self.phase = Phase::Idle;
            return Step { consumed: 0, op: Op::Read { side: Side::Client, at_least: HEADER_LEN } };
        };
        self.decide(piece(Arc::clone(&text)), Text::Kept(text))
    }
}

/// A statement whose command is no longer in the client's buffer.
fn piece(text: Arc<[u8]>) -> Pending {
    Pending::new(StatementKind::Query, 0, Some(text))
}

/// How a statement's answer becomes a part of a longer one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// What its sequence ids grow by.
    pub(super) shift: u8,
    /// Another statement's answer follows.
    pub(super) more: bool,
}

impl Part {
    /// The part of a statement that is sent as a command of its own, whose answer goes on with the id `seq`.
    pub(super) fn sent(body: &[&[u8]; 2], seq: u8, more: bool, out: &mut Vec<u8>) -> Self {
        let mut payload = Vec::with_capacity(1 + body[0].len() + body[1].len());
        payload.push(crate::codec::Command::QUERY.0);
        body.iter().for_each(|part| payload.extend_from_slice(part));
        let answered = write_packet(out, 0, &payload);
        debug_assert_eq!(usize::from(answered), (1 + payload.len() / MAX_PAYLOAD) % 256);
        Self { shift: seq.wrapping_sub(answered), more }
    }

    /// Gives the packet at the front of `frame` the sequence id that the client waits for.
    pub(super) fn renumber(self, frame: &mut [u8]) -> u8 {
        let Some(seq) = frame.get_mut(HEADER_LEN - 1) else { return 0 };
        *seq = seq.wrapping_add(self.shift);
        *seq
    }

    /// Says in the last packet of an answer that another follows.
    pub(super) fn mark(self, frame: &mut [u8], deprecate_eof: bool) {
        let payload = frame.get_mut(HEADER_LEN..).unwrap_or_default();
        if let Some(at) = Status::place(payload, deprecate_eof).filter(|_| self.more)
            && let Some(low) = payload.get_mut(at)
        {
            *low |= Status::MORE_RESULTS.to_le_bytes()[0];
        }
    }
}

fn too_many() -> Fault {
    let text = "Rowgate [RG-LIMIT]: too many statements in one; send at most 10,000 together";
    Fault::new(FaultKind::Limit, 1153, *b"08S01", text)
}
