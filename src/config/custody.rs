//! `[custody]` and `[vault]`: under which key the store's credentials are sealed, and from where others are fetched.

use std::path::PathBuf;

use super::Config;
use super::check::{Bound, Checked, complain, in_bounds};
use super::issuers::url;
use super::parse::Step;

/// `[custody]`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Custody {
    /// The key that seals credentials in the store: `env:NAME` or `file:PATH`, which is made where it is missing; none:
    /// none can be sealed.
    pub master_key: Option<String>,
    /// The one before, while `rowgate key rotate` was not run yet: for keys that are changed in the environment.
    pub previous_master_key: Option<String>,
    /// Seconds for which the credential before a rotated one is tried where the database refuses the new one.
    pub overlap_s: u64,
    /// Seconds between looks at the credentials that `file:` and `vault:` name.
    pub refresh_s: u64,
}

impl Default for Custody {
    fn default() -> Self {
        Self { master_key: None, previous_master_key: None, overlap_s: 3_600, refresh_s: 60 }
    }
}

/// `[vault]`: a HashiCorp Vault, or what speaks as one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultServer {
    /// Its URL, without `/v1`.
    pub address: String,
    /// `env:NAME` or `file:PATH` of the token that may read the secrets; read anew each time.
    pub token: String,
    /// PEM bundle for its HTTPS; none: the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Seconds that an answer may take.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
}

fn default_timeout_s() -> u64 {
    5
}

pub(super) fn custody(config: &Config) -> Checked {
    use Step::Key;
    let custody = &config.custody;
    let mend = "write env:NAME or file:PATH; keys don't belong in this file";
    for (key, place) in
        [("master_key", &custody.master_key), ("previous_master_key", &custody.previous_master_key)]
    {
        if place.as_deref().is_some_and(|place| !is_place(place)) {
            return complain(&[Key("custody"), Key(key)], "not a reference to a key", mend);
        }
    }
    if custody.previous_master_key.is_some() && custody.master_key.is_none() {
        let mend = "name the key that is to take its place";
        return complain(
            &[Key("custody"), Key("master_key")],
            "missing beside previous_master_key",
            mend,
        );
    }
    let all: [Bound; 2] = [
        ("overlap_s", custody.overlap_s, 0..=2_592_000, "the old credential is tried for so long"),
        ("refresh_s", custody.refresh_s, 1..=86_400, "a changed credential is seen no sooner"),
    ];
    all.iter().try_for_each(|bound| in_bounds(&[Key("custody"), Key(bound.0)], bound))?;
    let Some(vault) = &config.vault else { return Ok(()) };
    let path = |key| [Key("vault"), Key(key)];
    url(&path("address"), &vault.address)?;
    if !is_place(&vault.token) {
        let mend = "write env:NAME or file:PATH; tokens don't belong in this file";
        return complain(&path("token"), "not a reference to a token", mend);
    }
    in_bounds(&path("timeout_s"), &("timeout_s", vault.timeout_s, 1..=60, "a start waits for it"))
}

/// Whether this is a reference to what lies on this machine.
pub(super) fn is_place(text: &str) -> bool {
    let reference = text.split_once(':');
    reference.is_some_and(|(kind, rest)| ["env", "file"].contains(&kind) && !rest.is_empty())
}

/// Where a credential is, as a target's `password` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    /// A variable of the gateway's environment.
    Env(&'a str),
    /// A file.
    File(&'a str),
    /// A field of a secret in the vault's KV engine, version 2.
    Vault {
        /// Where the engine is mounted.
        mount: &'a str,
        /// The secret's path in it.
        path: &'a str,
        /// The field.
        field: &'a str,
    },
}

impl<'a> Reference<'a> {
    /// Reads one; `None`: it is none, and may be the password itself.
    pub fn parse(text: &'a str) -> Option<Self> {
        match text.split_once(':')? {
            ("env", name) if !name.is_empty() => Some(Self::Env(name)),
            ("file", path) if !path.is_empty() => Some(Self::File(path)),
            ("vault", place) => {
                let (place, field) = place.split_once('#')?;
                let (mount, path) = place.split_once('/')?;
                // What goes into a URL is plain, so that it leads nowhere else.
                let plain = |part: &str| {
                    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
                    !part.is_empty() && part != "." && part != ".." && part.bytes().all(allowed)
                };
                let good = plain(mount) && path.split('/').all(plain) && !field.is_empty();
                (good && text.len() <= 512).then_some(Self::Vault { mount, path, field })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let vault = |mount, path, field| Some(Reference::Vault { mount, path, field });
        for (text, read) in [
            ("env:A", Some(Reference::Env("A"))),
            ("file:/a/b", Some(Reference::File("/a/b"))),
            ("vault:secret/shop#password", vault("secret", "shop", "password")),
            ("vault:kv/team/shop.v2#p w", vault("kv", "team/shop.v2", "p w")),
            ("vault:secret#password", None),
            ("vault:secret/shop", None),
            ("vault:secret/../sys/seal#x", None),
            ("vault:secret//a#x", None),
            ("vault:secret/a%2f..#x", None),
            ("vault:secret/a?x#y", None),
            ("vault:secret/a#", None),
            ("env:", None),
            ("hunter2", None),
            ("store:x", None),
        ] {
            assert_eq!(Reference::parse(text), read, "{text}");
        }
    }
}
