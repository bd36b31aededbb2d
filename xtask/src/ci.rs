//! `cargo xtask test` and `cargo xtask ci`: what must be green, in the order that fails soonest.

use std::time::Instant;

use anyhow::{Context as _, Result};
use xtask::sh::{self, step};
use xtask::{mysql, setup};

use crate::{chaos, demo, drivers, plugins};

/// The fuzz targets; each is smoked for [`FUZZ_SECONDS`].
const FUZZ_TARGETS: [&str; 8] =
    ["frame", "login", "resultset", "lexer", "session", "jwt", "user_name", "saml_response"];
/// Those that begin with inputs of ours: what they are about has too much form to be found.
const FUZZ_SEEDS: [(&str, &str); 1] = [("saml_response", "tests/saml/answers")];
const FUZZ_SECONDS: u32 = 30;

/// Sets up whatever is missing, then runs every test of the workspace.
pub(crate) fn test() -> Result<()> {
    prepare()?;
    step("unit, integration and doc tests");
    sh::run_words(&["cargo", "test", "--workspace"])
}

/// Installs what is missing and builds the plugins.
pub(crate) fn prepare() -> Result<()> {
    setup::ensure(&setup::BUILD)?;
    setup::ensure(&setup::DATABASE)?;
    setup::ensure(&setup::TESTS)?;
    setup::pymysql()?;
    setup::connector()?;
    setup::mariadb_plugins()?;
    setup::js_drivers()?;
    setup::issuer()?;
    setup::simplesamlphp()?;
    setup::browser()?;
    setup::prometheus()?;
    setup::keepalived()?;
    setup::kubernetes_validate()?;
    if !mysql::is_left_out() {
        mysql::fetch().with_context(|| {
            format!("the tests on MySQL need it; {}=1 leaves them out", mysql::LEAVE_OUT)
        })?;
    }
    plugins::build()
}

/// Everything.
pub(crate) fn ci() -> Result<()> {
    let start = Instant::now();
    setup::ensure(&setup::BUILD)?;
    step("formatting");
    sh::run_words(&["cargo", "fmt", "--all", "--check"])?;
    step("tidy: layers, sizes, module docs");
    sh::run_words(&["cargo", "test", "--no-default-features", "--test", "tidy"])?;
    step("layers 0 to 3 alone");
    sh::run_words(&["cargo", "test", "--no-default-features", "--lib"])?;
    test()?;
    step("clippy");
    let clippy = ["cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    sh::run_words(&clippy)?;
    step("the demo's scenario");
    demo::demo(true)?;
    step("the demo's scenes of identity");
    demo::identity::demo(true)?;
    step("the demo's scenes of people");
    demo::people::demo(true)?;
    step("a part of the drivers' own suites, and the tools");
    drivers::drivers(&drivers::Plan::quick())?;
    disturb()?;
    fuzz()?;
    deny()?;
    step(&format!("all green in {:.0} minutes", start.elapsed().as_secs_f64() / 60.0));
    Ok(())
}

/// A minute of chaos, where there may be networks to cut.
fn disturb() -> Result<()> {
    setup::ensure(&setup::TESTS)?;
    if !chaos::can_run() {
        step("no network namespaces here (they need root): chaos left out");
        return Ok(());
    }
    step("a minute of chaos");
    chaos::chaos(&chaos::Plan::minute())
}

/// A short run of every fuzz target, where a nightly toolchain is present.
pub(crate) fn fuzz() -> Result<()> {
    let nightly = sh::command(&["cargo", "+nightly", "--version"]).output();
    if !nightly.is_ok_and(|output| output.status.success()) {
        step("no nightly toolchain: fuzzing left out (the oracles ran as tests)");
        return Ok(());
    }
    cargo_tool("cargo-fuzz")?;
    for target in FUZZ_TARGETS {
        step(&format!("fuzz {target}, {FUZZ_SECONDS} s"));
        let limit = format!("-max_total_time={FUZZ_SECONDS}");
        let mut words = vec!["cargo", "+nightly", "fuzz", "run", target];
        let found = format!("fuzz/corpus/{target}");
        if let Some((_, seeds)) = FUZZ_SEEDS.iter().find(|(of, _)| *of == target) {
            std::fs::create_dir_all(sh::root().join(&found))?;
            words.extend([found.as_str(), seeds]);
        }
        words.extend(["--", &limit, "-print_final_stats=1"]);
        sh::run_words(&words)?;
    }
    Ok(())
}

/// Licences, bans and sources; advisories need a database that a closed network lacks.
pub(crate) fn deny() -> Result<()> {
    cargo_tool("cargo-deny")?;
    step("cargo deny");
    sh::run_words(&["cargo", "deny", "check", "bans", "licenses", "sources"])
}

/// Installs a cargo subcommand when it is missing.
fn cargo_tool(name: &str) -> Result<()> {
    let home =
        std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|h| h + "/.cargo"))?;
    let installed = std::path::Path::new(&home).join("bin").join(name).is_file();
    if installed || sh::find_program(name).is_some() {
        return Ok(());
    }
    step(&format!("installing {name} (once)"));
    sh::run_words(&["cargo", "install", name, "--locked"])
}
