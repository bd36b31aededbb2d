//! What is recorded: audit events and their byte format. No I/O.

mod format;
mod masked;
mod recorded;

pub use format::{FormatError, MAX_RELEASED, decode, encode};
pub use masked::Masked;
pub use recorded::{Opened, Record, Recorded, RecordedIntent};

use crate::sql::{Digest, Verb};

/// A statement is about to be sent, held, or was refused: the first of its two records.
#[derive(Clone, Debug)]
pub struct Intent<'a> {
    /// The gateway's id of the session.
    pub session: u64,
    /// Counts statements within the session, from 1.
    pub statement: u64,
    /// Microseconds since the epoch.
    pub at_us: i64,
    /// Who.
    pub identity: &'a str,
    /// On which target.
    pub target: &'a str,
    /// In which database.
    pub schema: Option<&'a str>,
    /// `query`, `prepare`, `execute`, `bulk_execute`, `fetch`, `init_db`.
    pub command: &'static str,
    /// What it is.
    pub verb: Verb,
    /// Its shape.
    pub digest: Digest,
    /// Its text: the shape, or with literals, by configuration.
    pub text: &'a str,
    /// `allow`, `mask`, `deny`, `hold`.
    pub verdict: &'static str,
    /// The deciding rules' ids.
    pub rules: &'a [String],
    /// Each masked column, by [`Masked::write`].
    pub masked: &'a [String],
    /// The tables touched, as `schema.table`.
    pub tables: &'a [String],
    /// The snapshot's version.
    pub policy_version: &'a str,
    /// How many query attributes the client sent along.
    pub attribute_count: u32,
    /// Those of them that are recorded.
    pub attributes: &'a [(&'a str, &'a str)],
}

/// A statement ended: the second of its two records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Completion {
    /// As in the intent.
    pub session: u64,
    /// As in the intent.
    pub statement: u64,
    /// Microseconds since the epoch.
    pub at_us: i64,
    /// Rows released.
    pub rows: u64,
    /// Bytes released.
    pub bytes: u64,
    /// Cells masked.
    pub masked_cells: u64,
    /// Error number the client saw; 0 for none.
    pub error_code: u16,
    /// Waiting for an upstream connection.
    pub queue_us: u64,
    /// Analysing and deciding.
    pub decide_us: u64,
    /// Waiting for an approver.
    pub hold_us: u64,
    /// From sending upstream to its first byte.
    pub upstream_us: u64,
    /// From the whole command's arrival to the last byte released.
    pub total_us: u64,
}

/// A piece of what a client was answered, byte for byte as it was released: packets of the protocol, masked where they
/// are masked. A statement has as many as its answer has pieces, up to a bound of their bytes.
#[derive(Clone, Copy, Debug)]
pub struct Released<'a> {
    /// As in the intent.
    pub session: u64,
    /// As in the intent.
    pub statement: u64,
    /// Microseconds since the epoch.
    pub at_us: i64,
    /// The client's capabilities, by which the packets are read.
    pub capabilities: u64,
    /// There was more, which is not recorded.
    pub cut: bool,
    /// The bytes, at most [`MAX_RELEASED`] of them.
    pub bytes: &'a [u8],
}

/// A session's life, logins refused, approvals, policy swaps and admin actions.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A login succeeded.
    SessionOpened {
        /// Its id.
        session: u64,
        /// Microseconds since the epoch.
        at_us: i64,
        /// Who.
        identity: &'a str,
        /// Groups.
        groups: &'a [String],
        /// On which target.
        target: &'a str,
        /// From where.
        source: &'a str,
        /// The user name's and the connection's attributes.
        attributes: &'a [(String, String)],
    },
    /// It ended.
    SessionClosed {
        /// Its id.
        session: u64,
        /// Microseconds since the epoch.
        at_us: i64,
        /// `quit`, `lost`, `drain`, `fault`, …
        reason: &'static str,
    },
    /// A login was refused.
    LoginRefused {
        /// Microseconds since the epoch.
        at_us: i64,
        /// The name it came with, cut to 96 bytes.
        user: &'a str,
        /// On which target.
        target: &'a str,
        /// From where.
        source: &'a str,
        /// A closed word: `unknown`, `proof`, `expired`, `revoked`, `limit`, `tls`.
        reason: &'static str,
    },
    /// First record of a statement.
    Intent(Intent<'a>),
    /// What was answered, between a statement's two records.
    Released(Released<'a>),
    /// Second record of a statement.
    Completion(Completion),
    /// An approval was asked, given, denied, cancelled or expired.
    Approval {
        /// Microseconds since the epoch.
        at_us: i64,
        /// The request.
        approval: &'a str,
        /// `requested`, `approved`, `denied`, `break_glass`, `cancelled`, `expired`, `consumed`, `outdated`.
        change: &'static str,
        /// By whom.
        by: &'a str,
        /// The reason given.
        reason: &'a str,
        /// The gateway's id of the session that asked.
        session: u64,
    },
    /// An administrator (or the gateway itself) did something: reload, swap, token made or revoked.
    Admin {
        /// Microseconds since the epoch.
        at_us: i64,
        /// By whom.
        by: &'a str,
        /// The verb.
        action: &'a str,
        /// On what.
        subject: &'a str,
    },
}
