//! What the database tells of the session's state: taken over; and passed on to the clients that asked for it, to the
//! governed no more than what they could set themselves.

use super::machine::{Pending, upstream_broken};
use super::response::{At, Expect, Packet, Response};
use super::{Ruling, Session, StatementKind};
use crate::codec::{
    Capabilities, OkPacket, StateChange, Status, state_changes, write_frame, write_ok, write_state,
};
use crate::fault::Fault;
use crate::schema::{Flavour, SqlMode};
use crate::sql;

/// Character sets whose text the lexer reads as the server does; empty: results are not converted.
const CHARSETS: [&[u8]; 7] = [b"utf8mb4", b"utf8mb3", b"utf8", b"latin1", b"ascii", b"binary", b""];

/// What an answer told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tracked {
    /// The current database; empty: there is none any more.
    pub(super) schema: Option<String>,
    /// A character set in which the lexer would read another text than the server.
    pub(super) strange: bool,
}

impl Session {
    /// The `sql_mode` that a statement about to be sent sets: MySQL tells nothing of most of its parts.
    pub(super) fn sets_mode(&self, pending: &Pending, text: &[u8]) -> Option<SqlMode> {
        let runs = matches!(
            pending.kind,
            StatementKind::Query | StatementKind::Execute | StatementKind::BulkExecute
        );
        sql::sets_mode(text, &self.settings.profile, self.sql_mode).filter(|_| runs)
    }

    /// The text to send instead, where the governed choose which variables they are told of: the gateway must go on to be
    /// told of its own.
    pub(super) fn keeps_told(&self, ruling: &Ruling, text: &[u8]) -> Option<Vec<u8>> {
        let Ruling::Run { governed: true, .. } = ruling else { return None };
        sql::keeps_told(text, &self.settings.profile, self.sql_mode)
    }

    /// What the gateway's own answers say of the session: what each of the database's would. (By how backslashes are read,
    /// drivers choose how they escape.)
    pub(super) fn own_status(&self) -> Status {
        const KEPT: u16 = Status::AUTOCOMMIT | Status::IN_TRANS | Status::IN_TRANS_READONLY;
        let mut status = self.status.0 & KEPT;
        if self.sql_mode.has(SqlMode::NO_BACKSLASH_ESCAPES) {
            status |= Status::NO_BACKSLASH_ESCAPES;
        }
        let is_mariadb = self.settings.profile.flavour == Flavour::MariaDb;
        if is_mariadb && self.sql_mode.has(SqlMode::ANSI_QUOTES) {
            status |= Status::MARIADB_ANSI_QUOTES;
        }
        Status(status)
    }

    /// The OK of a login, which names the database that it chose.
    pub(super) fn emit_login(&self, seq: u8, out: &mut Vec<u8>) {
        let asked = self.capabilities.has(Capabilities::SESSION_TRACK);
        let Some(schema) = self.schema.as_deref().filter(|_| asked) else {
            return self.emit_ok(seq, out);
        };
        let (mut changes, mut info) = (Vec::new(), Vec::new());
        StateChange::Schema(schema.as_bytes()).write(&mut changes);
        write_state(&mut info, &[], &changes);
        let status = Status(self.own_status().0 | Status::SESSION_STATE_CHANGED);
        let ok = OkPacket { status, info: &info, ..OkPacket::default() };
        write_frame(out, seq, |out| write_ok(out, 0, &ok));
    }
}

impl Response {
    /// Whether this packet tells of changes, so that it can't pass as it stands.
    pub(super) fn tells_state(&self, payload: &[u8]) -> bool {
        let first = payload.first().copied();
        let is_ok = match self.at {
            At::First => {
                first == Some(0) && !matches!(self.expect, Expect::Prepare { .. } | Expect::One)
            }
            At::Rows => {
                self.deprecate_eof && self.may_end(first, payload.len()) && first == Some(0xFE)
            }
            _ => false,
        };
        is_ok
            && Status::place(payload, true)
                .and_then(|at| payload.get(at + 1))
                .is_some_and(|high| high & Status::SESSION_STATE_CHANGED.to_be_bytes()[0] != 0)
    }

    /// Takes over what an OK tells, and appends the OK with what of it is for the client.
    pub(super) fn retell_state(
        &mut self,
        seq: u8,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Packet, Fault> {
        let malformed = |_| upstream_broken("session tracking");
        let ok = OkPacket::parse(payload).map_err(malformed)?;
        let tells = self.capabilities.has(Capabilities::SESSION_TRACK);
        let (governed, rewrite) = (self.governed, self.rewrite);
        let tracked = self.tracked.get_or_insert_default();
        let (mut told, mut kept_back) = (Vec::new(), !tells);
        let text = state_changes(ok.info, |change| {
            match change {
                StateChange::Schema(name) => {
                    tracked.schema = Some(String::from_utf8_lossy(name).into_owned());
                }
                StateChange::Variable(name, value) if name.starts_with(b"character_set_") => {
                    tracked.strange |= !CHARSETS.contains(&value);
                }
                StateChange::Variable(..) | StateChange::Other(..) => {}
            }
            if tells && (!governed || is_for_the_governed(change, rewrite)) {
                change.write(&mut told);
            } else {
                kept_back = true;
            }
        });
        let text = text.map_err(malformed)?;
        let text = if rewrite { &[] } else { ok.info.get(..text).unwrap_or_default() };
        let mut status = ok.status.0 & !Status::SESSION_STATE_CHANGED;
        if self.part.more {
            status |= Status::MORE_RESULTS;
        }
        let mut info = Vec::new();
        if told.is_empty() && kept_back {
            info.extend_from_slice(text);
        } else {
            status |= Status::SESSION_STATE_CHANGED;
            write_state(&mut info, text, &told);
        }
        let header = payload.first().copied().unwrap_or_default();
        let ok = OkPacket { status: Status(status), info: &info, ..ok };
        write_frame(out, seq, |out| write_ok(out, header, &ok));
        Ok(Packet::Taken)
    }
}

/// Whether the governed may be told: of their database (a client that did not know it would run its next statement in
/// another), and of what they could set themselves. Beside labelled data (`rewrite`), of the database alone: what else a
/// statement leaves behind may be made of its cells. Not of transactions' ids, nor of what has no name here.
fn is_for_the_governed(change: StateChange<'_>, rewrite: bool) -> bool {
    match change {
        StateChange::Schema(_) => true,
        StateChange::Variable(name, _) => !rewrite && sql::is_settable(name),
        StateChange::Other(kind, _) => !rewrite && kind == StateChange::STATE,
    }
}
