//! Metadata (SAML 2.0 Metadata): what an identity provider says of itself, and what the gateway says to it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roxmltree::Node;

use super::xml::{self, METADATA, SIGNATURE, children, escaped, is};
use super::{RequestKey, ServiceProvider, SigningKey};

const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
const REDIRECT: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";
const POST: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST";

/// An identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityProvider {
    /// Its entity id, to the letter as it says it.
    pub entity_id: String,
    /// Where people are sent to sign in.
    pub sso_url: String,
    /// The keys that it may sign with: two and more while it rotates them.
    pub keys: Vec<SigningKey>,
}

/// Why metadata is of no use. Each text continues "… : ".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// No XML that is read here.
    #[error("no metadata: not well-formed, too long, or with a DTD or comments")]
    Xml,
    /// It isn't there.
    #[error("has no identity provider of that entity id")]
    Entity,
    /// It can't be asked by a redirect.
    #[error("has no SingleSignOnService for HTTP-Redirect")]
    Redirect,
    /// Nothing to check signatures with.
    #[error("has no certificate for signing, with an RSA or EC key")]
    Keys,
}

impl IdentityProvider {
    /// Reads the metadata of this entity. It is the operator's own file, so its signature, if it has one, is not looked at.
    pub fn of_metadata(text: &str, entity_id: &str) -> Result<Self, MetadataError> {
        let document = xml::parse(text).map_err(|_| MetadataError::Xml)?;
        let is_of = |node: &Node<'_, '_>| {
            is(*node, METADATA, "EntityDescriptor") && node.attribute("entityID") == Some(entity_id)
        };
        let entity = document.descendants().find(is_of).ok_or(MetadataError::Entity)?;
        let role =
            children(entity, METADATA, "IDPSSODescriptor").next().ok_or(MetadataError::Entity)?;
        let mut services = children(role, METADATA, "SingleSignOnService");
        let redirect = services.find(|service| service.attribute("Binding") == Some(REDIRECT));
        let location = redirect.and_then(|service| service.attribute("Location"));
        let descriptors = children(role, METADATA, "KeyDescriptor");
        let signing =
            descriptors.filter(|key| key.attribute("use").is_none_or(|of| of == "signing"));
        let certificates = signing
            .flat_map(|descriptor| descriptor.descendants())
            .filter(|node| is(*node, SIGNATURE, "X509Certificate"));
        let keys: Vec<_> = certificates.filter_map(certificate).collect();
        if keys.is_empty() {
            return Err(MetadataError::Keys);
        }
        let sso_url = location.ok_or(MetadataError::Redirect)?.to_owned();
        Ok(Self { entity_id: entity_id.to_owned(), sso_url, keys })
    }
}

fn certificate(node: Node<'_, '_>) -> Option<SigningKey> {
    let plain: String = node.text()?.split_ascii_whitespace().collect();
    SigningKey::of_certificate(&STANDARD.decode(plain).ok()?)
}

impl ServiceProvider {
    /// The gateway's own metadata, to be handed to the provider.
    pub fn metadata(&self) -> String {
        let signs = self.request_key.is_some();
        let certificate = self.request_key.as_ref().and_then(RequestKey::certificate);
        let key = certificate.map_or(String::new(), |der| {
            format!(
                "<md:KeyDescriptor use=\"signing\"><ds:KeyInfo xmlns:ds=\"{SIGNATURE}\"><ds:X509Data>\
                 <ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>",
                STANDARD.encode(der)
            )
        });
        let formats = if self.subject.is_some() { &[] } else { self.name_id_formats.as_slice() };
        let mut listed = String::new();
        for format in formats {
            listed.push_str(&format!("<md:NameIDFormat>{}</md:NameIDFormat>", escaped(format)));
        }
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <md:EntityDescriptor xmlns:md=\"{METADATA}\" entityID=\"{entity}\">\
             <md:SPSSODescriptor AuthnRequestsSigned=\"{signs}\" WantAssertionsSigned=\"true\" \
             protocolSupportEnumeration=\"{PROTOCOL}\">{key}{listed}\
             <md:AssertionConsumerService Binding=\"{POST}\" Location=\"{acs}\" index=\"0\" isDefault=\"true\"/>\
             </md:SPSSODescriptor></md:EntityDescriptor>\n",
            entity = escaped(&self.entity_id),
            acs = escaped(&self.acs_url),
        )
    }
}
