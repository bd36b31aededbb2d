//! Logs: text or JSON lines on standard error, never SQL text at info, never secrets or cell values.

use std::path::Path;

use tracing_subscriber::EnvFilter;

use super::GatewayError;
use crate::config::Log;

/// Starts logging. The level is a `tracing` filter such as `info` or `rowgate::net=debug`.
pub(super) fn start(file: &Path, log: &Log) -> Result<(), GatewayError> {
    let filter = filter(file, log)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started =
        if log.json { builder.json().try_init() } else { builder.with_ansi(false).try_init() };
    started.map_err(|error| GatewayError::Failed(format!("logging: {error}")))
}

/// The filter that `log.level` means.
pub(super) fn filter(file: &Path, log: &Log) -> Result<EnvFilter, GatewayError> {
    let level = if log.level.is_empty() { "info" } else { &log.level };
    EnvFilter::try_new(level).map_err(|error| {
        let file = file.display();
        GatewayError::Input(format!("{file}: log.level: {error}; write for example \"info\""))
    })
}
