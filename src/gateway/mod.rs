//! The composition root: configuration → snapshot → threads → drain. It decides nothing itself.

mod check_target;
mod classify;
mod custody;
mod custody_start;
mod grants;
mod identities;
mod inputs;
mod issuers;
mod leave;
mod logging;
mod passed;
mod process;
mod publish;
mod record_keys;
mod rotation;
mod running;
#[cfg(feature = "saml")]
mod saml;
mod schemas;
mod second_wall;
mod serve;
mod settings;
mod uses;
mod web;
mod webhooks;

pub use classify::{Proposed, classify};
pub use inputs::{Inputs, Texts};
pub use record_keys::{public_key, record_of, signing_key};
pub use serve::run;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, Pem, Target};
use crate::net::Credentials;
use crate::secret::Secret;
use crate::session::upstream::Account;
use crate::vault::{Login, Vault};

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

impl GatewayError {
    /// What is wrong with an input: in which file, and what.
    fn in_file(file: &Path, what: impl std::fmt::Display) -> Self {
        Self::Input(format!("{}: {what}", file.display()))
    }

    /// What is wrong with a target of the configuration. `what` begins with the key.
    fn in_target(file: &Path, target: &Target, what: impl std::fmt::Display) -> Self {
        Self::in_file(file, format_args!("targets.{}.{what}", target.name))
    }
}

/// Reads and compiles everything, connects nowhere: `rowgate check`.
pub fn check(file: &Path) -> Result<Inputs, GatewayError> {
    let inputs = Inputs::build(Texts::read(file)?, None, 1)?;
    logging::filter(file, &inputs.config.log)?;
    custody_start::check(file, &inputs.config)?;
    record_keys::check(file, &inputs.config)?;
    let login_key = settings::login_key(file, inputs.config.server.login_key.as_deref())?;
    let common = settings::Common::new(&inputs.config, inputs.client_tls.clone(), login_key);
    for target in &inputs.config.targets {
        let unread = Credentials::missing(String::new());
        settings::runtime(target, &common, unread)
            .map_err(|error| GatewayError::in_target(file, target, error))?;
    }
    web::settings(file, &inputs.config)?;
    Ok(inputs)
}

/// What a target's PEM key names.
fn pem(pem: &Pem) -> Result<Vec<u8>, String> {
    match pem {
        Pem::Text(text) => Ok(text.clone().into_bytes()),
        Pem::File(path) => {
            std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
        }
    }
}

/// The gateway's account at a target.
fn account(target: &Target, login: Login) -> Result<Account, String> {
    let key = target.server_public_key.as_ref().map(pem).transpose();
    let key = key.map_err(|error| format!("server_public_key: {error}"))?;
    Ok(Account {
        user: login.user,
        password: Arc::new(login.password),
        public_key: key.map(Arc::from),
    })
}

/// The same with the credential that its reference names. What is in a vault is fetched, where `vault` is given.
async fn named_account(
    file: &Path,
    target: &Target,
    vault: &Vault,
) -> Result<Account, GatewayError> {
    let refused = |what: &dyn std::fmt::Display| GatewayError::in_target(file, target, what);
    let password = vault.resolve(&target.password).await;
    let password = password.map_err(|error| refused(&format_args!("password: {error}")))?;
    account(target, Login { user: target.user.clone(), password }).map_err(|error| refused(&error))
}

/// The keys that plugins may use by name, through the host's keyed hash.
fn plugin_keys(file: &Path, config: &Config) -> Result<BTreeMap<String, Secret>, GatewayError> {
    let resolve = |(name, reference): (&String, &String)| {
        crate::vault::resolve(reference)
            .map(|key| (name.clone(), key))
            .map_err(|error| GatewayError::in_file(file, format_args!("keys.{name}: {error}")))
    };
    config.keys.iter().map(resolve).collect()
}
