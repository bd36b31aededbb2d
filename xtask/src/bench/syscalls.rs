//! `--syscalls`: which system calls a proxy makes for a round trip or a megabyte, counted by strace, and which operations
//! it gives to io_uring, counted by perf. A diagnosis, no measurement: both slow what they look at.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use xtask::{setup, sh};

use super::gauge;
use super::load::{Figures, Load};
use super::peers::Route;
use super::stand::Stand;
use super::workloads::{MASKED, PLAIN, THREADS, points, points_heading};

/// What is left out of the table: less than one in a hundred round trips or megabytes.
const RARE: f64 = 0.01;
/// The counters have attached to every thread after this.
const ATTACHED: Duration = Duration::from_secs(1);

/// The report.
pub(super) fn count(stand: &Stand, folder: &Path) -> Result<String> {
    setup::ensure(&[("strace", "strace")])?;
    let mut text = String::from("# System calls by route\n\n");
    for form in ["text", "prepared"] {
        for threads in THREADS {
            let heading = format!("{}: a round trip", points_heading(form, threads));
            let words = points(stand, form, threads);
            text.push_str(&table(stand, &heading, &words, "operations", 1.0, folder)?);
        }
    }
    for (heading, relation) in [(PLAIN, "plain"), (MASKED, "labelled")] {
        let words = ["stream".to_owned(), format!("statement=SELECT * FROM {relation}")];
        let heading = format!("{heading}: a megabyte");
        text.push_str(&table(stand, &heading, &words, "bytes", 1e6, folder)?);
    }
    Ok(text)
}

/// Calls for each `unit` of a figure of the client's.
fn table(
    stand: &Stand,
    heading: &str,
    words: &[String],
    figure: &str,
    unit: f64,
    folder: &Path,
) -> Result<String> {
    if !stand.wants(heading) {
        return Ok(String::new());
    }
    sh::step(heading);
    let mut text = format!("## {heading}\n\n| route | all | each |\n|---|---|---|\n");
    for route in stand.routes.iter().filter(|route| route.pid.is_some()) {
        let count = |counter: &mut Command| {
            beside(route, words, counter).and_then(|figures| Ok(figures.of(figure)? / unit))
        };
        let calls = strace(route, folder, count)?;
        let all: f64 = calls.values().sum();
        let _ = writeln!(text, "| {} | {all:.2} | {} |", route.name, shown(&calls));
        match uring(route, folder, count) {
            Ok(operations) if !operations.is_empty() => {
                let all: f64 = operations.values().sum();
                let shown = shown(&operations);
                let _ = writeln!(text, "| {}, io_uring | {all:.2} | {shown} |", route.name);
            }
            Ok(_) => {}
            Err(error) => println!("    io_uring is not counted: {error:#}"),
        }
    }
    text.push('\n');
    Ok(text)
}

fn shown(calls: &BTreeMap<String, f64>) -> String {
    let mut calls: Vec<_> = calls.iter().filter(|(_, count)| **count >= RARE).collect();
    calls.sort_by(|a, b| b.1.total_cmp(a.1));
    let calls = calls.iter().map(|(name, count)| format!("{name} {count:.2}"));
    calls.collect::<Vec<_>>().join(", ")
}

/// System calls by name, divided by what `count` gives.
fn strace(
    route: &Route,
    folder: &Path,
    count: impl Fn(&mut Command) -> Result<f64>,
) -> Result<BTreeMap<String, f64>> {
    let file = folder.join("strace");
    let mut command = Command::new("strace");
    command.args(["-c", "-f", "-o"]).arg(&file);
    for pid in gauge::family(route.pid.context("a proxy")?) {
        command.arg("-p").arg(pid.to_string());
    }
    let count = count(&mut command)?;
    let text = fs::read_to_string(&file)?;
    let calls = text.lines().filter_map(|line| {
        // `% time, seconds, usecs/call, calls, errors (may be missing), syscall`
        let words: Vec<&str> = line.split_whitespace().collect();
        let calls: f64 = words.get(3)?.parse().ok()?;
        let name = words.last().filter(|name| **name != "total")?;
        Some(((*name).to_owned(), calls / count))
    });
    Ok(calls.collect())
}

/// Operations given to io_uring by name, divided by what `count` gives.
fn uring(
    route: &Route,
    folder: &Path,
    count: impl Fn(&mut Command) -> Result<f64>,
) -> Result<BTreeMap<String, f64>> {
    setup::ensure(&[("perf", "linux-perf")])?;
    let file = folder.join("perf.data");
    let mut command = Command::new("perf");
    command.args(["record", "-q", "-m", "4096", "-e", "io_uring:io_uring_submit_req", "-o"]);
    command.arg(&file);
    let pids = gauge::family(route.pid.context("a proxy")?);
    let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>();
    command.arg("-p").arg(pids.join(","));
    let count = count(&mut command)?;
    let mut script = Command::new("perf");
    script.args(["script", "-F", "trace", "-i"]).arg(&file);
    let output = sh::capture(&mut script)?;
    let mut operations: BTreeMap<String, f64> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        // `ring …, req …, user_data …, opcode RECV, flags …`
        let name = line.split("opcode ").nth(1).and_then(|rest| rest.split([',', ' ']).next());
        *operations.entry(name.unwrap_or("?").to_owned()).or_default() += 1.0 / count;
    }
    Ok(operations)
}

/// Runs the client while `counter` looks at the proxy.
fn beside(route: &Route, words: &[String], counter: &mut Command) -> Result<Figures> {
    let mut load = Load::start(route, words)?;
    counter.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut counter = Counter(counter.spawn().context("starting the counter")?);
    std::thread::sleep(ATTACHED);
    let figures = load.run()?;
    counter.end()?;
    load.end()?;
    Ok(figures)
}

struct Counter(Child);

impl Counter {
    fn end(&mut self) -> Result<()> {
        sh::capture(Command::new("kill").arg("-INT").arg(self.0.id().to_string()))?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
