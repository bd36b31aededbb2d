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

    /// The admin socket. A file that was spoiled a moment ago must not keep an administrator from the gateway that
    /// still runs by what it said before: the socket's path is enough then.
    pub(super) fn socket(&self) -> Result<PathBuf, CliError> {
        let error = match self.settings() {
            Ok(settings) => return Ok(settings.admin.socket),
            Err(error) => error,
        };
        let path = self.config_path()?;
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let socket = text.parse::<toml::Table>().ok().and_then(|table| {
            let socket = table.get("admin")?.get("socket")?.as_str()?.to_owned();
            Some(path.parent().unwrap_or(Path::new(".")).join(socket))
        });
        match (socket.filter(|socket| socket.exists()), error) {
            (Some(socket), CliError::Input(why)) => {
                eprintln!("rowgate: {why} (asking the gateway that runs all the same)");
                Ok(socket)
            }
            (_, error) => Err(error),
        }
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
