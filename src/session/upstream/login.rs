//! The gateway's own login: mysql_native_password, caching_sha2_password and sha256_password (inside TLS, or under
//! the server's public key), client_ed25519, clear text inside TLS. The password never leaves in clear outside TLS.

use std::sync::Arc;

use super::{Op, Step, failed, malformed, packet, proof, refusal};
use crate::codec::{
    AUTH_FAST_OK, AUTH_FULL, AUTH_KEY_REQUEST, AuthSwitch, Capabilities, Compression, ErrPacket,
    Handshake, LoginRequest, Plugin, SHA256_KEY_REQUEST, SslRequest, write_frame,
};
use crate::fault::Fault;
use crate::schema::Flavour;
use crate::secret::Secret;
use crate::session::UpstreamKey;

/// utf8mb4_general_ci.
const DEFAULT_COLLATION: u8 = 45;

/// The numbers by which servers refuse a credential: wrong or none, expired, locked (MySQL's and MariaDB's), and locked
/// for too many wrong ones.
const REFUSED: [u16; 7] = [1045, 1698, 1862, 3118, 3955, 4151, 4164];

/// Packets of one login at the most: greeting, switch, key, result and a few to spare.
const MAX_PACKETS: u8 = 10;

/// The gateway's account at a target.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: Arc<Secret>,
    /// The server's public key (PEM), by which the password goes where there is no TLS. Without it the server is
    /// asked for its key, and believed: the configuration allows plain TCP on loopback only.
    pub public_key: Option<Arc<[u8]>>,
}

/// How the way to a target is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Not at all.
    Plain,
    /// By TLS, which the login asks for.
    Tls,
    /// By being this machine's own: a Unix socket.
    Local,
}

/// What a login found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Established {
    /// The server's version string.
    pub version: String,
    /// MySQL or MariaDB, by the greeting.
    pub flavour: Flavour,
    /// The server's connection id.
    pub connection_id: u32,
    /// What its greeting has.
    pub capabilities: Capabilities,
}

/// A login in progress.
pub struct Login {
    account: Account,
    key: UpstreamKey,
    channel: Channel,
    compression: Option<Compression>,
    in_tls: bool,
    state: State,
    scramble: [u8; 20],
    plugin: Plugin,
    established: Option<Established>,
    packets: u8,
    /// What is asked for because this server has it: which client may use it is the session's business.
    own_flags: u64,
    refused: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Greeting,
    /// TLS is up: the login goes out, with this sequence id.
    SendLogin(u8),
    Answer,
    PublicKey,
}

impl Login {
    /// A login of `account` on a connection that must match `key`.
    pub fn new(account: Account, key: UpstreamKey, channel: Channel) -> Self {
        Self {
            account,
            key,
            channel,
            compression: None,
            in_tls: false,
            state: State::Greeting,
            scramble: [0; 20],
            plugin: Plugin::Native,
            established: None,
            packets: 0,
            own_flags: 0,
            refused: false,
        }
    }

    /// The same, and compressed behind its OK, which the driver sees to.
    #[must_use]
    pub fn compressed(self, by: Option<Compression>) -> Self {
        Self { compression: by, ..self }
    }

    /// What the login found, once it is [`Op::Done`].
    pub fn established(&self) -> Option<&Established> {
        self.established.as_ref()
    }

    /// Whether the database refused the account as it is: another credential might do.
    pub fn was_refused(&self) -> bool {
        self.refused
    }

    fn refusal(&mut self, payload: &[u8]) -> Fault {
        self.refused = ErrPacket::parse(payload).is_ok_and(|error| REFUSED.contains(&error.code));
        refusal("refused the gateway's account", payload)
    }

