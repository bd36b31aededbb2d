//! How a held statement's client learns of the decision, by which mode; and that what people agreed to is checked again
//! before it runs.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use xtask::{mariadb, sh};

use xtask::gateway::Options;

use crate::stand::{Database, Flavour, Stand, errors, on_both, wait_for};

on_both!(
    a_ticket_at_once_and_the_same_again,
    who_waits_to_the_end_gets_no_ticket,
    the_guides_snippet_waits_for_people,
    rules_that_changed_while_people_thought_count,
    a_table_that_was_altered_is_another_one,
    what_a_table_does_by_itself_was_approved_too,
    a_label_that_came_while_people_thought_counts,
    an_approved_ticket_is_for_the_rules_it_was_approved_under,
);

const DELETE: &str = "DELETE FROM payments WHERE id < 10";

fn answer(child: Child) -> (bool, String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

fn payments(stand: &Stand) -> String {
    stand.database.sql("SELECT COUNT(*) FROM shop.payments").unwrap().trim().to_owned()
}

/// Changes a file of the gateway, and has it taken over.
fn change(stand: &Stand, file: &str, from: &str, to: &str) {
    let path = stand.gateway.dir().join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {file}");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
    stand.gateway.cli_ok(&["reload"]).unwrap();
}

fn approve(stand: &Stand, id: &str) {
    stand.gateway.cli_ok(&["approvals", "approve", id]).unwrap();
}

/// The pending request that is not this one.
fn another(stand: &Stand, id: &str) -> String {
    wait_for("another request", || {
        let list = stand.gateway.cli_ok(&["approvals", "list"]).unwrap();
        list.split_whitespace().find(|w| w.starts_with("apr_") && *w != id).map(str::to_owned)
    })
}

fn is_outdated(stand: &Stand, id: &str) -> bool {
    let shown = stand.gateway.cli_ok(&["approvals", "show", id]).unwrap();
    shown.lines().any(|line| line.starts_with("state") && line.ends_with("outdated"))
}

fn a_ticket_at_once_and_the_same_again(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| {
        options.approvals.push_str("mode = \"ticket\"");
    });
    let token = stand.token("bot", "agents");
    let asked = Instant::now();
    let ticket = stand.sql_refused("bot", &token, DELETE);
    assert!(asked.elapsed() < Duration::from_secs(30), "it waited");
    let id = stand.pending();
    assert!(ticket.contains(&format!("Rowgate [RG-TICKET] id={id} poll_s=5: ")), "{ticket}");
    assert!(stand.sql_refused("bot", &token, DELETE).contains(&id), "the same ticket");
    let shown = stand.gateway.cli_ok(&["approvals", "show", &id]).unwrap();
    let rows =
        shown.lines().find_map(|line| line.strip_prefix("rows         about ")).expect(&shown);
    let rows: u64 = rows.parse().unwrap();
    assert!((1..=1_000).contains(&rows), "the key finds nine of 12,000: {rows}");
    approve(&stand, &id);
    stand.sql_ok("bot", &token, DELETE);
    assert_eq!(payments(&stand), "11991");
}

fn who_waits_to_the_end_gets_no_ticket(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| {
        options.wait_s = 1;
        options.approvals.push_str("expiry_s = 4");
    });
    let token = stand.token("bot", "agents");
    let rule = "@id(\"agents-bulk-high-value\")\n";
    change(&stand, "policy.cedar", rule, &format!("{rule}@mode(\"wait\")\n"));
    let asked = Instant::now();
    let held = stand.spawn_sql("bot", &token, DELETE);
    let id = stand.pending();
    let (ok, _, error) = answer(held);
    assert!(!ok && error.contains(&format!("[RG-EXPIRED] id={id}: ")), "{error}");
    assert!(asked.elapsed() > Duration::from_secs(3), "it ended with the wait, not the request");
    // Other rules go by the configuration.
    assert!(stand.sql_refused("bot", &token, "DROP TABLE payments").contains("RG-TICKET"));
}

