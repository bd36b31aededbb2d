//! Bytes → tokens, as the target's own lexer would cut them: it knows flavour, version and `sql_mode`,
//! resolves executable comments, and notes what has to be blanked. It knows no grammar and no keywords.
//!
//! Where the servers' lexers have a quirk that no honest client needs (`1e+x`, nested comments, a
//! non-ASCII byte after `--`), the answer is [`Unknown::Lex`] and not an imitation.

use super::facts::Unknown;
use super::token::{Kind, Lexed, MAX_TOKENS, Token};
use crate::schema::{Flavour, ServerProfile, SqlMode};

/// White space, as the servers skip it: VT and FF are some, too.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Whether a statement may begin with this word: a cheap look that spares most texts the lexer, and misses none that the
/// lexer would read so.
pub(super) fn may_begin(text: &[u8], word: &str) -> bool {
    let start = text.iter().position(|byte| !is_space(*byte)).unwrap_or(text.len());
    let rest = text.get(start..).unwrap_or_default();
    let is_word =
        rest.get(..word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()));
    is_word || matches!(rest.first(), Some(b'/' | b'#' | b'-'))
}

/// Cuts `text` into tokens.
pub(super) fn lex(text: &[u8], profile: &ServerProfile, mode: SqlMode) -> Lexed {
    let mut lexed = Lexed::default();
    lex_into(&mut lexed, text, profile, mode);
    lexed
}

/// The same, in a room that was used before.
pub(super) fn lex_into(out: &mut Lexed, text: &[u8], profile: &ServerProfile, mode: SqlMode) {
    out.clear();
    out.tokens.reserve((text.len() / 4).clamp(8, 4096));
    let mut lexer = Lexer { text, profile, mode, at: 0, in_executable: false, out };
    if u32::try_from(text.len()).is_err() {
        lexer.out.unknown = Some(Unknown::TooComplex("4 GiB"));
    } else if let Err(why) = lexer.run() {
        lexer.out.unknown = Some(Unknown::Lex(why));
    }
}

type Step = Result<(), &'static str>;
type Digit = fn(&u8) -> bool;

struct Lexer<'a> {
    text: &'a [u8],
    profile: &'a ServerProfile,
    mode: SqlMode,
    at: usize,
    in_executable: bool,
    out: &'a mut Lexed,
}

