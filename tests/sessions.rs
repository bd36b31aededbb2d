//! Scripts of whole connections against the session machine: what the client and the database send, what the
//! gateway's driver answers, and what comes out. Each script runs four times, its bytes arriving whole and in
//! pieces of 1, 3 and 7 bytes, with the same outcome.
//!
//! A script (`tests/sessions/*.txt`) is its own golden file. Lines that start with `@`, `C`, `S` or `!` are
//! input; indented lines are output. `ROWGATE_BLESS=1 cargo test --test sessions` writes the output anew; read the
//! difference before you commit it.
//!
//! ```text
//! @ logged in             what every session begins with (`@ logged in, no EOFs`: with DEPRECATE_EOF, and others)
//! C 0: 03 "SELECT 1"      the client sends a packet with sequence id 0
//! C raw: 01 00            the client sends bytes without a header
//! S 1: ..                 the database does
//! ! allow | use shop | mask 0 | govern | govern unlabelled | refuse | login ok | login denied | connected | down | lost | close
//! ```
//!
//! Payloads are hexadecimal bytes, `"texts"` and `len"texts"` (length-encoded).

#[path = "sessions/chunks.rs"]
mod chunks;
#[path = "sessions/limits.rs"]
mod limits;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use rowgate::clock::Now;
use rowgate::codec::{Header, MAX_PAYLOAD, write_frame, write_lenenc_bytes, write_packet};
use rowgate::fault::{Fault, FaultKind};
use rowgate::identity::{LoginKey, Principal, PrincipalKind, Proof};
use rowgate::policy::{
    Batch, Edit, Edits, GuardDecision, GuardInput, MaskPlan, MaskSpec, MaskedColumn, PluginFault,
    PluginHost, RowFilter, StreamInfo,
};
use rowgate::schema::{Flavour, LabelSet, ServerProfile, SqlMode};
use rowgate::session::{
    Op, Ruling, Session, Settings, Side, Step, Text, UpstreamReady, unknown_connection,
};

const NOW: Now = Now { mono_ns: 0, wall_us: 0 };

