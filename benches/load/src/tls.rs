//! TLS towards the server: every certificate is taken, since the servers are this benchmark's own.

use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Result, bail};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// How connections are secured.
#[derive(Clone)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// `none`; `full`: a whole handshake each time; `resumed`: sessions are taken up again.
    pub(crate) fn named(name: &str) -> Result<Option<Self>> {
        let resumption = match name {
            "none" => return Ok(None),
            "full" => Resumption::disabled(),
            "resumed" => Resumption::in_memory_sessions(16),
            other => bail!("TLS is none, full or resumed, not {other:?}"),
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let any = Arc::new(AnyCertificate(Arc::clone(&provider)));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(any)
            .with_no_client_auth();
        config.resumption = resumption;
        Ok(Some(Self(Arc::new(config))))
    }

    pub(crate) fn wrap(&self, socket: TcpStream) -> Result<TlsStream> {
        let name = ServerName::try_from("localhost")?;
        Ok(StreamOwned::new(ClientConnection::new(Arc::clone(&self.0), name)?, socket))
    }
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
