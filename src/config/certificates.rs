//! `[[certificates]]`: whose a client's certificate is.

use std::collections::HashSet;

use super::Config;
use super::check::{Checked, complain};
use super::parse::Step;
use crate::principal::PrincipalKind;

/// A name that clients' certificates have, and whose they are.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateName {
    /// `uri:…`, `dns:…` or `email:…`; a `*` stands for one part of the name.
    pub name: String,
    /// Whose it is; none: what the `*` stands for, or the whole name.
    #[serde(default)]
    pub identity: Option<String>,
    /// The groups it confers.
    #[serde(default)]
    pub groups: Vec<String>,
    /// What its identities are.
    pub kind: PrincipalKind,
}

impl CertificateName {
    /// The kind of name, and the name or pattern.
    pub fn parts(&self) -> Option<(&str, &str)> {
        let (kind, pattern) = self.name.split_once(':')?;
        let is_known = ["uri", "dns", "email"].contains(&kind);
        (is_known && pattern.matches('*').count() < 2 && !pattern.is_empty())
            .then_some((kind, pattern))
    }
}

/// Checks all of them.
pub(super) fn certificates(config: &Config) -> Checked {
    use Step::{At, Key};
    let mut seen = HashSet::new();
    let asks = config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    for (at, rule) in config.certificates.iter().enumerate() {
        let path = |key| vec![Key("certificates"), At(at), Key(key)];
        if !asks {
            let mend = "name in [tls] the client_ca that they must lead to";
            return complain(&path("name"), "clients are not asked for certificates", mend);
        }
        if rule.parts().is_none() {
            let what = format!("{:?} is no name of a certificate", rule.name);
            let mend = "write uri:…, dns:… or email:…, with one * at the most, as in uri:spiffe://prod.example/agent/*";
            return complain(&path("name"), what, mend);
        }
        if !seen.insert(&rule.name) {
            let what = format!("{:?} is listed twice", rule.name);
            return complain(&path("name"), what, "once is enough");
        }
        if rule.identity.as_deref().is_some_and(|name| name.is_empty() || name.contains(';')) {
            let mend = "name the identity; leave it out for what the * stands for";
            return complain(&path("identity"), "no name of an identity", mend);
        }
    }
    Ok(())
}
