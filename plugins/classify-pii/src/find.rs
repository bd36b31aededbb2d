//! Spans of personal data in bytes. One pass by position; no regular expressions, no allocation but the result.

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A card number.
    Card,
    /// An e-mail address.
    Email,
    /// A US social security number.
    Ssn,
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Past the last byte.
    pub end: usize,
    /// What.
    pub kind: Kind,
}

/// Digits of a card number.
const CARD: std::ops::RangeInclusive<usize> = 13..=19;

/// Every hit, in order, disjoint.
pub fn spans(text: &[u8]) -> Vec<Span> {
    let mut found: Vec<Span> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let free_before = at == 0 || !text[at - 1].is_ascii_alphanumeric();
        let hit = match text[at] {
            b'0'..=b'9' if free_before => ssn(text, at).or_else(|| card(text, at)),
            b'@' => email(text, at, found.last().map_or(0, |span| span.end)),
            _ => None,
        };
        match hit {
            Some(span) => {
                at = span.end;
                found.push(span);
            }
            None => at += 1,
        }
    }
    found
}

/// `ddd-dd-dddd`.
fn ssn(text: &[u8], start: usize) -> Option<Span> {
    let form = text.get(start..start + 11)?;
    let fits = form.iter().enumerate().all(|(at, byte)| match at {
        3 | 6 => *byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let end = start + 11;
    let free_after = !text.get(end).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'-');
    (fits && free_after).then_some(Span { start, end, kind: Kind::Ssn })
}

/// 13 to 19 digits that pass Luhn's check, with single spaces or dashes between them.
fn card(text: &[u8], start: usize) -> Option<Span> {
    let mut digits = [0_u8; 19];
    let (mut count, mut at, mut end) = (0, start, start);
    while let Some(byte) = text.get(at) {
        match byte {
            b'0'..=b'9' if count < digits.len() => {
                digits[count] = byte - b'0';
                count += 1;
                end = at + 1;
            }
            b'0'..=b'9' => return None,
            b' ' | b'-' if at == end => {}
            _ => break,
        }
        at += 1;
    }
    let free_after = !text.get(end).is_some_and(u8::is_ascii_alphanumeric);
    let fits = CARD.contains(&count) && free_after && luhn(&digits[..count]);
    fits.then_some(Span { start, end, kind: Kind::Card })
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(*digit);
            let weighed = if at % 2 == 1 { digit * 2 } else { digit };
            if weighed > 9 { weighed - 9 } else { weighed }
        })
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != 0)
}

/// `local@domain.tld` around the sign at `sign`, not before `from`.
fn email(text: &[u8], sign: usize, from: usize) -> Option<Span> {
    let is_local = |b: &u8| b.is_ascii_alphanumeric() || b"._%+-".contains(b) || *b >= 0x80;
    let is_domain = |b: &u8| b.is_ascii_alphanumeric() || *b == b'.' || *b == b'-' || *b >= 0x80;
    let before = text.get(from..sign)?.iter().rev().take_while(|b| is_local(b)).count();
    let domain = text.get(sign + 1..)?;
    let mut len = domain.iter().take_while(|b| is_domain(b)).count();
    while len > 0 && matches!(domain[len - 1], b'.' | b'-') {
        len -= 1;
    }
    let has_dot = domain[..len].iter().skip(1).any(|b| *b == b'.');
    let span = Span { start: sign - before, end: sign + 1 + len, kind: Kind::Email };
    (before > 0 && has_dot).then_some(span)
}
