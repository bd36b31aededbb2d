//! What a pruned range leaves: a signed file in its place, so that the rest can still be proved.
//!
//! `NNNNNNNNNN.rgtomb`, by the number of the first segment that it stands for, is JSON: what was there, the public key, and
//! the Ed25519 signature over the first part as it is written.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::frame::Chain;
use super::keys::{PublicKey, SigningKey};
use super::segment::{listed, number_of, sync_folder};

/// Longest tombstone: its texts are a name and a reason.
const MAX_BYTES: u64 = 64 << 10;

/// What is no more.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pruned {
    /// The record's id, in hex; zeros where all of it was of the format before.
    pub record: String,
    /// The first segment's number.
    pub first: u64,
    /// The last one's.
    pub last: u64,
    /// How many records they had.
    pub records: u64,
    /// The chain's value before the first, in hex.
    pub before: String,
    /// The chain's value behind the last.
    pub after: String,
    /// The time of the oldest record, in microseconds since the epoch.
    pub from_us: i64,
    /// The time of the newest.
    pub to_us: i64,
    /// Who pruned it.
    pub by: String,
    /// When.
    pub at_us: i64,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    pruned: Pruned,
    key: String,
    signature: String,
}

/// A range that was pruned, and whose signature is good for it.
#[derive(Clone, Debug)]
pub(super) struct Tombstone {
    pub(super) path: PathBuf,
    pub(super) pruned: Pruned,
    pub(super) key: PublicKey,
    pub(super) before: Chain,
    pub(super) after: Chain,
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn message(pruned: &Pruned) -> io::Result<Vec<u8>> {
    let mut message = b"rowgate tombstone 1\0".to_vec();
    serde_json::to_writer(&mut message, pruned)?;
    Ok(message)
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Writes it beside the segments that are to go: it is on disk before the first of them is removed.
pub(super) fn write(dir: &Path, pruned: Pruned, key: &SigningKey) -> io::Result<()> {
    let path = dir.join(format!("{:010}.rgtomb", pruned.first));
    let signature = hex(&key.sign(&message(&pruned)?));
    let written = Written { pruned, key: key.public().to_string(), signature };
    let new = path.with_extension("rgtomb.new");
    let mut options = OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    serde_json::to_writer_pretty(&mut file, &written)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&new, &path)?;
    sync_folder(dir)
}

fn read(path: &Path) -> io::Result<Tombstone> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MAX_BYTES).read_to_end(&mut text)?;
    let written: Written = serde_json::from_slice(&text)?;
    let Written { pruned, key, signature } = written;
    let key: PublicKey = key.parse().map_err(|()| wrong("it has no public key"))?;
    let mut bytes = [0; 64];
    let digits = super::keys::digits(signature.as_bytes(), &mut bytes);
    if digits.is_none() || !key.verifies(&message(&pruned)?, &bytes) {
        return Err(wrong("its signature is wrong"));
    }
    let chain = |text: &str| super::read::chain_of(text).ok_or_else(|| wrong("it has no chain"));
    let (before, after) = (chain(&pruned.before)?, chain(&pruned.after)?);
    if number_of(path) != Some(pruned.first) || pruned.first > pruned.last {
        return Err(wrong("it stands for other segments"));
    }
    Ok(Tombstone { path: path.to_path_buf(), pruned, key, before, after })
}

/// The tombstones of a folder, in order; or the one that is wrong.
pub(super) fn all(dir: &Path) -> Result<Vec<Tombstone>, (PathBuf, io::Error)> {
    let paths = listed(dir, "rgtomb").map_err(|error| (dir.to_path_buf(), error))?;
    paths.into_iter().map(|path| read(&path).map_err(|error| (path, error))).collect()
}

/// Whether a tombstone stands for this segment: its removal was cut short.
pub(super) fn covers(tombstones: &[Tombstone], number: u64) -> bool {
    tombstones.iter().any(|stone| (stone.pruned.first..=stone.pruned.last).contains(&number))
}

/// The number and the chain's value that the tombstones lead to, behind a segment's.
pub(super) fn bridge(tombstones: &[Tombstone], mut from: (u64, Chain)) -> (u64, Chain) {
    for stone in tombstones {
        if stone.pruned.first == from.0 + 1 && stone.before == from.1 {
            from = (stone.pruned.last, stone.after);
        }
    }
    from
}