impl Lexer<'_> {
    fn run(&mut self) -> Step {
        while let Some(byte) = self.peek(0) {
            match byte {
                byte if is_space(byte) => self.at += 1,
                b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | 0x80.. => self.word_or_prefix(byte)?,
                b'0'..=b'9' => self.number()?,
                b'\'' => self.quoted(b'\'', self.at, Kind::Str)?,
                b'"' if self.mode.has(SqlMode::ANSI_QUOTES) => {
                    self.quoted(b'"', self.at, Kind::Quoted)?;
                }
                b'"' => self.quoted(b'"', self.at, Kind::Str)?,
                b'`' => self.quoted(b'`', self.at, Kind::Quoted)?,
                b'@' => self.variable()?,
                b'#' => self.line_comment(),
                b'-' if self.starts_line_comment()? => self.line_comment(),
                b'/' if self.peek(1) == Some(b'*') => self.block_comment()?,
                b'*' if self.in_executable && self.peek(1) == Some(b'/') => {
                    self.blank(self.at, self.at + 2);
                    self.at += 2;
                    self.in_executable = false;
                }
                b'.' => self.dot()?,
                b'?' => self.param()?,
                _ => self.operator(byte)?,
            }
        }
        if self.in_executable { Err("an executable comment without an end") } else { Ok(()) }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize) {
        self.at = end;
        if self.out.tokens.len() >= MAX_TOKENS {
            self.out.unknown.get_or_insert(Unknown::TooComplex("1,000,000 tokens"));
            return;
        }
        // `lex` has checked that the length fits; the fallback is an empty token at the end.
        let position = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.out.tokens.push(Token { kind, start: position(start), end: position(end) });
    }

    fn blank(&mut self, start: usize, end: usize) {
        let position = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.out.blanks.push((position(start), position(end)));
    }

    /// The end of the run of identifier bytes at `from`. Non-ASCII must be whole UTF-8 characters without the
    /// byte 0xA0, which a latin1 session would read as a space.
    fn word_end(&self, from: usize) -> Result<usize, &'static str> {
        let mut end = from;
        let mut ascii = true;
        while let Some(&byte) = self.text.get(end) {
            if !is_word_byte(byte) {
                break;
            }
            ascii &= byte < 0x80;
            end += 1;
        }
        let word = &self.text[from..end];
        if !ascii && (std::str::from_utf8(word).is_err() || word.contains(&0xA0)) {
            return Err("a name that is not UTF-8, or holds a byte that latin1 reads as a space");
        }
        Ok(end)
    }

    fn word_or_prefix(&mut self, first: u8) -> Step {
        let start = self.at;
        if self.peek(1) == Some(b'\'') {
            match first {
                b'n' | b'N' => {
                    self.at += 1;
                    return self.quoted(b'\'', start, Kind::NationalStr);
                }
                b'x' | b'X' => return self.based(start, Kind::Hex, u8::is_ascii_hexdigit),
                b'b' | b'B' => return self.based(start, Kind::Bit, |b| matches!(b, b'0' | b'1')),
                _ => {}
            }
        }
        let end = self.word_end(start)?;
        let kind = if first == b'_' && self.literal_follows(end) {
            check_introducer(&self.text[start + 1..end])?;
            Kind::Introducer
        } else {
            Kind::Word
        };
        self.push(kind, start, end);
        Ok(())
    }

    /// Whether a string, hexadecimal or bit literal comes after `from` and white space. (A comment between an
    /// introducer and its string makes it a name here, which then resolves to nothing.)
    fn literal_follows(&self, from: usize) -> bool {
        let rest = &self.text[from..];
        let skip = rest.iter().take_while(|b| is_space(**b)).count();
        matches!(
            &rest[skip..],
            [b'\'' | b'"', ..]
                | [b'x' | b'X' | b'b' | b'B' | b'n' | b'N', b'\'', ..]
                | [b'0', b'x' | b'b', ..]
        )
    }

    /// `x'…'` and `b'…'`.
    fn based(&mut self, start: usize, kind: Kind, digit: fn(&u8) -> bool) -> Step {
        let body = &self.text[start + 2..];
        let len = body.iter().take_while(|byte| digit(byte)).count();
        if body.get(len) != Some(&b'\'') || (kind == Kind::Hex && len % 2 == 1) {
            return Err("a malformed hexadecimal or bit literal");
        }
        self.push(kind, start, start + len + 3);
        Ok(())
    }

    /// A string or quoted identifier; `self.at` is at its opening quote, `start` where the token starts.
    fn quoted(&mut self, quote: u8, start: usize, kind: Kind) -> Step {
        let escapes = kind != Kind::Quoted && !self.mode.has(SqlMode::NO_BACKSLASH_ESCAPES);
        let mut at = self.at + 1;
        loop {
            match self.text.get(at) {
                None => return Err("a quote without an end"),
                Some(b'\\') if escapes => at += 2,
                Some(&byte) if byte == quote => {
                    if self.text.get(at + 1) != Some(&quote) {
                        break;
                    }
                    at += 2;
                }
                Some(_) => at += 1,
            }
        }
        if kind == Kind::Quoted {
            let inner = &self.text[self.at + 1..at];
            if inner.is_empty() || inner.contains(&0) || std::str::from_utf8(inner).is_err() {
                return Err("a quoted name that is empty, has a NUL or is not UTF-8");
            }
        }
        self.push(kind, start, at + 1);
        Ok(())
    }

    fn number(&mut self) -> Step {
        let start = self.at;
        if self.text[start] == b'0' {
            let digit: Option<(Kind, Digit)> = match self.peek(1) {
                Some(b'x') => Some((Kind::Hex, u8::is_ascii_hexdigit)),
                Some(b'b') => Some((Kind::Bit, |b| matches!(b, b'0' | b'1'))),
                _ => None,
            };
            if let Some((kind, digit)) = digit {
                let end = start + 2 + count(&self.text[start + 2..], digit);
                if end > start + 2 && !self.text.get(end).is_some_and(|b| is_word_byte(*b)) {
                    self.push(kind, start, end);
                    return Ok(());
                }
                return self.digit_word(start);
            }
        }
        let end = start + count(&self.text[start..], u8::is_ascii_digit);
        match self.text.get(end) {
            Some(b'.') => self.fraction(start, end + 1),
            Some(b'e' | b'E') => match self.exponent(end) {
                Some(end) => {
                    self.push(Kind::Number, start, end);
                    Ok(())
                }
                None if matches!(self.text.get(end + 1), Some(b'+' | b'-')) => {
                    Err("a number with an empty exponent")
                }
                None => self.digit_word(start),
            },
            Some(&byte) if is_word_byte(byte) => self.digit_word(start),
            _ => {
                self.push(Kind::Number, start, end);
                Ok(())
            }
        }
    }

    /// The digits after a point. `1.from` is `1.` and `from`: the servers read it so.
    fn fraction(&mut self, start: usize, from: usize) -> Step {
        let mut end = from + count(&self.text[from..], u8::is_ascii_digit);
        match self.text.get(end) {
            Some(b'e' | b'E') => {
                end = self.exponent(end).ok_or("a number with an empty exponent")?;
            }
            Some(b'.') => return Err("a number with two points"),
            _ => {}
        }
        self.push(Kind::Number, start, end);
        Ok(())
    }

    /// The end of an exponent whose `e` is at `at`.
    fn exponent(&self, at: usize) -> Option<usize> {
        let sign = usize::from(matches!(self.text.get(at + 1), Some(b'+' | b'-')));
        let digits = count(self.text.get(at + 1 + sign..)?, u8::is_ascii_digit);
        (digits > 0).then_some(at + 1 + sign + digits)
    }

    /// An identifier that starts with a digit.
    fn digit_word(&mut self, start: usize) -> Step {
        let end = self.word_end(start)?;
        self.push(Kind::Word, start, end);
        Ok(())
    }

    /// After an unquoted name and without a space, `.1a` is a separator and the name `1a`; elsewhere `.1` is a
    /// number. After a quoted name the servers differ: refused.
    fn dot(&mut self) -> Step {
        let start = self.at;
        let next = self.peek(1);
        let before = self.out.tokens.last().filter(|t| usize::try_from(t.end) == Ok(start));
        let adjacent = before.map(|token| token.kind);
        if !next.is_some_and(|byte| byte.is_ascii_digit()) {
            self.push(Kind::Dot, start, start + 1);
            return Ok(());
        }
        match adjacent {
            Some(Kind::Word) => {
                self.push(Kind::Dot, start, start + 1);
                self.digit_word(start + 1)
            }
            Some(Kind::Quoted | Kind::UserVar | Kind::SysVar | Kind::Number) => {
                Err("a point and a digit after a quoted name or a variable")
            }
            _ => self.fraction(start, start + 1),
        }
    }

    fn variable(&mut self) -> Step {
        let start = self.at;
        match self.peek(1) {
            Some(b'@') => {
                let end = start
                    + 2
                    + count(&self.text[start + 2..], |b| {
                        b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$')
                    });
                if end == start + 2 {
                    return Err("@@ without a name");
                }
                self.push(Kind::SysVar, start, end);
            }
            Some(quote @ (b'\'' | b'"' | b'`')) => {
                self.at += 1;
                // Backslash escapes hold inside '…' and "…" but not inside `…`.
                let kind = if quote == b'`' { Kind::Quoted } else { Kind::Str };
                self.quoted(quote, start, kind)?;
                if let Some(token) = self.out.tokens.last_mut() {
                    token.kind = Kind::UserVar;
                }
            }
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | b'.') => {
                let end = start
                    + 1
                    + count(&self.text[start + 1..], |b| {
                        b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$')
                    });
                self.push(Kind::UserVar, start, end);
            }
            _ => return Err("@ without a name"),
        }
        if self.peek(0).is_some_and(|byte| byte >= 0x80) {
            return Err("a variable's name that is not ASCII");
        }
        Ok(())
    }

    fn starts_line_comment(&self) -> Result<bool, &'static str> {
        if self.peek(1) != Some(b'-') {
            return Ok(false);
        }
        match self.peek(2) {
            None | Some(0..=b' ' | 0x7F) => Ok(true),
            // latin1 reads 0xA0 as a space here and UTF-8 does not.
            Some(0x80..) => Err("-- before a byte that is not ASCII"),
            Some(_) => Ok(false),
        }
    }

    fn line_comment(&mut self) {
        let len = self.text[self.at..].iter().position(|&b| b == b'\n');
        let end = len.map_or(self.text.len(), |len| self.at + len);
        self.blank(self.at, end);
        self.at = end;
    }

    fn block_comment(&mut self) -> Step {
        let start = self.at;
        if self.in_executable {
            return Err("a comment inside an executable comment");
        }
        let maria = self.profile.flavour == Flavour::MariaDb;
        let marker = match (self.peek(2), self.peek(3)) {
            (Some(b'!'), _) => 3,
            (Some(b'M'), Some(b'!')) if maria => 4,
            _ => return self.plain_comment(start),
        };
        let digits = count(&self.text[start + marker..], u8::is_ascii_digit).min(6);
        // Fewer than five digits are no version: all of it is code, digits included.
        let digits = if digits < 5 { 0 } else { digits };
        let version: u32 = self.text[start + marker..start + marker + digits]
            .iter()
            .fold(0, |n, digit| n * 10 + u32::from(digit - b'0'));
        if digits == 6 && !maria && self.profile.version < 80_000 {
            return Err("a six-digit version comment for a server that reads five");
        }
        // MariaDB skips MySQL's 5.7 and above, but not its own `/*M!`. Seen on 10.11.
        let foreign = maria && marker == 3 && (50_700..=99_999).contains(&version);
        if digits == 0 || (version <= self.profile.version && !foreign) {
            self.blank(start, start + marker + digits);
            self.at = start + marker + digits;
            self.in_executable = true;
            return Ok(());
        }
        let body = start + marker + digits;
        let end = self.comment_end(body)?;
        // The servers allow one level of nesting in a skipped comment, and differ by version on it.
        if self.text[body..end].windows(2).any(|pair| pair == b"/*") {
            return Err("a comment inside an executable comment");
        }
        self.blank(start, end);
        self.at = end;
        Ok(())
    }

    fn comment_end(&self, from: usize) -> Result<usize, &'static str> {
        let body = self.text.get(from..).unwrap_or_default();
        let len = body.windows(2).position(|pair| pair == b"*/");
        len.map(|len| from + len + 2).ok_or("a comment without an end")
    }

    fn plain_comment(&mut self, start: usize) -> Step {
        let end = self.comment_end(start + 2)?;
        let hint = self.peek(2) == Some(b'+')
            && self.out.tokens.last().is_some_and(|t| takes_hint(t.bytes(self.text)))
            && is_harmless_hint(&self.text[start + 3..end - 2]);
        if !hint {
            self.blank(start, end);
        }
        self.at = end;
        Ok(())
    }

    fn param(&mut self) -> Step {
        if self.peek(1).is_some_and(is_word_byte) {
            return Err("a parameter with a name");
        }
        self.push(Kind::Param, self.at, self.at + 1);
        Ok(())
    }

    fn operator(&mut self, byte: u8) -> Step {
        let (one, two) = (self.peek(1), self.peek(2));
        let (kind, len) = match (byte, one, two) {
            (b'(', ..) => (Kind::Open, 1),
            (b')', ..) => (Kind::Close, 1),
            (b',', ..) => (Kind::Comma, 1),
            (b';', ..) => (Kind::Semicolon, 1),
            (b'<', Some(b'='), Some(b'>')) | (b'-', Some(b'>'), Some(b'>')) => (Kind::Operator, 3),
            (b'<', Some(b'=' | b'>' | b'<'), _)
            | (b'>', Some(b'=' | b'>'), _)
            | (b'!' | b':', Some(b'='), _)
            | (b'|', Some(b'|'), _)
            | (b'&', Some(b'&'), _)
            | (b'-', Some(b'>'), _) => (Kind::Operator, 2),
            (
                b'+' | b'-' | b'*' | b'/' | b'%' | b'=' | b'<' | b'>' | b'!' | b'~' | b'^' | b'&'
                | b'|' | b'{' | b'}',
                ..,
            ) => (Kind::Operator, 1),
            _ => return Err("a character outside SQL"),
        };
        self.push(kind, self.at, self.at + len);
        Ok(())
    }
}

