//! Forms: what texts share that differ in the values of their literals only. Programs send the same few statements with
//! ever other values, and most of what is said of one holds for all of them.

use std::hash::Hasher;

use super::facts::Verb;
use super::token::{Kind, Lexed, Token};
use super::words::Words;
use super::{Analysis, Context, lexer};

/// Texts and tokens of a form that is kept: what a cache of some thousands can hold in a few MiB.
const MAX_TEXT: usize = 1_024;
const MAX_TOKENS: usize = 128;

/// A text's tokens, in a room that is used again.
#[derive(Debug, Default)]
pub struct Tokens {
    pub(super) lexed: Lexed,
}

impl Tokens {
    /// Reads a text. Never fails: [`analyse_tokens`](super::analyse_tokens) says what could not be read.
    pub fn read(&mut self, text: &[u8], cx: &Context<'_>) {
        lexer::lex_into(&mut self.lexed, text, &cx.catalog.profile, cx.sql_mode);
    }

    /// Whether others may be of its form: it is short, and sent as it stands.
    pub fn have_form(&self, text: &[u8]) -> bool {
        text.len() <= MAX_TEXT
            && self.lexed.tokens.len() <= MAX_TOKENS
            && self.lexed.blanks.is_empty()
            && self.lexed.unknown.is_none()
    }

    /// Feeds what lies between the literals: equal for texts of one form but for their white space.
    pub fn hash_form(&self, text: &[u8], hasher: &mut impl Hasher) {
        let mut from = 0;
        for token in self.lexed.tokens.iter().filter(|token| is_literal(token.kind)) {
            hasher.write(text.get(from..token.start as usize).unwrap_or_default());
            from = token.end as usize;
        }
        hasher.write(text.get(from..).unwrap_or_default());
    }

    /// The form of this text, which was analysed; `None`: what was found holds for no other text.
    pub fn form(&self, text: &[u8], analysis: &Analysis) -> Option<Form> {
        let facts = &analysis.facts;
        let plain = matches!(
            facts.verb,
            Verb::Select | Verb::Insert | Verb::Replace | Verb::Update | Verb::Delete
        );
        let settled = analysis.unknown.is_none() && !facts.explained && !facts.calls_sensitive;
        if !(plain && settled && self.have_form(text)) {
            return None;
        }
        let tokens = self.lexed.tokens.as_slice();
        let words = Words { text, tokens };
        let free = if facts.is_sensitive() { compared(&words) } else { before_limit(&words) };
        Some(Form { text: text.into(), tokens: tokens.into(), free })
    }
}

/// Tokens, one bit each: of these, the value makes no difference to what is said of the statement.
type Set = u128;

/// Of a statement on nothing labelled: every literal but how many rows are wanted, which is one of its facts.
fn before_limit(words: &Words<'_>) -> Set {
    let end = words.find(&["limit"]).unwrap_or(words.tokens.len());
    set(0..end, |at| words.kind(at).is_some_and(is_literal))
}

/// Of a statement on labelled data: what something is compared with. Elsewhere a literal may stand for a column
/// (`ORDER BY 2`) or name one, as in a list of results (`SELECT id = 5`).
fn compared(words: &Words<'_>) -> Set {
    let start = words.find_outside(0, &["where"]).filter(|_| words.find(&["returning"]).is_none());
    let compares = |at: usize| {
        let bytes = words.tokens.get(at).map_or(&[][..], |token| token.bytes(words.text));
        words.is(at, "like") || COMPARISONS.contains(&bytes)
    };
    let compared = |at: usize| words.kind(at).is_some_and(is_literal) && compares(at - 1);
    start.map_or(0, |start| set(start + 1..words.tokens.len(), compared))
}

const COMPARISONS: [&[u8]; 8] = [b"=", b"<", b">", b"<=", b">=", b"<>", b"!=", b"<=>"];

fn set(range: std::ops::Range<usize>, is_in: impl Fn(usize) -> bool) -> Set {
    range.filter(|at| is_in(*at)).fold(0, |set, at| set | bit(at))
}

fn bit(at: usize) -> Set {
    const { assert!(MAX_TOKENS <= Set::BITS as usize) };
    u32::try_from(at).ok().and_then(|at| Set::checked_shl(1, at)).unwrap_or(0)
}

/// A form, by one text that has it: what the analysis says of that holds for all others, because it looked at no value
/// of the literals that may differ.
#[derive(Debug)]
pub struct Form {
    text: Box<[u8]>,
    tokens: Box<[Token]>,
    free: Set,
}

impl Form {
    /// Whether a text, which [has a form](Tokens::have_form), has this one: the same tokens, be it with other values of
    /// the same kinds.
    pub fn is_of(&self, text: &[u8], tokens: &Tokens) -> bool {
        let others = tokens.lexed.tokens.as_slice();
        let same = |(at, (own, other)): (usize, (&Token, &Token))| {
            own.kind == other.kind
                && (self.free & bit(at) != 0 || own.bytes(&self.text) == other.bytes(text))
        };
        self.tokens.len() == others.len() && self.tokens.iter().zip(others).enumerate().all(same)
    }
}

/// Whether a token stands for nothing but a value.
fn is_literal(kind: Kind) -> bool {
    matches!(kind, Kind::Str | Kind::NationalStr | Kind::Hex | Kind::Bit | Kind::Number)
}
