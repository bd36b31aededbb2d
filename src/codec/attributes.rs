//! Query attributes (MySQL's CLIENT_QUERY_ATTRIBUTES): named values in front of a COM_QUERY's text, and behind the
//! parameters of a COM_STMT_EXECUTE.
//!
//! They are read more strictly than the server reads them. Where the text of a COM_QUERY begins depends on them, so that
//! what two could read differently is an error: lengths of other than one, two or three bytes, types that the server has
//! no form for, types left out.

use nom::bytes::complete::take;
use nom::number::complete::{le_u8, le_u16};

use super::column::BinaryForm;
use super::lenenc::lenenc_int;
use super::{CodecError, ColumnType, Parsed, fail, flatten, front};

/// The most attributes of one statement: MySQL's own command line sends 32 at most.
pub const MAX_QUERY_ATTRIBUTES: usize = 64;

/// Longest name of an attribute.
const MAX_NAME: usize = 256;

/// The most bytes that the attributes in front of a text may take: they are looked at before the statement is.
pub const MAX_ATTRIBUTES_LEN: usize = 64 << 10;

/// A value's type is unsigned. No other flag is known.
const UNSIGNED: u8 = 0x80;

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its name, in the connection's character set.
    pub name: &'a [u8],
    /// Its type.
    pub column_type: ColumnType,
    /// Its value as it lies in a binary row, without its length; `None` for NULL.
    pub value: Option<&'a [u8]>,
}

/// The attributes of a statement: an iterator over those that have a name (no others can be read) and whose values can be
/// found.
#[derive(Clone, Debug, Default)]
pub struct Attributes<'a> {
    nulls: &'a [u8],
    heads: &'a [u8],
    values: &'a [u8],
    /// The place of the next one.
    at: usize,
    /// How many come after it, itself included.
    left: usize,
    total: usize,
}

impl<'a> Attributes<'a> {
    /// Parses what stands in front of a COM_QUERY's text: gives the attributes and how many bytes they take.
    pub fn of_query(body: &'a [u8]) -> Result<(Self, usize), CodecError> {
        let (rest, attributes) = query(body).map_err(flatten)?;
        let len = body.len() - rest.len();
        if len > MAX_ATTRIBUTES_LEN {
            return Err(CodecError::Value("the length of the query attributes"));
        }
        Ok((attributes, len))
    }

    /// How many there are, those included that have no name, or whose values can't be found.
    pub fn total(&self) -> usize {
        self.total
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.left = self.left.checked_sub(1)?;
            let (heads, head) = head(self.heads).ok()?;
            let (values, value) = value(self.values, head, is_null(self.nulls, self.at)).ok()?;
            (self.heads, self.values) = (heads, values);
            self.at += 1;
            if !head.name.is_empty() {
                return Some(Attribute { name: head.name, column_type: head.column_type, value });
            }
        }
    }
}

/// An EXECUTE's parameters from a client with query attributes: those of the statement, then the attributes.
#[derive(Clone, Copy, Debug)]
pub struct NamedParameters<'a> {
    count: usize,
    nulls: &'a [u8],
    /// Types and names, where the command brings them.
    heads: Option<&'a [u8]>,
    values: &'a [u8],
}

impl<'a> NamedParameters<'a> {
    /// Parses what follows an EXECUTE's head, for a statement that has `own` parameters. The values are not looked at.
    pub fn parse(parameters: &'a [u8], own: usize) -> Result<Self, CodecError> {
        let named = front(parameters, named)?;
        let attributes = named.count.checked_sub(own);
        let attributes = attributes.ok_or(CodecError::Value("the number of parameters"))?;
        if attributes > MAX_QUERY_ATTRIBUTES {
            return Err(CodecError::Value("the number of query attributes"));
        }
        if attributes > 0 && named.heads.is_none() {
            return Err(CodecError::Value("the types of the query attributes"));
        }
        Ok(named)
    }

