//! Targets as rows. What is sealed in them is opened by `vault`, and not here.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError};

/// A target as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTarget {
    /// Its name.
    pub name: String,
    /// Its settings, as JSON: to the letter what the sealed credential is bound to.
    pub settings: String,
    /// Its credential, sealed; none: the settings name where it is.
    pub sealed: Option<Vec<u8>>,
    /// The credential before the last rotation.
    pub before: Option<Before>,
    /// Microseconds since the epoch.
    pub created_us: i64,
    /// Who added it.
    pub created_by: String,
    /// Microseconds since the epoch, of the last rotation.
    pub rotated_us: Option<i64>,
    /// Who rotated it.
    pub rotated_by: Option<String>,
}

/// A credential that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// Sealed.
    pub sealed: Vec<u8>,
    /// Microseconds since the epoch: until then it is tried.
    pub until_us: i64,
}

/// A credential that is sealed anew, and what was read of it.
#[derive(Clone, Debug)]
pub struct Resealed {
    /// The target.
    pub name: String,
    /// As it was read.
    pub old: Option<Vec<u8>>,
    /// The same under the new key.
    pub sealed: Option<Vec<u8>>,
    /// The credential before it, as it was read and under the new key.
    pub before: Option<(Vec<u8>, Vec<u8>)>,
}

impl Store {
    /// Keeps a new target. False where its name is taken.
    pub async fn insert_target(&self, target: &StoredTarget) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT OR IGNORE INTO targets (name, settings, sealed, created_us, created_by)
             VALUES (?, ?, ?, ?, ?)",
        )
        .bind(&target.name)
        .bind(&target.settings)
        .bind(&target.sealed)
        .bind(target.created_us)
        .bind(&target.created_by)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Every target, oldest first.
    pub async fn targets(&self) -> Result<Vec<StoredTarget>, StoreError> {
        let rows = sqlx::query("SELECT * FROM targets ORDER BY created_us, name")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(StoredTarget::from_row).collect()
    }

    /// Forgets a target. False where there is none of that name.
    pub async fn remove_target(&self, name: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM targets WHERE name = ?")
            .bind(name)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Keeps another credential of a target. False where it is not as it was read.
    pub async fn rotate_target(
        &self,
        read: &StoredTarget,
        new: &StoredTarget,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE targets SET settings = ?1, sealed = ?2, before = ?3, before_until_us = ?4,
                                rotated_us = ?5, rotated_by = ?6
             WHERE name = ?7 AND settings = ?8 AND sealed IS ?9",
        )
        .bind(&new.settings)
        .bind(&new.sealed)
        .bind(new.before.as_ref().map(|before| &before.sealed))
        .bind(new.before.as_ref().map(|before| before.until_us))
        .bind(new.rotated_us)
        .bind(&new.rotated_by)
        .bind(&read.name)
        .bind(&read.settings)
        .bind(&read.sealed)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Forgets the credentials before rotations whose overlap is over.
    pub async fn forget_before(&self, now_us: i64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE targets SET before = NULL, before_until_us = NULL WHERE before_until_us <= ?",
        )
        .bind(now_us)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Keeps all of these, or none. False, and none, where one is not as it was read, or there are others.
    pub async fn reseal(&self, all: &[Resealed]) -> Result<bool, StoreError> {
        let mut change = self.pool.begin().await?;
        for target in all {
            let (old_before, before) = target.before.clone().unzip();
            let done = sqlx::query(
                "UPDATE targets SET sealed = ?1, before = ?2
                 WHERE name = ?3 AND sealed IS ?4 AND before IS ?5",
            )
            .bind(&target.sealed)
            .bind(before)
            .bind(&target.name)
            .bind(&target.old)
            .bind(old_before)
            .execute(&mut *change)
            .await?;
            if done.rows_affected() != 1 {
                return Ok(false);
            }
        }
        let kept = sqlx::query(
            "SELECT count(*) AS n FROM targets WHERE sealed IS NOT NULL OR before IS NOT NULL",
        )
        .fetch_one(&mut *change)
        .await?;
        let kept: i64 = kept.try_get("n")?;
        if usize::try_from(kept) != Ok(all.len()) {
            return Ok(false);
        }
        change.commit().await?;
        Ok(true)
    }
}

