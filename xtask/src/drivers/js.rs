//! Scenes of our own over the npm drivers, whose packages hold no tests: `tests/drivers/js`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use xtask::{setup, sh};

use super::outcomes::Outcomes;
use super::stand::Route;

/// Seconds after which a run counts as hanging: it takes 40.
const LIMIT_S: &str = "300";

/// What is copied to where the drivers are installed: Node looks for packages beside its modules.
const FILES: [&str; 5] =
    ["package.json", "package-lock.json", "scenes.mjs", "mariadb.mjs", "mysql2.mjs"];

/// Installs the drivers, of the versions and hashes that the lock file has; the folder.
fn installed() -> Result<PathBuf> {
    let (from, to) = (sh::root().join("tests/drivers/js"), sh::root().join("target/drivers/js"));
    fs::create_dir_all(&to)?;
    let lock = |folder: &Path| fs::read(folder.join("package-lock.json")).unwrap_or_default();
    let is_new = lock(&from) != lock(&to) || !to.join("node_modules").exists();
    for file in FILES {
        fs::copy(from.join(file), to.join(file))
            .with_context(|| format!("tests/drivers/js/{file}"))?;
    }
    if is_new {
        setup::ensure(&[("node", "nodejs"), ("npm", "npm")])?;
        sh::step("installing mysql2 and mariadb from npm (once)");
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]);
        sh::run(npm.current_dir(&to))?;
    }
    Ok(to)
}

/// Runs the scenes of one driver.
pub(super) fn scenes(driver: &str, route: &Route, log: &Path) -> Result<Outcomes> {
    let folder = installed()?;
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
