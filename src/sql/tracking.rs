//! Session tracking, as SETs of the governed may shape it. The gateway lives on what the database tells of the session,
//! so a client may have more told, and nothing less.

use super::lexer;
use super::token::Kind;
use super::verb::{SETTABLE, behind, literal_text, set_tokens};
use super::words::Words;
use crate::schema::{ServerProfile, SqlMode};

const LIST: &str = "session_track_system_variables";

/// What the gateway must be told of: by another character set the server would read another text than the lexer.
const OWN: &[u8] = b"character_set_client,character_set_connection,character_set_results";

/// All variables, if it is all of the list.
const ALL: &[u8] = b"*";

/// What the governed may be told of beside what they may set: how their next statement runs.
const TOLD: [&str; 6] = [
    "auto_increment_increment",
    "session_track_schema",
    "session_track_state_change",
    "session_track_system_variables",
    "transaction_read_only",
    "tx_read_only",
];

/// Longest list of variables.
const MAX_LIST: usize = 4_096;

/// Whether the governed may be told what this variable has become: they could set or read it anyway.
pub fn is_settable(name: &[u8]) -> bool {
    SETTABLE.iter().chain(&TOLD).any(|known| known.as_bytes() == name)
}

/// Whether a routine's text names a variable by which a server reads text, or may set the character sets. What calls it
/// may end without a word of that: no server tells of `sql_mode` where it matters, and of character sets neither does where the
/// end of a result is an EOF. (MariaDB's EOF says that something changed, but it says so of any view that was made under other
/// character sets as well.)
pub fn sets_reading(text: &str, profile: &ServerProfile, mode: SqlMode) -> bool {
    const CHARSETS: [&str; 4] = [
        "character_set_client",
        "character_set_connection",
        "character_set_results",
        "collation_connection",
    ];
    let lexed = lexer::lex(text.as_bytes(), profile, mode);
    let words = Words { text: text.as_bytes(), tokens: &lexed.tokens };
    (0..lexed.tokens.len()).any(|at| {
        let variable = match words.kind(at) {
            Some(Kind::SysVar) => {
                words.tokens.get(at).map(|token| token.bytes(words.text).to_ascii_lowercase())
            }
            _ => words.name(at).map(|name| name.to_ascii_lowercase().into_bytes()),
        };
        let is = |name: &str| {
            let found = variable.as_deref().unwrap_or_default();
            let found = found.strip_suffix(b"`").unwrap_or(found);
            found.ends_with(name.as_bytes())
        };
        let may_set =
            at > 0 && (words.is(at - 1, "set") || words.kind(at - 1) == Some(Kind::Comma));
        let names = may_set && words.is_any(at, &["names", "charset", "character", "char"]);
        is("sql_mode") || names || CHARSETS.iter().any(|name| is(name))
    })
}

/// Where the value at `at` ends, if this variable is one of session tracking and the governed may set it to that.
pub(super) fn value_end(words: &Words<'_>, name: &str, at: usize) -> Option<usize> {
    match name {
        "session_track_schema" => words_of(words, at, &["1", "on", "true"]),
        "session_track_state_change" => {
            words_of(words, at, &["0", "1", "off", "on", "true", "false"])
        }
        LIST if words.kind(at) == Some(Kind::Str) => is_list(words, at).then_some(at + 1),
        LIST => longer(words, at),
        _ => None,
    }
}

fn words_of(words: &Words<'_>, at: usize, known: &[&str]) -> Option<usize> {
    let value = literal_text(words, at)?.to_ascii_lowercase();
    known.contains(&value.as_str()).then_some(at + 1)
}

/// `CONCAT(@@global.session_track_system_variables, ',x,y')`: what is there already, and more. (A literal that does not
/// begin with a comma would make another of the last name in front of it.)
fn longer(words: &Words<'_>, at: usize) -> Option<usize> {
    let kinds = [Kind::Word, Kind::Open, Kind::SysVar, Kind::Comma, Kind::Str, Kind::Close];
    let is_call = (at..).zip(kinds).all(|(at, kind)| words.kind(at) == Some(kind));
    if !is_call || !words.is(at, "concat") || !is_list(words, at + 4) {
        return None;
    }
    let before = words.tokens.get(at + 2)?.bytes(words.text).to_ascii_lowercase();
    let before = before.strip_prefix(b"@@")?;
    let scopes = [&b"global."[..], b"session.", b"local."];
    let before = scopes.iter().find_map(|scope| before.strip_prefix(*scope)).unwrap_or(before);
    let adds = literal_text(words, at + 4).is_some_and(|list| list.starts_with(','));
    (before == LIST.as_bytes() && adds).then_some(at + 6)
}

