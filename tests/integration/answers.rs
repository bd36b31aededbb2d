//! Answers on both databases: to the last byte the database's own where nothing is masked, and where rows end, packets are
//! long, sequence ids wrap, or something goes wrong in the middle.

use rowgate::codec::{Capabilities, MAX_PAYLOAD, write_packet};
use xtask::{mariadb, shop};

use crate::stand::{Flavour, Stand, on_both};
use crate::wire::{Packet, Wire, text};

on_both!(
    an_error_may_end_rows,
    what_errors_and_warnings_quote_is_withheld,
    rows_of_16_mib_and_more,
    statements_of_exact_multiples_of_16_mib,
    sequence_ids_wrap,
    calls_end_with_an_ok,
    pipelined_commands_are_answered_in_order,
    executable_comments_run_as_that_server_would_run_them,
    columns_without_an_alias_keep_their_names,
    definitions_that_lie_about_their_column_clear_nothing,
    affected_rows_are_found_rows_for_who_asks,
    cursors_are_as_directly,
    the_gateways_own_answers_are_as_the_databases,
    several_statements_are_taken_while_the_option_is_on,
    a_set_among_several_statements_is_followed,
);

const SERVICE: (&str, &str) = (mariadb::SERVICE_USER, mariadb::SERVICE_PASSWORD);

/// The same client, directly and through, ungoverned.
fn pair(stand: &Stand, more: u64) -> [Wire; 2] {
    let token = stand.token("backup", "dumpers");
    let direct = Wire::login(stand.database.port(), SERVICE.0, SERVICE.1, more);
    [direct, Wire::login(stand.gateway.port, "backup", &token, more)]
}

fn nothing_raw(packets: &[Packet], what: &str) {
    let shown = text(packets);
    for raw in shop::raw_values() {
        assert!(!shown.contains(&raw), "{what}: {shown}");
    }
}

/// Rows, then an error in their place: as directly; masked where they are, and without the error's text there.
fn an_error_may_end_rows(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("agent", "agents");
    for eof in [0, Capabilities::DEPRECATE_EOF] {
        let said = pair(&stand, eof).map(|mut wire| {
            let sql = "SELECT id, EXP(id) FROM orders ORDER BY id";
            let queried = wire.query(sql);
            let (id, _) = wire.prepare(sql);
            let executed = wire.execute(id, 0);
            assert!(text(&wire.query("SELECT 40 + 2")).contains("42"), "the session goes on");
            [queried, executed]
        });
        for (direct, through) in said[0].iter().zip(&said[1]) {
            assert!(direct.len() > 100 && direct.last().unwrap().1[0] == 0xFF, "{}", text(direct));
            assert_eq!(text(through), text(direct));
        }
        let mut wire = Wire::login(stand.gateway.port, "agent", &token, eof);
        let sql = "SELECT ssn, EXP(id) FROM customers ORDER BY id";
        let (id, _) = wire.prepare(sql);
        for masked in [wire.query(sql), wire.execute(id, 0)] {
            nothing_raw(&masked, sql);
            let last = text(&masked[masked.len() - 1..]);
            assert!(masked.len() > 100 && last.contains("RG-WITHHELD"), "{last}");
            assert!(last.contains("error 1690") && last.contains("#22003"), "{last}");
        }
        assert!(text(&wire.query("SELECT 40 + 2")).contains("42"), "the session goes on");
    }
}

