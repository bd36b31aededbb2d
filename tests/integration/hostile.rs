//! A database that means harm. No real server misbehaves on purpose, so this one is a relay in front of a real one that
//! answers certain statements, or a login, by itself: with wrong numbers, lengths that lie, counts beyond reason, and
//! whatever else a client should never have to read. The gateway refuses, ends that session, keeps its memory bounded,
//! lets no raw value of a masked column pass, and serves the next one.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rowgate::codec::{ColumnDefinition, ColumnFlags, ColumnType, Header, write_frame};
use xtask::gateway::{Gateway, Options};
use xtask::mariadb::SERVICE_PASSWORD;

use crate::cutting::{Act, By, Ending, Fault, Heard, Say, converse};
use crate::stand::{Database, Flavour, binary, wait_for};
use crate::wire::{Packet, text};

/// What the masked column holds in every answer of the hostile server.
const RAW: &[u8] = b"raw-078-05-1120";

/// What one session may cost the gateway at the most: a packet of 16 MiB in a buffer that has just grown, what is held, and
/// what is written anew; of each once the old and the new while it grows.
const MOST_MEMORY_KIB: u64 = 128 << 10;

/// Packets with rising sequence ids.
#[derive(Default)]
struct Packets {
    out: Vec<u8>,
    seq: u8,
}

impl Packets {
    fn add(mut self, payload: &[u8]) -> Self {
        self.seq = self.seq.wrapping_add(1);
        write_frame(&mut self.out, self.seq, |out| out.extend_from_slice(payload));
        self
    }

    /// The next packet has another number than its turn is.
    fn skip(mut self, ids: u8) -> Self {
        self.seq = self.seq.wrapping_add(ids);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.out.extend_from_slice(bytes);
        self
    }

    fn define(self, name: &str, schema: &[u8]) -> Self {
        self.define_as(name, schema, ColumnType::VAR_STRING)
    }

    fn define_as(self, name: &str, schema: &[u8], column_type: ColumnType) -> Self {
        let definition = ColumnDefinition {
            catalog: b"def",
            schema,
            table: b"customers",
            org_table: b"customers",
            name: name.as_bytes(),
            org_name: name.as_bytes(),
            extended: None,
            charset: 45,
            length: 100,
            column_type,
            flags: ColumnFlags(0),
            decimals: 0,
            tail: &[0, 0],
        };
        let mut payload = Vec::new();
        definition.write(&mut payload);
        self.add(&payload)
    }

    /// The result's head as it should be.
    fn head(self) -> Self {
        self.add(&[2]).define("id", b"shop").define("ssn", b"shop").add(EOF)
    }

    fn row(self) -> Self {
        let cells = [&[1, b'2', text_len(RAW)][..], RAW].concat();
        self.add(&cells)
    }
}

/// Between packets that come on their own.
const APART: Duration = Duration::from_millis(5);

/// COM_RESET_CONNECTION.
const RESET: u8 = 0x1F;
const EOF: &[u8] = &[0xFE, 0, 0, 2, 0];
const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];

fn text_len(text: &[u8]) -> u8 {
    u8::try_from(text.len()).unwrap()
}

/// What follows an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Silence: it is the gateway that ends the session.
    Waits,
    /// The server ends the connection after a while.
    Closes,
    /// The last packet again and again.
    Floods,
}

/// Which command is answered so.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Query,
    /// A query that nothing masks.
    Unmasked,
    Prepare,
    Execute,
}

/// What the client is to see.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sees {
    /// A documented error, or the end.
    Error,
    /// The database's error, without its text.
    Withheld,
    /// An answer, masked.
    Masked,
}

struct Script {
    name: &'static str,
    to: To,
    answer: fn(Packets) -> Packets,
    then: Then,
    sees: Sees,
}

const fn lie(name: &'static str, answer: fn(Packets) -> Packets) -> Script {
    Script { name, to: To::Query, answer, then: Then::Waits, sees: Sees::Error }
}

