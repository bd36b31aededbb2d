//! Held statements: asked for by workers, decided by people, used at most once.
//!
//! A worker holds a [`Desk`] (any executor; it never blocks) and awaits a [`Waiting`]. The [`DeskService`] runs on the
//! control thread, is the only writer of approvals, and turns whoever still waits at its end into tickets. Who is
//! logged in where, and how the approver reached us, is not known here.

mod grant;
mod rules;
mod service;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::oneshot;

pub use grant::{GrantKey, GrantScope};
pub use rules::{Approver, VoteRefused};
pub use service::DeskService;

use crate::config::Approvals;
use crate::fault::Fault;
use crate::record::Event;
use crate::store::{Approval, Store, StoreError};

/// Requests and votes on their way to the desk. It answers in milliseconds, and one more hold than this at the same
/// moment is better refused than queued.
const QUEUE: usize = 256;
/// Longest statement that can be held. An approver has to see all of it, and every pending one is kept in the store.
pub const MAX_STATEMENT_BYTES: usize = 256 << 10;

/// Where approvals, and what administrators do, are recorded. It must not block.
pub trait EventSink: Send + Sync {
    /// Takes the event. An error means that it is not recorded, and what it tells of must not happen.
    fn record(&self, event: &Event<'_>) -> Result<(), NotRecorded>;
}

impl<F> EventSink for F
where
    F: Fn(&Event<'_>) -> Result<(), NotRecorded> + Send + Sync,
{
    fn record(&self, event: &Event<'_>) -> Result<(), NotRecorded> {
        self(event)
    }
}

/// The record did not take an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record can't be written")]
pub struct NotRecorded;

/// A held statement that asks for approval.
#[derive(Clone, Debug)]
pub struct NewRequest {
    /// Who asks.
    pub identity: String,
    /// The person on whose behalf it asks, where a policy permits that.
    pub on_behalf_of: Option<String>,
    /// The requester's groups, for the approver to see.
    pub groups: Vec<String>,
    /// On which target.
    pub target: String,
    /// In which database.
    pub schema: Option<String>,
    /// The gateway's id of the session.
    pub session: u64,
    /// The canonical text, with literals and parameters: what the approver must see.
    pub statement: String,
    /// The digest of its shape, in hex.
    pub digest: String,
    /// Its verb, in lower case.
    pub verb: String,
    /// The tables it touches, as `schema.table`.
    pub tables: Vec<String>,
    /// The id of the rule that held it.
    pub rule: String,
    /// That rule's message.
    pub message: String,
    /// Whose members may decide; none: those of the configuration.
    pub approver_groups: Vec<String>,
    /// How many distinct approvers; 0 counts as 1.
    pub approvers: u8,
    /// By [`Desk::grant_key`].
    pub grant_key: GrantKey,
    /// False inside a transaction, lock or cursor: a ticket at once, so that nothing is held while people think.
    pub wait: bool,
}

/// What became of a request, for its requester.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Run it, now: the grant is used up.
    Approved {
        /// The request.
        id: String,
        /// The approvers.
        by: Vec<String>,
    },
    /// An approver said no.
    Denied {
        /// The request.
        id: String,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Nobody decided in time.
    Expired {
        /// The request.
        id: String,
    },
    /// Ask for the decision later by sending the same statement again.
    Ticket {
        /// The request.
        id: String,
    },
    /// Called off by its owner or an administrator.
    Cancelled {
        /// The request.
        id: String,
    },
    /// More are pending than the configuration allows.
    Full,
    /// The store or the record failed: nothing was granted.
    Unavailable,
}

impl Decision {
    /// The error for the client; `None` where the statement may run.
    pub fn fault(&self) -> Option<Fault> {
        Some(match self {
            Self::Approved { .. } => return None,
            Self::Denied { id, by, reason } if reason.is_empty() => {
                Fault::approval("RG-REFUSED", &format!("{id} was denied by {by}"))
            }
            Self::Denied { id, by, reason } => {
                Fault::approval("RG-REFUSED", &format!("{id} was denied by {by}: {reason}"))
            }
            Self::Expired { id } => Fault::approval(
                "RG-EXPIRED",
                &format!("nobody decided {id} in time; send the statement again to ask anew"),
            ),
            Self::Ticket { id } => Fault::approval(
                "RG-TICKET",
                &format!(
                    "this statement waits for approval as {id}; once it is approved, send the same statement again"
                ),
            ),
            Self::Cancelled { id } => {
                Fault::approval("RG-CANCELLED", &format!("{id} was called off"))
            }
            Self::Full => {
                Fault::approval("RG-BUSY", "too many statements wait for approval; try again later")
            }
            Self::Unavailable => Fault::approval(
                "RG-UNAVAILABLE",
                "approvals can't be asked for now; see the gateway's log",
            ),
        })
    }
}

/// The request did not reach the desk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeskFull {
    /// Too many at the same moment.
    #[error("too many statements ask for approval at once")]
    Busy,
    /// An approver could not be shown all of it.
    #[error("the statement is longer than {MAX_STATEMENT_BYTES} bytes, too long to be approved")]
    TooLong,
    /// The control plane has ended.
    #[error("the approval desk is closed")]
    Closed,
}

impl From<DeskFull> for Fault {
    fn from(full: DeskFull) -> Self {
        match full {
            DeskFull::Busy | DeskFull::TooLong => Self::approval("RG-BUSY", &full.to_string()),
            DeskFull::Closed => Self::shutdown(),
        }
    }
}

/// The handle to the desk: for workers to ask at, for the control plane to decide at.
#[derive(Clone)]
pub struct Desk {
    commands: mpsc::Sender<Command>,
    grant_secret: Arc<zeroize::Zeroizing<[u8; 32]>>,
    pending: Arc<AtomicUsize>,
}

impl Desk {
    /// Opens the desk: what was pending when the gateway last ended becomes a ticket. Run the service on the control
    /// thread.
    pub async fn open(
        store: Store,
        settings: &Approvals,
        events: Arc<dyn EventSink>,
    ) -> Result<(Self, DeskService), StoreError> {
        Self::open_at(store, settings, events, service::wall_clock()).await
    }