/// A duplicate key is quoted with values of other rows: as an error without its text, as a warning not at all.
fn what_errors_and_warnings_quote_is_withheld(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let ssn = shop::customer(7).ssn;
    let make = format!(
        "UPDATE shop.customers SET tier = id % 2; UPDATE shop.customers SET ssn = '{ssn}' WHERE id = 8; \
         ALTER TABLE shop.customers ADD UNIQUE KEY tier_ssn (tier, ssn)"
    );
    stand.database.sql(&make).unwrap();
    let token = stand.token("agent", "agents");
    let [mut direct, _] = pair(&stand, 0);
    let clash = "UPDATE customers SET tier = 1 WHERE id = 8";
    let ignored = "UPDATE IGNORE customers SET tier = 1 WHERE id = 8";
    assert!(text(&direct.query(clash)).contains(&ssn), "the database quotes it");
    assert!(text(&direct.query("SHOW WARNINGS")).contains(&ssn), "the database quotes it");
    let mut wire = Wire::login(stand.gateway.port, "agent", &token, 0);
    let said = wire.query(clash);
    let shown = text(&said);
    nothing_raw(&said, clash);
    assert!(shown.contains("#23000") && shown.contains("error 1062"), "{shown}");
    for before in [clash, ignored] {
        for look in [
            "SHOW WARNINGS",
            "SHOW ERRORS LIMIT 1",
            "/* a */ SHOW /*!50000 WARNINGS */",
            "SHOW COUNT(*) WARNINGS",
            "SELECT @@warning_count",
            "SELECT @@session.error_count",
            "GET DIAGNOSTICS CONDITION 1 @m = MESSAGE_TEXT",
        ] {
            let done = wire.query(before);
            nothing_raw(&done, before);
            let said = wire.query(look);
            nothing_raw(&said, look);
            assert!(text(&said).contains("RG-"), "{look}: {}", text(&said));
        }
    }
}

/// A result of one column: its packets, where a row may be several of them.
fn long_result(wire: &mut Wire, sql: &str, eof: bool) -> Vec<Packet> {
    wire.command(3, sql.as_bytes());
    let mut packets = vec![wire.packet()];
    assert_eq!(packets[0].1, [1], "{sql}: {}", text(&packets));
    (0..=usize::from(eof)).for_each(|_| packets.push(wire.packet()));
    let mut goes_on = false;
    loop {
        let packet = wire.packet();
        let ends = !goes_on && packet.1.first() == Some(&0xFE) && packet.1.len() < 9;
        goes_on = packet.1.len() == MAX_PAYLOAD;
        packets.push(packet);
        if ends {
            return packets;
        }
    }
}

/// Rows of exactly one, two packets and more, that go on with the bytes by which errors and ends begin.
fn rows_of_16_mib_and_more(flavour: Flavour) {
    let stand = Stand::on(flavour);
    stand.database.sql("SET GLOBAL max_allowed_packet = 134217728").unwrap();
    for eof in [0, Capabilities::DEPRECATE_EOF] {
        let [mut direct, mut through] = pair(&stand, eof);
        // The length in front of a cell takes four bytes, from 16 MiB on nine.
        for len in [MAX_PAYLOAD - 4, MAX_PAYLOAD - 3, MAX_PAYLOAD + 100, 2 * MAX_PAYLOAD - 9] {
            for byte in ["FE", "FF", "00"] {
                let sql = format!("SELECT REPEAT(X'{byte}', {len}) UNION ALL SELECT 'x'");
                let [wanted, got] =
                    [&mut direct, &mut through].map(|wire| long_result(wire, &sql, eof == 0));
                assert!(got == wanted, "{sql}: {} packets for {}", got.len(), wanted.len());
                assert!(wanted.iter().any(|(_, payload)| payload.len() == MAX_PAYLOAD), "{sql}");
            }
        }
        assert!(text(&through.query("SELECT 40 + 2")).contains("42"), "the session goes on");
    }
}

/// A command that fills its packets ends in an empty one, and is answered behind that.
fn statements_of_exact_multiples_of_16_mib(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| {
        "max_statement_bytes = 67108864".clone_into(&mut options.server);
    });
    stand.database.sql("SET GLOBAL max_allowed_packet = 134217728").unwrap();
    for (user, group) in [("backup", "dumpers"), ("agent", "agents")] {
        let token = stand.token(user, group);
        let mut wire = Wire::login(stand.gateway.port, user, &token, 0);
        for packets in [1, 2] {
            let around = "SELECT LENGTH('')".len() + 1;
            let len = packets * MAX_PAYLOAD - around;
            let got = wire.query(&format!("SELECT LENGTH('{}')", "x".repeat(len)));
            let shown = text(&got);
            assert!(shown.contains(&len.to_string()), "{user}: {}", &shown[..shown.len().min(300)]);
            assert_eq!(usize::from(got[0].0), packets + 1, "{user}");
        }
    }
}

