//! Tokens: what the lexer cuts a statement into. They point into the text and copy nothing of it.

use super::facts::Unknown;

/// Tokens kept. Longer statements (a restored dump) are still lexed to their end, so that their canonical text
/// is right, but count as too complex: 12 bytes a token make this 12 MiB.
pub(super) const MAX_TOKENS: usize = 1_000_000;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// An unquoted identifier or keyword.
    Word,
    /// A quoted identifier.
    Quoted,
    /// A string.
    Str,
    /// `N'…'`.
    NationalStr,
    /// `_utf8mb4` before a string.
    Introducer,
    /// `x'…'`, `0x…`.
    Hex,
    /// `b'…'`, `0b…`.
    Bit,
    /// A number.
    Number,
    /// `?`.
    Param,
    /// `@name`.
    UserVar,
    /// `@@name`.
    SysVar,
    /// An operator of one character or more, `:=`, `{`, `}`.
    Operator,
    /// `(`.
    Open,
    /// `)`.
    Close,
    /// `,`.
    Comma,
    /// `.`.
    Dot,
    /// `;`.
    Semicolon,
}

/// A token: what, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Token {
    /// Its bytes.
    pub(super) fn bytes(self, text: &[u8]) -> &[u8] {
        let at = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        text.get(at(self.start)..at(self.end)).unwrap_or_default()
    }
}

/// A lexed text.
#[derive(Debug, Default)]
pub(super) struct Lexed {
    /// Its tokens, at most [`MAX_TOKENS`].
    pub(super) tokens: Vec<Token>,
    /// Ranges to be blanked, in order.
    pub(super) blanks: Vec<(u32, u32)>,
    /// Why it can't be trusted.
    pub(super) unknown: Option<Unknown>,
}

impl Lexed {
    /// Its tokens without the semicolons at its end.
    pub(super) fn statement(&self) -> &[Token] {
        let last = self.tokens.iter().rposition(|token| token.kind != Kind::Semicolon);
        self.tokens.get(..last.map_or(0, |last| last + 1)).unwrap_or_default()
    }

    /// Forgets all but the room, and a long text's room too.
    pub(super) fn clear(&mut self) {
        self.tokens.clear();
        self.tokens.shrink_to(4_096);
        self.blanks.clear();
        self.blanks.shrink_to(64);
        self.unknown = None;
    }
}