    /// The types of the statement's `own` parameters, two bytes each, where the command brings them.
    pub fn types(&self, own: usize) -> Option<impl Iterator<Item = [u8; 2]> + use<'a>> {
        let mut heads = self.heads?;
        Some((0..own).map_while(move |_| {
            let (rest, head) = head(heads).ok()?;
            heads = rest;
            Some(head.wire)
        }))
    }

    /// The attributes: what comes behind the statement's `own` parameters, and those of its own that have a name, by which
    /// the server lets them be read as well. (None of its own may have come as long data: it has no value here.)
    pub fn attributes(&self, own: usize) -> Attributes<'a> {
        let Some(heads) = self.heads else { return Attributes::default() };
        let (nulls, values, left) = (self.nulls, self.values, self.count);
        Attributes { nulls, heads, values, at: 0, left, total: self.unread(own).total }
    }

    /// The same, of whose values nothing is known.
    pub fn unread(&self, own: usize) -> Attributes<'a> {
        let mut heads = self.heads.unwrap_or_default();
        let own_named = (0..own).map_while(|_| {
            let (rest, head) = head(heads).ok()?;
            heads = rest;
            Some(usize::from(!head.name.is_empty()))
        });
        let named: usize = own_named.sum();
        Attributes { total: self.count.saturating_sub(own) + named, ..Attributes::default() }
    }

    /// Appends the statement's `own` parameters as they come from a client without query attributes: NULL bitmap, types
    /// (`kept`, where the command brings none), values. `None`: not all of it is known.
    pub fn write_own(&self, own: usize, kept: Option<&[u8]>, out: &mut Vec<u8>) -> Option<()> {
        let start = out.len();
        out.extend_from_slice(self.nulls.get(..own.div_ceil(8))?);
        if let (Some(last), used @ 1..) = (out.get_mut(start..)?.last_mut(), own % 8) {
            *last &= (1 << used) - 1;
        }
        out.push(1);
        let types = out.len();
        match self.types(own) {
            Some(types) => types.for_each(|wire| out.extend_from_slice(&wire)),
            None => out.extend_from_slice(kept?),
        }
        let mut values = self.values;
        for at in 0..own {
            let wire = *out.get(types + 2 * at..)?.first_chunk::<2>()?;
            let head = Head { name: &[], column_type: ColumnType(wire[0]), wire };
            values = value(values, head, is_null(self.nulls, at)).ok()?.0;
        }
        let len = self.values.len() - values.len();
        out.extend_from_slice(self.values.get(..len)?);
        // What is left over would belong to nothing that is known.
        (self.count > own || values.is_empty()).then_some(())
    }
}

/// The values of an EXECUTE's `own` parameters, from what [`NamedParameters::write_own`] writes: NULL bitmap, types,
/// values. `each` is given the type and the bytes, without their length; `None` is NULL.
pub fn bound_values<'a>(
    parameters: &'a [u8],
    own: usize,
    mut each: impl FnMut(ColumnType, Option<&'a [u8]>),
) -> Result<(), CodecError> {
    let parts = parameters.split_at_checked(own.div_ceil(8)).and_then(|(nulls, rest)| {
        let (_, rest) = rest.split_first().filter(|(flag, _)| **flag == 1)?;
        let (types, values) = rest.split_at_checked(2 * own)?;
        Some((nulls, types, values))
    });
    let (nulls, types, mut values) = parts.ok_or(CodecError::Truncated)?;
    for (at, wire) in types.as_chunks::<2>().0.iter().enumerate() {
        let head = Head { name: &[], column_type: ColumnType(wire[0]), wire: *wire };
        let (rest, found) = value(values, head, is_null(nulls, at)).map_err(super::flatten)?;
        each(head.column_type, found);
        values = rest;
    }
    Ok(())
}

/// A type and a name.
#[derive(Clone, Copy)]
struct Head<'a> {
    name: &'a [u8],
    column_type: ColumnType,
    wire: [u8; 2],
}

/// `parameter_count parameter_set_count [nulls new_params_bind_flag {type name}* {value}*]`
fn query(input: &[u8]) -> Parsed<'_, Attributes<'_>> {
    let (rest, count) = length(input)?;
    let (rest, sets) = length(rest)?;
    if count > MAX_QUERY_ATTRIBUTES || sets != 1 {
        return fail(CodecError::Value("the number of query attributes"));
    }
    if count == 0 {
        return Ok((rest, Attributes::default()));
    }
    let (rest, nulls) = take(count.div_ceil(8))(rest)?;
    let (heads, flag) = le_u8(rest)?;
    if flag != 1 {
        return fail(CodecError::Value("the types of the query attributes"));
    }
    let values = skip_heads(heads, count)?;
    let (mut rest, mut of) = (values, heads);
    for at in 0..count {
        let (next, head) = head(of)?;
        of = next;
        rest = value(rest, head, is_null(nulls, at))?.0;
    }
    Ok((rest, Attributes { nulls, heads, values, at: 0, left: count, total: count }))
}

/// `parameter_count [nulls new_params_bind_flag [{type name}*] …]`
fn named(input: &[u8]) -> Parsed<'_, NamedParameters<'_>> {
    let (rest, count) = length(input)?;
    if count == 0 {
        let none = NamedParameters { count, nulls: &[], heads: None, values: rest };
        return Ok((&rest[rest.len()..], none));
    }
    let (rest, nulls) = take(count.div_ceil(8))(rest)?;
    let (rest, flag) = le_u8(rest)?;
    let (heads, values) = match flag {
        0 => (None, rest),
        1 => (Some(rest), skip_heads(rest, count)?),
        _ => return fail(CodecError::Value("the types of parameters")),
    };
    Ok((&rest[rest.len()..], NamedParameters { count, nulls, heads, values }))
}

