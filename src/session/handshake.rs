//! The login, and COM_CHANGE_USER: an enum of what is expected next, so that an illegal order can't be written.

mod issued;

use std::sync::Arc;

use issued::is_blank;

use super::machine::{Pending, Phase, broken, wait};
use super::{Login, Op, Session, Settings, Side, StatementKind, Step, Text};
use crate::codec::{
    AUTH_FAST_OK, AUTH_FULL, AUTH_KEY_REQUEST, Capabilities, ChangeUser, Compression, Handshake,
    Header, LoginRequest, Plugin, SslRequest, Status, id_token, write_auth_more, write_auth_switch,
    write_frame,
};
use crate::fault::{Fault, FaultKind};
use crate::identity::{Principal, Proof};
use crate::schema::{Flavour, ServerProfile};
use crate::secret::Secret;

/// Longest packet before the login is complete: a JWT of 10 kB and attributes fit many times over.
const MAX_LOGIN_PACKET: usize = 64 << 10;

/// A 32-byte SSLRequest.
const SSL_REQUEST_LEN: usize = 32;

/// utf8mb4_general_ci: what a client that names no collation gets.
const DEFAULT_COLLATION: u8 = 45;

/// What is expected next.
pub(super) enum Handshaking {
    /// Nothing yet: the greeting is to be sent.
    Greeting,
    /// SSLRequest (outside TLS) or a login.
    Request,
    /// The answer to an auth switch.
    Switched(Claim, Plugin),
    /// The gateway's answer to [`Op::Authenticate`].
    Checking(Claim, Plugin, Option<Result<Arc<Principal>, Fault>>),
    /// The whole secret, after caching_sha2's fast path failed: inside TLS as it stands, outside it sealed, or a
    /// request for the key to seal it under.
    Full(Claim),
    /// The sealed secret: the key has been given.
    Sealed(Claim),
}

/// Who the client says it is.
pub(super) struct Claim {
    user: String,
    schema: Option<String>,
    attributes: Vec<(String, String)>,
    change_user: bool,
    /// It was asked to answer by another plugin, which drivers take once.
    switched: bool,
    /// It answered that it has no password: there is nothing more to ask it for.
    blank: bool,
    /// The sequence id of the gateway's next packet.
    seq: u8,
}

impl Handshaking {
    /// Takes the driver's answer.
    pub(super) fn answer(&mut self, answer: Result<Arc<Principal>, Fault>) {
        if let Self::Checking(_, _, slot) = self {
            *slot = Some(answer);
        }
    }
}

