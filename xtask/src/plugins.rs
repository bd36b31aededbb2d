//! `cargo xtask plugins`: the shipped plugins as WASM components in `target/plugins`.
//!
//! With rustup's own wasm32-unknown-unknown target, that is used. Debian 12 with a registry but no rustup server has
//! another way: Debian's newer compiler with its library sources builds the library too, and the linker that every
//! rustup toolchain ships makes the component.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use xtask::setup;
use xtask::sh::{self, step};

const TARGET: &str = "wasm32-unknown-unknown";
const SHIPPED: [&str; 3] = ["mask-standard", "classify-pii", "guard-risk"];
/// Misbehaving ones, for the tests of the host.
const TESTED: [&str; 4] = ["loops", "allocates", "too-few", "traps"];

/// Builds what is out of date.
pub(crate) fn build() -> Result<()> {
    let out = sh::root().join("target/plugins");
    fs::create_dir_all(out.join("test"))?;
    let newest = newest(&["plugins", "wit"].map(|folder| sh::root().join(folder)))?;
    let components = components(&out);
    let stale = |path: &PathBuf| {
        fs::metadata(path).and_then(|meta| meta.modified()).is_ok_and(|at| at > newest)
    };
    if components.iter().all(|(_, path)| stale(path)) {
        return Ok(());
    }
    step("building the plugins (WASM components)");
    let built = compile_all()?;
    for (package, path) in components {
        let from = built.join(format!("{}.wasm", package.replace('-', "_")));
        fs::copy(&from, &path).with_context(|| format!("copying {}", from.display()))?;
        let size = fs::metadata(&path)?.len() / 1024;
        println!("    {} ({size} KiB)", path.strip_prefix(sh::root()).unwrap_or(&path).display());
    }
    Ok(())
}

fn components(out: &Path) -> Vec<(String, PathBuf)> {
    let shipped = SHIPPED.iter().map(|name| ((*name).to_owned(), out.join(format!("{name}.wasm"))));
    let tested = TESTED
        .iter()
        .map(|name| (format!("test-{name}"), out.join("test").join(format!("{name}.wasm"))));
    shipped.chain(tested).collect()
}

/// Builds the plugin in a folder of its author's, into that folder.
pub(crate) fn build_own(folder: &str) -> Result<()> {
    let folder = fs::canonicalize(folder).with_context(|| format!("no folder {folder}"))?;
    let manifest = folder.join("Cargo.toml");
    ensure!(manifest.is_file(), "{} is missing; see docs/plugins.md", manifest.display());
    step(&format!("building the plugin in {}", folder.display()));
    let mut cargo = sh::command(&["cargo", "build", "--release", "--target", TARGET]);
    cargo.arg("--manifest-path").arg(&manifest);
    let since = SystemTime::now();
    let built = compile(cargo)?;
    // cargo does not say which file it made; it is the one of the package's name
    let name = sh::capture(sh::command(&["cargo", "pkgid", "--manifest-path"]).arg(&manifest))?;
    let name = String::from_utf8_lossy(&name.stdout).trim().to_owned();
    let name = name.rsplit(['/', '#']).find(|part| !part.starts_with(|c: char| c.is_ascii_digit()));
    let name = name.and_then(|part| part.split('@').next()).unwrap_or("plugin").to_owned();
    let from = built.join(format!("{}.wasm", name.replace('-', "_")));
    ensure!(
        fs::metadata(&from).is_ok_and(|meta| meta.is_file()),
        "{} was not made: Cargo.toml needs [lib] with crate-type = [\"cdylib\"]",
        from.display()
    );
    let to = folder.join(format!("{name}.wasm"));
    fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
    println!("    {} ({:.0} s)", to.display(), since.elapsed().unwrap_or_default().as_secs_f64());
    Ok(())
}

/// Compiles the shipped and the misbehaving guests; the folder that the components are in.
fn compile_all() -> Result<PathBuf> {
    let mut cargo = sh::command(&["cargo", "build", "--release", "--target", TARGET]);
    for package in SHIPPED
        .iter()
        .map(|name| (*name).to_owned())
        .chain(TESTED.iter().map(|n| format!("test-{n}")))
    {
        cargo.arg("-p").arg(package);
    }
    compile(cargo)
}

/// Compiles guests with a `cargo build` that has its packages; the folder that the components are in.
fn compile(mut cargo: Command) -> Result<PathBuf> {
    let target_dir = sh::target_dir().join("wasm");
    cargo.env("CARGO_TARGET_DIR", &target_dir).env_remove("RUSTC_WRAPPER");
    for (key, value) in [("STRIP", "symbols"), ("LTO", "true"), ("PANIC", "abort"), ("DEBUG", "0")]
    {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
    }
    let sysroot = sh::capture(&mut sh::command(&["rustc", "--print", "sysroot"]))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    let tools = sysroot.join("lib/rustlib/x86_64-unknown-linux-gnu/bin");
    let linker = tools.join("wasm-component-ld");
    ensure!(
        linker.is_file(),
        "{} is missing: a rustup toolchain of 1.82 or newer has it",
        linker.display()
    );
    let mut flags = format!(
        "-Clink-arg=--wasm-ld-path={} -Ctarget-feature=+simd128",
        tools.join("gcc-ld/wasm-ld").display()
    );
    cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &linker);
    if !sysroot.join("lib/rustlib").join(TARGET).is_dir() {
        from_sources(&mut cargo)?;
    }
    flags.push_str(" -Copt-level=3");
    cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", flags);
    sh::run(&mut cargo)?;
    Ok(target_dir.join(TARGET).join("release"))
}

/// The library is built too, by Debian's compiler and from its sources. Only this build sees these variables.
fn from_sources(cargo: &mut Command) -> Result<()> {
    let sources = Path::new("/usr/lib/rust-web").exists() || debian_sources().is_some();
    if !sources || !Path::new("/usr/bin/rustc").is_file() {
        setup::install(&["rustc-web", "rust-web-src"])?;
    }
    cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
    cargo.arg("-Zbuild-std=std,panic_abort");
    Ok(())
}

/// Where Debian's compiler keeps its library's sources.
fn debian_sources() -> Option<PathBuf> {
    let output = Command::new("/usr/bin/rustc").args(["--print", "sysroot"]).output().ok()?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let sources = sysroot.join("lib/rustlib/src/rust/library");
    sources.is_dir().then_some(sources)
}

/// When the newest source was changed.
fn newest(folders: &[PathBuf]) -> Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    let mut rest = folders.to_vec();
    while let Some(path) = rest.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path)? {
                rest.push(entry?.path());
            }
        } else {
            newest = newest.max(fs::metadata(&path)?.modified()?);
        }
    }
    Ok(newest)
}
