//! Session passwords as rows: verifiers and never the password itself.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::tokens::{bytes, kind};
use super::{Store, StoreError, from_json, to_json};
use crate::identity::{PasswordRecord, Scope, Verifier};

/// How long one that has ended is kept: until every session with it has seen that it was revoked, and so that the record
/// can tell a while longer why a login failed.
const KEEP_US: i64 = 3_600 * 1_000_000;

/// Those of one identity that have ended and are kept: whoever makes and revokes them in a row fills nothing.
const KEEP_ENDED: i64 = 32;

/// A session password as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPassword {
    /// What logins are checked against.
    pub record: PasswordRecord,
    /// What its owner calls it: the device or the program that it is for.
    pub label: String,
    /// Microseconds since the epoch.
    pub created_us: i64,
    /// Microseconds since the epoch, once revoked.
    pub revoked_us: Option<i64>,
    /// Microseconds since the epoch, of its last login.
    pub used_us: Option<i64>,
    /// From where that was.
    pub used_from: Option<String>,
}

/// How many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Live ones of one identity.
    pub of_one: usize,
    /// Of everyone, those that are kept for a while after their end included.
    pub in_all: usize,
}

/// Whether a new one was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordKept {
    /// It was.
    Yes,
    /// Its identity has as many as it may.
    TooManyOfOne,
    /// There are as many as there may be.
    TooManyInAll,
}

impl Store {
    /// Keeps a new session password if the bounds allow it; takes out those that ended a while ago.
    pub async fn insert_password(
        &self,
        password: &StoredPassword,
        bounds: Bounds,
        now_us: i64,
    ) -> Result<PasswordKept, StoreError> {
        let identity = &password.record.identity;
        let mut all = self.pool.begin().await?;
        sqlx::query("DELETE FROM passwords WHERE expires_us <= ?")
            .bind(now_us.saturating_sub(KEEP_US))
            .execute(&mut *all)
            .await?;
        sqlx::query(
            "DELETE FROM passwords WHERE id IN (
                 SELECT id FROM passwords
                 WHERE identity = ?1 AND (revoked_us IS NOT NULL OR expires_us <= ?2)
                 ORDER BY coalesce(revoked_us, expires_us) DESC, id LIMIT -1 OFFSET ?3)",
        )
        .bind(identity)
        .bind(now_us)
        .bind(KEEP_ENDED)
        .execute(&mut *all)
        .await?;
        let row = sqlx::query(
            "SELECT count(*) AS in_all,
                    count(*) FILTER (WHERE identity = ?1 AND revoked_us IS NULL AND expires_us > ?2) AS of_one
             FROM passwords",
        )
        .bind(identity)
        .bind(now_us)
        .fetch_one(&mut *all)
        .await?;
        let count = |column| {
            row.try_get::<i64, _>(column).map(|count| usize::try_from(count).unwrap_or(usize::MAX))
        };
        if count("of_one")? >= bounds.of_one {
            return Ok(PasswordKept::TooManyOfOne);
        }
        if count("in_all")? >= bounds.in_all {
            return Ok(PasswordKept::TooManyInAll);
        }
        insert(password, &mut all).await?;
        all.commit().await?;
        Ok(PasswordKept::Yes)
    }

    /// The session passwords that are kept, of one identity or of all; oldest first.
    pub async fn passwords(
        &self,
        identity: Option<&str>,
    ) -> Result<Vec<StoredPassword>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM passwords WHERE ?1 IS NULL OR identity = ?1 ORDER BY created_us, id",
        )
        .bind(identity)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(StoredPassword::from_row).collect()
    }

    /// The one of this id.
    pub async fn password(&self, id: &str) -> Result<Option<StoredPassword>, StoreError> {
        let row = sqlx::query("SELECT * FROM passwords WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(StoredPassword::from_row).transpose()
    }

    /// The one that this is the verifier of.
    pub async fn password_of(
        &self,
        verifier: &Verifier,
    ) -> Result<Option<StoredPassword>, StoreError> {
        let row = sqlx::query("SELECT * FROM passwords WHERE sha256 = ?")
            .bind(verifier.sha256.as_slice())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(StoredPassword::from_row).transpose()
    }

    /// Revokes one. False when there is none of that id that is live.
    pub async fn revoke_password(&self, id: &str, now_us: i64) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE passwords SET revoked_us = ?1
             WHERE id = ?2 AND revoked_us IS NULL AND expires_us > ?1",
        )
        .bind(now_us)
        .bind(id)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }
}

async fn insert(
    password: &StoredPassword,
    into: &mut sqlx::Transaction<'_, sqlx::Sqlite>,
) -> Result<(), StoreError> {
    let record = &password.record;
    let networks: Vec<_> = record.scope.networks.iter().map(ToString::to_string).collect();
    let attributes = record.attributes.iter();
    let attributes: serde_json::Map<String, serde_json::Value> =
        attributes.map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    sqlx::query(
        "INSERT INTO passwords (id, identity, kind, groups, attributes, targets, networks, sha256, sha1,
                                label, created_us, expires_us, revoked_us)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&record.id)
    .bind(&record.identity)
    .bind(record.kind.as_str())
    .bind(to_json(&record.groups))
    .bind(serde_json::Value::from(attributes).to_string())
    .bind(to_json(&record.scope.targets))
    .bind(to_json(&networks))
    .bind(record.verifier.sha256.as_slice())
    .bind(record.verifier.sha1.as_slice())
    .bind(&password.label)
    .bind(password.created_us)
    .bind(record.expires_us)
    .bind(password.revoked_us)
    .execute(&mut **into)
    .await?;
    Ok(())
}

