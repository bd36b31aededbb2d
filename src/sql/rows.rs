//! What rows an INSERT or REPLACE writes: those it spells out, or those of a query.

use super::token::Kind;
use super::words::Words;

/// How many rows are spelt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    One,
    Many,
}

/// The rows of `VALUES (…), (…)` or `SET a = b`; `None` where a query gives them, or where that can't be told.
pub(super) fn given(words: &Words<'_>, start: usize) -> Option<Given> {
    let mut depth = 0_usize;
    for at in start..words.tokens.len() {
        match words.kind(at) {
            Some(Kind::Open) => depth += 1,
            Some(Kind::Close) => depth = depth.saturating_sub(1),
            Some(Kind::Word) if words.is_any(at, &["select", "with", "table"]) => return None,
            Some(Kind::Word) if depth == 0 && words.is(at, "set") => return Some(Given::One),
            Some(Kind::Word) if depth == 0 && words.is(at, "values") => {
                return Some(count(words, at + 1));
            }
            _ => {}
        }
    }
    None
}

fn count(words: &Words<'_>, start: usize) -> Given {
    let mut depth = 0_usize;
    for at in start..words.tokens.len() {
        match words.kind(at) {
            Some(Kind::Open) => depth += 1,
            Some(Kind::Close) => depth = depth.saturating_sub(1),
            Some(Kind::Comma) if depth == 0 => return Given::Many,
            Some(Kind::Word) if depth == 0 => break,
            _ => {}
        }
    }
    Given::One
}
