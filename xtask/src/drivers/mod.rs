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
use std::path::{Path, PathBuf};
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
    /// What has ended before is taken over.
    resume: bool,
    /// The gateway; built for it where none is named.
    binary: Option<PathBuf>,
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
                "--resume" => plan.resume = true,
                "--hold" => plan.hold = true,
                "--binary" => {
                    let path = words.next().context("--binary wants a path")?;
                    plan.binary = Some(PathBuf::from(path));
                }
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

    /// The part that everything is checked with.
    pub(crate) fn quick() -> Self {
        Self { quick: true, ..Self::default() }
    }

    fn wants(&self, suite: &Suite, flavour: Flavour) -> bool {
        let named = suite.name.contains(self.only.as_str());
        // By its name it is run wherever it can be, if only a part of it.
        named && (!self.quick || !self.only.is_empty() || suite.quick.contains(&flavour))
    }
}

type Run = fn(&Route, bool, &Path) -> Result<Outcomes>;

/// A suite.
struct Suite {
    name: &'static str,
    run: Run,
    /// The databases that it wants to be there, empty.
    databases: &'static [&'static str],
    /// Where it is run by `--quick`, which must not take more than three minutes.
    quick: &'static [Flavour],
}

const SUITES: [Suite; 7] = [
    Suite {
        name: "PyMySQL",
        run: |route, _, log| python::pymysql(route, log),
        databases: &["test1", "test2"],
        quick: &[Flavour::MariaDb],
    },
    Suite {
        name: "mysql_async",
        run: |route, _, log| rust::mysql_async(route, log),
        databases: &["test"],
        quick: &[],
    },
    Suite {
        name: "mysql2",
        run: |route, _, log| js::scenes("mysql2", route, log),
        databases: &["test", "test2"],
        quick: &[Flavour::MySql],
    },
    Suite {
        name: "mariadb",
        run: |route, _, log| js::scenes("mariadb", route, log),
        databases: &["test", "test2"],
        quick: &[Flavour::MariaDb],
    },
    Suite {
        name: "tools",
        run: tools::tools,
        databases: &["toolbox", "toolbox2"],
        quick: &Flavour::ALL,
    },
    Suite { name: "connector", run: python::connector, databases: &["myconnpy"], quick: &[] },
    Suite {
        name: "SQLAlchemy",
        run: python::sqlalchemy,
        databases: &["test", "test_schema"],
        quick: &[],
    },
];

/// The chore.
pub(crate) fn drivers(plan: &Plan) -> Result<()> {
    setup::ensure(&setup::DATABASE)?;
    plugins::build()?;
    let binary = if let Some(binary) = &plan.binary {
        binary.clone()
    } else {
        sh::step("building the gateway");
        sh::run_words(&["cargo", "build", "--bin", "rowgate"])?;
        sh::target_dir().join("debug/rowgate")
    };
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
        let wanted: Vec<&Suite> =
            SUITES.iter().filter(|suite| plan.wants(suite, flavour)).collect();
        if wanted.is_empty() {
            continue;
        }
        sh::step(&format!("a private {} with the gateway before it", flavour.name()));
        let stand = Stand::start(flavour, &binary)?;
        if plan.hold {
            return hold(&stand);
        }
        for suite in wanted {
            any = true;
            suite.compare((&stand, flavour, plan), &logs, &known, &mut report)?;
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

impl Suite {
    /// Runs it in each way and adds a line to the report.
    fn compare(
        &self,
        on: (&Stand, Flavour, &Plan),
        logs: &Path,
        known: &List,
        report: &mut Report,
    ) -> Result<()> {
        let flavour = on.1;
        let direct = self.run(on, Way::Direct, logs)?;
        let mut cells = vec![direct.counts()];
        let mut notes = String::new();
        for way in [Way::Passthrough, Way::Governed] {
            let through = self.run(on, way, logs)?;
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

    fn run(
        &self,
        (stand, flavour, plan): (&Stand, Flavour, &Plan),
        way: Way,
        logs: &Path,
    ) -> Result<Outcomes> {
        let start = Instant::now();
        let log = logs.join(format!("{}-{}-{}.log", self.name, flavour.name(), way.name()));
        let ended = log.with_extension("ended");
        if plan.resume
            && let Ok(text) = fs::read_to_string(&ended)
        {
            return Ok(Outcomes::parse(&text));
        }
        let _ = fs::remove_file(&ended);
        for database in self.databases {
            stand.sql(&format!(
                "DROP DATABASE IF EXISTS {database}; CREATE DATABASE {database} CHARACTER SET utf8mb4"
            ))?;
        }
        let route = stand.route(way)?;
        println!("    {} on {}, {} …", self.name, flavour.name(), way.name());
        let outcomes = (self.run)(route, plan.quick, &log)
            .with_context(|| format!("{} on {}, {}", self.name, flavour.name(), way.name()))?;
        println!("    {} in {:.0} s", outcomes.counts(), start.elapsed().as_secs_f64());
        fs::write(&ended, outcomes.lines())?;
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
