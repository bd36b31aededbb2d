//! The desk's one task: the only writer of approvals. Every change is recorded first, then stored, then told.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::rules::{self, VoteRefused};
use super::{Announce, Command, Counts, Decision, EventSink, KEPT, NewVote, Word};
use crate::clock::now_us;
use crate::config::{ApprovalEvent, Approvals};
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
    pub(super) store: Store,
    pub(super) settings: Approvals,
    events: Arc<dyn EventSink>,
    pub(super) clock: WallClock,
    queue: mpsc::Receiver<Command>,
    /// By request: at most one client waits for a request, because its grant is good for one statement.
    pub(super) waiters: HashMap<String, Waiter>,
    swept: Instant,
    counts: Arc<Counts>,
    announce: Option<Arc<dyn Announce>>,
}

/// A client on the line.
pub(super) struct Waiter {
    pub(super) answer: oneshot::Sender<Decision>,
    pub(super) until: Instant,
    /// Then the request ends; otherwise it becomes a ticket.
    pub(super) to_the_end: bool,
}

/// The store or the record failed: nothing is granted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
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
        let counts = Arc::new(Counts::default());
        counts.pending.store(store.pending_approvals().await?, Ordering::Relaxed);
        let settings = settings.clone();
        Ok(Self { store, settings, events, clock, queue, waiters, swept, counts, announce: None })
    }

    /// Tells these, too.
    #[must_use]
    pub fn announcing_to(mut self, announce: Arc<dyn Announce>) -> Self {
        self.announce = Some(announce);
        self
    }

    /// What is counted: kept up to date while the service runs.
    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
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
                self.counts.pending.store(pending, Ordering::Relaxed);
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
            Command::Outdated { id } => self.on_outdated(&id).await,
            Command::Waits { id, reply } => {
                let waiter = self.waiters.get(&id);
                let _ = reply.send(waiter.is_some_and(|waiter| !waiter.answer.is_closed()));
            }
        }
    }

    pub(super) fn expiry(&self, now_us: i64) -> i64 {
        let life = i64::try_from(self.settings.expiry_s).unwrap_or(i64::MAX);
        now_us.saturating_add(life.saturating_mul(1_000_000))
    }

    /// Uses the grant up, on disk, before anyone may act on it. `None`: it was not there to use any more.
    pub(super) async fn consume(&self, mut grant: Approval) -> Result<Option<Decision>, Failed> {
        self.record(&grant, ApprovalEvent::Consumed, &grant.identity, "")?;
        grant.state = ApprovalState::Consumed;
        if !self.store.change_approval(&grant, ApprovalState::Approved).await? {
            return Ok(None);
        }
        self.announce(ApprovalEvent::Consumed, &grant.identity, &grant);
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
        let mut next = rules::voted(&known, &vote, &self.settings, now_us)?;
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
        let by = &vote.approver.identity;
        let event = vote.word.event();
        self.record(&next, event, by, &vote.reason).map_err(VoteRefused::from)?;
        if !self.store.change_approval(&next, ApprovalState::Pending).await? {
            return Err(VoteRefused::Closed { id: next.id, state: ApprovalState::Cancelled });
        }
        if vote.word == Word::BreakGlass {
            self.counts.broken_glass.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                approval = next.id,
                by,
                identity = next.identity,
                target = next.target,
                rule = next.rule,
                "the glass was broken: a held statement was let through by one person alone"
            );
        }
        self.announce(event, by, &next);
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
        let ended = self.end(known, ApprovalEvent::Cancelled, by, reason).await?;
        if let Some(waiter) = self.waiters.remove(id) {
            drop(waiter.answer.send(Decision::Cancelled { id: id.to_owned() }));
        }
        Ok(ended)
    }

    /// What it was approved for has changed, so its statement did not run.
    async fn on_outdated(&self, id: &str) {
        let ended = match self.store.approval(id).await {
            Ok(Some(known)) if known.state == ApprovalState::Consumed => {
                let by = known.identity.clone();
                self.end(known, ApprovalEvent::Outdated, &by, "").await.map(drop)
            }
            Ok(_) => Ok(()),
            Err(error) => Err(Failed::from(error)),
        };
        if let Err(error) = ended {
            tracing::error!(%error, approval = id, "a grant that is outdated could not be marked");
        }
    }

    /// Its client died while it waited. A ticket lives on: its owner may come back.
    async fn on_gone(&mut self, id: &str) {
        self.waiters.remove(id);
        let ended = match self.store.approval(id).await {
            Ok(Some(known))
                if known.state == ApprovalState::Pending && known.mode == HoldMode::Wait =>
            {
                let by = known.identity.clone();
                self.end(known, ApprovalEvent::Cancelled, &by, "the client went away").await
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
            if self.waiters.get(&id).is_some_and(|waiter| waiter.to_the_end) {
                self.end_of_wait(&id).await;
            } else {
                self.send_away(&id).await;
            }
        }
    }

    /// Ends the request of a client that waited for as long as it lived, by a clock that may be a moment ahead of the
    /// requests' own.
    async fn end_of_wait(&mut self, id: &str) {
        let ended = match self.store.approval(id).await {
            Ok(Some(overdue)) => self.expire(overdue).await,
            Ok(None) => Ok(()),
            Err(error) => Err(Failed::from(error)),
        };
        if let Err(error) = ended {
            tracing::error!(%error, approval = id, "a request's end could not be stored");
        }
        if let Some(waiter) = self.waiters.remove(id) {
            drop(waiter.answer.send(Decision::Unavailable));
        }
    }

    /// Ends what is overdue, and tells whoever waits for it.
    async fn sweep(&mut self) -> Result<(), Failed> {
        for overdue in self.store.overdue_approvals((self.clock)()).await? {
            self.expire(overdue).await?;
        }
        Ok(())
    }

    async fn expire(&mut self, overdue: Approval) -> Result<(), Failed> {
        let id = overdue.id.clone();
        self.end(overdue, ApprovalEvent::Expired, "rowgate", "").await?;
        if let Some(waiter) = self.waiters.remove(&id) {
            drop(waiter.answer.send(Decision::Expired { id }));
        }
        Ok(())
    }

    /// Moves an open request to its end. These changes only take away, so they happen even when unrecorded.
    async fn end(
        &self,
        mut approval: Approval,
        event: ApprovalEvent,
        by: &str,
        reason: &str,
    ) -> Result<Approval, Failed> {
        let state = match event {
            ApprovalEvent::Expired => ApprovalState::Expired,
            ApprovalEvent::Outdated => ApprovalState::Outdated,
            _ => ApprovalState::Cancelled,
        };
        if self.record(&approval, event, by, reason).is_err() {
            tracing::error!(approval = approval.id, "the end of an approval was not recorded");
        }
        let from = std::mem::replace(&mut approval.state, state);
        self.store.change_approval(&approval, from).await?;
        self.announce(event, by, &approval);
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

    pub(super) fn record(
        &self,
        of: &Approval,
        event: ApprovalEvent,
        by: &str,
        reason: &str,
    ) -> Result<(), Failed> {
        let (at_us, approval, session) = ((self.clock)(), &of.id, of.session);
        let change = event.as_str();
        self.events.record(&Event::Approval { at_us, approval, change, by, reason, session })?;
        Ok(())
    }

    pub(super) fn announce(&self, event: ApprovalEvent, by: &str, approval: &Approval) {
        if let Some(announce) = &self.announce {
            announce.announce(event, by, approval);
        }
    }
}

pub(super) fn denied(approval: &Approval) -> Decision {
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
