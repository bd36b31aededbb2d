//! The tables that a statement's tokens name. Without a grammar it may name too many, never too few: every dotted
//! name that could be a table counts, wherever it stands.

use std::collections::BTreeSet;

use super::Context;
use super::facts::{Access, TableUse, Unknown, Verb};
use super::token::Kind;
use super::words::Words;
use crate::schema::{LabelSet, Table, TableKind, fold};

/// The server's own databases.
pub(super) const SYSTEM: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// Words after which a table's name must follow.
const BEFORE_TABLE: [&str; 6] = ["from", "join", "into", "update", "table", "straight_join"];

/// Words that end a list of tables, or only the name before them (see [`Finder::after`]).
const AFTER_TABLES: [&str; 15] = [
    "where",
    "group",
    "having",
    "order",
    "limit",
    "union",
    "except",
    "intersect",
    "set",
    "on",
    "using",
    "values",
    "select",
    "for",
    "window",
];

/// Functions whose arguments have a FROM that names no table.
const FROM_INSIDE: [&str; 6] = ["extract", "substring", "substr", "mid", "trim", "overlay"];

/// Words that may stand between [`BEFORE_TABLE`] and the name.
const SKIPPED: [&str; 9] =
    ["low_priority", "ignore", "quick", "if", "exists", "not", "only", "delayed", "high_priority"];

/// What the tokens name.
#[derive(Default)]
pub(super) struct Named {
    pub(super) tables: Vec<TableUse>,
    /// Names a routine of the closure.
    pub(super) calls_sensitive: bool,
    pub(super) unknown: Option<Unknown>,
    /// Names a table that is not there, where none needs to be, or calls a procedure that is not.
    pub(super) misses: bool,
    /// Names something else than tables whose reading runs nothing else.
    pub(super) others: bool,
}

/// Finds the tables and routines that the tokens name.
pub(super) fn named(words: &Words<'_>, cx: &Context<'_>, verb: Verb, at: usize) -> Named {
    let mut finder = Finder { words, cx, verb, found: Named::default(), seen: BTreeSet::new() };
    finder.ctes(at);
    finder.run(at);
    finder.found
}

struct Finder<'a> {
    words: &'a Words<'a>,
    cx: &'a Context<'a>,
    verb: Verb,
    found: Named,
    /// Names of common table expressions: they hide nothing, since a token that names both counts as the table.
    seen: BTreeSet<String>,
}

impl<'a> Finder<'a> {
    /// `WITH a AS (…), b (x) AS (…)`: names that need not be tables.
    fn ctes(&mut self, at: usize) {
        let inserts = matches!(self.verb, Verb::Insert | Verb::Replace);
        let at = if self.words.is(at, "with") {
            at
        } else if let Some(at) = self.words.find_outside(at, &["with"]).filter(|_| inserts) {
            at // INSERT … WITH … SELECT
        } else {
            return;
        };
        for next in at + 1..self.words.tokens.len() {
            let led = self.words.is_any(next - 1, &["with", "recursive"])
                || self.words.kind(next - 1) == Some(Kind::Comma);
            let defined =
                self.words.is(next + 1, "as") || self.words.kind(next + 1) == Some(Kind::Open);
            if let Some(name) = self.words.name(next).filter(|_| led && defined) {
                self.seen.insert(fold(&name));
            }
        }
    }

