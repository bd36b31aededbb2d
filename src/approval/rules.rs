//! Who may decide what. Pure: a request, an approver and the time in; the request as it is then, or a refusal, out.

use crate::store::{Approval, ApprovalState, StoreError, Vote};

/// Longest reason: a line or two for the record, which must not be filled by it.
const MAX_REASON_BYTES: usize = 2_048;

/// Someone who decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// Who.
    pub identity: String,
    /// Its groups.
    pub groups: Vec<String>,
}

/// Why a vote did not count.
#[derive(Debug, thiserror::Error)]
pub enum VoteRefused {
    /// No such request.
    #[error("there is no approval request {0}")]
    Unknown(String),
    /// Decided, called off or expired before.
    #[error("{id} is {} already", .state.as_str())]
    Closed {
        /// The request.
        id: String,
        /// What became of it.
        state: ApprovalState,
    },
    /// The requester itself.
    #[error("{0} asked for it, and nobody decides their own request")]
    OwnRequest(String),
    /// The person on whose behalf it was asked for.
    #[error("it was asked for on behalf of {0}, and nobody decides what is for themselves")]
    OnOwnBehalf(String),
    /// Not in an approvers' group.
    #[error("{identity} is in none of the groups that may decide this: {}", .groups.join(", "))]
    NotAnApprover {
        /// Who.
        identity: String,
        /// The groups asked.
        groups: Vec<String>,
    },
    /// The same approver again.
    #[error("{0} approved it before; it needs another approver")]
    VotedBefore(String),
    /// Longer than can be recorded.
    #[error("the reason is longer than {MAX_REASON_BYTES} bytes")]
    ReasonTooLong,
    /// The event can't be recorded, so it doesn't happen.
    #[error("the record can't be written; nothing was changed")]
    NotRecorded,
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The desk has closed.
    #[error("the gateway is shutting down")]
    Unavailable,
}

/// The request after this vote.
pub(super) fn voted(
    approval: &Approval,
    approver: &Approver,
    approve: bool,
    reason: &str,
    now_us: i64,
) -> Result<Approval, VoteRefused> {
    if approval.state != ApprovalState::Pending {
        return Err(VoteRefused::Closed { id: approval.id.clone(), state: approval.state });
    }
    if approval.expires_us <= now_us {
        let state = ApprovalState::Expired;
        return Err(VoteRefused::Closed { id: approval.id.clone(), state });
    }
    if approver.identity == approval.identity {
        return Err(VoteRefused::OwnRequest(approver.identity.clone()));
    }
    if approval.is_for(&approver.identity) {
        return Err(VoteRefused::OnOwnBehalf(approver.identity.clone()));
    }
    if !approver.groups.iter().any(|group| approval.approver_groups.contains(group)) {
        return Err(VoteRefused::NotAnApprover {
            identity: approver.identity.clone(),
            groups: approval.approver_groups.clone(),
        });
    }
    if approve && approval.votes.iter().any(|vote| vote.by == approver.identity) {
        return Err(VoteRefused::VotedBefore(approver.identity.clone()));
    }
    checked_reason(reason)?;
    let mut next = approval.clone();
    let (by, reason) = (approver.identity.clone(), reason.to_owned());
    next.votes.push(Vote { by, approve, reason, at_us: now_us });
    let yes = next.votes.iter().filter(|vote| vote.approve).count();
    if !approve {
        next.state = ApprovalState::Denied;
    } else if yes >= usize::from(next.approvers.max(1)) {
        next.state = ApprovalState::Approved;
    }
    Ok(next)
}

/// The reason, if the record can take it.
pub(super) fn checked_reason(reason: &str) -> Result<&str, VoteRefused> {
    if reason.len() > MAX_REASON_BYTES { Err(VoteRefused::ReasonTooLong) } else { Ok(reason) }
}
