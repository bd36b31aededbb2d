//! One thread a target keeps its schema known: at start, every few seconds, and at once when a statement names
//! something unknown or changes a definition.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::catalog::Raw;
use crate::fault::Fault;
use crate::net::side::SideTarget;
use crate::net::{Explained, SchemaRefresh};

/// Requests that may wait for one look: more than this many sessions asking at once share the next look.
const WAITING: usize = 1_024;

/// After a look the database is left alone for so many times as long as the look took, however often an unknown name is
/// sent: at most a fifth of one connection's time is spent on looks. Whoever changes definitions waits for the next one, so it
/// must not be longer; a schema that takes seconds is not waited for that long again.
const RESTS: u32 = 4;
const MAX_REST: Duration = Duration::from_secs(1);

/// Estimates under way at once: each has a thread and a connection, for a second or so. More of them have none.
const MAX_ESTIMATES: usize = 4;
/// For each read of an estimate's connection.
const ESTIMATE_PATIENCE: Duration = Duration::from_secs(1);

/// A session waits no longer than this for a look: it then gets its error.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a look found; `heard` is told once it has been published.
pub(super) struct Look {
    /// The target's index.
    pub(super) target: usize,
    /// The schema, or why it can't be read.
    pub(super) found: Result<Raw, Fault>,
    /// Who waits for it: each is told whether it succeeded.
    pub(super) heard: Vec<oneshot::Sender<bool>>,
}

/// Asks for looks.
pub(super) struct Looks {
    /// By the target's index; none where it was removed.
    targets: Mutex<Vec<Option<Watched>>>,
    found: mpsc::Sender<Look>,
    estimates: Arc<AtomicUsize>,
}

/// A target that is looked at.
#[derive(Clone)]
struct Watched {
    request: Request,
    side: SideTarget,
}

type Request = SyncSender<oneshot::Sender<bool>>;

impl Looks {
    /// What they find arrives on `found`.
    pub(super) fn new(found: mpsc::Sender<Look>) -> Self {
        Self { targets: Mutex::default(), found, estimates: Arc::default() }
    }

    /// Starts a thread for this target.
    pub(super) fn add(
        &self,
        at: usize,
        target: SideTarget,
        every: Duration,
    ) -> std::io::Result<()> {
        let (request, requested) = sync_channel(WAITING);
        let (found, side) = (self.found.clone(), target.clone());
        std::thread::Builder::new()
            .name(format!("schema-{at}"))
            .spawn(move || watch(at, &target, every, &requested, &found))?;
        let mut targets = self.targets();
        if targets.len() <= at {
            targets.resize(at + 1, None);
        }
        if let Some(of_target) = targets.get_mut(at) {
            *of_target = Some(Watched { request, side });
        }
        Ok(())
    }

    /// Ends the thread of this target, once its look is over.
    pub(super) fn remove(&self, at: usize) {
        if let Some(of_target) = self.targets().get_mut(at) {
            *of_target = None;
        }
    }

    fn targets(&self) -> MutexGuard<'_, Vec<Option<Watched>>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SchemaRefresh for Looks {
    fn refresh(&self, target: usize) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let (heard, done) = oneshot::channel();
        let targets = self.targets();
        let sent = targets.get(target).and_then(Option::as_ref).map(|w| w.request.try_send(heard));
        match sent {
            Some(Ok(())) => Box::pin(async move { done.await.unwrap_or(false) }),
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => {
                Box::pin(std::future::ready(false))
            }
        }
    }

    fn estimate(
        &self,
        target: usize,
        of: Explained,
    ) -> Pin<Box<dyn Future<Output = Option<u64>> + Send>> {
        let none = || Box::pin(std::future::ready(None));
        let watched = self.targets().get(target).cloned().flatten();
        let (Some(Watched { side, .. }), Some(place)) = (watched, Place::take(&self.estimates))
        else {
            return none();
        };
        let (answer, heard) = oneshot::channel();
        let explain = move || {
            let _ = answer.send(side.explain(&of, ESTIMATE_PATIENCE));
            drop(place);
        };
        let started = std::thread::Builder::new().name("estimate".to_owned()).spawn(explain);
        match started {
            Ok(_) => Box::pin(async move { heard.await.ok().flatten() }),
            Err(_) => none(),
        }
    }
}

/// One of a few places.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>) -> Option<Self> {
        // (What is over the number gives its place back at once.)
        let before = taken.fetch_add(1, Ordering::Relaxed);
        let place = Self(Arc::clone(taken));
        (before < MAX_ESTIMATES).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn watch(
    at: usize,
    target: &SideTarget,
    every: Duration,
    requested: &Receiver<oneshot::Sender<bool>>,
    found: &mpsc::Sender<Look>,
) {
    let mut heard = Vec::new();
    let mut connection = None;
    loop {
        let looked = Instant::now();
        let look = Look {
            target: at,
            found: target.describe(&mut connection, PATIENCE),
            heard: std::mem::take(&mut heard),
        };
        let took = looked.elapsed();
        if found.blocking_send(look).is_err() {
            return; // the gateway has ended
        }
        match requested.recv_timeout(every) {
            Ok(waiter) => heard.push(waiter),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let rest = took.saturating_mul(RESTS).min(MAX_REST);
        if let Some(rest) = (took + rest).checked_sub(looked.elapsed()) {
            std::thread::sleep(rest);
        }
        heard.extend(requested.try_iter());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_nobody_takes_is_told_as_failed() {
        let looks = Looks::new(mpsc::channel(1).0);
        assert!(!crate::store::tests::block_on(looks.refresh(0)));
    }
}
