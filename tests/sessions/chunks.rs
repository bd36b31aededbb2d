//! However the bytes of the two peers are cut and however early the client's arrive, the same comes out: the scripts, what
//! stock clients and a real server said (`tests/captures`), results long enough for several batches of rows, answers with
//! something wrong in them, and packets around the boundary of 16 MiB.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::sample::Index;
use rowgate::codec::{MAX_PAYLOAD, write_lenenc_int};
use rowgate::session::UpstreamKey;
use rowgate::session::upstream::{self, Account};

use super::*;

/// What happens in a conversation.
#[derive(Clone, Debug)]
enum Event {
    LogIn(&'static str),
    Arrives(Side, Vec<u8>),
    Answer(String),
    /// What is asked of one command is answered: allowed, or masked in these of so many columns.
    AnswerAll(Vec<u16>, usize),
}

/// Where bytes are cut, and how many of the client's come before their turn.
#[derive(Clone, Debug)]
struct Cuts {
    pieces: Vec<usize>,
    ahead: Vec<usize>,
}

impl Cuts {
    /// All at once, each in its turn.
    fn none() -> Self {
        Self { pieces: vec![usize::MAX], ahead: vec![0] }
    }
}

/// Lengths that fall inside headers, inside short packets, and around nothing in particular.
fn cuts(longest: usize) -> impl Strategy<Value = Cuts> {
    let piece = prop_oneof![4 => 1..=6_usize, 3 => 1..=80_usize, 1 => 1..=longest];
    let ahead = prop_oneof![2 => Just(0), 1 => 1..=5_usize, 1 => Just(usize::MAX)];
    let (pieces, ahead) = (prop::collection::vec(piece, 1..40), prop::collection::vec(ahead, 1..8));
    (pieces, ahead).prop_map(|(pieces, ahead)| Cuts { pieces, ahead })
}

/// What came out, apart: the order in which the two peers were written to is no peer's business.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    client: Vec<String>,
    database: Vec<String>,
    notes: Vec<String>,
    /// Packets that went out in part: to the client, to the database.
    parts: [Vec<u8>; 2],
}

/// A conversation under way.
struct Play<'a> {
    player: Player,
    cuts: &'a Cuts,
    turn: usize,
    /// Everything that the client sends, and how much of it has arrived.
    client: Vec<u8>,
    arrived: usize,
}

impl Play<'_> {
    fn arrive(&mut self, side: Side, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let piece = self.cuts.pieces[self.turn % self.cuts.pieces.len()].min(bytes.len());
            self.turn += 1;
            let (now, later) = bytes.split_at(piece);
            self.player.arrive(side, now, usize::MAX);
            bytes = later;
        }
    }

    /// The client's bytes up to there.
    fn client_until(&mut self, end: usize) {
        let end = end.min(self.client.len());
        if end > self.arrived {
            let bytes = self.client[self.arrived..end].to_vec();
            self.arrived = end;
            self.arrive(Side::Client, &bytes);
        }
    }
}

fn heard(script: &str, events: &[Event], cuts: &Cuts) -> Heard {
    let sent_by_client = |event: &Event| match event {
        Event::Arrives(Side::Client, bytes) => bytes.clone(),
        _ => Vec::new(),
    };
    let client: Vec<u8> = events.iter().flat_map(sent_by_client).collect();
    let player = Player::new(script);
    let mut play = Play { player, cuts, turn: 0, client, arrived: 0 };
    let mut due = 0;
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::LogIn(capabilities) => play.player.log_in(capabilities),
            Event::Arrives(Side::Client, bytes) => {
                due += bytes.len();
                play.client_until(due.saturating_add(cuts.ahead[at % cuts.ahead.len()]));
            }
            Event::Arrives(Side::Server, bytes) => play.arrive(Side::Server, bytes),
            Event::Answer(answer) => play.player.answer(answer),
            Event::AnswerAll(masked, columns) => answer_all(&mut play.player, masked, *columns),
        }
    }
    let mut player = play.player;
    player.flush();
    let mut heard = Heard { parts: std::mem::take(&mut player.sent), ..Heard::default() };
    for line in player.transcript.lines() {
        let kind = match line {
            _ if line.starts_with("    to the client") => &mut heard.client,
            _ if line.starts_with("    to the database") => &mut heard.database,
            _ => &mut heard.notes,
        };
        kind.push(line.to_owned());
    }
    heard
}

