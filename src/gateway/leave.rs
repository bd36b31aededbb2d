//! How a gateway leaves: it says so first (`/readyz`, systemd), and may go on for a while before it drains, so that those who
//! send clients here have seen it.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep};

use crate::net::Net;

/// How often it is looked at whether all sessions have ended.
const LOOK: Duration = Duration::from_millis(20);

/// How often the drain looks whether the data path is its own: for some seconds.
const SOLE_TRIES: usize = 500;

/// Who came at the moment of the word is counted as a session after so long: two of the workers' ticks.
const SETTLE: Duration = Duration::from_millis(200);

/// The time between the word to end and the drain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notice {
    ends: Instant,
    settled: Instant,
    /// Nobody new can come, so that it need not last longer than the sessions.
    is_closed: bool,
}

impl Notice {
    /// Begins one. From now on, clients of listeners that outlive this process wait for the next one.
    pub(super) fn give(net: &Net, lasts: Duration) -> Self {
        let now = Instant::now();
        Self { ends: now + lasts, settled: now + SETTLE, is_closed: net.leave() }
    }

    /// Ready when it is over.
    pub(super) async fn over(self, net: &Net) {
        loop {
            let now = Instant::now();
            let is_empty = self.is_closed && now >= self.settled && net.session_count() == 0;
            if is_empty || now >= self.ends {
                return;
            }
            sleep(LOOK).await;
        }
    }
}

/// Ready when the notice is over; never while there is none.
pub(super) async fn over(notice: Option<Notice>, net: &Net) {
    match notice {
        Some(notice) => notice.over(net).await,
        None => std::future::pending().await,
    }
}

/// Tells systemd, if that has started this process and wants to know (`Type=notify`).
pub(super) fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd can't be told how this service fares");
    }
}

/// The data path, once nobody else asks it anything: what the control plane was asked a moment ago ends soon.
pub(super) async fn sole(mut net: Arc<Net>) -> Option<Net> {
    for _ in 0..SOLE_TRIES {
        net = match Arc::try_unwrap(net) {
            Ok(net) => return Some(net),
            Err(shared) => shared,
        };
        sleep(LOOK).await;
    }
    None
}
