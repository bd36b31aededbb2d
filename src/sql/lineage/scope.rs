//! What names mean at one place of a statement: the relations of a FROM, and those outside.

use super::{Found, either};
use crate::schema::{LabelSet, Same, Table, same};
use crate::sql::facts::{ColumnRef, Lineage, Output, Unknown};

/// One relation of a FROM.
#[derive(Clone)]
pub(super) struct Relation {
    /// The database, where it is a table.
    pub(super) schema: Option<String>,
    /// Alias or name.
    pub(super) name: String,
    /// Those of `*` first.
    pub(super) columns: Vec<Output>,
    /// How many of them `*` has.
    pub(super) visible: usize,
    /// The server tells names of tables apart by case.
    pub(super) by_case: bool,
}

/// The relations of one FROM.
#[derive(Clone, Default)]
pub(super) struct Scope<'a> {
    pub(super) relations: Vec<Relation>,
    pub(super) outer: Option<&'a Scope<'a>>,
    /// A NATURAL or USING join merges columns: `*` then has another order than the relations'.
    pub(super) merged: bool,
    /// What the SELECT calls its outputs: a subquery in its list may mean these, before what is further outside.
    pub(super) aliases: Vec<String>,
}

impl Relation {
    /// A table of the catalogue.
    pub(super) fn of(table: &Table, alias: Option<&str>, by_case: bool) -> Self {
        let column = |column: &crate::schema::Column| {
            let labelled = ColumnRef {
                schema: table.schema.clone(),
                table: table.name.clone(),
                name: column.name.clone(),
                labels: column.labels,
            };
            let lineage = match column.labels {
                LabelSet::EMPTY => Lineage::Free,
                _ if column.computed => Lineage::Computed(vec![labelled]),
                _ => Lineage::Bare(vec![labelled]),
            };
            Output { name: Some(column.name.clone()), lineage }
        };
        let shown = table.columns.iter().filter(|column| !column.invisible);
        let hidden = table.columns.iter().filter(|column| column.invisible);
        Self {
            schema: Some(table.schema.clone()),
            name: alias.unwrap_or(&table.name).to_owned(),
            visible: shown.clone().count(),
            columns: shown.chain(hidden).map(column).collect(),
            by_case,
        }
    }

    /// What a subquery or a CTE gives.
    pub(super) fn made(name: &str, columns: Vec<Output>, by_case: bool) -> Self {
        let visible = columns.len();
        Self { schema: None, name: name.to_owned(), columns, visible, by_case }
    }

    /// Whether `[schema.]table` means this relation.
    fn is_called(&self, schema: Option<&str>, table: &str) -> Same {
        let called = self.compare(&self.name, table);
        let of_schema = match (schema, &self.schema) {
            (None, _) => Same::Yes,
            (Some(schema), Some(own)) => self.compare(own, schema),
            (Some(_), None) => Same::Perhaps,
        };
        match (called, of_schema) {
            (Same::Yes, Same::Yes) => Same::Yes,
            (Same::No, _) | (_, Same::No) => Same::No,
            _ => Same::Perhaps,
        }
    }

    fn compare(&self, own: &str, wanted: &str) -> Same {
        match same(own, wanted) {
            Same::Yes if self.by_case && own != wanted => Same::Perhaps,
            other => other,
        }
    }

    /// The columns of `*`.
    fn shown(&self) -> &[Output] {
        self.columns.get(..self.visible).unwrap_or_default()
    }

    /// Has a labelled column whose name only the server knows.
    fn has_unnamed(&self) -> bool {
        self.columns.iter().any(|c| c.name.is_none() && !c.lineage.columns().is_empty())
    }

    fn column(&self, name: &str) -> Found<Option<&Output>> {
        let mut found = None;
        for column in &self.columns {
            match column.name.as_ref().map_or(Same::No, |own| same(own, name)) {
                Same::No => {}
                Same::Yes if found.is_none() => found = Some(column),
                Same::Yes | Same::Perhaps => return Err(ambiguous(name)),
            }
        }
        Ok(found)
    }
}

impl Scope<'_> {
    /// The column that a dotted name means, here or outside.
    pub(super) fn resolve(&self, parts: &[String]) -> Found<Lineage> {
        match self.find(parts)? {
            Some(lineage) => Ok(lineage),
            None if self.hides(parts) => Err(ambiguous(&parts.join("."))),
            None => match self.outer {
                Some(outer) => outer.resolve(parts),
                None => Err(Unknown::Column(parts.join(".").chars().take(128).collect())),
            },
        }
    }

    /// Whether the server may find here what `find` did not: an output by its alias, `_rowid`, a column that it named.
    fn hides(&self, parts: &[String]) -> bool {
        let Some(name) = parts.last() else { return true };
        let aliased =
            parts.len() == 1 && self.aliases.iter().any(|own| same(own, name) != Same::No);
        let rowid = name.eq_ignore_ascii_case("_rowid") && !self.relations.is_empty();
        aliased || rowid || self.relations.iter().any(Relation::has_unnamed)
    }

    /// The same without an error where there is none.
    pub(super) fn find(&self, parts: &[String]) -> Found<Option<Lineage>> {
        let (schema, table, name) = match parts {
            [name] => (None, None, name),
            [table, name] => (None, Some(table), name),
            [schema, table, name] => (Some(schema.as_str()), Some(table), name),
            _ => return Err(ambiguous(&parts.join("."))),
        };
        let mut found: Option<Lineage> = None;
        for relation in &self.relations {
            match table.map_or(Same::Yes, |table| relation.is_called(schema, table)) {
                Same::Yes => {}
                Same::No => continue,
                Same::Perhaps => return Err(ambiguous(name)),
            }
            let Some(column) = relation.column(name)? else { continue };
            found = match found {
                None => Some(column.lineage.clone()),
                Some(other) if self.merged => Some(either(other, column.lineage.clone())),
                Some(_) => return Err(ambiguous(name)),
            };
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
        Ok(self.relations.iter().flat_map(Relation::shown).cloned().collect())
    }

    /// Every column of one relation, as `t.*` gives them.
    pub(super) fn all_of(&self, parts: &[String]) -> Found<Vec<Output>> {
        let (schema, table) = match parts {
            [table] => (None, table),
            [schema, table] => (Some(schema.as_str()), table),
            _ => return Err(ambiguous(&parts.join("."))),
        };
        let mut found = None;
        for relation in &self.relations {
            match relation.is_called(schema, table) {
                Same::No => {}
                Same::Yes if found.is_none() => found = Some(relation),
                Same::Yes | Same::Perhaps => return Err(ambiguous(table)),
            }
        }
        Ok(found.ok_or_else(|| ambiguous(table))?.shown().to_vec())
    }
}

fn ambiguous(name: &str) -> Unknown {
    Unknown::Name(name.chars().take(128).collect())
}
