//! When tokens were last used, until someone takes it to where it is kept.
//!
//! A login writes into memory only: a store that must be asked at each would cost it a disk's turn, and be one more thing
//! that can stop it. There is one entry a token, however often it is used.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::Pass;

/// A login with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Microseconds since the epoch.
    pub at_us: i64,
    /// From where; none: by a Unix socket.
    pub from: Option<IpAddr>,
}

/// The last use of each token since they were last taken. Shared by all threads: the lock is held for one entry.
#[derive(Debug, Default)]
pub struct Uses(Mutex<HashMap<Arc<str>, Use>>);

impl Uses {
    /// A login has succeeded. Those without a gateway's token are not counted here.
    pub fn note(&self, pass: &Pass, used: Use) {
        if let Some(token) = pass.token() {
            self.insert(Arc::clone(token), used);
        }
    }

    /// What there is, which then is forgotten here.
    pub fn take(&self) -> HashMap<Arc<str>, Use> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes back what could not be kept.
    pub fn put_back(&self, uses: HashMap<Arc<str>, Use>) {
        uses.into_iter().for_each(|(token, used)| self.insert(token, used));
    }

    fn insert(&self, token: Arc<str>, used: Use) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = uses.entry(token).or_insert(used);
        if last.at_us < used.at_us {
            *last = used;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_use_of_each_token_is_kept_until_it_is_taken() {
        let uses = Uses::default();
        let at = |at_us| Use { at_us, from: None };
        uses.insert("a".into(), at(5));
        uses.insert("a".into(), at(3));
        uses.insert("b".into(), at(1));
        let taken = uses.take();
        assert_eq!((taken.len(), taken["a"], taken["b"]), (2, at(5), at(1)));
        uses.insert("a".into(), at(9));
        uses.put_back(taken);
        let taken = uses.take();
        assert_eq!((taken.len(), taken["a"]), (2, at(9)));
        assert!(uses.take().is_empty());
    }
}
