//! A client that speaks the protocol by hand: for what no stock driver sends, and to compare answers byte by byte.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rowgate::codec::{
    AUTH_FAST_OK, AuthSwitch, Capabilities, Handshake, Header, LoginRequest, PrepareOk, Reply,
    Status, write_frame, write_packet,
};

/// What every login here asks for; add to it.
pub(crate) const PLAIN: u64 = Capabilities::PROTOCOL_41
    | Capabilities::RESERVED2
    | Capabilities::PLUGIN_AUTH
    | Capabilities::TRANSACTIONS
    | Capabilities::CONNECT_WITH_DB;

/// A packet as it came: sequence id and payload.
pub(crate) type Packet = (u8, Vec<u8>);

/// A logged-in connection.
pub(crate) struct Wire {
    /// Its id, as the greeting said.
    pub(crate) id: u32,
    /// The OK that ended the login.
    pub(crate) welcome: Vec<u8>,
    stream: TcpStream,
    /// What both sides have.
    capabilities: Capabilities,
    deprecate_eof: bool,
}

impl Wire {
    /// Logs in to the shop with mysql_native_password.
    pub(crate) fn login(port: u16, user: &str, password: &str, more: u64) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let deprecate_eof = more & Capabilities::DEPRECATE_EOF != 0;
        let capabilities = Capabilities(PLAIN | more);
        let mut wire = Self { id: 0, welcome: Vec::new(), stream, capabilities, deprecate_eof };
        let (_, greeting) = wire.packet();
        let greeting = Handshake::parse(&greeting).unwrap();
        wire.capabilities.0 &= greeting.capabilities.0;
        let scramble = greeting.scramble;
        wire.id = greeting.connection_id;
        let login = LoginRequest {
            capabilities,
            max_packet: 1 << 30,
            collation: 45,
            user,
            auth_response: &native(password, &scramble),
            schema: Some("shop"),
            plugin: Some("mysql_native_password"),
            attributes: Vec::new(),
        };
        let mut out = Vec::new();
        write_frame(&mut out, 1, |out| login.write(out));
        wire.send(&out);
        let (mut seq, mut answer) = wire.packet();
        if answer.first() == Some(&0xFE) {
            // MySQL's own accounts: the fast path, once the gateway has logged in.
            let switch = AuthSwitch::parse(&answer).unwrap();
            assert_eq!(switch.plugin, "caching_sha2_password");
            let mut out = Vec::new();
            let proof = caching_sha2(password, &switch.data[..20]);
            write_frame(&mut out, seq + 1, |out| out.extend_from_slice(&proof));
            wire.send(&out);
            (seq, answer) = wire.packet();
            assert_eq!((seq, answer.as_slice()), (4, &[1, AUTH_FAST_OK][..]));
            (_, answer) = wire.packet();
        }
        assert_eq!(answer.first(), Some(&0), "{}", String::from_utf8_lossy(&answer));
        wire.welcome = answer;
        wire
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a command, in as many packets as it takes.
    pub(crate) fn command(&mut self, command: u8, body: &[u8]) {
        let payload = [&[command], body].concat();
        let mut out = Vec::new();
        write_packet(&mut out, 0, &payload);
        self.send(&out);
    }

    /// Sends a command that the other side may not read to its end; what it said of it.
    pub(crate) fn try_command(&mut self, command: u8, body: &[u8]) -> Option<Packet> {
        let payload = [&[command], body].concat();
        let mut out = Vec::new();
        write_packet(&mut out, 0, &payload);
        let _ = self.stream.write_all(&out);
        self.try_packet()
    }

    /// The next packet.
    pub(crate) fn packet(&mut self) -> Packet {
        self.try_packet().expect("a packet")
    }