    /// Looks at what the database sent.
    pub fn on_bytes(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Step {
        if let State::SendLogin(seq) = self.state {
            self.write_login(seq, out);
            return Step { consumed: 0, op: Op::Emit };
        }
        let mut consumed = 0;
        loop {
            let (header, payload) = match packet(bytes.get(consumed..).unwrap_or_default()) {
                Ok(packet) => packet,
                Err(step) => return Step { consumed, ..step },
            };
            consumed += header.total();
            self.packets += 1;
            if self.packets > MAX_PACKETS {
                return failed(Fault::upstream_lost("the database's login does not end"));
            }
            let seq = header.seq.wrapping_add(1);
            let op = match self.state {
                State::Greeting => self.greeting(payload, seq, out).map(Some),
                State::PublicKey => self.public_key(payload, seq, out).map(Some),
                _ => self.answer(payload, seq, out),
            };
            match op {
                // What follows may have arrived with it.
                Ok(None) => {}
                Ok(Some(op)) => return Step { consumed, op },
                Err(fault) => return failed(fault),
            }
        }
    }

    fn greeting(&mut self, payload: &[u8], seq: u8, out: &mut Vec<u8>) -> Result<Op, Fault> {
        if payload.first() == Some(&0xFF) {
            return Err(refusal("refused the connection", payload));
        }
        let greeting = Handshake::parse(payload).map_err(|_| malformed())?;
        let is_mysql = greeting.capabilities.has(Capabilities::LONG_PASSWORD);
        self.established = Some(Established {
            version: greeting.version.to_owned(),
            flavour: if is_mysql { Flavour::MySql } else { Flavour::MariaDb },
            connection_id: greeting.connection_id,
            capabilities: greeting.capabilities,
        });
        if !greeting.capabilities.has(Capabilities::PROTOCOL_41 | Capabilities::SESSION_TRACK) {
            // Without it the gateway would not be told how text is read, nor in which database.
            return Err(Fault::upstream_down("the database has no session tracking"));
        }
        if self.lacks() {
            return Err(Fault::upstream_down(
                "the database lacks a capability the client asked for",
            ));
        }
        if !self.compression.is_none_or(|by| greeting.capabilities.has(by.capability())) {
            return Err(Fault::upstream_down(
                "the database does not compress as targets.compression says",
            ));
        }
        self.own_flags = greeting.capabilities.0 & Capabilities::MARIADB_STMT_BULK_OPERATIONS;
        self.scramble = greeting.scramble;
        self.plugin = Plugin::from_name(greeting.plugin).unwrap_or(Plugin::Native);
        if self.channel != Channel::Tls {
            self.write_login(seq, out);
            return Ok(Op::Emit);
        }
        if !greeting.capabilities.has(Capabilities::SSL) {
            return Err(Fault::upstream_down(
                "the database offers no TLS, which targets.tls asks for",
            ));
        }
        let capabilities = self.capabilities();
        let collation = self.collation();
        write_frame(out, seq, |out| SslRequest::write(capabilities, collation, out));
        self.in_tls = true;
        self.state = State::SendLogin(seq.wrapping_add(1));
        Ok(Op::StartTls)
    }

    /// Whether the database has less than this connection needs, by its greeting.
    pub fn lacks(&self) -> bool {
        let has = |found: &Established| found.capabilities.has(self.key.capabilities);
        self.established.as_ref().is_some_and(|found| !has(found))
    }

    fn capabilities(&self) -> Capabilities {
        let tls = if self.channel == Channel::Tls { Capabilities::SSL } else { 0 };
        let compression = self.compression.map_or(0, Compression::capability);
        let all =
            self.key.capabilities | Capabilities::UPSTREAM | tls | compression | self.own_flags;
        // MariaDB looks for its extended flags where this one is clear.
        let is_extended = all & Capabilities::EXTENDED != 0;
        Capabilities(all & !if is_extended { Capabilities::LONG_PASSWORD } else { 0 })
    }

    /// What the login says; the baseline sets what has no room here.
    fn collation(&self) -> u8 {
        u8::try_from(self.key.collation).unwrap_or(DEFAULT_COLLATION)
    }

    fn write_login(&mut self, seq: u8, out: &mut Vec<u8>) {
        // What the others say first is the password, or a signature of more than this scramble: the server asks for it.
        if !matches!(self.plugin, Plugin::Native | Plugin::CachingSha2) {
            self.plugin = Plugin::Native;
        }
        let response = self.scrambled();
        let login = LoginRequest {
            capabilities: self.capabilities(),
            max_packet: 0,
            collation: self.collation(),
            user: &self.account.user,
            auth_response: &response,
            schema: None,
            plugin: Some(self.plugin.name()),
            attributes: Vec::new(),
        };
        write_frame(out, seq, |out| login.write(out));
        self.state = State::Answer;
    }

    /// `None`: nothing is to be said to it.
    fn answer(&mut self, payload: &[u8], seq: u8, out: &mut Vec<u8>) -> Result<Option<Op>, Fault> {
        match payload {
            [0, ..] => Ok(Some(Op::Done)),
            [0xFF, ..] => Err(self.refusal(payload)),
            [0xFE, ..] => self.switch(payload, seq, out).map(Some),
            [1, AUTH_FAST_OK] if self.plugin == Plugin::CachingSha2 => Ok(None),
            [1, AUTH_FULL] if self.plugin == Plugin::CachingSha2 => {
                self.whole_password(AUTH_KEY_REQUEST, seq, out).map(Some)
            }
            _ => Err(malformed()),
        }
    }

    /// The whole password: as it stands where TLS protects it, else under the server's public key.
    fn whole_password(&mut self, ask: u8, seq: u8, out: &mut Vec<u8>) -> Result<Op, Fault> {
        if self.is_private() {
            self.write_clear(seq, out);
        } else if let Some(key) = self.account.public_key.clone() {
            self.write_encrypted(&key, seq, out)?;
        } else {
            write_frame(out, seq, |out| out.push(ask));
            self.state = State::PublicKey;
        }
        Ok(Op::Emit)
    }

    fn switch(&mut self, payload: &[u8], seq: u8, out: &mut Vec<u8>) -> Result<Op, Fault> {
        let switch = AuthSwitch::parse(payload).map_err(|_| malformed())?;
        let plugin = Plugin::from_name(switch.plugin).ok_or_else(unsupported)?;
        self.plugin = plugin;
        match plugin {
            Plugin::Clear if self.is_private() => self.write_clear(seq, out),
            Plugin::Clear => {
                return Err(Fault::upstream_down("the database asks for the password in clear"));
            }
            // The gateway's own account has a password.
            Plugin::OpenIdConnect => return Err(unsupported()),
            Plugin::Ed25519 => {
                let nonce = switch.data.get(..proof::NONCE_LEN).and_then(|n| n.try_into().ok());
                let password = self.account.password.expose();
                let signature = proof::ed25519(password, nonce.ok_or_else(malformed)?);
                write_frame(out, seq, |out| out.extend_from_slice(&signature));
            }
            Plugin::Native | Plugin::CachingSha2 => {
                self.scramble = switch.scramble().ok_or_else(malformed)?;
                let response = self.scrambled();
                write_frame(out, seq, |out| out.extend_from_slice(&response));
            }
            Plugin::Sha256 => {
                self.scramble = switch.scramble().ok_or_else(malformed)?;
                return self.whole_password(SHA256_KEY_REQUEST, seq, out);
            }
        }
        Ok(Op::Emit)
    }

    /// Whether the password may go as it stands. (A server asks for it so on its Unix socket: it would take a request for
    /// its key for the password.)
    fn is_private(&self) -> bool {
        self.in_tls || self.channel == Channel::Local
    }

    /// The whole password, which nobody else hears.
    fn write_clear(&self, seq: u8, out: &mut Vec<u8>) {
        write_frame(out, seq, |out| {
            out.extend_from_slice(self.account.password.expose());
            out.push(0);
        });
        // `out` is the driver's buffer; it is overwritten by the next packet.
    }

    /// Outside TLS, the answer to a request for the server's public key.
    fn public_key(&mut self, payload: &[u8], seq: u8, out: &mut Vec<u8>) -> Result<Op, Fault> {
        match payload {
            [1, pem @ ..] => self.write_encrypted(pem, seq, out)?,
            [0xFF, ..] => return Err(self.refusal(payload)),
            _ => return Err(malformed()),
        }
        Ok(Op::Emit)
    }

    fn write_encrypted(&mut self, pem: &[u8], seq: u8, out: &mut Vec<u8>) -> Result<(), Fault> {
        let password = self.account.password.expose();
        let encrypted = proof::rsa(password, &self.scramble, pem).ok_or_else(|| {
            Fault::upstream_down("the database's public key can't be used; use TLS for this target")
        })?;
        write_frame(out, seq, |out| out.extend_from_slice(&encrypted));
        self.state = State::Answer;
        Ok(())
    }

    /// The password's answer to the scramble, by the plugin at hand.
    fn scrambled(&self) -> Vec<u8> {
        let password = self.account.password.expose();
        match self.plugin {
            _ if password.is_empty() => Vec::new(),
            Plugin::CachingSha2 => proof::caching_sha2(password, &self.scramble),
            _ => proof::native(password, &self.scramble),
        }
    }
}

fn unsupported() -> Fault {
    Fault::upstream_down("the database asks for an authentication plugin that is not supported")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: &[u8] =
        b"\x0a9.7.4-2\0\x07\0\0\0abcdefgh\0\xff\xff\xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0\
        ijklmnopqrst\0caching_sha2_password\0";

    fn frame(seq: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(&mut out, seq, |out| out.extend_from_slice(payload));
        out
    }

    const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];

