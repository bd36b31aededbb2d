//! The admin API over a real Unix socket, and the probes over a real port, with a gateway that is only a notebook.

mod logins;
mod openapi;
mod people;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::*;
use crate::approval::{Decision, GrantScope, NewRequest, NotRecorded, Waiting};
use crate::config::{Admin, Approvals, Peer};
use crate::identity::Directory;
use crate::schema::SqlMode;

#[derive(Default)]
struct Notebook {
    told: std::sync::atomic::AtomicUsize,
    killed: Mutex<Vec<u64>>,
    ready: AtomicBool,
    reload_fails: AtomicBool,
    is_busy: AtomicBool,
    snapshot: Mutex<Option<Arc<Snapshot>>>,
}

impl Gateway for Notebook {
    fn status(&self) -> Status {
        let shop = TargetStatus { name: "shop".into(), ..TargetStatus::default() };
        Status { driver: "epoll".into(), targets: vec![shop], ..Status::default() }
    }

    fn sessions(&self) -> Vec<SessionInfo> {
        vec![SessionInfo { id: 7, identity: "bot".into(), ..SessionInfo::default() }]
    }

    fn kill(&self, session: u64) -> bool {
        self.killed.lock().unwrap().push(session);
        session == 7
    }

    fn reload<'a>(&'a self, _by: &'a str) -> Answer<'a, Result<String, String>> {
        let fails = self.reload_fails.load(Ordering::Relaxed);
        Box::pin(async move {
            if fails { Err("a.cedar: line 1: unexpected token".into()) } else { Ok("v2".into()) }
        })
    }

    fn tokens_changed(&self) -> Answer<'_, bool> {
        self.told.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(!self.is_busy.load(Ordering::Relaxed)))
    }

    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.lock().unwrap().clone()
    }

    fn refresh_keys(&self, _issuer: usize) -> Answer<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn ready(&self) -> Result<(), String> {
        let ready = self.ready.load(Ordering::Relaxed);
        if ready { Ok(()) } else { Err("target shop is down".into()) }
    }

    fn metrics(&self) -> String {
        "rowgate_up 1\n".into()
    }
}

struct House {
    dir: tempfile::TempDir,
    store: Store,
    desk: Desk,
    gateway: Arc<Notebook>,
    events: Arc<Mutex<Vec<String>>>,
    record_fails: Arc<AtomicBool>,
    people: Arc<People>,
}

impl House {
    async fn directory(&self) -> Directory {
        let logins = self.store.logins().await.unwrap();
        Directory::new(logins.tokens, vec![], vec![], logins.revoked)
            .with_passwords(logins.passwords)
    }

    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store.db")).await.unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let record_fails = Arc::new(AtomicBool::new(false));
        let sink = sink(events.clone(), record_fails.clone());
        let settings = Approvals { groups: vec!["dba".into()], ..Approvals::default() };
        let (desk, service) = Desk::open(store.clone(), &settings, sink).await.unwrap();
        tokio::spawn(service.run(std::future::pending()));
        let people = Arc::new(People::new((&crate::config::Passwords::default()).into()));
        Self { dir, store, desk, gateway: Arc::default(), events, record_fails, people }
    }

    /// Serves a socket on which this process is `identity`; none: unmapped.
    fn serve(&self, name: &str, identity: Option<(&str, &[&str])>) -> PathBuf {
        let admin = self.admin(name, identity);
        let listeners = Listeners::bind(&admin).unwrap();
        self.spawn(listeners);
        admin.socket
    }

    fn admin(&self, name: &str, identity: Option<(&str, &[&str])>) -> Admin {
        let peers = identity.map(|(identity, groups)| Peer {
            uid: own_uid(),
            identity: identity.into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        });
        let socket = self.dir.path().join(name);
        Admin { socket, listen: None, peers: peers.into_iter().collect() }
    }

    fn spawn(&self, listeners: Listeners) {
        tokio::spawn(serve(listeners, self.deps(), std::future::pending()));
    }

    fn deps(&self) -> ControlDeps {
        let sink = sink(self.events.clone(), self.record_fails.clone());
        ControlDeps {
            store: self.store.clone(),
            desk: self.desk.clone(),
            events: sink,
            gateway: self.gateway.clone(),
            people: self.people.clone(),
            look_back: super::LookBack::new(crate::audit::read::Folder::new(
                self.dir.path().join("audit"),
            )),
        }
    }

    fn ask(&self, statement: &str) -> Waiting {
        let scope = GrantScope {
            target: "shop",
            schema: None,
            sql_mode: SqlMode(0),
            charset: 45,
            settings: [0; 32],
            attributes: [0; 32],
            canonical: statement.as_bytes(),
            bulk: false,
            parameters: b"",
            rule: "hold-drop",
            approver_groups: &[],
            approvers: 1,
            masked: &[],
            tables: [0; 32],
        };
        let request = NewRequest {
            identity: "bot".into(),
            on_behalf_of: None,
            groups: vec!["agents".into()],
            target: "shop".into(),
            schema: None,
            session: 7,
            statement: statement.into(),
            digest: "00".into(),
            verb: "drop".into(),
            tables: vec!["shop.payments".into()],
            rule: "hold-drop".into(),
            message: "a person must agree".into(),
            details: crate::store::Details::default(),
            approver_groups: vec![],
            approvers: 1,
            grant_key: self.desk.grant_key(&scope),
            wait: true,
            mode: None,
        };
        self.desk.request(request).unwrap()
    }

    /// The id of the one pending request, once the desk has it.
    async fn pending(&self) -> String {
        loop {
            let pending =
                self.store.approvals(Some(crate::store::ApprovalState::Pending), 2).await.unwrap();
            if let [only] = pending.as_slice() {
                return only.id.clone();
            }
            tokio::task::yield_now().await;
        }
    }

    fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }
}

