//! TLS records ↔ plaintext, over rustls's unbuffered API: what arrives is decrypted out of the receive buffer,
//! what leaves is sealed into one buffer and sent at once. Holds no buffer while nothing is on its way.
//!
//! No I/O: [`super::io::Leg`] moves the bytes.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, ServerConfig};

/// What a sealed record adds at most: header, content type, tag (TLS 1.2 with an explicit nonce adds the most).
const RECORD_OVERHEAD: usize = 64;

/// The longest plaintext of a record.
const RECORD: usize = 16 << 10;

/// The peer broke TLS, or failed its checks.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsFault {
    /// rustls said no.
    #[error("TLS: {0}")]
    Refused(#[from] rustls::Error),
    /// A state that only early data or a defect leads to.
    #[error("TLS: an unexpected state")]
    State,
}

/// One connection's TLS.
pub(super) struct Records {
    machine: Machine,
    /// Ciphertext that has arrived; empty, without memory, once all of it was whole records.
    pub(super) incoming: Vec<u8>,
    /// Ciphertext to send.
    pub(super) outgoing: Vec<u8>,
    /// The peer closed its direction.
    pub(super) closed: bool,
    /// The handshake is over: data can be sealed.
    pub(super) ready: bool,
}

enum Machine {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What one look at the incoming records led to.
struct Turn {
    discard: usize,
    /// Nothing more can be done without more bytes.
    blocked: bool,
    /// Data can be sealed.
    ready: bool,
}

impl Records {
    /// The gateway's side towards a client. `received` are the bytes that came after the client's SSLRequest.
    pub(super) fn server(config: Arc<ServerConfig>, received: &[u8]) -> Result<Self, TlsFault> {
        let machine = Machine::Server(Box::new(UnbufferedServerConnection::new(config)?));
        Ok(Self {
            machine,
            incoming: received.to_vec(),
            outgoing: Vec::new(),
            closed: false,
            ready: false,
        })
    }

    /// The gateway's side towards a database. The first flight waits in `outgoing`.
    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, TlsFault> {
        let machine = Machine::Client(Box::new(UnbufferedClientConnection::new(config, name)?));
        let mut records = Self {
            machine,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            closed: false,
            ready: false,
        };
        records.open(&mut Vec::new())?;
        Ok(records)
    }

    /// Works through what has arrived: plaintext is appended to `plain`, answers to `outgoing`.
    pub(super) fn open(&mut self, plain: &mut Vec<u8>) -> Result<(), TlsFault> {
        self.work(plain, &[])
    }

    /// Seals `data` into `outgoing`. Only after the handshake.
    pub(super) fn seal(&mut self, data: &[u8]) -> Result<(), TlsFault> {
        // Records that arrived were opened before; a key update may make this yield plaintext-less steps.
        let mut nothing = Vec::new();
        self.work(&mut nothing, data)?;
        if nothing.is_empty() { Ok(()) } else { Err(TlsFault::State) }
    }

    /// The fingerprint of the client's certificate, if it showed one.
    pub(super) fn client_certificate(&self) -> Option<&CertificateDer<'static>> {
        let Machine::Server(server) = &self.machine else { return None };
        server.peer_certificates()?.first()
    }

    fn work(&mut self, plain: &mut Vec<u8>, data: &[u8]) -> Result<(), TlsFault> {
        let Self { machine, incoming, outgoing, closed, ready } = self;
        let mut from = 0;
        let mut rest = data;
        loop {
            let unread = incoming.get_mut(from..).unwrap_or_default();
            let turn = match machine {
                Machine::Server(server) => {
                    let status = server.process_tls_records(unread);
                    Self::turn(status, plain, outgoing, closed, &mut rest)?
                }
                Machine::Client(client) => {
                    let status = client.process_tls_records(unread);
                    Self::turn(status, plain, outgoing, closed, &mut rest)?
                }
            };
            from += turn.discard;
            if turn.blocked {
                *ready |= turn.ready;
                break;
            }
        }
        incoming.drain(..from.min(incoming.len()));
        if rest.is_empty() { Ok(()) } else { Err(TlsFault::State) }
    }

