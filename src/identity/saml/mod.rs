//! SAML 2.0 as a service provider: an identity provider's answer, and the request that it answers → who signed in.
//!
//! Deliberately not here: encrypted assertions, artifacts, logout, answers that nobody asked for, and signatures with
//! SHA-1, shared secrets or keys that the answer brings along. No I/O, no clock, no memory: that an answer counts once is
//! `control::saml`'s to see.

mod assertion;
mod canonical;
mod key;
mod metadata;
mod request;
mod signature;
#[cfg(test)]
mod tests;
mod xml;

use roxmltree::Node;

pub use key::SigningKey;
pub use metadata::{IdentityProvider, MetadataError};
pub use request::RequestKey;

use self::xml::{ASSERTION, PROTOCOL, SIGNATURE, is, only};
use super::{Principal, PrincipalKind};

/// Longest answer that is looked at, in bytes of XML.
pub const MAX_RESPONSE: usize = xml::MAX_XML;

/// What the gateway is to an identity provider, and what it makes of its answers.
#[derive(Debug)]
pub struct ServiceProvider {
    /// Who answers.
    pub provider: IdentityProvider,
    /// The gateway's own entity id: answers must be meant for it.
    pub entity_id: String,
    /// Where answers are to be sent.
    pub acs_url: String,
    /// The attribute that names the identity; none: the NameID, of one of these formats.
    pub subject: Option<String>,
    /// The formats of a NameID (their URIs) that can name an identity.
    pub name_id_formats: Vec<String>,
    /// The attribute that lists its groups; none: its identities are in none.
    pub groups: Option<String>,
    /// Which of the listed groups count (a `*` at the end stands for any rest), and as what; empty: all, as they are called.
    pub group_names: Vec<(String, String)>,
    /// What its principals are.
    pub kind: PrincipalKind,
    /// How far the provider's clock and ours may differ, in seconds.
    pub skew_s: i64,
    /// Longest time that an assertion may be good for, in seconds.
    pub lifetime_s: i64,
    /// Signs requests; none: they are not signed.
    pub request_key: Option<RequestKey>,
}

/// Who signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// Who.
    pub principal: Principal,
    /// The assertion's id: it counts once.
    pub assertion: String,
    /// When the assertion is good no more, by the latest clock that is believed.
    pub assertion_ends_us: i64,
    /// When the provider wants what rests on it to end.
    pub session_ends_us: Option<i64>,
}

/// Why an answer is not believed: for the record and the metrics, never for the browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SamlRefusal {
    /// Longer, deeper or with more parts than any that is meant.
    Size,
    /// Not well-formed.
    Xml,
    /// It declares something: an entity, a type.
    Dtd,
    /// A comment or a processing instruction.
    Comment,
    /// Not a response, or not as SAML says it must be.
    Form,
    /// The provider says that nobody signed in.
    Status,
    /// Something is encrypted.
    Encrypted,
    /// Not one assertion, but none or several.
    Assertions,
    /// Two elements have one ID.
    Ids,
    /// The assertion is not signed.
    Unsigned,
    /// The signature is over another element.
    Reference,
    /// The signature's algorithms, or its transforms, are none that count.
    Algorithm,
    /// None of the provider's keys has signed this.
    Proof,
    /// It is another provider's.
    Issuer,
    /// It was sent elsewhere.
    Destination,
    /// Its bearer should have handed it in elsewhere.
    Recipient,
    /// It is meant for others.
    Audience,
    /// It answers another request, or none.
    Request,
    /// It is not good yet.
    Early,
    /// It is good no more.
    Expired,
    /// It would be good for too long.
    Lifetime,
    /// Its attributes don't say who it is, or in a form that is not understood.
    Claims,
}

impl SamlRefusal {
    /// The closed word for the record and the metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Xml => "xml",
            Self::Dtd => "dtd",
            Self::Comment => "comment",
            Self::Form => "form",
            Self::Status => "status",
            Self::Encrypted => "encrypted",
            Self::Assertions => "assertions",
            Self::Ids => "ids",
            Self::Unsigned => "unsigned",
            Self::Reference => "reference",
            Self::Algorithm => "algorithm",
            Self::Proof => "proof",
            Self::Issuer => "issuer",
            Self::Destination => "destination",
            Self::Recipient => "recipient",
            Self::Audience => "audience",
            Self::Request => "request",
            Self::Early => "early",
            Self::Expired => "expired",
            Self::Lifetime => "lifetime",
            Self::Claims => "claims",
        }
    }
}

