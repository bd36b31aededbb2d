//! The queries that describe a target, and their answers as rows with names.

use super::{CatalogError, Rows, profile};
use crate::schema::ServerProfile;

/// The most columns a catalogue holds: a bound on memory (about 100 bytes each), far above real servers.
const MAX_COLUMNS: usize = 1_000_000;

/// The condition that leaves out the system's own schemas.
pub const NOT_SYSTEM: &str = "NOT IN ('information_schema','mysql','performance_schema','sys')";

/// What to ask, in order; a default that is computed from other columns counts as a generated column; `{user}` stands for the condition that leaves out the system's own schemas.
pub const QUERIES: [&str; 7] = [
    "SELECT @@version, @@lower_case_table_names, @@global.sql_mode",
    "SELECT table_schema, table_name, table_type, COALESCE(table_rows, 0) \
     FROM information_schema.tables WHERE table_schema {user} ORDER BY 1, 2",
    "SELECT table_schema, table_name, column_name, data_type, \
     COALESCE(NULLIF(generation_expression, ''), IF(column_default LIKE '%`%', column_default, NULL)), \
     extra, character_set_name \
     FROM information_schema.columns WHERE table_schema {user} ORDER BY 1, 2, ordinal_position",
    "SELECT table_schema, table_name, index_name, column_name FROM information_schema.statistics \
     WHERE non_unique = 0 AND table_schema {user} \
     ORDER BY 1, 2, index_name <> 'PRIMARY', index_name, seq_in_index",
    "SELECT table_schema, table_name, view_definition FROM information_schema.views \
     WHERE table_schema {user} ORDER BY 1, 2",
    "SELECT event_object_schema, event_object_table, action_statement \
     FROM information_schema.triggers WHERE event_object_schema {user} ORDER BY 1, 2, trigger_name",
    "SELECT routine_schema, routine_name, routine_definition FROM information_schema.routines \
     WHERE routine_schema {user} ORDER BY 1, 2",
];

/// A table or view as described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawTable {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) is_view: bool,
    pub(super) rows: u64,
}

/// A column as described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawColumn {
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) name: String,
    pub(super) data_type: String,
    pub(super) generated_from: Option<String>,
    pub(super) invisible: bool,
    /// In characters of two bytes and more.
    pub(super) is_wide: bool,
}

/// One column of a unique key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawKeyPart {
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) index: String,
    pub(super) column: String,
}

/// A view's, trigger's or routine's text; `None` where the account may not read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawText {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) text: Option<String>,
}

/// Everything that the server said of itself. Equal values make equal catalogues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// The server.
    pub profile: ServerProfile,
    /// The server's own `@@global.sql_mode`, which the gateway sets on each of its connections.
    pub sql_mode_text: String,
    pub(super) tables: Vec<RawTable>,
    pub(super) columns: Vec<RawColumn>,
    pub(super) keys: Vec<RawKeyPart>,
    pub(super) views: Vec<RawText>,
    pub(super) triggers: Vec<RawText>,
    pub(super) routines: Vec<RawText>,
}

impl Raw {
    /// The query number `at` as it is sent.
    pub fn query(at: usize) -> Option<String> {
        QUERIES.get(at).map(|text| text.replace("{user}", NOT_SYSTEM))
    }

    /// Reads the answers to all of [`QUERIES`], in order.
    pub fn read(answers: &[Rows]) -> Result<Self, CatalogError> {
        let [server, tables, columns, keys, views, triggers, routines] = answers else {
            return Err(CatalogError::Shape("a catalogue query"));
        };
        if columns.len() > MAX_COLUMNS {
            return Err(CatalogError::TooLarge(MAX_COLUMNS));
        }
        let server = server.first().ok_or(CatalogError::Shape("@@version"))?;
        let case = text(server, 1, "@@lower_case_table_names")?;
        let case = case.parse().map_err(|_| CatalogError::Shape("@@lower_case_table_names"))?;
        let sql_mode_text = text(server, 2, "@@sql_mode")?;
        Ok(Self {
            profile: profile(&text(server, 0, "@@version")?, case, &sql_mode_text)?,
            sql_mode_text,
            tables: each(tables, "tables", |row, what| {
                Ok(RawTable {
                    schema: text(row, 0, what)?,
                    name: text(row, 1, what)?,
                    is_view: text(row, 2, what)?.ends_with("VIEW"),
                    rows: rounded(text(row, 3, what)?.parse().unwrap_or(0)),
                })
            })?,
            columns: each(columns, "columns", |row, what| {
                Ok(RawColumn {
                    schema: text(row, 0, what)?,
                    table: text(row, 1, what)?,
                    name: text(row, 2, what)?,
                    data_type: text(row, 3, what)?.to_ascii_lowercase(),
                    generated_from: optional(row, 4).filter(|text| !text.is_empty()),
                    invisible: optional(row, 5)
                        .is_some_and(|extra| extra.to_ascii_uppercase().contains("INVISIBLE")),
                    is_wide: optional(row, 6).is_some_and(|charset| {
                        ["ucs2", "utf16", "utf32"].iter().any(|wide| charset.starts_with(wide))
                    }),
                })
            })?,
            keys: each(keys, "statistics", |row, what| {
                Ok(RawKeyPart {
                    schema: text(row, 0, what)?,
                    table: text(row, 1, what)?,
                    index: text(row, 2, what)?,
                    column: optional(row, 3).unwrap_or_default(),
                })
            })?,
            views: each(views, "views", raw_text)?,
            triggers: each(triggers, "triggers", raw_text)?,
            routines: each(routines, "routines", raw_text)?,
        })
    }
}

/// Up to a power of two: the server's estimate changes with every write, and a catalogue that changed empties
/// every cache of decisions.
fn rounded(rows: u64) -> u64 {
    rows.checked_next_power_of_two().unwrap_or(u64::MAX)
}

fn raw_text(row: &[Option<Vec<u8>>], what: &'static str) -> Result<RawText, CatalogError> {
    let definition = optional(row, 2).filter(|text| !text.trim().is_empty());
    Ok(RawText { schema: text(row, 0, what)?, name: text(row, 1, what)?, text: definition })
}

fn each<T>(
    rows: &Rows,
    what: &'static str,
    read: impl Fn(&[Option<Vec<u8>>], &'static str) -> Result<T, CatalogError>,
) -> Result<Vec<T>, CatalogError> {
    rows.iter().map(|row| read(row, what)).collect()
}

fn text(row: &[Option<Vec<u8>>], at: usize, what: &'static str) -> Result<String, CatalogError> {
    optional(row, at).ok_or(CatalogError::Shape(what))
}

fn optional(row: &[Option<Vec<u8>>], at: usize) -> Option<String> {
    let cell = row.get(at)?.as_ref()?;
    String::from_utf8(cell.clone()).ok()
}
