//! What a worker asks its allocator for: nothing for a row, nothing for a statement in the steady state, and little for a
//! session that waits.
//!
//! The gateway runs in this process, over a real database, on an allocator that counts what worker 0 does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder};
use tempfile::TempDir;
use xtask::gateway::Options;
use xtask::{mariadb, shop};

/// Counts for one thread: the worker's.
struct Counting;

/// The thread that counts; 0: none yet.
static WORKER: AtomicU64 = AtomicU64::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

fn counts() -> bool {
    let own = THREAD.try_with(|own| {
        if own.get() == 0 {
            // SAFETY: it takes nothing and can't fail.
            own.set(u64::try_from(unsafe { libc::gettid() }).unwrap_or(0));
        }
        own.get()
    });
    own.is_ok_and(|own| own == WORKER.load(Ordering::Relaxed))
}

fn size(layout: Layout) -> i64 {
    i64::try_from(layout.size()).unwrap_or(i64::MAX)
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if counts() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            LIVE.fetch_add(size(layout), Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if counts() {
            LIVE.fetch_sub(size(layout), Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A gateway in this process.
struct Stand {
    port: u16,
    token: String,
    _database: mariadb::Server,
    _folder: TempDir,
}

fn start() -> Stand {
    let folder = tempfile::tempdir().unwrap();
    let database = mariadb::Server::start(&folder.path().join("mariadb"), &[]).unwrap();
    database.load(&shop::write_sql(folder.path()).unwrap()).unwrap();
    database.add_service_account().unwrap();
    let dir = folder.path().join("gateway");
    let (port, admin_port) = (mariadb::free_port().unwrap(), mariadb::free_port().unwrap());
    let mut options = Options::new(database.port());
    options.workers = 1;
    "async".clone_into(&mut options.durability);
    // Looks at the schema would be counted too.
    options.catalog_refresh_s = 3_600;
    xtask::gateway::prepare(&dir, port, admin_port, &options).unwrap();
    let file = give_password(&dir);
    let served = file.clone();
    std::thread::spawn(move || rowgate::gateway::run(&served).unwrap());
    let created = ["token", "create", "--identity", "bot", "--group", "agents", "--config"];
    let token = until(|| {
        let binary = env!("CARGO_BIN_EXE_rowgate");
        let made = Command::new(binary).args(created).arg(&file).output().unwrap();
        let told = String::from_utf8(made.stdout).unwrap();
        told.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
    });
    until(|| std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    let worker = until(worker_thread);
    WORKER.store(worker, Ordering::Relaxed);
    Stand { port, token, _database: database, _folder: folder }
}

/// The gateway's password in a file: this process's environment is not changed.
fn give_password(dir: &Path) -> PathBuf {
    let file = dir.join("rowgate.toml");
    let secret = dir.join("password");
    std::fs::write(&secret, xtask::mariadb::SERVICE_PASSWORD).unwrap();
    std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("env:ROWGATE_DEMO_PASSWORD", &format!("file:{}", secret.display()));
    std::fs::write(&file, text).unwrap();
    file
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_mins(1), "the gateway does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn worker_thread() -> Option<u64> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    threads.map(|thread| thread.path()).find_map(|thread| {
        let name = std::fs::read_to_string(thread.join("comm")).ok()?;
        let id = thread.file_name()?.to_str()?.parse().ok()?;
        (name.trim() == "worker-0").then_some(id)
    })
}

impl Stand {
    async fn connect(&self, database: Option<&str>) -> Conn {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .user(Some("bot"))
            .pass(Some(&self.token))
            .db_name(database)
            .prefer_socket(Some(false))
            // Otherwise it asks for them at once.
            .max_allowed_packet(Some(1 << 24))
            .wait_timeout(Some(600));
        Conn::new(options).await.unwrap()
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

/// Allocations of the worker while `work` runs.
async fn allocations(work: impl AsyncFnOnce()) -> u64 {
    // what came before may still be on its way through the worker
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// The timers of the worker's ticks, over the time that a test takes.
const TICKS: u64 = 100;

/// One test, since all count on one thread, and what it starts must end with it.
#[test]
fn a_worker_asks_for_little() {
    let stand = start();
    a_session_that_waits_is_small(&stand);
    a_statement_allocates_nothing(&stand);
    a_row_allocates_nothing(&stand);
}

fn a_statement_allocates_nothing(stand: &Stand) {
    block_on(async {
        let mut conn = stand.connect(Some("shop")).await;
        let text = "SELECT id, amount_cents FROM payments WHERE id = 7";
        let prepared =
            conn.prep("SELECT id, amount_cents FROM payments WHERE id = ?").await.unwrap();
        for _ in 0..200 {
            conn.query_drop(text).await.unwrap();
            conn.exec_drop(&prepared, (7,)).await.unwrap();
        }
        let by_text = allocations(async || {
            for _ in 0..1_000 {
                conn.query_drop(text).await.unwrap();
            }
        });
        let by_text = by_text.await;
        let executed = allocations(async || {
            for _ in 0..1_000 {
                conn.exec_drop(&prepared, (7,)).await.unwrap();
            }
        });
        let executed = executed.await;
        let mut texts: Vec<String> =
            (1..=1_200).map(|id| text.replace('7', &id.to_string())).collect();
        let measured = texts.split_off(200);
        for text in texts {
            conn.query_drop(text).await.unwrap();
        }
        let by_form = allocations(async || {
            for text in measured {
                conn.query_drop(text).await.unwrap();
            }
        });
        let by_form = by_form.await;
        eprintln!(
            "allocations of 1,000 statements: {by_text} as text, {by_form} as ever new ones, \
             {executed} prepared"
        );
        assert!(by_text < TICKS, "{by_text}");
        assert!(by_form < TICKS, "{by_form}");
        assert!(executed < TICKS, "{executed}");
    });
}

fn a_row_allocates_nothing(stand: &Stand) {
    block_on(async {
        let mut conn = stand.connect(Some("shop")).await;
        let (plain, masked) = (
            "SELECT p.id, p.amount_cents FROM payments p, orders o WHERE o.id < 50",
            "SELECT c.id, c.email FROM customers c, orders o WHERE o.id < 50",
        );
        for text in [plain, masked] {
            let rows: Vec<mysql_async::Row> = conn.query(text).await.unwrap();
            let rows = u64::try_from(rows.len()).unwrap();
            conn.query_drop(text).await.unwrap();
            let counted = allocations(async || conn.query_drop(text).await.unwrap()).await;
            eprintln!("allocations of {rows} rows of {text}: {counted}");
            // What is masked goes to its plugin in batches, each of which may cost a few.
            assert!(rows > 50_000 && counted < rows / 50, "{counted} of {rows}: {text}");
        }
        let counted = allocations(async || conn.query_drop(plain).await.unwrap()).await;
        assert!(counted < TICKS, "{counted}: {plain}");
    });
}

fn a_session_that_waits_is_small(stand: &Stand) {
    const SESSIONS: i64 = 60;
    block_on(async {
        let mut waiting = Vec::new();
        let mut each = Vec::new();
        for _ in 0..7 {
            let before = LIVE.load(Ordering::Relaxed);
            for _ in 0..SESSIONS {
                waiting.push(stand.connect(Some("shop")).await);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            each.push((LIVE.load(Ordering::Relaxed) - before) / SESSIONS);
        }
        // The tables that sessions are in grow by doubling, now and then: that falls into one of the batches.
        each.sort_unstable();
        eprintln!("bytes of an idle session, in batches of {SESSIONS}: {each:?}");
        assert!(each[3] <= 2_560, "{each:?}");
        drop(waiting);
    });
}