fn answer_all(player: &mut Player, masked: &[u16], columns: usize) {
    let mut ruled = false;
    while player.reads.is_none() {
        let asked = player.transcript.lines().last().unwrap_or_default().trim().to_owned();
        match asked.split(' ').next() {
            Some("authenticate") => player.answer("login ok"),
            Some("connect") => player.answer("connected"),
            // The next one is of the next command, which came before its turn.
            Some("decide") if ruled => return,
            Some("decide") => {
                ruled = true;
                let mut ruling = ruling((!masked.is_empty()).then_some(0), !masked.is_empty());
                if let Ruling::Run { mask: Some(plan), .. } = &mut ruling {
                    let column =
                        |index: &u16| MaskedColumn { index: *index, ..plan.columns[0].clone() };
                    let columns_masked = masked.iter().map(column).collect();
                    *plan = Arc::new(MaskPlan {
                        columns: columns_masked,
                        outputs: vec![None; columns],
                    });
                }
                player.session.on_ruling(ruling);
                player.reads = Some((Side::Client, 0));
                player.run();
            }
            _ => return, // it is over
        }
    }
}

/// A script's input, what one side sends in one go as one arrival.
fn events_of(script: &str) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for line in script.lines().filter(|line| !line.starts_with(' ')) {
        let event = match line.split_once(' ') {
            Some(("C", packet)) => Event::Arrives(Side::Client, bytes_of(packet)),
            Some(("S", packet)) => Event::Arrives(Side::Server, bytes_of(packet)),
            Some(("!", answer)) => Event::Answer(answer.to_owned()),
            Some(("@", how)) => Event::LogIn(capabilities(how)),
            _ => continue,
        };
        match (events.last_mut(), event) {
            (Some(Event::Arrives(before, sent)), Event::Arrives(side, bytes))
                if *before == side =>
            {
                sent.extend(bytes);
            }
            (_, event) => events.push(event),
        }
    }
    events
}

/// One of `tests/sessions/*.txt`.
struct Script {
    text: String,
    events: Vec<Event>,
    /// Whether the client's bytes may come before their turn: not where something happens to the session at a point
    /// in time.
    may_hurry: bool,
}

fn scripts() -> Vec<Script> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sessions");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "txt")).collect();
    paths.sort();
    let read = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let timed = ["! lost", "! close", "start TLS"].iter().any(|what| text.contains(what));
        Script { events: events_of(&text), text, may_hurry: !timed }
    };
    paths.into_iter().map(read).collect()
}

/// A capture as a conversation with the gateway, the columns of its results masked that `masked` picks; what the
/// database sent.
fn capture(name: &str, masked: &[Index]) -> (Vec<Event>, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let text = std::fs::read_to_string(path.join(format!("{name}.hex"))).unwrap();
    let mut events = Vec::new();
    let mut from_server = Vec::new();
    // The greeting, and the login's answer, are the gateway's own.
    let mut lines = text.lines().skip(1).peekable();
    let mut logged_in = false;
    while let Some(line) = lines.next() {
        let command = payload_of(line.strip_prefix("C ").expect("the client's turn"));
        let mut answer = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("S ")) {
            answer.extend(payload_of(&line[2..]));
        }
        let own = !logged_in || matches!(command[4..], [0x0E | 0x1F | 0x1B, ..]);
        let columns = columns_of(&answer, command.get(4) == Some(&0x16));
        let mut picked: Vec<u16> = masked
            .iter()
            .filter(|_| !own && columns > 0)
            .map(|index| u16::try_from(index.index(columns)).unwrap())
            .collect();
        picked.sort_unstable();
        picked.dedup();
        events.push(Event::Arrives(Side::Client, command));
        if !own || !logged_in {
            events.push(Event::AnswerAll(picked, columns));
        }
        if logged_in {
            from_server.extend_from_slice(&answer);
        }
        if !own && !answer.is_empty() {
            events.push(Event::Arrives(Side::Server, answer));
        }
        logged_in = true;
    }
    (events, from_server)
}

