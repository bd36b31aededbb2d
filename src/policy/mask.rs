//! Masks as policy names them, and which of two is the stricter. How they change a cell is the plugins' work.

use crate::schema::LabelSet;

/// The plugin of a mask whose annotation names none.
const STANDARD: &str = "mask-standard";

/// Longest annotation of a mask: names and a few arguments; keys belong into the plugin's configuration.
const MAX_SPEC: usize = 256;

/// `plugin/name:arguments`, as in `@mask("keep-last:4")` or `@mask("classify-pii/spans")`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MaskSpec {
    /// The plugin's name; `mask-standard` where the annotation names none.
    pub plugin: String,
    /// The mask's name: `redact`, `keep-last`, `hash`, `null`, `spans`, …
    pub name: String,
    /// What follows the colon; empty where nothing does.
    pub arguments: String,
}

impl MaskSpec {
    /// Total redaction: what columns without a rule get.
    pub fn redact() -> Self {
        Self { plugin: STANDARD.to_owned(), name: "redact".to_owned(), arguments: String::new() }
    }

    /// Nothing at all, not even which values are NULL or empty: what computed values get. Of a value that was cut down
    /// before, that would tell a part: whether `TRIM(LEADING '1' FROM LEFT(ssn, 1))` is empty.
    pub fn null() -> Self {
        Self { plugin: STANDARD.to_owned(), name: "null".to_owned(), arguments: String::new() }
    }

    /// Whether every value becomes NULL.
    pub fn is_null(&self) -> bool {
        self.strength() == Strength::Null
    }

    /// Reads an annotation; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_SPEC {
            return Err("a mask is at most 256 bytes long");
        }
        let (path, arguments) = text.split_once(':').unwrap_or((text, ""));
        let (plugin, name) = path.split_once('/').unwrap_or((STANDARD, path));
        if !is_word(plugin) || !is_word(name) {
            return Err("a mask is written name, name:arguments or plugin/name:arguments");
        }
        let spec = Self {
            plugin: plugin.to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        if spec.name == "keep-last" && spec.plugin == STANDARD && spec.kept().is_none() {
            return Err("keep-last wants the number of characters to keep, as in keep-last:4");
        }
        Ok(spec)
    }

    /// At most this many bytes of a cell may survive; `None` for a detector, which may find nothing to change.
    ///
    /// Masks of other plugins may keep nothing: what they produce must not contain what they were given.
    pub fn may_keep(&self) -> Option<u32> {
        match self.strength() {
            Strength::Keep(n) => Some(n),
            Strength::Detector => None,
            _ => Some(0),
        }
    }

    /// Whether it shows all that it does not find.
    pub fn is_detector(&self) -> bool {
        self.strength() == Strength::Detector
    }

    /// The stricter of two. Two that can't be compared give total redaction, which is stricter than either.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        if self == other {
            return self;
        }
        let (a, b) = (self.strength(), other.strength());
        match (a.rank(), b.rank()) {
            (x, y) if x < y => self,
            (x, y) if x > y => other,
            // Of two that keep some, the one that keeps less; of the rest, none is known to be the stricter.
            _ => match (a, b) {
                (Strength::Keep(n), Strength::Keep(m)) if n < m => self,
                (Strength::Keep(n), Strength::Keep(m)) if n > m => other,
                _ => Self::redact(),
            },
        }
    }

    fn strength(&self) -> Strength {
        match (self.plugin.as_str(), self.name.as_str()) {
            (STANDARD, "null") => Strength::Null,
            (STANDARD, "redact") => Strength::Redact,
            (STANDARD, "hash") => Strength::Hash,
            (STANDARD, "keep-last") => self.kept().map_or(Strength::Other, Strength::Keep),
            (_, "spans") => Strength::Detector,
            _ => Strength::Other,
        }
    }

    fn kept(&self) -> Option<u32> {
        self.arguments.split(',').next()?.trim().parse().ok()
    }
}

impl std::fmt::Display for MaskSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.plugin != STANDARD {
            write!(f, "{}/", self.plugin)?;
        }
        f.write_str(&self.name)?;
        if !self.arguments.is_empty() {
            write!(f, ":{}", self.arguments)?;
        }
        Ok(())
    }
}

/// How much of a value a mask leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strength {
    /// Nothing, not even whether there was a value.
    Null,
    /// Whether there was a value.
    Redact,
    /// Whether two values are equal.
    Hash,
    /// Another plugin's: unknown, but it may keep no bytes.
    Other,
    /// So many characters.
    Keep(u32),
    /// All but what it finds.
    Detector,
}

impl Strength {
    /// Strictest first.
    fn rank(self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Redact => 1,
            Self::Hash => 2,
            Self::Other => 3,
            Self::Keep(_) => 4,
            Self::Detector => 5,
        }
    }
}

fn is_word(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !text.is_empty() && text.chars().all(allowed)
}

/// A column of one result and the mask on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskedColumn {
    /// Index in the result.
    pub index: u16,
    /// The mask.
    pub mask: MaskSpec,
    /// At most this many bytes of a cell may survive in the masked value, as the host enforces: a plugin is
    /// trusted with the labels bound to it, not with the promise itself. `None`: the mask may leave a cell
    /// unchanged (detectors in free text).
    pub may_keep: Option<u32>,
    /// The labels that asked for it.
    pub labels: LabelSet,
    /// Those labels' names, for the plugin and the record.
    pub label_names: Vec<String>,
    /// The deciding rule's `@id`.
    pub rule: String,
}

/// What to mask in a statement's results, bound to the definitions before the first row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskPlan {
    /// By index, ascending; never empty.
    pub columns: Vec<MaskedColumn>,
    /// The names the result must have, where they can be told; its length is the count the result must have.
    pub outputs: Vec<Option<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> MaskSpec {
        MaskSpec::parse(text).unwrap()
    }

    #[test]
    fn written_as_read() {
        for text in ["redact", "keep-last:4", "classify-pii/spans", "acme/fpe:key=a:b"] {
            assert_eq!(spec(text).to_string(), text);
        }
        assert_eq!(spec("mask-standard/hash"), spec("hash"));
    }

    #[test]
    fn refused() {
        for text in ["", ":4", "a/b/c", "keep last:4", "keep-last", "keep-last:x", "/redact", "a/"]
        {
            assert!(MaskSpec::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_strictest_wins_in_either_order() {
        let order = [
            "null",
            "redact",
            "hash",
            "acme/fpe",
            "keep-last:2",
            "keep-last:4",
            "classify-pii/spans",
        ];
        for (at, strict) in order.iter().enumerate() {
            for lax in &order[at..] {
                assert_eq!(spec(strict).stricter(spec(lax)), spec(strict), "{strict} over {lax}");
                assert_eq!(spec(lax).stricter(spec(strict)), spec(strict), "{strict} over {lax}");
            }
        }
    }

    #[test]
    fn what_cant_be_compared_is_redacted() {
        assert_eq!(spec("acme/fpe").stricter(spec("acme/fake")), MaskSpec::redact());
        assert_eq!(spec("hash:a").stricter(spec("hash:b")), MaskSpec::redact());
    }

    #[test]
    fn what_may_stay() {
        assert_eq!(spec("redact").may_keep(), Some(0));
        assert_eq!(spec("keep-last:4").may_keep(), Some(4));
        assert_eq!(spec("acme/fpe").may_keep(), Some(0));
        assert_eq!(spec("classify-pii/spans").may_keep(), None);
    }
}
