//! A frame's payload: whole records, packed, hidden, chained; and back. Every bound holds for files that somebody else wrote.
//!
//! Kinds: 1, records as they are (of format 2, and no other); 2, records as they are; 3, records by zstd; 4, a checkpoint.
//! With bit 4 set, kinds 2 and 3 are encrypted. The payload of kinds 2 and 3 is how many records it has (32 bits),
//! how many bytes they take unpacked (32 bits), and the records.

use std::io;

use zstd::bulk::{Compressor, Decompressor};

use super::keys::{Cipher, SEALING};

/// A chain's value.
pub(super) type Chain = [u8; 32];

/// What leads a frame: its payload's length, its kind, the chain's value.
pub(super) const HEAD: usize = 4 + 1 + 32;
/// What leads the payload of a frame of format 3: its counts.
const COUNTS: usize = 8;
/// Records that one frame takes, in bytes: beyond this BLAKE3 is no faster, and a reader needs room for one frame.
const FRAME: usize = 256 << 10;
/// Longest frame that is believed, packed and unpacked: one of a single record, which is bounded well below it.
pub(super) const MAX_FRAME: usize = 8 << 20;
/// Less is not worth packing: zstd's own head, and a context's start, cost more than they save.
const WORTH_PACKING: usize = 512;
/// zstd's quickest but for the negative ones: a record packs to a fifth at this level, and to little less at the next ones.
const LEVEL: i32 = 1;

/// Records of format 2.
pub(super) const OLD: u8 = 1;
const PLAIN: u8 = 2;
const PACKED: u8 = 3;
/// A signature over what came before.
pub(super) const CHECKPOINT: u8 = 4;
const SEALED: u8 = 0x10;

/// The chain's value after a frame.
pub(super) fn link(chain: &Chain, kind: u8, payload: &[u8]) -> Chain {
    let mut hasher = blake3::Hasher::new();
    hasher.update(chain).update(&[kind]).update(payload);
    *hasher.finalize().as_bytes()
}

/// Appends a frame of this payload; the chain's next value.
pub(super) fn put(chain: &Chain, kind: u8, payload: &[u8], out: &mut Vec<u8>) -> Chain {
    let next = link(chain, kind, payload);
    let len = u32::try_from(payload.len()).unwrap_or(0);
    out.extend_from_slice(&len.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(&next);
    out.extend_from_slice(payload);
    next
}

/// The first record of unpacked records, and what follows it.
pub(super) fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, after) = bytes.split_first_chunk::<4>()?;
    after.split_at_checked(u32::from_le_bytes(*head) as usize)
}

/// Packs records into frames. It belongs to the thread that writes: its context is made once.
pub(super) struct Packer {
    compressor: Compressor<'static>,
    packed: Vec<u8>,
    payload: Vec<u8>,
}

impl Packer {
    pub(super) fn new() -> io::Result<Self> {
        let compressor = Compressor::new(LEVEL)?;
        Ok(Self { compressor, packed: Vec::new(), payload: Vec::new() })
    }

    /// Appends records, each led by its length, to `out` in as few frames as they need. Gives the chain's next value
    /// and how many records they were.
    pub(super) fn frames(
        &mut self,
        chain: &Chain,
        cipher: Option<&Cipher>,
        records: &[u8],
        out: &mut Vec<u8>,
    ) -> io::Result<(Chain, u64)> {
        let (mut chain, mut total) = (*chain, 0);
        let mut rest = records;
        while !rest.is_empty() {
            let (mut taken, mut count) = (0, 0_u32);
            while let Some((record, _)) = split_record(rest.get(taken..).unwrap_or_default()) {
                let next = taken + 4 + record.len();
                if taken > 0 && next > FRAME {
                    break;
                }
                (taken, count) = (next, count + 1);
            }
            if taken == 0 {
                break;
            }
            let (records, after) = rest.split_at(taken);
            chain = self.frame(&chain, cipher, (records, count), out)?;
            total += u64::from(count);
            rest = after;
        }
        Ok((chain, total))
    }

