//! Scenes of our own over the npm drivers, whose packages hold no tests: `tests/drivers/js`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use xtask::setup;

use super::outcomes::Outcomes;
use super::stand::Route;

/// Seconds after which a run counts as hanging: it takes 40.
const LIMIT_S: &str = "300";

/// Runs the scenes of one driver.
pub(super) fn scenes(driver: &str, route: &Route, log: &Path) -> Result<Outcomes> {
    let folder = setup::js_drivers()?;
    let outcomes = log.with_extension("outcomes");
    let _ = fs::remove_file(&outcomes);
    let output = fs::File::create(log)?;
    let mut node = Command::new("timeout");
    node.args([LIMIT_S, "node"]).arg(format!("{driver}.mjs")).current_dir(folder);
    node.env("ROWGATE_OUTCOMES", &outcomes).env("PORT", route.port.to_string());
    node.env("DBUSER", &route.user).env("PASSWORD", &route.password);
    // Its status says that a scene failed, which is for the comparison to judge.
    node.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    node.status().context("starting node")?;
    let found = Outcomes::parse(&fs::read_to_string(&outcomes).unwrap_or_default());
    ensure!(!found.is_empty(), "no scene was run; see {}", log.display());
    Ok(found)
}
