//! Writes to columns that the writer sees masked: none of their values may be a masked one.

use super::Pump;
use crate::net::decide::Decision;
use crate::policy::{Effect, Values, WRITE_BACK, written_back};
use crate::session::Statement;
use crate::sql;

/// Said of a statement whose parameters did not come with it.
const UNSEEN: &str = "it writes to columns that are masked for you, so its parameters must be seen: send all of them with \
                      the statement, and no long data";

impl Pump {
    /// The decision, or the refusal of a statement whose values could be what its own identity is shown. Most statements
    /// write to no such column; those that do are looked at each time, since their values are not what was decided on.
    pub(super) fn without_masked_values(
        &self,
        statement: &Statement,
        decision: Decision,
    ) -> Decision {
        let shape = &decision.shape;
        if shape.shown.is_empty() || matches!(shape.effect, Effect::Deny { .. }) {
            return decision;
        }
        let found = match self.values(statement) {
            None => Some(UNSEEN.to_owned()),
            Some(values) => {
                let subject = self.session.facets().map_or("", |facets| &facets.principal.subject);
                let by = (shape.plugins.as_ref(), self.worker.index, subject);
                written_back(&shape.shown, &values, by)
                    .unwrap_or_else(|fault| Some(format!("its values can't be looked at: {fault}")))
            }
        };
        match found {
            Some(message) => decision.refused(WRITE_BACK, &message),
            None => decision,
        }
    }

    /// What it brings; `None`: not all of it is known.
    fn values(&self, statement: &Statement) -> Option<Values> {
        let mut values = self.session.bound_values(self.client.peek())?;
        let facets = self.session.facets()?;
        let mut strings = self.worker.with_snapshot(|snapshot| {
            let catalog = snapshot.catalogs.get(self.target_index).and_then(Option::as_ref)?;
            Some(sql::strings(self.text(statement), &catalog.profile, facets.sql_mode))
        })?;
        values.strings.append(&mut strings);
        Some(values)
    }
}
