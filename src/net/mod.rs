//! The data path: listeners, workers, TLS, buffers, and the pumps that join sockets to `session`.
//!
//! One pinned thread a core runs its own io_uring (or epoll), its own pool of database connections and its own
//! caches. The gateway hands bound listeners in with [`start`] and gets a [`Net`] back, by which it lists and ends
//! sessions and drains. What a statement may do is decided in `decide`; what bytes mean is known to `session`.

mod acceptor;
mod buffers;
mod compressed;
mod control;
mod credentials;
pub mod decide;
mod driver;
mod estimate;
mod halves;
mod io;
mod keepalive;
mod ledger;
mod listener;
mod logins;
mod own;
mod packer;
mod pool;
mod pump;
mod rate;
mod records;
mod registry;
mod resolve;
pub mod side;
mod target;
mod tls;
mod upstream;
mod worker;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use crate::session::Room;
pub use credentials::Credentials;
pub use driver::DriverKind;
pub use estimate::Explained;
pub use listener::Listener;
pub use registry::SessionInfo;
pub use target::{TargetHealth, TargetRuntime};
pub use tls::{TlsError, UpstreamTls, server_config, upstream_config};

use crate::approval::Desk;
use crate::audit::Writer;
use crate::config::Driver;
use crate::identity::Uses;
use crate::metrics::CoreCells;
use crate::network::Network;
use crate::policy::Snapshot;
use logins::Logins;
use rate::LoginRate;
use registry::Registry;
use target::TargetState;
use worker::WorkerEvent;

/// Events on their way to one worker. More new connections than this between two turns of a worker are better
/// refused than queued behind a login timeout.
const INBOX: usize = 1_024;

/// Targets that there can be in the life of a process, removed ones included: they keep their place.
const MAX_TARGETS: usize = 4_096;

/// Asks for a fresh look at a target's schema; the future ends once a new snapshot is live, or looking failed.
pub trait SchemaRefresh: Send + Sync {
    /// Refreshes the target of this index; whether that succeeded. Bounded in time by the implementation.
    fn refresh(&self, target: usize) -> Pin<Box<dyn Future<Output = bool> + Send>>;

    /// How many rows the database expects this statement to look at; `None`: it can't be told, or too many ask.
    fn estimate(
        &self,
        _target: usize,
        _of: Explained,
    ) -> Pin<Box<dyn Future<Output = Option<u64>> + Send>> {
        Box::pin(std::future::ready(None))
    }
}

/// Asks for an issuer's keys; the future ends once a new snapshot has them, or where there are none to be had.
pub trait KeyRefresh: Send + Sync {
    /// Refreshes the issuer of this index. Bounded in time by the implementation.
    fn refresh(&self, issuer: usize) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Bounds of the data path, from `[server]`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; over it, 1040.
    pub max_connections: usize,
    /// Longest statement collected.
    pub max_statement_bytes: usize,
    /// Longest row collected for masking.
    pub max_row_bytes: usize,
    /// What long packets take at the most, over all sessions of a worker.
    pub max_collected_bytes: usize,
    /// From accept to a finished login.
    pub login_timeout: Duration,
    /// From the first packet to a database to a connection that is ready for statements.
    pub connect_timeout: Duration,
    /// How long a client may say nothing between two commands.
    pub idle_timeout: Duration,
    /// How long a peer may be silent before it is asked whether it is there.
    pub keepalive: Duration,
    /// The capabilities of the compressions that clients may ask for.
    pub compression: u64,
    /// How long a client may take no byte of what is sent to it.
    pub write_timeout: Duration,
    /// Failed logins per address and minute, over which more are refused unseen.
    pub failed_logins_per_minute: u32,
    /// A session is closed when what it got in with ends, idle or after its statement; else its next statement is refused.
    pub close_expired: bool,
    /// Statements are recorded with their literals.
    pub record_literals: bool,
    /// Bytes of a statement's answer that are recorded.
    pub recorded_bytes: u32,
    /// Records are durable before they count.
    pub durable_records: bool,
}

/// Everything that the data path is started with.
pub struct NetConfig {
    /// Which I/O driver to use.
    pub driver: Driver,
    /// Bound listeners, each with the index of its target.
    pub listeners: Vec<(usize, Listener)>,
    /// The databases, in the configuration's order.
    pub targets: Vec<TargetRuntime>,
    /// Where the live snapshot is read.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Looks at schemas on demand.
    pub schemas: Arc<dyn SchemaRefresh>,
    /// Fetches issuers' keys on demand.
    pub keys: Arc<dyn KeyRefresh>,
    /// Where tokens' last uses are noted.
    pub uses: Arc<Uses>,
    /// Where held statements are asked for.
    pub desk: Desk,
    /// The record: a writer for each worker. There are as many workers as writers; see [`worker_count`].
    pub audit: Vec<Writer>,
    /// The counters, a cell for each worker.
    pub cores: Arc<Vec<CoreCells>>,
    /// The balancers in front, whose connections begin with a PROXY header.
    pub proxies: Vec<Network>,
    /// Bounds.
    pub limits: Limits,
}

