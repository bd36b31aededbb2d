//! What is asked of Rowgate, beside what was measured.

use std::fmt::Write as _;

use super::book::{BASE, DIRECT, OWN, Table, number, quoted};
use super::workloads as work;

/// One demand, and whether it is met.
pub(super) struct Requirement {
    text: String,
    unit: &'static str,
    /// None: not measured in this run.
    measured: Option<f64>,
    limit: f64,
    sense: Sense,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sense {
    AtMost,
    MoreThan,
}

impl Requirement {
    fn is_met(&self) -> Option<bool> {
        self.measured.map(|measured| match self.sense {
            Sense::AtMost => measured <= self.limit,
            Sense::MoreThan => measured > self.limit,
        })
    }
}

/// Every requirement, in the order of the tables.
pub(super) fn all(tables: &[Table]) -> Vec<Requirement> {
    let find = |heading: &str| {
        let exact = tables.iter().find(|table| table.heading == heading);
        exact.or_else(|| tables.iter().find(|table| table.heading.starts_with(heading)))
    };
    let mut list = Vec::new();
    let mut at_most = |text: &str, unit, measured, limit| {
        let text = text.to_owned();
        list.push(Requirement { text, unit, measured, limit, sense: Sense::AtMost });
    };
    for form in ["text", "prepared"] {
        for threads in work::THREADS {
            let heading = work::points_heading(form, threads);
            let ratio = find(&heading).and_then(|table| table.ratio(OWN, BASE, work::CPU));
            let limit = if threads == 1 { 1.1 } else { 1.0 };
            at_most(&format!("{heading}: CPU"), "× HAProxy", ratio, limit);
        }
        let heading = work::points_heading(form, 1);
        let added = |route| find(&heading).and_then(|table| table.more(route, DIRECT, work::P50));
        let (own, base) = (added(OWN), added(BASE));
        let text = format!("{heading}: p50 added to direct");
        at_most(&text, "µs (HAProxy's)", own, base.unwrap_or(f64::NAN));
    }
    let ratio = |heading, base, figure| find(heading).and_then(|t| t.ratio(OWN, base, figure));
    let median = |heading, figure| find(heading).and_then(|table| table.median(OWN, figure));
    for heading in [work::PLAIN, work::SEVERAL, work::WIDE, work::SEVERAL_WIDE] {
        at_most(heading, "× HAProxy's CPU", ratio(heading, BASE, work::CPU_GB), 0.7);
    }
    at_most(
        "Point selects beside streams: p99",
        "× HAProxy",
        ratio(work::MIXED, BASE, work::P99),
        0.25,
    );
    at_most(work::CYCLES, "CPU µs", median(work::CYCLES, work::CPU), 80.0);
    at_most("TLS, whole handshake, a connection", "CPU µs", median(work::FULL, work::CPU), 400.0);
    at_most(work::TLS_STREAM, "CPU s/GB", median(work::TLS_STREAM, work::CPU_GB), 0.8);
    at_most(work::IDLE, "KiB each", median(work::IDLE, work::MEMORY), 2.5);
    at_most("Worst of 2 cores", "× their mean", median(work::SKEW, work::WORST), 1.3);
    list.push(Requirement {
        text: format!("{}: rate", work::CYCLES),
        unit: "× direct",
        measured: ratio(work::CYCLES, DIRECT, work::RATE),
        limit: 1.0,
        sense: Sense::MoreThan,
    });
    list
}

/// As Markdown.
pub(super) fn render(list: &[Requirement]) -> String {
    let mut text = String::from(
        "## Requirements\n\n| requirement | wanted | measured | |\n|---|---|---|---|\n",
    );
    for one in list.iter().filter(|one| one.measured.is_some()) {
        let sign = if one.sense == Sense::AtMost { "≤" } else { ">" };
        let measured = one.measured.unwrap_or(f64::NAN);
        let verdict = if one.is_met() == Some(true) { "met" } else { "**not met**" };
        let _ = writeln!(
            text,
            "| {} | {sign} {:.2} {} | {measured:.2} | {verdict} |",
            one.text, one.limit, one.unit
        );
    }
    text
}

/// As JSON.
pub(super) fn json(list: &[Requirement]) -> String {
    let rows = list.iter().map(|one| {
        let sense = if one.sense == Sense::AtMost { "at most" } else { "more than" };
        format!(
            "{{\"requirement\":{},\"unit\":{},\"wanted\":\"{sense}\",\"limit\":{},\"measured\":{},\"met\":{}}}",
            quoted(&one.text),
            quoted(one.unit),
            number(one.limit),
            one.measured.map_or_else(|| "null".to_owned(), number),
            one.is_met().map_or("null".to_owned(), |met| met.to_string()),
        )
    });
    rows.collect::<Vec<_>>().join(",\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::book::Column;

    #[test]
    fn a_demand_is_met_or_not_or_not_measured() {
        const COLUMNS: [Column; 1] = [Column::compared(work::CPU_GB, 2)];
        let mut table = Table::new(work::PLAIN, &COLUMNS);
        table.note(BASE, &[1.0]);
        table.note(OWN, &[0.71]);
        let list = all(&[table]);
        let of = |text: &str| list.iter().find(|one| one.text.starts_with(text)).unwrap();
        assert_eq!(of(work::PLAIN).is_met(), Some(false));
        assert_eq!(of(work::IDLE).is_met(), None);
        let text = render(&list);
        assert!(
            text.contains(
                "| Stream, nothing masked | ≤ 0.70 × HAProxy's CPU | 0.71 | **not met** |"
            ),
            "{text}"
        );
        assert!(!text.contains(work::IDLE), "{text}");
    }
}
