//! Gateway tokens as rows: verifiers and never the token itself.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, from_json, to_json};
use crate::identity::{PrincipalKind, TokenRecord, Verifier};

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredToken {
    /// What logins are checked against.
    pub record: TokenRecord,
    /// Microseconds since the epoch.
    pub created_us: i64,
    /// Who made it.
    pub created_by: String,
    /// Microseconds since the epoch, once revoked.
    pub revoked_us: Option<i64>,
}

impl Store {
    /// Keeps a new token.
    pub async fn insert_token(&self, token: &StoredToken) -> Result<(), StoreError> {
        let record = &token.record;
        sqlx::query(
            "INSERT INTO tokens (id, identity, kind, groups, sha256, sha1, created_us, created_by,
                                 expires_us, revoked_us)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&record.id)
        .bind(&record.identity)
        .bind(record.kind.as_str())
        .bind(to_json(&record.groups))
        .bind(record.verifier.sha256.as_slice())
        .bind(record.verifier.sha1.as_slice())
        .bind(token.created_us)
        .bind(&token.created_by)
        .bind(record.expires_us)
        .bind(token.revoked_us)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Every token, oldest first.
    pub async fn tokens(&self) -> Result<Vec<StoredToken>, StoreError> {
        let rows = sqlx::query("SELECT * FROM tokens ORDER BY created_us, id")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(StoredToken::from_row).collect()
    }

    /// What the directory of logins is made of.
    pub async fn token_records(&self) -> Result<Vec<TokenRecord>, StoreError> {
        Ok(self.tokens().await?.into_iter().map(|token| token.record).collect())
    }

    /// Revokes a token. False when there is none of that id that is still live.
    pub async fn revoke_token(&self, id: &str, at_us: i64) -> Result<bool, StoreError> {
        let done =
            sqlx::query("UPDATE tokens SET revoked_us = ? WHERE id = ? AND revoked_us IS NULL")
                .bind(at_us)
                .bind(id)
                .execute(&self.pool)
                .await?;
        Ok(done.rows_affected() == 1)
    }
}

impl StoredToken {
    fn from_row(row: &SqliteRow) -> Result<Self, StoreError> {
        let revoked_us: Option<i64> = row.try_get("revoked_us")?;
        let verifier = Verifier { sha256: bytes(row, "sha256")?, sha1: bytes(row, "sha1")? };
        Ok(Self {
            record: TokenRecord {
                id: row.try_get("id")?,
                identity: row.try_get("identity")?,
                kind: kind(row.try_get("kind")?)?,
                groups: from_json(row, "groups")?,
                verifier,
                expires_us: row.try_get("expires_us")?,
                revoked: revoked_us.is_some(),
            },
            created_us: row.try_get("created_us")?,
            created_by: row.try_get("created_by")?,
            revoked_us,
        })
    }
}

fn kind(word: &str) -> Result<PrincipalKind, StoreError> {
    [PrincipalKind::Human, PrincipalKind::Agent, PrincipalKind::Service]
        .into_iter()
        .find(|kind| kind.as_str() == word)
        .ok_or(StoreError::Malformed("kind of token"))
}

fn bytes<const N: usize>(row: &SqliteRow, column: &'static str) -> Result<[u8; N], StoreError> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map_err(|_| StoreError::Malformed(column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::block_on;

    fn token(id: &str, expires_us: Option<i64>) -> StoredToken {
        StoredToken {
            record: TokenRecord {
                id: id.into(),
                identity: "bot".into(),
                kind: PrincipalKind::Agent,
                groups: vec!["agents".into(), "with \"quotes\", and commas".into()],
                verifier: Verifier::of(id.as_bytes()),
                expires_us,
                revoked: false,
            },
            created_us: 5,
            created_by: "dana".into(),
            revoked_us: None,
        }
    }

    #[test]
    fn round_trip_and_revocation() {
        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let store = Store::open(&dir.path().join("s.db")).await.unwrap();
            let (a, b) = (token("tok_a", None), token("tok_b", Some(99)));
            store.insert_token(&a).await.unwrap();
            store.insert_token(&b).await.unwrap();
            assert!(store.insert_token(&a).await.is_err(), "an id twice");
            assert_eq!(store.tokens().await.unwrap(), [a, b.clone()]);
            assert!(store.revoke_token("tok_a", 7).await.unwrap());
            assert!(!store.revoke_token("tok_a", 8).await.unwrap());
            assert!(!store.revoke_token("tok_x", 8).await.unwrap());
            let kept = store.tokens().await.unwrap();
            assert_eq!(kept[0].revoked_us, Some(7));
            assert!(kept[0].record.revoked);
            assert_eq!(store.token_records().await.unwrap()[1], b.record);
        });
    }
}
