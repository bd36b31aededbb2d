//! `rowgate serve`: starts everything in order, keeps the snapshot current, and drains.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::running::{Command, Running};
use super::schemas::{Look, Looks};
use super::{GatewayError, Inputs, Texts, credential, logging};
use crate::approval::{Desk, DeskService, EventSink, NotRecorded};
use crate::audit::{Audit, Writer};
use crate::config::{ClientTls, Config, Target};
use crate::control::{ControlDeps, Listeners, serve};
use crate::gateway::publish::Publisher;
use crate::metrics::Metrics;
use crate::net::side::SideTarget;
use crate::net::{Limits, Net, NetConfig, TargetRuntime, server_config, upstream_config};
use crate::record::Event;
use crate::schema::{Flavour, ServerProfile, SqlMode};
use crate::session::upstream::Account;
use crate::store::Store;

/// How often the files are looked at for change.
const WATCH: Duration = Duration::from_millis(500);

/// How long the start waits for the first look at the databases: the handshake repeats their version.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Looks at schemas on their way to the publisher.
const LOOKS: usize = 64;

/// Runs the gateway until it is told to stop.
pub fn run(file: &Path) -> Result<(), GatewayError> {
    let texts = Texts::read(file)?;
    let workers = crate::net::worker_count(texts.workers());
    let inputs = Inputs::build(texts, None, workers)?;
    logging::start(&inputs.config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("starting the control thread", &error))?;
    runtime.block_on(Serving::start(file, inputs, workers))
}

/// What the main loop owns.
struct Serving {
    file: PathBuf,
    workers: usize,
    publisher: Publisher,
    running: Arc<Running>,
    looks: mpsc::Receiver<Look>,
    commands: mpsc::Receiver<Command>,
    store: Store,
    digest: blake3::Hash,
    admin: Arc<Mutex<Writer>>,
}

