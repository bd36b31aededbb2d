//! `[[saml]]`: whose SAML assertions sign a person in.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use super::Config;
use super::check::{Bound, Checked, complain, in_bounds, name};
use super::groups::group_names;
use super::issuers::url;
use super::parse::Step;
use crate::principal::PrincipalKind;

/// A SAML identity provider.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saml {
    /// Its name in logs, and in the addresses of the gateway's own side.
    pub name: String,
    /// Its entity id, to the letter as its assertions say it.
    pub entity_id: String,
    /// Its metadata, as a file; none: `sso_url` and `certificates`.
    #[serde(default)]
    pub metadata: Option<PathBuf>,
    /// Where people are sent to sign in (HTTP-Redirect).
    #[serde(default)]
    pub sso_url: Option<String>,
    /// PEM files of the certificates that it signs with.
    #[serde(default)]
    pub certificates: Vec<PathBuf>,
    /// The gateway's entity id; none: the address of its metadata.
    #[serde(default)]
    pub sp_entity_id: Option<String>,
    /// PEM of the RSA key (PKCS#8) that signs requests; none: they are not signed.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// PEM of that key's certificate, for the metadata.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The attribute that names the identity; none: the NameID.
    #[serde(default)]
    pub subject: Option<String>,
    /// Which NameIDs can name an identity.
    #[serde(default = "default_formats")]
    pub name_id_formats: Vec<NameIdFormat>,
    /// The attribute that lists its groups; none: its identities are in none.
    #[serde(default)]
    pub groups: Option<String>,
    /// The listed groups that count (a `*` at the end stands for any rest), and what they are called here; empty: all, as
    /// they are.
    #[serde(default)]
    pub group_names: BTreeMap<String, String>,
    /// What its identities are.
    #[serde(default = "default_kind")]
    pub kind: PrincipalKind,
    /// Seconds by which its clock and ours may differ.
    #[serde(default = "default_skew_s")]
    pub skew_s: u64,
    /// Most seconds that an assertion may be good for.
    #[serde(default = "default_lifetime_s")]
    pub lifetime_s: u64,
    /// What the sign-in page calls it; none: its name.
    #[serde(default)]
    pub title: Option<String>,
}

/// `name_id_formats`. A transient NameID is another at the next sign-in: it names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameIdFormat {
    /// The same at each sign-in, and nobody else's later.
    Persistent,
    /// An e-mail address.
    EmailAddress,
    /// Whatever the provider takes for a name.
    Unspecified,
}

impl NameIdFormat {
    /// Its URI (SAML 2.0 Core, section 8.3).
    pub fn uri(self) -> &'static str {
        match self {
            Self::Persistent => "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
            Self::EmailAddress => "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
            Self::Unspecified => "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified",
        }
    }
}

fn default_formats() -> Vec<NameIdFormat> {
    vec![NameIdFormat::Persistent, NameIdFormat::EmailAddress]
}

fn default_kind() -> PrincipalKind {
    PrincipalKind::Human
}

fn default_skew_s() -> u64 {
    60
}

fn default_lifetime_s() -> u64 {
    5_400
}

/// Checks all of them.
pub(super) fn saml(config: &Config) -> Checked {
    use Step::{At, Key};
    let mut names = HashSet::new();
    for (at, of) in config.saml.iter().enumerate() {
        let path = |key| vec![Key("saml"), At(at), Key(key)];
        name(&path("name"), &of.name, &mut names)?;
        if !cfg!(feature = "saml") {
            let mend = "build it with the feature saml, or leave this out";
            return complain(&path("name"), "this Rowgate was built without SAML", mend);
        }
        if config.web.is_none() {
            let mend = "add [web], whose url is where answers are sent, or leave this out";
            return complain(&path("name"), "has no effect without [web]", mend);
        }
        if of.entity_id.is_empty() || of.entity_id.contains(char::is_whitespace) {
            let mend = "write it as the provider's metadata does (entityID)";
            return complain(&path("entity_id"), "no entity id", mend);
        }
        provider(of, &path)?;
        group_names(&path("group_names"), &of.group_names)?;
        if of.certificate.is_some() && of.key.is_none() {
            let mend = "name the PEM key of that certificate, or leave it out";
            return complain(&path("key"), "missing beside certificate", mend);
        }
        if of.name_id_formats.is_empty() && of.subject.is_none() {
            let mend = "list the formats of NameIDs that count, or name an attribute as subject";
            return complain(&path("name_id_formats"), "empty, so nobody would be named", mend);
        }
        let bounds: [Bound; 2] = [
            ("skew_s", of.skew_s, 0..=300, "more than minutes is a clock to be mended"),
            ("lifetime_s", of.lifetime_s, 60..=86_400, "a minute to a day"),
        ];
        bounds.iter().try_for_each(|bound| in_bounds(&path(bound.0), bound))?;
    }
    Ok(())
}

/// Its metadata, or what would be in it.
fn provider(of: &Saml, path: &dyn Fn(&'static str) -> Vec<Step>) -> Checked {
    match (&of.metadata, &of.sso_url) {
        (Some(_), Some(_)) => {
            complain(&path("sso_url"), "there is metadata, too", "leave one of them out")
        }
        (Some(_), None) if !of.certificates.is_empty() => {
            complain(&path("certificates"), "there is metadata, too", "leave one of them out")
        }
        (Some(_), None) => Ok(()),
        (None, None) => {
            let mend = "name the provider's metadata file, or its sso_url and certificates";
            complain(&path("metadata"), "missing", mend)
        }
        (None, Some(_)) if of.certificates.is_empty() => {
            let mend = "name the PEM files that its signatures are checked with";
            complain(&path("certificates"), "missing beside sso_url", mend)
        }
        (None, Some(sso_url)) => url(&path("sso_url"), sso_url),
    }
}
