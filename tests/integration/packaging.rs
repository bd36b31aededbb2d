//! What is shipped to run a gateway by: units that systemd takes, manifests of the right schema, a package that is whole.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use xtask::{setup, sh};

use crate::stand::{binary, errors};

fn deploy(file: &str) -> PathBuf {
    sh::root().join("deploy").join(file)
}

/// The score that systemd may give at the most, in tenths: as low as an Internet service with a JIT gets.
const EXPOSURE: &str = "17";

#[test]
fn systemd_takes_the_units_and_finds_little_exposed() {
    let folder = tempfile::tempdir().unwrap();
    for unit in ["rowgate.service", "rowgate.socket"] {
        let text = fs::read_to_string(deploy("systemd").join(unit)).unwrap();
        let own = binary().display().to_string();
        fs::write(folder.path().join(unit), text.replace("/usr/bin/rowgate", &own)).unwrap();
    }
    let units = ["rowgate.service", "rowgate.socket"].map(|unit| folder.path().join(unit));
    let output = Command::new("systemd-analyze").arg("verify").args(&units).output().unwrap();
    let said = errors(&output);
    assert!(output.status.success() && !said.contains("rowgate."), "{said}");
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--threshold", EXPOSURE]);
    let output = security.arg(deploy("systemd/rowgate.service")).output().unwrap();
    assert!(output.status.success(), "{}", sh::said(&output));
}

#[test]
fn the_balancers_take_their_files() {
    let haproxy = sh::find_program("haproxy").unwrap();
    let file = deploy("haproxy/haproxy.cfg");
    let output = Command::new(haproxy).arg("-c").arg("-f").arg(file).output().unwrap();
    assert!(output.status.success(), "{}", sh::said(&output));
    let keepalived = setup::keepalived().unwrap();
    let check = |file: &std::path::Path| {
        let mut check = Command::new(keepalived.join("usr/sbin/keepalived"));
        let libraries = keepalived.join("usr/lib/x86_64-linux-gnu");
        let more = keepalived.join("lib/x86_64-linux-gnu");
        let path = format!("{}:{}", libraries.display(), more.display());
        check.env("LD_LIBRARY_PATH", path).arg("-t").arg("-f").arg(file);
        // (Its exit code says nothing here: it ends itself by a signal. Interfaces are a machine's own.)
        let said = errors(&check.output().unwrap());
        let lines =
            said.lines().filter(|line| line.contains("Line ") && !line.contains("interface"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let file = deploy("keepalived/keepalived.conf");
    assert!(check(&file).is_empty(), "{:?}", check(&file));
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("keepalived.conf");
    fs::write(&broken, fs::read_to_string(file).unwrap().replace("priority", "priorty")).unwrap();
    assert!(!check(&broken).is_empty(), "nothing is checked");
}

#[test]
fn kubernetes_schemas_take_the_manifests() {
    let folder = setup::kubernetes_validate().unwrap();
    let validate = |file: &std::path::Path| {
        let mut validate = Command::new("python3");
        validate.env("PYTHONPATH", &folder).args(["-m", "kubernetes_validate", "--strict"]);
        validate.arg(file).output().unwrap()
    };
    let file = deploy("kubernetes/rowgate.yaml");
    let output = validate(&file);
    assert!(output.status.success(), "{}", sh::said(&output));
    let text = fs::read_to_string(file).unwrap();
    assert_eq!(sh::said(&output).matches(" passed ").count(), text.matches("\nkind: ").count());
    let temporary = tempfile::tempdir().unwrap();
    let broken = temporary.path().join("broken.yaml");
    fs::write(&broken, text.replace("readinessProbe", "readynessProbe")).unwrap();
    assert!(!validate(&broken).status.success(), "nothing is checked");
}

/// The configuration within the manifests is one that the gateway takes.
#[test]
fn the_manifests_configuration_is_good() {
    let text = fs::read_to_string(deploy("kubernetes/rowgate.yaml")).unwrap();
    let (_, rest) = text.split_once("  rowgate.toml: |\n").unwrap();
    let (config, _) = rest.split_once("\n---").unwrap();
    let lines = config.lines().map(|line| line.strip_prefix("    ").unwrap_or(line));
    check(&lines.collect::<Vec<_>>().join("\n"));
}

/// So is the one that the package brings.
#[test]
fn the_packages_configuration_is_good() {
    check(&fs::read_to_string(deploy("debian/rowgate.toml")).unwrap());
}

fn check(config: &str) {
    let folder = tempfile::tempdir().unwrap();
    let root = sh::root();
    let dir = folder.path();
    xtask::gateway::make_pair(&binary(), dir).unwrap();
    let config = config
        .replace("/usr/lib/rowgate/plugins", &root.join("target/plugins").display().to_string())
        .replace("/etc/rowgate/policies", &root.join("policies").display().to_string())
        .replace("\"policies/", &format!("\"{}/policies/", root.display()))
        .replace("/etc/rowgate-tls/tls.crt", &dir.join("rowgate.crt").display().to_string())
        .replace("/etc/rowgate-database/ca.pem", &dir.join("rowgate.crt").display().to_string())
        .replace("/etc/rowgate-tls/tls.key", &dir.join("rowgate.key").display().to_string())
        .replace("/var/lib/rowgate", &dir.display().to_string());
    let file = dir.join("rowgate.toml");
    fs::write(&file, config).unwrap();
    let mut check = Command::new(binary());
    check.args(["check", "--config"]).arg(&file).env("ROWGATE_SHOP_PASSWORD", "x");
    let output = check.output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
}

#[test]
fn the_package_is_whole() {
    let mut make = sh::command(&["cargo", "xtask", "package", "--binary"]);
    let output = make.arg(binary()).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let made = fs::read_dir(sh::target_dir().join("package")).unwrap();
    let paths = made.map(|entry| entry.unwrap().path());
    let package = paths.filter(|path| path.extension().is_some_and(|e| e == "deb")).max().unwrap();
    let dpkg =
        |what: &str| sh::said(&Command::new("dpkg-deb").arg(what).arg(&package).output().unwrap());
    let contents = dpkg("--contents");
    for (rights, file) in [
        ("-rwxr-xr-x root/root", "./usr/bin/rowgate"),
        ("-rw-r--r-- root/root", "./usr/lib/rowgate/plugins/mask-standard.wasm"),
        ("-rw-r--r-- root/root", "./lib/systemd/system/rowgate.service"),
        ("-rw-r--r-- root/root", "./lib/systemd/system/rowgate.socket"),
        ("-rw-r--r-- root/root", "./etc/rowgate/rowgate.toml"),
        ("-rw-r--r-- root/root", "./usr/share/doc/rowgate/runbook/RowgateDown.md"),
    ] {
        let line = contents.lines().find(|line| line.ends_with(&format!(" {file}")));
        assert!(line.is_some_and(|line| line.starts_with(rights)), "{file}: {line:?}");
    }
    let info = dpkg("--info");
    assert!(info.contains("Depends: adduser, ") && info.contains("libc6"), "{info}");
    assert!(info.contains("conffiles"), "{info}");
    for script in ["postinst", "prerm", "postrm"] {
        let path = deploy("debian").join(script);
        let output = Command::new("sh").arg("-n").arg(path).output().unwrap();
        assert!(output.status.success(), "{script}: {}", errors(&output));
    }
}
