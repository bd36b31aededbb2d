//! Whether a database may be asked how it would run a statement, before anybody agreed to it: where EXPLAIN can run nothing.
//!
//! Servers compute what is constant while they explain, stored functions and subqueries among it. So this is a narrow
//! list, and whatever is not on it has no estimate.

use super::lexer;
use super::token::Kind;
use super::words::Words;
use crate::schema::{ServerProfile, SqlMode};

/// Words that stand in front of a parenthesis and call nothing.
const PLAIN: [&str; 12] =
    ["in", "and", "or", "not", "where", "on", "using", "having", "between", "by", "from", "join"];

/// Words of statements that do more than to read or write rows.
const MORE: [&str; 8] =
    ["into", "for", "lock", "procedure", "with", "returning", "call", "analyze"];

/// Whether this is a plain SELECT, UPDATE or DELETE: one query, no call, no variable, no parameter, and a text that is read
/// alike under every `sql_mode`.
pub fn is_explainable(text: &str, profile: &ServerProfile, mode: SqlMode) -> bool {
    if text.contains(['\\', '"', ';']) {
        return false;
    }
    let lexed = lexer::lex(text.as_bytes(), profile, mode);
    let words = Words { text: text.as_bytes(), tokens: &lexed.tokens };
    let all = || 0..lexed.tokens.len();
    let is_plain = |at: usize| match words.kind(at) {
        Some(Kind::Open) => at > 0 && is_no_call(&words, at - 1),
        Some(Kind::Param | Kind::UserVar | Kind::SysVar) => false,
        _ => !words.is_any(at, &MORE),
    };
    let selects = all().filter(|at| words.is(*at, "select")).count();
    let is_one = match selects {
        0 => words.is_any(0, &["update", "delete"]),
        1 => words.is(0, "select"),
        _ => false,
    };
    lexed.unknown.is_none() && lexed.blanks.is_empty() && is_one && all().all(is_plain)
}

fn is_no_call(words: &Words<'_>, before: usize) -> bool {
    match words.kind(before) {
        // (Behind a dot, a reserved word is a name.)
        Some(Kind::Word) => {
            let is_named = before > 0 && words.kind(before - 1) == Some(Kind::Dot);
            words.is_any(before, &PLAIN) && !is_named
        }
        Some(Kind::Open | Kind::Comma | Kind::Operator) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Flavour;

    #[test]
    fn what_could_run_something_is_not_explained() {
        let is =
            |text: &str| is_explainable(text, &ServerProfile::stock(Flavour::MariaDb), SqlMode(0));
        for good in [
            "DELETE FROM payments WHERE id < 10",
            "UPDATE t SET a = 'x', b = (1 + 2) WHERE id IN (1, 2) AND (c = 3 OR NOT (d = 4))",
            "SELECT a.id FROM a JOIN b USING (id) WHERE a.id BETWEEN (1) AND 2 ORDER BY a.id LIMIT 5",
        ] {
            assert!(is(good), "{good}");
        }
        for bad in [
            "DROP TABLE t",
            "INSERT INTO t VALUES (1)",
            "SELECT f()",
            "SELECT f ()",
            "SELECT `f`(1)",
            "SELECT shop.f(1)",
            "SELECT shop.in(1)",
            "DELETE FROM t WHERE shop . where (1)",
            "SELECT 1 FROM t WHERE id = (SELECT 1)",
            "SELECT 1 FROM (SELECT f() AS a) AS b",
            "DELETE FROM t WHERE id IN (SELECT id FROM u)",
            "SELECT 1 INTO OUTFILE '/tmp/x'",
            "SELECT id FROM t FOR UPDATE",
            "SELECT @a",
            "SELECT @@b",
            "SELECT ?",
            "SELECT 'a\\', f()",
            "SELECT \"a\"",
            "SELECT 1; DROP TABLE t",
            "SELECT 1 /*! , f() */",
            "WITH a AS (SELECT 1) DELETE FROM t",
            "UPDATE t SET a = sleep(5)",
            "SELECT 'x",
        ] {
            assert!(!is(bad), "{bad}");
        }
    }
}
