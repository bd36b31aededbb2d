//! `cargo xtask bench`: the same work against the database directly, through HAProxy and through Rowgate, in
//! one run, with the CPU time that each proxy's process spent.
//!
//! Method, so that figures hold on a noisy machine: with `--pin`, database, client and proxy share one core;
//! targets are visited in rotated order; three repetitions; medians; ratios are of figures of one repetition.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use xtask::gateway::{Gateway, Options};
use xtask::mariadb::{self, Server};
use xtask::setup;
use xtask::sh::{self, step};

use crate::plugins;

const REPETITIONS: usize = 3;
const THREADS: [u32; 3] = [1, 8, 64];
const TABLE_ROWS: u32 = 100_000;
const STREAM_ROWS: u32 = 1_000_000;
/// A stream is read so many times for one figure, since CPU time comes in steps of 10 ms.
const STREAM_TIMES: u32 = 4;

/// How the benchmark runs.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Everything on core 0.
    pub pin: bool,
    /// Seconds of each point-select run.
    pub seconds: u32,
    /// This binary instead of one built now.
    pub binary: Option<PathBuf>,
    /// Only measurements whose heading contains this.
    pub only: String,
}

/// Runs everything and writes `target/bench/report.md`.
pub(crate) fn bench(plan: Plan) -> Result<()> {
    setup::ensure(&setup::DATABASE)?;
    setup::ensure(&setup::BENCH)?;
    plugins::build()?;
    if plan.binary.is_none() {
        step("building rowgate (release profile)");
        sh::run_words(&["cargo", "build", "--release", "--bin", "rowgate"])?;
    }
    let folder = sh::target_dir().join("bench");
    let work = folder.join(format!("run-{}", std::process::id()));
    fs::create_dir_all(&work)?;
    let outcome = Stand::start(&work, plan).and_then(|stand| stand.measure());
    if outcome.is_ok() {
        fs::remove_dir_all(&work)?;
    }
    let report = outcome?;
    let file = folder.join("report.md");
    fs::write(&file, &report)?;
    println!("{report}\nwritten to {}", file.display());
    Ok(())
}

/// One thing that a client can connect to.
struct Route {
    name: &'static str,
    port: u16,
    user: String,
    password: String,
    /// The proxy's process; none for the direct route.
    pid: Option<u32>,
}

struct Stand {
    plan: Plan,
    routes: Vec<Route>,
    _database: Server,
    _gateway: Gateway,
    _haproxy: Owned,
}

struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What one run measured.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// CPU µs a query, or CPU s a GB.
    cpu: f64,
}

impl Stand {
    fn start(work: &Path, plan: Plan) -> Result<Self> {
        step("starting MariaDB, HAProxy and Rowgate");
        if plan.pin {
            // Children inherit the affinity: database, proxies and clients share core 0.
            let pid = std::process::id().to_string();
            sh::capture(Command::new("taskset").args(["-a", "-p", "-c", "0", &pid]))?;
        }
        let database = Server::start(&work.join("mariadb"), &[])?;
        database.add_service_account()?;
        load_tables(&database, work)?;
        let mut options = Options::new(database.port());
        options.workers = 1;
        "async".clone_into(&mut options.durability);
        options.labels.push_str(
            "\n[[labels]]\nname = \"bench\"\ncolumns = [\"bench.labelled.c1\", \"bench.labelled.c2\"]\n",
        );
        let dir = work.join("gateway");
        fs::create_dir_all(&dir)?;
        let policy = fs::read_to_string(sh::root().join("policies/default.cedar"))?;
        fs::write(dir.join("policy.cedar"), policy + BENCH_RULE)?;
        let built = sh::target_dir().join("release/rowgate");
        let binary = plan.binary.clone().unwrap_or(built);
        let gateway = Gateway::start(&binary, &dir, &options)?;
        let token = gateway.token("bench", "agents")?;
        let (haproxy, haproxy_port) = haproxy(work, database.port())?;
        let direct = |name, port, pid| Route {
            name,
            port,
            user: mariadb::SERVICE_USER.to_owned(),
            password: mariadb::SERVICE_PASSWORD.to_owned(),
            pid,
        };
        let routes = vec![
            direct("direct", database.port(), None),
            direct("HAProxy", haproxy_port, Some(haproxy.0.id())),
            Route {
                name: "Rowgate",
                port: gateway.port,
                user: "bench".to_owned(),
                password: token,
                pid: Some(gateway.pid()),
            },
        ];
        Ok(Self { plan, routes, _database: database, _gateway: gateway, _haproxy: haproxy })
    }

