//! MariaDB's COM_STMT_BULK_EXECUTE: as directly, and no way past what one row at a time must keep to.

use rowgate::codec::{Capabilities, write_lenenc_bytes};
use xtask::{mariadb, shop};

use crate::stand::{Flavour, Stand};
use crate::wire::{Wire, text};

const MORE: u64 = Capabilities::MARIADB_STMT_BULK_OPERATIONS;

/// The command, and its flag for types that come with it.
pub(crate) const BULK_EXECUTE: u8 = 0xFA;
const TYPES: [u8; 2] = [128, 0];

/// Rows of strings: each with its indicator; none for NULL.
pub(crate) fn bulk(id: u32, rows: &[&[Option<&str>]]) -> Vec<u8> {
    let mut body = [&id.to_le_bytes()[..], &TYPES].concat();
    rows.first().into_iter().for_each(|row| row.iter().for_each(|_| body.extend([0xFD, 0])));
    for value in rows.iter().copied().flatten() {
        body.push(u8::from(value.is_none()));
        value.iter().for_each(|value| write_lenenc_bytes(&mut body, value.as_bytes()));
    }
    body
}

/// COM_STMT_EXECUTE with the same parameters, none of them NULL.
pub(crate) fn execute(id: u32, row: &[&str]) -> Vec<u8> {
    let mut body = [&id.to_le_bytes()[..], &[0, 1, 0, 0, 0, 0, 1]].concat();
    row.iter().for_each(|_| body.extend([0xFD, 0]));
    row.iter().for_each(|value| write_lenenc_bytes(&mut body, value.as_bytes()));
    body
}

