//! A worker: one pinned thread with its runtime, its sessions, its caches and its pools.
//!
//! The main task takes events from the inbox and walks the sessions ten times a second for timeouts; every session
//! is a task of its own. Nothing here is shared with other threads but what `Shared` holds.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, Cache};
use monoio::io::Canceller;
use tokio::sync::mpsc;

use super::Shared;
use super::acceptor::{self, Listen};
use super::buffers::{Buffers, Spares};
use super::control::{Control, End};
use super::decide::Decider;
use super::ledger::Ledger;
use super::logins::Unproven;
use super::pool::Pool;
use super::pump;
use super::registry::SessionCell;
use crate::audit::Writer;
use crate::clock::Now;
use crate::identity::Directory;
use crate::policy::Snapshot;

/// Sessions are walked this often: timeouts are that exact, and a wake from another thread that got lost is
/// made good.
const TICK: Duration = Duration::from_millis(100);

/// After a drain's deadline, sessions that were told to end get this long to do so.
const GRACE_NS: u64 = 1_000_000_000;

/// What reaches a worker from other threads.
pub(super) enum WorkerEvent {
    /// A connection for this worker.
    Accepted(Accepted),
    /// A listener to accept on.
    Listen(Box<Listen>),
    /// End this session.
    Kill {
        /// The session.
        session: u64,
    },
    /// Take nobody any more from listeners that outlive this process.
    Leave,
    /// End when all sessions have, or when this much time has passed.
    Drain {
        /// How long running statements may take.
        deadline: Duration,
    },
}

/// A new connection.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) target: usize,
    /// Its address; none on a Unix socket.
    pub(super) peer: Option<IpAddr>,
    pub(super) id: u64,
    pub(super) unproven: Unproven,
}

/// The state of one worker.
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) buffers: Buffers,
    pub(super) spares: Spares,
    pub(super) ledger: Ledger,
    pub(super) decider: RefCell<Decider>,
    /// This worker's view of the live snapshot: no counter shared with other cores is touched by looking.
    pub(super) snapshot: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    /// By the target's index; as many as were asked for yet.
    pools: RefCell<Vec<Rc<Pool>>>,
    /// Calls off what waits for connections.
    pub(super) off: RefCell<Canceller>,
    clock: Clock,
    controls: RefCell<HashMap<u64, Seen>>,
    drain_ends_ns: Cell<Option<u64>>,
    /// Statements being killed upstream: a drain waits for them.
    kills: Cell<usize>,
    /// By which the sessions' logins were last looked up.
    directory: RefCell<Weak<Directory>>,
    /// When the sessions' logins are next looked at for whether they have ended.
    next_expiry_ns: Cell<u64>,
}

/// Starts a worker's thread, which tells over `ready` whether its driver could be built.
pub(super) fn start(
    index: usize,
    cpu: Option<usize>,
    shared: Arc<Shared>,
    writer: Writer,
    events: mpsc::Receiver<WorkerEvent>,
    ready: SyncSender<io::Result<()>>,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        if let Some(Err(error)) = cpu.map(|cpu| monoio::utils::bind_to_cpu_set([cpu])) {
            tracing::warn!(worker = index, %error, "this worker is not pinned");
        }
        let driver = shared.driver;
        let worker = Rc::new(Worker::new(index, shared, writer));
        let ran = driver.run(|| {
            let _ = ready.send(Ok(()));
            worker.run(events)
        });
        if let Err(error) = ran {
            let _ = ready.send(Err(error));
        }
    })
}

impl Worker {
    fn new(index: usize, shared: Arc<Shared>, writer: Writer) -> Self {
        let clock = Clock::new(shared.started);
        Self {
            index,
            ledger: Ledger::new(writer),
            decider: RefCell::new(Decider::new(index)),
            snapshot: RefCell::new(Cache::new(Arc::clone(&shared.snapshot))),
            pools: RefCell::default(),
            off: RefCell::default(),
            shared,
            buffers: Buffers::default(),
            spares: Spares::default(),
            clock,
            controls: RefCell::default(),
            drain_ends_ns: Cell::new(None),
            kills: Cell::new(0),
            directory: RefCell::default(),
            next_expiry_ns: Cell::new(0),
        }
    }

