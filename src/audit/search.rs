//! Statements found by what they touched, who sent them and how they ended; and all that one session did.
//!
//! Only the blocks are read that an index says may have something; whether they do is decided by the records themselves.
//! An index that is missing is made, and kept where the folder lets itself be written to.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use super::index::{Word, is_run};
use super::library::{Library, index_of};
use super::read::{Folder, Found, Position, ReadError};
use crate::record::{Completion, Record, Recorded, RecordedIntent};

/// Which statements are wanted: those that fit all that is said.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Who sent it.
    pub identity: Option<String>,
    /// To which target.
    pub target: Option<String>,
    /// A table that it touches, as `database.table` or without its database.
    pub table: Option<String>,
    /// What it is: `select`, `update`.
    pub verb: Option<String>,
    /// Its shape.
    pub digest: Option<String>,
    /// `allow`, `mask`, `deny`, `hold`.
    pub verdict: Option<String>,
    /// A rule that decided.
    pub rule: Option<String>,
    /// What its client, or its session's login, said that it is part of.
    pub run: Option<String>,
    /// Its session.
    pub session: Option<u64>,
    /// Not before this time, in microseconds since the epoch.
    pub since_us: Option<i64>,
    /// Before this time.
    pub until_us: Option<i64>,
    /// How it ended.
    pub error: Option<Ending>,
}

/// How a statement ended badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With whatever error.
    Any,
    /// With this one.
    Code(u16),
}

/// A statement's two records as one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Statement {
    /// Where its intent is.
    pub position: Position,
    /// The intent.
    #[serde(flatten)]
    pub intent: Record,
    /// How it ended; none: it runs, or the gateway did not live to see it.
    pub completion: Option<Recorded>,
}

/// Some of what was found.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Page {
    /// In the order of the record.
    pub statements: Vec<Statement>,
    /// There may be more before this place.
    pub next: Option<Position>,
}

/// A line of a session's record.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "most are the large one")]
pub enum Entry {
    /// A statement.
    Statement(Statement),
    /// Anything else.
    Event(Found),
}

impl Filter {
    fn fits(&self, event: &Recorded, sessions: &HashSet<u64>) -> bool {
        let Recorded::Intent(intent) = event else { return false };
        let is = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|w| w == text);
        let folded = |wanted: &Option<String>, text: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted.to_lowercase() == text.to_lowercase())
        };
        let touches = |name: &String| {
            let bare = name.rsplit_once('.').map_or(name.as_str(), |(_, bare)| bare);
            folded(&self.table, name) || folded(&self.table, bare)
        };
        is(&self.identity, &intent.identity)
            && is(&self.target, &intent.target)
            && folded(&self.verb, &intent.verb)
            && is(&self.digest, &intent.digest)
            && is(&self.verdict, &intent.verdict)
            && self.session.is_none_or(|wanted| wanted == intent.session)
            && self.since_us.is_none_or(|since| since <= intent.at_us)
            && self.until_us.is_none_or(|until| intent.at_us < until)
            && (self.table.is_none() || intent.tables.iter().any(touches))
            && (self.rule.is_none() || intent.rules.iter().any(|rule| is(&self.rule, rule)))
            && self.run.as_deref().is_none_or(|run| {
                sessions.contains(&intent.session) || says(run, &intent.attributes)
            })
    }

    fn ended(&self, completion: Option<&Recorded>) -> bool {
        let Some(wanted) = self.error else { return true };
        let Some(Recorded::Completion(end)) = completion else { return false };
        match wanted {
            Ending::Any => end.error_code != 0,
            Ending::Code(code) => end.error_code == code,
        }
    }

    /// Blocks whose times are of no use are left out.
    pub(super) fn is_within(&self, from_us: i64, to_us: i64) -> bool {
        self.since_us.is_none_or(|since| since <= to_us)
            && self.until_us.is_none_or(|until| from_us < until)
    }

    pub(super) fn words(&self) -> Vec<Word<'_>> {
        let texts = [
            self.identity.as_deref().map(Word::Identity),
            self.target.as_deref().map(Word::Target),
            self.table.as_deref().map(Word::Table),
            self.verb.as_deref().map(Word::Verb),
            self.digest.as_deref().map(Word::Digest),
            self.verdict.as_deref().map(Word::Verdict),
            self.rule.as_deref().map(Word::Rule),
            self.session.map(Word::Session),
        ];
        texts.into_iter().flatten().collect()
    }
}

pub(super) fn says(run: &str, attributes: &[(String, String)]) -> bool {
    attributes.iter().any(|(name, value)| is_run(name) && value == run)
}

/// The session and the number of the statement that this begins.
fn begins(event: &Recorded) -> Option<(u64, u64)> {
    match event {
        Recorded::Intent(RecordedIntent { session, statement, .. }) => Some((*session, *statement)),
        _ => None,
    }
}

/// Those of the one that this ends.
pub(super) fn completes(event: &Recorded) -> Option<(u64, u64)> {
    match event {
        Recorded::Completion(Completion { session, statement, .. }) => Some((*session, *statement)),
        _ => None,
    }
}