/// A plain literal of names and commas.
fn is_list(words: &Words<'_>, at: usize) -> bool {
    let named =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b',' | b'*' | b' ');
    let is_quoted = words
        .tokens
        .get(at)
        .is_some_and(|token| matches!(token.bytes(words.text).first(), Some(b'\'' | b'"')));
    is_quoted
        && literal_text(words, at)
            .is_some_and(|list| list.len() <= MAX_LIST && list.bytes().all(named))
}

/// The text with the gateway's own variables in front of those that a SET lists; `None` where it lists none, so that it
/// may be sent as it is.
pub fn keeps_told(text: &[u8], profile: &ServerProfile, mode: SqlMode) -> Option<Vec<u8>> {
    let lexed = set_tokens(text, profile, mode)?;
    let words = Words { text, tokens: &lexed.tokens };
    let (mut out, mut from) = (Vec::new(), 0);
    for at in behind(&words, LIST) {
        let is_set = words.kind(at) == Some(Kind::Operator);
        let token = lexed.tokens.get(at + 1).filter(|token| is_set && token.kind == Kind::Str);
        // Inside its quotes. A qualified name is met twice.
        let inside = token.map(|token| (token.start as usize + 1, token.end as usize - 1));
        let Some((start, end)) = inside.filter(|(start, _)| *start > from) else { continue };
        let list = text.get(start..end)?.trim_ascii();
        if list == ALL {
            continue;
        }
        out.extend_from_slice(text.get(from..start)?);
        out.extend_from_slice(OWN);
        if !list.is_empty() {
            out.push(b',');
        }
        from = start;
    }
    if from == 0 {
        return None;
    }
    out.extend_from_slice(text.get(from..)?);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Flavour;

    fn kept(text: &str) -> Option<String> {
        let profile = ServerProfile::stock(Flavour::MariaDb);
        let kept = keeps_told(text.as_bytes(), &profile, SqlMode(0))?;
        Some(String::from_utf8(kept).unwrap())
    }

    #[test]
    fn lists_begin_with_the_gateways_own() {
        let own = std::str::from_utf8(OWN).unwrap();
        for (before, after) in [
            ("SET session_track_system_variables='", "autocommit,tx_isolation'"),
            ("SET a = 1, @@session.session_track_system_variables='", "*,x', b = 'x'"),
            ("SET @@LOCAL . SESSION_TRACK_SYSTEM_VARIABLES = '", "a'"),
            ("SET @@session . `session_track_system_variables` = '", "a'"),
        ] {
            let told = kept(&format!("{before}{after}"));
            assert_eq!(told.as_deref(), Some(format!("{before}{own},{after}").as_str()));
        }
        // MariaDB knows no empty name.
        let none = "/* a */ set session session_track_system_variables := \"";
        assert_eq!(kept(&format!("{none}\"")), Some(format!("{none}{own}\"")));
        let twice = "SET session_track_system_variables='', session_track_system_variables='a'";
        assert_eq!(kept(twice).unwrap().matches(own).count(), 2);
    }

    #[test]
    fn other_texts_are_sent_as_they_are() {
        for text in [
            "SELECT 'SET session_track_system_variables=1'",
            "SET @session_track_system_variables = 'a'",
            "SET @a = 'session_track_system_variables'",
            "SET session_track_schema = 1",
            "SET session_track_system_variables = ' * '",
            "SET session_track_system_variables = CONCAT(@@session_track_system_variables, ',a')",
        ] {
            assert_eq!(kept(text), None, "{text}");
        }
    }

    #[test]
    fn what_the_governed_are_told_of() {
        assert!(is_settable(b"time_zone") && is_settable(b"auto_increment_increment"));
        assert!(!is_settable(b"statement_id") && !is_settable(b"init_connect"));
    }
}