    fn login(channel: Channel) -> Login {
        let account = Account {
            user: "rowgate".to_owned(),
            password: Arc::new(Secret::from("secret")),
            public_key: None,
        };
        Login::new(account, UpstreamKey { capabilities: 0, collation: 45 }, channel)
    }

    /// A login that has been sent, by caching_sha2_password.
    fn sent(channel: Channel) -> Login {
        let mut login = login(channel);
        let mut out = Vec::new();
        let step = login.on_bytes(&frame(0, GREETING), &mut out);
        if channel == Channel::Tls {
            assert!(matches!(step.op, Op::StartTls), "{step:?}");
            out.clear();
            assert!(matches!(login.on_bytes(&[], &mut out).op, Op::Emit));
        }
        let sent = String::from_utf8_lossy(&out).into_owned();
        assert!(sent.contains("caching_sha2_password") && !sent.contains("secret"), "{sent}");
        login
    }

    fn switch(plugin: &str, data: &[u8]) -> Vec<u8> {
        let payload = [&[0xFE], plugin.as_bytes(), &[0], data, &[0]].concat();
        frame(2, &payload)
    }

    /// What it answers to `packet`, without the header; `None` where it fails.
    fn answer(login: &mut Login, packet: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match login.on_bytes(packet, &mut out).op {
            Op::Emit => Some(out.split_off(4)),
            Op::Failed(_) => None,
            op => panic!("{op:?}"),
        }
    }

