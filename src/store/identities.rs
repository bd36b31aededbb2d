//! Revoked identities as rows.

use std::collections::HashSet;

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError};
use crate::identity::{PasswordRecord, TokenRecord};

/// An identity that may not log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedIdentity {
    /// Its name.
    pub identity: String,
    /// Since when, in microseconds since the epoch.
    pub revoked_us: i64,
    /// Who revoked it.
    pub revoked_by: String,
    /// Why.
    pub reason: String,
}

/// What logins are checked against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logins {
    /// Every token.
    pub tokens: Vec<TokenRecord>,
    /// Every session password that is kept.
    pub passwords: Vec<PasswordRecord>,
    /// The identities that may not log in, whichever way.
    pub revoked: HashSet<String>,
}

impl Store {
    /// What logins are checked against.
    pub async fn logins(&self) -> Result<Logins, StoreError> {
        let tokens = self.tokens().await?.into_iter().map(|token| token.record).collect();
        let passwords = self.passwords(None).await?.into_iter().map(|one| one.record).collect();
        let revoked = self.revoked_identities().await?;
        Ok(Logins {
            tokens,
            passwords,
            revoked: revoked.into_iter().map(|one| one.identity).collect(),
        })
    }

    /// The identities that may not log in, by name.
    pub async fn revoked_identities(&self) -> Result<Vec<RevokedIdentity>, StoreError> {
        let rows = sqlx::query("SELECT * FROM revoked_identities ORDER BY identity")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(RevokedIdentity::from_row).collect()
    }

    /// Revokes an identity. False when it is revoked already.
    pub async fn revoke_identity(&self, revoked: &RevokedIdentity) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT OR IGNORE INTO revoked_identities (identity, revoked_us, revoked_by, reason)
             VALUES (?, ?, ?, ?)",
        )
        .bind(&revoked.identity)
        .bind(revoked.revoked_us)
        .bind(&revoked.revoked_by)
        .bind(&revoked.reason)
        .execute(&self.pool)
        .await?;
        self.end_web_sessions_of(&revoked.identity).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Lets an identity log in again. False when it is not revoked.
    pub async fn restore_identity(&self, identity: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM revoked_identities WHERE identity = ?")
            .bind(identity)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }
}

impl RevokedIdentity {
    fn from_row(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            identity: row.try_get("identity")?,
            revoked_us: row.try_get("revoked_us")?,
            revoked_by: row.try_get("revoked_by")?,
            reason: row.try_get("reason")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::block_on;

    #[test]
    fn revoked_and_restored() {
        let dir = tempfile::tempdir().unwrap();
        let revoked = |identity: &str| RevokedIdentity {
            identity: identity.into(),
            revoked_us: 7,
            revoked_by: "dana".into(),
            reason: "a leak".into(),
        };
        block_on(async {
            let store = Store::open(&dir.path().join("s.db")).await.unwrap();
            assert!(store.revoke_identity(&revoked("bot")).await.unwrap());
            assert!(!store.revoke_identity(&revoked("bot")).await.unwrap());
            assert!(store.revoke_identity(&revoked("Bot")).await.unwrap(), "another name");
            let kept = store.revoked_identities().await.unwrap();
            assert_eq!(kept, [revoked("Bot"), revoked("bot")]);
            assert!(store.logins().await.unwrap().revoked.contains("bot"));
            assert!(store.restore_identity("bot").await.unwrap());
            assert!(!store.restore_identity("bot").await.unwrap());
            assert!(!store.logins().await.unwrap().revoked.contains("bot"));
        });
    }
}