    /// One reading of the clocks.
    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// The connections to a target.
    pub(super) fn pool(&self, target: usize) -> Option<Rc<Pool>> {
        if target >= self.pools.borrow().len() {
            self.take_over_targets();
        }
        self.pools.borrow().get(target).cloned()
    }

    /// A pool for each target there is by now.
    fn take_over_targets(&self) {
        let mut pools = self.pools.borrow_mut();
        for target in self.shared.targets.load().iter().skip(pools.len()) {
            let index = pools.len();
            pools.push(Rc::new(Pool::new(index, Arc::clone(target))));
        }
    }

    fn each_pool(&self, then: impl Fn(&Pool)) {
        let mut at = 0;
        while let Some(pool) = self.pool(at) {
            then(&pool);
            at += 1;
        }
    }

    /// Counts statements that are being killed upstream.
    pub(super) fn count_kills(&self, began: bool) {
        let kills = self.kills.get();
        self.kills.set(if began { kills + 1 } else { kills.saturating_sub(1) });
    }

    /// Whether new statements are refused.
    pub(super) fn draining(&self) -> bool {
        self.drain_ends_ns.get().is_some()
    }

    async fn run(self: Rc<Self>, mut events: mpsc::Receiver<WorkerEvent>) {
        let mut tick = monoio::time::interval(TICK);
        monoio::spawn(Ledger::flush_each_turn(Rc::clone(&self)));
        while !self.is_over() {
            let turn = std::future::poll_fn(|cx| match events.poll_recv(cx) {
                Poll::Ready(Some(event)) => Poll::Ready(Turn::Event(event)),
                // a closed inbox means that the gateway drains: the ticks see it through
                Poll::Ready(None) | Poll::Pending => tick.poll_tick(cx).map(|_| Turn::Tick),
            });
            match turn.await {
                Turn::Event(WorkerEvent::Accepted(accepted)) => self.accept(accepted),
                Turn::Event(WorkerEvent::Listen(listen)) => {
                    monoio::spawn(acceptor::accept_all(Rc::clone(&self), *listen));
                }
                Turn::Event(WorkerEvent::Kill { session }) => self.kill(session),
                Turn::Event(WorkerEvent::Leave) => self.call_off(),
                Turn::Event(WorkerEvent::Drain { deadline }) => self.drain(deadline),
                Turn::Tick => self.tick(),
            }
        }
        self.ledger.flush();
    }

    /// Serves a connection, which counts as this worker's load already.
    pub(super) fn accept(self: &Rc<Self>, accepted: Accepted) {
        let id = accepted.id;
        let control = Rc::new(Control::default());
        let login = self.shared.limits.login_timeout;
        control.must_end_by(self.now().after(login), End::LoginTimeout);
        let cell = self.list(&accepted);
        let seen = Seen { control: Rc::clone(&control), cell: Arc::clone(&cell) };
        self.controls.borrow_mut().insert(id, seen);
        let seat = Seat { worker: Rc::clone(self), id };
        if self.draining() {
            control.end(End::Drain);
        }
        let session = pump::serve(Rc::clone(self), accepted, Rc::clone(&control), cell);
        monoio::spawn(async move {
            *control.waker.borrow_mut() = Some(std::future::poll_fn(own_waker).await);
            unharmed(id, session).await;
            drop(seat);
        });
    }

    /// Shows the session in the registry.
    fn list(&self, accepted: &Accepted) -> Arc<SessionCell> {
        let since_us = self.now().wall_us;
        let cell = Arc::new(SessionCell::new(accepted.id, accepted.target, since_us));
        if let Some(registry) = self.shared.registries.get(self.index) {
            registry.insert(Arc::clone(&cell));
        }
        cell
    }

    fn kill(&self, session: u64) {
        if let Some(seen) = self.controls.borrow().get(&session) {
            seen.control.end(End::Kill);
        }
    }

    /// Wakes what waits for connections, to look whether it still may.
    fn call_off(&self) {
        let off = self.off.take();
        let _ = off.cancel();
    }

    fn drain(&self, deadline: Duration) {
        self.call_off();
        let ends = self.now().after(deadline);
        if self.drain_ends_ns.get().is_none() {
            self.drain_ends_ns.set(Some(ends));
        }
        self.each_pool(Pool::close);
        self.controls.borrow().values().for_each(|seen| seen.control.end(End::Drain));
    }

