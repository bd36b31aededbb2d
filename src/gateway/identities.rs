//! What identity makes of the configuration's tables.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{self, Config};
use crate::identity::{
    CertificateRule, Directory, Issuer, IssuerKeys, IssuerRules, NameKind, sorted,
};
use crate::store::Logins;

/// Who may log in: by these tokens and unless revoked, by these issuers' keys (by their URLs), and by what the configuration says.
pub(super) fn directory(
    config: &Config,
    logins: &Logins,
    keys: &HashMap<String, Arc<IssuerKeys>>,
) -> Directory {
    let issuers = config.issuers.iter();
    let issuers =
        issuers.map(|issuer| Issuer { rules: rules(issuer), keys: keys.get(&issuer.url).cloned() });
    let certificates = config.certificates.iter().filter_map(certificate);
    let Logins { tokens, passwords, revoked } = logins.clone();
    Directory::new(tokens, issuers.collect(), certificates.collect(), revoked)
        .with_passwords(passwords)
        .with_members(members(&config.groups))
}

/// The groups of each identity that the configuration lists.
fn members(groups: &[config::Group]) -> HashMap<String, Vec<String>> {
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    for group in groups {
        for member in &group.members {
            all.entry(member.clone()).or_default().push(group.name.clone());
        }
    }
    all
}

fn rules(issuer: &config::Issuer) -> IssuerRules {
    let named = issuer.group_names.iter();
    IssuerRules {
        issuer: issuer.url.clone(),
        audiences: issuer.audience.clone(),
        algorithms: issuer.algorithms.clone(),
        subject: issuer.subject.clone(),
        groups: issuer.groups.clone(),
        group_names: named.map(|(theirs, ours)| (theirs.clone(), ours.clone())).collect(),
        kind: issuer.kind,
        aliases: issuer.aliases.clone(),
    }
}

/// `None` only for what the configuration's check refuses.
fn certificate(rule: &config::CertificateName) -> Option<CertificateRule> {
    let (of, pattern) = rule.parts()?;
    Some(CertificateRule {
        kind: NameKind::from_word(of)?,
        pattern: pattern.to_owned(),
        identity: rule.identity.clone(),
        groups: sorted(rule.groups.clone()),
        principal: rule.kind,
    })
}
