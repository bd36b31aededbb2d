//! What a statement's comments say of its run, in sqlcommenter's form: `/*key='value',key='value'*/`, keys and values
//! encoded as in a URL, a quote in a value behind a backslash. Any other comment says nothing, which is no error.

use super::form::Tokens;
use crate::run::{Kept, Run};

/// As of query attributes: at most so many pairs in so many bytes. What is longer is somebody's prose.
const MAX_PAIRS: usize = 64;
const MAX_BYTES: usize = 64 << 10;

impl Tokens {
    /// What the comments of the text that was read say: the last one that says anything. Drivers put theirs behind what
    /// their programs wrote.
    pub fn said(&self, text: &[u8]) -> Option<Box<Kept>> {
        // What is blanked besides plain comments never reads so: executable ones begin with an exclamation mark, those to a
        // line's end with another sign.
        let place = |(start, end): (u32, u32)| text.get(start as usize..end as usize);
        self.lexed.blanks.iter().rev().find_map(|range| said(place(*range)?))
    }
}

/// Whether a comment is one that says something.
pub(super) fn says(comment: &[u8]) -> bool {
    said(comment).is_some()
}

fn said(comment: &[u8]) -> Option<Box<Kept>> {
    let body = comment.strip_prefix(b"/*")?.strip_suffix(b"*/")?;
    let pairs = pairs(body)?;
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Run<'_>>().keep()
}

/// All of them, or `None` where one is malformed.
fn pairs(body: &[u8]) -> Option<Vec<(String, String)>> {
    if body.len() > MAX_BYTES {
        return None;
    }
    let mut rest = body.trim_ascii();
    let mut found = Vec::new();
    loop {
        let (name, after) = rest.split_at(rest.iter().position(|byte| *byte == b'=')?);
        let after = after.strip_prefix(b"='")?;
        let (value, after) = after.split_at(quoted(after)?);
        // In names, what URLs escape must be; so none is an executable comment's exclamation mark.
        if !name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(byte)) {
            return None;
        }
        found.push((decoded(name)?, decoded(value)?));
        rest = match after.get(1..)?.trim_ascii_start() {
            [] => return Some(found),
            [b',', next @ ..] if found.len() < MAX_PAIRS => next.trim_ascii_start(),
            _ => return None,
        };
    }
}