/// Bytes of unquoted identifiers: the servers' `ident_map`.
pub(super) fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

fn count(bytes: &[u8], wanted: impl Fn(&u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| wanted(byte)).count()
}

/// The character sets whose strings read the same as ours.
pub(super) fn is_safe_charset(name: &[u8]) -> bool {
    [&b"utf8"[..], b"utf8mb3", b"utf8mb4", b"latin1", b"ascii", b"binary"]
        .iter()
        .any(|safe| name.eq_ignore_ascii_case(safe))
}

fn check_introducer(name: &[u8]) -> Step {
    if is_safe_charset(name) { Ok(()) } else { Err("a character set introducer that is refused") }
}

/// The words that a hint may follow.
fn takes_hint(word: &[u8]) -> bool {
    [&b"select"[..], b"insert", b"replace", b"update", b"delete"]
        .iter()
        .any(|verb| word.eq_ignore_ascii_case(verb))
}

/// A hint that may stay: plain names and numbers, and no SET_VAR (it changes variables, `sql_mode` among them).
fn is_harmless_hint(hint: &[u8]) -> bool {
    let plain = |b: &u8| {
        b.is_ascii_alphanumeric()
            || matches!(b, b'_' | b'@' | b'$' | b',' | b'.' | b'(' | b')' | b' ' | b'\n' | b'\t')
    };
    hint.len() <= 1024
        && hint.iter().all(plain)
        && !hint.windows(7).any(|window| window.eq_ignore_ascii_case(b"set_var"))
}