    async fn open_at(
        store: Store,
        settings: &Approvals,
        events: Arc<dyn EventSink>,
        clock: service::WallClock,
    ) -> Result<(Self, DeskService), StoreError> {
        let grant_secret = Arc::new(zeroize::Zeroizing::new(store.grant_secret().await?));
        let (commands, queue) = mpsc::channel(QUEUE);
        let service = DeskService::start(store, settings, events, clock, queue).await?;
        let pending = service.pending();
        Ok((Self { commands, grant_secret, pending }, service))
    }

    /// How many requests wait for approvers.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// What a grant is bound to: this statement, with these parameters, read in this way, on this target, and no other.
    pub fn grant_key(&self, scope: &GrantScope<'_>) -> GrantKey {
        scope.key(&self.grant_secret)
    }

    /// Asks. Never blocks; dropping the answer's future before it is ready calls the request off (the client died),
    /// unless it had become a ticket before.
    pub fn request(&self, request: NewRequest) -> Result<Waiting, DeskFull> {
        if request.statement.len() > MAX_STATEMENT_BYTES {
            return Err(DeskFull::TooLong);
        }
        let (answer, decision) = oneshot::channel();
        let command = Command::Request { request: Box::new(request), answer };
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => DeskFull::Busy,
            mpsc::error::TrySendError::Closed(_) => DeskFull::Closed,
        })?;
        Ok(Waiting { decision })
    }

    /// An approver's word. Returns the request as it is now.
    pub async fn vote(
        &self,
        id: &str,
        approver: &Approver,
        approve: bool,
        reason: &str,
    ) -> Result<Approval, VoteRefused> {
        let (reply, answer) = oneshot::channel();
        let vote = NewVote {
            id: id.to_owned(),
            approver: approver.clone(),
            approve,
            reason: reason.to_owned(),
        };
        let command = Command::Vote { vote: Box::new(vote), reply };
        self.commands.send(command).await.map_err(|_| VoteRefused::Unavailable)?;
        answer.await.map_err(|_| VoteRefused::Unavailable)?
    }

    /// Calls a request, or a grant not yet used, off. The caller has checked that `by` may (its owner, or an
    /// administrator).
    pub async fn cancel(&self, id: &str, by: &str, reason: &str) -> Result<Approval, VoteRefused> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Cancel {
            id: id.to_owned(),
            by: by.to_owned(),
            reason: reason.to_owned(),
            reply,
        };
        self.commands.send(command).await.map_err(|_| VoteRefused::Unavailable)?;
        answer.await.map_err(|_| VoteRefused::Unavailable)?
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}

/// The decision to come. Dropping it means that nobody wants it any more.
#[derive(Debug)]
pub struct Waiting {
    decision: oneshot::Receiver<Decision>,
}

impl Future for Waiting {
    type Output = Decision;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Decision> {
        // a desk that went away without an answer has granted nothing
        Pin::new(&mut self.decision).poll(cx).map(|answer| answer.unwrap_or(Decision::Unavailable))
    }
}

/// What reaches the service.
enum Command {
    Request { request: Box<NewRequest>, answer: oneshot::Sender<Decision> },
    Vote { vote: Box<NewVote>, reply: Reply },
    Cancel { id: String, by: String, reason: String, reply: Reply },
}

type Reply = oneshot::Sender<Result<Approval, VoteRefused>>;

struct NewVote {
    id: String,
    approver: Approver,
    approve: bool,
    reason: String,
}

/// How long finished requests stay in the store for `rowgate approvals list`; the record keeps them for good.
const KEPT: Duration = Duration::from_hours(30 * 24);

#[cfg(test)]
mod tests;
