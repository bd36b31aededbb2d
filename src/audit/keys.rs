//! The record's keys: Ed25519 signs its checkpoints, and XChaCha20-Poly1305 hides its frames where that is asked for.
//!
//! A segment is encrypted under a key of its own, which its header has sealed under the configured one. Where the keys are
//! kept, and who may read them, is not known here: texts come in.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

/// What both kinds of key take.
const KEY: usize = 32;
const NONCE: usize = 24;
const TAG: usize = 16;
/// What goes before a public key's digits.
const PREFIX: &str = "ed25519:";

/// The system gives no random bytes, or the cipher refused.
fn refused<E>(_: E) -> io::Error {
    io::Error::other("the system gives no random bytes")
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(refused)?;
    Ok(bytes)
}

/// The id of a new record.
pub(super) fn new_id() -> io::Result<[u8; 16]> {
    random()
}

pub(super) fn digits(text: &[u8], out: &mut [u8]) -> Option<()> {
    let text = text.trim_ascii();
    if text.len() != 2 * out.len() {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(())
}

/// Signs checkpoints.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// The one that this text is: 64 hexadecimal digits. `None`: it is none.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        let mut seed = Zeroizing::new([0; KEY]);
        digits(text, seed.as_mut())?;
        // A file of zeros is not a key that anyone made.
        let seed = Some(seed).filter(|seed| seed.iter().any(|byte| *byte != 0))?;
        Self::from_seed(&seed)
    }

    /// A new one that is kept nowhere: for tests and benchmarks.
    pub fn generate() -> io::Result<Self> {
        let seed = Zeroizing::new(random()?);
        Self::from_seed(&seed).ok_or_else(|| refused(()))
    }

    fn from_seed(seed: &[u8; KEY]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public = PublicKey(pair.public_key().as_ref().try_into().ok()?);
        Some(Self { pair, public })
    }

    /// Makes one in a new file that only its owner reads.
    pub fn make(path: &Path) -> io::Result<()> {
        let seed: Zeroizing<[u8; KEY]> = Zeroizing::new(random()?);
        let mut text = Zeroizing::new(Vec::with_capacity(2 * KEY + 1));
        for byte in seed.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.push(b"0123456789abcdef"[usize::from(digit)]);
            }
        }
        text.push(b'\n');
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let written = file.write_all(&text).and_then(|()| file.sync_all());
        written.and_then(|()| sync_folder_of(path)).inspect_err(|_| {
            let _ = std::fs::remove_file(path);
        })
    }

    /// What tells its signatures.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        // Ed25519's signatures have 64 bytes; another length would not verify.
        self.pair.sign(message).as_ref().try_into().unwrap_or([0; 64])
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public)
    }
}

/// Tells a signing key's signatures: `ed25519:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(pub(super) [u8; KEY]);

impl PublicKey {
    /// Where the public key of a key in a file lies: beside it.
    pub fn beside(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".pub");
        PathBuf::from(name)
    }

    /// Writes it beside its key, for auditors, unless it is there.
    pub fn publish(&self, path: &Path) -> io::Result<()> {
        let place = Self::beside(path);
        let line = format!("{self}\n");
        if std::fs::read_to_string(&place).is_ok_and(|there| there == line) {
            return Ok(());
        }
        std::fs::write(place, line)
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut key = [0; KEY];
        let hex = text.trim().strip_prefix(PREFIX).ok_or(())?;
        digits(hex.as_bytes(), &mut key).ok_or(())?;
        Ok(Self(key))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl serde::Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Under which the segments' own keys are sealed.
#[derive(Clone)]
pub struct EncryptionKey {
    key: Zeroizing<[u8; KEY]>,
    id: [u8; 8],
}

impl EncryptionKey {
    /// The one that this text is: 64 hexadecimal digits, as `openssl rand -hex 32` makes them. `None`: it is none.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; KEY]);
        digits(text, key.as_mut())?;
        if key.iter().all(|byte| *byte == 0) {
            return None;
        }
        let digest = blake3::Hasher::new_derive_key("rowgate 2026-11 id of a record's key")
            .update(&*key)
            .finalize();
        let mut id = [0; 8];
        id.copy_from_slice(&digest.as_bytes()[..8]);
        Some(Self { key, id })
    }

    /// A new key for one segment, and what its header has of it.
    pub(super) fn segment(&self, id: &SegmentId) -> io::Result<(Cipher, Vec<u8>)> {
        let key: Zeroizing<[u8; KEY]> = Zeroizing::new(random()?);
        let sealed = seal(&cipher(&self.key), &key[..], &id.bytes(0))?;
        Ok((Cipher::new(&key, *id), [&self.id[..], &sealed].concat()))
    }

    /// Whether a header's key was sealed under this one.
    pub(super) fn fits(&self, sealed: &[u8]) -> bool {
        sealed.get(..8) == Some(&self.id)
    }

    pub(super) fn open(&self, id: &SegmentId, sealed: &[u8]) -> Option<Cipher> {
        let key = open(&cipher(&self.key), sealed.get(8..)?, &id.bytes(0))?;
        let key = Zeroizing::new(<[u8; KEY]>::try_from(key.as_slice()).ok()?);
        Some(Cipher::new(&key, *id))
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKey(…)")
    }
}

