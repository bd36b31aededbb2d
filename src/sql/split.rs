//! A text of several statements, taken apart. What comes out is analysed and sent one by one, so that a cut in the
//! wrong place is a syntax error and nothing worse.

use std::ops::Range;

use super::canonical::{canonical, comment};
use super::comment::says;
use super::lexer::is_space;
use super::token::{Kind, Token};
use super::words::Words;
use super::{lexer, same_tokens};
use crate::schema::{ServerProfile, SqlMode};

/// Statements in one text at the most: bulk updates are sent by the thousand; what is kept of each is its place.
pub const MAX_STATEMENTS: usize = 10_000;

/// Words that begin a stored program's definition within their CREATE or ALTER.
const PROGRAMS: [&str; 5] = ["procedure", "function", "trigger", "event", "package"];

/// CREATE OR REPLACE DEFINER = a @ b AGGREGATE FUNCTION: a program's kind is named before this many tokens.
const PROGRAM_HEAD: usize = 16;

/// Statements of a program that end with END, where they stand as statements.
const BLOCKS: [&str; 5] = ["if", "while", "loop", "repeat", "for"];

/// A text of several statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The text with its comments blanked, but for those that say something of the run: of the same length.
    pub text: Box<[u8]>,
    /// Whether there are such.
    pub says: bool,
    /// Where each statement is.
    pub statements: Vec<Range<usize>>,
}

/// The statements of a text; `None` where it is one, or can't be read: it is then sent whole, to a server that takes
/// no more than one.
pub fn split(text: &[u8], profile: &ServerProfile, mode: SqlMode) -> Option<Split> {
    // As the servers do: what ends with a semicolon does not go on.
    let end = text.iter().rposition(|byte| *byte != b';' && !is_space(*byte))? + 1;
    let text = text.get(..end)?;
    if !text.contains(&b';') {
        return None;
    }
    let lexed = lexer::lex(text, profile, mode);
    if lexed.unknown.is_some() {
        return None;
    }
    let blanked = canonical(text, &lexed);
    if blanked.as_ref().is_some_and(|blanked| !same_tokens(blanked, &lexed, profile, mode)) {
        return None;
    }
    let statements = cut(&Words { text, tokens: &lexed.tokens }, end);
    if statements.len() < 2 {
        return None;
    }
    let mut blanked = blanked.unwrap_or_else(|| text.into());
    let mut says = false;
    for range in &statements {
        let own = text.get(range.clone()).unwrap_or_default();
        let Some(place) = blanked.get_mut(range.clone()) else { continue };
        if place.iter().all(|byte| is_space(*byte)) {
            comment(place, own);
        } else {
            says |= restore(place, own, range.start, &lexed.blanks);
        }
    }
    Some(Split { text: blanked, says, statements })
}

/// Puts the comments back in their places that say something of the run, where a statement that comes alone has them: it
/// is analysed with them as one that came alone is. Whether there are any.
fn restore(place: &mut [u8], own: &[u8], start: usize, blanks: &[(u32, u32)]) -> bool {
    let first = blanks.partition_point(|(from, _)| (*from as usize) < start);
    let mut says_any = false;
    for (from, to) in blanks.iter().skip(first).map(|(from, to)| (*from as usize, *to as usize)) {
        let range = from - start..to - start;
        let Some(comment) = own.get(range.clone()) else { break };
        if says(comment)
            && let Some(place) = place.get_mut(range)
        {
            place.copy_from_slice(comment);
            says_any = true;
        }
    }
    says_any
}

/// Whether the tokens are one CREATE or ALTER of a stored program, whose body's semicolons end no statement of the
/// client's. Wherever the body is not what it seems, a server that takes no more than one statement refuses it.
pub(super) fn is_one_program(words: &Words<'_>) -> bool {
    let end = words.text.len();
    words.is_any(0, &["create", "alter"]) && is_program(words, 0) && cut(words, end).len() == 1
}

/// The ranges between the semicolons that end a statement.
fn cut(words: &Words<'_>, end: usize) -> Vec<Range<usize>> {
    let mut statements = Vec::new();
    let (mut start, mut first, mut depth) = (0, 0, 0_usize);
    let mut program = is_program(words, 0);
    for (at, token) in words.tokens.iter().enumerate() {
        if at > first && words.is(at, "end") && depth > 0 {
            depth -= 1;
        } else if program {
            depth += usize::from(opens(words, first, at));
        }
        if token.kind == Kind::Semicolon && depth == 0 {
            let [from, to] = place(token);
            statements.push(start..from);
            (start, first, program) = (to, at + 1, is_program(words, at + 1));
        }
    }
    statements.push(start..end);
    statements
}

fn place(token: &Token) -> [usize; 2] {
    [token.start, token.end].map(|at| usize::try_from(at).unwrap_or(usize::MAX))
}

