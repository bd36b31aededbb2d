//! The clients: processes that load the gateway, are killed, and are started anew; and what they tell.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use xtask::sh;

/// A statement that has no answer after so long hangs: longer than the keepalive takes that finds a peer gone.
pub(super) const PATIENCE: Duration = Duration::from_secs(150);

/// The database's own errors that the load provokes: a duplicate key; two that wait for one row, or for one another.
const PROVOKED: [u16; 3] = [1062, 1205, 1213];

/// A defect of the gateway's own: documented, and never fine.
const DEFECT: &str = "RG-INTERNAL";

/// What a driver calls a connection that ended. Documented only for what happens to the database in mid row.
const LOST: [u16; 2] = [2006, 2013];

/// What the clients have told so far.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) right: u64,
    /// Errors by number and code in brackets, and how many came.
    pub(super) errors: BTreeMap<(i64, String), u64>,
    /// What must never be, the first few.
    pub(super) violations: Vec<String>,
    pub(super) killed: u64,
    /// Numbers that the guides name, by code in brackets.
    documented: BTreeSet<(u16, String)>,
    /// Until then, a lost database is what was done to it.
    disturbed_until: Option<Instant>,
}

impl Tally {
    /// With the errors that the guides name.
    pub(super) fn new() -> Result<Self> {
        let mut documented = BTreeSet::new();
        for guide in ["docs/agents.md", "docs/life-of-a-query.md"] {
            let text = std::fs::read_to_string(sh::root().join(guide))?;
            for line in text.lines().filter(|line| line.starts_with('|')) {
                let tags: Vec<&str> =
                    line.split('`').filter(|word| word.starts_with("RG-")).collect();
                let numbers = line.split(|c: char| !c.is_ascii_digit());
                for number in numbers.filter(|word| word.len() == 4).filter_map(|n| n.parse().ok())
                {
                    documented.extend(tags.iter().map(|tag| (number, (*tag).to_owned())));
                    documented.insert((number, String::new()));
                }
            }
        }
        anyhow::ensure!(documented.len() > 20, "the guides' lists of errors were not found");
        Ok(Self { documented, ..Self::default() })
    }

    /// From now on, and for so long after [`Self::settles`], the database is not to be relied on.
    pub(super) fn disturb(&mut self) {
        self.disturbed_until = Some(Instant::now() + PATIENCE * 2);
    }

    /// It is there again; who waits for it will know soon.
    pub(super) fn settle(&mut self, grace: Duration) {
        self.disturbed_until = Some(Instant::now() + grace);
    }

    fn line(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("n", count)) => self.right += count.parse().unwrap_or(0),
            Some(("e", error)) => self.error(error),
            Some(("x", what)) => self.violation(what.to_owned()),
            _ => self.violation(format!("a client said {line:?}")),
        }
    }

    fn violation(&mut self, what: String) {
        if self.violations.len() < 50 {
            self.violations.push(what);
        }
    }

    fn error(&mut self, error: &str) {
        let (number, text) = error.split_once(' ').unwrap_or((error, ""));
        let number: i64 = number.parse().unwrap_or(-1);
        let tag = text.split(['[', ']']).find(|part| part.starts_with("RG-")).unwrap_or_default();
        *self.errors.entry((number, tag.to_owned())).or_default() += 1;
        let known = u16::try_from(number).unwrap_or(0);
        let disturbed = self.disturbed_until.is_some_and(|until| Instant::now() < until);
        let lost = LOST.contains(&known) || tag == "RG-UPSTREAM";
        let fine = if lost {
            disturbed && (tag.is_empty() || self.documented.contains(&(known, tag.to_owned())))
        } else if tag.is_empty() {
            PROVOKED.contains(&known)
        } else {
            self.documented.contains(&(known, tag.to_owned()))
        };
        if !fine || tag == DEFECT {
            let when = if disturbed { "" } else { " while nothing was wrong" };
            self.violation(format!("an error that is not documented{when}: {number} {text}"));
        }
    }
}

/// Who loads the gateway.
#[derive(Clone, Copy)]
enum Kind {
    PyMysql,
    MysqlAsync,
}

/// What every client is told.
pub(super) struct Route {
    pub(super) port: u16,
    pub(super) agent: String,
    pub(super) worker: String,
    /// PyMySQL's folder.
    pub(super) python: PathBuf,
    /// The load by mysql_async.
    pub(super) load: PathBuf,
}

/// All of them.
pub(super) struct Clients {
    route: Route,
    tally: Arc<Mutex<Tally>>,
    running: Vec<(Kind, Child)>,
    started: u32,
}

impl Clients {
    pub(super) fn new(route: Route, tally: Arc<Mutex<Tally>>) -> Self {
        Self { route, tally, running: Vec::new(), started: 0 }
    }

    /// Starts them: processes of several sessions each.
    pub(super) fn start(&mut self) -> Result<()> {
        for kind in
            [Kind::PyMysql, Kind::MysqlAsync, Kind::PyMysql, Kind::MysqlAsync, Kind::PyMysql]
        {
            let child = self.spawn(kind)?;
            self.running.push((kind, child));
        }
        Ok(())
    }

    /// Starts one process of each kind.
    pub(super) fn start_few(&mut self) -> Result<()> {
        for kind in [Kind::PyMysql, Kind::MysqlAsync] {
            let child = self.spawn(kind)?;
            self.running.push((kind, child));
        }
        Ok(())
    }

    /// Kills one at once, and starts another in its place.
    pub(super) fn kill_one(&mut self, which: usize) -> Result<()> {
        let at = which % self.running.len();
        let (kind, mut child) = self.running.swap_remove(at);
        child.kill()?;
        child.wait()?;
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).killed += 1;
        let child = self.spawn(kind)?;
        self.running.push((kind, child));
        Ok(())
    }

    /// Asks all to end, and waits for it; how many had to be killed.
    pub(super) fn stop(&mut self) -> Result<usize> {
        for (kind, child) in &mut self.running {
            match kind {
                Kind::PyMysql => {
                    let pid = child.id().to_string();
                    let _ = sh::capture(Command::new("kill").args(["-TERM", &pid]));
                }
                Kind::MysqlAsync => drop(child.stdin.take()),
            }
        }
        let deadline = Instant::now() + PATIENCE + Duration::from_secs(10);
        let mut hung = 0;
        for (_, mut child) in self.running.drain(..) {
            while child.try_wait()?.is_none() {
                if Instant::now() > deadline {
                    hung += 1;
                    child.kill()?;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(hung)
    }

    fn spawn(&mut self, kind: Kind) -> Result<Child> {
        self.started += 1;
        let name = format!("c{}", self.started);
        let (route, patience) = (&self.route, PATIENCE.as_secs().to_string());
        let mut command = match kind {
            Kind::PyMysql => {
                let mut python = Command::new("python3");
                python.args(["-c", include_str!("load.py")]).arg(route.port.to_string());
                python.args([&route.agent, &route.worker, &name, "6", &patience]);
                python.env("PYTHONPATH", &route.python);
                python
            }
            Kind::MysqlAsync => {
                let mut rust = Command::new(&route.load);
                rust.arg(route.port.to_string()).args([&route.agent, &name, "8", &patience]);
                rust
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().context("starting a client")?;
        let lines = BufReader::new(child.stdout.take().context("a client's output")?).lines();
        let tally = Arc::clone(&self.tally);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                tally.lock().unwrap_or_else(PoisonError::into_inner).line(&line);
            }
        });
        Ok(child)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
