//! The running gateway as the control plane sees it: what it is told, and what it may ask for.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::{mpsc, oneshot};

use super::custody::Custodian;
use crate::approval::Desk;
use crate::audit::AuditWatch;
use crate::clock::now_us;
use crate::config::Config;
use crate::control::{Answer, AuditStatus, Custody, Gateway, SessionInfo, Status, TargetStatus};
use crate::identity::Certificate;
use crate::metrics::Metrics;
use crate::net::{KeyRefresh as _, Net};
use crate::plugin::Plugins;
use crate::policy::Snapshot;

use super::issuers::Issuers;

/// How long a change of tokens waits to be in force before it is answered all the same.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the control plane asks of the main loop.
pub(super) enum Command {
    /// Read everything again.
    Reload {
        /// For whom.
        by: String,
        /// The new version, or what is wrong.
        answer: oneshot::Sender<Result<String, String>>,
    },
    /// Tokens were made or revoked: the store knows which.
    Tokens {
        /// Told once they are in force, or can't be read.
        done: oneshot::Sender<bool>,
    },
    /// A target was removed.
    Removed {
        /// Its index.
        target: usize,
    },
}

/// What is known of the running gateway.
pub(super) struct Running {
    pub(super) metrics: Metrics,
    audit: AuditWatch,
    durability: &'static str,
    pub(super) desk: Desk,
    commands: mpsc::Sender<Command>,
    issuers: Arc<Issuers>,
    published: Arc<ArcSwap<Snapshot>>,
    started_us: i64,
    state: Mutex<State>,
}

struct State {
    net: Weak<Net>,
    /// It was told to end.
    leaving: bool,
    custody: Weak<Custodian>,
    targets: Vec<TargetState>,
    version: String,
    reload_error: Option<String>,
    needs_restart: Vec<String>,
    plugins: Weak<Plugins>,
}

struct TargetState {
    removed: bool,
    /// What keeps it down whatever the database says.
    problem: Option<String>,
    name: String,
    listen: String,
    address: String,
    max_upstream: usize,
    /// Why it is down; `None` once it was read.
    down: Option<String>,
}

impl TargetState {
    fn new(target: &crate::config::Target) -> Self {
        Self {
            removed: false,
            problem: None,
            name: target.name.clone(),
            listen: target.listens(),
            address: target.address.clone(),
            max_upstream: target.max_upstream,
            down: Some("its schema was not read yet".to_owned()),
        }
    }

    fn why_down(&self) -> Option<&String> {
        self.problem.as_ref().or(self.down.as_ref())
    }
}

