//! Which configuration file a verb means, and its reading.

use std::path::{Path, PathBuf};

use super::{CliError, Context};
use crate::config::Config;

/// Tried in this order where neither `--config` nor `$ROWGATE_CONFIG` names one.
const DEFAULTS: [&str; 2] = ["rowgate.toml", "/etc/rowgate/rowgate.toml"];

impl Context {
    /// The configuration file: named, or the first of the usual ones that is there.
    pub(super) fn config_path(&self) -> Result<PathBuf, CliError> {
        if let Some(named) = &self.config {
            return Ok(named.clone());
        }
        let found = DEFAULTS.iter().map(Path::new).find(|path| path.exists());
        found.map(Path::to_owned).ok_or_else(|| {
            CliError::input(format!(
                "no configuration: neither ./{} nor {} is there; name one with --config",
                DEFAULTS[0], DEFAULTS[1]
            ))
        })
    }

    /// The configuration, with its paths resolved against its own folder. Policies and plugins are not read.
    pub(super) fn settings(&self) -> Result<Config, CliError> {
        let path = self.config_path()?;
        let name = path.display();
        let text = std::fs::read_to_string(&path).map_err(|error| {
            CliError::input(format!(
                "{name}: --config: can't be read ({error}); name a readable file"
            ))
        })?;
        let mut config = Config::parse(&text, &name.to_string())
            .map_err(|error| CliError::input(error.to_string()))?;
        config.resolve_paths(path.parent().unwrap_or(Path::new(".")));
        Ok(config)
    }
}
