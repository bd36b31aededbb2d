//! The standard masks: `redact`, `keep-last:N`, `hash:KEY`, `null`.

use rowgate_plugin::{Cell, Cells, Edits, Plugin, hmac_sha256};

/// What a redacted value becomes: always the same, so that not even its length is told.
const REDACTED: &[u8] = b"[redacted]";

/// Stars at the most: more would tell the length of a long text and nothing else.
const MAX_STARS: usize = 64;

/// Hexadecimal digits of a keyed hash that are shown: 64 bits, enough to tell values apart.
const HASH_DIGITS: usize = 16;

/// The plugin. It has no settings.
pub struct MaskStandard;

/// A mask with its arguments read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mask {
    /// The whole value.
    Redact,
    /// All but the last characters; at most half of the value stays.
    KeepLast(usize),
    /// The first 16 hexadecimal digits of a keyed hash: equal values stay equal.
    Hash(String),
    /// NULL.
    Null,
}

impl Plugin for MaskStandard {
    const NAME: &'static str = "mask-standard";
    const MASKS: &'static [&'static str] = &["redact", "keep-last", "hash", "null"];
    type Config = std::collections::BTreeMap<String, String>;
    type Mask = Mask;

    fn new(config: Self::Config) -> Result<Self, String> {
        match config.keys().next() {
            Some(key) => Err(format!("unknown key {key:?}: mask-standard has no settings")),
            None => Ok(Self),
        }
    }

    fn mask_of(&self, name: &str, arguments: &str) -> Result<Mask, String> {
        match (name, arguments) {
            ("redact", "") => Ok(Mask::Redact),
            ("null", "") => Ok(Mask::Null),
            ("hash", "") => Err("say by which key: \"hash:KEY\", with KEY under [keys]".to_owned()),
            ("hash", key) => Ok(Mask::Hash(key.to_owned())),
            ("keep-last", count) => count
                .parse()
                .ok()
                .filter(|count| (1..=64).contains(count))
                .map(Mask::KeepLast)
                .ok_or_else(|| "say how many to keep, 1 to 64: \"keep-last:4\"".to_owned()),
            ("redact" | "null", _) => Err(format!("{name:?} takes no arguments")),
            _ => {
                Err(format!("no mask is called {name:?}; there are redact, keep-last, hash, null"))
            }
        }
    }

    fn mask(&self, masks: &[Mask], cells: &Cells<'_>, edits: &mut Edits) -> Result<(), String> {
        // One look at the batch in place of one at each cell.
        let ascii = cells.bytes.is_ascii();
        for (cell, mask) in cells.with(masks) {
            match mask {
                Mask::Redact => edits.replace_all(&cell, REDACTED),
                Mask::Null => edits.make_null(&cell),
                Mask::KeepLast(count) if ascii => {
                    let characters = cell.value.len();
                    let hidden = characters - (*count).min(characters / 2);
                    hide(&cell, hidden, hidden, edits);
                }
                Mask::KeepLast(count) => keep_last(&cell, *count, edits),
                Mask::Hash(key) => hash(&cell, key, edits)?,
            }
        }
        Ok(())
    }

    fn recognises(&self, mask: &Mask, value: &[u8]) -> bool {
        match mask {
            Mask::Redact => value == REDACTED,
            Mask::KeepLast(count) => value == REDACTED || has_stars(value, *count),
            Mask::Hash(_) => is_hash(value),
            // NULL comes to no plugin.
            Mask::Null => false,
        }
    }
}

/// Stars, and behind them the characters that are kept: no more than there are stars, of which there is a most.
fn has_stars(value: &[u8], count: usize) -> bool {
    let stars = value.iter().take_while(|byte| **byte == b'*').count();
    let Ok(rest) = std::str::from_utf8(value.get(stars..).unwrap_or_default()) else {
        return false;
    };
    // What is kept may begin with stars of its own.
    let kept = rest.chars().count();
    (1..=MAX_STARS + count).contains(&stars) && kept <= count.min(stars)
}

/// Hexadecimal digits, a letter among them: sixteen decimal ones are a card's number far more often than a hash, of which
/// one in 1,800 has no letter.
fn is_hash(value: &[u8]) -> bool {
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    value.len() == HASH_DIGITS && value.iter().all(digit) && !value.iter().all(u8::is_ascii_digit)
}

