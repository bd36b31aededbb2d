//! Whose run a statement is of: read from comments as well, told to policies, and no way past a rule. Who says that it acts
//! for another person needs a permit of that name.

use rowgate::codec::{Capabilities, write_lenenc_bytes};
use xtask::shop;

use crate::attributes::{self, MORE, STRING, stand_with_attributes};
use crate::stand::{Flavour, Stand, on_both};
use crate::wire::{Wire, text};

on_both!(
    comments_are_recorded_and_strings_are_not,
    a_demanded_purpose_is_no_matter_of_the_cache,
    a_mask_hangs_on_what_this_statement_says,
    nobody_speaks_for_another_without_a_permit,
    whom_it_is_for_does_not_approve_it,
);

const SEVERAL: u64 = Capabilities::MULTI_STATEMENTS | Capabilities::MULTI_RESULTS;

const PURPOSE: &str = r#"@id("say-for-what")
forbid (principal in Group::"agents", action == Action::"select", resource)
unless { context.run has purpose && context.run.purpose == "audit" };"#;

const SUPPORT: &str = r#"@id("support-all")
permit (principal in Group::"support", action, resource);
@id("support-masked")
@mask("redact")
forbid (principal in Group::"support", action == Action::"reveal", resource)
unless { context.run has purpose && context.run.purpose == "support" };"#;

const PORTAL: &str = r#"@id("portal-speaks")
permit (principal == Identity::"portal", action == Action::"on-behalf-of", resource == Target::"shop")
when { ["alice", "carol"].contains(context.person) };"#;

fn query(wire: &mut Wire, sql: &str) -> String {
    text(&wire.query(sql))
}

/// COM_STMT_PREPARE; its answer, where that is an error.
fn refused_prepare(wire: &mut Wire, sql: &str) -> String {
    wire.command(0x16, sql.as_bytes());
    text(&[wire.packet()])
}

fn record(stand: &Stand) -> String {
    stand.gateway.cli_ok(&["audit", "tail", "-n", "200", "--output", "json"]).unwrap()
}

