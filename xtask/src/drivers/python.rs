//! Suites of Python's drivers, from the source packages on PyPI, in a virtual environment of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use xtask::{setup, sh};

use super::outcomes::Outcomes;
use super::stand::Route;

/// Seconds after which one test counts as hanging.
const TEST_TIMEOUT: &str = "--timeout=60";

/// A source package of a version whose results are known.
struct Source {
    package: &'static str,
    version: &'static str,
    /// The folder that its archive makes.
    folder: &'static str,
}

const PYMYSQL: Source = Source { package: "PyMySQL", version: "0.10.1", folder: "PyMySQL-0.10.1" };
const SQLALCHEMY: Source =
    Source { package: "SQLAlchemy", version: "2.0.58", folder: "sqlalchemy-2.0.58" };

/// The driver under SQLAlchemy, and what runs the suites.
const PACKAGES: [&str; 6] =
    ["PyMySQL==1.2.4", "cryptography", "greenlet", "typing-extensions", "pytest", "pytest-timeout"];

fn home() -> PathBuf {
    sh::root().join("target/drivers")
}

fn python() -> PathBuf {
    home().join("venv/bin/python")
}

/// Makes the virtual environment.
fn environment() -> Result<()> {
    let done = home().join("venv/done");
    if done.exists() {
        return Ok(());
    }
    setup::ensure(&[("python3", "python3")])?;
    sh::step("making target/drivers/venv (once)");
    let venv = home().join("venv");
    if sh::run(sh::command(&["python3", "-m", "venv"]).arg(&venv)).is_err() {
        setup::install(&["python3-venv"])?;
        sh::run(sh::command(&["python3", "-m", "venv", "--clear"]).arg(&venv))?;
    }
    sh::run(Command::new(python()).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES))?;
    fs::write(done, "")?;
    Ok(())
}

/// Unpacks a source package; the folder.
fn source(source: &Source) -> Result<PathBuf> {
    environment()?;
    let folder = home().join(source.folder);
    if folder.join("unpacked").exists() {
        return Ok(folder);
    }
    sh::step(&format!("fetching {} {} from PyPI (once)", source.package, source.version));
    let archives = home().join("archives");
    let mut pip = Command::new(python());
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest"]);
    pip.arg(&archives).arg(format!("{}=={}", source.package, source.version));
    sh::run(&mut pip)?;
    let archive = archives.join(format!("{}.tar.gz", source.folder));
    sh::run(Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(home()))?;
    fs::write(folder.join("unpacked"), "")?;
    Ok(folder)
}

/// PyMySQL's own tests, with that very version of it.
pub(super) fn pymysql(route: &Route, log: &Path) -> Result<Outcomes> {
    let folder = source(&PYMYSQL)?;
    let account = |database: &str| {
        format!(
            "{{\"host\":\"127.0.0.1\",\"port\":{},\"user\":\"{}\",\"passwd\":\"{}\",\"db\":\"{database}\",\
             \"use_unicode\":true,\"local_infile\":true}}",
            route.port, route.user, route.password
        )
    };
    let list = format!("[{},{}]", account("test1"), account("test2"));
    fs::write(folder.join("pymysql/tests/databases.json"), list)?;
    pytest(&folder, &["pymysql/tests"], log)
}

/// SQLAlchemy's suites of its MySQL dialect and of all dialects, over PyMySQL. `quick`: the dialect's own without
/// reflection.
pub(super) fn sqlalchemy(route: &Route, quick: bool, log: &Path) -> Result<Outcomes> {
    let folder = source(&SQLALCHEMY)?;
    let url = format!("mysql+pymysql://{}/test?charset=utf8mb4", route.authority());
    let mut words = vec!["-p", "no:logging", "--maxfail=5000", "--dburi", &url];
    if quick {
        words.extend(["test/dialect/mysql/test_types.py", "test/dialect/mysql/test_query.py"]);
    } else {
        words.extend(["test/dialect/mysql", "test/dialect/test_suite.py"]);
    }
    pytest(&folder, &words, log)
}

fn pytest(folder: &Path, words: &[&str], log: &Path) -> Result<Outcomes> {
    let outcomes = log.with_extension("outcomes");
    let _ = fs::remove_file(&outcomes);
    let output = fs::File::create(log)?;
    let mut pytest = Command::new(python());
    pytest.args(["-m", "pytest", "-p", "outcomes", "-p", "no:cacheprovider", "-q", TEST_TIMEOUT]);
    pytest.args(words).current_dir(folder);
    let paths = [sh::root().join("tests/drivers/python"), folder.join("lib")];
    pytest.env("PYTHONPATH", std::env::join_paths(paths)?).env("PYTHONDONTWRITEBYTECODE", "1");
    pytest.env("ROWGATE_OUTCOMES", &outcomes);
    // Its status says that a test failed, which is for the comparison to judge.
    pytest.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    pytest.status().context("starting pytest")?;
    let text = fs::read_to_string(&outcomes).unwrap_or_default();
    let found = Outcomes::parse(&text);
    ensure!(!found.is_empty(), "no test was run; see {}", log.display());
    Ok(found)
}