/// How long a value is, behind its opening quote.
fn quoted(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'\'' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// A name or a value in clear: `%27` is a quote, and so is `\'`. (Who wrote a comment by hand may have left the rest as it is.)
fn decoded(part: &[u8]) -> Option<String> {
    let mut clear = Vec::with_capacity(part.len());
    let mut rest = part;
    while let [byte, after @ ..] = rest {
        let (byte, after) = match (byte, after) {
            (b'\\', [escaped, after @ ..]) => (*escaped, after),
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                (u8::try_from(digit(high)? << 4 | digit(low)?).ok()?, after)
            }
            (b'%', _) => return None,
            (byte, after) => (*byte, after),
        };
        clear.push(byte);
        rest = after;
    }
    String::from_utf8(clear).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schema::{Flavour, ServerProfile, SqlMode};
    use crate::sql::lexer;

    /// `name=value` of each, as this server would read the text.
    fn read(text: &[u8], flavour: Flavour) -> Vec<String> {
        let mut tokens = Tokens::default();
        let profile = ServerProfile::stock(flavour);
        lexer::lex_into(&mut tokens.lexed, text, &profile, SqlMode(0));
        let said = tokens.said(text);
        let pairs = said.iter().flat_map(|kept| kept.run().pairs());
        pairs.map(|(name, value)| format!("{name}={value}")).collect()
    }

    fn check(text: &str, wanted: &[&str]) {
        for flavour in [Flavour::MariaDb, Flavour::MySql] {
            assert_eq!(read(text.as_bytes(), flavour), wanted, "{text} on {flavour:?}");
        }
    }

    #[test]
    fn comments_in_the_form_of_sqlcommenter_say_something() {
        check(
            "SELECT 1 /*run_id='r-7',traceparent='00-5b-53-01'*/",
            &["traceparent=00-5b-53-01", "run_id=r-7"],
        );
        check(
            "/* purpose='a%20%27quoted%27%20one' , controller='x' */ SELECT 1",
            &["purpose=a 'quoted' one"],
        );
        check(
            r"SELECT 1 /*purpose='it\'s, all=there',pipeline='%C3%BC'*/;",
            &["purpose=it's, all=there", "pipeline=ü"],
        );
        check("SELECT 1 /*run%5Fid='r'*/", &["run_id=r"]);
        check("SELECT 1 /*run_id='a',run_id='b'*/", &["run_id=a"]);
        check("SELECT 1 /*run_id='',purpose='by hand, ü'*/", &["purpose=by hand, ü"]);
    }

    #[test]
    fn the_last_comment_that_says_anything_counts() {
        check("/*run_id='1',purpose='p'*/ SELECT 1 /*run_id='2'*/", &["run_id=2"]);
        check("/*run_id='1'*/ SELECT 1 /* prose */ /*a='b'*/ /*run_id='2'", &["run_id=1"]);
        check("/*run_id='1'*/ SELECT 1 /* prose */ /*a='b'*/ /*run_id=2*/", &["run_id=1"]);
    }

    #[test]
    fn what_is_no_plain_comment_says_nothing() {
        for text in [
            "SELECT '/*run_id=\\'1\\'*/'",
            "SELECT \"/*run_id='1'*/\"",
            "SELECT `/*run_id='1'*/` FROM t",
            "SELECT 1 -- /*run_id='1'*/",
            "SELECT 1 # /*run_id='1'*/",
            "SELECT 1 /*! + 1 */",
            "SELECT 1 /*!99999a='b',run_id='1'*/",
            "SELECT 1 /*!999999a='b',run_id='1'*/",
            "SELECT 1 /*M!999999a='b',run_id='1'*/",
            "SELECT 1 /*M!a='b',run_id='1'*/",
            "SELECT 1 /*!run_id='1'*/",
            "SELECT /*+ a='b',run_id='1' */ 1",
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn malformed_ones_say_nothing() {
        for body in [
            "run_id",
            "run_id=",
            "run_id='",
            "run_id='1",
            "run_id=1",
            "run_id=\"1\"",
            "='1'x",
            "run_id='1' purpose='2'",
            "run_id='1',",
            "run_id='1',,purpose='2'",
            "run_id='1'x",
            "run_id='%'",
            "run_id='%2'",
            "run_id='%zz'",
            "run_id='%ff'",
            "run_id='1\\",
            "a b='1',run_id='1'",
            "run_id ='1'",
            "run_id= '1'",
            "run_id='1',x",
        ] {
            check(&format!("SELECT 1 /*{body}*/"), &[]);
        }
        assert_eq!(read(b"SELECT 1 /*run_id='\xff'*/", Flavour::MariaDb), [""; 0]);
    }

    #[test]
    fn they_are_bounded() {
        let many = |count: usize| format!("/*{}run_id='1'*/ DO 1", "a='b',".repeat(count));
        check(&many(MAX_PAIRS - 1), &["run_id=1"]);
        check(&many(MAX_PAIRS), &[]);
        let long = |len: usize| format!("/*run_id='{}'*/ DO 1", "x".repeat(len));
        let around = "run_id=''".len();
        check(&long(MAX_BYTES - around), &[&format!("run_id={}", "x".repeat(256))]);
        check(&long(MAX_BYTES - around + 1), &[]);
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&text, Flavour::MariaDb);
            said(&text);
        }

        #[test]
        fn no_comment_is_too_odd(body in r"[a-z_%='\\,/*! ü]{0,60}") {
            said(format!("/*{body}*/").as_bytes());
            read(format!("SELECT 1 /*{body}*/").as_bytes(), Flavour::MySql);
        }

        #[test]
        fn a_string_says_nothing(text in r"[a-z_%=,/*! ü]{0,40}") {
            let quoted = format!("SELECT '/*run_id=''{text}''*/', \"/*run_id='{text}'*/\"");
            prop_assert_eq!(read(quoted.as_bytes(), Flavour::MySql), Vec::<String>::new());
        }

        /// What the libraries write is read back.
        #[test]
        fn every_value_comes_through(value in "\\PC{1,60}") {
            let mut encoded = String::new();
            for byte in value.bytes() {
                match byte {
                    b'\'' => encoded.push_str("\\'"),
                    byte if byte.is_ascii_alphanumeric() => encoded.push(byte.into()),
                    byte => encoded.push_str(&format!("%{byte:02X}")),
                }
            }
            let text = format!("SELECT 1 /*purpose='{encoded}'*/");
            prop_assert_eq!(read(text.as_bytes(), Flavour::MariaDb), [format!("purpose={value}")]);
        }
    }
}
