//! What a grant is bound to. Pure: bytes in, a keyed BLAKE3 out.

use crate::schema::SqlMode;

/// A grant's key. It says nothing of the statement to who has not the store's secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct GrantKey(pub [u8; 32]);

impl std::fmt::Debug for GrantKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GrantKey(…)")
    }
}

/// Everything that decides what the statement would do, and what its approver was told of it.
#[derive(Clone, Copy, Debug)]
pub struct GrantScope<'a> {
    /// The target's name.
    pub target: &'a str,
    /// The current database.
    pub schema: Option<&'a str>,
    /// How the text is read.
    pub sql_mode: SqlMode,
    /// The connection's character set, by the collation id it logged in with.
    pub charset: u16,
    /// A digest of what the session has set since.
    pub settings: [u8; 32],
    /// A digest of the query attributes that it may read.
    pub attributes: [u8; 32],
    /// The text that will be sent.
    pub canonical: &'a [u8],
    /// The text runs once for each of many rows of parameters.
    pub bulk: bool,
    /// The typed parameters of an EXECUTE as they came (NULL bitmap, types, values; in bulk: types,
    /// indicators and values); empty otherwise.
    pub parameters: &'a [u8],
    /// The rule that holds it.
    pub rule: &'a str,
    /// Whom that asks; none: those of the configuration.
    pub approver_groups: &'a [String],
    /// How many of them.
    pub approvers: u8,
    /// What of its result is masked, and how.
    pub masked: &'a [String],
    /// A digest of the tables that it touches: their columns in order, and all labels.
    pub tables: [u8; 32],
}

impl GrantScope<'_> {
    /// The key under a store's secret. Each part is led by its length, so that no two scopes read the same.
    pub(super) fn key(&self, secret: &[u8; 32]) -> GrantKey {
        let mut hasher = blake3::Hasher::new_keyed(secret);
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(b"rowgate grant 3");
        part(self.target.as_bytes());
        // no database and a database of the empty name are two things
        part(&[u8::from(self.schema.is_some())]);
        part(self.schema.unwrap_or_default().as_bytes());
        part(&[self.sql_mode.0]);
        part(&self.charset.to_le_bytes());
        part(&self.settings);
        part(&self.attributes);
        part(self.canonical);
        part(&[u8::from(self.bulk)]);
        part(self.parameters);
        part(self.rule.as_bytes());
        part(&[self.approvers]);
        for texts in [self.approver_groups, self.masked] {
            part(&texts.len().to_le_bytes());
            texts.iter().for_each(|text| part(text.as_bytes()));
        }
        part(&self.tables);
        GrantKey(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: GrantScope<'static> = GrantScope {
        target: "shop",
        schema: Some("shop"),
        sql_mode: SqlMode(0),
        charset: 45,
        settings: [0; 32],
        attributes: [0; 32],
        canonical: b"DELETE FROM t WHERE id = ?",
        bulk: false,
        parameters: b"\x00\x01\x08\x00\x05",
        rule: "r",
        approver_groups: &[],
        approvers: 1,
        masked: &[],
        tables: [0; 32],
    };

    #[test]
    fn the_same_scope_gives_the_same_key() {
        assert_eq!(SCOPE.key(&[1; 32]), SCOPE.key(&[1; 32]));
    }

    #[test]
    fn every_part_counts() {
        let (a, b) = (["a".to_owned()], ["b".to_owned()]);
        let others = [
            GrantScope { target: "shop2", ..SCOPE },
            GrantScope { schema: None, ..SCOPE },
            GrantScope { schema: Some(""), ..SCOPE },
            GrantScope { sql_mode: SqlMode(1), ..SCOPE },
            GrantScope { charset: 33, ..SCOPE },
            GrantScope { settings: [1; 32], ..SCOPE },
            GrantScope { attributes: [1; 32], ..SCOPE },
            GrantScope { bulk: true, ..SCOPE },
            GrantScope { canonical: b"DELETE FROM t WHERE id = 1", ..SCOPE },
            GrantScope { parameters: b"\x00\x01\x08\x00\x06", ..SCOPE },
            GrantScope { rule: "s", ..SCOPE },
            GrantScope { approver_groups: &a, ..SCOPE },
            GrantScope { approver_groups: &b, ..SCOPE },
            GrantScope { masked: &a, ..SCOPE },
            GrantScope { approvers: 2, ..SCOPE },
            GrantScope { tables: [1; 32], ..SCOPE },
            // a byte moved from one part to the next
            GrantScope {
                canonical: b"DELETE FROM t WHERE id = ?\x00",
                parameters: b"\x01\x08\x00\x05",
                ..SCOPE
            },
        ];
        let mut keys: Vec<_> = others.iter().map(|scope| scope.key(&[1; 32]).0).collect();
        keys.push(SCOPE.key(&[1; 32]).0);
        keys.push(SCOPE.key(&[2; 32]).0);
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), others.len() + 2);
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", GrantKey([1; 32])), "GrantKey(…)");
    }
}
