//! `cargo xtask drivers`: the drivers' own suites, through the gateway as directly. Prints a table, and every difference
//! with its reason.

mod js;
mod known;
mod outcomes;
mod python;
mod rust;
mod stand;
mod tools;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use xtask::{setup, sh};

use crate::plugins;
use known::List;
use outcomes::Outcomes;
use stand::{Flavour, Route, Stand, Way};

/// What to run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Suites whose name contains this.
    only: String,
    /// The time-boxed subset.
    quick: bool,
    /// Both where it is left out.
    database: Option<Flavour>,
    /// Not run, but a stand to try things on by hand, until it is interrupted.
    hold: bool,
}

impl Plan {
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut plan = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--quick" => plan.quick = true,
                "--hold" => plan.hold = true,
                "--only" => {
                    let name = words.next().context("--only wants a suite's name")?;
                    (*name).clone_into(&mut plan.only);
                }
                "--database" => {
                    let name = words.next().context("--database wants mariadb or mysql")?;
                    let found = Flavour::ALL.into_iter().find(|flavour| flavour.name() == *name);
                    plan.database = Some(found.context("--database wants mariadb or mysql")?);
                }
                other => {
                    bail!("unknown option {other:?} of drivers; `cargo xtask help` shows them")
                }
            }
        }
        Ok(plan)
    }
}

type Run = fn(&Route, bool, &Path) -> Result<Outcomes>;

/// The suites and the databases that each wants to be there, empty.
const SUITES: [(&str, Run, &[&str]); 7] = [
    ("PyMySQL", |route, _, log| python::pymysql(route, log), &["test1", "test2"]),
    ("mysql_async", |route, _, log| rust::mysql_async(route, log), &["test"]),
    ("mysql2", |route, _, log| js::scenes("mysql2", route, log), &["test", "test2"]),
    ("mariadb", |route, _, log| js::scenes("mariadb", route, log), &["test", "test2"]),
    ("connector", python::connector, &["myconnpy"]),
    ("tools", tools::tools, &["toolbox", "toolbox2"]),
    ("SQLAlchemy", python::sqlalchemy, &["test", "test_schema"]),
];

/// The chore.
pub(crate) fn drivers(plan: &Plan) -> Result<()> {
    setup::ensure(&setup::DATABASE)?;
    plugins::build()?;
    sh::step("building the gateway");
    sh::run_words(&["cargo", "build", "--bin", "rowgate"])?;
    let known = List::read()?;
    let logs = sh::root().join("target/drivers/logs");
    fs::create_dir_all(&logs)?;
    let mut report = Report::new();
    let mut any = false;
    for flavour in Flavour::ALL.into_iter().filter(|f| plan.database.is_none_or(|only| only == *f))
    {
        if flavour == Flavour::MySql && xtask::mysql::is_left_out() {
            sh::step("MySQL is left out here");
            continue;
        }
        sh::step(&format!("a private {} with the gateway before it", flavour.name()));
        let stand = Stand::start(flavour)?;
        if plan.hold {
            return hold(&stand);
        }
        for (name, run, databases) in
            SUITES.into_iter().filter(|(name, ..)| name.contains(plan.only.as_str()))
        {
            any = true;
            let suite = Suite { name, run, databases, quick: plan.quick };
            suite.compare((&stand, flavour), &logs, &known, &mut report)?;
        }
    }
    ensure!(any, "no suite's name contains {:?}", plan.only);
    report.finish()
}

fn hold(stand: &Stand) -> Result<()> {
    for way in Way::ALL {
        let route = stand.route(way)?;
        println!("{}: mysql://{}", way.name(), route.authority());
    }
    println!("files in {}; interrupt to end it", stand.folder().display());
    loop {
        std::thread::park();
    }
}

struct Suite {
    name: &'static str,
    run: Run,
    databases: &'static [&'static str],
    quick: bool,
}

impl Suite {
    /// Runs it in each way and adds a line to the report.
    fn compare(
        &self,
        (stand, flavour): (&Stand, Flavour),
        logs: &Path,
        known: &List,
        report: &mut Report,
    ) -> Result<()> {
        let direct = self.run((stand, flavour), Way::Direct, logs)?;
        let mut cells = vec![direct.counts()];
        let mut notes = String::new();
        for way in [Way::Passthrough, Way::Governed] {
            let through = self.run((stand, flavour), way, logs)?;
            cells.push(through.counts());
            let differences = direct.differences(&through);
            for difference in &differences {
                let reason = known.reason((self.name, flavour, way), difference);
                report.unlisted += usize::from(reason.is_none());
                let word = |word: Option<outcomes::Word>| {
                    word.map_or_else(|| "is not there".to_owned(), |word| word.to_string())
                };
                let how = if difference.through == difference.direct {
                    "sees something else".to_owned()
                } else {
                    let (through, direct) = (word(difference.through), word(difference.direct));
                    format!("{through}, directly it {direct}")
                };
                let why =
                    reason.map_or_else(|| format!("NOT LISTED: {}", difference.why), str::to_owned);
                let _ = writeln!(notes, "    {}: {} {how}: {why}", way.name(), difference.test);
            }
            for stale in known.stale((self.name, flavour, way), (&direct, &differences)) {
                report.stale += 1;
                let _ = writeln!(notes, "    {}: {stale}: listed, but NO LONGER SO", way.name());
            }
        }
        report.add(self.name, flavour, &cells, &notes);
        Ok(())
    }

    fn run(&self, (stand, flavour): (&Stand, Flavour), way: Way, logs: &Path) -> Result<Outcomes> {
        let start = Instant::now();
        for database in self.databases {
            stand.sql(&format!(
                "DROP DATABASE IF EXISTS {database}; CREATE DATABASE {database} CHARACTER SET utf8mb4"
            ))?;
        }
        let log = logs.join(format!("{}-{}-{}.log", self.name, flavour.name(), way.name()));
        let route = stand.route(way)?;
        println!("    {} on {}, {} …", self.name, flavour.name(), way.name());
        let outcomes = (self.run)(route, self.quick, &log)
            .with_context(|| format!("{} on {}, {}", self.name, flavour.name(), way.name()))?;
        println!("    {} in {:.0} s", outcomes.counts(), start.elapsed().as_secs_f64());
        Ok(outcomes)
    }
}

/// The table so far.
struct Report {
    rows: String,
    notes: String,
    unlisted: usize,
    stale: usize,
}

impl Report {
    fn new() -> Self {
        let rows = format!(
            "{:<14}{:<10}{:>16}{:>16}{:>16}\n",
            "suite", "database", "direct", "passthrough", "governed"
        );
        Self { rows, notes: String::new(), unlisted: 0, stale: 0 }
    }

    fn add(&mut self, suite: &str, flavour: Flavour, cells: &[String], notes: &str) {
        let _ = write!(self.rows, "{suite:<14}{:<10}", flavour.name());
        for cell in cells {
            let _ = write!(self.rows, "{cell:>16}");
        }
        self.rows.push('\n');
        if !notes.is_empty() {
            let _ = write!(self.notes, "  {suite} on {}:\n{notes}", flavour.name());
        }
    }

    fn finish(self) -> Result<()> {
        let text = format!("{}(passed/failed/skipped)\n\ndifferences:\n{}", self.rows, self.notes);
        println!("\n{text}");
        fs::write(sh::root().join("target/drivers/report.txt"), &text)?;
        ensure!(
            self.unlisted + self.stale == 0,
            "{} differences are not in tests/drivers/known.txt, {} that are there no longer occur",
            self.unlisted,
            self.stale
        );
        Ok(())
    }
}
