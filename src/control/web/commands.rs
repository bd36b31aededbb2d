//! How one connects, ready to be copied: by our own command line, for the stock clients, and for the drivers that people use
//! most. No secret is in them: the first signs in by itself, clients ask for it, drivers take it from the environment.
//!
//! Names come from identity providers and the configuration. Whatever is in them is quoted as each language quotes, so
//! that a name never is a command.

use super::WebSettings;
use crate::control::TargetStatus;
use crate::control::way::{CAS, Way, sh};

/// The first way that the target has, as seen from a browser.
pub(super) fn way(settings: &WebSettings, target: &TargetStatus) -> Option<Way> {
    Way::first(&target.listen, settings.host())
}

/// Our own, which needs no password.
pub(super) const OWN: &str = "rowgate";

/// The one that most have.
pub(super) fn first(way: &Way, user: &str) -> String {
    mysql(way, user)
}

/// What a client is called, and how it connects to this target.
pub(super) fn all(
    settings: &WebSettings,
    target: &str,
    way: &Way,
    user: &str,
) -> Vec<(&'static str, String)> {
    let mut all = vec![
        (OWN, rowgate(&settings.url, target)),
        ("mysql", mysql(way, user)),
        ("mariadb", mariadb(way, user)),
    ];
    if let Way::Tcp { host, port, tls } = way {
        all.push(("PyMySQL", pymysql(host, *port, *tls, user)));
        all.push(("mysql2", mysql2(host, *port, *tls, user)));
        all.push(("JDBC", jdbc(host, *port, *tls, user)));
        all.push(("Go", go(host, *port, *tls, user)));
        all.push(("Rust", rust(host, *port, *tls, user)));
    }
    all
}

/// Two lines, that a shell runs one after the other.
fn rowgate(url: &str, target: &str) -> String {
    let (url, target) = (sh(url), sh(target));
    format!("rowgate login --gateway {url} --target {target}\nrowgate connect {target}")
}

fn mysql(way: &Way, user: &str) -> String {
    let user = sh(user);
    match way {
        Way::Socket(path) => format!("mysql --socket={} --user={user} --password", sh(path)),
        Way::Tcp { host, port, tls } => {
            let tls = if *tls {
                format!(" --ssl-ca={CAS} --ssl-mode=VERIFY_IDENTITY")
            } else {
                String::new()
            };
            let host = sh(host);
            format!(
                "mysql --protocol=tcp --host={host} --port={port} --user={user} --password{tls}"
            )
        }
    }
}

fn mariadb(way: &Way, user: &str) -> String {
    let user = sh(user);
    match way {
        Way::Socket(path) => format!("mariadb --socket={} --user={user} --password", sh(path)),
        Way::Tcp { host, port, tls } => {
            let tls = if *tls {
                format!(" --ssl-ca={CAS} --ssl-verify-server-cert")
            } else {
                String::new()
            };
            let host = sh(host);
            format!(
                "mariadb --protocol=tcp --host={host} --port={port} --user={user} --password{tls}"
            )
        }
    }
}

fn pymysql(host: &str, port: u16, tls: bool, user: &str) -> String {
    let tls = if tls {
        format!("\n    ssl_ca={}, ssl_verify_identity=True,", quoted(CAS))
    } else {
        String::new()
    };
    format!(
        "import os, pymysql\n\nconnection = pymysql.connect(\n    host={}, port={port},\n    user={}, password=os.environ[\"ROWGATE_PASSWORD\"],{tls}\n)",
        quoted(host),
        quoted(user)
    )
}

fn mysql2(host: &str, port: u16, tls: bool, user: &str) -> String {
    let tls = if tls { "\n  ssl: { verifyIdentity: true }," } else { "" };
    format!(
        "import mysql from 'mysql2/promise'\n\nconst connection = await mysql.createConnection({{\n  host: {}, port: {port},\n  user: {}, password: process.env.ROWGATE_PASSWORD,{tls}\n}})",
        quoted(host),
        quoted(user)
    )
}

