//! Custody at the start: the master key, what the store keeps under it, and what the configuration's references lead to.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::custody::Held;
use super::{GatewayError, account, named_account};
use crate::clock::now_us;
use crate::config::{Config, Reference, SEALED, Target};
use crate::net::Credentials;
use crate::session::upstream::Account;
use crate::store::{Store, StoredTarget};
use crate::vault::{Bound, KeyRing, Vault, VaultError, sealed_under};

/// What a start waits for the vault in all: with it down, the gateway is up, not ready, and asks again.
const PATIENCE: Duration = Duration::from_secs(8);

/// What there is at the start.
pub(super) struct Opened {
    pub(super) ring: Option<KeyRing>,
    pub(super) vault: Vault,
    /// The configuration's targets, in order.
    pub(super) configured: Vec<Held>,
    /// The store's.
    pub(super) stored: Vec<Held>,
}

impl Opened {
    /// Reads the key and the credentials.
    pub(super) async fn open(
        file: &Path,
        config: &Config,
        store: &Store,
    ) -> Result<Self, GatewayError> {
        let input = |error: &dyn std::fmt::Display| GatewayError::in_file(file, error);
        let rows = store.targets().await.map_err(|error| input(&error))?;
        let sealed = rows.iter().flat_map(|row| {
            let before = row.before.as_ref().map(|before| &before.sealed);
            row.sealed.iter().chain(before)
        });
        let used: Vec<_> = sealed.filter_map(|sealed| sealed_under(sealed)).collect();
        let ring = KeyRing::load(&config.custody, &used).map_err(|error| input(&error))?;
        let vault = Vault::new(config.vault.as_ref()).map_err(|error| input(&error))?;
        let names: HashSet<&str> = config.targets.iter().map(|t| t.name.as_str()).collect();
        if let Some(twice) = rows.iter().find(|row| names.contains(row.name.as_str())) {
            let name = &twice.name;
            return Err(input(&format!(
                "targets.{name}: the store has a target of this name, too; rename this one, \
                 or run `rowgate target remove {name}`"
            )));
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut configured = Vec::new();
        for (index, target) in config.targets.iter().enumerate() {
            let credentials = by_reference(file, target, &vault, deadline).await?;
            let held = Held::new(target.clone(), credentials, None);
            configured.push(Held { index, ..held });
        }
        let mut stored = Vec::new();
        for row in rows {
            let target = stored_target(&row).map_err(|error| input(&error))?;
            let credentials = if target.password == SEALED {
                by_row(ring.as_ref(), &target, &row)
            } else {
                match by_reference(file, &target, &vault, deadline).await {
                    Ok(credentials) => credentials,
                    // It keeps the others from nothing, and is asked for again.
                    Err(error) => Credentials::missing(error.to_string()),
                }
            };
            stored.push(Held::new(target, credentials, Some(row)));
        }
        Ok(Self { ring, vault, configured, stored })
    }
}

/// A row's settings.
pub(super) fn stored_target(row: &StoredTarget) -> Result<Target, String> {
    let broken = |what: &dyn std::fmt::Display| {
        format!("store.path: target {:?} is kept in a form that is not known: {what}", row.name)
    };
    let target: Target = serde_json::from_str(&row.settings).map_err(|error| broken(&error))?;
    if target.name == row.name { Ok(target) } else { Err(broken(&"it has another name")) }
}

/// What is sealed in a row. What can't be opened is said, and keeps its target down.
fn by_row(ring: Option<&KeyRing>, target: &Target, row: &StoredTarget) -> Arc<Credentials> {
    let bound = Bound { name: &row.name, settings: &row.settings };
    let open = |sealed: &[u8]| -> Result<Account, String> {
        let ring = ring.ok_or("custody.master_key is not set")?;
        let login = ring.open(bound, sealed).map_err(|error: VaultError| error.to_string())?;
        account(target, login)
    };
    let sealed = row.sealed.as_deref().ok_or_else(|| "nothing is sealed for it".to_owned());
    let newest = match sealed.and_then(open) {
        Ok(newest) => newest,
        Err(error) => {
            tracing::error!(target = row.name, error, "a target's credential can't be opened");
            return Credentials::missing(error);
        }
    };
    let before = row.before.as_ref().filter(|before| before.until_us > now_us());
    match before.map(|before| (open(&before.sealed), before.until_us)) {
        Some((Ok(before), until_us)) => Credentials::rotated(newest, before, until_us),
        _ => Credentials::new(newest),
    }
}

/// What a reference leads to. What is in a vault that can't be had is asked for again later.
async fn by_reference(
    file: &Path,
    target: &Target,
    vault: &Vault,
    deadline: tokio::time::Instant,
) -> Result<Arc<Credentials>, GatewayError> {
    let named = tokio::time::timeout_at(deadline, named_account(file, target, vault)).await;
    let error = match named {
        Ok(Ok(account)) => return Ok(Credentials::new(account)),
        Ok(Err(error)) => error,
        Err(_) => GatewayError::Failed("the vault does not answer".to_owned()),
    };
    if !matches!(Reference::parse(&target.password), Some(Reference::Vault { .. })) {
        return Err(error);
    }
    tracing::warn!(target = target.name, %error, "a credential can't be had yet");
    Ok(Credentials::missing(error.to_string()))
}

/// What `rowgate check` can tell without connecting anywhere or making anything: that the credentials and keys on this
/// machine are there.
pub(super) fn check(file: &Path, config: &Config) -> Result<(), GatewayError> {
    let refused = |key: String, error: &dyn std::fmt::Display| {
        GatewayError::in_file(file, format_args!("{key}: {error}"))
    };
    Vault::new(config.vault.as_ref()).map_err(|error| refused("vault".to_owned(), &error))?;
    if let Some(server) = &config.vault {
        crate::vault::resolve(&server.token)
            .map_err(|error| refused("vault.token".to_owned(), &error))?;
    }
    for target in &config.targets {
        if matches!(Reference::parse(&target.password), Some(Reference::Vault { .. })) {
            continue;
        }
        crate::vault::resolve(&target.password)
            .map_err(|error| refused(format!("targets.{}.password", target.name), &error))?;
    }
    let custody = &config.custody;
    for (key, place) in
        [("master_key", &custody.master_key), ("previous_master_key", &custody.previous_master_key)]
    {
        let Some(place) = place else { continue };
        // A missing file is made by the first start.
        let is_there = place.strip_prefix("file:").is_none_or(|path| Path::new(path).exists());
        if is_there {
            KeyRing::check(place).map_err(|error| refused(format!("custody.{key}"), &error))?;
        }
    }
    Ok(())
}

/// The account of a target of the configuration, for a verb that runs without a gateway.
pub(super) fn account_now(
    file: &Path,
    config: &Config,
    target: &Target,
) -> Result<Account, GatewayError> {
    let vault =
        Vault::new(config.vault.as_ref()).map_err(|error| GatewayError::in_file(file, error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| GatewayError::Failed(error.to_string()))?;
    runtime.block_on(named_account(file, target, &vault))
}
