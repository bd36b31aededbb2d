//! Verdicts as data: a policy, who, what, and what comes of it. Facts are made by hand here, so that these
//! tests are about the policies alone.

use std::collections::BTreeMap;

use super::*;
use crate::identity::PrincipalKind;
use crate::schema::LabelSet;
use crate::sql::{
    Access, ColumnRef, ColumnUse, Digest, Facts, Lineage, Output, Place, TableUse, Unknown, Verb,
};

const DEFAULT: &str = include_str!("../../policies/default.cedar");
const OPEN_CARDS: &str = include_str!("../../policies/open-cards.cedar");

fn labels() -> Labels {
    let mut labels = Labels::default();
    for name in ["pci", "pii", "free-text", "high-value", "odd"] {
        labels.intern(name).unwrap();
    }
    labels
}

fn set(names: &[&str]) -> LabelSet {
    let mut set = LabelSet::EMPTY;
    names.iter().for_each(|name| set.insert(labels().find(name).unwrap()));
    set
}

fn table(name: &str, access: Access) -> TableUse {
    let (table_labels, labels) = match name {
        "customers" => (LabelSet::EMPTY, set(&["pci", "pii", "free-text"])),
        "payments" => (set(&["high-value"]), set(&["high-value"])),
        _ => (LabelSet::EMPTY, LabelSet::EMPTY),
    };
    TableUse {
        schema: "shop".into(),
        name: name.into(),
        access,
        labels,
        table_labels,
        sensitive: !labels.is_empty(),
        estimated_rows: 2_000,
    }
}

fn column(name: &str) -> ColumnRef {
    let labels = match name {
        "card_number" => set(&["pci"]),
        "ssn" | "email" => set(&["pii"]),
        "notes" => set(&["free-text"]),
        "odd" => set(&["odd"]),
        "odd_notes" => set(&["free-text", "odd"]),
        "card_ssn" => set(&["pci", "pii"]),
        _ => LabelSet::EMPTY,
    };
    ColumnRef { schema: "shop".into(), table: "customers".into(), name: name.into(), labels }
}

fn bare(names: &[&str]) -> Output {
    let columns = names.iter().map(|name| column(name)).collect();
    Output { name: Some(names[0].to_owned()), lineage: Lineage::Bare(columns) }
}

fn computed(names: &[&str]) -> Output {
    let columns = names.iter().map(|name| column(name)).collect();
    Output { name: None, lineage: Lineage::Computed(columns) }
}

fn select(outputs: Vec<Output>) -> Facts {
    Facts {
        verb: Verb::Select,
        tables: vec![table("customers", Access::Read)],
        outputs: Some(outputs),
        ..Facts::default()
    }
}

fn write(verb: Verb, name: &str) -> Facts {
    Facts { verb, tables: vec![table(name, Access::Write)], has_where: true, ..Facts::default() }
}

fn define(verb: Verb, name: &str) -> Facts {
    Facts { verb, tables: vec![table(name, Access::Define)], ..Facts::default() }
}

fn plain(verb: Verb) -> Facts {
    Facts { verb, ..Facts::default() }
}

fn used(name: &str, place: Place) -> Facts {
    let uses = vec![ColumnUse { column: column(name), place }];
    Facts { uses, ..select(vec![bare(&["id"])]) }
}

fn analysis(facts: Facts) -> Analysis {
    Analysis {
        canonical: None,
        digest: Digest::default(),
        digest_text: String::new(),
        facts,
        unknown: None,
    }
}

fn principal(subject: &str, groups: &[&str]) -> Principal {
    Principal {
        subject: subject.to_owned(),
        kind: PrincipalKind::Agent,
        groups: groups.iter().map(ToString::to_string).collect(),
        attributes: BTreeMap::new(),
    }
}

fn load(text: &str) -> Policies {
    let policies = Policies::load(&[("p.cedar", text)]).unwrap_or_else(|e| panic!("{e}"));
    policies.check_labels(&labels()).unwrap();
    policies
}

