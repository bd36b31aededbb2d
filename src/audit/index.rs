//! An index beside each closed segment: which blocks of it have which words. It can be made again from the segment at any
//! time, is never looked at by `verify`, and one of another chain is not used.
//!
//! `NNNNNNNNNN.rgidx` is a head (magic and version, the segment's number, the chain's value at its end, the times of its
//! first and last record, the counts of what follows, BLAKE3 of all that), then the blocks (each some frames that follow each
//! other), then the words in the order of their hashes, then the blocks of each word. A word is a hash of its kind and its
//! text, so that a hash that two share costs the reading of a block and no more. In an encrypted segment's index it is
//! keyed: it tells nothing to whoever can't read the segment.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::frame::Chain;
use super::read::{Folder, Found, ReadError, Reader};
use super::segment::sync_folder;
use crate::record::{Recorded, RecordedIntent};

const MAGIC: [u8; 8] = *b"RGIDX\0\0\x01";
const HEAD: usize = 8 + 8 + 32 + 8 + 8 + 8 + 4 + 4 + 4 + 32;
const BLOCK: usize = 8 + 32 + 8 + 8;
const WORD: usize = 8 + 4 + 4;
/// Bytes of a segment that one block has at least: what is read for a word that is in it.
const BLOCK_BYTES: u64 = 64 << 10;

