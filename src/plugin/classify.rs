//! The hooks that are not on the row path: classifying names and samples, deciding statements.

use super::abi::{
    ApprovalWish, ClassifiedColumn, Decided, ProposedLabel, StatementFacts, TableAccess, TableFact,
};
use super::loaded::Loaded;
use crate::policy::{GuardDecision, GuardInput, NULL, PluginFault};
use crate::sql::{Access, TableUse};

/// A column to classify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnName {
    /// Its database.
    pub schema: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Its data type.
    pub data_type: String,
}

/// A label that a plugin proposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The label.
    pub label: String,
    /// 0 to 100.
    pub confidence: u8,
    /// Which plugin.
    pub plugin: String,
}

impl Loaded {
    pub(super) fn classify_columns(
        &self,
        columns: &[ColumnName],
    ) -> Result<Vec<Vec<Proposal>>, PluginFault> {
        let asked = |column: &ColumnName| ClassifiedColumn {
            schema: column.schema.clone(),
            table: column.table.clone(),
            name: column.name.clone(),
            data_type: column.data_type.clone(),
        };
        let asked: Vec<ClassifiedColumn> = columns.iter().map(asked).collect();
        let mut instance = self.check_out(0, "")?;
        let labels = instance.classify_columns(self, &asked)?;
        self.give_back(0, instance);
        self.proposals(labels, columns.len())
    }

    pub(super) fn classify_values(
        &self,
        values: &[Option<Vec<u8>>],
    ) -> Result<Vec<Vec<Proposal>>, PluginFault> {
        let cells: Vec<u8> = values.iter().flatten().flatten().copied().collect();
        let len = |value: &Option<Vec<u8>>| {
            value.as_ref().map_or(NULL, |value| u32::try_from(value.len()).unwrap_or(0))
        };
        let lens: Vec<u32> = values.iter().map(len).collect();
        let mut instance = self.check_out(0, "")?;
        let labels = instance.classify_values(self, &cells, &lens)?;
        self.give_back(0, instance);
        self.proposals(labels, values.len())
    }

    fn proposals(
        &self,
        labels: Vec<Vec<ProposedLabel>>,
        wanted: usize,
    ) -> Result<Vec<Vec<Proposal>>, PluginFault> {
        if labels.len() != wanted {
            return Err(self.broke("another number of answers than questions"));
        }
        let proposal = |label: ProposedLabel| Proposal {
            label: label.name.chars().filter(|c| !c.is_control()).take(64).collect(),
            confidence: label.confidence.min(100),
            plugin: self.name.clone(),
        };
        Ok(labels.into_iter().map(|of| of.into_iter().take(8).map(proposal).collect()).collect())
    }

    pub(super) fn decide(
        &self,
        worker: usize,
        input: &GuardInput<'_>,
    ) -> Result<GuardDecision, PluginFault> {
        let mut instance = self.check_out(worker, &input.principal.subject)?;
        let decided = instance.decide(self, &facts(input))?;
        self.give_back(worker, instance);
        let clean = |text: String| -> String {
            text.chars().filter(|c| !c.is_control()).take(500).collect()
        };
        let plugin = self.name.clone();
        Ok(match decided {
            Decided::Allow => GuardDecision::Allow,
            Decided::Deny(reason) => GuardDecision::Deny { plugin, reason: clean(reason) },
            Decided::RequireApproval(ApprovalWish { reason, groups }) => {
                GuardDecision::RequireApproval { plugin, reason: clean(reason), groups }
            }
        })
    }
}

fn facts(input: &GuardInput<'_>) -> StatementFacts {
    let facts = &input.analysis.facts;
    let table = |table: &TableUse| TableFact {
        schema: table.schema.clone(),
        name: table.name.clone(),
        access: match table.access {
            Access::Read => TableAccess::Read,
            Access::Write => TableAccess::Write,
            Access::Define => TableAccess::Define,
        },
        labels: input.labels.names(table.labels).into_iter().map(str::to_owned).collect(),
        estimated_rows: table.estimated_rows,
    };
    StatementFacts {
        subject: input.principal.subject.clone(),
        groups: input.principal.groups.clone(),
        target: input.target.to_owned(),
        schema: input.schema.map(str::to_owned),
        digest: input.analysis.digest.to_string(),
        shape: String::from_utf8_lossy(input.text).into_owned(),
        verb: facts.verb.as_str().to_owned(),
        tables: facts.tables.iter().map(table).collect(),
        has_where: facts.has_where,
        key_pinned: facts.key_pinned,
        limit: facts.limit,
        sensitive: facts.is_sensitive(),
        prepared: input.prepared,
    }
}
