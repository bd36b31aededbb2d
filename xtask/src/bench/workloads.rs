//! What is measured. Each workload visits the routes in another order each repetition, so that a machine that is busy
//! for a while is busy for all of them.

use anyhow::{Context as _, Result};
use xtask::sh::step;

use super::book::{Column, DIRECT, OTHER, OWN, Table};
use super::gauge;
use super::load::{self, Load};
use super::peers::Route;
use super::stand::{POINT_ROWS, Stand, cores};

pub(super) const THREADS: [u32; 3] = [1, 8, 64];
/// Ten short columns: the database sends 16 KiB at a time.
const SHORT_ROWS: &str = "SELECT * FROM plain";
const MASKED_ROWS: &str = "SELECT * FROM labelled";
/// Of 48 KB each: the database makes them and sends them with less work than a proxy has, and in large pieces.
const WIDE_ROWS: &str = "SELECT REPEAT(c0, 3000) FROM plain LIMIT 2000";
/// Of queries beside the streams of [`MIXED`].
const BESIDE: u32 = 16;
const STREAMS: u32 = 4;
/// Threads that connect and close.
const CYCLERS: u32 = 8;

/// Names of figures.
pub(super) const CPU: &str = "CPU µs";
pub(super) const CPU_GB: &str = "CPU s/GB";
pub(super) const RATE: &str = "per second";
pub(super) const P50: &str = "p50 µs";
pub(super) const P99: &str = "p99 µs";
pub(super) const MEMORY: &str = "KiB a connection";
pub(super) const WORST: &str = "worst core ÷ mean";

const OPERATIONS: [Column; 4] =
    [Column::new(RATE, 0), Column::new(P50, 1), Column::new(P99, 1), Column::compared(CPU, 2)];
const HANDSHAKES: [Column; 5] = [
    Column::new(RATE, 0),
    Column::new(P50, 1),
    Column::new(P99, 1),
    Column::new(CPU, 2),
    // Whether the figure is of what its heading says.
    Column::new("resumed %", 0),
];
const BYTES: [Column; 2] = [Column::new("MB/s", 0), Column::compared(CPU_GB, 3)];
const BOTH: [Column; 4] = [
    Column::new("queries/s", 0),
    Column::new("MB/s", 0),
    Column::new(P50, 0),
    Column::compared(P99, 0),
];
const HELD: [Column; 1] = [Column::compared(MEMORY, 2)];
const SPREAD: [Column; 2] = [Column::new(RATE, 0), Column::new(WORST, 2)];

/// Headings that requirements look up.
pub(super) const PLAIN: &str = "Stream, nothing masked";
pub(super) const SEVERAL: &str = "Stream, 4 at once";
pub(super) const WIDE: &str = "Stream of wide rows";
pub(super) const SEVERAL_WIDE: &str = "Stream of wide rows, 4 at once";
pub(super) const MASKED: &str = "Stream, 2 of 10 columns masked";
pub(super) const MIXED: &str = "16 connections of point selects beside 4 streams";
pub(super) const CYCLES: &str = "Connect, log in, one query, close";
pub(super) const FULL: &str = "The same over TLS, whole handshake";
pub(super) const RESUMED: &str = "The same over TLS, session resumed";
pub(super) const TLS_STREAM: &str = "Stream over TLS";
pub(super) const IDLE: &str = "Idle connections, logged in";
pub(super) const SKEW: &str = "64 threads over 2 cores";

pub(super) fn points_heading(form: &str, threads: u32) -> String {
    format!("Point select, {form}, {threads} threads")
}