#[test]
fn every_script_gives_what_it_says_however_its_bytes_arrive() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sessions");
    let mut paths: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "txt"));
    paths.sort();
    assert!(paths.len() >= 10, "the scripts are missing");
    let mut wrong = Vec::new();
    for path in paths {
        let script = std::fs::read_to_string(&path).unwrap();
        let played = play(&script, usize::MAX);
        for piece in [1, 3, 7] {
            let in_pieces = play(&script, piece);
            assert_eq!(in_pieces, played, "{} in pieces of {piece}", path.display());
        }
        if played == script {
            continue;
        }
        if std::env::var_os("ROWGATE_BLESS").is_some() {
            std::fs::write(&path, played).unwrap();
        } else {
            wrong.push(format!("{}:\n{played}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "not what the scripts say:\n{}", wrong.join("\n"));
}

/// What the database sends between two of several statements would else be taken for the second's result.
#[test]
fn a_database_that_speaks_between_two_statements_ends_the_session() {
    let mut player = Player::new("");
    player.log_in("05 a2 08 00");
    for packet in ["0: 1b 00 00", "0: 03 \"DO 1; SELECT ssn\""] {
        player.arrive(Side::Client, &bytes_of(packet), usize::MAX);
    }
    for answer in ["allow", "allow", "connected"] {
        player.answer(answer);
    }
    let both = [bytes_of("1: 00 00 00 02 00 00 00"), bytes_of("1: 01")].concat();
    player.arrive(Side::Server, &both, usize::MAX);
    player.flush();
    assert!(player.transcript.ends_with("close: upstream\n"), "{}", player.transcript);
}

/// Text is read by the mode that the session has set; where it can't be known, the session of the governed ends.
#[test]
fn a_set_of_sql_mode_is_followed() {
    const OK: &str = "1: 00 00 00 02 00 00 00";
    const ERR: &str = "1: ff a9 04 \"#HY000Unknown\"";
    for (sent, answer, ruled, left) in [
        ("SET sql_mode = 'IGNORE_SPACE'", OK, "govern", Some(8)),
        ("SET a = 1, @@session.sql_mode = ''", OK, "govern", Some(0)),
        ("SET sql_mode = 'IGNORE_SPACE', a = 1", ERR, "govern", None),
        ("SET sql_mode = 'IGNORE_SPACE', a = 1", ERR, "allow", Some(0)),
        ("SET sql_mode = '', a = 1", ERR, "govern", Some(0)),
        ("SELECT 'SET sql_mode = ANSI'", OK, "govern", Some(0)),
    ] {
        let mut player = Player::new("");
        player.log_in("05 a2 08 00");
        player.arrive(Side::Client, &bytes_of(&format!("0: 03 \"{sent}\"")), usize::MAX);
        player.answer(ruled);
        player.answer("connected");
        player.arrive(Side::Server, &bytes_of(answer), usize::MAX);
        player.flush();
        let ended = player.transcript.ends_with("close: analysis\n");
        assert_eq!(ended, left.is_none(), "{sent}: {}", player.transcript);
        if let Some(left) = left {
            let facets = player.session.facets().expect("a login");
            assert_eq!(facets.sql_mode, SqlMode(left), "{sent}");
        }
    }
}

/// MariaDB's drivers send EXECUTE of "the last statement" before PREPARE is answered, however long its parameters are.
#[test]
fn a_long_execute_of_the_last_statement_names_it() {
    let mut player = Player::new("# long statements");
    player.prepare();
    let mut payload = vec![0x17, 0xFF, 0xFF, 0xFF, 0xFF, 0, 1, 0, 0, 0, 0, 1, 0xFD, 0];
    write_lenenc_bytes(&mut payload, &vec![b'x'; MAX_PAYLOAD]);
    let mut sent = Vec::new();
    write_packet(&mut sent, 0, &payload);
    player.sent = [Vec::new(), Vec::new()];
    player.arrive(Side::Client, &sent, 1 << 22);
    player.answer("allow");
    sent[5..9].copy_from_slice(&[7, 0, 0, 0]);
    assert!(player.sent[1] == sent, "another statement is named: {}", player.transcript);
}

/// A command in packets of 16 MiB is one text; what is sent in its place keeps to the packets; an exact multiple ends
/// in an empty one; answers follow the last.
#[test]
fn commands_of_several_packets() {
    for (len, packets) in
        [(MAX_PAYLOAD - 2, 1), (MAX_PAYLOAD - 1, 2), (2 * MAX_PAYLOAD - 1, 3), (20 << 20, 2)]
    {
        let mut payload = vec![3];
        payload.extend((0..len).map(|at| b'a' + u8::try_from(at % 23).unwrap()));
        let mut sent = Vec::new();
        assert_eq!(write_packet(&mut sent, 0, &payload), packets);
        for ruled in ["blank", "refuse"] {
            let mut player = Player::new("# long statements");
            player.log_in("05 a2 08 00");
            player.arrive(Side::Client, &sent, 1 << 22);
            assert!(player.reads.is_none(), "{len}: no decision is awaited");
            player.transcript.clear();
            if ruled == "refuse" {
                player.answer(ruled);
                let answer = format!("to the client {packets}: ff");
                assert!(player.transcript.contains(&answer), "{len}: {}", player.transcript);
                continue;
            }
            let mut ruling = ruling(None, true);
            if let Ruling::Run { canonical, .. } = &mut ruling {
                *canonical = Some(vec![b' '; len].into());
            }
            player.session.on_ruling(ruling);
            player.reads = Some((Side::Client, 0));
            player.run();
            player.answer("connected");
            payload[1..].fill(b' ');
            let mut wanted = Vec::new();
            write_packet(&mut wanted, 0, &payload);
            assert!(player.sent[1] == wanted, "{len}: something else was sent");
        }
    }
}

/// An EXECUTE that brings no types has those of the one before, unless that failed; with long data sent apart, what an
/// approver saw would not be all of it.
#[test]
fn an_execute_without_types_has_those_of_the_one_before() {
    let mut player = Player::new("");
    player.log_in("05 a2 08 00");
    player.arrive(Side::Client, &bytes_of("0: 16 \"SELECT ?\""), usize::MAX);
    player.answer("allow");
    player.answer("connected");
    let definition = "2: len\"def\" 00 00 00 len\"?\" 00 0c 3f 00 00 00 00 00 fd 80 00 00 00 00";
    for packet in ["1: 00 07 00 00 00 00 00 01 00 00 00 00", definition, "3: fe 00 00 02 00"] {
        player.arrive(Side::Server, &bytes_of(packet), usize::MAX);
    }
    let mut bound = |parameters: &str, answer: &str| {
        let command = format!("0: 17 07 00 00 00 00 01 00 00 00 {parameters}");
        player.arrive(Side::Client, &bytes_of(&command), usize::MAX);
        let bound = player.session.bound_parameters(&player.buffers[0]).map(|bytes| bytes.to_vec());
        player.answer("allow");
        player.arrive(Side::Server, &bytes_of(answer), usize::MAX);
        bound
    };
    let (ok, failed) = ("1: 00 00 00 02 00 00 00", "1: ff 1e 04 \"#42S22\"");
    assert_eq!(bound("00 00 01 61", ok), None, "no types yet");
    assert_eq!(bound("00 01 fd 00 01 61", ok).as_deref(), Some(&b"\0\x01\xfd\0\x01a"[..]));
    assert_eq!(bound("00 00 01 62", ok).as_deref(), Some(&b"\0\x01\xfd\0\x01b"[..]));
    assert_eq!(bound("00 01 03 00 01 00 00 00", failed).unwrap()[2], 3);
    assert_eq!(bound("00 00 01 62", ok), None, "the one before failed");
    assert_eq!(bound("00 01 fd", ok), None, "cut short");
}

/// With query attributes among them, a statement's own parameters are still told apart, typed or not; a bulk execution's are
/// all of its rows, and leave no types behind.
#[test]
fn what_an_approver_sees_are_the_statements_own_parameters() {
    const OK: &str = "1: 00 00 00 02 00 00 00";
    let prepared = |script: &str, capabilities: &str| {
        let mut player = Player::new(script);
        player.log_in(capabilities);
        player.arrive(Side::Client, &bytes_of("0: 16 \"DELETE ?\""), usize::MAX);
        player.answer("allow");
        player.answer("connected");
        let definition =
            "2: len\"def\" 00 00 00 len\"?\" 00 0c 3f 00 00 00 00 00 fd 80 00 00 00 00";
        for packet in ["1: 00 07 00 00 00 00 00 01 00 00 00 00", definition, "3: fe 00 00 02 00"] {
            player.arrive(Side::Server, &bytes_of(packet), usize::MAX);
        }
        player
    };
    let bound = |player: &mut Player, command: &str| {
        player.arrive(Side::Client, &bytes_of(&format!("0: {command}")), usize::MAX);
        let bound = player.session.bound_parameters(&player.buffers[0]).map(|bytes| bytes.to_vec());
        player.answer("allow");
        player.arrive(Side::Server, &bytes_of(OK), usize::MAX);
        bound
    };
    let mut player = prepared("# the database is MySQL", "05 a2 08 08");
    let mut named =
        |rest: &str| bound(&mut player, &format!("17 07 00 00 00 08 01 00 00 00 {rest}"));
    let own = &b"\0\x01\xfd\0\x01a"[..];
    assert_eq!(named("01 00 00 01 61"), None, "no types yet");
    assert_eq!(named("02 02 01 fd 00 00 fe 00 len\"who\" 01 61").as_deref(), Some(own));
    assert_eq!(named("01 00 00 01 61").as_deref(), Some(own), "the types of the one before");
    assert_eq!(named("01 00 01 fd 00 len\"who\" 01 61").as_deref(), Some(own));
    assert_eq!(named("02 00 01 03 00 00 fe 00 len\"who\" 01 00 00 00 01 62").unwrap()[2], 3);
    assert_eq!(named("01 00 00 01 00 00 00").unwrap()[2], 3);

    let mut player = prepared("", "04 a2 08 00 04 00 00 00");
    assert!(bound(&mut player, "17 07 00 00 00 00 01 00 00 00 00 01 fd 00 01 61").is_some());
    let rows = "fd 00 00 01 61 00 01 62";
    let bulk = bound(&mut player, &format!("fa 07 00 00 00 80 00 {rows}"));
    assert_eq!(bulk, Some(payload_of(rows)));
    assert_eq!(bound(&mut player, "fa 07 00 00 00 00 00 00 01 61"), None, "no types");
    assert_eq!(bound(&mut player, "17 07 00 00 00 00 01 00 00 00 00 00 01 61"), None);
}

/// A mask may make a cell longer, and so a row too long for the length in front of it.
#[test]
fn a_masked_row_that_outgrows_its_packet_ends_the_session() {
    for (first, fits) in [("grow", false), ("same", true)] {
        let mut player = Player::new("# long rows");
        player.log_in("05 a2 08 00");
        player.arrive(Side::Client, &bytes_of("0: 03 \"SELECT ssn, text FROM long\""), usize::MAX);
        player.answer("mask 0");
        player.answer("connected");
        let definition = |name: &str| {
            format!("len\"def\" 00 00 00 len\"{name}\" 00 0c 2d 00 64 00 00 00 fd 00 00 00 00 00")
        };
        for packet in [
            "1: 02",
            &format!("2: {}", definition("ssn")),
            &format!("3: {}", definition("text")),
            "4: fe 00 00 02 00",
        ] {
            player.arrive(Side::Server, &bytes_of(packet), usize::MAX);
        }
        player.sent = [Vec::new(), Vec::new()];
        let mut row = Vec::new();
        write_frame(&mut row, 5, |out| {
            write_lenenc_bytes(out, first.as_bytes());
            write_lenenc_bytes(out, &vec![b'x'; (16 << 20) - 4 - 9]);
        });
        player.arrive(Side::Server, &row, usize::MAX);
        let refused = player.transcript.contains("a masked row is longer than a packet");
        assert_eq!(refused, !fits, "{}", player.transcript);
        let header = Header::parse(&player.sent[0]).map(Header::total);
        assert_eq!(header, fits.then_some(player.sent[0].len()));
    }
}

/// What is kept of prepared statements has a bound of bytes, not of their number only.
#[test]
fn texts_of_prepared_statements_are_bounded() {
    let mut player = Player::new("");
    player.log_in("05 a2 08 00");
    for id in 1..=3_u8 {
        let mut command = Vec::new();
        write_frame(&mut command, 0, |out| {
            out.push(0x16);
            out.resize(30_000, b'x');
        });
        player.sent = [Vec::new(), Vec::new()];
        player.arrive(Side::Client, &command, usize::MAX);
        if id == 3 {
            let answer = Header::parse(&player.sent[0]).unwrap().payload(&player.sent[0]).unwrap();
            assert!(String::from_utf8_lossy(answer).contains("too many prepared statements"));
            return;
        }
        player.answer("allow");
        if id == 1 {
            player.answer("connected");
        }
        let ok = format!("1: 00 0{id} 00 00 00 00 00 00 00 00 00 00");
        player.arrive(Side::Server, &bytes_of(&ok), usize::MAX);
        assert!(player.session.is_idle());
    }
}

/// Plays a script, with input arriving in pieces of this size; the script with its output written anew.
fn play(script: &str, piece: usize) -> String {
    let mut player = Player::new(script);
    for line in script.lines() {
        if line.starts_with(' ') {
            continue;
        }
        player.transcript.push_str(line);
        player.transcript.push('\n');
        match line.split_once(' ') {
            Some(("C", packet)) => player.arrive(Side::Client, &bytes_of(packet), piece),
            Some(("S", packet)) => player.arrive(Side::Server, &bytes_of(packet), piece),
            Some(("!", answer)) => player.answer(answer),
            Some(("@", how)) => player.log_in(capabilities(how)),
            _ if line.is_empty() || line.starts_with('#') => continue,
            _ => panic!("not a line of a script: {line}"),
        }
        player.flush();
    }
    player.transcript
}

/// The capabilities of a login: MySQL's, and MariaDB's extended ones behind them.
fn capabilities(how: &str) -> &'static str {
    match how {
        "logged in" => "05 a2 08 00",
        "logged in, local files" => "85 a2 08 00",
        "logged in, query attributes" => "05 a2 08 08",
        "logged in, bulk" => "04 a2 08 00 04 00 00 00",
        "logged in, no EOFs" => "05 a2 08 01",
        "logged in, tracking, no EOFs" => "05 a2 8b 01",
        "logged in, cached metadata" => "04 a2 08 00 18 00 00 00",
        "logged in, cached metadata, no EOFs" => "04 a2 08 01 18 00 00 00",
        "logged in, optional metadata" => "05 a2 08 02",
        "logged in, optional metadata, no EOFs" => "05 a2 08 03",
        other => panic!("no such login: {other}"),
    }
}

/// `seq: payload` or `raw: bytes`.
fn bytes_of(packet: &str) -> Vec<u8> {
    let (head, payload) = packet.split_once(':').expect("`seq: payload`");
    let payload = payload_of(payload.trim());
    if head == "raw" {
        return payload;
    }
    let mut out = Vec::new();
    let seq = head.parse().expect("a sequence id");
    write_frame(&mut out, seq, |out| out.extend_from_slice(&payload));
    out
}

fn payload_of(mut text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    while !text.is_empty() {
        if let Some(quoted) = text.strip_prefix("len\"") {
            let (value, rest) = quoted.split_once('"').expect("the closing quote");
            write_lenenc_bytes(&mut out, value.as_bytes());
            text = rest;
        } else if let Some(quoted) = text.strip_prefix('"') {
            let (value, rest) = quoted.split_once('"').expect("the closing quote");
            out.extend_from_slice(value.as_bytes());
            text = rest;
        } else {
            let (byte, rest) = text.split_at(2);
            out.push(u8::from_str_radix(byte, 16).expect("a hexadecimal byte"));
            text = rest;
        }
        text = text.trim_start();
    }
    out
}

/// A payload as scripts write it: texts of three letters and more in quotes, the rest in hexadecimal.
fn shown(payload: &[u8]) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut rest = payload;
    while let Some(first) = rest.first() {
        let plain = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != b'"';
        let len = rest.iter().position(|byte| !plain(byte)).unwrap_or(rest.len());
        if len >= 3 {
            let (text, after) = rest.split_at(len);
            words.push(format!("\"{}\"", String::from_utf8_lossy(text)));
            rest = after;
        } else {
            words.push(format!("{first:02x}"));
            rest = &rest[1..];
        }
    }
    words.join(" ")
}

struct Player {
    session: Session,
    /// What has arrived from the client and from the database, and is not consumed yet.
    buffers: [Vec<u8>; 2],
    out: Vec<u8>,
    /// What was sent to the client and to the database since the transcript's last line.
    sent: [Vec<u8>; 2],
    /// Whose bytes are looked at next, and how many there must be; `None` while an answer is awaited.
    reads: Option<(Side, usize)>,
    transcript: String,
}

impl Player {
    fn new(script: &str) -> Self {
        let mut player = Self {
            session: Session::new(settings(script), NOW),
            buffers: [Vec::new(), Vec::new()],
            out: Vec::new(),
            sent: [Vec::new(), Vec::new()],
            reads: Some((Side::Client, 0)),
            transcript: String::new(),
        };
        player.run();
        player.sent = [Vec::new(), Vec::new()]; // the greeting, of which login.txt shows one
        if script.contains("# shows the greeting") {
            let mut again = Session::new(settings(script), NOW);
            let step = again.on_bytes(Side::Client, &mut [], &mut player.sent[0], NOW);
            assert!(matches!(step.op, Op::Emit(Side::Client)));
        }
        player
    }

    /// The usual login, without a trace in the transcript.
    fn log_in(&mut self, capabilities: &str) {
        let kept = self.transcript.clone();
        let (basic, extended) = capabilities.split_at("00 00 00 00".len());
        let extended = if extended.is_empty() { " 00 00 00 00" } else { extended };
        let filler = "00 ".repeat(19);
        let packet = format!(
            "1: {basic} ff ff ff 00 2d {filler} {extended} \"bot\" 00 14 {} \"mysql_native_password\" 00",
            "41 ".repeat(20)
        );
        self.arrive(Side::Client, &bytes_of(&packet), usize::MAX);
        self.answer("login ok");
        assert!(self.session.is_logged_in() && self.session.is_idle());
        self.sent = [Vec::new(), Vec::new()];
        self.transcript = kept;
    }

    /// Logs in and prepares `SELECT ?` as statement 7.
    fn prepare(&mut self) {
        self.log_in("05 a2 08 00");
        self.arrive(Side::Client, &bytes_of("0: 16 \"SELECT ?\""), usize::MAX);
        self.answer("allow");
        self.answer("connected");
        let parameter = "2: len\"def\" 00 00 00 len\"?\" 00 0c 3f 00 00 00 00 00 fd 80 00 00 00 00";
        for packet in ["1: 00 07 00 00 00 00 00 01 00 00 00 00", parameter, "3: fe 00 00 02 00"] {
            self.arrive(Side::Server, &bytes_of(packet), usize::MAX);
        }
    }

    fn arrive(&mut self, side: Side, bytes: &[u8], piece: usize) {
        for piece in bytes.chunks(piece.min(bytes.len()).max(1)) {
            self.buffers[index(side)].extend_from_slice(piece);
            self.run();
        }
    }

    fn answer(&mut self, answer: &str) {
        let principal = Principal {
            subject: "bot".to_owned(),
            kind: PrincipalKind::Agent,
            groups: vec!["agents".to_owned()],
            attributes: std::collections::BTreeMap::new(),
        };
        match answer {
            "login ok" => self.session.on_authenticated(Ok(Arc::new(principal))),
            "login denied" => {
                self.session.on_authenticated(Err(Fault::access_denied("bot", "host")));
            }
            "allow" => self.session.on_ruling(ruling(None, false)),
            "use shop" | "use other" => {
                let mut ruling = ruling(None, true);
                if let Ruling::Run { uses, .. } = &mut ruling {
                    *uses = answer.strip_prefix("use ").map(str::to_owned);
                }
                self.session.on_ruling(ruling);
            }
            "govern" => self.session.on_ruling(ruling(None, true)),
            "govern unlabelled" => {
                let mut ruling = ruling(None, true);
                if let Ruling::Run { rewrite_errors, .. } = &mut ruling {
                    *rewrite_errors = false;
                }
                self.session.on_ruling(ruling);
            }
            "mask 0" => self.session.on_ruling(ruling(Some(0), true)),
            "mask 1" => self.session.on_ruling(ruling(Some(1), true)),
            "refuse" => self.session.on_ruling(Ruling::Refuse(Fault::unsupported("this"))),
            "refuse and close" => {
                self.session.on_ruling(Ruling::RefuseAndClose(Fault::internal()));
            }
            "connected" => self.session.on_upstream(Ok(UpstreamReady { connection_id: 7 })),
            "killed" => self.session.on_killed(Ok(())),
            "unknown connection" => self.session.on_killed(Err(unknown_connection(5))),
            "no such database" => {
                let fault = Fault::new(FaultKind::Upstream, 1049, *b"42000", "Unknown database");
                self.session.on_upstream(Err(fault));
            }
            "down" => self.session.on_upstream(Err(Fault::upstream_down("shop is down"))),
            "lost" | "close" => {
                let fault = Fault::upstream_lost("it is gone");
                let step = match answer {
                    "lost" => self.session.on_upstream_lost(&fault, &mut self.out),
                    _ => self.session.on_close(&Fault::shutdown(), &mut self.out),
                };
                let reads = self.carry_out(Side::Client, step);
                self.reads = reads.or(Some((Side::Client, 0)));
                return self.run();
            }
            other => panic!("no such answer: {other}"),
        }
        self.reads = Some((Side::Client, 0));
        self.run();
    }

    /// Drives the machine until it needs bytes that have not arrived, or an answer.
    fn run(&mut self) {
        while let Some((side, at_least)) = self.reads {
            let buffer = &mut self.buffers[index(side)];
            if buffer.len() < at_least {
                return;
            }
            let step = self.session.on_bytes(side, buffer, &mut self.out, NOW);
            self.reads = self.carry_out(side, step);
            if self.session.is_idle() && matches!(self.reads, Some((Side::Server, 0))) {
                // Between statements it is the client's turn.
                self.reads = Some((Side::Client, 0));
            }
        }
    }

    /// Does what the machine asks; whose bytes come next.
    fn carry_out(&mut self, side: Side, step: Step) -> Option<(Side, usize)> {
        let taken: Vec<u8> = self.buffers[index(side)].drain(..step.consumed).collect();
        match step.op {
            Op::Read { side: next, at_least } => {
                return Some((next, at_least));
            }
            Op::Forward => self.sent[1 - index(side)].extend_from_slice(&taken),
            Op::Emit(to) => self.sent[index(to)].append(&mut self.out),
            Op::StartTls => self.note("start TLS"),
            Op::Compress(by) => self.note(&format!("compress by {by:?}")),
            Op::Authenticate(login) => {
                let proof = match &login.proof {
                    Proof::Native { .. } => "mysql_native_password",
                    Proof::CachingSha2 { .. } => "caching_sha2_password",
                    Proof::Clear(_) => "the token itself",
                };
                let (user, change) = (&login.user, login.change_user);
                self.note(&format!("authenticate {user} by {proof}, change_user {change}"));
                return None;
            }
            Op::Decide(ref statement) | Op::Check(ref statement) => {
                let verb = if matches!(step.op, Op::Check(_)) { "check" } else { "decide" };
                let text = match &statement.text {
                    Text::Lent(range) => self.buffers[index(side)][range.clone()].to_vec(),
                    Text::Kept(text) => text.to_vec(),
                };
                let kind = statement.kind;
                let facets = self.session.facets().expect("a login");
                let place = facets.schema.map(|name| format!(" in {name}")).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).into_owned();
                let with = self.attributes_shown();
                self.note(&format!("{verb} {kind:?}{place}{with}: {text}"));
                return None;
            }
            Op::Refused(command) => self.note(&format!("record the refusal of {}", command.name())),
            Op::Kill(kill) => {
                let what = if kill.query_only { "the statement of " } else { "" };
                self.note(&format!("kill {what}{}", kill.connection));
                return None;
            }
            Op::Connect => {
                self.note("connect");
                return None;
            }
            Op::Release { schema } => {
                self.note(&format!("release, in {}", schema.as_deref().unwrap_or("no database")));
            }
            Op::Done(outcome) => self.note(&format!(
                "done: {} rows, {} masked cells, {} affected, error {}",
                outcome.rows, outcome.masked_cells, outcome.affected_rows, outcome.error_code
            )),
            Op::Close(kind) => {
                let kind = kind.map_or("by the client", rowgate::fault::FaultKind::label);
                self.note(&format!("close: {kind}"));
                return None;
            }
        }
        Some((side, 0))
    }

    /// The query attributes of the statement that waits for its ruling.
    fn attributes_shown(&self) -> String {
        let attributes = self.session.attributes(&self.buffers[0]);
        let mut shown = match attributes.total() {
            0 => return String::new(),
            count => format!(" with {count} attributes"),
        };
        for attribute in attributes {
            let value = attribute.value.map_or("NULL".into(), String::from_utf8_lossy);
            let _ = write!(shown, " {}={value}", String::from_utf8_lossy(attribute.name));
        }
        shown
    }

    fn note(&mut self, what: &str) {
        self.flush();
        let _ = writeln!(self.transcript, "    {what}");
    }

    /// Writes out what was sent, packet by packet.
    fn flush(&mut self) {
        for (to, sent) in ["client", "database"].iter().zip(&mut self.sent) {
            let mut rest = sent.as_slice();
            while let Some((header, payload)) =
                Header::parse(rest).and_then(|header| Some((header, header.payload(rest)?)))
            {
                let line = format!("    to the {to} {}: {}", header.seq, shown(payload));
                let _ = writeln!(self.transcript, "{}", line.trim_end());
                rest = &rest[header.total()..];
            }
            *sent = rest.to_vec();
        }
    }
}

