//! KILL by a client: of its own identity's sessions only, by the gateway's ids or the database's, over a connection of
//! the gateway's own.

use std::rc::Rc;

use super::{Pump, Stop};
use crate::fault::{Fault, FaultKind};
use crate::session::unknown_connection;
use crate::sql::Kill;

impl Pump {
    /// Answers [`crate::session::Op::Kill`].
    pub(super) async fn kill(&mut self, kill: Kill) -> Result<(), Stop> {
        let answer = self.killing(kill).await?;
        self.session.on_killed(answer);
        Ok(())
    }

    async fn killing(&mut self, kill: Kill) -> Result<Result<(), Fault>, Stop> {
        let worker = Rc::clone(&self.worker);
        let Some(facets) = self.session.facets() else { return Ok(Err(Fault::internal())) };
        let (identity, target) = (&facets.principal.subject, self.target_index);
        let mut registries = worker.shared.registries.iter();
        let found =
            registries.find_map(|registry| registry.owned(identity, target, kill.connection));
        let Some(cell) = found else { return Ok(Err(unknown_connection(kill.connection))) };
        // Until this is dropped, its connection to the database goes to nobody else.
        let aimed = cell.aim(!kill.query_only);
        if cell.is(&self.cell) {
            return Ok(if kill.query_only { Err(interrupted()) } else { Ok(()) });
        }
        let (Some(upstream), Some(pool)) = (aimed.upstream(kill.query_only), worker.pool(target))
        else {
            return Ok(Ok(()));
        };
        let what = if kill.query_only { "KILL QUERY" } else { "KILL" };
        let killed = pool.run_aside(&worker, format!("{what} {upstream}"));
        let killed = self.while_client_lives(killed).await?;
        // A session that has ended meanwhile has let its connection go: nothing is left there to be killed.
        let is_gone = aimed.upstream(false) != Some(upstream);
        Ok(if is_gone { Ok(()) } else { killed })
    }
}

/// What KILL QUERY says of the statement that it is.
fn interrupted() -> Fault {
    Fault::new(FaultKind::Shutdown, 1317, *b"70100", "Query execution was interrupted")
}

/// What a killed session's next statement is told.
pub(super) fn killed() -> Fault {
    let text = "Rowgate [RG-KILLED]: the session was ended by a KILL of its own identity";
    Fault::new(FaultKind::Shutdown, 1317, *b"70100", text)
}
