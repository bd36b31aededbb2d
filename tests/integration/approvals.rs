//! A held statement waits for a person: approved, denied, cancelled, expired, outlived.

use std::process::Child;

use rowgate::codec::Capabilities;

use crate::browser::Browser;
use crate::bulk::{BULK_EXECUTE, bulk, execute};
use crate::stand::{Flavour, Stand, errors, on_both, wait_for};
use crate::web::{Site, csrf};
use crate::wire::{Wire, text};

on_both!(
    approved_runs_and_denied_does_not,
    a_wait_that_is_too_long_becomes_a_ticket_that_works_once,
    another_statement_cannot_use_the_grant,
    inside_a_transaction_it_is_a_ticket_at_once,
    what_a_session_has_set_is_part_of_what_was_approved,
);

const ALTER: &str = "ALTER TABLE orders ADD COLUMN gift TINYINT";

fn answer(child: Child) -> (bool, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn gift_exists(stand: &Stand) -> bool {
    stand.database.sql("SHOW COLUMNS FROM shop.orders LIKE 'gift'").unwrap().contains("gift")
}

fn approved_runs_and_denied_does_not(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("bot", "agents");
    let held = stand.spawn_sql("bot", &token, ALTER);
    let id = stand.pending();
    assert!(!gift_exists(&stand), "it ran before anyone approved");
    let shown = stand.gateway.cli_ok(&["approvals", "show", &id]).unwrap();
    for wanted in ["bot", "ALTER TABLE orders", "shop"] {
        assert!(shown.contains(wanted), "{wanted} is not shown: {shown}");
    }
    stand.gateway.cli_ok(&["approvals", "approve", &id]).unwrap();
    assert_eq!(answer(held), (true, String::new()));
    assert!(gift_exists(&stand));
    let again = stand.gateway.cli(&["approvals", "approve", &id]).unwrap();
    assert!(!again.status.success(), "a request is decided once");

    let held = stand.spawn_sql("bot", &token, "DROP TABLE payments");
    let id = stand.pending();
    stand.gateway.cli_ok(&["approvals", "deny", &id, "--reason", "not on my watch"]).unwrap();
    let (ok, error) = answer(held);
    assert!(!ok && error.contains("45000") && error.contains("not on my watch"), "{error}");
    assert_eq!(stand.database.sql("SELECT COUNT(*) FROM shop.payments").unwrap().trim(), "12000");
}

#[test]
fn the_requester_cannot_approve() {
    let stand = Stand::start();
    // the admin socket maps this process's user to alice
    let token = stand.token("alice", "agents");
    let held = stand.spawn_sql("alice", &token, ALTER);
    let id = stand.pending();
    let output = stand.gateway.cli(&["approvals", "approve", &id]).unwrap();
    assert!(!output.status.success(), "alice approved her own statement");
    let mut held = held;
    held.kill().unwrap();
    held.wait().unwrap();
    assert!(!gift_exists(&stand));
}

#[test]
fn the_clients_death_cancels() {
    let stand = Stand::start();
    let token = stand.token("bot", "agents");
    let mut held = stand.spawn_sql("bot", &token, ALTER);
    stand.pending();
    held.kill().unwrap();
    held.wait().unwrap();
    wait_for("the cancellation", || stand.nothing_pending().then_some(()));
    assert!(!gift_exists(&stand));
}

fn a_wait_that_is_too_long_becomes_a_ticket_that_works_once(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| options.wait_s = 1);
    let token = stand.token("bot", "agents");
    let ticket = stand.sql_refused("bot", &token, ALTER);
    assert!(ticket.contains("45000") && ticket.contains("RG-TICKET"), "{ticket}");
    let id = stand.pending();
    assert!(ticket.contains(&id), "the ticket names the request: {ticket}");
    stand.gateway.cli_ok(&["approvals", "approve", &id]).unwrap();
    assert!(!gift_exists(&stand), "an approved ticket runs only when it is sent again");
    stand.sql_ok("bot", &token, ALTER);
    assert!(gift_exists(&stand));
    stand.database.sql("ALTER TABLE shop.orders DROP COLUMN gift").unwrap();
    assert!(stand.sql_refused("bot", &token, ALTER).contains("RG-TICKET"), "a grant is used once");
}

