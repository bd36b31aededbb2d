//! The keys that an identity provider signs with, and the algorithms that count.

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
    VerificationAlgorithm,
};
use x509_parser::oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A public key. That a certificate is its wrapping says nothing: who has signed it, and its dates, are not looked at (as
/// the SAML metadata interoperability profile has it, section 2.5.1); that the operator named it is what counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    kind: KeyKind,
    public: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyKind {
    Rsa,
    Ec,
}

impl SigningKey {
    /// The key of a certificate (DER); `None` where it is none, or of a kind that is not checked here.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        let key = certificate.public_key();
        let kind = if key.algorithm.algorithm == OID_PKCS1_RSAENCRYPTION {
            KeyKind::Rsa
        } else if key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
            KeyKind::Ec
        } else {
            return None;
        };
        rest.is_empty().then(|| Self { kind, public: key.subject_public_key.data.to_vec() })
    }

    /// Whether it has signed these bytes.
    pub(super) fn has_signed(&self, how: Algorithm, bytes: &[u8], signature: &[u8]) -> bool {
        self.kind == how.kind
            && UnparsedPublicKey::new(how.verification, &self.public)
                .verify(bytes, signature)
                .is_ok()
    }
}

/// How something was signed.
#[derive(Clone, Copy)]
pub(super) struct Algorithm {
    kind: KeyKind,
    verification: &'static dyn VerificationAlgorithm,
}

impl Algorithm {
    /// The one of this name (RFC 9231). None has SHA-1, none is of a shared secret, none needs parameters.
    pub(super) fn of(uri: &str) -> Option<Self> {
        let name = uri.strip_prefix("http://www.w3.org/2001/04/xmldsig-more#")?;
        let (kind, verification): (_, &'static dyn VerificationAlgorithm) = match name {
            "rsa-sha256" => (KeyKind::Rsa, &RSA_PKCS1_2048_8192_SHA256),
            "rsa-sha384" => (KeyKind::Rsa, &RSA_PKCS1_2048_8192_SHA384),
            "rsa-sha512" => (KeyKind::Rsa, &RSA_PKCS1_2048_8192_SHA512),
            "ecdsa-sha256" => (KeyKind::Ec, &ECDSA_P256_SHA256_FIXED),
            "ecdsa-sha384" => (KeyKind::Ec, &ECDSA_P384_SHA384_FIXED),
            _ => return None,
        };
        Some(Self { kind, verification })
    }
}

/// The digest of this name (RFC 9231, 2.1; XML Encryption, 5.7).
pub(super) fn digest(uri: &str, bytes: &[u8]) -> Option<digest::Digest> {
    let algorithm = match uri {
        "http://www.w3.org/2001/04/xmlenc#sha256" => &SHA256,
        "http://www.w3.org/2001/04/xmldsig-more#sha384" => &SHA384,
        "http://www.w3.org/2001/04/xmlenc#sha512" => &SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, bytes))
}

#[cfg(test)]
impl SigningKey {
    /// An RSA key (PKCS#1), or else a point of an elliptic curve.
    pub(super) fn of_parts(is_rsa: bool, public: &[u8]) -> Self {
        let kind = if is_rsa { KeyKind::Rsa } else { KeyKind::Ec };
        Self { kind, public: public.to_vec() }
    }
}
