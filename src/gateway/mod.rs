//! The composition root: configuration → snapshot → threads → drain. It decides nothing itself.

mod classify;
mod identities;
mod inputs;
mod issuers;
mod logging;
mod process;
mod publish;
mod running;
#[cfg(feature = "saml")]
mod saml;
mod schemas;
mod serve;
mod settings;
mod uses;
mod web;

pub use classify::{Proposed, classify};
pub use inputs::{Inputs, Texts};
pub use serve::run;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Config;
use crate::secret::Secret;
use crate::session::upstream::Account;

/// Why the gateway does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Bad input: one line that names the file, the key and the mend. Exit code 2.
    #[error("{0}")]
    Input(String),
    /// Something else failed. Exit code 1.
    #[error("{0}")]
    Failed(String),
}

/// Reads and compiles everything, connects nowhere: `rowgate check`.
pub fn check(file: &Path) -> Result<Inputs, GatewayError> {
    let inputs = Inputs::build(Texts::read(file)?, None, 1)?;
    logging::filter(file, &inputs.config.log)?;
    settings::targets(file, &inputs.config, inputs.client_tls.as_ref())?;
    web::settings(file, &inputs.config)?;
    Ok(inputs)
}

/// The password of a target's account.
fn credential(file: &Path, target: &crate::config::Target) -> Result<Secret, GatewayError> {
    crate::vault::resolve(&target.password).map_err(|error| {
        let name = &target.name;
        GatewayError::Input(format!("{}: targets.{name}.password: {error}", file.display()))
    })
}

/// The gateway's account at a target.
fn account(file: &Path, target: &crate::config::Target) -> Result<Account, GatewayError> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map(Arc::from).map_err(|error| {
            let (name, path) = (&target.name, path.display());
            let text = format!("targets.{name}.server_public_key: {path}: {error}");
            GatewayError::Input(format!("{}: {text}", file.display()))
        })
    };
    Ok(Account {
        user: target.user.clone(),
        password: Arc::new(credential(file, target)?),
        public_key: target.server_public_key.as_ref().map(read).transpose()?,
    })
}

/// The keys that plugins may use by name, through the host's keyed hash.
fn plugin_keys(file: &Path, config: &Config) -> Result<BTreeMap<String, Secret>, GatewayError> {
    let resolve = |(name, reference): (&String, &String)| {
        crate::vault::resolve(reference).map(|key| (name.clone(), key)).map_err(|error| {
            GatewayError::Input(format!("{}: keys.{name}: {error}", file.display()))
        })
    };
    config.keys.iter().map(resolve).collect()
}
