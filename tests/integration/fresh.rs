//! What a session has, and when it is gone: reset, another login on the same connection, an error of the protocol, the
//! database's end.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rowgate::codec::{AuthSwitch, Command, write_frame};

use crate::stand::{Flavour, Stand, on_both, wait_for};
use crate::wire::{Packet, Wire, native, text};

on_both!(
    a_reset_and_another_login_forget_all,
    the_governed_are_read_by_the_servers_mode_after_a_reset,
    a_command_starts_at_zero,
    commands_without_a_meaning_here_are_refused_by_name,
    too_much_long_data_is_told_at_execute,
    a_write_is_sent_once,
);

/// COM_CHANGE_USER to the same user.
fn log_in_again(wire: &mut Wire, user: &str, token: &str) {
    let body = [user.as_bytes(), b"\0\0shop\0\x2d\0mysql_native_password\0"].concat();
    wire.command(Command::CHANGE_USER.0, &body);
    let (seq, switch) = wire.packet();
    let challenge = AuthSwitch::parse(&switch).unwrap().data[..20].to_vec();
    let mut out = Vec::new();
    write_frame(&mut out, seq + 1, |out| out.extend_from_slice(&native(token, &challenge)));
    wire.send(&out);
    let (_, answer) = wire.packet();
    assert_eq!(answer[0], 0, "{}", answer.escape_ascii());
}

/// What a session leaves behind, a look at it, and what that shows of a new session; `None`: an error.
const KEPT: [(&str, &str, Option<&str>); 9] = [
    ("SET @v = 'kept'", "SELECT IFNULL(@v, 'gone')", Some("gone")),
    ("CREATE TEMPORARY TABLE tt (a INT)", "SELECT 1 FROM tt", None),
    ("SET sql_mode = 'ANSI_QUOTES'", "SELECT \"gone\"", Some("gone")),
    ("SET NAMES latin1", "SELECT @@character_set_client", Some("utf8mb4")),
    ("SET autocommit = 0", "SELECT @@autocommit + 6", Some("7")),
    ("SELECT LAST_INSERT_ID(77)", "SELECT LAST_INSERT_ID() + 5", Some("5")),
    ("SELECT GET_LOCK('kept', 0)", "SELECT IF(GET_LOCK('kept', 10), 'gone', 'kept')", Some("gone")),
    (
        "BEGIN; UPDATE payments SET amount_cents = -7 WHERE id = 1",
        "SELECT IF(amount_cents = -7, 'kept', 'gone') FROM payments WHERE id = 1",
        Some("gone"),
    ),
    ("PREPARE p FROM 'SELECT 1'", "EXECUTE p", None),
];

fn a_reset_and_another_login_forget_all(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("backup", "dumpers");
    for how in [Command::RESET_CONNECTION, Command::CHANGE_USER] {
        let mut wire = Wire::login(stand.gateway.port, "backup", &token, 0);
        let renew = |wire: &mut Wire| {
            if how == Command::CHANGE_USER {
                return log_in_again(wire, "backup", &token);
            }
            wire.command(how.0, &[]);
            assert_eq!(wire.packet(), (1, vec![0, 0, 0, 2, 0, 0, 0]), "it says of no transaction");
        };
        for (keep, look, seen) in KEPT {
            for sql in keep.split("; ") {
                let said = text(&wire.query(sql));
                assert!(!said.starts_with("1:\\xff"), "{sql}: {said}");
            }
            renew(&mut wire);
            let said = text(&wire.query(look));
            match seen {
                Some(seen) => assert!(said.contains(&format!("{seen} ")), "{how:?} {look}: {said}"),
                None => assert!(said.starts_with("1:\\xff"), "{how:?} {look}: {said}"),
            }
        }
        // The gateway's own: statements, cursors, the database.
        let (id, _) = wire.prepare("SELECT id FROM orders");
        wire.execute(id, 1);
        renew(&mut wire);
        let executed = text(&wire.execute(id, 0));
        assert!(executed.contains("given to the gateway"), "{how:?}: {executed}");
        wire.command(Command::STMT_FETCH.0, &[id.to_le_bytes(), 1_u32.to_le_bytes()].concat());
        assert!(text(&[wire.packet()]).contains("given to the gateway"), "{how:?}");
        assert!(text(&wire.query("SELECT DATABASE()")).contains("shop"), "{how:?}");
        if flavour == Flavour::MariaDb {
            let last = text(&wire.execute(u32::MAX, 0));
            assert!(last.contains("given to the gateway"), "{how:?}: {last}");
        }
    }
}