/// Stars, then the last characters. Values that are not UTF-8 are redacted whole.
fn keep_last(cell: &Cell<'_>, count: usize, edits: &mut Edits) {
    let Ok(text) = std::str::from_utf8(cell.value) else {
        return edits.replace_all(cell, REDACTED);
    };
    let characters = text.chars().count();
    let hidden = characters - count.min(characters / 2);
    let bytes = text.chars().take(hidden).map(char::len_utf8).sum();
    hide(cell, hidden, bytes, edits);
}

/// Stars for the first characters, which take so many bytes.
fn hide(cell: &Cell<'_>, characters: usize, bytes: usize, edits: &mut Edits) {
    edits.replace_by(cell, 0, bytes, b'*', characters.min(MAX_STARS));
}

fn hash(cell: &Cell<'_>, key: &str, edits: &mut Edits) -> Result<(), String> {
    let len = u32::try_from(cell.value.len()).map_err(|_| "a cell is too long".to_owned())?;
    let digest = hmac_sha256(key, cell.value, &[len])?;
    let mut hex = Vec::with_capacity(HASH_DIGITS);
    for byte in digest.iter().take(HASH_DIGITS / 2) {
        hex.extend([
            b"0123456789abcdef"[usize::from(byte >> 4)],
            b"0123456789abcdef"[usize::from(byte & 15)],
        ]);
    }
    edits.replace_all(cell, &hex);
    Ok(())
}

rowgate_plugin::export!(MaskStandard);

#[cfg(test)]
mod tests {
    use super::*;
    use rowgate_plugin::NULL;

    fn check(mask: &str, value: &str, wanted: Option<&str>) {
        let (name, arguments) = mask.split_once(':').unwrap_or((mask, ""));
        let mask = MaskStandard.mask_of(name, arguments).unwrap();
        let lens = [value.len() as u32, NULL];
        let cells = Cells { bytes: value.as_bytes(), lens: &lens };
        let mut edits = Edits::default();
        MaskStandard.mask(&[mask], &cells, &mut edits).unwrap();
        let got = edits.apply(&cells);
        assert_eq!(got[0].as_deref(), wanted.map(str::as_bytes), "{name} of {value}");
        assert_eq!(got[1], None, "NULL stays NULL");
    }

    #[test]
    fn masks() {
        check("redact", "123-45-6789", Some("[redacted]"));
        check("redact", "", Some(""));
        check("keep-last:4", "4111111111111111", Some("************1111"));
        check("keep-last:4", "1234", Some("**34"));
        check("keep-last:4", "1", Some("*"));
        check("keep-last:2", "naïveté", Some("*****té"));
        check("null", "x", None);
    }

    #[test]
    fn what_it_made_is_recognised() {
        for (mask, name, arguments) in [
            ("keep-last:4", "keep-last", "4"),
            ("keep-last:64", "keep-last", "64"),
            ("redact", "redact", ""),
        ] {
            let long = "*".repeat(300);
            for value in ["4111111111111111", "1", "naïveté", "****", "a*****", &long, "x"] {
                let of = MaskStandard.mask_of(name, arguments).unwrap();
                let lens = [value.len() as u32];
                let cells = Cells { bytes: value.as_bytes(), lens: &lens };
                let mut edits = Edits::default();
                MaskStandard.mask(std::slice::from_ref(&of), &cells, &mut edits).unwrap();
                let made = edits.apply(&cells)[0].clone().unwrap();
                assert!(MaskStandard.recognises(&of, &made), "{mask} of {value}");
            }
        }
        assert!(MaskStandard.recognises(&Mask::Hash("k".into()), b"0123456789abcdef"));
    }

    #[test]
    fn what_people_write_is_not() {
        for value in
            ["4111111111111111", "", "a*", "**12345", "*12", "it's ***", "0123456789ABCDEF"]
        {
            for mask in [Mask::Redact, Mask::KeepLast(4), Mask::Hash("k".into()), Mask::Null] {
                assert!(!MaskStandard.recognises(&mask, value.as_bytes()), "{mask:?}: {value}");
            }
        }
    }

    #[test]
    fn arguments() {
        for (name, arguments) in [
            ("keep-last", ""),
            ("keep-last", "0"),
            ("keep-last", "x"),
            ("redact", "1"),
            ("hash", ""),
            ("none", ""),
        ] {
            assert!(MaskStandard.mask_of(name, arguments).is_err(), "{name}:{arguments}");
        }
    }
}
