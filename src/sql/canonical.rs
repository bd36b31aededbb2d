//! The text that is sent, and the shape that is recorded: comments blanked in place, literals replaced.

use super::Digest;
use super::lexer::is_space;
use super::token::{Kind, Lexed, Token};

/// Longest shape kept as text: longer ones (bulk inserts) differ only in what the digest tells anyway.
const MAX_SHAPE: usize = 4 << 10;

/// The text with its dropped comments and executable markers blanked; `None` where there are none.
pub(super) fn canonical(text: &[u8], lexed: &Lexed) -> Option<Box<[u8]>> {
    if lexed.blanks.is_empty() {
        return None;
    }
    let mut blanked: Box<[u8]> = text.into();
    for (start, end) in &lexed.blanks {
        let range = *start as usize..*end as usize;
        blanked.get_mut(range).into_iter().for_each(|bytes| bytes.fill(b' '));
    }
    if lexed.tokens.is_empty() {
        comment(&mut blanked, text);
    }
    Some(blanked)
}

/// Makes a statement of comments alone one comment: the servers take that for nothing, and an empty text for an error.
pub(super) fn comment(blanked: &mut [u8], text: &[u8]) {
    let first = text.iter().position(|byte| !is_space(*byte));
    if let Some(place) = first.and_then(|at| blanked.get_mut(at)) {
        *place = b'#';
    }
}

/// Digest and text of the shape.
pub(super) fn shape(text: &[u8], tokens: &[Token]) -> (Digest, String) {
    let mut shape = Vec::with_capacity(text.len().min(MAX_SHAPE));
    let mut hasher = blake3::Hasher::new();
    for token in tokens {
        let start = shape.len();
        if start > 0 {
            shape.push(b' ');
        }
        match token.kind {
            Kind::Str | Kind::NationalStr | Kind::Hex | Kind::Bit | Kind::Number | Kind::Param => {
                if shape.ends_with(b"? , ") {
                    shape.truncate(start - 2); // a list of literals is one literal
                    continue;
                }
                shape.push(b'?');
            }
            Kind::Introducer => {
                shape.truncate(start);
                continue;
            }
            Kind::Word => shape.extend(token.bytes(text).iter().map(u8::to_ascii_lowercase)),
            _ => shape.extend_from_slice(token.bytes(text)),
        }
        if shape.len() > MAX_SHAPE {
            // What is cut from the text still counts in the digest.
            hasher.update(&shape);
            shape.truncate(MAX_SHAPE);
        }
    }
    hasher.update(&shape);
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    let mut text = String::from_utf8_lossy(&shape).into_owned();
    text.truncate(text.floor_char_boundary(MAX_SHAPE));
    (Digest(digest), text)
}