    fn turn<Data>(
        status: UnbufferedStatus<'_, '_, Data>,
        plain: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
        closed: &mut bool,
        rest: &mut &[u8],
    ) -> Result<Turn, TlsFault> {
        let UnbufferedStatus { mut discard, state } = status;
        let (mut blocked, mut ready) = (false, false);
        match state? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
            }
            ConnectionState::EncodeTlsData(data) => encode(data, outgoing)?,
            // `outgoing` is sent before anything else happens on this connection.
            ConnectionState::TransmitTlsData(sent) => sent.done(),
            ConnectionState::WriteTraffic(traffic) => {
                if !rest.is_empty() {
                    encrypt(traffic, rest, outgoing)?;
                    *rest = &[];
                }
                (blocked, ready) = (true, true);
            }
            ConnectionState::BlockedHandshake => blocked = true,
            ConnectionState::PeerClosed => *closed = true,
            ConnectionState::Closed => {
                *closed = true;
                blocked = true;
            }
            _ => return Err(TlsFault::State),
        }
        Ok(Turn { discard, blocked, ready })
    }
}

/// Appends a handshake record.
fn encode<Data>(mut data: EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) -> Result<(), TlsFault> {
    let at = outgoing.len();
    let mut room = RECORD_OVERHEAD;
    loop {
        outgoing.resize(at + room, 0);
        match data.encode(&mut outgoing[at..]) {
            Ok(written) => {
                outgoing.truncate(at + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needs)) if needs.required_size > room => {
                room = needs.required_size;
            }
            Err(_) => return Err(TlsFault::State),
        }
    }
}