/// Whether the statement that begins at `at` may hold others.
fn is_program(words: &Words<'_>, at: usize) -> bool {
    let defines = words.is_any(at, &["create", "alter"])
        && (at + 1..at + PROGRAM_HEAD).any(|next| words.is_any(next, &PROGRAMS));
    defines || (words.is(at, "begin") && words.is(at + 1, "not")) || words.is_any(at, &BLOCKS)
}

/// Whether the token at `at` begins what an END ends.
fn opens(words: &Words<'_>, first: usize, at: usize) -> bool {
    let after_end = at > first && words.is(at - 1, "end");
    if after_end {
        return false;
    }
    let begins_statement = at == first
        || words.kind(at - 1) == Some(Kind::Semicolon)
        || words.is_any(at - 1, &["then", "else", "begin", "do", "loop", "repeat"])
        || words.tokens.get(at - 1).is_some_and(|before| before.bytes(words.text) == b":");
    words.is_any(at, &["begin", "case"]) || (begins_statement && words.is_any(at, &BLOCKS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Flavour;

    fn check(text: &str, wanted: &[&str]) {
        let profile = ServerProfile::stock(Flavour::MariaDb);
        let split = split(text.as_bytes(), &profile, SqlMode(0));
        let got: Vec<String> = split
            .iter()
            .flat_map(|split| {
                let text = |range: &Range<usize>| {
                    String::from_utf8_lossy(&split.text[range.clone()]).into_owned()
                };
                split.statements.iter().map(text).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(got, wanted, "{text}");
    }

    #[test]
    fn statements_end_at_semicolons_of_their_own() {
        check("SELECT 1; SELECT 2", &["SELECT 1", " SELECT 2"]);
        check("SELECT 1;SELECT ';';\n ; ", &["SELECT 1", "SELECT ';'"]);
        check("SELECT ';'", &[]);
        check("SELECT 1 /* ; */ # ;\n -- ;", &[]);
        check("SELECT `a;b`, \";\", 'it''s;', '\\';' ;", &[]);
        check("SELECT 1;;SELECT 2", &["SELECT 1", "", "SELECT 2"]);
        check("SELECT 1; -- x", &["SELECT 1", " #   "]);
        check("SELECT 'open; SELECT 2", &[]);
    }

    #[test]
    fn a_statement_keeps_its_own_comment_that_says_something() {
        check(
            "/*run_id='1'*/ SELECT 1 /*x*/; /*a*/ SELECT 2 /*purpose='p'*/;/*run_id='2'*/ /*b*/",
            &[
                "/*run_id='1'*/ SELECT 1      ",
                "       SELECT 2 /*purpose='p'*/",
                "#                   ",
            ],
        );
        let says = |text: &str| {
            let profile = ServerProfile::stock(Flavour::MariaDb);
            split(text.as_bytes(), &profile, SqlMode(0)).unwrap().says
        };
        assert!(says("SELECT 1; SELECT 2 /*run_id='1'*/"));
        assert!(!says("SELECT 1 /*x*/; SELECT '/*run_id=\\'1\\'*/'"));
    }

    #[test]
    fn executable_comments_are_resolved_before_the_cut() {
        check("/*!50000 SELECT 1; SELECT 2 */", &["         SELECT 1", " SELECT 2   "]);
        check(
            "SELECT 1 /*!999999 ; SELECT 2 */; SELECT 3",
            &["SELECT 1                        ", " SELECT 3"],
        );
        check("SELECT 5--/**/1; SELECT 2", &[]);
    }

    #[test]
    fn programs_keep_their_semicolons() {
        let whole = "CREATE PROCEDURE p() BEGIN IF 1 THEN SELECT 1; END IF; CASE 1 WHEN 1 THEN SELECT 2; END CASE; \
                     LOOP LEAVE x; END LOOP; WHILE 0 DO SELECT IF(1, 2, 3); END WHILE; END";
        check(&format!("{whole};"), &[]);
        check(&format!("DO 1; {whole}; CALL p()"), &["DO 1", &format!(" {whole}"), " CALL p()"]);
        check(
            "BEGIN NOT ATOMIC SELECT 1; SELECT 2; END; SELECT 3",
            &["BEGIN NOT ATOMIC SELECT 1; SELECT 2; END", " SELECT 3"],
        );
        check("BEGIN; SELECT 1; COMMIT", &["BEGIN", " SELECT 1", " COMMIT"]);
        check(
            "CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET NEW.a = 1; SELECT 1",
            &["CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET NEW.a = 1", " SELECT 1"],
        );
        check(
            "SELECT CASE WHEN 1 THEN 2 END; SELECT 3",
            &["SELECT CASE WHEN 1 THEN 2 END", " SELECT 3"],
        );
    }
}
