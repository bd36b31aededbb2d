//! Finds personal data: card numbers (Luhn), e-mail addresses, US social security numbers. By column name, by value,
//! and in flight: the mask `spans` cuts what it finds out of free text and leaves the rest.

use rowgate_plugin::{Cells, Column, Edits, Label, Plugin};

mod find;

pub use find::{Kind, Span, spans};

/// What a span becomes.
const CUT: &[u8] = b"[redacted]";

/// The plugin. It has no settings.
pub struct ClassifyPii;

impl Plugin for ClassifyPii {
    const NAME: &'static str = "classify-pii";
    const MASKS: &'static [&'static str] = &["spans"];
    const CLASSIFIES: bool = true;
    type Config = std::collections::BTreeMap<String, String>;
    type Mask = ();

    fn new(config: Self::Config) -> Result<Self, String> {
        match config.keys().next() {
            Some(key) => Err(format!("unknown key {key:?}: classify-pii has no settings")),
            None => Ok(Self),
        }
    }

    fn mask_of(&self, name: &str, arguments: &str) -> Result<(), String> {
        match (name, arguments) {
            ("spans", "") => Ok(()),
            ("spans", _) => Err("\"spans\" takes no arguments".to_owned()),
            _ => Err(format!("no mask is called {name:?}; there is spans")),
        }
    }

    fn mask(&self, _: &[()], cells: &Cells<'_>, edits: &mut Edits) -> Result<(), String> {
        for cell in cells.iter() {
            for span in spans(cell.value) {
                edits.replace(&cell, span.start, span.end - span.start, CUT);
            }
        }
        Ok(())
    }

    fn recognises(&self, (): &(), value: &[u8]) -> bool {
        value.windows(CUT.len()).any(|window| window == CUT)
    }

    fn classify_column(&self, column: &Column) -> Vec<Label> {
        let name = column.name.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        let mut labels = Vec::new();
        let mut add = |name: &str, confidence| {
            labels.push(Label { name: name.to_owned(), confidence });
        };
        if has(&["card_n", "cardn", "pan", "credit_card", "cc_num"]) && !has(&["company", "japan"])
        {
            add("pci", 80);
        }
        if has(&["email", "e_mail", "ssn", "social_sec", "phone", "mobile", "birth", "passport"]) {
            add("pii", 80);
        }
        if has(&["note", "comment", "message", "description", "remark"]) {
            add("free-text", 60);
        }
        labels
    }

    fn classify_value(&self, value: &[u8]) -> Vec<Label> {
        let found = spans(value);
        // A value that is nothing but the hit is a column of such; a hit inside a text makes the text the danger.
        let whole = found.len() == 1 && found[0].end - found[0].start == value.len();
        let mut labels: Vec<Label> = Vec::new();
        for span in &found {
            let name = match (whole, span.kind) {
                (false, _) => "free-text",
                (true, Kind::Card) => "pci",
                (true, Kind::Email | Kind::Ssn) => "pii",
            };
            if !labels.iter().any(|label| label.name == name) {
                labels.push(Label { name: name.to_owned(), confidence: 90 });
            }
        }
        labels
    }
}

rowgate_plugin::export!(ClassifyPii);

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let lens = [text.len() as u32];
        let cells = Cells { bytes: text.as_bytes(), lens: &lens };
        let mut edits = Edits::default();
        ClassifyPii.mask(&[()], &cells, &mut edits).unwrap();
        String::from_utf8(edits.apply(&cells).remove(0).unwrap()).unwrap()
    }

    #[test]
    fn spans_are_cut() {
        for (text, wanted) in [
            ("charge 4532015112830366 now", "charge [redacted] now"),
            ("charge 4532-0151-1283-0366 now", "charge [redacted] now"),
            ("charge 4532 0151 1283 0366", "charge [redacted]"),
            ("order 4532015112830367", "order 4532015112830367"),
            ("write to ann.b+c@mail.example.org, please", "write to [redacted], please"),
            ("ssn 123-45-6789.", "ssn [redacted]."),
            ("call 123-45-67890", "call 123-45-67890"),
            ("a 4532015112830366 and x@y.de", "a [redacted] and [redacted]"),
            ("nothing @ all", "nothing @ all"),
            ("", ""),
        ] {
            assert_eq!(masked(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_was_cut_is_recognised() {
        for text in ["charge 4532015112830366 now", "123-45-6789", "x@y.de"] {
            assert!(ClassifyPii.recognises(&(), masked(text).as_bytes()), "{text}");
        }
        assert!(!ClassifyPii.recognises(&(), b"nothing to see"));
    }

    #[test]
    fn labels() {
        let of = |text: &str| {
            ClassifyPii
                .classify_value(text.as_bytes())
                .into_iter()
                .map(|l| l.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(of("4532015112830366"), ["pci"]);
        assert_eq!(of("ann@mail.example"), ["pii"]);
        assert_eq!(of("card 4532015112830366"), ["free-text"]);
        assert!(of("hello").is_empty());
        let column = Column { name: "Email".to_owned(), ..Column::default() };
        assert_eq!(ClassifyPii.classify_column(&column)[0].name, "pii");
    }
}
