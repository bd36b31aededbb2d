//! Statements found by what they touched, who sent them and how they ended; and all that one session did.
//!
//! Only the blocks are read that an index says may have something; whether they do is decided by the records themselves.
//! An index that is missing is made, and kept where the folder lets itself be written to.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::frame::Chain;
use super::frames::Frames;
use super::header::{Header, SegmentError};
use super::index::{Index, Word, is_run};
use super::read::{Folder, Found, Position, ReadError, Reader};
use crate::record::{Record, Recorded};

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
pub enum Entry {
    /// A statement.
    Statement(Statement),
    /// Anything else.
    Event(Found),
}

impl Filter {
    fn fits(&self, event: &Recorded, sessions: &HashSet<u64>) -> bool {
        let Recorded::Intent {
            session,
            at_us,
            identity,
            target,
            verb,
            digest,
            verdict,
            rules,
            tables,
            attributes,
            ..
        } = event
        else {
            return false;
        };
        let is = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|w| w == text);
        let folded = |wanted: &Option<String>, text: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted.to_lowercase() == text.to_lowercase())
        };
        let touches = |name: &String| {
            let bare = name.rsplit_once('.').map_or(name.as_str(), |(_, bare)| bare);
            folded(&self.table, name) || folded(&self.table, bare)
        };
        is(&self.identity, identity)
            && is(&self.target, target)
            && folded(&self.verb, verb)
            && is(&self.digest, digest)
            && is(&self.verdict, verdict)
            && self.session.is_none_or(|wanted| wanted == *session)
            && self.since_us.is_none_or(|since| since <= *at_us)
            && self.until_us.is_none_or(|until| *at_us < until)
            && (self.table.is_none() || tables.iter().any(touches))
            && (self.rule.is_none() || rules.iter().any(|rule| is(&self.rule, rule)))
            && (self.run.is_none() || sessions.contains(session) || says(&self.run, attributes))
    }

    fn ended(&self, completion: Option<&Recorded>) -> bool {
        let Some(wanted) = self.error else { return true };
        let Some(Recorded::Completion { error_code, .. }) = completion else { return false };
        match wanted {
            Ending::Any => *error_code != 0,
            Ending::Code(code) => *error_code == code,
        }
    }

    /// Blocks whose times are of no use are left out.
    fn is_within(&self, from_us: i64, to_us: i64) -> bool {
        self.since_us.is_none_or(|since| since <= to_us)
            && self.until_us.is_none_or(|until| from_us < until)
    }

    fn words(&self) -> Vec<Word<'_>> {
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

fn says(run: &Option<String>, attributes: &[(String, String)]) -> bool {
    attributes.iter().any(|(name, value)| is_run(name) && Some(value) == run.as_ref())
}

/// How far a segment's records may lie outside of the times at which it and the next were made: clocks are set.
const SLACK_US: i64 = 3_600 * 1_000_000;

/// A segment, and what the next one says of it.
struct Part {
    path: PathBuf,
    header: Header,
    /// The chain's value at its end, and when that was; none: it is not closed.
    end: Option<(Chain, i64)>,
}

/// The record's segments with their indexes: the one door to what is read by index.
struct Library<'a> {
    folder: &'a Folder,
    parts: Vec<Part>,
    /// Where a number of indexes is kept; the open segment's was made and must not be made twice.
    open: HashMap<usize, Rc<Index>>,
    reader: Option<(usize, Reader)>,
}

/// Indexes that are held open: each is a file.
const HELD: usize = 64;

impl<'a> Library<'a> {
    fn open(folder: &'a Folder) -> Result<Self, ReadError> {
        let mut parts: Vec<Part> = Vec::new();
        for path in folder.paths()? {
            let header = match Frames::open(&path) {
                Ok(frames) => frames.header,
                // being made, or removed, right now
                Err(SegmentError::Short(_)) => continue,
                Err(SegmentError::Io(error)) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(ReadError::Segment(path, error)),
            };
            let follows = parts.last().is_some_and(|last| last.header.number + 1 == header.number);
            if let Some(last) = parts.last_mut().filter(|_| follows) {
                last.end = Some((header.before, header.made_us));
            }
            parts.push(Part { path, header, end: None });
        }
        Ok(Self { folder, parts, open: HashMap::new(), reader: None })
    }