fn in_order(packets: &[Packet], what: &str) {
    let holds =
        packets.iter().enumerate().all(|(at, (seq, _))| usize::from(*seq) == (at + 1) % 256);
    assert!(holds, "{what}: {}", text(packets));
}

/// More packets than there are sequence ids: those of an answer go on from 255 to 0, masked or not, wherever it ends.
fn sequence_ids_wrap(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("agent", "agents");
    for eof in [0, Capabilities::DEPRECATE_EOF] {
        let more = eof | Capabilities::MULTI_STATEMENTS | Capabilities::MULTI_RESULTS;
        let [mut direct, mut through] = pair(&stand, more);
        let mut governed = Wire::login(stand.gateway.port, "agent", &token, more);
        for limit in [247, 248, 249, 250, 251, 252, 253, 700] {
            let sql = format!("SELECT id, ssn FROM customers ORDER BY id LIMIT {limit}");
            let (wanted, got, masked) =
                (direct.query(&sql), through.query(&sql), governed.query(&sql));
            assert!(got == wanted, "{sql}: {}", text(&got));
            nothing_raw(&masked, &sql);
            in_order(&got, &sql);
            in_order(&masked, &sql);
            assert_eq!(masked.len(), wanted.len(), "{sql}");
        }
        // The second's numbers go on from the first's, and wrap in the middle of it.
        let two =
            "SELECT id FROM orders LIMIT 200; SELECT ssn, id FROM customers ORDER BY id LIMIT 300";
        for wire in [&mut through, &mut governed] {
            let both = wire.query(two);
            in_order(&both, two);
            assert!(both.len() > 500, "{}", text(&both));
        }
    }
}

/// A procedure's results, and the OK behind them: as directly, as a text and prepared.
fn calls_end_with_an_ok(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let make = "USE shop;\nDELIMITER //\n\
        CREATE PROCEDURE both_results() BEGIN SELECT 1; SELECT 'two' AS two, 3; END//\n\
        CREATE PROCEDURE none() BEGIN DO 1; END//\n\
        CREATE PROCEDURE fails() BEGIN SELECT 1; SELECT nothing FROM nowhere; END//\n";
    stand.database.sql(make).unwrap();
    for eof in [0, Capabilities::DEPRECATE_EOF] {
        let more = eof | Capabilities::MULTI_RESULTS | Capabilities::PS_MULTI_RESULTS;
        let [wanted, got] = pair(&stand, more).map(|mut wire| {
            let mut said = Vec::new();
            for sql in ["CALL both_results()", "CALL none()", "CALL fails()", "SELECT 40 + 2"] {
                said.push(text(&wire.query(sql)));
            }
            let (id, _) = wire.prepare("CALL both_results()");
            said.extend([text(&wire.execute(id, 0)), text(&wire.query("SELECT 40 + 2"))]);
            said
        });
        assert_eq!(got, wanted);
        assert!(wanted[0].contains(":\\x00\\x00\\x00"), "the OK: {}", wanted[0]);
        assert!(wanted[2].contains(":\\xff"), "the error: {}", wanted[2]);
    }
}

