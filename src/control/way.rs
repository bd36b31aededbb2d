//! How a target is reached from elsewhere: what people's commands and `rowgate connect` are made of.

use std::net::SocketAddr;

/// Where certificates of authorities are on most machines.
pub const CAS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How a target is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Over TCP.
    Tcp {
        /// The gateway's, as clients know it.
        host: String,
        /// The target's.
        port: u16,
        /// With TLS; on the gateway's own machine without.
        tls: bool,
    },
    /// By a socket of the gateway's machine.
    Socket(String),
}

impl Way {
    /// The first of the places where a target listens, with commas between, of a gateway that is known by this host.
    pub fn first(listen: &str, host: &str) -> Option<Self> {
        let first = listen.split(", ").find(|place| !place.is_empty())?;
        Some(match first.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => {
                Self::Tcp { host: address.ip().to_string(), port: address.port(), tls: false }
            }
            Ok(address) => {
                let host = host.trim_matches(['[', ']']).to_owned();
                Self::Tcp { host, port: address.port(), tls: true }
            }
            Err(_) => Self::Socket(first.to_owned()),
        })
    }
}

/// One word of a POSIX shell.
pub fn sh(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"@%+=:,./-_".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}
