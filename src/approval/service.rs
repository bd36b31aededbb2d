//! The desk's one task: the only writer of approvals. Every change is recorded first, then stored, then told.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use aws_lc_rs::rand::SecureRandom as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::rules::{self, VoteRefused};
use super::{Command, Decision, EventSink, KEPT, NewRequest, NewVote};
use crate::clock::now_us;
use crate::config::Approvals;
use crate::record::Event;
use crate::store::{Approval, ApprovalState, HoldMode, Store, StoreError};

/// How often requests without a waiting client are looked at for expiry. Every use checks the time itself; this only
/// makes lists and the record tell of it soon.
const SWEEP: Duration = Duration::from_secs(5);

/// Microseconds since the epoch; a parameter so that tests move it.
pub(super) type WallClock = Box<dyn Fn() -> i64 + Send + Sync>;

/// The system's clock.
pub(super) fn wall_clock() -> WallClock {
    Box::new(now_us)
}

/// Serves a desk; see [`super::Desk::open`].
pub struct DeskService {
    store: Store,
    settings: Approvals,
    events: Arc<dyn EventSink>,
    clock: WallClock,
    queue: mpsc::Receiver<Command>,
    /// By request: at most one client waits for a request, because its grant is good for one statement.
    waiters: HashMap<String, Waiter>,
    swept: Instant,
    /// How many requests wait, for the metrics.
    pending: Arc<AtomicUsize>,
}

/// A client on the line.
struct Waiter {
    answer: oneshot::Sender<Decision>,
    until: Instant,
}

/// The store or the record failed: nothing is granted.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Record(#[from] super::NotRecorded),
    #[error("the system gives no random bytes")]
    NoRandomness,
}

impl From<Failed> for VoteRefused {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Store(error) => Self::Store(error),
            Failed::Record(_) | Failed::NoRandomness => Self::NotRecorded,
        }
    }
}

impl DeskService {
    pub(super) async fn start(
        store: Store,
        settings: &Approvals,
        events: Arc<dyn EventSink>,
        clock: WallClock,
        queue: mpsc::Receiver<Command>,
    ) -> Result<Self, StoreError> {
        let tickets = store.pending_become_tickets().await?;
        if tickets > 0 {
            tracing::info!(tickets, "pending approvals of the last run became tickets");
        }
        let kept_us = i64::try_from(KEPT.as_micros()).unwrap_or(i64::MAX);
        store.forget_approvals(clock().saturating_sub(kept_us)).await?;
        let (waiters, swept) = (HashMap::new(), Instant::now());
        let pending = Arc::new(AtomicUsize::new(store.pending_approvals().await?));
        let settings = settings.clone();
        Ok(Self { store, settings, events, clock, queue, waiters, swept, pending })
    }

