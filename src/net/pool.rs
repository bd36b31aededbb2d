//! A worker's connections to one target: made, logged in, lent to sessions, reset, kept for the next.
//!
//! A connection belongs to one session at a time. What comes back is made nobody's (RESET_CONNECTION and the
//! gateway's baseline, in one flight) before anyone else gets it. `max_upstream` is over all workers: a permit goes
//! with every open connection, idle ones included; when someone waits for a permit, idle ones are closed. Who waits on
//! the same worker gets what comes back as it is.

mod connecting;
mod queue;

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use queue::{Queue, Turn};
use tokio::sync::OwnedSemaphorePermit;

use super::own::Wire;
use super::target::TargetState;
use super::tls::UpstreamTls;
use super::upstream::{Left, Upstream};
use super::worker::Worker;
use crate::codec::{Command, write_frame};
use crate::fault::Fault;
use crate::session::UpstreamKey;
use crate::session::upstream::{self, Query};
use crate::sql::Trace;

/// An idle connection is closed after so long: well below the servers' own `wait_timeout`.
const MAX_IDLE_NS: u64 = 60_000_000_000;

/// After connections were made ahead, or could not be, none is for so long.
const FILL_PAUSE_NS: u64 = 1_000_000_000;

/// Idle connections that one worker keeps for one target: what a burst of short sessions needs at once.
const MAX_IDLE: usize = 64;

/// The answer to INIT_DB of a database that is not there.
const UNKNOWN_DATABASE: u16 = 1049;

/// What a session wants of the pool.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) key: UpstreamKey,
    /// The database to be in.
    pub(super) schema: Option<&'a str>,
    /// The client's address, for a database that is told it.
    pub(super) client: Option<IpAddr>,
    /// What its first statement may see.
    pub(super) trace: Trace,
    /// What that is to see of the session's own last one, which ran on another connection.
    pub(super) found_rows: Option<u16>,
}

/// The pool of one worker for one target.
pub(super) struct Pool {
    index: usize,
    target: Arc<TargetState>,
    #[allow(clippy::vec_box, reason = "they are boxes where they come from and where they go")]
    idle: RefCell<Vec<Box<Upstream>>>,
    queue: Queue,
    /// What the last session asked for: those that are kept ready are like it.
    usual: RefCell<Option<(UpstreamKey, Option<String>)>>,
    /// No connection is made ahead before then, or while one is being made.
    fill_at_ns: Cell<u64>,
    /// Sessions that wait for one, of which none was asked for at this tick yet.
    asks_for: Cell<usize>,
}

/// How long the database may go on with a statement that lost its client, where statements have no time of their own: a day,
/// which changes of large tables take.
const LONGEST_LEFT: Duration = Duration::from_hours(24);

/// utf8mb4, for the gateway's own statements.
const OWN_COLLATION: u16 = 45;

impl Pool {
    pub(super) fn new(index: usize, target: Arc<TargetState>) -> Self {
        let (idle, usual) = (RefCell::default(), RefCell::default());
        let (fill_at_ns, asks_for) = (Cell::new(0), Cell::new(0));
        Self { index, target, idle, queue: Queue::default(), usual, fill_at_ns, asks_for }
    }

    /// A connection as it is wanted: a kept one, or a new one.
    pub(super) async fn take(
        &self,
        worker: &Worker,
        Wanted { key, schema, client, trace, found_rows }: Wanted<'_>,
    ) -> Result<Box<Upstream>, Fault> {
        let origin = client.filter(|_| self.target.runtime.proxy_protocol);
        let found_rows = found_rows.filter(|_| trace != Trace::None);
        let wanted = upstream::Wanted { schema, found_rows, ..upstream::Wanted::default() };
        self.remember(key, schema);
        let mut handed = None;
        loop {
            let Some(mut kept) = handed.take().or_else(|| self.kept(key, schema, origin)) else {
                match self.turn(key, schema, origin).await? {
                    Turn::Permit(permit) => {
                        return self.make(worker, key, wanted, (permit, origin)).await;
                    }
                    Turn::Handed(upstream) => {
                        handed = Some(upstream);
                        continue;
                    }
                }
            };
            let unseen = kept.is_unseen(trace);
            let now_ns = worker.now().mono_ns;
            if unseen && found_rows.is_none() && kept.is_fresh(now_ns, &self.target, schema) {
                return Ok(kept);
            }
            // Also tells whether the database still listens on it.
            let wanted = upstream::Wanted { reset: !unseen, ..wanted };
            match kept.rebase(worker, &self.target, wanted).await {
                Ok(()) => return Ok(kept),
                // The database's own answer (no such schema) would be the same on a new connection.
                Err(fault) if fault.code == UNKNOWN_DATABASE => return Err(fault),
                Err(_) => {}
            }
        }
    }

