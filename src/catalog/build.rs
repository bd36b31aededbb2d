//! From the server's description and the label rules to a catalogue.

use std::collections::{HashMap, HashSet};

use super::Raw;
use super::rows::{RawKeyPart, RawTable, RawText};
use crate::policy::LabelRules;
use crate::schema::{
    Catalog, Column, LabelId, LabelSet, Labels, Routine, SqlMode, Table, TableKind, fold,
};
use crate::sql::{
    Context, calls_sensitive, sets_reading, table_labels, touches, view_lineage, writes,
};

/// Views and routines may stand on one another; each round settles at least one level. Deeper nesting than
/// this is left with every label there is: masked, not missed.
const MAX_ROUNDS: usize = 16;

/// Builds the catalogue of one description.
pub fn build(raw: &Raw, rules: &LabelRules, labels: &Labels, epoch: u64) -> Catalog {
    let everything = labels_all(labels);
    let texts = texts(raw);
    let mut tables = base_tables(raw, rules);
    let mut routines = plain_routines(raw);
    let views: HashMap<(&str, &str), &RawText> =
        raw.views.iter().map(|v| ((v.schema.as_str(), v.name.as_str()), v)).collect();
    let of = |tables: &[Table], routines: &[Routine]| {
        let (profile, labels) = (raw.profile.clone(), labels.clone());
        let (tables, routines) = (tables.to_vec(), routines.to_vec());
        let mut catalog = Catalog::new(epoch, profile, labels, tables, routines);
        catalog.texts = texts;
        catalog
    };
    for round in 0..=MAX_ROUNDS {
        let catalog = of(&tables, &routines);
        let unsettled = round == MAX_ROUNDS;
        let mut changed = false;
        for table in tables.iter_mut().filter(|table| table.kind == TableKind::View) {
            let view = views.get(&(table.schema.as_str(), table.name.as_str()));
            let text = view.and_then(|view| view.text.as_deref()).filter(|_| !unsettled);
            changed |= inherit(table, text, &catalog, everything);
        }
        changed |= mark_triggers(&mut tables, &raw.triggers, &catalog);
        for (routine, text) in routines.iter_mut().zip(&raw.routines) {
            let writes = text.text.as_deref().is_some_and(|body| writes(body, &catalog));
            let sensitive = unsettled || writes || reaches(text, &catalog);
            changed |= sensitive != routine.sensitive;
            routine.sensitive = sensitive;
        }
        if !changed {
            return catalog;
        }
    }
    of(&tables, &routines)
}

/// A digest of all that runs by itself when a table is read or written, or a routine called.
fn texts(raw: &Raw) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut part = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    for (kind, all) in [("v", &raw.views), ("t", &raw.triggers), ("r", &raw.routines)] {
        for one in all {
            part(kind);
            [&*one.schema, &*one.name, one.text.as_deref().unwrap_or("?")]
                .iter()
                .for_each(|text| part(text));
        }
    }
    for column in &raw.columns {
        let Some(expression) = &column.generated_from else { continue };
        part("c");
        [&*column.schema, &*column.table, &*column.name, &**expression]
            .iter()
            .for_each(|text| part(text));
    }
    *hasher.finalize().as_bytes()
}

fn plain_routines(raw: &Raw) -> Vec<Routine> {
    let plain = |text: &RawText| Routine {
        schema: text.schema.clone(),
        name: text.name.clone(),
        sensitive: false,
    };
    raw.routines.iter().map(plain).collect()
}

/// Tables and views with the labels that rules give them by name, and generated columns'.
fn base_tables(raw: &Raw, rules: &LabelRules) -> Vec<Table> {
    let mut columns: HashMap<(&str, &str), Vec<Column>> = HashMap::new();
    let mut generated = Vec::new();
    for column in &raw.columns {
        let of_table = columns.entry((&column.schema, &column.table)).or_default();
        if let Some(expression) = &column.generated_from {
            generated.push(((&column.schema, &column.table), of_table.len(), expression));
        }
        of_table.push(Column {
            name: column.name.clone(),
            data_type: column.data_type.clone(),
            labels: rules.column_labels(&column.schema, &column.table, &column.name),
            // A client that asks for no conversion gets the bytes, in which no mask can tell the characters.
            computed: column.is_wide,
            invisible: column.invisible,
        });
    }
    // Twice: a generated column may stand on one before it.
    for (table, at, expression) in generated.iter().chain(generated.iter()) {
        let Some(of_table) = columns.get_mut(&(table.0.as_str(), table.1.as_str())) else {
            continue;
        };
        let inherited = of_table
            .iter()
            .filter(|column| fold(expression).contains(&fold(&column.name)))
            .fold(LabelSet::EMPTY, |set, column| set.union(column.labels));
        if let Some(column) = of_table.get_mut(*at) {
            column.labels = column.labels.union(inherited);
            column.computed |= !inherited.is_empty();
        }
    }
    let mut keys: HashMap<(&str, &str), Vec<&RawKeyPart>> = HashMap::new();
    for part in &raw.keys {
        keys.entry((&part.schema, &part.table)).or_default().push(part);
    }
    let generates: HashSet<(&str, &str)> =
        generated.iter().map(|(table, ..)| (table.0.as_str(), table.1.as_str())).collect();
    let finish = |table: &RawTable| {
        let key = (table.schema.as_str(), table.name.as_str());
        let columns = columns.get(&key).cloned().unwrap_or_default();
        let unique_keys = unique_keys(keys.get(&key).map_or(&[], Vec::as_slice), &columns);
        let mut finished = Table {
            schema: table.schema.clone(),
            name: table.name.clone(),
            kind: if table.is_view { TableKind::View } else { TableKind::Base },
            columns,
            labels: rules.table_labels(&table.schema, &table.name),
            unique_keys,
            estimated_rows: table.rows,
            sensitive: false,
            calls_sensitive: false,
            has_triggers: false,
            generates: generates.contains(&key),
        };
        finished.sensitive = !finished.all_labels().is_empty();
        finished
    };
    raw.tables.iter().map(finish).collect()
}