impl Running {
    pub(super) fn new(
        config: &Config,
        metrics: Metrics,
        (audit, sync): (AuditWatch, bool),
        desk: Desk,
        commands: mpsc::Sender<Command>,
        (issuers, published): (Arc<Issuers>, Arc<ArcSwap<Snapshot>>),
    ) -> Self {
        let limit = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        metrics.limits.sessions.set(limit(config.server.max_connections));
        // A queue for each worker, and the control plane's.
        let queues = metrics.cores().len() + 1;
        metrics.limits.audit_queue.set(limit(config.audit.queue_bytes.saturating_mul(queues)));
        let state = State {
            net: Weak::new(),
            leaving: false,
            custody: Weak::<Custodian>::new(),
            targets: config.targets.iter().map(TargetState::new).collect(),
            version: String::new(),
            reload_error: None,
            needs_restart: Vec::new(),
            plugins: Weak::new(),
        };
        Self {
            metrics,
            audit,
            durability: if sync { "sync" } else { "async" },
            desk,
            commands,
            issuers,
            published,
            started_us: now_us(),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The data path runs.
    pub(super) fn started(&self, net: Arc<Net>) {
        self.metrics.driver.with_label_values(&[net.driver().label()]).set(1);
        self.state().net = Arc::downgrade(&net);
        drop(net);
    }

    /// Who has the targets' credentials.
    pub(super) fn kept_by(&self, custodian: &Arc<Custodian>) {
        self.state().custody = Arc::downgrade(custodian);
    }

    /// It was told to end: `/readyz` says so from now on, so that nobody new is sent here.
    pub(super) fn leaving(&self) {
        self.state().leaving = true;
    }

    /// The data path is about to end: nobody may ask it any more.
    pub(super) fn stopped(&self) {
        let mut state = self.state();
        state.net = Weak::new();
        state.custody = Weak::<Custodian>::new();
    }

    /// The data path, as long as it runs.
    pub(super) fn net(&self) -> Option<Arc<Net>> {
        self.state().net.upgrade()
    }

    /// A target was added; what keeps it down, if something does.
    pub(super) fn target_added(
        &self,
        index: usize,
        target: &crate::config::Target,
        problem: Option<String>,
    ) {
        let mut state = self.state();
        // Indices are given in order, and each is told of once.
        if state.targets.len() == index {
            state.targets.push(TargetState { problem, ..TargetState::new(target) });
        }
    }

    /// A target was removed.
    pub(super) fn target_removed(&self, index: usize) {
        let mut state = self.state();
        let Some(target) = state.targets.get_mut(index) else { return };
        target.removed = true;
        let name = [target.name.as_str()];
        let _ = self.metrics.target_up.remove_label_values(&name);
        let _ = self.metrics.upstream_connections.remove_label_values(&name);
        let _ = self.metrics.limits.upstream.remove_label_values(&name);
        let _ = self.metrics.upstream_waiting.remove_label_values(&name);
    }

    /// The first of these names that a target of the store has, too.
    pub(super) fn is_also_stored(&self, configured: &[crate::config::Target]) -> Option<String> {
        let state = self.state();
        let stored = state.targets.iter().skip(configured.len()).filter(|target| !target.removed);
        let is_named = |name: &&String| configured.iter().any(|target| target.name == **name);
        stored.map(|target| &target.name).find(is_named).cloned()
    }

    /// A target's name, and why it is down.
    pub(super) fn target(&self, index: usize) -> Option<(String, Option<String>)> {
        let state = self.state();
        let target = state.targets.get(index)?;
        Some((target.name.clone(), target.why_down().cloned()))
    }

    pub(super) fn target_up(&self, target: usize, down: Option<String>) {
        if let Some(state) = self.state().targets.get_mut(target) {
            if state.down != down {
                match &down {
                    None => tracing::info!(target = state.name, "the target is ready"),
                    Some(why) => tracing::warn!(target = state.name, why, "the target is down"),
                }
            }
            state.down = down;
        }
    }

    pub(super) fn published(&self, serial: u64, plugins: &Arc<Plugins>) {
        self.metrics.policy_serial.set(i64::try_from(serial).unwrap_or(i64::MAX));
        self.state().plugins = Arc::downgrade(plugins);
    }

    /// This policy is live; these parts of the configuration wait for a restart.
    pub(super) fn version(&self, version: &str, needs_restart: Vec<String>) {
        let mut state = self.state();
        version.clone_into(&mut state.version);
        state.needs_restart = needs_restart;
        state.reload_error = None;
    }

    /// When the certificates that are shown end, as their files say.
    pub(super) fn certificates(&self, config: &Config) {
        let clients = config.tls.as_ref().map(|tls| tls.certificate.as_path());
        let pages = config.web.as_ref().and_then(|web| web.certificate.as_deref());
        for (of, file) in [("clients", clients), ("pages", pages)] {
            let ends = &self.metrics.health.certificate_ends;
            match file.and_then(ends_s) {
                Some(seconds) => ends.with_label_values(&[of]).set(seconds),
                None => {
                    let _ = ends.remove_label_values(&[of]);
                }
            }
        }
    }

    pub(super) fn reload_failed(&self, error: Option<String>) {
        self.state().reload_error = error;
    }

    /// Brings the gauges up to date, just before they are read.
    fn measure(&self) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let audit = self.audit.state();
        self.metrics.audit_failed.set(i64::from(audit.failure.is_some()));
        self.metrics.audit_queued_bytes.set(gauge(audit.queued_bytes));
        let new = audit.records.saturating_sub(self.metrics.audit_records.get());
        self.metrics.audit_records.inc_by(new);
        self.metrics.approvals_pending.set(gauge(self.desk.pending() as u64));
        let broken = self.desk.broken_glass();
        let counted = &self.metrics.health.broken_glass;
        counted.inc_by(broken.saturating_sub(counted.get()));
        self.metrics.health.ready.set(i64::from(self.ready().is_ok()));
        let state = self.state();
        self.metrics.health.reload_failed.set(i64::from(state.reload_error.is_some()));
        let net = state.net.upgrade();
        let health = net.as_ref().map(|net| net.health()).unwrap_or_default();
        self.metrics
            .collected
            .set(gauge(net.as_ref().map_or(0, |net| net.collected_bytes()) as u64));
        self.metrics.sessions.set(gauge(net.map_or(0, |net| net.session_count()) as u64));
        let targets = state.targets.iter().enumerate().filter(|(_, target)| !target.removed);
        for (at, target) in targets {
            let name = [target.name.as_str()];
            self.metrics
                .target_up
                .with_label_values(&name)
                .set(i64::from(target.why_down().is_none()));
            let (open, waiting) =
                health.get(at).map_or((0, 0), |health| (health.connections, health.waiting));
            self.metrics.upstream_connections.with_label_values(&name).set(gauge(open as u64));
            let limit = gauge(target.max_upstream as u64);
            self.metrics.limits.upstream.with_label_values(&name).set(limit);
            self.metrics.upstream_waiting.with_label_values(&name).set(gauge(waiting as u64));
        }
        if let Some(plugins) = state.plugins.upgrade() {
            let stats = plugins.stats();
            self.metrics.set_plugins(stats.map(|(name, of)| (name, [of.calls, of.ns, of.faults])));
        }
    }
}

impl Gateway for Running {
    fn status(&self) -> Status {
        let audit = self.audit.state();
        let not_ready = self.ready().err();
        let state = self.state();
        let net = state.net.upgrade();
        let target = |target: &TargetState| TargetStatus {
            name: target.name.clone(),
            listen: target.listen.clone(),
            address: target.address.clone(),
            up: target.why_down().is_none(),
            detail: target.why_down().cloned().unwrap_or_default(),
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            driver: net.as_ref().map_or("", |net| net.driver().label()).to_owned(),
            workers: net.as_ref().map_or(0, |net| net.workers()),
            started_us: self.started_us,
            policy_version: state.version.clone(),
            reload_error: state.reload_error.clone(),
            needs_restart: state.needs_restart.clone(),
            targets: state.targets.iter().filter(|target| !target.removed).map(target).collect(),
            sessions: net.map_or(0, |net| net.session_count()),
            audit: AuditStatus {
                ok: audit.failure.is_none(),
                durability: self.durability.to_owned(),
                queued_bytes: audit.queued_bytes,
                records: audit.records,
                detail: audit.failure.unwrap_or_default(),
            },
            not_ready,
        }
    }

