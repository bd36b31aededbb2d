//! A bounded cache that forgets by halves: no lists to keep in order, nothing to do on a hit.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Entries of each half. Two halves of 2,048 hold an application's working set many times over and stay under a few MiB
/// a core.
const HALF: usize = 2_048;

/// A cache of two halves: when the young one is full it becomes the old one, and what was old is forgotten.
#[derive(Debug)]
pub(super) struct Halves<E> {
    young: Map<E>,
    old: Map<E>,
}

type Map<E> = HashMap<u64, E, BuildHasherDefault<AsItIs>>;

/// The keys are keyed hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl<E> Halves<E> {
    pub(super) fn new() -> Self {
        Self { young: Map::default(), old: Map::default() }
    }

    pub(super) fn find(&mut self, hash: u64, fits: impl Fn(&E) -> bool) -> Option<&E> {
        if !self.young.get(&hash).is_some_and(&fits) {
            if !self.old.get(&hash).is_some_and(&fits) {
                return None;
            }
            let entry = self.old.remove(&hash)?;
            self.insert(hash, entry);
        }
        self.young.get(&hash)
    }

    pub(super) fn insert(&mut self, hash: u64, entry: E) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, entry);
    }
}
