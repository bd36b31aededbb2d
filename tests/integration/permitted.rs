//! What a policy permits by name: commands that are no statements, and to finish what a lost client began.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::pool::one_connection;
use crate::stand::{Flavour, Stand, errors, on_both, wait_for};
use crate::wire::{Wire, text};
use rowgate::codec::Command;

on_both!(
    commands_are_passed_on_where_a_policy_names_them,
    a_connection_that_a_command_ran_on_goes_to_nobody_else,
    a_statement_is_finished_without_its_client_where_a_policy_says_so,
);

impl Stand {
    /// Adds rules to the policy.
    pub(crate) fn add_rules(&self, rules: &str) {
        let file = self.gateway.dir().join("policy.cedar");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}\n{rules}\n")).unwrap();
        self.gateway.cli_ok(&["reload"]).unwrap();
    }
}

const BY_NAME: &str = r#"
@id("backup-commands")
permit (principal == Identity::"backup", action == Action::"command", resource)
when { ["COM_REFRESH", "COM_PROCESS_INFO", "COM_DEBUG"].contains(context.command) };
@id("agents-commands")
permit (principal in Group::"agents", action == Action::"command", resource);
@id("everything")
permit (principal == Identity::"other", action, resource);
"#;

/// What the database says to a command itself, so that the same is wanted through the gateway.
fn commands_are_passed_on_where_a_policy_names_them(flavour: Flavour) {
    let stand = Stand::on(flavour);
    stand.add_rules(BY_NAME);
    let login = |user: &str, group: &str| {
        Wire::login(stand.gateway.port, user, &stand.token(user, group), 0)
    };
    let mut permitted = login("backup", "dumpers");
    // FLUSH STATUS: what it did is seen.
    permitted.query("SELECT 1");
    for (command, body) in [(Command::REFRESH, &[0x10][..]), (Command::DEBUG, &[])] {
        permitted.command(command.0, body);
        let said = text(&[permitted.packet()]);
        let is_known = !(flavour == Flavour::MySql && command == Command::REFRESH);
        let wanted = if is_known { ["1:\\x00", "1:\\xfe"].as_slice() } else { &["1:\\xff"] };
        assert!(wanted.iter().any(|start| said.starts_with(start)), "{command:?}: {said}");
        assert!(!said.contains("RG-"), "{command:?}: {said}");
    }
    permitted.command(Command::PROCESS_INFO.0, &[]);
    let said = text(&permitted.answer());
    // (MySQL 9 has no such command any more, and says so itself.)
    let wanted = if flavour == Flavour::MySql { "#08S01Unknown command" } else { "Progress" };
    assert!(said.contains(wanted) && !said.contains("RG-"), "{said}");
    assert!(text(&permitted.query("SELECT 40 + 2")).contains("42"), "the session goes on");
    permitted.command(Command::SHUTDOWN.0, &[0]);
    assert!(text(&permitted.answer()).contains("RG-COMMAND"), "another command is another permit");
    // A permit of everything names nothing; the governed get nothing that can't be masked.
    for (user, group) in [("other", "dumpers"), ("bot", "agents")] {
        let mut refused = login(user, group);
        for command in [Command::REFRESH, Command::PROCESS_INFO, Command::BINLOG_DUMP] {
            refused.command(command.0, &[0x10; 12]);
            let said = text(&refused.answer());
            assert!(said.contains("RG-COMMAND"), "{user} {command:?}: {said}");
        }
    }
    let record = stand.gateway.cli_ok(&["audit", "tail", "-n", "500", "--output", "json"]).unwrap();
    let line = record.lines().find(|line| line.contains("com_process_info")).unwrap_or_default();
    assert!(line.contains("backup-commands") && line.contains("\"allow\""), "{line}\n{record}");
    assert!(record.contains("COM_BINLOG_DUMP"), "what was refused: {record}");
}

fn a_connection_that_a_command_ran_on_goes_to_nobody_else(flavour: Flavour) {
    let stand = one_connection(flavour, "max_upstream = 1\n");
    stand.add_rules(BY_NAME);
    let token = stand.token("backup", "dumpers");
    let mut wire = Wire::login(stand.gateway.port, "backup", &token, 0);
    let kept = || {
        let sql =
            "SELECT ID FROM information_schema.processlist WHERE USER = 'rowgate' AND DB = 'shop'";
        stand.database.sql(sql).unwrap()
    };
    let mut after = |command: Command| {
        wire.query("SELECT 1 FROM shop.orders LIMIT 1");
        let had = kept();
        wire.command(command.0, &[]);
        wire.answer();
        wire.command(Command::RESET_CONNECTION.0, &[]);
        assert_eq!(wire.packet().1[0], 0);
        // (Whoever waits for the only one gets a new one: it must have come back.)
        std::thread::sleep(Duration::from_secs(1));
        (had, kept())
    };
    let (had, has) = after(Command::PING);
    assert!(
        !had.is_empty() && has == had,
        "there is one connection, which comes back: {had} {has}"
    );
    let (had, has) = after(Command::PROCESS_INFO);
    assert!(!had.is_empty() && has != had, "but not after such a command: {had} {has}");
}

