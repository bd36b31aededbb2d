//! Verdicts as data: a policy, who, what, and what comes of it. Facts are made by hand here, so that these
//! tests are about the policies alone.

mod bundle;
mod run;
mod semantics;

use std::collections::BTreeMap;

use super::*;
use crate::identity::PrincipalKind;
use crate::schema::LabelSet;
use crate::sql::{
    Access, Assigned, ColumnRef, ColumnUse, Digest, Facts, Lineage, NewValue, Output, Place,
    TableUse, Unknown, Verb,
};

const DEFAULT: &str = include_str!("../../../policies/default.cedar");
const OPEN_CARDS: &str = include_str!("../../../policies/open-cards.cedar");

fn labels() -> Labels {
    let mut labels = Labels::default();
    for name in ["pci", "pii", "free-text", "high-value", "odd"] {
        labels.intern(name).unwrap();
    }
    labels
}

fn set(names: &[&str]) -> LabelSet {
    let mut set = LabelSet::EMPTY;
    for name in names {
        set.insert(labels().find(name).unwrap());
    }
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

fn assigned(name: &str) -> Assigned {
    Assigned { column: column(name), is_string: true, given: NewValue::Other }
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
        run: Run::default(),
    })
}

/// `allow`, `mask 0=redact(agents-pii) 2=…`, `deny rule`, `hold rule groups×n`.
fn told(verdict: &Verdict) -> String {
    let plan = verdict.mask.iter().flat_map(|plan| &plan.columns);
    let masks = plan.map(|c| format!(" {}={}({})", c.index, c.mask, c.rule));
    let masks = masks.collect::<Vec<_>>().concat();
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
