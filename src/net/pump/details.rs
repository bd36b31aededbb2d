//! What an approver is shown of a held statement beside its text.

use std::sync::Arc;
use std::time::Duration;

use super::hold::unseen_parameters;
use super::{Pump, Stop};
use crate::approval::{DeskFull, MAX_PARAMETERS};
use crate::fault::Fault;
use crate::net::Explained;
use crate::net::decide::{Decision, Held};
use crate::run::Names;
use crate::session::{ShownParameters, Statement, StatementKind, Unshown};
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
        let shown = self.session.shown_parameters(bytes, MAX_PARAMETERS);
        let shown = shown.map_err(|why| match why {
            Unshown::Unknown => unseen_parameters(),
            Unshown::TooMany => DeskFull::TooLong.into(),
        })?;
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
            parameters: parameters(shown, &meant, held, is_bulk),
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
        // Whoever asks may see the number: where a column is labelled, it would tell of its values.
        let held = decision.shape.held.as_deref()?;
        if !held.is_plain || !held.labels_of_columns().is_empty() {
            return None;
        }
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

/// What a parameter is for.
#[derive(Clone, Default)]
struct Purpose {
    column: Option<String>,
    /// Labels that hide its values.
    labels: Vec<String>,
}

impl Purpose {
    /// A value whose column isn't known may be any column's: where some have labels, it is hidden.
    fn of(meant: Option<&Meant>, held: &Held) -> Self {
        match meant.and_then(|meant| held.column(meant)) {
            Some((name, None)) => Self { column: Some(name.to_owned()), labels: Vec::new() },
            Some((_, Some(labelled))) => {
                Self { column: Some(labelled.name.clone()), labels: labelled.labels.clone() }
            }
            None => Self { column: None, labels: held.labels_of_columns() },
        }
    }
}

/// The values with their columns; those that labels hide are left out.
fn parameters(
    ShownParameters { types, rows }: ShownParameters,
    meant: &[Option<Meant>],
    held: Option<&Held>,
    is_bulk: bool,
) -> Vec<Parameter> {
    let purpose = |meant: &Option<Meant>| held.map(|held| Purpose::of(meant.as_ref(), held));
    let purposes: Vec<Purpose> = meant.iter().map(|m| purpose(m).unwrap_or_default()).collect();
    let unknown = purpose(&None).unwrap_or_default();
    let rows = rows.into_iter().enumerate();
    let all = rows.flat_map(|(row, values)| {
        let (purposes, unknown, types) = (&purposes, &unknown, &types);
        values.into_iter().enumerate().map(move |(at, value)| {
            let Purpose { column, labels } = purposes.get(at).unwrap_or(unknown).clone();
            let value = value.filter(|_| labels.is_empty());
            let kind = types.get(at).copied().unwrap_or_default().to_owned();
            Parameter { row: is_bulk.then_some(row + 1), column, kind, masked: labels, value }
        })
    });
    all.collect()
}
