//! What the database tells of the session's state: taken over, and kept from the client, which has not asked for it
//! (the capability is not offered: what is tracked is the gateway's business).

use super::machine::{Pending, upstream_broken};
use super::response::{At, Expect, Packet, Response};
use super::{Session, StatementKind};
use crate::codec::{OkPacket, StateChange, Status, state_changes, write_frame, write_ok};
use crate::fault::Fault;
use crate::schema::SqlMode;
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
}

impl Response {
    /// Whether this packet tells of changes, so that it can't pass as it stands.
    pub(super) fn tells_state(&self, payload: &[u8]) -> bool {
        let first = payload.first().copied();
        let is_ok = match self.at {
            At::First => {
                first == Some(0) && !matches!(self.expect, Expect::Prepare { .. } | Expect::Text)
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

    /// Takes over what an OK tells and appends the OK without it.
    pub(super) fn strip_state(
        &mut self,
        seq: u8,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Packet, Fault> {
        let malformed = |_| upstream_broken("session tracking");
        let ok = OkPacket::parse(payload).map_err(malformed)?;
        let tracked = self.tracked.get_or_insert_default();
        let text = state_changes(ok.info, |change| match change {
            StateChange::Schema(name) => {
                tracked.schema = Some(String::from_utf8_lossy(name).into_owned());
            }
            StateChange::Variable(name, value) if name.starts_with(b"character_set_") => {
                tracked.strange |= !CHARSETS.contains(&value);
            }
            StateChange::Variable(..) | StateChange::Other(_) => {}
        });
        let text = text.map_err(malformed)?;
        let info = if self.rewrite { &[] } else { ok.info.get(..text).unwrap_or_default() };
        let more = if self.part.more { Status::MORE_RESULTS } else { 0 };
        let status = Status(ok.status.0 & !Status::SESSION_STATE_CHANGED | more);
        let header = payload.first().copied().unwrap_or_default();
        write_frame(out, seq, |out| write_ok(out, header, &OkPacket { status, info, ..ok }));
        Ok(Packet::Taken)
    }
}
