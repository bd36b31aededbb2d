//! What is shown masked is not written back, by whatever way: an ORM that saves a row as it read it would destroy the real
//! values.

use rowgate::codec::{Capabilities, write_lenenc_bytes};

use crate::bulk::{BULK_EXECUTE, bulk};
use crate::stand::{Flavour, Stand, on_both};
use crate::wire::{Wire, text};

on_both!(
    masked_values_are_not_written_back,
    nor_as_parameters,
    null_is_not_written_over_what_is_shown_as_null,
);

const MORE: u64 = Capabilities::MULTI_STATEMENTS | Capabilities::MULTI_RESULTS;

const REFUSED: &str = "masked-write-back";

/// Of everything in the table, so that no change goes unseen.
fn checksum(stand: &Stand) -> String {
    stand.database.sql("CHECKSUM TABLE shop.customers").unwrap()
}

/// COM_STMT_EXECUTE with these strings; its answer.
fn execute(wire: &mut Wire, id: u32, values: &[Option<&str>]) -> String {
    let mut nulls = vec![0; values.len().div_ceil(8)];
    for (at, _) in values.iter().enumerate().filter(|(_, value)| value.is_none()) {
        nulls[at / 8] |= 1 << (at % 8);
    }
    let mut body = [&id.to_le_bytes()[..], &[0, 1, 0, 0, 0], &nulls, &[1]].concat();
    values.iter().for_each(|_| body.extend([0xFD, 0]));
    values.iter().flatten().for_each(|value| write_lenenc_bytes(&mut body, value.as_bytes()));
    wire.command(0x17, &body);
    text(&wire.answer())
}

fn masked_values_are_not_written_back(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let (agent, dba) = (stand.token("agent", "agents"), stand.token("dba", "dba"));
    let mut wire = Wire::login(stand.gateway.port, "agent", &agent, MORE);
    let before = checksum(&stand);
    let card = stand.sql_ok("agent", &agent, "SELECT card_number FROM customers WHERE id = 1");
    let card = card.lines().nth(1).unwrap().to_owned();
    assert!(card.starts_with("****"), "{card}");
    for sql in [
        format!("UPDATE customers SET card_number = '{card}' WHERE id = 1"),
        format!("UPDATE customers SET tier = 2, card_number = \"{card}\" WHERE id = 1"),
        "UPDATE customers SET email = '[redacted]', tier = 2 WHERE id = 1".to_owned(),
        "UPDATE customers SET email = N'[redacted]' WHERE id = 1".to_owned(),
        "UPDATE customers SET email = ('\\[redacted\\]') WHERE id = 1".to_owned(),
        "UPDATE customers c JOIN orders o ON o.customer_id = c.id SET c.ssn = '[redacted]' WHERE o.id = 1".to_owned(),
        "UPDATE customers SET notes = 'charge [redacted] now' WHERE id = 1".to_owned(),
        "INSERT INTO customers (id, name, email, phone, card_number, ssn, notes, tier) \
         VALUES (9001, 'n', '[redacted]', 'p', 'c', 's', 'n', 1)"
            .to_owned(),
        "REPLACE INTO customers VALUES (1, 'n', 'e', '[redacted]', 'c', 's', 'n', 1)".to_owned(),
        "INSERT INTO customers (id, name, email, phone, card_number, ssn, notes, tier) \
         VALUES (1, 'n', 'e', 'p', 'c', 's', 'n', 1) ON DUPLICATE KEY UPDATE email = '[redacted]'"
            .to_owned(),
        "UPDATE customers SET tier = 9 WHERE id = 1; UPDATE customers SET email = '[redacted]' WHERE id = 1".to_owned(),
    ] {
        let said = text(&wire.query(&sql));
        assert!(said.contains(REFUSED) && said.contains("leave the column out"), "{sql}: {said}");
        assert_eq!(checksum(&stand), before, "{sql}");
    }
    // What is no masked value, or no masked column of theirs, is written.
    for (user, token, sql) in [
        ("agent", &agent, "UPDATE customers SET email = 'a@b.example' WHERE id = 1"),
        ("agent", &agent, "UPDATE customers SET name = '[redacted]', tier = 3 WHERE id = 1"),
        ("agent", &agent, "UPDATE customers SET card_number = '4111111111111111' WHERE id = 1"),
        ("agent", &agent, "UPDATE orders SET state = '[redacted]' WHERE id = 1"),
        ("dba", &dba, "UPDATE customers SET email = '[redacted]' WHERE id = 2"),
    ] {
        stand.sql_ok(user, token, sql);
    }
    let now = stand.database.sql("SELECT email, name FROM shop.customers WHERE id = 1").unwrap();
    assert!(now.contains("a@b.example") && now.contains("[redacted]"), "{now}");
}

