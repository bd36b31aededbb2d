//! Query attributes: passed on, recorded by well-known names, part of what is approved, and no way past a rule. MySQL's
//! alone.

use std::process::Command;

use rowgate::codec::{Capabilities, write_lenenc_bytes};
use xtask::{mysql, setup, shop};

use crate::stand::{Flavour, Stand};
use crate::wire::{Wire, text};

pub(crate) const MORE: u64 = Capabilities::QUERY_ATTRIBUTES
    | Capabilities::MULTI_STATEMENTS
    | Capabilities::MULTI_RESULTS
    | Capabilities::DEPRECATE_EOF;

/// A string in a parameter's type.
pub(crate) const STRING: [u8; 2] = [0xFE, 0];

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0";

pub(crate) fn stand_with_attributes() -> Option<Stand> {
    if mysql::is_left_out() {
        return None;
    }
    let stand = Stand::on_with(Flavour::MySql, |options| options.wait_s = 1);
    stand.database.sql("INSTALL COMPONENT 'file://component_query_attributes'").unwrap();
    Some(stand)
}

/// What stands in front of a COM_QUERY's text.
pub(crate) fn section(attributes: &[(&str, &str)]) -> Vec<u8> {
    let count = attributes.len();
    let mut out = vec![u8::try_from(count).unwrap(), 1];
    if count == 0 {
        return out;
    }
    out.resize(2 + count.div_ceil(8), 0);
    out.push(1);
    for (name, _) in attributes {
        out.extend_from_slice(&STRING);
        write_lenenc_bytes(&mut out, name.as_bytes());
    }
    attributes.iter().for_each(|(_, value)| write_lenenc_bytes(&mut out, value.as_bytes()));
    out
}

/// COM_QUERY with attributes; its answer.
pub(crate) fn ask(wire: &mut Wire, attributes: &[(&str, &str)], sql: &str) -> String {
    wire.command(3, &[&section(attributes), sql.as_bytes()].concat());
    text(&wire.answer())
}

/// COM_STMT_EXECUTE of a statement with one parameter, a string, and attributes; its answer.
fn execute(wire: &mut Wire, id: u32, value: &str, attributes: &[(&str, &str)]) -> String {
    let count = 1 + attributes.len();
    let mut body = [&id.to_le_bytes()[..], &[8, 1, 0, 0, 0]].concat();
    body.push(u8::try_from(count).unwrap());
    body.resize(body.len() + count.div_ceil(8), 0);
    body.push(1);
    for name in [""].into_iter().chain(attributes.iter().map(|(name, _)| *name)) {
        body.extend_from_slice(&STRING);
        write_lenenc_bytes(&mut body, name.as_bytes());
    }
    for value in [value].into_iter().chain(attributes.iter().map(|(_, value)| *value)) {
        write_lenenc_bytes(&mut body, value.as_bytes());
    }
    wire.command(0x17, &body);
    text(&wire.answer())
}