fn rule_on(policies: &Policies, group: &str, analysis: &Analysis) -> Verdict {
    let (principal, labels) = (principal("bot", &[group]), labels());
    policies.decide(&Request {
        principal: &principal,
        target: "shop",
        analysis,
        labels: &labels,
        source: "127.0.0.1",
        now_us: 1_700_000_000_000_000,
    })
}

/// `allow`, `mask 0=redact(agents-pii) 2=…`, `deny rule`, `hold rule groups×n`.
fn told(verdict: &Verdict) -> String {
    let plan = verdict.mask.iter().flat_map(|plan| &plan.columns);
    let masks: String = plan.map(|c| format!(" {}={}({})", c.index, c.mask, c.rule)).collect();
    match &verdict.effect {
        Effect::Allow if masks.is_empty() => "allow".to_owned(),
        Effect::Allow => format!("mask{masks}"),
        Effect::Deny { rule, .. } => format!("deny {rule}"),
        Effect::Hold(hold) => {
            let groups = hold.approver_groups.join("+");
            format!("hold {} {groups}×{}{masks}", hold.rule, hold.approvers)
        }
    }
}

fn check(policies: &Policies, group: &str, facts: Facts, expected: &str) {
    let shown = format!("{group}: {facts:?}");
    assert_eq!(told(&rule_on(policies, group, &analysis(facts))), expected, "{shown}");
}

