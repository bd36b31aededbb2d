//! The record under kill -9, under edits, and as auditors ask it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder};
use rowgate::audit::read::Folder;
use rowgate::record::{Recorded, RecordedIntent};
use xtask::gateway::{Gateway, Options};

use crate::stand::{Database, Flavour, Stand, binary, wait_for};

/// Kills in the test suite; `ROWGATE_KILLS` says another number.
const KILLS: u32 = 10;
const CLIENTS: u64 = 4;
/// Everyone may do everything, and nothing is labelled: a start compiles no plugin.
const PERMIT: &str = "@id(\"all\")\npermit (principal, action, resource);\n";

/// Numbers that differ from run to run; a run's first one is printed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A client that sends statements of its own names, each time anew when its connection is lost, and writes down whose
/// result it saw.
fn client(
    number: u64,
    port: u16,
    token: String,
    folder: &Path,
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
) -> JoinHandle<()> {
    let mut log = File::create(folder.join(format!("seen-{number}"))).unwrap();
    let options = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some("bot"))
        .pass(Some(token))
        .db_name(Some("shop"))
        .prefer_socket(Some(false))
        .max_allowed_packet(Some(1 << 24))
        .wait_timeout(Some(600))
        .stmt_cache_size(Some(0));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut at = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let Ok(mut connection) = runtime.block_on(Conn::new(options.clone())) else {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            while !stop.load(Ordering::Relaxed) {
                at += 1;
                let mark = format!("m_{number}_{at}_");
                let answer: Result<Option<u64>, _> = runtime.block_on(async {
                    match at % 3 {
                        0 => {
                            let sql =
                                format!("INSERT INTO marks (w, n) SELECT {number} AS {mark}, {at}");
                            connection.query_drop(sql).await.map(|()| Some(at))
                        }
                        1 => connection.query_first(format!("SELECT {at} AS {mark}")).await,
                        _ => connection.exec_first(format!("SELECT {at} AS {mark}"), ()).await,
                    }
                });
                match answer {
                    Ok(value) => {
                        assert_eq!(value, Some(at), "{mark}");
                        writeln!(log, "{mark}").unwrap();
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) => break,
                }
            }
        }
    })
}

/// The marks of all statements whose result a client saw.
fn seen(folder: &Path) -> Vec<String> {
    let logs = (0..CLIENTS).map(|number| folder.join(format!("seen-{number}")));
    logs.flat_map(|log| {
        let text = fs::read_to_string(log).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    })
    .collect()
}

/// The marks of the statements that ran, by the record.
fn recorded(dir: &Path) -> HashSet<String> {
    let mut marks = HashSet::new();
    for found in Folder::new(dir).records().unwrap() {
        if let Recorded::Intent(RecordedIntent { text, command, .. }) = found.unwrap().record.event
            && command != "prepare"
            && let Some(at) = text.find("m_")
        {
            let mark = text[at..].split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).next();
            marks.extend(mark.map(str::to_owned));
        }
    }
    marks
}

fn permissive(folder: &Path, change: impl FnOnce(&mut Options)) -> (Database, Gateway) {
    let database = Database::start(Flavour::MariaDb, folder, &[]);
    database.sql("CREATE TABLE shop.marks (w BIGINT, n BIGINT)").unwrap();
    let mut options = Options::new(database.port());
    (options.labels, options.plugins) = (String::new(), String::new());
    change(&mut options);
    let dir = folder.join("gateway");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("policy.cedar"), PERMIT).unwrap();
    let gateway = Gateway::start(&binary(), &dir, &options).unwrap();
    (database, gateway)
}