fn sink(noted: Arc<Mutex<Vec<String>>>, fails: Arc<AtomicBool>) -> Arc<dyn EventSink> {
    Arc::new(move |event: &Event<'_>| {
        if fails.load(Ordering::Relaxed) {
            return Err(NotRecorded);
        }
        let line = match event {
            Event::Admin { by, action, subject, .. } => format!("{by}: {action} {subject}"),
            Event::Approval { change, by, .. } => format!("{by}: {change}"),
            _ => String::new(),
        };
        noted.lock().unwrap().push(line);
        Ok(())
    })
}

/// The user id of this process, as the owner of a file that it makes.
fn own_uid() -> u32 {
    tempfile::tempfile().unwrap().metadata().unwrap().uid()
}

async fn call(socket: &Path, method: &str, path: &str, body: &str) -> (u16, Value) {
    let stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let (status, text) = converse(stream, method, path, body).await;
    let answer = serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"));
    openapi::check(method, path, status, &answer);
    (status, answer)
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String) {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: rowgate\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // a body that is too long may be refused before it is all written
    let _ = stream.write_all(body.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

fn run(work: impl AsyncFnOnce(House)) {
    crate::store::tests::block_on(async { work(House::new().await).await });
}

const DANA: Option<(&str, &[&str])> = Some(("dana", &["dba", ADMINS]));

#[test]
fn an_approver_sees_and_approves() {
    run(async |house| {
        let socket = house.serve("dana.sock", DANA);
        let statement = format!("DROP TABLE payments /* {} */", "x".repeat(1_000));
        let waiting = house.ask(&statement);
        let id = house.pending().await;
        let (status, list) = call(&socket, "GET", "/v1/approvals?state=pending", "").await;
        assert_eq!((status, &list["approvals"][0]["id"]), (200, &json!(id)));
        assert_ne!(list["approvals"][0]["statement"], json!(statement), "cut in a list");
        assert!(!list.to_string().contains("grant_key"));
        let (_, shown) = call(&socket, "GET", &format!("/v1/approvals/{id}"), "").await;
        assert_eq!(shown["statement"], json!(statement), "whole where it is decided");
        let path = format!("/v1/approvals/{id}/approve");
        let (status, approved) = call(&socket, "POST", &path, r#"{"reason": "ticket 42"}"#).await;
        assert_eq!((status, &approved["votes"][0]["reason"]), (200, &json!("ticket 42")));
        assert_eq!(waiting.await, Decision::Approved { id, by: vec!["dana".into()] });
        let (status, again) = call(&socket, "POST", &path, "").await;
        assert_eq!((status, &again["error"]["code"]), (409, &json!("conflict")));
    });
}

#[test]
fn the_requester_sees_but_cannot_approve_and_strangers_see_nothing() {
    run(async |house| {
        // in an approvers' group as well: the rule is about the person
        let bot = house.serve("bot.sock", Some(("bot", &["dba"])));
        let eve = house.serve("eve.sock", Some(("eve", &["agents"])));
        let waiting = house.ask("DROP TABLE payments");
        let id = house.pending().await;
        let (status, refused) =
            call(&bot, "POST", &format!("/v1/approvals/{id}/approve"), "").await;
        assert_eq!((status, &refused["error"]["code"]), (403, &json!("forbidden")));
        let (_, list) = call(&eve, "GET", "/v1/approvals", "").await;
        assert_eq!(list, json!({ "approvals": [] }));
        let (status, _) = call(&eve, "POST", &format!("/v1/approvals/{id}/approve"), "").await;
        assert_eq!(status, 404);
        let (status, _) = call(&eve, "POST", &format!("/v1/approvals/{id}/cancel"), "").await;
        assert_eq!(status, 404);
        let (status, _) = call(&bot, "POST", &format!("/v1/approvals/{id}/cancel"), "").await;
        assert_eq!(status, 200);
        assert_eq!(waiting.await, Decision::Cancelled { id });
    });
}

#[test]
fn administration_takes_an_administrator() {
    run(async |house| {
        let ann = house.serve("ann.sock", Some(("ann", &["dba"])));
        for (method, path) in [
            ("GET", "/v1/tokens"),
            ("POST", "/v1/tokens"),
            ("POST", "/v1/tokens/tok_1/rotate"),
            ("POST", "/v1/tokens/tok_1/revoke"),
            ("GET", "/v1/identities"),
            ("POST", "/v1/identities/revoke"),
            ("POST", "/v1/identities/restore"),
            ("POST", "/v1/reload"),
            ("GET", "/v1/sessions"),
            ("POST", "/v1/sessions/7/kill"),
        ] {
            let (status, body) = call(&ann, method, path, "").await;
            assert_eq!((status, &body["error"]["code"]), (403, &json!("forbidden")), "{path}");
        }
        assert_eq!(call(&ann, "GET", "/v1/status", "").await.0, 200);
        assert_eq!(house.events(), [""; 0]);
        assert!(house.gateway.killed.lock().unwrap().is_empty());
    });
}

#[test]
fn an_unmapped_user_is_refused_unless_root_which_breaks_the_glass() {
    run(async |house| {
        let socket = house.serve("nobody.sock", None);
        let body = r#"{"identity": "bot"}"#;
        let (status, answer) = call(&socket, "POST", "/v1/tokens", body).await;
        if own_uid() == 0 {
            assert_eq!(status, 200);
            assert_eq!(house.events(), ["root: break-glass token.create bot"]);
            let _waiting = house.ask("DROP TABLE payments");
            let id = house.pending().await;
            let (status, refused) =
                call(&socket, "POST", &format!("/v1/approvals/{id}/approve"), "").await;
            let mend = refused["error"]["message"].as_str().unwrap();
            assert!(status == 403 && mend.contains("[[admin.peers]]"), "{mend}");
        } else {
            assert_eq!((status, &answer["error"]["code"]), (403, &json!("forbidden")));
            assert_eq!(call(&socket, "GET", "/v1/status", "").await.0, 403);
        }
    });
}

#[test]
fn running_the_gateway() {
    run(async |house| {
        let socket = house.serve("dana.sock", DANA);
        let (_, status) = call(&socket, "GET", "/v1/status", "").await;
        assert_eq!(status["driver"], json!("epoll"));
        let (_, sessions) = call(&socket, "GET", "/v1/sessions", "").await;
        assert_eq!(sessions["sessions"][0]["id"], json!(7));
        assert_eq!(call(&socket, "POST", "/v1/sessions/7/kill", "").await.0, 200);
        assert_eq!(call(&socket, "POST", "/v1/sessions/8/kill", "").await.0, 404);
        assert_eq!(call(&socket, "POST", "/v1/sessions/x/kill", "").await.0, 400);
        assert_eq!(*house.gateway.killed.lock().unwrap(), [7, 8]);
        let (_, reloaded) = call(&socket, "POST", "/v1/reload", "").await;
        assert_eq!(reloaded, json!({ "policy_version": "v2", "needs_restart": [] }));
        house.gateway.reload_fails.store(true, Ordering::Relaxed);
        let (status, failed) = call(&socket, "POST", "/v1/reload", "").await;
        assert_eq!(status, 409);
        assert!(failed["error"]["message"].as_str().unwrap().starts_with("a.cedar"));
    });
}

#[test]
fn what_is_not_recorded_does_not_happen() {
    run(async |house| {
        let socket = house.serve("dana.sock", DANA);
        house.record_fails.store(true, Ordering::Relaxed);
        let (status, _) = call(&socket, "POST", "/v1/tokens", r#"{"identity": "bot"}"#).await;
        assert_eq!(status, 503);
        assert_eq!(call(&socket, "POST", "/v1/sessions/7/kill", "").await.0, 503);
        assert_eq!(house.store.tokens().await.unwrap(), []);
        assert!(house.gateway.killed.lock().unwrap().is_empty());
    });
}

#[test]
fn malformed_requests_are_answered_in_kind() {
    run(async |house| {
        let socket = house.serve("dana.sock", DANA);
        let long = format!(r#"{{"identity": "{}"}}"#, "x".repeat(MAX_BODY_BYTES));
        for (method, path, body, status) in [
            ("GET", "/v1/nothing", "", 404),
            ("GET", "/", "", 404),
            ("DELETE", "/v1/tokens", "", 405),
            ("POST", "/v1/tokens", "{", 400),
            ("POST", "/v1/tokens", r#"{"identity": "bot", "admin": true}"#, 400),
            ("POST", "/v1/tokens", r#"{"identity": "a;b"}"#, 400),
            ("POST", "/v1/tokens", &long, 413),
            ("GET", "/v1/approvals?state=odd", "", 400),
            ("GET", "/v1/approvals/apr_none", "", 404),
        ] {
            let (got, answer) = call(&socket, method, path, body).await;
            assert_eq!(got, status, "{method} {path}");
            assert!(answer["error"]["message"].is_string(), "{method} {path}");
        }
    });
}

#[test]
fn the_socket_file() {
    run(async |house| {
        let admin = house.admin("admin.sock", DANA);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let listeners = Listeners::bind(&admin).unwrap();
        assert_eq!(mode(&admin.socket), 0o600);
        let second = Listeners::bind(&admin).unwrap_err();
        assert!(matches!(second, ControlError::SocketInUse(_)), "{second}");
        drop(listeners);
        assert!(!admin.socket.exists(), "it goes with its gateway");

        // a crash leaves the file and nobody behind it
        drop(std::os::unix::net::UnixListener::bind(&admin.socket).unwrap());
        assert!(admin.socket.exists());
        drop(Listeners::bind(&admin).unwrap());

        let mut shared = admin.clone();
        shared.peers[0].uid = own_uid() + 1;
        let listeners = Listeners::bind(&shared).unwrap();
        assert_eq!(mode(&admin.socket), 0o660);
        drop(listeners);

        std::fs::write(&admin.socket, "precious").unwrap();
        let error = Listeners::bind(&admin).unwrap_err();
        assert!(matches!(error, ControlError::NotASocket(_)), "{error}");
        assert_eq!(std::fs::read(&admin.socket).unwrap(), b"precious");
    });
}

#[test]
fn probes() {
    run(async |house| {
        let listen = Some("127.0.0.1:0".parse().unwrap());
        let admin = Admin { listen, ..house.admin("admin.sock", DANA) };
        let listeners = Listeners::bind(&admin).unwrap();
        let address = listeners.probes().unwrap();
        let taken = Admin { listen: Some(address), ..house.admin("other.sock", DANA) };
        let error = Listeners::bind(&taken).unwrap_err().to_string();
        assert!(error.starts_with("admin.listen: 127.0.0.1:"), "{error}");
        house.spawn(listeners);
        let probe = async |path: &str| {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            converse(stream, "GET", path, "").await
        };
        assert_eq!(probe("/healthz").await, (200, "ok\n".into()));
        assert_eq!(probe("/metrics").await, (200, "rowgate_up 1\n".into()));
        assert_eq!(probe("/readyz").await, (503, "not ready: target shop is down\n".into()));
        house.gateway.ready.store(true, Ordering::Relaxed);
        assert_eq!(probe("/readyz").await, (200, "ready\n".into()));
        assert_eq!(probe("/v1/status").await.0, 404, "the API is not on TCP");
    });
}

#[test]
fn who_keeps_connections_open_keeps_nobody_out() {
    run(async |house| {
        let listen = Some("127.0.0.1:0".parse().unwrap());
        let admin = Admin { listen, ..house.admin("admin.sock", DANA) };
        let listeners = Listeners::bind(&admin).unwrap();
        let address = listeners.probes().unwrap();
        house.spawn(listeners);
        let mut idle = Vec::new();
        for _ in 0..200 {
            idle.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        assert_eq!(converse(stream, "GET", "/healthz", "").await.0, 200);
        let mut lurking = Vec::new();
        for _ in 0..200 {
            lurking.push(tokio::net::UnixStream::connect(&admin.socket).await.unwrap());
        }
        assert_eq!(call(&admin.socket, "GET", "/v1/status", "").await.0, 200);
    });
}
