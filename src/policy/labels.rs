//! Which column and which table carries which label, by the patterns of the configuration. Inheriting labels
//! through views and generated columns is the catalogue's work.

use wildmatch::WildMatch;

use crate::config::LabelRule;
use crate::schema::{LabelId, LabelSet, Labels, fold};

/// Compiled patterns.
#[derive(Clone, Debug, Default)]
pub struct LabelRules {
    columns: Vec<(Pattern<3>, LabelSet)>,
    tables: Vec<(Pattern<2>, LabelSet)>,
}

/// What is wrong with the label rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// More labels than a [`LabelSet`] has bits.
    #[error(
        "labels: more than {} labels (those above a dotted one count too); merge some",
        Labels::MAX
    )]
    TooMany,
    /// A pattern without its parts.
    #[error("labels.{key}: {pattern:?} of label {label:?} is not of the form {form}")]
    Pattern {
        /// `columns` or `tables`.
        key: &'static str,
        /// The label.
        label: String,
        /// As written.
        pattern: String,
        /// As it should be.
        form: &'static str,
    },
}

impl LabelRules {
    /// Compiles the rules and names their labels. A label with dots carries those above it as well:
    /// `pii.email` brings `pii`.
    pub fn new(rules: &[LabelRule]) -> Result<(Self, Labels), LabelError> {
        let mut labels = Labels::default();
        let mut compiled = Self::default();
        for rule in rules {
            let set = intern(&mut labels, &rule.name).ok_or(LabelError::TooMany)?;
            let wrong = |key, form, pattern: &String| LabelError::Pattern {
                key,
                label: rule.name.clone(),
                pattern: pattern.clone(),
                form,
            };
            for text in &rule.columns {
                let pattern = Pattern::new(text)
                    .ok_or_else(|| wrong("columns", "database.table.column", text))?;
                compiled.columns.push((pattern, set));
            }
            for text in &rule.tables {
                let pattern =
                    Pattern::new(text).ok_or_else(|| wrong("tables", "database.table", text))?;
                compiled.tables.push((pattern, set));
            }
        }
        Ok((compiled, labels))
    }

    /// The labels of a column.
    pub fn column_labels(&self, schema: &str, table: &str, column: &str) -> LabelSet {
        matching(&self.columns, &[schema, table, column].map(fold))
    }

    /// The labels of a table as such.
    pub fn table_labels(&self, schema: &str, table: &str) -> LabelSet {
        matching(&self.tables, &[schema, table].map(fold))
    }
}

/// One pattern a part; a name matches when each of its parts does. Both are folded: where the server tells
/// names apart by case, a label sticks to both, which errs on the safe side.
#[derive(Clone, Debug)]
struct Pattern<const N: usize>([WildMatch; N]);

impl<const N: usize> Pattern<N> {
    fn new(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split('.').map(|part| fold(part.trim())).collect();
        let parts: [String; N] = parts.try_into().ok()?;
        let complete = parts.iter().all(|part| !part.is_empty());
        complete.then(|| Self(parts.map(|part| WildMatch::new(&part))))
    }

    fn matches(&self, name: &[String; N]) -> bool {
        self.0.iter().zip(name).all(|(pattern, part)| pattern.matches(part))
    }
}

fn matching<const N: usize>(rules: &[(Pattern<N>, LabelSet)], name: &[String; N]) -> LabelSet {
    let fits = rules.iter().filter(|(pattern, _)| pattern.matches(name));
    fits.fold(LabelSet::EMPTY, |all, (_, set)| all.union(*set))
}

/// The label and those above it.
fn intern(labels: &mut Labels, name: &str) -> Option<LabelSet> {
    let mut set = LabelSet::EMPTY;
    let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
    for end in ends {
        let id: LabelId = labels.intern(name.get(..end)?)?;
        set.insert(id);
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, columns: &[&str], tables: &[&str]) -> LabelRule {
        LabelRule {
            name: name.to_owned(),
            columns: columns.iter().map(ToString::to_string).collect(),
            tables: tables.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn patterns_match_as_names_fold() {
        let rules = [
            rule("pci", &["shop.customers.card_*", "*.*.ban?"], &[]),
            rule("pii.email", &["*.*.email"], &[]),
            rule("high-value", &[], &["shop.pay*"]),
        ];
        let (rules, labels) = LabelRules::new(&rules).unwrap();
        let column = |s, t, c| labels.names(rules.column_labels(s, t, c)).join(" ");
        assert_eq!(column("shop", "customers", "card_number"), "pci");
        assert_eq!(column("SHOP", "Customers", "CARD_NUMBER"), "pci");
        assert_eq!(column("x", "y", "ban\u{212A}"), "pci");
        assert_eq!(column("shop", "customers", "name"), "");
        assert_eq!(column("other", "customers", "card_number"), "");
        assert_eq!(column("a", "b", "Email"), "pii pii.email");
        assert_eq!(labels.names(rules.table_labels("shop", "payments")), ["high-value"]);
        assert!(rules.table_labels("shop", "orders").is_empty());
    }

    #[test]
    fn malformed_patterns_are_named() {
        for bad in ["ssn", "customers.ssn", "a.b.c.d", "a..c", ""] {
            let error = LabelRules::new(&[rule("pii", &[bad], &[])]).unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
        assert!(LabelRules::new(&[rule("v", &[], &["a.b.c"])]).is_err());
    }

    #[test]
    fn the_65th_label_is_refused() {
        let many: Vec<_> = (0..65).map(|n| rule(&format!("l{n}"), &[], &[])).collect();
        assert!(LabelRules::new(&many[..64]).is_ok());
        assert_eq!(LabelRules::new(&many).unwrap_err(), LabelError::TooMany);
    }
}
