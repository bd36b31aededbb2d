//! Where credentials are not: whoever finds a database's password has the database, and a client's is that client.
//!
//! Where root runs the test the gateway is another user's, as it is where it is installed.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use xtask::gateway::{Gateway, Options};
use xtask::issuer::Issuer;
use xtask::mariadb::{SERVICE_PASSWORD, free_port};

use crate::browser::Browser;
use crate::custody::{done, quoted, verb};
use crate::dumps::{Memory, regions};
use crate::relay::Relay;
use crate::stand::{Database, Flavour, Stand, binary, errors, on_both, wait_for};

on_both!(a_credential_appears_nowhere,);

/// Passwords of the gateway's account `crm`, sealed in the store: the first, and the one that it is rotated to.
const SEALED: &str = "Qx7_crm'sOwn-9c1f\u{e9}";
const NEXT: &str = "Vb3_crm'sNext-77aa";
/// Of its account `erp`: in a file.
const FILED: &str = "Zk9-erp-of-a-file-3d5e";
/// What somebody types by mistake.
const MISTAKEN: &str = "rgt_Wr0ng-but-somebodys-own-8b2a";

/// Everything but the compiler of plugins, which says what a gigabyte takes.
const LEVEL: &str = "trace,cranelift_codegen=info,regalloc2=info,wasmtime=info,wasmtime_cranelift=info,wasmtime_environ=info";

/// A value in a client's statement.
const LITERAL: &str = "L1t-of-a-statement-5f77";

/// As which user the gateway runs where root tests it: `nobody`.
const OTHER_UID: u32 = 65_534;