fn index(side: Side) -> usize {
    usize::from(side == Side::Server)
}

fn settings(script: &str) -> Settings {
    Settings {
        profile: Arc::new(profile(script)),
        connection_id: 1 << 31,
        scramble: *b"abcdefghijklmnopqrst",
        scramble_key: [7; 32],
        issuers: script.contains("# it has issuers"),
        login_key: script.contains("# it has a key for logins").then(login_key),
        tls_available: script.contains("# TLS is available"),
        tls_required: script.contains("# TLS is required"),
        compression: if script.contains("# compression is offered") { 1 << 5 | 1 << 26 } else { 0 },
        is_local: script.contains("# by a Unix socket"),
        host: "host".into(),
        max_statement_bytes: if script.contains("# long statements") { 64 << 20 } else { 1 << 16 },
        room: rowgate::session::Room::new(256 << 20),
        max_row_bytes: if script.contains("# long rows") { 16 << 20 } else { 1 << 16 },
        worker: 0,
    }
}

fn profile(script: &str) -> ServerProfile {
    let (flavour, version, version_string) = if script.contains("# the database is MySQL") {
        (Flavour::MySql, 90_704, "9.7.4")
    } else {
        (Flavour::MariaDb, 101_119, "10.11.19-MariaDB")
    };
    let version_string = version_string.to_owned();
    let (lower_case_table_names, sql_mode) = (0, SqlMode(0));
    ServerProfile {
        flavour,
        version,
        version_string,
        lower_case_table_names,
        sql_mode,
        capabilities: None,
    }
}

