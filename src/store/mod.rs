//! What must outlive the process: tokens and session passwords (as verifiers), who is revoked, approvals, and which policy was live when. SQLite through sqlx.
//!
//! Rows in, rows out: who may approve what, and when a request expires, is the business of `approval`. It needs a
//! tokio runtime for its time-outs, and so is used from the control thread and the command line, never by a worker.

mod approval_details;
mod approvals;
mod identities;
mod passwords;
mod targets;
mod tokens;
mod web_sessions;

use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::rand::SecureRandom as _;
use sqlx::Row as _;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};

pub use approval_details::{Details, Named, Parameter, Past};
pub use approvals::{Approval, ApprovalState, HoldMode, Vote};
pub use identities::{Logins, RevokedIdentity};
pub use passwords::{Bounds, PasswordKept, StoredPassword};
pub use targets::{Before, Resealed, StoredTarget};
pub use tokens::{Ending, StoredToken};
pub use web_sessions::WebSession;

/// Readers beside the one writer; control is one thread, so more would only wait.
const CONNECTIONS: u32 = 4;
/// How long a writer waits for another process (`rowgate token create` beside a gateway) before it fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Only the gateway's user reads the store: it holds the verifiers and the statements that wait.
const FILE_MODE: u32 = 0o600;

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file can't be made or opened.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database refused.
    #[error("{path}: {source}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// Made by another version of Rowgate.
    #[error("{path}: {source}")]
    Migrate {
        /// Which.
        path: PathBuf,
        /// Why.
        source: sqlx::migrate::MigrateError,
    },
    /// A query failed.
    #[error("the store: {0}")]
    Query(#[from] sqlx::Error),
    /// A row says something that no version of Rowgate writes.
    #[error("the store holds a malformed {0}")]
    Malformed(&'static str),
    /// The system has no randomness to give.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// The store. Cloning it is cheap: all clones share the connections.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
    path: PathBuf,
}

impl Store {
    /// Opens the file, makes it when it isn't there (readable by its owner only), and brings its tables up to date.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        make_private(path).map_err(|source| StoreError::File { path: path.to_owned(), source })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // A grant must be used at most once, even over a loss of power: NORMAL could lose the last commit.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect_with(options)
            .await
            .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        sqlx::migrate!("src/store/migrations")
            .run(&pool)
            .await
            .map_err(|source| StoreError::Migrate { path: path.to_owned(), source })?;
        Ok(Self { pool, path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until every connection is closed, so that the write-ahead log is folded in.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// The key under which grants are kept, made at its first use. Without it, a copy of the store would let its reader
    /// test guesses of a statement's parameters.
    pub async fn grant_secret(&self) -> Result<[u8; 32], StoreError> {
        let mut fresh = [0_u8; 32];
        aws_lc_rs::rand::SystemRandom::new()
            .fill(&mut fresh)
            .map_err(|_| StoreError::NoRandomness)?;
        sqlx::query("INSERT OR IGNORE INTO meta (key, value) VALUES ('grant_secret', ?)")
            .bind(fresh.as_slice())
            .execute(&self.pool)
            .await?;
        let row = sqlx::query("SELECT value FROM meta WHERE key = 'grant_secret'")
            .fetch_one(&self.pool)
            .await?;
        let kept: Vec<u8> = row.try_get("value")?;
        kept.try_into().map_err(|_| StoreError::Malformed("grant secret"))
    }

    /// Notes that a policy went live. Returns its serial, which grows over restarts.
    pub async fn policy_loaded(
        &self,
        version: &str,
        at_us: i64,
        by: &str,
    ) -> Result<i64, StoreError> {
        let done =
            sqlx::query("INSERT INTO policy_versions (version, at_us, loaded_by) VALUES (?, ?, ?)")
                .bind(version)
                .bind(at_us)
                .bind(by)
                .execute(&self.pool)
                .await?;
        Ok(done.last_insert_rowid())
    }

    /// The last policies that went live, newest first.
    pub async fn policy_versions(&self, limit: u32) -> Result<Vec<PolicyVersion>, StoreError> {
        let rows = sqlx::query(
            "SELECT serial, version, at_us, loaded_by FROM policy_versions
             ORDER BY serial DESC LIMIT ?",
        )
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(PolicyVersion::from_row).collect()
    }
}

/// A policy that went live.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PolicyVersion {
    /// Grows with each.
    pub serial: i64,
    /// The digest of all its inputs.
    pub version: String,
    /// Microseconds since the epoch.
    pub at_us: i64,
    /// Who loaded it: an identity, or `start`, `file`, `signal`.
    pub by: String,
}

impl PolicyVersion {
    fn from_row(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            serial: row.try_get("serial")?,
            version: row.try_get("version")?,
            at_us: row.try_get("at_us")?,
            by: row.try_get("loaded_by")?,
        })
    }
}

