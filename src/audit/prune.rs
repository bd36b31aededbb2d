//! Pruning: whole segments in which nothing is to be kept any longer go, and leave a signed tombstone.
//!
//! The gateway need not be told: it writes to the last segment only, which is never pruned. What is not known, such as the
//! groups of a session whose login was pruned, is kept for as long as any rule says.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::frames::{Scan, scan};
use super::header::SegmentError;
use super::holds::{Hold, HoldError, changes_lock};
use super::keys::{PublicKey, SigningKey};
use super::read::{Folder, ReadError, Reader};
use super::segment;
use super::tombstone::{self, Pruned, hex};
use crate::config::Retention;
use crate::record::{Opened, Recorded, RecordedIntent};

const DAY_US: i64 = 86_400 * 1_000_000;

/// Why nothing was pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The record can't be read, or does not hold together.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The holds can't be read.
    #[error(transparent)]
    Hold(#[from] HoldError),
    /// A file can't be written or removed.
    #[error("{0}: {1}; what was pruned before is done, and the rest is as it was")]
    File(PathBuf, std::io::Error),
}

/// Who prunes, and when.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// By whom.
    pub by: &'a str,
    /// The time by which retentions have ended, in microseconds since the epoch.
    pub now_us: i64,
    /// Only says what would go.
    pub dry: bool,
}

/// How long what belongs to whom is kept.
struct Keep<'a> {
    rules: &'a [Retention],
}

/// What is known of a live session.
struct Known {
    identity: String,
    target: String,
    /// None: its login is not in the record any more.
    groups: Option<Vec<String>>,
}

impl Keep<'_> {
    /// Until when a record of this time is kept: the longest of the rules that are about it; none of them: what the rule
    /// for all others says. `None`: for good.
    fn until(&self, at_us: i64, target: Option<&str>, groups: Option<&[String]>) -> Option<i64> {
        let of_target = |rule: &&Retention| {
            rule.target.as_deref().is_some_and(|named| target.is_none_or(|target| target == named))
        };
        let of_group = |rule: &&Retention| {
            let named = rule.group.as_ref();
            named.is_some_and(|named| groups.is_none_or(|groups| groups.contains(named)))
        };
        let about = self.rules.iter().filter(|rule| of_target(rule) || of_group(rule));
        let others = self.rules.iter().filter(|rule| rule.target.is_none() && rule.group.is_none());
        // of what is not known, the rule for all others may be the one
        let is_known = target.is_some() && groups.is_some();
        let days = match about.map(|rule| rule.keep_days).max() {
            Some(days) if is_known => days,
            days => {
                let others = others.map(|rule| rule.keep_days).max()?;
                days.unwrap_or(0).max(others)
            }
        };
        Some(at_us.saturating_add(i64::from(days).saturating_mul(DAY_US)))
    }

    /// Nothing is pruned sooner.
    fn shortest(&self) -> Option<i64> {
        self.rules.iter().map(|rule| i64::from(rule.keep_days).saturating_mul(DAY_US)).min()
    }
}

/// Looks at records in order, and tells of each segment whether all of it may go.
struct Examiner<'a> {
    keep: Keep<'a>,
    holds: Vec<Hold>,
    now_us: i64,
    sessions: HashMap<u64, Known>,
}

impl Examiner<'_> {
    fn may_go(&mut self, event: &Recorded) -> bool {
        self.learn(event);
        let session = event.session();
        let known = session.and_then(|session| self.sessions.get(&session));
        // What is of no session has no groups that could be asked.
        let groups = match (session, known) {
            (None, _) => Some(&[][..]),
            (Some(_), known) => known.and_then(|known| known.groups.as_deref()),
        };
        let (identity, target) = match event {
            Recorded::LoginRefused { user, target, .. } => {
                (Some(user.as_str()), Some(target.as_str()))
            }
            Recorded::Admin { by, .. } => (Some(by.as_str()), Some("")),
            _ => (
                known.map(|known| known.identity.as_str()),
                known.map(|known| known.target.as_str()),
            ),
        };
        let is_held = self.holds.iter().any(|hold| {
            hold.holds(identity, session)
                || matches!(event, Recorded::Admin { subject, .. } if hold.holds(Some(subject), None))
        });
        let until = self.keep.until(event.at_us(), target, groups);
        if let Recorded::SessionClosed { session, .. } = event {
            self.sessions.remove(session);
        }
        !is_held && until.is_some_and(|until| until < self.now_us)
    }

    fn learn(&mut self, event: &Recorded) {
        match event {
            Recorded::SessionOpened(Opened { session, identity, target, groups, .. }) => {
                let (identity, target) = (identity.clone(), target.clone());
                let known = Known { identity, target, groups: Some(groups.clone()) };
                self.sessions.insert(*session, known);
            }
            Recorded::Intent(RecordedIntent { session, identity, target, .. }) => {
                self.sessions.entry(*session).or_insert_with(|| Known {
                    identity: identity.clone(),
                    target: target.clone(),
                    groups: None,
                });
            }
            _ => {}
        }
    }
}

