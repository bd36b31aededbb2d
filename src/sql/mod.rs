//! Statement text → canonical tokens, digest and facts. "Unknown" is a result, never a guess.
//!
//! [`analyse`] never fails: what it cannot understand it says in [`Analysis::unknown`], and policy refuses
//! that for a governed identity. What it says is what the server will run, because the server is sent the
//! canonical text (same length, comments and executable markers blanked in place).

mod canonical;
mod comment;
mod explainable;
mod facts;
mod form;
mod kill;
mod layout;
mod lexer;
mod lineage;
mod local_file;
mod mode;
mod rows;
mod split;
mod tables;
mod token;
mod trace;
mod tracking;
mod verb;
mod words;

pub use explainable::is_explainable;
pub use facts::{
    Access, Assigned, ColumnRef, ColumnUse, Facts, Leaves, Lineage, NewValue, Output, Place,
    TableUse, Trace, Unknown, Verb,
};
pub use form::{Form, Tokens};
pub use kill::{Kill, kill};
pub use layout::{Meant, laid_out, meant};
pub use local_file::local_file;
pub use mode::sets_mode;
pub use split::{MAX_STATEMENTS, Split, split};
pub use tracking::{is_settable, keeps_told, sets_reading};

use crate::schema::{Catalog, LabelSet, Routine, ServerProfile, SqlMode, Table, fold};
use token::{Kind, Lexed, Token};
use words::Words;

/// What the text is read against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The target's tables, views, and server profile.
    pub catalog: &'a Catalog,
    /// The session's current `sql_mode`.
    pub sql_mode: SqlMode,
    /// The session's current database.
    pub schema: Option<&'a str>,
}

/// A statement's digest: BLAKE3 of the canonical tokens with literals replaced, cut to 128 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 16]);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What is known of one statement text.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// The text to send, of the same length as what came; `None`: the original as it stands.
    pub canonical: Option<Box<[u8]>>,
    /// Digest of the shape.
    pub digest: Digest,
    /// The shape as text: keywords and names, literals as `?`, single spaces. For the record.
    pub digest_text: String,
    /// What it does to what.
    pub facts: Facts,
    /// Why it can't be trusted to do only that. Policy refuses it for the governed.
    pub unknown: Option<Unknown>,
}

/// Analyses one statement. Never fails: what is not understood is in [`Analysis::unknown`].
pub fn analyse(text: &[u8], cx: &Context<'_>) -> Analysis {
    let mut tokens = Tokens::default();
    tokens.read(text, cx);
    analyse_tokens(text, &tokens, cx)
}

/// The same of a text whose tokens were read, under the same `sql_mode`.
pub fn analyse_tokens(text: &[u8], tokens: &Tokens, cx: &Context<'_>) -> Analysis {
    let lexed = &tokens.lexed;
    let mut canonical = canonical::canonical(text, lexed);
    let mut unknown = lexed.unknown.clone();
    let (profile, mode) = (&cx.catalog.profile, cx.sql_mode);
    if canonical.as_ref().is_some_and(|canonical| !same_tokens(canonical, lexed, profile, mode)) {
        // `5--/**/1` is two minus signs, and with the comment blanked a comment to the statement's end.
        canonical = None;
        unknown
            .get_or_insert(Unknown::Lex("a comment keeps apart what reads otherwise without it"));
    }
    let tokens = lexed.statement();
    let words = Words { text, tokens };
    let several = tokens.iter().any(|token| token.kind == Kind::Semicolon);
    if several && !split::is_one_program(&words) {
        unknown.get_or_insert(Unknown::MultiStatement);
    }
    let (digest, digest_text) = canonical::shape(text, tokens);
    let mut facts = Facts::default();
    if unknown.is_none() {
        unknown = classify(text, canonical.as_deref(), tokens, cx, &mut facts);
    } else {
        facts.verb = verb::head(&words).verb;
    }
    Analysis { canonical, digest, digest_text, facts, unknown }
}

