//! What a suite's tests came to, and where two runs of the same suite differ.

use std::collections::BTreeMap;
use std::fmt;

/// One test's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Pass,
    Fail,
    Skip,
    /// It began and never ended: it hung, or took the suite with it.
    Began,
}

impl Word {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "pass" => Some(Self::Pass),
            "fail" => Some(Self::Fail),
            "skip" => Some(Self::Skip),
            "began" => Some(Self::Began),
            _ => None,
        }
    }
}

impl Word {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
            Self::Began => "began",
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "passes",
            Self::Fail => "fails",
            Self::Skip => "is skipped",
            Self::Began => "never ends",
        })
    }
}

/// Every test of one run: how it ended, and why it failed or what it saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes(BTreeMap<String, (Word, String)>);

/// A test that came to something else than directly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) test: String,
    pub(super) direct: Option<Word>,
    pub(super) through: Option<Word>,
    pub(super) why: String,
}

impl Outcomes {
    /// Reads lines of `word TAB test TAB reason`; of several lines of a test the last counts.
    pub(super) fn parse(text: &str) -> Self {
        let mut tests = BTreeMap::new();
        for line in text.lines() {
            let mut parts = line.splitn(3, '\t');
            if let (Some(word), Some(test)) = (parts.next().and_then(Word::parse), parts.next()) {
                let why = parts.next().unwrap_or_default().to_owned();
                tests.insert(test.to_owned(), (word, why));
            }
        }
        Self(tests)
    }

    /// The lines that [`Self::parse`] reads.
    pub(super) fn lines(&self) -> String {
        let line = |(test, (word, why)): (&String, &(Word, String))| {
            format!("{}\t{test}\t{}\n", word.as_str(), why.replace('\n', " "))
        };
        self.0.iter().map(line).collect()
    }

    /// Reads what Rust's own test harness prints: `test a::b ... ok`, with what the test printed in between.
    pub(super) fn parse_libtest(text: &str) -> Self {
        let mut tests = BTreeMap::new();
        let mut open: Option<String> = None;
        for line in text.lines() {
            let mut rest = line;
            if let Some((name, end)) =
                line.strip_prefix("test ").and_then(|line| line.split_once(" ... "))
            {
                open = Some(name.to_owned());
                tests.insert(name.to_owned(), (Word::Began, String::new()));
                rest = end;
            }
            let word = match rest.split(',').next().unwrap_or_default().trim() {
                "ok" => Word::Pass,
                "FAILED" => Word::Fail,
                "ignored" => Word::Skip,
                _ => continue,
            };
            if let Some(name) = open.take() {
                tests.insert(name, (word, String::new()));
            }
        }
        Self(tests)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, test: &str) -> bool {
        self.0.contains_key(test)
    }

    /// `passed/failed/skipped`; what never ended counts as failed.
    pub(super) fn counts(&self) -> String {
        let count =
            |wanted: &[Word]| self.0.values().filter(|(word, _)| wanted.contains(word)).count();
        format!(
            "{}/{}/{}",
            count(&[Word::Pass]),
            count(&[Word::Fail, Word::Began]),
            count(&[Word::Skip])
        )
    }

    /// Where `through` differs from this direct run.
    pub(super) fn differences(&self, through: &Self) -> Vec<Difference> {
        let word = |outcomes: &Self, test: &str| outcomes.0.get(test).map(|(word, _)| *word);
        let mut tests: Vec<&String> = self.0.keys().chain(through.0.keys()).collect();
        tests.sort_unstable();
        tests.dedup();
        let saw = |outcomes: &Self, test: &str| {
            let passed = outcomes.0.get(test).filter(|(word, _)| *word == Word::Pass);
            passed.map(|(_, saw)| saw.clone())
        };
        let differs = |test: &&String| {
            word(self, test) != word(through, test) || saw(self, test) != saw(through, test)
        };
        let told = |test: &String| Difference {
            test: test.clone(),
            direct: word(self, test),
            through: word(through, test),
            why: match (saw(self, test), saw(through, test)) {
                (Some(direct), Some(through)) => first_difference(&direct, &through),
                _ => through.0.get(test).map(|(_, why)| why.clone()).unwrap_or_default(),
            },
        };
        tests.into_iter().filter(differs).map(told).collect()
    }
}

/// Where two texts begin to differ, with a little of what is around it.
fn first_difference(direct: &str, through: &str) -> String {
    let same = direct.chars().zip(through.chars()).take_while(|(a, b)| a == b).count();
    let part =
        |text: &str| text.chars().skip(same.saturating_sub(30)).take(120).collect::<String>();
    format!("it sees …{}… instead of …{}…", part(through), part(direct))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_python_suites() {
        let direct = Outcomes::parse("began\ta\t\npass\ta\t\npass\tb\t\nskip\tc\t\n");
        let through = Outcomes::parse("began\ta\t\nfail\ta\twhy\nbegan\tb\t\nskip\tc\t\n");
        assert_eq!((direct.counts(), through.counts()), ("2/0/1".to_owned(), "0/2/1".to_owned()));
        let found = direct.differences(&through);
        let told: Vec<_> =
            found.iter().map(|d| (d.test.as_str(), d.through, d.why.as_str())).collect();
        assert_eq!(told, [("a", Some(Word::Fail), "why"), ("b", Some(Word::Began), "")]);
        assert_eq!(direct.differences(&direct), []);
        let seen = |saw: &str| Outcomes::parse(&format!("pass\ta\t{saw}\n"));
        let found = seen("[1,2]").differences(&seen("[1,3]"));
        assert_eq!(found[0].why, "it sees …[1,3]… instead of …[1,2]…");
        assert_eq!(seen("[1]").differences(&seen("[1]")), []);
    }

    #[test]
    fn lines_of_rusts_harness() {
        let text = "test a::b ... ok\ntest c ... noise\nmore\nFAILED\ntest d ... ignored, slow\ntest e ... ";
        let outcomes = Outcomes::parse_libtest(text);
        assert_eq!(outcomes.counts(), "1/2/1");
        assert_eq!(outcomes.0["e"].0, Word::Began);
    }
}
