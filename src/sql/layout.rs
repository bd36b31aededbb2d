//! A statement as people read it: laid out over lines, and which column each of its parameters is for. Neither says what the
//! statement does: the text itself is what runs.

use super::lexer;
use super::token::{Kind, Lexed};
use super::words::Words;
use crate::schema::{ServerProfile, SqlMode};

/// What begins a line of its own.
const CLAUSES: [&str; 22] = [
    "from",
    "where",
    "set",
    "values",
    "group",
    "having",
    "order",
    "limit",
    "union",
    "except",
    "intersect",
    "join",
    "left",
    "right",
    "inner",
    "cross",
    "natural",
    "on",
    "returning",
    "select",
    "window",
    "for",
];

/// What goes on with a clause, on a line that is indented.
const PARTS: [&str; 3] = ["and", "or", "xor"];

/// The text with line breaks in place of some of the white space between its tokens; `None`: it can't be read, is short, or has
/// lines of its own. Nothing but white space differs: the result is read anew, and must be the same tokens.
pub fn laid_out(text: &str, profile: &ServerProfile, mode: SqlMode) -> Option<String> {
    let short = text.len() <= 60;
    if short || text.contains('\n') {
        return None;
    }
    let lexed = lexer::lex(text.as_bytes(), profile, mode);
    if lexed.unknown.is_some() {
        return None;
    }
    let words = Words { text: text.as_bytes(), tokens: &lexed.tokens };
    let (mut out, mut depth, mut copied) = (String::with_capacity(text.len() + 64), 0_usize, 0);
    for at in 1..lexed.tokens.len() {
        let (before, token) = (lexed.tokens.get(at - 1)?, lexed.tokens.get(at)?);
        match before.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        let indent = match depth {
            0 if words.is_any(at, &CLAUSES) && !words.is_any(at - 1, &CLAUSES) => "",
            0 if words.is_any(at, &PARTS) || before.kind == Kind::Comma => "  ",
            _ => continue,
        };
        let (start, end) = (before.end as usize, token.start as usize);
        let gap = text.get(start..end)?;
        // (A comment stays where it is.)
        if !gap.is_empty() && gap.bytes().all(lexer::is_space) {
            out.push_str(text.get(copied..start)?);
            out.push('\n');
            out.push_str(indent);
            copied = end;
        }
    }
    out.push_str(text.get(copied..)?);
    (out.contains('\n') && same(text, &lexed, &out, profile, mode)).then_some(out)
}

fn same(text: &str, lexed: &Lexed, out: &str, profile: &ServerProfile, mode: SqlMode) -> bool {
    let anew = lexer::lex(out.as_bytes(), profile, mode);
    let tokens = |lexed: &Lexed, text: &str| {
        let all =
            lexed.tokens.iter().map(|token| (token.kind, token.bytes(text.as_bytes()).to_vec()));
        all.collect::<Vec<_>>()
    };
    anew.unknown.is_none() && tokens(&anew, out) == tokens(lexed, text)
}

/// The column that a parameter is written to, or compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meant {
    /// One of this name.
    Named(String),
    /// The one in this place, from 0, of the table that is written to.
    Nth(usize),
}

/// For each parameter of a text, in order, its column, where that is plain to see. One pass: a text may be all parameters.
pub fn meant(text: &[u8], profile: &ServerProfile, mode: SqlMode) -> Vec<Option<Meant>> {
    let lexed = lexer::lex(text, profile, mode);
    let words = Words { text, tokens: &lexed.tokens };
    let mut places = rows(&words).into_iter().peekable();
    // What stands before the list of values that the parameter is in.
    let mut before_list = None;
    let mut all = Vec::new();
    for at in 0..lexed.tokens.len() {
        match words.kind(at) {
            Some(Kind::Param) => {
                let in_row = places.next_if(|(param, _)| *param == at).map(|(_, meant)| meant);
                all.push(in_row.or_else(|| compared(&words, at, before_list)));
            }
            Some(Kind::Comma | Kind::Number | Kind::Str) => {}
            _ => before_list = Some(at),
        }
    }
    all
}

/// The parameters in the rows that an INSERT or REPLACE spells out.
fn rows(words: &Words<'_>) -> Vec<(usize, Meant)> {
    let mut found = Vec::new();
    if !words.is_any(0, &["insert", "replace"]) {
        return found;
    }
    let Some(values) = words.find_outside(1, &["values", "value"]) else { return found };
    let names = names_before(words, values);
    let (mut depth, mut nth) = (0_usize, 0);
    for at in values + 1..words.tokens.len() {
        match words.kind(at) {
            Some(Kind::Open) => {
                depth += 1;
                if depth == 1 {
                    nth = 0;
                }
            }
            Some(Kind::Close) => depth = depth.saturating_sub(1),
            Some(Kind::Comma) if depth == 1 => nth += 1,
            Some(Kind::Param) if depth > 0 => {
                let named = names.as_ref().map(|names| names.get(nth).cloned());
                let meant = match named {
                    Some(name) => name.map(Meant::Named),
                    None => Some(Meant::Nth(nth)),
                };
                found.extend(meant.map(|meant| (at, meant)));
            }
            // What follows the rows, such as ON DUPLICATE KEY UPDATE.
            Some(Kind::Word) if depth == 0 => break,
            _ => {}
        }
    }
    found
}

