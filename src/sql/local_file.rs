//! LOAD DATA LOCAL: which file of the client's the statement names.

use super::lexer;
use super::token::Kind;
use super::words::{Words, unescape};
use crate::schema::{ServerProfile, SqlMode};

/// The client's file that a statement loads; `None` where it loads none.
pub fn local_file(text: &[u8], profile: &ServerProfile, mode: SqlMode) -> Option<Vec<u8>> {
    if !lexer::may_begin(text, "load") {
        return None;
    }
    let lexed = lexer::lex(text, profile, mode);
    if lexed.unknown.is_some() {
        return None;
    }
    let words = Words { text, tokens: &lexed.tokens };
    if !words.is(0, "load") {
        return None;
    }
    let name = words.tokens.get(name_at(&words, 0)?)?;
    unescape(name.bytes(text), mode)
}

/// Where the name of the client's file is; `None` where the LOAD at `start` loads none, but perhaps one of the server's.
pub(super) fn name_at(words: &Words<'_>, start: usize) -> Option<usize> {
    let mut at = start + 1;
    if !words.is_any(at, &["data", "xml"]) {
        return None;
    }
    at += 1;
    at += usize::from(words.is_any(at, &["low_priority", "concurrent"]));
    let local = words.is(at, "local") && words.is(at + 1, "infile");
    (local && words.kind(at + 2) == Some(Kind::Str)).then_some(at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Flavour;

    #[test]
    fn the_file_that_a_statement_names() {
        let profile = ServerProfile::stock(Flavour::MariaDb);
        let plain = SqlMode(SqlMode::NO_BACKSLASH_ESCAPES);
        for (text, mode, wanted) in [
            ("LOAD DATA LOCAL INFILE '/a b' INTO TABLE t", SqlMode(0), Some("/a b")),
            (" load xml concurrent local infile \"it's\" INTO TABLE t", SqlMode(0), Some("it's")),
            ("LOAD DATA LOCAL INFILE 'a\\\\b\\'x'", SqlMode(0), Some("a\\b'x")),
            ("LOAD DATA LOCAL INFILE 'a\\b'", plain, Some("a\\b")),
            ("\x0bLOAD DATA LOCAL INFILE 'a'", SqlMode(0), Some("a")),
            ("/* LOAD */ DATA LOCAL INFILE 'a'", SqlMode(0), None),
            ("LOAD DATA INFILE '/local' INTO TABLE t", SqlMode(0), None),
            ("LOAD LOCAL INFILE 'a' INTO TABLE t", SqlMode(0), None),
            ("SELECT 'LOAD DATA LOCAL INFILE'", SqlMode(0), None),
        ] {
            let found = local_file(text.as_bytes(), &profile, mode);
            assert_eq!(found.as_deref(), wanted.map(str::as_bytes), "{text}");
        }
    }
}
