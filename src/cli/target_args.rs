//! What can be typed of `rowgate target` and `rowgate key`: types only. The texts here are what `--help` shows.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::args::overlap_s;

pub(super) const TARGET_EXAMPLES: &str = "\
Examples:
  rowgate target add crm --listen 127.0.0.1:3308 --address db.internal:3306 --user rowgate --tls-ca ca.pem
  rowgate target add crm --listen 127.0.0.1:3308 --address db.internal:3306 --user rowgate --tls-ca ca.pem \\
      --password-file /run/secrets/crm
  rowgate target add crm --socket /run/rowgate/crm.sock --address 127.0.0.1:3306 --user rowgate --tls off \\
      --credential vault:secret/databases/crm#password --set max_upstream=50
  rowgate target list
  rowgate target show crm --output json
  rowgate target check crm
  rowgate target rotate crm                              asks for the new password
  rowgate target rotate crm --overlap 24h < new-password
  rowgate target remove crm

A password is never an argument. It is asked for on a terminal, read from standard input where that is none, or from
--password-file; --credential names where the gateway finds it: env:NAME, file:PATH or vault:MOUNT/PATH#FIELD.";

pub(super) const KEY_EXAMPLES: &str = "\
Examples:
  rowgate key rotate";

#[derive(Debug, Subcommand)]
pub(super) enum TargetVerb {
    /// Add a database and a listener that leads to it; it takes effect at once
    #[command(after_help = TARGET_EXAMPLES)]
    Add(Box<NewTarget>),
    /// Every target, of the configuration and of the store
    #[command(after_help = TARGET_EXAMPLES)]
    List,
    /// One target's settings and state, without its credential
    #[command(after_help = TARGET_EXAMPLES)]
    Show {
        /// Its name
        name: String,
    },
    /// Log in there, and say what the account may do, what it may too much, and what reaches labelled columns
    #[command(after_help = TARGET_EXAMPLES)]
    Check {
        /// Its name
        name: String,
    },
    /// Exchange its credential, without an end to any session
    #[command(after_help = TARGET_EXAMPLES)]
    Rotate {
        /// Its name
        name: String,
        /// The new account's user; without this, the same
        #[arg(long, value_name = "USER")]
        user: Option<String>,
        /// How long the old credential is tried where the database refuses the new one, such as 30m or 7d; without
        /// this, custody.overlap_s
        #[arg(long, value_name = "TIME", value_parser = overlap_s)]
        overlap: Option<u64>,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Take it out; its sessions end, running ones after their statement
    #[command(after_help = TARGET_EXAMPLES)]
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum KeyVerb {
    /// Seal all credentials of the store under a new master key
    #[command(after_help = KEY_EXAMPLES)]
    Rotate,
}

/// Where the password comes from.
#[derive(Args, Debug)]
pub(super) struct PasswordFrom {
    /// A file with the password, which not everyone may read
    #[arg(long, value_name = "FILE", conflicts_with = "credential")]
    pub(super) password_file: Option<PathBuf>,
    /// Where the gateway finds the password: env:NAME, file:PATH or vault:MOUNT/PATH#FIELD
    #[arg(long, value_name = "REFERENCE")]
    pub(super) credential: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct NewTarget {
    /// Its name in policies, metrics and the record
    pub(super) name: String,
    /// The database: host:port, or unix: and the path of its socket
    #[arg(long, value_name = "ADDRESS")]
    pub(super) address: String,
    /// The gateway's account there
    #[arg(long, value_name = "USER")]
    pub(super) user: String,
    /// Where clients connect
    #[arg(long, value_name = "ADDRESS", required_unless_present = "socket")]
    pub(super) listen: Option<SocketAddr>,
    /// Where clients of the gateway's machine connect: the path of a Unix socket
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// How the database's certificate is verified
    #[arg(long, value_enum, default_value_t = TlsMode::VerifyIdentity, value_name = "MODE")]
    pub(super) tls: TlsMode,
    /// PEM bundle of the database's CA; its text is kept
    #[arg(long, value_name = "FILE")]
    pub(super) tls_ca: Option<PathBuf>,
    /// sha256: and the digest of the database's certificate, for --tls pin
    #[arg(long, value_name = "PIN")]
    pub(super) tls_pin: Option<String>,
    /// PEM of the database's RSA key, for --tls off; its text is kept
    #[arg(long, value_name = "FILE")]
    pub(super) server_public_key: Option<PathBuf>,
    /// TLS towards the clients
    #[arg(long, value_enum, default_value_t = ClientMode::Auto, value_name = "MODE")]
    pub(super) client_tls: ClientMode,
    /// Any other key of [[targets]], such as max_upstream=50; may be given more than once
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    pub(super) set: Vec<(String, serde_json::Value)>,
    #[command(flatten)]
    pub(super) password: PasswordFrom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TlsMode {
    /// Chain and name are checked
    VerifyIdentity,
    /// The chain is checked
    VerifyCa,
    /// This certificate and no other
    Pin,
    /// No TLS: loopback and Unix sockets only
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ClientMode {
    /// Required unless the listener is on loopback
    Auto,
    /// Always
    Required,
    /// Offered
    Optional,
}

/// `max_upstream=50` → the key and its value; what is no number or word of JSON is a text.
fn setting(text: &str) -> Result<(String, serde_json::Value), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as max_upstream=50")?;
    if key.contains("password") {
        return Err("a password is never an argument; see --password-file".to_owned());
    }
    let octal = value.strip_prefix("0o").and_then(|digits| u32::from_str_radix(digits, 8).ok());
    let read = octal.map(serde_json::Value::from).or_else(|| serde_json::from_str(value).ok());
    Ok((key.to_owned(), read.unwrap_or_else(|| value.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        let read = |text: &str| setting(text).unwrap();
        assert_eq!(read("max_upstream=50"), ("max_upstream".to_owned(), 50.into()));
        assert_eq!(read("proxy_protocol=true"), ("proxy_protocol".to_owned(), true.into()));
        assert_eq!(read("compression=zlib"), ("compression".to_owned(), "zlib".into()));
        assert_eq!(read("socket_mode=0o660"), ("socket_mode".to_owned(), 0o660.into()));
        assert!(setting("max_upstream").is_err());
        assert!(setting("password=hunter2").is_err());
    }
}