#[test]
fn a_mode_that_is_none_is_refused_by_name() {
    let stand = Stand::start();
    let path = stand.gateway.dir().join("policy.cedar");
    let text = fs::read_to_string(&path).unwrap();
    let rule = "@id(\"agents-ddl\")\n";
    fs::write(&path, text.replacen(rule, &format!("{rule}@mode(\"later\")\n"), 1)).unwrap();
    let output = stand.gateway.cli(&["check"]).unwrap();
    let error = errors(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    for wanted in ["policy.cedar", "agents-ddl", "@mode(\"later\")", "\"wait-then-ticket\""] {
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}

/// With the page's address in the ticket, and in a driver as it is.
fn the_guides_snippet_waits_for_people(flavour: Flavour) {
    let web = format!("http://127.0.0.1:{}", mariadb::free_port().unwrap());
    let stand = Stand::on_with(flavour, |options| {
        options.approvals.push_str("mode = \"ticket\"");
        options.more = xtask::gateway::web_table(&web, "");
    });
    let token = stand.token("bot", "agents");
    let guide = fs::read_to_string(sh::root().join("docs/agents.md")).unwrap();
    let snippet = guide.split("```python\n").find(|block| block.contains("def parse")).unwrap();
    let snippet = snippet.split("```").next().unwrap();
    let script = format!(
        r#"
{snippet}
db = pymysql.connect(host="127.0.0.1", port={port}, user="bot", password="{token}", database="shop")
print(run(db, "DELETE FROM payments WHERE id < %s", (10,)).rowcount, flush=True)
try:
    run(db, "DELETE FROM payments WHERE id < %s", (20,))
except pymysql.err.MySQLError as error:
    print(error.args[0], parse(error), flush=True)
"#,
        port = stand.gateway.port
    );
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", sh::root().join("target/python")).args(["-c", &script]);
    let child = python.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let first = stand.pending();
    approve(&stand, &first);
    let second = another(&stand, &first);
    stand.gateway.cli_ok(&["approvals", "deny", &second, "--reason", "no: never"]).unwrap();
    let (ok, out, error) = answer(child);
    assert!(ok, "{error}");
    let wanted = format!(
        "waiting for {first} {web}/approvals/{first}\n9\nwaiting for {second} {web}/approvals/{second}\n\
         1644 ('RG-REFUSED', {{'id': '{second}'}}, 'denied by alice: no: never')\n"
    );
    assert_eq!(out, wanted);
}

fn rules_that_changed_while_people_thought_count(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("bot", "agents");
    let rule = "@id(\"agents-bulk-high-value\")\n@approve(\"approvers,1\")\n";
    // More approvers: asked anew, of them.
    let held = stand.spawn_sql("bot", &token, DELETE);
    let id = stand.pending();
    let two = rule.replace(",1", ",2");
    change(&stand, "policy.cedar", rule, &two);
    approve(&stand, &id);
    let second = another(&stand, &id);
    wait_for("the mark", || is_outdated(&stand, &id).then_some(()));
    approve(&stand, &second);
    assert_eq!(stand.pending(), second, "it takes two now");
    assert_eq!(payments(&stand), "12000");
    // Denied: not run, whoever approved it.
    change(&stand, "policy.cedar", &two, rule);
    let mut held = held;
    held.kill().unwrap();
    held.wait().unwrap();
    wait_for("the end", || stand.nothing_pending().then_some(()));
    let held = stand.spawn_sql("bot", &token, DELETE);
    let id = stand.pending();
    change(&stand, "policy.cedar", rule, "@id(\"agents-bulk-high-value\")\n");
    approve(&stand, &id);
    let (ok, _, error) = answer(held);
    assert!(!ok && error.contains("RG-DENIED") && error.contains("high-value"), "{error}");
    wait_for("the mark", || is_outdated(&stand, &id).then_some(()));
    assert_eq!(payments(&stand), "12000");
}

fn a_table_that_was_altered_is_another_one(flavour: Flavour) {
    // So seldom that only the look before it runs can see it.
    let stand = Stand::on_with(flavour, |options| options.catalog_refresh_s = 3_600);
    let token = stand.token("bot", "agents");
    let held = stand.spawn_sql("bot", &token, DELETE);
    let id = stand.pending();
    stand.database.sql("ALTER TABLE shop.payments ADD COLUMN first INT FIRST").unwrap();
    approve(&stand, &id);
    let second = another(&stand, &id);
    assert_eq!(payments(&stand), "12000", "it ran on another table than was approved");
    approve(&stand, &second);
    assert_eq!(answer(held), (true, String::new(), String::new()));
    assert_eq!(payments(&stand), "11991");
    // One that is gone is unknown.
    let held = stand.spawn_sql("bot", &token, "DELETE FROM payments WHERE id < 20");
    let id = stand.pending();
    stand.database.sql("DROP TABLE shop.payments").unwrap();
    approve(&stand, &id);
    let (ok, _, error) = answer(held);
    assert!(!ok && error.contains("payments"), "{error}");
    wait_for("the mark", || is_outdated(&stand, &id).then_some(()));
}

fn what_a_table_does_by_itself_was_approved_too(flavour: Flavour) {
    let trigger = |database: &Database, body: &str| {
        let made = "CREATE TRIGGER shop.keeps BEFORE DELETE ON shop.payments FOR EACH ROW";
        database.sql(&format!("DROP TRIGGER IF EXISTS shop.keeps; {made} {body}")).unwrap();
    };
    let prepare = |database: &Database| {
        database.sql("CREATE TABLE shop.gone (id INT)").unwrap();
        trigger(database, "INSERT INTO shop.gone VALUES (OLD.id)");
    };
    let change = |options: &mut Options| options.catalog_refresh_s = 3_600;
    let stand = Stand::after(flavour, &[], prepare, change);
    let token = stand.token("bot", "agents");
    let held = stand.spawn_sql("bot", &token, DELETE);
    let id = stand.pending();
    trigger(&stand.database, "DELETE FROM shop.gone");
    approve(&stand, &id);
    let second = another(&stand, &id);
    assert_eq!(payments(&stand), "12000", "it ran with another trigger than was approved");
    approve(&stand, &second);
    assert_eq!(answer(held), (true, String::new(), String::new()));
    assert_eq!(payments(&stand), "11991");
}

fn a_label_that_came_while_people_thought_counts(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("bot", "agents");
    let rule = "@id(\"hold-names\")\n@approve(\"approvers,1\")\nforbid (principal in Group::\"agents\", \
                action == Action::\"select\", resource is Table)\nwhen { resource.name == \"customers\" };\n\n@id(\"dba\")";
    change(&stand, "policy.cedar", "@id(\"dba\")", rule);
    let held = stand.spawn_sql("bot", &token, "SELECT name FROM customers WHERE id = 1");
    let id = stand.pending();
    change(
        &stand,
        "rowgate.toml",
        "\"shop.customers.email\"",
        "\"shop.customers.email\", \"shop.customers.name\"",
    );
    approve(&stand, &id);
    let second = another(&stand, &id);
    approve(&stand, &second);
    let (ok, out, error) = answer(held);
    let name = xtask::shop::customer(1).name;
    assert!(ok && !out.contains(&name), "shown as it was when it was asked for: {out}{error}");
    assert!(out.starts_with("name\n"), "{out}");
}

fn an_approved_ticket_is_for_the_rules_it_was_approved_under(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| {
        options.approvals.push_str("mode = \"ticket\"");
    });
    let token = stand.token("bot", "agents");
    stand.sql_refused("bot", &token, DELETE);
    let id = stand.pending();
    approve(&stand, &id);
    let rule = "@id(\"agents-bulk-high-value\")\n@approve(\"approvers,1\")\n";
    change(&stand, "policy.cedar", rule, &rule.replace(",1", ",2"));
    let ticket = stand.sql_refused("bot", &token, DELETE);
    assert!(ticket.contains("RG-TICKET") && !ticket.contains(&id), "{ticket}");
    change(&stand, "policy.cedar", &rule.replace(",1", ",2"), rule);
    stand.sql_ok("bot", &token, DELETE);
    assert_eq!(payments(&stand), "11991");
}
