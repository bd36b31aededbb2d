//! What types can't say: bounds with their reasons, names, and keys that must fit each other.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use super::approvals::approvals;
use super::audit::audit;
use super::certificates::certificates;
use super::custody::{Reference, custody};
use super::groups::groups;
use super::issuers::issuers;
use super::parse::{Complaint, Step};
use super::saml::saml;
use super::web::web;
use super::webhooks::webhooks;
use super::{Config, LabelRule, SEALED, Target, UpstreamTls};
use crate::schema::Labels;

pub(super) type Checked = Result<(), Complaint>;

/// Checks everything; the first complaint wins.
pub(super) fn check(config: &Config) -> Checked {
    if config.version != 1 {
        let what = format!("{} is not a version that this Rowgate reads", config.version);
        return complain(&[Step::Key("version")], what, "write version = 1");
    }
    bounds(config)?;
    audit(config)?;
    approvals(config)?;
    places(config)?;
    peers(config)?;
    client_certificates(config)?;
    labels(&config.labels)?;
    plugins(config)?;
    issuers(config)?;
    web(config)?;
    webhooks(config)?;
    certificates(config)?;
    groups(config)?;
    custody(config)?;
    saml(config)?;
    targets(config)
}

/// A number's key, value, bounds, and why those.
pub(super) type Bound = (&'static str, u64, RangeInclusive<u64>, &'static str);

fn bounds(config: &Config) -> Checked {
    let Config { server, .. } = config;
    let row = "the protocol's own limit is 1 GiB";
    let (statement_bytes, row_bytes) = (server.max_statement_bytes, server.max_row_bytes);
    let collected = wide(server.max_collected_bytes);
    let connections = wide(server.max_connections);
    let failed_logins = u64::from(server.failed_logins_per_minute);
    let of_server: [Bound; 13] = [
        ("workers", wide(server.workers), 0..=1_024, "0 means one a core"),
        ("drain_notice_s", server.drain_notice_s, 0..=3_600, "it is before each end"),
        ("drain_timeout_s", server.drain_timeout_s, 1..=3_600, "longer is no drain"),
        ("max_statement_bytes", wide(statement_bytes), 1_024..=1 << 30, row),
        ("max_row_bytes", wide(row_bytes), 1_024..=1 << 30, row),
        ("max_collected_bytes", collected, 1 << 20..=1 << 40, "less is no room, more is no bound"),
        ("max_connections", connections, 1..=1_000_000, "each takes a file descriptor"),
        ("login_timeout_s", server.login_timeout_s, 1..=300, "a login not done holds a connection"),
        ("connect_timeout_s", server.connect_timeout_s, 1..=300, "a session waits for it"),
        ("idle_timeout_s", server.idle_timeout_s, 1..=31_536_000, "longer than a year is never"),
        ("keepalive_s", server.keepalive_s, 1..=7_200, "past that, networks have forgotten"),
        (
            "write_timeout_s",
            server.write_timeout_s,
            1..=86_400,
            "who reads nothing holds a statement",
        ),
        ("failed_logins_per_minute", failed_logins, 1..=1_000_000, "0 would lock everyone out"),
    ];
    let within = |table, all: &[Bound]| {
        all.iter().try_for_each(|bound| in_bounds(&[Step::Key(table), Step::Key(bound.0)], bound))
    };
    let of_passwords: [Bound; 2] = [
        ("max_ttl_s", config.passwords.max_ttl_s, 60..=604_800, "a minute to a week"),
        ("ttl_s", config.passwords.ttl_s, 60..=config.passwords.max_ttl_s, "to max_ttl_s"),
    ];
    within("passwords", &of_passwords)?;
    within("server", &of_server)
}

pub(super) fn in_bounds(path: &[Step], (_, value, bounds, why): &Bound) -> Checked {
    if bounds.contains(value) {
        return Ok(());
    }
    let mend = format!("{} to {} ({why})", bounds.start(), bounds.end());
    complain(path, format!("{value} is out of bounds"), &mend)
}

fn places(config: &Config) -> Checked {
    use Step::Key;
    for (path, place) in [
        (&[Key("store"), Key("path")], &config.store.path),
        (&[Key("audit"), Key("dir")], &config.audit.dir),
        (&[Key("admin"), Key("socket")], &config.admin.socket),
    ] {
        if place.as_os_str().is_empty() {
            return complain(path, "empty", "write a path");
        }
    }
    let files = [Key("policy"), Key("files")];
    if config.policy.files.is_empty() {
        return complain(&files, "no files, so everything would be denied", "list a Cedar file");
    }
    let mut seen = HashSet::new();
    match config.policy.files.iter().find(|file| !seen.insert(*file)) {
        Some(twice) => {
            complain(&files, format!("{} is listed twice", twice.display()), "once is enough")
        }
        None => Ok(()),
    }
}

