//! Who may decide what. Pure: a request, an approver and the time in; the request as it is then, or a refusal, out.

use super::{NewVote, Word};
use crate::config::Approvals;
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
    /// Not in a group that may break the glass.
    #[error("{0} is in no group that may break the glass (approvals.break_glass_groups)")]
    NoGlass(String),
    /// Breaking the glass without saying why.
    #[error("breaking the glass takes a reason of at least {0} characters")]
    ReasonTooShort(usize),
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
    vote: &NewVote,
    settings: &Approvals,
    now_us: i64,
) -> Result<Approval, VoteRefused> {
    if approval.state != ApprovalState::Pending {
        return Err(VoteRefused::Closed { id: approval.id.clone(), state: approval.state });
    }
    if approval.expires_us <= now_us {
        let state = ApprovalState::Expired;
        return Err(VoteRefused::Closed { id: approval.id.clone(), state });
    }
    match vote.word {
        Word::BreakGlass => may_break_glass(vote, settings)?,
        Word::Approve | Word::Deny => may_vote(approval, vote)?,
    }
    checked_reason(&vote.reason)?;
    let approve = vote.word != Word::Deny;
    let mut next = approval.clone();
    next.votes.push(Vote {
        by: vote.approver.identity.clone(),
        approve,
        break_glass: vote.word == Word::BreakGlass,
        reason: vote.reason.clone(),
        at_us: now_us,
    });
    let yes = next.votes.iter().filter(|vote| vote.approve).count();
    let enough = yes >= usize::from(next.approvers.max(1)) || vote.word == Word::BreakGlass;
    if !approve {
        next.state = ApprovalState::Denied;
    } else if enough {
        next.state = ApprovalState::Approved;
    }
    Ok(next)
}

/// One of those who are asked, and no party to it.
fn may_vote(approval: &Approval, vote: &NewVote) -> Result<(), VoteRefused> {
    let Approver { identity, groups } = &vote.approver;
    if *identity == approval.identity {
        return Err(VoteRefused::OwnRequest(identity.clone()));
    }
    if approval.is_for(identity) {
        return Err(VoteRefused::OnOwnBehalf(identity.clone()));
    }
    if !groups.iter().any(|group| approval.approver_groups.contains(group)) {
        return Err(VoteRefused::NotAnApprover {
            identity: identity.clone(),
            groups: approval.approver_groups.clone(),
        });
    }
    let again = approval.votes.iter().any(|vote| vote.by == *identity);
    if vote.word == Word::Approve && again {
        return Err(VoteRefused::VotedBefore(identity.clone()));
    }
    Ok(())
}

/// One of those who may do without anybody else, for their own requests as well; but never without saying why.
fn may_break_glass(vote: &NewVote, settings: &Approvals) -> Result<(), VoteRefused> {
    let Approver { identity, groups } = &vote.approver;
    if !groups.iter().any(|group| settings.break_glass_groups.contains(group)) {
        return Err(VoteRefused::NoGlass(identity.clone()));
    }
    let least = settings.break_glass_reason_chars.max(1);
    if vote.reason.trim().chars().count() < least {
        return Err(VoteRefused::ReasonTooShort(least));
    }
    Ok(())
}

/// The reason, if the record can take it.
pub(super) fn checked_reason(reason: &str) -> Result<&str, VoteRefused> {
    if reason.len() > MAX_REASON_BYTES { Err(VoteRefused::ReasonTooLong) } else { Ok(reason) }
}