fn scripts() -> Vec<Script> {
    use Sees::{Masked, Withheld};
    use Then::{Closes, Floods};
    use To::{Execute, Prepare, Unmasked};
    let mut scripts = vec![
        lie("the first packet has a wrong number", |p| p.skip(4).head().row().add(EOF)),
        lie("a definition has a wrong number", |p| p.add(&[2]).skip(1).define("id", b"shop")),
        lie("the end has a wrong number", |p| p.head().row().skip(200).add(EOF)),
        lie("no columns", |p| p.add(&[0xFC, 0, 0])),
        lie("4,097 columns", |p| p.add(&[0xFC, 1, 16])),
        lie("65,535 columns", |p| p.add(&[0xFC, 0xFF, 0xFF])),
        lie("2^32 columns", |p| p.add(&[0xFE, 0, 0, 0, 0, 1, 0, 0, 0])),
        lie("a count that is cut short", |p| p.add(&[0xFE, 0, 0])),
        lie("more columns than were analysed", |p| {
            p.add(&[3]).define("id", b"shop").define("ssn", b"shop").define("ssn", b"shop").add(EOF)
        }),
        lie("fewer columns than were analysed", |p| p.add(&[1]).define("ssn", b"shop").add(EOF)),
        lie("columns in another order", |p| {
            p.add(&[2]).define("ssn", b"shop").define("id", b"shop").add(EOF)
        }),
        lie("rows before the definitions", |p| p.add(&[2]).row().row()),
        lie("the end before the definitions", |p| p.add(&[2]).add(EOF)),
        lie("an error amid the definitions", |p| {
            p.add(&[2]).define("id", b"shop").add(b"\xff\x25\x05#70100raw-078-05-1120")
        }),
        lie("a cell that is longer than its row", |p| p.head().add(&[1, b'2', 200, b'r', b'a'])),
        lie("a cell of 2^63 bytes", |p| {
            p.head().add(&[1, b'2', 0xFE, 0, 0, 0, 0, 0, 0, 0, 0x80, b'r'])
        }),
        lie("a cell of 2^24 bytes", |p| p.head().add(&[1, b'2', 0xFD, 0xFF, 0xFF, 0xFF, b'r'])),
        lie("a row without its second cell", |p| p.head().add(&[1, b'2'])),
        lie("an empty row", |p| p.head().add(&[])),
        lie("an end of three bytes", |p| p.head().row().add(&[0xFE, 0, 0])),
        lie("an error of one byte", |p| p.head().row().add(&[0xFF])),
        lie("an error with half a state", |p| p.head().add(b"\xff\x25\x05#70")),
        lie("an empty first packet", |p| p.add(&[])),
        lie("an OK of two bytes", |p| p.add(&[0, 0])),
        lie("session state that lies", |p| {
            p.add(&[
                0, 0, 0, 2, 0x40, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
            ])
        }),
        lie("a second result", |p| {
            p.head().row().add(&[0xFE, 0, 0, 0x0A, 0]).head().row().add(EOF)
        }),
        lie("a second result in another order", |p| {
            let p = p.head().row().add(&[0xFE, 0, 0, 0x0A, 0]);
            let swapped = p.add(&[2]).define("ssn", b"shop").define("id", b"shop").add(EOF);
            swapped.add(&[&[text_len(RAW)], RAW, &[1, b'2']].concat()).add(EOF)
        }),
        lie("an OK before the result", |p| p.add(&[0, 0, 0, 0x0A, 0, 0, 0]).head().row().add(EOF)),
        lie("a request for a file", |p| p.add(b"\xfb/etc/passwd")),
        lie("a row in packets of 16 MiB", |p| {
            let mut row = vec![b'x'; 0xFF_FFFF];
            row[..6].copy_from_slice(&[1, b'2', 0xFD, 0, 0, 0xFF]);
            p.head().add(&row).add(RAW)
        }),
        lie("definitions of 15 MiB", |p| {
            let long = vec![b's'; 15 << 20];
            p.add(&[2]).define("id", &long).define("ssn", &long).add(EOF)
        }),
        Script {
            then: Closes,
            ..lie("a first packet of 16 MiB that never comes", |p| {
                p.raw(&[0xF0, 0xFF, 0xFF, 1, 2, 3])
            })
        },
        Script {
            then: Closes,
            ..lie("a row of 16 MiB that never comes", |p| {
                p.head().raw(&[0xF0, 0xFF, 0xFF, 5, 1, b'2', 9])
            })
        },
        Script {
            then: Closes,
            ..lie("the end in mid row", |p| p.head().row().raw(&[9, 0, 0, 6, 1]))
        },
        Script {
            sees: Masked,
            ..lie("an error in place of the end", |p| {
                p.head().row().add(b"\xff\x25\x05#70100raw-078-05-1120")
            })
        },
        Script {
            sees: Withheld,
            ..lie("an error with data", |p| {
                p.add(b"\xff\x26\x04#23000Duplicate entry 'raw-078-05-1120'")
            })
        },
        Script {
            sees: Masked,
            ..lie("an OK with data", |p| p.add(&[&[0, 0, 0, 2, 0, 0, 0, 15], RAW].concat()))
        },
        Script {
            sees: Masked,
            ..lie("a masked column of another type", |p| {
                p.add(&[2])
                    .define("id", b"shop")
                    .define_as("ssn", b"shop", ColumnType::NEWDECIMAL)
                    .add(EOF)
                    .row()
                    .add(EOF)
            })
        },
        Script {
            sees: Masked,
            ..lie("an answer too many", |p| {
                let p = p.head().row().add(EOF);
                Packets { seq: 0, ..p }.head().row().add(EOF)
            })
        },
        Script { then: Floods, ..lie("rows without end", |p| p.head().row()) },
        Script {
            then: Floods,
            ..lie("definitions without end", |p| p.add(&[2]).define("id", b"shop"))
        },
        Script { then: Floods, ..lie("results without end", |p| p.add(&[0, 0, 0, 0x0A, 0, 0, 0])) },
    ];
    scripts.extend([
        Script {
            to: Unmasked,
            then: Floods,
            ..lie("more rows than anyone reads", |p| {
                p.add(&[1])
                    .define("id", b"shop")
                    .add(EOF)
                    .add(&[0xFC, 0xE8, 3].iter().copied().chain([b'x'; 1_000]).collect::<Vec<u8>>())
            })
        },
        Script {
            to: Unmasked,
            ..lie("a request for a file, of what nothing masks", |p| p.add(b"\xfb/etc/passwd"))
        },
        Script {
            to: Unmasked,
            ..lie("2^32 columns, of what nothing masks", |p| p.add(&[0xFE, 0, 0, 0, 0, 1, 0, 0, 0]))
        },
        Script {
            to: Unmasked,
            then: Closes,
            ..lie("a row of 16 MiB of what nothing masks", |p| {
                p.add(&[1]).define("id", b"shop").add(EOF).raw(&[0xF0, 0xFF, 0xFF, 4, 9, 9])
            })
        },
        Script {
            to: Prepare,
            ..lie("an answer to PREPARE that is cut short", |p| p.add(&[0, 7, 0, 0]))
        },
        Script { to: Prepare, ..lie("a result to PREPARE", |p| p.head().row().add(EOF)) },
        Script {
            to: Prepare,
            ..lie("a prepared statement with too many columns", |p| {
                p.add(&[0, 7, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0, 0])
            })
        },
        Script {
            to: Prepare,
            then: Floods,
            ..lie("definitions of parameters without end", |p| {
                p.add(&[0, 7, 0, 0, 0, 2, 0, 0xFF, 0xFF, 0, 0, 0]).define("?", b"")
            })
        },
        Script {
            to: Execute,
            ..lie("binary rows with another header", |p| p.head().add(&[7, 0, 1, b'2', 1, b'r']))
        },
        Script { to: Execute, ..lie("a binary row without its bitmap", |p| p.head().add(&[0])) },
        Script {
            to: Execute,
            ..lie("a binary cell that is longer than its row", |p| {
                p.head().add(&[0, 0, 1, b'2', 200, b'r'])
            })
        },
        Script {
            to: Execute,
            ..lie("a column of an unknown type", |p| {
                p.add(&[2])
                    .define_as("id", b"shop", ColumnType(77))
                    .define("ssn", b"shop")
                    .add(EOF)
                    .add(&[0, 0, 1, b'2', 15])
                    .raw(RAW)
            })
        },
        Script {
            to: Execute,
            sees: Masked,
            ..lie("text rows of a prepared statement", |p| {
                p.head().add(&[&[0, 0, 1, b'2', 15], RAW].concat()).add(EOF)
            })
        },
    ]);
    scripts
}

