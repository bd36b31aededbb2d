//! The session's database connection: taken from the pool, given back, or ended together with what it runs.

use std::rc::Rc;
use std::sync::Arc;

use super::idle::Past;
use super::{Pump, Stop};
use crate::fault::Fault;
use crate::net::pool::Wanted;
use crate::net::upstream::Upstream;
use crate::session::{UpstreamReady, upstream};
use crate::sql::Trace;

impl Pump {
    /// Answers [`crate::session::Op::Connect`].
    pub(super) async fn connect(&mut self) -> Result<(), Stop> {
        let worker = Rc::clone(&self.worker);
        let Some(pool) = worker.pool(self.target_index) else {
            return Err(super::waits::lost("there is no such target"));
        };
        let key = self.session.upstream_key();
        let schema = self.session.wanted_schema().map(str::to_owned);
        let asked = self.worker.now();
        let (trace, found_rows) = (self.current.trace, self.past.rows);
        let client = self.address;
        let wanted = Wanted { key, schema: schema.as_deref(), client, trace, found_rows };
        let taken = self.while_client_lives(pool.take(&worker, wanted)).await?;
        if taken.as_ref().is_ok_and(|upstream| !self.reads_as_it_was_read(upstream)) {
            return Err(Stop::UpstreamLost(mode_changed()));
        }
        self.traces = trace != Trace::None;
        if taken.is_ok() {
            self.past.begins(self.current.leaves);
        }
        self.now = self.worker.now();
        self.current.queued(asked, self.now);
        let answer = taken.map(|upstream| {
            let ready = UpstreamReady { connection_id: upstream.connection_id };
            self.cell.bound(upstream.connection_id);
            self.upstream = Some(upstream);
            ready
        });
        self.session.on_upstream(answer);
        Ok(())
    }

    /// Whether the text that comes was read by the `sql_mode` of this connection: a DBA may have changed the server's just
    /// now.
    fn reads_as_it_was_read(&self, upstream: &Upstream) -> bool {
        let read_by = self.session.facets().map(|facets| facets.sql_mode);
        upstream.reads_by.is_none() || upstream.reads_by == read_by
    }

    /// The statement that comes may see what another session left, or leave what its next would see: nothing of the one
    /// is there any more, and the pool will be told of the other.
    pub(super) async fn unseen(&mut self) -> Result<(), Stop> {
        self.traces = true;
        let trace = self.current.trace;
        let seen = self.upstream.take_if(|upstream| !upstream.is_unseen(trace));
        let Some(mut upstream) = seen else { return Ok(()) };
        let (worker, target) = (Rc::clone(&self.worker), Arc::clone(&self.target));
        let schema = self.session.schema().map(str::to_owned);
        // What it may ask of its own last one is told to the new connection.
        let (schema, found_rows) = (schema.as_deref(), self.past.rows);
        let wanted = upstream::Wanted { reset: true, schema, found_rows, sql_mode: None };
        let reset = upstream.rebase(&worker, &target, wanted);
        let reset = Box::pin(self.while_client_lives(reset)).await?;
        reset.map_err(Stop::UpstreamLost)?;
        if !self.reads_as_it_was_read(&upstream) {
            return Err(Stop::UpstreamLost(mode_changed()));
        }
        self.upstream = Some(upstream);
        Ok(())
    }

    /// Gives the connection back to the pool, which resets it if it must.
    pub(super) fn release(&mut self, schema: Option<&str>) {
        self.sets = None;
        self.past = Past::default();
        let in_transaction = self.session.facets().is_none_or(|facets| facets.in_transaction);
        let traces = std::mem::take(&mut self.traces) || in_transaction;
        let Some(upstream) = self.upstream.take() else { return };
        self.locked = false;
        if std::mem::take(&mut self.tainted) {
            return;
        }
        if !self.cell.unbound() {
            // A KILL may still reach it, and would hit whoever has it next.
            return;
        }
        if let Some(pool) = self.worker.pool(self.target_index) {
            pool.give_back(&self.worker, upstream, schema, traces);
        }
    }

    /// Whether the statement that runs is to be finished, though its client is gone.
    pub(super) fn may_finish(&self) -> bool {
        let Some(verb) = self.current.verb().filter(|_| self.responding) else { return false };
        let permit = self.asking(|policies, asker| policies.permits_finish(asker, verb.as_str()));
        permit.is_some()
    }

    /// Leaves the connection to what it runs, until the database answers: that is the end of a write, and of what reads, too,
    /// since nobody takes the rows.
    pub(super) fn leave_upstream(&mut self) {
        let Some(upstream) = self.upstream.take() else { return };
        self.cell.unbound();
        if let Some(pool) = self.worker.pool(self.target_index) {
            pool.leave(&self.worker, upstream);
        }
    }

    /// Ends the connection and whatever it still runs: the database would go on with it.
    pub(super) fn abandon_upstream(&mut self) {
        let Some(upstream) = self.upstream.take() else { return };
        self.cell.unbound();
        if !self.responding || upstream.leg.eof {
            return;
        }
        if let Some(pool) = self.worker.pool(self.target_index) {
            pool.kill(&self.worker, upstream);
        }
    }
}

fn mode_changed() -> Fault {
    Fault::reads_otherwise("the database's sql_mode has just been changed; the session ends")
}
