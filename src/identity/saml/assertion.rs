//! What a signed assertion says: whether it is for us, now, in answer to our request (SAML 2.0 Profiles, section 4.1.4.3),
//! and who it is.

use std::collections::BTreeMap;

use roxmltree::Node;

use super::xml::{ASSERTION, children, is, only, text};
use super::{SamlRefusal, ServiceProvider, SignedIn};
use crate::identity::{Principal, groups as mapping, is_identity};

const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";
/// What a NameID is where it doesn't say, and what an issuer is where it says.
const UNSPECIFIED: &str = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified";
const ENTITY: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity";

/// Reads an assertion, as it was signed.
pub(super) fn read(
    rules: &ServiceProvider,
    assertion: Node<'_, '_>,
    request: &str,
    now_us: i64,
) -> Result<SignedIn, SamlRefusal> {
    if !is(assertion, ASSERTION, "Assertion") || assertion.attribute("Version") != Some("2.0") {
        return Err(SamlRefusal::Form);
    }
    let one = |name| only(assertion, ASSERTION, name)?.ok_or(SamlRefusal::Form);
    let issuer = one("Issuer")?;
    if text(issuer)? != rules.provider.entity_id
        || issuer.attribute("Format").is_some_and(|format| format != ENTITY)
    {
        return Err(SamlRefusal::Issuer);
    }
    let clock = Clock { now_us, skew_us: rules.skew_s.saturating_mul(1_000_000) };
    let issued_us = time(assertion, "IssueInstant")?.ok_or(SamlRefusal::Form)?;
    clock.has_begun(issued_us)?;
    conditions(rules, one("Conditions")?, &clock)?;
    let subject = one("Subject")?;
    let ends_us = confirmed(rules, subject, request, &clock)?;
    if ends_us.saturating_sub(issued_us) > rules.lifetime_s.saturating_mul(1_000_000) {
        return Err(SamlRefusal::Lifetime);
    }
    let session_ends_us = time(one("AuthnStatement")?, "SessionNotOnOrAfter")?;
    if let Some(end) = session_ends_us {
        clock.has_not_ended(end)?;
    }
    let attributes = attributes(assertion)?;
    let principal = Principal {
        subject: named(rules, subject, &attributes)?,
        kind: rules.kind,
        groups: groups(rules, &attributes)?,
        attributes: BTreeMap::new(),
    };
    Ok(SignedIn {
        principal,
        assertion: assertion.attribute("ID").ok_or(SamlRefusal::Form)?.to_owned(),
        assertion_ends_us: ends_us.saturating_add(clock.skew_us),
        session_ends_us,
    })
}

/// The time, and how far the provider's may be from it.
struct Clock {
    now_us: i64,
    skew_us: i64,
}

impl Clock {
    fn has_begun(&self, from_us: i64) -> Result<(), SamlRefusal> {
        let begun = from_us.saturating_sub(self.skew_us) <= self.now_us;
        if begun { Ok(()) } else { Err(SamlRefusal::Early) }
    }

    fn has_not_ended(&self, end_us: i64) -> Result<(), SamlRefusal> {
        let ended = end_us.saturating_add(self.skew_us) <= self.now_us;
        if ended { Err(SamlRefusal::Expired) } else { Ok(()) }
    }
}

/// When it is good, and for whom. A condition that is not known here can't be met (SAML 2.0 Core, section 2.5.1).
fn conditions(
    rules: &ServiceProvider,
    conditions: Node<'_, '_>,
    clock: &Clock,
) -> Result<(), SamlRefusal> {
    if let Some(from) = time(conditions, "NotBefore")? {
        clock.has_begun(from)?;
    }
    if let Some(end) = time(conditions, "NotOnOrAfter")? {
        clock.has_not_ended(end)?;
    }
    let mut restrictions = 0;
    for condition in conditions.children().filter(Node::is_element) {
        if is(condition, ASSERTION, "AudienceRestriction") {
            let mut audiences = children(condition, ASSERTION, "Audience").map(text);
            if !audiences.any(|audience| audience == Ok(&rules.entity_id)) {
                return Err(SamlRefusal::Audience);
            }
            restrictions += 1;
        } else if !is(condition, ASSERTION, "OneTimeUse")
            && !is(condition, ASSERTION, "ProxyRestriction")
        {
            return Err(SamlRefusal::Form);
        }
    }
    if restrictions == 0 { Err(SamlRefusal::Audience) } else { Ok(()) }
}