    /// Whether a segment may have something of these times: no index is made, and none is read, for one that may not.
    fn may_be_within(&self, at: usize, filter: &Filter) -> bool {
        let Some(part) = self.parts.get(at) else { return false };
        let from = part.header.made_us.saturating_sub(SLACK_US);
        let to = part.end.map_or(i64::MAX, |(_, to)| to.saturating_add(SLACK_US));
        filter.is_within(from, to)
    }

    /// A segment's index; none: the segment was pruned meanwhile.
    fn index(&mut self, at: usize) -> Result<Option<Rc<Index>>, ReadError> {
        if let Some(index) = self.open.get(&at) {
            return Ok(Some(Rc::clone(index)));
        }
        let Some(part) = self.parts.get(at) else { return Ok(None) };
        let index = match index_of(self.folder, part, false) {
            Ok((index, _)) => Rc::new(index),
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.open.len() >= HELD {
            let last = self.parts.len().saturating_sub(1);
            self.open.retain(|at, _| *at == last);
        }
        self.open.insert(at, Rc::clone(&index));
        Ok(Some(index))
    }

    fn failed(&self, at: usize, error: std::io::Error) -> ReadError {
        let path = self.parts.get(at).map(|part| part.path.with_extension("rgidx"));
        ReadError::Segment(path.unwrap_or_default(), SegmentError::Io(error))
    }

    /// A block's records.
    fn block(&mut self, at: usize, index: &Index, block: u32) -> Result<Vec<Found>, ReadError> {
        let (from, end) = index.block(block).map_err(|error| self.failed(at, error))?;
        let path = self.parts.get(at).map(|part| part.path.as_path()).unwrap_or(Path::new(""));
        if self.reader.as_ref().is_none_or(|(of, _)| *of != at) {
            self.reader = Some((at, Reader::open(self.folder, path)?));
        }
        let mut all = Vec::new();
        let Some((_, reader)) = &mut self.reader else { return Ok(all) };
        reader.seek(from.at, from.chain)?;
        while reader.frames.at < end && reader.frame(|found| all.push(found))? {}
        Ok(all)
    }

    /// The blocks in which statements may fit.
    fn candidates(
        &self,
        at: usize,
        index: &Index,
        filter: &Filter,
        sessions: &HashSet<u64>,
    ) -> Result<Vec<u32>, ReadError> {
        let look = || {
            let mut found = index.all();
            for word in filter.words() {
                let of_word = index.blocks(word)?;
                found.retain(|block| of_word.binary_search(block).is_ok());
            }
            if let Some(run) = &filter.run {
                let mut any: HashSet<u32> = index.blocks(Word::Run(run))?.into_iter().collect();
                for session in sessions {
                    any.extend(index.blocks(Word::Session(*session))?);
                }
                found.retain(|block| any.contains(block));
            }
            if let Some(ending) = filter.error {
                let word = match ending {
                    Ending::Any => Word::Failed,
                    Ending::Code(code) => Word::Error(code),
                };
                let (ended, open) = (index.blocks(word)?, index.blocks(Word::Unfinished)?);
                let has = |of: &[u32], block: &u32| of.binary_search(block).is_ok();
                found.retain(|block| has(&ended, block) || has(&open, block));
            }
            let mut within = Vec::with_capacity(found.len());
            for block in found {
                let (times, _) = index.block(block)?;
                if filter.is_within(times.from_us, times.to_us) {
                    within.push(block);
                }
            }
            std::io::Result::Ok(within)
        };
        look().map_err(|error| self.failed(at, error))
    }

    /// The sessions whose login said that they are of this run.
    fn sessions_of(&mut self, run: &str) -> Result<HashSet<u64>, ReadError> {
        let (mut sessions, wanted) = (HashSet::new(), Some(run.to_owned()));
        for at in 0..self.parts.len() {
            let Some(index) = self.index(at)? else { continue };
            let blocks = index.blocks(Word::Run(run)).map_err(|error| self.failed(at, error))?;
            for block in blocks {
                for found in self.block(at, &index, block)? {
                    if let Recorded::SessionOpened { session, attributes, .. } = &found.record.event
                        && says(&wanted, attributes)
                    {
                        sessions.insert(*session);
                    }
                }
            }
        }
        Ok(sessions)
    }

    /// How a statement ended that did not end in the block of its intent.
    fn completion(
        &mut self,
        (at, block): (usize, u32),
        key: (u64, u64),
    ) -> Result<Option<Recorded>, ReadError> {
        for later in at..self.parts.len() {
            let Some(index) = self.index(later)? else { continue };
            let blocks = index.blocks(Word::Session(key.0));
            for next in blocks.map_err(|error| self.failed(later, error))? {
                if later == at && next <= block {
                    continue;
                }
                let all = self.block(later, &index, next)?;
                let ends = |found: &Found| completes(&found.record.event) == Some(key);
                if let Some(found) = all.into_iter().find(ends) {
                    return Ok(Some(found.record.event));
                }
            }
        }
        Ok(None)
    }
}

/// The index of a segment, read or made; whether it was made.
fn index_of(folder: &Folder, part: &Part, anew: bool) -> Result<(Index, bool), ReadError> {
    let cipher = folder.cipher(&part.header);
    let cipher = cipher.map_err(|error| ReadError::Segment(part.path.clone(), error))?;
    let key = cipher.map_or([0; 32], |cipher| cipher.index_key);
    let end = part.end.as_ref().map(|(end, _)| end).filter(|_| !anew);
    let there = end.and_then(|end| Index::open(&part.path, part.header.number, end, key));
    if let Some(index) = there {
        return Ok((index, false));
    }
    let index = Index::build(folder, &part.path)?;
    if let Some((end, _)) = &part.end {
        if !index.ends_with(end) {
            return Err(ReadError::Truncated(part.path.clone()));
        }
        if let Err(error) = index.write(&part.path) {
            tracing::debug!(%error, path = %part.path.display(), "the index is not kept");
        }
    }
    Ok((index, true))
}

fn is_gone(error: &ReadError) -> bool {
    matches!(error, ReadError::Segment(_, SegmentError::Io(io)) if io.kind() == ErrorKind::NotFound)
}

/// The session and the number of the statement that this begins.
fn begins(event: &Recorded) -> Option<(u64, u64)> {
    match event {
        Recorded::Intent { session, statement, .. } => Some((*session, *statement)),
        _ => None,
    }
}

/// Those of the one that this ends.
fn completes(event: &Recorded) -> Option<(u64, u64)> {
    match event {
        Recorded::Completion { session, statement, .. } => Some((*session, *statement)),
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
        let mut library = Library::open(self)?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut begun: HashMap<(u64, u64), usize> = HashMap::new();
        for at in 0..library.parts.len() {
            let Some(index) = library.index(at)? else { continue };
            let blocks = index.blocks(Word::Session(session));
            for block in blocks.map_err(|error| library.failed(at, error))? {
                for found in library.block(at, &index, block)? {
                    let Found { position, record } = found;
                    if record.event.session() != Some(session) {
                        continue;
                    }
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
                }
            }
        }
        Ok(match statement {
            Some(number) => of_statement(entries, number),
            None => entries,
        })
    }

    /// Makes the missing indexes of closed segments, or all of them. How many were made, and how many were there.
    pub fn index(&self, anew: bool) -> Result<(u64, u64), ReadError> {
        let library = Library::open(self)?;
        let (mut made, mut kept) = (0, 0);
        for part in library.parts.iter().filter(|part| part.end.is_some()) {
            match index_of(self, part, anew) {
                Ok((_, true)) => made += 1,
                Ok((_, false)) => kept += 1,
                Err(error) if is_gone(&error) => {}
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