    #[test]
    fn the_password_goes_in_clear_inside_tls_only() {
        let clear = switch("mysql_clear_password", b"");
        assert_eq!(answer(&mut sent(Channel::Tls), &clear).unwrap(), b"secret\0");
        assert_eq!(answer(&mut sent(Channel::Plain), &clear), None);
        let full = frame(2, &[1, AUTH_FULL]);
        assert_eq!(answer(&mut sent(Channel::Tls), &full).unwrap(), b"secret\0");
        assert_eq!(answer(&mut sent(Channel::Plain), &full).unwrap(), [AUTH_KEY_REQUEST]);
        assert_eq!(answer(&mut sent(Channel::Local), &full).unwrap(), b"secret\0");
        assert_eq!(answer(&mut sent(Channel::Local), &clear).unwrap(), b"secret\0");
        let sha256 = switch("sha256_password", b"ABCDEFGHIJKLMNOPQRST");
        assert_eq!(answer(&mut sent(Channel::Tls), &sha256).unwrap(), b"secret\0");
        assert_eq!(answer(&mut sent(Channel::Plain), &sha256).unwrap(), [SHA256_KEY_REQUEST]);
    }

    #[test]
    fn a_database_that_offers_no_tls_gets_no_login_where_tls_is_asked_for() {
        let mut without = GREETING.to_vec();
        let at = without.windows(2).position(|two| two == [0xFF, 0xFF]).unwrap();
        without[at + 1] &= !8;
        for (channel, goes_on) in
            [(Channel::Plain, true), (Channel::Local, true), (Channel::Tls, false)]
        {
            let mut out = Vec::new();
            let step = login(channel).on_bytes(&frame(0, &without), &mut out);
            assert_eq!(matches!(step.op, Op::Emit), goes_on, "{step:?}");
            assert_eq!(matches!(step.op, Op::Failed(_)), !goes_on, "{step:?}");
            assert_eq!(out.is_empty(), !goes_on, "something is sent all the same");
        }
    }

