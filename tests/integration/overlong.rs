//! Statements that are longer than they may be: their client is told so, in an answer that it gets to read although it
//! sends all before it reads any, and the session goes on.

use std::io::Write as _;
use std::process::Stdio;

use xtask::mariadb::SERVICE_PASSWORD;

use crate::stand::{Flavour, Stand, errors, on_both};
use crate::wire::{Wire, text};

on_both!(
    a_statement_that_is_too_long_is_answered,
    long_data_that_is_too_long_is_not_executed_in_part
);

const QUERY: u8 = 3;
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
const LONG_DATA: u8 = 0x18;
const RESET_STATEMENT: u8 = 0x1A;

/// The codes in front of the text: 1153, 08S01.
const TOO_LONG: &[u8] = b"\xff\x81\x04#08S01Rowgate [RG-LIMIT]";

fn a_statement_that_is_too_long_is_answered(flavour: Flavour) {
    let stand =
        Stand::on_with(flavour, |options| options.server = "max_statement_bytes = 1048576".into());
    let long = |len: usize| {
        format!("INSERT INTO orders VALUES (90008, 1, '2026-01-01', '{}', 5)", "x".repeat(len))
    };
    for (user, group) in [("backup", "dumpers"), ("bot", "agents")] {
        let token = stand.token(user, group);
        let mut wire = Wire::login(stand.gateway.port, user, &token, 0);
        for command in [QUERY, PREPARE] {
            for (len, packets) in [(1 << 20, 1), (16 << 20, 2), (100 << 20, 7)] {
                wire.command(command, long(len).as_bytes());
                let (seq, error) = wire.packet();
                assert!(error.starts_with(TOO_LONG), "{}", error.escape_ascii());
                assert_eq!(seq, packets, "{user}, {len} bytes");
                assert!(text(&wire.query("SELECT 40 + 2")).contains("42"), "{user}: it goes on");
            }
        }
    }
    let rows = stand.database.sql("SELECT COUNT(*) FROM shop.orders WHERE id = 90008").unwrap();
    assert_eq!(rows.lines().last(), Some("0"));
    let tail = ["audit", "tail", "-n", "100", "--output", "json"];
    let record = stand.gateway.cli_ok(&tail).unwrap();
    assert!(record.contains("COM_QUERY (0x03)") && !record.contains("xxxx"), "{record}");

    // A stock client.
    let token = stand.token("backup", "dumpers");
    let mut client = stand.client("backup", &token);
    client.args(["--batch", "-N", "--force", "--skip-reconnect", "--database=shop"]);
    client.arg("--max-allowed-packet=1G");
    let mut client =
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut typed = client.stdin.take().unwrap();
    typed.write_all(format!("{};\nSELECT 41;\n", long(30 << 20)).as_bytes()).unwrap();
    drop(typed);
    let output = client.wait_with_output().unwrap();
    assert!(errors(&output).contains("1153") && errors(&output).contains("RG-LIMIT"), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "41\n");
}

fn long_data_that_is_too_long_is_not_executed_in_part(flavour: Flavour) {
    let stand =
        Stand::on_with(flavour, |options| options.server = "max_statement_bytes = 1048576".into());
    let token = stand.token("backup", "dumpers");
    // As directly, for what is not too long.
    let direct = (stand.database.port(), "rowgate", SERVICE_PASSWORD.to_owned());
    for (port, user, password) in [direct, (stand.gateway.port, "backup", token)] {
        let through = port == stand.gateway.port;
        let mut wire = Wire::login(port, user, &password, 0);
        let (id, _) = wire.prepare("SELECT LENGTH(?)");
        let id = id.to_le_bytes();
        let send = |wire: &mut Wire, len: usize| {
            wire.command(LONG_DATA, &[&id[..], &[0, 0], &vec![b'x'; len]].concat());
        };
        let execute = |wire: &mut Wire, parameter: &[u8]| {
            let head = [&id[..], &[0, 1, 0, 0, 0, 0, 1, 0xFD, 0]].concat();
            wire.command(EXECUTE, &[&head[..], parameter].concat());
            text(&wire.answer())
        };
        send(&mut wire, 100);
        let answer = execute(&mut wire, b"");
        assert!(answer.contains("d\\x00\\x00\\x00"), "{answer}");
        if !through {
            continue;
        }
        for pieces in [&[2 << 20][..], &[100, 1 << 20], &[600 << 10, 600 << 10, 1], &[17 << 20]] {
            for piece in pieces {
                send(&mut wire, *piece);
            }
            for _ in 0..2 {
                // Also with a value that came in its place: the database has a part of the other.
                let refused = execute(&mut wire, b"\x01y");
                assert!(refused.contains("RG-LIMIT"), "{pieces:?}: {refused}");
            }
            wire.command(RESET_STATEMENT, &id);
            assert_eq!(wire.packet().1.first(), Some(&0));
            let answer = execute(&mut wire, b"\x01y");
            assert!(answer.contains("\\x00\\x00\\x01\\x00\\x00\\x00"), "{pieces:?}: {answer}");
        }
    }
}
