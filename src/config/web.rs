//! `[web]`: the pages that people sign in to.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Config;
use super::check::{Bound, Checked, complain, in_bounds, is_loopback};
use super::parse::Step;

/// `[web]`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Web {
    /// Where browsers connect.
    pub listen: SocketAddr,
    /// What people type: scheme, host and, where it is not the scheme's own, port.
    pub url: String,
    /// PEM chain; none: plain HTTP, on loopback only.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// PEM key.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// Seconds without a request after which one has to sign in again.
    #[serde(default = "default_idle_s")]
    pub idle_s: u64,
    /// Seconds from the sign-in to its end, whatever happens.
    #[serde(default = "default_session_s")]
    pub session_s: u64,
}

fn default_idle_s() -> u64 {
    1_800
}

fn default_session_s() -> u64 {
    36_000
}

impl Web {
    /// Whether browsers reach it by HTTPS, also where a proxy on this machine ends it.
    pub fn is_https(&self) -> bool {
        self.url.starts_with("https://")
    }

    /// `host` or `host:port`, as a browser sends it in `Host`.
    pub fn authority(&self) -> &str {
        self.url.split_once("://").map_or("", |(_, authority)| authority)
    }
}

/// Checks the table, and that of the issuers which it needs.
pub(super) fn web(config: &Config) -> Checked {
    use Step::{At, Key};
    let Some(web) = &config.web else {
        let person = config.issuers.iter().position(|issuer| issuer.client_id.is_some());
        return match person {
            None => Ok(()),
            Some(at) => {
                let path = [Key("issuers"), At(at), Key("client_id")];
                complain(&path, "has no effect without [web]", "add [web], or leave it out")
            }
        };
    };
    let path = |key| [Key("web"), Key(key)];
    let host = host(web.authority());
    if !(web.url.starts_with("https://") || web.url.starts_with("http://")) || host.is_none() {
        let what = format!("{:?} is no address of a web site", web.url);
        let mend = "write https://host or https://host:port, without a path";
        return complain(&path("url"), what, mend);
    }
    if !web.is_https() && !host.is_some_and(is_loopback) {
        let mend = "write https://…; plain HTTP is for this machine only";
        return complain(&path("url"), "plain HTTP over a network", mend);
    }
    match (&web.certificate, &web.key) {
        (Some(_), None) => {
            return complain(&path("key"), "missing beside certificate", "name its PEM key");
        }
        (None, Some(_)) => {
            let mend = "name the PEM chain of that key";
            return complain(&path("certificate"), "missing beside key", mend);
        }
        (Some(_), Some(_)) if !web.is_https() => {
            let mend = "write https://… as the url, or leave certificate and key out";
            return complain(&path("certificate"), "has no effect with an http url", mend);
        }
        (None, None) if !web.listen.ip().is_loopback() => {
            let mend =
                "name certificate and key, or listen on loopback, behind a proxy that has them";
            return complain(
                &path("certificate"),
                "missing, and this is no loopback address",
                mend,
            );
        }
        _ => {}
    }
    times(web)
}

fn times(web: &Web) -> Checked {
    let all: [Bound; 2] = [
        ("session_s", web.session_s, 300..=604_800, "five minutes to a week"),
        ("idle_s", web.idle_s, 60..=web.session_s, "a minute to session_s"),
    ];
    all.iter().try_for_each(|bound| in_bounds(&[Step::Key("web"), Step::Key(bound.0)], bound))
}

/// The host of an authority that has nothing but host and port.
fn host(authority: &str) -> Option<&str> {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) if port.is_empty() || is_port(port.strip_prefix(':')?) => {
            return host.parse::<std::net::Ipv6Addr>().ok().map(|_| host);
        }
        Some(_) => return None,
        None => match authority.rsplit_once(':') {
            Some((host, port)) if is_port(port) => host,
            Some(_) => return None,
            None => authority,
        },
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    (!host.is_empty() && host.bytes().all(plain)).then_some(host)
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for good in ["a.example", "a.example:8443", "127.0.0.1:80", "[::1]:8443", "[::1]"] {
            assert!(host(good).is_some(), "{good}");
        }
        for bad in ["", "a/", "A.example", "a:0", "a:x", "u@a", "a?b", "[::1", "[x]:1", "a:1:2"] {
            assert!(host(bad).is_none(), "{bad}");
        }
    }
}
