//! What a statement costs in system calls once a session is warm: it is read and written on either side, the worker waits
//! for what is to be read, and nothing else is asked of the kernel: no timer, no wake of another thread.
//!
//! strace counts the calls of the worker's thread; what that thread gives to io_uring is in the ring's own counters.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder};
use xtask::sh;

use crate::stand::{Stand, wait_for};

/// Statements that are counted over: what the clock alone brings is little beside them, and so is a packet that comes in
/// two parts.
const STATEMENTS: u32 = 2_000;

/// How much of a call each statement may have on top.
const SLACK: f64 = 0.1;

/// Ticks of the worker, at each of which it wakes and waits again.
const TICKS_A_SECOND: f64 = 10.0;

/// What was counted over [`STATEMENTS`].
struct Counted {
    /// Calls by name.
    calls: BTreeMap<String, f64>,
    /// Those that gave nothing: there was nothing to read.
    empty: f64,
    /// Operations that the ring was given, if there is one: all of them are reads.
    submitted: Option<f64>,
    took: Duration,
}

impl Counted {
    /// Calls with one of these names, each statement.
    fn of(&self, names: &[&str]) -> f64 {
        let count = |name: &&str| self.calls.get(*name).copied().unwrap_or(0.0);
        names.iter().map(count).sum::<f64>() / f64::from(STATEMENTS)
    }

    /// Reads and writes are two each. The worker waits once for each read at the most, which is where epoll also looks in
    /// vain, once for each.
    fn hold(&self, told: &str) {
        let each = |count: f64| count / f64::from(STATEMENTS);
        let (waits, empty) = (self.of(&WAITS), each(self.empty));
        // On a machine that is busy with other things there are many of these to a statement.
        let ticks = each(self.took.as_secs_f64() * TICKS_A_SECOND);
        let reads = match self.submitted {
            Some(submitted) => {
                assert!(self.of(&READS) + empty < SLACK + ticks, "the ring is not used: {told}");
                each(submitted)
            }
            None => self.of(&READS) - empty,
        };
        let is = |count: f64, wanted: f64| (count - wanted).abs() < SLACK;
        assert!(is(reads, 2.0), "reads: {told}");
        assert!(is(self.of(&WRITES), 2.0), "writes: {told}");
        assert!(waits < 2.0 + SLACK + ticks && empty < 2.0 + SLACK + ticks, "waits: {told}");
        let all = each(self.calls.values().sum());
        // Memory that was freed goes back to the system by the clock.
        let freed = self.of(&["madvise"]);
        let others = all - self.of(&READS) - self.of(&WRITES) - waits - freed;
        assert!(others < SLACK && freed < 0.5, "what else: {told}");
    }
}

const READS: [&str; 5] = ["read", "readv", "recvfrom", "recvmsg", "recvmmsg"];
const WRITES: [&str; 5] = ["write", "writev", "sendto", "sendmsg", "sendmmsg"];
const WAITS: [&str; 3] = ["epoll_wait", "epoll_pwait", "io_uring_enter"];

/// strace on one thread.
struct Strace {
    child: Child,
    summary: PathBuf,
}

impl Strace {
    /// `None` where this process may not look at another.
    fn attach(thread: u32, folder: &Path) -> Option<Self> {
        let summary = folder.join("strace");
        let mut strace = Command::new("strace");
        strace.args(["-c", "-o"]).arg(&summary).arg("-p").arg(thread.to_string());
        let mut child = strace.stderr(Stdio::piped()).spawn().expect("strace is installed");
        let mut said = String::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        lines.read_line(&mut said).unwrap();
        if !said.contains("attached") {
            child.wait().unwrap();
            eprintln!("LEFT OUT: strace may not look at a process here: {}", said.trim());
            return None;
        }
        Some(Self { child, summary })
    }

    /// Calls by name, and how many failed.
    fn end(mut self) -> (BTreeMap<String, f64>, f64) {
        sh::capture(Command::new("kill").arg("-INT").arg(self.child.id().to_string())).unwrap();
        self.child.wait().unwrap();
        let text = fs::read_to_string(&self.summary).unwrap();
        let mut errors = 0.0;
        let mut calls = BTreeMap::new();
        for line in text.lines() {
            // `% time, seconds, usecs/call, calls, errors (may be missing), syscall`
            let words: Vec<&str> = line.split_whitespace().collect();
            let (Some(Ok(count)), Some(name)) = (words.get(3).map(|w| w.parse()), words.last())
            else {
                continue;
            };
            if *name == "total" {
                continue;
            }
            if words.len() == 6 {
                errors += words[4].parse::<f64>().unwrap();
            }
            calls.insert((*name).to_owned(), count);
        }
        assert!(!calls.is_empty(), "strace counted nothing: {text}");
        (calls, errors)
    }
}

