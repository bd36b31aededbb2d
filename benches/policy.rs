//! What a decision costs that no cache answers, under the default bundle; and the loading of the bundle.
//! Analysing the text is not part of it: facts are made by hand.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rowgate::identity::{Principal, PrincipalKind};
use rowgate::policy::{Effect, Policies, Request, Verdict};
use rowgate::run::Run;
use rowgate::schema::{LabelSet, Labels};
use rowgate::sql::{Access, Analysis, ColumnRef, Digest, Facts, Lineage, Output, TableUse, Verb};

const BUNDLE: &str = include_str!("../policies/default.cedar");

fn main_labels() -> Labels {
    let mut labels = Labels::default();
    for name in ["pci", "pii", "free-text", "high-value"] {
        labels.intern(name);
    }
    labels
}

fn table(labels: u64, access: Access) -> TableUse {
    TableUse {
        schema: "shop".into(),
        name: "customers".into(),
        access,
        labels: LabelSet(labels),
        table_labels: LabelSet::EMPTY,
        sensitive: labels != 0,
        estimated_rows: 2_000,
    }
}

fn output(name: &str, labels: u64) -> Output {
    let column = ColumnRef {
        schema: "shop".into(),
        table: "customers".into(),
        name: name.into(),
        labels: LabelSet(labels),
    };
    Output { name: Some(name.into()), lineage: Lineage::Bare(vec![column]) }
}

fn analysis(facts: Facts) -> Analysis {
    let (digest, digest_text) = (Digest::default(), String::new());
    Analysis { canonical: None, digest, digest_text, facts, unknown: None }
}

fn point_select() -> Analysis {
    let tables = vec![table(0, Access::Read)];
    analysis(Facts { verb: Verb::Select, tables, has_where: true, ..Facts::default() })
}

fn masked_select() -> Analysis {
    let outputs = vec![
        output("id", 0),
        output("card_number", 1),
        output("ssn", 2),
        output("email", 2),
        output("notes", 4),
    ];
    let tables = vec![table(7, Access::Read)];
    analysis(Facts { verb: Verb::Select, tables, outputs: Some(outputs), ..Facts::default() })
}

fn drop_table() -> Analysis {
    let tables = vec![table(0, Access::Define)];
    analysis(Facts { verb: Verb::Drop, tables, ..Facts::default() })
}

/// Decides for an agent that connects from `source`, which is part of every memo's key.
fn decide(policies: &Policies, analysis: &Analysis, source: &str) -> Verdict {
    let principal = Principal {
        subject: "shop-agent".into(),
        kind: PrincipalKind::Agent,
        groups: vec!["agents".into()],
        attributes: BTreeMap::new(),
    };
    policies.decide(&Request {
        principal: &principal,
        target: "shop",
        analysis,
        labels: &main_labels(),
        source,
        run: Run::default(),
        now_us: 1_700_000_000_000_000,
    })
}

fn decisions(criterion: &mut Criterion) {
    let policies = Policies::load(&[("default.cedar", BUNDLE)]).expect("the bundle loads");
    let mut group = criterion.benchmark_group("decide, uncached");
    for (name, analysis) in [
        ("point select", point_select()),
        ("masked select, columns known", masked_select()),
        ("drop, held", drop_table()),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| decide(&policies, black_box(&analysis), "10.0.0.1"));
        });
    }
    let (analysis, mut turn) = (masked_select(), 0_u64);
    group.bench_function("masked select, columns new", |bencher| {
        let source = || {
            turn += 1;
            format!("10.0.0.{turn}")
        };
        bencher.iter_batched(
            source,
            |source| decide(&policies, black_box(&analysis), &source),
            BatchSize::SmallInput,
        );
    });
    group.finish();
    let held = decide(&policies, &drop_table(), "10.0.0.1").effect;
    assert!(matches!(held, Effect::Hold(_)), "the bundle holds DROP: {held:?}");
}

fn loading(criterion: &mut Criterion) {
    criterion.bench_function("load the default bundle", |bencher| {
        bencher.iter(|| Policies::load(&[("default.cedar", black_box(BUNDLE))]));
    });
}

criterion_group!(benches, decisions, loading);
criterion_main!(benches);
