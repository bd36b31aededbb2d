//! What a statement is, by its leading words; and what of it is refused whatever it touches.

use super::facts::{Unknown, Verb};
use super::token::{Kind, Lexed};
use super::words::Words;
use super::{lexer, local_file, mode, tracking};
use crate::schema::{ServerProfile, SqlMode};

/// What the leading words say.
pub(super) struct Head {
    pub(super) verb: Verb,
    /// Where the statement proper starts, behind EXPLAIN.
    pub(super) at: usize,
    pub(super) explained: bool,
    pub(super) unknown: Option<Unknown>,
}

/// Words that EXPLAIN may have between itself and the statement.
const EXPLAIN_OPTIONS: [&str; 7] =
    ["extended", "partitions", "format", "json", "tree", "traditional", "analyze"];

const STATEMENTS: [&str; 8] =
    ["select", "insert", "update", "delete", "replace", "with", "table", "values"];

/// What SHOW may show: nothing that carries data, other people's statements, or settings of replication.
const SHOWABLE: [&str; 25] = [
    "tables",
    "databases",
    "schemas",
    "columns",
    "fields",
    "full",
    "index",
    "indexes",
    "keys",
    "create",
    "variables",
    "status",
    "session",
    "global",
    "collation",
    "character",
    "charset",
    "engines",
    "plugins",
    "privileges",
    "table",
    "extended",
    "count",
    "warnings",
    "errors",
];

/// Reads the leading words.
pub(super) fn head(words: &Words<'_>) -> Head {
    if words.tokens.is_empty() {
        // Comments alone, or not even those: nothing is done.
        return plain(Verb::Do, 0);
    }
    let mut at = 0;
    while words.kind(at) == Some(Kind::Open) {
        at += 1;
    }
    let mut explained = false;
    if words.is_any(at, &["explain", "describe", "desc", "analyze"]) {
        match explained_statement(words, at) {
            Some(inner) => {
                at = inner;
                explained = true;
            }
            None if words.is(at, "analyze") => return plain(Verb::Admin, at),
            None if words.has_any(at + 1, &["for"]) => {
                return refused(Verb::Show, at, "EXPLAIN FOR CONNECTION");
            }
            None if words.has_any(at + 1, &STATEMENTS) => {
                return refused(Verb::Show, at, "this form of EXPLAIN");
            }
            None => return plain(Verb::Show, at),
        }
    }
    let mut head = verb_at(words, at);
    head.explained = explained;
    head
}

fn explained_statement(words: &Words<'_>, at: usize) -> Option<usize> {
    let mut next = at + 1;
    // `FORMAT = 'json'` may be quoted.
    while words.is_any(next, &EXPLAIN_OPTIONS)
        || matches!(words.kind(next), Some(Kind::Operator | Kind::Str))
    {
        next += 1;
    }
    while words.kind(next) == Some(Kind::Open) {
        next += 1;
    }
    words.is_any(next, &STATEMENTS).then_some(next)
}

fn plain(verb: Verb, at: usize) -> Head {
    Head { verb, at, explained: false, unknown: None }
}

fn refused(verb: Verb, at: usize, what: &'static str) -> Head {
    Head { verb, at, explained: false, unknown: Some(Unknown::Construct(what)) }
}

fn verb_at(words: &Words<'_>, at: usize) -> Head {
    let Some(word) = words.word(at) else { return plain(Verb::Unknown, at) };
    let word = String::from_utf8_lossy(word).to_ascii_lowercase();
    match word.as_str() {
        "with" => match words.find_outside(at + 1, &STATEMENTS) {
            Some(inner) if !words.is(inner, "with") => {
                let head = verb_at(words, inner);
                Head { at, ..head }
            }
            _ => plain(Verb::Unknown, at),
        },
        "select" | "values" | "table" => select(words, at),
        "insert" => plain(Verb::Insert, at),
        "replace" => plain(Verb::Replace, at),
        "update" => plain(Verb::Update, at),
        "delete" => plain(Verb::Delete, at),
        "load" if local_file::name_at(words, at).is_some() => plain(Verb::Load, at),
        "load" => refused(Verb::Load, at, "LOAD DATA of the server's files"),
        "call" => plain(Verb::Call, at),
        "do" => plain(Verb::Do, at),
        "create" | "alter" | "drop" => definition(words, at, &word),
        "rename" if words.is(at + 1, "user") => plain(Verb::Grant, at),
        "rename" => plain(Verb::Rename, at),
        "truncate" => plain(Verb::Truncate, at),
        "grant" | "revoke" => plain(Verb::Grant, at),
        "set" => set(words, at),
        "use" => plain(Verb::Use, at),
        "show" => show(words, at),
        "begin" if words.is_any(at + 1, &["not"]) => {
            refused(Verb::Unknown, at, "a compound statement")
        }
        "begin" | "start" | "commit" | "rollback" | "savepoint" | "release"
            if !words.is_any(at + 1, &["slave", "replica", "all", "group_replication"]) =>
        {
            plain(Verb::Transaction, at)
        }
        "lock" | "unlock" => plain(Verb::Lock, at),
        "prepare" | "execute" | "deallocate" => refused(Verb::Prepare, at, "SQL-level PREPARE"),
        "handler" => refused(Verb::Handler, at, "HANDLER"),
        "kill" => plain(Verb::Kill, at),
        "if" | "while" | "loop" | "repeat" | "case" | "for" | "declare" | "get" | "signal"
        | "resignal" => refused(Verb::Unknown, at, "a compound statement"),
        _ => plain(Verb::Admin, at),
    }
}

