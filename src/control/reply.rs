//! What travels over the admin API, in both directions: types only, shared with the command line.

use crate::approval::Outlook;
use crate::identity::{Explanation, PrincipalKind};
use crate::network::Network;
use crate::store::{Approval, Past, PolicyVersion};

/// `GET /v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// Rowgate's version.
    pub version: String,
    /// `io_uring` or `epoll`.
    pub driver: String,
    /// Worker threads.
    pub workers: usize,
    /// Microseconds since the epoch.
    pub started_us: i64,
    /// The digest of the live policy's inputs.
    pub policy_version: String,
    /// Why the last reload failed, while the policy before it stays live.
    pub reload_error: Option<String>,
    /// Tables of the configuration that changed, and take effect at a restart only.
    #[serde(default)]
    pub needs_restart: Vec<String>,
    /// The databases.
    pub targets: Vec<TargetStatus>,
    /// Sessions open now.
    pub sessions: usize,
    /// The record.
    pub audit: AuditStatus,
    /// Why it takes no traffic, if it takes none.
    pub not_ready: Option<String>,
}

/// A target in a [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TargetStatus {
    /// Its name.
    pub name: String,
    /// Where clients connect.
    pub listen: String,
    /// The database.
    pub address: String,
    /// It answers, and its catalogue was read.
    pub up: bool,
    /// Its version, or why it is down.
    pub detail: String,
}

/// The record's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AuditStatus {
    /// It takes records.
    pub ok: bool,
    /// `sync` or `async`.
    pub durability: String,
    /// Bytes waiting for the disk.
    pub queued_bytes: u64,
    /// Records written since the start.
    pub records: u64,
    /// Why not, if not.
    pub detail: String,
}

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SessionInfo {
    /// The gateway's id: the one in the record, which the database's CONNECTION_ID() doesn't tell.
    pub id: u64,
    /// Who.
    pub identity: String,
    /// On which target.
    pub target: String,
    /// From where.
    pub source: String,
    /// `login`, `idle`, `running`, `held`.
    pub state: String,
    /// The verb of the running (or last) statement; empty before the first.
    pub verb: String,
    /// Its shape, with `?` for each value.
    #[serde(default)]
    pub shape: String,
    /// Microseconds since the epoch.
    pub since_us: i64,
    /// Statements so far.
    pub statements: u64,
    /// Whose run it is, as the login said (`;run=…`); empty: it said none.
    #[serde(default)]
    pub run: String,
}

/// `GET /v1/sessions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SessionList {
    /// The sessions.
    pub sessions: Vec<SessionInfo>,
}

/// `GET /v1/approvals`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ApprovalList {
    /// Newest first.
    pub approvals: Vec<Approval>,
}

/// `GET /v1/approvals/{id}`: the request, and what its approver should know besides.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ShownApproval {
    /// The request.
    #[serde(flatten)]
    pub approval: Approval,
    /// What an approval would do.
    pub outlook: Outlook,
    /// What became of the last ones of the same shape.
    pub past: Vec<Past>,
}

impl ShownApproval {
    /// What an approval would do, in words; `until` is when the grant would end.
    pub fn would(&self, until: &str) -> String {
        let Outlook { waits, missing, .. } = self.outlook;
        let end = if waits {
            "runs at once, for the client that waits on the line".to_owned()
        } else {
            format!("leaves a grant until {until}: it runs once, when its client sends it again")
        };
        match missing {
            0 | 1 => end,
            _ => format!(
                "counts as one of {missing} that are missing; with the last of them it {end}"
            ),
        }
    }
}

/// `POST /v1/approvals/{id}/approve`, `deny`, `break-glass` and `cancel`; no body counts as no reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReasonRequest {
    /// Why, for the requester and the record.
    pub reason: String,
}

/// `POST /v1/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTokenRequest {
    /// Whose.
    pub identity: String,
    /// What kind of principal.
    #[serde(default = "agent")]
    pub kind: PrincipalKind,
    /// The groups it confers.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Seconds until it ends; none: never.
    #[serde(default)]
    pub expires_s: Option<u64>,
    /// The targets that it is for; none: all.
    #[serde(default)]
    pub targets: Vec<String>,
    /// The networks from which it is accepted; none: all, and Unix sockets.
    #[serde(default)]
    pub networks: Vec<Network>,
}

