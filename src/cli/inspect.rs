//! `rowgate check`, `plugin inspect` and `classify`: verbs that look and change nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::progress::during;
use super::{CliError, Context, from_gateway};
use crate::gateway;

pub(super) fn check(context: &Context) -> Result<(), CliError> {
    let path = context.config_path()?;
    let inputs = during("compiling plugins", || gateway::check(&path)).map_err(from_gateway)?;
    let answer = serde_json::json!({
        "ok": true,
        "policies": inputs.policies.len(),
        "targets": inputs.config.targets.len(),
        "plugins": inputs.config.plugins.len(),
        "version": inputs.digest.to_hex().to_string(),
    });
    let text = format!(
        "{} is fine: {} targets, {} policies, {} plugins",
        path.display(),
        inputs.config.targets.len(),
        inputs.policies.len(),
        inputs.config.plugins.len()
    );
    context.one(&answer, &text)
}

pub(super) fn plugin(context: &Context, file: &Path) -> Result<(), CliError> {
    let found = during("compiling it", || crate::plugin::inspect(file));
    let found = found.map_err(|error| CliError::input(error.to_string()))?;
    let text = format!(
        "name      {} {}\ncontract  {}\nhooks     {}\nmasks     {}\nimports   {}\nsize      {} bytes\ndigest    {}",
        found.name,
        found.version,
        found.contract,
        found.hooks.join(", "),
        found.masks.join(", "),
        found.imports.join(", "),
        found.bytes,
        found.digest
    );
    context.one(&found, &text)
}

/// A label that is proposed for a column.
#[derive(Serialize)]
struct Row {
    column: String,
    label: String,
    confidence: u8,
    because: &'static str,
    declared: bool,
}

pub(super) fn classify(context: &Context, target: &str, samples: u16) -> Result<(), CliError> {
    let path = context.config_path()?;
    let patience = Duration::from_secs(30);
    let found = during("looking at names and samples", || {
        gateway::classify(&path, target, samples, patience)
    });
    let found = found.map_err(from_gateway)?;
    let mut rows: BTreeMap<(String, String), Row> = BTreeMap::new();
    for proposal in found {
        let key = (proposal.column.clone(), proposal.label.clone());
        let row = Row {
            column: proposal.column,
            label: proposal.label,
            confidence: proposal.confidence,
            because: if proposal.by_value { "values" } else { "name" },
            declared: proposal.declared,
        };
        let stronger = rows.get(&key).is_none_or(|known| known.confidence < row.confidence);
        if stronger {
            rows.insert(key, row);
        }
    }
    let rows: Vec<Row> = rows.into_values().collect();
    let cells = rows.iter().map(|row| {
        [
            row.column.clone(),
            row.label.clone(),
            row.confidence.to_string(),
            row.because.to_owned(),
            if row.declared { "yes" } else { "no" }.to_owned(),
        ]
    });
    context.list(&rows, ["COLUMN", "LABEL", "CONFIDENCE", "BECAUSE OF", "DECLARED"], cells)
}
