//! The connection machines, without sockets and without a clock.
//!
//! [`Session`] is the client's side of one connection: login, commands, results. `net` owns the buffers and
//! does the I/O: it hands the session what has arrived ([`Session::on_bytes`]) and carries out the one [`Op`]
//! that comes back, until that is [`Op::Read`]. [`upstream`] is the machine for the gateway's own login at the
//! database, driven the same way by the pool.

mod answer;
mod attributes;
mod batch;
mod binding;
mod command;
mod definitions;
mod file;
mod handshake;
mod kill;
mod machine;
mod masks;
mod overlong;
mod prepared;
mod response;
mod room;
mod rows;
mod shown;
mod track;
mod unbound;
pub mod upstream;

use std::ops::Range;
use std::sync::Arc;

pub use handshake::challenge;
pub use kill::unknown_connection;
pub use machine::{Session, Spare};
pub use room::Room;
pub use shown::{ShownParameters, ShownRow, Unshown};

use crate::codec::{Command, Compression};
use crate::fault::{Fault, FaultKind};
use crate::identity::{LoginKey, Principal, Proof};
use crate::policy::{MaskPlan, PluginHost};
use crate::schema::{ServerProfile, SqlMode};
use crate::sql::Kill;

/// One of the two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The agent or person.
    Client,
    /// The database.
    Server,
}

/// What a session is told at its birth.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The target as last seen: the handshake repeats its version string.
    pub profile: Arc<ServerProfile>,
    /// Ours, with bit 31 set.
    pub connection_id: u32,
    /// 20 random bytes without NUL or `$`: the greeting's challenge, then that of the latest switch.
    pub scramble: [u8; 20],
    /// What the challenges of switches are derived from.
    pub scramble_key: [u8; 32],
    /// The key for whole secrets outside TLS; none: they are not asked for there.
    pub login_key: Option<Arc<LoginKey>>,
    /// Issuers are configured: a secret may be a token of theirs.
    pub issuers: bool,
    /// A certificate is configured: advertise TLS.
    pub tls_available: bool,
    /// Refuse a login outside TLS.
    pub tls_required: bool,
    /// The capabilities of the compressions that are offered.
    pub compression: u64,
    /// The client came by a Unix socket, on which a secret is as safe as inside TLS.
    pub is_local: bool,
    /// The client's host as it may be named in 1045 (an address).
    pub host: Arc<str>,
    /// Longest statement collected (16 MiB by default).
    pub max_statement_bytes: usize,
    /// Longest row collected for masking.
    pub max_row_bytes: usize,
    /// What long packets of all sessions of the worker share.
    pub room: Arc<Room>,
    /// The worker that runs this session: plugins keep instances per worker.
    pub worker: usize,
}

/// What a session asks for next. After carrying it out, the driver drops `consumed` bytes from the front of the
/// buffer it had lent and calls [`Session::on_bytes`] again (with `bytes` possibly empty), unless said otherwise.
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
    /// Needs more bytes from this side: call again with what has arrived. `at_least` is the length of the whole
    /// buffer that it can make progress with (the driver grows its buffer to that when it is larger).
    Read {
        /// Whom to read from.
        side: Side,
        /// Total bytes wanted in the buffer, counted after dropping `consumed`.
        at_least: usize,
    },
    /// Write the first `consumed` bytes of the lent buffer to the other side as they stand (perhaps patched in
    /// place just now), then call again.
    Forward,
    /// Write `out` to this side, clear it, call again.
    Emit(Side),
    /// The client asked for TLS: bytes after `consumed` belong to the TLS handshake. Call again with the first
    /// decrypted bytes.
    StartTls,
    /// From here on, both directions of the client's connection are compressed.
    Compress(Compression),
    /// Check these credentials and answer with [`Session::on_authenticated`].
    Authenticate(Box<Login>),
    /// A statement waits for its ruling: answer with [`Session::on_ruling`]. The lent bytes stay lent
    /// (`consumed` is 0): ranges in [`Statement`] are into them.
    Decide(Statement),
    /// One of several statements, none of which has been sent, waits for what would be ruled on it: answer with
    /// [`Session::on_ruling`]. Only a refusal is recorded, and it must not wait for people. It is decided again, under
    /// the session's state of then, when its turn has come.
    Check(Statement),
    /// A session, or its statement, is to be ended: answer with [`Session::on_killed`].
    Kill(Kill),
    /// A connection to the database is needed: answer with [`Session::on_upstream`].
    Connect,
    /// Give the database connection back to the pool (which resets it); the session has forgotten its state.
    Release {
        /// The database that the connection is in: a reset leaves it there.
        schema: Option<String>,
    },
    /// This command is refused: for the record. What the client is told comes next.
    Refused(Command),
    /// The statement is over (answered or refused).
    Done(Outcome),
    /// Close both sides, after whatever was emitted has been written. A bound database connection that is in
    /// the middle of a response must not go back to the pool.
    Close(Option<FaultKind>),
}

