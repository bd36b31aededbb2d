//! The request for a sign-in, and the signature over its redirect (SAML 2.0 Bindings, section 3.4.4.1).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::xml::{ASSERTION, PROTOCOL, escaped};
use super::{ServiceProvider, SigningKey};

/// Signs requests: RSA with SHA-256, which every provider knows.
pub struct RequestKey {
    pair: RsaKeyPair,
    certificate: Option<Vec<u8>>,
}

impl std::fmt::Debug for RequestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RequestKey(…)")
    }
}

impl RequestKey {
    /// The name of its algorithm.
    pub const ALGORITHM: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";

    /// Reads one: PKCS#8 in PEM, and the certificate for the metadata, in which providers look for the key.
    pub fn from_pem(key: &[u8], certificate: Option<&[u8]>) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(key).ok()?;
        let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()?;
        let certificate = match certificate {
            None => None,
            Some(pem) => {
                let der = CertificateDer::from_pem_slice(pem).ok()?.to_vec();
                SigningKey::of_certificate(&der)?;
                Some(der)
            }
        };
        Some(Self { pair, certificate })
    }

    pub(super) fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// Signs the query of a redirect. `None` when the system has no randomness to give.
    pub fn sign(&self, query: &str) -> Option<Vec<u8>> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let random = SystemRandom::new();
        self.pair.sign(&RSA_PKCS1_SHA256, &random, query.as_bytes(), &mut signature).ok()?;
        Some(signature)
    }
}

impl ServiceProvider {
    /// The request for a sign-in with this id, which must be new and unguessable.
    pub fn request(&self, id: &str, now_us: i64) -> String {
        let instant = jiff::Timestamp::from_microsecond(now_us).unwrap_or_default();
        // One format can be asked for; of several, the provider chooses.
        let policy = match (&self.subject, self.name_id_formats.as_slice()) {
            (None, [format]) => {
                format!("<samlp:NameIDPolicy Format=\"{}\" AllowCreate=\"true\"/>", escaped(format))
            }
            _ => String::new(),
        };
        format!(
            "<samlp:AuthnRequest xmlns:samlp=\"{PROTOCOL}\" xmlns:saml=\"{ASSERTION}\" ID=\"{id}\" \
             Version=\"2.0\" IssueInstant=\"{instant:.0}\" Destination=\"{to}\" \
             AssertionConsumerServiceURL=\"{acs}\" \
             ProtocolBinding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\">\
             <saml:Issuer>{entity}</saml:Issuer>{policy}</samlp:AuthnRequest>",
            id = escaped(id),
            to = escaped(&self.provider.sso_url),
            acs = escaped(&self.acs_url),
            entity = escaped(&self.entity_id),
        )
    }
}
