//! TLS settings for both legs: certificates read, verifiers chosen. No I/O: PEM text comes in.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;

use crate::config;
use crate::secret;
use crate::session::upstream::Channel;

/// Names whose sessions are kept for resumption, towards one database: there is one, and rustls asks for a few more.
const UPSTREAM_SESSIONS: usize = 8;

/// What is wrong with a certificate, key or pin.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM can't be read.
    #[error("{0}")]
    Pem(String),
    /// The mode needs something that is missing.
    #[error("{0}")]
    Missing(&'static str),
    /// rustls refused it.
    #[error("{0}")]
    Refused(String),
}

/// TLS towards a database.
#[derive(Clone, Debug)]
pub enum UpstreamTls {
    /// None: loopback and Unix sockets only.
    Off,
    /// Always; the connection fails where the server has none.
    On {
        /// With the verifier inside.
        config: Arc<ClientConfig>,
        /// The name to ask for.
        name: ServerName<'static>,
    },
}

impl UpstreamTls {
    /// How the gateway's password is protected on its way to this address.
    pub(super) fn channel(&self, address: &str) -> Channel {
        match self {
            Self::On { .. } => Channel::Tls,
            Self::Off if super::target::socket_path(address).is_some() => Channel::Local,
            Self::Off => Channel::Plain,
        }
    }
}

/// The client-side settings from a PEM chain and key. With `clients`, the PEM bundle that their certificates must
/// lead to, they are asked for one.
pub fn server_config(
    certificate: &[u8],
    key: &[u8],
    clients: Option<(&[u8], config::ClientCertificates)>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = match clients {
        None => WebPkiClientVerifier::no_client_auth(),
        Some((ca, need)) => {
            let roots = Arc::new(roots(Some(ca))?);
            let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let builder = match need {
                config::ClientCertificates::Optional => builder.allow_unauthenticated(),
                config::ClientCertificates::Required => builder,
            };
            builder.build().map_err(|error| TlsError::Refused(error.to_string()))?
        }
    };
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| TlsError::Pem(format!("the key can't be read: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(refused)?;
    // Stateless, so that no client can fill a cache; rustls changes the keys by itself every six hours. They belong to
    // this certificate: what was agreed under another one does not resume.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(refused)?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    // Drivers that resume use the newest one; each costs a record of the handshake.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// The settings towards a database: `host` is its name or address, `ca` a PEM bundle, `pin` is `sha256:…`.
pub fn upstream_config(
    mode: &config::UpstreamTls,
    host: &str,
    ca: Option<&[u8]>,
    pin: Option<&str>,
) -> Result<UpstreamTls, TlsError> {
    let verifier: Arc<dyn ServerCertVerifier> = match mode {
        config::UpstreamTls::Off => return Ok(UpstreamTls::Off),
        config::UpstreamTls::VerifyIdentity => {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots(ca)?), provider())
                .build()
                .map_err(|error| TlsError::Refused(error.to_string()))?
        }
        config::UpstreamTls::VerifyCa => {
            Arc::new(Verifier { check: Check::Chain(roots(ca)?), provider: provider() })
        }
        config::UpstreamTls::Pin => {
            Arc::new(Verifier { check: Check::Pin(parse_pin(pin)?), provider: provider() })
        }
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| TlsError::Refused(format!("{host} is no name that TLS can ask for")))?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    // All workers share it: a new connection to a database that one of them has seen skips the certificates.
    config.resumption = Resumption::in_memory_sessions(UPSTREAM_SESSIONS);
    Ok(UpstreamTls::On { config: Arc::new(config), name })
}

/// A certificate's digest, as `pin` has it.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    digest.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[allow(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn refused(error: rustls::Error) -> TlsError {
    TlsError::Refused(error.to_string())
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem(format!("the certificates can't be read: {error}")))?;
    if chain.is_empty() {
        return Err(TlsError::Pem("there is no certificate in it".to_owned()));
    }
    Ok(chain)
}

fn roots(ca: Option<&[u8]>) -> Result<RootCertStore, TlsError> {
    let ca = ca.ok_or(TlsError::Missing("tls_ca is missing: give the PEM bundle to trust"))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(refused)?;
    }
    Ok(roots)
}

/// `sha256:` and 64 hexadecimal digits, with or without colons between the bytes.
fn parse_pin(pin: Option<&str>) -> Result<[u8; 32], TlsError> {
    let bad = TlsError::Missing("tls_pin is missing or not sha256: and 64 hexadecimal digits");
    let Some(digits) = pin.and_then(|pin| pin.strip_prefix("sha256:")) else { return Err(bad) };
    let digits: Option<Vec<u32>> =
        digits.chars().filter(|c| *c != ':').map(|c| c.to_digit(16)).collect();
    let Some(digits) = digits.filter(|digits| digits.len() == 64) else { return Err(bad) };
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(pair[0] * 16 + pair[1]).unwrap_or_default();
    }
    Ok(digest)
}

/// Checks a database's certificate otherwise than by chain and name together.
#[derive(Debug)]
struct Verifier {
    check: Check,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Check {
    /// `verify-ca`: the chain must lead to our bundle; the name may be any.
    Chain(RootCertStore),
    /// `pin`: this certificate and no other. MySQL's own certificates have no name to verify.
    Pin([u8; 32]),
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.check {
            Check::Chain(roots) => rustls::client::verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?,
            Check::Pin(pin) => {
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, end_entity);
                if !secret::equal(digest.as_ref(), pin) {
                    return Err(CertificateError::ApplicationVerificationFailure.into());
                }
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins() {
        let digits = "0a".repeat(32);
        assert_eq!(parse_pin(Some(&format!("sha256:{digits}"))).unwrap(), [10; 32]);
        let colons = vec!["0A"; 32].join(":");
        assert_eq!(parse_pin(Some(&format!("sha256:{colons}"))).unwrap(), [10; 32]);
        for bad in [None, Some("sha256:"), Some("0a"), Some("sha1:0a"), Some("sha256:zz")] {
            assert!(parse_pin(bad).is_err(), "{bad:?}");
        }
        assert!(parse_pin(Some(&format!("sha256:{digits}0"))).is_err());
    }

    #[test]
    fn modes_that_lack_their_input_are_refused() {
        for mode in [config::UpstreamTls::VerifyIdentity, config::UpstreamTls::VerifyCa] {
            assert!(upstream_config(&mode, "db", None, None).is_err());
            assert!(upstream_config(&mode, "db", Some(b"no PEM"), None).is_err());
        }
        let off = upstream_config(&config::UpstreamTls::Off, "db", None, None).unwrap();
        assert!(matches!(off, UpstreamTls::Off));
    }
}