/// How many columns an answer has.
fn columns_of(answer: &[u8], prepares: bool) -> usize {
    match answer.get(4..) {
        Some([0, _, _, _, _, low, high, ..]) if prepares => {
            usize::from(u16::from_le_bytes([*low, *high]))
        }
        Some([count @ 1..=0xFA, ..]) => usize::from(*count),
        _ => 0,
    }
}

/// A row's two cells: `None` is NULL.
type Cells = (Option<usize>, Option<usize>);

fn cell(len: usize, salt: usize) -> Vec<u8> {
    (0..len).map(|at| b'a' + u8::try_from((at * 7 + salt) % 26).unwrap()).collect()
}

/// A result of these rows, to SELECT or EXECUTE.
fn result(rows: &[Cells], binary: bool, eofs: bool, error: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut seq = 0_u8;
    let mut packet = |payload: &[u8]| {
        seq = seq.wrapping_add(1);
        write_frame(&mut out, seq, |out| out.extend_from_slice(payload));
    };
    packet(&[2]);
    for name in ["ssn", "name"] {
        packet(&payload_of(&format!(
            "len\"def\" 00 00 00 len\"{name}\" 00 0c 2d 00 64 00 00 00 fd 00 00 00 00 00"
        )));
    }
    if eofs {
        packet(&[0xFE, 0, 0, 2, 0]);
    }
    for (salt, (first, second)) in rows.iter().enumerate() {
        let mut row = Vec::new();
        if binary {
            let nulls = u8::from(first.is_none()) << 2 | u8::from(second.is_none()) << 3;
            row.extend([0, nulls]);
        }
        for len in [first, second] {
            match len {
                Some(len) => write_lenenc_bytes(&mut row, &cell(*len, salt)),
                None if !binary => row.push(0xFB),
                None => {}
            }
        }
        packet(&row);
    }
    match (error, eofs) {
        (true, _) => packet(b"\xff\x25\x05#70100Query execution was interrupted"),
        (false, true) => packet(&[0xFE, 0, 0, 2, 0]),
        (false, false) => packet(&[0xFE, 0, 0, 2, 0, 0, 0]),
    }
    out
}

