//! A session while it has no connection to the database: before its first statement, and once an idle one has given its
//! connection back.

use super::machine::Phase;
use super::{Ruling, Session};
use crate::codec::Capabilities;
use crate::schema::SqlMode;

impl Session {
    /// Whether another connection would do for the next command: the session waits for one, and has nothing open on the
    /// one it has.
    pub fn may_unbind(&self) -> bool {
        self.bound
            && self.is_idle()
            && self.statements.is_empty()
            && self.facets().is_some_and(|facets| !facets.in_transaction)
    }

    /// Its connection is not its own any more: the next statement asks for one.
    pub fn unbind(&mut self) {
        self.bound = false;
    }

    /// The database that its next connection must be in: with USE that database, since the one before may be gone.
    pub fn wanted_schema(&self) -> Option<&str> {
        match &self.phase {
            Phase::Connecting(_, Ruling::Run { uses: Some(name), .. }) => Some(name),
            _ => self.schema(),
        }
    }

    /// How its text is read by a connection that nothing was set on, while it has none: a DBA may have changed that since.
    pub fn reads_by(&mut self, server: SqlMode) {
        if !self.bound {
            self.sql_mode = self.with_own(server);
        }
    }

    /// The `sql_mode` of a session that has set nothing.
    pub(super) fn fresh_mode(&self) -> SqlMode {
        self.with_own(self.settings.profile.sql_mode)
    }

    /// The server's mode, and what the login asked for.
    fn with_own(&self, server: SqlMode) -> SqlMode {
        self.upstream_key().reads_by(server)
    }
}

impl super::UpstreamKey {
    /// The `sql_mode` of a connection by this key, over the server's own: CLIENT_IGNORE_SPACE is IGNORE_SPACE for good.
    pub fn reads_by(self, server: SqlMode) -> SqlMode {
        if Capabilities(self.capabilities).has(Capabilities::IGNORE_SPACE) {
            SqlMode(server.0 | SqlMode::IGNORE_SPACE)
        } else {
            server
        }
    }
}
