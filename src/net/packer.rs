//! Compressing and its opposite, one compressed packet at a time. A worker has one: nothing is kept from one packet to
//! the next, so connections need none of their own.

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use zstd::bulk::{Compressor, Decompressor};

use super::buffers::LARGE;
use crate::codec::Compression;

/// The fastest of both: what is saved beyond it costs many times the CPU, which is all sessions'.
const LEVEL: u8 = 1;

/// What the first attempt makes room for, for each byte that has arrived: text compresses by so much.
const LIKELY: usize = 8;

/// What zstd calls a lack of room, which its crate tells from damage by this name only.
const TOO_SMALL: &str = "Destination buffer is too small";

/// A compressed packet that does not hold what it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a compressed packet does not hold what it claims")]
pub(super) struct Damaged;

/// The contexts of one worker, made when they are first needed.
#[derive(Default)]
pub(super) struct Packer {
    deflate: Option<Compress>,
    inflate: Option<Decompress>,
    zstd: Option<Compressor<'static>>,
    unzstd: Option<Decompressor<'static>>,
}

impl Packer {
    /// Appends `data` compressed, if that makes it shorter; whether it did.
    pub(super) fn pack(&mut self, by: Compression, data: &[u8], out: &mut Vec<u8>) -> bool {
        let at = out.len();
        // Room for less than there is: what does not fit is not worth it.
        out.resize(at + data.len().saturating_sub(1), 0);
        let room = out.get_mut(at..).unwrap_or_default();
        let packed = match by {
            Compression::Zlib => self.deflate(data, room),
            Compression::Zstd => self.zstd(data, room),
        };
        out.truncate(at + packed.unwrap_or(0));
        packed.is_some()
    }

    fn deflate(&mut self, data: &[u8], room: &mut [u8]) -> Option<usize> {
        let make = || Compress::new(flate2::Compression::new(LEVEL.into()), true);
        let context = self.deflate.get_or_insert_with(make);
        context.reset();
        let status = context.compress(data, room, FlushCompress::Finish).ok()?;
        (status == Status::StreamEnd).then(|| usize::try_from(context.total_out()).ok()).flatten()
    }

    fn zstd(&mut self, data: &[u8], room: &mut [u8]) -> Option<usize> {
        if self.zstd.is_none() {
            self.zstd = Compressor::new(LEVEL.into()).ok();
        }
        self.zstd.as_mut()?.compress_to_buffer(data, room).ok()
    }

    /// Appends what `data` comes to, which must be `len` bytes. Memory is taken as it fills, not as it is claimed.
    pub(super) fn unpack(
        &mut self,
        by: Compression,
        data: &[u8],
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Damaged> {
        match by {
            Compression::Zlib => self.inflate(data, len, out),
            Compression::Zstd => self.unzstd(data, len, out),
        }
    }

    fn inflate(&mut self, data: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), Damaged> {
        let context = self.inflate.get_or_insert_with(|| Decompress::new(true));
        context.reset(true);
        let at = out.len();
        let mut room = first_room(data, len);
        let mut done = 0;
        loop {
            out.resize(at + room, 0);
            let read = usize::try_from(context.total_in()).map_err(|_| Damaged)?;
            let (data, free) = (data.get(read..), out.get_mut(at + done..));
            let (data, free) = (data.ok_or(Damaged)?, free.ok_or(Damaged)?);
            let status = context.decompress(data, free, FlushDecompress::None);
            done = usize::try_from(context.total_out()).map_err(|_| Damaged)?;
            match status {
                Ok(Status::StreamEnd) => break,
                Ok(_) if done == room && room < len => room = room.saturating_mul(2).min(len),
                _ => return Err(Damaged),
            }
        }
        let all_read = usize::try_from(context.total_in()) == Ok(data.len());
        if done == len && all_read { Ok(()) } else { Err(Damaged) }
    }

    fn unzstd(&mut self, data: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), Damaged> {
        if self.unzstd.is_none() {
            self.unzstd = Decompressor::new().ok();
        }
        let context = self.unzstd.as_mut().ok_or(Damaged)?;
        let at = out.len();
        let mut room = first_room(data, len);
        // It begins anew with more room each time: twice the work at most, against buffers as long as a stranger says.
        loop {
            out.resize(at + room, 0);
            let free = out.get_mut(at..).ok_or(Damaged)?;
            match context.decompress_to_buffer(data, free) {
                Ok(done) if done == len && room == len => return Ok(()),
                Ok(_) => return Err(Damaged),
                Err(error) if room < len && error.to_string() == TOO_SMALL => {
                    room = room.saturating_mul(2).min(len);
                }
                Err(_) => return Err(Damaged),
            }
        }
    }
}

fn first_room(data: &[u8], len: usize) -> usize {
    len.min(data.len().saturating_mul(LIKELY).max(LARGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Compression; 2] = [Compression::Zlib, Compression::Zstd];

    fn packed(by: Compression, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(Packer::default().pack(by, data, &mut out));
        out
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let mut packer = Packer::default();
        for by in BOTH {
            for len in [400, 5_000, LARGE, 3_000_000, 0xFF_FFFF] {
                let data: Vec<u8> = (0..len).map(|at| u8::try_from(at / 3 % 91).unwrap()).collect();
                let mut out = b"before".to_vec();
                assert!(packer.pack(by, &data, &mut out));
                let mut back = b"before".to_vec();
                packer.unpack(by, &out[6..], len, &mut back).unwrap();
                assert!(back[6..] == data[..], "{by:?} {len}");
            }
        }
    }

    #[test]
    fn what_would_be_longer_is_left() {
        let noise: Vec<u8> =
            (0_u32..300).map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[0]).collect();
        for by in BOTH {
            let mut out = b"before".to_vec();
            assert!(!Packer::default().pack(by, &noise, &mut out));
            assert_eq!(out, b"before");
        }
    }

    #[test]
    fn what_is_not_what_it_claims_is_refused() {
        for by in BOTH {
            let data = vec![7; 100_000];
            let good = packed(by, &data);
            let trailing = [&good[..], b"x"].concat();
            let cut = &good[..good.len() - 1];
            for (data, len) in [
                (&good[..], 99_999),
                (&good, 100_001),
                (&good, 1),
                (&trailing, 100_000),
                (cut, 100_000),
                (b"no such stream", 14),
                (b"", 5),
            ] {
                let refused = Packer::default().unpack(by, data, len, &mut Vec::new());
                assert_eq!(refused, Err(Damaged), "{by:?} {len}");
            }
        }
    }

    #[test]
    fn a_claim_takes_no_memory() {
        for by in BOTH {
            let small = packed(by, &[7; 1_000]);
            let mut out = Vec::new();
            Packer::default()
                .unpack(by, &small[..small.len() / 2], 0xFF_FFFF, &mut out)
                .unwrap_err();
            assert!(out.capacity() <= LARGE, "{by:?} {}", out.capacity());
        }
    }
}
