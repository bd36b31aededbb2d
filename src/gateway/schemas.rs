//! One thread a target keeps its schema known: at start, every few seconds, and at once when a statement names
//! something unknown or changes a definition.

use std::pin::Pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::catalog::Raw;
use crate::fault::Fault;
use crate::net::SchemaRefresh;
use crate::net::side::SideTarget;

/// Requests that may wait for one look: more than this many sessions asking at once share the next look.
const WAITING: usize = 1_024;

/// After a look the database is left alone for so many times as long as the look took, however often an unknown name is
/// sent: at most a fifth of one connection's time is spent on looks. Whoever changes definitions waits for the next one, so it
/// must not be longer; a schema that takes seconds is not waited for that long again.
const RESTS: u32 = 4;
const MAX_REST: Duration = Duration::from_secs(1);

/// A session waits no longer than this for a look: it then gets its error.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a look found; `heard` is told once it has been published.
pub(super) struct Look {
    /// The target's index.
    pub(super) target: usize,
    /// The schema, or why it can't be read.
    pub(super) found: Result<Raw, Fault>,
    /// Who waits for it.
    pub(super) heard: Vec<oneshot::Sender<()>>,
}

/// Asks for looks.
pub(super) struct Looks {
    /// By the target's index; none where it was removed.
    targets: Mutex<Vec<Option<Request>>>,
    found: mpsc::Sender<Look>,
}

type Request = SyncSender<oneshot::Sender<()>>;

impl Looks {
    /// What they find arrives on `found`.
    pub(super) fn new(found: mpsc::Sender<Look>) -> Self {
        Self { targets: Mutex::default(), found }
    }

    /// Starts a thread for this target.
    pub(super) fn add(
        &self,
        at: usize,
        target: SideTarget,
        every: Duration,
    ) -> std::io::Result<()> {
        let (request, requested) = sync_channel(WAITING);
        let found = self.found.clone();
        std::thread::Builder::new()
            .name(format!("schema-{at}"))
            .spawn(move || watch(at, &target, every, &requested, &found))?;
        let mut targets = self.targets();
        if targets.len() <= at {
            targets.resize(at + 1, None);
        }
        if let Some(of_target) = targets.get_mut(at) {
            *of_target = Some(request);
        }
        Ok(())
    }

    /// Ends the thread of this target, once its look is over.
    pub(super) fn remove(&self, at: usize) {
        if let Some(of_target) = self.targets().get_mut(at) {
            *of_target = None;
        }
    }

    fn targets(&self) -> MutexGuard<'_, Vec<Option<Request>>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SchemaRefresh for Looks {
    fn refresh(&self, target: usize) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (heard, done) = oneshot::channel();
        let targets = self.targets();
        let sent = targets.get(target).and_then(Option::as_ref).map(|r| r.try_send(heard));
        match sent {
            Some(Ok(())) => Box::pin(async move {
                let _ = done.await;
            }),
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => {
                Box::pin(std::future::ready(()))
            }
        }
    }
}

fn watch(
    at: usize,
    target: &SideTarget,
    every: Duration,
    requested: &Receiver<oneshot::Sender<()>>,
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
