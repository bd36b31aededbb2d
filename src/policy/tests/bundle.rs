//! What the shipped bundles say.

use super::*;
use crate::config::Config;

#[test]
fn what_agents_see() {
    let policies = load(DEFAULT);
    for (facts, expected) in [
        (select(vec![bare(&["id"]), bare(&["name"])]), "allow"),
        (
            select(vec![bare(&["id"]), bare(&["card_number"]), bare(&["ssn"]), bare(&["notes"])]),
            "mask 1=keep-last:4(agents-pci) 2=redact(agents-pii) 3=classify-pii/spans(agents-free-text)",
        ),
        (select(vec![computed(&["card_number"])]), "mask 0=null(agents-pci)"),
        (select(vec![computed(&["id", "notes"])]), "mask 0=null(agents-free-text)"),
        (select(vec![bare(&["name", "card_number"])]), "mask 0=keep-last:4(agents-pci)"),
        (select(vec![bare(&["card_number", "ssn"])]), "mask 0=redact(agents-pii)"),
        (select(vec![bare(&["notes", "card_number"])]), "mask 0=keep-last:4(agents-pci)"),
        (select(vec![bare(&["card_ssn"])]), "mask 0=redact(agents-pii)"),
        (select(vec![bare(&["odd"])]), "mask 0=redact(default-redact)"),
        (select(vec![bare(&["odd_notes"])]), "mask 0=redact(default-redact)"),
        (used("ssn", Place::Where), "deny masked-use"),
        (used("notes", Place::Order), "deny masked-use"),
        (used("id", Place::Where), "allow"),
        (Facts { outputs: None, ..select(vec![]) }, "deny analysis"),
        (Facts { explained: true, ..select(vec![bare(&["id"])]) }, "allow"),
        (Facts { explained: true, ..select(vec![bare(&["ssn"])]) }, "deny masked-explain"),
        (Facts { calls_sensitive: true, ..plain(Verb::Select) }, "deny default-deny"),
    ] {
        check(&policies, "agents", facts, expected);
    }
}

#[test]
fn what_agents_write_and_define() {
    let policies = load(DEFAULT);
    for (facts, expected) in [
        (write(Verb::Insert, "orders"), "allow"),
        (write(Verb::Insert, "payments"), "allow"),
        (write(Verb::Update, "orders"), "allow"),
        (write(Verb::Load, "orders"), "deny default-deny"),
        (
            Facts { has_where: false, ..write(Verb::Update, "orders") },
            "hold agents-bulk-without-where approvers×1",
        ),
        (
            Facts { has_where: false, ..write(Verb::Replace, "orders") },
            "hold agents-bulk-without-where approvers×1",
        ),
        (Facts { upserts: true, ..write(Verb::Insert, "orders") }, "allow"),
        (
            Facts { upserts: true, has_where: false, ..write(Verb::Insert, "orders") },
            "hold agents-bulk-without-where approvers×1",
        ),
        (
            Facts { upserts: true, ..write(Verb::Insert, "payments") },
            "hold agents-bulk-high-value approvers×1",
        ),
        (Facts { upserts: true, key_pinned: true, ..write(Verb::Insert, "payments") }, "allow"),
        (write(Verb::Delete, "payments"), "hold agents-bulk-high-value approvers×1"),
        (Facts { key_pinned: true, ..write(Verb::Delete, "payments") }, "allow"),
        (Facts { assigned: vec![assigned("ssn")], ..write(Verb::Update, "customers") }, "allow"),
        (define(Verb::Drop, "payments"), "hold agents-ddl approvers×1"),
        (define(Verb::Truncate, "orders"), "hold agents-ddl approvers×1"),
        (define(Verb::Alter, "orders"), "hold agents-ddl approvers×1"),
        (define(Verb::Create, "fresh"), "hold agents-ddl approvers×1"),
        (plain(Verb::Drop), "hold agents-ddl approvers×1"),
        (plain(Verb::Grant), "hold agents-grant approvers×1"),
    ] {
        check(&policies, "agents", facts, expected);
    }
}