/// Why the data path does not start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The configured driver can't run here.
    #[error("server.driver: {driver} can't run here ({why}); set driver = \"auto\" or \"epoll\"")]
    Driver {
        /// Which.
        driver: &'static str,
        /// What the kernel said.
        why: std::io::Error,
    },
    /// A thread could not be started, or its runtime could not be built.
    #[error("a worker can't start: {0}")]
    Worker(std::io::Error),
    /// No writer of the record, or a worker without counters: a defect of the caller's.
    #[error("every worker needs a writer of the record and a cell of counters")]
    NoWorkers,
    /// A listener can't be used.
    #[error("a listener can't be used: {0}")]
    Listener(std::io::Error),
}

/// What all threads of the data path share.
struct Shared {
    driver: DriverKind,
    /// Where the monotonic clock of all threads begins.
    started: Instant,
    /// By index; one that was removed keeps its place, so that no index ever means another.
    targets: resolve::Targets,
    snapshot: Arc<ArcSwap<Snapshot>>,
    schemas: Arc<dyn SchemaRefresh>,
    keys: Arc<dyn KeyRefresh>,
    uses: Arc<Uses>,
    desk: Desk,
    cores: Arc<Vec<CoreCells>>,
    proxies: Vec<Network>,
    limits: Limits,
    rate: LoginRate,
    logins: Arc<Logins>,
    /// Set once: accepting ends on listeners that outlive this process.
    leaving: AtomicBool,
    /// Set once: accepting ends, and sessions end as they become idle.
    draining: AtomicBool,
    /// Sessions of each worker; single counts, so that the least loaded is found.
    loads: Vec<AtomicUsize>,
    registries: Vec<Registry>,
    /// Each worker's room for long packets.
    rooms: Vec<Arc<Room>>,
}

impl Shared {
    fn sessions(&self) -> usize {
        self.loads.iter().map(|load| load.load(Ordering::Relaxed)).sum()
    }
}

/// The running data path.
pub struct Net {
    shared: Arc<Shared>,
    inboxes: Vec<mpsc::Sender<WorkerEvent>>,
    listeners: Mutex<Vec<(usize, Listener)>>,
    workers: Vec<JoinHandle<()>>,
    resolver: resolve::Resolver,
    ids: Arc<acceptor::SessionIds>,
}

/// How many workers `[server] workers` means: 0 is one for each CPU that this process may run on.
pub fn worker_count(configured: usize) -> usize {
    if configured == 0 { driver::allowed_cpus().len().max(1) } else { configured }
}

/// Starts the workers, which accept on the listeners.
pub fn start(config: NetConfig) -> Result<Net, NetError> {
    let driver = driver::choose(config.driver)?;
    let cpus = driver::allowed_cpus();
    let workers = config.audit.len();
    if workers == 0 || config.cores.len() < workers {
        return Err(NetError::NoWorkers);
    }
    let targets: Vec<_> = config.targets.into_iter().map(TargetState::new).map(Arc::new).collect();
    let targets = Arc::new(ArcSwap::from_pointee(targets));
    let resolver = resolve::Resolver::start(Arc::clone(&targets)).map_err(NetError::Worker)?;
    let shared = Arc::new(Shared {
        driver,
        started: Instant::now(),
        targets,
        snapshot: config.snapshot,
        schemas: config.schemas,
        keys: config.keys,
        uses: config.uses,
        desk: config.desk,
        cores: config.cores,
        proxies: config.proxies,
        limits: config.limits,
        rate: LoginRate::new(config.limits.failed_logins_per_minute),
        logins: Logins::new(config.limits.max_connections),
        leaving: AtomicBool::new(false),
        draining: AtomicBool::new(false),
        loads: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
        registries: (0..workers).map(|_| Registry::default()).collect(),
        rooms: (0..workers).map(|_| Room::new(config.limits.max_collected_bytes)).collect(),
    });
    let mut net = Net {
        shared,
        inboxes: Vec::new(),
        listeners: Mutex::default(),
        workers: Vec::new(),
        resolver,
        ids: Arc::new(acceptor::SessionIds::new()),
    };
    let (ready, started) = std::sync::mpsc::sync_channel(workers);
    for (index, writer) in config.audit.into_iter().enumerate() {
        let (inbox, events) = mpsc::channel(INBOX);
        let cpu = cpus.get(index % cpus.len().max(1)).copied();
        let shared = Arc::clone(&net.shared);
        let thread = worker::start(index, cpu, shared, writer, events, ready.clone());
        net.workers.push(thread.map_err(NetError::Worker)?);
        net.inboxes.push(inbox);
    }
    drop(ready);
    for _ in 0..workers {
        let lost = || std::io::Error::other("a worker ended at its start");
        started.recv().unwrap_or_else(|_| Err(lost())).map_err(NetError::Worker)?;
    }
    for (target, listener) in config.listeners {
        net.listen(target, listener)?;
    }
    tracing::info!(driver = driver.label(), workers, "the data path runs");
    Ok(net)
}

