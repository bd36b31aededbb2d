//! Connections: both drivers, nothing that leaks from one session to the next, commands refused by name.

use rowgate::codec::{AuthSwitch, write_frame};

use crate::stand::{Flavour, Stand, on_both, wait_for};
use crate::wire::{Wire, native, text};

on_both!(
    state_does_not_leak_to_the_next_session,
    a_refusal_leaves_the_connection_usable,
    a_connection_that_was_used_has_its_logins_character_sets,
    a_collation_that_no_login_has_room_for_is_followed,
);

/// COM_CHANGE_USER has two bytes for it.
fn a_collation_that_no_login_has_room_for_is_followed(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("backup", "dumpers");
    let (known, refused): (&[(u16, &str)], _) = match flavour {
        Flavour::MySql => (
            &[(309, "utf8mb4_0900_bin"), (305, "utf8mb4_0900_as_ci"), (45, "utf8mb4_general_ci")],
            2_304,
        ),
        Flavour::MariaDb => (
            &[
                (2_304, "utf8mb4_uca1400_ai_ci"),
                (1_069, "utf8mb4_general_nopad_ci"),
                (608, "utf8mb4_croatian_ci"),
                (1_032, "latin1_swedish_nopad_ci"),
                (45, "utf8mb4_general_ci"),
            ],
            1_052,
        ),
    };
    let mut wire = Wire::login(stand.gateway.port, "backup", &token, 0);
    let mut change = |collation: u16| {
        let body = [&b"backup\0\0shop\0"[..], &collation.to_le_bytes(), b"mysql_native_password\0"]
            .concat();
        let (seq, asked) = wire.try_command(0x11, &body)?;
        if asked.first() == Some(&0xFF) {
            return Some(text(&[(seq, asked)]));
        }
        let switch = AuthSwitch::parse(&asked).unwrap();
        let mut out = Vec::new();
        let proof = native(&token, &switch.data[..20]);
        write_frame(&mut out, seq + 1, |out| out.extend_from_slice(&proof));
        wire.send(&out);
        assert_eq!(wire.packet().1.first(), Some(&0));
        Some(text(
            &wire.query("SELECT @@collation_connection, @@character_set_client, @@warning_count"),
        ))
    };
    for (collation, name) in known {
        let answer = change(*collation).unwrap();
        let charset = name.split('_').next().unwrap();
        assert!(answer.contains(name) && answer.contains(charset), "{collation}: {answer}");
        assert!(answer.contains("\\x010 "), "a warning of the gateway's own: {answer}");
    }
    // gbk without padding; what this server has not.
    let answer = change(refused).unwrap();
    assert!(answer.contains("RG-UNSUPPORTED"), "{answer}");
}

fn drives(driver: &str) {
    let stand = Stand::with(|options| driver.clone_into(&mut options.driver));
    let token = stand.token("bot", "agents");
    let rows = stand.sql_ok("bot", &token, "SELECT id, name, ssn FROM customers");
    assert_eq!(rows.lines().count(), 2_001);
    let metric = format!("rowgate_driver_info{{driver=\"{driver}");
    assert_eq!(stand.gateway.metric(&metric).unwrap(), Some(1.0));
}

#[test]
fn on_epoll() {
    drives("epoll");
}

#[test]
fn on_io_uring() {
    drives("io_uring");
}

fn state_does_not_leak_to_the_next_session(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| {
        options.workers = 1;
        options.more.clear();
    });
    let token = stand.token("ann", "dba");
    let first =
        "SET @secret = 'left behind'; CREATE TEMPORARY TABLE shop.t (a INT); BEGIN; SELECT 1";
    stand.sql_ok("ann", &token, first);
    for _ in 0..3 {
        assert!(
            stand.sql_ok("ann", &token, "SELECT @secret IS NULL AS clean").contains("clean\n1")
        );
        assert!(stand.sql_refused("ann", &token, "SELECT * FROM shop.t").contains("ERROR"));
    }
}

/// MySQL's reset gives a session the server's default character sets; text must be read in the login's.
fn a_connection_that_was_used_has_its_logins_character_sets(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| {
        options.workers = 1;
        options.more.clear();
    });
    let token = stand.token("ann", "dba");
    let sql = "SELECT CONNECTION_ID(), @@character_set_client, @@character_set_results, @@collation_connection";
    let seen = || {
        let mut client = stand.client("ann", &token);
        client.args(["--default-character-set=latin1", "--batch", "--skip-column-names"]);
        let output = client.args(["-e", sql]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let first = seen();
    assert!(first.ends_with("\tlatin1\tlatin1\tlatin1_swedish_ci"), "{first}");
    // The same connection, once it is back in the pool.
    wait_for("the connection's return", || (seen() == first).then_some(()));
}

fn a_refusal_leaves_the_connection_usable(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("bot", "agents");
    let file = stand.folder.path().join("statements.sql");
    let sql = "SELECT id FROM customers WHERE ssn = '1';\nSELECT nonsense FROM customers;\n\
               SELECT nonsense FROM orders;\nHANDLER customers OPEN;\nSELECT CONNECTION_ID(), 40 + 2;\n";
    std::fs::write(&file, format!("SELECT CONNECTION_ID();\n{sql}")).unwrap();
    let mut client = stand.client("bot", &token);
    client.args(["--batch", "--force", "--skip-column-names", "--database=shop"]);
    let output = client.stdin(std::fs::File::open(&file).unwrap()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let ids: Vec<&str> = text.lines().collect();
    assert_eq!(ids.len(), 2, "{text}{}", crate::stand::errors(&output));
    assert_eq!(
        ids[1],
        format!("{}\t42", ids[0]),
        "the same connection answers after four refusals"
    );
}

#[test]
fn sessions_are_listed_and_can_be_killed() {
    let stand = Stand::start();
    let token = stand.token("bot", "agents");
    let mut running = stand.spawn_sql("bot", &token, "SELECT SLEEP(300)");
    let id = crate::stand::wait_for("the session", || {
        let list = stand.gateway.cli_ok(&["sessions", "list", "--output", "json"]).unwrap();
        let at = list.find("\"id\":")?;
        let rest = list[at + 5..].trim_start();
        let id: String = rest.chars().take_while(char::is_ascii_digit).collect();
        list.contains("bot").then_some(id)
    });
    stand.gateway.cli_ok(&["sessions", "kill", &id]).unwrap();
    assert!(!running.wait().unwrap().success());
}
