//! Logs: text or JSON lines on standard error, never SQL text at info, never secrets or cell values.

use std::path::Path;

use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

use super::GatewayError;
use crate::config::Log;

/// What logs the texts of statements, literals and all: the parser of SQL. Never heard, whatever the level.
const LOGS_LITERALS: &str = "sqlparser";

/// Starts logging. The level is a `tracing` filter such as `info` or `rowgate::net=debug`.
pub(super) fn start(file: &Path, log: &Log) -> Result<(), GatewayError> {
    let no_literals = filter_fn(|event| !event.target().starts_with(LOGS_LITERALS));
    let heard = registry().with(filter(file, log)?).with(no_literals);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let started = if log.json {
        heard.with(lines.json()).try_init()
    } else {
        heard.with(lines.with_ansi(false)).try_init()
    };
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