impl StoredPassword {
    fn from_row(row: &SqliteRow) -> Result<Self, StoreError> {
        let revoked_us: Option<i64> = row.try_get("revoked_us")?;
        let scope =
            Scope { targets: from_json(row, "targets")?, networks: from_json(row, "networks")? };
        Ok(Self {
            record: PasswordRecord {
                id: row.try_get("id")?,
                identity: row.try_get("identity")?,
                kind: kind(row.try_get("kind")?)?,
                groups: from_json(row, "groups")?,
                attributes: from_json(row, "attributes")?,
                scope,
                verifier: Verifier { sha256: bytes(row, "sha256")?, sha1: bytes(row, "sha1")? },
                expires_us: row.try_get("expires_us")?,
                revoked: revoked_us.is_some(),
            },
            label: row.try_get("label")?,
            created_us: row.try_get("created_us")?,
            revoked_us,
            used_us: row.try_get("used_us")?,
            used_from: row.try_get("used_from")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;
    use crate::identity::{PrincipalKind, Use};
    use crate::store::tests::block_on;

    const BOUNDS: Bounds = Bounds { of_one: 3, in_all: 40 };

    fn password(id: &str, identity: &str, expires_us: i64) -> StoredPassword {
        StoredPassword {
            record: PasswordRecord {
                id: id.into(),
                identity: identity.into(),
                kind: PrincipalKind::Human,
                groups: vec!["support".into()],
                attributes: BTreeMap::from([("by".into(), "a \"web\" page".into())]),
                scope: Scope {
                    targets: vec!["shop".into()],
                    networks: vec!["10.0.0.0/8".parse().unwrap()],
                },
                verifier: Verifier::of(id.as_bytes()),
                expires_us,
                revoked: false,
            },
            label: "laptop".into(),
            created_us: 5,
            revoked_us: None,
            used_us: None,
            used_from: None,
        }
    }

    fn with_store(work: impl AsyncFn(Store)) {
        let dir = tempfile::tempdir().unwrap();
        block_on(async { work(Store::open(&dir.path().join("s.db")).await.unwrap()).await });
    }

    #[test]
    fn round_trip_use_and_revocation() {
        with_store(async |store| {
            let one = password("pwd_1", "ann", 99);
            let kept = store.insert_password(&one, BOUNDS, 5).await.unwrap();
            assert_eq!(kept, PasswordKept::Yes);
            assert_eq!(store.passwords(Some("ann")).await.unwrap(), std::slice::from_ref(&one));
            assert!(store.passwords(Some("bob")).await.unwrap().is_empty());
            assert_eq!(store.logins().await.unwrap().passwords, std::slice::from_ref(&one.record));
            let verifier = Verifier::of(b"pwd_1");
            assert_eq!(store.password_of(&verifier).await.unwrap(), Some(one));
            assert_eq!(store.password_of(&Verifier::of(b"x")).await.unwrap(), None);
            let used = HashMap::from([("pwd_1".into(), Use { at_us: 7, from: None })]);
            store.tokens_used(&used).await.unwrap();
            assert!(!store.revoke_password("pwd_1", 99).await.unwrap(), "it has ended");
            assert!(store.revoke_password("pwd_1", 8).await.unwrap());
            assert!(!store.revoke_password("pwd_1", 8).await.unwrap());
            let kept = store.password("pwd_1").await.unwrap().unwrap();
            assert_eq!(
                (kept.revoked_us, kept.used_us, kept.record.revoked),
                (Some(8), Some(7), true)
            );
            assert_eq!(kept.used_from.as_deref(), Some("localhost"));
        });
    }

    #[test]
    fn bounds_count_what_is_live_and_in_all() {
        with_store(async |store| {
            let insert = async |id: &str, identity: &str, now_us| {
                let one = password(id, identity, now_us + 100);
                store.insert_password(&one, BOUNDS, now_us).await.unwrap()
            };
            for n in 0..3 {
                assert_eq!(insert(&format!("pwd_{n}"), "ann", 0).await, PasswordKept::Yes);
            }
            assert_eq!(insert("pwd_3", "ann", 0).await, PasswordKept::TooManyOfOne);
            assert_eq!(insert("pwd_4", "bob", 0).await, PasswordKept::Yes);
            assert!(store.revoke_password("pwd_0", 1).await.unwrap());
            assert_eq!(insert("pwd_5", "ann", 1).await, PasswordKept::Yes);
            assert_eq!(insert("pwd_6", "ann", 200).await, PasswordKept::Yes, "the others ended");
            for n in 0..60 {
                let id = format!("pwd_ann{n}");
                assert_eq!(insert(&id, "ann", 300 + n).await, PasswordKept::Yes, "{n}");
                assert!(store.revoke_password(&id, 300 + n).await.unwrap());
            }
            let ended = store.passwords(Some("ann")).await.unwrap().len();
            assert_eq!(i64::try_from(ended).unwrap(), KEEP_ENDED + 1);
            for n in 0..6 {
                assert_eq!(
                    insert(&format!("pwd_b{n}"), &format!("b{n}"), 400).await,
                    PasswordKept::Yes
                );
            }
            assert_eq!(insert("pwd_7", "cy", 400).await, PasswordKept::TooManyInAll);
            let later = KEEP_US + 1_000;
            assert_eq!(insert("pwd_8", "cy", later).await, PasswordKept::Yes);
            assert_eq!(store.passwords(None).await.unwrap().len(), 1, "the others were swept");
        });
    }
}
