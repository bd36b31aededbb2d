//! Held statements: asked for by workers, decided by people, used at most once.
//!
//! A worker holds a [`Desk`] (any executor; it never blocks) and awaits a [`Waiting`]. The [`DeskService`] runs on the
//! control thread, is the only writer of approvals, and turns whoever still waits at its end into tickets. Who is
//! logged in where, and how the approver reached us, is not known here.

mod admission;
mod decision;
mod grant;
mod rules;
mod service;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

pub use decision::{Decision, Outlook, page_of};
pub use grant::{GrantKey, GrantScope};
pub use rules::{Approver, VoteRefused};
pub use service::DeskService;

use crate::clock::now_us;
use crate::config::{ApprovalEvent, ApprovalMode, Approvals};
use crate::fault::Fault;
use crate::record::Event;
use crate::store::{Approval, Details, Store, StoreError};

/// Requests and votes on their way to the desk. It answers in milliseconds, and one more hold than this at the same
/// moment is better refused than queued.
const QUEUE: usize = 256;
/// Longest statement, with its parameters, that can be held. An approver has to see all of it, and every pending one is kept in the store.
pub const MAX_STATEMENT_BYTES: usize = 256 << 10;

/// Most parameters of a statement that can be held, over all its rows: nobody reads more of them.
pub const MAX_PARAMETERS: usize = 10_000;

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

/// Who else is told of what happens to requests. It must not block, and nothing depends on it.
pub trait Announce: Send + Sync {
    /// Takes what `by` did to the request, which is as it is now.
    fn announce(&self, event: ApprovalEvent, by: &str, approval: &Approval);
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
    /// What the approver is shown besides.
    pub details: Details,
    /// Whose members may decide; none: those of the configuration.
    pub approver_groups: Vec<String>,
    /// How many distinct approvers; 0 counts as 1.
    pub approvers: u8,
    /// By [`Desk::grant_key`].
    pub grant_key: GrantKey,
    /// False inside a transaction, lock or cursor: a ticket at once, so that nothing is held while people think.
    pub wait: bool,
    /// How it waits, if it may; none: as the configuration says.
    pub mode: Option<ApprovalMode>,
}

/// The request did not reach the desk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeskFull {
    /// Too many at the same moment.
    #[error("too many statements ask for approval at once")]
    Busy,
    /// An approver could not be shown all of it.
    #[error(
        "the statement is longer than {MAX_STATEMENT_BYTES} bytes, or has more than {MAX_PARAMETERS} parameters: too long to be \
         approved"
    )]
    TooLong,
    /// The control plane has ended.
    #[error("the approval desk is closed")]
    Closed,
}

impl From<DeskFull> for Fault {
    fn from(full: DeskFull) -> Self {
        match full {
            DeskFull::Busy | DeskFull::TooLong => Self::approval("RG-BUSY", &[], &full.to_string()),
            DeskFull::Closed => Self::shutdown(),
        }
    }
}

/// The handle to the desk: for workers to ask at, for the control plane to decide at.
#[derive(Clone)]
pub struct Desk {
    commands: mpsc::Sender<Command>,
    grant_secret: Arc<zeroize::Zeroizing<[u8; 32]>>,
    settings: Arc<Approvals>,
    counts: Arc<Counts>,
    /// Where the gateway's pages are, for tickets to name.
    pages: Arc<ArcSwapOption<String>>,
}

