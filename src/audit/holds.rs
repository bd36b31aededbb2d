//! Legal holds: what must not be pruned, whatever its retention says. They are a file in the record's folder, in which those
//! that were lifted stay, with who lifted them.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::read::Folder;
use super::segment::sync_folder;
use crate::clock::now_us;

/// More than anyone looks through.
const MAX_HOLDS: usize = 10_000;

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Its number.
    pub id: u64,
    /// What this identity did; none: whoever did it.
    pub identity: Option<String>,
    /// What belongs to this session; none: to whichever.
    pub session: Option<u64>,
    /// When it ends, in microseconds since the epoch; none: when it is lifted.
    pub until_us: Option<i64>,
    /// Why.
    pub reason: String,
    /// Who set it.
    pub by: String,
    /// When.
    pub at_us: i64,
    /// Who lifted it, and when.
    pub lifted: Option<(String, i64)>,
}

impl Hold {
    /// Whether it holds anything by now.
    pub fn is_in_force(&self, now_us: i64) -> bool {
        self.lifted.is_none() && self.until_us.is_none_or(|until| now_us < until)
    }

    /// Whether it holds what was done by this identity in this session. What is not known is held.
    pub(super) fn holds(&self, identity: Option<&str>, session: Option<u64>) -> bool {
        let is_theirs = match (&self.identity, identity) {
            (Some(held), Some(identity)) => held == identity,
            _ => true,
        };
        is_theirs && self.session.is_none_or(|held| session == Some(held))
    }
}

/// Why a hold can't be set, lifted or read.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The file.
    #[error("{0}: {1}; it is a list of legal holds in JSON, and nothing is pruned without it")]
    File(PathBuf, io::Error),
    /// There is none of this number in force.
    #[error("there is no hold {0} in force; `rowgate audit hold list` shows them")]
    Unknown(u64),
    /// Too many.
    #[error("there are {MAX_HOLDS} holds in {0}; move lifted ones out of it")]
    Full(PathBuf),
}

impl Folder {
    fn holds_path(&self) -> PathBuf {
        self.dir.join("holds.json")
    }

    /// Every hold, also those that were lifted.
    pub fn holds(&self) -> Result<Vec<Hold>, HoldError> {
        let path = self.holds_path();
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| HoldError::File(path, io::Error::other(error))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(HoldError::File(path, error)),
        }
    }

    /// Sets a hold; its number and time are given here.
    pub fn hold(&self, hold: Hold) -> Result<Hold, HoldError> {
        let _lock = self.lock_for_changes()?;
        let mut all = self.holds()?;
        if all.len() >= MAX_HOLDS {
            return Err(HoldError::Full(self.holds_path()));
        }
        let id = all.iter().map(|hold| hold.id).max().unwrap_or(0) + 1;
        let hold = Hold { id, at_us: now_us(), lifted: None, ..hold };
        all.push(hold.clone());
        self.write_holds(&all)?;
        Ok(hold)
    }

    /// Lifts a hold.
    pub fn lift(&self, id: u64, by: &str) -> Result<Hold, HoldError> {
        let _lock = self.lock_for_changes()?;
        let mut all = self.holds()?;
        let now = now_us();
        let found = all.iter_mut().find(|hold| hold.id == id && hold.is_in_force(now));
        let found = found.ok_or(HoldError::Unknown(id))?;
        found.lifted = Some((by.to_owned(), now));
        let lifted = found.clone();
        self.write_holds(&all)?;
        Ok(lifted)
    }

    fn write_holds(&self, all: &[Hold]) -> Result<(), HoldError> {
        let (path, new) = (self.holds_path(), self.dir.join("holds.json.new"));
        let written = || {
            let mut options = OpenOptions::new();
            let mut file =
                options.create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            serde_json::to_writer_pretty(&mut file, all)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            sync_folder(&self.dir)
        };
        written().map_err(|error| HoldError::File(path.clone(), error))
    }

    fn lock_for_changes(&self) -> Result<std::fs::File, HoldError> {
        changes_lock(&self.dir).map_err(|error| HoldError::File(self.dir.clone(), error))
    }
}

/// Keeps others from pruning and from changing holds until it is dropped. (The gateway's own lock is another: it goes on
/// writing meanwhile.)
pub(super) fn changes_lock(dir: &Path) -> io::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(dir.join("prune.lock"))?;
    file.lock()?;
    Ok(file)
}
