//! Who is signed in to the pages, as rows. A session is found by the hash of its cookie, and only while it is good: not
//! past its ends, and not of an identity that was revoked.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, from_json, to_json};
use crate::principal::PrincipalKind;

/// Sessions of one identity at once: a person's browsers. The oldest must go.
const MAX_OF_ONE: i64 = 16;

/// A person signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSession {
    /// SHA-256 of what the cookie holds.
    pub hash: [u8; 32],
    /// Who.
    pub identity: String,
    /// What kind of principal.
    pub kind: PrincipalKind,
    /// The groups, as they were at the sign-in.
    pub groups: Vec<String>,
    /// By what it signed in: `oidc:NAME`, `saml:NAME`.
    pub source: String,
    /// From where that was.
    pub address: String,
    /// Microseconds since the epoch.
    pub created_us: i64,
    /// The last request, a minute late at the most.
    pub seen_us: i64,
    /// When it ends at the latest.
    pub expires_us: i64,
}

impl Store {
    /// Keeps a new session; those that ended long ago, and the oldest of the same identity above a bound, go.
    pub async fn begin_web_session(&self, session: &WebSession) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM web_sessions WHERE expires_us <= ?")
            .bind(session.created_us)
            .execute(&self.pool)
            .await?;
        sqlx::query(
            "INSERT INTO web_sessions
             (hash, identity, kind, groups, source, address, created_us, seen_us, expires_us)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(session.hash.as_slice())
        .bind(&session.identity)
        .bind(session.kind.as_str())
        .bind(to_json(&session.groups))
        .bind(&session.source)
        .bind(&session.address)
        .bind(session.created_us)
        .bind(session.seen_us)
        .bind(session.expires_us)
        .execute(&self.pool)
        .await?;
        sqlx::query(
            "DELETE FROM web_sessions WHERE identity = ?1 AND hash NOT IN
             (SELECT hash FROM web_sessions WHERE identity = ?1
              ORDER BY created_us DESC, hash LIMIT ?2)",
        )
        .bind(&session.identity)
        .bind(MAX_OF_ONE)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The session of this cookie, if it is good now. `idle_us`: how long ago its last request may be.
    pub async fn web_session(
        &self,
        hash: &[u8; 32],
        now_us: i64,
        idle_us: i64,
    ) -> Result<Option<WebSession>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM web_sessions WHERE hash = ? AND expires_us > ? AND seen_us > ?
             AND identity NOT IN (SELECT identity FROM revoked_identities)",
        )
        .bind(hash.as_slice())
        .bind(now_us)
        .bind(now_us.saturating_sub(idle_us))
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(WebSession::from_row).transpose()
    }

    /// Notes a request.
    pub async fn web_session_seen(&self, hash: &[u8; 32], now_us: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE web_sessions SET seen_us = ? WHERE hash = ? AND seen_us < ?")
            .bind(now_us)
            .bind(hash.as_slice())
            .bind(now_us)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Ends a session.
    pub async fn end_web_session(&self, hash: &[u8; 32]) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM web_sessions WHERE hash = ?")
            .bind(hash.as_slice())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Ends every session of an identity, so that none is good again when the identity is restored.
    pub(super) async fn end_web_sessions_of(&self, identity: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM web_sessions WHERE identity = ?")
            .bind(identity)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

impl WebSession {
    fn from_row(row: &SqliteRow) -> Result<Self, StoreError> {
        let hash: Vec<u8> = row.try_get("hash")?;
        let kind: String = row.try_get("kind")?;
        let kind = serde_json::from_value(kind.into())
            .map_err(|_| StoreError::Malformed("kind of a web session"))?;
        Ok(Self {
            hash: hash.try_into().map_err(|_| StoreError::Malformed("hash of a web session"))?,
            identity: row.try_get("identity")?,
            kind,
            groups: from_json(row, "groups")?,
            source: row.try_get("source")?,
            address: row.try_get("address")?,
            created_us: row.try_get("created_us")?,
            seen_us: row.try_get("seen_us")?,
            expires_us: row.try_get("expires_us")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RevokedIdentity;
    use crate::store::tests::block_on;

    fn session(of: u8, identity: &str, created_us: i64) -> WebSession {
        WebSession {
            hash: [of; 32],
            identity: identity.into(),
            kind: PrincipalKind::Human,
            groups: vec!["dba".into()],
            source: "oidc:corp".into(),
            address: "10.0.0.1".into(),
            created_us,
            seen_us: created_us,
            expires_us: created_us + 1_000,
        }
    }

    #[test]
    fn a_session_is_good_until_one_of_its_ends() {
        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let store = Store::open(&dir.path().join("s.db")).await.unwrap();
            let ann = session(1, "ann", 100);
            store.begin_web_session(&ann).await.unwrap();
            let at = async |now_us| store.web_session(&[1; 32], now_us, 50).await.unwrap();
            assert_eq!(at(149).await, Some(ann.clone()));
            assert_eq!(at(150).await, None, "idle");
            store.web_session_seen(&[1; 32], 1_080).await.unwrap();
            assert!(at(1_099).await.is_some());
            assert_eq!(at(1_100).await, None, "its end");
            store.end_web_session(&[1; 32]).await.unwrap();
            assert_eq!(at(1_090).await, None, "signed out");
        });
    }

    #[test]
    fn a_revoked_identitys_sessions_end_for_good() {
        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let store = Store::open(&dir.path().join("s.db")).await.unwrap();
            store.begin_web_session(&session(1, "ann", 100)).await.unwrap();
            store.begin_web_session(&session(2, "ben", 100)).await.unwrap();
            let revoked = RevokedIdentity {
                identity: "ann".into(),
                revoked_us: 110,
                revoked_by: "dana".into(),
                reason: String::new(),
            };
            store.revoke_identity(&revoked).await.unwrap();
            assert_eq!(store.web_session(&[1; 32], 120, 50).await.unwrap(), None);
            store.restore_identity("ann").await.unwrap();
            assert_eq!(store.web_session(&[1; 32], 120, 50).await.unwrap(), None);
            assert!(store.web_session(&[2; 32], 120, 50).await.unwrap().is_some());
        });
    }

    #[test]
    fn one_identity_fills_no_table() {
        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let store = Store::open(&dir.path().join("s.db")).await.unwrap();
            for at in 0..20 {
                store.begin_web_session(&session(at, "ann", 100 + i64::from(at))).await.unwrap();
            }
            let good = async |of| store.web_session(&[of; 32], 130, 100).await.unwrap().is_some();
            assert!(!good(3).await && good(4).await && good(19).await);
        });
    }
}
