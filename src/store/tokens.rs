//! Gateway tokens as rows: verifiers and never the token itself.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::Row as _;
use sqlx::sqlite::{Sqlite, SqliteRow};

use super::{Store, StoreError, from_json, to_json};
use crate::identity::{PrincipalKind, Scope, TokenRecord, Use, Verifier};

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
    /// Microseconds since the epoch, of its last login.
    pub used_us: Option<i64>,
    /// From where that was.
    pub used_from: Option<String>,
    /// The token that was made in its place.
    pub replaced_by: Option<String>,
}

/// How a token ends in favour of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Revoked, at this time.
    At(i64),
    /// Expired, at this time or before.
    By(i64),
}

/// As which a login by a Unix socket is kept: as the databases call those of their own.
const LOCAL: &str = "localhost";

impl Store {
    /// Keeps a new token.
    pub async fn insert_token(&self, token: &StoredToken) -> Result<(), StoreError> {
        insert(token, &self.pool).await
    }

    /// Keeps a new token in the place of another, which ends. False when that one is not live, or was replaced before.
    pub async fn replace_token(
        &self,
        old: &str,
        new: &StoredToken,
        ending: Ending,
        now_us: i64,
    ) -> Result<bool, StoreError> {
        let (revoked_us, expires_us) = match ending {
            Ending::At(at_us) => (Some(at_us), None),
            Ending::By(at_us) => (None, Some(at_us)),
        };
        let mut both = self.pool.begin().await?;
        let done = sqlx::query(
            "UPDATE tokens SET replaced_by = ?1, revoked_us = ?2,
                               expires_us = min(coalesce(expires_us, ?3), coalesce(?3, expires_us))
             WHERE id = ?4 AND replaced_by IS NULL AND revoked_us IS NULL
                   AND (expires_us IS NULL OR expires_us > ?5)",
        )
        .bind(&new.record.id)
        .bind(revoked_us)
        .bind(expires_us)
        .bind(old)
        .bind(now_us)
        .execute(&mut *both)
        .await?;
        if done.rows_affected() != 1 {
            return Ok(false);
        }
        insert(new, &mut *both).await?;
        both.commit().await?;
        Ok(true)
    }

    /// Keeps when tokens and session passwords were last used. What is older than what is kept changes nothing.
    pub async fn tokens_used(&self, uses: &HashMap<Arc<str>, Use>) -> Result<(), StoreError> {
        let mut all = self.pool.begin().await?;
        for (id, used) in uses {
            let from = used.from.map_or_else(|| LOCAL.to_owned(), |address| address.to_string());
            let update = if id.starts_with("pwd_") {
                "UPDATE passwords SET used_us = ?1, used_from = ?2
                 WHERE id = ?3 AND (used_us IS NULL OR used_us < ?1)"
            } else {
                "UPDATE tokens SET used_us = ?1, used_from = ?2
                 WHERE id = ?3 AND (used_us IS NULL OR used_us < ?1)"
            };
            sqlx::query(update).bind(used.at_us).bind(from).bind(&**id).execute(&mut *all).await?;
        }
        Ok(all.commit().await?)
    }

    /// Every token, oldest first.
    pub async fn tokens(&self) -> Result<Vec<StoredToken>, StoreError> {
        let rows = sqlx::query("SELECT * FROM tokens ORDER BY created_us, id")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(StoredToken::from_row).collect()
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

async fn insert<'e>(
    token: &StoredToken,
    into: impl sqlx::Executor<'e, Database = Sqlite>,
) -> Result<(), StoreError> {
    let record = &token.record;
    let networks: Vec<_> = record.scope.networks.iter().map(ToString::to_string).collect();
    sqlx::query(
        "INSERT INTO tokens (id, identity, kind, groups, targets, networks, sha256, sha1, created_us,
                             created_by, expires_us, revoked_us)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&record.id)
    .bind(&record.identity)
    .bind(record.kind.as_str())
    .bind(to_json(&record.groups))
    .bind(to_json(&record.scope.targets))
    .bind(to_json(&networks))
    .bind(record.verifier.sha256.as_slice())
    .bind(record.verifier.sha1.as_slice())
    .bind(token.created_us)
    .bind(&token.created_by)
    .bind(record.expires_us)
    .bind(token.revoked_us)
    .execute(into)
    .await?;
    Ok(())
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
                scope: Scope {
                    targets: from_json(row, "targets")?,
                    networks: from_json(row, "networks")?,
                },
                verifier,
                expires_us: row.try_get("expires_us")?,
                revoked: revoked_us.is_some(),
            },
            created_us: row.try_get("created_us")?,
            created_by: row.try_get("created_by")?,
            revoked_us,
            used_us: row.try_get("used_us")?,
            used_from: row.try_get("used_from")?,
            replaced_by: row.try_get("replaced_by")?,
        })
    }
}