    fn sessions(&self) -> Vec<SessionInfo> {
        let state = self.state();
        let Some(net) = state.net.upgrade() else { return Vec::new() };
        let session = |session: crate::net::SessionInfo| SessionInfo {
            id: session.id,
            identity: session.identity,
            target: state.targets.get(session.target).map_or(String::new(), |t| t.name.clone()),
            source: session.source,
            state: session.state.to_owned(),
            verb: session.verb.to_owned(),
            shape: session.shape,
            since_us: session.since_us,
            statements: session.statements,
            run: session.run,
        };
        let mut sessions: Vec<SessionInfo> = net.sessions().into_iter().map(session).collect();
        sessions.sort_by_key(|session| session.id);
        sessions
    }

    fn kill(&self, session: u64) -> bool {
        self.state().net.upgrade().is_some_and(|net| net.kill(session))
    }

    fn reload<'a>(&'a self, by: &'a str) -> Answer<'a, Result<String, String>> {
        Box::pin(async move {
            let (answer, done) = oneshot::channel();
            let command = Command::Reload { by: by.to_owned(), answer };
            let ended = |()| "the gateway is ending".to_owned();
            self.commands.send(command).await.map_err(|_| ended(()))?;
            done.await.map_err(|_| ended(()))?
        })
    }

    fn tokens_changed(&self) -> Answer<'_, bool> {
        Box::pin(async move {
            let (done, taken) = oneshot::channel();
            let told = async {
                let sent = self.commands.send(Command::Tokens { done }).await.is_ok();
                sent && taken.await.unwrap_or(false)
            };
            let told = tokio::time::timeout(PATIENCE, told).await.unwrap_or(false);
            if !told {
                tracing::warn!("the gateway drains or is busy: changed tokens take effect later");
            }
            told
        })
    }

    fn broke_glass(&self) {
        self.metrics.health.unmapped_root.inc();
    }

    fn custody(&self) -> Option<Arc<dyn Custody>> {
        let custodian = self.state().custody.upgrade()?;
        Some(custodian)
    }

    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        Some(self.published.load_full())
    }

    fn refresh_keys(&self, issuer: usize) -> Answer<'_, ()> {
        self.issuers.refresh(issuer)
    }

    fn ready(&self) -> Result<(), String> {
        if let Some(why) = self.audit.state().failure {
            return Err(format!("the record can't be written: {why}"));
        }
        let state = self.state();
        if state.leaving {
            return Err("the gateway was told to end".to_owned());
        }
        if state.net.strong_count() == 0 {
            return Err("the gateway is starting".to_owned());
        }
        let mut targets = state.targets.iter().filter(|target| !target.removed);
        match targets.find_map(|target| Some((&target.name, target.why_down()?))) {
            Some((name, why)) => Err(format!("target {name} is down: {why}")),
            None => Ok(()),
        }
    }

    fn metrics(&self) -> String {
        self.measure();
        self.metrics.render()
    }
}

/// When the first certificate of a PEM file ends, in seconds since the epoch.
fn ends_s(file: &Path) -> Option<i64> {
    let der = CertificateDer::from_pem_file(file).ok()?;
    Some(Certificate::parse(&der)?.ends_us() / 1_000_000)
}
