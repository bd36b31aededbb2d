//! The record's keys as the configuration names them: made where the one that signs is missing, read, and told to auditors.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::GatewayError;
use crate::audit::keys::{EncryptionKey, Keys, PublicKey, SigningKey};
use crate::audit::read::Folder;
use crate::config::Config;
use crate::vault::resolve;

/// The file that a reference names.
fn file_of(reference: &str) -> Option<PathBuf> {
    reference.strip_prefix("file:").map(PathBuf::from)
}

fn signing(reference: &str) -> Result<SigningKey, String> {
    let named = |what: &dyn std::fmt::Display| format!("audit.signing_key: {what}");
    let text = resolve(reference).map_err(|error| named(&error))?;
    SigningKey::from_text(text.expose()).ok_or_else(|| {
        named(&format_args!(
            "{reference} holds no key: 64 hexadecimal digits are one; a start makes one where the file is missing"
        ))
    })
}

fn encryption(key: &str, reference: &str) -> Result<EncryptionKey, String> {
    let text = resolve(reference).map_err(|error| format!("audit.{key}: {error}"))?;
    EncryptionKey::from_text(text.expose()).ok_or_else(|| {
        format!("audit.{key}: {reference} holds no key: `openssl rand -hex 32` makes one")
    })
}

/// Makes the key that signs, where it is to be in a file that is not there.
fn make(path: &Path) -> std::io::Result<bool> {
    if path.exists() {
        return Ok(false);
    }
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    SigningKey::make(path)?;
    Ok(true)
}

/// What the record is written with.
pub(super) fn record_keys(file: &Path, config: &Config) -> Result<Keys, GatewayError> {
    let refused = |what: String| GatewayError::in_file(file, what);
    let reference = config.signing_key();
    let path = file_of(&reference);
    if let Some(path) = &path {
        let made = make(path).map_err(|error| {
            let path = path.display();
            refused(format!(
                "audit.signing_key: {path} can't be made ({error}); name a file that the gateway's user may write"
            ))
        })?;
        if made {
            tracing::info!(path = %path.display(), "made a key that signs the record");
        }
    }
    let signing = signing(&reference).map_err(refused)?;
    if let Some(path) = &path
        && let Err(error) = signing.public().publish(path)
    {
        tracing::warn!(%error, path = %path.display(), "the record's public key can't be written beside its key");
    }
    tracing::info!(key = %signing.public(), "the record's checkpoints are signed");
    let named = config.audit.encryption_key.as_deref();
    let encryption = named.map(|place| encryption("encryption_key", place)).transpose();
    Ok(Keys { signing, encryption: encryption.map_err(refused)? })
}

/// Checks what is there by now.
pub(super) fn check(file: &Path, config: &Config) -> Result<(), GatewayError> {
    let refused = |what: String| GatewayError::in_file(file, what);
    let reference = config.signing_key();
    // a file that is missing is made at the start
    if file_of(&reference).is_none_or(|path| path.exists()) {
        signing(&reference).map_err(refused)?;
    }
    reading_keys(config).map(drop).map_err(refused)
}

/// The key that signs, which is there since the gateway's first start.
pub fn signing_key(config: &Config) -> Result<SigningKey, String> {
    signing(&config.signing_key())
}

/// The keys that open what is encrypted.
fn reading_keys(config: &Config) -> Result<Vec<EncryptionKey>, String> {
    let audit = &config.audit;
    let current = audit.encryption_key.iter().map(|place| ("encryption_key", place));
    let old = audit.old_encryption_keys.iter().map(|place| ("old_encryption_keys", place));
    current.chain(old).map(|(key, place)| encryption(key, place)).collect()
}

/// The configuration's record, with the keys that open it.
pub fn record_of(config: &Config) -> Result<Folder, String> {
    Ok(Folder::new(&config.audit.dir).with_keys(reading_keys(config)?))
}

/// The key that tells this configuration's signatures: from beside its file, or by the key itself.
pub fn public_key(config: &Config) -> Result<PublicKey, String> {
    let reference = config.signing_key();
    let beside = file_of(&reference).map(|path| PublicKey::beside(&path));
    let told = beside.and_then(|path| std::fs::read_to_string(path).ok());
    match told.and_then(|text| text.parse().ok()) {
        Some(key) => Ok(key),
        None => signing(&reference).map(|key| key.public()),
    }
}
