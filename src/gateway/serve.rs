//! `rowgate serve`: starts everything in order, keeps the snapshot current, and drains.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::custody::{Around, Custodian, Held, side};
use super::custody_start::Opened;
use super::issuers::{Fetched, Issuers};
use super::leave::{Notice, over, sole, tell_systemd};
use super::passed::Passed;
use super::record_keys::{record_keys, record_of};
use super::running::{Command, Running};
use super::schemas::{Look, Looks};
use super::settings::{Common, bind_all, limits, login_key, needs_restart, runtimes};
use super::uses::Keeper;
use super::web::{self, Pages};
use super::{GatewayError, Inputs, Texts, logging, process};
use crate::approval::{Desk, DeskService, EventSink, NotRecorded};
use crate::audit::{Audit, Writer};
use crate::clock::now_us;
use crate::config::Config;
use crate::control::webhooks::Webhooks;
use crate::control::{ControlDeps, Listeners, LookBack, Peers, People, serve};
use crate::gateway::publish::Publisher;
use crate::identity::Uses;
use crate::metrics::Metrics;
use crate::net::{KeyRefresh, Listener, Net, NetConfig, TargetRuntime};
use crate::record::Event;
use crate::store::Store;

/// How often the files are looked at for change.
const WATCH: Duration = Duration::from_millis(500);

/// How long the start waits for the first look at the databases: the handshake repeats their version.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Looks at schemas on their way to the publisher.
const LOOKS: usize = 64;

/// Runs the gateway until it is told to stop.
pub fn run(file: &Path) -> Result<(), GatewayError> {
    let passed = Passed::take()?;
    let texts = Texts::read(file)?;
    let workers = crate::net::worker_count(texts.workers());
    logging::start(file, texts.log())?;
    process::no_dumps();
    process::no_huge_pages();
    tracing::info!(plugins = texts.plugins(), "compiling plugins");
    let inputs = Inputs::build(texts, None, workers)?;
    process::raise_files(inputs.config.server.max_connections);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("starting the control thread", &error))?;
    runtime.block_on(Serving::start(file, inputs, passed))
}

/// What the main loop owns.
struct Serving {
    file: PathBuf,
    workers: usize,
    publisher: Publisher,
    running: Arc<Running>,
    custodian: Arc<Custodian>,
    looks: mpsc::Receiver<Look>,
    issuers: Arc<Issuers>,
    fetched: mpsc::Receiver<Fetched>,
    commands: mpsc::Receiver<Command>,
    store: Store,
    uses: Arc<Uses>,
    /// The configuration that it was started with: parts of it hold until a restart.
    started_with: Config,
    peers: Arc<Peers>,
    pages: Pages,
    /// What the files said when they were last acted upon, good or bad.
    handled: Reading,
    /// What they said at the last look, if that was news.
    unsettled: Option<Reading>,
    admin: Arc<Mutex<Writer>>,
}

/// Listeners for clients, by their targets' places; for the control plane; for the pages.
type Doors = (Vec<(usize, Listener)>, Listeners, Pages);

/// Binds everything that is listened on: for clients, for the control plane, for the pages.
fn doors(file: &Path, config: &Config, passed: Passed) -> Result<Doors, GatewayError> {
    let clients = bind_all(file, config, passed)?;
    let control =
        Listeners::bind(&config.admin).map_err(|error| GatewayError::in_file(file, error))?;
    Ok((clients, control, Pages::bind(file, config)?))
}

/// Starts looking at the targets' schemas.
fn schemas(
    config: &Config,
    targets: &[TargetRuntime],
) -> Result<(Arc<Looks>, mpsc::Receiver<Look>), GatewayError> {
    let (found, looks) = mpsc::channel(LOOKS);
    let schemas = Arc::new(Looks::new(found));
    look_at(&schemas, config, targets).map_err(|error| failed("schemas", &error))?;
    Ok((schemas, looks))
}