/// What the metrics tell of the desk.
#[derive(Debug, Default)]
struct Counts {
    /// Requests that wait.
    pending: AtomicUsize,
    /// Requests that were let through by one person alone.
    broken_glass: AtomicU64,
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
        let (settings, counts) = (Arc::new(settings.clone()), service.counts());
        let pages = Arc::default();
        Ok((Self { commands, grant_secret, settings, counts, pages }, service))
    }

    /// How many requests wait for approvers.
    pub fn pending(&self) -> usize {
        self.counts.pending.load(Ordering::Relaxed)
    }

    /// How many requests were let through by one person alone, since the start.
    pub fn broken_glass(&self) -> u64 {
        self.counts.broken_glass.load(Ordering::Relaxed)
    }

    /// The groups whose members may let a request through alone.
    pub fn break_glass_groups(&self) -> &[String] {
        &self.settings.break_glass_groups
    }

    /// The fewest characters of the reason for that.
    pub fn break_glass_reason_chars(&self) -> usize {
        self.settings.break_glass_reason_chars
    }

    /// From now on tickets name the pages at this address, or none.
    pub fn set_pages(&self, url: Option<String>) {
        self.pages.store(url.map(Arc::new));
    }

    /// The error by which the client learns of a decision; `None` where the statement may run.
    pub fn fault(&self, decision: &Decision) -> Option<Fault> {
        decision.fault(self.pages.load().as_deref().map(String::as_str))
    }

    /// What a grant is bound to: this statement, with these parameters, read in this way, on this target, under this rule,
    /// and no other.
    pub fn grant_key(&self, scope: &GrantScope<'_>) -> GrantKey {
        let groups = Some(scope.approver_groups).filter(|groups| !groups.is_empty());
        let approver_groups = groups.unwrap_or(&self.settings.groups);
        GrantScope { approver_groups, ..*scope }.key(&self.grant_secret)
    }

    /// What an approval of this request would do, as things are.
    pub async fn outlook(&self, approval: &Approval) -> Outlook {
        let (reply, waits) = oneshot::channel();
        let command = Command::Waits { id: approval.id.clone(), reply };
        let asked = self.commands.send(command).await;
        let waits = asked.is_ok() && waits.await.unwrap_or(false);
        let given = approval.votes.iter().filter(|vote| vote.approve).count();
        let life_us = i64::try_from(self.settings.expiry_s).unwrap_or(i64::MAX);
        Outlook {
            waits,
            missing: usize::from(approval.approvers.max(1)).saturating_sub(given),
            grant_until_us: now_us().saturating_add(life_us.saturating_mul(1_000_000)),
        }
    }

    /// The grant of this request was used up, and its statement did not run: what it was given for has changed. (Only the
    /// list and the record tell of it, so that a full queue may lose it.)
    pub fn outdated(&self, id: &str) {
        let _ = self.commands.try_send(Command::Outdated { id: id.to_owned() });
    }

    /// Asks. Never blocks; dropping the answer's future before it is ready calls the request off (the client died),
    /// unless it had become a ticket before.
    pub fn request(&self, request: NewRequest) -> Result<Waiting, DeskFull> {
        if request.statement.len() + request.details.size() > MAX_STATEMENT_BYTES {
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
        let word = if approve { Word::Approve } else { Word::Deny };
        self.say(id, approver, word, reason).await
    }

    /// Lets a request through at once, whoever made it and however many it would take: for who is in a group of
    /// `approvals.break_glass_groups`, with a reason. Returns the request as it is now.
    pub async fn break_glass(
        &self,
        id: &str,
        approver: &Approver,
        reason: &str,
    ) -> Result<Approval, VoteRefused> {
        self.say(id, approver, Word::BreakGlass, reason).await
    }

    async fn say(
        &self,
        id: &str,
        approver: &Approver,
        word: Word,
        reason: &str,
    ) -> Result<Approval, VoteRefused> {
        let (reply, answer) = oneshot::channel();
        let (id, reason) = (id.to_owned(), reason.trim().to_owned());
        let vote = Box::new(NewVote { id, approver: approver.clone(), word, reason });
        let command = Command::Vote { vote, reply };
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
    Outdated { id: String },
    Waits { id: String, reply: oneshot::Sender<bool> },
}

type Reply = oneshot::Sender<Result<Approval, VoteRefused>>;

struct NewVote {
    id: String,
    approver: Approver,
    word: Word,
    reason: String,
}

/// What an approver says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Approve,
    Deny,
    /// Yes, and for everybody else too.
    BreakGlass,
}

impl Word {
    /// What the record calls it.
    fn event(self) -> ApprovalEvent {
        match self {
            Self::Approve => ApprovalEvent::Approved,
            Self::Deny => ApprovalEvent::Denied,
            Self::BreakGlass => ApprovalEvent::BreakGlass,
        }
    }
}

/// How long finished requests stay in the store for `rowgate approvals list`; the record keeps them for good.
const KEPT: Duration = Duration::from_hours(30 * 24);

#[cfg(test)]
mod tests;
