//! `[audit]`: where the record goes, when a record counts, who signs it, and who can read it.

use std::collections::HashSet;
use std::path::PathBuf;

use super::Config;
use super::check::{Bound, Checked, complain, in_bounds};
use super::custody::is_place;
use super::parse::Step;

/// `durability`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On disk before it counts: a write before the database sees it, a read before its first byte is released.
    Sync,
    /// Queued, bounded, and refused when the queue is full or the disk fails.
    #[default]
    Async,
}

/// `[audit]`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Folder of the segments.
    pub dir: PathBuf,
    /// When a record counts.
    #[serde(default)]
    pub durability: Durability,
    /// Record statements with their literals (otherwise their shape only).
    #[serde(default)]
    pub literals: bool,
    /// A segment is closed at this size, in bytes.
    #[serde(default = "default_segment_bytes")]
    pub segment_bytes: u64,
    /// Bytes of records that may wait for the disk, for each worker; full means refused.
    #[serde(default = "default_queue_bytes")]
    pub queue_bytes: usize,
    /// Bytes of one statement's answer that are recorded, of those whose rows a policy has recorded.
    #[serde(default = "default_answer_bytes")]
    pub answer_bytes: u32,
    /// The key that signs checkpoints: `env:NAME` or `file:PATH`, which is made where it is missing; none: a file beside
    /// the store, see [`Config::signing_key`].
    #[serde(default)]
    pub signing_key: Option<String>,
    /// Seconds after which what was written is signed.
    #[serde(default = "default_checkpoint_s")]
    pub checkpoint_s: u64,
    /// Records behind which it is signed sooner.
    #[serde(default = "default_checkpoint_records")]
    pub checkpoint_records: u64,
    /// The key under which new segments are encrypted: `env:NAME` or `file:PATH`; none: they are not.
    #[serde(default)]
    pub encryption_key: Option<String>,
    /// Those of before, to read what was written under them.
    #[serde(default)]
    pub old_encryption_keys: Vec<String>,
    /// How long records are kept; none: for good.
    #[serde(default)]
    pub retention: Vec<Retention>,
}

/// `[[audit.retention]]`: for how long what belongs to a target, or to the members of a group, is kept; with neither: all
/// that none of the others is about.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Days.
    pub keep_days: u32,
    /// On this target.
    #[serde(default)]
    pub target: Option<String>,
    /// By members of this group.
    #[serde(default)]
    pub group: Option<String>,
}

fn default_segment_bytes() -> u64 {
    64 << 20
}

fn default_queue_bytes() -> usize {
    8 << 20
}

/// A screenful of rows for whoever looks back: more of every statement would be a second copy of the database.
fn default_answer_bytes() -> u32 {
    16 << 10
}

fn default_checkpoint_s() -> u64 {
    60
}

fn default_checkpoint_records() -> u64 {
    100_000
}

impl Audit {
    /// A record in this folder, all else as it is where nothing is said.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            durability: Durability::default(),
            literals: false,
            segment_bytes: default_segment_bytes(),
            queue_bytes: default_queue_bytes(),
            answer_bytes: default_answer_bytes(),
            signing_key: None,
            checkpoint_s: default_checkpoint_s(),
            checkpoint_records: default_checkpoint_records(),
            encryption_key: None,
            old_encryption_keys: Vec::new(),
            retention: Vec::new(),
        }
    }
}

impl Config {
    /// Where the key that signs the record is: `env:NAME` or `file:PATH`.
    pub fn signing_key(&self) -> String {
        let beside = self.store.path.with_file_name("audit-signing.key");
        let named = self.audit.signing_key.clone();
        named.unwrap_or_else(|| format!("file:{}", beside.display()))
    }
}

pub(super) fn audit(config: &Config) -> Checked {
    use Step::{At, Key};
    let audit = &config.audit;
    let many = "smaller are too many files, larger too slow to verify";
    let queue = "two records must fit, and it is taken for each worker";
    let answer = "0 records no rows, whatever policies say; a queue must have room for several";
    let queue_bytes = audit.queue_bytes as u64;
    let all: [Bound; 5] = [
        ("answer_bytes", audit.answer_bytes.into(), 0..=queue_bytes / 4, answer),
        ("segment_bytes", audit.segment_bytes, 64 << 10..=4 << 30, many),
        ("queue_bytes", queue_bytes, 64 << 10..=1 << 30, queue),
        ("checkpoint_s", audit.checkpoint_s, 1..=86_400, "until then it could be made anew"),
        (
            "checkpoint_records",
            audit.checkpoint_records,
            100..=1_000_000_000,
            "a signature takes some 50 µs",
        ),
    ];
    all.iter().try_for_each(|bound| in_bounds(&[Key("audit"), Key(bound.0)], bound))?;
    let mend = "write env:NAME or file:PATH; keys don't belong in this file";
    for (key, place) in
        [("signing_key", &audit.signing_key), ("encryption_key", &audit.encryption_key)]
    {
        if place.as_deref().is_some_and(|place| !is_place(place)) {
            return complain(&[Key("audit"), Key(key)], "not a reference to a key", mend);
        }
    }
    if let Some(at) = audit.old_encryption_keys.iter().position(|place| !is_place(place)) {
        let path = [Key("audit"), Key("old_encryption_keys"), At(at)];
        return complain(&path, "not a reference to a key", mend);
    }
    retention(&audit.retention)
}

fn retention(rules: &[Retention]) -> Checked {
    use Step::{At, Key};
    let mut seen = HashSet::new();
    for (at, rule) in rules.iter().enumerate() {
        let path = |key| [Key("audit"), Key("retention"), At(at), Key(key)];
        let days = u64::from(rule.keep_days);
        in_bounds(&path("keep_days"), &("keep_days", days, 1..=36_500, "a day to a century"))?;
        if rule.target.is_some() && rule.group.is_some() {
            let mend = "write one rule for the target and one for the group; the longest counts";
            return complain(&path("group"), "beside target", mend);
        }
        if !seen.insert((&rule.target, &rule.group)) {
            return complain(&path("keep_days"), "said before of the same", "once is enough");
        }
    }
    Ok(())
}