/// Made for these tests; nothing else has it.
fn login_key() -> Arc<LoginKey> {
    let pem = include_bytes!("sessions/login_key.pem");
    Arc::new(LoginKey::from_pem(pem).expect("a key"))
}

fn ruling(masked: Option<u16>, governed: bool) -> Ruling {
    let column = |index| MaskedColumn {
        index,
        mask: MaskSpec::redact(),
        may_keep: Some(0),
        labels: LabelSet::EMPTY,
        label_names: Vec::new(),
        rule: "rule".to_owned(),
    };
    let plan = masked.map(|index| {
        Arc::new(MaskPlan { columns: vec![column(index)], outputs: vec![None, None] })
    });
    Ruling::Run {
        canonical: None,
        mask: plan,
        plugins: Arc::new(Stars),
        rewrite_errors: governed,
        governed,
        uses: None,
        known: false,
    }
}

/// A star for every masked cell.
struct Stars;

impl PluginHost for Stars {
    fn check_mask(&self, _: &MaskSpec) -> Result<(), String> {
        Ok(())
    }

    fn open(&self, _: usize, _: &StreamInfo<'_>) -> Result<Box<dyn RowFilter>, PluginFault> {
        Ok(Box::new(Stars))
    }

    fn guards(&self) -> bool {
        false
    }

    fn guard(&self, _: usize, _: &GuardInput<'_>) -> Result<GuardDecision, PluginFault> {
        Ok(GuardDecision::Allow)
    }
}

impl RowFilter for Stars {
    fn filter(&mut self, batch: Batch<'_>, edits: &mut Edits) -> Result<(), PluginFault> {
        let mut start = 0;
        for len in batch.lens.iter().filter(|len| **len != u32::MAX) {
            if *len > 0 {
                let grows = batch.cells.starts_with(b"grow");
                let stars = if grows { &[b'*'; 40][..] } else { b"*" };
                let replacement_len = u32::try_from(stars.len()).expect("a short length");
                edits.edits.push(Edit { start, len: *len, replacement_len });
                edits.replacement.extend_from_slice(stars);
            }
            start += len;
        }
        Ok(())
    }
}
