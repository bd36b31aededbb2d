//! What an approval is given for beside the statement's text: the tables as they are, with their labels. A table that is
//! altered, or labelled otherwise, is another one.

use std::collections::{BTreeMap, BTreeSet};

use crate::schema::{Catalog, LabelSet, Table, TableKind, fold};
use crate::sql::{Access, Facts, Meant};

/// The tables of a held statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Of their columns in order, of all labels, and of what views, triggers and routines do.
    pub digest: [u8; 32],
    /// The labels of each, and of its columns, where there are any.
    pub labels: BTreeMap<String, Vec<String>>,
    /// Each is known, and no view: whoever reads them calls nothing.
    pub is_plain: bool,
    /// Those of its columns that have labels, by their folded names.
    labelled: Vec<(String, LabelledColumn)>,
    /// The columns of the first table that is written to, as an INSERT without a list of names fills them.
    written: Vec<String>,
}

/// A column and its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledColumn {
    /// `shop.customers.ssn`.
    pub name: String,
    /// Never none.
    pub labels: Vec<String>,
}

impl Held {
    pub(super) fn of(facts: &Facts, catalog: &Catalog) -> Self {
        let mut hasher = blake3::Hasher::new();
        // Of all of them: what a view stands on, what a trigger does and whom a routine calls is not followed.
        hasher.update(&catalog.texts);
        let mut held = Self { is_plain: !facts.tables.is_empty(), ..Self::default() };
        for used in &facts.tables {
            part(&mut hasher, used.schema.as_bytes());
            part(&mut hasher, used.name.as_bytes());
            let Some(table) = catalog.table(&used.schema, &used.name) else {
                part(&mut hasher, b"unknown");
                held.is_plain = false;
                continue;
            };
            feed(&mut hasher, table, catalog);
            held.is_plain &= table.kind == TableKind::Base && !table.generates;
            held.add(table, catalog);
            if used.access == Access::Write && held.written.is_empty() {
                let seen = table.columns.iter().filter(|column| !column.invisible);
                held.written = seen.map(|column| column.name.clone()).collect();
            }
        }
        held.digest = *hasher.finalize().as_bytes();
        held
    }

    fn add(&mut self, table: &Table, catalog: &Catalog) {
        let names = |set| catalog.labels.names(set).into_iter().map(str::to_owned).collect();
        let name = format!("{}.{}", table.schema, table.name);
        for column in table.columns.iter().filter(|column| !column.labels.is_empty()) {
            let labelled = LabelledColumn {
                name: format!("{name}.{}", column.name),
                labels: names(column.labels),
            };
            self.labelled.push((fold(&column.name), labelled));
        }
        let all = table.all_labels();
        if !all.is_empty() {
            self.labels.insert(name, names(all));
        }
    }

    /// The labels that columns have.
    pub fn labels_of_columns(&self) -> Vec<String> {
        let all = self.labelled.iter().flat_map(|(_, column)| &column.labels);
        all.cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The column that a parameter is meant for: its name, and its labels if one of the tables has such a column with labels.
    pub fn column<'a>(&'a self, meant: &'a Meant) -> Option<(&'a str, Option<&'a LabelledColumn>)> {
        let name = match meant {
            Meant::Named(name) => name,
            Meant::Nth(nth) => self.written.get(*nth)?,
        };
        let folded = fold(name);
        let labelled = self.labelled.iter().find(|(known, _)| *known == folded);
        Some((name, labelled.map(|(_, column)| column)))
    }
}

/// All that says how a statement over the table is read. (Not its rows, nor how many there are.)
fn feed(hasher: &mut blake3::Hasher, table: &Table, catalog: &Catalog) {
    let flags = [
        table.kind == TableKind::View,
        table.sensitive,
        table.calls_sensitive,
        table.has_triggers,
        table.generates,
    ];
    part(hasher, &flags.map(u8::from));
    labels(hasher, table.labels, catalog);
    part(hasher, &table.columns.len().to_le_bytes());
    for column in &table.columns {
        part(hasher, column.name.as_bytes());
        part(hasher, column.data_type.as_bytes());
        part(hasher, &[u8::from(column.computed), u8::from(column.invisible)]);
        labels(hasher, column.labels, catalog);
    }
}

/// By their names, since a number is another label in another configuration.
fn labels(hasher: &mut blake3::Hasher, set: LabelSet, catalog: &Catalog) {
    let names = catalog.labels.names(set);
    part(hasher, &names.len().to_le_bytes());
    names.iter().for_each(|name| part(hasher, name.as_bytes()));
}

fn part(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}
