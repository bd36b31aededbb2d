//! A client that sends what it likes, when it likes.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use rustls::{ClientConnection, StreamOwned};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::stand::TOKEN;
use crate::codec::{AUTH_FULL, Capabilities, Handshake, LoginRequest, SslRequest, write_frame};
use crate::net::UpstreamTls;

/// A logged-in connection.
pub(super) struct Raw(pub(super) TcpStream, [u8; 20]);

impl Raw {
    pub(super) fn login(port: u16) -> Self {
        let mut raw = Self(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap(), [0; 20]);
        let greeting = raw.packet();
        raw.1 = Handshake::parse(&greeting).unwrap().scramble;
        let response = raw.proof();
        let login = LoginRequest {
            capabilities: Capabilities(
                Capabilities::PROTOCOL_41 | Capabilities::RESERVED2 | Capabilities::PLUGIN_AUTH,
            ),
            max_packet: 0,
            collation: 45,
            user: "bot",
            auth_response: &response,
            schema: None,
            plugin: Some("mysql_native_password"),
            attributes: Vec::new(),
        };
        let mut out = Vec::new();
        write_frame(&mut out, 1, |out| login.write(out));
        raw.0.write_all(&out).unwrap();
        assert_eq!(raw.packet().first(), Some(&0));
        raw
    }

    fn proof(&self) -> Vec<u8> {
        let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec();
        let first = sha1(TOKEN.as_bytes());
        let mask = sha1(&[&self.1[..], &sha1(&first)].concat());
        first.iter().zip(mask).map(|(a, b)| a ^ b).collect()
    }

    /// COM_CHANGE_USER to the same user, in no database. The answer is a switch with a fresh challenge.
    pub(super) fn change_user(&mut self) {
        let mut out = Vec::new();
        write_frame(&mut out, 0, |out| {
            out.extend_from_slice(b"\x11bot\0\0\0\x2d\0mysql_native_password\0");
        });
        self.0.write_all(&out).unwrap();
        let switch = self.packet();
        assert_eq!(switch.first(), Some(&0xFE));
        let challenge = switch.len() - 21;
        self.1.copy_from_slice(&switch[challenge..challenge + 20]);
        let proof = self.proof();
        out.clear();
        write_frame(&mut out, 2, |out| out.extend_from_slice(&proof));
        self.0.write_all(&out).unwrap();
        assert_eq!(self.packet().first(), Some(&0));
    }

    /// One packet's payload.
    pub(super) fn packet(&mut self) -> Vec<u8> {
        let mut header = [0; 4];
        self.0.read_exact(&mut header).unwrap();
        let len = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        self.0.read_exact(&mut payload).unwrap();
        payload
    }

    /// The first cell of the last row of the next result.
    pub(super) fn answer(&mut self) -> String {
        let (mut ends, mut last) = (0, Vec::new());
        while ends < 2 {
            let packet = self.packet();
            match packet.first() {
                Some(0xFE) if packet.len() < 9 => ends += 1,
                Some(0xFF) => return String::from_utf8_lossy(&packet[3..]).into_owned(),
                _ => last = packet,
            }
        }
        String::from_utf8_lossy(&last[1..]).into_owned()
    }
}

/// COM_QUERY as it travels.
pub(super) fn query(sql: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(&mut out, 0, |out| {
        out.push(3);
        out.extend_from_slice(sql.as_bytes());
    });
    out
}

/// Offers a wrong hash over TLS, hears that it is wrong, and leaves.
pub(super) fn guess_over_tls(port: u16, pem: &str) {
    let mode = crate::config::UpstreamTls::VerifyIdentity;
    let trust = crate::net::upstream_config(&mode, "localhost", Some(pem.as_bytes()), None);
    let UpstreamTls::On { config, name } = trust.unwrap() else {
        unreachable!("TLS was asked for")
    };
    let mut raw = Raw(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap(), [0; 20]);
    raw.packet();
    let capabilities = Capabilities(
        Capabilities::PROTOCOL_41 | Capabilities::RESERVED2 | Capabilities::PLUGIN_AUTH,
    );
    let mut out = Vec::new();
    write_frame(&mut out, 1, |out| SslRequest::write(capabilities, 45, out));
    raw.0.write_all(&out).unwrap();
    let login = LoginRequest {
        capabilities,
        max_packet: 0,
        collation: 45,
        user: "bot",
        auth_response: &[7; 32],
        schema: None,
        plugin: Some("caching_sha2_password"),
        attributes: Vec::new(),
    };
    let mut tls = StreamOwned::new(ClientConnection::new(config, name).unwrap(), raw.0);
    out.clear();
    write_frame(&mut out, 2, |out| login.write(out));
    tls.write_all(&out).unwrap();
    let mut answer = [0; 6];
    tls.read_exact(&mut answer).unwrap();
    assert_eq!(answer[4..], [1, AUTH_FULL]);
}
