//! The gateway's own login, by every method that a real server here can ask for.

use std::path::PathBuf;
use std::time::Duration;

use xtask::mariadb::SERVICE_PASSWORD;
use xtask::{mysql, setup};

use crate::stand::{Database, Flavour, Stand};

/// Changes how the gateway's account proves itself, before the gateway starts.
fn identified(database: &Database, how: &str) {
    database.sql(&format!("ALTER USER rowgate@'127.0.0.1' {how}; FLUSH PRIVILEGES")).unwrap();
}

fn works(stand: &Stand) {
    let token = stand.token("bot", "agents");
    assert!(stand.sql_ok("bot", &token, "SELECT COUNT(*) FROM orders").contains("6000"));
}

#[test]
fn mysql_by_sha256_and_by_a_whole_caching_sha2_password() {
    if mysql::is_left_out() || mysql::is_elsewhere() {
        return;
    }
    for plugin in ["sha256_password", "caching_sha2_password"] {
        for tls in ["off", "verify-ca", "pinned key"] {
            let how = format!("IDENTIFIED WITH {plugin} BY '{SERVICE_PASSWORD}'");
            let folder = std::cell::RefCell::new(PathBuf::new());
            let prepare = |database: &Database| {
                identified(database, &how);
                *folder.borrow_mut() = database.data();
            };
            let mut stand = Stand::after(Flavour::MySql, &[], prepare, |options| {
                let made = |name: &str| folder.borrow().join(name).display().to_string();
                options.upstream_tls = match tls {
                    "off" => "tls = \"off\"".to_owned(),
                    "verify-ca" => {
                        format!("tls = \"verify-ca\"\ntls_ca = \"{}\"", made("ca.pem"))
                    }
                    _ => {
                        format!("tls = \"off\"\nserver_public_key = \"{}\"", made("public_key.pem"))
                    }
                };
            });
            works(&stand);
            // Again with a cache that knows nothing, and the gateway's connections gone.
            stand.database.kill();
            stand.database.start_again(stand.folder.path());
            stand.gateway.wait_until("/readyz", Duration::from_mins(1)).unwrap();
            works(&stand);
        }
    }
}

#[test]
fn a_pinned_key_that_is_not_the_servers_gets_no_password_through() {
    if mysql::is_left_out() || mysql::is_elsewhere() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let public = folder.path().join("other.pem");
    std::fs::write(&public, other_key()).unwrap();
    let database = Database::start(Flavour::MySql, folder.path(), &[]);
    database.sql("FLUSH PRIVILEGES").unwrap();
    let mut options = xtask::gateway::Options::new(database.port());
    options.upstream_tls = format!("tls = \"off\"\nserver_public_key = \"{}\"", public.display());
    let (port, admin) =
        (xtask::mariadb::free_port().unwrap(), xtask::mariadb::free_port().unwrap());
    let dir = folder.path().join("gateway");
    xtask::gateway::prepare(&dir, port, admin, &options).unwrap();
    let gateway =
        xtask::gateway::Gateway::start_unready(&crate::stand::binary(), &dir, port, admin).unwrap();
    crate::stand::wait_for("the refusal", || {
        gateway.log().contains("refused the gateway's account: error 1045").then_some(())
    });
    assert_ne!(gateway.get("/readyz").map_or(503, |(status, _)| status), 200);
}

/// The public half of an RSA key that no server has, as PEM.
fn other_key() -> String {
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    use base64::Engine as _;
    let size = aws_lc_rs::rsa::KeySize::Rsa2048;
    let key = aws_lc_rs::rsa::PrivateDecryptingKey::generate(size).unwrap().public_key();
    let der: PublicKeyX509Der<'_> = key.as_der().unwrap();
    let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

#[test]
fn mariadb_by_ed25519() {
    let plugins = setup::mariadb_plugins().unwrap();
    let plugins = format!("--plugin-dir={}", plugins.display());
    let extra = [plugins.as_str(), "--plugin-load-add=auth_ed25519"];
    let how = format!("IDENTIFIED VIA ed25519 USING PASSWORD('{SERVICE_PASSWORD}')");
    let prepare = |database: &Database| identified(database, &how);
    works(&Stand::after(Flavour::MariaDb, &extra, prepare, |_| {}));
}