/// A text in double quotes is a name before the reset, and a text after it; taken for a name, it would be masked.
fn the_governed_are_read_by_the_servers_mode_after_a_reset(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("agent", "agents");
    let sql = "SELECT \"ssn\" AS x, id FROM customers WHERE id = 7";
    for how in [Command::RESET_CONNECTION, Command::CHANGE_USER] {
        let mut wire = Wire::login(stand.gateway.port, "agent", &token, 0);
        for _ in 0..2 {
            assert!(text(&wire.query("SET sql_mode = 'ANSI_QUOTES'")).starts_with("1:\\x00"));
            let named = text(&wire.query(sql));
            assert!(!named.contains(&xtask::shop::customer(7).ssn), "{named}");
            assert!(!named.contains("\\x03ssn\\x01"), "{named}");
            if how == Command::CHANGE_USER {
                log_in_again(&mut wire, "agent", &token);
            } else {
                wire.command(how.0, &[]);
                wire.packet();
            }
            let read = text(&wire.query(sql));
            assert!(read.contains("\\x03ssn\\x017"), "{how:?}: {read}");
        }
    }
}

/// Directly as through: an error, and the end.
fn a_command_starts_at_zero(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("backup", "dumpers");
    let (user, password) = (xtask::mariadb::SERVICE_USER, xtask::mariadb::SERVICE_PASSWORD);
    for (port, user, password) in
        [(stand.database.port(), user, password), (stand.gateway.port, "backup", token.as_str())]
    {
        let mut wire = Wire::login(port, user, password, 0);
        assert!(text(&wire.query("SELECT 40 + 2")).contains("42"));
        let mut out = Vec::new();
        write_frame(&mut out, 1, |out| out.extend_from_slice(b"\x03SELECT 40 + 2"));
        wire.send(&out);
        let said: Vec<Packet> = std::iter::from_fn(|| wire.try_packet()).collect();
        let error = &said.first().expect("a word").1;
        assert!(error.starts_with(&[0xFF, 0x84, 0x04]), "1156: {}", text(&said));
        assert_eq!(said.len(), 1, "{}", text(&said));
    }
}

/// Every byte that is no command of the gateway's: refused, by its name where it has one; the session goes on, and so does
/// the database.
fn commands_without_a_meaning_here_are_refused_by_name(flavour: Flavour) {
    const MEANT: [Command; 17] = [
        Command::QUIT,
        Command::INIT_DB,
        Command::QUERY,
        Command::STATISTICS,
        Command::PROCESS_KILL,
        Command::PING,
        Command::CHANGE_USER,
        Command::STMT_PREPARE,
        Command::STMT_EXECUTE,
        Command::STMT_SEND_LONG_DATA,
        Command::STMT_CLOSE,
        Command::STMT_RESET,
        Command::SET_OPTION,
        Command::STMT_FETCH,
        Command::RESET_CONNECTION,
        Command::MARIADB_STMT_BULK_EXECUTE,
        // Not sent here: in the middle of the loop it would end the session.
        Command(0xFF),
    ];
    let stand = Stand::on(flavour);
    for (user, group) in [("backup", "dumpers"), ("agent", "agents"), ("dba", "dba")] {
        let token = stand.token(user, group);
        let mut wire = Wire::login(stand.gateway.port, user, &token, 0);
        for byte in (0..=u8::MAX).filter(|byte| !MEANT.contains(&Command(*byte))) {
            wire.command(byte, &[0; 12]);
            let said = text(&wire.answer());
            assert!(said.starts_with("1:\\xff\\x17\\x04#08S01"), "{byte:#x}: {said}");
            assert!(said.contains(Command(byte).name()), "{byte:#x}: {said}");
        }
        assert!(text(&wire.query("SELECT 40 + 2")).contains("42"), "{user}");
    }
    stand.database.sql("SELECT 1").unwrap();
}

