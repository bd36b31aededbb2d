//! Webhooks of the configuration, started with the desk.

use std::path::Path;

use super::GatewayError;
use crate::approval::DeskService;
use crate::config::Config;
use crate::control::webhooks::Webhooks;

/// Starts them, and has the desk tell them.
pub(super) fn start(
    file: &Path,
    config: &Config,
    service: DeskService,
) -> Result<(Webhooks, DeskService), GatewayError> {
    let pages = config.web.as_ref().map(|web| web.url.as_str());
    let secret =
        |reference: &str| crate::vault::resolve(reference).map_err(|error| error.to_string());
    let mut webhooks = Webhooks::start(&config.webhooks, pages, secret)
        .map_err(|error| GatewayError::in_file(file, error))?;
    let service = service.announcing_to(webhooks.announcer());
    Ok((webhooks, service))
}