impl StoredTarget {
    fn from_row(row: &SqliteRow) -> Result<Self, StoreError> {
        let before: Option<Vec<u8>> = row.try_get("before")?;
        let until_us: Option<i64> = row.try_get("before_until_us")?;
        Ok(Self {
            name: row.try_get("name")?,
            settings: row.try_get("settings")?,
            sealed: row.try_get("sealed")?,
            before: before.zip(until_us).map(|(sealed, until_us)| Before { sealed, until_us }),
            created_us: row.try_get("created_us")?,
            created_by: row.try_get("created_by")?,
            rotated_us: row.try_get("rotated_us")?,
            rotated_by: row.try_get("rotated_by")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::block_on;

    fn target(name: &str, sealed: Option<&[u8]>) -> StoredTarget {
        StoredTarget {
            name: name.into(),
            settings: "{}".into(),
            sealed: sealed.map(<[u8]>::to_vec),
            before: None,
            created_us: 5,
            created_by: "dana".into(),
            rotated_us: None,
            rotated_by: None,
        }
    }

    #[test]
    fn added_rotated_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let store = Store::open(&dir.path().join("s.db")).await.unwrap();
            let (shop, crm) = (target("shop", Some(b"one")), target("crm", None));
            assert!(store.insert_target(&shop).await.unwrap());
            assert!(store.insert_target(&crm).await.unwrap());
            assert!(!store.insert_target(&shop).await.unwrap(), "a name twice");
            assert_eq!(store.targets().await.unwrap(), [crm.clone(), shop.clone()]);
            let before = Before { sealed: b"one".to_vec(), until_us: 20 };
            let new = StoredTarget {
                sealed: Some(b"two".to_vec()),
                before: Some(before),
                rotated_us: Some(9),
                rotated_by: Some("ann".into()),
                ..shop.clone()
            };
            assert!(store.rotate_target(&shop, &new).await.unwrap());
            assert!(!store.rotate_target(&shop, &new).await.unwrap(), "it was rotated meanwhile");
            assert_eq!(store.targets().await.unwrap()[1], new);
            store.forget_before(19).await.unwrap();
            assert_eq!(store.targets().await.unwrap()[1], new);
            store.forget_before(20).await.unwrap();
            assert_eq!(store.targets().await.unwrap()[1].before, None);
            assert!(store.remove_target("shop").await.unwrap());
            assert!(!store.remove_target("shop").await.unwrap());
            assert_eq!(store.targets().await.unwrap(), [crm]);
        });
    }

    #[test]
    fn all_are_sealed_anew_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let anew = |name: &str, old: &[u8]| Resealed {
            name: name.into(),
            old: Some(old.to_vec()),
            sealed: Some([b"new ", old].concat()),
            before: None,
        };
        block_on(async {
            let store = Store::open(&dir.path().join("s.db")).await.unwrap();
            for (name, sealed) in [("a", Some(b"1")), ("b", Some(b"2")), ("c", None)] {
                let sealed = sealed.map(<[u8; 1]>::as_slice);
                store.insert_target(&target(name, sealed)).await.unwrap();
            }
            let kept = async || -> Vec<Option<Vec<u8>>> {
                store.targets().await.unwrap().into_iter().map(|target| target.sealed).collect()
            };
            let before = kept().await;
            for wrong in [
                vec![anew("a", b"1")],
                vec![anew("a", b"1"), anew("b", b"other")],
                vec![anew("a", b"1"), anew("gone", b"2")],
            ] {
                assert!(!store.reseal(&wrong).await.unwrap());
                assert_eq!(kept().await, before);
            }
            assert!(store.reseal(&[anew("a", b"1"), anew("b", b"2")]).await.unwrap());
            let new = |text: &str| Some(text.as_bytes().to_vec());
            assert_eq!(kept().await, [new("new 1"), new("new 2"), None]);
        });
    }
}
