//! The session's database connection: taken from the pool, given back, or ended together with what it runs.

use std::rc::Rc;

use super::{Pump, Stop};
use crate::session::UpstreamReady;

impl Pump {
    /// Answers [`crate::session::Op::Connect`].
    pub(super) async fn connect(&mut self) -> Result<(), Stop> {
        let worker = Rc::clone(&self.worker);
        let Some(pool) = worker.pool(self.target_index) else {
            return Err(super::waits::lost("there is no such target"));
        };
        let (key, schema) = (self.session.upstream_key(), self.session.schema().map(str::to_owned));
        let asked = self.worker.now();
        let taken = self
            .while_client_lives(pool.take(&worker, key, schema.as_deref(), self.address))
            .await?;
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

    /// Gives the connection back to the pool, which resets it.
    pub(super) fn release(&mut self, schema: Option<&str>) {
        self.sets = None;
        let Some(upstream) = self.upstream.take() else { return };
        self.locked = false;
        if !self.cell.unbound() {
            // A KILL may still reach it, and would hit whoever has it next.
            return;
        }
        if let Some(pool) = self.worker.pool(self.target_index) {
            pool.give_back(&self.worker, upstream, schema);
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