/// Another group has other rules: no writes at all, two approvers in place of one, no mask of its own.
#[test]
fn what_developers_do() {
    let policies = load(DEFAULT);
    for (facts, expected) in [
        (select(vec![bare(&["id"]), bare(&["name"])]), "allow"),
        (
            select(vec![bare(&["card_number"]), bare(&["ssn"]), bare(&["notes"])]),
            "mask 0=redact(default-redact) 1=redact(default-redact) 2=redact(default-redact)",
        ),
        (used("ssn", Place::Where), "deny masked-use"),
        (write(Verb::Insert, "orders"), "deny default-deny"),
        (Facts { key_pinned: true, ..write(Verb::Delete, "orders") }, "deny default-deny"),
        (define(Verb::Drop, "payments"), "hold developers-ddl approvers×2"),
        (define(Verb::Create, "fresh"), "hold developers-ddl approvers×2"),
        (plain(Verb::Drop), "hold developers-ddl approvers×2"),
        (plain(Verb::Grant), "deny default-deny"),
        (plain(Verb::Call), "deny default-deny"),
        (plain(Verb::Set), "allow"),
        (plain(Verb::Show), "allow"),
    ] {
        check(&policies, "developers", facts, expected);
    }
}

#[test]
fn what_agents_do_without_tables() {
    let policies = load(DEFAULT);
    for (facts, expected) in [
        (plain(Verb::Select), "allow"),
        (plain(Verb::Set), "allow"),
        (plain(Verb::Use), "allow"),
        (plain(Verb::Show), "allow"),
        (plain(Verb::Transaction), "allow"),
        (plain(Verb::Call), "deny default-deny"),
        (plain(Verb::Kill), "deny default-deny"),
        (plain(Verb::Admin), "deny default-deny"),
        (plain(Verb::Prepare), "deny refused-verb"),
        (plain(Verb::Handler), "deny refused-verb"),
        (plain(Verb::Unknown), "deny analysis"),
        (plain(Verb::Insert), "deny default-deny"),
    ] {
        check(&policies, "agents", facts, expected);
    }
}

#[test]
fn the_default_bundle_for_others() {
    let policies = load(DEFAULT);
    for (group, facts, expected) in [
        ("dba", select(vec![bare(&["ssn"]), computed(&["card_number"])]), "allow"),
        ("dba", used("ssn", Place::Where), "allow"),
        ("dba", define(Verb::Drop, "payments"), "allow"),
        ("dba", plain(Verb::Prepare), "deny refused-verb"),
        ("dumpers", select(vec![bare(&["ssn"])]), "allow"),
        ("dumpers", plain(Verb::Prepare), "allow"),
        ("strangers", select(vec![bare(&["id"])]), "deny default-deny"),
        ("strangers", plain(Verb::Select), "deny default-deny"),
        ("approvers", plain(Verb::Select), "deny default-deny"),
    ] {
        check(&policies, group, facts, expected);
    }
}

#[test]
fn what_statements_say_beyond_their_verb() {
    let policies = load(DEFAULT);
    for (verb, text, expected) in [
        (Verb::Show, "SHOW WARNINGS", "deny agents-diagnostics"),
        (Verb::Show, "show errors LIMIT ?", "deny agents-diagnostics"),
        (Verb::Show, "SHOW COUNT(*) WARNINGS", "deny agents-diagnostics"),
        (Verb::Show, "SHOW FULL TABLES FROM `shop`", "allow"),
        (Verb::Show, "SHOW FULL PROCESSLIST", "deny default-deny"),
        (Verb::Show, "SHOW ENGINE innodb STATUS", "deny default-deny"),
        (Verb::Show, "SHOW BINLOG EVENTS", "deny default-deny"),
        (Verb::Show, "DESCRIBE processlist", "allow"),
    ] {
        let analysis = Analysis { digest_text: text.to_owned(), ..analysis(plain(verb)) };
        assert_eq!(told(&rule_on(&policies, "agents", &analysis)), expected, "{text}");
        let of_developers = expected.replace("agents-diagnostics", "default-deny");
        assert_eq!(told(&rule_on(&policies, "developers", &analysis)), of_developers, "{text}");
    }
}

