//! Credentials in a vault: over a small real HTTPS server that answers as HashiCorp Vault's KV engine, version 2, does
//! (<https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2>). Vault itself is not at hand here.

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use xtask::mariadb;

use crate::custody::{MASKED, done, is_masked, query, quoted, refused, sql, stand};
use crate::stand::{Flavour, Stand, wait_for};

const TOKEN: &str = "hvs.CAESIJ-the-vaults-own-token";
const FIRST: &str = "Kf1_in-the-vault-3310";
const SECOND: &str = "Kf2_in-the-vault-7745";

/// What the server knows, and was asked.
#[derive(Default)]
struct Known {
    /// Bodies by path; a path that is not there is answered 404.
    bodies: HashMap<String, String>,
    /// Status and headers in place of 200, by path.
    heads: HashMap<String, String>,
    slow: bool,
    asked: Vec<String>,
}

struct Server {
    port: u16,
    known: Arc<Mutex<Known>>,
}

impl Server {
    fn start(port: u16, folder: &Path, known: Arc<Mutex<Known>>) -> Self {
        let chain = CertificateDer::pem_file_iter(folder.join("rowgate.crt")).unwrap();
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join("rowgate.key")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let (listener, config) =
            (TcpListener::bind(("127.0.0.1", port)).unwrap(), Arc::new(config));
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::clone(&known);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let known = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let mut stream = rustls::StreamOwned::new(connection, client);
                    let _ = answer(&mut stream, &known);
                });
            }
        });
        Self { port, known }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    fn keep(&self, path: &str, password: &str) {
        let body = format!(
            r#"{{"request_id":"1","lease_id":"","renewable":false,"lease_duration":0,"data":{{"data":{{"password":"{password}","port":3306,"empty":"","tags":["a"]}},"metadata":{{"created_time":"2026-11-28T17:00:00Z","custom_metadata":null,"deletion_time":"","destroyed":false,"version":3}}}},"wrap_info":null,"warnings":null,"auth":null}}"#
        );
        self.known().bodies.insert(path.to_owned(), body);
    }
}

fn answer(
    stream: &mut rustls::StreamOwned<rustls::ServerConnection, std::net::TcpStream>,
    known: &Mutex<Known>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && request.len() < 16_384 {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let token = request.lines().find_map(|line| line.strip_prefix("x-vault-token: "));
    let (head, body, slow) = {
        let mut known = known.lock().unwrap();
        known.asked.push(path.clone());
        let head = known.heads.get(&path).cloned();
        let (status, body) = match known.bodies.get(&path) {
            _ if token != Some(TOKEN) => {
                ("403 Forbidden", r#"{"errors":["permission denied"]}"#.to_owned())
            }
            Some(body) => ("200 OK", body.clone()),
            None => ("404 Not Found", r#"{"errors":[]}"#.to_owned()),
        };
        (head.unwrap_or_else(|| status.to_owned()), body, known.slow)
    };
    if slow {
        std::thread::sleep(Duration::from_secs(4));
    }
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {head}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    stream.flush()
}

/// A gateway with a vault, which has no target in it yet.
fn with_vault(folder: &Path) -> (Stand, Server) {
    crate::tls::make_pair(folder);
    let token = folder.join("vault-token");
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let server = Server::start(0, folder, Arc::default());
    let tables = format!(
        "refresh_s = 1\n[vault]\naddress = \"https://127.0.0.1:{}\"\ntoken = \"file:{}\"\nca = \"{}\"\ntimeout_s = 1\n",
        server.port,
        token.display(),
        folder.join("rowgate.crt").display()
    );
    (stand(Flavour::MariaDb, &tables), server)
}

fn words<'a>(listen: &'a str, address: &'a str, reference: &'a str) -> Vec<&'a str> {
    let words = ["target", "add", "crm", "--listen", listen, "--address", address, "--user", "crm"];
    [&words[..], &["--tls", "off", "--credential", reference]].concat()
}

#[test]
fn a_credential_of_a_vault_is_used_and_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut stand, server) = with_vault(folder.path());
    let token = stand.token("bot", "agents");
    let set = |password: &str| {
        sql(&stand, &format!("ALTER USER crm@'127.0.0.1' IDENTIFIED BY {}", quoted(password)));
    };
    set(FIRST);
    server.keep("/v1/kv/data/team/crm", FIRST);
    let port = mariadb::free_port().unwrap();
    let (listen, address) =
        (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", stand.database.port()));
    done(&stand, "", &words(&listen, &address, "vault:kv/team/crm#password"));
    assert!(is_masked(&query(&stand, port, &token, MASKED)), "{}", stand.gateway.log());
    assert!(server.known().asked.contains(&"/v1/kv/data/team/crm".to_owned()));
    // It changes there, then at the database: the gateway follows by itself.
    server.keep("/v1/kv/data/team/crm", SECOND);
    wait_for("the new credential", || {
        let said = done(&stand, "", &["target", "show", "crm", "--output", "json"]);
        (!said.contains("\"overlap_until_us\": null")).then_some(())
    });
    assert!(is_masked(&query(&stand, port, &token, MASKED)));
    set(SECOND);
    for _ in 0..5 {
        assert!(is_masked(&query(&stand, port, &token, MASKED)));
    }
    let said = done(&stand, "", &["target", "rotate", "crm"]);
    assert!(said.contains("in force already"), "{said}");
    // With the vault down, what is known is used; and none is in the store or in any text.
    let known = Arc::clone(&server.known);
    server.known().slow = true;
    std::thread::sleep(Duration::from_secs(3));
    assert!(is_masked(&query(&stand, port, &token, MASKED)));
    let said = done(&stand, "", &["target", "show", "crm"]);
    assert!(said.contains("the vault:") && said.contains("vault:kv/team/crm#password"), "{said}");
    // A start without it: up, not ready, and ready once it is back.
    stand.gateway.terminate().unwrap();
    let config = stand.gateway.dir().to_owned();
    let mut gateway = xtask::gateway::Gateway::start_unready(
        &crate::stand::binary(),
        &config,
        stand.gateway.port,
        stand.gateway.admin_port,
    )
    .unwrap();
    gateway.wait_until("/healthz", Duration::from_mins(1)).unwrap();
    let (status, why) = gateway.get("/readyz").unwrap();
    assert!(status == 503 && why.contains("crm"), "{status} {why}");
    known.lock().unwrap().slow = false;
    gateway.wait_until("/readyz", Duration::from_mins(1)).unwrap();
    assert!(is_masked(&query(&stand, port, &token, MASKED)));
    for secret in [FIRST, SECOND, TOKEN] {
        assert!(!gateway.log().contains(secret));
        for entry in fs::read_dir(&config).unwrap().map(|entry| entry.unwrap().path()) {
            let bytes = fs::read(&entry).unwrap_or_default();
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{}", entry.display());
        }
    }
}

