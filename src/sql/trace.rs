//! What a statement can see of its session's past on the connection, and what it leaves there for the next.

use super::facts::{Facts, Leaves, Trace, Verb};
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

/// Words by which FOUND_ROWS() tells another number than that of the rows.
const COUNTED_OTHERWISE: [&str; 5] = ["except", "intersect", "minus", "offset", "union"];

/// What clients ask for when they begin, and when they take a connection from a pool of theirs. No session's statement
/// changes these but a SET.
const SETTINGS: [&str; 29] = [
    "auto_increment_increment",
    "autocommit",
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "character_set_server",
    "collation_connection",
    "collation_server",
    "hostname",
    "init_connect",
    "interactive_timeout",
    "license",
    "lower_case_table_names",
    "max_allowed_packet",
    "net_write_timeout",
    "performance_schema",
    "port",
    "query_cache_size",
    "query_cache_type",
    "socket",
    "sql_mode",
    "system_time_zone",
    "time_zone",
    "transaction_isolation",
    "transaction_read_only",
    "tx_isolation",
    "version",
    "version_comment",
    "wait_timeout",
];

/// What a statement of this trace leaves to its own session.
pub(super) fn left_by(words: &Words<'_>, facts: &Facts) -> Leaves {
    let is_plain = match facts.verb {
        Verb::Use => true,
        Verb::Transaction => is_plain_transaction(words),
        _ => false,
    };
    match facts.trace {
        Trace::Any if facts.verb == Verb::Select && is_of_settings(words) => Leaves::Rows,
        Trace::None if counts_its_rows(words) => Leaves::Rows,
        Trace::None | Trace::Messages => Leaves::Last,
        Trace::Any if is_plain && !facts.explained => Leaves::Last,
        Trace::Any | Trace::Last => Leaves::More,
    }
}

/// Whether FOUND_ROWS() is the number of rows that come: rows that are skipped count for it too, and what the parts of a
/// UNION do depends on the server.
fn counts_its_rows(words: &Words<'_>) -> bool {
    let skips = |at: usize| words.is(at, "limit") && words.kind(at + 2) == Some(Kind::Comma);
    !words.says_any(&COUNTED_OTHERWISE) && !(0..words.tokens.len()).any(skips)
}

/// `BEGIN`, `START TRANSACTION`, `COMMIT`, `ROLLBACK` and nothing else: whether one is open the server itself tells.
fn is_plain_transaction(words: &Words<'_>) -> bool {
    let is_one = words.is_any(0, &["begin", "commit", "rollback"]);
    match words.tokens.len() {
        1 => is_one,
        2 if is_one => words.is(1, "work"),
        2 => words.is(0, "start") && words.is(1, "transaction"),
        _ => false,
    }
}

/// `SELECT @@a, @@session.b AS c LIMIT 1` of [`SETTINGS`].
fn is_of_settings(words: &Words<'_>) -> bool {
    let mut at = 1;
    loop {
        let is_one = words.kind(at) == Some(Kind::SysVar) && setting(words, &mut at);
        if !is_one {
            return false;
        }
        if words.is(at, "as") {
            at += 2;
        }
        match words.kind(at) {
            None => return true,
            Some(Kind::Comma) => at += 1,
            _ => {
                let one = words.tokens.get(at + 1).is_some_and(|of| of.bytes(words.text) == b"1");
                return words.is(at, "limit") && one && words.tokens.len() == at + 2;
            }
        }
    }
}

/// Whether the system variable at `at`, behind which it goes on, is one of [`SETTINGS`].
fn setting(words: &Words<'_>, at: &mut usize) -> bool {
    let Some(token) = words.tokens.get(*at) else { return false };
    let name = String::from_utf8_lossy(token.bytes(words.text)).to_ascii_lowercase();
    let mut name = name.trim_start_matches('@').to_owned();
    *at += 1;
    if words.kind(*at) == Some(Kind::Dot) {
        let Some(of) = words.name(*at + 1) else { return false };
        name = format!("{name}.{}", of.to_ascii_lowercase());
        *at += 2;
    }
    let scopes = ["session.", "local.", "global."];
    let bare = scopes.iter().find_map(|scope| name.strip_prefix(scope)).unwrap_or(&name);
    SETTINGS.contains(&bare)
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
