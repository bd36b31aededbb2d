//! Credential references → secrets: `env:NAME` and `file:PATH`. Each call reads anew, so that a rotated credential is
//! taken up at the next reload. It never writes, and its errors never hold what was read.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::secret::Secret;

/// Longest credential file: a password or a key, not somebody's database dump by mistake.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Why a reference leads to no secret.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Neither `env:` nor `file:`. The text isn't repeated: it may be the password itself.
    #[error("not a credential reference; write env:NAME or file:PATH, never the secret itself")]
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
}

/// The secret that a reference names. One newline at the end of a file isn't part of it: editors put it there.
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
