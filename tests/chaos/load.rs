//! Mixed load by mysql_async, without end, for `cargo xtask chaos`: every row carries its session's marker, and every error
//! is told. The lines on its output are those of `xtask/src/chaos/load.py`. It ends when its input does.

#![allow(clippy::print_stdout, reason = "its lines are its result")]

use std::cell::Cell;
use std::io::Read as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Opts, OptsBuilder, Row, Value};

/// Errors after which the gateway closes the session (3100: in mid result).
const ENDS: [u16; 6] = [1053, 1158, 1317, 1429, 1835, 3100];

type Result<T> = std::result::Result<T, Error>;

/// How one session goes about.
struct Load {
    options: Opts,
    patience: Duration,
    stop: Arc<AtomicBool>,
    right: Rc<Cell<u64>>,
    /// Of a xorshift: what happens differs from task to task.
    random: Cell<u64>,
    /// For messages.
    doing: Cell<&'static str>,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, token, name, tasks, patience] = words.as_slice() else {
        println!("x port, token, name, tasks and patience are wanted");
        return;
    };
    let number = |word: &String| word.parse::<u64>().unwrap_or(1);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stopped.store(true, Ordering::Relaxed);
    });
    let options: Opts = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(u16::try_from(number(port)).unwrap_or(0))
        .user(Some("agent"))
        .pass(Some(token.as_str()))
        .db_name(Some("shop"))
        .prefer_socket(Some(false))
        .into();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    let right = Rc::new(Cell::new(0));
    let local = tokio::task::LocalSet::new();
    let mut running = Vec::new();
    for task in 0..number(tasks) {
        let load = Load {
            options: options.clone(),
            patience: Duration::from_secs(number(patience)),
            stop: Arc::clone(&stop),
            right: Rc::clone(&right),
            random: Cell::new(0x9E37_79B9_7F4A_7C15 ^ (u64::from(std::process::id()) << 20 | task)),
            doing: Cell::new("nothing"),
        };
        running.push(local.spawn_local(load.go_on(format!("{name}-{task}"))));
    }
    local.spawn_local(async move {
        let mut told = 0;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            println!("n {}", right.get() - told);
            told = right.get();
        }
    });
    local.block_on(&runtime, async move {
        for task in running {
            let _ = task.await;
        }
    });
}

impl Load {
    fn below(&self, limit: u64) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        (x >> 16) % limit
    }

    async fn go_on(self, name: String) {
        let mut number = 0_u32;
        while !self.stop.load(Ordering::Relaxed) {
            number += 1;
            let mark = format!("{name}-{number}");
            // A session takes many statements: each has its patience.
            let patience = self.patience * 30;
            match tokio::time::timeout(patience, self.session(&mark)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    self.tell(&error);
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                Err(_) => println!("x hung: {mark}"),
            }
        }
    }

    async fn session(&self, mark: &str) -> Result<()> {
        self.doing.set("a login");
        let mut db = self.bounded(Conn::new(self.options.clone())).await?;
        self.begin(&mut db, mark).await?;
        for _ in 0..3 + self.below(25) {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let done = self.bounded(self.something(&mut db, mark)).await;
            match done {
                Err(Error::Server(error)) if !ENDS.contains(&error.code) => {
                    println!("e {} {}", error.code, error.message.replace('\n', " "));
                    self.bounded(db.query_drop("ROLLBACK")).await?;
                }
                done => done?,
            }
            tokio::time::sleep(Duration::from_millis(self.below(30))).await;
        }
        // Sometimes it just lets go.
        self.doing.set("the end");
        if self.below(4) > 0 { self.bounded(db.disconnect()).await } else { Ok(()) }
    }

    async fn bounded<T>(&self, wait: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(self.patience, wait).await.unwrap_or_else(|_| {
            println!("x hung: no answer");
            Err(Error::Other("hung".into()))
        })
    }

    async fn begin(&self, db: &mut Conn, mark: &str) -> Result<()> {
        let left: Option<Option<String>> = db.query_first("SELECT @mark").await?;
        if left != Some(None) {
            println!("x a variable of {mark}: {left:?}");
        }
        db.query_drop(format!("SET @mark = '{mark}'")).await
    }

    async fn something(&self, db: &mut Conn, mark: &str) -> Result<()> {
        let low = 1 + self.below(1_900);
        let what = self.below(10);
        self.doing.set(
            [
                "masked",
                "masked",
                "masked",
                "masked",
                "a stream",
                "long",
                "a transaction",
                "a reset",
                "denied",
                "text",
            ][usize::try_from(what).unwrap_or(0)],
        );
        match what {
            0..4 => {
                // More statements than one, so that some are prepared while others wait.
                let sql = format!(
                    "SELECT ?, id, ssn, {} FROM customers WHERE id BETWEEN ? AND ?",
                    low % 7
                );
                let rows: Vec<Row> = db.exec(sql, (mark, low, low + 20)).await?;
                self.check(&rows, mark, 21, true);
            }
            4 => {
                let sql = "SELECT ?, a.id, a.ssn FROM customers a JOIN orders b ON b.id < ?";
                let rows: Vec<Row> = db.exec(sql, (mark, 6)).await?;
                self.check(&rows, mark, 10_000, true);
            }
            5 => {
                let long = "z".repeat(if low.is_multiple_of(5) { 4 << 20 } else { 5_000 });
                let rows: Vec<Row> = db.exec("SELECT ?, LENGTH(?)", (mark, &long)).await?;
                self.check(&rows, mark, 1, false);
            }
            6 => {
                db.query_drop("BEGIN").await?;
                db.exec_drop("UPDATE orders SET total_cents = ? WHERE id = ?", (low, low)).await?;
                let sql = "SELECT @mark, total_cents FROM orders WHERE id = ?";
                let rows: Vec<Row> = db.exec(sql, (low,)).await?;
                self.check(&rows, mark, 1, false);
                if rows.first().and_then(|row| row.get::<u64, _>(1)) != Some(low) {
                    println!("x a transaction of {mark}: {rows:?}");
                }
                db.query_drop("ROLLBACK").await?;
            }
            7 => {
                db.reset().await?;
                self.begin(db, mark).await?;
            }
            8 => db.exec_drop("SELECT id FROM customers WHERE ssn = ?", ("1",)).await?,
            _ => {
                let rows: Vec<Row> =
                    db.query(format!("SELECT @mark, id FROM orders WHERE id < {low}")).await?;
                self.check(&rows, mark, usize::try_from(low).unwrap_or(0) - 1, false);
            }
        }
        Ok(())
    }

    fn check(&self, rows: &[Row], mark: &str, count: usize, masked: bool) {
        self.right.set(self.right.get() + 1);
        if rows.len() != count {
            println!("x {} rows instead of {count}, of {mark}", rows.len());
        }
        for row in rows {
            if row.as_ref(0) != Some(&Value::Bytes(mark.as_bytes().to_vec())) {
                println!("x a row of {mark}: {row:?}");
            }
            if masked && row.as_ref(2) != Some(&Value::Bytes(b"[redacted]".to_vec())) {
                println!("x not masked: {row:?}");
            }
        }
    }

    fn tell(&self, error: &Error) {
        match error {
            Error::Server(error) => {
                println!("e {} {}", error.code, error.message.replace('\n', " "));
            }
            Error::Io(error) => println!("e 2013 {error} (in {})", self.doing.get()),
            Error::Driver(mysql_async::DriverError::ConnectionClosed) => {
                println!("e 2013 closed (in {})", self.doing.get());
            }
            Error::Other(error) => println!("e -1 {error}"),
            other => println!("x {other}"),
        }
    }
}