/// Makes the file (and its own folder, but not those above) with its mode before SQLite opens it: SQLite would make it with the process's umask, and gives its
/// journal files the mode of the file itself.
fn make_private(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
        && !folder.exists()
    {
        std::fs::create_dir(folder)?;
    }
    let is_new = !path.exists();
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(FILE_MODE)
        .open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(FILE_MODE))?;
    }
    if is_new {
        give_to_the_folders_owner(path, &file)?;
    }
    Ok(())
}

/// The first token is often made by root, in the folder of the gateway's own user, who must be able to open it then.
fn give_to_the_folders_owner(path: &Path, file: &std::fs::File) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = std::fs::metadata(folder.unwrap_or(Path::new(".")))?;
    let own = file.metadata()?.uid();
    if own == 0 && folder.uid() != own {
        std::os::unix::fs::fchown(file, Some(folder.uid()), Some(folder.gid()))?;
    }
    Ok(())
}

/// A list of words as its column keeps it.
fn to_json(words: &[String]) -> String {
    serde_json::Value::from(words).to_string()
}

/// The list of words that a column keeps.
fn from_json<T: serde::de::DeserializeOwned>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    let text: &str = row.try_get(column)?;
    serde_json::from_str(text).map_err(|_| StoreError::Malformed(column))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn opens_twice_and_keeps_its_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rowgate.db");
        block_on(async {
            let store = Store::open(&path).await.unwrap();
            let secret = store.grant_secret().await.unwrap();
            assert_eq!(store.grant_secret().await.unwrap(), secret);
            assert_ne!(secret, [0; 32]);
            store.close().await;
            let again = Store::open(&path).await.unwrap();
            assert_eq!(again.grant_secret().await.unwrap(), secret);
        });
    }

    /// A store of the first version, with a token in it, goes on.
    #[test]
    fn an_older_store_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rowgate.db");
        block_on(async {
            let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
            let pool = SqlitePoolOptions::new().connect_with(options).await.unwrap();
            let mut first = sqlx::migrate!("src/store/migrations");
            first.migrations = first.iter().take(1).cloned().collect();
            first.run(&pool).await.unwrap();
            sqlx::query(
                "INSERT INTO tokens VALUES ('tok_old', 'bot', 'agent', '[\"agents\"]', zeroblob(32),
                                            zeroblob(20), 5, 'dana', NULL, NULL)",
            )
            .execute(&pool)
            .await
            .unwrap();
            pool.close().await;
            let store = Store::open(&path).await.unwrap();
            let tokens = store.tokens().await.unwrap();
            assert_eq!((tokens.len(), tokens[0].record.id.as_str()), (1, "tok_old"));
            assert!(tokens[0].record.scope.covers("any", None));
            assert_eq!((tokens[0].used_us, &tokens[0].replaced_by), (None, &None));
            assert!(store.revoke_token("tok_old", 7).await.unwrap());
        });
    }

    #[test]
    fn its_files_are_private_even_when_found_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rowgate.db");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        block_on(async {
            let store = Store::open(&path).await.unwrap();
            store.grant_secret().await.unwrap();
            for entry in std::fs::read_dir(dir.path()).unwrap() {
                let entry = entry.unwrap();
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{}", entry.path().display());
            }
        });
    }

    #[test]
    fn what_root_makes_belongs_to_the_folders_owner() {
        let dir = tempfile::tempdir().unwrap();
        let nobody = Some(65_534);
        if std::os::unix::fs::chown(dir.path(), nobody, nobody).is_err() {
            return; // only root can make this set-up
        }
        let path = dir.path().join("rowgate.db");
        block_on(async {
            let store = Store::open(&path).await.unwrap();
            store.grant_secret().await.unwrap();
            for entry in std::fs::read_dir(dir.path()).unwrap() {
                assert_eq!(entry.unwrap().metadata().unwrap().uid(), 65_534);
            }
        });
    }

    #[test]
    fn what_is_not_a_store_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        std::fs::write(&path, "this is not a database, whatever its name says".repeat(40)).unwrap();
        let error = block_on(Store::open(&path)).unwrap_err().to_string();
        assert!(error.contains("notes.txt"), "{error}");
    }

    #[test]
    fn policy_versions_come_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let store = Store::open(&dir.path().join("s.db")).await.unwrap();
            store.policy_loaded("aa", 1, "start").await.unwrap();
            let serial = store.policy_loaded("bb", 2, "dana").await.unwrap();
            let versions = store.policy_versions(10).await.unwrap();
            assert_eq!(versions.len(), 2);
            let newest =
                PolicyVersion { serial, version: "bb".into(), at_us: 2, by: "dana".into() };
            assert_eq!(versions[0], newest);
        });
    }
}
