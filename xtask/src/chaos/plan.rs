//! What a run is asked for, and what happens in it when.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// How long it runs, and what.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(super) minutes: u32,
    /// What happens when, and to whom.
    pub(super) seed: u64,
    /// In place of the debug build that is made here.
    pub(super) binary: Option<PathBuf>,
    /// The gateway gives memory back in its own time, as it does when nobody looks.
    pub(super) allocator_defaults: bool,
}

impl Plan {
    /// From the words behind `chaos`.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut plan = Self { minutes: 10, seed: 1, binary: None, allocator_defaults: false };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match *word {
                "--minutes" => plan.minutes = value()?.parse().context("--minutes")?,
                "--seed" => plan.seed = value()?.parse().context("--seed")?,
                "--binary" => plan.binary = Some(fs::canonicalize(value()?).context("--binary")?),
                "--allocator-defaults" => plan.allocator_defaults = true,
                other => {
                    bail!("unknown option {other:?} of chaos; `cargo xtask help` shows them")
                }
            }
        }
        Ok(plan)
    }

    /// What everything is checked with.
    pub(crate) fn minute() -> Self {
        Self { minutes: 1, seed: 1, binary: None, allocator_defaults: false }
    }

    pub(super) fn judges_memory(&self) -> bool {
        self.minutes >= SETTLED_MINUTES
    }
}

/// From here on, a gateway that grows leaks.
const SETTLED_MINUTES: u32 = 5;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    KillClient,
    Reload,
    /// The database, in good order or as a crash would.
    Restart {
        crash: bool,
    },
    /// The network, for some seconds.
    Cut,
    /// The database restarts while nobody can hear it.
    RestartUnheard,
}

/// What happens all the time.
pub(super) fn minor_deeds(until: Duration) -> Vec<(Duration, Deed)> {
    let every = |seconds: u64, deed: Deed| {
        (1..until.as_secs() / seconds).map(move |at| (Duration::from_secs(at * seconds), deed))
    };
    every(3, Deed::KillClient).chain(every(10, Deed::Reload)).collect()
}

/// What happens a few times; the last one only where there is time to find out what became of it.
pub(super) fn major_deeds(until: Duration) -> Vec<(Duration, Deed)> {
    let mut deeds = vec![
        (10, Deed::Restart { crash: true }),
        (30, Deed::Cut),
        (45, Deed::Restart { crash: false }),
        (60, Deed::Cut),
        (75, Deed::Restart { crash: true }),
    ];
    if until > Duration::from_mins(6) {
        deeds.push((65, Deed::RestartUnheard));
    }
    deeds.into_iter().map(|(percent, deed)| (until * percent / 100, deed)).collect()
}
