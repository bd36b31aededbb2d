//! What a session rests on after its login.

use std::sync::Arc;

/// What a session got in with: it holds for as long as that does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    pub(super) identity: String,
    pub(super) source: Source,
    pub(super) expires_us: Option<i64>,
}

/// What a pass rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The gateway token with this id.
    Token(Arc<str>),
    /// The session password with this id.
    Password(Arc<str>),
    /// A token of the issuer with this URL.
    Issuer(String),
    /// A certificate, by a rule of this pattern.
    Certificate(String),
}

/// Why a pass counts no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassEnd {
    /// Someone has taken it away, or its identity's.
    Revoked,
    /// What it rested on is there no more: the issuer, the rule of certificates, or a password that ended long since.
    Withdrawn,
}

impl Pass {
    /// Whether its time is over.
    pub fn has_expired(&self, now_us: i64) -> bool {
        self.expires_us.is_some_and(|end| end <= now_us)
    }

    /// The id of the gateway's token or session password that it is, if it is one.
    pub(super) fn token(&self) -> Option<&Arc<str>> {
        match &self.source {
            Source::Token(id) | Source::Password(id) => Some(id),
            Source::Issuer(_) | Source::Certificate(_) => None,
        }
    }
}
