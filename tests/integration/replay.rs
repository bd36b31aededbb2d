//! Looking back: the record tells what a client asked, what it saw, and what was masked in it and why; and nothing that it
//! did not see.

use std::process::Command;

use rowgate::codec::Capabilities;
use serde_json::Value;
use xtask::{sh, shop};

use crate::stand::{Flavour, Stand, binary, on_both, wait_for};
use crate::wire::{Wire, text};

on_both!(
    what_a_client_saw_is_replayed,
    rows_of_a_cursor_are_replayed,
    an_answer_is_recorded_up_to_a_bound,
    what_no_policy_records_is_not_there,
);

const MORE: u64 = Capabilities::MULTI_STATEMENTS | Capabilities::MULTI_RESULTS;

/// A cursor, read only.
const CURSOR: u8 = 1;

/// The moments of this identity's only session, once it has ended.
fn moments(stand: &Stand, identity: &str) -> Vec<Value> {
    let parse = |text: String| -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let tail = || {
        parse(stand.gateway.cli_ok(&["audit", "tail", "-n", "1000", "--output", "json"]).unwrap())
    };
    let is_opened =
        |record: &&Value| record["event"] == "session_opened" && record["identity"] == identity;
    let session = tail().iter().find(is_opened).unwrap()["session"].as_u64().unwrap();
    let ended =
        |record: &Value| record["event"] == "session_closed" && record["session"] == session;
    wait_for("the record of the session's end", || tail().iter().any(ended).then_some(()));
    let words = ["audit", "replay", &session.to_string(), "--output", "json"];
    parse(stand.gateway.cli_ok(&words).unwrap())
}

/// The statements among them.
fn statements(moments: &[Value]) -> Vec<&Value> {
    moments.iter().filter(|moment| moment["moment"] == "statement").collect()
}

/// The rows of a statement's only result.
fn rows(statement: &Value) -> &Vec<Value> {
    statement["answers"][0]["rows"]["rows"].as_array().unwrap_or_else(|| panic!("{statement}"))
}

fn nothing_raw(moments: &[Value]) {
    let all = serde_json::to_string(moments).unwrap();
    for raw in shop::raw_values() {
        assert!(!all.contains(&raw), "{raw}");
    }
}

/// Both ways in which a result's end is told.
const BOTH: [(&str, u64); 2] = [("first", MORE), ("second", MORE | Capabilities::DEPRECATE_EOF)];

fn what_a_client_saw_is_replayed(flavour: Flavour) {
    let stand = Stand::on(flavour);
    for (identity, capabilities) in BOTH {
        let token = stand.token(identity, "agents");
        let mut wire = Wire::login(stand.gateway.port, identity, &token, capabilities);
        wire.query("USE shop");
        let sql = "SELECT id, card_number, UPPER(ssn), tier FROM customers ORDER BY id LIMIT 3";
        assert!(text(&wire.query(sql)).contains("****"));
        let (id, _) = wire.prepare(sql);
        wire.execute(id, 0);
        wire.query("SELECT name FROM customers WHERE ssn = '1'");
        wire.query("UPDATE orders SET state = 'x' WHERE id = 1");
        wire.query("SELECT NULL; SELECT 'two'");
        drop(wire);
        let moments = moments(&stand, identity);
        nothing_raw(&moments);
        let (first, last) = (&moments[0], moments.last().unwrap());
        assert_eq!(
            (first["identity"].as_str(), &last["moment"]),
            (Some(identity), &"closed".into())
        );
        let all = statements(&moments);
        let masked = all.iter().filter(|s| s["verdict"] == "mask" && s["command"] != "prepare");
        assert_eq!(masked.map(|statement| is_masked(statement)).count(), 2, "{moments:?}");
        let nth = |n: usize| &all[all.len() - n]["answers"][0];
        assert_eq!(
            (&all[all.len() - 4]["verdict"], &nth(4)["error"]["state"]),
            (&"deny".into(), &"42000".into())
        );
        assert_eq!(nth(3)["ok"]["affected"], u8::from(identity == "first"));
        assert_eq!(
            (&nth(2)["rows"]["rows"][0][0], &nth(1)["rows"]["rows"][0][0]),
            (&Value::Null, &"two".into())
        );
    }
}

