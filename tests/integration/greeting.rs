//! Before the login: what the greeting says; whom, how long and how much the gateway listens to before it knows anyone.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use rowgate::codec::{
    Capabilities, ColumnDefinition, Handshake, Header, LoginRequest, SslRequest, write_frame,
    write_packet,
};
use socket2::{Domain, Socket, Type};
use xtask::gateway::Options;

use crate::stand::{Flavour, Stand, errors, on_both, wait_for};
use crate::wire::{PLAIN, Packet, Wire, native, text};

on_both!(
    the_greeting_is_the_gateways_own_with_the_databases_version,
    what_has_no_effect_is_not_offered,
    character_sets_that_read_text_otherwise_are_refused,
    what_the_server_makes_of_a_logins_character_set_does_not_count,
    the_governed_can_t_set_a_character_set_that_reads_text_otherwise,
);

/// A connection that has been greeted, and not logged in.
struct Greeted {
    stream: TcpStream,
    greeting: Vec<u8>,
}

impl Greeted {
    fn by(port: u16) -> Self {
        Self::from(Ipv4Addr::LOCALHOST, port).unwrap()
    }

    /// From this address of loopback; what came in place of the greeting, if it is none.
    fn from(source: Ipv4Addr, port: u16) -> Result<Self, Packet> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddrV4::new(source, 0).into()).unwrap();
        socket.connect(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let (seq, greeting) = read(&mut stream).expect("a first packet");
        if greeting.first() == Some(&0xFF) {
            Err((seq, greeting))
        } else {
            Ok(Self { stream, greeting })
        }
    }

    fn greeting(&self) -> Handshake<'_> {
        Handshake::parse(&self.greeting).unwrap()
    }

    /// A login's payload, by mysql_native_password.
    fn login(&self, token: &str, collation: u8, more: u64) -> Vec<u8> {
        let request = LoginRequest {
            capabilities: Capabilities(PLAIN | more),
            max_packet: 1 << 24,
            collation,
            user: "bot",
            auth_response: &native(token, &self.greeting().scramble),
            schema: None,
            plugin: Some("mysql_native_password"),
            attributes: Vec::new(),
        };
        let mut payload = Vec::new();
        request.write(&mut payload);
        payload
    }

    fn send(&mut self, seq: u8, payload: &[u8]) {
        let mut out = Vec::new();
        write_packet(&mut out, seq, payload);
        self.stream.write_all(&out).unwrap();
    }

    /// The next packet, unless the connection ends.
    fn hear(&mut self) -> Option<Packet> {
        read(&mut self.stream)
    }
}

fn read(stream: &mut TcpStream) -> Option<Packet> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).ok()?;
    let header = Header::parse(&header)?;
    let mut payload = vec![0; header.len];
    stream.read_exact(&mut payload).ok()?;
    Some((header.seq, payload))
}

/// So many logins that ended so.
fn counted(stand: &Stand, result: &str) -> Option<f64> {
    stand.gateway.metric(&format!("rowgate_logins_total{{result=\"{result}\"")).unwrap()
}

fn the_greeting_is_the_gateways_own_with_the_databases_version(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let direct = Greeted::by(stand.database.port());
    let [first, second] = [(); 2].map(|()| Greeted::by(stand.gateway.port));
    let (direct, first, second) = (direct.greeting(), first.greeting(), second.greeting());
    assert_eq!(first.version, direct.version);
    assert_eq!(first.plugin, direct.plugin);
    assert_ne!(first.scramble, second.scramble, "each connection has a challenge of its own");
    assert_ne!(first.connection_id, second.connection_id);
    // Never one of the database's.
    assert!(first.connection_id >> 31 == 1 && second.connection_id >> 31 == 1);
    let says_mysql =
        |greeting: &Handshake<'_>| greeting.capabilities.has(Capabilities::LONG_PASSWORD);
    assert_eq!(says_mysql(&first), says_mysql(&direct), "bit 0 tells the servers apart");
    let extended = first.capabilities.0 & Capabilities::EXTENDED;
    assert_eq!(extended != 0, flavour == Flavour::MariaDb, "{extended:#x}");
}