    fn measure(&self) -> Result<String> {
        let mut report = String::from("# Rowgate beside direct and HAProxy (TCP)\n\n");
        let pinned = if self.plan.pin { "pinned to one core" } else { "not pinned" };
        let _ = writeln!(
            report,
            "Database, client and proxy {pinned}; {REPETITIONS} repetitions in rotated order; medians. \
             Rowgate: default policy bundle, audit on (async), plugins loaded.\n"
        );
        for (title, mode) in [("text", "disable"), ("prepared", "auto")] {
            for threads in THREADS {
                let heading = format!("Point select, {title}, {threads} threads");
                if !heading.contains(&self.plan.only) {
                    continue;
                }
                step(&heading);
                let figures = self.repeat(|route| self.point_select(route, mode, threads))?;
                table(&mut report, &heading, "CPU µs/query", "queries/s", &figures);
            }
        }
        let mut streams = Vec::new();
        for (title, relation) in
            [("nothing masked", "plain"), ("2 of 10 columns masked", "labelled")]
        {
            let heading = format!("Stream of {STREAM_ROWS} rows of 10 columns, {title}");
            if !heading.contains(&self.plan.only) {
                continue;
            }
            step(&heading);
            let figures = self.repeat(|route| stream(route, relation))?;
            table(&mut report, &heading, "CPU s/GB", "MB/s", &figures);
            let rowgate = figures.get("Rowgate").into_iter().flatten();
            streams.push(median(rowgate.map(|run| run.cpu).collect()));
        }
        if let [unmasked, masked] = streams.as_slice() {
            let _ = writeln!(
                report,
                "Masking 2 of 10 columns costs {:.2} × the unmasked stream.\n",
                masked / unmasked
            );
        }
        Ok(report)
    }

    /// Visits the routes in rotated order; for each route, the figures of every repetition.
    fn repeat(
        &self,
        run: impl Fn(&Route) -> Result<Figures>,
    ) -> Result<BTreeMap<&'static str, Vec<Figures>>> {
        let mut all: BTreeMap<&'static str, Vec<Figures>> = BTreeMap::new();
        for repetition in 0..REPETITIONS {
            for at in 0..self.routes.len() {
                let route = &self.routes[(at + repetition) % self.routes.len()];
                let figures = run(route).with_context(|| format!("measuring {}", route.name))?;
                all.entry(route.name).or_default().push(figures);
            }
        }
        Ok(all)
    }

    fn point_select(&self, route: &Route, ps_mode: &str, threads: u32) -> Result<Figures> {
        let before = cpu_seconds(route)?;
        let mut sysbench = Command::new("sysbench");
        sysbench.args(["oltp_point_select", "--db-driver=mysql", "--mysql-host=127.0.0.1"]);
        sysbench.arg(format!("--mysql-port={}", route.port));
        sysbench.arg(format!("--mysql-user={}", route.user));
        sysbench.arg(format!("--mysql-password={}", route.password));
        sysbench.args(["--mysql-db=bench", "--tables=1", "--histogram=on", "--percentile=99"]);
        sysbench.arg(format!("--table-size={TABLE_ROWS}")).arg(format!("--threads={threads}"));
        sysbench.arg(format!("--time={}", self.plan.seconds));
        sysbench.arg(format!("--db-ps-mode={ps_mode}")).arg("run");
        let output = sh::capture(&mut sysbench)?;
        let cpu = cpu_seconds(route)? - before;
        let text = String::from_utf8_lossy(&output.stdout);
        let queries =
            number_after(&text, "total:").context("no query count in sysbench's report")?;
        let seconds = number_after(&text, "total time:").context("no time in sysbench's report")?;
        Ok(Figures {
            per_second: queries / seconds,
            p50_ms: percentile(&text, 0.5),
            p99_ms: percentile(&text, 0.99),
            cpu: cpu * 1e6 / queries,
        })
    }
}

/// A mask for the two labelled columns of the benchmark's table.
const BENCH_RULE: &str = r#"
@id("bench-mask")
@mask("keep-last:4")
@message("masked for the benchmark")
forbid (principal, action == Action::"reveal", resource)
when { resource.labels.contains("bench") };
"#;

fn load_tables(database: &Server, work: &Path) -> Result<()> {
    let socket = work.join("mariadb/mysqld.sock");
    database.sql("CREATE DATABASE bench")?;
    let mut prepare = Command::new("sysbench");
    prepare.args(["oltp_point_select", "--db-driver=mysql", "--mysql-user=root", "--tables=1"]);
    prepare.arg(format!("--mysql-socket={}", socket.display()));
    prepare.arg(format!("--table-size={TABLE_ROWS}")).args(["--mysql-db=bench", "prepare"]);
    sh::capture(&mut prepare)?;
    let columns: Vec<String> = (0..10).map(|at| format!("c{at} VARCHAR(32) NOT NULL")).collect();
    let values: Vec<String> =
        (0..10).map(|at| format!("CONCAT('value-{at}-', LPAD(seq, 8, '0'))")).collect();
    for relation in ["plain", "labelled"] {
        database.sql(&format!(
            "CREATE TABLE bench.{relation} ({}); \
             INSERT INTO bench.{relation} SELECT {} FROM bench.seq_1_to_{STREAM_ROWS}",
            columns.join(", "),
            values.join(", "),
        ))?;
    }
    Ok(())
}