/// The keys as column indices; a key on an expression is left out, since no statement pins it by name.
fn unique_keys(parts: &[&RawKeyPart], columns: &[Column]) -> Vec<Vec<u16>> {
    let mut keys: Vec<(&str, Option<Vec<u16>>)> = Vec::new();
    for part in parts {
        let at = columns.iter().position(|column| column.name == part.column);
        let at = at.and_then(|at| u16::try_from(at).ok());
        match keys.last_mut() {
            Some((name, key)) if *name == part.index => match (key.as_mut(), at) {
                (Some(key), Some(at)) => key.push(at),
                _ => *key = None,
            },
            _ => keys.push((&part.index, at.map(|at| vec![at]))),
        }
    }
    keys.into_iter().filter_map(|(_, key)| key).collect()
}

/// Gives a view's columns the labels of what they come from. Whether that changed anything.
fn inherit(view: &mut Table, text: Option<&str>, catalog: &Catalog, everything: LabelSet) -> bool {
    let before = view.clone();
    let mode = SqlMode(0); // views are stored in canonical form, with backticks
    let context = Context { catalog, sql_mode: mode, schema: Some(&view.schema) };
    let lineage = text.and_then(|text| view_lineage(text, &context));
    match lineage {
        Some(labels) if labels.len() == view.columns.len() => {
            for (column, (inherited, computed)) in view.columns.iter_mut().zip(labels) {
                column.labels = column.labels.union(inherited);
                column.computed |= computed;
            }
        }
        _ => {
            let reached = match text {
                Some(text) if !touches(text, &context) => LabelSet::EMPTY,
                _ => everything,
            };
            for column in &mut view.columns {
                column.labels = column.labels.union(reached);
                column.computed |= !reached.is_empty();
            }
        }
    }
    // What is written through a view is written to its tables.
    let of_tables = text.map_or(everything, |text| table_labels(text, &context));
    view.labels = view.labels.union(of_tables);
    let reaches = text.is_none_or(|text| touches(text, &context));
    view.sensitive |= reaches || !view.all_labels().is_empty();
    view.calls_sensitive |= text.is_some_and(|text| calls_sensitive(text, &context));
    before != *view
}

/// A trigger that reaches labelled data brings its table into the closure: its errors can carry that data.
/// Whether that changed anything.
fn mark_triggers(tables: &mut [Table], triggers: &[RawText], catalog: &Catalog) -> bool {
    let mut changed = false;
    for trigger in triggers {
        let reaches = reaches(trigger, catalog);
        let of_trigger =
            |table: &&mut Table| table.schema == trigger.schema && table.name == trigger.name;
        for table in tables.iter_mut().filter(of_trigger) {
            changed |= !table.has_triggers || (reaches && !table.sensitive);
            table.has_triggers = true;
            table.sensitive |= reaches;
        }
    }
    changed
}

/// Whether a text names anything in the closure; one that can't be read does.
fn reaches(text: &RawText, catalog: &Catalog) -> bool {
    let context =
        Context { catalog, sql_mode: catalog.profile.sql_mode, schema: Some(&text.schema) };
    text.text.as_deref().is_none_or(|body| {
        touches(body, &context) || sets_reading(body, &catalog.profile, context.sql_mode)
    })
}

fn labels_all(labels: &Labels) -> LabelSet {
    let mut set = LabelSet::EMPTY;
    for id in (0..64).map(LabelId).filter(|id| labels.name(*id) != "?") {
        set.insert(id);
    }
    set
}
