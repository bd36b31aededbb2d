//! Session tracking: clients that ask for it are told of the session's state as directly; the governed of no more than
//! what they could set, and never so that the gateway is told less.

use rowgate::codec::Capabilities;
use xtask::{mariadb, shop};

use crate::stand::{Database, Flavour, Stand, on_both};
use crate::wire::{Wire, text};

const TRACK: u64 = Capabilities::SESSION_TRACK;

const SEVERAL: u64 = Capabilities::MULTI_STATEMENTS | Capabilities::MULTI_RESULTS;

/// Commands.
const INIT_DB: u8 = 2;
const QUERY: u8 = 3;
const PING: u8 = 14;
const PREPARE: u8 = 22;
const RESET: u8 = 31;

/// What is answered alike to all.
const COMMANDS: [(u8, &str); 11] = [
    (INIT_DB, "other"),
    (PING, ""),
    (QUERY, "USE shop"),
    (QUERY, "USE shop"),
    (QUERY, "SET time_zone='+01:00', autocommit=0"),
    (QUERY, "SELECT 'one'"),
    (QUERY, "SET NAMES latin1"),
    (
        QUERY,
        "USE other; SET autocommit=1; SET @a=1; USE shop; SELECT 'two'; SET time_zone='+02:00'",
    ),
    (QUERY, "SET sql_mode=''"),
    (QUERY, "USE nowhere"),
    (RESET, ""),
];

/// What drivers set once the capability is agreed on, and what they are told then.
fn lists(flavour: Flavour) -> Vec<String> {
    let isolation = match flavour {
        Flavour::MariaDb => "tx_isolation",
        Flavour::MySql => "transaction_isolation",
    };
    vec![
        format!(
            "SET session_track_schema=1,session_track_system_variables='autocommit,{isolation}'"
        ),
        format!("SET SESSION {isolation}='READ-COMMITTED'"),
        format!(
            "set autocommit=0,session_track_system_variables = CONCAT(@@global.session_track_system_variables,',{isolation}')"
        ),
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE".to_owned(),
        "SET session_track_state_change=ON".to_owned(),
        "SET @b = 1".to_owned(),
    ]
}

on_both! {
    clients_are_told_as_directly,
    clients_that_do_not_ask_are_not_told,
    the_gateway_is_told_whatever_the_governed_set,
    the_gateway_is_told_whatever_is_set_globally,
    a_change_that_is_not_told_is_not_missed,
    a_view_made_under_another_character_set_is_read,
    the_governed_are_told_of_what_they_may_set,
}

/// A function that changes a character set, one that changes how text is read beside, and one that does neither.
const FUNCTIONS: &str = "DELIMITER //\n\
    CREATE FUNCTION shop.moves() RETURNS INT DETERMINISTIC NO SQL BEGIN SET character_set_results = gbk; RETURN 1; END//\n\
    CREATE FUNCTION shop.turns() RETURNS INT DETERMINISTIC NO SQL BEGIN SET sql_mode = 'IGNORE_SPACE'; RETURN 1; END//\n\
    CREATE FUNCTION shop.stays() RETURNS INT DETERMINISTIC NO SQL BEGIN RETURN 1; END//\n\
    CREATE VIEW shop.moving AS SELECT id, shop.moves() AS moved FROM shop.orders//\n";

fn stand(flavour: Flavour) -> Stand {
    let prepare = |database: &Database| {
        database.sql("CREATE DATABASE other").unwrap();
        database.sql(FUNCTIONS).unwrap();
    };
    Stand::after(flavour, &[], prepare, |_| {})
}

/// What the governed hear of a function that changes a character set: none may be called, since not every end tells of it.
const CLOSED: &str = "[RG-ANALYSIS]";

fn ask(wire: &mut Wire, command: u8, body: &str) -> String {
    wire.command(command, body.as_bytes());
    text(&wire.answer())
}

fn clients_are_told_as_directly(flavour: Flavour) {
    let stand = stand(flavour);
    let ungoverned = ("backup", stand.token("backup", "dumpers"));
    let governed = ("agent", stand.token("agent", "agents"));
    for more in [TRACK, TRACK | Capabilities::DEPRECATE_EOF] {
        let more = more | SEVERAL;
        for (user, token) in [&ungoverned, &governed] {
            let (name, password) = (mariadb::SERVICE_USER, mariadb::SERVICE_PASSWORD);
            let mut direct = Wire::login(stand.database.port(), name, password, more);
            let mut through = Wire::login(stand.gateway.port, user, token, more);
            assert!(direct.welcome.ends_with(b"shop"));
            assert_eq!(through.welcome, direct.welcome, "{user}: the login");
            let mut told = 0;
            let lists = lists(flavour);
            let lists = lists.iter().map(|sql| (QUERY, sql.as_str()));
            for (command, body) in COMMANDS.into_iter().chain(lists) {
                let wanted = ask(&mut direct, command, body);
                let got = ask(&mut through, command, body);
                assert_eq!(got, wanted, "{user}: {body}");
                told += usize::from(got.contains("@\\x00\\x00\\x00"));
            }
            assert!(told > 8, "{user}: {told}");
        }
    }
}