    /// How many requests wait: kept up to date while the service runs.
    pub(super) fn pending(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.pending)
    }

    /// Serves until `stop` is ready (or every [`super::Desk`] is gone), then turns who still waits into tickets.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        loop {
            let wake = self.next_wake();
            tokio::select! {
                () = &mut stop => break,
                command = self.queue.recv() => match command {
                    Some(command) => self.on_command(command).await,
                    None => break,
                },
                id = gone(&mut self.waiters) => self.on_gone(&id).await,
                () = tokio::time::sleep_until(wake) => self.on_time().await,
            }
            if let Ok(pending) = self.store.pending_approvals().await {
                self.pending.store(pending, Ordering::Relaxed);
            }
        }
        self.queue.close();
        let waiting: Vec<String> = self.waiters.keys().cloned().collect();
        for id in waiting {
            self.send_away(&id).await;
        }
    }

    fn next_wake(&self) -> Instant {
        let first = self.waiters.values().map(|waiter| waiter.until).min();
        let sweep = self.swept + SWEEP;
        first.map_or(sweep, |first| first.min(sweep))
    }

    async fn on_command(&mut self, command: Command) {
        match command {
            Command::Request { request, answer } => self.on_request(*request, answer).await,
            Command::Vote { vote, reply } => {
                let answer = self.on_vote(*vote).await;
                let _ = reply.send(answer);
            }
            Command::Cancel { id, by, reason, reply } => {
                let answer = self.on_cancel(&id, &by, &reason).await;
                let _ = reply.send(answer);
            }
        }
    }

    async fn on_request(&mut self, request: NewRequest, answer: oneshot::Sender<Decision>) {
        if answer.is_closed() {
            // its client died in the queue: a grant must not be used up for nobody
            return;
        }
        let wait = request.wait;
        match self.admit(request).await {
            Ok(Admitted::Decided(decision)) => drop(answer.send(decision)),
            Ok(Admitted::Pending(approval)) if wait => {
                let until = Instant::now() + self.longest_wait(&approval);
                self.waiters.insert(approval.id, Waiter { answer, until });
            }
            Ok(Admitted::Pending(approval)) => {
                drop(answer.send(Decision::Ticket { id: approval.id }));
            }
            Err(error) => {
                tracing::error!(%error, "an approval could not be asked for");
                drop(answer.send(Decision::Unavailable));
            }
        }
    }

    fn longest_wait(&self, approval: &Approval) -> Duration {
        let left_us = approval.expires_us.saturating_sub((self.clock)());
        let left = Duration::from_micros(u64::try_from(left_us).unwrap_or(0));
        Duration::from_secs(self.settings.wait_s).min(left)
    }

    /// Uses a grant, tells of a denial, joins a ticket that nobody waits for, or makes a new request.
    async fn admit(&mut self, request: NewRequest) -> Result<Admitted, Failed> {
        let now_us = (self.clock)();
        let key = request.grant_key.0;
        for open in self.store.open_approvals(&request.identity, &key, now_us).await? {
            match open.state {
                ApprovalState::Approved => {
                    if let Some(decision) = self.consume(open).await? {
                        return Ok(Admitted::Decided(decision));
                    }
                }
                ApprovalState::Denied => {
                    let mut told = open;
                    told.told = true;
                    if self.store.change_approval(&told, ApprovalState::Denied).await? {
                        return Ok(Admitted::Decided(denied(&told)));
                    }
                }
                ApprovalState::Pending if !self.waiters.contains_key(&open.id) => {
                    return Ok(Admitted::Pending(Box::new(open)));
                }
                _ => {}
            }
        }
        let own = self.store.pending_approvals_of(&request.identity).await?;
        let all = self.store.pending_approvals().await?;
        if all >= self.settings.max_pending || own >= share(self.settings.max_pending) {
            return Ok(Admitted::Decided(Decision::Full));
        }
        let approval = self.new_approval(request, now_us)?;
        self.record(&approval, "requested", &approval.identity, &approval.rule)?;
        self.store.insert_approval(&approval).await?;
        Ok(Admitted::Pending(Box::new(approval)))
    }

    fn new_approval(&self, request: NewRequest, now_us: i64) -> Result<Approval, Failed> {
        let mut approver_groups = request.approver_groups;
        if approver_groups.is_empty() {
            approver_groups.clone_from(&self.settings.groups);
        }
        Ok(Approval {
            id: new_id()?,
            state: ApprovalState::Pending,
            mode: if request.wait { HoldMode::Wait } else { HoldMode::Ticket },
            identity: request.identity,
            on_behalf_of: request.on_behalf_of,
            groups: request.groups,
            target: request.target,
            schema: request.schema,
            session: request.session,
            statement: request.statement,
            digest: request.digest,
            verb: request.verb,
            tables: request.tables,
            rule: request.rule,
            message: request.message,
            approver_groups,
            approvers: request.approvers.max(1),
            votes: Vec::new(),
            told: false,
            grant_key: request.grant_key.0,
            created_us: now_us,
            expires_us: self.expiry(now_us),
        })
    }

    fn expiry(&self, now_us: i64) -> i64 {
        let life = i64::try_from(self.settings.expiry_s).unwrap_or(i64::MAX);
        now_us.saturating_add(life.saturating_mul(1_000_000))
    }

    /// Uses the grant up, on disk, before anyone may act on it. `None`: it was not there to use any more.
    async fn consume(&self, mut grant: Approval) -> Result<Option<Decision>, Failed> {
        self.record(&grant, "consumed", &grant.identity, "")?;
        grant.state = ApprovalState::Consumed;
        if !self.store.change_approval(&grant, ApprovalState::Approved).await? {
            return Ok(None);
        }
        let by = grant.votes.into_iter().filter(|vote| vote.approve).map(|vote| vote.by).collect();
        Ok(Some(Decision::Approved { id: grant.id, by }))
    }

    async fn on_vote(&mut self, vote: NewVote) -> Result<Approval, VoteRefused> {
        let now_us = (self.clock)();
        if self.waiters.get(&vote.id).is_some_and(|waiter| waiter.answer.is_closed()) {
            // the client died a moment ago: nobody is left to run it
            self.on_gone(&vote.id).await;
        }
        let known = self.store.approval(&vote.id).await?;
        let known = known.ok_or_else(|| VoteRefused::Unknown(vote.id.clone()))?;
        let mut next = rules::voted(&known, &vote.approver, vote.approve, &vote.reason, now_us)?;
        if next.state == ApprovalState::Approved {
            // the grant has a life of its own: the requester must find time to come back for it
            next.expires_us = self.expiry(now_us);
        }
        let waiter = match next.state {
            ApprovalState::Pending => None,
            _ => self.waiters.remove(&next.id),
        };
        next.told = next.state == ApprovalState::Denied && waiter.is_some();
        let decided = self.decide(next, &vote, waiter.is_some()).await;
        if let Some(waiter) = waiter {
            let decision = match &decided {
                Ok((_, decision)) => decision.clone(),
                Err(_) => Decision::Unavailable,
            };
            drop(waiter.answer.send(decision));
        }
        decided.map(|(approval, _)| approval)
    }

    /// Records and stores a vote, and uses the grant at once when its client waits.
    async fn decide(
        &self,
        next: Approval,
        vote: &NewVote,
        waits: bool,
    ) -> Result<(Approval, Decision), VoteRefused> {
        let change = if vote.approve { "approved" } else { "denied" };
        self.record(&next, change, &vote.approver.identity, &vote.reason)
            .map_err(VoteRefused::from)?;
        if !self.store.change_approval(&next, ApprovalState::Pending).await? {
            return Err(VoteRefused::Closed { id: next.id, state: ApprovalState::Cancelled });
        }
        let decision = match next.state {
            ApprovalState::Approved if waits => {
                self.consume(next.clone()).await?.unwrap_or(Decision::Unavailable)
            }
            ApprovalState::Denied => denied(&next),
            _ => Decision::Ticket { id: next.id.clone() },
        };
        Ok((next, decision))
    }

    async fn on_cancel(
        &mut self,
        id: &str,
        by: &str,
        reason: &str,
    ) -> Result<Approval, VoteRefused> {
        rules::checked_reason(reason)?;
        let known = self.store.approval(id).await?;
        let known = known.ok_or_else(|| VoteRefused::Unknown(id.to_owned()))?;
        if !matches!(known.state, ApprovalState::Pending | ApprovalState::Approved) {
            return Err(VoteRefused::Closed { id: known.id, state: known.state });
        }
        let ended = self.end(known, ApprovalState::Cancelled, by, reason).await?;
        if let Some(waiter) = self.waiters.remove(id) {
            drop(waiter.answer.send(Decision::Cancelled { id: id.to_owned() }));
        }
        Ok(ended)
    }

    /// Its client died while it waited. A ticket lives on: its owner may come back.
    async fn on_gone(&mut self, id: &str) {
        self.waiters.remove(id);
        let ended = match self.store.approval(id).await {
            Ok(Some(known))
                if known.state == ApprovalState::Pending && known.mode == HoldMode::Wait =>
            {
                let by = known.identity.clone();
                self.end(known, ApprovalState::Cancelled, &by, "the client went away").await
            }
            Ok(_) => return,
            Err(error) => Err(Failed::from(error)),
        };
        if let Err(error) = ended {
            tracing::error!(%error, approval = id, "a dead client's request could not be called off");
        }
    }

    async fn on_time(&mut self) {
        let now = Instant::now();
        let late: Vec<String> = self
            .waiters
            .iter()
            .filter(|(_, waiter)| waiter.until <= now)
            .map(|(id, _)| id.clone())
            .collect();
        self.swept = now;
        if let Err(error) = self.sweep().await {
            tracing::error!(%error, "expired approvals could not be swept");
        }
        for id in late {
            self.send_away(&id).await;
        }
    }

    /// Ends what is overdue, and tells whoever waits for it.
    async fn sweep(&mut self) -> Result<(), Failed> {
        for overdue in self.store.overdue_approvals((self.clock)()).await? {
            let id = overdue.id.clone();
            self.end(overdue, ApprovalState::Expired, "rowgate", "").await?;
            if let Some(waiter) = self.waiters.remove(&id) {
                drop(waiter.answer.send(Decision::Expired { id }));
            }
        }
        Ok(())
    }

    /// Moves an open request to its end. These changes only take away, so they happen even when unrecorded.
    async fn end(
        &self,
        mut approval: Approval,
        state: ApprovalState,
        by: &str,
        reason: &str,
    ) -> Result<Approval, Failed> {
        if self.record(&approval, state.as_str(), by, reason).is_err() {
            tracing::error!(approval = approval.id, "the end of an approval was not recorded");
        }
        let from = std::mem::replace(&mut approval.state, state);
        self.store.change_approval(&approval, from).await?;
        Ok(approval)
    }

    /// Sends a waiting client away with the request's id.
    async fn send_away(&mut self, id: &str) {
        let Some(waiter) = self.waiters.remove(id) else { return };
        let stored = match self.store.approval(id).await {
            Ok(Some(mut approval)) => {
                approval.mode = HoldMode::Ticket;
                self.store.change_approval(&approval, ApprovalState::Pending).await
            }
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        let decision = match stored {
            Ok(true) => Decision::Ticket { id: id.to_owned() },
            Ok(false) => Decision::Unavailable,
            Err(error) => {
                tracing::error!(%error, approval = id, "a request could not be made a ticket");
                Decision::Unavailable
            }
        };
        drop(waiter.answer.send(decision));
    }

    fn record(
        &self,
        of: &Approval,
        change: &'static str,
        by: &str,
        reason: &str,
    ) -> Result<(), Failed> {
        let (at_us, approval, session) = ((self.clock)(), &of.id, of.session);
        self.events.record(&Event::Approval { at_us, approval, change, by, reason, session })?;
        Ok(())
    }
}