/// Starts fetching issuers' keys.
fn issuers(config: &Config) -> Result<(Arc<Issuers>, mpsc::Receiver<Fetched>), GatewayError> {
    let (found, fetched) = mpsc::channel(LOOKS);
    let issuers = Arc::new(Issuers::new(found));
    issuers.set(&config.issuers)?;
    Ok((issuers, fetched))
}

/// The desk, and who else it tells.
type Told = (Webhooks, DeskService);

/// A reading of all files: their digest, or what is wrong with them.
type Reading = Result<blake3::Hash, String>;

impl Serving {
    async fn start(file: &Path, inputs: Inputs, passed: Passed) -> Result<(), GatewayError> {
        let config = inputs.config.clone();
        let workers = crate::net::worker_count(config.server.workers);
        let (listeners, control, pages) = doors(file, &config, passed)?;
        let login_key = login_key(file, config.server.login_key.as_deref())?;
        let common = Common::new(&config, inputs.client_tls.clone(), login_key);
        let keys = record_keys(file, &config)?;
        let audit = Audit::open(&config.audit, keys, workers + 1)
            .map_err(|error| GatewayError::Input(error.to_string()))?;
        let store =
            Store::open(&config.store.path).await.map_err(|error| store_refused(file, &error))?;
        let metrics = Metrics::new(workers).map_err(|error| failed("metrics", &error))?;
        let admin = Arc::new(Mutex::new(audit.writer(workers)));
        let (desk, service) = Desk::open(store.clone(), &config.approvals, sink(&admin))
            .await
            .map_err(|error| failed("approvals", &error))?;
        let told = super::webhooks::start(file, &config, service)?;
        let logins = store.logins().await.map_err(|error| failed("tokens", &error))?;
        let mut opened = Opened::open(file, &config, &store).await?;
        let targets = runtimes(file, &opened.configured, &common)?;
        let publisher = Publisher::new(inputs, logins);
        let (schemas, looks) = schemas(&config, &targets)?;
        let (issuers, fetched) = issuers(&config)?;
        let (send, commands) = mpsc::channel(16);
        let (watch, sync) = (audit.watch(), audit.is_sync());
        let keys = (Arc::clone(&issuers), publisher.published());
        let running =
            Running::new(&config, metrics, (watch, sync), desk.clone(), send.clone(), keys);
        let running = Arc::new(running);
        let stored = std::mem::take(&mut opened.stored);
        let (published, looking) = (publisher.published(), Arc::clone(&schemas));
        let around = Around::new(common, &store, &running, (looking, published, send));
        let mut serving = Self {
            file: file.to_path_buf(),
            workers,
            handled: Ok(publisher.inputs().watched),
            publisher,
            running,
            custodian: Arc::new(Custodian::new(&config, opened, around)),
            looks,
            issuers,
            fetched,
            commands,
            store,
            uses: Arc::default(),
            started_with: config.clone(),
            peers: control.peers(),
            pages,
            unsettled: None,
            admin,
        };
        serving.live("start").await;
        serving.first_looks(config.targets.len()).await;
        let net = crate::net::start(NetConfig {
            driver: config.server.driver,
            listeners,
            targets,
            snapshot: serving.publisher.published(),
            schemas,
            keys: Arc::clone(&serving.issuers) as Arc<dyn KeyRefresh>,
            uses: Arc::clone(&serving.uses),
            desk: desk.clone(),
            audit: (0..workers).map(|worker| audit.writer(worker)).collect(),
            cores: serving.running.metrics.cores(),
            proxies: config.server.proxy_protocol_from.clone(),
            limits: limits(&config, audit.is_sync()),
        })
        .map_err(|error| GatewayError::in_file(file, error))?;
        serving.serve(net, stored, (control, desk, told, audit)).await
    }

