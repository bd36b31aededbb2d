//! What the gateway answers to a database's challenge, by plugin: the password itself never leaves in clear.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512, digest};
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

/// Bytes of client_ed25519's challenge.
pub(super) const NONCE_LEN: usize = 32;

/// mysql_native_password: SHA1(password) under a mask of the scramble and SHA1(SHA1(password)).
pub(super) fn native(password: &[u8], scramble: &[u8; 20]) -> Vec<u8> {
    let hash = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let first = hash(password);
    let second = hash(first.as_ref());
    let mask = hash(&[&scramble[..], second.as_ref()].concat());
    xor(first.as_ref(), mask.as_ref())
}

/// caching_sha2_password's fast path: the same with SHA256, the parts of the mask in the other order.
pub(super) fn caching_sha2(password: &[u8], scramble: &[u8; 20]) -> Vec<u8> {
    let hash = |parts: &[&[u8]]| {
        let mut context = Context::new(&SHA256);
        parts.iter().for_each(|part| context.update(part));
        context.finish()
    };
    let first = hash(&[password]);
    let second = hash(&[first.as_ref()]);
    let mask = hash(&[second.as_ref(), scramble]);
    xor(first.as_ref(), mask.as_ref())
}

/// client_ed25519: an Ed25519 signature of the challenge whose key is SHA512(password), where Ed25519 proper takes
/// SHA512 of a 32-byte seed.
pub(super) fn ed25519(password: &[u8], nonce: &[u8; NONCE_LEN]) -> [u8; 64] {
    let wide = |parts: &[&[u8]]| {
        let mut context = Context::new(&SHA512);
        parts.iter().for_each(|part| context.update(part));
        let mut out = Zeroizing::new([0; 64]);
        out.copy_from_slice(context.finish().as_ref());
        out
    };
    let expanded = wide(&[password]);
    let (secret, prefix) = expanded.split_at(32);
    let mut clamped = Zeroizing::new([0; 32]);
    clamped.copy_from_slice(secret);
    let secret = Zeroizing::new(Scalar::from_bytes_mod_order(clamp_integer(*clamped)));
    let public = EdwardsPoint::mul_base(&secret).compress();
    let once = Zeroizing::new(Scalar::from_bytes_mod_order_wide(&wide(&[prefix, nonce])));
    let commitment = EdwardsPoint::mul_base(&once).compress();
    let challenge = wide(&[commitment.as_bytes(), public.as_bytes(), nonce]);
    let answer = Scalar::from_bytes_mod_order_wide(&challenge) * *secret + *once;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(commitment.as_bytes());
    signature[32..].copy_from_slice(answer.as_bytes());
    signature
}

/// The password with its NUL, masked with the scramble, under the server's public key. `None`: that is no RSA key.
pub(super) fn rsa(password: &[u8], scramble: &[u8; 20], pem: &[u8]) -> Option<Vec<u8>> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&der).ok()?).ok()?;
    let mut masked = Zeroizing::new(Vec::with_capacity(password.len() + 1));
    masked.extend_from_slice(password);
    masked.push(0);
    masked.iter_mut().zip(scramble.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    let mut encrypted = vec![0; key.ciphertext_size()];
    let len = key.encrypt(&OAEP_SHA1_MGF1SHA1, &masked, &mut encrypted, None).ok()?.len();
    encrypted.truncate(len);
    Some(encrypted)
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a key that is a hash of a seed, as Ed25519 proper has it, the signature is one that others verify.
    #[test]
    fn ed25519_signs() {
        use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
        let password = b"any password, of any length whatever";
        let nonce = [7; NONCE_LEN];
        let signature = ed25519(password, &nonce);
        let expanded = digest(&SHA512, password);
        let clamped = clamp_integer(expanded.as_ref()[..32].try_into().unwrap());
        let public = EdwardsPoint::mul_base_clamped(clamped).compress();
        let key = UnparsedPublicKey::new(&ED25519, public.as_bytes());
        key.verify(&nonce, &signature).unwrap();
        key.verify(&[8; NONCE_LEN], &signature).unwrap_err();
    }
}
