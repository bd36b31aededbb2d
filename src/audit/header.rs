//! What leads a segment's file, and why one can't be trusted.

use std::io::{self, Read};

use super::frame::Chain;
use super::keys::{MAX_SEALED_KEY, PublicKey, SegmentId};

const MAGIC: [u8; 7] = *b"RGSEG\0\0";
/// The format before: no packing, no checkpoints, no id. It is read, and not written any more.
pub(super) const OLD_VERSION: u8 = 2;
/// The format that is written.
pub(super) const VERSION: u8 = 3;
/// Magic, version, number, chain, time.
const OLD_HEADER: usize = 8 + 8 + 32 + 8;
/// And the record's id, and the length of the sealed key.
const HEADER: usize = OLD_HEADER + 16 + 2;

/// What leads a segment.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) version: u8,
    pub(super) number: u64,
    /// The chain's value that it claims for what came before.
    pub(super) before: Chain,
    pub(super) made_us: i64,
    /// The record's id; zeros in the old format.
    pub(super) record: [u8; 16],
    /// The segment's own key, sealed; empty: its frames are not encrypted.
    pub(super) sealed: Vec<u8>,
}

impl Header {
    pub(super) fn id(&self) -> SegmentId {
        SegmentId { record: self.record, number: self.number }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + MAX_SEALED_KEY);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(self.version);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.before);
        bytes.extend_from_slice(&self.made_us.to_le_bytes());
        bytes.extend_from_slice(&self.record);
        let sealed = u16::try_from(self.sealed.len()).unwrap_or(0);
        bytes.extend_from_slice(&sealed.to_le_bytes());
        bytes.extend_from_slice(&self.sealed);
        bytes
    }

    /// Reads one from the start of a file of so many bytes: with its length, and the chain's value behind it.
    pub(super) fn read(file: &mut impl Read, len: u64) -> Result<(Self, u64, Chain), SegmentError> {
        let mut bytes = vec![0; HEADER + MAX_SEALED_KEY];
        let mut fill = |bytes: &mut [u8]| match file.read_exact(bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(SegmentError::Short(len))
            }
            other => other.map_err(SegmentError::Io),
        };
        fill(&mut bytes[..OLD_HEADER])?;
        let (version, mut end) = (bytes[7], OLD_HEADER);
        if bytes[..7] != MAGIC || ![OLD_VERSION, VERSION].contains(&version) {
            return Err(SegmentError::Header);
        }
        let mut sealed = 0;
        if version == VERSION {
            fill(&mut bytes[end..HEADER])?;
            sealed = usize::from(u16::from_le_bytes([bytes[HEADER - 2], bytes[HEADER - 1]]));
            end = HEADER + sealed;
            if sealed != 0 && sealed != MAX_SEALED_KEY {
                return Err(SegmentError::Header);
            }
            fill(&mut bytes[HEADER..end])?;
        }
        bytes.truncate(end);
        let field = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at..at + 8]);
            field
        };
        let (mut before, mut record) = ([0; 32], [0; 16]);
        before.copy_from_slice(&bytes[16..48]);
        if version == VERSION {
            record.copy_from_slice(&bytes[OLD_HEADER..OLD_HEADER + 16]);
        }
        let header = Self {
            version,
            number: u64::from_le_bytes(field(8)),
            before,
            made_us: i64::from_le_bytes(field(48)),
            record,
            sealed: bytes[end - sealed..].to_vec(),
        };
        Ok((header, end as u64, *blake3::hash(&bytes).as_bytes()))
    }
}

/// Why a segment can't be trusted.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// It can't be read.
    #[error("can't be read: {0}")]
    Io(#[from] io::Error),
    /// Its header is not one.
    #[error("has no valid header")]
    Header,
    /// It is shorter than a header, so it holds no record: a crash in the moment of its making leaves that.
    #[error("is cut short within its header")]
    Short(u64),
    /// A frame's chain value does not follow.
    #[error("was changed at byte {0}")]
    Changed(u64),
    /// A frame of another Rowgate, or of nobody's.
    #[error("has a frame of an unknown kind at byte {0}; read it with the Rowgate that wrote it")]
    Kind(u64),
    /// A frame's contents are not of the format.
    #[error("has a frame at byte {0} whose contents are not of the format")]
    Form(u64),
    /// A checkpoint vouches for something else.
    #[error(
        "has a checkpoint at byte {0} whose signature is wrong: somebody made it without the key"
    )]
    Signature(u64),
    /// A checkpoint by somebody else.
    #[error(
        "has a checkpoint at byte {0} by {1}, a key that was not named; name it with --key if it was yours"
    )]
    Signer(u64, PublicKey),
    /// It is encrypted.
    #[error(
        "is encrypted, and its key is not here; name it as audit.encryption_key, or among audit.old_encryption_keys"
    )]
    Sealed,
}