/// The names in parentheses that end in front of `end`; `None`: there are none.
fn names_before(words: &Words<'_>, end: usize) -> Option<Vec<String>> {
    let close = end.checked_sub(1).filter(|at| words.kind(*at) == Some(Kind::Close))?;
    let open = (0..close).rev().find(|at| words.kind(*at) == Some(Kind::Open))?;
    let parts = words.tokens.get(open + 1..close)?.split(|token| token.kind == Kind::Comma);
    let mut at = open + 1;
    let mut names = Vec::new();
    for part in parts {
        names.push(words.name(at + part.len().checked_sub(1)?)?);
        at += part.len() + 1;
    }
    Some(names)
}

/// `column = ?`, `? < column`, `column LIKE ?`, `column BETWEEN ? AND ?`, `column IN (?, …)`.
fn compared(words: &Words<'_>, at: usize, before_list: Option<usize>) -> Option<Meant> {
    let is_compared = |at: usize| {
        words.kind(at) == Some(Kind::Operator)
            || words.is_any(at, &["like", "between", "regexp", "rlike"])
    };
    let named = |at: Option<usize>| Some(Meant::Named(words.name(at?)?));
    if is_compared(at.checked_sub(1)?) {
        let skip = usize::from(words.is(at.checked_sub(2)?, "not"));
        return named(at.checked_sub(2 + skip));
    }
    if words.is(at - 1, "and") && words.is(at.checked_sub(3)?, "between") {
        return compared(words, at - 2, None);
    }
    if let Some(open) = before_list.filter(|at| words.kind(*at) == Some(Kind::Open))
        && words.is(open.checked_sub(1)?, "in")
    {
        let skip = usize::from(words.is(open.checked_sub(2)?, "not"));
        return named(open.checked_sub(2 + skip));
    }
    let ends_at = words.chain(at + 2).map(|(_, end)| end - 1);
    if words.kind(at + 1) == Some(Kind::Operator) { named(ends_at) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Flavour;

    fn laid(text: &str) -> Option<String> {
        laid_out(text, &ServerProfile::stock(Flavour::MariaDb), SqlMode(0))
    }

    #[test]
    fn clauses_begin_lines() {
        let text = "SELECT id, name FROM customers AS c LEFT JOIN orders o ON o.c = c.id \
                    WHERE note = 'a FROM b, c' AND id IN (SELECT 1 FROM x) ORDER BY id LIMIT 5";
        insta::assert_snapshot!(laid(text).unwrap(), @r"
        SELECT id,
          name
        FROM customers AS c
        LEFT JOIN orders o
        ON o.c = c.id
        WHERE note = 'a FROM b, c'
          AND id IN (SELECT 1 FROM x)
        ORDER BY id
        LIMIT 5
        ");
        let update =
            "UPDATE orders SET state = 'paid',total_cents = 5 /* FROM */ WHERE id = 1 -- x";
        insta::assert_snapshot!(laid(update).unwrap(), @r"
        UPDATE orders
        SET state = 'paid',total_cents = 5 /* FROM */ WHERE id = 1 -- x
        ");
    }

    #[test]
    fn what_has_lines_is_short_or_unreadable_stays_as_it_is() {
        for text in
            ["DROP TABLE payments", "SELECT 1\nFROM t", &format!("{} 'x", "SELECT ".repeat(20))]
        {
            assert_eq!(laid(text), None, "{text}");
        }
    }

    #[test]
    fn parameters_have_columns_where_it_is_plain() {
        let check = |text: &str, wanted: &str| {
            let found = meant(text.as_bytes(), &ServerProfile::stock(Flavour::MariaDb), SqlMode(0));
            let found = found.iter().map(|meant| match meant {
                None => "-".to_owned(),
                Some(Meant::Named(name)) => name.clone(),
                Some(Meant::Nth(nth)) => nth.to_string(),
            });
            assert_eq!(found.collect::<Vec<_>>().join(" "), wanted, "{text}");
        };
        check("INSERT INTO t (a, t.`b b`) VALUES (?, UPPER(?)), (?, ?)", "a b b a b b");
        check("INSERT INTO t VALUES (1, ?, ?)", "1 2");
        check("INSERT INTO t (a) VALUES (?) ON DUPLICATE KEY UPDATE b = ?", "a b");
        check("UPDATE t SET t.a = ?, b = CONCAT(?, 'x') WHERE ssn = ? AND ? < n", "a - ssn n");
        check(
            "DELETE FROM t WHERE a NOT IN (?, ?, ?) AND b NOT LIKE ? AND x.c BETWEEN ? AND ?",
            "a a a b c c",
        );
        check(
            "DELETE FROM t WHERE a IN ('x', ?, 5, ?) AND b NOT RLIKE ? OR f(?, ?) = c",
            "a a b - -",
        );
        check("SELECT ?, a + 1 FROM t WHERE LOWER(a) = ? LIMIT ?", "- - -");
        check("SELECT '?' FROM t -- ?", "");
        check("?", "-");
        // (As long as may be. A look that is quadratic takes minutes.)
        let many = vec!["?"; 100_000].join(",");
        check(&format!("DELETE FROM t WHERE a IN ({many})"), &vec!["a"; 100_000].join(" "));
        check(&format!("REPLACE INTO t (a) VALUES ({many})"), &format!("a{}", " -".repeat(99_999)));
    }
}
