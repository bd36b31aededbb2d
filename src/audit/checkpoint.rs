//! Checkpoints: a signature over all that lies before, so that a record can't be made anew without the key.
//!
//! The payload of a checkpoint's frame: the public key (32 bytes), microseconds since the epoch (64 bits), how many records
//! the segment has so far (64 bits), and the Ed25519 signature over those two, the record's id, the segment's number and
//! the chain's value before the frame. Since each value of the chain rests on all before it, so does the signature.

use super::frame::Chain;
use super::keys::{PublicKey, SegmentId, SigningKey};

const LEN: usize = 32 + 8 + 8 + 64;

/// What a checkpoint vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) key: PublicKey,
    pub(super) at_us: i64,
    pub(super) records: u64,
}

fn message(id: SegmentId, chain: &Chain, at_us: i64, records: u64) -> Vec<u8> {
    let mut message = b"rowgate checkpoint 1\0".to_vec();
    message.extend_from_slice(&id.record);
    message.extend_from_slice(&id.number.to_le_bytes());
    message.extend_from_slice(chain);
    message.extend_from_slice(&at_us.to_le_bytes());
    message.extend_from_slice(&records.to_le_bytes());
    message
}

impl Checkpoint {
    /// The payload that vouches for this chain.
    pub(super) fn sign(
        key: &SigningKey,
        id: SegmentId,
        chain: &Chain,
        (at_us, records): (i64, u64),
    ) -> Vec<u8> {
        let signature = key.sign(&message(id, chain, at_us, records));
        let mut payload = Vec::with_capacity(LEN);
        payload.extend_from_slice(&key.public().0);
        payload.extend_from_slice(&at_us.to_le_bytes());
        payload.extend_from_slice(&records.to_le_bytes());
        payload.extend_from_slice(&signature);
        payload
    }

    /// What a payload says. `None`: it is not one of a checkpoint, or its signature is not over this chain.
    pub(super) fn read(payload: &[u8], id: SegmentId, chain: &Chain) -> Option<Self> {
        let payload: &[u8; LEN] = payload.try_into().ok()?;
        let (key, rest) = payload.split_first_chunk::<32>()?;
        let (at_us, rest) = rest.split_first_chunk::<8>()?;
        let (records, signature) = rest.split_first_chunk::<8>()?;
        let key = PublicKey(*key);
        let (at_us, records) = (i64::from_le_bytes(*at_us), u64::from_le_bytes(*records));
        let good = key.verifies(&message(id, chain, at_us, records), signature);
        good.then_some(Self { key, at_us, records })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bit_of_a_checkpoint_can_be_changed_nor_its_place() {
        let key = SigningKey::generate().unwrap();
        let place = SegmentId { record: [7; 16], number: 3 };
        let payload = Checkpoint::sign(&key, place, &[1; 32], (5, 6));
        let read = Checkpoint::read(&payload, place, &[1; 32]).unwrap();
        assert_eq!(read, Checkpoint { key: key.public(), at_us: 5, records: 6 });
        assert_eq!(Checkpoint::read(&payload, SegmentId { number: 4, ..place }, &[1; 32]), None);
        assert_eq!(
            Checkpoint::read(&payload, SegmentId { record: [8; 16], ..place }, &[1; 32]),
            None
        );
        assert_eq!(Checkpoint::read(&payload, place, &[2; 32]), None);
        for bit in 0..payload.len() * 8 {
            let mut changed = payload.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Checkpoint::read(&changed, place, &[1; 32]), None, "bit {bit}");
        }
        for len in 0..payload.len() {
            assert_eq!(Checkpoint::read(&payload[..len], place, &[1; 32]), None, "{len} bytes");
        }
    }
}
