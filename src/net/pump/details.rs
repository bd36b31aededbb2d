//! What an approver is shown of a held statement beside its text.

use std::sync::Arc;
use std::time::Duration;

use super::hold::unseen_parameters;
use super::{Pump, Stop};
use crate::fault::Fault;
use crate::net::Explained;
use crate::net::decide::{Decision, Held};
use crate::run::Names;
use crate::session::{ShownRow, Statement, StatementKind};
use crate::sql::{self, Meant};
use crate::store::{Details, Named, Parameter};

/// What an estimate may cost: people take longer.
const PATIENCE: Duration = Duration::from_secs(1);

impl Pump {
    pub(super) fn details(
        &self,
        statement: &Statement,
        decision: &Decision,
        text: &[u8],
    ) -> Result<Details, Fault> {
        let bytes = self.client.peek();
        let mode = self.session.facets().map(|facets| facets.sql_mode).unwrap_or_default();
        let (layout, meant) = self.worker.with_snapshot(|snapshot| {
            let catalog = snapshot.catalogs.get(self.target_index).and_then(Option::as_ref);
            let Some(catalog) = catalog else { return (None, Vec::new()) };
            let layout = std::str::from_utf8(text).ok();
            let layout = layout.and_then(|text| sql::laid_out(text, &catalog.profile, mode));
            (layout, sql::meant(text, &catalog.profile, mode))
        });
        let rows = self.session.shown_parameters(bytes).ok_or_else(unseen_parameters)?;
        let is_bulk = statement.kind == StatementKind::BulkExecute;
        let held = decision.shape.held.as_deref();
        let run = self.said(decision, Names::ALL).pairs();
        let attributes = self.session.attributes(bytes).map(|attribute| Named {
            name: attribute.name.escape_ascii().to_string(),
            value: attribute.value.map(|value| value.escape_ascii().to_string()),
        });
        Ok(Details {
            source: self.cell.source().to_owned(),
            run: run.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            attributes: attributes.collect(),
            shape: decision.shape.digest_text.to_string(),
            layout,
            labels: held.map(|held| held.labels.clone()).unwrap_or_default(),
            parameters: parameters(rows, &meant, held, is_bulk),
            estimated_rows: None,
        })
    }
}

impl Pump {
    /// How many rows the database expects it to look at, if it can say so in time, and without running any of it.
    pub(super) async fn estimate(
        &mut self,
        statement: &Statement,
        decision: &Decision,
    ) -> Result<Option<u64>, Stop> {
        let Some(of) = self.explained(statement, decision) else { return Ok(None) };
        let shared = Arc::clone(&self.worker.shared);
        let asked = shared.schemas.estimate(self.target_index, of);
        let estimate = self.while_client_lives(monoio::time::timeout(PATIENCE, asked)).await?;
        Ok(estimate.ok().flatten())
    }

    fn explained(&self, statement: &Statement, decision: &Decision) -> Option<Explained> {
        decision.shape.held.as_ref().filter(|held| held.is_plain)?;
        let facets = self.session.facets()?;
        let text = decision.canonical.as_deref().unwrap_or_else(|| self.text(statement));
        let text = std::str::from_utf8(text).ok()?;
        let flavour = self.worker.with_snapshot(|snapshot| {
            let catalog = snapshot.catalogs.get(self.target_index).and_then(Option::as_ref)?;
            let profile = &catalog.profile;
            sql::is_explainable(text, profile, facets.sql_mode).then_some(profile.flavour)
        })?;
        let schema = facets.schema.map(str::to_owned);
        Some(Explained { schema, statement: text.to_owned(), flavour })
    }
}

/// The values with their columns; those of columns that have labels are left out.
fn parameters(
    rows: Vec<ShownRow>,
    meant: &[Option<Meant>],
    held: Option<&Held>,
    is_bulk: bool,
) -> Vec<Parameter> {
    let rows = rows.into_iter().enumerate();
    let all = rows.flat_map(|(row, values)| {
        values.into_iter().enumerate().map(move |(at, value)| {
            let meant = meant.get(at).and_then(Option::as_ref);
            let found = held.zip(meant).and_then(|(held, meant)| held.column(meant));
            let labelled = found.and_then(|(_, labelled)| labelled);
            Parameter {
                row: is_bulk.then_some(row + 1),
                column: found.map(|(name, labelled)| {
                    labelled.map_or_else(|| name.to_owned(), |column| column.name.clone())
                }),
                masked: labelled.map(|column| column.labels.clone()).unwrap_or_default(),
                value: value.filter(|_| labelled.is_none()),
            }
        })
    });
    all.collect()
}
