//! Gateway tokens and session passwords: made, shown once, kept as verifiers only.

use aws_lc_rs::rand::SecureRandom as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Verifier;
use crate::secret::Secret;

/// A fresh token or session password: `rgt_` or `rgs_`, and 32 random bytes.
#[derive(Debug)]
pub struct NewToken {
    /// Its public id, for lists and revocation.
    pub id: String,
    /// What its holder will type; shown once.
    pub secret: Secret,
    /// What is stored.
    pub verifier: Verifier,
}

impl NewToken {
    /// Makes one. `None` when the system has no randomness to give.
    pub fn generate() -> Option<Self> {
        Self::named("rgt_", "tok_")
    }

    /// Makes a session password: as strong, and of another name, so that whoever finds one knows what it is.
    pub fn for_session() -> Option<Self> {
        Self::named("rgs_", "pwd_")
    }

    fn named(prefix: &str, id_prefix: &str) -> Option<Self> {
        let rng = aws_lc_rs::rand::SystemRandom::new();
        let (mut id, mut key) = ([0_u8; 6], [0_u8; 32]);
        rng.fill(&mut id).ok()?;
        rng.fill(&mut key).ok()?;
        let text = format!("{prefix}{}", URL_SAFE_NO_PAD.encode(key));
        zeroize::Zeroize::zeroize(&mut key);
        let secret = Secret::new(text.into_bytes());
        let verifier = Verifier::of(secret.expose());
        Some(Self { id: format!("{id_prefix}{}", blake3_hex(&id)), secret, verifier })
    }
}

fn blake3_hex(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_verify() {
        let (a, b) = (NewToken::generate().unwrap(), NewToken::generate().unwrap());
        assert_ne!(a.secret.expose(), b.secret.expose());
        assert!(a.secret.expose().starts_with(b"rgt_"));
        assert_eq!(a.secret.expose().len(), 4 + 43);
        assert_eq!(Verifier::of(a.secret.expose()), a.verifier);
        assert_ne!(a.verifier, b.verifier);
        let c = NewToken::for_session().unwrap();
        assert!(c.id.starts_with("pwd_") && c.secret.expose().starts_with(b"rgs_"));
        assert_eq!(c.secret.expose().len(), 4 + 43);
    }
}
