//! A client's certificate, verified by TLS: which of its names is whose (RFC 5280, 4.2.1.6; SPIFFE X.509-SVID).

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{PrincipalKind, is_identity};

/// Most names of one certificate that are looked at.
const MAX_NAMES: usize = 64;

/// What a certificate says of its holder. That it leads to a trusted CA is TLS's to have found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    names: Vec<(NameKind, String)>,
    not_before_us: i64,
    not_after_us: i64,
}

/// The kinds of names that can be an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameKind {
    /// A URI, such as a SPIFFE id.
    Uri,
    /// A host's name.
    Dns,
    /// An e-mail address.
    Email,
}

impl NameKind {
    /// The kind that goes by this word.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "uri" => Some(Self::Uri),
            "dns" => Some(Self::Dns),
            "email" => Some(Self::Email),
            _ => None,
        }
    }

    /// What a `*` does not stand for: it stays within one part of a name.
    fn separator(self) -> char {
        match self {
            Self::Uri => '/',
            Self::Dns => '.',
            Self::Email => '@',
        }
    }
}

/// Whose the certificates with such a name are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRule {
    /// The kind of name.
    pub kind: NameKind,
    /// The name; a `*` in it stands for one part, or the rest of one.
    pub pattern: String,
    /// Whose it is; none: what the `*` stands for.
    pub identity: Option<String>,
    /// The groups it confers, sorted, without repeats.
    pub groups: Vec<String>,
    /// What its principals are.
    pub principal: PrincipalKind,
}

impl Certificate {
    /// Reads one (DER). `None` where it is none.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let alternative = certificate.subject_alternative_name().ok()?;
        let all = alternative.iter().flat_map(|extension| extension.value.general_names.iter());
        let names = all.filter_map(|name| match name {
            GeneralName::URI(text) => Some((NameKind::Uri, (*text).to_owned())),
            GeneralName::DNSName(text) => Some((NameKind::Dns, text.to_ascii_lowercase())),
            GeneralName::RFC822Name(text) => Some((NameKind::Email, (*text).to_owned())),
            _ => None,
        });
        let validity = certificate.validity();
        let micros = |seconds: i64| seconds.saturating_mul(1_000_000);
        Some(Self {
            names: names.take(MAX_NAMES).collect(),
            not_before_us: micros(validity.not_before.timestamp()),
            not_after_us: micros(validity.not_after.timestamp()),
        })
    }

    /// When it ends, in microseconds since the epoch.
    pub fn ends_us(&self) -> i64 {
        self.not_after_us
    }

    /// The rule by which it is this identity's, at this time.
    pub(super) fn is_of<'r>(
        &self,
        rules: &'r [CertificateRule],
        identity: &str,
        now_us: i64,
    ) -> Option<&'r CertificateRule> {
        if !(self.not_before_us..self.not_after_us).contains(&now_us) || !is_identity(identity) {
            return None;
        }
        rules.iter().find(|rule| {
            let of_kind = self.names.iter().filter(|(kind, _)| *kind == rule.kind);
            of_kind.map(|(_, name)| name).any(|name| rule.names(name) == Some(identity))
        })
    }
}

impl CertificateRule {
    /// Whether some certificate could be this identity's by it.
    pub(super) fn can_name(&self, identity: &str) -> bool {
        match &self.identity {
            Some(own) => own == identity,
            None if self.pattern.contains('*') => {
                is_identity(identity) && !identity.contains(self.kind.separator())
            }
            None => self.pattern == identity,
        }
    }

    /// Whose a certificate with this name is.
    fn names<'t>(&'t self, name: &'t str) -> Option<&'t str> {
        let Some((before, after)) = self.pattern.split_once('*') else {
            return (name == self.pattern).then(|| self.identity.as_deref().unwrap_or(name));
        };
        let part = name.strip_prefix(before)?.strip_suffix(after)?;
        let is_one = !part.is_empty() && !part.contains(self.kind.separator());
        is_one.then(|| self.identity.as_deref().unwrap_or(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(kind: NameKind, pattern: &str, identity: Option<&str>) -> CertificateRule {
        CertificateRule {
            kind,
            pattern: pattern.into(),
            identity: identity.map(str::to_owned),
            groups: vec![],
            principal: PrincipalKind::Service,
        }
    }

    #[test]
    fn a_star_is_one_part() {
        use NameKind::{Dns, Email, Uri};
        let spiffe = rule(Uri, "spiffe://prod.example/agent/*", None);
        assert_eq!(spiffe.names("spiffe://prod.example/agent/etl"), Some("etl"));
        for other in [
            "spiffe://prod.example/agent/",
            "spiffe://prod.example/agent/a/b",
            "spiffe://evil.example/agent/etl",
            "spiffe://prod.example/agent",
            "xspiffe://prod.example/agent/etl",
        ] {
            assert_eq!(spiffe.names(other), None, "{other}");
        }
        let host = rule(Dns, "*.agents.example", None);
        assert_eq!(host.names("etl.agents.example"), Some("etl"));
        assert_eq!(host.names("a.b.agents.example"), None);
        let person = rule(Email, "*@example.org", None);
        assert_eq!(person.names("ann@example.org"), Some("ann"));
        assert_eq!(person.names("ann@evil.example@example.org"), None);
        assert_eq!(rule(Uri, "urn:etl", None).names("urn:etl"), Some("urn:etl"));
        assert_eq!(rule(Uri, "urn:etl", Some("bot")).names("urn:etl"), Some("bot"));
        assert_eq!(rule(Uri, "urn:*", Some("bot")).names("urn:x"), Some("bot"));
        // A pattern's two ends may not share letters of the name.
        assert_eq!(rule(Dns, "a.*.a", None).names("a.a"), None);
    }

    #[test]
    fn whose_it_is_and_when() {
        let certificate = Certificate {
            names: vec![(NameKind::Dns, "web".into()), (NameKind::Uri, "urn:bot;run=1".into())],
            not_before_us: 10,
            not_after_us: 20,
        };
        let rules = [
            rule(NameKind::Uri, "web", None),
            rule(NameKind::Dns, "web", None),
            rule(NameKind::Uri, "urn:*", None),
        ];
        let is_of = |identity, now| certificate.is_of(&rules, identity, now).cloned();
        assert_eq!(is_of("web", 10).as_ref(), Some(&rules[1]));
        assert_eq!((is_of("web", 9), is_of("web", 20), is_of("other", 10)), (None, None, None));
        assert_eq!(is_of("bot;run=1", 10), None, "that is no name of an identity");
        assert_eq!(Certificate::parse(b"no DER"), None);
    }
}