/// Appends all of `data`, in records of 16 KiB.
fn encrypt<Data>(
    mut traffic: WriteTraffic<'_, Data>,
    data: &[u8],
    outgoing: &mut Vec<u8>,
) -> Result<(), TlsFault> {
    let at = outgoing.len();
    let mut room = data.len() + (data.len() / RECORD + 1) * RECORD_OVERHEAD;
    loop {
        outgoing.resize(at + room, 0);
        match traffic.encrypt(data, &mut outgoing[at..]) {
            Ok(written) => {
                outgoing.truncate(at + written);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(needs)) if needs.required_size > room => {
                room = needs.required_size;
            }
            Err(_) => return Err(TlsFault::State),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::net::tls;

    /// A self-signed certificate for `localhost`: server settings, and its PEM.
    pub(in crate::net) fn certificate() -> (Arc<ServerConfig>, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        (tls::server_config(pem.as_bytes(), key.as_bytes(), None).unwrap(), pem)
    }

    fn client(
        mode: &crate::config::UpstreamTls,
        pem: &str,
        host: &str,
        pin: Option<&str>,
    ) -> Records {
        match tls::upstream_config(mode, host, Some(pem.as_bytes()), pin).unwrap() {
            tls::UpstreamTls::On { config, name } => Records::client(config, name).unwrap(),
            tls::UpstreamTls::Off => unreachable!("TLS was asked for"),
        }
    }

    /// Carries bytes between the two, `chunk` at a time, until both are quiet.
    fn exchange(a: &mut Records, b: &mut Records, chunk: usize) -> Result<[Vec<u8>; 2], TlsFault> {
        let mut plain = [Vec::new(), Vec::new()];
        loop {
            let (to_b, to_a) = (std::mem::take(&mut a.outgoing), std::mem::take(&mut b.outgoing));
            if to_a.is_empty() && to_b.is_empty() {
                return Ok(plain);
            }
            for part in to_b.chunks(chunk) {
                b.incoming.extend_from_slice(part);
                b.open(&mut plain[1])?;
            }
            for part in to_a.chunks(chunk) {
                a.incoming.extend_from_slice(part);
                a.open(&mut plain[0])?;
            }
        }
    }

    #[test]
    fn both_directions_in_any_chunking() {
        let (server, pem) = certificate();
        let sent: Vec<u8> = (0..100_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        for chunk in [1_usize, 7, 500, 20_000] {
            let mut a =
                client(&crate::config::UpstreamTls::VerifyIdentity, &pem, "localhost", None);
            let mut b = Records::server(Arc::clone(&server), &[]).unwrap();
            exchange(&mut a, &mut b, chunk).unwrap();
            a.seal(&sent).unwrap();
            b.seal(b"short").unwrap();
            let [at_a, at_b] = exchange(&mut a, &mut b, chunk).unwrap();
            assert!(at_b == sent, "chunks of {chunk}");
            assert_eq!(at_a, b"short");
            assert!(a.incoming.is_empty() && b.incoming.is_empty());
        }
    }

    fn handshakes(mode: &crate::config::UpstreamTls, host: &str, pin: Option<&str>) -> bool {
        let (server, pem) = certificate();
        let own_pin = || {
            let der = <rustls::pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(
                pem.as_bytes(),
            );
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der.unwrap());
            digest
                .as_ref()
                .iter()
                .fold("sha256:".to_owned(), |pin, byte| format!("{pin}{byte:02x}"))
        };
        let pin = if pin == Some("own") { Some(own_pin()) } else { pin.map(str::to_owned) };
        let mut a = client(mode, &pem, host, pin.as_deref());
        let mut b = Records::server(server, &[]).unwrap();
        exchange(&mut a, &mut b, 4_096).is_ok()
    }

    #[test]
    fn names_chains_and_pins_are_checked() {
        use crate::config::UpstreamTls::{Pin, VerifyCa, VerifyIdentity};
        assert!(handshakes(&VerifyIdentity, "localhost", None));
        assert!(!handshakes(&VerifyIdentity, "elsewhere", None));
        assert!(handshakes(&VerifyCa, "elsewhere", None));
        assert!(handshakes(&Pin, "elsewhere", Some("own")));
        assert!(!handshakes(&Pin, "localhost", Some(&format!("sha256:{}", "00".repeat(32)))));
    }

    #[test]
    fn another_chain_is_refused() {
        let (server, _) = certificate();
        let (_, other) = certificate();
        let mut a = client(&crate::config::UpstreamTls::VerifyCa, &other, "localhost", None);
        let mut b = Records::server(server, &[]).unwrap();
        assert!(exchange(&mut a, &mut b, 4_096).is_err());
    }

    fn full_or_resumed(records: &Records) -> Option<rustls::HandshakeKind> {
        match &records.machine {
            Machine::Server(server) => server.handshake_kind(),
            Machine::Client(client) => client.handshake_kind(),
        }
    }

    /// Settings for a client that speaks this version only.
    fn only(version: &'static rustls::SupportedProtocolVersion, pem: &str) -> Arc<ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        let der = rustls_pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).unwrap();
        roots.add(der).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_protocol_versions(&[version]).unwrap();
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    }

    #[test]
    fn the_second_handshake_resumes_the_first_in_both_versions() {
        use rustls::HandshakeKind::{Full, Resumed};
        let (server, pem) = certificate();
        let (another, _) = certificate();
        let handshake = |config: &Arc<ClientConfig>, server: &Arc<ServerConfig>| {
            let name = ServerName::try_from("localhost").unwrap();
            let mut a = Records::client(Arc::clone(config), name).unwrap();
            let mut b = Records::server(Arc::clone(server), &[]).unwrap();
            exchange(&mut a, &mut b, 4_096).ok()?;
            Some((full_or_resumed(&a)?, full_or_resumed(&b)?))
        };
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let config = only(version, &pem);
            assert_eq!(handshake(&config, &server), Some((Full, Full)));
            assert_eq!(handshake(&config, &server), Some((Resumed, Resumed)));
            // A ticket opens nothing under another certificate: there the chain is checked, and refused.
            assert_eq!(handshake(&config, &another), None);
        }
        let mode = crate::config::UpstreamTls::VerifyIdentity;
        let ours = tls::upstream_config(&mode, "localhost", Some(pem.as_bytes()), None).unwrap();
        let tls::UpstreamTls::On { config, .. } = ours else { unreachable!("TLS was asked for") };
        assert_eq!(handshake(&config, &server), Some((Full, Full)));
        assert_eq!(handshake(&config, &server), Some((Resumed, Resumed)));
    }

    #[test]
    fn a_batch_of_small_packets_is_sealed_into_whole_records() {
        let (server, pem) = certificate();
        let mut a = client(&crate::config::UpstreamTls::VerifyIdentity, &pem, "localhost", None);
        let mut b = Records::server(server, &[]).unwrap();
        exchange(&mut a, &mut b, 4_096).unwrap();
        // What one write of the pump holds: a thousand rows of 64 bytes.
        b.seal(&vec![7; 64_000]).unwrap();
        let mut lengths = Vec::new();
        let mut rest = b.outgoing.as_slice();
        while let [_, _, _, high, low, ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            lengths.push(length);
            rest = &rest[5 + length..];
        }
        assert_eq!(lengths.len(), 64_000_usize.div_ceil(RECORD));
        assert!(lengths[..3].iter().all(|length| *length >= RECORD));
    }
}
