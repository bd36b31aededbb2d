//! What can be typed: types only. The texts here are what `--help` shows.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::audit::args::{AUDIT_EXAMPLES, AuditVerb};
use super::login_args::{
    CONNECT_EXAMPLES, ConnectArgs, LOGIN_EXAMPLES, LOGOUT_EXAMPLES, LoginArgs,
};
use super::target_args::{KEY_EXAMPLES, KeyVerb, TARGET_EXAMPLES, TargetVerb};
use crate::network::Network;

const EXAMPLES: &str = "\
Examples:
  rowgate check                                        read everything, connect nowhere
  rowgate serve --config /etc/rowgate/rowgate.toml     run the gateway
  rowgate token create --identity etl --group agents   let someone in
  rowgate approvals list                               who waits for a decision
  rowgate audit tail -n 20 --follow                    what happens

The configuration is $ROWGATE_CONFIG, else ./rowgate.toml, else /etc/rowgate/rowgate.toml.
Exit codes: 0 fine, 1 failed, 2 bad input.";

const TOKEN_EXAMPLES: &str = "\
Examples:
  rowgate token create --identity support-bot --group agents --expires 30d
  rowgate token create --identity backup --kind service --group dumps
  rowgate token create --identity etl --group agents --target shop --from 10.20.0.0/16
  rowgate token list
  rowgate token rotate tok_1f2e3d4c5b6a                  a new one; the old one ends in an hour
  rowgate token rotate tok_1f2e3d4c5b6a --overlap 7d
  rowgate token revoke tok_1f2e3d4c5b6a";

const IDENTITY_EXAMPLES: &str = "\
Examples:
  rowgate identity revoke support-bot --reason 'its host was broken into'
  rowgate identity list --revoked
  rowgate identity restore support-bot
  rowgate identity explain --token ./token.jwt           who that is, in which groups, and why
  rowgate identity explain --token - --user oidc < ./token.jwt
  rowgate identity explain --user support-bot";

const APPROVAL_EXAMPLES: &str = "\
Examples:
  rowgate approvals list
  rowgate approvals list --state all --output json
  rowgate approvals watch
  rowgate approvals show apr_1f2e3d4c5b6a
  rowgate approvals approve apr_1f2e3d4c5b6a --reason 'change 4711'
  rowgate approvals deny apr_1f2e3d4c5b6a --reason 'ask for a copy instead'
  rowgate approvals break-glass apr_1f2e3d4c5b6a --reason 'outage 4711, on call alone'";

const SERVE_EXAMPLES: &str = "\
Examples:
  rowgate serve --config /etc/rowgate/rowgate.toml
  kill -HUP $(pidof rowgate)     reload
  kill -TERM $(pidof rowgate)    drain and end";

const CHECK_EXAMPLES: &str = "\
Examples:
  rowgate check --config /etc/rowgate/rowgate.toml
  rowgate check --output json";

const PLUGIN_EXAMPLES: &str = "\
Examples:
  rowgate plugin inspect target/plugins/mask-standard.wasm
  rowgate plugin inspect target/plugins/mask-standard.wasm --output json";

const STATUS_EXAMPLES: &str = "\
Examples:
  rowgate status
  rowgate status --output json";

const SESSION_EXAMPLES: &str = "\
Examples:
  rowgate sessions list
  rowgate sessions list --output json
  rowgate sessions kill 9223372039002259457";

const RELOAD_EXAMPLES: &str = "\
Examples:
  rowgate check && rowgate reload";

const CLASSIFY_EXAMPLES: &str = "\
Examples:
  rowgate classify --target shop
  rowgate classify --target shop --samples 200 --output json";

const CERT_EXAMPLES: &str = "\
Examples:
  rowgate cert self-signed --out /etc/rowgate/tls --host db.example.org --host 10.0.0.5";

