//! Sessions of one worker that wait for a connection: each gets one that comes back, or a permit to make one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::super::upstream::Upstream;
use crate::session::UpstreamKey;

/// So many connections in a row go to those who wait on this worker while others wait elsewhere; then one is closed, whose
/// permit goes to whoever waits longest of all. A connection made anew costs the database some ten of those lent on.
const MAX_IN_A_ROW: u32 = 8;

/// What came of waiting.
pub(super) enum Turn {
    /// A connection may be made.
    Permit(OwnedSemaphorePermit),
    /// Another session's was left.
    Handed(Box<Upstream>),
}

/// Who waits, in the order in which they came.
#[derive(Default)]
pub(super) struct Queue {
    waiters: RefCell<VecDeque<Waiter>>,
    in_a_row: Cell<u32>,
}

/// A session that waits.
struct Waiter {
    key: UpstreamKey,
    schema: Option<Box<str>>,
    origin: Option<IpAddr>,
    give: oneshot::Sender<Box<Upstream>>,
}

impl Queue {
    /// Waits for either; `None` once no permits are given any more. Whoever stops waiting is passed over.
    pub(super) async fn turn(
        &self,
        key: UpstreamKey,
        schema: Option<&str>,
        origin: Option<IpAddr>,
        permits: Arc<Semaphore>,
    ) -> Option<Turn> {
        let (give, given) = oneshot::channel();
        self.waiters.borrow_mut().push_back(Waiter {
            key,
            schema: schema.map(Into::into),
            origin,
            give,
        });
        tokio::select! {
            biased;
            Ok(upstream) = given => Some(Turn::Handed(upstream)),
            permit = permits.acquire_owned() => permit.ok().map(Turn::Permit),
        }
    }

    /// Gives a connection to the first who can have it. `waiting`: sessions that wait on any worker. It comes back where
    /// nobody takes it, or where it is others' turn.
    pub(super) fn hand_over(
        &self,
        mut upstream: Box<Upstream>,
        waiting: usize,
    ) -> Option<Box<Upstream>> {
        let mut waiters = self.waiters.borrow_mut();
        waiters.retain(|waiter| !waiter.give.is_closed());
        let can_have = |waiter: &Waiter| {
            upstream.may_serve(waiter.key, waiter.schema.as_deref(), waiter.origin)
        };
        let here = waiters.iter().filter(|waiter| can_have(waiter)).count();
        if waiting > here && self.in_a_row.get() >= MAX_IN_A_ROW {
            self.in_a_row.set(0);
            return Some(upstream);
        }
        while let Some(at) = waiters.iter().position(|waiter| {
            upstream.may_serve(waiter.key, waiter.schema.as_deref(), waiter.origin)
        }) {
            let Some(waiter) = waiters.remove(at) else { break };
            match waiter.give.send(upstream) {
                Ok(()) => {
                    self.in_a_row.set(self.in_a_row.get() + 1);
                    return None;
                }
                Err(back) => upstream = back,
            }
        }
        Some(upstream)
    }
}