/// Three customers, each with its card masked, and why.
fn is_masked(statement: &Value) {
    let rows = rows(statement);
    let first: Vec<_> = rows[0].as_array().unwrap().iter().map(|cell| cell.as_str()).collect();
    assert_eq!((rows.len(), first[0], first[2]), (3, Some("1"), None), "{statement}");
    assert!(first[1].unwrap().starts_with("****"), "{statement}");
    assert!(first[3].unwrap().parse::<u8>().is_ok(), "{statement}");
    let card = &statement["masked"][0];
    let told =
        ["index", "columns", "labels", "rule", "mask", "plugin"].map(|key| card[key].to_string());
    let wanted = ["1", r#"["shop.customers.card_number"]"#, r#"["pci"]"#, r#""agents-pci""#];
    assert_eq!(told[..4], wanted);
    assert_eq!(told[4..], [r#""keep-last:4""#, r#""mask-standard""#]);
    assert_eq!(card["digest"], plugin_digest());
    assert_eq!(statement["masked"][1]["mask"], "null");
    assert_eq!((&statement["cut"], &statement["ended"]["rows"]), (&false.into(), &3.into()));
}

/// BLAKE3 of the shipped plugin, as its author sees it.
fn plugin_digest() -> String {
    let file = sh::root().join("target/plugins/mask-standard.wasm");
    let mut inspect = Command::new(binary());
    inspect.args(["plugin", "inspect", "--output", "json"]).arg(file);
    let shown: Value = serde_json::from_slice(&inspect.output().unwrap().stdout).unwrap();
    shown["digest"].as_str().unwrap().to_owned()
}

fn rows_of_a_cursor_are_replayed(flavour: Flavour) {
    let stand = Stand::on(flavour);
    for (identity, capabilities) in BOTH {
        let token = stand.token(identity, "agents");
        let mut wire = Wire::login(stand.gateway.port, identity, &token, capabilities);
        wire.query("USE shop");
        let (id, _) = wire.prepare("SELECT id, card_number FROM customers ORDER BY id LIMIT 5");
        wire.execute(id, CURSOR);
        wire.fetch(id, 2);
        drop(wire);
        let moments = moments(&stand, identity);
        nothing_raw(&moments);
        let all = statements(&moments);
        let fetched = all.iter().find(|statement| statement["command"] == "fetch").unwrap();
        let rows = rows(fetched);
        assert_eq!((rows.len(), &rows[1][0]), (2, &"2".into()), "{fetched}");
        assert!(rows[1][1].as_str().unwrap().starts_with("****"), "{fetched}");
    }
}

fn an_answer_is_recorded_up_to_a_bound(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("agent", "agents");
    let mut wire = Wire::login(stand.gateway.port, "agent", &token, MORE);
    let count =
        wire.query("SELECT id, name, card_number FROM shop.customers ORDER BY id").len() - 6;
    assert!(count > 500, "{count}");
    drop(wire);
    let moments = moments(&stand, "agent");
    let statement = *statements(&moments).last().unwrap();
    let kept = rows(statement).len();
    assert!((100..count).contains(&kept), "{kept} of {count}");
    assert_eq!((&statement["cut"], &statement["ended"]["rows"]), (&true.into(), &count.into()));
    assert_eq!(rows(statement)[kept - 1][0], kept.to_string(), "those that are there are whole");
}

fn what_no_policy_records_is_not_there(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("dana", "dba");
    let mut wire = Wire::login(stand.gateway.port, "dana", &token, MORE);
    assert!(wire.query("SELECT card_number FROM shop.customers LIMIT 2").len() > 3);
    drop(wire);
    let moments = moments(&stand, "dana");
    nothing_raw(&moments);
    let statement = *statements(&moments).last().unwrap();
    assert_eq!((&statement["unrecorded"], &statement["ended"]["rows"]), (&true.into(), &2.into()));
    assert!(statement["answers"].as_array().unwrap().is_empty());
}
