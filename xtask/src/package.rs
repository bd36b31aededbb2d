//! `cargo xtask package`: a Debian package under `target/package`, made by `dpkg-deb` from what is built. Its version is the
//! workspace's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use xtask::{setup, sh};

use crate::plugins;

const NEEDS: [setup::Need; 3] =
    [("dpkg-deb", "dpkg"), ("dpkg-shlibdeps", "dpkg-dev"), ("strip", "binutils")];

/// From, to, rights.
const FILES: [(&str, &str, u32); 13] = [
    ("deploy/debian/rowgate.toml", "etc/rowgate/rowgate.toml", 0o644),
    ("policies/default.cedar", "etc/rowgate/policies/default.cedar", 0o644),
    ("target/plugins/mask-standard.wasm", "usr/lib/rowgate/plugins/mask-standard.wasm", 0o644),
    ("target/plugins/classify-pii.wasm", "usr/lib/rowgate/plugins/classify-pii.wasm", 0o644),
    ("target/plugins/guard-risk.wasm", "usr/lib/rowgate/plugins/guard-risk.wasm", 0o644),
    ("deploy/systemd/rowgate.service", "lib/systemd/system/rowgate.service", 0o644),
    ("deploy/systemd/rowgate.socket", "lib/systemd/system/rowgate.socket", 0o644),
    ("policies/default-labels.toml", "usr/share/doc/rowgate/default-labels.toml", 0o644),
    ("policies/rowgate.cedarschema", "usr/share/doc/rowgate/rowgate.cedarschema", 0o644),
    ("deploy/debian/copyright", "usr/share/doc/rowgate/copyright", 0o644),
    ("deploy/debian/postinst", "DEBIAN/postinst", 0o755),
    ("deploy/debian/prerm", "DEBIAN/prerm", 0o755),
    ("deploy/debian/postrm", "DEBIAN/postrm", 0o755),
];

/// Folders whose files go along.
const FOLDERS: [(&str, &str); 8] = [
    ("docs", "usr/share/doc/rowgate"),
    ("docs/runbook", "usr/share/doc/rowgate/runbook"),
    ("deploy/grafana", "usr/share/doc/rowgate/grafana"),
    ("deploy/prometheus", "usr/share/doc/rowgate/prometheus"),
    ("deploy/haproxy", "usr/share/doc/rowgate/haproxy"),
    ("deploy/keepalived", "usr/share/doc/rowgate/keepalived"),
    ("deploy/kubernetes", "usr/share/doc/rowgate/kubernetes"),
    ("deploy/seccomp", "usr/share/doc/rowgate/seccomp"),
];

const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/rowgate"),
    ("zsh", "usr/share/zsh/vendor-completions/_rowgate"),
    ("fish", "usr/share/fish/vendor_completions.d/rowgate.fish"),
];

/// Builds it, of this binary, or of one that is built for it; its path.
pub(crate) fn package(binary: Option<&Path>) -> Result<PathBuf> {
    setup::ensure(&NEEDS)?;
    plugins::build()?;
    let built = sh::target_dir().join("release/rowgate");
    if binary.is_none() {
        sh::run_words(&["cargo", "build", "--release", "--bin", "rowgate"])?;
    }
    let out = sh::target_dir().join("package");
    let root = out.join("root");
    let _ = fs::remove_dir_all(&root);
    stage(&root, binary.unwrap_or(&built))?;
    let architecture = said(Command::new("dpkg").arg("--print-architecture"))?;
    let version = env!("CARGO_PKG_VERSION");
    let control = format!(
        "Package: rowgate\nVersion: {version}\nArchitecture: {architecture}\nSection: database\nPriority: optional\n\
         Maintainer: the authors of Rowgate <rowgate@localhost>\nInstalled-Size: {}\n\
         Pre-Depends: init-system-helpers (>= 1.54~)\nDepends: adduser, {}\nRecommends: ca-certificates\n\
         Description: gateway between agents and MySQL or MariaDB\n \
         Agents and people connect with any stock driver. Rowgate knows who they are,\n \
         asks policies for each statement, masks what is labelled, holds what people\n \
         must see first, and records all of it.\n",
        kib(&root)?,
        libraries(&out, &root.join("usr/bin/rowgate"))?,
    );
    write(&root.join("DEBIAN/control"), control.as_bytes(), 0o644)?;
    let kept = FILES.iter().map(|(_, to, _)| *to).filter(|to| to.starts_with("etc/"));
    let kept: Vec<String> = kept.map(|to| format!("/{to}\n")).collect();
    write(&root.join("DEBIAN/conffiles"), kept.concat().as_bytes(), 0o644)?;
    let package = out.join(format!("rowgate_{version}_{architecture}.deb"));
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Zxz", "--build"]).arg(&root).arg(&package);
    sh::run(&mut build)?;
    Ok(package)
}

/// Puts every file in its place.
fn stage(root: &Path, binary: &Path) -> Result<()> {
    for (from, to, mode) in FILES {
        copy(&sh::root().join(from), &root.join(to), mode)?;
    }
    for (from, to) in FOLDERS {
        let folder = sh::root().join(from);
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let from = entry?.path();
            if let Some(name) = from.file_name().filter(|_| from.is_file()) {
                copy(&from, &root.join(to).join(name), 0o644)?;
            }
        }
    }
    let own = root.join("usr/bin/rowgate");
    copy(binary, &own, 0o755)?;
    for (shell, to) in COMPLETIONS {
        let script = sh::capture(Command::new(&own).args(["completions", shell]))?.stdout;
        write(&root.join(to), &script, 0o644)?;
    }
    sh::capture(Command::new("strip").arg("--strip-unneeded").arg(&own))?;
    let changes = root.join("usr/share/doc/rowgate/changelog");
    copy(&sh::root().join("CHANGELOG.md"), &changes, 0o644)?;
    sh::capture(Command::new("gzip").args(["-9n"]).arg(&changes))?;
    Ok(())
}

/// The libraries that it is linked with, as dependencies.
fn libraries(out: &Path, binary: &Path) -> Result<String> {
    // dpkg-shlibdeps wants to be in a source package.
    write(
        &out.join("debian/control"),
        b"Source: rowgate\n\nPackage: rowgate\nArchitecture: any\n",
        0o644,
    )?;
    let mut find = Command::new("dpkg-shlibdeps");
    let found = said(find.current_dir(out).arg("-O").arg("-e").arg(binary))?;
    Ok(found.trim_start_matches("shlibs:Depends=").to_owned())
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let bytes = fs::read(from).with_context(|| from.display().to_string())?;
    write(to, &bytes, mode)
}

fn write(to: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(to, bytes).with_context(|| to.display().to_string())?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

fn said(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&sh::capture(command)?.stdout).trim().to_owned())
}

/// How much it takes when it is installed.
fn kib(root: &Path) -> Result<String> {
    let text = said(Command::new("du").args(["-sk", "--apparent-size"]).arg(root))?;
    Ok(text.split_whitespace().next().unwrap_or("0").to_owned())
}