fn rows() -> impl Strategy<Value = Vec<Cells>> {
    let len = prop_oneof![5 => 0..40_usize, 2 => 240..260_usize, 1 => 1_000..40_000_usize];
    let cell = prop_oneof![1 => Just(None), 6 => len.prop_map(Some)];
    let few = prop::collection::vec((cell.clone(), cell), 0..40);
    // More than a batch takes, and more than a buffer of 64 KiB holds.
    let short = prop_oneof![1 => Just(None), 6 => (0..300_usize).prop_map(Some)];
    let many = prop::collection::vec((short.clone(), short), 200..600);
    prop_oneof![3 => few, 1 => many]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_scripts(which in any::<Index>(), mut cuts in cuts(400)) {
        static SCRIPTS: OnceLock<Vec<Script>> = OnceLock::new();
        let Script { text, events, may_hurry } = which.get(SCRIPTS.get_or_init(scripts));
        if !may_hurry {
            cuts.ahead = vec![0];
        }
        prop_assert_eq!(heard(text, events, &cuts), heard(text, events, &Cuts::none()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_stock_clients_and_a_real_server_said(
        text in any::<bool>(),
        masked in prop::collection::vec(any::<Index>(), 0..3),
        cuts in cuts(3_000),
    ) {
        let name = if text { "pymysql-text" } else { "python-connector-prepared" };
        let (events, _) = capture(name, &masked);
        prop_assert_eq!(heard("", &events, &cuts), heard("", &events, &Cuts::none()));
    }

    #[test]
    fn long_results(
        rows in rows(),
        masked in prop_oneof![Just(vec![]), Just(vec![0]), Just(vec![1]), Just(vec![0, 1])],
        prepared in any::<bool>(),
        eofs in any::<bool>(),
        error in any::<bool>(),
        cuts in cuts(90_000),
    ) {
        let answers = |masked: &[u16]| Event::AnswerAll(masked.to_vec(), 2);
        let mut events = vec![Event::LogIn(if eofs { "05 a2 08 00" } else { "05 a2 08 01" })];
        let arrives = |packets: &str| {
            let bytes = packets.split('\n').flat_map(bytes_of).collect();
            Event::Arrives(if packets.starts_with("0:") { Side::Client } else { Side::Server }, bytes)
        };
        if prepared {
            events.extend([arrives("0: 16 \"SELECT ssn, name FROM t\""), answers(&masked)]);
            let definition = |seq: u8, name: &str| format!(
                "{seq}: len\"def\" 00 00 00 len\"{name}\" 00 0c 2d 00 64 00 00 00 fd 00 00 00 00 00"
            );
            let end = if eofs { "\n4: fe 00 00 02 00" } else { "" };
            let packets = ["1: 00 07 00 00 00 02 00 00 00 00 00 00", &definition(2, "ssn"), &definition(3, "name")];
            events.push(arrives(&(packets.join("\n") + end)));
            events.extend([arrives("0: 17 07 00 00 00 00 01 00 00 00"), answers(&masked)]);
        } else {
            events.extend([arrives("0: 03 \"SELECT ssn, name FROM t\""), answers(&masked)]);
        }
        events.push(Event::Arrives(Side::Server, result(&rows, prepared, eofs, error)));
        // The next statement: nothing of the first may be left over.
        events.extend([arrives("0: 03 \"DO 1\""), answers(&[]), arrives("1: 00 00 00 02 00 00 00")]);
        let whole = heard("# long rows", &events, &Cuts::none());
        prop_assert_eq!(whole.notes.last().map(|note| note.contains("done")), Some(true), "{:?}", whole.notes);
        prop_assert_eq!(&whole.notes[whole.notes.len() - 2][..13], "    decide Qu");
        prop_assert_eq!(heard("# long rows", &events, &cuts), whole);
    }
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    /// A packet has another number.
    Number(u8),
    /// It is cut short, and the next one follows.
    Short(usize),
    /// It says that it goes on, or that it is longer than any row may be.
    Long,
    /// It is empty.
    Empty,
    /// This comes in its place: an end or an error of too few bytes, or one before its time.
    Instead(&'static [u8]),
}

fn wrong() -> impl Strategy<Value = Wrong> {
    let instead: [&[u8]; 6] = [
        &[0xFE],
        &[0xFE, 0, 0],
        &[0xFF],
        b"\xff\x25\x05#70",
        &[0xFE, 0, 0, 2, 0],
        // The end of a mode that reads text otherwise, on a connection of the governed.
        &[0xFE, 0, 0, 2, 2],
    ];
    prop_oneof![
        (1..=255_u8).prop_map(Wrong::Number),
        (1..20_usize).prop_map(Wrong::Short),
        Just(Wrong::Long),
        Just(Wrong::Empty),
        prop::sample::select(instead.to_vec()).prop_map(Wrong::Instead),
    ]
}

/// The answer with that done to one of its packets.
fn spoiled(answer: &[u8], at: Index, wrong: Wrong) -> Vec<u8> {
    let mut starts = Vec::new();
    let mut rest = answer;
    while let Some(header) = Header::parse(rest) {
        starts.push(answer.len() - rest.len());
        rest = &rest[header.total()..];
    }
    let start = *at.get(&starts);
    let header = Header::parse(&answer[start..]).unwrap();
    let (seq, end) = (header.seq, start + header.total());
    let mut out = answer[..start].to_vec();
    let mut put = |payload: &[u8]| write_frame(&mut out, seq, |out| out.extend_from_slice(payload));
    let payload = &answer[start + HEADER..end];
    match wrong {
        Wrong::Number(by) => {
            out.extend_from_slice(&answer[start..end]);
            out[start + 3] = seq.wrapping_add(by);
        }
        Wrong::Short(by) => put(&payload[..payload.len().saturating_sub(by)]),
        Wrong::Long => out.extend_from_slice(&[0xFF, 0xFF, 0xFF, seq, b'x']),
        Wrong::Empty => put(&[]),
        Wrong::Instead(payload) => put(payload),
    }
    out.extend_from_slice(&answer[end..]);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// What was whole and well-formed before what is wrong goes to the client, masked; then the error does, in its turn.
    #[test]
    fn answers_with_something_wrong(
        rows in rows(),
        masked in prop_oneof![Just(vec![]), Just(vec![0]), Just(vec![0, 1])],
        eofs in any::<bool>(),
        at in any::<Index>(),
        wrong in wrong(),
        cuts in cuts(90_000),
    ) {
        let query = Event::Arrives(Side::Client, bytes_of("0: 03 \"SELECT ssn, name FROM t\""));
        let answer = spoiled(&result(&rows, false, eofs, false), at, wrong);
        let events = [
            Event::LogIn(if eofs { "05 a2 08 00" } else { "05 a2 08 01" }),
            query,
            Event::AnswerAll(masked.clone(), 2),
            Event::Arrives(Side::Server, answer),
        ];
        let whole = heard("# long rows", &events, &Cuts::none());
        let by_byte = Cuts { pieces: vec![1], ahead: vec![0] };
        prop_assert_eq!(&heard("# long rows", &events, &cuts), &whole);
        if rows.len() < 60 {
            prop_assert_eq!(&heard("# long rows", &events, &by_byte), &whole);
        }
        // The gateway's error has the number that the client waits for, and nothing of a masked column came before it.
        let number =
            |line: &String| line["    to the client ".len()..].split(':').next().unwrap().parse::<u8>();
        let own = whole.client.last().is_some_and(|line| line.contains("Rowgate ["));
        if let [.., before, last] = &whole.client[..] && own {
            prop_assert_eq!(number(before).unwrap().wrapping_add(1), number(last).unwrap());
        } else if own {
            prop_assert_eq!(number(&whole.client[0]).unwrap(), 1);
        }
        let told = whole.client.iter().filter(|line| !line.contains("\"def\"") && !line.contains("Rowgate ["));
        if masked.len() == 2 {
            prop_assert!(told.clone().all(|line| !line.contains('"')), "{:?}", whole.client);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// A command that is too long, alone and behind another, and the next one.
    #[test]
    fn commands_that_go_by(
        command in prop::sample::select(vec![3_u8, 0x16, 0x17, 0x18]),
        len in prop_oneof![4 => 65_537..70_000_usize, 1 => Just(MAX_PAYLOAD), 1 => Just(MAX_PAYLOAD + 70_000)],
        number in prop_oneof![3 => Just(0_u8), 1 => any::<u8>()],
        mut cuts in cuts(90_000),
    ) {
        let mut payload = vec![command];
        payload.resize(len, b'x');
        let (mut sent, ping) = (bytes_of("0: 0e"), bytes_of("0: 0e"));
        let first = sent.len();
        let seq = write_packet(&mut sent, 0, &payload);
        if len > MAX_PAYLOAD {
            sent[first + HEADER + MAX_PAYLOAD + 3] ^= number;
        }
        sent.extend(&ping);
        if len > MAX_PAYLOAD - 1 {
            // Around the header between its packets.
            let before = first + HEADER + MAX_PAYLOAD - 3 + cuts.pieces[0] % 11;
            cuts.pieces = vec![before, 1, 2, 3, usize::MAX];
        }
        let events = [Event::LogIn("05 a2 08 00"), Event::Arrives(Side::Client, sent)];
        let whole = heard("", &events, &Cuts::none());
        prop_assert_eq!(&heard("", &events, &cuts), &whole);
        let ok = "1: 00 00 00 02 00 00 00";
        let said: Vec<&str> =
            whole.client.iter().map(|line| &line["    to the client ".len()..]).collect();
        if len > MAX_PAYLOAD && number != 0 {
            prop_assert_eq!(said.len(), 2);
            prop_assert!(said[1].contains("RG-PROTOCOL"), "{:?}", said);
        } else if command == 0x18 {
            prop_assert_eq!(said, [ok, ok]);
        } else {
            prop_assert!(said[1].starts_with(&format!("{seq}: ff 81 04")), "{:?}", said);
            prop_assert_eq!((said[0], said[2], said.len()), (ok, ok, 3));
        }
    }
}

/// Without masks, what the client gets of a captured conversation is what the database sent.
#[test]
fn a_capture_passes_as_it_stands() {
    for name in ["pymysql-text", "python-connector-prepared"] {
        let (events, from_server) = capture(name, &[]);
        let heard = heard("", &events, &Cuts::none());
        let mut rest = from_server.as_slice();
        let mut wanted = Vec::new();
        while let Some(header) = Header::parse(rest) {
            let payload = shown(header.payload(rest).unwrap());
            wanted
                .push(format!("    to the client {}: {payload}", header.seq).trim_end().to_owned());
            rest = &rest[header.total()..];
        }
        assert!(
            wanted.len() > 20 && heard.client[0] == "    to the client 2: 00 00 00 02 00 00 00"
        );
        assert_eq!(heard.client[1..], wanted);
    }
}

/// A row in packets of 16 MiB, cut at every byte around the header between them, and at each length of one that the
/// protocol treats apart.
#[test]
fn rows_around_sixteen_mebibytes() {
    for (len, then) in [(MAX_PAYLOAD - 1, 1), (MAX_PAYLOAD, 1), (MAX_PAYLOAD + 9, 3)] {
        let mut payload = Vec::new();
        write_lenenc_int(&mut payload, u64::try_from(len - 4).unwrap());
        payload.resize(len, b'x');
        let mut answer = bytes_of("1: 01");
        answer.extend(bytes_of(
            "2: len\"def\" 00 00 00 len\"a\" 00 0c 2d 00 64 00 00 00 fc 00 00 00 00 00",
        ));
        answer.extend(bytes_of("3: fe 00 00 02 00"));
        let first = answer.len();
        let seq = write_packet(&mut answer, 4, &payload);
        // A continuation may begin like an error or an end.
        if let Some(byte) = answer.get_mut(first + 2 * HEADER + MAX_PAYLOAD) {
            *byte = [0xFE, 0xFF, 0xFB][then % 3];
        }
        answer.extend(bytes_of(&format!("{seq}: fe 00 00 02 00")));
        let events = |answer: Vec<u8>| {
            let query = Event::Arrives(Side::Client, bytes_of("0: 03 \"SELECT a FROM t\""));
            let allowed = Event::AnswerAll(Vec::new(), 0);
            let login = Event::LogIn("05 a2 08 00");
            [login, query, allowed, Event::Arrives(Side::Server, answer)]
        };
        let events = events(answer);
        let whole = heard("", &events, &Cuts::none());
        assert_eq!(
            whole.notes.last().unwrap(),
            "    done: 1 rows, 0 masked cells, 0 affected, error 0"
        );
        let boundary = first + HEADER + MAX_PAYLOAD;
        // Every byte for the one that goes on, a few for the others: such packets take their time.
        let step = if then == 3 { 1 } else { 4 };
        for cut in (boundary - 3..boundary + 8).step_by(step).chain([first + 4]) {
            let pieces = vec![9 + HEADER + 16, cut - 9 - HEADER - 16, 1, 2, 5, usize::MAX];
            let cuts = Cuts { pieces, ahead: vec![0] };
            assert!(heard("", &events, &cuts) == whole, "a row of {len} bytes, cut at {cut}");
        }
    }
}

/// A file of the client's in packets of 16 MiB, cut around the headers between them.
#[test]
fn files_around_sixteen_mebibytes() {
    for len in [MAX_PAYLOAD - 1, MAX_PAYLOAD, MAX_PAYLOAD + 1] {
        let mut file = Vec::new();
        let seq = write_packet(&mut file, 2, &vec![b'x'; len]);
        file.extend(bytes_of(&format!("{seq}:")));
        let sent = file.len();
        let ok = bytes_of(&format!("{}: 00 01 00 02 00 00 00", seq.wrapping_add(1)));
        let load = bytes_of("0: 03 \"LOAD DATA LOCAL INFILE 'a' INTO TABLE t\"");
        let before = load.len();
        let events = [
            Event::LogIn("85 a2 08 00"),
            Event::Arrives(Side::Client, load),
            Event::AnswerAll(Vec::new(), 0),
            Event::Arrives(Side::Server, bytes_of("1: fb \"a\"")),
            Event::Arrives(Side::Client, file),
            Event::Arrives(Side::Server, ok),
        ];
        let whole = heard("", &events, &Cuts::none());
        assert_eq!(
            whole.notes.last().unwrap(),
            "    done: 0 rows, 0 masked cells, 1 affected, error 0"
        );
        // Every byte for the one that goes on, a few for the others: such packets take their time.
        let step = if len == MAX_PAYLOAD { 1 } else { 5 };
        for back in (0..11).step_by(step) {
            // The command and the request each in one piece, then the file up to the cut.
            let boundary = sent.min(HEADER + MAX_PAYLOAD + 6) - back;
            let pieces = vec![before, 6, boundary, 1, 2, usize::MAX];
            assert!(heard("", &events, &Cuts { pieces, ahead: vec![0] }) == whole, "{len}, {back}");
        }
    }
}

const HEADER: usize = rowgate::codec::HEADER_LEN;

/// What one of the gateway's own machines towards the database says to these bytes, however they are cut.
fn own(
    bytes: &[u8],
    cuts: &Cuts,
    mut step: impl FnMut(&[u8], &mut Vec<u8>) -> upstream::Step,
) -> String {
    let (mut buffer, mut wanted, mut out, mut said) = (Vec::new(), 0, Vec::new(), String::new());
    let (mut rest, mut turn) = (bytes, 0);
    loop {
        while buffer.len() < wanted {
            if rest.is_empty() {
                return said + "waits";
            }
            let piece = cuts.pieces[turn % cuts.pieces.len()].min(rest.len());
            turn += 1;
            buffer.extend_from_slice(&rest[..piece]);
            rest = &rest[piece..];
        }
        let upstream::Step { consumed, op } = step(&buffer, &mut out);
        buffer.drain(..consumed);
        match op {
            upstream::Op::Read { at_least } => wanted = at_least.max(buffer.len() + 1),
            upstream::Op::Emit => {
                wanted = 0;
                said += &format!("{out:02x?} ");
            }
            other => return format!("{said}{other:?}, {} left", buffer.len() + rest.len()),
        }
        out.clear();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_gateways_own_login_baseline_and_queries(cuts in cuts(700)) {
        let scramble = "\"abcdefghijklmnopqrst\" 00";
        let greeting = "0: 0a \"10.11.19-MariaDB\" 00 07 00 00 00 \"abcdefgh\" 00 ff ff 2d 02 00 ff df 15 \
            00 00 00 00 00 00 00 00 00 00 \"ijklmnopqrst\" 00 \"mysql_native_password\" 00";
        let switch = format!("2: fe \"caching_sha2_password\" 00 {scramble}");
        let login = [greeting, &switch, "4: 01 03", "5: 00 00 00 02 00 00 00"];
        let login: Vec<u8> = login.iter().flat_map(|packet| bytes_of(packet)).collect();
        let log_in = |cuts: &Cuts| {
            let password = Arc::new(rowgate::secret::Secret::from("secret"));
            let account = Account { user: "rowgate".to_owned(), password, public_key: None };
            let key = UpstreamKey { capabilities: 0, collation: 45 };
            let mut login_machine = upstream::Login::new(account, key, upstream::Channel::Plain);
            own(&login, cuts, |bytes, out| login_machine.on_bytes(bytes, out))
        };
        let whole = log_in(&Cuts::none());
        prop_assert!(whole.ends_with("Done, 0 left"), "{}", whole);
        prop_assert_eq!(log_in(&cuts), whole);

        let (ok, eof) = ("1: 00 00 00 02 00 00 00", "3: fe 00 00 02 00");
        let told = "1: 00 00 00 02 40 00 00";
        let answers = [ok, ok, told, ok, "1: 01", "2: 03 \"def\" 00", eof, eof];
        let answers: Vec<u8> = answers.iter().flat_map(|packet| bytes_of(packet)).collect();
        let base = |cuts: &Cuts| {
            let key = UpstreamKey { capabilities: 0, collation: 45 };
            let (sql_mode, schema) = (Some("ANSI"), Some("shop"));
            let wanted = upstream::Wanted { reset: true, sql_mode, schema, found_rows: None };
            let mut baseline = upstream::Baseline::start(&mut Vec::new(), Flavour::MariaDb, key, wanted);
            own(&answers, cuts, |bytes, _| baseline.on_bytes(bytes))
        };
        prop_assert_eq!(base(&cuts), "Done, 0 left");

        let rows = result(&[(Some(3), None), (Some(300), Some(0)), (None, Some(70_000))], false, true, false);
        let query = |cuts: &Cuts| {
            let mut query = upstream::Query::start(&mut Vec::new(), "SELECT 1");
            let end = own(&rows, cuts, |bytes, _| query.on_bytes(bytes));
            (end, query.into_rows())
        };
        let (end, whole) = query(&Cuts::none());
        prop_assert_eq!(end, "Done, 0 left");
        prop_assert_eq!(whole.len(), 3);
        prop_assert_eq!(query(&cuts).1, whole);
    }
}
