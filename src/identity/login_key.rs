//! The gateway's RSA key, under which clients without TLS send a whole secret: caching_sha2_password's third way.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// A key pair.
pub struct LoginKey {
    private: OaepPrivateDecryptingKey,
    public_pem: Vec<u8>,
}

impl LoginKey {
    /// Makes one, for as long as the process lives. `None` when the system has no randomness to give.
    pub fn generate() -> Option<Self> {
        Self::of(PrivateDecryptingKey::generate(KeySize::Rsa2048).ok()?)
    }

    /// Reads one: PKCS#8 in PEM, of 2048 bits and more.
    pub fn from_pem(pem: &[u8]) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).ok()?;
        Self::of(PrivateDecryptingKey::from_pkcs8(der.secret_pkcs8_der()).ok()?)
    }

    fn of(private: PrivateDecryptingKey) -> Option<Self> {
        let der: PublicKeyX509Der<'_> = private.public_key().as_der().ok()?;
        let mut public_pem = b"-----BEGIN PUBLIC KEY-----\n".to_vec();
        for line in STANDARD.encode(der.as_ref()).as_bytes().chunks(64) {
            public_pem.extend_from_slice(line);
            public_pem.push(b'\n');
        }
        public_pem.extend_from_slice(b"-----END PUBLIC KEY-----\n");
        Some(Self { private: OaepPrivateDecryptingKey::new(private).ok()?, public_pem })
    }

    /// The public half, as clients are given it.
    pub fn public_pem(&self) -> &[u8] {
        &self.public_pem
    }

    /// The secret that a client sealed, masked with its connection's challenge so that it opens on no other.
    pub fn open(&self, sealed: &[u8], scramble: &[u8; 20]) -> Option<Secret> {
        let mut room = Zeroizing::new(vec![0; self.private.min_output_size()]);
        let masked = self.private.decrypt(&OAEP_SHA1_MGF1SHA1, sealed, &mut room, None).ok()?;
        masked.iter_mut().zip(scramble.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        let (0, secret) = masked.split_last()? else { return None };
        Some(Secret::new(secret.to_vec()))
    }
}

impl std::fmt::Debug for LoginKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoginKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rsa::{OaepPublicEncryptingKey, PublicEncryptingKey};
    use rustls_pki_types::SubjectPublicKeyInfoDer;

    fn sealed(key: &LoginKey, text: &[u8]) -> Vec<u8> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(key.public_pem()).unwrap();
        let public = PublicEncryptingKey::from_der(&der).unwrap();
        let public = OaepPublicEncryptingKey::new(public).unwrap();
        let mut out = vec![0; public.ciphertext_size()];
        public.encrypt(&OAEP_SHA1_MGF1SHA1, text, &mut out, None).unwrap();
        out
    }

    #[test]
    fn opens_what_was_sealed_for_this_challenge() {
        let key = LoginKey::generate().unwrap();
        let (ours, other) = ([7; 20], [9; 20]);
        let masked: Vec<u8> = b"rgt_a token longer than the challenge\0".map(|b| b ^ 7).to_vec();
        let sealed = sealed(&key, &masked);
        let opened = key.open(&sealed, &ours).unwrap();
        assert_eq!(opened.expose(), b"rgt_a token longer than the challenge");
        assert!(key.open(&sealed, &other).is_none());
        assert!(LoginKey::generate().unwrap().open(&sealed, &ours).is_none());
        for bad in [&b""[..], b"rgt_in clear\0", &[0; 256], &[0xFF; 4_000]] {
            assert!(key.open(bad, &ours).is_none());
        }
    }
}