    /// Takes what the databases say of themselves, if they answer soon.
    async fn first_looks(&mut self, targets: usize) {
        let deadline = tokio::time::Instant::now() + FIRST_LOOK;
        let mut seen = vec![false; targets];
        while seen.contains(&false) {
            let Ok(Some(look)) = tokio::time::timeout_at(deadline, self.looks.recv()).await else {
                return;
            };
            if let Some(seen) = seen.get_mut(look.target) {
                *seen = true;
            }
            self.looked(look);
        }
    }

    async fn serve(
        mut self,
        net: Net,
        stored: Vec<Held>,
        (control, desk, (webhooks, service), audit): (Listeners, Desk, Told, Audit),
    ) -> Result<(), GatewayError> {
        let net = Arc::new(net);
        self.running.started(Arc::clone(&net));
        self.running.kept_by(&self.custodian);
        self.settle_sql_modes(&net);
        let (raising, refreshing) = (Arc::clone(&self.custodian), Arc::clone(&self.custodian));
        let custody = tokio::spawn(async move {
            raising.raise_stored(stored).await;
            drop(raising);
            refreshing.refresh_on().await;
        });
        let deps = ControlDeps {
            store: self.store.clone(),
            desk,
            events: sink(&self.admin),
            gateway: Arc::clone(&self.running) as Arc<dyn crate::control::Gateway>,
            people: Arc::new(People::new((&self.started_with.passwords).into())),
            look_back: LookBack::new(record_of(&self.started_with).map_err(GatewayError::Input)?),
        };
        self.pages.start(&deps, self.publisher.published());
        let (stop_control, control_stopped) = oneshot::channel::<()>();
        let (stop_desk, desk_stopped) = oneshot::channel::<()>();
        let control = tokio::spawn(serve(control, deps, async {
            let _ = control_stopped.await;
        }));
        let desk = tokio::spawn(service.run(async {
            let _ = desk_stopped.await;
        }));
        let keeper = Keeper::start(Arc::clone(&self.uses), self.store.clone());
        self.record("started");
        tell_systemd(&[NotifyState::Ready]);
        let outcome = self.main_loop(&net).await;
        tracing::info!("draining");
        self.record("draining");
        let patience = Duration::from_secs(self.publisher.inputs().config.server.drain_timeout_s);
        // Held statements become tickets, and the control plane answers until the last session has ended.
        let _ = stop_desk.send(());
        let _ = desk.await;
        webhooks.finish().await;
        custody.abort();
        let _ = custody.await;
        self.running.stopped();
        if let Some(net) = sole(net).await {
            let _ = tokio::task::spawn_blocking(move || net.drain(patience)).await;
        }
        self.pages.stop().await;
        let _ = stop_control.send(());
        let _ = control.await;
        keeper.finish().await;
        self.store.close().await;
        drop(self);
        let _ = tokio::task::spawn_blocking(move || audit.close()).await;
        tracing::info!("drained");
        outcome
    }