impl Net {
    /// Which driver runs.
    pub fn driver(&self) -> DriverKind {
        self.shared.driver
    }

    /// How many workers run.
    pub fn workers(&self) -> usize {
        self.shared.loads.len()
    }

    /// The sessions open now.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.shared.registries.iter().flat_map(Registry::list).collect()
    }

    /// How many sessions are open now.
    pub fn session_count(&self) -> usize {
        self.shared.sessions()
    }

    /// What long packets take now, over all workers.
    pub fn collected_bytes(&self) -> usize {
        self.shared.rooms.iter().map(|room| room.taken()).sum()
    }

    /// Ends a session; `false` if there is none of this id.
    pub fn kill(&self, session: u64) -> bool {
        let of_worker = self.shared.registries.iter().position(|r| r.contains(session));
        let inbox = of_worker.and_then(|worker| self.inboxes.get(worker));
        inbox.is_some_and(|inbox| inbox.try_send(WorkerEvent::Kill { session }).is_ok())
    }

    /// Adds a target, on which nothing listens yet; its index. `None`: there are as many as there can be.
    pub fn add_target(&self, runtime: TargetRuntime) -> Option<usize> {
        let target = Arc::new(TargetState::new(runtime));
        self.resolver.resolve(&target);
        let mut targets = (**self.shared.targets.load()).clone();
        let index = targets.len();
        if index >= MAX_TARGETS {
            return None;
        }
        targets.push(target);
        // Nobody else adds any: all changes come from the control thread.
        self.shared.targets.store(Arc::new(targets));
        Some(index)
    }

    /// Accepts clients of a target on this listener, too.
    pub fn listen(&self, target: usize, listener: Listener) -> Result<(), NetError> {
        let unknown = || NetError::Listener(std::io::Error::other("there is no such target"));
        let state = self.shared.targets.load().get(target).cloned().ok_or_else(unknown)?;
        let dispatch = acceptor::Dispatch {
            target,
            is_passed: listener.is_passed(),
            state,
            shared: Arc::clone(&self.shared),
            inboxes: self.inboxes.clone(),
            ids: Arc::clone(&self.ids),
        };
        acceptor::start(&listener, &dispatch).map_err(NetError::Listener)?;
        self.listeners().push((target, listener));
        Ok(())
    }

    /// Takes a target out: nobody connects to it any more, and its sessions end, running ones after their statement.
    pub fn remove_target(&self, target: usize) {
        if let Some(state) = self.shared.targets.load().get(target) {
            state.remove();
        }
        self.listeners().retain(|(of, listener)| {
            let stays = *of != target;
            if !stays {
                listener.shut_down();
            }
            stays
        });
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<(usize, Listener)>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over the server's own `sql_mode` of a target, as it was read with the schema: it becomes part of every
    /// connection's baseline.
    pub fn set_sql_mode(&self, target: usize, mode: &str) {
        if let Some(target) = self.shared.targets.load().get(target) {
            let known = target.sql_mode.load();
            if known.as_ref().is_none_or(|known| known.as_str() != mode) {
                target.sql_mode.store(Some(Arc::new(mode.to_owned())));
            }
        }
    }

    /// Shows this certificate to clients from now on; connections that are open stay as they are.
    pub fn set_client_tls(&self, config: &Arc<rustls::ServerConfig>) {
        for target in self.shared.targets.load().iter() {
            target.client_tls.store(Some(Arc::clone(config)));
        }
    }

    /// How each target fares, by index.
    pub fn health(&self) -> Vec<TargetHealth> {
        self.shared.targets.load().iter().map(|target| target.health()).collect()
    }

    /// Takes nobody any more from listeners that outlive this process: whoever connects waits for the next one. Whether
    /// there are no others.
    pub fn leave(&self) -> bool {
        self.shared.leaving.store(true, Ordering::Release);
        for inbox in &self.inboxes {
            // (A full inbox: the drain calls them off.)
            let _ = inbox.try_send(WorkerEvent::Leave);
        }
        self.listeners().iter().all(|(_, listener)| listener.is_passed())
    }

    /// Ends the data path: nothing is accepted any more, idle sessions end at once, running statements may finish
    /// until `deadline` has passed, new ones are refused with 1053. Blocks until the workers have ended.
    pub fn drain(self, deadline: Duration) {
        self.shared.draining.store(true, Ordering::Release);
        self.listeners().iter().for_each(|(_, listener)| listener.shut_down());
        // What is left of a socket goes with it.
        self.listeners().clear();
        for inbox in &self.inboxes {
            // A full inbox is emptied by its worker, who then sees the flag at its next tick.
            let _ = inbox.try_send(WorkerEvent::Drain { deadline });
        }
        drop(self.inboxes);
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a worker ended by a panic");
            }
        }
        self.resolver.stop();
    }
}

#[cfg(test)]
mod tests;