impl Serving {
    async fn start(file: &Path, inputs: Inputs, workers: usize) -> Result<(), GatewayError> {
        let config = inputs.config.clone();
        let listeners = bind(file, &config)?;
        let control = Listeners::bind(&config.admin)
            .map_err(|error| GatewayError::Input(format!("{}: {error}", file.display())))?;
        let targets = targets(file, &config)?;
        let audit = Audit::open(&config.audit, workers + 1)
            .map_err(|error| GatewayError::Input(error.to_string()))?;
        let store = Store::open(&config.store.path)
            .await
            .map_err(|error| GatewayError::Input(format!("{}: {error}", file.display())))?;
        let metrics = Metrics::new(workers).map_err(|error| failed("metrics", &error))?;
        let admin = Arc::new(Mutex::new(audit.writer(workers)));
        let (desk, service) = Desk::open(store.clone(), &config.approvals, sink(&admin))
            .await
            .map_err(|error| failed("approvals", &error))?;
        let tokens = store.token_records().await.map_err(|error| failed("tokens", &error))?;
        let digest = inputs.digest;
        let publisher = Publisher::new(inputs, tokens);
        let (found, looks) = mpsc::channel(LOOKS);
        let sides = config.targets.iter().zip(&targets).map(|(target, runtime)| {
            let account =
                Account { user: runtime.user.clone(), password: Arc::clone(&runtime.password) };
            let (address, tls) = (runtime.address.clone(), runtime.tls.clone());
            let every = Duration::from_secs(target.catalog_refresh_s.max(1));
            (SideTarget { address, account, tls }, every)
        });
        let schemas = Arc::new(
            Looks::start(sides.collect(), &found).map_err(|error| failed("schemas", &error))?,
        );
        let (send, commands) = mpsc::channel(16);
        let running = Running::new(&config, metrics, audit.watch(), audit.is_sync(), send);
        let mut serving = Self {
            file: file.to_path_buf(),
            workers,
            publisher,
            running: Arc::new(running),
            looks,
            commands,
            store,
            digest,
            admin,
        };
        serving.first_looks(config.targets.len()).await;
        let net = crate::net::start(NetConfig {
            driver: config.server.driver,
            listeners,
            targets,
            snapshot: serving.publisher.published(),
            schemas,
            desk: desk.clone(),
            audit: (0..workers).map(|worker| audit.writer(worker)).collect(),
            cores: serving.running.metrics.cores(),
            limits: limits(&config, audit.is_sync()),
        })
        .map_err(|error| GatewayError::Input(format!("{}: {error}", file.display())))?;
        serving.serve(net, control, desk, service, audit).await
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
        control: Listeners,
        desk: Desk,
        service: DeskService,
        audit: Audit,
    ) -> Result<(), GatewayError> {
        let net = Arc::new(net);
        self.running.started(Arc::clone(&net));
        self.settle_sql_modes(&net);
        let deps = ControlDeps {
            store: self.store.clone(),
            desk,
            events: sink(&self.admin),
            gateway: Arc::clone(&self.running) as Arc<dyn crate::control::Gateway>,
        };
        let (stop_control, control_stopped) = oneshot::channel::<()>();
        let (stop_desk, desk_stopped) = oneshot::channel::<()>();
        let control = tokio::spawn(serve(control, deps, async {
            let _ = control_stopped.await;
        }));
        let desk = tokio::spawn(service.run(async {
            let _ = desk_stopped.await;
        }));
        self.record("started");
        let outcome = self.main_loop(&net).await;
        self.record("draining");
        let patience = Duration::from_secs(self.publisher.inputs().config.server.drain_timeout_s);
        // Held statements become tickets, and the control plane answers until the last session has ended.
        let _ = stop_desk.send(());
        let _ = desk.await;
        self.running.stopped();
        if let Some(net) = Arc::into_inner(net) {
            let _ = tokio::task::spawn_blocking(move || net.drain(patience)).await;
        }
        let _ = stop_control.send(());
        let _ = control.await;
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
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hangup.recv() => { let _ = self.reload("SIGHUP").await; }
                _ = watch.tick() => self.watch().await,
                look = self.looks.recv() => {
                    let Some(look) = look else { return Err(failed("schemas", &"their threads ended")) };
                    self.looked(look);
                    self.settle_sql_modes(net);
                }
                command = self.commands.recv() => match command {
                    Some(Command::Reload { by, answer }) => {
                        let _ = answer.send(self.reload(&by).await);
                    }
                    Some(Command::Tokens(tokens)) => self.publisher.set_tokens(tokens),
                    None => return Ok(()),
                },
            }
            self.running.published(self.publisher.serial(), &self.publisher.inputs().plugins);
        }
    }

    fn looked(&mut self, look: Look) {
        match look.found {
            Ok(raw) => {
                if self.publisher.set_schema(look.target, raw) {
                    tracing::info!(target = look.target, "a schema was read");
                }
                self.running.target_up(look.target, None);
            }
            Err(fault) => self.running.target_up(look.target, Some(fault.message)),
        }
        for heard in look.heard {
            let _ = heard.send(());
        }
    }

    fn settle_sql_modes(&self, net: &Net) {
        for target in 0..self.publisher.inputs().config.targets.len() {
            if let Some(mode) = self.publisher.sql_mode(target) {
                net.set_sql_mode(target, mode);
            }
        }
    }

    /// Reloads when a file changed, and has stayed as it is since the last look: half-written files are left alone.
    async fn watch(&mut self) {
        let Ok(texts) = Texts::read(&self.file) else { return };
        if texts.digest == self.digest {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let settled = Texts::read(&self.file).is_ok_and(|again| again.digest == texts.digest);
        if settled {
            self.digest = texts.digest;
            let _ = self.reload("a changed file").await;
        }
    }

    /// All or nothing: what runs stays when anything is wrong.
    async fn reload(&mut self, by: &str) -> Result<String, String> {
        let since = Instant::now();
        let built = Texts::read(&self.file)
            .and_then(|texts| Inputs::build(texts, Some(self.publisher.inputs()), self.workers));
        let metrics = &self.running.metrics;
        let inputs = match built {
            Ok(inputs) => inputs,
            Err(error) => {
                let text = error.to_string();
                metrics.reload_failures.inc();
                tracing::error!(by, error = text, "the old policy stays");
                self.running.reload_failed(Some(text.clone()));
                return Err(text);
            }
        };
        if inputs.config.targets.len() != self.publisher.inputs().config.targets.len() {
            let text = "targets changed: that takes effect at a restart".to_owned();
            metrics.reload_failures.inc();
            tracing::error!(by, "{text}");
            self.running.reload_failed(Some(text.clone()));
            return Err(text);
        }
        self.digest = inputs.digest;
        let version = inputs.digest.to_hex().to_string();
        self.publisher.set_inputs(inputs);
        metrics.reloads.inc();
        self.running.reload_failed(None);
        self.running.version(&version);
        let ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(by, version, ms, "a new policy is live");
        self.record(&format!("policy {version} live, by {by}"));
        if let Err(error) = self.store.policy_loaded(&version, now_us(), by).await {
            tracing::warn!(%error, "the policy's version is not in the store");
        }
        Ok(version)
    }

    fn record(&self, action: &str) {
        let subject = env!("CARGO_PKG_VERSION");
        let event = Event::Admin { at_us: now_us(), by: "rowgate", action, subject };
        if write(&self.admin, &event).is_err() {
            tracing::warn!(action, "not recorded: the record can't be written");
        }
    }
}

