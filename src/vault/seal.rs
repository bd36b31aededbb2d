//! Credentials sealed for the store: XChaCha20-Poly1305 under the master key.
//!
//! What is sealed is bound to its target's name and to all of its settings, so that whoever can write to the store
//! can neither move a credential to another target nor have it sent to another host, under another pin.

use aws_lc_rs::rand::SecureRandom as _;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::key::{KeyId, MasterKey};
use super::{Login, VaultError};
use crate::secret::Secret;

/// The form of what is sealed: version, key's id, nonce, then the cipher's text and tag.
const VERSION: u8 = 1;
const ID: std::ops::Range<usize> = 1..9;
const NONCE: std::ops::Range<usize> = 9..33;

/// What a sealed credential belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// The target's name.
    pub name: &'a str,
    /// Its settings, to the letter as the store has them.
    pub settings: &'a str,
}

impl Bound<'_> {
    /// What the cipher vouches for beside what it hides.
    fn associated(self, id: KeyId) -> Vec<u8> {
        let mut all = b"rowgate sealed credential\0".to_vec();
        all.push(VERSION);
        all.extend_from_slice(&id.0);
        for part in [self.name, self.settings] {
            all.extend_from_slice(&(part.len() as u64).to_le_bytes());
            all.extend_from_slice(part.as_bytes());
        }
        all
    }
}

/// Seals what the gateway logs in with.
pub(super) fn seal(
    key: &MasterKey,
    bound: Bound<'_>,
    login: &Login,
) -> Result<Vec<u8>, VaultError> {
    let user = login.user.as_bytes();
    let password = login.password.expose();
    let user_len = u16::try_from(user.len()).map_err(|_| VaultError::Seal)?;
    let mut plain = Zeroizing::new(Vec::with_capacity(2 + user.len() + password.len()));
    plain.extend_from_slice(&user_len.to_le_bytes());
    plain.extend_from_slice(user);
    plain.extend_from_slice(password);
    let mut nonce = [0; NONCE.end - NONCE.start];
    let random = aws_lc_rs::rand::SystemRandom::new().fill(&mut nonce);
    random.map_err(|_| VaultError::NoRandomness)?;
    let associated = bound.associated(key.id());
    let payload = Payload { msg: &plain, aad: &associated };
    let hidden =
        cipher(key)?.encrypt(&XNonce::from(nonce), payload).map_err(|_| VaultError::Seal)?;
    let id = key.id().0;
    Ok([&[VERSION][..], &id, &nonce, &hidden].concat())
}

/// Under which key this was sealed; `None`: it is of a form that is not known.
pub fn sealed_under(sealed: &[u8]) -> Option<KeyId> {
    let id = sealed.get(ID)?.try_into().ok()?;
    (sealed.first() == Some(&VERSION)).then_some(KeyId(id))
}

/// Opens what was sealed under this key, for this target.
pub(super) fn open(key: &MasterKey, bound: Bound<'_>, sealed: &[u8]) -> Result<Login, VaultError> {
    let broken = || VaultError::Broken(bound.name.to_owned());
    let nonce = sealed.get(NONCE).and_then(|nonce| <[u8; 24]>::try_from(nonce).ok());
    let (nonce, hidden) = nonce.zip(sealed.get(NONCE.end..)).ok_or_else(broken)?;
    let associated = bound.associated(key.id());
    let payload = Payload { msg: hidden, aad: &associated };
    let plain = cipher(key)?.decrypt(&XNonce::from(nonce), payload).map_err(|_| broken())?;
    let plain = Zeroizing::new(plain);
    let (len, rest) = plain.split_first_chunk::<2>().ok_or_else(broken)?;
    let (user, password) =
        rest.split_at_checked(usize::from(u16::from_le_bytes(*len))).ok_or_else(broken)?;
    let user = String::from_utf8(user.to_vec()).map_err(|_| broken())?;
    Ok(Login { user, password: Secret::new(password.to_vec()) })
}

fn cipher(key: &MasterKey) -> Result<XChaCha20Poly1305, VaultError> {
    XChaCha20Poly1305::new_from_slice(key.expose()).map_err(|_| VaultError::Seal)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: Bound<'static> =
        Bound { name: "shop", settings: r#"{"address":"db:3306","user":"rowgate"}"# };

    fn login() -> Login {
        Login { user: "rowgate".into(), password: Secret::from("Zw\u{e9}rg-9182") }
    }

    #[test]
    fn what_is_sealed_opens_for_its_target_only() {
        let key = MasterKey::generate().unwrap();
        let sealed = seal(&key, SHOP, &login()).unwrap();
        let opened = open(&key, SHOP, &sealed).unwrap();
        assert_eq!(opened.user, "rowgate");
        assert_eq!(opened.password.expose(), login().password.expose());
        assert_eq!(sealed_under(&sealed), Some(key.id()));
        // The same twice is not the same.
        assert_ne!(seal(&key, SHOP, &login()).unwrap(), sealed);
        for other in [
            Bound { name: "shop2", ..SHOP },
            Bound { settings: r#"{"address":"evil:3306","user":"rowgate"}"#, ..SHOP },
            Bound { name: "shop{", settings: &SHOP.settings[1..] },
        ] {
            assert!(open(&key, other, &sealed).is_err(), "{other:?}");
        }
        assert!(open(&MasterKey::generate().unwrap(), SHOP, &sealed).is_err());
    }

    /// Each bit counts: of the version, the key's id, the nonce, the text, the tag.
    #[test]
    fn no_bit_of_it_can_be_changed() {
        let key = MasterKey::generate().unwrap();
        let sealed = seal(&key, SHOP, &login()).unwrap();
        for at in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[at / 8] ^= 1 << (at % 8);
            let found = sealed_under(&changed) == Some(key.id());
            assert!(!found || open(&key, SHOP, &changed).is_err(), "bit {at}");
        }
        for len in 0..sealed.len() {
            assert!(open(&key, SHOP, &sealed[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn nothing_of_it_is_to_be_read() {
        let key = MasterKey::generate().unwrap();
        let sealed = seal(&key, SHOP, &login()).unwrap();
        let shown = String::from_utf8_lossy(&sealed).into_owned();
        assert!(!shown.contains("9182") && !shown.contains("rowgate"));
        assert_eq!(format!("{:?}", login()), "Login { user: \"rowgate\", password: Secret(…) }");
    }
}
