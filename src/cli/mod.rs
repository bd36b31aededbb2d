//! The verbs of the command line. Each asks the gateway over its admin socket, or reads the files that the configuration
//! names; none reaches a database by itself but `classify`, through the gateway's own account.

mod admin;
mod approvals;
mod args;
mod audit;
mod cert;
mod connect;
mod identities;
mod inspect;
mod kept;
mod login;
mod login_args;
mod operate;
mod output;
mod password;
mod progress;
mod settings;
mod target_args;
mod targets;
mod tokens;
mod watch;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Verb};

use crate::gateway::GatewayError;

/// How a verb ended badly.
#[derive(Debug)]
enum CliError {
    /// What was asked can't be: exit code 2.
    Input(String),
    /// It was tried and failed: exit code 1.
    Failed(String),
    /// Whoever read the output has had enough, as `head` has: no error of anyone's.
    Closed,
}

impl CliError {
    fn input(text: impl Into<String>) -> Self {
        Self::Input(text.into())
    }

    fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }
}

/// Runs the verb that the process was started with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // a verb is missing: the list of verbs says it best
            let _ = error.print();
            return ExitCode::from(2);
        }
        Err(error) if error.use_stderr() => return complain(&CliError::Input(usage(&error))),
        Err(help) => {
            // help and version: a closed pipe is not worth a word
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    let context = Context { config: cli.config, output: cli.output };
    match cli.verb {
        Verb::Serve => crate::gateway::run(&context.config_path()?).map_err(from_gateway),
        Verb::Check => inspect::check(&context),
        Verb::Audit(verb) => audit::run(&context, &verb),
        Verb::Plugin(args::PluginVerb::Inspect { file }) => inspect::plugin(&context, &file),
        Verb::Classify { target, samples } => inspect::classify(&context, &target, samples),
        Verb::Token(verb) => tokens::run(&context, verb),
        Verb::Identity(verb) => identities::run(&context, verb),
        Verb::Target(verb) => targets::run(&context, verb),
        Verb::Key(verb) => targets::key(&context, verb),
        Verb::Approvals(verb) => approvals::run(&context, verb),
        Verb::Cert(verb) => cert::run(verb),
        Verb::Login(args) => login::login(&context, &args),
        Verb::Logout => login::logout(&context),
        Verb::Connect(args) => Err(connect::connect(&args)),
        Verb::Status => operate::status(&context),
        Verb::Sessions(verb) => operate::sessions(&context, verb),
        Verb::Reload => operate::reload(&context),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rowgate", &mut script);
            output::say(String::from_utf8_lossy(&script).trim_end())
        }
    }
}

fn from_gateway(error: GatewayError) -> CliError {
    match error {
        GatewayError::Input(text) => CliError::Input(text),
        GatewayError::Failed(text) => CliError::Failed(text),
    }
}

/// What every verb may need.
struct Context {
    config: Option<std::path::PathBuf>,
    output: args::Output,
}

fn complain(error: &CliError) -> ExitCode {
    let (text, code) = match error {
        CliError::Input(text) => (text, 2),
        CliError::Failed(text) => (text, 1),
        CliError::Closed => return ExitCode::SUCCESS,
    };
    // one line, whatever a file's name or a library's text holds
    let line = text.split(['\n', '\r']).map(str::trim).collect::<Vec<_>>().join(" ");
    eprintln!("rowgate: {}", output::visible(line.trim()));
    ExitCode::from(code)
}

/// clap's complaint in one line: its own runs over several, with the usage in the middle.
fn usage(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraphs: Vec<String> = text
        .split("\n\n")
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let what = paragraphs.first().map_or("", |first| first.trim_start_matches("error: "));
    let tip = paragraphs.iter().find(|part| part.starts_with("tip: "));
    match tip {
        Some(tip) => format!("{what}; {}", tip.trim_start_matches("tip: ")),
        None => format!("{what}; see --help"),
    }
}

#[cfg(test)]
mod tests;
