//! The four bytes in front of every packet: a 24-bit length and a sequence id.

/// Bytes of a header.
pub const HEADER_LEN: usize = 4;

/// The longest payload of one packet; a payload of exactly this length goes on in the next packet.
pub const MAX_PAYLOAD: usize = 0xFF_FFFF;

/// A packet's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload that follow.
    pub len: usize,
    /// The sequence id: wraps at 256; a command starts at 0.
    pub seq: u8,
}

impl Header {
    /// The header at the front of `buf`; `None` until its four bytes are there.
    #[inline]
    pub fn parse(buf: &[u8]) -> Option<Self> {
        let [a, b, c, seq, ..] = *buf else { return None };
        let len = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        Some(Self { len, seq })
    }

    /// Header and payload together, in bytes.
    pub fn total(self) -> usize {
        HEADER_LEN + self.len
    }

    /// The packet's payload, if all of it is in `buf`.
    #[inline]
    pub fn payload(self, buf: &[u8]) -> Option<&[u8]> {
        buf.get(HEADER_LEN..self.total())
    }

    /// Whether the payload goes on in the next packet.
    pub fn continues(self) -> bool {
        self.len == MAX_PAYLOAD
    }
}

/// Appends a packet whose payload `write` appends. The payload must stay below [`MAX_PAYLOAD`] (all of ours are
/// small); a longer one would be cut into packets by [`write_packet`] instead.
#[inline]
pub fn write_frame(out: &mut Vec<u8>, seq: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, seq]);
    write(out);
    let len = out.len() - start - HEADER_LEN;
    let bytes = u32::try_from(len).unwrap_or(0).to_le_bytes();
    if let Some(header) = out.get_mut(start..start + 3) {
        header.copy_from_slice(&bytes[..3]);
    }
}

/// Appends a payload as as many packets as it takes. Gives the sequence id that follows.
pub fn write_packet(out: &mut Vec<u8>, mut seq: u8, payload: &[u8]) -> u8 {
    let mut rest = payload;
    loop {
        let (now, later) = rest.split_at(rest.len().min(MAX_PAYLOAD));
        write_frame(out, seq, |out| out.extend_from_slice(now));
        seq = seq.wrapping_add(1);
        if now.len() < MAX_PAYLOAD {
            return seq;
        }
        rest = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trip() {
        let mut out = Vec::new();
        write_frame(&mut out, 7, |out| out.extend_from_slice(b"abc"));
        assert_eq!(out, b"\x03\0\0\x07abc");
        let header = Header::parse(&out).unwrap();
        assert_eq!((header, header.payload(&out)), (Header { len: 3, seq: 7 }, Some(&b"abc"[..])));
        assert_eq!(Header::parse(&out[..3]), None);
        assert_eq!(header.payload(&out[..6]), None);
    }

    #[test]
    fn an_exact_multiple_ends_in_an_empty_packet() {
        let mut out = Vec::new();
        assert_eq!(write_packet(&mut out, 255, &vec![1; MAX_PAYLOAD]), 1);
        assert_eq!(out.len(), MAX_PAYLOAD + 2 * HEADER_LEN);
        assert_eq!(out[MAX_PAYLOAD + HEADER_LEN..], [0, 0, 0, 0]);
    }
}