/// What the server says in a login: first, and after each packet of the gateway (the last again and again).
struct LoginScript {
    name: &'static str,
    says: fn() -> Vec<Vec<u8>>,
    then: Then,
}

fn greeting(capabilities: [u8; 4], plugin: &str) -> Vec<u8> {
    let mut payload = b"\x0a10.11.19-MariaDB\0\x07\0\0\0abcdefgh\0".to_vec();
    payload.extend_from_slice(&capabilities[..2]);
    payload.extend([45, 2, 0]);
    payload.extend_from_slice(&capabilities[2..]);
    payload.push(21);
    payload.extend([0; 10]);
    payload.extend_from_slice(b"ijklmnopqrst\0");
    payload.extend_from_slice(plugin.as_bytes());
    payload.push(0);
    packet(0, &payload)
}

fn packet(seq: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(&mut out, seq, |out| out.extend_from_slice(payload));
    out
}

const ALL: [u8; 4] = [0xFE, 0xF7, 0xFF, 0x81];

fn usual() -> Vec<u8> {
    greeting(ALL, "mysql_native_password")
}

fn login_scripts() -> Vec<LoginScript> {
    use Then::{Closes, Floods, Waits};
    let script = |name, then, says| LoginScript { name, says, then };
    vec![
        script("nothing at all", Closes, || vec![vec![]]),
        script("garbage", Waits, || {
            vec![[&[99, 0, 0, 0][..], &(100..=198).collect::<Vec<u8>>()].concat()]
        }),
        script("an OK for a greeting", Waits, || vec![packet(0, OK)]),
        script("an older protocol", Waits, || {
            vec![packet(0, b"\x093.23.58\0\x07\0\0\0abcdefgh\0")]
        }),
        script("a greeting without capabilities", Waits, || {
            vec![greeting([0; 4], "mysql_native_password")]
        }),
        script("a greeting that never ends", Closes, || vec![vec![0xF0, 0xFF, 0xFF, 0, 10, b'1']]),
        script("a greeting of 15 MiB", Waits, || vec![packet(0, &vec![b'1'; 15 << 20])]),
        script("switches without end", Waits, || {
            vec![usual(), packet(2, b"\xfemysql_native_password\0abcdefghijklmnopqrst\0")]
        }),
        script("a switch to the password in clear", Waits, || {
            vec![usual(), packet(2, b"\xfemysql_clear_password\0\0")]
        }),
        script("a switch to the oldest method", Waits, || vec![usual(), packet(2, b"\xfe")]),
        script("a switch to a method nobody has", Waits, || {
            vec![usual(), packet(2, b"\xfedialog\0Password: \0")]
        }),
        script("a switch without a challenge", Waits, || {
            vec![usual(), packet(2, b"\xfeclient_ed25519\0abc\0")]
        }),
        script("a key that is none", Waits, || {
            vec![
                greeting(ALL, "caching_sha2_password"),
                packet(2, &[1, 4]),
                packet(4, b"\x01no key"),
            ]
        }),
        script("a key of 15 MiB", Waits, || {
            let key = [&[1][..], &vec![b'k'; 15 << 20]].concat();
            vec![greeting(ALL, "caching_sha2_password"), packet(2, &[1, 4]), packet(4, &key)]
        }),
        script("the fast path without end", Floods, || {
            vec![greeting(ALL, "caching_sha2_password"), packet(2, &[1, 3])]
        }),
        script("a result for the baseline", Waits, || {
            vec![usual(), packet(2, OK), Packets::default().head().row().add(EOF).out]
        }),
        script("a request for a file for the baseline", Waits, || {
            vec![usual(), packet(2, OK), packet(1, b"\xfb/etc/passwd")]
        }),
        script("an error with data for the baseline", Waits, || {
            vec![usual(), packet(2, OK), packet(1, b"\xff\x26\x04#23000raw-078-05-1120")]
        }),
    ]
}