/// Commands that did not wait for the answers before them.
fn pipelined_commands_are_answered_in_order(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("agent", "agents");
    let mut wire = Wire::login(stand.gateway.port, "agent", &token, 0);
    let commands: [(u8, &[u8]); 11] = [
        (3, b"SELECT SLEEP(0.2), 1000"),
        (0x0E, b""),
        (3, b"SELECT ssn, 2000 FROM customers WHERE id = 7"),
        (3, b"SELECT nonsense FROM orders"),
        (8, b"\0"),
        (3, b"SELECT id FROM customers WHERE ssn = '1'"),
        (2, b"shop"),
        (9, b""),
        (0x19, b"\x63\0\0\0"),
        (0x1F, b""),
        (3, b"SELECT 3000"),
    ];
    let mut all = Vec::new();
    for (command, body) in commands {
        write_packet(&mut all, 0, &[&[command], body].concat());
    }
    wire.send(&all);
    assert!(text(&wire.answer()).contains("1000"));
    assert_eq!(wire.packet().1[0], 0, "COM_PING");
    let masked = wire.answer();
    nothing_raw(&masked, "pipelined");
    assert!(text(&masked).contains("2000"), "{}", text(&masked));
    for refused in ["nonsense", "RG-COMMAND", "RG-"] {
        let said = text(&wire.answer());
        assert!(said.contains(":\\xff") && said.contains(refused), "{refused}: {said}");
    }
    assert_eq!(wire.packet().1[0], 0, "COM_INIT_DB");
    assert!(text(&[wire.packet()]).contains("Uptime"), "COM_STATISTICS");
    // COM_STMT_CLOSE has no answer.
    assert_eq!(wire.packet().1[0], 0, "COM_RESET_CONNECTION");
    assert!(text(&wire.answer()).contains("3000"));
}

/// What stands in comments runs, or does not, as on that server by its version; to the governed too.
fn executable_comments_run_as_that_server_would_run_them(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("agent", "agents");
    let [mut direct, mut through] = pair(&stand, 0);
    let mut governed = Wire::login(stand.gateway.port, "agent", &token, 0);
    let mut seen = std::collections::BTreeSet::new();
    for sql in [
        "SELECT 1 /*! + 10 */",
        "SELECT 1 /*!50000 + 10 */",
        "SELECT 1 /*!50000+10*/",
        "SELECT 1 /*!99999 + 10 */",
        "SELECT 1 /*!999999 + 10 */",
        "SELECT 1 /*!090704 + 10 */",
        "SELECT 1 /*!100100 + 10 */",
        "SELECT 1 /*!101100 + 10 */",
        "SELECT 1 /*!101119 + 10 */",
        "SELECT 1 /*!101120 + 10 */",
        "SELECT 1 /*M! + 10 */",
        "SELECT 1 /*M!100100 + 10 */",
        "SELECT 1 /*M!999999 + 10 */",
        "SELECT 1 /* + 10 */",
        "SELECT 1 -- + 10",
        "SELECT 1 # + 10",
        "SELECT 1 --+10",
        "SELECT '/*!50000 ' + 1 + ' */'",
        "SELECT 1 /*!50000 + /*!50000 20 */ + 10 */",
    ] {
        let value = |packets: &[Packet]| {
            let rows = packets.len().checked_sub(2).map(|at| packets[at].1.clone());
            rows.filter(|_| packets[0].1[0] != 0xFF)
        };
        let (wanted, got) = (direct.query(sql), through.query(sql));
        assert_eq!(value(&got), value(&wanted), "{sql}: {}", text(&got));
        let told = governed.query(sql);
        // What is not read without a doubt is refused to the governed.
        let refused = text(&told).contains("RG-");
        assert!(refused || value(&told) == value(&wanted), "{sql}: {}", text(&told));
        seen.insert(value(&wanted));
    }
    assert!(seen.len() >= 3, "they make no difference: {seen:?}");
}

/// Both servers name columns by their text, which is sent as it came, or blanked in its place.
fn columns_without_an_alias_keep_their_names(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("agent", "agents");
    for sql in [
        "SELECT id+1, COUNT( * ), 'x'  'y', @@version_comment <> '' FROM orders GROUP BY id+1 LIMIT 1",
        "SELECT   1+  1 ,\t2 -\n1",
        "SELECT /*+ MAX_EXECUTION_TIME(1000) */ id + 1 FROM orders LIMIT 1",
        "SELECT id + 1 /* why */ FROM orders -- so\nLIMIT 1",
        "SELECT UPPER(name), id  FROM customers /*!50000 WHERE id = 3 */",
    ] {
        let [mut direct, mut through] = pair(&stand, 0);
        let mut governed = Wire::login(stand.gateway.port, "agent", &token, 0);
        let (wanted, got, told) = (direct.query(sql), through.query(sql), governed.query(sql));
        assert_eq!(text(&got), text(&wanted), "{sql}");
        assert_eq!(text(&told), text(&wanted), "{sql}");
    }
}

