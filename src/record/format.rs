//! The byte format of records, version 1: a tag, then the fields in the order of their declaration.
//!
//! Integers are little-endian; a text is a 32-bit length and UTF-8; a list is a 16-bit count and its texts. Texts and
//! lists are cut at stated bounds: a record is evidence, not an archive of everything a client can make up.

use super::recorded::{Opened, Record, Recorded, RecordedIntent};
use super::{Completion, Event, Intent, Masked, Released};

/// Longest text of a record: digests are at most 4 KiB, and a literal text longer than this says no more.
const MAX_TEXT: usize = 16 << 10;

/// Longest list: rules, tables, masked columns.
const MAX_LIST: usize = 256;

/// The tags of an intent without and with query attributes.
const INTENT: u8 = 4;
const INTENT_WITH_ATTRIBUTES: u8 = 8;
/// The tags of an approval without and with the session that asked.
const APPROVAL: u8 = 6;
const APPROVAL_OF_SESSION: u8 = 10;

/// Longest piece of an answer in one record: what one read brings.
pub const MAX_RELEASED: usize = 64 << 10;

const RELEASED: u8 = 9;

/// A record's bytes are not of this format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a record of version 1")]
pub struct FormatError;

/// Appends a record's bytes. No allocation beyond `out`'s growth.
pub fn encode(core: u16, sequence: u64, event: &Event<'_>, out: &mut Vec<u8>) {
    let mut w = Writer(out);
    w.u16(core);
    w.u64(sequence);
    match event {
        Event::SessionOpened { session, at_us, identity, groups, target, source, attributes } => {
            w.tag(1, *at_us);
            w.u64(*session);
            w.text(identity);
            w.list(groups.iter().map(String::as_str));
            w.text(target);
            w.text(source);
            let flat = attributes.iter().take(MAX_LIST / 2);
            w.list(flat.flat_map(|(key, value)| [key.as_str(), value.as_str()]));
        }
        Event::SessionClosed { session, at_us, reason } => {
            w.tag(2, *at_us);
            w.u64(*session);
            w.text(reason);
        }
        Event::LoginRefused { at_us, user, target, source, reason } => {
            w.tag(3, *at_us);
            [*user, *target, *source, *reason].iter().for_each(|text| w.text(text));
        }
        Event::Intent(intent) => w.intent(intent),
        Event::Completion(completion) => w.completion(completion),
        Event::Released(released) => w.released(released),
        Event::Approval { at_us, approval, change, by, reason, session } => {
            w.tag(APPROVAL_OF_SESSION, *at_us);
            [*approval, *change, *by, *reason].iter().for_each(|text| w.text(text));
            w.u64(*session);
        }
        Event::Admin { at_us, by, action, subject } => {
            w.tag(7, *at_us);
            [*by, *action, *subject].iter().for_each(|text| w.text(text));
        }
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn tag(&mut self, tag: u8, at_us: i64) {
        self.0.push(tag);
        self.0.extend_from_slice(&at_us.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        let mut end = text.len().min(MAX_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let len = u32::try_from(end).unwrap_or(0);
        self.0.extend_from_slice(&len.to_le_bytes());
        self.0.extend_from_slice(text.get(..end).unwrap_or("").as_bytes());
    }

    fn list<'t>(&mut self, texts: impl Iterator<Item = &'t str>) {
        let start = self.0.len();
        self.u16(0);
        let mut count = 0_u16;
        for text in texts.take(MAX_LIST) {
            self.text(text);
            count += 1;
        }
        if let Some(slot) = self.0.get_mut(start..start + 2) {
            slot.copy_from_slice(&count.to_le_bytes());
        }
    }

    fn intent(&mut self, intent: &Intent<'_>) {
        // Few statements come with attributes: the others need no room for them.
        let has_attributes = intent.attribute_count > 0 || !intent.attributes.is_empty();
        self.tag(if has_attributes { INTENT_WITH_ATTRIBUTES } else { INTENT }, intent.at_us);
        self.u64(intent.session);
        self.u64(intent.statement);
        self.text(intent.identity);
        self.text(intent.target);
        self.0.push(u8::from(intent.schema.is_some()));
        self.text(intent.schema.unwrap_or(""));
        self.text(intent.command);
        self.text(intent.verb.as_str());
        self.0.extend_from_slice(&intent.digest.0);
        self.text(intent.text);
        self.text(intent.verdict);
        for list in [intent.rules, intent.masked, intent.tables] {
            self.list(list.iter().map(String::as_str));
        }
        self.text(intent.policy_version);
        if has_attributes {
            self.0.extend_from_slice(&intent.attribute_count.to_le_bytes());
            self.list(intent.attributes.iter().flat_map(|(key, value)| [*key, *value]));
        }
    }

    fn released(&mut self, released: &Released<'_>) {
        self.tag(RELEASED, released.at_us);
        self.u64(released.session);
        self.u64(released.statement);
        self.u64(released.capabilities);
        let bytes = released.bytes.get(..MAX_RELEASED).unwrap_or(released.bytes);
        self.0.push(u8::from(released.cut || bytes.len() < released.bytes.len()));
        let len = u32::try_from(bytes.len()).unwrap_or(0);
        self.0.extend_from_slice(&len.to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn completion(&mut self, c: &Completion) {
        self.tag(5, c.at_us);
        for value in [c.session, c.statement, c.rows, c.bytes, c.masked_cells] {
            self.u64(value);
        }
        self.u16(c.error_code);
        for value in [c.queue_us, c.decide_us, c.hold_us, c.upstream_us, c.total_us] {
            self.u64(value);
        }
    }
}

/// Reads a record back. Every strict prefix of one is an error.
pub fn decode(bytes: &[u8]) -> Result<Record, FormatError> {
    let mut r = Bytes(bytes);
    let (core, sequence, tag, at_us) = (r.u16()?, r.u64()?, r.u8()?, r.i64()?);
    let event = match tag {
        1 => Recorded::SessionOpened(Opened {
            session: r.u64()?,
            at_us,
            identity: r.text()?,
            groups: r.list()?,
            target: r.text()?,
            source: r.text()?,
            attributes: pairs(&r.list()?),
        }),
        2 => Recorded::SessionClosed { session: r.u64()?, at_us, reason: r.text()? },
        3 => Recorded::LoginRefused {
            at_us,
            user: r.text()?,
            target: r.text()?,
            source: r.text()?,
            reason: r.text()?,
        },
        INTENT | INTENT_WITH_ATTRIBUTES => r.intent(at_us, tag)?,
        5 => r.completion(at_us)?,
        RELEASED => Recorded::Released {
            session: r.u64()?,
            statement: r.u64()?,
            at_us,
            capabilities: r.u64()?,
            cut: r.u8()? != 0,
            bytes: r.bytes()?.to_vec(),
        },
        APPROVAL | APPROVAL_OF_SESSION => Recorded::Approval {
            at_us,
            approval: r.text()?,
            change: r.text()?,
            by: r.text()?,
            reason: r.text()?,
            session: if tag == APPROVAL { None } else { Some(r.u64()?) },
        },
        7 => Recorded::Admin { at_us, by: r.text()?, action: r.text()?, subject: r.text()? },
        _ => return Err(FormatError),
    };
    if r.0.is_empty() { Ok(Record { core, sequence, event }) } else { Err(FormatError) }
}

fn pairs(flat: &[String]) -> Vec<(String, String)> {
    flat.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(FormatError)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, FormatError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<&[u8], FormatError> {
        let len = usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| FormatError)?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(FormatError)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<String, FormatError> {
        std::str::from_utf8(self.bytes()?).map(str::to_owned).map_err(|_| FormatError)
    }

    fn list(&mut self) -> Result<Vec<String>, FormatError> {
        let count = self.u16()?;
        (0..count).map(|_| self.text()).collect()
    }

    fn intent(&mut self, at_us: i64, tag: u8) -> Result<Recorded, FormatError> {
        let has_attributes = tag == INTENT_WITH_ATTRIBUTES;
        Ok(Recorded::Intent(RecordedIntent {
            session: self.u64()?,
            statement: self.u64()?,
            at_us,
            identity: self.text()?,
            target: self.text()?,
            schema: {
                let is_some = self.u8()? != 0;
                let schema = self.text()?;
                is_some.then_some(schema)
            },
            command: self.text()?,
            verb: self.text()?,
            digest: crate::sql::Digest(self.array()?).to_string(),
            text: self.text()?,
            verdict: self.text()?,
            rules: self.list()?,
            masked: self.list()?.iter().map(|text| Masked::read(text)).collect(),
            tables: self.list()?,
            policy_version: self.text()?,
            attribute_count: if has_attributes { u32::from_le_bytes(self.array()?) } else { 0 },
            attributes: if has_attributes { pairs(&self.list()?) } else { Vec::new() },
        }))
    }

    fn completion(&mut self, at_us: i64) -> Result<Recorded, FormatError> {
        Ok(Recorded::Completion(Completion {
            session: self.u64()?,
            statement: self.u64()?,
            at_us,
            rows: self.u64()?,
            bytes: self.u64()?,
            masked_cells: self.u64()?,
            error_code: self.u16()?,
            queue_us: self.u64()?,
            decide_us: self.u64()?,
            hold_us: self.u64()?,
            upstream_us: self.u64()?,
            total_us: self.u64()?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Digest, Verb};

    fn intent<'a>(lists: &'a [String], text: &'a str) -> Event<'a> {
        Event::Intent(Intent {
            session: 7,
            statement: 3,
            at_us: -5,
            identity: "bot",
            target: "shop",
            schema: Some("shop"),
            command: "query",
            verb: Verb::Select,
            digest: Digest([9; 16]),
            text,
            verdict: "mask",
            rules: lists,
            masked: lists,
            tables: lists,
            policy_version: "abc",
            attribute_count: 0,
            attributes: &[],
        })
    }

    #[test]
    fn attributes_are_read_back() {
        let Event::Intent(intent) = intent(&[], "select ?") else { panic!() };
        let attributes = &[("run_id", "7"), ("purpose", "audit")];
        let event = Event::Intent(Intent { attribute_count: 3, attributes, ..intent });
        let mut bytes = Vec::new();
        encode(0, 0, &event, &mut bytes);
        let Recorded::Intent(RecordedIntent { attribute_count, attributes: read, .. }) =
            decode(&bytes).unwrap().event
        else {
            panic!()
        };
        let owned = attributes.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!((attribute_count, read.as_slice()), (3, &owned[..]));
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "prefix of {end} bytes");
        }
    }

    #[test]
    fn round_trip_and_every_prefix() {
        let lists = vec!["a".to_owned(), "ü".to_owned()];
        let mut bytes = Vec::new();
        encode(2, 40, &intent(&lists, "select ?"), &mut bytes);
        let record = decode(&bytes).unwrap();
        assert_eq!((record.core, record.sequence), (2, 40));
        let Recorded::Intent(RecordedIntent { rules, text, schema, digest, .. }) = record.event
        else {
            panic!()
        };
        assert_eq!((rules, text.as_str(), schema.as_deref()), (lists, "select ?", Some("shop")));
        assert_eq!(digest, "09".repeat(16));
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "prefix of {end} bytes");
        }
        bytes.push(0);
        assert!(decode(&bytes).is_err());
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let mut bytes = Vec::new();
        encode(0, 0, &intent(&[], &"ü".repeat(MAX_TEXT)), &mut bytes);
        let Recorded::Intent(RecordedIntent { text, .. }) = decode(&bytes).unwrap().event else {
            panic!()
        };
        assert_eq!(text.len(), MAX_TEXT);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