#[test]
fn whatever_a_client_saw_is_in_the_record_whenever_the_gateway_is_killed() {
    let kills = std::env::var("ROWGATE_KILLS").ok().map_or(KILLS, |n| n.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (database, mut gateway) = permissive(folder.path(), |_| {});
    let token = gateway.token("bot", "agents").unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = u64::try_from(now.as_micros()).unwrap() | 1;
    eprintln!("{kills} kills, dice {seed}");
    let mut dice = Dice(seed);
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            client(number, gateway.port, token.clone(), folder.path(), stop, count)
        })
        .collect();
    for kill in 0..kills {
        // under load: so many answers since the last start, then some time
        let (before, more) = (count.load(Ordering::Relaxed), 1 + dice.below(300));
        wait_for("the load", || (count.load(Ordering::Relaxed) >= before + more).then_some(()));
        std::thread::sleep(Duration::from_micros(dice.below(30_000)));
        gateway.kill().unwrap();
        gateway.start_again().unwrap_or_else(|error| panic!("after kill {kill}: {error}"));
    }
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let report = gateway.cli_ok(&["audit", "verify"]).unwrap();
    gateway.terminate().unwrap();
    let (seen, recorded) = (seen(folder.path()), recorded(&gateway.dir().join("audit")));
    let missing: Vec<_> = seen.iter().filter(|mark| !recorded.contains(*mark)).collect();
    assert!(
        missing.is_empty(),
        "dice {seed}: {} of {} lost: {missing:?}",
        missing.len(),
        seen.len()
    );
    let written = database.sql("SELECT COUNT(*) FROM shop.marks").unwrap();
    eprintln!(
        "{} results seen, {} statements recorded, {} rows written; {report}",
        seen.len(),
        recorded.len(),
        written.trim()
    );
    assert!(seen.len() > kills as usize);
    gateway.cli_ok(&["audit", "verify"]).unwrap();
}

/// The segments of a record.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "rgseg"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn auditors_find_what_was_done_and_who_signed_it() {
    let stand = Stand::start();
    let token = stand.token("bot", "agents");
    stand.sql_ok("bot;run=42", &token, "SELECT ssn FROM customers WHERE id = 9");
    stand.sql_refused("bot", &token, "SELECT nothing FROM nowhere");
    let cli = |words: &[&str]| stand.gateway.cli_ok(&[&["audit"], words].concat()).unwrap();
    let refused = |words: &[&str], said: &[&str]| {
        let output = stand.gateway.cli(&[&["audit"], words].concat()).unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.lines().count() == 1, "{words:?}: {error}");
        for word in said {
            assert!(error.contains(word), "{words:?}: {error}");
        }
    };
    let line = cli(&["search", "--table", "customers", "--verb", "select", "--since", "1h"]);
    assert!(line.contains("ssn") && line.contains("1 rows") && line.lines().count() == 1, "{line}");
    let found = cli(&["search", "--run", "42", "--table", "shop.customers", "--output", "json"]);
    let found: serde_json::Value = serde_json::from_str(found.trim()).unwrap();
    assert_eq!((&found["identity"], &found["completion"]["rows"]), (&"bot".into(), &1.into()));
    let error = cli(&["search", "--error", "any", "--identity", "bot"]);
    assert!(error.contains("nowhere") && error.contains("error 1"), "{error}");
    assert_eq!(cli(&["search", "--until", "1h"]), "");
    let (session, number) = (&found["session"], &found["statement"]);
    let all = cli(&["show", &session.to_string()]);
    assert!(all.contains("opened") && all.contains("run=42") && all.contains("closed"), "{all}");
    let one = cli(&["show", &format!("{session}#{number}")]);
    assert_eq!(one, line);
    refused(&["show", "1"], &["no record of session 1"]);
    refused(&["show", "x"], &["SESSION", "session's id"]);
    refused(&["search", "--since", "yesterday"], &["--since", "7d"]);
    refused(&["search", "--since", "1h", "--until", "2h"], &["--until"]);
    // the key
    let key = cli(&["key"]);
    cli(&["verify", "--key", key.trim()]);
    let beside = stand.gateway.dir().join("audit-signing.key.pub");
    assert_eq!(fs::read_to_string(&beside).unwrap(), key);
    cli(&["verify", "--key", beside.to_str().unwrap()]);
    refused(&["verify", "--key", "ed25519:12"], &["--key", "rowgate audit key"]);
    // (a checkpoint is due a minute after the first record, and at the end)
    let mut stand = stand;
    stand.gateway.terminate().unwrap();
    let other = format!("ed25519:{}", "ab".repeat(32));
    let refused = stand.gateway.cli(&["audit", "verify", "--key", &other]).unwrap();
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("0000000001.rgseg") && error.contains("byte"), "{error}");
    let report = stand.gateway.cli_ok(&["audit", "verify", "--signed"]).unwrap();
    assert!(report.contains(key.trim()) && report.contains(" 0 records behind it"), "{report}");
    assert_eq!(segments(&stand.gateway.dir().join("audit")).len(), 1);
}