fn select(words: &Words<'_>, at: usize) -> Head {
    if words.has_any(at, &["into"]) {
        return refused(Verb::Select, at, "SELECT … INTO");
    }
    if words.has_any(at, &["procedure"]) {
        return refused(Verb::Select, at, "PROCEDURE ANALYSE");
    }
    plain(Verb::Select, at)
}

fn definition(words: &Words<'_>, at: usize, word: &str) -> Head {
    // Not any `user`: it is a table's name everywhere.
    let replaces = words.is(at + 1, "or") && words.is(at + 2, "replace");
    let of_account = words.is_any(at + 1 + 2 * usize::from(replaces), &["user", "role"]);
    let verb = match word {
        _ if of_account => Verb::Grant,
        "create" => Verb::Create,
        "alter" => Verb::Alter,
        _ => Verb::Drop,
    };
    plain(verb, at)
}

fn show(words: &Words<'_>, at: usize) -> Head {
    // The accounts' password hashes.
    let account = words.is(at + 1, "create") && words.is_any(at + 2, &["user", "role"]);
    if account || !words.is_any(at + 1, &SHOWABLE) {
        return refused(Verb::Show, at, "this SHOW");
    }
    let calls =
        words.has_any(at, &["where"]) && words.tokens.iter().any(|token| token.kind == Kind::Open);
    if calls {
        return refused(Verb::Show, at, "SHOW with a computed WHERE");
    }
    plain(Verb::Show, at)
}

/// Variables that a governed session may set, to literals: nothing that changes how text is read, where results go,
/// or what is reported.
pub(super) const SETTABLE: [&str; 23] = [
    "autocommit",
    "character_set_client",
    "character_set_connection",
    "character_set_database",
    "character_set_results",
    "collation_connection",
    "foreign_key_checks",
    "innodb_lock_wait_timeout",
    "interactive_timeout",
    "lock_wait_timeout",
    "max_execution_time",
    "max_statement_time",
    "net_read_timeout",
    "net_write_timeout",
    "sql_auto_is_null",
    "sql_mode",
    "sql_quote_show_create",
    "sql_safe_updates",
    "time_zone",
    "transaction_isolation",
    "tx_isolation",
    "unique_checks",
    "wait_timeout",
];

/// Variables that change for how long a statement may run or wait, and nothing else.
const TIME_LIMITS: [&str; 3] =
    ["innodb_lock_wait_timeout", "lock_wait_timeout", "max_statement_time"];

/// Not DEFAULT: the server's own may be gbk.
const CHARSETS: [&str; 6] = ["utf8", "utf8mb3", "utf8mb4", "latin1", "ascii", "binary"];

fn set(words: &Words<'_>, at: usize) -> Head {
    if words.is_any(at + 1, &["password", "role"])
        || (words.is(at + 1, "default") && words.is(at + 2, "role"))
    {
        return plain(Verb::Grant, at);
    }
    let scoped = at + 1 + usize::from(words.is_any(at + 1, &["session", "local"]));
    if words.is(scoped, "transaction") {
        return plain(Verb::Transaction, at);
    }
    if words.is(at + 1, "statement") {
        return set_statement(words, at);
    }
    if words.is(at + 1, "names") || words.is(at + 1, "charset") {
        return charset(words, at, at + 2);
    }
    if words.is(at + 1, "character") && words.is(at + 2, "set") {
        return charset(words, at, at + 3);
    }
    assignments(words, at)
}

/// `SET STATEMENT max_statement_time = 1 FOR SELECT …`, as drivers limit a statement's time: what follows is the
/// statement.
fn set_statement(words: &Words<'_>, start: usize) -> Head {
    let mut at = start + 2;
    loop {
        let assigns = words.tokens.get(at + 1).is_some_and(|token| token.bytes(words.text) == b"=");
        let limits = words.is_any(at, &TIME_LIMITS) && words.kind(at + 2) == Some(Kind::Number);
        if !(limits && assigns) {
            return refused(Verb::Set, start, "SET STATEMENT of anything but a limit of time");
        }
        at += 3;
        match words.kind(at) {
            Some(Kind::Comma) => at += 1,
            _ if words.is(at, "for") && words.is_any(at + 1, &STATEMENTS) => {
                return verb_at(words, at + 1);
            }
            _ => return refused(Verb::Set, start, "this form of SET STATEMENT"),
        }
    }
}

