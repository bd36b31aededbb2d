//! Recorded answers, whole, cut and broken.

use super::*;
use crate::codec::{
    ColumnDefinition, ColumnFlags, ColumnType, OkPacket, Status, write_columns, write_eof,
    write_err, write_frame, write_lenenc_bytes, write_ok,
};
use crate::record::Record;
use result::{Read, read};

const PLAIN: Capabilities = Capabilities(0);
const WITHOUT_EOFS: Capabilities = Capabilities(Capabilities::DEPRECATE_EOF);

/// Packets, one behind the other.
#[derive(Default)]
struct Wire(Vec<u8>, u8);

impl Wire {
    fn packet(&mut self, body: impl FnOnce(&mut Vec<u8>)) {
        self.1 = self.1.wrapping_add(1);
        write_frame(&mut self.0, self.1, body);
    }

    fn definitions(&mut self, names: &[&str], capabilities: Capabilities) {
        self.packet(|out| write_columns(out, names.len() as u64, capabilities));
        for name in names {
            self.packet(|out| {
                ColumnDefinition {
                    catalog: b"def",
                    schema: b"shop",
                    table: b"t",
                    org_table: b"customers",
                    name: name.as_bytes(),
                    org_name: b"ssn",
                    extended: None,
                    charset: 45,
                    length: 80,
                    column_type: ColumnType::VAR_STRING,
                    flags: ColumnFlags(0),
                    decimals: 0,
                    tail: &[0, 0],
                }
                .write(out);
            });
        }
    }

    fn row(&mut self, cells: &[&str]) {
        self.packet(|out| cells.iter().for_each(|cell| write_lenenc_bytes(out, cell.as_bytes())));
    }

    fn end(&mut self, status: u16, capabilities: Capabilities) {
        let status = Status(status);
        self.packet(|out| {
            if capabilities == PLAIN {
                write_eof(out, 0, status);
            } else {
                let ok = OkPacket {
                    affected_rows: 0,
                    last_insert_id: 0,
                    status,
                    warnings: 0,
                    info: b"",
                };
                write_ok(out, 0xFE, &ok);
            }
        });
    }
}

/// Two results, and an error after a row of the second.
fn answer(capabilities: Capabilities) -> Vec<u8> {
    let mut wire = Wire::default();
    wire.definitions(&["a", "b"], capabilities);
    if capabilities == PLAIN {
        wire.end(0, capabilities);
    }
    wire.row(&["1", "***-6789"]);
    wire.row(&["2", ""]);
    wire.end(Status::MORE_RESULTS, capabilities);
    wire.definitions(&["c"], capabilities);
    if capabilities == PLAIN {
        wire.end(0, capabilities);
    }
    wire.row(&["x"]);
    wire.packet(|out| write_err(out, 1317, *b"70100", "interrupted"));
    wire.0
}

fn reading(capabilities: Capabilities) -> Reading<'static> {
    Reading { capabilities, binary: false, fetched: false, known: &[] }
}

/// As the results are printed.
fn shown(read: &Read) -> Vec<String> {
    let one = |answer: &Answer| match answer {
        Answer::Rows { columns, rows } => {
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            let row = |row: &Vec<Option<String>>| {
                let cells: Vec<&str> = row.iter().map(|c| c.as_deref().unwrap_or("NULL")).collect();
                cells.join(",")
            };
            format!("{}: {}", names.join(","), rows.iter().map(row).collect::<Vec<_>>().join("; "))
        }
        Answer::Error { code, message, .. } => format!("{code} {message}"),
        Answer::Ok { affected, .. } => format!("ok {affected}"),
        Answer::File => "file".to_owned(),
    };
    read.answers.iter().map(one).collect()
}

#[test]
fn several_results_and_an_error() {
    for capabilities in [PLAIN, WITHOUT_EOFS] {
        let read = read(&answer(capabilities), reading(capabilities));
        assert_eq!(shown(&read), ["a,b: 1,***-6789; 2,", "c: x", "1317 interrupted"]);
        assert!(!read.cut);
        let Answer::Rows { columns, .. } = &read.answers[0] else { panic!() };
        assert_eq!(columns[1].from, "shop.customers.ssn");
    }
}

