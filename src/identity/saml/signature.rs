//! The signature that an element envelopes (XML Signature 1.1, as SAML 2.0 Core, section 5.4, restricts it): which bytes
//! were signed.
//!
//! What comes back is the element as it was signed, in canonical form: whoever reads it reads that, and never the
//! document it came in. So where else the document has the signed element, or others beside it, can't matter.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roxmltree::Node;

use super::SamlRefusal;
use super::canonical::{EXCLUSIVE, canonical};
use super::key::{Algorithm, SigningKey, digest};
use super::xml::{self, SIGNATURE, children, is, only, text};
use crate::secret;

const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";

/// Most prefixes that are declared unused.
const MAX_PREFIXES: usize = 16;

/// Checks the element's signature with these keys, never with one that it brings: the element's signed bytes.
pub(super) fn signed(element: Node<'_, '_>, keys: &[SigningKey]) -> Result<String, SamlRefusal> {
    let signature = only(element, SIGNATURE, "Signature")?.ok_or(SamlRefusal::Unsigned)?;
    let [info, value] = parts(signature)?;
    let method = only(info, SIGNATURE, "CanonicalizationMethod")?.ok_or(SamlRefusal::Form)?;
    let signed = canonical(info, None, &prefixes(method)?)?;
    let value = base64(text(value)?)?;
    // From here on, what the signature says is read from the bytes that it is over.
    let document = xml::parse(&signed)?;
    let info = Info::read(document.root_element())?;
    if !keys.iter().any(|key| key.has_signed(info.algorithm, signed.as_bytes(), &value)) {
        return Err(SamlRefusal::Proof);
    }
    let id = element.attribute("ID").filter(|id| !id.is_empty()).ok_or(SamlRefusal::Form)?;
    if info.reference.attribute("URI").and_then(|uri| uri.strip_prefix('#')) != Some(id) {
        return Err(SamlRefusal::Reference);
    }
    let bytes = canonical(element, Some(signature.id()), &transforms(info.reference)?)?;
    let digested = digest(info.digest, bytes.as_bytes()).ok_or(SamlRefusal::Algorithm)?;
    if !secret::equal(digested.as_ref(), &info.value) {
        return Err(SamlRefusal::Proof);
    }
    Ok(bytes)
}

/// `SignedInfo`, `SignatureValue`, and perhaps a `KeyInfo` that nobody reads: nothing else, such as an `Object`.
fn parts<'a, 'i>(signature: Node<'a, 'i>) -> Result<[Node<'a, 'i>; 2], SamlRefusal> {
    let mut inside = signature.children().filter(Node::is_element);
    let mut next = |name| inside.next().filter(|part| is(*part, SIGNATURE, name));
    let info = next("SignedInfo").ok_or(SamlRefusal::Form)?;
    let value = next("SignatureValue").ok_or(SamlRefusal::Form)?;
    let rest_is_known =
        inside.next().is_none_or(|part| is(part, SIGNATURE, "KeyInfo")) && inside.next().is_none();
    if rest_is_known { Ok([info, value]) } else { Err(SamlRefusal::Form) }
}

/// What a `SignedInfo` says.
struct Info<'a, 'i> {
    algorithm: Algorithm,
    reference: Node<'a, 'i>,
    digest: &'a str,
    value: Vec<u8>,
}

impl<'a, 'i> Info<'a, 'i> {
    fn read(info: Node<'a, 'i>) -> Result<Self, SamlRefusal> {
        let child = |of, name| only(of, SIGNATURE, name)?.ok_or(SamlRefusal::Form);
        let algorithm = |of: Node<'a, 'i>| of.attribute("Algorithm").ok_or(SamlRefusal::Algorithm);
        if algorithm(child(info, "CanonicalizationMethod")?)? != EXCLUSIVE {
            return Err(SamlRefusal::Algorithm);
        }
        let method = algorithm(child(info, "SignatureMethod")?)?;
        let reference = child(info, "Reference")?;
        Ok(Self {
            algorithm: Algorithm::of(method).ok_or(SamlRefusal::Algorithm)?,
            reference,
            digest: algorithm(child(reference, "DigestMethod")?)?,
            value: base64(text(child(reference, "DigestValue")?)?)?,
        })
    }
}

/// Two transforms, in this order: without the signature, and canonical. The prefixes of the latter.
fn transforms<'a>(reference: Node<'a, '_>) -> Result<Vec<&'a str>, SamlRefusal> {
    let list = only(reference, SIGNATURE, "Transforms")?.ok_or(SamlRefusal::Form)?;
    let all: Vec<_> = children(list, SIGNATURE, "Transform").collect();
    let [first, second] = *all else { return Err(SamlRefusal::Algorithm) };
    if first.attribute("Algorithm") != Some(ENVELOPED)
        || second.attribute("Algorithm") != Some(EXCLUSIVE)
    {
        return Err(SamlRefusal::Algorithm);
    }
    prefixes(second)
}

/// The prefixes that a canonicalisation declares unused (`InclusiveNamespaces`).
fn prefixes<'a>(method: Node<'a, '_>) -> Result<Vec<&'a str>, SamlRefusal> {
    let Some(list) = only(method, EXCLUSIVE, "InclusiveNamespaces")? else { return Ok(Vec::new()) };
    let words = list.attribute("PrefixList").unwrap_or_default().split_ascii_whitespace();
    let all: Vec<_> = words.map(|word| if word == "#default" { "" } else { word }).collect();
    if all.len() > MAX_PREFIXES { Err(SamlRefusal::Size) } else { Ok(all) }
}

/// Base64 in lines.
fn base64(text: &str) -> Result<Vec<u8>, SamlRefusal> {
    let plain: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(plain).map_err(|_| SamlRefusal::Form)
}