fn skip_heads(mut input: &[u8], count: usize) -> Result<&[u8], nom::Err<CodecError>> {
    for _ in 0..count {
        input = head(input)?.0;
    }
    Ok(input)
}

fn head(input: &[u8]) -> Parsed<'_, Head<'_>> {
    let (rest, wire) = le_u16(input)?;
    let wire = wire.to_le_bytes();
    let (rest, len) = length(rest)?;
    if len > MAX_NAME || wire[1] & !UNSIGNED != 0 {
        return fail(CodecError::Value("a parameter's type or name"));
    }
    let (rest, name) = take(len)(rest)?;
    Ok((rest, Head { name, column_type: ColumnType(wire[0]), wire }))
}

/// A value, or nothing for NULL.
fn value<'a>(input: &'a [u8], head: Head<'_>, null: bool) -> Parsed<'a, Option<&'a [u8]>> {
    if null {
        return Ok((input, None));
    }
    let form = match head.column_type {
        // The server has no form for these as parameters.
        ColumnType::NULL | ColumnType::INT24 | ColumnType::YEAR => None,
        other => other.binary_form(),
    };
    let (rest, len) = match form {
        Some(BinaryForm::Fixed(len)) => (input, len),
        Some(BinaryForm::ShortLength | BinaryForm::Lenenc) => length(input)?,
        None => return fail(CodecError::Value("a parameter's type")),
    };
    let (rest, value) = take(len)(rest)?;
    Ok((rest, Some(value)))
}

/// A length in one of the forms that all servers read alike.
fn length(input: &[u8]) -> Parsed<'_, usize> {
    let (rest, len) = lenenc_int(input)?;
    match usize::try_from(len) {
        Ok(len) if input.first() != Some(&0xFE) => Ok((rest, len)),
        _ => fail(CodecError::Value("a length")),
    }
}

