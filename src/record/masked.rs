//! A masked column of a result, as it is recorded: which, under which mask, by which rule, by which plugin's code, and of
//! which columns it is made. What its cells were is in no record.

/// Parts the fields in a record. No name of ours has it; where a database's has, it is replaced.
const SEPARATOR: char = '\u{1f}';

/// A masked column of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Masked {
    /// Its index in the result, from 0.
    pub index: u16,
    /// The labels that asked for the mask.
    pub labels: Vec<String>,
    /// The mask, as annotations name it.
    pub mask: String,
    /// The rule that asked for it, by its id.
    pub rule: String,
    /// The plugin that masked it.
    pub plugin: String,
    /// BLAKE3 of that plugin's file, in hex.
    pub digest: String,
    /// The labelled columns that it is made of, as `schema.table.column`.
    pub columns: Vec<String>,
}

impl Masked {
    /// One text, which [`Self::read`] reads back.
    pub fn write(&self) -> String {
        let fields = [
            &self.index.to_string(),
            &self.labels.join("+"),
            &self.mask,
            &self.rule,
            &self.plugin,
            &self.digest,
        ];
        let mut text = String::new();
        for field in fields.into_iter().chain(&self.columns) {
            if !text.is_empty() {
                text.push(SEPARATOR);
            }
            text.extend(field.chars().map(|c| if c == SEPARATOR { '\u{fffd}' } else { c }));
        }
        text
    }

    /// Reads it back. Of one from before there were fields, the whole text is the mask.
    pub fn read(text: &str) -> Self {
        let mut fields = text.split(SEPARATOR);
        let mut next = || fields.next().unwrap_or_default().to_owned();
        let (index, labels, mask, rule, plugin, digest) =
            (next(), next(), next(), next(), next(), next());
        if rule.is_empty() {
            return Self { mask: text.to_owned(), ..Self::default() };
        }
        Self {
            index: index.parse().unwrap_or_default(),
            labels: labels
                .split('+')
                .filter(|label| !label.is_empty())
                .map(str::to_owned)
                .collect(),
            mask,
            rule,
            plugin,
            digest,
            columns: fields.map(str::to_owned).collect(),
        }
    }
}

impl std::fmt::Display for Masked {
    /// `column 2 (shop.customers.ssn) by redact: pii, rule agents-pii`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.rule.is_empty() {
            return f.write_str(&self.mask);
        }
        write!(f, "column {}", u32::from(self.index) + 1)?;
        if !self.columns.is_empty() {
            write!(f, " ({})", self.columns.join(", "))?;
        }
        write!(f, " by {}: {}, rule {}", self.mask, self.labels.join(", "), self.rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked() -> Masked {
        Masked {
            index: 1,
            labels: vec!["pci".to_owned(), "pii".to_owned()],
            mask: "acme/fpe:key=a, b (c)".to_owned(),
            rule: "agents-pci".to_owned(),
            plugin: "acme".to_owned(),
            digest: "ab12".to_owned(),
            columns: vec!["shop.cards.number".to_owned(), "shop.a, b.c".to_owned()],
        }
    }

    #[test]
    fn read_as_written() {
        for masked in [masked(), Masked { columns: Vec::new(), ..masked() }] {
            assert_eq!(Masked::read(&masked.write()), masked);
        }
        let odd = Masked { columns: vec!["a\u{1f}b".to_owned()], ..masked() };
        assert_eq!(Masked::read(&odd.write()).columns, ["a\u{fffd}b"]);
    }

    #[test]
    fn what_older_records_have() {
        let old = Masked::read("1:pci=keep-last:4 (agents-pci)");
        assert_eq!(old.to_string(), "1:pci=keep-last:4 (agents-pci)");
    }

    #[test]
    fn shown() {
        assert_eq!(
            masked().to_string(),
            "column 2 (shop.cards.number, shop.a, b.c) by acme/fpe:key=a, b (c): pci, pii, rule agents-pci"
        );
    }
}