    fn frame(
        &mut self,
        chain: &Chain,
        cipher: Option<&Cipher>,
        (records, count): (&[u8], u32),
        out: &mut Vec<u8>,
    ) -> io::Result<Chain> {
        let is_packed = records.len() >= WORTH_PACKING && self.pack(records)?;
        let (mut kind, body) =
            if is_packed { (PACKED, &self.packed[..]) } else { (PLAIN, records) };
        self.payload.clear();
        self.payload.extend_from_slice(&count.to_le_bytes());
        let len = u32::try_from(records.len()).unwrap_or(0);
        self.payload.extend_from_slice(&len.to_le_bytes());
        match cipher {
            Some(cipher) => {
                kind |= SEALED;
                self.payload.extend_from_slice(&cipher.seal(kind, body)?);
            }
            None => self.payload.extend_from_slice(body),
        }
        Ok(put(chain, kind, &self.payload, out))
    }

    /// Whether they are smaller packed.
    fn pack(&mut self, records: &[u8]) -> io::Result<bool> {
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(records.len()));
        self.compressor.compress_to_buffer(records, &mut self.packed)?;
        Ok(self.packed.len() + records.len() / 16 < records.len())
    }
}

/// Why a frame can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is not what this format makes.
    Form,
    /// It is of a kind that is not known.
    Kind,
    /// It is encrypted, and there is no key.
    Sealed,
}

/// How many records a frame has, by its own word: of what is encrypted without the key, nobody can say more.
pub(super) fn count(kind: u8, payload: &[u8]) -> Result<u64, Unreadable> {
    match kind & !SEALED {
        CHECKPOINT if kind == CHECKPOINT => Ok(0),
        OLD if kind == OLD => {
            let (mut rest, mut count) = (payload, 0);
            while !rest.is_empty() {
                (_, rest) = split_record(rest).ok_or(Unreadable::Form)?;
                count += 1;
            }
            Ok(count)
        }
        PLAIN | PACKED => {
            let (count, len, _) = counts(payload).ok_or(Unreadable::Form)?;
            // each record is led by four bytes at least
            let possible = count > 0 && len <= MAX_FRAME && count as usize <= len / 4;
            if possible { Ok(u64::from(count)) } else { Err(Unreadable::Form) }
        }
        _ => Err(Unreadable::Kind),
    }
}

fn counts(payload: &[u8]) -> Option<(u32, usize, &[u8])> {
    let (count, rest) = payload.split_first_chunk::<4>()?;
    let (len, body) = rest.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*count), u32::from_le_bytes(*len) as usize, body))
}

/// Unpacks frames.
pub(super) struct Unpacker {
    decompressor: Decompressor<'static>,
}

impl Unpacker {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { decompressor: Decompressor::new()? })
    }

    /// Puts a frame's records, each led by its length, into `out`: none for a checkpoint.
    pub(super) fn unpack(
        &mut self,
        cipher: Option<&Cipher>,
        (kind, payload): (u8, &[u8]),
        out: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        out.clear();
        let count = count(kind, payload)?;
        if kind == CHECKPOINT {
            return Ok(());
        }
        if kind == OLD {
            out.extend_from_slice(payload);
            return Ok(());
        }
        let (_, len, body) = counts(payload).ok_or(Unreadable::Form)?;
        let opened = if kind & SEALED == 0 {
            None
        } else {
            let cipher = cipher.ok_or(Unreadable::Sealed)?;
            Some(cipher.open(kind, body).ok_or(Unreadable::Form)?)
        };
        let body = opened.as_deref().unwrap_or(body);
        if kind & !SEALED == PACKED {
            out.reserve_exact(len);
            let unpacked = self.decompressor.decompress_to_buffer(body, out);
            unpacked.map_err(|_| Unreadable::Form)?;
        } else {
            out.extend_from_slice(body);
        }
        let (mut rest, mut found) = (&out[..], 0);
        while !rest.is_empty() {
            (_, rest) = split_record(rest).ok_or(Unreadable::Form)?;
            found += 1;
        }
        if out.len() == len && found == count { Ok(()) } else { Err(Unreadable::Form) }
    }
}