/// A flag that both servers offer would be lost between gateway and database: who asks for it all the same has the same
/// session as who does not.
fn what_has_no_effect_is_not_offered(flavour: Flavour) {
    const LOST: u64 = Capabilities::INTERACTIVE;
    let stand = Stand::on(flavour);
    stand.database.sql("SET GLOBAL interactive_timeout = 777").unwrap();
    let offered = |port| Greeted::by(port).greeting().capabilities.0;
    assert_eq!(offered(stand.database.port()) & LOST, LOST);
    assert_eq!(offered(stand.gateway.port) & (LOST | Capabilities::ODBC), 0);
    let token = stand.token("agent", "agents");
    for more in [0, LOST] {
        let mut wire = Wire::login(stand.gateway.port, "agent", &token, more);
        assert!(!text(&wire.query("SELECT @@wait_timeout")).contains("777"));
    }
}

/// Those whose text the lexer reads as the servers do.
const READ_ALIKE: [&str; 6] = ["utf8mb4", "utf8mb3", "utf8", "latin1", "ascii", "binary"];

/// Of all that the database knows by a byte: at the login, and by COM_CHANGE_USER, whoever asks.
fn character_sets_that_read_text_otherwise_are_refused(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("bot", "dumpers");
    let known = "SELECT id, character_set_name, collation_name FROM information_schema.collations WHERE id < 256";
    let known = stand.database.sql(known).unwrap();
    stand.database.sql("SET GLOBAL init_connect = 'SET NAMES latin1'").unwrap();
    let (mut refused, mut taken) = (0, 0);
    for line in known.lines() {
        let [id, name, collation] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let Ok(id) = id.parse::<u8>() else { continue };
        let mut client = Greeted::by(stand.gateway.port);
        let login = client.login(&token, id, 0);
        client.send(1, &login);
        let said = text(&[client.hear().expect("an answer")]);
        if READ_ALIKE.contains(&name) {
            assert!(said.starts_with("2:\\x00"), "{id} {name}: {said}");
            // (This one is MySQL 5's own, for which the default stands.)
            let collation = if id == 223 { "utf8mb4_general_ci" } else { collation };
            client
                .send(0, b"\x03SELECT CONCAT(@@collation_connection, ' ', @@character_set_client)");
            let answer: Vec<_> = (0..5).map_while(|_| client.hear()).collect();
            let set = collation.split('_').next().unwrap();
            let wanted = format!("{collation} {set}");
            assert!(text(&answer).contains(&wanted), "{id} {wanted}: {}", text(&answer));
            let definition = ColumnDefinition::parse(&answer[1].1, Capabilities(PLAIN)).unwrap();
            // (Nothing is converted to `binary`: it is the value's own then. MariaDB is told a character set by the number
            // of its first collation, and names that.)
            let told = definition.charset == u16::from(id)
                || [63, 223].contains(&id)
                || flavour == Flavour::MariaDb;
            assert!(told, "{id} {name}: definitions name {}", definition.charset);
            taken += 1;
            continue;
        }
        assert!(said.contains("RG-UNSUPPORTED"), "{id} {name}: {said}");
        assert!(client.hear().is_none(), "{id} {name}: the connection goes on");
        refused += 1;
    }
    assert!(refused > 40 && taken > 40, "{refused} refused, {taken} taken");
    assert_eq!(counted(&stand, "charset"), Some(f64::from(refused)));
    for id in [1, 13, 28, 35, 54, 56, 60, 95, 248] {
        let mut wire = Wire::login(stand.gateway.port, "bot", &token, 0);
        wire.command(0x11, &[&b"bot\0\0\0"[..], &[id, 0], b"mysql_native_password\0"].concat());
        let said = text(&[wire.packet()]);
        assert!(said.contains("RG-UNSUPPORTED"), "{id}: {said}");
        assert!(wire.try_packet().is_none(), "{id}: the connection goes on");
    }
}

/// Nor does a server that takes no client's word for it, on a connection that is new or was used: it would read a backslash
/// behind some bytes as a part of a character.
fn what_the_server_makes_of_a_logins_character_set_does_not_count(flavour: Flavour) {
    // (MySQL has no such setting any more.)
    let deaf = ["--character-set-server=sjis", "--skip-character-set-client-handshake"];
    let deaf = if flavour == Flavour::MariaDb { &deaf[..] } else { &deaf[..1] };
    let stand = Stand::after(flavour, deaf, |_| {}, |options| options.workers = 1);
    let token = stand.token("bot", "agents");
    for round in 0..3 {
        let mut wire = Wire::login(stand.gateway.port, "bot", &token, 0);
        let sql = "SELECT CONCAT(@@character_set_client, ' ', @@character_set_results, ' ', @@collation_connection)";
        let seen = text(&wire.query(sql));
        assert!(seen.contains("utf8mb4 utf8mb4 utf8mb4_general_ci"), "{round}: {seen}");
    }
}