/// Whether the text that would be sent has the tokens of the text that is analysed.
fn same_tokens(canonical: &[u8], lexed: &Lexed, profile: &ServerProfile, mode: SqlMode) -> bool {
    let again = lexer::lex(canonical, profile, mode);
    again.tokens == lexed.tokens && (again.blanks.is_empty() || again.tokens.is_empty())
}

/// Scopes of a SET beyond the session.
const GLOBALLY: [&str; 3] = ["global", "persist", "persist_only"];

/// What CREATE and ALTER store with a text of its own.
const STORED: [&str; 6] = ["event", "function", "package", "procedure", "trigger", "view"];

/// Verb and tables by the tokens; and, inside the sensitive closure, lineage by the tree.
fn classify(
    text: &[u8],
    canonical: Option<&[u8]>,
    tokens: &[Token],
    cx: &Context<'_>,
    facts: &mut Facts,
) -> Option<Unknown> {
    let words = Words { text, tokens };
    let head = verb::head(&words);
    facts.verb = head.verb;
    facts.explained = head.explained;
    facts.has_where = words.find_outside(head.at, &["where"]).is_some();
    if matches!(head.verb, Verb::Insert | Verb::Replace) {
        let rows = rows::given(&words, head.at);
        facts.has_where |= rows.is_some();
        facts.key_pinned = head.verb == Verb::Insert && rows == Some(rows::Given::One);
        facts.upserts = head.verb == Verb::Insert && words.has_any(head.at, &["duplicate"]);
    }
    facts.limit = limit(&words, head.at);
    if head.verb == Verb::Use {
        facts.use_database = words.name(head.at + 1);
    }
    let named = tables::named(&words, cx, head.verb, head.at);
    facts.tables = named.tables;
    facts.calls_sensitive = named.calls_sensitive;
    facts.misses = named.misses;
    facts.trace = trace::of(&words, facts, !named.others);
    facts.leaves = trace::left_by(&words, facts);
    // A SET that is understood sets nothing globally; it may read what session tracking has there.
    facts.sets_globally =
        head.verb == Verb::Set && head.unknown.is_some() && words.says_any(&GLOBALLY);
    let locks_tables = head.verb == Verb::Lock && !facts.tables.is_empty();
    facts.takes_lock = locks_tables || head.verb == Verb::Admin || words.says_any(&["get_lock"]);
    let opaque = opaque(&words).map(Unknown::Construct);
    if let Some(unknown) = head.unknown.or(opaque).or(named.unknown) {
        return Some(unknown);
    }
    let same_mode = cx.sql_mode.reads_as(cx.catalog.profile.sql_mode);
    let program = matches!(head.verb, Verb::Create | Verb::Alter) && words.says_any(&STORED);
    if program && !same_mode {
        // The catalogue would read its text by the server's own mode.
        return Some(Unknown::Construct("to store a text under another sql_mode"));
    }
    if !facts.is_sensitive() {
        return None;
    }
    if !same_mode {
        return Some(Unknown::Construct("any statement under another sql_mode"));
    }
    let unknown = inside_closure(canonical.unwrap_or(text), &words, cx, facts).err();
    // The parser binds these tighter than the servers do, so that its AND need not be the statement's.
    let loose = |at: usize| {
        let operator = words.kind(at) == Some(Kind::Operator);
        let bytes = words.tokens[at].bytes(text);
        words.is(at, "xor") || (operator && matches!(bytes, b"||" | b"&&" | b"!" | b":="))
    };
    facts.key_pinned &= !(0..tokens.len()).any(loose);
    unknown
}

