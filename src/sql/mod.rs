//! Statement text → canonical tokens, digest and facts. "Unknown" is a result, never a guess.
//!
//! [`analyse`] never fails: what it cannot understand it says in [`Analysis::unknown`], and policy refuses
//! that for a governed identity. What it says is what the server will run, because the server is sent the
//! canonical text (same length, comments and executable markers blanked in place).

mod facts;

pub use facts::{
    Access, ColumnRef, ColumnUse, Facts, Lineage, Output, Place, TableUse, Unknown, Verb,
};

use crate::schema::{Catalog, SqlMode};

/// What the text is read against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The target's tables, views, and server profile.
    pub catalog: &'a Catalog,
    /// The session's current `sql_mode`.
    pub sql_mode: SqlMode,
    /// The session's current database.
    pub schema: Option<&'a str>,
}

/// A statement's digest: BLAKE3 of the canonical tokens with literals replaced, cut to 128 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 16]);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What is known of one statement text.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// The text to send, of the same length as what came; `None`: the original as it stands.
    pub canonical: Option<Box<[u8]>>,
    /// Digest of the shape.
    pub digest: Digest,
    /// The shape as text: keywords and names, literals as `?`, single spaces. For the record.
    pub digest_text: String,
    /// What it does to what.
    pub facts: Facts,
    /// Why it can't be trusted to do only that. Policy refuses it for the governed.
    pub unknown: Option<Unknown>,
}