/// By SET, in any of its forms: nothing is sent, and the session goes on.
fn the_governed_can_t_set_a_character_set_that_reads_text_otherwise(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("bot", "agents");
    let mut wire = Wire::login(stand.gateway.port, "bot", &token, 0);
    let names =
        ["gbk", "big5", "sjis", "cp932", "gb2312", "euckr", "ucs2", "utf16", "utf32", "gb18030"];
    for name in names {
        for sql in [
            format!("SET NAMES {name}"),
            format!("SET NAMES '{name}'"),
            format!("SET CHARACTER SET {name}"),
            format!("SET character_set_client = {name}"),
            format!("SET @@session.character_set_connection = {name}"),
            format!("SET time_zone = '+00:00', character_set_results = '{name}'"),
            format!("SET collation_connection = {name}_bin"),
        ] {
            let said = text(&wire.query(&sql));
            assert!(said.starts_with("1:\\xff") && said.contains("RG-"), "{sql}: {said}");
        }
    }
    for name in ["utf8mb4", "latin1", "ascii", "binary"] {
        let said = text(&wire.query(&format!("SET NAMES {name}")));
        assert!(said.starts_with("1:\\x00"), "{name}: {said}");
    }
    let seen = text(&wire.query("SELECT @@character_set_client, @@character_set_results"));
    assert!(seen.contains("\\x06binary\\x06binary"), "{seen}");
}

/// A pair of certificate and key for the gateway.
fn with_tls(change: impl FnOnce(&mut Options)) -> (Stand, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut make = std::process::Command::new(crate::stand::binary());
    make.args(["cert", "self-signed", "--host", "127.0.0.1", "--out"]).arg(folder.path());
    let made = make.output().unwrap();
    assert!(made.status.success(), "{}", errors(&made));
    let stand = Stand::with(|options| {
        let [certificate, key] =
            ["rowgate.crt", "rowgate.key"].map(|name| folder.path().join(name));
        options.more.push_str(&format!(
            "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
            certificate.display(),
            key.display()
        ));
        change(options);
    });
    (stand, folder)
}

/// What comes in clear behind the request for TLS is for TLS alone, even in the same segment: else who is on the way could
/// put a login, or statements, in front of the client's own.
#[test]
fn what_follows_the_request_for_tls_in_clear_is_not_looked_at() {
    let (stand, _folder) = with_tls(|_| {});
    let token = stand.token("bot", "agents");
    for apart in [false, true] {
        let mut client = Greeted::by(stand.gateway.port);
        let mut asked = Vec::new();
        write_frame(&mut asked, 1, |out| SslRequest::write(Capabilities(PLAIN), 45, out));
        let mut behind = Vec::new();
        let login = client.login(&token, 45, 0);
        write_frame(&mut behind, 2, |out| out.extend_from_slice(&login));
        write_frame(&mut behind, 0, |out| out.extend_from_slice(b"\x03SELECT 40 + 2"));
        if apart {
            client.stream.write_all(&asked).unwrap();
            std::thread::sleep(Duration::from_millis(100));
            client.stream.write_all(&behind).unwrap();
        } else {
            client.stream.write_all(&[asked, behind].concat()).unwrap();
        }
        let mut heard = Vec::new();
        let _ = client.stream.read_to_end(&mut heard);
        // An alert of TLS at the most.
        let shown = heard.escape_ascii().to_string();
        assert!(heard.is_empty() || heard[0] == 0x15, "{shown}");
        assert!(!shown.contains("42"), "{shown}");
    }
    assert_eq!(counted(&stand, "ok"), Some(0.0), "a login in clear was taken");
}