fn peers(config: &Config) -> Checked {
    use Step::{At, Key};
    let mut seen = HashSet::new();
    for (at, peer) in config.admin.peers.iter().enumerate() {
        let path = |key| [Key("admin"), Key("peers"), At(at), Key(key)];
        if !seen.insert(peer.uid) {
            let what = format!("{} is listed twice", peer.uid);
            return complain(&path("uid"), what, "one identity for each Unix user");
        }
        if peer.identity.is_empty() {
            return complain(
                &path("identity"),
                "empty",
                "name the identity that this user acts as",
            );
        }
    }
    Ok(())
}

fn client_certificates(config: &Config) -> Checked {
    use Step::Key;
    let Some(tls) = &config.tls else { return Ok(()) };
    match (&tls.client_ca, tls.client_certificates) {
        (Some(_), None) => {
            let mend = "write client_certificates = \"required\" or \"optional\"";
            complain(&[Key("tls"), Key("client_certificates")], "missing beside client_ca", mend)
        }
        (None, Some(_)) => {
            let mend = "name the PEM bundle that clients' certificates must lead to";
            complain(&[Key("tls"), Key("client_ca")], "missing beside client_certificates", mend)
        }
        _ => Ok(()),
    }
}

fn labels(rules: &[LabelRule]) -> Checked {
    use Step::{At, Key};
    let mut known = Labels::default();
    let mut seen = HashSet::new();
    for (at, rule) in rules.iter().enumerate() {
        let path = |key| [Key("labels"), At(at), Key(key)];
        if !rule.name.split('.').all(is_word) {
            let what = format!("{:?} is no label", rule.name);
            return complain(&path("name"), what, "letters, digits, - and _; dots between words");
        }
        if !seen.insert(&rule.name) {
            let what = format!("{:?} is declared twice", rule.name);
            return complain(&path("name"), what, "put all patterns under one");
        }
        // Those above a dotted label count as well, since it carries them.
        let ends = rule.name.match_indices('.').map(|(end, _)| end).chain([rule.name.len()]);
        for end in ends {
            if known.intern(&rule.name[..end]).is_none() {
                let what = format!("more than {} labels", Labels::MAX);
                return complain(
                    &path("name"),
                    what,
                    "merge some (a set of them is one machine word)",
                );
            }
        }
        for (key, patterns, parts, form) in [
            ("columns", &rule.columns, 3, "write database.table.column, with * and ? as wildcards"),
            ("tables", &rule.tables, 2, "write database.table, with * and ? as wildcards"),
        ] {
            let good = |text: &&String| {
                text.split('.').count() == parts
                    && text.split('.').all(|part| !part.trim().is_empty())
            };
            if let Some((index, bad)) = patterns.iter().enumerate().find(|(_, text)| !good(text)) {
                let [a, b, c] = path(key);
                let what = format!("{bad:?} has not {parts} parts");
                return complain(&[a, b, c, At(index)], what, form);
            }
        }
    }
    Ok(())
}

fn plugins(config: &Config) -> Checked {
    use Step::{At, Key};
    let mut seen = HashSet::new();
    for (at, plugin) in config.plugins.iter().enumerate() {
        let path = |key| vec![Key("plugins"), At(at), Key(key)];
        name(&path("name"), &plugin.name, &mut seen)?;
        if plugin.path.as_os_str().is_empty() {
            return complain(&path("path"), "empty", "write the component's path");
        }
        let all: [Bound; 2] = [
            (
                "memory_mib",
                plugin.memory_mib.into(),
                1..=1_024,
                "each instance takes it, and each worker has several",
            ),
            ("timeout_ms", plugin.timeout_ms.into(), 1..=10_000, "a call holds up its worker"),
        ];
        all.iter().try_for_each(|bound| in_bounds(&path(bound.0), bound))?;
    }
    Ok(())
}