    async fn main_loop(&mut self, net: &Net) -> Result<(), GatewayError> {
        let listen = |kind| signal(kind).map_err(|error| failed("signals", &error));
        let mut terminate: Signal = listen(SignalKind::terminate())?;
        let mut interrupt: Signal = listen(SignalKind::interrupt())?;
        let mut hangup: Signal = listen(SignalKind::hangup())?;
        let mut watch = tokio::time::interval(WATCH);
        watch.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut notice = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => match notice {
                    None => notice = Some(self.leave(net)),
                    Some(_) => return Ok(()), // whoever says it twice has no time
                },
                _ = interrupt.recv() => { self.leave(net); return Ok(()) }
                () = over(notice, net) => return Ok(()),
                _ = hangup.recv() => { let _ = self.reload(net, "SIGHUP").await; }
                _ = watch.tick() => self.watch(net).await,
                look = self.looks.recv() => {
                    let Some(look) = look else { return Err(failed("schemas", &"their threads ended")) };
                    self.looked(look);
                    self.settle_sql_modes(net);
                }
                // (This end holds a sender of its own: it never ends.)
                Some(fetched) = self.fetched.recv() => self.fetched(fetched),
                command = self.commands.recv() => match command {
                    Some(Command::Reload { by, answer }) => {
                        let _ = answer.send(self.reload(net, &by).await);
                    }
                    Some(Command::Tokens { done }) => {
                        let _ = done.send(self.tokens_changed().await);
                    }
                    Some(Command::Removed { target }) => self.publisher.forget(target),
                    None => return Ok(()),
                },
            }
            self.running.published(self.publisher.serial(), &self.publisher.inputs().plugins);
        }
    }

    /// Says that it will end.
    fn leave(&self, net: &Net) -> Notice {
        self.running.leaving();
        tell_systemd(&[NotifyState::Stopping]);
        let server = &self.publisher.inputs().config.server;
        tracing::info!(notice_s = server.drain_notice_s, "told to end");
        Notice::give(net, Duration::from_secs(server.drain_notice_s))
    }

    fn looked(&mut self, look: Look) {
        let succeeded = look.found.is_ok();
        match look.found {
            Ok(raw) => {
                if self.publisher.set_schema(look.target, raw) {
                    let target = self.running.target(look.target);
                    let name = target.map_or(String::new(), |(name, _)| name);
                    tracing::info!(target = name, "a schema was read");
                }
                self.running.target_up(look.target, None);
            }
            Err(fault) => self.running.target_up(look.target, Some(fault.message)),
        }
        for heard in look.heard {
            let _ = heard.send(succeeded);
        }
    }

    fn fetched(&mut self, fetched: Fetched) {
        let Fetched { url, keys, heard } = fetched;
        match keys {
            Ok(keys) => self.publisher.set_keys(url, keys),
            Err(why) => tracing::warn!(issuer = url, why, "an issuer's keys can't be fetched"),
        }
        for heard in heard {
            let _ = heard.send(());
        }
    }

    /// The store is asked, since two changes at once may tell of themselves in either order.
    async fn tokens_changed(&mut self) -> bool {
        match self.store.logins().await {
            Ok(logins) => {
                self.publisher.set_logins(logins);
                true
            }
            Err(error) => {
                tracing::error!(%error, "changed tokens can't be read");
                false
            }
        }
    }

    fn settle_sql_modes(&self, net: &Net) {
        for target in 0..self.publisher.targets() {
            if let Some(mode) = self.publisher.sql_mode(target) {
                net.set_sql_mode(target, mode);
            }
        }
    }

    /// Reloads when the files changed (or can't be read any more) and have stayed so for a whole look: half-written
    /// files are left alone.
    async fn watch(&mut self, net: &Net) {
        let reading = Texts::read(&self.file).map(|texts| texts.watched);
        let reading = reading.map_err(|error| error.to_string());
        if reading == self.handled {
            self.unsettled = None;
        } else if self.unsettled.as_ref() == Some(&reading) {
            let _ = self.reload(net, "a changed file").await;
        } else {
            self.unsettled = Some(reading);
        }
    }

    /// All or nothing: what runs stays when anything is wrong.
    async fn reload(&mut self, net: &Net, by: &str) -> Result<String, String> {
        let since = Instant::now();
        self.unsettled = None;
        let texts = Texts::read(&self.file);
        self.handled = texts.as_ref().map(|texts| texts.watched).map_err(ToString::to_string);
        let built = texts
            .and_then(|texts| Inputs::build(texts, Some(self.publisher.inputs()), self.workers));
        let inputs = match built {
            Ok(inputs) => inputs,
            Err(error) => return Err(self.refused(by, error.to_string())),
        };
        if inputs.config.targets.len() != self.publisher.inputs().config.targets.len() {
            let text = format!(
                "{}: targets: their number changed, which takes effect at a restart; restart the gateway",
                self.file.display()
            );
            return Err(self.refused(by, text));
        }
        if let Some(name) = self.running.is_also_stored(&inputs.config.targets) {
            let text = format!(
                "{}: targets.{name}: the store has a target of this name, too; choose another",
                self.file.display()
            );
            return Err(self.refused(by, text));
        }
        let pages = match web::settings(&self.file, &inputs.config) {
            Ok(pages) => pages,
            Err(error) => return Err(self.refused(by, error.to_string())),
        };
        if let Err(error) = self.issuers.set(&inputs.config.issuers) {
            return Err(self.refused(by, error.to_string()));
        }
        self.peers.set(&inputs.config.admin.peers);
        self.pages.set(pages);
        if let (Some(_), Some(renewed)) = (&self.started_with.tls, &inputs.client_tls) {
            net.set_client_tls(renewed);
            self.custodian.set_client_tls(renewed);
        }
        self.custodian.reread();
        self.publisher.set_inputs(inputs);
        self.running.metrics.reloads.inc();
        let version = self.live(by).await;
        let ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(by, version, ms, "a new policy is live");
        Ok(version)
    }

    /// The old policy stays: said in the log, in the metrics and by `rowgate status`.
    fn refused(&self, by: &str, why: String) -> String {
        self.running.metrics.reload_failures.inc();
        tracing::error!(by, error = why, "the old policy stays");
        self.running.reload_failed(Some(why.clone()));
        why
    }

    /// Makes known which policy is live, and what of the configuration still waits for a restart.
    async fn live(&self, by: &str) -> String {
        let inputs = self.publisher.inputs();
        let version = inputs.digest.to_hex().to_string();
        // (Whether there are pages is known at the start.)
        let pages = inputs.config.web.as_ref().filter(|_| self.started_with.web.is_some());
        self.running.desk.set_pages(pages.map(|web| web.url.clone()));
        let waits = needs_restart(&self.started_with, &inputs.config);
        if !waits.is_empty() {
            tracing::warn!(changed = waits.join(", "), "changes that take effect at a restart");
        }
        self.running.version(&version, waits);
        self.running.certificates(&inputs.config);
        self.record(&format!("policy {version} live, by {by}"));
        if let Err(error) = self.store.policy_loaded(&version, now_us(), by).await {
            tracing::warn!(%error, "the policy's version is not in the store");
        }
        version
    }

    fn record(&self, action: &str) {
        let subject = env!("CARGO_PKG_VERSION");
        let event = Event::Admin { at_us: now_us(), by: "rowgate", action, subject };
        if write(&self.admin, &event).is_err() {
            tracing::warn!(action, "not recorded: the record can't be written");
        }
    }
}

/// Begins to look at their schemas.
fn look_at(looks: &Looks, config: &Config, targets: &[TargetRuntime]) -> std::io::Result<()> {
    for (at, (target, runtime)) in config.targets.iter().zip(targets).enumerate() {
        looks.add(at, side(runtime), Duration::from_secs(target.catalog_refresh_s.max(1)))?;
    }
    Ok(())
}

fn write(admin: &Arc<Mutex<Writer>>, event: &Event<'_>) -> Result<(), NotRecorded> {
    let mut writer = admin.lock().unwrap_or_else(PoisonError::into_inner);
    writer.record(event).map_err(|_| NotRecorded)
}

fn sink(admin: &Arc<Mutex<Writer>>) -> Arc<dyn EventSink> {
    let admin = Arc::clone(admin);
    Arc::new(move |event: &Event<'_>| write(&admin, event))
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> GatewayError {
    GatewayError::Failed(format!("{what}: {error}"))
}

fn store_refused(file: &Path, error: &crate::store::StoreError) -> GatewayError {
    let mend =
        "give a path that the gateway's user may write, or move a file that is no store away";
    GatewayError::in_file(file, format_args!("store.path: {error}; {mend}"))
}
