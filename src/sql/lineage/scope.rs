//! What names mean at one place of a statement: the relations of a FROM, and those outside.

use super::Found;
use crate::schema::{LabelSet, Table, fold};
use crate::sql::facts::{ColumnRef, Lineage, Output, Unknown};

/// One relation of a FROM.
#[derive(Clone)]
pub(super) struct Relation {
    /// The database, where it is a table named without an alias.
    pub(super) schema: Option<String>,
    /// Alias or name, folded.
    pub(super) name: String,
    pub(super) columns: Vec<Output>,
}

/// The relations of one FROM.
#[derive(Clone, Default)]
pub(super) struct Scope<'a> {
    pub(super) relations: Vec<Relation>,
    pub(super) outer: Option<&'a Scope<'a>>,
    /// A NATURAL or USING join merges columns: `*` then has another order than the relations'.
    pub(super) merged: bool,
}

impl Relation {
    /// A table of the catalogue.
    pub(super) fn of(table: &Table, alias: Option<&str>) -> Self {
        let column = |column: &crate::schema::Column| {
            let labelled = ColumnRef {
                schema: table.schema.clone(),
                table: table.name.clone(),
                name: column.name.clone(),
                labels: column.labels,
            };
            let lineage = match column.labels {
                LabelSet::EMPTY => Lineage::Free,
                _ => Lineage::Bare(vec![labelled]),
            };
            Output { name: Some(column.name.clone()), lineage }
        };
        Self {
            schema: alias.is_none().then(|| fold(&table.schema)),
            name: fold(alias.unwrap_or(&table.name)),
            columns: table.columns.iter().map(column).collect(),
        }
    }

    fn column(&self, name: &str) -> Found<Option<&Output>> {
        let wanted = fold(name);
        let is = |column: &&Output| column.name.as_ref().is_some_and(|n| fold(n) == wanted);
        let mut found = self.columns.iter().filter(is);
        match (found.next(), found.next()) {
            (column, None) => Ok(column),
            _ => Err(ambiguous(name)),
        }
    }
}

impl Scope<'_> {
    /// The column that a dotted name means, here or outside.
    pub(super) fn resolve(&self, parts: &[String]) -> Found<Lineage> {
        match self.find(parts)? {
            Some(lineage) => Ok(lineage),
            None => match self.outer {
                Some(outer) => outer.resolve(parts),
                None => Err(Unknown::Name(parts.join(".").chars().take(128).collect())),
            },
        }
    }

    /// The same without an error where there is none.
    pub(super) fn find(&self, parts: &[String]) -> Found<Option<Lineage>> {
        let (schema, table, name) = match parts {
            [name] => (None, None, name),
            [table, name] => (None, Some(fold(table)), name),
            [schema, table, name] => (Some(fold(schema)), Some(fold(table)), name),
            _ => return Err(ambiguous(&parts.join("."))),
        };
        let mut found = None;
        for relation in &self.relations {
            let other = table.as_ref().is_some_and(|table| *table != relation.name)
                || (schema.is_some() && schema != relation.schema);
            if other {
                continue;
            }
            if let Some(column) = relation.column(name)?
                && found.replace(column.lineage.clone()).is_some()
                && !self.merged
            {
                return Err(ambiguous(name));
            }
        }
        Ok(found)
    }

    /// Every column, as `*` gives them.
    pub(super) fn all(&self) -> Found<Vec<Output>> {
        if self.merged {
            return Err(Unknown::Construct("* over NATURAL JOIN or USING"));
        }
        if self.relations.is_empty() {
            return Err(Unknown::Construct("* without FROM"));
        }
        Ok(self.relations.iter().flat_map(|relation| relation.columns.clone()).collect())
    }

    /// Every column of one relation, as `t.*` gives them.
    pub(super) fn all_of(&self, parts: &[String]) -> Found<Vec<Output>> {
        let (schema, table) = match parts {
            [table] => (None, fold(table)),
            [schema, table] => (Some(fold(schema)), fold(table)),
            _ => return Err(ambiguous(&parts.join("."))),
        };
        let is = |relation: &&Relation| {
            relation.name == table && (schema.is_none() || schema == relation.schema)
        };
        let mut found = self.relations.iter().filter(is);
        match (found.next(), found.next()) {
            (Some(relation), None) => Ok(relation.columns.clone()),
            _ => Err(ambiguous(&table)),
        }
    }
}

fn ambiguous(name: &str) -> Unknown {
    Unknown::Name(name.chars().take(128).collect())
}
