//! Names of databases, resolved off the workers: a look-up can block for seconds.

use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::target::{TargetState, socket_path};

/// How often names are looked up again, so that a failover by DNS is followed.
const EVERY: Duration = Duration::from_secs(15);

/// The targets of the data path, which may grow.
pub(super) type Targets = Arc<ArcSwap<Vec<Arc<TargetState>>>>;

/// The thread that resolves.
pub(super) struct Resolver {
    orders: SyncSender<Order>,
    thread: JoinHandle<()>,
}

enum Order {
    Again,
    Stop,
}

impl Resolver {
    /// Resolves once at once (addresses in digits cost nothing), then on and on.
    pub(super) fn start(targets: Targets) -> std::io::Result<Self> {
        let (orders, ordered) = sync_channel(1);
        targets.load().iter().filter(|target| is_literal(target)).for_each(|t| resolve(t));
        let thread = std::thread::Builder::new().name("resolve".to_owned()).spawn(move || {
            loop {
                let named =
                    |target: &&Arc<TargetState>| !is_literal(target) && !target.is_removed();
                targets.load().iter().filter(named).for_each(|target| resolve(target));
                match ordered.recv_timeout(EVERY) {
                    Err(RecvTimeoutError::Timeout) | Ok(Order::Again) => {}
                    Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { orders, thread })
    }

    /// Resolves a new target's name soon, its digits at once.
    pub(super) fn resolve(&self, target: &TargetState) {
        if is_literal(target) {
            resolve(target);
        } else {
            // A full queue is one that looks anew anyhow.
            let _ = self.orders.try_send(Order::Again);
        }
    }

    /// Ends the thread. One that hangs in a look-up is left behind: the process is about to end.
    pub(super) fn stop(self) {
        let _ = self.orders.try_send(Order::Stop);
        if self.thread.is_finished() {
            let _ = self.thread.join();
        }
    }
}

fn is_literal(target: &TargetState) -> bool {
    target.runtime.address.parse::<std::net::SocketAddr>().is_ok() || is_socket(target)
}

/// A path needs no look-up, and has no addresses.
fn is_socket(target: &TargetState) -> bool {
    socket_path(&target.runtime.address).is_some()
}

fn resolve(target: &TargetState) {
    if is_socket(target) {
        return;
    }
    match target.runtime.address.to_socket_addrs() {
        Ok(found) => target.addresses.store(Arc::new(found.collect())),
        // The last known addresses stay: a resolver that is down must not take the database with it.
        Err(error) => {
            tracing::warn!(target = target.runtime.name, %error, "its address can't be resolved");
        }
    }
}