/// Segments in a row that go together.
struct Range {
    paths: Vec<PathBuf>,
    pruned: Pruned,
}

impl Folder {
    /// Removes what need not be kept any longer, or only says what that would be. The record is verified first: what does not
    /// hold together is evidence. What was left behind by a pruning that was cut short is removed as well.
    pub fn prune(
        &self,
        rules: &[Retention],
        (signing, known): (&SigningKey, &[PublicKey]),
        order: &Order<'_>,
    ) -> Result<Vec<Pruned>, PruneError> {
        let failed = |path: &Path, error| PruneError::File(path.to_path_buf(), error);
        let _lock = changes_lock(&self.dir).map_err(|error| failed(&self.dir, error))?;
        self.verify(known, None)?;
        if !order.dry {
            self.sweep().map_err(|error| failed(&self.dir, error))?;
        }
        let ranges = self.examine(rules, order)?;
        let mut all = Vec::new();
        for range in ranges {
            if !order.dry {
                let written = tombstone::write(&self.dir, range.pruned.clone(), signing);
                written.map_err(|error| failed(&self.dir, error))?;
                for path in &range.paths {
                    remove(path).map_err(|error| failed(path, error))?;
                }
            }
            all.push(range.pruned);
        }
        Ok(all)
    }

    /// Segments for which a tombstone stands.
    fn sweep(&self) -> std::io::Result<()> {
        let stones = tombstone::all(&self.dir).map_err(|(_, error)| error)?;
        for path in segment::list(&self.dir)? {
            if segment::number_of(&path).is_some_and(|number| tombstone::covers(&stones, number)) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn examine(&self, rules: &[Retention], order: &Order<'_>) -> Result<Vec<Range>, PruneError> {
        let Order { by, now_us, .. } = *order;
        let keep = Keep { rules };
        let Some(shortest) = keep.shortest() else { return Ok(Vec::new()) };
        let mut holds = self.holds()?;
        holds.retain(|hold| hold.is_in_force(now_us));
        let mut examiner = Examiner { keep, holds, now_us, sessions: HashMap::new() };
        let mut ranges: Vec<Range> = Vec::new();
        let mut paths = self.paths()?;
        // The last one is being written; and one without a header is being made, so that the one before it is the last.
        let is_whole =
            |path: &PathBuf| !matches!(scan(path, None, |_| {}), Err(SegmentError::Short(_)));
        while paths.pop_if(|path| !is_whole(path)).is_some() {}
        paths.pop();
        for path in paths {
            let failed = |error| ReadError::Segment(path.clone(), error);
            let scanned = scan(&path, None, |_| {}).map_err(failed)?;
            // What comes later is younger still, an hour of slack for clocks that were set.
            if scanned.header.made_us.saturating_add(shortest) > now_us.saturating_add(DAY_US / 24)
            {
                break;
            }
            let mut reader = Reader::open(self, &path)?;
            let (mut may_go, mut from_us, mut to_us) = (true, i64::MAX, i64::MIN);
            let mut look = |event: &Recorded| {
                may_go &= examiner.may_go(event);
                (from_us, to_us) = (from_us.min(event.at_us()), to_us.max(event.at_us()));
            };
            while reader.frame(|found| look(&found.record.event))? {}
            if may_go {
                add(&mut ranges, path.clone(), &scanned, (from_us, to_us), (by, now_us));
            }
        }
        Ok(ranges)
    }
}

fn add(
    ranges: &mut Vec<Range>,
    path: PathBuf,
    scanned: &Scan,
    (from_us, to_us): (i64, i64),
    (by, at_us): (&str, i64),
) {
    let (number, after) = (scanned.header.number, hex(&scanned.chain));
    let record = hex(&scanned.header.record);
    if let Some(range) = ranges.last_mut()
        && range.pruned.last + 1 == number
    {
        let pruned = &mut range.pruned;
        (pruned.last, pruned.after, pruned.record) = (number, after, record);
        pruned.records += scanned.records;
        (pruned.from_us, pruned.to_us) = (pruned.from_us.min(from_us), pruned.to_us.max(to_us));
        range.paths.push(path);
        return;
    }
    let pruned = Pruned {
        record,
        first: number,
        last: number,
        records: scanned.records,
        before: hex(&scanned.header.before),
        after,
        from_us,
        to_us,
        by: by.to_owned(),
        at_us,
    };
    ranges.push(Range { paths: vec![path], pruned });
}

/// A segment and its index.
fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path.with_extension("rgidx")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::remove_file(path)
}