fn write(admin: &Arc<Mutex<Writer>>, event: &Event<'_>) -> Result<(), NotRecorded> {
    let mut writer = admin.lock().unwrap_or_else(PoisonError::into_inner);
    writer.record(event).map_err(|_| NotRecorded)
}

fn sink(admin: &Arc<Mutex<Writer>>) -> Arc<dyn EventSink> {
    let admin = Arc::clone(admin);
    Arc::new(move |event: &Event<'_>| write(&admin, event))
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> GatewayError {
    GatewayError::Failed(format!("{what}: {error}"))
}

/// Binds every target's listener, so that a port in use ends the start with one line.
fn bind(file: &Path, config: &Config) -> Result<Vec<(usize, TcpListener)>, GatewayError> {
    let bind = |(at, target): (usize, &Target)| {
        let listener = TcpListener::bind(target.listen).map_err(|error| {
            let (file, name, listen) = (file.display(), &target.name, target.listen);
            GatewayError::Input(format!(
                "{file}: targets.{name}.listen: {listen} can't be bound ({error}); choose a free address"
            ))
        })?;
        Ok((at, listener))
    };
    config.targets.iter().enumerate().map(bind).collect()
}

fn limits(config: &Config, durable_records: bool) -> Limits {
    let server = &config.server;
    Limits {
        max_connections: server.max_connections,
        max_statement_bytes: server.max_statement_bytes,
        max_row_bytes: server.max_row_bytes,
        login_timeout: Duration::from_secs(server.login_timeout_s),
        failed_logins_per_minute: server.failed_logins_per_minute,
        record_literals: config.audit.literals,
        durable_records,
    }
}

fn targets(file: &Path, config: &Config) -> Result<Vec<TargetRuntime>, GatewayError> {
    let input = |key: String, what: &dyn std::fmt::Display| {
        GatewayError::Input(format!("{}: {key}: {what}", file.display()))
    };
    let client_tls = match &config.tls {
        None => None,
        Some(tls) => {
            let read = |path: &Path, key: &str| {
                std::fs::read(path).map_err(|error| {
                    input(key.to_owned(), &format!("{}: {error}; give a PEM file", path.display()))
                })
            };
            let certificate = read(&tls.certificate, "tls.certificate")?;
            let key = read(&tls.key, "tls.key")?;
            let made = server_config(&certificate, &key);
            Some(made.map_err(|error| input("tls".to_owned(), &error))?)
        }
    };
    let target = |target: &Target| {
        let key = format!("targets.{}", target.name);
        let ca = match &target.tls_ca {
            None => None,
            Some(path) => Some(std::fs::read(path).map_err(|error| {
                input(format!("{key}.tls_ca"), &format!("{}: {error}", path.display()))
            })?),
        };
        let host =
            target.address.rsplit_once(':').map_or(target.address.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tls = upstream_config(&target.tls, host, ca.as_deref(), target.tls_pin.as_deref())
            .map_err(|error| input(format!("{key}.tls"), &error))?;
        let required = match target.client_tls {
            ClientTls::Required => true,
            ClientTls::Optional => false,
            ClientTls::Auto => !target.listen.ip().is_loopback(),
        };
        if required && client_tls.is_none() {
            let what = "TLS is required for this listener, but there is no [tls]; \
                        run `rowgate cert self-signed`, or set client_tls = \"optional\"";
            return Err(input(format!("{key}.client_tls"), &what));
        }
        Ok(TargetRuntime {
            name: target.name.clone(),
            address: target.address.clone(),
            user: target.user.clone(),
            password: Arc::new(credential(file, target)?),
            tls,
            client_tls: client_tls.clone(),
            client_tls_required: required,
            max_upstream: target.max_upstream,
            profile: Arc::new(unseen()),
        })
    };
    config.targets.iter().map(target).collect()
}

/// What the handshake says of a server that was never seen. Every statement is refused until it has been.
fn unseen() -> ServerProfile {
    ServerProfile {
        flavour: Flavour::MariaDb,
        version: 101_100,
        version_string: "5.5.5-10.11.0-MariaDB-rowgate".to_owned(),
        lower_case_table_names: 0,
        sql_mode: SqlMode(0),
    }
}