    fn run(&mut self, start: usize) {
        let count = self.words.tokens.len();
        // For each open parenthesis: whether a function whose FROM names no table opened it, and whether a list of
        // tables was going on outside.
        let mut stack: Vec<(bool, bool)> = Vec::new();
        let (mut plain_from, mut in_list) = (false, false);
        // INTO may be left out.
        let mut expected = matches!(self.verb, Verb::Insert | Verb::Replace);
        let mut at = start + usize::from(expected);
        while at < count {
            match self.words.kind(at) {
                Some(Kind::Open) => {
                    stack.push((plain_from, in_list));
                    plain_from = at > 0 && self.words.is_any(at - 1, &FROM_INSIDE);
                    in_list = expected;
                    at += 1;
                    continue; // `FROM (a, b)`: what is expected stays so
                }
                Some(Kind::Close) => {
                    (plain_from, in_list) = stack.pop().unwrap_or_default();
                    expected = false;
                }
                Some(Kind::Comma) => expected = in_list,
                Some(Kind::Word | Kind::Quoted) => {
                    let is_word = self.words.kind(at) == Some(Kind::Word);
                    if is_word && self.words.is_any(at, &BEFORE_TABLE) && !self.after_dot(at) {
                        expected = !plain_from && !self.distinct_from(at) && !self.is_clause(at);
                        in_list |= expected && !self.one_follows(at);
                    } else if is_word && self.words.is_any(at, &AFTER_TABLES) {
                        (expected, in_list) = self.after(at, in_list);
                    } else if !(expected && self.words.is_any(at, &SKIPPED)) {
                        at = self.name(at, expected);
                        expected = false;
                        continue;
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Whether only one table follows: commas then separate columns.
    fn one_follows(&self, at: usize) -> bool {
        let defines = matches!(self.verb, Verb::Create | Verb::Alter);
        self.words.is(at, "into") || (defines && self.words.is(at, "table"))
    }

    /// Behind one of [`AFTER_TABLES`]: whether a table must follow, and whether the list goes on. It does behind a join's
    /// condition, an index hint or a FOR SYSTEM_TIME: the next comma brings another table.
    fn after(&self, at: usize, in_list: bool) -> (bool, bool) {
        let next = |words: &[&str]| self.words.is_any(at + 1, words);
        let is_open = self.words.kind(at + 1) == Some(Kind::Open);
        if self.verb == Verb::Delete && self.words.is(at, "using") && !is_open {
            return (true, true);
        }
        let goes_on = (self.words.is(at, "on") && !next(&["duplicate", "update", "delete"]))
            || (self.words.is(at, "for") && !next(&["update", "share", "portion"]))
            || self.words.is_any(at, &["using", "values"]);
        (false, in_list && goes_on)
    }

    fn after_dot(&self, at: usize) -> bool {
        at > 0 && self.words.kind(at - 1) == Some(Kind::Dot)
    }

    /// `a IS [NOT] DISTINCT FROM b`.
    fn distinct_from(&self, at: usize) -> bool {
        at > 1 && self.words.is(at - 1, "distinct") && self.words.is_any(at - 2, &["is", "not"])
    }

    /// UPDATE as a part of a clause: ON DUPLICATE KEY UPDATE, FOR UPDATE, ON UPDATE.
    fn is_clause(&self, at: usize) -> bool {
        at > 0 && self.words.is(at, "update") && self.words.is_any(at - 1, &["key", "for", "on"])
    }

    /// A dotted name: what it may be. Where it ends.
    fn name(&mut self, at: usize, expected: bool) -> usize {
        let Some((parts, end)) = self.words.chain(at) else { return at + 1 };
        // (A procedure needs no parentheses.)
        let is_called = at > 0 && self.words.is(at - 1, "call") && !self.after_dot(at - 1);
        if is_called || (self.words.kind(end) == Some(Kind::Open) && !expected) {
            self.routine(&parts, is_called);
        }
        let schema = self.cx.schema;
        let resolved = match parts.as_slice() {
            [name] => schema.and_then(|schema| self.table(schema, name)),
            // `table.column` and `schema.table` look alike.
            [first, second] => self
                .table(first, second)
                .or_else(|| schema.and_then(|schema| self.table(schema, first))),
            [first, second, _] => self.table(first, second),
            _ => None,
        };
        let is_cte = parts.len() == 1 && self.seen.contains(&fold(&parts[0]));
        if let Some(table) = resolved {
            self.add(table);
        } else if expected && !is_cte {
            self.unresolved(&parts);
        } else if let [first, _, ..] = parts.as_slice() {
            // A name in a system database, wherever it stands.
            if SYSTEM.contains(&fold(first).as_str()) {
                self.add_named(first, &parts[1], false);
            }
        }
        end
    }

    fn table(&self, schema: &str, name: &str) -> Option<&'a Table> {
        self.cx.catalog.table(schema, name)
    }

    fn routine(&mut self, parts: &[String], is_called: bool) {
        let routine = match parts {
            [name] => self.cx.schema.and_then(|schema| self.cx.catalog.routine(schema, name)),
            [schema, name] => self.cx.catalog.routine(schema, name).or_else(|| {
                // A routine of a package.
                self.cx.schema.and_then(|current| self.cx.catalog.routine(current, schema))
            }),
            [schema, package, _] => self.cx.catalog.routine(schema, package),
            _ => None,
        };
        self.found.others |= routine.is_some();
        self.found.calls_sensitive |= routine.is_some_and(|routine| routine.sensitive);
        // One that is not known may have been made a moment ago. (Those of the server's own databases are not looked at.)
        let is_system = parts.len() > 1 && SYSTEM.contains(&fold(&parts[0]).as_str());
        self.found.misses |= is_called && routine.is_none() && !is_system;
    }

    /// Where a table must stand, and none is known by that name.
    fn unresolved(&mut self, parts: &[String]) {
        let (schema, name) = match parts {
            [name] => (self.cx.schema.unwrap_or_default(), name.as_str()),
            [schema, name] => (schema.as_str(), name.as_str()),
            _ => return self.refuse(parts),
        };
        let folded = fold(schema);
        let made = matches!(self.verb, Verb::Create);
        if parts.len() == 1 && fold(name) == "dual" {
            return;
        }
        self.found.others = true;
        if SYSTEM.contains(&folded.as_str()) || made {
            return self.add_named(schema, name, made);
        }
        if self.may_miss() {
            self.found.misses = true;
            return self.add_named(schema, name, true);
        }
        let about = !matches!(
            self.verb,
            Verb::Show | Verb::Use | Verb::Set | Verb::Transaction | Verb::Admin | Verb::Unknown
        );
        if about && schema.is_empty() {
            self.found.unknown.get_or_insert(Unknown::NoDatabase);
        } else if about {
            let name = format!("{schema}.{name}").chars().take(128).collect();
            self.found.unknown.get_or_insert(Unknown::Table(name));
        }
    }

    /// `DROP TABLE a, b`: by names that may be of nothing, which the server then says.
    fn may_miss(&self) -> bool {
        self.verb == Verb::Drop
    }

    fn refuse(&mut self, parts: &[String]) {
        self.found.others = true;
        let name: String = parts.join(".").chars().take(128).collect();
        self.found.unknown.get_or_insert(Unknown::Name(name));
    }

    fn add_named(&mut self, schema: &str, name: &str, made: bool) {
        self.found.others = true;
        let access = if made { Access::Define } else { self.access() };
        let exists =
            self.found.tables.iter().any(|table| table.schema == schema && table.name == name);
        if !exists {
            self.found.tables.push(TableUse {
                schema: schema.to_owned(),
                name: name.to_owned(),
                access,
                labels: LabelSet::EMPTY,
                table_labels: LabelSet::EMPTY,
                sensitive: false,
                estimated_rows: 0,
            });
        }
    }

    fn add(&mut self, table: &Table) {
        self.found.others |= table.kind != TableKind::Base || table.generates;
        self.found.calls_sensitive |= table.calls_sensitive;
        let access = self.access();
        let known = self
            .found
            .tables
            .iter()
            .any(|known| known.schema == table.schema && known.name == table.name);
        if !known {
            self.found.tables.push(table_use(table, access));
        }
    }

    /// How a table is touched, by the verb and by whether it is the first that is named.
    fn access(&self) -> Access {
        let first = self.found.tables.is_empty();
        match self.verb {
            Verb::Insert | Verb::Replace | Verb::Load if first => Access::Write,
            // Which of several tables is written only the parser tells: all count as written.
            Verb::Update | Verb::Delete => Access::Write,
            Verb::Create | Verb::Alter | Verb::Drop | Verb::Truncate | Verb::Rename => {
                Access::Define
            }
            _ => Access::Read,
        }
    }
}

/// A table of the catalogue, as it is used.
pub(super) fn table_use(table: &Table, access: Access) -> TableUse {
    TableUse {
        schema: table.schema.clone(),
        name: table.name.clone(),
        access,
        labels: table.all_labels(),
        table_labels: table.labels,
        sensitive: table.sensitive,
        estimated_rows: table.estimated_rows,
    }
}