    #[test]
    fn a_switch_is_answered_by_the_plugin_it_names_to_the_challenge_it_brings() {
        let challenge = *b"ABCDEFGHIJKLMNOPQRST";
        for channel in [Channel::Plain, Channel::Tls, Channel::Local] {
            let native = switch("mysql_native_password", &challenge);
            let wanted = proof::native(b"secret", &challenge);
            assert_eq!(answer(&mut sent(channel), &native).unwrap(), wanted);
            let sha2 = switch("caching_sha2_password", &challenge);
            let wanted = proof::caching_sha2(b"secret", &challenge);
            let mut login = sent(channel);
            assert_eq!(answer(&mut login, &native).unwrap().len(), 20);
            assert_eq!(answer(&mut login, &sha2).unwrap(), wanted);
            let nonce = [9; proof::NONCE_LEN];
            let ed25519 = switch("client_ed25519", &nonce);
            let wanted = proof::ed25519(b"secret", &nonce);
            assert_eq!(answer(&mut login, &ed25519).unwrap(), wanted);
            assert!(matches!(login.on_bytes(&frame(4, OK), &mut Vec::new()).op, Op::Done));
        }
    }

    #[test]
    fn what_no_database_says_ends_the_login() {
        let native = switch("mysql_native_password", b"ABCDEFGHIJKLMNOPQRST");
        for packets in [
            vec![switch("dialog", b"Password: ")],
            vec![switch("mysql_native_password", b"short")],
            vec![switch("client_ed25519", b"ABCDEFGHIJKLMNOPQRST")],
            vec![frame(2, &[0xFE])],
            vec![frame(2, &[1, 9])],
            // The words of a plugin that is not at hand.
            vec![native.clone(), frame(4, &[1, AUTH_FULL])],
            vec![native.clone(), frame(4, &[1, AUTH_FAST_OK])],
            // A key that is none, and an OK in the place of a key.
            vec![frame(2, &[1, AUTH_FULL]), frame(4, b"\x01-----BEGIN PUBLIC KEY-----")],
            vec![frame(2, &[1, AUTH_FULL]), frame(4, OK)],
            vec![native; 20],
        ] {
            let mut login = sent(Channel::Plain);
            let failed = packets.iter().any(|packet| answer(&mut login, packet).is_none());
            assert!(failed, "{packets:?}");
        }
    }

    #[test]
    fn an_ok_that_arrives_with_what_comes_before_it_ends_the_login() {
        let mut login = login(Channel::Plain);
        let mut out = Vec::new();
        assert!(matches!(login.on_bytes(&frame(0, GREETING), &mut out).op, Op::Emit));
        let both = [frame(2, &[1, AUTH_FAST_OK]), frame(3, OK)].concat();
        let step = login.on_bytes(&both, &mut out);
        assert!(matches!(step.op, Op::Done), "{step:?}");
        assert_eq!(step.consumed, both.len());
    }
}
