//! Statements inside the sensitive closure: parsed, every name resolved, every labelled column followed to where it
//! comes out or is used. What is not understood is an error, never a guess.

mod expression;
mod functions;
mod names;
mod scope;
mod select;
mod write;

use std::collections::BTreeSet;

use sqlparser::ast::Statement;
use sqlparser::dialect::MySqlDialect;
use sqlparser::parser::Parser;

use super::Context;
use super::facts::{ColumnRef, ColumnUse, Facts, Lineage, Output, Place, Unknown};
use crate::schema::{LabelSet, SqlMode};

/// Nesting that the parser follows: each level costs stack.
const MAX_DEPTH: usize = 64;
/// Joins of one statement: the servers' own limit.
pub(super) const MAX_JOINS: usize = 61;
/// Tokens that are parsed: real statements on labelled data have hundreds, and a chain of so many operators still
/// fits a thread's smallest stack.
pub(super) const MAX_TOKENS: usize = 10_000;

/// What was learnt of a statement on its way through the tree.
pub(super) struct Walk<'a> {
    cx: &'a Context<'a>,
    uses: Vec<ColumnUse>,
    /// The tables that the tree has as relations, as `schema.table` of the catalogue.
    relations: BTreeSet<(String, String)>,
    joins: usize,
    depth: usize,
    /// Inside ON DUPLICATE KEY UPDATE.
    upserting: bool,
    /// Rows that are there are given other values.
    overwrites: bool,
}

type Found<T> = Result<T, Unknown>;

/// Fills in outputs, uses and assignments of a statement, and checks the tree against the tokens.
pub(super) fn follow(text: &str, cx: &Context<'_>, facts: &mut Facts) -> Found<()> {
    let statement = parse(text, cx)?;
    let mut walk = Walk {
        cx,
        uses: Vec::new(),
        relations: BTreeSet::new(),
        joins: 0,
        depth: 0,
        upserting: false,
        overwrites: false,
    };
    match &statement {
        Statement::Query(query) => {
            let outputs = walk.query(query, &[], None)?;
            facts.outputs = Some(outputs);
        }
        Statement::Insert(insert) => walk.insert(insert, facts)?,
        Statement::Update(update) => walk.update(update, facts)?,
        Statement::Delete(delete) => walk.delete(delete, facts)?,
        _ => return Err(Unknown::Construct("this statement")),
    }
    facts.uses = std::mem::take(&mut walk.uses);
    for table in facts.tables.iter().filter(|table| table.sensitive) {
        let key = (table.schema.clone(), table.name.clone());
        if !walk.relations.remove(&key) {
            return Err(Unknown::CrossCheck(format!("{}.{}", table.schema, table.name)));
        }
    }
    let untold = |(schema, name): &&(String, String)| {
        !facts.tables.iter().any(|table| table.schema == *schema && table.name == *name)
    };
    match walk.relations.iter().find(untold) {
        Some((schema, name)) => Err(Unknown::CrossCheck(format!("{schema}.{name}"))),
        None => Ok(()),
    }
}

/// The labels of each column of a view, and whether it is computed, from its text.
pub(super) fn columns(text: &str, cx: &Context<'_>) -> Found<Vec<(LabelSet, bool)>> {
    let Statement::Query(query) = parse(text, cx)? else {
        return Err(Unknown::Construct("this view"));
    };
    let mut walk = Walk {
        cx,
        uses: Vec::new(),
        relations: BTreeSet::new(),
        joins: 0,
        depth: 0,
        upserting: false,
        overwrites: false,
    };
    let outputs = walk.query(&query, &[], None)?;
    // A column that decides which rows there are, or how they compare, colours every column of the view.
    let everywhere =
        walk.uses.iter().fold(LabelSet::EMPTY, |set, used| set.union(used.column.labels));
    let computed = |lineage: &Lineage| matches!(lineage, Lineage::Computed(_));
    let labels =
        |output: &Output| (output.lineage.labels().union(everywhere), computed(&output.lineage));
    Ok(outputs.iter().map(labels).collect())
}

fn parse(text: &str, cx: &Context<'_>) -> Found<Statement> {
    let reading = SqlMode::ANSI_QUOTES | SqlMode::NO_BACKSLASH_ESCAPES;
    if cx.sql_mode.0 & reading != 0 {
        return Err(Unknown::Construct("sql_mode ANSI_QUOTES or NO_BACKSLASH_ESCAPES"));
    }
    let parsed = Parser::new(&MySqlDialect {})
        .with_recursion_limit(MAX_DEPTH)
        .try_with_sql(text)
        .and_then(|mut parser| parser.parse_statements());
    let mut statements = parsed.map_err(|error| {
        // The parser quotes what it met, which may be a literal: only the kind of trouble is told.
        let text = error.to_string();
        let kind = text.split(',').next().unwrap_or_default();
        Unknown::Parse(kind.chars().filter(|c| !c.is_control()).take(60).collect())
    })?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        _ => Err(Unknown::MultiStatement),
    }
}

impl Walk<'_> {
    /// Notes that labelled columns are used where a mask can't help.
    fn used(&mut self, columns: &[ColumnRef], place: Place) {
        for column in columns.iter().filter(|column| !column.labels.is_empty()) {
            let known = |used: &ColumnUse| used.place == place && used.column == *column;
            if !self.uses.iter().any(known) {
                self.uses.push(ColumnUse { column: column.clone(), place });
            }
        }
    }

    /// One level deeper; an error past the bound.
    fn deeper(&mut self) -> Found<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Unknown::TooComplex("64 levels")) } else { Ok(()) }
    }
}

/// Both lineages' columns, computed.
fn computed(columns: Vec<ColumnRef>) -> Lineage {
    if columns.is_empty() { Lineage::Free } else { Lineage::Computed(columns) }
}

/// The value of one branch of a set operation or the other.
fn either(a: Lineage, b: Lineage) -> Lineage {
    match (a, b) {
        (Lineage::Free, other) | (other, Lineage::Free) => other,
        (Lineage::Bare(mut a), Lineage::Bare(b)) => {
            a.extend(b);
            Lineage::Bare(a)
        }
        (a, b) => computed([a.columns(), b.columns()].concat()),
    }
}

/// A result column without a name that could be told.
fn unnamed(lineage: Lineage) -> Output {
    Output { name: None, lineage }
}
