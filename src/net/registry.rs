//! The sessions of one worker, as others may see them: written by the worker, listed by the control plane.
//!
//! A session's cell is made of plain stores into atomics with one writer; the lock is taken only when a session
//! begins, logs in, ends, or is listed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::sql::Verb;

/// A session in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The gateway's id.
    pub id: u64,
    /// Who; empty before the login.
    pub identity: String,
    /// On which target, by index.
    pub target: usize,
    /// From where.
    pub source: String,
    /// `login`, `idle`, `running`, `held`.
    pub state: &'static str,
    /// The running (or last) statement's verb.
    pub verb: &'static str,
    /// Microseconds since the epoch.
    pub since_us: i64,
    /// Statements so far.
    pub statements: u64,
}

/// What a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    Login,
    Idle,
    Running,
    Held,
}

impl Activity {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Login, "login"),
        (Self::Idle, "idle"),
        (Self::Running, "running"),
        (Self::Held, "held"),
    ];
}

/// One session's cell.
#[derive(Debug)]
pub(super) struct SessionCell {
    id: u64,
    target: usize,
    source: String,
    since_us: i64,
    identity: OnceLock<String>,
    activity: AtomicU8,
    verb: AtomicU8,
    statements: AtomicU64,
}

impl SessionCell {
    /// A session that has just been accepted.
    pub(super) fn new(id: u64, target: usize, source: String, since_us: i64) -> Self {
        Self {
            id,
            target,
            source,
            since_us,
            identity: OnceLock::new(),
            activity: AtomicU8::new(0),
            verb: AtomicU8::new(u8::MAX),
            statements: AtomicU64::new(0),
        }
    }

    /// Its first login; a later COM_CHANGE_USER is in the record.
    pub(super) fn logged_in(&self, identity: &str) {
        let _ = self.identity.set(identity.to_owned());
    }

    /// What it does now.
    pub(super) fn set(&self, activity: Activity) {
        let at = Activity::ALL.iter().position(|(known, _)| *known == activity).unwrap_or(0);
        self.activity.store(u8::try_from(at).unwrap_or(0), Ordering::Relaxed);
    }

    /// Another statement begins.
    pub(super) fn statement(&self, number: u64, verb: Verb) {
        self.statements.store(number, Ordering::Relaxed);
        let at = Verb::ALL.iter().position(|known| *known == verb);
        self.verb
            .store(at.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX), Ordering::Relaxed);
    }

    fn info(&self) -> SessionInfo {
        let activity = usize::from(self.activity.load(Ordering::Relaxed));
        let verb = usize::from(self.verb.load(Ordering::Relaxed));
        SessionInfo {
            id: self.id,
            identity: self.identity.get().cloned().unwrap_or_default(),
            target: self.target,
            source: self.source.clone(),
            state: Activity::ALL.get(activity).map_or("?", |(_, word)| word),
            verb: Verb::ALL.get(verb).map_or("", |verb| verb.as_str()),
            since_us: self.since_us,
            statements: self.statements.load(Ordering::Relaxed),
        }
    }
}

/// The sessions of one worker. Bounded by `max_connections`.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<HashMap<u64, Arc<SessionCell>>>);

impl Registry {
    /// Adds a session.
    pub(super) fn insert(&self, cell: Arc<SessionCell>) {
        self.lock().insert(cell.id, cell);
    }

    /// Forgets a session.
    pub(super) fn remove(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// Whether the session is of this worker.
    pub(super) fn contains(&self, id: u64) -> bool {
        self.lock().contains_key(&id)
    }

    /// All of them.
    pub(super) fn list(&self) -> Vec<SessionInfo> {
        self.lock().values().map(|cell| cell.info()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<SessionCell>>> {
        // A panic under the lock leaves the map as it was: each operation is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_listed_until_it_ends() {
        let registry = Registry::default();
        let cell = Arc::new(SessionCell::new(7, 0, "10.0.0.1".into(), 5));
        registry.insert(Arc::clone(&cell));
        cell.logged_in("bot");
        cell.set(Activity::Running);
        cell.statement(3, Verb::Drop);
        let listed = registry.list();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].identity.as_str(), listed[0].state), ("bot", "running"));
        assert_eq!((listed[0].verb, listed[0].statements), ("drop", 3));
        assert!(registry.contains(7));
        registry.remove(7);
        assert!(registry.list().is_empty());
    }
}
