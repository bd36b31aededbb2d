//! The client, `benches/load`, as a child that is led through its run in lines.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use xtask::sh;

use super::gauge;
use super::peers::Route;

/// A client that is logged in and waits.
pub(super) struct Load {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What the client measured, by name.
pub(super) struct Figures(BTreeMap<String, f64>);

impl Figures {
    pub(super) fn of(&self, name: &str) -> Result<f64> {
        self.0.get(name).copied().with_context(|| format!("the client gave no {name}"))
    }
}

/// Builds the client.
pub(super) fn build() -> Result<()> {
    sh::run_words(&["cargo", "build", "--release", "--package", "load"])
}

fn program() -> PathBuf {
    sh::target_dir().join("release/load")
}

impl Load {
    /// Starts a mode of the client against a route, and waits until it is warm.
    pub(super) fn start(route: &Route, words: &[String]) -> Result<Self> {
        let mut command = Command::new(program());
        command.args(words).arg(format!("port={}", route.port)).arg(format!("user={}", route.user));
        command.env("LOAD_PASSWORD", &route.password);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("the client's input")?;
        let output = BufReader::new(child.stdout.take().context("the client's output")?);
        let mut load = Self { child, input, output };
        load.until("ready")?;
        Ok(load)
    }

    /// Lets it run, and gives what it measured.
    pub(super) fn run(&mut self) -> Result<Figures> {
        self.nod()?;
        self.until("done")
    }

    /// Lets it end.
    pub(super) fn end(mut self) -> Result<()> {
        self.nod()?;
        ensure!(self.child.wait()?.success(), "the client failed at its end");
        Ok(())
    }

    fn nod(&mut self) -> Result<()> {
        self.input.write_all(b"\n").context("the client has ended")
    }

    fn until(&mut self, word: &str) -> Result<Figures> {
        let mut figures = BTreeMap::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                bail!("the client ended ({}) before {word:?}", self.child.wait()?);
            }
            let line = line.trim();
            if line == word {
                return Ok(Figures(figures));
            }
            let (name, value) = line.split_once(' ').with_context(|| format!("{line:?}"))?;
            figures.insert(name.to_owned(), value.parse()?);
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a mode against a route: what the client measured, and the CPU time that the route's proxy took meanwhile.
pub(super) fn measure(route: &Route, words: &[String]) -> Result<(Figures, f64)> {
    let mut load = Load::start(route, words)?;
    let before = route.pid.map_or(Ok(0.0), gauge::cpu)?;
    let figures = load.run()?;
    let cpu = route.pid.map_or(Ok(0.0), gauge::cpu)? - before;
    load.end()?;
    Ok((figures, cpu))
}
