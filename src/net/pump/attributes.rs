//! What becomes of a statement's query attributes beside being passed on: all that could decide what the statement does are
//! part of what is approved, and so is what is said of its run.

use crate::codec::{Attribute, Attributes};
use crate::run::Run;

/// Changes with each statement, and says nothing: `00-<32 hex digits>-<16>-<2>`.
const TRACEPARENT: &[u8] = b"traceparent";
const TRACEPARENT_LEN: usize = 55;

/// What a statement may read of them, and what rules heed of its run: part of what an approval is good for. Zeros for nothing.
pub(super) fn digest(attributes: Attributes<'_>, run: Run<'_>) -> [u8; 32] {
    let mut decisive = attributes.filter(|attribute| !is_trace(attribute)).peekable();
    if decisive.peek().is_none() && run.is_empty() {
        return [0; 32];
    }
    let mut hasher = blake3::Hasher::new();
    for attribute in decisive {
        let value = attribute.value.unwrap_or_default();
        let is_null = u8::from(attribute.value.is_none());
        for part in [attribute.name, &[attribute.column_type.0, is_null], value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    for (name, value) in run.pairs() {
        // (An attribute has two bytes in the middle.)
        for part in [name, "", value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    *hasher.finalize().as_bytes()
}

fn is_trace(attribute: &Attribute<'_>) -> bool {
    let is_digit = |(at, byte): (usize, &u8)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    attribute.name == TRACEPARENT
        && attribute.column_type.is_string()
        && attribute.value.is_some_and(|value| {
            value.len() == TRACEPARENT_LEN && value.iter().enumerate().all(is_digit)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::write_lenenc_bytes;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(pairs: &[(&str, &str)]) -> Vec<u8> {
        let count = pairs.len();
        let mut body = vec![u8::try_from(count).unwrap(), 1];
        body.resize(2 + count.div_ceil(8), 0);
        body.push(1);
        for (name, _) in pairs {
            body.extend_from_slice(&[0xFE, 0]);
            write_lenenc_bytes(&mut body, name.as_bytes());
        }
        pairs.iter().for_each(|(_, value)| write_lenenc_bytes(&mut body, value.as_bytes()));
        body
    }

    fn read(body: &[u8]) -> Attributes<'_> {
        Attributes::of_query(body).unwrap().0
    }

    fn run<'a>(pairs: &[(&str, &'a str)]) -> Run<'a> {
        pairs.iter().copied().collect()
    }

    #[test]
    fn what_is_approved_holds_for_the_same_attributes_in_any_trace() {
        let of = |pairs: &[(&str, &str)]| digest(read(&of(pairs)), Run::default());
        assert_eq!(of(&[]), [0; 32]);
        assert_eq!(of(&[("traceparent", TRACE)]), [0; 32]);
        let one = of(&[("who", "a")]);
        assert_eq!(of(&[("who", "a"), ("traceparent", TRACE)]), one);
        let mut all = vec![
            one,
            [0; 32],
            of(&[("who", "b")]),
            of(&[("whoa", "")]),
            of(&[("who", "a"), ("who", "a")]),
            of(&[("traceparent", "0 OR 1=1")]),
            of(&[("TRACEPARENT", TRACE)]),
            digest(read(b"\x01\x01\x01\x01\xfe\0\x03who"), Run::default()),
            digest(read(b"\x01\x01\0\x01\xfd\0\x03who\x01a"), Run::default()),
            digest(Attributes::default(), run(&[("purpose", "a")])),
            digest(Attributes::default(), run(&[("purpose", "b")])),
            digest(Attributes::default(), run(&[("run_id", "a")])),
            digest(read(&super::tests::of(&[("who", "a")])), run(&[("run_id", "a")])),
        ];
        let len = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), len);
    }
}