fn another_statement_cannot_use_the_grant(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| options.wait_s = 1);
    let token = stand.token("bot", "agents");
    stand.sql_refused("bot", &token, "DELETE FROM payments WHERE id < 10");
    let id = stand.pending();
    stand.gateway.cli_ok(&["approvals", "approve", &id]).unwrap();
    let other = stand.sql_refused("bot", &token, "DELETE FROM payments WHERE id < 9000");
    assert!(other.contains("RG-TICKET"), "{other}");
    let twin = stand.token("twin", "agents");
    let others = stand.sql_refused("twin", &twin, "DELETE FROM payments WHERE id < 10");
    assert!(others.contains("RG-TICKET"), "{others}");
    stand.sql_ok("bot", &token, "DELETE FROM payments WHERE id < 10");
    assert_eq!(stand.database.sql("SELECT COUNT(*) FROM shop.payments").unwrap().trim(), "11991");
}

fn inside_a_transaction_it_is_a_ticket_at_once(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("bot", "agents");
    let sql = "BEGIN; SELECT 1; DELETE FROM payments; COMMIT";
    let ticket = stand.sql_refused("bot", &token, sql);
    assert!(ticket.contains("RG-TICKET"), "{ticket}");
    assert_eq!(stand.database.sql("SELECT COUNT(*) FROM shop.payments").unwrap().trim(), "12000");
}

#[test]
fn a_request_outlives_the_gateway_as_a_ticket() {
    let mut stand = Stand::start();
    let token = stand.token("bot", "agents");
    let held = stand.spawn_sql("bot", &token, ALTER);
    let id = stand.pending();
    stand.gateway.kill().unwrap();
    let (ok, error) = answer(held);
    assert!(!ok && !error.is_empty());
    assert!(!gift_exists(&stand));
    stand.gateway.start_again().unwrap();
    assert_eq!(stand.pending(), id);
    stand.gateway.cli_ok(&["approvals", "approve", &id]).unwrap();
    stand.sql_ok("bot", &token, ALTER);
    assert!(gift_exists(&stand));
}

fn what_a_session_has_set_is_part_of_what_was_approved(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| options.wait_s = 1);
    let token = stand.token("bot", "agents");
    let sql = "UPDATE orders SET total_cents = @n";
    let refused = stand.sql_refused("bot", &token, &format!("SET @n = 5; {sql}"));
    assert!(refused.contains("RG-PARAMETERS"), "an approver can't see @n: {refused}");
    let literal = "UPDATE orders SET state = 'caf\u{e9}'";
    stand.sql_refused("bot", &token, literal);
    let id = stand.pending();
    stand.gateway.cli_ok(&["approvals", "approve", &id]).unwrap();
    for set in ["SET NAMES latin1", "SET time_zone = '+05:00'"] {
        let other = stand.sql_refused("bot", &token, &format!("{set}; {literal}"));
        assert!(other.contains("RG-TICKET") && !other.contains(&id), "{set}: {other}");
    }
    stand.sql_ok("bot", &token, literal);
}

#[test]
fn the_glass_is_broken_by_one_person_and_never_in_silence() {
    // the admin socket maps this process's user to alice, of the groups approvers and admins
    let glass = "break_glass_groups = [\"admins\"]\nbreak_glass_reason_chars = 10";
    let stand = Stand::with(|options| options.approvals.push_str(glass));
    let token = stand.token("alice", "developers");
    let held = stand.spawn_sql("alice", &token, ALTER);
    let id = stand.pending();
    let own = stand.gateway.cli(&["approvals", "approve", &id]).unwrap();
    assert!(!own.status.success(), "alice approved her own statement");
    let without = stand.gateway.cli(&["approvals", "break-glass", &id]).unwrap();
    assert_eq!(without.status.code(), Some(2), "a reason is asked for");
    let short = ["approvals", "break-glass", &id, "--reason", "because"];
    let short = stand.gateway.cli(&short).unwrap();
    assert!(errors(&short).contains("at least 10 characters"), "{}", errors(&short));
    assert!(!gift_exists(&stand));
    let why = "outage 4711, on call alone";
    stand.gateway.cli_ok(&["approvals", "break-glass", &id, "--reason", why]).unwrap();
    assert_eq!(answer(held), (true, String::new()));
    assert!(gift_exists(&stand));
    assert_eq!(stand.gateway.metric("rowgate_break_glass_total").unwrap(), Some(1.0));
    let record = stand.gateway.cli_ok(&["audit", "tail", "-n", "50"]).unwrap();
    assert!(record.contains(&format!("{id}  break_glass  by alice {why}")), "{record}");
    assert!(stand.gateway.log().contains("the glass was broken"), "{}", stand.gateway.log());
    let shown = stand.gateway.cli_ok(&["approvals", "show", &id]).unwrap();
    assert!(shown.contains("broke glass  by alice"), "{shown}");
}