#[test]
fn they_reach_the_database_and_well_known_ones_the_record() {
    let Some(stand) = stand_with_attributes() else { return };
    let token = stand.token("agent", "agents");
    let mut wire = Wire::login(stand.gateway.port, "agent", &token, MORE);
    let sent = [("run_id", "r-4711"), ("password", "hunter2")];
    let read = "SELECT mysql_query_attribute_string('run_id'), /* here */ 2";
    let answer = ask(&mut wire, &sent, read);
    assert!(answer.contains("r-4711"), "{answer}");
    let answer = ask(&mut wire, &sent, &format!("SELECT 1; {read}; {read}"));
    assert_eq!(answer.matches("r-4711").count(), 2, "each statement may read them: {answer}");
    let answer = ask(&mut wire, &[], "SELECT 'none'");
    assert!(answer.contains("none"), "{answer}");

    wire.command(0x16, b"SELECT ?, mysql_query_attribute_string('run_id')");
    let prepared = wire.packet().1;
    (0..3).for_each(|_| drop(wire.packet()));
    let id = u32::from_le_bytes(prepared[1..5].try_into().unwrap());
    let answer = execute(&mut wire, id, "own", &sent);
    assert!(answer.contains("own") && answer.contains("r-4711"), "{answer}");
    // The same types once more, and none of the attributes.
    wire.command(0x17, &[&id.to_le_bytes()[..], b"\x08\x01\0\0\0\x01\0\0\x05again"].concat());
    let answer = text(&wire.answer());
    assert!(answer.contains("again") && !answer.contains("r-4711"), "{answer}");

    let record = stand.gateway.cli_ok(&["audit", "tail", "-n", "200", "--output", "json"]).unwrap();
    let with: Vec<_> = record.lines().filter(|line| line.contains("attribute_count")).collect();
    assert_eq!(with.len(), 5, "{record}");
    for line in with {
        assert!(
            line.contains(r#""attribute_count":2,"attributes":[["run_id","r-4711"]]"#),
            "{line}"
        );
    }
    assert!(!record.contains("hunter2"), "a value that could be a secret is recorded");
    let lines = stand.gateway.cli_ok(&["audit", "tail"]).unwrap();
    assert!(lines.contains("attributes: 2 run_id=r-4711"), "{lines}");
}

/// Nothing gets past a mask or a rule in front of the text, and what can't be read is not sent.
#[test]
fn no_attribute_hides_a_statement() {
    let Some(stand) = stand_with_attributes() else { return };
    let token = stand.token("leak-agent", "agents");
    let ssn = shop::customer(5).ssn;
    let query = "SELECT ssn FROM customers WHERE id = 5";
    let direct = stand.database.sql(&format!("USE shop; {query}")).unwrap();
    assert!(direct.contains(&ssn), "the search must be able to find it");
    let mut wire = Wire::login(stand.gateway.port, "leak-agent", &token, MORE);
    for attributes in [&[][..], &[("a", "SELECT 1; -- ")], &[("a", "/*"), ("SELECT 1 -- ", "'")]] {
        let one = ask(&mut wire, attributes, query);
        assert!(!one.contains(&ssn) && one.contains("ssn"), "{one}");
        let many = ask(&mut wire, attributes, &format!("DO 1; {query}; {query}"));
        assert!(!many.contains(&ssn) && many.contains("ssn"), "{many}");
        let blanked = ask(&mut wire, attributes, &format!("/* x */ {query} -- y"));
        assert!(!blanked.contains(&ssn) && blanked.contains("ssn"), "{blanked}");
        wire.command(0x16, b"SELECT ssn FROM customers WHERE id = ?");
        let prepared = wire.packet().1;
        (0..2).for_each(|_| drop(wire.packet()));
        let id = u32::from_le_bytes(prepared[1..5].try_into().unwrap());
        let prepared = execute(&mut wire, id, "5", attributes);
        assert!(!prepared.contains(&ssn) && prepared.starts_with("1:\\x01"), "{prepared}");
        wire.command(0x19, &id.to_le_bytes());
    }
    let refused = ask(&mut wire, &[("a", "SELECT 1")], "HANDLER customers OPEN");
    assert!(refused.contains("Rowgate"), "{refused}");
    let long = "n".repeat(300);
    let many: Vec<_> = (0..65).map(|_| ("n", "v")).collect();
    let (long, many) = (section(&[(&long, "v")]), section(&many));
    for prefix in [
        &b""[..],
        b"\0",
        b"\0\0",
        b"\0\x02",
        b"\xfb\x01",
        b"\xff\x01",
        b"\xfe\0\0\0\0\0\0\0\0\x01",
        b"\x01\x01\0\0",
        b"\x01\x01\0\x01\xfe\0\x01a\xfa",
        b"\x01\x01\0\x01\xfe\0\x01a\xfb",
        b"\x01\x01\0\x01\x09\0\x01a\x04\0\0\0",
        b"\x01\x01\0\x01\x0d\0\x01a\x02\0",
        b"\x01\x01\0\x01\x06\0\x01a",
        b"\x01\x01\0\x01\xfe\x01\x01a\x01a",
        &long,
        &many,
    ] {
        wire.command(3, &[prefix, query.as_bytes()].concat());
        let refused = text(&wire.answer());
        assert!(refused.contains("RG-ATTRIBUTES"), "{}: {refused}", prefix.escape_ascii());
    }
    let after = ask(&mut wire, &[], "SELECT 'usable'");
    assert!(after.contains("usable"), "{after}");
    // Without the capability the same bytes are text.
    let mut plain = Wire::login(stand.gateway.port, "leak-agent", &token, MORE & !(1 << 27));
    plain.command(3, &[&section(&[]), query.as_bytes()].concat());
    let refused = text(&plain.answer());
    assert!(refused.contains("#42000") && !refused.contains(&ssn), "{refused}");
}

/// What a statement could read is part of what was approved; the trace it belongs to is not.
#[test]
fn they_are_part_of_what_is_approved() {
    let Some(stand) = stand_with_attributes() else { return };
    let token = stand.token("bot", "agents");
    let mut wire = Wire::login(stand.gateway.port, "bot", &token, MORE);
    let sql = "UPDATE orders SET state = mysql_query_attribute_string('state')";
    let trace = |n: u8| format!("{TRACE}{n}");
    let asked = ask(&mut wire, &[("traceparent", &trace(1)), ("state", "paid")], sql);
    assert!(asked.contains("RG-TICKET"), "{asked}");
    let id = stand.pending();
    let shown = stand.gateway.cli_ok(&["approvals", "show", &id]).unwrap();
    assert!(shown.contains("query attribute state: paid"), "{shown}");
    stand.gateway.cli_ok(&["approvals", "approve", &id]).unwrap();
    for other in [
        &[][..],
        &[("state", "void")],
        &[("STATE", "void"), ("state", "paid")],
        &[("state", "paid"), ("traceparent", "void")],
    ] {
        let refused = ask(&mut wire, other, sql);
        assert!(refused.contains("RG-TICKET") && !refused.contains(&id), "{other:?}: {refused}");
    }
    let ran = ask(&mut wire, &[("traceparent", &trace(2)), ("state", "paid")], sql);
    assert!(ran.starts_with("1:\\x00"), "{ran}");
    let states = stand.database.sql("SELECT DISTINCT state FROM shop.orders").unwrap();
    assert_eq!(states.trim(), "paid");
}

/// MySQL's own drivers and command line send them without being asked.
#[test]
fn stock_clients_send_them() {
    let Some(stand) = stand_with_attributes() else { return };
    let token = stand.token("agent", "agents");
    let read = "SELECT mysql_query_attribute_string('run_id')";
    let mut client = stand.client("agent", &token);
    client.args(["--batch", "--commands", "--database=shop", "-e"]);
    let found = client.arg(format!("query_attributes run_id r-cli\n{read}")).output().unwrap();
    assert!(String::from_utf8_lossy(&found.stdout).contains("r-cli"), "{found:?}");
    let script = format!(
        "import mysql.connector\n\
         c = mysql.connector.connect(host='127.0.0.1', port={}, user='agent', password='{token}', \
             database='shop', use_pure=True, ssl_disabled=True, auth_plugin='mysql_native_password')\n\
         for prepared in (False, True):\n\
         \x20   k = c.cursor(prepared=prepared)\n\
         \x20   k.add_attribute('run_id', 'r-python')\n\
         \x20   k.execute(\"{read}, %s\", ('own',))\n\
         \x20   assert k.fetchall() == [('r-python', 'own')]\n\
         \x20   k.execute(\"SELECT ssn FROM customers WHERE id = %s\", (5,))\n\
         \x20   print(k.fetchall())\n",
        stand.gateway.port
    );
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", setup::connector().unwrap()).args(["-c", &script]);
    let found = python.output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let printed = String::from_utf8_lossy(&found.stdout);
    assert!(printed.lines().count() == 2 && !printed.contains(&shop::customer(5).ssn), "{printed}");
}