/// Longest payload that is believed.
pub(super) const MAX_PAYLOAD: usize = MAX_FRAME + COUNTS + SEALING;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::keys::{EncryptionKey, SegmentId};

    fn records(texts: &[Vec<u8>]) -> Vec<u8> {
        let mut all = Vec::new();
        for text in texts {
            all.extend_from_slice(&u32::try_from(text.len()).unwrap().to_le_bytes());
            all.extend_from_slice(text);
        }
        all
    }

    fn cipher() -> Cipher {
        let key = EncryptionKey::from_text(&b"ab".repeat(32)).unwrap();
        key.segment(&SegmentId { record: [1; 16], number: 1 }).unwrap().0
    }

    /// The kinds and payloads of frames one behind the other, the chain checked.
    fn split(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let (mut all, mut chain) = (Vec::new(), [0; 32]);
        while let Some((head, rest)) = bytes.split_at_checked(HEAD) {
            let len = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
            let (payload, next) = rest.split_at(len);
            chain = link(&chain, head[4], payload);
            assert_eq!(head[5..], chain);
            all.push((head[4], payload.to_vec()));
            bytes = next;
        }
        all
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let long = records(&vec![b"SELECT name FROM customers WHERE id = ?".to_vec(); 20_000]);
        let huge = records(&[vec![b'x'; 1 << 20], vec![b'y'; 10], vec![b'z'; 1 << 20]]);
        let (sealed, mut packer) = (cipher(), Packer::new().unwrap());
        for (all, kind, frames) in [
            (records(&[b"short".to_vec()]), PLAIN, 1),
            (long, PACKED, 4),
            (huge, PACKED, 3),
            (records(&[Vec::new(), Vec::new()]), PLAIN, 1),
        ] {
            for cipher in [None, Some(&sealed)] {
                let mut out = Vec::new();
                let (_, total) = packer.frames(&[0; 32], cipher, &all, &mut out).unwrap();
                let split = split(&out);
                assert_eq!(split.len(), frames);
                let kind = if cipher.is_some() { kind | SEALED } else { kind };
                assert!(split.iter().any(|(found, _)| *found == kind));
                let (mut unpacker, mut back, mut counted) = (Unpacker::new().unwrap(), vec![], 0);
                for (kind, payload) in split {
                    let mut out = Vec::new();
                    unpacker.unpack(cipher, (kind, &payload), &mut out).unwrap();
                    back.extend_from_slice(&out);
                    counted += count(kind, &payload).unwrap();
                    let without = unpacker.unpack(None, (kind, &payload), &mut out);
                    assert_eq!(without.is_err(), cipher.is_some());
                }
                assert!(back == all && counted == total);
            }
        }
    }

    /// A file that somebody made is refused, and takes no more room than a frame may.
    #[test]
    fn hostile_frames_are_refused() {
        let mut unpacker = Unpacker::new().unwrap();
        let mut out = Vec::new();
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
        let framed = |count: u32, len: u32, body: &[u8]| {
            [&count.to_le_bytes()[..], &len.to_le_bytes(), body].concat()
        };
        let zeros = zstd::bulk::compress(&[0; 8], 1).unwrap();
        assert_eq!(unpacker.unpack(None, (PACKED, &framed(2, 8, &zeros)), &mut out), Ok(()));
        for (kind, payload) in [
            (PACKED, framed(1, 64 << 20, &bomb)),
            (PACKED, framed(1, 4 << 20, &bomb)),
            (PACKED, framed(1, u32::MAX, &bomb)),
            (PACKED, framed(3, 8, &zeros)),
            (PACKED, framed(2, 12, &zeros)),
            (PACKED, framed(1, 100, b"no zstd")),
            (PLAIN, framed(1, 8, &[9, 0, 0, 0, 1, 2, 3, 4])),
            (PLAIN, framed(1, 4, &[0; 8])),
            (PLAIN, framed(0, 0, &[])),
            (PLAIN, framed(2, 4, &[0; 4])),
            (PLAIN, vec![1, 0, 0]),
            (OLD, vec![5, 0, 0, 0, 1]),
        ] {
            assert_eq!(unpacker.unpack(None, (kind, &payload), &mut out), Err(Unreadable::Form));
            assert!(out.capacity() <= MAX_FRAME);
        }
        for kind in [0, 5, OLD | SEALED, CHECKPOINT | SEALED, 0x20, 0xff] {
            assert_eq!(count(kind, &[0; 200]), Err(Unreadable::Kind), "{kind}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(kind: u8, payload: Vec<u8>) {
            let _ = Unpacker::new().unwrap().unpack(Some(&cipher()), (kind, &payload), &mut vec![]);
        }
    }
}
