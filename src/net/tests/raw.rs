//! A client that sends what it likes, when it likes.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::stand::TOKEN;
use crate::codec::{Capabilities, Handshake, LoginRequest, write_frame};

/// A logged-in connection.
pub(super) struct Raw(pub(super) TcpStream);

impl Raw {
    pub(super) fn login(port: u16) -> Self {
        let mut raw = Self(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap());
        let greeting = raw.packet();
        let scramble = Handshake::parse(&greeting).unwrap().scramble;
        let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec();
        let first = sha1(TOKEN.as_bytes());
        let mask = sha1(&[&scramble[..], &sha1(&first)].concat());
        let response: Vec<u8> = first.iter().zip(mask).map(|(a, b)| a ^ b).collect();
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