/// The thread of the one worker.
fn worker_thread(pid: u32) -> u32 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let is_worker = |task: &PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "worker-0")
    };
    let task = tasks.map(|task| task.path()).find(is_worker).unwrap();
    task.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// Operations that the kernel has taken from the worker's ring so far; `None`: there is no ring.
fn submitted(pid: u32) -> Option<u32> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let mut rings = descriptors.filter(|fd| {
        fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().contains("[io_uring]"))
    });
    let ring = rings.next()?.file_name();
    assert!(rings.next().is_none(), "one worker has one ring");
    let path = format!("/proc/{pid}/fdinfo/{}", ring.to_string_lossy());
    // (The kernel leaves them out while the ring is busy.)
    Some(wait_for("the ring's counters", || {
        let text = fs::read_to_string(&path).unwrap();
        let head = text.lines().find_map(|line| line.strip_prefix("SqHead:"))?;
        head.trim().parse().ok()
    }))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

async fn connect(stand: &Stand, token: &str) -> Conn {
    let options = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(stand.gateway.port)
        .user(Some("bot"))
        .pass(Some(token))
        .db_name(Some("shop"))
        .prefer_socket(Some(false))
        .max_allowed_packet(Some(1 << 24))
        .wait_timeout(Some(600));
    Conn::new(options).await.unwrap()
}

const PLAIN: &str = "SELECT id, amount_cents FROM payments WHERE id = 7";
const MASKED: &str = "SELECT id, email FROM customers WHERE id = 7";
const PREPARED: &str = "SELECT id, amount_cents FROM payments WHERE id = ?";

/// Runs a statement so many times, one after another.
async fn run(conn: &mut Conn, statement: &str, times: u32) {
    if statement != PREPARED {
        for _ in 0..times {
            conn.query_drop(statement).await.unwrap();
        }
        return;
    }
    let prepared = conn.prep(statement).await.unwrap();
    for _ in 0..times {
        conn.exec_drop(&prepared, (7,)).await.unwrap();
    }
}

/// Counts over [`STATEMENTS`] on so many connections at once. `None` where nothing can be counted.
fn count(stand: &Stand, token: &str, statement: &'static str, connections: u32) -> Option<Counted> {
    let pid = stand.gateway.pid();
    let thread = worker_thread(pid);
    block_on(async {
        let mut conns = Vec::new();
        for _ in 0..connections {
            let mut conn = connect(stand, token).await;
            run(&mut conn, statement, 100).await;
            conns.push(conn);
        }
        let strace = Strace::attach(thread, stand.folder.path())?;
        let (before, began) = (submitted(pid), Instant::now());
        let each = STATEMENTS / connections;
        let mut tasks = tokio::task::JoinSet::new();
        let local = tokio::task::LocalSet::new();
        for mut conn in conns {
            tasks.spawn_local_on(
                async move {
                    run(&mut conn, statement, each).await;
                    conn
                },
                &local,
            );
        }
        // (They end after the counting.)
        let conns = local.run_until(tasks.join_all()).await;
        let (after, took) = (submitted(pid), began.elapsed());
        let (calls, empty) = strace.end();
        drop(conns);
        let submitted = before.zip(after).map(|(before, after)| after.wrapping_sub(before).into());
        Some(Counted { calls, empty, submitted, took })
    })
}

/// Every kind of statement, at one connection and at many.
fn a_statement_is_read_and_written_twice(driver: &str) {
    let stand = Stand::with(|options| {
        driver.clone_into(&mut options.driver);
        options.workers = 1;
        "async".clone_into(&mut options.durability);
        // A look at the schema would be counted too.
        options.catalog_refresh_s = 3_600;
    });
    let token = stand.token("bot", "agents");
    for statement in [PLAIN, MASKED, PREPARED] {
        for connections in [1, 8] {
            let Some(counted) = count(&stand, &token, statement, connections) else { return };
            let told = format!(
                "{driver}, {STATEMENTS} times over {connections} connections, {statement}: {:?}, of which {} gave \
                 nothing; the ring had {:?}",
                counted.calls, counted.empty, counted.submitted,
            );
            eprintln!("{told}");
            counted.hold(&told);
        }
    }
}

#[test]
fn a_statement_is_read_and_written_twice_on_epoll() {
    a_statement_is_read_and_written_twice("epoll");
}

#[test]
fn a_statement_is_read_and_written_twice_on_the_best_driver() {
    a_statement_is_read_and_written_twice("auto");
}