#[derive(Default)]
struct Shared {
    /// How the next logins go.
    login: Mutex<Option<(Vec<Vec<u8>>, Then)>>,
    open: Mutex<Vec<TcpStream>>,
    /// Hostile answers given, and such connections that the gateway has ended.
    given: AtomicUsize,
    ended: AtomicUsize,
    /// What it was told in hostile logins, packet by packet.
    heard: Mutex<Vec<Vec<u8>>>,
}

/// The server.
struct Hostile {
    port: u16,
    shared: Arc<Shared>,
}

impl Hostile {
    fn before(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for gateway in listener.incoming().map_while(Result::ok) {
                own.open.lock().unwrap().push(gateway.try_clone().unwrap());
                let shared = Arc::clone(&own);
                thread::spawn(move || {
                    let login = shared.login.lock().unwrap().clone();
                    match login {
                        Some((says, then)) => shared.log_in(gateway, &says, then),
                        None => shared.relay(gateway, target),
                    }
                });
            }
        });
        Self { port, shared }
    }

    /// Ends all connections; from here on logins go so.
    fn logins(&self, how: Option<(Vec<Vec<u8>>, Then)>) {
        *self.shared.login.lock().unwrap() = how;
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn log_in(&self, mut gateway: TcpStream, says: &[Vec<u8>], then: Then) {
        self.given.fetch_add(1, Ordering::SeqCst);
        let _ = gateway.set_read_timeout(Some(Duration::from_secs(30)));
        let mut says = says.iter().peekable();
        let mut last: &[u8] = &[];
        while let Some(now) = says.next() {
            last = now;
            if gateway.write_all(now).is_err() {
                break;
            }
            if says.peek().is_none() {
                break;
            }
            match read_packet(&mut gateway) {
                Some(packet) => self.heard.lock().unwrap().push(packet),
                None => break,
            }
        }
        match then {
            Then::Closes => {
                thread::sleep(Duration::from_millis(300));
                let _ = gateway.shutdown(Shutdown::Both);
            }
            Then::Floods => while gateway.write_all(last).is_ok() {},
            Then::Waits => {
                while let Some(packet) = read_packet(&mut gateway) {
                    self.heard.lock().unwrap().push(packet);
                    if gateway.write_all(last).is_err() {
                        break;
                    }
                }
            }
        }
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    fn relay(&self, mut gateway: TcpStream, target: u16) {
        let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { return };
        let (mut from, mut to) = (server.try_clone().unwrap(), gateway.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let scripts = scripts();
        let mut next = None;
        while let Some(packet) = read_packet(&mut gateway) {
            let command = packet.get(4).copied();
            let asked = number_in(&packet).and_then(|number| {
                let script = scripts.get(number / 2)?;
                Some((script, number % 2 == 1))
            });
            match asked {
                Some((script, _)) if script.to == To::Execute && command == Some(0x16) => {
                    next = asked;
                }
                Some((script, apart)) => return self.give(&mut gateway, script, apart),
                None => {}
            }
            if let Some((script, apart)) = next.filter(|_| command == Some(0x17)) {
                return self.give(&mut gateway, script, apart);
            }
            if server.write_all(&packet).is_err() {
                return;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
    }

    /// `apart`: each packet comes on its own, so that the gateway has looked at it before the next is there.
    fn give(&self, gateway: &mut TcpStream, script: &Script, apart: bool) {
        self.given.fetch_add(1, Ordering::SeqCst);
        let answer = (script.answer)(Packets::default()).out;
        let packets = frames(&answer);
        let mut alive = true;
        if apart {
            let _ = gateway.set_nodelay(true);
            for packet in &packets {
                alive = alive && gateway.write_all(packet).is_ok();
                thread::sleep(APART);
            }
        } else {
            alive = gateway.write_all(&answer).is_ok();
        }
        match script.then {
            Then::Closes => thread::sleep(Duration::from_millis(300)),
            Then::Floods => {
                let mut last = packets.last().unwrap().to_vec();
                while alive {
                    let mut many = Vec::new();
                    while many.len() < 64 << 10 {
                        last[3] = last[3].wrapping_add(1);
                        many.extend_from_slice(&last);
                    }
                    alive = gateway.write_all(&many).is_ok();
                }
            }
            // Nobody is to have this connection next: its reset is not answered, and what was taken for an answer, after which
            // it may be lent on as it is, is its last word.
            Then::Waits => {
                if script.sees != Sees::Error {
                    let _ = gateway.set_read_timeout(Some(Duration::from_millis(300)));
                }
                while read_packet(gateway).is_some_and(|packet| packet[4] != RESET) {}
            }
        }
        let _ = gateway.shutdown(Shutdown::Both);
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// The packets of an answer; the last may not be whole.
fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let len = Header::parse(bytes).map_or(bytes.len(), Header::total);
        let (frame, rest) = bytes.split_at(len.min(bytes.len()));
        frames.push(frame);
        bytes = rest;
    }
    frames
}

fn read_packet(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut packet = vec![0; 4];
    stream.read_exact(&mut packet).ok()?;
    let header = Header::parse(&packet)?;
    packet.resize(header.total(), 0);
    stream.read_exact(&mut packet[4..]).ok()?;
    Some(packet)
}

/// The number that a statement asks for: two for each script.
fn number_in(packet: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(packet.get(5..)?).into_owned();
    let digits = text.split_once("id = 7000")?.1;
    digits.get(..3)?.parse().ok()
}

struct World {
    gateway: Gateway,
    hostile: Hostile,
    token: String,
    right: Vec<Packet>,
    _database: Database,
    _folder: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::start(Flavour::MariaDb, folder.path(), &[]);
        let hostile = Hostile::before(database.port());
        let mut options = Options::new(hostile.port);
        options.catalog_refresh_s = 3_600;
        "async".clone_into(&mut options.durability);
        options.workers = 1;
        let dir = folder.path().join("gateway");
        let gateway = Gateway::start(&binary(), &dir, &options).unwrap();
        let token = gateway.token("bot", "agents").unwrap();
        let mut world = Self {
            gateway,
            hostile,
            token,
            right: Vec::new(),
            _database: database,
            _folder: folder,
        };
        world.right = world.ask(&[RIGHT], None).packets;
        assert!(text(&world.right).contains("[redacted]"), "{}", text(&world.right));
        world
    }

    fn ask(&self, say: &[Say], fault: Option<Fault>) -> Heard {
        let say = [say, &[Say::Quit]].concat();
        converse(self.gateway.port, &self.token, &say, fault, false)
    }

    fn serves(&self, after: &str) {
        let heard = self.ask(&[RIGHT], None);
        assert_eq!(text(&heard.packets), text(&self.right), "after {after}");
        assert_eq!(heard.ending, Ending::Whole, "after {after}");
    }

    /// KiB of memory at the most since the last call, above `base`; the mark is set anew.
    fn peak_kib(&self) -> u64 {
        let folder = format!("/proc/{}", self.gateway.pid());
        let status = std::fs::read_to_string(format!("{folder}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        let kib = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        std::fs::write(format!("{folder}/clear_refs"), "5").unwrap();
        kib
    }

    /// The client got an error that is documented, or nothing but the end.
    fn refused(&self, heard: &Heard, what: &str) {
        let told = || format!("{what}: {:?} {}", heard.ending, text(&heard.packets));
        assert_ne!(heard.ending, Ending::Hung, "{}\n{}", told(), self.gateway.log());
        let last = heard.packets.last().filter(|(_, payload)| payload[0] == 0xFF);
        match last {
            Some((_, payload)) => {
                let code = u16::from_le_bytes([payload[1], payload[2]]);
                assert!([1064, 1158, 1429, 1835, 3100].contains(&code), "{}", told());
                assert!(String::from_utf8_lossy(payload).contains("[RG-"), "{}", told());
            }
            None => assert!(heard.ending != Ending::Whole || !heard.part.is_empty(), "{}", told()),
        }
    }
}

const RIGHT: Say = Say::Query("SELECT id, ssn FROM customers WHERE id = 2");

fn contains(heard: &Heard, needle: &[u8]) -> bool {
    let found = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    found(&heard.part) || heard.packets.iter().any(|(_, payload)| found(payload))
}

fn statement(script: &Script, number: usize) -> &'static str {
    let columns = if script.to == To::Unmasked { "id" } else { "id, ssn" };
    let parameter =
        if matches!(script.to, To::Prepare | To::Execute) { " AND tier > ?" } else { "" };
    let sql = format!("SELECT {columns} FROM customers WHERE id = 7000{number:03}{parameter}");
    Box::leak(sql.into_boxed_str())
}

#[test]
fn answers_that_lie() {
    lies(false);
}

#[test]
fn answers_that_lie_packet_by_packet() {
    lies(true);
}

/// See [`Shared::give`] for `apart`.
fn lies(apart: bool) {
    let world = World::start();
    let scripts = scripts();
    let mut worst = (0, "");
    for (at, script) in scripts.iter().enumerate() {
        let sql = statement(script, at * 2 + usize::from(apart));
        let say = match script.to {
            To::Query | To::Unmasked => vec![Say::Query(sql)],
            To::Prepare => vec![Say::Prepare(sql)],
            To::Execute => vec![Say::Prepare(sql), Say::Execute(0)],
        };
        // A client does not read for ever either.
        let enough = Fault { by: By::Gateway, at: 3 << 20, act: Act::Reset };
        let before = world.peak_kib();
        let before = before.min(world.peak_kib());
        let ended = world.hostile.shared.ended.load(Ordering::SeqCst);
        let heard = world.ask(&say, (script.then == Then::Floods).then_some(enough));
        assert!(!contains(&heard, RAW), "{}: {}", script.name, text(&heard.packets));
        assert!(!contains(&heard, b"/etc/passwd"), "{}", script.name);
        match script.sees {
            _ if heard.ending == Ending::Own => {}
            Sees::Error => world.refused(&heard, script.name),
            Sees::Withheld => assert!(contains(&heard, b"RG-WITHHELD"), "{}", script.name),
            Sees::Masked => assert_ne!(heard.ending, Ending::Hung, "{}", script.name),
        }
        wait_for(script.name, || {
            (world.hostile.shared.ended.load(Ordering::SeqCst) > ended).then_some(())
        });
        world.serves(script.name);
        let cost = world.peak_kib().saturating_sub(before);
        worst = worst.max((cost, script.name));
        assert!(cost < MOST_MEMORY_KIB, "{} cost {cost} KiB", script.name);
    }
    assert_eq!(world.hostile.shared.given.load(Ordering::SeqCst), scripts.len());
    eprintln!("the dearest: {} KiB, {}", worst.0, worst.1);
}

#[test]
fn logins_that_lie() {
    let world = World::start();
    for script in login_scripts() {
        world.hostile.logins(Some(((script.says)(), script.then)));
        let before = world.peak_kib();
        let before = before.min(world.peak_kib());
        let ended = world.hostile.shared.ended.load(Ordering::SeqCst);
        let heard = world.ask(&[RIGHT], None);
        world.refused(&heard, script.name);
        assert!(!contains(&heard, RAW), "{}: {}", script.name, text(&heard.packets));
        wait_for(script.name, || {
            (world.hostile.shared.ended.load(Ordering::SeqCst) > ended).then_some(())
        });
        let told = std::mem::take(&mut *world.hostile.shared.heard.lock().unwrap());
        assert!(told.len() < 12, "{}: the gateway goes on and on", script.name);
        let told = told.concat();
        let in_clear =
            told.windows(SERVICE_PASSWORD.len()).any(|part| part == SERVICE_PASSWORD.as_bytes());
        assert!(!in_clear, "{}: the password in clear", script.name);
        world.hostile.logins(None);
        world.serves(script.name);
        let cost = world.peak_kib().saturating_sub(before);
        assert!(cost < MOST_MEMORY_KIB, "{} cost {cost} KiB", script.name);
    }
}