/// Runs every workload that is wanted.
pub(super) fn all(stand: &Stand) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for form in ["text", "prepared"] {
        for threads in THREADS {
            let words = points(stand, form, threads);
            let heading = points_heading(form, threads);
            tables.extend(operations(stand, &heading, &words, |_| true)?);
        }
    }
    tables.extend(stream(stand, PLAIN, &[SHORT_ROWS, "1", "none"], |_| true)?);
    tables.extend(stream(stand, SEVERAL, &[SHORT_ROWS, "4", "none"], |_| true)?);
    tables.extend(stream(stand, WIDE, &[WIDE_ROWS, "1", "none"], |_| true)?);
    tables.extend(stream(stand, SEVERAL_WIDE, &[WIDE_ROWS, "4", "none"], |_| true)?);
    tables.extend(stream(stand, MASKED, &[MASKED_ROWS, "1", "none"], |_| true)?);
    tables.extend(mixed(stand)?);
    for (heading, tls) in [(CYCLES, "none"), (FULL, "full"), (RESUMED, "resumed")] {
        let words =
            ["cycles".to_owned(), format!("threads={CYCLERS}"), CYCLING.to_owned(), tls_word(tls)];
        tables
            .extend(operations(stand, heading, &words, |route| tls == "none" || ends_tls(route))?);
    }
    tables.extend(stream(stand, TLS_STREAM, &[SHORT_ROWS, "1", "full"], ends_tls)?);
    tables.extend(idle(stand)?);
    tables.extend(skew(stand)?);
    Ok(tables)
}

/// The words of the client for point selects.
pub(super) fn points(stand: &Stand, form: &str, threads: u32) -> Vec<String> {
    vec![
        "points".to_owned(),
        format!("threads={threads}"),
        format!("prepared={}", form == "prepared"),
        format!("rows={POINT_ROWS}"),
        seconds(stand),
    ]
}

/// A connection's port stays taken for a second, and connecting takes its time once 14,000 are: who connects 20,000 times a
/// second can't for longer.
const CYCLING: &str = "seconds=0.5";

fn seconds(stand: &Stand) -> String {
    format!("seconds={}", stand.plan.seconds)
}

fn tls_word(kind: &str) -> String {
    format!("tls={kind}")
}

/// A relay of TCP passes TLS on to the database and has no part in it.
fn ends_tls(route: &Route) -> bool {
    [DIRECT, OWN, OTHER, "mysqlrouter"].contains(&route.name)
}

fn operations(
    stand: &Stand,
    heading: &str,
    words: &[String],
    takes_part: impl Fn(&Route) -> bool,
) -> Result<Option<Table>> {
    let columns: &[Column] = if heading.contains("TLS") { &HANDSHAKES } else { &OPERATIONS };
    repeat(stand, Table::new(heading, columns), takes_part, |route| {
        let (figures, cpu) = load::measure(route, words)?;
        let count = figures.of("operations")?;
        let rate = count / figures.of("seconds")?;
        let resumed = 100.0 * figures.of("resumed")? / count;
        Ok(vec![rate, figures.of("p50_us")?, figures.of("p99_us")?, cpu * 1e6 / count, resumed])
    })
}

/// Reads what a statement gives on so many connections, in such a kind of TLS.
fn stream(
    stand: &Stand,
    heading: &str,
    [statement, connections, tls]: &[&str; 3],
    takes_part: impl Fn(&Route) -> bool,
) -> Result<Option<Table>> {
    let words = [
        "stream".to_owned(),
        format!("threads={connections}"),
        format!("statement={statement}"),
        format!("times={}", stand.plan.stream_times),
        tls_word(tls),
    ];
    repeat(stand, Table::new(heading, &BYTES), takes_part, |route| {
        let (figures, cpu) = load::measure(route, &words)?;
        let bytes = figures.of("bytes")?;
        Ok(vec![bytes / 1e6 / figures.of("stream_seconds")?, cpu / (bytes / 1e9)])
    })
}

/// Rows are wide, so that the proxy is what the queries wait for. On one core: on two, what wakes the other counts more.
fn mixed(stand: &Stand) -> Result<Option<Table>> {
    let words = [
        "mixed".to_owned(),
        format!("threads={BESIDE}"),
        format!("streams={STREAMS}"),
        format!("rows={POINT_ROWS}"),
        format!("statement={WIDE_ROWS}"),
        seconds(stand),
    ];
    repeat(
        stand,
        Table::new(MIXED, &BOTH),
        |_| true,
        |route| {
            let (figures, _) = load::measure(route, &words)?;
            let queries = figures.of("operations")? / figures.of("seconds")?;
            let bytes = figures.of("bytes")? / 1e6 / figures.of("stream_seconds")?;
            Ok(vec![queries, bytes, figures.of("p50_us")?, figures.of("p99_us")?])
        },
    )
}