fn charset(words: &Words<'_>, at: usize, value: usize) -> Head {
    let Some(name) = literal_text(words, value) else { return refused(Verb::Set, at, "SET NAMES") };
    let known = CHARSETS.contains(&name.to_ascii_lowercase().as_str());
    let rest_is_collation = value + 1 == words.tokens.len()
        || (words.is(value + 1, "collate") && value + 3 == words.tokens.len());
    if known && rest_is_collation {
        plain(Verb::Set, at)
    } else {
        refused(Verb::Set, at, "this character set")
    }
}

/// `SET a = literal, SESSION b := literal, @@c = literal, @d = literal`.
fn assignments(words: &Words<'_>, start: usize) -> Head {
    let mut at = start + 1;
    loop {
        at += usize::from(words.is_any(at, &["session", "local"]));
        let Some(name) = variable(words, &mut at) else {
            return refused(Verb::Set, start, "this SET");
        };
        let assigns = words.tokens.get(at).is_some_and(|token| {
            token.kind == Kind::Operator && matches!(token.bytes(words.text), b"=" | b":=")
        });
        let (is_user, tracks) = (name.starts_with('@'), tracking::value_end(words, &name, at + 1));
        if let Some(end) = tracks.filter(|_| assigns) {
            match words.kind(end) {
                None => return plain(Verb::Set, start),
                Some(Kind::Comma) => at = end + 1,
                Some(_) => return refused(Verb::Set, start, "SET to anything but a literal"),
            }
            continue;
        }
        let Some(value) = literal_text(words, at + 1).filter(|_| assigns) else {
            return refused(Verb::Set, start, "SET to anything but a literal");
        };
        let settable = is_user || SETTABLE.contains(&name.as_str());
        let value_of = value.to_ascii_lowercase();
        let charset_ok = match name.as_str() {
            // A collation brings its character set along.
            "collation_connection" => {
                CHARSETS.contains(&value_of.split('_').next().unwrap_or_default())
            }
            // No conversion, as with binary.
            "character_set_results" if value_of == "null" => true,
            name => !name.starts_with("character_set") || CHARSETS.contains(&value_of.as_str()),
        };
        let mode_ok = name != "sql_mode" || mode::is_followed(&value);
        if !settable || !charset_ok || !mode_ok {
            return refused(Verb::Set, start, "SET of this variable");
        }
        at += 2;
        match words.kind(at) {
            None => return plain(Verb::Set, start),
            Some(Kind::Comma) => at += 1,
            Some(_) => return refused(Verb::Set, start, "SET to anything but a literal"),
        }
    }
}

/// The tokens of a SET; `None` for any other text, most of which are not even lexed.
pub(super) fn set_tokens(text: &[u8], profile: &ServerProfile, mode: SqlMode) -> Option<Lexed> {
    if !lexer::may_begin(text, "set") {
        return None;
    }
    let lexed = lexer::lex(text, profile, mode);
    Words { text, tokens: &lexed.tokens }.is(0, "set").then_some(lexed)
}

/// Each place behind this variable's name in a SET, in order; behind a qualified one it may come twice.
pub(super) fn behind<'a>(words: &'a Words<'_>, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    (1..words.tokens.len()).filter_map(move |mut at| {
        let found = variable(words, &mut at)?;
        (found == name).then_some(at)
    })
}

/// The variable's name in lower case; user variables keep their `@`.
fn variable(words: &Words<'_>, at: &mut usize) -> Option<String> {
    let token = words.tokens.get(*at)?;
    let text = String::from_utf8_lossy(token.bytes(words.text)).to_ascii_lowercase();
    *at += 1;
    match token.kind {
        Kind::Word => Some(text),
        Kind::UserVar => Some(text),
        Kind::SysVar => {
            let mut name = text.trim_start_matches('@').to_owned();
            if words.kind(*at) == Some(Kind::Dot) {
                if !matches!(name.as_str(), "session" | "local") {
                    return None;
                }
                name = words.name(*at + 1)?.to_ascii_lowercase();
                *at += 2;
            }
            if let Some((scope, variable)) = name.split_once('.') {
                if !matches!(scope, "session" | "local") {
                    return None;
                }
                return Some(variable.to_owned());
            }
            Some(name)
        }
        _ => None,
    }
}

/// The literal at `at`: its text without quotes, or a plain word such as ON, DEFAULT, utf8mb4.
pub(super) fn literal_text(words: &Words<'_>, at: usize) -> Option<String> {
    let token = words.tokens.get(at)?;
    let bytes = token.bytes(words.text);
    match token.kind {
        Kind::Str => {
            let inner = bytes.get(1..bytes.len().checked_sub(1)?)?;
            let plain = !inner.iter().any(|b| matches!(b, b'\\' | b'\'' | b'"'));
            plain.then(|| String::from_utf8_lossy(inner).into_owned())
        }
        Kind::Number | Kind::Word => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}