/// Until when whoever hands it in may: it is for its bearer, here, in answer to this request.
fn confirmed(
    rules: &ServiceProvider,
    subject: Node<'_, '_>,
    request: &str,
    clock: &Clock,
) -> Result<i64, SamlRefusal> {
    let check = |confirmation: Node<'_, '_>| {
        let data = only(confirmation, ASSERTION, "SubjectConfirmationData")?;
        let data = data.ok_or(SamlRefusal::Form)?;
        if confirmation.attribute("Method") != Some(BEARER) || data.has_attribute("NotBefore") {
            return Err(SamlRefusal::Form);
        }
        if data.attribute("Recipient") != Some(&rules.acs_url) {
            return Err(SamlRefusal::Recipient);
        }
        if data.attribute("InResponseTo") != Some(request) {
            return Err(SamlRefusal::Request);
        }
        let end = time(data, "NotOnOrAfter")?.ok_or(SamlRefusal::Form)?;
        clock.has_not_ended(end)?;
        Ok(end)
    };
    let mut refusal = SamlRefusal::Form;
    for confirmation in children(subject, ASSERTION, "SubjectConfirmation") {
        match check(confirmation) {
            Ok(end) => return Ok(end),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

/// An attribute's name and values, as they are in the assertion.
type Attributes<'a, 'i> = Vec<(&'a str, Vec<Node<'a, 'i>>)>;

fn attributes<'a, 'i: 'a>(assertion: Node<'a, 'i>) -> Result<Attributes<'a, 'i>, SamlRefusal> {
    let Some(statement) = only(assertion, ASSERTION, "AttributeStatement")? else {
        return Ok(Vec::new());
    };
    let mut all: Attributes<'a, 'i> = Vec::new();
    for attribute in children(statement, ASSERTION, "Attribute") {
        let name = attribute.attribute("Name").ok_or(SamlRefusal::Form)?;
        all.push((name, children(attribute, ASSERTION, "AttributeValue").collect()));
    }
    Ok(all)
}

/// The values of an attribute; none where it isn't there. It can't be there twice.
fn values<'a>(attributes: &Attributes<'a, '_>, name: &str) -> Result<Vec<&'a str>, SamlRefusal> {
    let mut found = attributes.iter().filter(|(found, _)| *found == name);
    let Some((_, values)) = found.next() else { return Ok(Vec::new()) };
    if found.next().is_some() {
        return Err(SamlRefusal::Claims);
    }
    values.iter().map(|value| text(*value).map_err(|_| SamlRefusal::Claims)).collect()
}

/// The identity.
fn named(
    rules: &ServiceProvider,
    subject: Node<'_, '_>,
    attributes: &Attributes<'_, '_>,
) -> Result<String, SamlRefusal> {
    let name = if let Some(attribute) = &rules.subject {
        let [only] = *values(attributes, attribute)? else { return Err(SamlRefusal::Claims) };
        only
    } else {
        let id = only(subject, ASSERTION, "NameID")?.ok_or(SamlRefusal::Claims)?;
        let format = id.attribute("Format").unwrap_or(UNSPECIFIED);
        let qualifier = id.attribute("SPNameQualifier");
        if !rules.name_id_formats.iter().any(|known| known == format)
            || qualifier.is_some_and(|of| of != rules.entity_id)
        {
            return Err(SamlRefusal::Claims);
        }
        text(id).map_err(|_| SamlRefusal::Claims)?
    };
    if is_identity(name) { Ok(name.to_owned()) } else { Err(SamlRefusal::Claims) }
}

fn groups(
    rules: &ServiceProvider,
    attributes: &Attributes<'_, '_>,
) -> Result<Vec<String>, SamlRefusal> {
    let Some(name) = &rules.groups else { return Ok(Vec::new()) };
    let listed = values(attributes, name)?;
    let counted = mapping::counted(&rules.group_names, &listed).ok_or(SamlRefusal::Claims)?;
    Ok(mapping::names(&counted))
}

/// A time (`xs:dateTime`, in UTC by SAML's rule), in microseconds. One that is none is an error, not an absence.
fn time(node: Node<'_, '_>, name: &str) -> Result<Option<i64>, SamlRefusal> {
    let Some(text) = node.attribute(name) else { return Ok(None) };
    let time: jiff::Timestamp = text.parse().map_err(|_| SamlRefusal::Form)?;
    if !text.ends_with('Z') {
        return Err(SamlRefusal::Form);
    }
    Ok(Some(time.as_microsecond()))
}
