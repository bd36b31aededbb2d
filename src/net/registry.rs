//! The sessions of one worker, as others may see them: written by the worker, listed by the control plane.
//!
//! A session's cell is made of plain stores into atomics with one writer; the lock is taken only when a session
//! begins, logs in, ends, or is listed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;

use crate::identity::Principal;
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
    /// From where; empty until a balancer in front has said it.
    pub source: String,
    /// `login`, `idle`, `running`, `held`.
    pub state: &'static str,
    /// The running (or last) statement's verb.
    pub verb: &'static str,
    /// Its shape: its text with `?` for each value.
    pub shape: String,
    /// Microseconds since the epoch.
    pub since_us: i64,
    /// Statements so far.
    pub statements: u64,
    /// What the user name said of the run; empty: nothing.
    pub run: String,
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
    /// Known once a balancer in front has named it.
    source: OnceLock<Arc<str>>,
    since_us: i64,
    identity: OnceLock<Arc<Principal>>,
    /// Another identity logged in later, by COM_CHANGE_USER: no KILL finds it.
    changed: AtomicBool,
    /// The database's id of the bound connection; 0 for none.
    upstream: AtomicU32,
    /// KILLs on their way to the bound connection.
    aimed: AtomicU32,
    killed: AtomicBool,
    activity: AtomicU8,
    verb: AtomicU8,
    /// Shared with what was decided: it costs no copy.
    shape: ArcSwapOption<String>,
    statements: AtomicU64,
}

impl SessionCell {
    /// A session that has just been accepted.
    pub(super) fn new(id: u64, target: usize, since_us: i64) -> Self {
        Self {
            id,
            target,
            source: OnceLock::new(),
            since_us,
            identity: OnceLock::new(),
            changed: AtomicBool::new(false),
            upstream: AtomicU32::new(0),
            aimed: AtomicU32::new(0),
            killed: AtomicBool::new(false),
            activity: AtomicU8::new(0),
            verb: AtomicU8::new(u8::MAX),
            shape: ArcSwapOption::empty(),
            statements: AtomicU64::new(0),
        }
    }

    /// The index of its target.
    pub(super) fn target(&self) -> usize {
        self.target
    }

    /// From where it comes.
    pub(super) fn comes_from(&self, source: Arc<str>) {
        let _ = self.source.set(source);
    }

    /// The client's address as text, for policy and the record.
    pub(super) fn source(&self) -> &str {
        self.source.get().map_or("", |source| source)
    }

    /// Its first login; a later COM_CHANGE_USER is in the record.
    pub(super) fn logged_in(&self, principal: &Arc<Principal>) {
        let first = self.identity.get_or_init(|| Arc::clone(principal));
        if first.subject != principal.subject {
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    /// A connection to the database is bound.
    pub(super) fn bound(&self, upstream: u32) {
        self.upstream.store(upstream, Ordering::SeqCst);
    }

    /// It no longer is. Whether another session may have it: a KILL that saw it here, or may have, is on its way else.
    /// (Sequentially consistent on both sides: either the KILL finds nothing, or it is seen here.)
    pub(super) fn unbound(&self) -> bool {
        self.upstream.store(0, Ordering::SeqCst);
        self.aimed.load(Ordering::SeqCst) == 0 && !self.is_killed()
    }

    /// A KILL has ended it: its next statement is told.
    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }

    /// Begins a KILL of the session, or of its statement only.
    pub(super) fn aim(&self, whole: bool) -> Aimed<'_> {
        self.aimed.fetch_add(1, Ordering::SeqCst);
        if whole {
            self.killed.store(true, Ordering::SeqCst);
        }
        Aimed(self)
    }

