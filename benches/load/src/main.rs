//! The client of `cargo xtask bench`: one blocking connection a thread, as most drivers are, and as little work of its
//! own as can be, so that what is measured is the proxy.
//!
//! `load MODE key=value…`, the password in LOAD_PASSWORD. It talks to its parent in lines: `ready` once everybody is
//! logged in and warm, figures as `name value`, `done`; after `ready` and `done` it waits for a line on its input, so
//! that the parent reads the proxies' CPU time and memory at the right moments.

#![allow(clippy::print_stdout, reason = "the parent reads it")]

mod modes;
mod tls;
mod wire;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Says what went wrong and ends the process, whatever its threads are at.
fn fail(error: &anyhow::Error) -> ! {
    let _ = writeln!(std::io::stderr(), "load: {error:#}");
    std::process::exit(1)
}

fn run() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (mode, settings) = words.split_first().context("a mode is missing")?;
    let settings = Settings::parse(settings)?;
    match mode.as_str() {
        "points" => modes::points(&settings),
        "stream" => modes::stream(&settings),
        "mixed" => modes::mixed(&settings),
        "cycles" => modes::cycles(&settings),
        "idle" => modes::idle(&settings),
        other => bail!("no mode {other:?}: points, stream, mixed, cycles or idle"),
    }
}

/// What the command line says.
struct Settings {
    login: wire::Login,
    threads: usize,
    /// Connections of streams beside those of point selects.
    streams: usize,
    /// Connections at rest that are open before the rest.
    first: usize,
    seconds: f64,
    prepared: bool,
    /// Rows of the table that point selects look in.
    rows: u32,
    /// What a stream reads, so many times.
    statement: String,
    times: u32,
}

impl Settings {
    fn parse(words: &[String]) -> Result<Self> {
        let mut settings = Self {
            login: wire::Login {
                port: 3306,
                user: String::new(),
                password: std::env::var("LOAD_PASSWORD").unwrap_or_default(),
                database: "bench".to_owned(),
                tls: None,
            },
            threads: 1,
            streams: 0,
            first: 0,
            seconds: 1.0,
            prepared: false,
            rows: 100_000,
            statement: String::new(),
            times: 1,
        };
        for word in words {
            let (key, value) = word.split_once('=').with_context(|| format!("{word:?}"))?;
            match key {
                "port" => settings.login.port = value.parse()?,
                "user" => value.clone_into(&mut settings.login.user),
                "database" => value.clone_into(&mut settings.login.database),
                "tls" => settings.login.tls = tls::Tls::named(value)?,
                "threads" => settings.threads = value.parse()?,
                "streams" => settings.streams = value.parse()?,
                "first" => settings.first = value.parse()?,
                "seconds" => settings.seconds = value.parse()?,
                "prepared" => settings.prepared = value.parse()?,
                "rows" => settings.rows = value.parse()?,
                "statement" => value.clone_into(&mut settings.statement),
                "times" => settings.times = value.parse()?,
                other => bail!("no setting {other:?}"),
            }
        }
        ensure!(settings.threads > 0 && settings.rows > 0, "threads and rows are at least 1");
        Ok(settings)
    }
}

/// Says a word and waits until the parent has answered with a line.
fn rendezvous(word: &str) -> Result<()> {
    println!("{word}");
    std::io::stdout().flush()?;
    let read = std::io::stdin().read_line(&mut String::new())?;
    ensure!(read > 0, "the parent is gone");
    Ok(())
}

/// Tells the parent a figure.
fn figure(name: &str, value: impl std::fmt::Display) {
    println!("{name} {value}");
}