#[test]
fn nobody_breaks_the_glass_by_default() {
    let stand = Stand::start();
    let token = stand.token("bot", "agents");
    let mut held = stand.spawn_sql("bot", &token, ALTER);
    let id = stand.pending();
    let why = "outage 4711, on call alone";
    let refused = ["approvals", "break-glass", &id, "--reason", why];
    let refused = stand.gateway.cli(&refused).unwrap();
    assert!(errors(&refused).contains("approvals.break_glass_groups"), "{}", errors(&refused));
    held.kill().unwrap();
    held.wait().unwrap();
    assert!(!gift_exists(&stand));
}

#[test]
fn an_approver_sees_all_that_it_takes() {
    let stand = Stand::with(|options| options.approvals.push_str("mode = \"ticket\""));
    let token = stand.token("bot", "agents");
    let user = "bot;run=42;pipeline=nightly";
    let mut wire = Wire::login(stand.gateway.port, user, &token, 0);
    let sql =
        "UPDATE customers SET ssn = ?, name = ?, phone = NULL /* all of them, every single one */";
    let (id, _) = wire.prepare(sql);
    let mut ask = || {
        wire.command(0x17, &execute(id, &["078-05-1120", "new name"]));
        text(&wire.answer())
    };
    assert!(ask().contains("RG-TICKET"));
    let first = stand.pending();
    stand.gateway.cli_ok(&["approvals", "deny", &first, "--reason", "not now"]).unwrap();
    assert!(ask().contains("RG-REFUSED"));
    assert!(ask().contains("RG-TICKET"));
    let id = stand.pending();
    let shown = stand.gateway.cli_ok(&["approvals", "show", &id]).unwrap();
    let json = stand.gateway.cli_ok(&["approvals", "show", &id, "--output", "json"]).unwrap();
    for wanted in [
        "run_id       42",
        "pipeline     nightly",
        "from         127.0.0.1",
        "shop.customers: ",
        "parameter    shop.customers.ssn = (not shown: pii)",
        "parameter    name = new name",
        &format!("before       {first} of bot: denied by alice"),
        "approving    leaves a grant until",
        "laid out\n    UPDATE customers\n    SET ssn = ?,",
        "statement\n    UPDATE customers SET ssn = ?, name = ?, phone = NULL",
    ] {
        assert!(shown.contains(wanted), "{wanted} is not in\n{shown}");
    }
    assert!(!shown.contains("078-05") && !json.contains("078-05"), "{shown}\n{json}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["past"][0]["id"], first.as_str());
    assert_eq!(json["outlook"]["waits"], false);
    assert_eq!(json["details"]["parameters"][1]["value"], "new name");
}

/// A value that may be any column's is hidden where some are labelled, and the type is told: `'0'` finds other rows than 0.
#[test]
fn a_parameter_without_a_plain_column_is_hidden() {
    let stand = Stand::with(|options| options.approvals.push_str("mode = \"ticket\""));
    let token = stand.token("bot", "agents");
    let mut wire = Wire::login(stand.gateway.port, "bot", &token, 0);
    let (id, _) = wire.prepare("UPDATE customers SET ssn = UPPER(?), name = ?");
    wire.command(0x17, &execute(id, &["078-05-1120", "0"]));
    assert!(text(&wire.answer()).contains("RG-TICKET"));
    let id = stand.pending();
    let shown = stand.gateway.cli_ok(&["approvals", "show", &id]).unwrap();
    for wanted in ["? = (not shown: free-text, pci, pii)", "name = 0 (string)"] {
        assert!(shown.contains(wanted), "{wanted} is not in\n{shown}");
    }
    assert!(!shown.contains("078-05"), "{shown}");
}

/// What nobody can read isn't asked for, and costs nobody else's time.
#[test]
fn too_many_parameters_are_not_held() {
    let stand = Stand::start();
    let token = stand.token("bot", "agents");
    let more = Capabilities::MARIADB_STMT_BULK_OPERATIONS;
    let mut wire = Wire::login(stand.gateway.port, "bot", &token, more);
    let (id, _) = wire.prepare("DELETE FROM payments WHERE order_id = ?");
    wire.command(BULK_EXECUTE, &bulk(id, &vec![&[Some("1")][..]; 10_001]));
    let said = text(&wire.answer());
    assert!(said.contains("RG-BUSY") && said.contains("10000 parameters"), "{said}");
    assert!(stand.nothing_pending());
}

#[test]
fn watching_tells_what_comes_and_changes() {
    use std::io::BufRead as _;
    let stand = Stand::with(|options| options.approvals.push_str("mode = \"ticket\""));
    let token = stand.token("bot", "agents");
    let mut watch = std::process::Command::new(crate::stand::binary());
    watch.args(["approvals", "watch", "--output", "json", "--config"]);
    watch.arg(stand.gateway.dir().join("rowgate.toml")).stdout(std::process::Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    let mut lines = std::io::BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || -> serde_json::Value {
        serde_json::from_str(&lines.next().expect("a line").unwrap()).unwrap()
    };
    stand.sql_refused("bot", &token, ALTER);
    let id = stand.pending();
    let seen = next();
    assert_eq!((&seen["id"], &seen["state"]), (&id.as_str().into(), &"pending".into()));
    stand.gateway.cli_ok(&["approvals", "deny", &id, "--reason", "no"]).unwrap();
    let seen = next();
    assert_eq!((&seen["id"], &seen["state"]), (&id.as_str().into(), &"denied".into()));
    let pid = watch.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(watch.wait().unwrap().code(), Some(0), "Ctrl-C is how it ends");
}

#[test]
fn the_glass_is_broken_on_the_page_with_a_reason_and_a_second_thought() {
    let site = Site::changed(
        "http",
        |_| String::new(),
        |options| {
            options.approvals.push_str("break_glass_groups = [\"on-call\"]");
            options.more.push_str("[[groups]]\nname = \"on-call\"\nmembers = [\"dee\"]\n");
        },
    );
    let token = site.stand.token("bot", "agents");
    let held = site.stand.spawn_sql("bot", &token, ALTER);
    let id = site.stand.pending();
    let mut ben = site.signed_in("ben");
    let page = ben.get(&site.at(&format!("/approvals/{id}"))).body;
    assert!(!page.contains("break-glass"), "an approver is not on call: {page}");
    for wanted in ["runs at once, for the client that waits", "127.0.0.1", "shop.orders"] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    let mut dee = site.signed_in("dee");
    let page = dee.get(&site.at(&format!("/approvals/{id}"))).body;
    assert!(page.contains("value=\"break-glass\"") && page.contains("minlength=\"20\""), "{page}");
    let place = site.at(&format!("/approvals/{id}/decide"));
    let send = |browser: &mut Browser, reason: &str, confirmed: &str| {
        let token = csrf(browser, &site);
        let form = [("csrf", token.as_str()), ("verdict", "break-glass")];
        browser.post(&place, &[&form[..], &[("reason", reason), ("confirmed", confirmed)]].concat())
    };
    let why = "outage 4711, on call alone";
    assert_eq!(send(&mut ben, why, "yes").status, 403);
    assert_eq!(send(&mut dee, why, "").status, 400, "without a tick");
    assert_eq!(send(&mut dee, "because", "yes").status, 400, "without a reason");
    assert!(!gift_exists(&site.stand));
    let page = send(&mut dee, why, "yes");
    assert!(dee.follow(page).body.contains("The glass is broken"));
    assert_eq!(answer(held), (true, String::new()));
    let page = dee.get(&site.at(&format!("/approvals/{id}"))).body;
    assert!(page.contains("broke the glass") && page.contains(why), "{page}");
}
