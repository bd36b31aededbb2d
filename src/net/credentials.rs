//! What the gateway logs in with at a target, as it is now. It is exchanged while sessions go on: for a while both the
//! new credential and the one before may be the one that the database takes, since nobody changes two places at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::fault::Fault;
use crate::session::upstream::Account;

/// While the database takes only the credential before, the newest one is tried first no more often than this: each try
/// is a failed login there, and servers may lock an account for too many.
const TRY_NEWEST_EVERY_US: i64 = 15_000_000;

/// An account, and which one it is in the order of rotations.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    pub(super) account: Account,
    pub(super) generation: u64,
}

/// The credentials of one target, shared by the workers and the side connection.
#[derive(Debug)]
pub struct Credentials {
    live: ArcSwap<Live>,
    /// The newest generation that the database has taken: connections made with older ones are not kept.
    proven: AtomicU64,
    /// Until then, in microseconds since the epoch, the one before is tried first.
    before_first_until_us: AtomicI64,
}

#[derive(Debug)]
enum Live {
    /// None can be had, and why.
    Missing(String),
    Known {
        newest: Keyed,
        /// The one before, and until when it is tried.
        before: Option<(Keyed, i64)>,
    },
}

impl Credentials {
    /// One account.
    pub fn new(account: Account) -> Arc<Self> {
        Self::of(Live::Known { newest: Keyed { account, generation: 2 }, before: None })
    }

    /// One account, and the one before it, which is tried until then.
    pub fn rotated(account: Account, before: Account, until_us: i64) -> Arc<Self> {
        let before = Some((Keyed { account: before, generation: 1 }, until_us));
        Self::of(Live::Known { newest: Keyed { account, generation: 2 }, before })
    }

    /// None, for this reason.
    pub fn missing(why: String) -> Arc<Self> {
        Self::of(Live::Missing(why))
    }

    fn of(live: Live) -> Arc<Self> {
        Arc::new(Self {
            live: ArcSwap::from_pointee(live),
            proven: AtomicU64::new(0),
            before_first_until_us: AtomicI64::new(0),
        })
    }

    /// The newest account, if there is one.
    pub fn newest(&self) -> Option<Account> {
        match &**self.live.load() {
            Live::Known { newest, .. } => Some(newest.account.clone()),
            Live::Missing(_) => None,
        }
    }

    /// Whether the database has taken the newest one yet.
    pub fn is_proven(&self) -> bool {
        match &**self.live.load() {
            Live::Known { newest, .. } => self.proven.load(Ordering::Relaxed) >= newest.generation,
            Live::Missing(_) => false,
        }
    }

    /// From now on this account; the one before is tried until then where the database refuses it. What was never taken
    /// by the database does not take the place of what was.
    pub fn rotate(&self, account: Account, until_us: i64) {
        let proven = self.is_proven();
        let next = match &**self.live.load() {
            Live::Missing(_) => {
                Live::Known { newest: Keyed { account, generation: 2 }, before: None }
            }
            Live::Known { newest, before } => {
                let generation = newest.generation + 1;
                let before = match before {
                    Some((before, _)) if !proven => before.clone(),
                    _ => newest.clone(),
                };
                let before = Some((before, until_us));
                Live::Known { newest: Keyed { account, generation }, before }
            }
        };
        self.before_first_until_us.store(0, Ordering::Relaxed);
        self.live.store(Arc::new(next));
    }

    /// No account can be had any more, or still; one that is known stays.
    pub fn lost(&self, why: String) {
        if matches!(&**self.live.load(), Live::Missing(_)) {
            self.live.store(Arc::new(Live::Missing(why)));
        }
    }

    /// Forgets the one before once its time is over.
    pub fn forget_before(&self, now_us: i64) {
        if let Live::Known { newest, before: Some((_, until_us)) } = &**self.live.load()
            && *until_us <= now_us
        {
            let newest = newest.clone();
            self.live.store(Arc::new(Live::Known { newest, before: None }));
        }
    }

    /// What to log in with, and what to try where the database refuses that.
    pub(super) fn attempts(&self, now_us: i64) -> Result<(Keyed, Option<Keyed>), Fault> {
        match &**self.live.load() {
            Live::Missing(_) => {
                // (Why is in the log and in the status: it may name places.)
                Err(Fault::upstream_down("the gateway has no credential for the database"))
            }
            Live::Known { newest, before } => {
                let before = before.as_ref().filter(|(_, until_us)| now_us < *until_us);
                let Some((before, _)) = before else { return Ok((newest.clone(), None)) };
                let before_first = now_us < self.before_first_until_us.load(Ordering::Relaxed);
                let (first, second) =
                    if before_first { (before, newest) } else { (newest, before) };
                Ok((first.clone(), Some(second.clone())))
            }
        }
    }

