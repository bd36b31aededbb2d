//! What can be typed of `rowgate login`, `connect` and `logout`: types only. The texts here are what `--help` shows.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::args::duration_s;
use crate::network::Network;

pub(super) const LOGIN_EXAMPLES: &str = "\
Examples:
  rowgate login --gateway https://rowgate.example.com
  rowgate login --gateway https://rowgate.example.com --target shop --ttl 2h
  rowgate login --gateway https://rowgate.example.com --target shop --print my.cnf > ~/.rowgate-shop.cnf
  rowgate login --gateway https://rowgate.example.com --target shop --print dsn";

pub(super) const CONNECT_EXAMPLES: &str = "\
Examples:
  rowgate connect shop
  rowgate connect shop -- --database=shop --execute='SELECT 1'
  rowgate connect shop --client mariadb-dump -- shop orders";

pub(super) const LOGOUT_EXAMPLES: &str = "\
Examples:
  rowgate logout";

#[derive(Args, Debug)]
pub(super) struct LoginArgs {
    /// The gateway's pages, as one opens them in a browser
    #[arg(long, env = "ROWGATE_GATEWAY", value_name = "URL")]
    pub(super) gateway: String,
    /// What the password is good for; all that you may use where none is named
    #[arg(long, num_args = 1.., value_name = "NAME")]
    pub(super) target: Vec<String>,
    /// Networks that it is accepted from; all where none is named
    #[arg(long, num_args = 1.., value_name = "NETWORK")]
    pub(super) from: Vec<Network>,
    /// How long it is good, such as 2h; as the gateway has it where it isn't said
    #[arg(long, value_name = "TIME", value_parser = duration_s)]
    pub(super) ttl: Option<u64>,
    /// What it is for, to tell it from others
    #[arg(long, default_value = "rowgate login", value_name = "TEXT")]
    pub(super) label: String,
    /// PEM bundle of the CA of the gateway's certificates, where this machine doesn't know it
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Print the password for a program; otherwise `rowgate connect` uses it and nobody sees it
    #[arg(long, value_enum, value_name = "FORM")]
    pub(super) print: Option<Print>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Print {
    /// A defaults file of the stock clients
    #[value(name = "my.cnf")]
    MyCnf,
    /// Lines for a shell's eval
    Env,
    /// A URL
    Dsn,
    /// All that the gateway said
    Json,
}

#[derive(Args, Debug)]
pub(super) struct ConnectArgs {
    /// The target's name, as `rowgate login` listed it
    pub(super) target: String,
    /// The program; mysql or else mariadb where none is named
    #[arg(long, value_name = "PROGRAM")]
    pub(super) client: Option<PathBuf>,
    /// What the program is given besides
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub(super) arguments: Vec<std::ffi::OsString>,
}
