//! The differences that are known, each with its reason: `tests/drivers/known.txt`. One that is not listed fails the
//! chore, and so does a listed one that no longer occurs, unless its reason says that it need not.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use xtask::sh;

use super::outcomes::{Difference, Outcomes};
use super::stand::{Flavour, Way};

/// How the reason of a difference begins that depends on what came before, or on who is faster.
const BY_CHANCE: &str = "by chance: ";

/// A line of the list.
#[derive(Clone, Debug)]
struct Known {
    suite: String,
    database: String,
    way: String,
    /// With `*` at its end: every test whose name begins so.
    test: String,
    why: String,
}

/// The list.
#[derive(Clone, Debug)]
pub(super) struct List(Vec<Known>);

impl List {
    pub(super) fn read() -> Result<Self> {
        let path = sh::root().join("tests/drivers/known.txt");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut list = Vec::new();
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
            ensure!(
                parts.len() == 5,
                "known.txt wants `suite | database | way | test | why`: {line}"
            );
            list.push(Known {
                suite: parts[0].to_owned(),
                database: parts[1].to_owned(),
                way: parts[2].to_owned(),
                test: parts[3].to_owned(),
                why: parts[4].to_owned(),
            });
        }
        Ok(Self(list))
    }

    /// The reason of a difference.
    pub(super) fn reason(
        &self,
        (suite, flavour, way): (&str, Flavour, Way),
        difference: &Difference,
    ) -> Option<&str> {
        let of =
            |known: &&Known| known.applies(suite, flavour, way) && known.names(&difference.test);
        self.0.iter().find(of).map(|known| known.why.as_str())
    }

    /// Lines about this run of which nothing occurred, though what they name was run.
    pub(super) fn stale(
        &self,
        (suite, flavour, way): (&str, Flavour, Way),
        (direct, differences): (&Outcomes, &[Difference]),
    ) -> Vec<String> {
        let about = |known: &&Known| known.applies(suite, flavour, way);
        let was_run = |known: &&Known| known.test.ends_with('*') || direct.has(&known.test);
        let gone = |known: &&Known| {
            let occurs = differences.iter().any(|difference| known.names(&difference.test));
            !occurs && !known.why.starts_with(BY_CHANCE)
        };
        self.0.iter().filter(about).filter(was_run).filter(gone).map(|k| k.test.clone()).collect()
    }
}

impl Known {
    fn applies(&self, suite: &str, flavour: Flavour, way: Way) -> bool {
        let is = |listed: &str, name: &str| listed == "both" || listed == name;
        self.suite == suite && is(&self.database, flavour.name()) && is(&self.way, way.name())
    }

    fn names(&self, test: &str) -> bool {
        match self.test.strip_suffix('*') {
            Some(prefix) => test.starts_with(prefix),
            None => test == self.test,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_and_stale() {
        let list = List::parse(
            "# a list\nx | both | governed | t1 | because\nx | mysql | both | m::* | so\n\
             x | both | both | t2 | by chance: luck\n",
        )
        .unwrap();
        let direct = Outcomes::parse("pass\tt1\t\npass\tm::a\t\npass\tt2\t\n");
        let through = Outcomes::parse("fail\tt1\t\nfail\tm::a\t\npass\tt2\t\n");
        let found = direct.differences(&through);
        let run = ("x", Flavour::MySql, Way::Governed);
        let reasons: Vec<_> = found.iter().map(|found| list.reason(run, found)).collect();
        assert_eq!(reasons, [Some("so"), Some("because")]);
        assert_eq!(list.reason(("x", Flavour::MariaDb, Way::Passthrough), &found[1]), None);
        assert_eq!(list.stale(run, (&direct, &found)), Vec::<String>::new());
        assert_eq!(list.stale(run, (&direct, &[])), ["t1", "m::*"]);
        assert!(List::parse("x | y").is_err());
    }
}