fn jdbc(host: &str, port: u16, tls: bool, user: &str) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let tls = if tls { "?sslMode=VERIFY_IDENTITY" } else { "" };
    format!(
        "Connection connection = DriverManager.getConnection(\n    {},\n    {}, System.getenv(\"ROWGATE_PASSWORD\"));",
        quoted(&format!("jdbc:mysql://{host}:{port}/{tls}")),
        quoted(user)
    )
}

fn go(host: &str, port: u16, tls: bool, user: &str) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let tls = if tls { "\nconfig.TLSConfig = \"true\"" } else { "" };
    format!(
        "config := mysql.NewConfig() // github.com/go-sql-driver/mysql\nconfig.Net, config.Addr = \"tcp\", {}\nconfig.User, config.Passwd = {}, os.Getenv(\"ROWGATE_PASSWORD\"){tls}\ndb, err := sql.Open(\"mysql\", config.FormatDSN())",
        quoted(&format!("{host}:{port}")),
        quoted(user)
    )
}

fn rust(host: &str, port: u16, tls: bool, user: &str) -> String {
    let tls = if tls { "\n    .ssl_opts(SslOpts::default())" } else { "" };
    format!(
        "use mysql_async::{{Conn, OptsBuilder, SslOpts}};\n\nlet options = OptsBuilder::default()\n    .ip_or_hostname({}).tcp_port({port})\n    .user(Some({})).pass(std::env::var(\"ROWGATE_PASSWORD\").ok()){tls};\nlet connection = Conn::new(options).await?;",
        quoted(host),
        quoted(user)
    )
}

/// A string of Python, JavaScript, Java, Go and Rust, which read these few escapes alike.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        // (A name has none of these, and they would end the line.)
        out.push(if c.is_control() { ' ' } else { c });
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_is_a_command() {
        assert_eq!(sh("ann+x@example.org"), "ann+x@example.org");
        assert_eq!(sh("$(reboot)"), "'$(reboot)'");
        assert_eq!(sh("a'`id`'"), "'a'\\''`id`'\\'''");
        assert_eq!(sh(""), "''");
        assert_eq!(quoted("a\"+exit()+\"\\"), "\"a\\\"+exit()+\\\"\\\\\"");
        // As a shell reads it.
        for name in ["$(reboot)", "a'b", "a\"b", "-x", "a b`c`", "é\\"] {
            let line = format!("printf %s {}", sh(name));
            let output = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), name);
        }
    }

    #[test]
    fn the_way_to_a_target() {
        let settings = WebSettings {
            url: "https://gate.example:8443".into(),
            tls: None,
            idle_us: 1,
            session_us: 1,
            providers: vec![],
            doors: vec![],
            slack: Vec::new(),
            #[cfg(feature = "saml")]
            saml: vec![],
        };
        let to = |listen: &str| {
            way(&settings, &TargetStatus { listen: listen.into(), ..TargetStatus::default() })
        };
        let tcp = |host: &str, tls| Some(Way::Tcp { host: host.into(), port: 3307, tls });
        assert_eq!(to("0.0.0.0:3307, /run/s"), tcp("gate.example", true));
        assert_eq!(to("127.0.0.1:3307"), tcp("127.0.0.1", false));
        assert_eq!(to("[::]:3307"), tcp("gate.example", true));
        assert_eq!(to("/run/s"), Some(Way::Socket("/run/s".into())));
        assert_eq!(to(""), None);
        let all = all(&settings, "shop", &to("0.0.0.0:3307").unwrap(), "ann");
        assert_eq!(all.len(), 8);
        assert_eq!(
            all[0].1,
            "rowgate login --gateway https://gate.example:8443 --target shop\nrowgate connect shop"
        );
        assert!(all[1].1.contains("--ssl-mode=VERIFY_IDENTITY"));
        // Each checks that the certificate is the host's, and none shows its user's password.
        for (name, text) in &all {
            let checks = ["https:", "VERIFY_IDENTITY", "verify", "TLSConfig", "SslOpts::default"];
            assert!(checks.iter().any(|check| text.contains(check)), "{name}: {text}");
        }
    }
}