/// One address has so many unfinished logins at the most, each of them for so long; others are not kept out by them. Each
/// of the ways to end before a login has a counter of its own.
#[test]
fn who_has_not_logged_in_is_heard_for_a_while_and_not_by_the_hundred() {
    const MOST: usize = 64;
    let stand = Stand::with(|options| {
        "login_timeout_s = 4\nmax_connections = 100".clone_into(&mut options.server);
    });
    let token = stand.token("bot", "agents");
    let port = stand.gateway.port;
    let mut silent: Vec<Greeted> = (0..MOST).map(|_| Greeted::by(port)).collect();
    // Not silent altogether: a part of a login, and a login whose proof never comes.
    let whole = silent[0].login(&token, 45, 0);
    silent[0].stream.write_all(&[40, 0, 0, 1]).unwrap();
    silent[0].stream.write_all(&whole[..20]).unwrap();
    let asked = [&whole[..32], b"bot\0\0dialog\0"].concat();
    silent[1].send(1, &asked);
    assert_eq!(silent[1].hear().expect("a switch").1[0], 0xFE);
    let Err((_, refusal)) = Greeted::from(Ipv4Addr::LOCALHOST, port) else {
        panic!("one more than the most was greeted")
    };
    let said = refusal.escape_ascii().to_string();
    assert!(
        refusal.starts_with(&[0xFF, 0x10, 0x04]) && said.contains("unfinished logins"),
        "{said}"
    );
    let mut other = Greeted::from(Ipv4Addr::new(127, 0, 0, 2), port).expect("another address");
    let login = other.login(&token, 45, 0);
    other.send(1, &login);
    assert_eq!(other.hear().expect("an answer").1[0], 0, "others log in meanwhile");
    for client in &mut silent {
        let said = text(&[client.hear().expect("a word")]);
        assert!(said.contains("too long") && said.contains("RG-LOGIN"), "{said}");
        assert!(client.hear().is_none(), "its connection goes on");
    }
    assert!(stand.sql_ok("bot", &token, "SELECT 40 + 2").contains("42"), "there is room again");
    let counted = |result| counted(&stand, result);
    wait_for("the timeouts", || (counted("timeout") == Some(64.0)).then_some(()));
    assert_eq!(counted("unfinished"), Some(1.0));
    drop(other);
    let mut long = Greeted::by(port);
    long.stream.write_all(&[1, 0, 1, 1]).unwrap();
    assert!(text(&[long.hear().expect("a word")]).contains("64 KiB"));
    wait_for("the malformed one", || (counted("malformed") == Some(1.0)).then_some(()));
}

#[test]
fn logins_outside_tls_where_it_is_required_are_counted() {
    let (stand, _folder) = with_tls(|options| {
        "max_connections = 1".clone_into(&mut options.server);
        options.upstream_tls.push_str("\nclient_tls = \"required\"");
    });
    let token = stand.token("bot", "agents");
    let counted = |result| counted(&stand, result);
    let mut client = Greeted::by(stand.gateway.port);
    let Err((_, refusal)) = Greeted::from(Ipv4Addr::LOCALHOST, stand.gateway.port) else {
        panic!("one more than all was greeted")
    };
    assert!(refusal.starts_with(&[0xFF, 0x10, 0x04]), "{}", refusal.escape_ascii());
    let login = client.login(&token, 45, 0);
    client.send(1, &login);
    assert!(text(&[client.hear().expect("a word")]).contains("RG-TLS"));
    wait_for("the count", || (counted("tls") == Some(1.0)).then_some(()));
    assert_eq!(counted("sessions"), Some(1.0));
    assert_eq!(counted("proof"), Some(0.0), "nothing was looked at");
}

/// Who listens to other machines wants TLS without being told so.
#[test]
fn off_loopback_a_login_is_inside_tls_by_default() {
    for (host, refused) in [("127.0.0.1", false), ("0.0.0.0", true)] {
        let (stand, _folder) = with_tls(|options| host.clone_into(&mut options.listen_host));
        let token = stand.token("bot", "agents");
        let mut client = Greeted::by(stand.gateway.port);
        let login = client.login(&token, 45, 0);
        client.send(1, &login);
        let said = text(&[client.hear().expect("an answer")]);
        assert_eq!(said.contains("RG-TLS"), refused, "{host}: {said}");
        assert_eq!(said.starts_with("2:\\x00"), !refused, "{host}: {said}");
    }
}
