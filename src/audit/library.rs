//! The record's segments with their indexes: the one door to what is read by index.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::frame::Chain;
use super::frames::Frames;
use super::header::{Header, SegmentError};
use super::index::{Index, Word};
use super::read::{Folder, Found, ReadError, Reader};
use super::search::{Ending, Filter, completes, says};
use crate::record::{Opened, Recorded};

/// How far a segment's records may lie outside of the times at which it and the next were made: clocks are set.
const SLACK_US: i64 = 3_600 * 1_000_000;

/// A segment, and what the next one says of it.
pub(super) struct Part {
    path: PathBuf,
    pub(super) header: Header,
    /// The chain's value at its end, and when that was; none: it is not closed.
    pub(super) end: Option<(Chain, i64)>,
}

/// The segments of a folder, as they were when it was opened.
pub(super) struct Library<'a> {
    folder: &'a Folder,
    pub(super) parts: Vec<Part>,
    /// Where a number of indexes is kept; the open segment's was made and must not be made twice.
    open: HashMap<usize, Rc<Index>>,
    reader: Option<(usize, Reader)>,
}

/// Indexes that are held open: each is a file.
const HELD: usize = 64;

impl<'a> Library<'a> {
    pub(super) fn open(folder: &'a Folder) -> Result<Self, ReadError> {
        let mut parts: Vec<Part> = Vec::new();
        let (paths, stones) = (folder.paths()?, folder.tombstones()?);
        for path in paths {
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
            let stone = stones.iter().find(|stone| stone.pruned.first == header.number + 1);
            let end = stone.map(|stone| (stone.before, stone.pruned.to_us));
            parts.push(Part { path, header, end });
        }
        Ok(Self { folder, parts, open: HashMap::new(), reader: None })
    }

    /// Whether a segment may have something of these times: no index is made, and none is read, for one that may not.
    pub(super) fn may_be_within(&self, at: usize, filter: &Filter) -> bool {
        let Some(part) = self.parts.get(at) else { return false };
        let from = part.header.made_us.saturating_sub(SLACK_US);
        let to = part.end.map_or(i64::MAX, |(_, to)| to.saturating_add(SLACK_US));
        filter.is_within(from, to)
    }

    /// A segment's index; none: the segment was pruned meanwhile.
    pub(super) fn index(&mut self, at: usize) -> Result<Option<Rc<Index>>, ReadError> {
        if let Some(index) = self.open.get(&at) {
            return Ok(Some(Rc::clone(index)));
        }
        let Some(part) = self.parts.get(at) else { return Ok(None) };
        let index = match index_of(self.folder, part, false) {
            Ok((index, _)) => Rc::new(index),
            Err(error) if error.is_gone() => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.open.len() >= HELD {
            let last = self.parts.len().saturating_sub(1);
            self.open.retain(|at, _| *at == last);
        }
        self.open.insert(at, Rc::clone(&index));
        Ok(Some(index))
    }

    pub(super) fn failed(&self, at: usize, error: std::io::Error) -> ReadError {
        let path = self.parts.get(at).map(|part| part.path.with_extension("rgidx"));
        ReadError::Segment(path.unwrap_or_default(), SegmentError::Io(error))
    }

    /// A block's records.
    pub(super) fn block(
        &mut self,
        at: usize,
        index: &Index,
        block: u32,
    ) -> Result<Vec<Found>, ReadError> {
        let (from, end) = index.block(block).map_err(|error| self.failed(at, error))?;
        let path = self.parts.get(at).map_or(Path::new(""), |part| part.path.as_path());
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
    pub(super) fn candidates(
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
    pub(super) fn sessions_of(&mut self, run: &str) -> Result<HashSet<u64>, ReadError> {
        let mut sessions = HashSet::new();
        for at in 0..self.parts.len() {
            let Some(index) = self.index(at)? else { continue };
            let blocks = index.blocks(Word::Run(run)).map_err(|error| self.failed(at, error))?;
            for block in blocks {
                for found in self.block(at, &index, block)? {
                    if let Recorded::SessionOpened(Opened { session, attributes, .. }) =
                        &found.record.event
                        && says(run, attributes)
                    {
                        sessions.insert(*session);
                    }
                }
            }
        }
        Ok(sessions)
    }

    /// How a statement ended that did not end in the block of its intent.
    pub(super) fn completion(
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
pub(super) fn index_of(
    folder: &Folder,
    part: &Part,
    anew: bool,
) -> Result<(Index, bool), ReadError> {
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