    /// A new connection.
    async fn make(
        &self,
        worker: &Worker,
        key: UpstreamKey,
        wanted: upstream::Wanted<'_>,
        (permit, origin): (OwnedSemaphorePermit, Option<IpAddr>),
    ) -> Result<Box<Upstream>, Fault> {
        let establish = self.establish(worker, key, Some(permit), origin);
        let made = monoio::time::timeout(worker.shared.limits.connect_timeout, establish).await;
        let made =
            made.unwrap_or_else(|_| Err(Fault::upstream_down("the database does not answer")));
        let mut made = made.inspect_err(|fault| self.target.failed(fault))?;
        self.target.succeeded();
        // MariaDB has it from whoever had the thread before, on a new connection, too.
        let wanted = upstream::Wanted { found_rows: wanted.found_rows.or(Some(0)), ..wanted };
        made.rebase(worker, &self.target, wanted).await?;
        Ok(made)
    }

    /// Takes a connection back and makes it nobody's, behind the session's back, if that left `traces`.
    pub(super) fn give_back(
        &self,
        worker: &Rc<Worker>,
        mut upstream: Box<Upstream>,
        schema: Option<&str>,
        traces: bool,
    ) {
        if !self.has_room(worker)
            || self.is_removed()
            || self.is_old(&upstream, worker.now().mono_ns)
            || worker.draining()
            || upstream.leg.eof
            || !upstream.leg.is_used_up()
        {
            return;
        }
        if !traces && upstream.schema.as_deref() == schema {
            upstream.left = Left::Last;
            return self.keep(worker, upstream);
        }
        let (worker, index, schema) = (Rc::clone(worker), self.index, schema.map(str::to_owned));
        monoio::spawn(async move {
            let Some(pool) = worker.pool(index) else { return };
            let schema = schema.as_deref();
            let wanted = upstream::Wanted { reset: true, schema, ..upstream::Wanted::default() };
            if upstream.rebase(&worker, &pool.target, wanted).await.is_ok() {
                pool.keep(&worker, upstream);
            }
        });
    }

    /// Keeps a connection for the next session, unless it is wanted elsewhere.
    fn keep(&self, worker: &Worker, mut upstream: Box<Upstream>) {
        if worker.draining() || self.is_removed() {
            return;
        }
        upstream.idle_since_ns = worker.now().mono_ns;
        upstream.leg.settle(&worker.buffers);
        let waiting = self.target.waiting.load(Ordering::Relaxed);
        if waiting == 0 {
            self.idle.borrow_mut().push(upstream);
        } else {
            // One that nobody here can use is closed, and whoever waits elsewhere has its permit.
            drop(self.queue.hand_over(upstream, waiting));
        }
    }

    /// Ends what a connection runs, then the connection: without KILL, the database would go on.
    pub(super) fn kill(&self, worker: &Rc<Worker>, upstream: Box<Upstream>) {
        let (worker, index) = (Rc::clone(worker), self.index);
        worker.count_kills(true);
        monoio::spawn(async move {
            let Some(pool) = worker.pool(index) else { return };
            let kill = pool.kill_by_another(&worker, &upstream);
            match monoio::time::timeout(worker.shared.limits.connect_timeout, kill).await {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => tracing::debug!(%fault, "a statement could not be killed"),
                Err(_) => tracing::debug!("a statement could not be killed in time"),
            }
            worker.count_kills(false);
        });
    }

