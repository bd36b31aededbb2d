//! What policies mean: who wins, what a mask or an approval does, what is refused at load.

use super::*;
use crate::config::ApprovalMode;

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
fn of_several_modes_the_one_that_holds_least_counts() {
    let hold = |id: &str, mode: &str| {
        format!(
            "@id(\"{id}\") @approve(\"dba\") {mode} forbid (principal, action in Action::\"ddl\", resource);"
        )
    };
    let (wait, ticket, both) =
        ("@mode(\"wait\")", "@mode(\"ticket\")", "@mode(\"wait-then-ticket\")");
    for (modes, expected) in [
        (vec![""], None),
        (vec![wait], Some(ApprovalMode::Wait)),
        (vec!["", wait], Some(ApprovalMode::Wait)),
        (vec![wait, both], Some(ApprovalMode::WaitThenTicket)),
        (vec![both, wait, ticket], Some(ApprovalMode::Ticket)),
    ] {
        let rules = modes.iter().enumerate().map(|(at, mode)| hold(&format!("h{at}"), mode));
        let policies = load(&format!("{ALL}{}", rules.collect::<String>()));
        let verdict = rule_on(&policies, "agents", &analysis(define(Verb::Drop, "orders")));
        let Effect::Hold(hold) = verdict.effect else { panic!("{modes:?}: {verdict:?}") };
        assert_eq!(hold.mode, expected, "{modes:?}");
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
            Facts { assigned: vec![assigned("ssn")], ..write(Verb::Update, "customers") },
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
            run: Run::default(),
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
            "p.cedar: policy a: unknown annotation @colour; use @id, @message, @mask, @approve, @mode or @passthrough",
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
