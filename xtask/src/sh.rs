//! Running commands: what is run is said, how long it took is said, and a failure names the command.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

/// The workspace's folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Says what is going on now.
pub fn step(text: &str) {
    println!("\x1b[1m==> {text}\x1b[0m");
}

/// A command of the workspace's folder, from words.
pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words.first().copied().unwrap_or("true"));
    command.args(words.iter().skip(1)).current_dir(root());
    command
}

/// Runs a command with its output on the terminal; an error if it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    println!("    $ {shown}");
    let start = Instant::now();
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("starting {shown}"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    let took = start.elapsed();
    if took.as_secs() >= 2 {
        println!("    done in {:.0} s", took.as_secs_f64());
    }
    Ok(())
}

/// All that a program said.
pub fn said(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

/// Runs words; see [`run`].
pub fn run_words(words: &[&str]) -> Result<()> {
    run(&mut command(words))
}

/// Runs a command quietly and gives its output; an error, with what it printed, if it fails.
pub fn capture(command: &mut Command) -> Result<Output> {
    let shown = show(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("starting {shown}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` failed ({}): {}", output.status, text.trim());
    }
    Ok(output)
}

/// Whether a program is on the PATH (or in the system's sbin folders, which a PATH may lack).
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn show(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for word in command.get_args() {
        text.push(' ');
        text.push_str(&word.to_string_lossy());
    }
    if text.chars().count() > 160 {
        text = text.chars().take(160).chain(['…']).collect();
    }
    text
}