/// A column's definition can name another column than it has: the database says so, and the mask stays.
fn definitions_that_lie_about_their_column_clear_nothing(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("agent", "agents");
    let [mut direct, _] = pair(&stand, 0);
    let ssn = shop::customer(7).ssn;
    let mut lies = 0;
    for sql in [
        "SELECT name FROM (SELECT ssn AS name, id FROM customers) customers WHERE id = 7",
        "SELECT name FROM (SELECT ssn AS name, id FROM customers LIMIT 100) customers WHERE id = 7",
        "WITH customers2 AS (SELECT ssn AS name, id FROM customers) SELECT name FROM customers2 customers WHERE id = 7",
        "SELECT customers.name FROM (SELECT c.ssn AS name FROM customers c WHERE c.id = 7) AS customers",
        "SELECT name FROM customers WHERE id = 0 UNION ALL SELECT ssn FROM customers WHERE id = 7",
    ] {
        let shown = direct.query(sql);
        assert!(text(&shown).contains(&ssn), "{sql}: {}", text(&shown));
        lies += usize::from(text(&shown[1..2]).contains("customers\\x04name"));
        let mut wire = Wire::login(stand.gateway.port, "agent", &token, 0);
        let masked = wire.query(sql);
        nothing_raw(&masked, sql);
        let (id, _) = wire.prepare(sql);
        nothing_raw(&wire.execute(id, 0), sql);
        assert!(text(&masked).contains("[redacted]"), "{sql}: {}", text(&masked));
    }
    assert!(lies > 0, "no definition lied");
}

/// A capability that changes the bytes is that of the client, whoever had the pool's connection before.
fn affected_rows_are_found_rows_for_who_asks(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| options.workers = 1);
    let token = stand.token("backup", "dumpers");
    for found in [true, false, true, true, false, false] {
        let more = if found { Capabilities::FOUND_ROWS } else { 0 };
        let mut wire = Wire::login(stand.gateway.port, "backup", &token, more);
        let said = wire.query("UPDATE orders SET state = state WHERE id = 1");
        assert_eq!(said[0].1[1], u8::from(found), "{}", text(&said));
        wire.command(1, &[]);
        assert!(wire.try_packet().is_none());
    }
}

/// Opened, fetched to the end and beyond, opened again and reset.
fn cursors_are_as_directly(flavour: Flavour) {
    let stand = Stand::on(flavour);
    for eof in [0, Capabilities::DEPRECATE_EOF] {
        let [wanted, got] = pair(&stand, eof).map(|mut wire| {
            let (id, _) = wire.prepare("SELECT id FROM orders ORDER BY id LIMIT 5");
            let mut said = vec![wire.execute(id, 1)];
            (0..5).for_each(|_| said.push(wire.fetch(id, 2)));
            said.push(wire.execute(id, 1));
            said.push(wire.fetch(id, 2));
            wire.command(0x1A, &id.to_le_bytes());
            said.push(vec![wire.packet()]);
            said.push(wire.fetch(id, 2));
            wire.command(0x19, &id.to_le_bytes());
            said.push(wire.fetch(id, 2));
            said.push(wire.query("SELECT 40 + 2"));
            // The ids in errors are each server's own.
            let error = |packet: &Packet| {
                let len = if packet.1[0] == 0xFF { 9 } else { packet.1.len() };
                (packet.0, packet.1[..len].to_vec())
            };
            said.iter()
                .map(|packets| packets.iter().map(error).collect())
                .collect::<Vec<Vec<Packet>>>()
        });
        let told: Vec<String> = wanted.iter().map(|packets| text(packets)).collect();
        assert_eq!(got, wanted, "{told:?}");
        assert!(told[5].contains("\\x8d\\x05#HY000"), "1421: {told:?}");
    }
}

/// Between two looks at what the gateway answers by itself.
const BEFORE: [&str; 11] = [
    "DO 1",
    "SET autocommit = 0",
    "SET autocommit = 1",
    "BEGIN",
    "SELECT 1 FROM orders",
    "COMMIT",
    "START TRANSACTION READ ONLY",
    "COMMIT",
    "SET sql_mode = 'NO_BACKSLASH_ESCAPES'",
    "SET sql_mode = 'ANSI'",
    "SET sql_mode = ''",
];

