//! An idle session's connection goes back to the pool, where the session could not tell another one from it.
//!
//! What could tell is whatever a statement has left there that can't be made again elsewhere: variables, locks, temporary
//! tables, LAST_INSERT_ID, messages and so on. After a statement that has only read, that is FOUND_ROWS(), which is told to
//! the next connection.

use super::Pump;
use crate::session::upstream::MAX_FOUND_ROWS;
use crate::session::{Outcome, StatementKind};
use crate::sql::Leaves;

/// What a command leaves to its session, with a text that leaves this as a query. A statement that is prepared stays, which
/// the session sees to; what it does is its EXECUTE's.
pub(super) fn left_by(kind: StatementKind, leaves: Leaves) -> Leaves {
    match kind {
        StatementKind::InitDb | StatementKind::Statistics | StatementKind::Fetch => Leaves::Last,
        StatementKind::Command(_) => Leaves::More,
        StatementKind::Prepare if leaves == Leaves::Rows => Leaves::Last,
        StatementKind::Query
        | StatementKind::Prepare
        | StatementKind::Execute
        | StatementKind::BulkExecute => leaves,
    }
}

/// What a session could still look for on its connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    /// What no other connection has, as long as the session lives.
    more: bool,
    /// The last statements' messages may be there.
    messages: bool,
    /// What FOUND_ROWS() is to tell, if that is all that tells of the last statement.
    pub(super) rows: Option<u16>,
}

impl Past {
    /// A statement is sent.
    pub(super) fn begins(&mut self, leaves: Leaves) {
        self.more |= leaves == Leaves::More;
        // (Until it is over, and where it never begins.)
        self.rows = self.rows.filter(|_| leaves == Leaves::Rows);
    }

    /// The database has answered it. `reads`: from tables, which makes both servers forget the messages of those before.
    fn ended(&mut self, leaves: Leaves, reads: bool, outcome: &Outcome) {
        let failed = outcome.error_code != 0;
        let silent = !failed && outcome.warnings == 0;
        self.messages = !silent || (self.messages && !(reads && leaves == Leaves::Rows));
        let rows = u16::try_from(outcome.rows).ok().filter(|rows| *rows <= MAX_FOUND_ROWS);
        self.rows = rows.filter(|_| !failed && leaves == Leaves::Rows);
    }

    /// Whether another connection would do.
    fn can_be_made_again(self) -> bool {
        !self.more && !self.messages && self.rows.is_some()
    }
}

impl Pump {
    /// The database has answered the statement under way.
    pub(super) fn remember(&mut self, outcome: &Outcome) {
        // What the gateway answered by itself has left nothing.
        if outcome.fault.is_some() {
            return;
        }
        // Its rows may be those of a cursor, still to be fetched.
        let may_have_cursor = self.current.prepared && outcome.rows == 0;
        let leaves = if may_have_cursor { Leaves::Last } else { self.current.leaves };
        self.past.ended(leaves, self.current.reads, outcome);
    }

    /// From when on an idle session's connection may go back; 0: it may not.
    pub(super) fn gives_back_at(&self) -> u64 {
        match self.target.runtime.idle_release {
            Some(after) if self.may_give_back() => self.now.after(after),
            _ => 0,
        }
    }

    fn may_give_back(&self) -> bool {
        self.upstream.is_some()
            && self.past.can_be_made_again()
            && !self.locked
            && self.session.may_unbind()
    }

    /// The worker's tick asks for the connection: it goes back, if the client has not begun to speak.
    pub(super) fn give_back(&mut self) {
        let pool = self.worker.pool(self.target_index);
        let is_wanted = pool.is_some_and(|pool| pool.takes_back(&self.worker));
        if !is_wanted || self.client.len() > 0 || !self.may_give_back() {
            return;
        }
        self.control.may_give_back_from(0);
        self.session.unbind();
        let (schema, rows) = (self.session.schema().map(str::to_owned), self.past.rows);
        self.release(schema.as_deref());
        self.past.rows = rows;
        self.worker.metrics().gave_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Outcome = Outcome {
        rows: 0,
        bytes: 0,
        masked_cells: 0,
        affected_rows: 0,
        warnings: 0,
        error_code: 0,
        fault: None,
    };

    /// After statements of which each left this, reads from a table or not, and was answered so.
    fn after(statements: &[(Leaves, bool, Outcome)]) -> Past {
        let mut past = Past::default();
        for (leaves, reads, outcome) in statements {
            past.begins(*leaves);
            past.ended(*leaves, *reads, outcome);
        }
        past
    }

    #[test]
    fn what_was_read_last_can_be_told_again() {
        let rows = |rows| Outcome { rows, ..NOTHING };
        for (count, told) in [(0, Some(0)), (7, Some(7)), (1_000, Some(1_000)), (1_001, None)] {
            let past = after(&[(Leaves::Rows, true, rows(count))]);
            assert_eq!((past.rows, past.can_be_made_again()), (told, told.is_some()), "{count}");
        }
        assert!(!Past::default().can_be_made_again());
        let past = after(&[(Leaves::Last, true, rows(1)), (Leaves::Rows, true, rows(2))]);
        assert!(past.can_be_made_again());
        let past = after(&[(Leaves::Rows, true, rows(2)), (Leaves::Last, true, rows(1))]);
        assert!(!past.can_be_made_again());
        let past = after(&[(Leaves::More, true, rows(1)), (Leaves::Rows, true, rows(2))]);
        assert!(!past.can_be_made_again());
    }

    #[test]
    fn messages_stay_until_a_table_is_read_in_silence() {
        let warned = (Leaves::Rows, true, Outcome { warnings: 1, ..NOTHING });
        let failed = (Leaves::Rows, true, Outcome { error_code: 1054, ..NOTHING });
        for before in [warned, failed] {
            assert!(!after(&[before]).can_be_made_again());
            assert!(!after(&[before, (Leaves::Rows, false, NOTHING)]).can_be_made_again());
            assert!(!after(&[before, (Leaves::Last, true, NOTHING)]).can_be_made_again());
            assert!(after(&[before, (Leaves::Rows, true, NOTHING)]).can_be_made_again());
        }
    }
}