fn targets(config: &Config) -> Checked {
    use Step::{At, Key};
    let mut names = HashSet::new();
    // Port 0 lets the system choose, so two of those don't clash.
    let web = config.web.as_ref().map(|web| web.listen);
    let mut listening: HashSet<_> = config.admin.listen.into_iter().chain(web).collect();
    let mut sockets: HashSet<_> = HashSet::from([config.admin.socket.as_path()]);
    for (at, target) in config.targets.iter().enumerate() {
        let path = |key| vec![Key("targets"), At(at), Key(key)];
        name(&path("name"), &target.name, &mut names)?;
        if let Some(listen) = target.listen
            && listen.port() != 0
            && !listening.insert(listen)
        {
            let what = format!("{listen} is taken by another listener of this file");
            return complain(&path("listen"), what, "choose another port");
        }
        socket(target, &path, &mut sockets)?;
        upstream(target, &path)?;
        password(&target.password, config.vault.is_some(), &path)?;
        numbers(target, &path)?;
    }
    Ok(())
}

/// Checks a target that is to be kept in the store; the complaint is one line. Its credential may be there, too.
pub fn check_stored(target: &Target, has_vault: bool) -> Result<(), String> {
    let path = |key| vec![Step::Key(key)];
    let checked = || {
        name(&path("name"), &target.name, &mut HashSet::new())?;
        socket(target, &path, &mut HashSet::new())?;
        upstream(target, &path)?;
        let mut paths = [("address", target.address.strip_prefix("unix:").map(Path::new))].to_vec();
        paths.push(("socket", target.socket.as_deref()));
        paths.push(("credential", target.password.strip_prefix("file:").map(Path::new)));
        let relative = paths.iter().find(|(_, path)| path.is_some_and(|path| !path.is_absolute()));
        if let Some((key, _)) = relative {
            return complain(&path(key), "the path is relative", "write it from the root on");
        }
        if target.password != SEALED {
            password(&target.password, has_vault, &path)?;
        }
        numbers(target, &path)
    };
    checked().map_err(|complaint: Complaint| {
        let key = complaint.path.iter().find_map(|step| match step {
            Step::Key("password") => Some("credential"),
            Step::Key(key) => Some(*key),
            Step::At(_) => None,
        });
        format!("{}: {}; {}", key.unwrap_or_default(), complaint.what, complaint.mend)
    })
}

