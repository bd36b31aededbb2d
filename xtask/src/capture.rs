//! `cargo xtask capture`: records what stock clients and a real server say to each other, packet by packet, into
//! `tests/captures/`. Run it when a new client or server is to be understood; the tests only read what it wrote.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;

use anyhow::{Context as _, Result};
use xtask::mariadb::{self, Server};
use xtask::setup;
use xtask::sh::{self, step};

/// Values of every type, NULLs, an empty text, and one of more than 250 bytes.
const TYPES: &str = "CREATE DATABASE kinds; CREATE TABLE kinds.t (a TINYINT, b SMALLINT UNSIGNED, c INT, d BIGINT, \
    e FLOAT, f DOUBLE, g DECIMAL(10,2), h DATE, i DATETIME(6), j TIME(3), k YEAR, l BIT(9), m VARCHAR(400), n BLOB, \
    o ENUM('x','y'), p SET('x','y'), q JSON, r TIMESTAMP NULL); \
    INSERT INTO kinds.t VALUES (-1, 65535, 7, -9, 1.5, -2.25, '12.34', '2026-11-24', '2026-11-24 01:02:03.000456', \
    '-12:34:56.789', 2026, b'101', REPEAT('wide', 100), x'00ff', 'y', 'x,y', '{\"k\": 1}', '2026-11-24 01:02:03'), \
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), \
    (0, 0, 0, 0, 0, 0, 0, '0000-00-00', '0000-00-00', '00:00:00', 0, b'0', '', '', 'x', '', '[]', NULL);";

/// The text protocol, by PyMySQL. (The MariaDB client asks a MariaDB server for definitions of another form, which
/// Rowgate offers to nobody.)
const TEXT: &str = "
import sys, pymysql
db = pymysql.connect(host='127.0.0.1', port=int(sys.argv[1]), user=sys.argv[2], password=sys.argv[3], database='kinds')
k = db.cursor()
k.execute('SELECT * FROM t')
k.execute('UPDATE t SET c = 8 WHERE a = -1')
k.execute('SELECT a FROM t WHERE 1 = 0')
try: k.execute('SELECT 1 FROM nowhere')
except pymysql.err.ProgrammingError: pass
db.select_db('mysql')
db.ping()
k.execute('SELECT DATABASE()')
db.close()
";

/// Prepared statements, by MySQL's own Python driver.
/// It can't read YEAR.
const PREPARED: &str = "
import sys, mysql.connector as c
db = c.connect(host='127.0.0.1', port=int(sys.argv[1]), user=sys.argv[2], password=sys.argv[3], ssl_disabled=True,
               use_pure=True, database='kinds')
k = db.cursor(prepared=True)
k.execute('SELECT a, b, c, d, e, f, g, h, i, j, l, m, n, o, p, q, r FROM t WHERE a >= ? OR a IS NULL', (-5,)); k.fetchall()
k.execute('SELECT a, b, c, d, e, f, g, h, i, j, l, m, n, o, p, q, r FROM t WHERE a >= ? OR a IS NULL', (0,)); k.fetchall()
k.execute('INSERT INTO t (c, m) VALUES (?, ?)', (5, 'text')); db.commit()
db.close()
";

/// Records everything.
pub(crate) fn capture() -> Result<()> {
    setup::ensure(&setup::DATABASE)?;
    setup::pymysql()?;
    let python = setup::connector()?;
    let work = tempfile::tempdir()?;
    step("starting MariaDB");
    let server = Server::start(&work.path().join("mariadb"), &[])?;
    server.add_service_account()?;
    server.sql(TYPES)?;
    for (name, script) in [("pymysql-text", TEXT), ("python-connector-prepared", PREPARED)] {
        record(name, server.port(), |port| {
            let mut client = Command::new("python3");
            client.env("PYTHONPATH", &python);
            let port = port.to_string();
            client.args(["-c", script, &port, mariadb::SERVICE_USER, mariadb::SERVICE_PASSWORD]);
            sh::capture(&mut client).map(drop)
        })?;
    }
    Ok(())
}

/// Relays one connection between `client` and the database, and writes down its packets.
fn record(name: &str, database: u16, client: impl FnOnce(u16) -> Result<()>) -> Result<()> {
    step(&format!("recording {name}"));
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let (send, received) = mpsc::channel();
    let relay = std::thread::spawn(move || -> Result<()> {
        let (client, _) = listener.accept()?;
        let server = TcpStream::connect(("127.0.0.1", database))?;
        let (from, to, back) = (client.try_clone()?, server.try_clone()?, send.clone());
        let outward = std::thread::spawn(move || pass('C', from, to, &back));
        pass('S', server, client, &send);
        outward.join().map_err(|_| anyhow::anyhow!("the relay panicked"))
    });
    client(port)?;
    relay.join().map_err(|_| anyhow::anyhow!("the relay panicked"))??;

    let mut text = String::new();
    let mut held: [(char, Vec<u8>); 2] = [('C', Vec::new()), ('S', Vec::new())];
    for (side, bytes) in received {
        for (name, pending) in held.iter_mut().filter(|(name, _)| *name == side) {
            pending.extend_from_slice(&bytes);
            while let Some(len) = packet_len(pending) {
                let packet: Vec<u8> = pending.drain(..len).collect();
                let _ = write!(text, "{name} ");
                packet.iter().for_each(|byte| {
                    let _ = write!(text, "{byte:02x}");
                });
                text.push('\n');
            }
        }
    }
    let file = sh::root().join("tests/captures").join(format!("{name}.hex"));
    fs::create_dir_all(file.parent().context("a folder")?)?;
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
}

/// Copies until the end, telling of each piece.
fn pass(side: char, mut from: TcpStream, mut to: TcpStream, tell: &mpsc::Sender<(char, Vec<u8>)>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || tell.send((side, buffer[..n].to_vec())).is_err() {
            break;
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// The length of the first whole packet, header and all.
fn packet_len(bytes: &[u8]) -> Option<usize> {
    let [a, b, c, ..] = *bytes else { return None };
    let len = 4 + (usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16);
    (bytes.len() >= len).then_some(len)
}
