//! KILL: which connection, and whether all of it. The ids in it are the gateway's as often as the database's, so that
//! it is never sent as it stands.

use super::lexer;
use super::token::Kind;
use super::words::Words;
use crate::schema::{ServerProfile, SqlMode};

/// What a KILL is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// The connection's id.
    pub connection: u64,
    /// Its statement only.
    pub query_only: bool,
}

/// Reads a KILL. `None` where the text is none; an error for one that names its victims in another way.
pub fn kill(text: &[u8], profile: &ServerProfile, mode: SqlMode) -> Option<Result<Kill, ()>> {
    if !lexer::may_begin(text, "kill") {
        return None;
    }
    let lexed = lexer::lex(text, profile, mode);
    let words = Words { text, tokens: lexed.statement() };
    if !words.is(0, "kill") {
        return None;
    }
    let mut at = 1;
    at += usize::from(words.is_any(at, &["hard", "soft"]));
    let query_only = words.is(at, "query");
    at += usize::from(words.is_any(at, &["query", "connection"]));
    let number = words.tokens.get(at).filter(|token| token.kind == Kind::Number);
    let id = number.and_then(|token| std::str::from_utf8(token.bytes(text)).ok()?.parse().ok());
    let whole = lexed.unknown.is_none() && at + 1 == words.tokens.len();
    Some(id.filter(|_| whole).map(|connection| Kill { connection, query_only }).ok_or(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Flavour;

    #[test]
    fn what_is_to_be_killed() {
        let profile = ServerProfile::stock(Flavour::MariaDb);
        let some = |connection, query_only| Some(Ok(Kill { connection, query_only }));
        for (text, wanted) in [
            ("KILL 5", some(5, false)),
            (" kill hard query 2147483649 ;", some(2_147_483_649, true)),
            ("/* a */ KILL CONNECTION 7 # b", some(7, false)),
            ("/*!50000 KILL */ 7", some(7, false)),
            ("KILL QUERY ID 7", Some(Err(()))),
            ("KILL USER rowgate", Some(Err(()))),
            ("KILL 5 + 1", Some(Err(()))),
            ("KILL (SELECT 5)", Some(Err(()))),
            ("KILL", Some(Err(()))),
            ("KILL 5--/**/1", Some(Err(()))),
            ("SELECT 'KILL 5'", None),
            ("-- KILL 5\nSELECT 1", None),
        ] {
            assert_eq!(kill(text.as_bytes(), &profile, SqlMode(0)), wanted, "{text}");
        }
    }
}