/// What the gateway answers by itself says of the session what the database's answers would: of a transaction, and of how
/// backslashes are read, by which drivers choose how they escape.
fn the_gateways_own_answers_are_as_the_databases(flavour: Flavour) {
    let modes = ["--sql-mode=", "--sql-mode=NO_BACKSLASH_ESCAPES"];
    for mode in modes {
        let stand = Stand::after(flavour, &[mode], |_| {}, |_| {});
        for more in [0, Capabilities::DEPRECATE_EOF] {
            let [wanted, got] = pair(&stand, more).map(|mut wire| {
                let mut said = vec![wire.welcome.escape_ascii().to_string()];
                for before in BEFORE {
                    wire.query(before);
                    for (command, body) in [(0x0E, &[][..]), (0x1B, &[0, 0]), (0x1B, &[1, 0])] {
                        wire.command(command, body);
                        said.push(format!("{before}, {command:#x}: {}", text(&[wire.packet()])));
                    }
                }
                wire.command(0x1F, &[]);
                said.push(text(&[wire.packet()]));
                said
            });
            assert_eq!(got, wanted, "{mode} {more:#x}");
        }
    }
}

/// COM_SET_OPTION: what a text is depends on it, as directly; and the database itself is never sent more than one.
fn several_statements_are_taken_while_the_option_is_on(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let [wanted, got] = pair(&stand, Capabilities::MULTI_RESULTS).map(|mut wire| {
        let sql = "SELECT 1; SELECT 2";
        let mut said = vec![wire.query(sql)];
        for option in [0, 1] {
            wire.command(0x1B, &[option, 0]);
            said.extend([vec![wire.packet()], wire.query(sql)]);
        }
        said.iter().map(|packets| (packets.len(), packets[0].1[0])).collect::<Vec<_>>()
    });
    assert_eq!(got, wanted);
    assert_eq!((got[0], got[4]), ((1, 0xFF), (1, 0xFF)), "one statement, or an error");
    let agent = stand.token("agent", "agents");
    let mut wire = Wire::login(stand.gateway.port, "agent", &agent, 0);
    let sql = "SELECT 1; SELECT ssn FROM customers WHERE id = 7";
    assert!(text(&wire.query(sql)).contains("RG-"), "refused before the option");
    wire.command(0x1B, &[0, 0]);
    wire.packet();
    let masked = wire.query(sql);
    nothing_raw(&masked, sql);
    assert!(text(&masked).contains("[redacted]"), "{}", text(&masked));
    wire.command(0x1B, &[2, 0]);
    assert!(text(&[wire.packet()]).contains("RG-COMMAND"), "an option that does not exist");
}

/// A SET in the first statement changes how the server reads the second.
fn a_set_among_several_statements_is_followed(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("agent", "agents");
    for sql in [
        "SET sql_mode = 'ANSI_QUOTES'; SELECT \"ssn\" FROM customers WHERE id = 7",
        "SET sql_mode = 'NO_BACKSLASH_ESCAPES'; SELECT '\\'; SELECT ssn FROM customers; -- '",
        "SET NAMES gbk; SELECT ssn FROM customers",
        "SET @a = 1, character_set_client = sjis; SELECT ssn FROM customers",
        "SELECT 1; SET sql_mode = 'ANSI_QUOTES'; SELECT \"ssn\", 2 FROM customers WHERE id = 7; SET sql_mode = ''; \
         SELECT \"ssn\", 3 FROM customers WHERE id = 7",
    ] {
        for eof in [0, Capabilities::DEPRECATE_EOF] {
            let more = eof | Capabilities::MULTI_STATEMENTS | Capabilities::MULTI_RESULTS;
            let mut wire = Wire::login(stand.gateway.port, "agent", &token, more);
            wire.command(3, sql.as_bytes());
            let said: Vec<Packet> = wire.answer();
            nothing_raw(&said, sql);
        }
    }
}
