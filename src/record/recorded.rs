//! Records as they are read back: owned, and told as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Completion, Masked};

/// A record as it is read back; see [`super::Event`] for the fields.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Record {
    /// The writer: a worker's number, or the control plane's.
    pub core: u16,
    /// Counts the writer's records.
    pub sequence: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Recorded,
}

/// An event, owned.
#[allow(missing_docs, reason = "the fields are those of `Event`")]
#[allow(clippy::large_enum_variant, reason = "records are read back one at a time")]
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Recorded {
    SessionOpened(Opened),
    SessionClosed {
        session: u64,
        at_us: i64,
        reason: String,
    },
    LoginRefused {
        at_us: i64,
        user: String,
        target: String,
        source: String,
        reason: String,
    },
    Intent(RecordedIntent),
    Completion(Completion),
    Released {
        session: u64,
        statement: u64,
        at_us: i64,
        capabilities: u64,
        cut: bool,
        #[serde(serialize_with = "as_base64")]
        bytes: Vec<u8>,
    },
    Approval {
        at_us: i64,
        approval: String,
        change: String,
        by: String,
        reason: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<u64>,
    },
    Admin {
        at_us: i64,
        by: String,
        action: String,
        subject: String,
    },
}

/// How a session began.
#[allow(missing_docs, reason = "the fields are those of `Event::SessionOpened`")]
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Opened {
    pub session: u64,
    pub at_us: i64,
    pub identity: String,
    pub groups: Vec<String>,
    pub target: String,
    pub source: String,
    pub attributes: Vec<(String, String)>,
}

/// An intent, owned.
#[allow(missing_docs, reason = "the fields are those of `Intent`")]
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RecordedIntent {
    pub session: u64,
    pub statement: u64,
    pub at_us: i64,
    pub identity: String,
    pub target: String,
    pub schema: Option<String>,
    pub command: String,
    pub verb: String,
    pub digest: String,
    pub text: String,
    pub verdict: String,
    pub rules: Vec<String>,
    pub masked: Vec<Masked>,
    pub tables: Vec<String>,
    pub policy_version: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub attribute_count: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<(String, String)>,
}

impl Recorded {
    /// When it happened, in microseconds since the epoch.
    pub fn at_us(&self) -> i64 {
        match self {
            Self::SessionOpened(Opened { at_us, .. })
            | Self::Intent(RecordedIntent { at_us, .. })
            | Self::Completion(Completion { at_us, .. })
            | Self::SessionClosed { at_us, .. }
            | Self::LoginRefused { at_us, .. }
            | Self::Released { at_us, .. }
            | Self::Approval { at_us, .. }
            | Self::Admin { at_us, .. } => *at_us,
        }
    }

    /// The session that it is of, or that asked for it.
    pub fn session(&self) -> Option<u64> {
        match self {
            Self::SessionOpened(Opened { session, .. })
            | Self::Intent(RecordedIntent { session, .. })
            | Self::Completion(Completion { session, .. })
            | Self::SessionClosed { session, .. }
            | Self::Released { session, .. } => Some(*session),
            Self::Approval { session, .. } => *session,
            Self::LoginRefused { .. } | Self::Admin { .. } => None,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn as_base64<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(bytes))
}