/// Memory is compared on processes that have done nothing before.
fn idle(stand: &Stand) -> Result<Vec<Table>> {
    let many = stand.plan.idle;
    let few = many.div_ceil(5);
    let mut tables = Vec::new();
    for (heading, count, queries, tls) in [
        (format!("{IDLE} ({many})"), many, 0, "none"),
        (format!("Idle connections, in a database, after a query each ({few})"), few, 1, "none"),
        (format!("Idle connections, logged in over TLS ({few})"), few, 0, "full"),
    ] {
        if !stand.wants(&heading) {
            continue;
        }
        step(&heading);
        let mut table = Table::new(&heading, &HELD);
        for name in stand.names() {
            let proxy = stand.proxy(name, 1)?;
            let route = proxy.route();
            if tls != "none" && !ends_tls(&route) {
                continue;
            }
            let words = [
                "idle".to_owned(),
                format!("threads={count}"),
                format!("first={}", count / 3),
                format!("times={queries}"),
                // One named at login binds a connection to the database already.
                format!("database={}", if queries > 0 { "bench" } else { "" }),
                tls_word(tls),
            ];
            let held = held(&route, &words, count - count / 3);
            table.note(route.name, &[held.with_context(|| format!("measuring {name}"))?]);
        }
        tables.push(table);
    }
    Ok(tables)
}

/// KiB of a connection: what the last two thirds add, since the first find room that the start has left.
fn held(route: &Route, words: &[String], count: u32) -> Result<f64> {
    let pid = route.pid.context("a proxy")?;
    let mut load = Load::start(route, words)?;
    let before = gauge::memory(pid)?;
    load.run()?;
    let after = gauge::memory(pid)?;
    load.end()?;
    Ok((after - before) / 1024.0 / f64::from(count))
}

/// CPU time of the busiest thread over the mean of the two busiest, of proxies with two.
fn skew(stand: &Stand) -> Result<Option<Table>> {
    if cores() < 2 || !stand.wants(SKEW) {
        return Ok(None);
    }
    step(SKEW);
    let mut table = Table::new(SKEW, &SPREAD);
    stand.unpinned(|| {
        for _ in 0..stand.plan.rounds {
            for name in stand.names() {
                let proxy = stand.proxy(name, 2)?;
                let route = proxy.route();
                let pid = route.pid.context("a proxy")?;
                let mut load = Load::start(&route, &points(stand, "text", 64))?;
                let before = gauge::threads(pid)?;
                let figures = load.run()?;
                let after = gauge::threads(pid)?;
                load.end()?;
                let spent = |(thread, now): (&u32, &f64)| now - before.get(thread).unwrap_or(&0.0);
                let mut spent: Vec<f64> = after.iter().map(spent).collect();
                spent.sort_by(|a, b| b.total_cmp(a));
                let [worst, second, ..] = spent.as_slice() else { continue };
                let rate = figures.of("operations")? / figures.of("seconds")?;
                table.note(route.name, &[rate, 2.0 * worst / (worst + second)]);
            }
        }
        Ok(())
    })?;
    Ok(Some(table))
}

/// Visits the routes in rotated order.
fn repeat(
    stand: &Stand,
    mut table: Table,
    takes_part: impl Fn(&Route) -> bool,
    run: impl Fn(&Route) -> Result<Vec<f64>>,
) -> Result<Option<Table>> {
    if !stand.wants(&table.heading) {
        return Ok(None);
    }
    step(&table.heading);
    let routes: Vec<&Route> = stand.routes.iter().filter(|route| takes_part(route)).collect();
    for round in 0..stand.plan.rounds {
        for at in 0..routes.len() {
            let route = routes[(at + round) % routes.len()];
            let figures = run(route).with_context(|| format!("measuring {}", route.name))?;
            table.note(route.name, &figures);
        }
    }
    print!("{}", table.render(&routes.iter().map(|route| route.name).collect::<Vec<_>>()));
    Ok(Some(table))
}
