//! What stock clients and a real server said to each other (`cargo xtask capture` recorded it), read by the codec:
//! every packet is understood to its last byte, and written again it is the same.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use rowgate::codec::{
    BinaryRow, Capabilities, ColumnDefinition, ColumnType, Command, ErrPacket, ExecuteHead,
    Handshake, Header, LoginRequest, OkPacket, PrepareOk, Reply, Status, TextRow,
};

#[test]
fn the_text_protocol_of_pymysql() {
    insta::assert_snapshot!(read("pymysql-text"));
}

#[test]
fn prepared_statements_of_mysqls_python_driver() {
    insta::assert_snapshot!(read("python-connector-prepared"));
}

/// The packets of a capture: whose, and their payloads.
fn packets(name: &str) -> Vec<(char, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let text = std::fs::read_to_string(path.join(format!("{name}.hex"))).unwrap();
    let packet = |line: &str| {
        let (side, hex) = line.split_once(' ').unwrap();
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(header.total(), bytes.len());
        (side.chars().next().unwrap(), header.payload(&bytes).unwrap().to_vec())
    };
    text.lines().map(packet).collect()
}

/// A reader of one capture.
struct Reader {
    packets: std::vec::IntoIter<(char, Vec<u8>)>,
    /// What the two agreed on.
    capabilities: Capabilities,
    said: String,
}

/// Everything that was said, as the codec understands it.
fn read(name: &str) -> String {
    let packets = packets(name).into_iter();
    let mut reader = Reader { packets, capabilities: Capabilities(0), said: String::new() };
    reader.log_in();
    while let Some((side, payload)) = reader.packets.next() {
        assert_eq!(side, 'C', "a response that was not read to its end");
        reader.command(&payload);
    }
    reader.said
}

impl Reader {
    fn deprecate_eof(&self) -> bool {
        self.capabilities.has(Capabilities::DEPRECATE_EOF)
    }

    fn server_sent(&mut self) -> Vec<u8> {
        let (side, payload) = self.packets.next().expect("a response");
        assert_eq!(side, 'S', "a response that was read past its end");
        payload
    }

    fn say(&mut self, what: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.said, "{what}");
    }

    fn log_in(&mut self) {
        let payload = self.server_sent();
        let greeting = Handshake::parse(&payload).unwrap();
        let mut again = Vec::new();
        greeting.write(&mut again);
        assert_eq!(again, payload, "a greeting written again");
        self.say(format_args!("greeting of {} by {}", greeting.version, greeting.plugin));
        let (_, payload) = self.packets.next().unwrap();
        let login = LoginRequest::parse(&payload).unwrap();
        let attributes: Vec<&str> = login.attributes.iter().map(|(key, _)| *key).collect();
        self.say(format_args!(
            "login of {} by {:?} into {:?}, {} bytes, attributes {attributes:?}",
            login.user,
            login.plugin,
            login.schema,
            login.auth_response.len()
        ));
        let theirs = Handshake::parse(&again).unwrap().capabilities;
        self.capabilities = Capabilities(login.capabilities.0 & theirs.0);
        let ok = self.server_sent();
        assert_eq!(Reply::parse(&ok, self.capabilities), Ok(Reply::Ok), "the login succeeds");
    }

    fn command(&mut self, payload: &[u8]) {
        let (command, body) = (Command(payload[0]), &payload[1..]);
        match command {
            Command::QUERY | Command::INIT_DB | Command::STMT_PREPARE => {
                let text = String::from_utf8_lossy(body).into_owned();
                self.say(format_args!("{} {text}", command.name()));
            }
            Command::STMT_EXECUTE => {
                let head = ExecuteHead::parse(body).unwrap();
                self.say(format_args!("COM_STMT_EXECUTE {head:?}"));
            }
            _ => self.say(format_args!("{} {body:?}", command.name())),
        }
        match command {
            Command::QUIT | Command::STMT_CLOSE => {}
            Command::STMT_PREPARE => self.prepared(),
            Command::STATISTICS => drop(self.server_sent()),
            _ => self.result(command == Command::STMT_EXECUTE),
        }
    }

    fn prepared(&mut self) {
        let ok = PrepareOk::parse(&self.server_sent(), self.capabilities).unwrap();
        self.say(format_args!("    {} parameters, {} columns", ok.parameters, ok.columns));
        for count in [ok.parameters, ok.columns] {
            self.definitions(u64::from(count));
        }
    }

    /// So many definitions and the EOF behind them; the columns' types.
    fn definitions(&mut self, count: u64) -> Vec<ColumnType> {
        let mut types = Vec::new();
        for _ in 0..count {
            let payload = self.server_sent();
            let definition = ColumnDefinition::parse(&payload, self.capabilities).unwrap();
            let mut again = Vec::new();
            definition.write(&mut again);
            assert_eq!(again, payload, "a definition written again");
            types.push(definition.column_type);
        }
        if count > 0 && !self.deprecate_eof() {
            assert!(Reply::is_terminator(&self.server_sent(), false));
        }
        types
    }

    fn result(&mut self, binary: bool) {
        let payload = self.server_sent();
        match Reply::parse(&payload, self.capabilities).unwrap() {
            Reply::Ok => {
                let ok = OkPacket::parse(&payload).unwrap();
                self.say(format_args!("    OK, {} affected", ok.affected_rows));
                assert!(!ok.status.has(Status::MORE_RESULTS));
            }
            Reply::Err => {
                let error = ErrPacket::parse(&payload).unwrap();
                let text = String::from_utf8_lossy(error.message);
                self.say(format_args!("    error {}: {text}", error.code));
            }
            Reply::Columns { count, .. } => {
                let types = self.definitions(count);
                self.rows(&types, binary);
            }
            Reply::LocalInfile => panic!("nothing here loads a file"),
        }
    }

    fn rows(&mut self, types: &[ColumnType], binary: bool) {
        loop {
            let payload = self.server_sent();
            if Reply::is_terminator(&payload, self.deprecate_eof()) {
                return;
            }
            let cells = cells(&payload, types, binary);
            let shown: Vec<String> = cells.iter().map(|cell| shown(cell.as_deref())).collect();
            self.say(format_args!("    {}", shown.join(" | ")));
        }
    }
}

/// The cells of a row, which has just as many; a row that is cut anywhere has not.
fn cells(payload: &[u8], types: &[ColumnType], binary: bool) -> Vec<Option<Vec<u8>>> {
    let read = |payload: &[u8]| {
        let mut cells = Vec::new();
        if binary {
            let mut row = BinaryRow::new(payload, types.len())?;
            for column_type in types {
                cells.push(row.next_cell(*column_type)?.value.map(<[u8]>::to_vec));
            }
            return Ok((cells, row.is_done()));
        }
        let mut row = TextRow::new(payload);
        for _ in types {
            cells.push(row.next_cell()?.value.map(<[u8]>::to_vec));
        }
        Ok::<_, rowgate::codec::CodecError>((cells, row.is_done()))
    };
    for end in 0..payload.len() {
        assert!(read(&payload[..end]).is_err(), "a row cut at {end} was read");
    }
    let (cells, done) = read(payload).unwrap();
    assert!(done, "a row with bytes left over");
    cells
}

/// A short cell as text where it is text, in hexadecimal otherwise.
fn shown(cell: Option<&[u8]>) -> String {
    let Some(cell) = cell else { return "NULL".to_owned() };
    match std::str::from_utf8(cell) {
        Ok(text) if text.len() > 40 => format!("{} bytes", text.len()),
        Ok(text) if !text.chars().any(char::is_control) => format!("{text:?}"),
        _ => cell.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }),
    }
}
