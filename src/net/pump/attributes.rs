//! What becomes of a statement's query attributes beside being passed on: a few by well-known names are recorded, and all
//! that could decide what the statement does are part of what is approved.

use crate::codec::{Attribute, Attributes};

/// The names whose values are recorded. Other values may be secrets, or data: they are counted.
const RECORDED: [&str; 5] = ["traceparent", "run_id", "purpose", "on_behalf_of", "pipeline"];

/// Longest value that is recorded, in bytes: the rest is cut off.
const MAX_VALUE: usize = 256;

/// Changes with each statement, and says nothing: `00-<32 hex digits>-<16>-<2>`.
const TRACEPARENT: &[u8] = b"traceparent";
const TRACEPARENT_LEN: usize = 55;

/// The recorded ones, each name once; the first so many of the array.
pub(super) fn recorded(
    attributes: Attributes<'_>,
) -> ([(&'static str, &str); RECORDED.len()], usize) {
    let (mut found, mut len) = ([("", ""); RECORDED.len()], 0);
    for attribute in attributes {
        let name = RECORDED.iter().find(|name| name.as_bytes() == attribute.name);
        let text = attribute.value.filter(|_| attribute.column_type.is_string());
        let text = text.and_then(|value| std::str::from_utf8(value).ok());
        let (Some(name), Some(text)) = (name, text) else { continue };
        let is_new = !found.iter().any(|(known, _)| known == name);
        if let Some(slot) = found.get_mut(len).filter(|_| is_new) {
            *slot = (name, &text[..text.floor_char_boundary(MAX_VALUE)]);
            len += 1;
        }
    }
    (found, len)
}

/// What a statement may read of them: part of what an approval is good for. Zeros for nothing.
pub(super) fn digest(attributes: Attributes<'_>) -> [u8; 32] {
    let mut decisive = attributes.filter(|attribute| !is_trace(attribute)).peekable();
    if decisive.peek().is_none() {
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
    *hasher.finalize().as_bytes()
}

/// What the approver sees of them.
pub(super) fn shown(attributes: Attributes<'_>, out: &mut String) {
    for attribute in attributes {
        out.push_str("\n-- query attribute ");
        out.push_str(&attribute.name.escape_ascii().to_string());
        out.push_str(": ");
        match attribute.value {
            Some(value) => out.push_str(&value.escape_ascii().to_string()),
            None => out.push_str("NULL"),
        }
    }
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

    #[test]
    fn well_known_names_are_recorded_once_and_cut_and_others_are_not() {
        let long = "ü".repeat(200);
        let body = of(&[
            ("password", "hunter2"),
            ("run_id", "r7"),
            ("RUN_ID", "other"),
            ("run_id", "again"),
            ("purpose", &long),
        ]);
        let (found, len) = recorded(read(&body));
        assert_eq!(found[..len], [("run_id", "r7"), ("purpose", &"ü".repeat(128)[..])]);
        let number = b"\x01\x01\0\x01\x08\0\x06run_id\x07\0\0\0\0\0\0\0";
        assert_eq!(recorded(read(number)).1, 0, "a number is no text");
    }

    #[test]
    fn what_is_approved_holds_for_the_same_attributes_in_any_trace() {
        let of = |pairs: &[(&str, &str)]| digest(read(&of(pairs)));
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
            digest(read(b"\x01\x01\x01\x01\xfe\0\x03who")),
            digest(read(b"\x01\x01\0\x01\xfd\0\x03who\x01a")),
        ];
        let len = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), len);
    }

    #[test]
    fn an_approver_sees_them_all_with_what_is_no_text_escaped() {
        let mut out = String::new();
        shown(read(&of(&[("who", "a\nb"), ("n", "1")])), &mut out);
        assert_eq!(out, "\n-- query attribute who: a\\nb\n-- query attribute n: 1");
    }
}