fn comments_are_recorded_and_strings_are_not(flavour: Flavour) {
    let stand = Stand::on(flavour);
    let token = stand.token("agent", "agents");
    let mut wire = Wire::login(stand.gateway.port, "agent;run=42", &token, SEVERAL);
    let told = r#""attributes":[["run_id","r-7"],["purpose","a b"]]"#;
    let sql = "SELECT 'shown' /*run_id='r-7',purpose='a%20b',route='x'*/";
    for _ in 0..4 {
        assert!(query(&mut wire, sql).contains("shown"));
    }
    assert_eq!(record(&stand).matches(told).count(), 4, "{}", record(&stand));
    let (id, _) = wire.prepare("/*run_id='r-7',purpose='a%20b'*/ SELECT 'again'");
    (0..2).for_each(|_| assert!(text(&wire.execute(id, 0)).contains("again")));
    assert_eq!(record(&stand).matches(told).count(), 7, "{}", record(&stand));

    let several = "SELECT 1 /*run_id='r-1'*/; SELECT 2; /*run_id='r-3'*/ SELECT 3 /* ; */";
    let answer = query(&mut wire, several);
    assert!(!answer.contains("Rowgate"), "{answer}");
    for (id, count) in [("r-1", 1), ("r-3", 1), ("r-7", 7)] {
        let found = format!(r#""attributes":[["run_id","{id}"]"#);
        assert_eq!(record(&stand).matches(&found).count(), count, "{id}");
    }
    for sql in [
        r"SELECT '/*run_id=\'never\'*/'",
        "SELECT \"/*run_id='never'*/\"",
        "SELECT 1 /*!99999,run_id='never'*/",
        "SELECT 1 -- /*run_id='never'*/",
        "SELECT 1 /*run_id='never'x*/",
    ] {
        query(&mut wire, sql);
    }
    assert!(!record(&stand).contains("never"), "{}", record(&stand));
    let lines = stand.gateway.cli_ok(&["audit", "tail", "-n", "200"]).unwrap();
    assert!(lines.contains("attributes: 0 run_id=r-7 purpose=a b"), "{lines}");
}

fn a_demanded_purpose_is_no_matter_of_the_cache(flavour: Flavour) {
    let stand = Stand::on(flavour);
    stand.add_rules(PURPOSE);
    let token = stand.token("agent", "agents");
    let login = |user: &str| Wire::login(stand.gateway.port, user, &token, SEVERAL);
    let (mut plain, mut audits) = (login("agent"), login("agent;purpose=audit"));
    let is_refused = |answer: &str| {
        assert_ne!(answer.contains("say-for-what"), answer.contains("state-of-it"), "{answer}");
        answer.contains("say-for-what")
    };
    // Each of them often enough to be found in every cache.
    for _ in 0..4 {
        for (comment, without, with) in [
            ("", true, false),
            ("/*purpose='audit'*/", false, false),
            ("/*purpose='fun'*/", true, true),
            ("/*purpose='audit'x*/", true, false),
            ("/*run_id='audit'*/", true, false),
        ] {
            let sql = format!("SELECT 'state-of-it', state FROM shop.orders LIMIT 1 {comment}");
            assert_eq!(is_refused(&query(&mut plain, &sql)), without, "{comment}");
            assert_eq!(is_refused(&query(&mut audits, &sql)), with, "{comment}");
        }
    }
    let sql = "SELECT 'state-of-it', state FROM shop.orders LIMIT 1";
    let (id, _) = plain.prepare(&format!("{sql} /*purpose='audit'*/"));
    assert!(!is_refused(&text(&plain.execute(id, 0))));
    assert!(!is_refused(&text(&plain.execute(id, 0))));
    assert!(refused_prepare(&mut plain, sql).contains("say-for-what"));
    assert!(
        refused_prepare(&mut audits, &format!("{sql} /*purpose='fun'*/")).contains("say-for-what")
    );
    // One refusal refuses all of several, and none has another's comment.
    let several = format!("{sql} /*purpose='audit'*/; {sql}");
    let answer = query(&mut plain, &several);
    assert!(answer.contains("say-for-what") && !answer.contains("state-of-it"), "{answer}");
    let several = format!("{sql} /*purpose='audit'*/; {sql} /*purpose='audit'*/");
    assert_eq!(query(&mut plain, &several).matches("state-of-it").count(), 4);
}

fn a_mask_hangs_on_what_this_statement_says(flavour: Flavour) {
    let stand = Stand::on(flavour);
    stand.add_rules(SUPPORT);
    let token = stand.token("sue", "support");
    let mut wire = Wire::login(stand.gateway.port, "sue", &token, SEVERAL);
    let ssn = shop::customer(5).ssn;
    for _ in 0..4 {
        for (comment, clear) in [
            ("/*purpose='support'*/", true),
            ("", false),
            ("/*purpose='fun'*/", false),
            ("/*pipeline='support'*/", false),
        ] {
            for columns in ["ssn", "id, ssn"] {
                let sql = format!("SELECT {columns} FROM shop.customers WHERE id = 5 {comment}");
                assert_eq!(query(&mut wire, &sql).contains(&ssn), clear, "{sql}");
            }
        }
    }
}

/// Of the same text, by what comes in front of it; and the rows of a cursor are of the run that opened it.
#[test]
fn query_attributes_win_over_comments_and_comments_over_logins() {
    let Some(stand) = stand_with_attributes() else { return };
    stand.add_rules(SUPPORT);
    let token = stand.token("sue", "support");
    let login = |user: &str| Wire::login(stand.gateway.port, user, &token, MORE);
    let (mut plain, mut support) = (login("sue"), login("sue;purpose=support"));
    let ssn = shop::customer(5).ssn;
    for _ in 0..4 {
        for (attribute, comment, clear, clear_by_login) in [
            ("support", "", true, true),
            ("fun", "", false, false),
            ("", "", false, true),
            ("support", "/*purpose='fun'*/", true, true),
            ("fun", "/*purpose='support'*/", false, false),
            ("", "/*purpose='support'*/", true, true),
            ("", "/*purpose='fun'*/", false, false),
        ] {
            let sql = format!("SELECT ssn FROM shop.customers WHERE id = 5 {comment}");
            for (wire, clear) in [(&mut plain, clear), (&mut support, clear_by_login)] {
                let pairs = [("purpose", attribute)];
                let sent = if attribute.is_empty() { &pairs[1..] } else { &pairs[..] };
                let answer = attributes::ask(wire, sent, &sql);
                assert_eq!(answer.contains(&ssn), clear, "{attribute} {comment}: {answer}");
            }
        }
    }
    let won = r#""attribute_count":1,"attributes":[["purpose","support"]]"#;
    assert!(record(&stand).contains(won), "{}", record(&stand));

    // (It was prepared before there was a rule that would have refused that, since a PREPARE has no attributes.)
    let sql = "SELECT ssn FROM shop.customers WHERE id IN (5, 6)";
    let (id, _) = plain.prepare(sql);
    let rule = SUPPORT.replace("@mask(\"redact\")\n", "").replace("reveal", "select");
    stand.add_rules(&rule.replace("support-all", "all-2").replace("support-masked", "no-select"));
    let mut opened = |purpose: &str| {
        let mut body = [&id.to_le_bytes()[..], &[8 | 1, 1, 0, 0, 0, 1, 0, 1]].concat();
        body.extend_from_slice(&STRING);
        write_lenenc_bytes(&mut body, b"purpose");
        write_lenenc_bytes(&mut body, purpose.as_bytes());
        plain.command(0x17, &body);
        text(&plain.answer())
    };
    let refused = opened("fun");
    assert!(refused.contains("no-select"), "{refused}");
    let answer = opened("support");
    assert!(!answer.contains("no-select"), "{answer}");
    assert!(text(&plain.fetch(id, 1)).contains(&ssn));
    // What its login says counts no more than that, at the cursor's rows as well.
    let mut other = login("sue;purpose=fun");
    let (id, _) = other.prepare(&format!("{sql} /*purpose='support'*/"));
    let answer = text(&other.execute(id, 1));
    assert!(!answer.contains("no-select"), "{answer}");
    assert!(text(&other.fetch(id, 1)).contains(&ssn));
}

fn nobody_speaks_for_another_without_a_permit(flavour: Flavour) {
    let stand = Stand::on(flavour);
    stand.add_rules(PORTAL);
    let write = "UPDATE shop.orders SET state = 'unasked' WHERE id = 1";
    let ran = || {
        let seen = stand.database.sql("SELECT state FROM shop.orders WHERE id = 1");
        seen.unwrap().contains("unasked")
    };
    let refused = |answer: &str| answer.contains("#42000Rowgate [RG-BEHALF]");
    for (user, group) in [("agent", "agents"), ("portal", "agents"), ("backup", "dumpers")] {
        let token = stand.token(user, group);
        let mut wire = Wire::login(stand.gateway.port, user, &token, SEVERAL);
        for text in [
            format!("{write} /*on_behalf_of='mallory'*/"),
            format!("{write} /*on_behalf_of='carol%0A'*/"),
            format!("{write}; SELECT 1 /*on_behalf_of='mallory'*/"),
            format!("BEGIN; {write}; COMMIT; SELECT 1 /*on_behalf_of='mallory'*/"),
        ] {
            for _ in 0..3 {
                let answer = query(&mut wire, &text);
                assert!(refused(&answer), "{user}: {text}: {answer}");
            }
        }
        let answer = refused_prepare(&mut wire, "SELECT 1 /*on_behalf_of='mallory'*/");
        assert!(refused(&answer), "{user}: {answer}");
        let login = format!("{user};on_behalf_of=mallory");
        let answer = stand.sql_refused(&login, &token, "SELECT 1");
        assert!(answer.contains("RG-BEHALF"), "{user}: {answer}");
        assert!(!ran(), "{user}'s write ran");
        // Whoever may speak for some does, and others still don't.
        let mut wire = Wire::login(stand.gateway.port, user, &token, 0);
        for _ in 0..3 {
            let answer = query(&mut wire, "SELECT 'said' /*on_behalf_of='carol'*/");
            assert_eq!(answer.contains("said"), user == "portal", "{user}: {answer}");
            assert_eq!(refused(&answer), user != "portal", "{user}: {answer}");
        }
        assert!(query(&mut wire, "SELECT 'said'").contains("said"));
    }
    let record = record(&stand);
    let intents = || record.lines().filter(|line| line.contains(r#"["on_behalf_of","carol"]"#));
    let permitted = intents().filter(|line| line.contains(r#""portal-speaks""#));
    assert!(permitted.count() == 3 && intents().count() > 3, "{record}");
    let lies = record.lines().filter(|line| line.contains(r#"["on_behalf_of","mallory"]"#));
    let lies: Vec<_> = lies.filter(|line| line.contains(r#""verdict":"#)).collect();
    assert!(!lies.is_empty(), "{record}");
    assert!(lies.iter().all(|line| line.contains(r#""verdict":"deny""#)), "{lies:?}");
}

fn whom_it_is_for_does_not_approve_it(flavour: Flavour) {
    let stand = Stand::on_with(flavour, |options| options.wait_s = 1);
    stand.add_rules(PORTAL);
    let token = stand.token("portal", "agents");
    let mut wire = Wire::login(stand.gateway.port, "portal", &token, 0);
    let mut ask = |comment: &str| {
        query(&mut wire, &format!("ALTER TABLE shop.orders ADD COLUMN gift TINYINT {comment}"))
    };
    // The admin socket maps this process's user to alice.
    let asked = ask("/*on_behalf_of='alice'*/");
    assert!(asked.contains("RG-TICKET"), "{asked}");
    let id = stand.pending();
    let shown = stand.gateway.cli_ok(&["approvals", "show", &id]).unwrap();
    assert!(shown.contains("on behalf of") && shown.contains("alice"), "{shown}");
    let output = stand.gateway.cli(&["approvals", "approve", &id]).unwrap();
    assert!(!output.status.success(), "alice approved what is for her");
    assert!(String::from_utf8_lossy(&output.stderr).contains("on behalf of alice"), "{output:?}");
    stand.gateway.cli_ok(&["approvals", "cancel", &id]).unwrap();
    // What she approves for others is good for them alone.
    assert!(ask("/*on_behalf_of='carol'*/").contains("RG-TICKET"));
    let id = stand.pending();
    stand.gateway.cli_ok(&["approvals", "approve", &id]).unwrap();
    for other in ["", "/*on_behalf_of='alice'*/"] {
        let refused = ask(other);
        assert!(refused.contains("RG-TICKET") && !refused.contains(&id), "{other}: {refused}");
    }
    let ran = ask("/*on_behalf_of='carol',run_id='another'*/");
    assert!(ran.starts_with("1:\\x00"), "{ran}");
}
