//! A connection to the database, and what is still on it of those who had it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::io::{Leg, Port};
use super::own::converse;
use super::target::TargetState;
use super::tls::UpstreamTls;
use super::worker::Worker;
use crate::fault::Fault;
use crate::schema::{Flavour, SqlMode};
use crate::session::UpstreamKey;
use crate::session::upstream::{Baseline, Wanted};
use crate::sql::Trace;

/// How long a reset may take before the connection is given up.
const RESET: Duration = Duration::from_secs(5);

/// A connection that answered so lately is taken at its word; one that was quiet for longer is asked first, since a
/// network may have lost it without a trace.
const FRESH_NS: u64 = 10_000_000_000;

/// A connection to the database, logged in.
pub(super) struct Upstream {
    pub(super) leg: Leg,
    pub(super) port: Box<dyn Port>,
    /// The database's own id of it, for KILL.
    pub(super) connection_id: u32,
    /// What its greeting said it is.
    pub(super) flavour: Flavour,
    pub(super) key: UpstreamKey,
    /// The client's address that the database was told of it; none: the gateway's own.
    pub(super) origin: Option<IpAddr>,
    /// The database it is in, as its baseline set it.
    pub(super) schema: Option<String>,
    /// The target's `sql_mode` that its baseline set.
    pub(super) mode: Option<Arc<String>>,
    /// How text is read by that; none before it was set.
    pub(super) reads_by: Option<SqlMode>,
    pub(super) left: Left,
    /// Which of the target's credentials it was made with.
    pub(super) generation: u64,
    pub(super) made_ns: u64,
    pub(super) idle_since_ns: u64,
    /// One of the target's, for as long as it lives; none: the gateway's own errand.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// What earlier sessions left on a connection. It is not reset between those whose statements neither see nor leave more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It was reset since, or is new.
    Nothing,
    /// Counts of what it did: the last statement is this session's own.
    Counts,
    /// Those, and what tells of the last statement but its messages: this session's own last one failed.
    Rows,
    /// All that tells of the last statement.
    Last,
}

impl Upstream {
    /// Whether a statement that sees so much sees nothing of another session's.
    pub(super) fn is_unseen(&self, trace: Trace) -> bool {
        match self.left {
            Left::Nothing => true,
            Left::Counts => trace != Trace::Any,
            Left::Rows => matches!(trace, Trace::Messages | Trace::None),
            Left::Last => trace == Trace::None,
        }
    }

    /// Whether a session of this key, in this database or none, from there can have it. A connection that is in a database
    /// can't be brought out of it, so it never serves a session that is in none; what the database was told of its client
    /// holds to its end, so it serves that address only.
    pub(super) fn may_serve(
        &self,
        key: UpstreamKey,
        schema: Option<&str>,
        origin: Option<IpAddr>,
    ) -> bool {
        let has_way = schema.is_some() || self.schema.is_none();
        self.key == key && self.origin == origin && has_way
    }

    /// A statement of this session that reads a table has ended: what tells of the last one is now of it. One that failed
    /// has left messages, and no word of rows.
    pub(super) fn has_read(&mut self, succeeded: bool) {
        self.left = match (self.left, succeeded) {
            (Left::Rows | Left::Last, true) => Left::Counts,
            (Left::Last, false) => Left::Rows,
            (left, _) => left,
        };
    }

    /// The baseline under the target's `sql_mode`, within its time. After a reset it is nobody's again: all that its
    /// sessions left is forgotten.
    pub(super) async fn rebase(
        &mut self,
        worker: &Worker,
        target: &TargetState,
        wanted: Wanted<'_>,
    ) -> Result<(), Fault> {
        let baseline = self.baseline(worker, target, wanted);
        let silent = |_| Err(Fault::upstream_down("the database does not answer"));
        monoio::time::timeout(RESET, baseline).await.unwrap_or_else(silent)?;
        if wanted.reset {
            self.left = Left::Nothing;
        }
        Ok(())
    }

    /// Sends the baseline and hears its answers.
    async fn baseline(
        &mut self,
        worker: &Worker,
        target: &TargetState,
        wanted: Wanted<'_>,
    ) -> Result<(), Fault> {
        let mode = target.sql_mode.load_full();
        let mut out = worker.buffers.take(1);
        let sql_mode = mode.as_deref().map(String::as_str);
        let wanted_so = Wanted { sql_mode, ..wanted };
        let mut baseline = Baseline::start(&mut out, self.flavour, self.key, wanted_so);
        let step = |bytes: &[u8], _: &mut Vec<u8>| baseline.on_bytes(bytes);
        converse(&mut self.leg, &mut *self.port, &worker.buffers, out, &UpstreamTls::Off, step)
            .await?;
        self.schema = wanted.schema.map(str::to_owned);
        self.reads_by = sql_mode.map(|mode| self.key.reads_by(SqlMode::of(mode)));
        self.mode = mode;
        // What nobody asked for would be read as the answer to the next statement.
        let used_up = self.leg.is_used_up();
        used_up.then_some(()).ok_or_else(|| Fault::upstream_lost("the database spoke out of turn"))
    }

    /// Whether what was made of it when it came back is all that the next session needs: nothing more is said to the
    /// database then. Its end, had it ended the connection meanwhile, would be there to read.
    pub(super) fn is_fresh(&self, now_ns: u64, target: &TargetState, schema: Option<&str>) -> bool {
        *target.sql_mode.load() == self.mode
            && self.schema.as_deref() == schema
            && now_ns.saturating_sub(self.idle_since_ns) < FRESH_NS
            && self.leg.is_quiet()
    }
}