/// What must not be found, by its name.
struct Secrets(Vec<(&'static str, Vec<u8>)>);

impl Secrets {
    /// Its beginning as it is, which is all that a text that was escaped or cut may have, and all of it as dumps of bytes are.
    fn add(&mut self, name: &'static str, secret: &[u8]) {
        let start = secret.split(|byte| *byte == b'\'').next().unwrap();
        let start = start.get(..20).unwrap_or(start);
        let hex = secret.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        let decimal = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        for form in [start.to_vec(), hex.into_bytes(), decimal.into_bytes()] {
            self.0.push((name, form));
        }
    }

    fn found_in(&self, bytes: &[u8]) -> Option<&'static str> {
        let found = |(_, form): &&(_, Vec<u8>)| memchr::memmem::find(bytes, form).is_some();
        self.0.iter().find(found).map(|(name, _)| *name)
    }

    fn are_not_in(&self, what: &str, bytes: &[u8]) {
        assert_eq!(self.found_in(bytes), None, "found in {what}");
    }
}

/// A gateway with everything that a secret could come through, and its surroundings.
struct Scene {
    stand: Stand,
    issuer: Issuer,
    site: String,
    /// Whether the gateway is another user's.
    is_others: bool,
}

impl Scene {
    fn start(flavour: Flavour) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("gateway");
        fs::create_dir(&dir).unwrap();
        crate::tls::make_pair(&dir);
        fs::write(dir.join("erp"), FILED).unwrap();
        let database = Database::start(flavour, folder.path(), &[]);
        for (user, password) in [("crm", SEALED), ("erp", FILED)] {
            let password = quoted(password);
            database
                .sql(&format!("CREATE USER {user}@'127.0.0.1' IDENTIFIED BY {password}"))
                .unwrap();
            database.sql(&format!("GRANT ALL ON shop.* TO {user}@'127.0.0.1'")).unwrap();
        }
        let issuer = Issuer::start().unwrap();
        let site = format!("http://127.0.0.1:{}", free_port().unwrap());
        let pages = issuer.pages_table(&site, &dir.join("pages"), "").unwrap();
        let mut options = Options::new(database.port());
        options.more = format!(
            "[log]\nlevel = \"{LEVEL}\"\n[custody]\nmaster_key = \"file:master.key\"\n\
             [tls]\ncertificate = \"rowgate.crt\"\nkey = \"rowgate.key\"\n\
             [web]\nlisten = \"{}\"\nurl = \"{site}\"\n{pages}",
            site.trim_start_matches("http://"),
        );
        for name in ["erp", "rowgate.key"] {
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let (program, is_others) = program(folder.path(), &dir);
        let gateway = Gateway::start(&program, &dir, &options).unwrap();
        Self { stand: Stand { gateway, database, flavour, folder }, issuer, site, is_others }
    }

    fn dir(&self) -> &Path {
        self.stand.gateway.dir()
    }

    fn pid(&self) -> u32 {
        self.stand.gateway.pid()
    }

    /// Adds a target over this account; its port.
    fn add(&self, user: &str, input: &str, more: &[&str]) -> u16 {
        let port = free_port().unwrap();
        let listen = format!("127.0.0.1:{port}");
        let address = format!("127.0.0.1:{}", self.stand.database.port());
        let words = ["target", "add", user, "--listen", &listen, "--address", &address];
        done(&self.stand, input, &[&words[..], &["--user", user, "--tls", "off"], more].concat());
        port
    }

    fn query(&self, port: u16, user: &str, password: &str, text: &str) -> Output {
        let mut client = self.stand.client(user, password);
        client.arg(format!("--port={port}"));
        client.arg(if self.stand.flavour == Flavour::MySql {
            "--ssl-mode=REQUIRED"
        } else {
            "--ssl"
        });
        client.args(["--batch", "--force", "--database=shop", "-e", text]).output().unwrap()
    }

    /// What the admin socket answers.
    fn asked(&self, path: &str, body: &str) -> Vec<u8> {
        let method = if body.is_empty() { "GET" } else { "POST" };
        let mut stream = UnixStream::connect(self.dir().join("admin.sock")).unwrap();
        let length = body.len();
        let head = "Host: rowgate\r\nConnection: close";
        let text =
            format!("{method} {path} HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // (It may close before it has read a body that it has no use for.)
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 "));
        answer
    }
}

/// What starts the gateway in its folder: as another user where that can be, and whether it is.
fn program(folder: &Path, dir: &Path) -> (PathBuf, bool) {
    let user = format!("--reuid={OTHER_UID} --regid={OTHER_UID} --clear-groups");
    let plugin = xtask::sh::root().join("target/plugins/mask-standard.wasm");
    let reads = "test -x \"$0\" -a -r \"$1\"";
    let may = as_other(&["sh", "-c", reads]).arg(binary()).arg(plugin).status();
    let is_others =
        fs::metadata("/proc/self").unwrap().uid() == 0 && may.is_ok_and(|s| s.success());
    if is_others {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        chown(dir, Some(OTHER_UID), None).unwrap();
        for entry in fs::read_dir(dir).unwrap() {
            chown(entry.unwrap().path(), Some(OTHER_UID), None).unwrap();
        }
    } else {
        eprintln!(
            "left out: a gateway of another user (it needs root, and a build that all can read)"
        );
    }
    let program = folder.join("rowgate");
    let change = if is_others { format!("setpriv {user}") } else { String::new() };
    // In its own folder, where it may write: a core would be there. Verbs stay whose they are.
    let text = format!(
        "#!/bin/sh\ncd {}\n[ \"$1\" = serve ] && exec {change} {rowgate} \"$@\"\nexec {rowgate} \"$@\"\n",
        dir.display(),
        rowgate = binary().display(),
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (program, is_others)
}

/// This command as the user whose the gateway is.
fn as_other(words: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={OTHER_UID}"), format!("--regid={OTHER_UID}")]);
    command.arg("--clear-groups").args(words).stdin(Stdio::null());
    command
}

/// All that was ever secret here is told to some client, and used; then it is looked for.
fn a_credential_appears_nowhere(flavour: Flavour) {
    let mut scene = Scene::start(flavour);
    let mut secrets = Secrets(Vec::new());
    for (name, secret) in [
        ("the sealed password", SEALED),
        ("the next sealed password", NEXT),
        ("the file's password", FILED),
        ("a mistaken token", MISTAKEN),
        ("the provider's secret", "a secret of the pages"),
    ] {
        secrets.add(name, secret.as_bytes());
    }
    // Before the environment's joins: that one is in the gateway's environment, as whoever started it wanted.
    let crm = scene.add("crm", SEALED, &[]);
    let file = format!("file:{}", scene.dir().join("erp").display());
    let erp = scene.add("erp", "", &["--credential", &file]);
    no_process_shows(&scene, &secrets);
    secrets.add("the environment's password", SERVICE_PASSWORD.as_bytes());
    let clients = used(&scene, &mut secrets, [crm, erp]);
    clients_were_told_nothing(&scene, &secrets, [crm, erp], &clients.token);
    the_way_out_is_clean(&scene, &secrets, &clients.browser);
    memory_is_closed(&scene);
    its_files_are_clean(&scene, &secrets);
    dies_without_a_dump(&mut scene);
    its_files_are_clean(&scene, &secrets);
}

/// What clients have in the end.
struct Clients {
    token: String,
    browser: Browser,
}

/// Every kind of client's credential, used: a token, a session password, an issuer's token, a browser's session.
fn used(scene: &Scene, secrets: &mut Secrets, ports: [u16; 2]) -> Clients {
    let mut browser = Browser::new();
    assert_eq!(browser.sign_in(&scene.site, "ann").status, 200);
    for cookie in browser.cookies.values().filter(|value| value.len() > 20) {
        secrets.add("a browser's session", cookie.as_bytes());
    }
    let csrf = browser.get(&scene.site).field("csrf");
    let page =
        browser.post(&format!("{}/passwords", scene.site), &[("csrf", &csrf), ("label", "x")]);
    let (_, rest) = page.body.split_once("rgs_").unwrap_or_else(|| panic!("{}", page.body));
    let password = format!("rgs_{}", rest.split('<').next().unwrap());
    let token = scene.stand.token("bot", "agents");
    let issued = scene.issuer.of_etl_bot().unwrap();
    for (name, user, secret) in [
        ("a session password", "ann", &password),
        ("a gateway token", "bot", &token),
        ("an issuer's token", "etl-bot", &issued),
    ] {
        secrets.add(name, secret.as_bytes());
        for port in [ports[0], ports[1], scene.stand.gateway.port] {
            let output = scene.query(port, user, secret, "SELECT COUNT(*) FROM orders");
            assert!(output.status.success(), "{name}: {}", errors(&output));
        }
    }
    let asks =
        format!("SELECT id FROM customers WHERE name = '{LITERAL}'; SELECT FROM WHERE '{LITERAL}'");
    scene.query(ports[0], "bot", &token, &asks);
    secrets.add("an issuer's signature", issued.rsplit('.').next().unwrap().as_bytes());
    for user in ["bot", "ann", "nobody"] {
        assert!(!scene.query(ports[0], user, MISTAKEN, "SELECT 1").status.success());
    }
    Clients { token, browser }
}

/// A client of a target whose password is changed under way: everything that it is sent.
fn clients_were_told_nothing(scene: &Scene, secrets: &Secrets, ports: [u16; 2], token: &str) {
    let asks = "SELECT name, ssn FROM customers WHERE id = 5; SELECT CURRENT_USER(); SHOW GRANTS; SHOW VARIABLES; \
                SHOW CREATE USER; SELECT nothing FROM nowhere; SHOW WARNINGS; SHOW PROCESSLIST";
    let talks = |port: u16| {
        let relay = Relay::to(port);
        let mut client = scene.stand.client("bot", token);
        client.arg(format!("--port={}", relay.port()));
        // In the clear, or nothing could be seen of it.
        client.arg(if scene.stand.flavour == Flavour::MySql {
            "--ssl-mode=DISABLED"
        } else {
            "--skip-ssl"
        });
        let output =
            client.args(["--batch", "--force", "--database=shop", "-e", asks]).output().unwrap();
        let all = [relay.received(), output.stdout, output.stderr].concat();
        secrets.are_not_in("what a client was sent", &all);
        all
    };
    for port in [ports[0], ports[1], scene.stand.gateway.port] {
        let all = String::from_utf8_lossy(&talks(port)).into_owned();
        assert!(all.contains(&xtask::shop::customer(5).name), "{all}");
    }
    // The database refuses the gateway: what it says of that is the gateway's to know.
    let change = format!("ALTER USER crm@'127.0.0.1' IDENTIFIED BY {}", quoted(NEXT));
    scene.stand.database.sql(&change).unwrap();
    assert!(!verb(&scene.stand, "", &["target", "check", "crm"]).status.success());
    talks(ports[0]);
    done(&scene.stand, NEXT, &["target", "rotate", "crm"]);
    let all = String::from_utf8_lossy(&talks(ports[0])).into_owned();
    assert!(all.contains(&xtask::shop::customer(5).name), "{all}");
}

/// Arguments and environment, of the gateway and of a verb while it waits for its input: both are others' to read.
fn no_process_shows(scene: &Scene, secrets: &Secrets) {
    let mut rotate = Command::new(binary());
    rotate
        .args(["target", "rotate", "crm"])
        .env("ROWGATE_CONFIG", scene.dir().join("rowgate.toml"));
    let mut rotate = rotate.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = rotate.stdin.take().unwrap();
    input.write_all(SEALED.as_bytes()).unwrap();
    input.flush().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let mut looked = 0;
    for pid in [rotate.id(), scene.pid()] {
        for file in ["cmdline", "environ"] {
            let place = format!("/proc/{pid}/{file}");
            match fs::read(&place) {
                Ok(bytes) => secrets.are_not_in(&place, &bytes),
                // Nobody but root reads that of the gateway.
                Err(_) if file == "environ" && pid == scene.pid() => continue,
                Err(error) => panic!("{place}: {error}"),
            }
            looked += 1;
        }
    }
    assert!(looked >= 3);
    // It starts no other process: none could inherit anything.
    for task in fs::read_dir(format!("/proc/{}/task", scene.pid())).unwrap() {
        let children =
            fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        assert_eq!(children, "", "the gateway has children");
    }
    drop(input);
    secrets.are_not_in("what rotate says", &rotate.wait_with_output().unwrap().stdout);
}

/// The API, whatever is asked; the verbs; the pages; the metrics.
fn the_way_out_is_clean(scene: &Scene, secrets: &Secrets, browser: &Browser) {
    let held = scene.stand.spawn_sql(
        "bot",
        &scene.stand.token("bot", "agents"),
        "CREATE TABLE t (id INT)",
    );
    let approval = scene.stand.pending();
    let document = fs::read_to_string(xtask::sh::root().join("docs/openapi.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        if methods.get("get").is_some() {
            let path = path.replace("{name}", "crm").replace("{id}", &approval);
            assert!(!path.contains('{'), "{path}: name one");
            let answer = scene.asked(&path, "");
            assert!(
                answer.starts_with(b"HTTP/1.1 200"),
                "{path}: {}",
                String::from_utf8_lossy(&answer)
            );
            secrets.are_not_in(&path, &answer);
            asked += 1;
        }
    }
    assert!(asked > 8, "{asked} paths");
    // What fails says no more than what works.
    let wrong = format!("{{\"password\": \"{NEXT}\", \"overlap_s\": \"{NEXT}\"}}");
    for (path, body) in [
        ("/v1/targets/crm/check", "{}"),
        ("/v1/targets/crm/rotate", &wrong),
        ("/v1/targets/crm/rotate", &wrong[..wrong.len() - 1]),
        ("/v1/targets", &wrong),
        ("/v1/key/rotate", "{}"),
    ] {
        secrets.are_not_in(path, &scene.asked(path, body));
    }
    for words in [
        &["target", "list"][..],
        &["target", "show", "crm"],
        &["target", "show", "erp"],
        &["target", "check", "crm"],
        &["target", "check", "erp"],
        &["status"],
        &["token", "list"],
        &["sessions", "list"],
        &["identity", "list"],
        &["approvals", "list"],
        &["audit", "tail", "-n", "100000"],
    ] {
        let words = [words, &["--output", "json"]].concat();
        let output = verb(&scene.stand, "", &words);
        assert!(output.status.success(), "{words:?}: {}", errors(&output));
        secrets.are_not_in(&words.join(" "), &[output.stdout, output.stderr].concat());
    }
    secrets.are_not_in("check", &verb(&scene.stand, "", &["check"]).stdout);
    secrets.are_not_in("metrics", scene.stand.gateway.get("/metrics").unwrap().1.as_bytes());
    pages_are_clean(scene, secrets, browser, &approval);
    done(&scene.stand, "", &["approvals", "deny", &approval, "--reason", "no"]);
    assert!(!held.wait_with_output().unwrap().status.success());
}

fn pages_are_clean(scene: &Scene, secrets: &Secrets, browser: &Browser, approval: &str) {
    let mut admin = Browser::new();
    admin.cookies = browser.cookies.clone();
    let approval = format!("/approvals/{approval}");
    for path in [
        "/",
        "/approvals",
        &approval,
        "/sessions",
        "/targets",
        "/identities",
        "/tokens",
        "/device",
        "/sign-in",
        "/signed-out",
        "/nowhere",
    ] {
        let page = admin.get(&format!("{}{path}", scene.site));
        assert_eq!(page.status == 404, path == "/nowhere", "{path}: {}", page.status);
        secrets.are_not_in(path, page.body.as_bytes());
    }
}

/// The log to the last trace, the record, the store with its journal, the configuration: all that it writes and reads.
fn its_files_are_clean(scene: &Scene, secrets: &Secrets) {
    let key = fs::read(scene.dir().join("master.key")).unwrap();
    let mut folders = vec![scene.dir().to_owned()];
    let mut seen = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() && !["erp", "pages"].contains(&name.as_str()) {
                let bytes = fs::read(&path).unwrap();
                secrets.are_not_in(&name, &bytes);
                let has_key = memchr::memmem::find(&bytes, key.trim_ascii()).is_some();
                assert_eq!(has_key, name == "master.key", "{name}");
                seen.push(name);
            }
        }
    }
    for wanted in ["rowgate.log", "rowgate.db", "rowgate.db-wal", "rowgate.toml"] {
        assert!(seen.iter().any(|name| name == wanted), "{wanted}: {seen:?}");
    }
    let log = scene.stand.gateway.log();
    assert!(log.contains("TRACE"));
    let customer = xtask::shop::customer(5);
    for value in [LITERAL, &customer.name, &customer.ssn] {
        let line = log.lines().find(|line| line.contains(value));
        assert_eq!(line, None, "a value is in the log");
    }
}

/// Its own user reads none of its memory, a core of it would have none, and the master key is in none of whatever kind.
fn memory_is_closed(scene: &Scene) {
    let pid = scene.pid();
    if !scene.is_others {
        return;
    }
    let mut control = as_other(&["sleep", "60"]).spawn().unwrap();
    let reads = |pid: u32, file: &str| {
        as_other(&["head", "-c1", &format!("/proc/{pid}/{file}")])
            .stderr(Stdio::null())
            .output()
            .unwrap()
    };
    wait_for("the control", || (reads(control.id(), "environ").stdout.len() == 1).then_some(()));
    for file in ["environ", "maps", "mem", "auxv", "syscall"] {
        assert!(!reads(pid, file).status.success(), "its user reads /proc/{pid}/{file}");
    }
    control.kill().unwrap();
    control.wait().unwrap();
    let filter = fs::read_to_string(format!("/proc/{pid}/coredump_filter")).unwrap();
    assert_eq!(u32::from_str_radix(filter.trim(), 16), Ok(0), "a core would hold its memory");
    // And were it another's filter: the key is on the one page that is left out whatever it says.
    let text = fs::read(scene.dir().join("master.key")).unwrap();
    let hex = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let key: Vec<u8> = text.trim_ascii().chunks_exact(2).map(hex).collect();
    let regions = regions(pid);
    let kept = Memory::of(pid, regions.iter().filter(|region| region.left_out));
    let dumped = Memory::of(pid, regions.iter().filter(|region| !region.left_out));
    assert!(kept.holds(&key), "the key is not found where it is");
    assert!(
        dumped.bytes() > 1 << 20 && dumped.holds(SERVICE_PASSWORD.as_bytes()),
        "nothing was read"
    );
    assert!(!dumped.holds(&key), "a dump would hold the master key");
    assert!(!dumped.holds(text.trim_ascii()), "a dump would hold the master key's text");
}

/// A crash leaves no core, even where its limit was raised from outside.
fn dies_without_a_dump(scene: &mut Scene) {
    let pid = scene.pid().to_string();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let both: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(both, ["0", "0"], "{core}");
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(cwd.canonicalize().unwrap(), scene.dir().canonicalize().unwrap());
    // Whoever may raise the limit from outside still gets none: the process is not dumpable. (Not by more: should this
    // fail, what it writes has an end.)
    let raised = Command::new("prlimit").args(["--core=16777216", "--pid", &pid]).output();
    if !raised.is_ok_and(|output| output.status.success()) {
        eprintln!("left out: the limit of a core can't be raised here");
    }
    scene.stand.gateway.signal("-ABRT").unwrap();
    wait_for("its end", || {
        (!scene.stand.gateway.get("/healthz").is_ok_and(|(s, _)| s == 200)).then_some(())
    });
    std::thread::sleep(Duration::from_millis(300));
    for entry in fs::read_dir(&cwd).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(!name.starts_with("core"), "{name} was dumped into {}", cwd.display());
    }
}