#[test]
fn what_a_vault_does_not_give_is_said_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (stand, server) = with_vault(folder.path());
    let elsewhere = Server::start(0, folder.path(), Arc::default());
    elsewhere.keep("/v1/kv/data/moved", SECOND);
    let path = |name: &str| format!("/v1/kv/data/{name}");
    for name in ["good", "moved", "sealed"] {
        server.keep(&path(name), FIRST);
    }
    {
        let mut known = server.known();
        let there = format!("https://127.0.0.1:{}/v1/kv/data/moved", elsewhere.port);
        known.heads.insert(path("moved"), format!("307 Temporary Redirect\r\nLocation: {there}"));
        known.heads.insert(path("sealed"), "503 Service Unavailable".to_owned());
        known.bodies.insert(path("deleted"), r#"{"data":{"data":null,"metadata":{}}}"#.to_owned());
        known.bodies.insert(path("v1"), format!(r#"{{"data":{{"password":"{FIRST}"}}}}"#));
        known.bodies.insert(path("html"), format!("<html>{FIRST}</html>"));
        let long = format!(r#"{{"data":{{"data":{{"password":"{}"}}}}}}"#, "x".repeat(300_000));
        known.bodies.insert(path("long"), long);
    }
    let address = format!("127.0.0.1:{}", stand.database.port());
    let said = |reference: &str| {
        let listen = format!("127.0.0.1:{}", mariadb::free_port().unwrap());
        let said = refused(&stand, "", &words(&listen, &address, reference));
        for secret in [FIRST, SECOND, TOKEN] {
            assert!(!said.contains(secret), "{said}");
        }
        said
    };
    for (reference, why) in [
        ("vault:kv/good#user", "has no field"),
        ("vault:kv/good#port", "is no string"),
        ("vault:kv/good#empty", "is empty"),
        ("vault:kv/good#tags", "is no string"),
        ("vault:kv/nowhere#password", "404"),
        ("vault:kv/moved#password", "307"),
        ("vault:kv/sealed#password", "sealed or in maintenance"),
        ("vault:kv/deleted#password", "deleted"),
        ("vault:kv/v1#password", "it was deleted"),
        ("vault:kv/html#password", "not an answer of the KV engine"),
        ("vault:kv/long#password", "longer than"),
        ("vault:kv/../sys/seal#password", "not a reference"),
        ("vault:kv/good", "not a reference"),
    ] {
        let said = said(reference);
        assert!(said.contains(why), "{reference}: {said}");
    }
    assert_eq!(elsewhere.known().asked, Vec::<String>::new(), "the token went elsewhere");
    assert!(server.known().asked.iter().all(|path| !path.contains("sys")));
    server.known().slow = true;
    let since = std::time::Instant::now();
    assert!(said("vault:kv/good#password").contains("the vault: kv/good"));
    assert!(since.elapsed() < Duration::from_secs(3));
    server.known().slow = false;
    let token = folder.path().join("vault-token");
    fs::write(&token, "another").unwrap();
    assert!(said("vault:kv/good#password").contains("403"));
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(said("vault:kv/good#password").contains("open to every user"));
}