    /// Why there is none, if so.
    pub fn why_missing(&self) -> Option<String> {
        match &**self.live.load() {
            Live::Missing(why) => Some(why.clone()),
            Live::Known { .. } => None,
        }
    }

    /// The database took this one.
    pub(super) fn taken(&self, generation: u64) {
        self.proven.fetch_max(generation, Ordering::Relaxed);
    }

    /// The database refused this one.
    pub(super) fn refused(&self, generation: u64, now_us: i64) {
        if let Live::Known { newest, before: Some(_) } = &**self.live.load() {
            let is_newest = newest.generation == generation;
            let until_us = if is_newest { now_us.saturating_add(TRY_NEWEST_EVERY_US) } else { 0 };
            self.before_first_until_us.store(until_us, Ordering::Relaxed);
        }
    }

    /// Whether a connection made with this one is to be closed when it is idle: a newer one is good.
    pub(super) fn is_outdated(&self, generation: u64) -> bool {
        generation < self.proven.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn account(password: &str) -> Account {
        let password = Arc::new(Secret::from(password));
        Account { user: "rowgate".to_owned(), password, public_key: None }
    }

    /// The passwords that are tried at this time, in order.
    fn tried(credentials: &Credentials, now_us: i64) -> Vec<String> {
        let (first, second) = credentials.attempts(now_us).unwrap();
        let text =
            |keyed: Keyed| String::from_utf8(keyed.account.password.expose().to_vec()).unwrap();
        [Some(first), second].into_iter().flatten().map(text).collect()
    }

    #[test]
    fn both_are_tried_for_as_long_as_they_overlap() {
        let credentials = Credentials::new(account("old"));
        assert_eq!(tried(&credentials, 0), ["old"]);
        credentials.taken(2);
        assert!(credentials.is_proven());
        credentials.rotate(account("new"), 100);
        assert!(!credentials.is_proven() && !credentials.is_outdated(2));
        assert_eq!(tried(&credentials, 99), ["new", "old"]);
        assert_eq!(tried(&credentials, 100), ["new"]);
        credentials.forget_before(99);
        assert_eq!(tried(&credentials, 0), ["new", "old"]);
        credentials.taken(3);
        assert!(credentials.is_outdated(2) && !credentials.is_outdated(3));
        credentials.forget_before(100);
        assert_eq!(tried(&credentials, 0), ["new"]);
    }

    /// A database that still knows only the old one is not asked about the new one by each connection.
    #[test]
    fn what_was_refused_is_tried_behind_the_other_for_a_while() {
        let credentials = Credentials::new(account("old"));
        credentials.taken(2);
        credentials.rotate(account("new"), i64::MAX);
        credentials.refused(3, 1_000);
        assert_eq!(tried(&credentials, 1_001), ["old", "new"]);
        assert_eq!(tried(&credentials, 1_000 + TRY_NEWEST_EVERY_US), ["new", "old"]);
        // It changed: the old one is refused, and the new one goes first at once.
        credentials.refused(2, 1_001);
        assert_eq!(tried(&credentials, 1_002), ["new", "old"]);
    }

    #[test]
    fn a_mistake_is_mended_without_losing_what_works() {
        let credentials = Credentials::new(account("old"));
        credentials.taken(2);
        credentials.rotate(account("mistyped"), 100);
        credentials.rotate(account("new"), 100);
        assert_eq!(tried(&credentials, 0), ["new", "old"]);
        credentials.taken(4);
        credentials.rotate(account("newer"), 100);
        assert_eq!(tried(&credentials, 0), ["newer", "new"]);
    }

    #[test]
    fn what_was_missing_comes() {
        let credentials = Credentials::missing("vault.token: it is empty".to_owned());
        let fault = credentials.attempts(0).unwrap_err();
        assert!(!fault.message.contains("vault"), "{fault}");
        credentials.rotate(account("new"), 100);
        assert_eq!(tried(&credentials, 0), ["new"]);
        credentials.lost("the vault is down".to_owned());
        assert_eq!(tried(&credentials, 0), ["new"]);
    }
}