impl Folder {
    /// The last `limit` statements that fit, of those before a place.
    pub fn search(
        &self,
        filter: &Filter,
        before: Option<Position>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let mut library = Library::open(self)?;
        let sessions = match &filter.run {
            Some(run) => library.sessions_of(run)?,
            None => HashSet::new(),
        };
        let mut statements = Vec::new();
        for at in (0..library.parts.len()).rev() {
            let number = library.parts[at].header.number;
            let is_behind = before.is_some_and(|before| before.segment < number);
            if is_behind || !library.may_be_within(at, filter) {
                continue;
            }
            let Some(index) = library.index(at)? else { continue };
            for block in library.candidates(at, &index, filter, &sessions)?.into_iter().rev() {
                let mut all = library.block(at, &index, block)?;
                let mut ends: HashMap<(u64, u64), Recorded> = HashMap::new();
                for found in &all {
                    if let Some(key) = completes(&found.record.event) {
                        ends.insert(key, found.record.event.clone());
                    }
                }
                all.retain(|found| {
                    before.is_none_or(|before| found.position < before)
                        && filter.fits(&found.record.event, &sessions)
                });
                while let Some(Found { position, record }) = all.pop() {
                    let Some(key) = begins(&record.event) else { continue };
                    let completion = match ends.remove(&key) {
                        Some(end) => Some(end),
                        None => library.completion((at, block), key)?,
                    };
                    if filter.ended(completion.as_ref()) {
                        statements.push(Statement { position, intent: record, completion });
                    }
                    if statements.len() == limit {
                        statements.reverse();
                        return Ok(Page { statements, next: Some(position) });
                    }
                }
            }
        }
        statements.reverse();
        Ok(Page { statements, next: None })
    }

    /// All that is recorded of a session, in order: its login, its statements, what approvers decided, its end. With the
    /// number of a statement: that one, and the approvals that were asked for while it waited.
    pub fn session(&self, session: u64, statement: Option<u64>) -> Result<Vec<Entry>, ReadError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut begun: HashMap<(u64, u64), usize> = HashMap::new();
        self.of_session(session, |Found { position, record }| {
            let start = completes(&record.event).and_then(|key| begun.remove(&key));
            if let Some(Entry::Statement(open)) = start.and_then(|at| entries.get_mut(at)) {
                open.completion = Some(record.event);
            } else if let Some(key) = begins(&record.event) {
                begun.insert(key, entries.len());
                let statement = Statement { position, intent: record, completion: None };
                entries.push(Entry::Statement(statement));
            } else {
                entries.push(Entry::Event(Found { position, record }));
            }
            ControlFlow::Continue(())
        })?;
        Ok(match statement {
            Some(number) => of_statement(entries, number),
            None => entries,
        })
    }

    /// Every record of a session, in order, for as long as more are wanted.
    pub(super) fn of_session(
        &self,
        session: u64,
        mut each: impl FnMut(Found) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut library = Library::open(self)?;
        for at in 0..library.parts.len() {
            let Some(index) = library.index(at)? else { continue };
            let blocks = index.blocks(Word::Session(session));
            for block in blocks.map_err(|error| library.failed(at, error))? {
                for found in library.block(at, &index, block)? {
                    let is_of = found.record.event.session() == Some(session);
                    if is_of && each(found).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the missing indexes of closed segments, or all of them. How many were made, and how many were there.
    pub fn index(&self, anew: bool) -> Result<(u64, u64), ReadError> {
        let library = Library::open(self)?;
        let (mut made, mut kept) = (0, 0);
        for part in library.parts.iter().filter(|part| part.end.is_some()) {
            match index_of(self, part, anew) {
                Ok((_, true)) => made += 1,
                Ok((_, false)) => kept += 1,
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        Ok((made, kept))
    }
}

/// One statement of a session, and the approvals whose request came while it was under way.
fn of_statement(entries: Vec<Entry>, number: u64) -> Vec<Entry> {
    let is_it = |entry: &Entry| match entry {
        Entry::Statement(Statement { intent, .. }) => {
            begins(&intent.event).is_some_and(|(_, statement)| statement == number)
        }
        Entry::Event(_) => false,
    };
    let Some(Entry::Statement(wanted)) = entries.iter().find(|entry| is_it(entry)) else {
        return Vec::new();
    };
    let from = wanted.intent.event.at_us();
    let to = wanted.completion.as_ref().map_or(i64::MAX, Recorded::at_us);
    let asked: HashSet<String> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Event(found) => Some(&found.record.event),
            Entry::Statement(_) => None,
        })
        .filter(|event| (from..=to).contains(&event.at_us()))
        .filter_map(|event| match event {
            Recorded::Approval { approval, .. } => Some(approval.clone()),
            _ => None,
        })
        .collect();
    let concerns = |entry: &Entry| match entry {
        Entry::Event(Found {
            record: Record { event: Recorded::Approval { approval, .. }, .. },
            ..
        }) => asked.contains(approval),
        _ => is_it(entry),
    };
    entries.into_iter().filter(concerns).collect()
}