fn clients_that_do_not_ask_are_not_told(flavour: Flavour) {
    let stand = stand(flavour);
    let token = stand.token("backup", "dumpers");
    for more in [SEVERAL, SEVERAL | Capabilities::DEPRECATE_EOF] {
        let (name, password) = (mariadb::SERVICE_USER, mariadb::SERVICE_PASSWORD);
        let mut direct = Wire::login(stand.database.port(), name, password, more);
        let mut through = Wire::login(stand.gateway.port, "backup", &token, more);
        assert_eq!(through.welcome, direct.welcome);
        for (command, body) in COMMANDS {
            assert_eq!(ask(&mut through, command, body), ask(&mut direct, command, body), "{body}");
        }
    }
}

/// In another character set the database would read another text than the gateway does.
fn the_gateway_is_told_whatever_the_governed_set(flavour: Flavour) {
    let stand = stand(flavour);
    let token = stand.token("agent", "agents");
    let blinding = [
        "DO 0",
        "SET session_track_system_variables=''",
        "SET session_track_system_variables='autocommit'",
        "SET @@session.session_track_system_variables = 'autocommit', time_zone = '+00:00'",
        "DO 1; SET session_track_system_variables='autocommit'; DO 2",
    ];
    for (sql, more) in blinding.iter().flat_map(|sql| [(sql, SEVERAL), (sql, SEVERAL | TRACK)]) {
        let mut wire = Wire::login(stand.gateway.port, "agent", &token, more);
        let answer = ask(&mut wire, QUERY, sql);
        assert!(!answer.contains("\\xff"), "{sql}: {answer}");
        let list = ask(&mut wire, QUERY, "SELECT @@session_track_system_variables");
        for own in ["client", "connection", "results"] {
            assert!(list.contains(&format!("character_set_{own}")), "{sql}: {list}");
        }
        let answer = ask(&mut wire, QUERY, "DO moves()");
        assert!(answer.contains(CLOSED), "{sql}: {answer}");
    }
    let mut wire = Wire::login(stand.gateway.port, "agent", &token, SEVERAL | TRACK);
    for sql in [
        "SET session_track_schema=0",
        "SET session_track_system_variables=NULL",
        "SET session_track_system_variables=CONCAT(@@session_track_system_variables,'x')",
        "SET session_track_system_variables=REPLACE(@@session_track_system_variables,'c','x')",
    ] {
        let answer = ask(&mut wire, QUERY, sql);
        assert!(answer.contains("Rowgate"), "{sql}: {answer}");
        let prepared = ask(&mut wire, PREPARE, sql);
        assert!(prepared.contains("Rowgate"), "{sql}: {prepared}");
    }
    for sql in &blinding[1..4] {
        let prepared = ask(&mut wire, PREPARE, sql);
        assert!(prepared.contains("RG-UNSUPPORTED"), "{sql}: {prepared}");
    }
}

/// A DBA who turns session tracking off for all turns it off for the gateway's connections not.
fn the_gateway_is_told_whatever_is_set_globally(flavour: Flavour) {
    let stand = Stand::after(
        flavour,
        &[],
        |database| {
            let off = "SET GLOBAL session_track_system_variables='', GLOBAL session_track_schema=0, \
                 GLOBAL session_track_state_change=1, GLOBAL session_track_transaction_info='STATE'";
            database.sql(off).unwrap();
            database.sql(FUNCTIONS).unwrap();
        },
        |options| options.upstream_tls.push_str("\nmax_upstream = 1"),
    );
    let own = "SELECT @@session_track_schema, @@session_track_state_change, @@session_track_transaction_info, \
               @@session_track_system_variables";
    let (backup, agent) = (stand.token("backup", "dumpers"), stand.token("agent", "agents"));
    // On a new connection, and on the same one once it was reset.
    for _ in 0..2 {
        let mut wire = Wire::login(stand.gateway.port, "backup", &backup, TRACK);
        if flavour == Flavour::MariaDb {
            // Nothing that a session sets brings the variables back there: better no connection than a blind one.
            let refused = ask(&mut wire, QUERY, own);
            assert!(
                refused.contains("RG-UPSTREAM") && refused.contains("session_track"),
                "{refused}"
            );
            stand.database.sql("SET GLOBAL session_track_system_variables='autocommit'").unwrap();
            let mut wire = Wire::login(stand.gateway.port, "backup", &backup, TRACK);
            let row = ask(&mut wire, QUERY, own);
            assert!(
                row.contains("OFF") && row.contains("autocommit,character_set_client"),
                "{row}"
            );
            stand.database.sql("SET GLOBAL session_track_system_variables=''").unwrap();
            continue;
        }
        let row = ask(&mut wire, QUERY, own);
        assert!(row.contains("OFF") && row.contains("autocommit,character_set_client"), "{row}");
        assert!(ask(&mut wire, QUERY, "SET time_zone='+01:00'").contains("time_zone"));
    }
    if flavour == Flavour::MariaDb {
        stand.database.sql("SET GLOBAL session_track_system_variables='autocommit'").unwrap();
    }
    for more in [SEVERAL, SEVERAL | TRACK, SEVERAL | Capabilities::DEPRECATE_EOF] {
        let mut wire = Wire::login(stand.gateway.port, "agent", &agent, more);
        let answer = ask(&mut wire, QUERY, "SELECT COUNT(*) FROM orders; DO moves()");
        assert!(answer.contains(CLOSED), "{answer}");
    }
}

