//! What clients say of their runs: a rule may demand it, and nobody speaks for another without a permit.

use super::*;
use crate::run::Names;

const PERMIT: &str = "@id(\"all\") permit (principal, action, resource);";
const PURPOSE: &str =
    "@id(\"say-for-what\") forbid (principal, action == Action::\"select\", resource)
                       unless { context.run has purpose && context.run.purpose != \"fun\" };";
const PORTAL: &str = "@id(\"portal\") permit (principal == Identity::\"bot\", action == Action::\"on-behalf-of\",
                                              resource == Target::\"shop\")
                      when { context.person like \"*@example.org\" && context.source == \"127.0.0.1\" };";
const UNGOVERNED: &str =
    "@id(\"free\") @passthrough permit (principal, action == Action::\"passthrough\", resource);";

fn said<'a>(pairs: &[(&str, &'a str)]) -> Run<'a> {
    pairs.iter().copied().collect()
}

fn ask(policies: &Policies, target: &str, facts: Facts, run: Run<'_>) -> Verdict {
    policies.decide(&Request {
        principal: &principal("bot", &["agents"]),
        target,
        analysis: &analysis(facts),
        labels: &labels(),
        source: "127.0.0.1",
        now_us: 0,
        run,
    })
}

fn answer(policies: &Policies, pairs: &[(&str, &str)]) -> String {
    told(&ask(policies, "shop", select(vec![bare(&["id"])]), said(pairs)))
}

#[test]
fn a_rule_may_demand_a_purpose() {
    let policies = load(&format!("{PERMIT} {PURPOSE}"));
    assert_eq!(policies.heeds(), Names::of("purpose").and(Names::ON_BEHALF_OF));
    assert_eq!(answer(&policies, &[]), "deny say-for-what");
    assert_eq!(answer(&policies, &[("purpose", "fun")]), "deny say-for-what");
    assert_eq!(answer(&policies, &[("purpose", "audit"), ("run_id", "7")]), "allow");
}

#[test]
fn the_memo_of_columns_tells_what_was_said_apart() {
    let masks = "@id(\"support\") @mask(\"redact\") forbid (principal, action == Action::\"reveal\", resource)
                 unless { context.run has purpose && context.run.purpose == \"support\" };";
    let policies = load(&format!("{PERMIT} {masks}"));
    for _ in 0..2 {
        for (pairs, wanted) in [
            (&[("purpose", "support")][..], "allow"),
            (&[], "mask 0=redact(support)"),
            (&[("purpose", "fun")], "mask 0=redact(support)"),
            (&[("pipeline", "support")], "mask 0=redact(support)"),
        ] {
            let verdict = ask(&policies, "shop", select(vec![bare(&["ssn"])]), said(pairs));
            assert_eq!(told(&verdict), wanted, "{pairs:?}");
        }
    }
}

#[test]
fn nobody_speaks_for_another_but_by_a_permit_of_that_name() {
    let ann = &[("on_behalf_of", "ann@example.org")];
    let without = load(PERMIT);
    assert_eq!(answer(&without, ann), "deny on-behalf-of");
    let policies = load(&format!("{PERMIT} {PORTAL}"));
    assert_eq!(answer(&policies, &[]), "allow");
    let verdict = ask(&policies, "shop", select(vec![bare(&["id"])]), said(ann));
    assert_eq!(
        (told(&verdict).as_str(), verdict.rules.as_slice()),
        ("allow", &["all".to_owned(), "portal".to_owned()][..])
    );
    for person in ["ann@example.com", "a;b@example.org", "a\nb@example.org", &"x".repeat(300)] {
        assert_eq!(answer(&policies, &[("on_behalf_of", person)]), "deny on-behalf-of", "{person}");
    }
    let elsewhere = ask(&policies, "other", select(vec![bare(&["id"])]), said(ann));
    assert_eq!(told(&elsewhere), "deny on-behalf-of");
    let forbidden = "@id(\"no\") forbid (principal, action == Action::\"on-behalf-of\", resource);";
    let policies = load(&format!("{PERMIT} {PORTAL} {forbidden}"));
    assert_eq!(answer(&policies, ann), "deny on-behalf-of");
}

#[test]
fn the_ungoverned_speak_for_nobody_either() {
    let ann = &[("on_behalf_of", "ann@example.org")];
    let verdict = |text: &str, pairs: &[(&str, &str)]| {
        let verdict = ask(&load(text), "shop", plain(Verb::Unknown), said(pairs));
        assert!(!verdict.governed);
        told(&verdict)
    };
    assert_eq!(verdict(UNGOVERNED, &[]), "allow");
    assert_eq!(verdict(UNGOVERNED, ann), "deny on-behalf-of");
    assert_eq!(verdict(&format!("{UNGOVERNED} {PORTAL}"), ann), "allow");
}

#[test]
fn a_permit_to_speak_that_reads_the_time_is_asked_for_each_time() {
    let at_night = PORTAL.replace("when {", "when { context.time.hour < 6 &&");
    let policies = load(&format!("{PERMIT} {UNGOVERNED} {at_night}"));
    let ann = said(&[("on_behalf_of", "ann@example.org")]);
    assert!(!ask(&policies, "shop", plain(Verb::Do), ann).cacheable);
    assert!(ask(&policies, "shop", plain(Verb::Do), Run::default()).cacheable);
}
