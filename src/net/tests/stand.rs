//! The data path over a private MariaDB, with a decision that allows everything.

use std::collections::HashSet;
use std::future::ready;
use std::net::{Ipv4Addr, TcpListener};
use std::pin::Pin;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::database::{Database, PASSWORD};
use crate::approval::{Approver, Desk};
use crate::audit::Audit;
use crate::config::{Approvals, Driver, Durability};
use crate::identity::{Directory, PrincipalKind, Scope, TokenRecord, Verifier};
use crate::metrics::Metrics;
use crate::net::{
    KeyRefresh, Limits, Listener, Net, NetConfig, SchemaRefresh, TargetRuntime, UpstreamTls,
};
use crate::policy::{NoPlugins, Policies, Snapshot};
use crate::schema::{
    Catalog, Column, Flavour, LabelSet, Labels, ServerProfile, SqlMode, Table, TableKind,
};
use crate::secret::Secret;
use crate::session::upstream::Account;
use crate::store::{ApprovalState, Store};

pub(super) const TOKEN: &str = "rgt_test";

/// A test's world.
pub(super) struct Stand {
    pub(super) net: Option<Net>,
    pub(super) port: u16,
    pub(super) database: Database,
    pub(super) desk: Desk,
    pub(super) store: Store,
    control: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    audit: Option<Audit>,
    folder: tempfile::TempDir,
}

/// What differs between tests.
pub(super) struct Options {
    pub(super) driver: Driver,
    pub(super) max_upstream: usize,
    pub(super) client_tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) upstream_tls: UpstreamTls,
    pub(super) database: Vec<String>,
    pub(super) limits: Limits,
    pub(super) durability: Durability,
}

impl Options {
    pub(super) fn new(driver: Driver) -> Self {
        let limits = Limits {
            max_connections: 100,
            max_statement_bytes: 16 << 20,
            max_row_bytes: 16 << 20,
            max_collected_bytes: 256 << 20,
            login_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_hours(8),
            keepalive: Duration::from_mins(1),
            compression: 0,
            write_timeout: Duration::from_mins(1),
            failed_logins_per_minute: 5,
            close_expired: false,
            record_literals: false,
            recorded_bytes: 16 << 10,
            durable_records: false,
        };
        let database = Vec::new();
        let upstream_tls = UpstreamTls::Off;
        let durability = Durability::Sync;
        Self {
            driver,
            max_upstream: 20,
            client_tls: None,
            upstream_tls,
            database,
            limits,
            durability,
        }
    }
}

fn account() -> Account {
    Account {
        user: "gate".to_owned(),
        password: Arc::new(Secret::from(PASSWORD)),
        public_key: None,
    }
}