    /// Keeps a connection until the database has answered what it runs, or ended it, then closes it. It holds its permit until
    /// then. What takes longer than a statement may is killed.
    pub(super) fn leave(&self, worker: &Rc<Worker>, mut upstream: Box<Upstream>) {
        let (worker, index) = (Rc::clone(worker), self.index);
        let most = self.target.runtime.statement_timeout.unwrap_or(LONGEST_LEFT);
        monoio::spawn(async move {
            if !upstream.port.is_armed() {
                upstream.port.arm(worker.buffers.take(1));
            }
            let answered = std::future::poll_fn(|cx| upstream.port.poll_done(cx));
            if monoio::time::timeout(most, answered).await.is_err()
                && let Some(pool) = worker.pool(index)
            {
                pool.kill(&worker, upstream);
            }
        });
    }

    /// Closes what has been idle for long, is old, or is wanted elsewhere; makes ready what is to be ready. Called at
    /// each tick.
    pub(super) fn tick(&self, worker: &Rc<Worker>, now_ns: u64) {
        if self.is_removed() {
            return self.close();
        }
        let least = self.least(worker);
        let mut idle = self.idle.borrow_mut();
        idle.retain(|kept| !self.is_old(kept, now_ns));
        let mut spare = idle.len().saturating_sub(least);
        idle.retain(|kept| {
            let goes = spare > 0 && now_ns.saturating_sub(kept.idle_since_ns) >= MAX_IDLE_NS;
            spare -= usize::from(goes);
            !goes
        });
        let waiting = self.target.waiting.load(Ordering::Relaxed);
        self.asks_for.set(waiting);
        if waiting > 0 {
            self.asks_for.set(waiting - usize::from(idle.pop().is_some()));
        } else if idle.len() < least && now_ns >= self.fill_at_ns.get() && !worker.draining() {
            self.fill(worker);
        }
    }

    /// Whether the connection of an idle session is asked for at this tick: one that waits for one each, and beyond that
    /// what may go (`is_due`) and can be kept. A connection that would be closed is better left where it is.
    pub(super) fn asks_back(&self, worker: &Worker, is_due: bool) -> bool {
        let asks_for = self.asks_for.get();
        self.asks_for.set(asks_for.saturating_sub(1));
        asks_for > 0 || (is_due && self.has_room(worker))
    }

    /// Whether what is given back is kept, or waited for.
    pub(super) fn takes_back(&self, worker: &Worker) -> bool {
        self.has_room(worker) || self.target.waiting.load(Ordering::Relaxed) > 0
    }

    fn has_room(&self, worker: &Worker) -> bool {
        self.idle.borrow().len() < MAX_IDLE.max(self.least(worker))
    }

    /// Makes what is to be ready, one after the other.
    fn fill(&self, worker: &Rc<Worker>) {
        let Some((key, schema)) = self.usual.borrow().clone() else { return };
        self.fill_at_ns.set(u64::MAX);
        let (worker, index) = (Rc::clone(worker), self.index);
        monoio::spawn(async move {
            let Some(pool) = worker.pool(index) else { return };
            while pool.idle.borrow().len() < pool.least(&worker) && !worker.draining() {
                let Ok(permit) = Arc::clone(&pool.target.permits).try_acquire_owned() else {
                    break;
                };
                let schema = schema.as_deref();
                let wanted = upstream::Wanted { schema, ..upstream::Wanted::default() };
                let made = pool.make(&worker, key, wanted, (permit, None)).await;
                let Ok(made) = made else { break };
                pool.keep(&worker, made);
            }
            pool.fill_at_ns.set(worker.now().mono_ns.saturating_add(FILL_PAUSE_NS));
        });
    }

    fn remember(&self, key: UpstreamKey, schema: Option<&str>) {
        let mut usual = self.usual.borrow_mut();
        let same =
            |(known, of): &(UpstreamKey, Option<String>)| *known == key && of.as_deref() == schema;
        if self.target.runtime.min_idle > 0 && !usual.as_ref().is_some_and(same) {
            *usual = Some((key, schema.map(str::to_owned)));
        }
    }

