//! mysql_async's own unit tests, from the sources that cargo has anyway: the gateway's tests depend on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use xtask::sh;

use super::outcomes::Outcomes;
use super::stand::Route;

/// Seconds after which a run counts as hanging: it takes 45.
const LIMIT_S: &str = "240";

/// Where cargo unpacked the crate.
fn unpacked() -> Result<PathBuf> {
    let mut metadata = sh::command(&["cargo", "metadata", "--format-version", "1"]);
    let text = String::from_utf8(sh::capture(&mut metadata)?.stdout)?;
    let paths = text.split('"').filter(|part| part.ends_with("/Cargo.toml"));
    let found = paths.map(Path::new).filter_map(Path::parent).find(|folder| {
        folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mysql_async-"))
    });
    Ok(found.context("mysql_async is not among the dependencies")?.to_path_buf())
}

/// Builds the tests once; the binary.
fn binary() -> Result<PathBuf> {
    let home = sh::root().join("target/drivers");
    let folder = home.join("mysql_async");
    if !folder.join("unpacked").exists() {
        sh::step("building mysql_async's tests (once)");
        fs::create_dir_all(&home)?;
        let _ = fs::remove_dir_all(&folder);
        sh::run(Command::new("cp").arg("-r").arg(unpacked()?).arg(&folder))?;
        let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
        // A workspace of its own, so that cargo does not look for it in ours.
        fs::write(folder.join("Cargo.toml"), manifest + "\n[workspace]\n")?;
        fs::write(folder.join("unpacked"), "")?;
    }
    let mut build = Command::new("cargo");
    build.args([
        "test",
        "--no-run",
        "--lib",
        "--no-default-features",
        "--features",
        "minimal-rust",
    ]);
    build.current_dir(&folder).env("CARGO_TARGET_DIR", home.join("mysql_async-target"));
    let output = sh::capture(&mut build)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let path = said.rsplit_once('(').and_then(|(_, rest)| rest.split_once(')'));
    let (path, _) = path.context("cargo names the test binary")?;
    Ok(folder.join(path))
}

/// A test that ends the whole process where it fails: it runs on its own. It kills pooled connections and counts on when the
/// pool hears of it, which is a matter of luck without a gateway too: in each way it has so many tries, and what counts is
/// the last.
const ALONE: &str = "conn::pool::test::should_reconnect";
const TRIES: usize = 5;

/// A test whose end depends on how soon a connection is made: 100 ms more and it fails.
const BY_CHANCE: &str = "check_absolute_connection_ttl";

/// Runs them, one after another.
pub(super) fn mysql_async(route: &Route, log: &Path) -> Result<Outcomes> {
    let binary = binary()?;
    let output = fs::File::create(log)?;
    let run = |words: &[&str]| {
        let mut suite = Command::new("timeout");
        suite.arg(LIMIT_S).arg(&binary).arg("--test-threads=1").args(words);
        suite.env("DATABASE_URL", format!("mysql://{}/test", route.authority()));
        suite.current_dir(sh::root().join("target/drivers/mysql_async"));
        suite.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
        suite.status().context("starting mysql_async's tests")
    };
    // Its status says that a test failed, which is for the comparison to judge.
    run(&["--skip", ALONE, "--skip", BY_CHANCE])?;
    for _ in 0..TRIES {
        if run(&["--exact", ALONE])?.success() {
            break;
        }
    }
    let found = Outcomes::parse_libtest(&String::from_utf8_lossy(&fs::read(log)?));
    ensure!(!found.is_empty(), "no test was run; see {}", log.display());
    Ok(found)
}