fn a_statement_is_finished_without_its_client_where_a_policy_says_so(flavour: Flavour) {
    let stand = Stand::on(flavour);
    stand.add_rules(
        r#"@id("updates-finish")
permit (principal in Group::"dumpers", action == Action::"finish", resource)
when { context.verb == "update" };"#,
    );
    let token = stand.token("bot", "dumpers");
    // (MySQL ends SLEEP by itself when its client is gone; a lock is waited for.)
    let update = |stand: &Stand, id: u32| {
        let hold = format!(
            "BEGIN; SELECT id FROM shop.payments WHERE id = {id} FOR UPDATE; SELECT SLEEP(3); COMMIT"
        );
        let sql = format!("UPDATE payments SET amount_cents = -7 WHERE id = {id}");
        std::thread::scope(|scope| {
            let holder = scope.spawn(|| stand.database.sql(&hold).unwrap());
            let list = || stand.database.sql("SHOW FULL PROCESSLIST").unwrap();
            wait_for("the lock", || list().contains("SLEEP(3)").then_some(()));
            let mut running = stand.spawn_sql("bot", &token, &sql);
            wait_for("the update upstream", || list().contains("amount_cents = -7").then_some(()));
            running.kill().unwrap();
            running.wait().unwrap();
            holder.join().unwrap();
        });
        let seen = format!("SELECT amount_cents FROM shop.payments WHERE id = {id}");
        stand.database.sql(&seen).unwrap().contains("-7")
    };
    wait_for("the update's end", || update(&stand, 1).then_some(()));
    // Another kind of statement is killed as ever.
    stand.a_statement_dies_with_its_client(&token);
    // And the connection is not lost to the pool's count: all of them can be had again.
    stand.add_rules(
        "@id(\"no-finish\") forbid (principal, action == Action::\"finish\", resource);",
    );
    assert!(!update(&stand, 2), "without the permit it is killed");
    assert!(stand.sql_ok("bot", &token, "SELECT 40 + 2").contains("42"));
}

/// A replica's tools read a database's changes through the gateway.
#[test]
fn binary_logs_are_read_by_stock_tools() {
    for flavour in [Flavour::MariaDb, Flavour::MySql] {
        if flavour == Flavour::MySql && xtask::mysql::is_elsewhere() {
            continue;
        }
        let stand = Stand::after(
            flavour,
            &["--log-bin=changes", "--server-id=7", "--binlog-format=ROW"],
            |_| {},
            |_| {},
        );
        let token = stand.token("backup", "dumpers");
        stand.database.sql("CREATE TABLE shop.told (a INT, b LONGTEXT)").unwrap();
        stand.database.sql("INSERT INTO shop.told VALUES (1, REPEAT('x', 3 << 20))").unwrap();
        let read = || {
            let mut tool = match flavour {
                Flavour::MariaDb => std::process::Command::new("mariadb-binlog"),
                Flavour::MySql => xtask::mysql::Tree::here().unwrap().program("mysqlbinlog"),
            };
            tool.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=backup"]);
            tool.arg(format!("--port={}", stand.gateway.port));
            tool.args(["--read-from-remote-server", "--verbose", "changes.000001"]);
            tool.env("MYSQL_PWD", &token).stdin(Stdio::null()).output().unwrap()
        };
        let refused = read();
        assert!(errors(&refused).contains("RG-COMMAND"), "{}", errors(&refused));
        stand.add_rules(
            r#"@id("backup-replicates")
permit (principal == Identity::"backup", action == Action::"command", resource)
when { ["COM_REGISTER_SLAVE", "COM_BINLOG_DUMP", "COM_BINLOG_DUMP_GTID"].contains(context.command) };"#,
        );
        let told = read();
        let changes = String::from_utf8_lossy(&told.stdout);
        assert!(told.status.success(), "{}", errors(&told));
        assert!(changes.contains("CREATE TABLE shop.told"), "{flavour:?}");
        assert!(changes.contains("### INSERT INTO `shop`.`told`"), "{flavour:?}");
        assert!(changes.len() > 3 << 20, "{flavour:?}: {}", changes.len());
        // A policy's permit is for the ungoverned: nothing of it could be masked.
        let record = stand.gateway.cli_ok(&["audit", "tail", "-n", "50", "--output", "json"]);
        assert!(record.unwrap().contains("backup-replicates"), "{flavour:?}");
    }
}