#[test]
fn bulk_executions_are_as_directly() {
    let stand = Stand::on(Flavour::MariaDb);
    let token = stand.token("backup", "dumpers");
    let table = "CREATE TABLE shop.lots (id INT PRIMARY KEY, v VARCHAR(20) DEFAULT 'none', s INT)";
    stand.database.sql(table).unwrap();
    let run = |port: u16, user: &str, password: &str| {
        stand.database.sql("TRUNCATE shop.lots").unwrap();
        let mut wire = Wire::login(port, user, password, MORE);
        let mut said = Vec::new();
        for (sql, rows) in [
            (
                "INSERT INTO lots (id, v) VALUES (?, ?)",
                &[&[Some("1"), Some("a")][..], &[Some("2"), None], &[Some("3"), Some("c")]][..],
            ),
            (
                "UPDATE lots SET v = ? WHERE id = ?",
                &[&[Some("x"), Some("1")], &[Some("y"), Some("3")]],
            ),
            ("DELETE FROM lots WHERE id = ?", &[&[Some("2")], &[Some("9")]]),
            (
                "REPLACE INTO lots (id, v) VALUES (?, ?)",
                &[&[Some("3"), Some("r")], &[Some("4"), Some("s")]],
            ),
            ("INSERT INTO lots (id) VALUES (?) RETURNING id, v", &[&[Some("5")], &[Some("6")]]),
            ("INSERT INTO lots (id) VALUES (?)", &[&[Some("7")], &[Some("7")]]),
            ("SELECT v FROM lots WHERE id = ?", &[&[Some("1")], &[Some("3")]]),
        ] {
            let (id, _) = wire.prepare(sql);
            wire.command(BULK_EXECUTE, &bulk(id, rows));
            said.push(text(&wire.answer()));
            // The same once more without types, then an EXECUTE and the end.
            let untyped =
                [&id.to_le_bytes()[..], &[0, 0], &bulk(id, rows)[6 + 2 * rows[0].len()..]];
            wire.command(BULK_EXECUTE, &untyped.concat());
            said.push(text(&wire.answer()));
            wire.command(0x17, &execute(id, &["8", "z"][..rows[0].len()]));
            said.push(text(&wire.answer()));
            wire.command(0x19, &id.to_le_bytes());
        }
        wire.command(BULK_EXECUTE, &bulk(u32::MAX, &[&[Some("1")]]));
        said.push(text(&wire.answer()).split("1243").count().to_string());
        said.push(text(&wire.query("SELECT id, v FROM lots ORDER BY id")));
        said
    };
    let direct = run(stand.database.port(), mariadb::SERVICE_USER, mariadb::SERVICE_PASSWORD);
    let through = run(stand.gateway.port, "backup", &token);
    assert_eq!(through, direct);
    let record = stand.gateway.cli_ok(&["audit", "tail", "-n", "200", "--output", "json"]).unwrap();
    assert!(record.contains(r#""command":"bulk_execute""#), "{record}");
}

/// What holds one execution to a row doesn't hold many to it.
#[test]
fn many_rows_by_their_keys_are_no_single_row() {
    let stand = Stand::on_with(Flavour::MariaDb, |options| options.wait_s = 1);
    let token = stand.token("bot", "agents");
    let mut wire = Wire::login(stand.gateway.port, "bot", &token, MORE);
    for sql in [
        "DELETE FROM payments WHERE id = ?",
        "DELETE FROM payments WHERE id = ? LIMIT 1",
        "UPDATE payments SET amount_cents = 1 WHERE id = ?",
    ] {
        let (id, _) = wire.prepare(sql);
        let mut one = || {
            wire.command(0x17, &execute(id, &["3"]));
            let one = text(&wire.answer());
            assert!(one.starts_with("1:\\x00"), "{sql}: {one}");
        };
        // What was decided of one execution, and is known by heart then, is not what is decided of many.
        (0..3).for_each(|_| one());
        for rows in [&[&[Some("1")][..], &[Some("2")]][..], &[&[Some("1")]], &[&[Some("2")]]] {
            wire.command(BULK_EXECUTE, &bulk(id, rows));
            let held = text(&wire.answer());
            assert!(held.contains("RG-TICKET"), "{sql}: {held}");
        }
        wire.command(0x19, &id.to_le_bytes());
    }
    let left = "SELECT COUNT(*) FROM shop.payments WHERE id IN (1, 2)";
    assert_eq!(stand.database.sql(left).unwrap().trim(), "2", "something ran without approval");
}

/// An approval is for these rows, in this way, once.
#[test]
fn what_is_approved_is_all_of_the_rows() {
    let stand = Stand::on_with(Flavour::MariaDb, |options| options.wait_s = 1);
    let token = stand.token("bot", "agents");
    let mut wire = Wire::login(stand.gateway.port, "bot", &token, MORE);
    let (id, _) = wire.prepare("DELETE FROM payments WHERE id = ?");
    let mut ask = |rows: &[&[Option<&str>]]| {
        wire.command(BULK_EXECUTE, &bulk(id, rows));
        text(&wire.answer())
    };
    let approved: &[&[Option<&str>]] = &[&[Some("11")], &[Some("12")]];
    assert!(ask(approved).contains("RG-TICKET"));
    let ticket = stand.pending();
    let shown = stand.gateway.cli_ok(&["approvals", "show", &ticket]).unwrap();
    assert!(shown.contains("many rows") && shown.contains("11") && shown.contains("12"), "{shown}");
    stand.gateway.cli_ok(&["approvals", "approve", &ticket]).unwrap();
    for other in [
        &[&[Some("11")][..], &[Some("12")], &[Some("13")]][..],
        &[&[Some("11")], &[Some("13")]],
        &[&[Some("11")]],
    ] {
        let refused = ask(other);
        assert!(refused.contains("RG-TICKET") && !refused.contains(&ticket), "{refused}");
    }
    let ran = ask(approved);
    assert!(ran.starts_with("1:\\x00\\x02"), "{ran}");
    assert!(ask(approved).contains("RG-TICKET"), "a grant is good for once");
    let left = "SELECT COUNT(*) FROM shop.payments WHERE id BETWEEN 11 AND 13";
    assert_eq!(stand.database.sql(left).unwrap().trim(), "1");
}

/// What is refused to one row is refused to many, and what can't be read is not sent.
#[test]
fn no_bulk_execution_gets_past_a_mask() {
    let stand = Stand::on(Flavour::MariaDb);
    let token = stand.token("leak-agent", "agents");
    stand.database.sql("CREATE TABLE shop.notes_of (id INT PRIMARY KEY, ssn VARCHAR(20))").unwrap();
    stand.database.sql("INSERT INTO shop.notes_of VALUES (1, '078-05-1120')").unwrap();
    let ssn = shop::customer(5).ssn;
    let mut wire = Wire::login(stand.gateway.port, "leak-agent", &token, MORE);
    let inserted = format!(
        "INSERT INTO customers VALUES (?, 'n', 'e', 'p', 'c', '{ssn}', 'n', 1) RETURNING id, ssn"
    );
    for (sql, row) in [
        ("SELECT ssn FROM customers WHERE id = ?", "5"),
        (
            "INSERT INTO orders SELECT 90000 + id, id, '2026-01-01', ssn, 1 FROM customers WHERE id = ?",
            "5",
        ),
        ("DELETE FROM customers WHERE id = ? RETURNING ssn", "5"),
        (
            "INSERT INTO notes_of VALUES (91000, ?) RETURNING (SELECT ssn FROM customers WHERE id = 5)",
            "5",
        ),
        (&inserted, "93001"),
        ("UPDATE customers SET name = ssn WHERE id = ?", "5"),
    ] {
        wire.command(0x16, sql.as_bytes());
        let (_, first) = wire.packet();
        if first[0] == 0xFF {
            continue;
        }
        let ok = rowgate::codec::PrepareOk::parse(&first, Capabilities(0)).unwrap();
        for count in [ok.parameters, ok.columns].into_iter().filter(|count| *count > 0) {
            (0..=count).for_each(|_| drop(wire.packet()));
        }
        wire.command(BULK_EXECUTE, &bulk(ok.statement_id, &[&[Some(row)], &[Some("6")]]));
        let answer = text(&wire.answer());
        assert!(!answer.contains(&ssn), "{sql}: {answer}");
        wire.command(0x19, &ok.statement_id.to_le_bytes());
    }
    let (id, _) = wire.prepare("INSERT INTO orders VALUES (?, 1, '2026-01-01', 'new', 5)");
    let whole = bulk(id, &[&[Some("90001")], &[Some("90002")]]);
    for cut in (6..whole.len()).filter(|cut| *cut != 8 + 7) {
        wire.command(BULK_EXECUTE, &whole[..cut]);
        let refused = text(&wire.answer());
        assert!(refused.contains("RG-UNSUPPORTED"), "{cut}: {refused}");
    }
    // Who has not agreed on it is refused it by name, as ever.
    let mut plain = Wire::login(stand.gateway.port, "leak-agent", &token, 0);
    let (id, _) = plain.prepare("INSERT INTO orders VALUES (?, 1, '2026-01-01', 'new', 5)");
    plain.command(BULK_EXECUTE, &bulk(id, &[&[Some("90003")]]));
    assert!(text(&plain.answer()).contains("RG-COMMAND"));
    let left = "SELECT COUNT(*) FROM shop.orders WHERE id BETWEEN 90000 AND 99999";
    assert_eq!(stand.database.sql(left).unwrap().trim(), "0");
}