/// `POST /v1/tokens/{id}/rotate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// Seconds for which the old token still is good; none: an hour. 0 revokes it.
    #[serde(default)]
    pub overlap_s: Option<u64>,
}

/// `POST /v1/identities/revoke` and `restore`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityRequest {
    /// Whom. (Not in the path: a name may hold any character.)
    pub identity: String,
    /// Why, for the record.
    #[serde(default)]
    pub reason: String,
}

/// `POST /v1/identities/explain`: of a secret, of a name, or of both together. Its `Debug` leaves the secret out.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// An issuer's token, a gateway's token or a session password.
    #[serde(default)]
    pub token: Option<String>,
    /// The user name.
    #[serde(default)]
    pub user: Option<String>,
}

impl std::fmt::Debug for ExplainRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExplainRequest").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Who somebody is here, by each way to be let in.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExplainAnswer {
    /// Of a token: one.
    pub ways: Vec<ExplainedWay>,
}

/// One way to be let in, and what that is worth.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExplainedWay {
    /// What vouches, and for whom.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// Its groups that no policy names.
    pub unnamed_groups: Vec<String>,
    /// What it may do at each target.
    pub targets: Vec<TargetAccess>,
    /// What it may do with the gateway itself: `sign-in`, `approve`, `audit`, `administer`.
    pub may: Vec<String>,
}

/// What an identity may do at a target, in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TargetAccess {
    /// Its name.
    pub target: String,
    /// `passthrough`: all, by this rule; `governed`: what policies say of each statement; `denied`: not even `SELECT 1`;
    /// `closed`: the credential is not for it.
    pub access: String,
    /// The `@id` of the permit of passthrough.
    pub rule: Option<String>,
}

fn agent() -> PrincipalKind {
    PrincipalKind::Agent
}

/// A new token: the only time that it is shown. Its `Debug` leaves the token out.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TokenAnswer {
    /// What its holder types as the password.
    pub token: String,
    /// What is kept of it.
    #[serde(flatten)]
    pub info: TokenInfo,
}

impl std::fmt::Debug for TokenAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenAnswer").field("info", &self.info).finish_non_exhaustive()
    }
}

/// A token without its secret or its verifiers.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TokenInfo {
    /// Its public id.
    pub id: String,
    /// Whose.
    pub identity: String,
    /// What kind of principal.
    pub kind: PrincipalKind,
    /// The groups it confers.
    pub groups: Vec<String>,
    /// The targets that it is for; none: all.
    #[serde(default)]
    pub targets: Vec<String>,
    /// The networks from which it is accepted; none: all, and Unix sockets.
    #[serde(default)]
    pub networks: Vec<Network>,
    /// Microseconds since the epoch.
    pub created_us: i64,
    /// Who made it.
    pub created_by: String,
    /// Microseconds since the epoch.
    pub expires_us: Option<i64>,
    /// Microseconds since the epoch.
    pub revoked_us: Option<i64>,
    /// Microseconds since the epoch, of its last login; a few seconds late.
    #[serde(default)]
    pub used_us: Option<i64>,
    /// From where that was: an address, or `localhost` for a Unix socket.
    #[serde(default)]
    pub used_from: Option<String>,
    /// The token that was made in its place.
    #[serde(default)]
    pub replaced_by: Option<String>,
}

/// An identity that has tokens, or was revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdentityInfo {
    /// Its name.
    pub identity: String,
    /// Its tokens that are good now, were it not revoked.
    pub live_tokens: usize,
    /// Microseconds since the epoch; none: it is not revoked.
    pub revoked_us: Option<i64>,
    /// Who revoked it.
    pub revoked_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// `GET /v1/identities`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdentityList {
    /// By name.
    pub identities: Vec<IdentityInfo>,
}

/// `GET /v1/tokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TokenList {
    /// Oldest first.
    pub tokens: Vec<TokenInfo>,
}

/// `POST /v1/reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReloadAnswer {
    /// The digest of the live policy's inputs.
    pub policy_version: String,
    /// Tables of the configuration that changed, and take effect at a restart only.
    #[serde(default)]
    pub needs_restart: Vec<String>,
}

/// `GET /v1/policy/versions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VersionList {
    /// Newest first.
    pub versions: Vec<PolicyVersion>,
}