fn haproxy(work: &Path, database: u16) -> Result<(Owned, u16)> {
    let port = mariadb::free_port()?;
    let file = work.join("haproxy.cfg");
    let text = format!(
        "global\n  nbthread 1\n  maxconn 2000\ndefaults\n  mode tcp\n  timeout connect 5s\n  \
         timeout client 300s\n  timeout server 300s\nlisten db\n  bind 127.0.0.1:{port}\n  \
         server db 127.0.0.1:{database}\n"
    );
    fs::write(&file, text)?;
    let program = sh::find_program("haproxy").context("haproxy is missing")?;
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(&file).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = Owned(command.spawn().context("starting haproxy")?);
    std::thread::sleep(std::time::Duration::from_millis(500));
    Ok((child, port))
}

/// Streams a whole table with the stock client, thrown away as it comes.
fn stream(route: &Route, relation: &str) -> Result<Figures> {
    let before = cpu_seconds(route)?;
    let start = Instant::now();
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--quick", "--batch"]);
    client.arg(format!("--port={}", route.port)).arg(format!("--user={}", route.user));
    client.env("MYSQL_PWD", &route.password);
    let statement = format!("SELECT * FROM bench.{relation};");
    client.arg("-e").arg(statement.repeat(STREAM_TIMES as usize));
    let mut child = client.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("the client's output")?;
    let bytes = std::io::copy(&mut output, &mut std::io::sink())?;
    ensure!(child.wait()?.success(), "the stream's client failed");
    let seconds = start.elapsed().as_secs_f64();
    // What the client printed is the payload without the four header bytes of each row: close enough for a
    // ratio, since every route is divided by the same.
    #[allow(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
    let bytes = bytes as f64;
    let cpu = cpu_seconds(route)? - before;
    Ok(Figures {
        per_second: bytes / 1e6 / seconds,
        cpu: cpu / (bytes / 1e9),
        ..Figures::default()
    })
}

/// User and system time of the route's proxy, all threads, in steps of 10 ms; 0 for the direct route.
fn cpu_seconds(route: &Route) -> Result<f64> {
    let Some(pid) = route.pid else { return Ok(0.0) };
    let text = fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat")))?;
    let after = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / 100.0)
}

fn number_after(text: &str, label: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.trim_start().starts_with(label))?;
    let word = line.split(':').nth(1)?.trim().trim_end_matches('s');
    word.parse().ok()
}

/// A percentile from sysbench's histogram: lines of `value |*** count`.
fn percentile(text: &str, wanted: f64) -> f64 {
    let buckets: Vec<(f64, f64)> = text
        .lines()
        .filter(|line| line.contains('|'))
        .filter_map(|line| {
            let (value, rest) = line.split_once('|')?;
            Some((value.trim().parse().ok()?, rest.split_whitespace().last()?.parse().ok()?))
        })
        .collect();
    let all: f64 = buckets.iter().map(|(_, count)| count).sum();
    let mut seen = 0.0;
    for (value, count) in buckets {
        seen += count;
        if seen >= all * wanted {
            return value;
        }
    }
    0.0
}

fn table(
    report: &mut String,
    heading: &str,
    cpu_unit: &str,
    rate_unit: &str,
    figures: &BTreeMap<&'static str, Vec<Figures>>,
) {
    let _ = writeln!(report, "## {heading}\n");
    let _ = writeln!(report, "| route | {rate_unit} | p50 ms | p99 ms | {cpu_unit} | × HAProxy |");
    let _ = writeln!(report, "|---|---|---|---|---|---|");
    let base = figures.get("HAProxy").cloned().unwrap_or_default();
    for route in ["direct", "HAProxy", "Rowgate"] {
        let Some(runs) = figures.get(route) else { continue };
        let of = |pick: fn(&Figures) -> f64| median(runs.iter().map(pick).collect());
        let ratios = runs.iter().zip(&base).filter(|(_, base)| base.cpu > 0.0);
        let ratio = median(ratios.map(|(run, base)| run.cpu / base.cpu).collect());
        let _ = writeln!(
            report,
            "| {route} | {:.0} | {:.2} | {:.2} | {:.2} | {ratio:.2} |",
            of(|f| f.per_second),
            of(|f| f.p50_ms),
            of(|f| f.p99_ms),
            of(|f| f.cpu),
        );
    }
    report.push('\n');
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
