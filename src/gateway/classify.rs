//! `rowgate classify`: looks at a target's columns, by name and by sample, and proposes labels. Samples stay in memory
//! and are shown to nobody but the classifying plugins.

use std::path::Path;
use std::time::Duration;

use super::{GatewayError, Inputs, Texts, custody_start};
use crate::catalog;
use crate::net::Credentials;
use crate::net::side::SideTarget;
use crate::plugin::ColumnName;
use crate::schema::{Table, TableKind};

/// Longest value that is looked at, in bytes.
const MAX_SAMPLE: usize = 4 << 10;

/// A label that a plugin proposes for a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// `schema.table.column`.
    pub column: String,
    /// The label.
    pub label: String,
    /// 0 to 100.
    pub confidence: u8,
    /// By its values rather than its name.
    pub by_value: bool,
    /// The configuration has it already.
    pub declared: bool,
}

/// Classifies every column of a target. `samples` values of each column of text are looked at.
pub fn classify(
    file: &Path,
    name: &str,
    samples: u16,
    patience: Duration,
) -> Result<Vec<Proposed>, GatewayError> {
    let inputs = Inputs::build(Texts::read(file)?, None, 1)?;
    let failed = |error: &dyn std::fmt::Display| GatewayError::Failed(format!("{name}: {error}"));
    let target = inputs.config.targets.iter().find(|target| target.name == name);
    let target = target.ok_or_else(|| {
        let names: Vec<&str> = inputs.config.targets.iter().map(|t| t.name.as_str()).collect();
        let names = names.join(", ");
        GatewayError::Input(format!(
            "{}: no target is called {name:?}; there are {names}",
            file.display()
        ))
    })?;
    let account = custody_start::account_now(file, &inputs.config, target)?;
    let side = SideTarget {
        address: target.address.clone(),
        credentials: Credentials::new(account),
        tls: super::settings::upstream_tls(target).map_err(|error| failed(&error))?,
        proxy_protocol: target.proxy_protocol,
    };
    let mut connection = None;
    let raw = side.describe(&mut connection, patience).map_err(|error| failed(&error))?;
    let catalog = catalog::build(&raw, &inputs.label_rules, &inputs.labels, 0);
    let mut tables: Vec<&Table> =
        catalog.tables().filter(|table| table.kind == TableKind::Base).collect();
    tables.sort_by_key(|table| (&table.schema, &table.name));
    let mut proposed = Vec::new();
    for table in tables {
        let names: Vec<ColumnName> = table.columns.iter().map(|c| name_of(table, c)).collect();
        let by_name = inputs.plugins.classify_columns(&names).map_err(|error| failed(&error))?;
        let mut add = |at: usize, label: &str, confidence: u8, by_value: bool| {
            let Some(column) = table.columns.get(at) else { return };
            let declared = catalog.labels.names(column.labels).contains(&label);
            let column = format!("{}.{}.{}", table.schema, table.name, column.name);
            let label = label.to_owned();
            proposed.push(Proposed { column, label, confidence, by_value, declared });
        };
        for (at, proposals) in by_name.iter().enumerate() {
            proposals.iter().for_each(|p| add(at, &p.label, p.confidence, false));
        }
        if samples == 0 {
            continue;
        }
        let sql = sample_query(table, samples);
        let rows = side.query(&mut connection, &sql, patience).map_err(|error| failed(&error))?;
        for at in 0..table.columns.len() {
            let values: Vec<Option<Vec<u8>>> =
                rows.iter().map(|row| row.get(at).cloned().flatten().map(cut)).collect();
            let found = inputs.plugins.classify_values(&values).map_err(|error| failed(&error))?;
            for (label, confidence) in strongest(&found, values.iter().flatten().count()) {
                add(at, &label, confidence, true);
            }
        }
    }
    Ok(proposed)
}

fn name_of(table: &Table, column: &crate::schema::Column) -> ColumnName {
    ColumnName {
        schema: table.schema.clone(),
        table: table.name.clone(),
        name: column.name.clone(),
        data_type: column.data_type.clone(),
    }
}

fn sample_query(table: &Table, samples: u16) -> String {
    let quote = |name: &str| format!("`{}`", name.replace('`', "``"));
    let columns: Vec<String> = table.columns.iter().map(|column| quote(&column.name)).collect();
    let (columns, schema, name) = (columns.join(", "), quote(&table.schema), quote(&table.name));
    format!("SELECT {columns} FROM {schema}.{name} LIMIT {samples}")
}

fn cut(mut value: Vec<u8>) -> Vec<u8> {
    value.truncate(MAX_SAMPLE);
    value
}

/// Labels over a column's values, with the share of values that carry them as confidence.
fn strongest(found: &[Vec<crate::plugin::Proposal>], values: usize) -> Vec<(String, u8)> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for proposal in found.iter().flatten() {
        match counts.iter_mut().find(|(label, _)| *label == proposal.label) {
            Some((_, count)) => *count += 1,
            None => counts.push((proposal.label.clone(), 1)),
        }
    }
    let share = |count: usize| u8::try_from(count * 100 / values.max(1)).unwrap_or(100).max(1);
    counts.into_iter().map(|(label, count)| (label, share(count))).collect()
}
