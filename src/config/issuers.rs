//! `[[issuers]]`: whose signed tokens are a login.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use super::Config;
use super::check::{Checked, complain, in_bounds, is_loopback, name};
use super::groups::group_names;
use super::parse::Step;
use crate::principal::PrincipalKind;

/// How a token may be signed (RFC 7518, RFC 8037): with a private key. A shared secret (HS256) would be one that the
/// gateway could sign with, too.
const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

/// An OIDC issuer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Its name in logs.
    pub name: String,
    /// Its URL, to the letter as its tokens say it in `iss`; its discovery document is below it.
    pub url: String,
    /// Of these a token must be meant for one (`aud`).
    pub audience: Vec<String>,
    /// How its tokens may be signed.
    pub algorithms: Vec<String>,
    /// The claim that names the identity.
    #[serde(default = "default_subject")]
    pub subject: String,
    /// The claim that lists its groups; none: its identities are in none.
    #[serde(default)]
    pub groups: Option<String>,
    /// The listed groups that count (a `*` at the end stands for any rest), and what they are called here; empty: all, as
    /// they are.
    #[serde(default)]
    pub group_names: BTreeMap<String, String>,
    /// What its identities are.
    pub kind: PrincipalKind,
    /// User names under which any of its identities may log in.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// PEM bundle for its HTTPS; none: the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Where its keys are; none: as its discovery document says.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// The gateway's own id at it, as a client that people sign in through; none: nobody signs in to the pages by it.
    #[serde(default)]
    pub client_id: Option<String>,
    /// `env:NAME` or `file:PATH`; none: a public client, with PKCE alone.
    #[serde(default)]
    pub client_secret: Option<String>,
    /// What is asked for at a sign-in, beside `openid`.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// What the sign-in page calls it; none: its name.
    #[serde(default)]
    pub title: Option<String>,
    /// Seconds between looks at its keys.
    #[serde(default = "default_refresh_s")]
    pub refresh_s: u64,
    /// Seconds for which keys are relied on while the issuer can't be reached.
    #[serde(default = "default_keep_keys_s")]
    pub keep_keys_s: u64,
}

fn default_subject() -> String {
    "sub".to_owned()
}

fn default_refresh_s() -> u64 {
    300
}

fn default_keep_keys_s() -> u64 {
    86_400
}

/// Checks all of them.
pub(super) fn issuers(config: &Config) -> Checked {
    use Step::{At, Key};
    let (mut names, mut urls) = (HashSet::new(), HashSet::new());
    let has_private_way =
        config.tls.is_some() || config.targets.iter().any(|target| target.socket.is_some());
    for (at, issuer) in config.issuers.iter().enumerate() {
        let path = |key| vec![Key("issuers"), At(at), Key(key)];
        name(&path("name"), &issuer.name, &mut names)?;
        if !has_private_way && issuer.client_id.is_none() {
            let mend = "add [tls]: a token is a password, which clients send only inside TLS";
            return complain(&path("url"), "no client could send such a token", mend);
        }
        url(&path("url"), &issuer.url)?;
        if !urls.insert(&issuer.url) {
            let what = format!("{:?} is listed twice", issuer.url);
            return complain(&path("url"), what, "put its audiences under one");
        }
        if let Some(jwks) = &issuer.jwks_url {
            url(&path("jwks_url"), jwks)?;
        }
        if issuer.audience.iter().all(String::is_empty) {
            let mend = "name what its tokens for this gateway say in aud; without, any token of it would do";
            return complain(&path("audience"), "empty", mend);
        }
        let unknown = issuer.algorithms.iter().find(|name| !ALGORITHMS.contains(&name.as_str()));
        if unknown.is_some() || issuer.algorithms.is_empty() {
            let what = match unknown {
                Some(name) => format!("{name:?} is none that is taken"),
                None => "empty".to_owned(),
            };
            let mend = format!("choose of {}", ALGORITHMS.join(", "));
            return complain(&path("algorithms"), what, &mend);
        }
        group_names(&path("group_names"), &issuer.group_names)?;
        sign_in(issuer, &path)?;
        let keep = (
            "keep_keys_s",
            issuer.keep_keys_s,
            issuer.refresh_s..=2_592_000,
            "from refresh_s to a month",
        );
        let refresh = ("refresh_s", issuer.refresh_s, 30..=86_400, "the issuer answers each look");
        in_bounds(&path("refresh_s"), &refresh)?;
        in_bounds(&path("keep_keys_s"), &keep)?;
    }
    Ok(())
}

/// What people sign in with.
fn sign_in(issuer: &Issuer, path: &dyn Fn(&'static str) -> Vec<Step>) -> Checked {
    if issuer.client_id.as_ref().is_some_and(|id| id.is_empty() || id.contains(char::is_control)) {
        return complain(&path("client_id"), "no id", "write the id that the issuer gave it");
    }
    if issuer.client_id.is_none()
        && (issuer.client_secret.is_some() || !issuer.scopes.is_empty() || issuer.title.is_some())
    {
        let mend = "name the client that people sign in through, or leave its keys out";
        return complain(&path("client_id"), "missing beside what is for a sign-in", mend);
    }
    if let Some(reference) = &issuer.client_secret {
        let parts = reference.split_once(':');
        if !parts.is_some_and(|(kind, rest)| ["env", "file"].contains(&kind) && !rest.is_empty()) {
            let mend = "write env:NAME or file:PATH; secrets don't belong in this file";
            return complain(&path("client_secret"), "not a reference to a secret", mend);
        }
    }
    // (RFC 6749, appendix A.4)
    let plain = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    match issuer.scopes.iter().find(|s| s.is_empty() || !s.bytes().all(plain)) {
        None => Ok(()),
        Some(bad) => {
            complain(&path("scopes"), format!("{bad:?} is no scope"), "write words without blanks")
        }
    }
}

/// HTTPS; HTTP to this machine only.
pub(super) fn url(path: &[Step], url: &str) -> Checked {
    let rest = url.strip_prefix("https://");
    let local = url.strip_prefix("http://").filter(|rest| {
        let authority = rest.split('/').next().unwrap_or_default();
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        is_loopback(host.trim_start_matches('[').trim_end_matches(']'))
    });
    let plain = |rest: &str| {
        !rest.is_empty() && !rest.contains(['?', '#', '@']) && !rest.contains(char::is_whitespace)
    };
    if rest.or(local).is_some_and(plain) {
        return Ok(());
    }
    let mend = "write https://host/path, without query or fragment; http only to this machine";
    complain(path, format!("{url:?} is no such URL"), mend)
}
