//! Configurations and the line that each is refused with.

use super::*;

const GOOD: &str = r#"version = 1
[server]
workers = 2
[store]
path = "s.db"
[audit]
dir = "audit"
[policy]
files = ["p.cedar"]
[[labels]]
name = "pci"
columns = ["a.b.c"]
[[plugins]]
name = "mask-standard"
path = "m.wasm"
[[targets]]
name = "shop"
listen = "127.0.0.1:3307"
address = "127.0.0.1:3306"
user = "rowgate"
password = "env:P"
tls = "off"
"#;

/// `GOOD` with one text replaced by another is refused with this line.
fn check(from: &str, to: &str, expected: &str) {
    assert!(GOOD.contains(from), "{from}");
    let error = Config::parse(&GOOD.replace(from, to), "r.toml").unwrap_err().to_string();
    assert_eq!(error, expected, "{from} -> {to}");
}

#[test]
fn the_sample_and_the_minimum_are_good() {
    Config::parse(GOOD, "r.toml").unwrap();
    let sample = Config::parse(Config::SAMPLE, "sample.toml").unwrap();
    assert_eq!(sample.targets[0].tls, UpstreamTls::VerifyIdentity);
}

#[test]
fn the_sample_names_every_default() {
    let sample = Config::parse(Config::SAMPLE, "sample.toml").unwrap();
    assert_eq!(format!("{:?}", sample.server), format!("{:?}", Server::default()));
    assert_eq!(format!("{:?}", sample.approvals), format!("{:?}", Approvals::default()));
    let minimum = Config::parse(GOOD, "r.toml").unwrap();
    assert_eq!(sample.audit.queue_bytes, minimum.audit.queue_bytes);
    assert_eq!(sample.targets[0].max_upstream, minimum.targets[0].max_upstream);
    assert_eq!(sample.targets[0].min_idle, minimum.targets[0].min_idle);
    assert_eq!(sample.targets[0].max_age_s, minimum.targets[0].max_age_s);
    assert_eq!(sample.targets[0].queue_timeout_s, minimum.targets[0].queue_timeout_s);
    assert_eq!(sample.targets[0].idle_release_s, minimum.targets[0].idle_release_s);
}

