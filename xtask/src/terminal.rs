//! A person's terminal: `rowgate login`, `connect` and `logout`, with a home of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result};

/// Where they are run.
#[derive(Clone, Debug)]
pub struct Terminal {
    /// The command line that is run.
    pub binary: PathBuf,
    /// Where it keeps what it was given.
    pub home: PathBuf,
}

/// A sign-in that waits for its person.
#[derive(Debug)]
pub struct Login {
    child: Child,
    /// What it asks for: the page to open, and then the code.
    pub said: [String; 2],
}

impl Terminal {
    /// With this folder as the home.
    pub fn new(binary: &Path, home: &Path) -> Self {
        Self { binary: binary.to_path_buf(), home: home.to_path_buf() }
    }

    /// A verb of the command line.
    pub fn rowgate(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(words).env("XDG_STATE_HOME", &self.home).stdin(Stdio::null());
        // In plain HTTP a proxy would be shown the password: it is not asked.
        command.env("http_proxy", "http://127.0.0.1:9").env_remove("no_proxy");
        command
    }

    /// Runs it.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        self.rowgate(words).output().with_context(|| format!("running rowgate {words:?}"))
    }

    /// Begins to sign in at the pages of this address, for the shop.
    pub fn begin(&self, url: &str) -> Result<Login> {
        let words = ["login", "--gateway", url, "--target", "shop", "--label", "laptop"];
        let mut login = self.rowgate(&words);
        let mut child = login.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stderr.as_mut().context("no stderr")?).lines();
        let mut line = || anyhow::Ok(lines.next().context("rowgate login says nothing")??);
        let said = [line()?, line()?];
        Ok(Login { child, said })
    }
}

impl Login {
    /// The code that a person agrees to.
    pub fn code(&self) -> String {
        self.said[1].rsplit(' ').next().unwrap_or_default().to_owned()
    }

    /// Waits for its end.
    pub fn end(self) -> Result<Output> {
        Ok(self.child.wait_with_output()?)
    }
}