fn is_null(nulls: &[u8], at: usize) -> bool {
    nulls.get(at / 8).is_some_and(|byte| byte & (1 << (at % 8)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `traceparent` = "a", `n` = 7 (unsigned), `none` = NULL; in front of a text.
    const QUERY: &[u8] = b"\x03\x01\x04\x01\xfe\x00\x0btraceparent\x08\x80\x01n\x06\x00\x04none\
        \x01a\x07\0\0\0\0\0\0\0SELECT 1";

    #[test]
    fn attributes_are_read_and_the_text_begins_behind_them() {
        let (attributes, len) = Attributes::of_query(QUERY).unwrap();
        assert_eq!(&QUERY[len..], b"SELECT 1");
        assert_eq!(attributes.total(), 3);
        let found: Vec<_> = attributes.map(|found| (found.name, found.value)).collect();
        let seven = &b"\x07\0\0\0\0\0\0\0"[..];
        let wanted = [(&b"traceparent"[..], Some(&b"a"[..])), (b"n", Some(seven)), (b"none", None)];
        assert_eq!(found, wanted);
        for end in 0..len {
            assert!(Attributes::of_query(&QUERY[..end]).is_err(), "{end}");
        }
        let (none, len) = Attributes::of_query(b"\0\x01SELECT 1").unwrap();
        assert_eq!((none.total(), len), (0, 2));
    }

    #[test]
    fn what_could_be_read_otherwise_is_an_error() {
        for (what, body) in [
            ("no set", &b"\0\0SELECT 1"[..]),
            ("two sets", b"\0\x02SELECT 1"),
            ("NULL for a count", b"\xfb\x01SELECT 1"),
            ("a long count", b"\xfe\0\0\0\0\0\0\0\0\x01SELECT 1"),
            ("a long length", b"\x01\x01\0\x01\xfe\0\0\xfe\x01\0\0\0\0\0\0\0aSELECT 1"),
            ("too many", b"\x41\x01\0\0\0\0\0\0\0\0\0\x01"),
            ("no types", b"\x01\x01\0\0SELECT 1"),
            ("an unknown flag", b"\x01\x01\0\x02\xfe\0\0\x01aSELECT 1"),
            ("an unknown type", b"\x01\x01\0\x01\x20\0\0\x01aSELECT 1"),
            ("NULL that is not", b"\x01\x01\0\x01\x06\0\0SELECT 1"),
            ("another flag of a type", b"\x01\x01\0\x01\xfe\x01\0\x01aSELECT 1"),
            ("a length beyond the end", b"\x01\x01\0\x01\xfe\0\0\xfaSELECT 1"),
        ] {
            assert!(Attributes::of_query(body).is_err(), "{what}");
        }
        let long = |name: usize, value: usize| {
            let mut body = b"\x01\x01\0\x01\xfe\0".to_vec();
            crate::codec::write_lenenc_bytes(&mut body, &vec![b'n'; name]);
            crate::codec::write_lenenc_bytes(&mut body, &vec![b'v'; value]);
            Attributes::of_query(&body).is_ok()
        };
        assert!(long(MAX_NAME, 1) && !long(MAX_NAME + 1, 1));
        assert!(long(1, MAX_ATTRIBUTES_LEN - 16) && !long(1, MAX_ATTRIBUTES_LEN));
    }

    #[test]
    fn bound_values_are_read_one_by_one() {
        let read = |parameters: &[u8], own| {
            let mut found = Vec::new();
            bound_values(parameters, own, |column_type, value| {
                found.push((column_type.is_string(), value.map(<[u8]>::to_vec)));
            })
            .map(|()| found)
        };
        let block = b"\x04\x01\xfe\0\x03\0\xfd\0\x02ab\x05\0\0\0";
        let wanted =
            vec![(true, Some(b"ab".to_vec())), (false, Some(b"\x05\0\0\0".to_vec())), (true, None)];
        assert_eq!(read(block, 3), Ok(wanted));
        for end in 0..block.len() {
            assert!(read(&block[..end], 3).is_err(), "{end}");
        }
        assert!(read(b"\0\0\xfe\0\x02ab", 1).is_err(), "without types");
    }

    /// Two of the statement's own, a string and a number, then `run_id` = "r7".
    const EXECUTE: &[u8] = b"\x03\0\x01\xfe\0\0\x03\0\0\xfd\0\x06run_id\x02ab\x05\0\0\0\x02r7";

    #[test]
    fn an_executes_own_parameters_are_told_from_its_attributes() {
        let own = |parameters: &[u8], kept: Option<&[u8]>| {
            let mut out = Vec::new();
            let named = NamedParameters::parse(parameters, 2).unwrap();
            named.write_own(2, kept, &mut out).map(|()| out)
        };
        let wanted = &b"\0\x01\xfe\0\x03\0\x02ab\x05\0\0\0"[..];
        assert_eq!(own(EXECUTE, None).as_deref(), Some(wanted));
        let bare = b"\x02\0\x01\xfe\0\0\x03\0\0\x02ab\x05\0\0\0";
        assert_eq!(own(bare, None).as_deref(), Some(wanted));
        let untyped = b"\x02\0\0\x02ab\x05\0\0\0";
        assert_eq!(own(untyped, Some(b"\xfe\0\x03\0")).as_deref(), Some(wanted));
        assert_eq!(own(untyped, None), None);
        assert_eq!(own(b"\x02\0\0\x02ab\x05\0\0\0x", Some(b"\xfe\0\x03\0")), None, "left over");
        let attributes = NamedParameters::parse(EXECUTE, 2).unwrap().attributes(2);
        let found: Vec<_> = attributes.map(|found| (found.name, found.value)).collect();
        assert_eq!(found, [(&b"run_id"[..], Some(&b"r7"[..]))]);
        // The server lets its own be read by their names too.
        let named = b"\x02\0\x01\xfe\0\x01a\x03\0\0\x02ab\x05\0\0\0";
        let attributes = NamedParameters::parse(named, 2).unwrap().attributes(2);
        assert_eq!(attributes.total(), 1);
        let found: Vec<_> = attributes.map(|found| (found.name, found.value)).collect();
        assert_eq!(found, [(&b"a"[..], Some(&b"ab"[..]))]);
        // An attribute that is NULL changes nothing of them.
        let null = b"\x03\x04\x01\xfe\0\0\x03\0\0\xfd\0\x06run_id\x02ab\x05\0\0\0";
        assert_eq!(own(null, None).as_deref(), Some(wanted));
    }

    #[test]
    fn an_execute_of_too_few_or_too_many_or_without_types_is_an_error() {
        assert!(NamedParameters::parse(EXECUTE, 4).is_err());
        assert!(NamedParameters::parse(b"\x01\0\0", 0).is_err(), "an attribute needs its type");
        assert!(NamedParameters::parse(b"\x01\0\0", 1).is_ok());
        assert!(NamedParameters::parse(b"\x01\0\x02", 1).is_err());
        assert_eq!(NamedParameters::parse(b"\0", 0).unwrap().attributes(0).total(), 0);
        for end in 0..16 {
            assert!(NamedParameters::parse(&EXECUTE[..end], 2).is_err(), "{end}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, own in 0_usize..9) {
            if let Ok((attributes, len)) = Attributes::of_query(&bytes) {
                proptest::prop_assert!(len <= bytes.len());
                proptest::prop_assert!(attributes.clone().take(99).count() <= attributes.total());
            }
            if let Ok(named) = NamedParameters::parse(&bytes, own) {
                let _ = named.write_own(own, None, &mut Vec::new());
                let _ = named.attributes(own).last();
            }
        }
    }
}
