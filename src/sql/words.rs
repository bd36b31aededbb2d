//! Tokens as words: look-ups by keyword and by position, for classification without a grammar.

use super::token::{Kind, Token};
use crate::schema::SqlMode;

/// A statement's tokens over its text.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) text: &'a [u8],
    pub(super) tokens: &'a [Token],
}

impl<'a> Words<'a> {
    /// The token at `at`, if it is a keyword or an unquoted name, compared without case.
    pub(super) fn is(&self, at: usize, word: &str) -> bool {
        self.word(at).is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Whether the token at `at` is one of these words.
    pub(super) fn is_any(&self, at: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(at, word))
    }

    /// The unquoted word at `at`.
    pub(super) fn word(&self, at: usize) -> Option<&'a [u8]> {
        let token = self.tokens.get(at).filter(|token| token.kind == Kind::Word)?;
        Some(token.bytes(self.text))
    }

    /// What kind of token is at `at`.
    pub(super) fn kind(&self, at: usize) -> Option<Kind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    /// The name at `at`: a word, or a quoted identifier without its quotes.
    pub(super) fn name(&self, at: usize) -> Option<String> {
        let token = self.tokens.get(at)?;
        let bytes = token.bytes(self.text);
        let bytes = match token.kind {
            Kind::Word => bytes.to_vec(),
            Kind::Quoted => unquote(bytes),
            _ => return None,
        };
        String::from_utf8(bytes).ok()
    }

    /// The dotted name that starts at `at`: its parts, and where it ends.
    pub(super) fn chain(&self, at: usize) -> Option<(Vec<String>, usize)> {
        let mut parts = vec![self.name(at)?];
        let mut end = at + 1;
        while self.kind(end) == Some(Kind::Dot) {
            let Some(part) = self.name(end + 1) else { break };
            parts.push(part);
            end += 2;
        }
        Some((parts, end))
    }

    /// The first of `words`, at any depth.
    pub(super) fn find(&self, words: &[&str]) -> Option<usize> {
        (0..self.tokens.len()).find(|at| self.is_any(*at, words))
    }

    /// The first of `words` at depth 0 from `from`.
    pub(super) fn find_outside(&self, from: usize, words: &[&str]) -> Option<usize> {
        let mut depth = 0_usize;
        for at in from..self.tokens.len() {
            match self.kind(at) {
                Some(Kind::Open) => depth += 1,
                Some(Kind::Close) => depth = depth.saturating_sub(1),
                _ if depth == 0 && self.is_any(at, words) => return Some(at),
                _ => {}
            }
        }
        None
    }

    /// Whether any token is one of these names, whatever its quotes, or a system variable of one (`@@global.x`).
    pub(super) fn says_any(&self, names: &[&str]) -> bool {
        self.tokens.iter().any(|token| {
            let name = token.bytes(self.text);
            let name = match token.kind {
                Kind::Word => name,
                Kind::Quoted => name.get(1..name.len().saturating_sub(1)).unwrap_or_default(),
                Kind::SysVar => name.strip_prefix(b"@@").unwrap_or(name),
                _ => return false,
            };
            let first = name.split(|byte| *byte == b'.').next().unwrap_or_default();
            names.iter().any(|known| first.eq_ignore_ascii_case(known.as_bytes()))
        })
    }

    /// Whether it reads or writes variables (`@a`, `@@b`).
    pub(super) fn has_variables(&self) -> bool {
        self.tokens.iter().any(|token| matches!(token.kind, Kind::UserVar | Kind::SysVar))
    }

    /// Whether any token from `from` is one of these words.
    pub(super) fn has_any(&self, from: usize, words: &[&str]) -> bool {
        (from..self.tokens.len()).any(|at| self.is_any(at, words))
    }
}

/// A quoted identifier's name: the quotes off, doubled ones halved.
fn unquote(bytes: &[u8]) -> Vec<u8> {
    let quote = bytes.first().copied().unwrap_or(b'`');
    let inner = bytes.get(1..bytes.len().saturating_sub(1)).unwrap_or_default();
    let mut name = Vec::with_capacity(inner.len());
    let mut halved = false;
    for byte in inner {
        if *byte == quote && !halved {
            halved = true;
            continue;
        }
        halved = false;
        name.push(*byte);
    }
    name
}

/// A string's value: what the server makes of the literal.
pub(super) fn unescape(literal: &[u8], mode: SqlMode) -> Option<Vec<u8>> {
    let (&quote, rest) = literal.split_first()?;
    let inner = rest.strip_suffix(&[quote])?;
    let mut value = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        let escapes = byte == b'\\' && !mode.has(SqlMode::NO_BACKSLASH_ESCAPES);
        match byte {
            _ if escapes => match bytes.next()? {
                b'0' => value.push(0),
                b'b' => value.push(8),
                b'n' => value.push(b'\n'),
                b'r' => value.push(b'\r'),
                b't' => value.push(b'\t'),
                b'Z' => value.push(26),
                kept @ (b'%' | b'_') => value.extend([b'\\', kept]),
                other => value.push(other),
            },
            byte if byte == quote => {
                bytes.next().filter(|second| *second == quote)?;
                value.push(quote);
            }
            byte => value.push(byte),
        }
    }
    Some(value)
}