#[test]
fn settings_of_all_sessions_are_administration() {
    let policies = load(DEFAULT);
    for (sets_globally, expected) in [(true, "deny default-deny"), (false, "allow")] {
        check(&policies, "agents", Facts { sets_globally, ..plain(Verb::Set) }, expected);
    }
}

#[test]
fn system_tables() {
    let policies = load(DEFAULT);
    for (schema, name, expected) in [
        ("mysql", "user", "deny agents-system-tables"),
        ("MySQL", "user", "deny agents-system-tables"),
        ("performance_schema", "events_statements_history", "deny agents-system-tables"),
        ("information_schema", "PROCESSLIST", "deny agents-system-tables"),
        ("INFORMATION_SCHEMA", "TABLES", "allow"),
        ("shop", "tables", "allow"),
    ] {
        let table = TableUse { schema: schema.into(), ..table(name, Access::Read) };
        let facts = Facts { verb: Verb::Select, tables: vec![table], ..Facts::default() };
        check(&policies, "agents", facts.clone(), expected);
        check(&policies, "developers", facts, expected);
    }
}

#[test]
fn a_swap_to_open_cards() {
    let policies = load(OPEN_CARDS);
    let facts = select(vec![bare(&["card_number"]), bare(&["ssn"])]);
    check(&policies, "agents", facts, "mask 1=redact(agents-pii)");
    check(&policies, "agents", used("card_number", Place::Where), "allow");
}

#[test]
fn unknown_is_denied_to_the_governed_alone() {
    let policies = load(DEFAULT);
    let mut analysis = analysis(select(vec![bare(&["id"])]));
    analysis.unknown = Some(Unknown::MultiStatement);
    assert_eq!(told(&rule_on(&policies, "agents", &analysis)), "deny analysis");
    assert_eq!(told(&rule_on(&policies, "dba", &analysis)), "deny analysis");
    let verdict = rule_on(&policies, "dumpers", &analysis);
    assert_eq!(told(&verdict), "allow");
    assert!(!verdict.governed);
    assert_eq!(verdict.rules, ["dumpers"]);
}

#[test]
fn shipped_labels_fit_the_shipped_bundles() {
    let defaults = include_str!("../../../policies/default-labels.toml");
    let minimum = "version = 1\nstore.path = \"s\"\naudit.dir = \"a\"\npolicy.files = [\"p\"]\n\
                   [[targets]]\nname = \"t\"\nlisten = \"127.0.0.1:1\"\naddress = \"[::1]:3306\"\n\
                   user = \"u\"\npassword = \"env:P\"\ntls = \"off\"\n";
    for text in [Config::SAMPLE.to_owned(), format!("{minimum}{defaults}")] {
        let config = Config::parse(&text, "rowgate.toml").unwrap();
        let (rules, labels) = LabelRules::new(&config.labels).unwrap();
        for bundle in [DEFAULT, OPEN_CARDS] {
            load(bundle).check_labels(&labels).unwrap();
        }
        let ssn = rules.column_labels("shop", "customers", "ssn");
        assert!(labels.names(ssn).contains(&"pii"), "{ssn:?}");
    }
}

#[test]
fn whose_rows_are_recorded() {
    let policies = load(DEFAULT);
    let records = |policies: &Policies, group: &str| {
        rule_on(policies, group, &analysis(select(vec![bare(&["id"])]))).records_rows
    };
    for (group, wanted) in
        [("agents", true), ("developers", true), ("dba", false), ("dumpers", false)]
    {
        assert_eq!(records(&policies, group), wanted, "{group}");
    }
    // A permit of everything is none of this.
    let all = load("@id(\"all\") permit (principal, action, resource);");
    assert!(!records(&all, "agents"));
}
