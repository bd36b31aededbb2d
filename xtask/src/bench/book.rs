//! What was measured: for each workload a table of routes and figures, every repetition kept, so that ratios are of
//! figures of one repetition and their spread can be seen.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The route that ratios are of.
pub(super) const BASE: &str = "HAProxy";
pub(super) const OWN: &str = "Rowgate";
/// Another build of it, beside.
pub(super) const OTHER: &str = "Rowgate, other build";
pub(super) const DIRECT: &str = "direct";

/// A figure's name, as shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub name: &'static str,
    pub decimals: usize,
    /// Whether ratios to [`BASE`] are shown.
    pub is_compared: bool,
}

impl Column {
    pub(super) const fn new(name: &'static str, decimals: usize) -> Self {
        Self { name, decimals, is_compared: false }
    }

    pub(super) const fn compared(name: &'static str, decimals: usize) -> Self {
        Self { name, decimals, is_compared: true }
    }
}

/// One workload.
#[derive(Debug)]
pub(super) struct Table {
    pub heading: String,
    columns: &'static [Column],
    /// In the order of the first repetition.
    routes: Vec<&'static str>,
    /// By route and column, a figure each repetition.
    cells: BTreeMap<(&'static str, &'static str), Vec<f64>>,
}

impl Table {
    pub(super) fn new(heading: &str, columns: &'static [Column]) -> Self {
        let heading = heading.to_owned();
        Self { heading, columns, routes: Vec::new(), cells: BTreeMap::new() }
    }

    /// Notes the figures of one repetition, in the order of the columns.
    pub(super) fn note(&mut self, route: &'static str, figures: &[f64]) {
        if !self.routes.contains(&route) {
            self.routes.push(route);
        }
        for (column, figure) in self.columns.iter().zip(figures) {
            self.cells.entry((route, column.name)).or_default().push(*figure);
        }
    }

    pub(super) fn median(&self, route: &'static str, column: &'static str) -> Option<f64> {
        median(self.cells.get(&(route, column))?.clone())
    }

    /// The median of the ratios of two routes in the same repetition.
    pub(super) fn ratio(
        &self,
        route: &'static str,
        base: &'static str,
        column: &'static str,
    ) -> Option<f64> {
        median(self.pairs(route, base, column).map(|(a, b)| a / b).collect())
    }

    /// The median of what a route has more than another in the same repetition.
    pub(super) fn more(
        &self,
        route: &'static str,
        base: &'static str,
        column: &'static str,
    ) -> Option<f64> {
        median(self.pairs(route, base, column).map(|(a, b)| a - b).collect())
    }

    fn pairs(
        &self,
        route: &'static str,
        base: &'static str,
        column: &'static str,
    ) -> impl Iterator<Item = (f64, f64)> {
        let of = |route| self.cells.get(&(route, column)).into_iter().flatten().copied();
        of(route).zip(of(base)).filter(|(_, base)| *base > 0.0)
    }

    /// As Markdown: medians, and ratios with their smallest and largest.
    pub(super) fn render(&self, order: &[&'static str]) -> String {
        let mut text = format!("## {}\n\n| route |", self.heading);
        for column in self.columns {
            let _ = write!(text, " {} |", column.name);
            if column.is_compared {
                let _ = write!(text, " × {BASE} (spread) |");
            }
        }
        let compared = self.columns.iter().filter(|column| column.is_compared).count();
        let _ = write!(text, "\n|---|{}\n", "---|".repeat(self.columns.len() + compared));
        for route in order.iter().filter(|route| self.routes.contains(route)) {
            let _ = write!(text, "| {route} |");
            for column in self.columns {
                let _ = match self.median(route, column.name) {
                    Some(figure) => write!(text, " {figure:.*} |", column.decimals),
                    None => write!(text, " |"),
                };
                if column.is_compared {
                    let _ = write!(text, " {} |", self.spread(route, column.name));
                }
            }
            text.push('\n');
        }
        text.push('\n');
        text
    }

    fn spread(&self, route: &'static str, column: &'static str) -> String {
        let Some(middle) = self.ratio(route, BASE, column).filter(|ratio| *ratio > 0.0) else {
            return String::new();
        };
        let all = || self.pairs(route, BASE, column).map(|(a, b)| a / b);
        let (low, high) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
        format!("{middle:.2} ({low:.2}–{high:.2})")
    }

    /// As JSON, every repetition.
    pub(super) fn json(&self) -> String {
        let rows = self.cells.iter().map(|((route, column), figures)| {
            let figures: Vec<String> = figures.iter().map(|figure| number(*figure)).collect();
            format!(
                "{{\"workload\":{},\"route\":{},\"figure\":{},\"values\":[{}]}}",
                quoted(&self.heading),
                quoted(route),
                quoted(column),
                figures.join(",")
            )
        });
        rows.collect::<Vec<_>>().join(",\n")
    }
}

/// A number as JSON has it.
pub(super) fn number(value: f64) -> String {
    if value.is_finite() { format!("{value}") } else { "null".to_owned() }
}

/// A text as JSON has it; there are no control characters in ours.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

pub(super) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(figures[middle]),
        _ => Some(f64::midpoint(figures[middle - 1], figures[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_one_repetition() {
        const COLUMNS: [Column; 1] = [Column::compared("cpu", 1)];
        let mut table = Table::new("work", &COLUMNS);
        // The machine was twice as slow in the second repetition.
        for (own, base) in [(8.0, 10.0), (18.0, 20.0), (9.0, 10.0)] {
            table.note(BASE, &[base]);
            table.note(OWN, &[own]);
        }
        assert_eq!(table.ratio(OWN, BASE, "cpu"), Some(0.9));
        assert_eq!(table.more(OWN, BASE, "cpu"), Some(-2.0));
        assert_eq!(table.median(OWN, "cpu"), Some(9.0));
        let text = table.render(&[BASE, OWN]);
        assert!(text.contains("| Rowgate | 9.0 | 0.90 (0.80–0.90) |"), "{text}");
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
    }
}
