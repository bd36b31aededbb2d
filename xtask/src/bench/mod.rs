//! `cargo xtask bench`: the same work against the database directly, through other proxies and through Rowgate, in one
//! run, with the CPU time that each proxy's process spent.
//!
//! Method, so that figures hold on a noisy machine: database, client and proxy share one core; routes are visited in
//! rotated order, several times; medians; ratios are of figures of one repetition. The client is `benches/load`.

mod book;
mod gauge;
mod load;
mod peers;
mod requirements;
mod stand;
mod syscalls;
mod workloads;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use xtask::setup;
use xtask::sh::{self, step};

use crate::plugins;
use book::{DIRECT, Table, quoted};
use stand::Stand;

/// How the benchmark runs.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Everything on core 0.
    pin: bool,
    /// Of each run that takes a time.
    seconds: f64,
    /// Repetitions.
    rounds: usize,
    /// How often a stream is read for one figure.
    stream_times: u32,
    /// Connections at rest.
    idle: u32,
    /// This binary instead of one built now.
    binary: Option<PathBuf>,
    /// A second build of Rowgate, beside the first.
    other: Option<PathBuf>,
    /// Rowgate's.
    driver: String,
    /// Only these proxies of others, by name; all if empty.
    peers: String,
    /// Only measurements whose heading contains this.
    only: String,
    /// Counts system calls instead.
    syscalls: bool,
    /// Prints JSON at the end instead of the tables.
    json: bool,
}

impl Plan {
    /// From the words after `bench`.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut plan = Self {
            pin: true,
            seconds: 3.0,
            rounds: 5,
            stream_times: 4,
            idle: 9_000,
            binary: None,
            other: None,
            driver: "auto".to_owned(),
            peers: String::new(),
            only: String::new(),
            syscalls: false,
            json: false,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match *word {
                "--no-pin" => plan.pin = false,
                "--quick" => {
                    (plan.seconds, plan.rounds, plan.stream_times, plan.idle) = (1.0, 2, 1, 1_000);
                }
                "--seconds" => plan.seconds = value()?.parse().context("--seconds: a number")?,
                "--rounds" => plan.rounds = value()?.parse().context("--rounds: a number")?,
                "--binary" => plan.binary = Some(value()?.into()),
                "--other" => plan.other = Some(value()?.into()),
                "--driver" => (*value()?).clone_into(&mut plan.driver),
                "--peers" => (*value()?).clone_into(&mut plan.peers),
                "--only" => (*value()?).clone_into(&mut plan.only),
                "--syscalls" => plan.syscalls = true,
                "--output" => plan.json = *value()? == "json",
                other => bail!("unknown option {other:?} of bench; `cargo xtask help` shows them"),
            }
        }
        Ok(plan)
    }
}

/// Runs everything and writes `target/bench/report.md` and `report.json`.
pub(crate) fn bench(plan: &Plan) -> Result<()> {
    setup::ensure(&setup::DATABASE)?;
    plugins::build()?;
    load::build()?;
    if plan.binary.is_none() {
        step("building rowgate (release profile)");
        sh::run_words(&["cargo", "build", "--release", "--bin", "rowgate"])?;
    }
    let folder = sh::target_dir().join("bench");
    let work = folder.join(format!("run-{}", std::process::id()));
    fs::create_dir_all(&work)?;
    let outcome = run(&work, plan.clone());
    if outcome.is_ok() {
        fs::remove_dir_all(&work)?;
    }
    let (report, json) = outcome?;
    let name = if plan.syscalls { "syscalls" } else { "report" };
    let file = folder.join(name).with_extension("md");
    fs::write(&file, &report)?;
    fs::write(file.with_extension("json"), &json)?;
    println!("{}\nwritten to {}", if plan.json { json } else { report }, file.display());
    Ok(())
}

fn run(work: &std::path::Path, plan: Plan) -> Result<(String, String)> {
    let stand = Stand::start(work, plan)?;
    if stand.plan.syscalls {
        return Ok((syscalls::count(&stand, work)?, "[]".to_owned()));
    }
    let tables = workloads::all(&stand)?;
    let list = requirements::all(&tables);
    let mut report = head(&stand);
    let order = [&[DIRECT][..], &stand.names()].concat();
    for table in &tables {
        report.push_str(&table.render(&order));
    }
    report.push_str(&masking(&tables));
    report.push_str(&requirements::render(&list));
    let left_out: Vec<String> = stand.left_out.iter().map(|text| quoted(text)).collect();
    let figures: Vec<String> = tables.iter().map(Table::json).collect();
    let json = format!(
        "{{\"figures\":[\n{}\n],\n\"requirements\":[\n{}\n],\n\"left_out\":[{}]}}\n",
        figures.join(",\n"),
        requirements::json(&list),
        left_out.join(",")
    );
    Ok((report, json))
}

fn head(stand: &Stand) -> String {
    let plan = &stand.plan;
    let pinned = if plan.pin { "pinned to one core" } else { "not pinned" };
    let mut text = format!(
        "# Rowgate beside direct and other proxies\n\nDatabase, client and proxy {pinned}; {} repetitions in rotated \
         order; medians; ratios of figures of one repetition, with their smallest and largest. Rowgate: default policy \
         bundle, audit on (async; database and record are in memory), plugins loaded.\n\n",
        plan.rounds
    );
    for left_out in &stand.left_out {
        let _ = writeln!(text, "Left out: {left_out}\n");
    }
    text
}

fn masking(tables: &[Table]) -> String {
    let of = |heading: &str| {
        let table = tables.iter().find(|table| table.heading == heading)?;
        table.median(book::OWN, workloads::CPU_GB)
    };
    match (of(workloads::MASKED), of(workloads::PLAIN)) {
        (Some(masked), Some(plain)) => format!(
            "Masking 2 of 10 columns costs {:.2} × the CPU of the unmasked stream.\n\n",
            masked / plain
        ),
        _ => String::new(),
    }
}
