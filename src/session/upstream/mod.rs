//! The gateway as a client of the database: login, the baseline of a pooled connection, its own few queries.
//! Sans-I/O like the session: the driver feeds bytes and carries out [`Op`]s.

mod baseline;
mod login;
mod proof;
mod query;

pub use baseline::{Baseline, MAX_FOUND_ROWS, Wanted};
pub use login::{Account, Channel, Established, Login};
pub use query::Query;

use crate::codec::{ErrPacket, Header};
use crate::fault::Fault;

/// What a machine asks for next; drop `consumed` bytes first.
#[derive(Debug)]
pub struct Step {
    /// Bytes of the lent buffer that are done with.
    pub consumed: usize,
    /// What to do.
    pub op: Op,
}

/// The operations.
#[derive(Debug)]
pub enum Op {
    /// Needs the buffer to hold at least this many bytes.
    Read {
        /// Total bytes wanted, counted after dropping `consumed`.
        at_least: usize,
    },
    /// Write `out` to the database, clear it, call again.
    Emit,
    /// Start TLS; call again with the first decrypted bytes (or none).
    StartTls,
    /// It is done.
    Done,
    /// It failed: close the connection.
    Failed(Fault),
}

fn read(consumed: usize, at_least: usize) -> Step {
    Step { consumed, op: Op::Read { at_least } }
}

fn failed(fault: Fault) -> Step {
    Step { consumed: 0, op: Op::Failed(fault) }
}

/// The packet at the front, or how many bytes it takes. Nothing here is longer than a row of the catalogue.
fn packet(bytes: &[u8]) -> Result<(Header, &[u8]), Step> {
    const LIMIT: usize = 16 << 20;
    let Some(header) = Header::parse(bytes) else { return Err(read(0, 4)) };
    if header.len > LIMIT - 4 {
        return Err(failed(Fault::upstream_lost("the database sent a packet that is too long")));
    }
    header.payload(bytes).map(|payload| (header, payload)).ok_or_else(|| read(0, header.total()))
}

/// The database's refusal, by number and SQLSTATE: its text may name accounts and hosts.
fn refusal(what: &str, payload: &[u8]) -> Fault {
    match ErrPacket::parse(payload) {
        Ok(error) => {
            let state = String::from_utf8_lossy(&error.sqlstate).into_owned();
            Fault::upstream_down(&format!("the database {what}: error {} ({state})", error.code))
        }
        Err(_) => malformed(),
    }
}

/// What the database says before it closes a connection unasked (a time-out, a KILL, its own end): an error numbered 0,
/// which no answer to a command is. Its text may name accounts and hosts.
pub(super) fn last_words(header: Header, payload: &[u8]) -> Option<Fault> {
    let error = ErrPacket::parse(payload).ok().filter(|_| header.seq == 0)?;
    let (code, state) = (error.code, String::from_utf8_lossy(&error.sqlstate));
    let text = format!("the database had closed the connection: error {code} ({state})");
    Some(Fault::upstream_lost(&text))
}

fn malformed() -> Fault {
    Fault::upstream_lost("the database sent a malformed packet")
}