fn nor_as_parameters(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("agent", "agents");
    let more = match flavour {
        Flavour::MariaDb => MORE | Capabilities::MARIADB_STMT_BULK_OPERATIONS,
        Flavour::MySql => MORE,
    };
    let mut wire = Wire::login(stand.gateway.port, "agent", &token, more);
    let before = checksum(&stand);
    let (id, _) = wire.prepare("UPDATE customers SET card_number = ?, tier = tier WHERE id = ?");
    for value in ["[redacted]", "*************118", "*"] {
        let said = execute(&mut wire, id, &[Some(value), Some("1")]);
        assert!(said.contains(REFUSED), "{value}: {said}");
    }
    // By pieces, its value can't be seen, whatever it is.
    wire.command(0x18, &[&id.to_le_bytes()[..], &[0, 0], b"4222"].concat());
    let long = [&id.to_le_bytes()[..], b"\0\x01\0\0\0\0\x01\xfd\0\xfd\0\x011"].concat();
    wire.command(0x17, &long);
    let said = text(&wire.answer());
    assert!(said.contains("no long data"), "{said}");
    wire.command(0x1A, &id.to_le_bytes());
    assert_eq!(wire.packet().1[0], 0);
    if flavour == Flavour::MariaDb {
        let rows = [&[Some("4222"), Some("1")][..], &[Some("**34"), Some("2")]];
        wire.command(BULK_EXECUTE, &bulk(id, &rows));
        let said = text(&wire.answer());
        assert!(said.contains(REFUSED), "{said}");
    }
    assert_eq!(checksum(&stand), before);
    // The same statement goes through with a value of its own, and is refused again after that.
    let said = execute(&mut wire, id, &[Some("4222"), Some("1")]);
    assert!(said.starts_with("1:\\x00"), "{said}");
    assert_ne!(checksum(&stand), before);
    assert!(execute(&mut wire, id, &[Some("**34"), Some("1")]).contains(REFUSED));
    let now = stand.database.sql("SELECT card_number FROM shop.customers WHERE id = 1").unwrap();
    assert!(now.contains("4222"), "{now}");
}

fn null_is_not_written_over_what_is_shown_as_null(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| {
        options
            .labels
            .push_str("\n[[labels]]\nname = \"odd\"\ncolumns = [\"shop.scores.score\"]\n");
    });
    let table = "CREATE TABLE shop.scores (id INT PRIMARY KEY, score INT, note VARCHAR(20));\
                 INSERT INTO shop.scores VALUES (1, 7, 'a')";
    stand.database.sql(table).unwrap();
    let token = stand.token("agent", "agents");
    let seen = stand.sql_ok("agent", &token, "SELECT score FROM scores WHERE id = 1");
    assert!(seen.contains("NULL"), "{seen}");
    let mut wire = Wire::login(stand.gateway.port, "agent", &token, MORE);
    for sql in [
        "UPDATE scores SET score = NULL WHERE id = 1",
        "UPDATE scores SET note = 'b', score = (NULL) WHERE id = 1",
        "REPLACE INTO scores VALUES (1, NULL, 'b')",
        "INSERT INTO scores VALUES (1, 5, 'b') ON DUPLICATE KEY UPDATE score = NULL",
    ] {
        let said = text(&wire.query(sql));
        assert!(said.contains(REFUSED), "{sql}: {said}");
    }
    let (id, _) = wire.prepare("UPDATE scores SET score = ?, note = ? WHERE id = ?");
    let said = execute(&mut wire, id, &[None, Some("b"), Some("1")]);
    assert!(said.contains(REFUSED), "{said}");
    let row = || stand.database.sql("SELECT score, note FROM shop.scores WHERE id = 1").unwrap();
    assert!(row().contains("7\ta"), "{}", row());
    for sql in [
        "UPDATE scores SET note = NULL WHERE id = 1",
        "INSERT INTO scores VALUES (2, NULL, NULL)",
        "UPDATE scores SET score = 8 WHERE id = 1",
    ] {
        stand.sql_ok("agent", &token, sql);
    }
    let said = execute(&mut wire, id, &[Some("9"), Some("c"), Some("1")]);
    assert!(said.starts_with("1:\\x00"), "{said}");
    assert!(row().contains("9\tc"), "{}", row());
}
