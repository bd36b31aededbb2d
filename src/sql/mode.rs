//! What a SET makes of `sql_mode`: how the session's next text is read depends on it.

use super::verb::{behind, literal_text, set_tokens};
use super::words::Words;
use crate::schema::{ServerProfile, SqlMode};

/// Modes that the governed may not set: they bring another grammar, or stand for modes that this list can't know.
const REFUSED: [&str; 8] =
    ["DB2", "DEFAULT", "MAXDB", "MSSQL", "MYSQL323", "MYSQL40", "ORACLE", "POSTGRESQL"];

/// Whether a value of `sql_mode` is a list of names of which each is known to change nothing, or only what the lexer
/// follows. Empty is what many clients set.
pub(super) fn is_followed(value: &str) -> bool {
    let followed = |mode: &str| {
        mode.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_' || b.is_ascii_digit())
            && !mode.bytes().all(|b| b.is_ascii_digit())
            && !REFUSED.iter().any(|known| known.eq_ignore_ascii_case(mode))
    };
    value.is_empty() || value.split(',').map(str::trim).all(followed)
}

/// The mode in which the session's text is read once this statement has succeeded; `None` where it sets none.
pub fn sets_mode(text: &[u8], profile: &ServerProfile, mode: SqlMode) -> Option<SqlMode> {
    let lexed = set_tokens(text, profile, mode)?;
    let words = Words { text, tokens: &lexed.tokens };
    let values = behind(&words, "sql_mode").filter_map(|at| literal_text(&words, at + 1));
    values.last().map(|value| SqlMode::of(&value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Flavour;

    #[test]
    fn the_last_assignment_counts() {
        let profile = ServerProfile::stock(Flavour::MySql);
        let check =
            |text: &str| sets_mode(text.as_bytes(), &profile, SqlMode(0)).map(|mode| mode.0);
        assert_eq!(check("SET sql_mode = ''"), Some(0));
        assert_eq!(check(" set SESSION sql_mode:='ANSI'"), Some(13));
        assert_eq!(
            check("SET @@session.sql_mode = 'ANSI_QUOTES', @@sql_mode = IGNORE_SPACE"),
            Some(8)
        );
        assert_eq!(check("SET a = 1, @@LOCAL . sql_mode = 'NO_BACKSLASH_ESCAPES,x'"), Some(2));
        assert_eq!(check("SET @sql_mode = 'ANSI'"), None);
        assert_eq!(check("SET @@global.sql_mode = 'ANSI'"), None);
        assert_eq!(check("SELECT 'SET sql_mode = 1'"), None);
        assert_eq!(check("\x0b\x0cset sql_mode = 'ANSI_QUOTES'"), Some(1));
        assert_eq!(check("/* a */ set sql_mode = 'ANSI_QUOTES'"), Some(1));
        assert_eq!(check("/* a */ select sql_mode = 'ANSI_QUOTES'"), None);
    }

    #[test]
    fn what_is_followed() {
        for value in ["", "ANSI", "STRICT_TRANS_TABLES, ansi_quotes", "NO_BACKSLASH_ESCAPES"] {
            assert!(is_followed(value), "{value}");
        }
        for value in ["ORACLE", "4", "default", "STRICT_ALL_TABLES,mssql", "A B", "ANSI,"] {
            assert!(!is_followed(value), "{value}");
        }
    }
}