#[test]
fn the_default_bundle_for_agents() {
    let policies = load(DEFAULT);
    for (facts, expected) in [
        (select(vec![bare(&["id"]), bare(&["name"])]), "allow"),
        (
            select(vec![bare(&["id"]), bare(&["card_number"]), bare(&["ssn"]), bare(&["notes"])]),
            "mask 1=keep-last:4(agents-pci) 2=redact(agents-pii) 3=classify-pii/spans(agents-free-text)",
        ),
        (select(vec![computed(&["card_number"])]), "mask 0=redact(agents-pci)"),
        (select(vec![computed(&["id", "notes"])]), "mask 0=redact(agents-free-text)"),
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
        (write(Verb::Insert, "orders"), "allow"),
        (write(Verb::Insert, "payments"), "allow"),
        (write(Verb::Update, "orders"), "allow"),
        (write(Verb::Load, "orders"), "deny default-deny"),
        (
            Facts { has_where: false, ..write(Verb::Update, "orders") },
            "hold agents-bulk-without-where approvers×1",
        ),
        (write(Verb::Delete, "payments"), "hold agents-bulk-high-value approvers×1"),
        (Facts { key_pinned: true, ..write(Verb::Delete, "payments") }, "allow"),
        (Facts { assigned: vec![column("ssn")], ..write(Verb::Update, "customers") }, "allow"),
        (define(Verb::Drop, "payments"), "hold agents-ddl approvers×1"),
        (define(Verb::Truncate, "orders"), "hold agents-ddl approvers×1"),
        (define(Verb::Alter, "orders"), "hold agents-ddl approvers×1"),
        (define(Verb::Create, "fresh"), "hold agents-ddl approvers×1"),
        (plain(Verb::Drop), "hold agents-ddl approvers×1"),
        (plain(Verb::Grant), "hold agents-grant approvers×1"),
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
        (Verb::Set, "SET GLOBAL max_connections = ?", "deny default-deny"),
        (Verb::Set, "SET @@global.sql_mode = ?", "deny default-deny"),
        (Verb::Set, "SET autocommit = ?", "allow"),
        (Verb::Show, "SHOW WARNINGS", "deny agents-diagnostics"),
        (Verb::Show, "show errors LIMIT ?", "deny agents-diagnostics"),
        (Verb::Show, "SHOW TABLES", "allow"),
    ] {
        let analysis = Analysis { digest_text: text.to_owned(), ..analysis(plain(verb)) };
        assert_eq!(told(&rule_on(&policies, "agents", &analysis)), expected, "{text}");
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
        check(&policies, "agents", facts, expected);
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
fn governed() {
    let policies = load(DEFAULT);
    assert!(policies.governed(&principal("a", &["agents"]), "shop"));
    assert!(policies.governed(&principal("a", &["dba"]), "shop"), "permit all is no passthrough");
    assert!(policies.governed(&principal("a", &[]), "shop"));
    assert!(!policies.governed(&principal("a", &["dumpers"]), "shop"));
    let one = "@id(\"p\") @passthrough permit (principal == Identity::\"a\", \
               action == Action::\"passthrough\", resource == Target::\"shop\");";
    let policies = load(one);
    assert!(!policies.governed(&principal("a", &[]), "shop"));
    assert!(policies.governed(&principal("a", &[]), "other"));
    assert!(policies.governed(&principal("b", &[]), "shop"));
}

#[test]
fn a_condition_that_errs_denies() {
    // Cedar skips a forbid whose condition errs (here: an overflow) and would allow the request.
    let policies = load(
        "@id(\"all\") permit (principal, action, resource);
         @id(\"errs\") forbid (principal, action == Action::\"select\", resource)
         when { context.estimated_rows * 9223372036854775807 > 0 };",
    );
    let verdict = rule_on(&policies, "agents", &analysis(select(vec![bare(&["id"])])));
    assert_eq!(told(&verdict), "deny cedar-error");
    let policies = load(
        "@id(\"all\") permit (principal, action, resource);
         @id(\"errs\") @mask(\"redact\") forbid (principal, action == Action::\"reveal\", resource)
         when { context.time.unix * 9223372036854775807 > 0 };",
    );
    let verdict = rule_on(&policies, "agents", &analysis(select(vec![bare(&["ssn"])])));
    assert_eq!(told(&verdict), "deny cedar-error");
}

#[test]
fn nothing_loaded_denies_everything() {
    let policies = load("");
    check(&policies, "dba", plain(Verb::Select), "deny default-deny");
}

const ALL: &str = "@id(\"all\") permit (principal, action, resource);";

#[test]
fn deny_beats_hold_and_holds_add_up() {
    let hold = |id: &str, approve: &str| {
        format!(
            "@id(\"{id}\") @approve(\"{approve}\") forbid (principal, action in Action::\"ddl\", resource);"
        )
    };
    let deny =
        "@id(\"no\") @message(\"never\") forbid (principal, action == Action::\"drop\", resource);";
    for (text, expected) in [
        (format!("{ALL}{}", hold("h", "dba")), "hold h dba×1"),
        (format!("{ALL}{}{}", hold("h", "dba,sec"), hold("g", "sec,3")), "hold g sec×3"),
        (format!("{ALL}{}{}", hold("h", "2"), hold("g", "sec")), "hold g sec×2"),
        (format!("{ALL}{}{}", hold("h", "dba"), hold("g", "sec")), "deny approval-conflict"),
        (format!("{ALL}{}{deny}", hold("h", "dba")), "deny no"),
        // No permit: an approval lifts the forbid, not the default deny.
        (hold("h", "dba"), "deny default-deny"),
    ] {
        check(&load(&text), "agents", define(Verb::Drop, "orders"), expected);
    }
}

#[test]
fn a_held_statement_is_masked_when_it_runs() {
    let policies = load(&format!(
        "{ALL} @id(\"h\") @approve(\"dba\") forbid (principal, action == Action::\"select\", resource);
         @id(\"m\") @mask(\"hash\") forbid (principal, action == Action::\"reveal\", resource);"
    ));
    check(&policies, "agents", select(vec![bare(&["ssn"])]), "hold h dba×1 0=hash(m)");
}

#[test]
fn columns_refused_held_and_opened() {
    let forbid = "forbid (principal, action == Action::\"reveal\", resource)";
    let lax = format!("@id(\"m\") @mask(\"hash\") {forbid};");
    for (text, facts, expected) in [
        (format!("{ALL}@id(\"f\") {forbid};"), select(vec![bare(&["ssn"])]), "deny f"),
        (format!("{ALL}@id(\"f\") {forbid};{lax}"), select(vec![bare(&["ssn"])]), "deny f"),
        (
            format!("{ALL}@id(\"h\") @approve(\"sec,2\") {forbid};"),
            select(vec![bare(&["ssn"])]),
            "hold h sec×2",
        ),
        (
            format!("{ALL}@id(\"h\") @approve(\"sec,2\") {forbid};{lax}"),
            select(vec![bare(&["ssn"])]),
            "mask 0=hash(m)",
        ),
        // `all` permits the action `use`, so the masked column may be used; a forbid closes it again.
        (format!("{ALL}{lax}"), used("ssn", Place::Where), "allow"),
        (
            format!(
                "{ALL}{lax}@id(\"u\") forbid (principal, action == Action::\"use\", resource) \
                 when {{ context.place != \"where\" }};"
            ),
            used("ssn", Place::Order),
            "deny u",
        ),
        (
            format!("{ALL}@id(\"a\") forbid (principal, action == Action::\"assign\", resource);"),
            Facts { assigned: vec![column("ssn")], ..write(Verb::Update, "customers") },
            "deny a",
        ),
    ] {
        check(&load(&text), "agents", facts, expected);
    }
}

#[test]
fn a_detector_needs_a_permit_besides() {
    let spans = "@id(\"rows\") permit (principal, action == Action::\"select\", resource);
         @id(\"s\") @mask(\"classify-pii/spans\") forbid (principal, action == Action::\"reveal\", resource);";
    let facts = || select(vec![bare(&["notes"])]);
    check(&load(spans), "agents", facts(), "mask 0=redact(default-redact)");
    let permit = "@id(\"r\") permit (principal, action == Action::\"reveal\", resource);";
    let text = format!("{spans}{permit}");
    check(&load(&text), "agents", facts(), "mask 0=classify-pii/spans(s)");
}

#[test]
fn the_plan_says_what_the_session_needs() {
    let facts = select(vec![bare(&["id"]), bare(&["card_number"]), bare(&["notes"])]);
    let plan = rule_on(&load(DEFAULT), "agents", &analysis(facts)).mask.unwrap();
    let names: Vec<_> = plan.outputs.iter().map(Option::as_deref).collect();
    assert_eq!(names, [Some("id"), Some("card_number"), Some("notes")]);
    assert_eq!((plan.columns[0].index, plan.columns[0].may_keep), (1, Some(4)));
    assert_eq!(plan.columns[0].label_names, ["pci"]);
    assert_eq!((plan.columns[1].index, plan.columns[1].may_keep), (2, None));
}

#[test]
fn who_and_where_count() {
    let policies = load(
        "@id(\"a\") permit (principal is Identity in Group::\"agents\", action == Action::\"select\",
                           resource in Target::\"shop\")
         when { principal.hasTag(\"run\") && principal.getTag(\"run\") == \"42\"
                && principal.kind == \"agent\" && context.source like \"127.*\" };",
    );
    let facts = analysis(select(vec![bare(&["id"])]));
    assert_eq!(told(&rule_on(&policies, "agents", &facts)), "deny default-deny");
    let mut who = principal("bot", &["agents"]);
    who.attributes.insert("run".into(), "42".into());
    let ask = |who: &Principal, target, source| {
        let labels = labels();
        let (analysis, now_us) = (&facts, 0);
        told(&policies.decide(&Request {
            principal: who,
            target,
            analysis,
            labels: &labels,
            source,
            now_us,
        }))
    };
    assert_eq!(ask(&who, "shop", "127.0.0.1"), "allow");
    assert_eq!(ask(&who, "other", "127.0.0.1"), "deny default-deny");
    assert_eq!(ask(&who, "shop", "10.0.0.1"), "deny default-deny");
}

#[test]
fn memos_tell_principals_apart() {
    let policies = load(DEFAULT);
    let facts = || select(vec![bare(&["ssn"])]);
    for _ in 0..2 {
        check(&policies, "agents", facts(), "mask 0=redact(agents-pii)");
        check(&policies, "dba", facts(), "allow");
    }
}

#[test]
fn time_is_utc_and_not_cacheable() {
    // 1_700_000_000 is Tuesday 2023-11-14 22:13:20 UTC.
    let policies = load(
        "@id(\"t\") permit (principal, action, resource)
         when { context has time && context.time.hour == 22 && context.time.minute == 13 && context.time.weekday == 2 };",
    );
    let verdict = rule_on(&policies, "agents", &analysis(plain(Verb::Select)));
    assert_eq!(told(&verdict), "allow");
    assert!(!verdict.cacheable);
    assert!(rule_on(&load(DEFAULT), "agents", &analysis(plain(Verb::Select))).cacheable);
}

#[test]
fn names_with_dots_are_not_other_names() {
    let policies = load(
        "@id(\"a\") permit (principal, action == Action::\"select\", resource == Table::\"a.b.c\");",
    );
    let named = |schema: &str, name: &str| {
        let table = TableUse { schema: schema.into(), ..table(name, Access::Read) };
        Facts { verb: Verb::Select, tables: vec![table], ..Facts::default() }
    };
    check(&policies, "agents", named("a.b", "c"), "deny default-deny");
    check(&policies, "agents", named("a", "b.c"), "deny default-deny");
}

#[test]
fn bad_bundles_are_refused_in_one_line() {
    let reveal = "action == Action::\"reveal\"";
    for (text, wanted) in [
        ("permit (principal, action", "p.cedar: line 1, column "),
        ("permit (principal, action, resource);", "p.cedar: policy number 1 has no @id; put @id"),
        (
            "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") permit (principal, action, resource);",
            "p.cedar: policy a: the @id is also that of a policy in p.cedar; give each its own",
        ),
        (
            "@id(\"a\") @colour(\"red\") permit (principal, action, resource);",
            "p.cedar: policy a: unknown annotation @colour; use @id, @message, @mask, @approve or @passthrough",
        ),
        (
            "@id(\"a\") permit (principal, action, resource) when { context.has_were };",
            "p.cedar: policy a: ",
        ),
        (
            "@id(\"a\") permit (principal, action == Action::\"selec\", resource);",
            "p.cedar: policy a: ",
        ),
        (
            "@id(\"a\") permit (principal, action == Action::\"select\", resource) when { context.limit > 3 };",
            "p.cedar: policy a: ",
        ),
        ("@id(\"a\") permit (principal == ?principal, action, resource);", "p.cedar: templates"),
        (&format!("@id(\"a\") @mask(\"x y\") forbid (principal, {reveal}, resource);"), "@mask"),
    ] {
        let error = Policies::load(&[("p.cedar", text)]).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains("; "), "{text}\n{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn misspelt_labels_and_absent_masks_are_refused() {
    let text =
        "@id(\"a\") @mask(\"redact\") forbid (principal, action == Action::\"reveal\", resource)
                when { resource.labels.contains(\"pcii\") };";
    let policies = Policies::load(&[("p.cedar", text)]).unwrap();
    let error = policies.check_labels(&labels()).unwrap_err().to_string();
    assert!(
        error.starts_with("p.cedar: policy a: label \"pcii\" is not declared; add [["),
        "{error}"
    );
    let error = policies.check_masks(&NoPlugins).unwrap_err().to_string();
    assert!(error.contains("@mask(\"redact\"): plugin mask-standard is not loaded"), "{error}");
}