impl Session {
    pub(super) fn on_handshake(
        &mut self,
        state: Handshaking,
        bytes: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Step {
        match state {
            Handshaking::Greeting => self.greet(out),
            Handshaking::Checking(claim, plugin, Some(answer)) => {
                self.checked(claim, plugin, answer, out)
            }
            Handshaking::Checking(..) => self.fail(&Fault::internal(), 2, out),
            state => {
                let packet = match login_packet(bytes) {
                    Ok(Some(packet)) => packet,
                    Ok(None) => {
                        let at_least = Header::parse(bytes).map_or(4, Header::total);
                        self.phase = Phase::Handshake(state);
                        return wait(Side::Client, at_least);
                    }
                    Err(fault) => return self.fail(&fault, 2, out),
                };
                let mut step = match state {
                    Handshaking::Switched(claim, plugin) => {
                        self.prove(claim.after(packet.0), plugin, packet.1, out)
                    }
                    Handshaking::Full(claim) => self.whole(claim.after(packet.0), packet.1, out),
                    Handshaking::Sealed(claim) => self.unseal(claim.after(packet.0), packet.1),
                    _ => self.request(packet.0, packet.1, out),
                };
                step.consumed = packet.0.total();
                step
            }
        }
    }

    fn greet(&mut self, out: &mut Vec<u8>) -> Step {
        let profile = Arc::clone(&self.settings.profile);
        let plugin = default_plugin(profile.flavour);
        let greeting = Handshake {
            version: &profile.version_string,
            connection_id: self.settings.connection_id,
            scramble: self.settings.scramble,
            capabilities: Capabilities(self.offered()),
            collation: DEFAULT_COLLATION,
            status: Status::AUTOCOMMIT,
            plugin: plugin.name(),
        };
        write_frame(out, 0, |out| greeting.write(out));
        self.phase = Phase::Handshake(Handshaking::Request);
        Step { consumed: 0, op: Op::Emit(Side::Client) }
    }

    fn offered(&self) -> u64 {
        let tls = if self.settings.tls_available { Capabilities::SSL } else { 0 };
        let profile = &self.settings.profile;
        let all = Capabilities::PROXIED | by_version(profile);
        // A proxy in front of it may claim a version, and have less.
        let lacking = profile.capabilities.map_or(0, |seen| Capabilities::OF_TARGET & !seen);
        let all = all & !lacking | tls | self.settings.compression;
        match self.settings.profile.flavour {
            Flavour::MySql => all,
            // MariaDB servers say who they are by leaving out bit 0.
            Flavour::MariaDb => all & !Capabilities::LONG_PASSWORD,
        }
    }

    fn request(&mut self, header: Header, payload: &[u8], out: &mut Vec<u8>) -> Step {
        let seq = header.seq.wrapping_add(1);
        if header.len == SSL_REQUEST_LEN && !self.tls {
            if !self.settings.tls_available || SslRequest::parse(payload).is_err() {
                return self.fail(&broken("TLS was not offered"), seq, out);
            }
            self.tls = true;
            self.phase = Phase::Handshake(Handshaking::Request);
            return Step { consumed: 0, op: Op::StartTls };
        }
        let Ok(login) = LoginRequest::parse(payload) else {
            return self.fail(&broken("malformed login"), seq, out);
        };
        if self.settings.tls_required && !self.tls {
            return self.fail(&tls_required(), seq, out);
        }
        let Some(collation) = allowed_collation(login.collation.into(), &self.settings.profile)
        else {
            return self.fail(&refused_collation(), seq, out);
        };
        self.capabilities = Capabilities(login.capabilities.0 & self.offered());
        self.compression = Compression::agreed(self.capabilities);
        self.collation = collation;
        self.sql_mode = self.fresh_mode();
        let claim = Claim {
            user: login.user.to_owned(),
            schema: login.schema.map(str::to_owned),
            attributes: owned(&login.attributes),
            change_user: false,
            switched: false,
            blank: false,
            seq,
        };
        self.begin(claim, login.plugin, login.auth_response, out)
    }

    /// COM_CHANGE_USER: `payload` follows the command byte.
    pub(super) fn change_user(&mut self, total: usize, payload: &[u8], out: &mut Vec<u8>) -> Step {
        let Ok(change) = ChangeUser::parse(payload, self.capabilities) else {
            return self.fail(&broken("malformed COM_CHANGE_USER"), 1, out);
        };
        if let Some(collation) = change.collation {
            let Some(collation) = allowed_collation(collation, &self.settings.profile) else {
                return self.fail(&refused_collation(), 1, out);
            };
            self.collation = collation;
        }
        let claim = Claim {
            user: change.user.to_owned(),
            schema: change.schema.map(str::to_owned),
            attributes: owned(&change.attributes),
            change_user: true,
            switched: false,
            blank: false,
            seq: 1,
        };
        let (named, response) = (change.plugin, change.auth_response);
        self.forget();
        self.principal = None;
        self.schema = None;
        let mut step = self.begin(claim, named, response, out);
        if !matches!(self.phase, Phase::Closed)
            && let Some(release) = self.queue.pop_front()
        {
            // The old connection goes back before the new identity is looked at.
            let next = std::mem::replace(&mut step.op, release);
            self.queue.push_back(next);
        }
        step.consumed = total;
        step
    }

    /// Takes the first answer, or asks for one by a plugin that is implemented.
    fn begin(
        &mut self,
        claim: Claim,
        named: Option<&str>,
        response: &[u8],
        out: &mut Vec<u8>,
    ) -> Step {
        // What a client sends with COM_CHANGE_USER answers a challenge that has been used: it gets a fresh one, where
        // it can be asked at all.
        let may_ask = self.capabilities.has(Capabilities::PLUGIN_AUTH);
        let response = if claim.change_user && may_ask { &[] } else { response };
        let plugin = match named.map(Plugin::from_name) {
            Some(Some(Plugin::Clear)) if !self.is_private() => None,
            Some(Some(Plugin::OpenIdConnect)) if !self.takes_issued() => None,
            // The database's own, which no token can be checked by.
            Some(Some(Plugin::Sha256 | Plugin::Ed25519)) => None,
            Some(plugin) => plugin,
            None => Some(Plugin::Native),
        };
        match plugin {
            Some(plugin) if !response.is_empty() => self.prove(claim, plugin, response, out),
            Some(plugin) => self.switch(claim, plugin, out),
            None => {
                let plugin = default_plugin(self.settings.profile.flavour);
                self.switch(claim, plugin, out)
            }
        }
    }

    fn switch(&mut self, mut claim: Claim, plugin: Plugin, out: &mut Vec<u8>) -> Step {
        let scramble = self.fresh_scramble();
        write_frame(out, claim.seq, |out| write_auth_switch(out, plugin.name(), &scramble));
        claim.seq = claim.seq.wrapping_add(1);
        claim.switched = true;
        self.phase = Phase::Handshake(Handshaking::Switched(claim, plugin));
        Step { consumed: 0, op: Op::Emit(Side::Client) }
    }

    /// The next challenge, which nobody has answered yet.
    fn fresh_scramble(&mut self) -> [u8; 20] {
        let Settings { scramble, scramble_key, .. } = &mut self.settings;
        *scramble = challenge(*blake3::keyed_hash(scramble_key, scramble).as_bytes());
        *scramble
    }

    /// Hands the proof to the driver.
    fn prove(
        &mut self,
        mut claim: Claim,
        plugin: Plugin,
        response: &[u8],
        out: &mut Vec<u8>,
    ) -> Step {
        claim.blank = is_blank(response);
        let scramble = self.settings.scramble;
        let response = response.to_vec();
        let proof = match plugin {
            Plugin::Native => Proof::Native { scramble, response },
            Plugin::CachingSha2 => Proof::CachingSha2 { scramble, response },
            Plugin::Clear if self.is_private() => {
                let mut secret = response;
                if secret.last() == Some(&0) {
                    secret.pop();
                }
                Proof::Clear(Secret::new(secret))
            }
            Plugin::OpenIdConnect if self.is_private() => {
                Proof::Clear(Secret::new(id_token(&response).unwrap_or_default().to_vec()))
            }
            Plugin::Clear | Plugin::OpenIdConnect | Plugin::Sha256 | Plugin::Ed25519 => {
                return self.fail(&tls_required(), claim.seq, out);
            }
        };
        self.check(claim, plugin, proof)
    }

    fn check(&mut self, claim: Claim, plugin: Plugin, proof: Proof) -> Step {
        let login = Login {
            user: claim.user.clone(),
            proof,
            tls: self.tls,
            attributes: claim.attributes.clone(),
            change_user: claim.change_user,
            asks_again: self.asks_again(&claim, plugin),
        };
        self.phase = Phase::Handshake(Handshaking::Checking(claim, plugin, None));
        Step { consumed: 0, op: Op::Authenticate(Box::new(login)) }
    }

    /// What was agreed on begins behind the login's OK. (A later COM_CHANGE_USER is inside it.)
    pub(super) fn compress(&mut self) {
        self.queue.extend(self.compression.take().map(Op::Compress));
    }

    /// Whether a secret may come as it stands.
    fn is_private(&self) -> bool {
        self.tls || self.settings.is_local
    }

    /// Whether a wrong proof by this plugin is answered by asking for the secret itself.
    fn asks_for_the_whole(&self, claim: &Claim, plugin: Plugin) -> bool {
        plugin == Plugin::CachingSha2
            && !claim.blank
            && (self.is_private() || self.settings.login_key.is_some())
    }

    /// The whole secret, or the request for the key to seal it under.
    fn whole(&mut self, mut claim: Claim, payload: &[u8], out: &mut Vec<u8>) -> Step {
        if self.is_private() {
            return self.prove(claim, Plugin::Clear, payload, out);
        }
        let Some(key) = self.settings.login_key.clone().filter(|_| payload == [AUTH_KEY_REQUEST])
        else {
            // It has the key already.
            return self.unseal(claim, payload);
        };
        write_frame(out, claim.seq, |out| write_auth_more(out, key.public_pem()));
        claim.seq = claim.seq.wrapping_add(1);
        self.phase = Phase::Handshake(Handshaking::Sealed(claim));
        Step { consumed: 0, op: Op::Emit(Side::Client) }
    }

    /// Opens a sealed secret. One that does not open is checked all the same: as wrong as any other.
    fn unseal(&mut self, claim: Claim, sealed: &[u8]) -> Step {
        let key = self.settings.login_key.as_ref();
        let secret = key.and_then(|key| key.open(sealed, &self.settings.scramble));
        self.check(claim, Plugin::Clear, Proof::Clear(secret.unwrap_or_default()))
    }

    fn checked(
        &mut self,
        mut claim: Claim,
        plugin: Plugin,
        answer: Result<Arc<Principal>, Fault>,
        out: &mut Vec<u8>,
    ) -> Step {
        let principal = match answer {
            Ok(principal) => principal,
            Err(fault) if self.asks_for_the_whole(&claim, plugin) && may_retry(&fault) => {
                // Not one of our tokens by its hash: ask for the secret itself, which TLS or our key protects.
                write_frame(out, claim.seq, |out| write_auth_more(out, &[AUTH_FULL]));
                claim.seq = claim.seq.wrapping_add(1);
                self.phase = Phase::Handshake(Handshaking::Full(claim));
                return Step { consumed: 0, op: Op::Emit(Side::Client) };
            }
            Err(fault) => {
                let another = self.asks_by(&claim, plugin).filter(|_| may_retry(&fault));
                return match another {
                    Some(another) => self.switch(claim, another, out),
                    None => self.fail(&fault, claim.seq, out),
                };
            }
        };
        self.principal = Some(principal);
        // (Who has no password waits for nothing but the end.)
        if plugin == Plugin::CachingSha2 && !claim.blank {
            write_frame(out, claim.seq, |out| write_auth_more(out, &[AUTH_FAST_OK]));
            claim.seq = claim.seq.wrapping_add(1);
        }
        let Some(schema) = claim.schema else {
            self.emit_ok(claim.seq, out);
            self.phase = Phase::Idle;
            self.compress();
            return Step { consumed: 0, op: Op::Emit(Side::Client) };
        };
        let text = Some(schema.as_bytes().into());
        let pending = Pending::new(StatementKind::InitDb, 0, text);
        let pending = Pending { login_seq: Some(claim.seq), ..pending };
        let text = Text::Kept(schema.as_bytes().into());
        let step = self.decide(pending, text);
        if out.is_empty() {
            return step;
        }
        self.queue.push_back(step.op);
        Step { consumed: 0, op: Op::Emit(Side::Client) }
    }
}

impl Claim {
    fn after(mut self, header: Header) -> Self {
        self.seq = header.seq.wrapping_add(1);
        self
    }
}

/// A challenge of random bytes: of those that may stand in a handshake, which are no NUL and no `$`.
pub fn challenge<const N: usize>(random: [u8; N]) -> [u8; 20] {
    let mut challenge = [1; 20];
    for (byte, random) in challenge.iter_mut().zip(random) {
        let plain = random & 0x7F;
        *byte = if matches!(plain, 0 | b'$') { plain + 1 } else { plain };
    }
    challenge
}

/// The packet at the front, once it is whole.
fn login_packet(bytes: &[u8]) -> Result<Option<(Header, &[u8])>, Fault> {
    let Some(header) = Header::parse(bytes) else { return Ok(None) };
    if header.len > MAX_LOGIN_PACKET {
        return Err(broken("a packet before the login is longer than 64 KiB"));
    }
    Ok(header.payload(bytes).map(|payload| (header, payload)))
}

/// A wrong proof may be another kind of secret; a limit may not be tried again.
fn may_retry(fault: &Fault) -> bool {
    fault.kind == FaultKind::Login
}

/// What each server offers first, which is what its stock clients expect.
fn default_plugin(flavour: Flavour) -> Plugin {
    match flavour {
        Flavour::MySql => Plugin::CachingSha2,
        Flavour::MariaDb => Plugin::Native,
    }
}

/// What the target has by its version, of what is not offered of every one.
fn by_version(profile: &ServerProfile) -> u64 {
    let since = |version: u32, flag: u64| if profile.version >= version { flag } else { 0 };
    match profile.flavour {
        Flavour::MySql => {
            since(80_011, Capabilities::OPTIONAL_RESULTSET_METADATA)
                | since(80_023, Capabilities::QUERY_ATTRIBUTES)
        }
        Flavour::MariaDb => {
            since(100_200, Capabilities::MARIADB_STMT_BULK_OPERATIONS)
                | since(100_502, Capabilities::MARIADB_EXTENDED_METADATA)
                | since(100_600, Capabilities::MARIADB_CACHE_METADATA)
        }
    }
}

fn owned(attributes: &[(&str, &str)]) -> Vec<(String, String)> {
    attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The collation, if it is of a character set whose text the lexer reads as the server does. In gbk, big5, sjis and
/// their like a backslash can be the second byte of a character, which makes one literal out of two.
fn allowed_collation(id: u16, profile: &ServerProfile) -> Option<u16> {
    /// MariaDB's collations that don't pad are those that do, and this.
    const NO_PAD: u16 = 1_024;
    match (profile.flavour, id) {
        // Those that this server does not know, though the other one's clients may ask for them, its SETs would refuse.
        (_, 0 | 216..=223) | (Flavour::MariaDb, 255) => Some(u16::from(DEFAULT_COLLATION)),
        (Flavour::MariaDb, 76) => Some(33),
        // latin1, ascii, utf8mb3, utf8mb4, binary
        (_, 5 | 8 | 11 | 15 | 31 | 33 | 45..=49 | 63 | 65 | 76 | 83 | 94) => Some(id),
        (_, 192..=247 | 255) => Some(id),
        (Flavour::MySql, 256..=323) if profile.version >= 80_000 => Some(id),
        // utf8mb3 and utf8mb4, by the two tables of their kinds; what follows is of ucs2, utf16 and utf32.
        (Flavour::MariaDb, 576..=578 | 608..=610) => Some(id),
        (Flavour::MariaDb, 2_048..=2_559) if profile.version >= 101_000 => Some(id),
        (Flavour::MariaDb, 1_025..=1_279) => {
            allowed_collation(id - NO_PAD, profile).map(|pads| pads + NO_PAD)
        }
        _ => None,
    }
}

fn refused_collation() -> Fault {
    Fault::unsupported(
        "this character set is refused; connect with utf8mb4, latin1, ascii or binary",
    )
}

fn tls_required() -> Fault {
    Fault::new(
        FaultKind::Login,
        3159,
        *b"HY000",
        "Rowgate [RG-TLS]: connections using insecure transport are prohibited; connect with TLS",
    )
}