/// What reaches past the tables: the server's files, a sequence that a SELECT sets, and what statements on masked columns left behind.
fn opaque(words: &Words<'_>) -> Option<&'static str> {
    (0..words.tokens.len()).find_map(|at| match words.kind(at) {
        Some(Kind::Open) if at > 0 => {
            let name = words.name(at - 1)?;
            let named = |known: &&str| name.eq_ignore_ascii_case(known);
            ["LOAD_FILE", "SETVAL"].into_iter().find(named)
        }
        Some(Kind::SysVar) => {
            let name = words.tokens[at].bytes(words.text).to_ascii_lowercase();
            let counts = name.ends_with(b"warning_count") || name.ends_with(b"error_count");
            counts.then_some("@@warning_count")
        }
        Some(Kind::Dot) if at > 0 && words.kind(at - 1) == Some(Kind::SysVar) => {
            let name = words.name(at + 1)?.to_ascii_lowercase();
            ["warning_count", "error_count"].contains(&name.as_str()).then_some("@@warning_count")
        }
        _ => None,
    })
}

/// The statement touches labelled data: it must be understood.
fn inside_closure(
    text: &[u8],
    words: &Words<'_>,
    cx: &Context<'_>,
    facts: &mut Facts,
) -> Result<(), Unknown> {
    match facts.verb {
        Verb::Select | Verb::Insert | Verb::Replace | Verb::Update | Verb::Delete => {}
        // The object itself, not its rows.
        Verb::Alter | Verb::Drop | Verb::Truncate | Verb::Rename | Verb::Grant | Verb::Lock => {
            return Ok(());
        }
        Verb::Show if !words.tokens.iter().any(|token| token.kind == Kind::Open) => return Ok(()),
        // An index on it is of the object too; everything else that is made from it could copy it.
        Verb::Create if words.has_any(0, &["index"]) && !words.has_any(0, &["select", "as"]) => {
            return Ok(());
        }
        _ => return Err(Unknown::Construct("this statement")),
    }
    if facts.explained {
        return Err(Unknown::Construct("EXPLAIN"));
    }
    if words.has_variables() {
        return Err(Unknown::Construct("a variable"));
    }
    if words.tokens.len() > lineage::MAX_TOKENS {
        return Err(Unknown::TooComplex("10,000 tokens"));
    }
    // The parser takes its stack by the join, so they are counted before.
    let joins = (0..words.tokens.len()).filter(|at| words.is_any(*at, &["join", "straight_join"]));
    if joins.count() > lineage::MAX_JOINS {
        return Err(Unknown::TooComplex("61 joins"));
    }
    let text = without_lock(text, words);
    let text = text.get(behind_limits(words)..).unwrap_or_default();
    let text = std::str::from_utf8(text).map_err(|_| Unknown::Lex("a literal is not UTF-8"))?;
    lineage::follow(text, cx, facts)
}

/// Where the statement starts behind a SET STATEMENT … FOR, which the parser doesn't know.
fn behind_limits(words: &Words<'_>) -> usize {
    if !(words.is(0, "set") && words.is(1, "statement")) {
        return 0;
    }
    let start = words.find_outside(2, &["for"]).and_then(|at| words.tokens.get(at + 1));
    start.map_or(0, |token| token.start as usize)
}

/// The text without a LOCK IN SHARE MODE at its end, which the parser doesn't know.
fn without_lock<'a>(text: &'a [u8], words: &Words<'_>) -> &'a [u8] {
    let at = words.tokens.len().saturating_sub(4);
    let lock = ["lock", "in", "share", "mode"];
    let locks = lock.iter().enumerate().all(|(next, word)| words.is(at + next, word));
    let start = words.tokens.get(at).map_or(0, |token| token.start as usize);
    text.get(..start).filter(|_| locks).unwrap_or(text)
}

/// The literal LIMIT of the statement.
fn limit(words: &Words<'_>, at: usize) -> Option<u64> {
    let at = words.find_outside(at, &["limit"])?;
    let number = |at: usize| {
        let token = words.tokens.get(at).filter(|token| token.kind == Kind::Number)?;
        std::str::from_utf8(token.bytes(words.text)).ok()?.parse().ok()
    };
    // `LIMIT 10`, `LIMIT 10 OFFSET 5`, `LIMIT 5, 10`
    match words.kind(at + 2) {
        Some(Kind::Comma) => number(at + 3),
        _ => number(at + 1),
    }
}

/// The labels of each column of a view and whether it is computed, from its SELECT; `None` where that can't be told.
pub fn view_lineage(text: &str, cx: &Context<'_>) -> Option<Vec<(LabelSet, bool)>> {
    lineage::columns(text, cx).ok()
}

/// Whether a statement reads or writes variables (`@a`, `@@b`), or can't be read.
pub fn has_variables(text: &[u8], profile: &ServerProfile, mode: SqlMode) -> bool {
    let lexed = lexer::lex(text, profile, mode);
    lexed.unknown.is_some() || Words { text, tokens: &lexed.tokens }.has_variables()
}

/// The strings of a statement, as the server reads them. Those that it can't read are none.
pub fn strings(text: &[u8], profile: &ServerProfile, mode: SqlMode) -> Vec<Vec<u8>> {
    let lexed = lexer::lex(text, profile, mode);
    let literals = lexed.tokens.iter().filter_map(|token| match token.kind {
        Kind::Str => Some(token.bytes(text)),
        Kind::NationalStr => token.bytes(text).get(1..),
        _ => None,
    });
    literals.filter_map(|literal| words::unescape(literal, mode)).collect()
}

/// Whether a view's, routine's or trigger's text names anything in the sensitive closure, or can't be read.
pub fn touches(text: &str, cx: &Context<'_>) -> bool {
    let lexed = lexer::lex(text.as_bytes(), &cx.catalog.profile, cx.sql_mode);
    if lexed.unknown.is_some() {
        return true;
    }
    let words = Words { text: text.as_bytes(), tokens: &lexed.tokens };
    let dynamic = words.has_any(0, &["prepare", "immediate"]);
    let found = tables::named(&words, cx, Verb::Select, 0);
    let named = found.calls_sensitive || found.tables.iter().any(|table| table.sensitive);
    dynamic || named || quotes_sensitive(&words, cx)
}

/// Whether a view's text calls a routine of the closure, or reads a view that does.
pub fn calls_sensitive(text: &str, cx: &Context<'_>) -> bool {
    let lexed = lexer::lex(text.as_bytes(), &cx.catalog.profile, cx.sql_mode);
    let words = Words { text: text.as_bytes(), tokens: &lexed.tokens };
    tables::named(&words, cx, Verb::Select, 0).calls_sensitive
}

/// Whether a string in double quotes is the name of something in the closure: a text that was stored under
/// `ANSI_QUOTES` is read under it, whatever the session's mode.
fn quotes_sensitive(words: &Words<'_>, cx: &Context<'_>) -> bool {
    let texts = words.tokens.iter().filter(|token| token.kind == Kind::Str);
    let mut names = texts
        .map(|token| token.bytes(words.text))
        .filter(|bytes| bytes.first() == Some(&b'"'))
        .filter_map(|bytes| std::str::from_utf8(bytes.get(1..bytes.len().checked_sub(1)?)?).ok());
    names.any(|name| {
        let table = |table: &Table| table.sensitive && fold(&table.name) == fold(name);
        let routine = |routine: &Routine| routine.sensitive && fold(&routine.name) == fold(name);
        cx.catalog.tables().any(table) || cx.catalog.routines().any(routine)
    })
}

/// Whether a routine's text writes or changes definitions: whoever calls it does, whatever the calling statement is.
pub fn writes(text: &str, catalog: &Catalog) -> bool {
    const WRITES: [&str; 12] = [
        "insert", "replace", "update", "delete", "load", "truncate", "create", "alter", "drop",
        "rename", "grant", "call",
    ];
    let lexed = lexer::lex(text.as_bytes(), &catalog.profile, catalog.profile.sql_mode);
    let words = Words { text: text.as_bytes(), tokens: &lexed.tokens };
    // INSERT(…) and REPLACE(…) are functions too.
    (0..lexed.tokens.len())
        .any(|at| words.is_any(at, &WRITES) && words.kind(at + 1) != Some(Kind::Open))
}

/// The labels of the tables that a view's text names, as tables: `high-value` holds for what is written through it.
pub fn table_labels(text: &str, cx: &Context<'_>) -> LabelSet {
    let lexed = lexer::lex(text.as_bytes(), &cx.catalog.profile, cx.sql_mode);
    let words = Words { text: text.as_bytes(), tokens: &lexed.tokens };
    let found = tables::named(&words, cx, Verb::Select, 0);
    found.tables.iter().fold(LabelSet::EMPTY, |set, table| set.union(table.table_labels))
}

#[cfg(test)]
mod tests;