/// Credentials as they arrived.
#[derive(Clone, Debug)]
pub struct Login {
    /// The whole user name, attributes and all.
    pub user: String,
    /// What was offered.
    pub proof: Proof,
    /// The connection is inside TLS.
    pub tls: bool,
    /// Connection attributes, bounded (64 KiB by the packet).
    pub attributes: Vec<(String, String)>,
    /// COM_CHANGE_USER rather than the first login.
    pub change_user: bool,
    /// If the proof is wrong, the client will be asked for the whole secret.
    pub asks_again: bool,
}

/// How a statement came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatementKind {
    /// COM_QUERY.
    Query,
    /// COM_INIT_DB: the text is the database's name.
    InitDb,
    /// COM_STMT_PREPARE.
    Prepare,
    /// COM_STMT_EXECUTE: the text is the prepared one.
    Execute,
    /// MariaDB's COM_STMT_BULK_EXECUTE: the prepared text, once for each of many rows of parameters.
    BulkExecute,
    /// COM_STATISTICS, ruled on as the SHOW STATUS that it is a part of.
    Statistics,
    /// A command that is no statement, which a policy may permit by its name: that is its text.
    Command(Command),
    /// COM_STMT_FETCH: recorded; the plan is its EXECUTE's, so no ruling changes it.
    Fetch,
}

impl StatementKind {
    /// Whether its text was prepared before.
    pub fn is_prepared(self) -> bool {
        matches!(self, Self::Execute | Self::BulkExecute | Self::Fetch)
    }

    /// Whether it is a command of the protocol that is no statement.
    pub fn is_command(self) -> bool {
        matches!(self, Self::Command(_))
    }
}

/// A statement's text: in the lent buffer, or kept since its PREPARE.
#[derive(Clone, Debug)]
pub enum Text {
    /// A range of the buffer lent with the call that returned [`Op::Decide`].
    Lent(Range<usize>),
    /// Kept by the session.
    Kept(Arc<[u8]>),
}

/// A statement to rule on.
#[derive(Clone, Debug)]
pub struct Statement {
    /// How it came.
    pub kind: StatementKind,
    /// Its text.
    pub text: Text,
}

/// The driver's answer to [`Op::Decide`].
#[derive(Clone)]
pub enum Ruling {
    /// Send it.
    Run {
        /// The text to send in place of the original, of the same length; `None`: as it came.
        canonical: Option<Arc<[u8]>>,
        /// What to mask in its results.
        mask: Option<Arc<MaskPlan>>,
        /// Who opens the streams.
        plugins: Arc<dyn PluginHost>,
        /// Errors from the database carry data and are rewritten to number, SQLSTATE and symbol.
        rewrite_errors: bool,
        /// Strictness applies.
        governed: bool,
        /// The statement is USE of this database, which becomes current if it succeeds.
        uses: Option<String>,
        /// The catalogue has that database: a login may choose it without asking.
        known: bool,
    },
    /// Answer with this error; nothing is forwarded and the connection stays usable.
    Refuse(Fault),
    /// Answer with this error, then close.
    RefuseAndClose(Fault),
}

/// What became of a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rows released to the client.
    pub rows: u64,
    /// Bytes released to the client; of a file that it sent, its bytes too.
    pub bytes: u64,
    /// Cells that a mask changed.
    pub masked_cells: u64,
    /// Rows affected, from the OK packet.
    pub affected_rows: u64,
    /// Warnings that the database told of.
    pub warnings: u16,
    /// The error number that the client saw; 0 for none.
    pub error_code: u16,
    /// Our fault's kind, where the error was ours.
    pub fault: Option<FaultKind>,
}

/// What the session knows that a decision needs.
#[derive(Clone, Debug)]
pub struct Facets<'a> {
    /// Who is logged in.
    pub principal: &'a Arc<Principal>,
    /// The current database; that of its PREPARE, for a prepared statement.
    pub schema: Option<&'a str>,
    /// The current `sql_mode`; that of its PREPARE, for a prepared statement.
    pub sql_mode: SqlMode,
    /// Inside a transaction (by the last status flags), or with an open cursor: no waiting here.
    pub in_transaction: bool,
}

/// What the pool tells of a connection it bound.
#[derive(Clone, Debug)]
pub struct UpstreamReady {
    /// The database's connection id, for KILL and the record.
    pub connection_id: u32,
}

/// What the pool must match: the flags that change the bytes, and the collation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamKey {
    /// Capabilities of the connection phase, a subset of what `codec` names as proxied.
    pub capabilities: u64,
    /// The client's collation. Where a login has no room for it (above 255), the baseline sets it.
    pub collation: u16,
}
