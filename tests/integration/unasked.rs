//! A database that ends an idle connection of its own accord: MySQL says why in an error numbered 0 that nobody asked for,
//! MariaDB does so where it is killed. A session that holds the connection is told that the database has closed it;
//! one that waits in the pool goes, and no session hears of it.

use std::time::Duration;

use xtask::mariadb::SERVICE_PASSWORD;

use crate::stand::{Flavour, Stand, on_both, wait_for};
use crate::wire::{Packet, Wire};

on_both!(
    a_session_is_told_what_the_database_said_unasked,
    a_pooled_connection_that_ended_is_dropped
);

const QUERY: u8 = 3;
const RESET: u8 = 0x1F;

/// What a direct client finds unread after so long: the packets, to the end of the connection.
fn unasked(wire: &mut Wire) -> Vec<Packet> {
    std::iter::from_fn(|| wire.try_packet()).collect()
}

fn query(wire: &mut Wire, sql: &str) -> Option<Packet> {
    wire.try_command(QUERY, sql.as_bytes())
}

fn connection_id(wire: &mut Wire) -> String {
    wire.command(QUERY, b"SELECT CONNECTION_ID()");
    let answer = wire.answer();
    let row = &answer[answer.len() - 2].1;
    String::from_utf8(row[1..].to_vec()).unwrap()
}

fn a_session_is_told_what_the_database_said_unasked(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("backup", "dumpers");
    // What the servers say: by it this test would show that they have changed.
    let mut direct = Wire::login(stand.database.port(), "rowgate", SERVICE_PASSWORD, 0);
    query(&mut direct, "SET SESSION wait_timeout = 1");
    let said = unasked(&mut direct);
    match flavour {
        Flavour::MySql => assert!(
            matches!(&said[..], [(0, error)] if error.starts_with(&[0xFF, 0xBF, 0x0F])),
            "{said:?}"
        ),
        Flavour::MariaDb => assert!(said.is_empty(), "{said:?}"),
    }
    for ending in ["SET SESSION wait_timeout = 1", "KILL"] {
        let mut wire = Wire::login(stand.gateway.port, "backup", &token, 0);
        let id = connection_id(&mut wire);
        // A state that no pool may lend on.
        query(&mut wire, "SET @a = 1");
        if ending == "KILL" {
            stand.database.sql(&format!("KILL {id}")).unwrap();
        } else {
            query(&mut wire, ending);
        }
        let gone = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE id = {id}");
        wait_for("its end", || {
            stand.database.sql(&gone).unwrap().lines().last().filter(|n| *n == "0").map(drop)
        });
        std::thread::sleep(Duration::from_millis(50));
        let (seq, error) =
            query(&mut wire, "INSERT INTO orders VALUES (90009, 1, '2026-01-01', 'new', 5)")
                .expect("a last word");
        let text = String::from_utf8_lossy(&error[9..]).into_owned();
        assert_eq!((seq, &error[..9]), (1, &b"\xff\x86\x04#08S01"[..]), "{ending}: {text}");
        assert!(text.starts_with("Rowgate [RG-UPSTREAM]"), "{ending}: {text}");
        assert!(!text.contains("malformed"), "{ending}: {text}");
        if flavour == Flavour::MySql && ending != "KILL" {
            assert!(text.contains("error 4031"), "{ending}: {text}");
        }
        assert!(wire.try_packet().is_none(), "{ending}: the session goes on");
    }
    let rows = stand.database.sql("SELECT COUNT(*) FROM shop.orders WHERE id = 90009").unwrap();
    assert_eq!(rows.lines().last(), Some("0"));
}

fn a_pooled_connection_that_ended_is_dropped(flavour: Flavour) {
    // Not by the session's own setting, which a reset takes back.
    let stand = Stand::after(
        flavour,
        &["--wait-timeout=2", "--interactive-timeout=2"],
        |_| {},
        |options| options.upstream_tls.push_str("\nmax_upstream = 1"),
    );
    let token = stand.token("backup", "dumpers");
    for reads_only in [true, false] {
        let mut wire = Wire::login(stand.gateway.port, "backup", &token, 0);
        let id = connection_id(&mut wire);
        if reads_only {
            // Lent on as it is.
            query(&mut wire, "SELECT COUNT(*) FROM orders");
        } else {
            query(&mut wire, "SET @a = 1");
            wire.command(RESET, b"");
        }
        drop(wire);
        let gone = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE id = {id}");
        wait_for("its end", || {
            stand.database.sql(&gone).unwrap().lines().last().filter(|n| *n == "0").map(drop)
        });
        let mut next = Wire::login(stand.gateway.port, "backup", &token, 0);
        assert_ne!(connection_id(&mut next), id);
    }
    assert_eq!(stand.gateway.get("/readyz").unwrap().0, 200);
}
