//! The PROXY protocol's header, by which a load balancer tells whose connection it passes on: version 1 (a line of
//! text) and version 2 (binary), as HAProxy's `proxy-protocol.txt` has them. What version 2 adds behind the addresses
//! (TLVs) is skipped, not read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nom::number::complete::{be_u32, be_u128};

use super::{CodecError, Parsed, fail, front};

/// The longest line of version 1, its end included.
const MAX_LINE: usize = 107;

/// The longest rest of version 2. Addresses take 216 bytes at most; what balancers add (ids, a TLS client's names) stays
/// under 1 KiB, and nobody has logged in yet.
const MAX_REST: usize = 4 << 10;

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const V2_HEAD: usize = 16;

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Bytes of it.
    pub len: usize,
    /// Whose connection it is; `None`: the sender's own (a health check), or of someone without an address.
    pub source: Option<IpAddr>,
}

impl ProxyHeader {
    /// The header at the front of `bytes`; `None` until all of it is there.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, CodecError> {
        if begins(bytes, V2) {
            return version_2(bytes);
        }
        if begins(bytes, V1) {
            return version_1(bytes);
        }
        Err(CodecError::Value("a PROXY header"))
    }

    /// Appends a header of version 2. The destination is left open: what the database would be told of it, it knows.
    pub fn write(out: &mut Vec<u8>, source: Option<IpAddr>) {
        out.extend_from_slice(V2);
        match source {
            None => out.extend_from_slice(&[0x20, 0, 0, 0]),
            Some(IpAddr::V4(source)) => {
                out.extend_from_slice(&[0x21, 0x11, 0, 12]);
                out.extend_from_slice(&source.octets());
                out.extend_from_slice(&[0; 8]);
            }
            Some(IpAddr::V6(source)) => {
                out.extend_from_slice(&[0x21, 0x21, 0, 36]);
                out.extend_from_slice(&source.octets());
                out.extend_from_slice(&[0; 20]);
            }
        }
    }
}

/// Whether `bytes` begin with `signature`, as far as they go.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    let len = bytes.len().min(signature.len());
    bytes[..len] == signature[..len]
}

/// `PROXY TCP4 source destination port port`, or `PROXY UNKNOWN` and whatever follows.
fn version_1(bytes: &[u8]) -> Result<Option<ProxyHeader>, CodecError> {
    let Some(end) = bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        let may_come = bytes.len() < MAX_LINE;
        return if may_come { Ok(None) } else { Err(CodecError::Value("a PROXY line")) };
    };
    let bad = CodecError::Value("a PROXY line");
    let line = bytes[..end].strip_suffix(b"\r").ok_or(bad)?;
    let line = std::str::from_utf8(line).map_err(|_| CodecError::Utf8("a PROXY line"))?;
    let words: Vec<&str> = line.split(' ').collect();
    let source = match words[..] {
        [_, "UNKNOWN", ..] => None,
        [_, "TCP4", source, destination, from, to] => {
            addresses::<Ipv4Addr>(source, destination, from, to).map(IpAddr::V4).ok_or(bad)?.into()
        }
        [_, "TCP6", source, destination, from, to] => {
            addresses::<Ipv6Addr>(source, destination, from, to).map(IpAddr::V6).ok_or(bad)?.into()
        }
        _ => return Err(bad),
    };
    Ok(Some(ProxyHeader { len: end + 1, source }))
}

/// The source, where all four are what they should be.
fn addresses<A: std::str::FromStr>(
    source: &str,
    destination: &str,
    from: &str,
    to: &str,
) -> Option<A> {
    let is_port =
        |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let (source, destination) = (source.parse().ok()?, destination.parse::<A>());
    (destination.is_ok() && is_port(from) && is_port(to)).then_some(source)
}

fn version_2(bytes: &[u8]) -> Result<Option<ProxyHeader>, CodecError> {
    let Some((head, rest)) = bytes.split_at_checked(V2_HEAD) else { return Ok(None) };
    let (command, family) = (head[12], head[13]);
    let len = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if len > MAX_REST {
        return Err(CodecError::Value("the length of a PROXY header"));
    }
    let Some(rest) = rest.get(..len) else { return Ok(None) };
    let source = match (command, family) {
        // LOCAL: the balancer's own connection, whatever else it says.
        (0x20, _) => None,
        // Unspecified, or a Unix socket: there is no address to tell.
        (0x21, 0x00 | 0x31) => None,
        (0x21, 0x11) => Some(front(rest, tcp4)?),
        (0x21, 0x21) => Some(front(rest, tcp6)?),
        _ => return Err(CodecError::Value("a PROXY header's version, command or family")),
    };
    Ok(Some(ProxyHeader { len: V2_HEAD + len, source }))
}