/// The end of a result without room for it tells MariaDB's clients that something changed, and MySQL's nothing at all.
fn a_change_that_is_not_told_is_not_missed(flavour: Flavour) {
    let stand = stand(flavour);
    let token = stand.token("agent", "agents");
    for more in [SEVERAL, SEVERAL | TRACK, SEVERAL | Capabilities::DEPRECATE_EOF] {
        let mut wire = Wire::login(stand.gateway.port, "agent", &token, more);
        for sql in [
            "SELECT moves()",
            "SELECT id, moves() FROM orders LIMIT 3",
            "SELECT id FROM orders WHERE id < 3 AND moves() = 1",
            "SELECT moved FROM moving LIMIT 1",
            "SELECT COUNT(*) FROM moving WHERE moved = 1",
            "SELECT turns()",
        ] {
            let answer = ask(&mut wire, QUERY, sql);
            assert!(
                answer.contains("Rowgate [RG-") && !answer.contains("RG-MODE"),
                "{sql}: {answer}"
            );
        }
        assert!(!ask(&mut wire, QUERY, "SELECT stays()").contains("Rowgate"));
    }
}

/// MariaDB says that something changed also of a view that was made under other character sets: it changed them, and back.
fn a_view_made_under_another_character_set_is_read(flavour: Flavour) {
    let stand = stand(flavour);
    let view =
        "SET NAMES latin1; CREATE VIEW shop.elsewhere AS SELECT id, name, ssn FROM shop.customers";
    stand.database.sql(view).unwrap();
    let token = stand.token("agent", "agents");
    for more in [SEVERAL, SEVERAL | Capabilities::DEPRECATE_EOF] {
        let mut wire = Wire::login(stand.gateway.port, "agent", &token, more);
        for _ in 0..2 {
            let answer = ask(&mut wire, QUERY, "SELECT name, ssn FROM elsewhere WHERE id = 5");
            let customer = shop::customer(5);
            assert!(answer.contains(&customer.name) && !answer.contains(&customer.ssn), "{answer}");
        }
    }
}

fn the_governed_are_told_of_what_they_may_set(flavour: Flavour) {
    let stand = stand(flavour);
    let token = stand.token("agent", "agents");
    let more = SEVERAL | TRACK | Capabilities::DEPRECATE_EOF;
    let ssn = shop::customer(5).ssn;
    let mut wire = Wire::login(stand.gateway.port, "agent", &token, more);
    let answer = ask(
        &mut wire,
        QUERY,
        "SET session_track_system_variables='*', session_track_state_change=1",
    );
    assert!(answer.contains("session_track_state_change"), "{answer}");
    let masked = ask(&mut wire, QUERY, "SELECT ssn FROM customers WHERE id = 5; USE shop");
    assert!(!masked.contains(&ssn) && masked.contains("\\x01\\x05\\x04shop"), "{masked}");
    for sql in ["DO 1", "SET time_zone='+03:00'", "SELECT ssn FROM customers WHERE id = 5"] {
        let answer = ask(&mut wire, QUERY, sql);
        assert!(!answer.contains("statement_id"), "{sql}: {answer}");
    }
    // What is told to the ungoverned is what the database says.
    let token = stand.token("backup", "dumpers");
    let mut wire = Wire::login(stand.gateway.port, "backup", &token, more);
    ask(&mut wire, QUERY, "SET session_track_system_variables='*'");
    let answer = ask(&mut wire, QUERY, "SET max_sort_length=2000");
    assert!(answer.contains("max_sort_length\\x042000"), "{answer}");
}