/// How many requests of one identity may be pending: one that asks for everything must leave room for the others.
fn share(max_pending: usize) -> usize {
    max_pending.div_ceil(4)
}

enum Admitted {
    /// Answered at once.
    Decided(Decision),
    /// Waits for approvers.
    Pending(Box<Approval>),
}

fn denied(approval: &Approval) -> Decision {
    let no = approval.votes.iter().rev().find(|vote| !vote.approve);
    let (by, reason) = no.map_or_else(Default::default, |v| (v.by.clone(), v.reason.clone()));
    Decision::Denied { id: approval.id.clone(), by, reason }
}

/// The first request whose client has gone. Pending while all live; there are at most `max_pending` to look at, and
/// only when one of them, a command or the time woke the desk.
async fn gone(waiters: &mut HashMap<String, Waiter>) -> String {
    std::future::poll_fn(|cx| {
        for (id, waiter) in waiters.iter_mut() {
            if waiter.answer.poll_closed(cx).is_ready() {
                return Poll::Ready(id.clone());
            }
        }
        Poll::Pending
    })
    .await
}

/// `apr_` and 48 random bits: short enough to type, and a store holds thousands, not millions.
fn new_id() -> Result<String, Failed> {
    let mut bytes = [0_u8; 6];
    aws_lc_rs::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| Failed::NoRandomness)?;
    let value = bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    Ok(format!("apr_{value:012x}"))
}