    /// The next packet, unless the connection ends.
    pub(crate) fn try_packet(&mut self) -> Option<Packet> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).ok()?;
        let header = Header::parse(&header)?;
        let mut payload = vec![0; header.len];
        self.stream.read_exact(&mut payload).ok()?;
        Some((header.seq, payload))
    }

    /// All packets of an answer to COM_QUERY (of all its results), or to COM_STMT_EXECUTE.
    pub(crate) fn answer(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        loop {
            let first = self.packet();
            let reply = Reply::parse(&first.1, self.capabilities).unwrap();
            packets.push(first);
            let status = match reply {
                Reply::Err | Reply::LocalInfile => return packets,
                Reply::Ok => self.status(&packets),
                Reply::Columns { count, defined } => {
                    let definitions = if defined { count } else { 0 };
                    match self.rows(definitions, &mut packets) {
                        Some(status) => status,
                        None => return packets,
                    }
                }
            };
            if !status.has(Status::MORE_RESULTS) {
                return packets;
            }
        }
    }

    fn rows(&mut self, definitions: u64, packets: &mut Vec<Packet>) -> Option<Status> {
        for _ in 0..definitions + u64::from(!self.deprecate_eof) {
            packets.push(self.packet());
        }
        if !self.deprecate_eof && self.status(packets).has(Status::CURSOR_EXISTS) {
            return Some(self.status(packets));
        }
        loop {
            let packet = self.packet();
            let (first, len) = (packet.1.first().copied(), packet.1.len());
            packets.push(packet);
            match first {
                Some(0xFF) => return None,
                Some(0xFE) if len < 0x1000 => return Some(self.status(packets)),
                _ => {}
            }
        }
    }

    fn status(&self, packets: &[Packet]) -> Status {
        let (_, payload) = packets.last().unwrap();
        let at = Status::place(payload, self.deprecate_eof).unwrap();
        Status(u16::from_le_bytes([payload[at], payload[at + 1]]))
    }

    /// COM_STMT_PREPARE: the statement's id, and the answer without it.
    pub(crate) fn prepare(&mut self, sql: &str) -> (u32, Vec<Packet>) {
        self.command(0x16, sql.as_bytes());
        let (_, ok) = self.packet();
        let ok = PrepareOk::parse(&ok, self.capabilities).unwrap();
        let mut packets = Vec::new();
        for count in [ok.parameters, ok.columns] {
            let eof = u16::from(count > 0 && !self.deprecate_eof);
            let definitions = if ok.defined == Some(false) { 0 } else { count };
            (0..definitions + eof).for_each(|_| packets.push(self.packet()));
        }
        (ok.statement_id, packets)
    }

    /// COM_STMT_EXECUTE of a statement without parameters, with these flags, and its answer.
    pub(crate) fn execute(&mut self, id: u32, flags: u8) -> Vec<Packet> {
        self.command(0x17, &[&id.to_le_bytes()[..], &[flags], &[1, 0, 0, 0]].concat());
        self.answer()
    }

    /// COM_STMT_FETCH of so many rows, and its answer.
    pub(crate) fn fetch(&mut self, id: u32, rows: u32) -> Vec<Packet> {
        self.command(0x1C, &[id.to_le_bytes(), rows.to_le_bytes()].concat());
        let mut packets = Vec::new();
        loop {
            let packet = self.packet();
            let (first, len) = (packet.1.first().copied(), packet.1.len());
            packets.push(packet);
            if matches!(first, Some(0xFE | 0xFF)) && len < 0x1000 {
                return packets;
            }
        }
    }

    /// COM_QUERY and its answer.
    pub(crate) fn query(&mut self, sql: &str) -> Vec<Packet> {
        self.command(3, sql.as_bytes());
        self.answer()
    }
}

/// Packets as text, for messages and searches.
pub(crate) fn text(packets: &[Packet]) -> String {
    let shown = |(seq, payload): &Packet| format!("{seq}:{} ", payload.escape_ascii());
    packets.iter().map(shown).collect::<Vec<_>>().concat()
}

pub(crate) fn native(password: &str, scramble: &[u8]) -> Vec<u8> {
    let sha1 = |bytes: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec();
    let first = sha1(password.as_bytes());
    let mask = sha1(&[scramble, &sha1(&first)].concat());
    first.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

fn caching_sha2(password: &str, scramble: &[u8]) -> Vec<u8> {
    let sha256 = |bytes: &[u8]| digest(&SHA256, bytes).as_ref().to_vec();
    let first = sha256(password.as_bytes());
    let mask = sha256(&[&sha256(&first), scramble].concat());
    first.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}