#[test]
fn what_is_cut_is_read_as_far_as_it_is_whole() {
    for capabilities in [PLAIN, WITHOUT_EOFS] {
        let whole = answer(capabilities);
        let all = shown(&read(&whole, reading(capabilities))).join("|");
        for end in 0..whole.len() {
            let part = read(&whole[..end], reading(capabilities));
            assert!(part.cut, "{end}");
            assert!(all.starts_with(&shown(&part).join("|")), "{end}: {:?}", shown(&part));
        }
    }
}

#[test]
fn bytes_that_are_no_answer() {
    let mut random = 1_u64;
    for len in 0..2_000 {
        let mut bytes: Vec<u8> = (0..len % 97)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                random.to_le_bytes()[6]
            })
            .collect();
        // Often a whole packet, so that more than headers are looked at.
        if let [low, middle, high, ..] = &mut bytes[..] {
            (*low, *middle, *high) = (u8::try_from(len % 13).unwrap(), 0, 0);
        }
        for binary in [false, true] {
            read(&bytes, Reading { binary, ..reading(WITHOUT_EOFS) });
        }
    }
}

fn record(event: Recorded) -> Record {
    Record { core: 0, sequence: 0, event }
}

fn of(session: u64, statement: u64, command: &str) -> Record {
    record(Recorded::Intent(RecordedIntent {
        session,
        statement,
        at_us: 1,
        identity: "bot".into(),
        target: "shop".into(),
        schema: None,
        command: command.into(),
        verb: "select".into(),
        digest: "d".into(),
        text: "SELECT ?".into(),
        verdict: "allow".into(),
        rules: Vec::new(),
        masked: Vec::new(),
        tables: Vec::new(),
        policy_version: "v".into(),
        attribute_count: 0,
        attributes: Vec::new(),
    }))
}

fn released(session: u64, statement: u64, bytes: &[u8], cut: bool) -> Record {
    let (capabilities, bytes) = (WITHOUT_EOFS.0, bytes.to_vec());
    record(Recorded::Released { session, statement, at_us: 2, capabilities, cut, bytes })
}

/// The statements that these records tell of.
fn played(records: Vec<Record>) -> Vec<Played> {
    let mut player = Player::new(7);
    let mut moments: Vec<Moment> = records.into_iter().flat_map(|r| player.take(r)).collect();
    moments.extend(player.end());
    let statement = |moment| match moment {
        Moment::Statement(played) => Some(*played),
        _ => None,
    };
    moments.into_iter().filter_map(statement).collect()
}

#[test]
fn pieces_are_put_together_by_session_and_statement() {
    let whole = answer(WITHOUT_EOFS);
    let (first, second) = whole.split_at(70);
    let all = played(vec![
        of(7, 1, "query"),
        released(7, 1, first, false),
        of(8, 1, "query"),
        released(8, 1, b"another's", false),
        released(7, 2, b"of no statement under way", false),
        released(7, 1, second, false),
        of(7, 2, "query"),
    ]);
    assert_eq!((all.len(), all[0].answers.len(), all[0].cut), (2, 3, false));
    assert!(all[1].unrecorded && all[0].ended.is_none());
    let cut = played(vec![of(7, 1, "query"), released(7, 1, &whole, true)]);
    assert!(cut[0].cut, "the bytes end well, but the record says that there were more");
}

#[test]
fn fetched_rows_are_read_by_the_columns_of_their_execute() {
    let mut execute = Wire::default();
    execute.definitions(&["a"], WITHOUT_EOFS);
    execute.end(Status::CURSOR_EXISTS, WITHOUT_EOFS);
    let mut fetch = Wire::default();
    fetch.packet(|out| out.extend_from_slice(&[0, 0, 2, b'h', b'i']));
    fetch.end(Status::LAST_ROW_SENT, WITHOUT_EOFS);
    let all = played(vec![
        of(7, 1, "execute"),
        released(7, 1, &execute.0, false),
        of(7, 2, "fetch"),
        released(7, 2, &fetch.0, false),
    ]);
    let read = Read { answers: all[1].answers.clone(), cut: false };
    assert_eq!((shown(&read), all[1].cut), (vec!["a: hi".to_owned()], false));
}