#[test]
fn keys() {
    check("[store]", "[stroe]", "r.toml:4:2: stroe: unknown key; did you mean store?");
    check("workers", "worker", "r.toml:3:1: server.worker: unknown key; did you mean workers?");
    check(
        "user =",
        "colour =",
        "r.toml:20:1: targets.colour: unknown key; known here: name, listen, \
         socket, socket_mode, socket_uid, socket_gid, address, user, password, tls, tls_ca, tls_pin, server_public_key, client_tls, statement_timeout_s, compression, proxy_protocol, max_upstream, min_idle, max_age_s, queue_timeout_s, idle_release_s, catalog_refresh_s",
    );
    check("user = \"rowgate\"\n", "", "r.toml:16:1: targets.user: missing; add user");
    check(
        "[store]",
        "[admin.peer]\nx = 1\n[store]",
        "r.toml:4:8: admin.peer: unknown key; did you mean peers?",
    );
    let error = Config::parse("version = ", "r.toml").unwrap_err().to_string();
    assert!(error.starts_with("r.toml:1:"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn values() {
    check(
        "version = 1",
        "version = 2",
        "r.toml:1:1: version: 2 is not a version that this Rowgate reads; write version = 1",
    );
    check(
        "workers = 2",
        "workers = 5000",
        "r.toml:3:1: server.workers: 5000 is out of bounds; 0 to 1024 (0 means one a core)",
    );
    check(
        "workers = 2",
        "max_connections = 0",
        "r.toml:3:1: server.max_connections: 0 is out of bounds; 1 to 1000000 (each takes a file descriptor)",
    );
    check(
        "[store]",
        "[approvals]\nexpiry_s = 10\n[store]",
        "r.toml:5:1: approvals.expiry_s: 10 is out of bounds; 50 to 2592000 (from approvals.wait_s to a month)",
    );
    check(
        "files = [\"p.cedar\"]",
        "files = []",
        "r.toml:9:1: policy.files: no files, so everything would be denied; list a Cedar file",
    );
    check(
        "files = [\"p.cedar\"]",
        "files = [\"a\", \"a\"]",
        "r.toml:9:1: policy.files: a is listed twice; once is enough",
    );
    check(
        "\"a.b.c\"",
        "\"a.b.c\", \"ssn\"",
        "r.toml:12:21: labels.columns: \"ssn\" has not 3 parts; write database.table.column, with * and ? as wildcards",
    );
    check(
        "name = \"pci\"",
        "name = \"p ci\"",
        "r.toml:11:1: labels.name: \"p ci\" is no label; letters, digits, - and _; dots between words",
    );
    check(
        "[[plugins]]",
        "[[labels]]\nname = \"pci\"\n[[plugins]]",
        "r.toml:14:1: labels.name: \"pci\" is declared twice; put all patterns under one",
    );
    check(
        "path = \"m.wasm\"",
        "path = \"m.wasm\"\ntimeout_ms = 0",
        "r.toml:16:1: plugins.timeout_ms: 0 is out of bounds; 1 to 10000 (a call holds up its worker)",
    );
    check(
        "[[targets]]",
        "[[plugins]]\nname = \"mask-standard\"\npath = \"x\"\n[[targets]]",
        "r.toml:17:1: plugins.name: \"mask-standard\" is taken; give each its own name",
    );
    check(
        "[store]",
        "[admin]\npeers = [{uid = 1, identity = \"a\"}, {uid = 1, identity = \"b\"}]\n[store]",
        "r.toml:5:38: admin.peers.uid: 1 is listed twice; one identity for each Unix user",
    );
}

#[test]
fn targets() {
    let second = |listen: &str, name: &str| {
        format!(
            "[[targets]]\nname = \"{name}\"\nlisten = \"{listen}\"\naddress = \"127.0.0.1:1\"\n\
                 user = \"u\"\npassword = \"env:P\"\ntls = \"off\"\n[[targets]]"
        )
    };
    check(
        "[[targets]]",
        &second("127.0.0.1:9", "shop"),
        "r.toml:24:1: targets.name: \"shop\" is taken; give each its own name",
    );
    check(
        "[[targets]]",
        &second("127.0.0.1:3307", "other"),
        "r.toml:25:1: targets.listen: 127.0.0.1:3307 is taken by another listener of this file; choose another port",
    );
    check(
        "name = \"shop\"",
        "name = \"a shop\"",
        "r.toml:17:1: targets.name: \"a shop\" is no name; use letters, digits, - and _ (64 at most)",
    );
    check(
        "address = \"127.0.0.1:3306\"",
        "address = \"127.0.0.1\"",
        "r.toml:19:1: targets.address: \"127.0.0.1\" is no address; write host:port, as in db.internal:3306",
    );
    check(
        "address = \"127.0.0.1:3306\"",
        "address = \"10.0.0.7:3306\"",
        "r.toml:22:1: targets.tls: off, but the database is not on this machine; use verify-identity, verify-ca or pin; off is for loopback and Unix sockets only",
    );
    check(
        "tls = \"off\"\n",
        "",
        "r.toml:16:1: targets.tls_ca: missing, and this tls mode verifies a chain; name the PEM bundle of the database's CA, or use tls = \"pin\"",
    );
    let pin = "write sha256: and the 64 hex digits of the certificate's digest (DER)";
    check(
        "tls = \"off\"",
        "tls = \"pin\"",
        &format!("r.toml:16:1: targets.tls_pin: missing or not a pin; {pin}"),
    );
    check(
        "tls = \"off\"",
        "tls = \"pin\"\ntls_pin = \"sha256:12\"",
        &format!("r.toml:23:1: targets.tls_pin: missing or not a pin; {pin}"),
    );
    check(
        "tls = \"off\"",
        "tls = \"off\"\nmax_upstream = 0",
        "r.toml:23:1: targets.max_upstream: 0 is out of bounds; 1 to 100000 (each is a connection to the database)",
    );
    for good in ["localhost:1", "[::1]:3306", "127.8.8.8:3306"] {
        Config::parse(&GOOD.replace("127.0.0.1:3306", good), "r.toml").unwrap();
    }
    let pinned = GOOD.replace(
        "tls = \"off\"",
        &format!("tls = \"pin\"\ntls_pin = \"sha256:{}\"", "aB".repeat(32)),
    );
    Config::parse(&pinned, "r.toml").unwrap();
}

#[test]
fn sockets() {
    check(
        "listen = \"127.0.0.1:3307\"\n",
        "",
        "r.toml:16:1: targets.listen: missing, and there is no socket either; add listen = \"host:port\", or socket = \"path\", or both",
    );
    check(
        "tls = \"off\"",
        "tls = \"off\"\nsocket_mode = 0o660",
        "r.toml:23:1: targets.socket_mode: has no effect without socket; name the socket's path",
    );
    check(
        "tls = \"off\"",
        "tls = \"off\"\nsocket = \"s\"\nsocket_mode = 660",
        "r.toml:24:1: targets.socket_mode: these are no rights; write it in octal, with 0o: 0o660 lets a group in, 0o600 its user only",
    );
    check(
        "tls = \"off\"",
        "tls = \"off\"\nsocket = \"/run/rowgate/admin.sock\"",
        "r.toml:23:1: targets.socket: /run/rowgate/admin.sock is taken by another socket of this file; choose another path",
    );
    check(
        "address = \"127.0.0.1:3306\"",
        "address = \"unix:\"",
        "r.toml:19:1: targets.address: \"unix:\" is no address; write unix: and a path, as in unix:/run/mysqld/mysqld.sock",
    );
    let by_socket = GOOD.replace("127.0.0.1:3306", "unix:/run/mysqld/mysqld.sock");
    let verified = by_socket.replace("tls = \"off\"", "tls_ca = \"ca.pem\"");
    let error = Config::parse(&verified, "r.toml").unwrap_err().to_string();
    assert!(error.contains("a socket has no name to verify"), "{error}");
    Config::parse(&by_socket, "r.toml").unwrap();
}

#[test]
fn a_password_is_never_repeated() {
    for (value, line) in [
        (
            "\"hunter2\"",
            "r.toml:21:1: targets.password: not a reference to a password; write env:NAME, file:PATH or vault:MOUNT/PATH#FIELD; passwords don't belong in this file",
        ),
        (
            "\"env:\"",
            "r.toml:21:1: targets.password: not a reference to a password; write env:NAME, file:PATH or vault:MOUNT/PATH#FIELD; passwords don't belong in this file",
        ),
        ("48151623", "r.toml:21:12: targets.password: not a string; write env:NAME or file:PATH"),
    ] {
        check("\"env:P\"", value, line);
    }
}

#[test]
#[cfg_attr(not(feature = "saml"), ignore = "built without it, the table is refused")]
fn saml() {
    let table = "[web]\nlisten = \"127.0.0.1:8443\"\nurl = \"http://127.0.0.1:8443\"\n[[saml]]\nname = \"corp\"\nentity_id = \"urn:idp\"\nmetadata = \"idp.xml\"\n[store]";
    let config = Config::parse(&GOOD.replace("[store]", table), "r.toml").unwrap();
    let of = &config.saml[0];
    assert_eq!((of.skew_s, of.lifetime_s), (60, 5_400));
    assert_eq!(of.name_id_formats, [NameIdFormat::Persistent, NameIdFormat::EmailAddress]);
    let refused = |from: &str, to: &str| {
        let text = GOOD.replace("[store]", &table.replace(from, to));
        let error = Config::parse(&text, "r.toml").unwrap_err().to_string();
        error.split_once(": ").unwrap().1.to_owned()
    };
    let alone = "[web]\nlisten = \"127.0.0.1:8443\"\nurl = \"http://127.0.0.1:8443\"\n";
    for (from, to, complaint) in [
        (alone, "", "saml.name: has no effect without [web]"),
        ("\"urn:idp\"", "\"\"", "saml.entity_id: no entity id"),
        ("metadata = \"idp.xml\"", "", "saml.metadata: missing"),
        (
            "metadata = \"idp.xml\"",
            "sso_url = \"https://idp.example/sso\"",
            "saml.certificates: missing beside sso_url",
        ),
        (
            "metadata = \"idp.xml\"",
            "certificates = [\"a\"]\nsso_url = \"http://idp.example/sso\"",
            "saml.sso_url: \"http://idp.example/sso\" is no such URL",
        ),
        ("metadata =", "sso_url = \"https://x\"\nmetadata =", "saml.sso_url: there is metadata"),
        ("metadata =", "certificate = \"x\"\nmetadata =", "saml.key: missing beside certificate"),
        ("metadata =", "name_id_formats = []\nmetadata =", "saml.name_id_formats: empty"),
        ("metadata =", "skew_s = 301\nmetadata =", "saml.skew_s: 301 is out of bounds"),
        ("metadata =", "lifetime_s = 59\nmetadata =", "saml.lifetime_s: 59 is out of bounds"),
        ("metadata =", "sha1 = true\nmetadata =", "saml.sha1: unknown key"),
    ] {
        let error = refused(from, to);
        assert!(error.starts_with(complaint), "{error}");
    }
}

#[test]
fn groups() {
    let with = |table: &str, expected: &str| {
        let text = format!("[[groups]]\n{table}\n[[targets]]");
        check("[[targets]]", &text, &format!("r.toml:{expected}"));
    };
    let good = "[[groups]]\nname = \"dba\"\nmembers = [\"ann\", \"bot@x\"]\n[[targets]]";
    let config = Config::parse(&GOOD.replace("[[targets]]", good), "r.toml").unwrap();
    assert_eq!(config.groups[0].members, ["ann", "bot@x"]);
    with(
        "name = \"\"\nmembers = []",
        "17:1: groups.name: \"\" is no name of a group; write it as policies do: Group::\"name\"",
    );
    with(
        "name = \"dba\"\nmembers = [\"ann\", \"ann\"]",
        "18:19: groups.members: \"ann\" is listed twice; once is enough",
    );
    with(
        "name = \"dba\"\nmembers = [\"ann;run=1\"]",
        "18:12: groups.members: \"ann;run=1\" is no name of an identity; write it as the record has it, without ; and what follows",
    );
    with(
        "name = \"dba\"\nmembers = []\n[[groups]]\nname = \"dba\"\nmembers = []",
        "20:1: groups.name: \"dba\" is listed twice; put its members under one",
    );
    with("name = \"dba\"", "16:1: groups.members: missing; add members");
    let issuer = "[[issuers]]\nname = \"i\"\nurl = \"https://i\"\naudience = [\"a\"]\nalgorithms = [\"ES256\"]\nkind = \"agent\"\nclient_id = \"x\"\ngroup_names = {NAMES}\n[web]\nlisten = \"127.0.0.1:1\"\nurl = \"http://127.0.0.1:1\"\n[[targets]]";
    for (names, expected) in [
        (
            "{\"a*b\" = \"x\"}",
            "\"a*b\" is no name of a group there; write it as it is listed, or its beginning with one * behind",
        ),
        (
            "{\"**\" = \"x\"}",
            "\"**\" is no name of a group there; write it as it is listed, or its beginning with one * behind",
        ),
        ("{\"a\" = \"\"}", "\"\" is no name of a group; write it as policies do: Group::\"name\""),
    ] {
        let text = issuer.replace("{NAMES}", names);
        check("[[targets]]", &text, &format!("r.toml:23:1: issuers.group_names: {expected}"));
    }
    let text = issuer.replace("{NAMES}", "{\"a*\" = \"x\", \"*\" = \"y\"}");
    Config::parse(&GOOD.replace("[[targets]]", &text), "r.toml").unwrap();
}