/// What a statement, or a session, can be found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word<'a> {
    Identity(&'a str),
    Target(&'a str),
    /// As `database.table`, and without its database.
    Table(&'a str),
    Verb(&'a str),
    Digest(&'a str),
    Verdict(&'a str),
    Rule(&'a str),
    Run(&'a str),
    Session(u64),
    /// A statement that ended with this error.
    Error(u16),
    /// A statement that ended with some error.
    Failed,
    /// A statement whose end is not in this segment.
    Unfinished,
}

impl Word<'_> {
    /// Names of tables are found however they are written: servers differ on that.
    fn hash(self, key: &[u8; 32]) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(key);
        match self {
            Self::Identity(text) => hasher.update(b"i").update(text.as_bytes()),
            Self::Target(text) => hasher.update(b"t").update(text.as_bytes()),
            Self::Table(text) => hasher.update(b"T").update(text.to_lowercase().as_bytes()),
            Self::Verb(text) => hasher.update(b"v").update(text.to_lowercase().as_bytes()),
            Self::Digest(text) => hasher.update(b"d").update(text.as_bytes()),
            Self::Verdict(text) => hasher.update(b"V").update(text.as_bytes()),
            Self::Rule(text) => hasher.update(b"r").update(text.as_bytes()),
            Self::Run(text) => hasher.update(b"R").update(text.as_bytes()),
            Self::Session(id) => hasher.update(b"s").update(&id.to_le_bytes()),
            Self::Error(code) => hasher.update(b"e").update(&code.to_le_bytes()),
            Self::Failed => hasher.update(b"f"),
            Self::Unfinished => hasher.update(b"u"),
        };
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}

/// Some frames that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Where the first begins, and the chain's value before it.
    pub(super) at: u64,
    pub(super) chain: Chain,
    pub(super) from_us: i64,
    pub(super) to_us: i64,
}

/// Makes an index from a segment's records.
struct Builder {
    key: [u8; 32],
    blocks: Vec<Block>,
    words: HashMap<u64, Vec<u32>>,
    /// Statements whose completion was not met yet, and their blocks.
    open: HashMap<(u64, u64), u32>,
}

impl Builder {
    fn put(&mut self, word: Word<'_>, block: u32) {
        let blocks = self.words.entry(word.hash(&self.key)).or_default();
        if blocks.last() != Some(&block) {
            blocks.push(block);
        }
    }

    fn add(&mut self, found: &Found) {
        let event = &found.record.event;
        let block = u32::try_from(self.blocks.len().saturating_sub(1)).unwrap_or(u32::MAX);
        if let Some(last) = self.blocks.last_mut() {
            last.from_us = last.from_us.min(event.at_us());
            last.to_us = last.to_us.max(event.at_us());
        }
        if let Some(session) = event.session() {
            self.put(Word::Session(session), block);
        }
        match event {
            Recorded::Intent(intent) => {
                self.intent(intent, block);
                self.open.insert((intent.session, intent.statement), block);
            }
            Recorded::Completion(end) => {
                // An intent of the segment before is among its unfinished ones.
                let begun = self.open.remove(&(end.session, end.statement));
                if let Some(begun) = begun.filter(|_| end.error_code != 0) {
                    self.put(Word::Error(end.error_code), begun);
                    self.put(Word::Failed, begun);
                }
            }
            Recorded::SessionOpened(opened) => self.runs(&opened.attributes, block),
            _ => {}
        }
    }

    fn intent(&mut self, intent: &RecordedIntent, block: u32) {
        for word in [
            Word::Identity(&intent.identity),
            Word::Target(&intent.target),
            Word::Verb(&intent.verb),
            Word::Digest(&intent.digest),
            Word::Verdict(&intent.verdict),
        ] {
            self.put(word, block);
        }
        intent.rules.iter().for_each(|rule| self.put(Word::Rule(rule), block));
        for table in &intent.tables {
            self.put(Word::Table(table), block);
            if let Some((_, bare)) = table.rsplit_once('.') {
                self.put(Word::Table(bare), block);
            }
        }
        self.runs(&intent.attributes, block);
    }

    fn runs(&mut self, attributes: &[(String, String)], block: u32) {
        for (_, run) in attributes.iter().filter(|(name, _)| is_run(name)) {
            self.put(Word::Run(run), block);
        }
    }
}

/// Under which names clients say which run a statement is of: in the user name, and elsewhere.
pub(super) fn is_run(name: &str) -> bool {
    name == "run" || name == "run_id"
}

/// An index: in memory where its segment is not closed, else in its file, of which only what is asked for is read.
pub(super) struct Index {
    key: [u8; 32],
    pub(super) number: u64,
    end: Chain,
    /// The times of its records.
    pub(super) from_us: i64,
    pub(super) to_us: i64,
    /// Where the last whole frame ends.
    pub(super) segment_end: u64,
    counts: [u32; 3],
    /// Everything behind the head.
    body: Body,
}

enum Body {
    Memory(Vec<u8>),
    File(File),
}

fn beside(segment: &Path) -> PathBuf {
    segment.with_extension("rgidx")
}

impl Index {
    /// Reads a segment whole.
    pub(super) fn build(folder: &Folder, segment: &Path) -> Result<Self, ReadError> {
        let mut reader = Reader::open(folder, segment)?;
        let key = reader.index_key();
        let (blocks, words, open) = (Vec::new(), HashMap::new(), HashMap::new());
        let mut builder = Builder { key, blocks, words, open };
        loop {
            let (at, chain) = (reader.frames.at, reader.frames.chain);
            if builder.blocks.last().is_none_or(|block| at - block.at >= BLOCK_BYTES) {
                builder.blocks.push(Block { at, chain, from_us: i64::MAX, to_us: i64::MIN });
            }
            if !reader.frame(|found| builder.add(&found))? {
                break;
            }
        }
        let mut unfinished: Vec<u32> = std::mem::take(&mut builder.open).into_values().collect();
        unfinished.sort_unstable();
        unfinished.into_iter().for_each(|block| builder.put(Word::Unfinished, block));
        Ok(Self::of(builder, &reader))
    }

    fn of(builder: Builder, reader: &Reader) -> Self {
        let Builder { key, blocks, words, .. } = builder;
        let mut body = Vec::new();
        for block in &blocks {
            body.extend_from_slice(&block.at.to_le_bytes());
            body.extend_from_slice(&block.chain);
            body.extend_from_slice(&block.from_us.to_le_bytes());
            body.extend_from_slice(&block.to_us.to_le_bytes());
        }
        let mut words: Vec<(u64, Vec<u32>)> = words.into_iter().collect();
        words.sort_unstable_by_key(|(hash, _)| *hash);
        let (mut listed, short) = (Vec::new(), |len: usize| u32::try_from(len).unwrap_or(u32::MAX));
        for (hash, of_word) in &mut words {
            // a failed statement's block may come behind later ones
            of_word.sort_unstable();
            of_word.dedup();
            body.extend_from_slice(&hash.to_le_bytes());
            body.extend_from_slice(&short(listed.len()).to_le_bytes());
            body.extend_from_slice(&short(of_word.len()).to_le_bytes());
            listed.append(of_word);
        }
        listed.iter().for_each(|block| body.extend_from_slice(&block.to_le_bytes()));
        Self {
            key,
            number: reader.number(),
            end: reader.frames.chain,
            from_us: blocks.iter().map(|block| block.from_us).min().unwrap_or(i64::MAX),
            to_us: blocks.iter().map(|block| block.to_us).max().unwrap_or(i64::MIN),
            segment_end: reader.frames.at,
            counts: [short(blocks.len()), short(words.len()), short(listed.len())],
            body: Body::Memory(body),
        }
    }

    /// Whether its segment ends with this value of the chain.
    pub(super) fn ends_with(&self, end: &Chain) -> bool {
        self.end == *end
    }

    fn head(&self) -> Vec<u8> {
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&self.number.to_le_bytes());
        head.extend_from_slice(&self.end);
        head.extend_from_slice(&self.from_us.to_le_bytes());
        head.extend_from_slice(&self.to_us.to_le_bytes());
        head.extend_from_slice(&self.segment_end.to_le_bytes());
        self.counts.iter().for_each(|count| head.extend_from_slice(&count.to_le_bytes()));
        let sum = *blake3::hash(&head).as_bytes();
        head.extend_from_slice(&sum);
        head
    }

    /// Writes it beside its segment, in place of what was there.
    pub(super) fn write(&self, segment: &Path) -> io::Result<()> {
        let Body::Memory(body) = &self.body else { return Ok(()) };
        let (path, new) =
            (beside(segment), segment.with_extension(format!("{}.new", std::process::id())));
        let written = || {
            let mut options = OpenOptions::new();
            let mut file =
                options.create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            file.write_all(&self.head())?;
            file.write_all(body)?;
            file.sync_data()?;
            std::fs::rename(&new, &path)?;
            segment.parent().map_or(Ok(()), sync_folder)
        };
        written().inspect_err(|_| {
            let _ = std::fs::remove_file(&new);
        })
    }

    /// The one beside a segment that ends with this value of the chain; none: it is not there, or of something else.
    pub(super) fn open(segment: &Path, number: u64, end: &Chain, key: [u8; 32]) -> Option<Self> {
        let file = File::open(beside(segment)).ok()?;
        let mut head = [0; HEAD];
        file.read_exact_at(&mut head, 0).ok()?;
        let (said, sum) = head.split_at(HEAD - 32);
        if said[..8] != MAGIC || *blake3::hash(said).as_bytes() != *sum {
            return None;
        }
        let long = |at: usize| Some(u64::from_le_bytes(said.get(at..at + 8)?.try_into().ok()?));
        let short = |at: usize| Some(u32::from_le_bytes(said.get(at..at + 4)?.try_into().ok()?));
        let index = Self {
            key,
            number: long(8)?,
            end: said.get(16..48)?.try_into().ok()?,
            from_us: long(48)?.cast_signed(),
            to_us: long(56)?.cast_signed(),
            segment_end: long(64)?,
            counts: [short(72)?, short(76)?, short(80)?],
            body: Body::File(file),
        };
        let [blocks, words, listed] = index.counts.map(u64::from);
        let len = HEAD as u64 + blocks * BLOCK as u64 + words * WORD as u64 + listed * 4;
        let Body::File(file) = &index.body else { return None };
        let whole = file.metadata().is_ok_and(|file| file.len() == len);
        (whole && index.number == number && index.end == *end).then_some(index)
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        match &self.body {
            Body::File(file) => file.read_exact_at(out, HEAD as u64 + at),
            Body::Memory(body) => {
                let from = usize::try_from(at).unwrap_or(usize::MAX);
                let part = body.get(from..).and_then(|rest| rest.get(..out.len()));
                out.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    /// A block, and where it ends.
    pub(super) fn block(&self, number: u32) -> io::Result<(Block, u64)> {
        let one = |number: u32| {
            let mut bytes = [0; BLOCK];
            self.read(u64::from(number) * BLOCK as u64, &mut bytes)?;
            let long = |at: usize| {
                let mut field = [0; 8];
                field.copy_from_slice(&bytes[at..at + 8]);
                u64::from_le_bytes(field)
            };
            let mut chain = [0; 32];
            chain.copy_from_slice(&bytes[8..40]);
            let (from_us, to_us) = (long(40).cast_signed(), long(48).cast_signed());
            io::Result::Ok(Block { at: long(0), chain, from_us, to_us })
        };
        let end = if number + 1 < self.counts[0] { one(number + 1)?.at } else { self.segment_end };
        Ok((one(number)?, end))
    }

    /// All its blocks.
    pub(super) fn all(&self) -> Vec<u32> {
        (0..self.counts[0]).collect()
    }

    /// The blocks that have this word, in order.
    pub(super) fn blocks(&self, word: Word<'_>) -> io::Result<Vec<u32>> {
        let wanted = word.hash(&self.key);
        let words = u64::from(self.counts[0]) * BLOCK as u64;
        let (mut low, mut high) = (0, self.counts[1]);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut entry = [0; WORD];
            self.read(words + u64::from(middle) * WORD as u64, &mut entry)?;
            let short = |at: usize| {
                let mut field = [0; 4];
                field.copy_from_slice(&entry[at..at + 4]);
                u32::from_le_bytes(field)
            };
            let hash = u64::from(short(0)) | u64::from(short(4)) << 32;
            match hash.cmp(&wanted) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    return self.listed(short(8), short(12));
                }
            }
        }
        Ok(Vec::new())
    }

    fn listed(&self, at: u32, count: u32) -> io::Result<Vec<u32>> {
        let [blocks, words, listed] = self.counts.map(u64::from);
        if u64::from(at) + u64::from(count) > listed {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let place = blocks * BLOCK as u64 + words * WORD as u64 + u64::from(at) * 4;
        let mut bytes = vec![0; count as usize * 4];
        self.read(place, &mut bytes)?;
        let number = |bytes: &[u8]| bytes.try_into().map_or(u32::MAX, u32::from_le_bytes);
        let all: Vec<u32> = bytes.chunks_exact(4).map(number).collect();
        let known = all.iter().all(|block| *block < self.counts[0]);
        if known { Ok(all) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}
