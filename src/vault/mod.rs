//! Custody of credentials: references → secrets (`env:`, `file:`, `vault:`), and secrets sealed for the store under the
//! master key. A reference is read anew each time. No error of here holds what was read.

mod key;
mod kv;
mod ring;
mod seal;

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

pub use key::{KeyId, MasterKey};
pub use kv::Vault;
pub use ring::{KeyRing, NextKey};
pub use seal::{Bound, sealed_under};

use crate::secret::Secret;

/// Longest credential file: a password or a key, not somebody's database dump by mistake.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// What the gateway logs in with at a database.
#[derive(Clone, Debug)]
pub struct Login {
    /// The account's name.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// Why a reference leads to no secret, or a sealed one can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No reference. The text isn't repeated: it may be the password itself.
    #[error(
        "not a credential reference; write env:NAME, file:PATH or vault:MOUNT/PATH#FIELD, never the secret itself"
    )]
    Form,
    /// No such variable, or not Unicode.
    #[error("environment variable {0} is not set; set it, or use file:PATH")]
    Variable(String),
    /// The file can't be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Everyone may read it.
    #[error("{path} is open to every user (mode {mode:o}); chmod o= {path}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a regular file, or too large.
    #[error("{0} is not a file of at most 64 KiB")]
    NotACredential(PathBuf),
    /// Nothing in it.
    #[error("the credential in {0} is empty")]
    Empty(String),
    /// The vault did not give it.
    #[error("the vault: {0}")]
    Vault(String),
    /// The system has no randomness to give.
    #[error("the system gives no random bytes")]
    NoRandomness,
    /// Not 32 bytes.
    #[error(
        "custody.master_key: {0} holds no key: 64 hexadecimal digits or base64 of 32 bytes are one; \
         `openssl rand -hex 32` makes one, and so does a start where the file is missing"
    )]
    NotAKey(String),
    /// The store has sealed credentials, and the configuration names no key.
    #[error(
        "custody.master_key: the store's credentials are sealed under the key {id}, and there is none to open them; \
         name that key, or remove those targets"
    )]
    NoKey {
        /// Under which.
        id: KeyId,
    },
    /// The store's credentials are sealed under a key that is gone.
    #[error(
        "custody.master_key: {path} is missing, and the store's credentials are sealed under the key {id}; \
         bring the file back from where its copy is: no new one could open them"
    )]
    Lost {
        /// Where it was.
        path: PathBuf,
        /// Its id.
        id: KeyId,
    },
    /// The store's credentials are sealed under another key.
    #[error(
        "custody.master_key: {place} is the key {current}, and the store's credentials are sealed under {id}; \
         name that one, here or as custody.previous_master_key"
    )]
    OtherKey {
        /// Under which.
        id: KeyId,
        /// Which one it is.
        current: KeyId,
        /// Where it is.
        place: String,
    },
    /// A key in the environment can't be changed from here.
    #[error(
        "custody.master_key is in the environment, which only a restart changes: name the new key as master_key and \
         the old one as previous_master_key, restart, then rotate"
    )]
    KeptElsewhere,
    /// What is sealed is not what it was sealed as.
    #[error(
        "the credential of target {0:?} can't be opened: it, or the target's settings, were changed in the store; \
         give it anew with `rowgate target rotate`, or remove the target"
    )]
    Broken(String),
    /// The cipher refused.
    #[error("the credential can't be sealed: it is too long")]
    Seal,
}

/// The secret that a reference to this machine names. One newline at the end of a file isn't part of it: editors put it there.
pub fn resolve(reference: &str) -> Result<Secret, VaultError> {
    match reference.split_once(':') {
        Some(("env", name)) => from_environment(name),
        Some(("file", path)) if !path.is_empty() => from_file(Path::new(path)),
        _ => Err(VaultError::Form),
    }
}

fn from_environment(name: &str) -> Result<Secret, VaultError> {
    // `var_os` panics on names that can't be variables; those are just not set
    let is_name = !name.is_empty() && !name.contains(['=', '\0']);
    let value = if is_name { std::env::var_os(name) } else { None };
    let value = value.ok_or_else(|| VaultError::Variable(name.to_owned()))?;
    let bytes = std::os::unix::ffi::OsStringExt::into_vec(value);
    if bytes.is_empty() {
        return Err(VaultError::Empty(format!("environment variable {name}")));
    }
    Ok(Secret::new(bytes))
}

fn from_file(path: &Path) -> Result<Secret, VaultError> {
    let refused = |source| VaultError::File { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(refused)?;
    // of the opened file, so that what is checked is what is read
    let facts = file.metadata().map_err(refused)?;
    if !facts.is_file() || facts.len() > MAX_FILE_BYTES {
        return Err(VaultError::NotACredential(path.to_owned()));
    }
    let mode = facts.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(VaultError::Open { path: path.to_owned(), mode });
    }
    // room for all of it at once: a buffer that grows leaves copies behind in memory
    let room = usize::try_from(MAX_FILE_BYTES).unwrap_or(0);
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(refused)?;
    let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    if secret.is_empty() {
        return Err(VaultError::Empty(path.display().to_string()));
    }
    Ok(Secret::new(secret.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let reference = format!("file:{}", path.display());
        (dir, reference)
    }

    #[test]
    fn files() {
        for (text, secret) in [("s3cret\n", "s3cret"), ("s3cret", "s3cret"), ("a\n\n", "a\n")] {
            let (_dir, reference) = file(text, 0o640);
            assert_eq!(resolve(&reference).unwrap().expose(), secret.as_bytes());
        }
    }

    #[test]
    fn a_file_for_everyone_is_refused() {
        for mode in [0o644, 0o604, 0o602, 0o601] {
            let (_dir, reference) = file("s3cret", mode);
            let error = resolve(&reference).unwrap_err();
            assert!(matches!(error, VaultError::Open { .. }), "{error}");
            assert!(!error.to_string().contains("s3cret"));
        }
    }

    #[test]
    fn what_is_no_reference_is_not_repeated() {
        for bad in ["hunter2", "vault:x", "file:", ""] {
            let error = resolve(bad).unwrap_err().to_string();
            assert!(bad.is_empty() || !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn missing_empty_or_huge() {
        assert!(matches!(resolve("env:NO_SUCH_NAME_HERE"), Err(VaultError::Variable(_))));
        assert!(matches!(resolve("env:a=b"), Err(VaultError::Variable(_))));
        assert!(matches!(resolve("file:/no/such/file"), Err(VaultError::File { .. })));
        assert!(matches!(resolve("file:/tmp"), Err(VaultError::NotACredential(_))));
        let (_dir, empty) = file("\n", 0o600);
        assert!(matches!(resolve(&empty), Err(VaultError::Empty(_))));
        let (_dir, huge) = file(&"x".repeat(70_000), 0o600);
        assert!(matches!(resolve(&huge), Err(VaultError::NotACredential(_))));
    }

    #[test]
    fn environment() {
        // PATH is set wherever tests run, and setting one would need `unsafe`
        let path = resolve("env:PATH").unwrap();
        assert_eq!(path.expose(), std::env::var("PATH").unwrap().as_bytes());
    }
}
