//! `identity;key=value;…`: the user name of a login, taken apart.

use std::collections::BTreeMap;

/// The most attributes a user name may carry: what fits in 96 bytes, and a bound all the same.
const MAX_ATTRIBUTES: usize = 16;

/// A user name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName {
    /// The identity.
    pub identity: String,
    /// What follows, by key.
    pub attributes: BTreeMap<String, String>,
}

impl UserName {
    /// Takes `user` apart. `None` where it is empty, malformed, or of exactly 96 bytes: the stock 9.7 client
    /// cuts longer names there without a word, so what it meant can't be known.
    pub fn parse(user: &str) -> Option<Self> {
        if user.len() == 96 || user.len() > 1024 {
            return None;
        }
        let mut parts = user.split(';');
        let identity = parts.next().filter(|name| !name.is_empty())?.to_owned();
        let mut attributes = BTreeMap::new();
        for part in parts.filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=')?;
            let is_word = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            if key.is_empty() || !is_word || attributes.len() == MAX_ATTRIBUTES {
                return None;
            }
            attributes.insert(key.to_owned(), value.to_owned());
        }
        Some(Self { identity, attributes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let plain = UserName::parse("ann+x@example.org").unwrap();
        assert_eq!(plain.identity, "ann+x@example.org");
        assert!(plain.attributes.is_empty());
        let full = UserName::parse("etl;run=42;pipeline=deploy").unwrap();
        assert_eq!(full.identity, "etl");
        assert_eq!(full.attributes["run"], "42");
        assert_eq!(full.attributes["pipeline"], "deploy");
        for bad in ["", ";run=1", "a;run", "a;=1", "a;r n=1", &"x".repeat(96)] {
            assert_eq!(UserName::parse(bad), None, "{bad}");
        }
    }
}
