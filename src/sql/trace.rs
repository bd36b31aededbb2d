//! What a statement can see of its session's past on the connection, and what it leaves there for the next.

use super::facts::{Facts, Trace, Verb};
use super::token::Kind;
use super::words::Words;

/// Words that may stand before a parenthesis without being functions, and functions that depend on their arguments, the
/// clock, the database and the account alone. Everything else may read or set what the session keeps, stored functions
/// first of all.
#[rustfmt::skip]
const HARMLESS: [&str; 113] = [
    "abs", "all", "and", "any", "as", "avg", "between", "bit_length", "by", "case", "cast", "ceil", "ceiling",
    "char_length", "character_length", "coalesce", "concat", "concat_ws", "convert", "count", "curdate",
    "current_date", "current_timestamp", "curtime", "database", "date", "date_add", "date_format", "date_sub",
    "datediff", "day", "dense_rank", "distinct", "else", "except", "exists", "field", "floor", "from",
    "from_unixtime", "greatest", "group_concat", "having", "hex", "hour", "if", "ifnull", "in", "instr",
    "intersect", "interval", "join", "json_extract", "lag", "lcase", "lead", "least", "left", "length",
    "like", "locate", "lower", "lpad", "ltrim", "max", "md5", "min", "minute", "mod", "month", "not", "now",
    "nullif", "on", "or", "over", "pow", "power", "quarter", "rank", "replace", "reverse", "right", "round",
    "row_number", "rpad", "rtrim", "schema", "second", "select", "sha1", "sha2", "sign", "sqrt", "std",
    "substr", "substring", "sum", "then", "time", "timestampdiff", "trim", "truncate", "union",
    "unix_timestamp", "upper", "using", "variance", "version", "week", "when", "where", "year",
];

/// What tells of the statement before.
const OF_THE_LAST: [&str; 9] = [
    "error_count",
    "errors",
    "found_rows",
    "identity",
    "insert_id",
    "last_insert_id",
    "row_count",
    "warning_count",
    "warnings",
];

/// What locks, numbers, or counts beyond the statement.
const BEYOND: [&str; 8] =
    ["diagnostics", "for", "into", "lock", "next", "previous", "procedure", "sql_calc_found_rows"];

/// Of a statement that is understood; `only_tables`: it names nothing but tables of the catalogue whose reading runs
/// nothing else: no views, no stored functions, nothing of the server's own.
pub(super) fn of(words: &Words<'_>, facts: &Facts, only_tables: bool) -> Trace {
    let calls = |at: usize| {
        let is_own = at > 0 && words.kind(at - 1) == Some(Kind::Dot);
        words.kind(at + 1) == Some(Kind::Open)
            && matches!(words.kind(at), Some(Kind::Word | Kind::Quoted))
            && (is_own || !(words.is_any(at, &HARMLESS) || words.is_any(at, &OF_THE_LAST)))
    };
    if !only_tables || facts.explained || (0..words.tokens.len()).any(calls) {
        return Trace::Any;
    }
    let sees_last = words.says_any(&OF_THE_LAST);
    match facts.verb {
        Verb::Show if words.is_any(1, &["warnings", "errors", "count"]) => Trace::Messages,
        Verb::Select | Verb::Set | Verb::Do if sees_last => Trace::Last,
        Verb::Select if facts.tables.is_empty() && !is_one_value(words) => Trace::Any,
        Verb::Select if !words.says_any(&BEYOND) && !words.has_variables() => Trace::None,
        _ => Trace::Any,
    }
}

/// `SELECT 1`, `SELECT 'a'`, `SELECT NOW()`: no message can come of it. Where no table is read, MariaDB leaves those of the
/// statement before as they were, so that it could not be told whose they are.
fn is_one_value(words: &Words<'_>) -> bool {
    match words.tokens.get(1..).unwrap_or_default() {
        [value] => matches!(value.kind, Kind::Number | Kind::Str),
        [name, open, close] => {
            (name.kind, open.kind, close.kind) == (Kind::Word, Kind::Open, Kind::Close)
        }
        _ => false,
    }
}
