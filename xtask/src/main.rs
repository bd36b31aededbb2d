//! `cargo xtask …`: every chore of the project.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a chore talks to its user on the terminal"
)]
#![allow(missing_docs, reason = "chores are documented by HELP and their module comments")]

mod bench;
mod capture;
mod chaos;
mod ci;
mod compose;
mod demo;
mod drivers;
mod package;
mod plugins;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use xtask::mariadb::free_port;
use xtask::mysql;

const HELP: &str = "\
cargo xtask <chore>

  demo [--once]      the main job on a private MariaDB; --once ends after the scenario
  demo identity [--once]
                     who one is to the gateway: JWTs as passwords of stock drivers, people who sign in by OIDC and SAML in
                     Chromium, rowgate login, revocation, refusals; stays up to be tried by hand, unless --once
  demo people [--once]
                     a held write, approved on a phone; an auditor who replays what the agent saw; a record that shows when
                     it was touched; stays up to be tried by hand, unless --once
  test               install what is missing, build the plugins, run every test
  ci                 everything that must be green (fmt, tidy, tests, clippy, demo, drivers, chaos, fuzz, deny)
  setup              install what is missing and build the plugins, nothing else
  plugins [FOLDER]   build the shipped plugins to target/plugins/*.wasm, or the one in FOLDER to FOLDER/*.wasm
  bench [--quick] [--seconds N] [--rounds N] [--no-pin] [--only TEXT] [--peers NAME,NAME] [--driver NAME]
        [--binary PATH] [--other PATH] [--output json] [--syscalls]
                     CPU, latency and memory beside direct, HAProxy, nginx, Envoy and mysqlrouter; writes
                     target/bench/report.md; --only runs those whose heading contains TEXT, such as Stream; --other
                     measures a second build beside; --syscalls counts the system calls of a round trip instead
  mysql [up [PORT] | down]
                     a real MySQL 9 under target/mysql9: fetched; up on a port of loopback with the sample shop; ended
  drivers [--only NAME] [--quick] [--database mariadb|mysql] [--binary PATH]
        [--resume] [--hold]
                     the drivers' own suites and the tools, directly, as a passthrough identity and as a governed one;
                     every difference must be in tests/drivers/known.txt; --quick runs a part in three minutes;
                     --resume takes over what ended in a run that was cut off (an hour is long);
                     --hold only starts what they run on
  compose [--binary PATH]
                     a database, an OpenID provider, the gateway and Prometheus in containers, on loopback; of a release build
                     or of the binary given
  package [--binary PATH]
                     a Debian package in target/package, of a release build or of the binary given
  capture            record stock clients talking to a real server into tests/captures
  chaos [--minutes N] [--seed N] [--binary PATH] [--allocator-defaults]
                     mixed load by stock drivers for N minutes (10) while clients are killed, the database is restarted
                     and cut off, and the policy is reloaded; a summary of what must hold (needs root); memory is judged
                     from 5 minutes on, with freed memory given back at once unless --allocator-defaults
  fuzz               30 s of every fuzz target (needs a nightly toolchain)
  deny               licences, bans and sources of the dependencies

Examples:
  cargo xtask demo --once
  cargo xtask bench --seconds 10
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words.iter().any(|word| ["--help", "-h"].contains(word)) {
        print!("{HELP}");
        return Ok(());
    }
    match words.as_slice() {
        ["drivers", rest @ ..] => drivers::drivers(&drivers::Plan::parse(rest)?),
        ["demo"] => demo::demo(false),
        ["demo", "--once"] => demo::demo(true),
        ["demo", "identity"] => demo::identity::demo(false),
        ["demo", "identity", "--once"] => demo::identity::demo(true),
        ["demo", "people"] => demo::people::demo(false),
        ["demo", "people", "--once"] => demo::people::demo(true),
        ["test"] => ci::test(),
        ["ci"] => ci::ci(),
        ["setup"] => ci::prepare(),
        ["plugins"] => plugins::build(),
        ["plugins", folder] => plugins::build_own(folder),
        ["mysql"] => mysql::fetch().map(drop),
        ["mysql", "up"] => mysql::up(free_port()?),
        ["mysql", "up", port] => mysql::up(port.parse().context("the port")?),
        ["mysql", "down"] => mysql::down(),
        ["compose"] => compose::compose(None),
        ["compose", "--binary", path] => compose::compose(Some(path.as_ref())),
        ["package"] => package::package(None).map(drop),
        ["package", "--binary", path] => package::package(Some(path.as_ref())).map(drop),
        ["capture"] => capture::capture(),
        ["chaos", rest @ ..] => chaos::chaos(&chaos::Plan::parse(rest)?),
        ["fuzz"] => ci::fuzz(),
        ["deny"] => ci::deny(),
        ["bench", rest @ ..] => bench::bench(&bench::Plan::parse(rest)?),
        [] | ["help"] => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("unknown chore {:?}; `cargo xtask help` lists them", other.join(" ")),
    }
}