pub(super) fn kind(word: &str) -> Result<PrincipalKind, StoreError> {
    [PrincipalKind::Human, PrincipalKind::Agent, PrincipalKind::Service]
        .into_iter()
        .find(|kind| kind.as_str() == word)
        .ok_or(StoreError::Malformed("kind of token"))
}

pub(super) fn bytes<const N: usize>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<[u8; N], StoreError> {
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
                scope: Scope {
                    targets: vec!["shop".into()],
                    networks: vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
                },
                verifier: Verifier::of(id.as_bytes()),
                expires_us,
                revoked: false,
            },
            created_us: 5,
            created_by: "dana".into(),
            revoked_us: None,
            used_us: None,
            used_from: None,
            replaced_by: None,
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
            assert_eq!(store.logins().await.unwrap().tokens[1], b.record);
        });
    }

    #[test]
    fn a_token_is_replaced_once_and_ends_no_later_than_it_was_to() {
        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let store = Store::open(&dir.path().join("s.db")).await.unwrap();
            for (id, expires_us) in [("long", None), ("short", Some(20)), ("over", Some(5))] {
                store.insert_token(&token(id, expires_us)).await.unwrap();
            }
            let replace = async |old: &str, new: &str, ending| {
                store.replace_token(old, &token(new, None), ending, 10).await.unwrap()
            };
            assert!(replace("long", "new_1", Ending::By(50)).await);
            assert!(!replace("long", "new_2", Ending::By(60)).await, "twice");
            assert!(replace("short", "new_3", Ending::By(50)).await);
            assert!(!replace("over", "new_4", Ending::By(50)).await, "expired");
            assert!(!replace("nobody", "new_5", Ending::By(50)).await);
            assert!(replace("new_1", "new_6", Ending::At(10)).await);
            assert!(!replace("new_1", "new_7", Ending::At(10)).await, "revoked");
            // An id that is taken leaves both as they were.
            assert!(
                store
                    .replace_token("new_6", &token("long", None), Ending::At(10), 10)
                    .await
                    .is_err()
            );
            let tokens = store.tokens().await.unwrap();
            let of = |id: &str| {
                let token = tokens.iter().find(|token| token.record.id == id).unwrap();
                (token.record.expires_us, token.revoked_us, token.replaced_by.as_deref())
            };
            assert_eq!(of("long"), (Some(50), None, Some("new_1")));
            assert_eq!(of("short"), (Some(20), None, Some("new_3")));
            assert_eq!(of("over"), (Some(5), None, None));
            assert_eq!(of("new_1"), (None, Some(10), Some("new_6")));
            assert_eq!(of("new_6"), (None, None, None));
            assert_eq!(tokens.len(), 6);
        });
    }

    #[test]
    fn the_last_use_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let store = Store::open(&dir.path().join("s.db")).await.unwrap();
            store.insert_token(&token("tok_a", None)).await.unwrap();
            let used = async |at_us, from: Option<&str>| {
                let from = from.map(|from| from.parse().unwrap());
                let unknown = ("tok_gone".into(), Use { at_us, from });
                let uses = HashMap::from([("tok_a".into(), Use { at_us, from }), unknown]);
                store.tokens_used(&uses).await.unwrap();
                let kept = store.tokens().await.unwrap().remove(0);
                (kept.used_us.unwrap(), kept.used_from.unwrap())
            };
            assert_eq!(used(5, Some("10.0.0.1")).await, (5, "10.0.0.1".to_owned()));
            assert_eq!(used(4, None).await, (5, "10.0.0.1".to_owned()));
            assert_eq!(used(6, None).await, (6, "localhost".to_owned()));
        });
    }
}
