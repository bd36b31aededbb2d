//! The header of a compressed packet: what it holds is a part of the stream of packets, cut anywhere.

/// Bytes of a compressed packet's header.
pub const COMPRESSED_HEADER_LEN: usize = 7;

/// A way to compress. Both sides know it by a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// What all servers and clients know.
    Zlib,
    /// MySQL's since 8.0.18.
    Zstd,
}

impl Compression {
    /// Its capability.
    pub fn capability(self) -> u64 {
        match self {
            Self::Zlib => super::Capabilities::COMPRESS,
            Self::Zstd => super::Capabilities::ZSTD,
        }
    }

    /// What both sides do that agreed on these: zlib goes first, as the servers have it.
    pub fn agreed(capabilities: super::Capabilities) -> Option<Self> {
        [Self::Zlib, Self::Zstd].into_iter().find(|known| capabilities.has(known.capability()))
    }
}

/// A compressed packet's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressedHeader {
    /// Bytes that follow.
    pub len: usize,
    /// Its own count: a command starts at 0, the answer goes on after it.
    pub seq: u8,
    /// What it comes to; 0: it is stored as it is.
    pub uncompressed: usize,
}

impl CompressedHeader {
    /// The header at the front of `buf`; `None` until its seven bytes are there.
    pub fn parse(buf: &[u8]) -> Option<Self> {
        let header = buf.get(..COMPRESSED_HEADER_LEN)?;
        let wide = |at: usize| {
            let [low, middle, high] = [at, at + 1, at + 2].map(|at| header.get(at).copied());
            Some(usize::from(low?) | usize::from(middle?) << 8 | usize::from(high?) << 16)
        };
        Some(Self { len: wide(0)?, seq: *header.get(3)?, uncompressed: wide(4)? })
    }

    /// As it travels. Lengths are below 16 MiB.
    pub fn bytes(self) -> [u8; COMPRESSED_HEADER_LEN] {
        let mut bytes = [0; COMPRESSED_HEADER_LEN];
        bytes[..3].copy_from_slice(&self.len.to_le_bytes()[..3]);
        bytes[3] = self.seq;
        bytes[4..].copy_from_slice(&self.uncompressed.to_le_bytes()[..3]);
        bytes
    }

    /// Header and what follows together, in bytes.
    pub fn total(self) -> usize {
        COMPRESSED_HEADER_LEN + self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Capabilities;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = CompressedHeader { len: 0x01_02_03, seq: 255, uncompressed: 0xFF_FF_FF };
        let bytes = header.bytes();
        assert_eq!(bytes, [3, 2, 1, 255, 0xFF, 0xFF, 0xFF]);
        assert_eq!(CompressedHeader::parse(&bytes), Some(header));
        assert_eq!(CompressedHeader::parse(&bytes[..6]), None);
        assert_eq!(header.total(), 0x01_02_03 + 7);
    }

    #[test]
    fn zlib_goes_first() {
        let (zlib, zstd) = (Compression::Zlib.capability(), Compression::Zstd.capability());
        let agreed = |bits| Compression::agreed(Capabilities(bits));
        assert_eq!(agreed(zlib | zstd), Some(Compression::Zlib));
        assert_eq!(agreed(zstd), Some(Compression::Zstd));
        assert_eq!(agreed(Capabilities::PROXIED), None);
    }
}