impl ServiceProvider {
    /// Checks an answer (the decoded `SAMLResponse`) to the request with this id.
    pub fn verify(
        &self,
        response: &[u8],
        request: &str,
        now_us: i64,
    ) -> Result<SignedIn, SamlRefusal> {
        if response.len() > MAX_RESPONSE {
            return Err(SamlRefusal::Size);
        }
        let text = std::str::from_utf8(response).map_err(|_| SamlRefusal::Xml)?;
        let document = xml::parse(text)?;
        let root = document.root_element();
        if !is(root, PROTOCOL, "Response") || root.attribute("Version") != Some("2.0") {
            return Err(SamlRefusal::Form);
        }
        self.envelope(root, request)?;
        let assertion = the_assertion(root)?;
        if only(root, SIGNATURE, "Signature")?.is_some() {
            signature::signed(root, &self.provider.keys)?;
        }
        let signed = signature::signed(assertion, &self.provider.keys)?;
        // The document is done with: only what was signed is read.
        let document = xml::parse_canonical(&signed)?;
        assertion::read(self, document.root_element(), request, now_us)
    }

    /// What the response says of itself. Nobody may have signed it: what counts, the assertion says again.
    fn envelope(&self, response: Node<'_, '_>, request: &str) -> Result<(), SamlRefusal> {
        let success = "urn:oasis:names:tc:SAML:2.0:status:Success";
        let status = only(response, PROTOCOL, "Status")?.ok_or(SamlRefusal::Form)?;
        let code = only(status, PROTOCOL, "StatusCode")?.ok_or(SamlRefusal::Form)?;
        if code.attribute("Value") != Some(success) {
            return Err(SamlRefusal::Status);
        }
        if let Some(issuer) = only(response, ASSERTION, "Issuer")?
            && xml::text(issuer)? != self.provider.entity_id
        {
            return Err(SamlRefusal::Issuer);
        }
        if response.attribute("Destination").is_some_and(|place| place != self.acs_url) {
            return Err(SamlRefusal::Destination);
        }
        if response.attribute("InResponseTo") != Some(request) {
            return Err(SamlRefusal::Request);
        }
        Ok(())
    }
}

/// The one assertion that a response has, as its child. Wherever else in it there is another, or a signature of anything
/// else, or an ID that two have, somebody means to have two readers see two things.
fn the_assertion<'a, 'i>(response: Node<'a, 'i>) -> Result<Node<'a, 'i>, SamlRefusal> {
    let (mut found, mut ids) = (None, Vec::new());
    for element in response.descendants().filter(Node::is_element) {
        let name = element.tag_name();
        if name.name().starts_with("Encrypted") {
            return Err(SamlRefusal::Encrypted);
        }
        if name.name() == "Assertion" && found.replace(element).is_some() {
            return Err(SamlRefusal::Assertions);
        }
        if name.name() == "Response" && element != response {
            return Err(SamlRefusal::Form);
        }
        let attributes = element.attributes();
        let of_element = attributes.filter(|attribute| attribute.name().eq_ignore_ascii_case("id"));
        ids.extend(of_element.map(|attribute| attribute.value()));
    }
    let assertion = found.ok_or(SamlRefusal::Assertions)?;
    if assertion.parent() != Some(response) || !is(assertion, ASSERTION, "Assertion") {
        return Err(SamlRefusal::Assertions);
    }
    let mut signatures =
        response.descendants().filter(|element| element.tag_name().name() == "Signature");
    let is_placed = |signature: Node<'a, 'i>| {
        [Some(response), Some(assertion)].contains(&signature.parent())
            && is(signature, SIGNATURE, "Signature")
    };
    if !signatures.all(is_placed) {
        return Err(SamlRefusal::Form);
    }
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(SamlRefusal::Ids);
    }
    Ok(assertion)
}