impl Stand {
    /// `None` where MariaDB, or the driver, is not here.
    pub(super) fn start(options: Options) -> Option<Self> {
        if options.driver == Driver::IoUring && super::driver::choose(Driver::IoUring).is_err() {
            eprintln!("left out: the kernel refuses io_uring");
            return None;
        }
        let arguments: Vec<&str> = options.database.iter().map(String::as_str).collect();
        let database = Database::start(&arguments)?;
        let control = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (store, desk, service) = control.block_on(async {
            let store = Store::open(&folder.path().join("store.db")).await.unwrap();
            let events = Arc::new(|_: &crate::record::Event<'_>| Ok(()));
            let opened = Desk::open(store.clone(), &Approvals::default(), events).await;
            let (desk, service) = opened.unwrap();
            (store, desk, service)
        });
        let settings = crate::config::Audit {
            durability: options.durability,
            ..crate::config::Audit::at(folder.path().join("audit"))
        };
        let audit =
            Audit::open(&settings, crate::audit::keys::Keys::generate().unwrap(), 1).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let net = super::super::start(NetConfig {
            driver: options.driver,
            audit: vec![audit.writer(0)],
            cores: Metrics::new(1).unwrap().cores(),
            listeners: vec![(0, Listener::Tcp(listener))],
            targets: vec![TargetRuntime {
                name: "shop".to_owned(),
                address: format!("127.0.0.1:{}", database.port()),
                credentials: crate::net::Credentials::new(account()),
                tls: options.upstream_tls,
                client_tls: options.client_tls,
                client_tls_required: false,
                socket_tls_required: false,
                login_key: None,
                statement_timeout: None,
                compression: None,
                proxy_protocol: false,
                max_upstream: options.max_upstream,
                min_idle: 0,
                max_age: Duration::from_hours(1),
                queue_timeout: Duration::from_secs(10),
                idle_release: None,
                profile: Arc::new(profile()),
            }],
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot())),
            schemas: Arc::new(NoSchemas),
            keys: Arc::new(NoKeys),
            uses: Arc::default(),
            desk: desk.clone(),
            proxies: Vec::new(),
            limits: Limits { durable_records: audit.is_sync(), ..options.limits },
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            control.block_on(service.run(async {
                let _ = stopped.await;
            }));
        });
        let (net, audit, control) = (Some(net.unwrap()), Some(audit), Some((stop, thread)));
        Some(Self { net, port, database, desk, store, control, audit, folder })
    }

    /// Ends the data path and the record; the folder that has it.
    pub(super) fn end(&mut self) -> tempfile::TempDir {
        if let Some(net) = self.net.take() {
            net.drain(Duration::from_secs(5));
        }
        if let Some(audit) = self.audit.take() {
            audit.close();
        }
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// The stock client, through the gateway.
    pub(super) fn client(&self, arguments: &[&str]) -> Command {
        let mut client = Command::new("mariadb");
        client
            .args(["--no-defaults", "--host=127.0.0.1", "--batch", "--skip-column-names"])
            .arg(format!("--port={}", self.port))
            .args(arguments)
            .stdin(Stdio::null());
        client
    }

    /// Starts SQL of one who needs a word for definitions.
    pub(super) fn ask(&self, sql: &str) -> Child {
        let password = format!("--password={TOKEN}");
        let mut client = self.client(&["--user=asker", &password, "--database=shop", "-e", sql]);
        client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The one pending request, once there is one.
    pub(super) fn pending(&self) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut id = None;
        wait_for("a request", || {
            let open =
                runtime.block_on(self.store.approvals(Some(ApprovalState::Pending), 10)).unwrap();
            id = open.first().map(|approval| approval.id.clone());
            id.is_some()
        });
        id.unwrap()
    }

    /// Decides a request.
    pub(super) fn vote(&self, id: &str, approve: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let approver =
            Approver { identity: "ann".to_owned(), groups: vec!["approvers".to_owned()] };
        runtime.block_on(self.desk.vote(id, &approver, approve, "")).unwrap();
    }

    /// Runs SQL as `bot`.
    pub(super) fn sql(&self, sql: &str) -> Output {
        self.client(&["--user=bot", &format!("--password={TOKEN}"), "--database=shop", "-e", sql])
            .output()
            .unwrap()
    }

    /// Runs SQL that must succeed.
    pub(super) fn ok(&self, sql: &str) -> String {
        let output = self.sql(sql);
        assert!(output.status.success(), "{sql}: {}", errors(&output));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Runs SQL that must fail.
    pub(super) fn refused(&self, sql: &str) -> String {
        let output = self.sql(sql);
        assert!(!output.status.success(), "{sql} ran");
        errors(&output)
    }

    /// Starts SQL in the background.
    pub(super) fn spawn(&self, sql: &str) -> Child {
        let password = format!("--password={TOKEN}");
        let mut client = self.client(&["--user=bot", &password, "--database=shop", "-e", sql]);
        client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if let Some(net) = self.net.take() {
            net.drain(Duration::from_millis(100));
        }
        if let Some((stop, thread)) = self.control.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

/// What a client wrote to its standard error.
pub(super) fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Polls until it is so; a generous limit, since machines are shared.
pub(super) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct NoSchemas;

/// There are no issuers.
struct NoKeys;

impl KeyRefresh for NoKeys {
    fn refresh(&self, _: usize) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async {})
    }
}

impl SchemaRefresh for NoSchemas {
    fn refresh(&self, _target: usize) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        Box::pin(ready(true))
    }
}

/// `bot` may do anything unseen; `asker` needs a word for definitions.
const POLICIES: &str = r#"
@id("all") @passthrough
permit (principal in Group::"trusted", action == Action::"passthrough", resource);
@id("askers")
permit (principal in Group::"askers", action, resource);
@id("ask") @approve("approvers,1") @message("ask")
forbid (principal in Group::"askers", action in Action::"ddl", resource);
"#;

fn item() -> Table {
    let column = |name: &str, data_type: &str| Column {
        name: name.to_owned(),
        data_type: data_type.to_owned(),
        computed: false,
        invisible: false,
        labels: LabelSet::EMPTY,
    };
    Table {
        schema: "shop".to_owned(),
        name: "item".to_owned(),
        kind: TableKind::Base,
        columns: vec![column("id", "int"), column("name", "varchar")],
        labels: LabelSet::EMPTY,
        unique_keys: vec![vec![0]],
        estimated_rows: 2_000,
        sensitive: false,
        calls_sensitive: false,
        has_triggers: false,
        generates: false,
    }
}

fn profile() -> ServerProfile {
    ServerProfile {
        flavour: Flavour::MariaDb,
        version: 101_119,
        version_string: "5.5.5-10.11.19-MariaDB-Rowgate".to_owned(),
        lower_case_table_names: 0,
        sql_mode: SqlMode(0),
        capabilities: None,
    }
}

fn snapshot() -> Snapshot {
    let token = TokenRecord {
        id: "tok_1".to_owned(),
        identity: "bot".to_owned(),
        kind: PrincipalKind::Agent,
        groups: vec!["trusted".to_owned()],
        scope: Scope::default(),
        verifier: Verifier::of(TOKEN.as_bytes()),
        expires_us: None,
        revoked: false,
    };
    let asker = TokenRecord {
        id: "tok_2".to_owned(),
        identity: "asker".to_owned(),
        groups: vec!["askers".to_owned()],
        ..token.clone()
    };
    let catalog = Catalog::new(1, profile(), Labels::default(), vec![item()], Vec::new());
    Snapshot {
        serial: 1,
        version: "test".to_owned(),
        policies: Arc::new(Policies::load(&[("test.cedar", POLICIES)]).unwrap()),
        directory: Arc::new(Directory::new(vec![token, asker], vec![], vec![], HashSet::new())),
        plugins: Arc::new(NoPlugins),
        catalogs: vec![Some(Arc::new(catalog))],
    }
}