/// The gateway between agents (and people) and MySQL or MariaDB.
#[derive(Debug, Parser)]
#[command(name = "rowgate", version, about, after_help = EXAMPLES, disable_help_subcommand = true)]
pub(super) struct Cli {
    /// The configuration file
    #[arg(long, short, global = true, env = "ROWGATE_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// How lists are printed
    #[arg(long, global = true, value_enum, default_value_t = Output::Table, value_name = "FORM")]
    pub(super) output: Output,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run the gateway until SIGTERM; it then drains
    #[command(after_help = SERVE_EXAMPLES)]
    Serve,
    /// Read configuration, policies and plugins, and say what is wrong; connects nowhere
    #[command(after_help = CHECK_EXAMPLES)]
    Check,
    /// Make, list, rotate and revoke gateway tokens
    #[command(subcommand, after_help = TOKEN_EXAMPLES)]
    Token(TokenVerb),
    /// Keep an identity out, whichever way it logs in
    #[command(subcommand, after_help = IDENTITY_EXAMPLES)]
    Identity(IdentityVerb),
    /// Add, list, check, rotate and remove databases
    #[command(subcommand, after_help = TARGET_EXAMPLES)]
    Target(TargetVerb),
    /// The master key that seals the store's credentials
    #[command(subcommand, after_help = KEY_EXAMPLES)]
    Key(KeyVerb),
    /// See and decide the statements that wait
    #[command(subcommand, after_help = APPROVAL_EXAMPLES)]
    Approvals(ApprovalVerb),
    /// Read and verify the record
    #[command(subcommand, after_help = AUDIT_EXAMPLES)]
    Audit(AuditVerb),
    /// Look into plugins
    #[command(subcommand, after_help = PLUGIN_EXAMPLES)]
    Plugin(PluginVerb),
    /// Propose labels for a target's columns, by their names and by samples; changes nothing
    #[command(after_help = CLASSIFY_EXAMPLES)]
    Classify {
        /// The target's name in the configuration
        #[arg(long, value_name = "NAME")]
        target: String,
        /// How many values of each column are looked at
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(0..=1000))]
        samples: u16,
    },
    /// Certificates for the listeners
    #[command(subcommand, after_help = CERT_EXAMPLES)]
    Cert(CertVerb),
    /// Sign in, in a browser, for a session password that `rowgate connect` uses
    #[command(after_help = LOGIN_EXAMPLES)]
    Login(LoginArgs),
    /// Connect to a database with the stock client, as who signed in
    #[command(after_help = CONNECT_EXAMPLES)]
    Connect(ConnectArgs),
    /// End the session password of `rowgate login`
    #[command(after_help = LOGOUT_EXAMPLES)]
    Logout,
    /// What the running gateway does
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
    /// See and end sessions
    #[command(subcommand, after_help = SESSION_EXAMPLES)]
    Sessions(SessionVerb),
    /// Read configuration, policies and plugins again, all or nothing
    #[command(after_help = RELOAD_EXAMPLES)]
    Reload,
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  rowgate completions bash > /etc/bash_completion.d/rowgate")]
    Completions {
        /// Which shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenVerb {
    /// Make a token; it is shown this once
    #[command(after_help = TOKEN_EXAMPLES)]
    Create(NewToken),
    /// Every token, without its secret
    #[command(after_help = TOKEN_EXAMPLES)]
    List,
    /// Make a token in another's place, for the same identity, groups, scope and time; it is shown this once
    #[command(after_help = TOKEN_EXAMPLES)]
    Rotate {
        /// The old one's id, as `token list` shows it
        id: String,
        /// How long the old one still is good, such as 10m or 7d; 0s revokes it
        #[arg(long, default_value = "1h", value_name = "TIME", value_parser = overlap_s)]
        overlap: u64,
    },
    /// End a token, and its live sessions
    #[command(after_help = TOKEN_EXAMPLES)]
    Revoke {
        /// Its id, as `token list` shows it
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum IdentityVerb {
    /// The identities that have tokens, or were revoked
    #[command(after_help = IDENTITY_EXAMPLES)]
    List {
        /// Only those that were revoked
        #[arg(long)]
        revoked: bool,
    },
    /// Let nobody log in under this name any more, by a token, an issuer's token or a certificate; end its live sessions
    #[command(after_help = IDENTITY_EXAMPLES)]
    Revoke {
        /// Its name, as the record and policies have it
        name: String,
        /// Why, for the record
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Who a token or a name is here: what was checked, where each group comes from, and what policies make of it
    #[command(after_help = IDENTITY_EXAMPLES)]
    Explain {
        /// An issuer's token, a gateway's token or a session password, in a file; - for standard input
        #[arg(long, value_name = "FILE", required_unless_present = "user")]
        token: Option<PathBuf>,
        /// The user name: with a token, as who it logs in; alone, everything that vouches for this name
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Let it log in again, with what is still good
    #[command(after_help = IDENTITY_EXAMPLES)]
    Restore {
        /// Its name
        name: String,
        /// Why, for the record
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
}

#[derive(Args, Debug)]
pub(super) struct NewToken {
    /// Who logs in with it
    #[arg(long, value_name = "NAME")]
    pub(super) identity: String,
    /// A group that it confers; may be given more than once
    #[arg(long = "group", value_name = "GROUP")]
    pub(super) groups: Vec<String>,
    /// What kind of principal
    #[arg(long, value_enum, default_value_t = Kind::Agent)]
    pub(super) kind: Kind,
    /// How long it lives, such as 12h, 30d or 8w; without this, until it is revoked
    #[arg(long, value_name = "TIME", value_parser = duration_s)]
    pub(super) expires: Option<u64>,
    /// Targets that it is for, by their names in the configuration; without this, all
    #[arg(long = "target", value_name = "NAME", num_args = 1..)]
    pub(super) targets: Vec<String>,
    /// Networks or addresses from which it is accepted, such as 10.20.0.0/16; without this, all, and Unix sockets
    #[arg(long = "from", value_name = "CIDR", num_args = 1..)]
    pub(super) networks: Vec<Network>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// An autonomous agent
    Agent,
    /// A person
    Human,
    /// A service or pipeline
    Service,
}

#[derive(Debug, Subcommand)]
pub(super) enum ApprovalVerb {
    /// The requests that wait
    #[command(after_help = APPROVAL_EXAMPLES)]
    List {
        /// Requests in this state
        #[arg(long, value_enum, default_value_t = StateFilter::Pending)]
        state: StateFilter,
    },
    /// Requests as they come and change, a line each, until Ctrl-C
    #[command(after_help = APPROVAL_EXAMPLES)]
    Watch,
    /// One request, with the whole statement
    #[command(after_help = APPROVAL_EXAMPLES)]
    Show {
        /// Its id
        id: String,
    },
    /// Let it run
    #[command(after_help = APPROVAL_EXAMPLES)]
    Approve {
        /// Its id
        id: String,
        /// Why, for the record
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Refuse it
    #[command(after_help = APPROVAL_EXAMPLES)]
    Deny {
        /// Its id
        id: String,
        /// Why, for the requester and the record
        #[arg(long)]
        reason: String,
    },
    /// Let it run at once, by yourself: for an emergency, if your group may (approvals.break_glass_groups)
    #[command(after_help = APPROVAL_EXAMPLES)]
    BreakGlass {
        /// Its id
        id: String,
        /// Why nobody else could be asked, for the record and for who reads it after you
        #[arg(long)]
        reason: String,
    },
    /// Call off your own request, or (as an administrator) any request or unused grant
    #[command(after_help = APPROVAL_EXAMPLES)]
    Cancel {
        /// Its id
        id: String,
        /// Why, for the record
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StateFilter {
    Pending,
    Approved,
    Denied,
    Cancelled,
    Expired,
    Consumed,
    Outdated,
    All,
}

#[derive(Debug, Subcommand)]
pub(super) enum CertVerb {
    /// A certificate that signs itself, for a start; clients must be given it as their CA
    #[command(after_help = CERT_EXAMPLES)]
    SelfSigned {
        /// The folder for rowgate.crt and rowgate.key
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// A name or address that clients connect to; may be given more than once
        #[arg(long = "host", value_name = "NAME", required = true)]
        hosts: Vec<String>,
        /// How many days it is valid
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3650))]
        days: u16,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PluginVerb {
    /// What a component says it is
    #[command(after_help = PLUGIN_EXAMPLES)]
    Inspect {
        /// The component
        file: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum SessionVerb {
    /// Every session
    #[command(after_help = SESSION_EXAMPLES)]
    List,
    /// End a session
    #[command(after_help = SESSION_EXAMPLES)]
    Kill {
        /// Its id, as `sessions list` shows it
        id: u64,
    },
}

/// `7d` → seconds; `0s` is none.
pub(super) fn overlap_s(text: &str) -> Result<u64, String> {
    if text == "0s" { Ok(0) } else { duration_s(text) }
}

/// `30d` → seconds.
pub(super) fn duration_s(text: &str) -> Result<u64, String> {
    let mend = "write a number and s, m, h, d or w, such as 30d";
    let (number, unit) = match text.char_indices().last() {
        Some((at, _)) => text.split_at(at),
        None => return Err(mend.to_owned()),
    };
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(mend.to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| mend.to_owned())?;
    match number.checked_mul(seconds) {
        Some(total) if total > 0 => Ok(total),
        _ => Err(mend.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("12h", 43_200), ("30d", 2_592_000)] {
            assert_eq!(duration_s(text), Ok(seconds), "{text}");
        }
        for bad in ["", "d", "30", "30y", "-1d", "0d", "3 d", "99999999999999999999w", "5é", "é"]
        {
            assert!(duration_s(bad).is_err(), "{bad}");
        }
        assert_eq!((overlap_s("0s"), overlap_s("1h")), (Ok(0), Ok(3_600)));
        assert!(overlap_s("0").is_err());
    }
}