    /// Whether both are one session's.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.id == other.id
    }

    fn is_named(&self, identity: &str, target: usize, connection: u64) -> bool {
        let upstream = u64::from(self.upstream.load(Ordering::SeqCst));
        self.target == target
            && (u64::from(connection_id(self.id)) == connection
                || (upstream != 0 && upstream == connection))
            && self.identity.get().is_some_and(|own| own.subject == identity)
            && !self.changed.load(Ordering::Relaxed)
    }

    /// What it does now.
    pub(super) fn set(&self, activity: Activity) {
        let at = Activity::ALL.iter().position(|(known, _)| *known == activity).unwrap_or(0);
        self.activity.store(u8::try_from(at).unwrap_or(0), Ordering::Relaxed);
    }

    /// Another statement begins.
    pub(super) fn statement(&self, number: u64, verb: Verb, shape: &Arc<String>) {
        self.statements.store(number, Ordering::Relaxed);
        let at = Verb::ALL.iter().position(|known| *known == verb);
        self.verb
            .store(at.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX), Ordering::Relaxed);
        // Most sessions repeat themselves: to look is cheaper than to exchange.
        if !self.shape.load().as_ref().is_some_and(|known| Arc::ptr_eq(known, shape)) {
            self.shape.store(Some(Arc::clone(shape)));
        }
    }

    fn info(&self) -> SessionInfo {
        let activity = usize::from(self.activity.load(Ordering::Relaxed));
        let verb = usize::from(self.verb.load(Ordering::Relaxed));
        SessionInfo {
            id: self.id,
            identity: self.identity.get().map_or_else(String::new, |own| own.subject.clone()),
            target: self.target,
            source: self.source().to_owned(),
            state: Activity::ALL.get(activity).map_or("?", |(_, word)| word),
            verb: Verb::ALL.get(verb).map_or("", |verb| verb.as_str()),
            shape: self.shape.load().as_deref().cloned().unwrap_or_default(),
            since_us: self.since_us,
            statements: self.statements.load(Ordering::Relaxed),
            run: self
                .identity
                .get()
                .and_then(|own| own.attributes.get("run").cloned())
                .unwrap_or_default(),
        }
    }
}

/// A KILL under way.
pub(super) struct Aimed<'a>(&'a SessionCell);

impl Aimed<'_> {
    /// The database's connection that it is to reach; a KILL of a statement reaches none that runs nothing.
    pub(super) fn upstream(&self, statement: bool) -> Option<u32> {
        let running = Activity::ALL.iter().position(|(known, _)| *known == Activity::Running);
        let runs = Some(usize::from(self.0.activity.load(Ordering::Relaxed))) == running;
        let upstream = self.0.upstream.load(Ordering::SeqCst);
        (upstream != 0 && (runs || !statement)).then_some(upstream)
    }
}

impl Drop for Aimed<'_> {
    fn drop(&mut self) {
        self.0.aimed.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The connection id that a session's client is told: bit 31 keeps it apart from the database's.
pub(super) fn connection_id(session: u64) -> u32 {
    u32::try_from(session & 0x7fff_ffff).unwrap_or(0) | 0x8000_0000
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

    /// The session of this identity that a KILL names, by the gateway's id or the database's.
    pub(super) fn owned(
        &self,
        identity: &str,
        target: usize,
        connection: u64,
    ) -> Option<Arc<SessionCell>> {
        self.lock().values().find(|cell| cell.is_named(identity, target, connection)).cloned()
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
    use std::collections::BTreeMap;

    use super::*;
    use crate::identity::PrincipalKind;

    #[test]
    fn a_session_is_listed_until_it_ends() {
        let registry = Registry::default();
        let cell = Arc::new(SessionCell::new(7, 0, 5));
        registry.insert(Arc::clone(&cell));
        cell.comes_from("10.0.0.1".into());
        let bot = Principal {
            subject: "bot".into(),
            kind: PrincipalKind::Agent,
            groups: Vec::new(),
            attributes: BTreeMap::new(),
        };
        cell.logged_in(&Arc::new(bot));
        cell.set(Activity::Running);
        cell.statement(3, Verb::Drop, &Arc::new("drop table t".to_owned()));
        let listed = registry.list();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].identity.as_str(), listed[0].state), ("bot", "running"));
        assert_eq!(listed[0].source, "10.0.0.1");
        assert_eq!((listed[0].verb, listed[0].statements), ("drop", 3));
        assert_eq!(listed[0].shape, "drop table t");
        cell.statement(4, Verb::Select, &Arc::new("select ?".to_owned()));
        assert_eq!(registry.list()[0].shape, "select ?");
        assert!(registry.contains(7));
        registry.remove(7);
        assert!(registry.list().is_empty());
    }
}