fn numbers(target: &Target, path: &dyn Fn(&'static str) -> Vec<Step>) -> Checked {
    let all: [Bound; 7] = [
        (
            "statement_timeout_s",
            target.statement_timeout_s,
            0..=31_536_000,
            "0 means as long as it takes",
        ),
        (
            "max_upstream",
            wide(target.max_upstream),
            1..=100_000,
            "each is a connection to the database",
        ),
        (
            "min_idle",
            wide(target.min_idle),
            0..=wide(target.max_upstream),
            "they count among max_upstream",
        ),
        ("max_age_s", target.max_age_s, 1..=31_536_000, "to a year"),
        ("queue_timeout_s", target.queue_timeout_s, 1..=3_600, "a client waits for so long"),
        ("idle_release_s", target.idle_release_s, 0..=31_536_000, "0 means never"),
        (
            "catalog_refresh_s",
            target.catalog_refresh_s,
            1..=86_400,
            "a view changed behind the gateway is seen no sooner",
        ),
    ];
    all.iter().try_for_each(|bound| in_bounds(&path(bound.0), bound))
}

/// The longest path of a Unix socket, a NUL behind it.
const MAX_SOCKET_PATH: usize = 107;

fn socket<'a>(
    target: &'a Target,
    path: &dyn Fn(&'static str) -> Vec<Step>,
    seen: &mut HashSet<&'a Path>,
) -> Checked {
    let Some(socket) = &target.socket else {
        let of_it = [
            ("socket_mode", target.socket_mode),
            ("socket_uid", target.socket_uid),
            ("socket_gid", target.socket_gid),
        ];
        if let Some((key, _)) = of_it.iter().find(|(_, value)| value.is_some()) {
            return complain(&path(key), "has no effect without socket", "name the socket's path");
        }
        if target.listen.is_none() {
            let mend = "add listen = \"host:port\", or socket = \"path\", or both";
            return complain(&path("listen"), "missing, and there is no socket either", mend);
        }
        return Ok(());
    };
    let len = socket.as_os_str().len();
    if len == 0 || len > MAX_SOCKET_PATH {
        let what = format!("{len} bytes are no path of a socket");
        return complain(&path("socket"), what, "1 to 107 bytes (the system's own limit)");
    }
    if !seen.insert(socket) {
        let what = format!("{} is taken by another socket of this file", socket.display());
        return complain(&path("socket"), what, "choose another path");
    }
    if target.socket_mode.is_some_and(|mode| mode > 0o777) {
        let mend = "write it in octal, with 0o: 0o660 lets a group in, 0o600 its user only";
        return complain(&path("socket_mode"), "these are no rights", mend);
    }
    Ok(())
}

fn upstream(target: &Target, path: &dyn Fn(&'static str) -> Vec<Step>) -> Checked {
    let socket = target.address.strip_prefix("unix:");
    if socket.is_some_and(|path| path.is_empty() || path.len() > MAX_SOCKET_PATH) {
        let what = format!("{:?} is no address", target.address);
        return complain(
            &path("address"),
            what,
            "write unix: and a path, as in unix:/run/mysqld/mysqld.sock",
        );
    }
    if socket.is_some() && target.tls == UpstreamTls::VerifyIdentity {
        let mend = "write tls = \"off\", which is safe there; or verify-ca, or pin";
        return complain(&path("tls"), "verify-identity, but a socket has no name to verify", mend);
    }
    let host = if socket.is_some() { Some("localhost") } else { host_of(&target.address) };
    let Some(host) = host else {
        let what = format!("{:?} is no address", target.address);
        return complain(&path("address"), what, "write host:port, as in db.internal:3306");
    };
    if target.user.is_empty() {
        return complain(&path("user"), "empty", "name the gateway's account on the database");
    }
    if target.server_public_key.is_some() && target.tls != UpstreamTls::Off {
        let mend = "leave it out: inside TLS the password needs no other protection";
        return complain(&path("server_public_key"), "has no effect with this tls mode", mend);
    }
    match target.tls {
        UpstreamTls::VerifyIdentity | UpstreamTls::VerifyCa if target.tls_ca.is_none() => {
            let mend = "name the PEM bundle of the database's CA, or use tls = \"pin\"";
            complain(&path("tls_ca"), "missing, and this tls mode verifies a chain", mend)
        }
        UpstreamTls::Pin if !target.tls_pin.as_deref().is_some_and(is_pin) => complain(
            &path("tls_pin"),
            "missing or not a pin",
            "write sha256: and the 64 hex digits of the certificate's digest (DER)",
        ),
        UpstreamTls::Off if !is_loopback(host) => complain(
            &path("tls"),
            "off, but the database is not on this machine",
            "use verify-identity, verify-ca or pin; off is for loopback and Unix sockets only",
        ),
        UpstreamTls::Off | UpstreamTls::VerifyIdentity | UpstreamTls::VerifyCa
            if target.tls_pin.is_some() =>
        {
            complain(&path("tls_pin"), "has no effect with this tls mode", "use tls = \"pin\"")
        }
        _ => Ok(()),
    }
}

fn password(text: &str, has_vault: bool, path: &dyn Fn(&'static str) -> Vec<Step>) -> Checked {
    match Reference::parse(text) {
        None => {
            let mend = "write env:NAME, file:PATH or vault:MOUNT/PATH#FIELD; passwords don't belong in this file";
            complain(&path("password"), "not a reference to a password", mend)
        }
        Some(Reference::Vault { .. }) if !has_vault => {
            let mend = "add [vault] with its address and token";
            complain(&path("password"), "in a vault, and there is none", mend)
        }
        Some(_) => Ok(()),
    }
}

/// The host of `host:port` or `[v6]:port`.
fn host_of(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    // A v6 address without brackets would give its last group away as the port.
    let whole = bare.is_some() || !host.contains(':');
    (whole && port != 0 && !host.is_empty() && !host.contains(char::is_whitespace)).then_some(host)
}

pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_pin(pin: &str) -> bool {
    let digits = pin.strip_prefix("sha256:");
    digits.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

pub(super) fn name<'a>(path: &[Step], name: &'a str, seen: &mut HashSet<&'a str>) -> Checked {
    if !is_word(name) {
        let what = format!("{name:?} is no name");
        return complain(path, what, "use letters, digits, - and _ (64 at most)");
    }
    if !seen.insert(name) {
        return complain(path, format!("{name:?} is taken"), "give each its own name");
    }
    Ok(())
}

/// Names travel in metrics, masks and policies, so they are plain.
fn is_word(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

pub(super) fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

pub(super) fn complain(path: &[Step], what: impl Into<String>, mend: &str) -> Checked {
    Err(Complaint { path: path.to_vec(), what: what.into(), mend: mend.to_owned() })
}