/// Long data has no answer: that it was too much is told at EXECUTE, and the session goes on.
fn too_much_long_data_is_told_at_execute(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| {
        "max_statement_bytes = 65536".clone_into(&mut options.server);
    });
    let token = stand.token("agent", "agents");
    let mut wire = Wire::login(stand.gateway.port, "agent", &token, 0);
    let (id, _) = wire.prepare("SELECT LENGTH(?)");
    let execute = [&id.to_le_bytes()[..], b"\0\x01\0\0\0\0\x01\xfc\0"].concat();
    let data = [&id.to_le_bytes()[..], &[0, 0], &vec![b'x'; 25_000]].concat();
    for (pieces, told) in [(2, "50000"), (4, "RG-LIMIT"), (1, "RG-LIMIT")] {
        for _ in 0..pieces {
            wire.command(Command::STMT_SEND_LONG_DATA.0, &data);
        }
        wire.command(Command::STMT_EXECUTE.0, &execute);
        let said = wire.answer();
        // Its length as a binary row has it.
        let length = said.iter().rev().nth(1).map(|(_, row)| row.clone()).unwrap_or_default();
        let found = length.windows(4).any(|four| four == 50_000_u32.to_le_bytes());
        assert!(text(&said).contains(told) || told == "50000" && found, "{told}: {}", text(&said));
        assert!(text(&wire.query("SELECT 40 + 2")).contains("42"), "the session goes on");
    }
    wire.command(Command::STMT_RESET.0, &id.to_le_bytes());
    assert_eq!(wire.packet().1[0], 0);
    wire.command(Command::STMT_SEND_LONG_DATA.0, &data);
    wire.command(Command::STMT_EXECUTE.0, &execute);
    let said = wire.answer();
    let row = &said[said.len() - 2].1;
    assert!(row.windows(4).any(|four| four == 25_000_u32.to_le_bytes()), "{}", text(&said));
}

/// What a write looks like on its way.
const WRITE: &[u8] = b"INSERT INTO orders VALUES (7";

/// A relay in front of the database that ends a connection when the answer to a write comes, which it keeps to itself.
struct Swallower {
    port: u16,
    /// Writes that the gateway sent.
    writes: Arc<AtomicUsize>,
    armed: Arc<AtomicBool>,
}

impl Swallower {
    fn to(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (writes, armed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let shared = (Arc::clone(&writes), Arc::clone(&armed));
        thread::spawn(move || {
            for gateway in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).unwrap();
                let (writes, armed) = shared.clone();
                let swallows = Arc::new(AtomicBool::new(false));
                let copy = |stream: &TcpStream| stream.try_clone().unwrap();
                let (from, to, sees) = (copy(&gateway), copy(&server), Arc::clone(&swallows));
                thread::spawn(move || {
                    pump(from, to, |bytes| {
                        if bytes.windows(WRITE.len()).any(|part| part == WRITE) {
                            writes.fetch_add(1, Ordering::SeqCst);
                            sees.store(armed.load(Ordering::SeqCst), Ordering::SeqCst);
                        }
                        true
                    });
                });
                thread::spawn(move || pump(server, gateway, |_| !swallows.load(Ordering::SeqCst)));
            }
        });
        Self { port, writes, armed }
    }
}

/// Relays as long as `goes_on` says so of what came; then both ends are over.
fn pump(mut from: TcpStream, mut to: TcpStream, goes_on: impl Fn(&[u8]) -> bool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 || !goes_on(&buffer[..read]) || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// The database's connection ends where nobody knows whether the write was done: the client is told so, and that is all.
fn a_write_is_sent_once(flavour: Flavour) {
    let mut relay = None;
    let stand = Stand::on_with(flavour, |options| {
        let swallower = Swallower::to(options.database_port);
        options.database_port = swallower.port;
        relay = Some(swallower);
    });
    let relay = relay.unwrap();
    let token = stand.token("backup", "dumpers");
    let count = |id: u32| {
        let sql = format!("SELECT COUNT(*) FROM shop.orders WHERE id = {id}");
        stand.database.sql(&sql).unwrap().trim().to_owned()
    };
    relay.armed.store(true, Ordering::SeqCst);
    // The first statement of its session, on a connection of the pool, and a later one.
    for (id, first) in [(70_001, true), (70_002, false)] {
        let mut wire = Wire::login(stand.gateway.port, "backup", &token, 0);
        if !first {
            wire.query("SELECT 1");
        }
        relay.writes.store(0, Ordering::SeqCst);
        let sql = format!("INSERT INTO orders VALUES ({id}, 1, '2026-01-01', 'new', 5)");
        wire.command(3, sql.as_bytes());
        let said = text(&[wire.packet()]);
        assert!(said.contains("RG-UPSTREAM"), "{id}: {said}");
        assert!(wire.try_packet().is_none(), "{id}: the session goes on");
        wait_for("the row", || (count(id) == "1").then_some(()));
        assert_eq!(relay.writes.load(Ordering::SeqCst), 1, "{id}: sent again");
    }
}