    /// The walk over all sessions.
    fn tick(self: &Rc<Self>) {
        self.clock.follow();
        let now = self.now().mono_ns;
        if self.shared.draining.load(Ordering::Acquire) && !self.draining() {
            self.drain(Duration::ZERO); // the event did not fit into a full inbox
        }
        self.each_pool(|pool| pool.tick(self, now));
        self.end_revoked();
        self.end_expired();
        let past_deadline = self.drain_ends_ns.get().is_some_and(|ends| now >= ends);
        for Seen { control, cell } in self.controls.borrow().values() {
            control.tick(now);
            let pool = self.pool(cell.target());
            control.ask_back(now, pool.as_deref(), self);
            if pool.is_some_and(|pool| pool.is_removed()) && control.end.get().is_none() {
                control.end(End::Removed);
            }
            if cell.is_killed() && control.end.get().is_none() {
                control.end(End::Killed);
            }
            if past_deadline {
                control.end(End::Deadline);
            }
        }
    }

    /// Ends the sessions whose login was taken away. All are looked at when who may log in has changed, and only then.
    fn end_revoked(&self) {
        self.with_snapshot(|snapshot| {
            let mut seen = self.directory.borrow_mut();
            if !std::ptr::eq(seen.as_ptr(), Arc::as_ptr(&snapshot.directory)) {
                *seen = Arc::downgrade(&snapshot.directory);
                self.controls.borrow().values().for_each(|seen| seen.control.look_up(snapshot));
            }
        });
    }

    /// Ends the sessions whose login has ended, where the configuration wants that; looks once a second.
    fn end_expired(&self) {
        let now = self.now();
        if !self.shared.limits.close_expired || now.mono_ns < self.next_expiry_ns.get() {
            return;
        }
        self.next_expiry_ns.set(now.after(Duration::from_secs(1)));
        self.controls.borrow().values().for_each(|seen| seen.control.end_expired(now.wall_us));
    }

    fn is_over(&self) -> bool {
        let Some(ends) = self.drain_ends_ns.get() else { return false };
        let quiet = self.controls.borrow().is_empty() && self.kills.get() == 0;
        quiet || self.now().mono_ns >= ends.saturating_add(GRACE_NS)
    }
}

/// A session as its worker's main task sees it.
struct Seen {
    control: Rc<Control>,
    cell: Arc<SessionCell>,
}

enum Turn {
    Event(WorkerEvent),
    Tick,
}

/// A session's place on its worker, given up however the session ends.
struct Seat {
    worker: Rc<Worker>,
    id: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let shared = &self.worker.shared;
        self.worker.controls.borrow_mut().remove(&self.id);
        if let Some(registry) = shared.registries.get(self.worker.index) {
            registry.remove(self.id);
        }
        if let Some(load) = shared.loads.get(self.worker.index) {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A task's waker stays the same for its life, so it is taken once.
fn own_waker(cx: &mut std::task::Context<'_>) -> Poll<Waker> {
    Poll::Ready(cx.waker().clone())
}

/// Runs a session so that a panic ends only it, not its worker.
async fn unharmed(id: u64, mut session: Pin<Box<dyn Future<Output = ()>>>) {
    std::future::poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| session.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| {
            tracing::error!(session = id, "a session ended by a panic");
            Poll::Ready(())
        })
    })
    .await;
}

/// The clocks of a worker: one reading of the monotonic one a turn, the wall clock followed at each tick.
struct Clock {
    origin: Instant,
    wall_at_origin_us: Cell<i64>,
}

impl Clock {
    fn new(origin: Instant) -> Self {
        let clock = Self { origin, wall_at_origin_us: Cell::new(0) };
        clock.follow();
        clock
    }

    fn now(&self) -> Now {
        let elapsed = self.origin.elapsed();
        let mono_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let since_us = i64::try_from(mono_ns / 1_000).unwrap_or(i64::MAX);
        Now { mono_ns, wall_us: self.wall_at_origin_us.get().saturating_add(since_us) }
    }

    /// Takes over a wall clock that was set.
    fn follow(&self) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_us = i64::try_from(wall.as_micros()).unwrap_or(i64::MAX);
        let since_us = i64::try_from(self.origin.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.wall_at_origin_us.set(wall_us.saturating_sub(since_us));
    }
}