/// Which segment of which record: what is sealed in one can't be opened in another.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentId {
    pub(super) record: [u8; 16],
    pub(super) number: u64,
}

impl SegmentId {
    fn bytes(self, kind: u8) -> Vec<u8> {
        let mut bytes = b"rowgate segment\0".to_vec();
        bytes.extend_from_slice(&self.record);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.push(kind);
        bytes
    }
}

/// Longest sealed key of a header.
pub(super) const MAX_SEALED_KEY: usize = 8 + NONCE + KEY + TAG;
/// What sealing adds to a frame.
pub(super) const SEALING: usize = NONCE + TAG;

/// Hides the frames of one segment.
pub(super) struct Cipher {
    aead: XChaCha20Poly1305,
    /// For the words of the segment's index: who can't read the segment learns nothing from it.
    pub(super) index_key: [u8; KEY],
    id: SegmentId,
}

impl Cipher {
    fn new(key: &[u8; KEY], id: SegmentId) -> Self {
        let index_key = blake3::derive_key("rowgate 2026-11 words of a segment's index", key);
        Self { aead: cipher(key), index_key, id }
    }

    pub(super) fn seal(&self, kind: u8, plain: &[u8]) -> io::Result<Vec<u8>> {
        seal(&self.aead, plain, &self.id.bytes(kind))
    }

    pub(super) fn open(&self, kind: u8, sealed: &[u8]) -> Option<Vec<u8>> {
        open(&self.aead, sealed, &self.id.bytes(kind))
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(…)")
    }
}

fn cipher(key: &[u8; KEY]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.into())
}

/// The nonce is random: a frame that a crash tore is written anew at the same place.
fn seal(cipher: &XChaCha20Poly1305, plain: &[u8], bound: &[u8]) -> io::Result<Vec<u8>> {
    let nonce: [u8; NONCE] = random()?;
    let payload = Payload { msg: plain, aad: bound };
    let hidden = cipher.encrypt(&XNonce::from(nonce), payload).map_err(refused)?;
    Ok([&nonce[..], &hidden].concat())
}

fn open(cipher: &XChaCha20Poly1305, sealed: &[u8], bound: &[u8]) -> Option<Vec<u8>> {
    let (nonce, hidden) = sealed.split_first_chunk::<NONCE>()?;
    cipher.decrypt(&XNonce::from(*nonce), Payload { msg: hidden, aad: bound }).ok()
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// What a gateway's record is written with.
#[derive(Debug)]
pub struct Keys {
    /// Signs checkpoints.
    pub signing: SigningKey,
    /// Hides what is written; none: nothing is hidden.
    pub encryption: Option<EncryptionKey>,
}

impl Keys {
    /// A new key that is kept nowhere, and no encryption: for tests and benchmarks.
    pub fn generate() -> io::Result<Self> {
        Ok(Self { signing: SigningKey::generate()?, encryption: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_its_keys_and_its_messages() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing.key");
        SigningKey::make(&path).unwrap();
        assert!(SigningKey::make(&path).is_err(), "a key is not written over");
        let key = SigningKey::from_text(&std::fs::read(&path).unwrap()).unwrap();
        key.public().publish(&path).unwrap();
        let told = std::fs::read_to_string(dir.path().join("signing.key.pub")).unwrap();
        let public: PublicKey = told.parse().unwrap();
        assert_eq!((public, told.trim()), (key.public(), public.to_string().as_str()));
        let signature = key.sign(b"so far");
        assert!(public.verifies(b"so far", &signature));
        assert!(!public.verifies(b"so fat", &signature));
        assert!(!SigningKey::generate().unwrap().public().verifies(b"so far", &signature));
        for bad in ["", "ed25519:", "ed25519:12", &"a".repeat(64), &format!("{public}0")] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
        }
        for bad in ["", "hunter2", &"0".repeat(64), &"ab".repeat(31), &"g".repeat(64)] {
            assert!(SigningKey::from_text(bad.as_bytes()).is_none(), "{bad}");
            assert!(EncryptionKey::from_text(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let key = EncryptionKey::from_text(&b"ab".repeat(32)).unwrap();
        let other = EncryptionKey::from_text(&b"cd".repeat(32)).unwrap();
        let place = SegmentId { record: [1; 16], number: 7 };
        let (cipher, sealed) = key.segment(&place).unwrap();
        assert!(key.fits(&sealed) && !other.fits(&sealed) && sealed.len() == MAX_SEALED_KEY);
        let hidden = cipher.seal(2, b"who did what").unwrap();
        assert_eq!(hidden.len(), 12 + SEALING);
        let again = key.open(&place, &sealed).unwrap();
        assert_eq!(again.open(2, &hidden).unwrap(), b"who did what");
        assert!(again.open(3, &hidden).is_none(), "as another kind");
        assert!(key.open(&SegmentId { number: 8, ..place }, &sealed).is_none());
        assert!(other.open(&place, &sealed).is_none());
        for at in 0..hidden.len() {
            let mut changed = hidden.clone();
            changed[at] ^= 1;
            assert!(again.open(2, &changed).is_none(), "byte {at}");
        }
    }
}