    /// This worker's share of what is kept ready. Where the database is told each client's address, none can be.
    fn least(&self, worker: &Worker) -> usize {
        let runtime = &self.target.runtime;
        if runtime.proxy_protocol {
            0
        } else {
            runtime.min_idle.div_ceil(worker.shared.loads.len().max(1))
        }
    }

    /// Whether it is kept no more: for its age, or since the database takes a newer credential than that it was made with.
    fn is_old(&self, upstream: &Upstream, now_ns: u64) -> bool {
        let age = Duration::from_nanos(now_ns.saturating_sub(upstream.made_ns));
        let runtime = &self.target.runtime;
        age >= runtime.max_age || runtime.credentials.is_outdated(upstream.generation)
    }

    /// Whether its target was taken out of the gateway.
    pub(super) fn is_removed(&self) -> bool {
        self.target.is_removed()
    }

    /// Closes all idle connections.
    pub(super) fn close(&self) {
        self.idle.borrow_mut().clear();
    }

    /// The kept connection that fits best: one in the same schema before one that must change it.
    fn kept(
        &self,
        key: UpstreamKey,
        schema: Option<&str>,
        origin: Option<IpAddr>,
    ) -> Option<Box<Upstream>> {
        let mut idle = self.idle.borrow_mut();
        let may = |kept: &Upstream| kept.may_serve(key, schema, origin);
        let fits = |kept: &Upstream| may(kept) && kept.schema.as_deref() == schema;
        let at = idle.iter().rposition(|kept| fits(kept));
        let at = at.or_else(|| idle.iter().rposition(|kept| may(kept)))?;
        Some(idle.swap_remove(at))
    }

    /// Waits for a connection that comes back, or for a permit to make one.
    async fn turn(
        &self,
        key: UpstreamKey,
        schema: Option<&str>,
        origin: Option<IpAddr>,
    ) -> Result<Turn, Fault> {
        let permits = &self.target.permits;
        if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
            return Ok(Turn::Permit(permit));
        }
        self.idle.borrow_mut().pop();
        let patience = self.target.runtime.queue_timeout;
        let _waiting = Waiting::new(&self.target);
        let turn = self.queue.turn(key, schema, origin, Arc::clone(permits));
        let turn = monoio::time::timeout(patience, turn).await;
        turn.ok().flatten().ok_or_else(|| Fault::too_many("connections to the database"))
    }

    /// A connection can't kill itself while it runs, so another one does. It takes no permit: it must get through
    /// when all are taken by statements that nobody wants any more.
    async fn kill_by_another(&self, worker: &Worker, upstream: &Upstream) -> Result<(), Fault> {
        self.run_by_another(worker, &format!("KILL {}", upstream.connection_id)).await
    }

    /// Runs a statement of the gateway's own on a connection made for it.
    pub(super) async fn run_aside(&self, worker: &Worker, sql: String) -> Result<(), Fault> {
        let run = self.run_by_another(worker, &sql);
        let run = monoio::time::timeout(worker.shared.limits.connect_timeout, run).await;
        run.unwrap_or_else(|_| Err(Fault::upstream_down("the database does not answer")))
    }

    async fn run_by_another(&self, worker: &Worker, sql: &str) -> Result<(), Fault> {
        let key = UpstreamKey { capabilities: 0, collation: OWN_COLLATION };
        let Upstream { leg, port, .. } = *self.establish(worker, key, None, None).await?;
        let mut wire = Wire { leg, port };
        let mut out = worker.buffers.take(1);
        let mut query = Query::start(&mut out, sql).short();
        let step = |bytes: &[u8], _: &mut Vec<u8>| query.on_bytes(bytes);
        wire.converse(&worker.buffers, out, &UpstreamTls::Off, step).await?;
        let mut quit = worker.buffers.take(1);
        write_frame(&mut quit, 0, |out| out.push(Command::QUIT.0));
        let all = 0..quit.len();
        let _ = wire.leg.write(quit, all, &worker.buffers).await;
        Ok(())
    }
}

/// Counts a session that waits for a permit, for as long as it does.
struct Waiting<'a>(&'a TargetState);

impl<'a> Waiting<'a> {
    fn new(target: &'a TargetState) -> Self {
        target.waiting.fetch_add(1, Ordering::Relaxed);
        Self(target)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
