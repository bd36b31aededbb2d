//! `cargo xtask compose`: builds what `deploy/compose` is made of, and starts it with Docker Compose or podman-compose.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use xtask::{setup, sh, shop};

use crate::package;

/// The folder of its file, in which it runs: paths in there are relative to it.
const FOLDER: &str = "deploy/compose";

/// Starts it; of this binary, or of a release build.
pub(crate) fn compose(binary: Option<&Path>) -> Result<()> {
    package::package(binary)?;
    setup::issuer()?;
    let folder = sh::target_dir().join("compose");
    fs::create_dir_all(&folder)?;
    shop::write_sql(&folder)?;
    fs::copy(sh::root().join("deploy/compose/database/start.sh"), folder.join("start.sh"))
        .context("deploy/compose/database/start.sh")?;
    let mut words = engine()?;
    words.extend(["up", "--build", "--detach"]);
    sh::run(sh::command(&words).current_dir(sh::root().join(FOLDER)))?;
    sh::step("docs/operations.md, Trying it in containers, has commands to go on with");
    Ok(())
}

/// Whichever is there.
fn engine() -> Result<Vec<&'static str>> {
    let engines =
        [("docker", vec!["docker", "compose"]), ("podman-compose", vec!["podman-compose"])];
    for (program, words) in engines {
        let mut asked = words.clone();
        asked.push("version");
        if sh::find_program(program).is_some() && sh::capture(&mut sh::command(&asked)).is_ok() {
            return Ok(words);
        }
    }
    bail!("neither `docker compose` nor podman-compose runs here; install one of them")
}