/// Source and destination, then their ports.
fn tcp4(input: &[u8]) -> Parsed<'_, IpAddr> {
    let (rest, source) = be_u32(input)?;
    if rest.len() < 8 {
        return fail(CodecError::Truncated);
    }
    Ok((rest, Ipv4Addr::from_bits(source).into()))
}

fn tcp6(input: &[u8]) -> Parsed<'_, IpAddr> {
    let (rest, source) = be_u128(input)?;
    if rest.len() < 20 {
        return fail(CodecError::Truncated);
    }
    Ok((rest, Ipv6Addr::from_bits(source).into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A whole header at the front of others' bytes; no part of it is one, and none is refused.
    fn check(header: &[u8], source: Option<&str>) {
        let source = source.map(|source| source.parse().unwrap());
        let found = ProxyHeader { len: header.len(), source };
        for tail in [&b""[..], b"\x20\0\0\x01and so on"] {
            assert_eq!(ProxyHeader::parse(&[header, tail].concat()), Ok(Some(found)));
        }
        for len in 0..header.len() {
            assert_eq!(ProxyHeader::parse(&header[..len]), Ok(None), "{len} bytes");
        }
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2, &[command, family], &len, rest].concat()
    }

    #[test]
    fn version_1_headers() {
        check(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 3306\r\n", Some("192.0.2.7"));
        check(b"PROXY TCP6 2001:db8::7 2001:db8::1 4124 3306\r\n", Some("2001:db8::7"));
        check(b"PROXY UNKNOWN\r\n", None);
        check(b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None);
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_LINE - 16));
        check(longest.as_bytes(), None);
    }

    #[test]
    fn version_2_headers() {
        let four = [192, 0, 2, 7, 198, 51, 100, 1, 0xDC, 4, 0x0C, 0xEA];
        check(&v2(0x21, 0x11, &four), Some("192.0.2.7"));
        let six: [u8; 36] =
            std::array::from_fn(|at| [0x20, 1, 0x0d, 0xb8].get(at).copied().unwrap_or(0));
        check(&v2(0x21, 0x21, &six), Some("2001:db8::"));
        let with_tlvs = [&four[..], &[4, 0, 3, 1, 2, 3], &[0xEA; 2_000]].concat();
        check(&v2(0x21, 0x11, &with_tlvs), Some("192.0.2.7"));
        check(&v2(0x20, 0x11, &four), None);
        check(&v2(0x20, 0x00, b""), None);
        check(&v2(0x21, 0x00, b"some TLVs"), None);
        check(&v2(0x21, 0x31, &[0; 216]), None);
    }

    #[test]
    fn what_is_none_is_refused_as_soon_as_it_shows() {
        let line = format!("PROXY UNKNOWN {}", "x".repeat(100));
        for bad in [
            &b"\x20\0\0\x01\x85\xa6\xff\x19"[..],
            b"PROXZ",
            b"\r\n\r\n\0\r\nQUIX",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 3306\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 65536\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 +6324 3306\r\n",
            b"PROXY TCP4 192.0.2.7  198.51.100.1 56324 3306\r\n",
            b"PROXY TCP4 2001:db8::7 2001:db8::1 4124 3306\r\n",
            b"PROXY TCP4 192.0.2.7\r\n",
            b"PROXY SCTP 192.0.2.7 198.51.100.1 56324 3306\r\n",
            line.as_bytes(),
            &v2(0x11, 0x11, &[0; 12]),
            &v2(0x22, 0x11, &[0; 12]),
            &v2(0x21, 0x12, &[0; 12]),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x21, &[0; 35]),
            // Refused by what it claims, before any of that has come.
            &v2(0x21, 0x11, &[0; MAX_REST + 1])[..V2_HEAD],
        ] {
            assert!(ProxyHeader::parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(octets: [u8; 16], is_v4: bool) {
            let source = if is_v4 {
                Ipv4Addr::from([octets[0], octets[1], octets[2], octets[3]]).into()
            } else {
                IpAddr::from(octets)
            };
            for source in [Some(source), None] {
                let mut out = Vec::new();
                ProxyHeader::write(&mut out, source);
                prop_assert_eq!(ProxyHeader::parse(&out), Ok(Some(ProxyHeader { len: out.len(), source })));
            }
        }

        #[test]
        fn nothing_makes_it_panic_or_wait_for_more_than_it_may_have(
            prefix in prop_oneof![Just(V1), Just(V2), Just(&b""[..])],
            rest in prop::collection::vec(any::<u8>(), 0..6_000),
        ) {
            let bytes = [prefix, &rest].concat();
            if ProxyHeader::parse(&bytes) == Ok(None) {
                prop_assert!(bytes.len() < V2_HEAD + MAX_REST);
            }
        }
    }
}
