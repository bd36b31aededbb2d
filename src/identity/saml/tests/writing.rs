//! What is written: the canonical form, metadata and requests.

use super::*;

/// A document, prefixes that are declared unused, and its element `e` in canonical form.
const CANONICAL: &[(&str, &[&str], &str)] = &[
    ("<e/>", &[], "<e></e>"),
    (
        "<r xmlns='u' xmlns:a='v'><e  b = '1'\n a:b=\"2\" a='3'/></r>",
        &[],
        "<e xmlns=\"u\" xmlns:a=\"v\" a=\"3\" b=\"1\" a:b=\"2\"></e>",
    ),
    (
        "<r xmlns:a='v' xmlns:b='w'><e><b:f/><b:f/></e></r>",
        &[],
        "<e><b:f xmlns:b=\"w\"></b:f><b:f xmlns:b=\"w\"></b:f></e>",
    ),
    (
        "<r xmlns:a='v' xmlns:b='w'><e><b:f/><b:f/></e></r>",
        &["b", "c"],
        "<e xmlns:b=\"w\"><b:f></b:f><b:f></b:f></e>",
    ),
    ("<e xmlns='u'><f xmlns=''><g/></f></e>", &[], "<e xmlns=\"u\"><f xmlns=\"\"><g></g></f></e>"),
    (
        "<a:e xmlns:a='u'><a:f xmlns:a='w'/><a:g/></a:e>",
        &[],
        "<a:e xmlns:a=\"u\"><a:f xmlns:a=\"w\"></a:f><a:g></a:g></a:e>",
    ),
    // Sorted by what the prefixes stand for, not by themselves.
    (
        "<e xmlns:a='z' xmlns:b='y' a:x='1' b:x='2' x='3'/>",
        &[],
        "<e xmlns:a=\"z\" xmlns:b=\"y\" x=\"3\" b:x=\"2\" a:x=\"1\"></e>",
    ),
    (
        "<e a='&lt;&gt;&amp;&quot;&#9;&#10;&#13;\t'>&lt;&gt;&amp;\"&#13;\r\n</e>",
        &[],
        "<e a=\"&lt;>&amp;&quot;&#x9;&#xA;&#xD; \">&lt;&gt;&amp;\"&#xD;\n</e>",
    ),
    (
        "<r xmlns='u'><e xml:lang='de'>\u{e9}<![CDATA[<]]></e></r>",
        &[""],
        "<e xmlns=\"u\" xml:lang=\"de\">\u{e9}&lt;</e>",
    ),
];

#[test]
fn canonical_form() {
    for (text, inclusive, expected) in CANONICAL {
        let document = xml::parse(text).unwrap();
        let element = document.descendants().find(|node| node.tag_name().name() == "e").unwrap();
        let written = canonical::canonical(element, None, inclusive).unwrap();
        assert_eq!(written, *expected, "{text}");
        // What is canonical stays so.
        let again = xml::parse(&written).unwrap();
        let written = canonical::canonical(again.root_element(), None, inclusive).unwrap();
        assert_eq!(written, *expected);
    }
}

#[test]
fn a_provider_s_metadata() {
    let plain = plain_certificate();
    let metadata = |usage: &str, binding: &str| {
        format!(
            "<md:EntityDescriptor xmlns:md=\"{}\" entityID=\"{PROVIDER}\"><md:IDPSSODescriptor><md:KeyDescriptor{usage}>\
             <ds:KeyInfo xmlns:ds=\"{SIGNATURE}\"><ds:X509Data><ds:X509Certificate>\n{plain}\n</ds:X509Certificate></ds:X509Data>\
             </ds:KeyInfo></md:KeyDescriptor><md:SingleSignOnService Location=\"https://idp.example/sso\" \
             Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:{binding}\"/></md:IDPSSODescriptor></md:EntityDescriptor>",
            xml::METADATA
        )
    };
    let read = |text: &str| IdentityProvider::of_metadata(text, PROVIDER);
    for usage in [" use=\"signing\"", ""] {
        let provider = read(&metadata(usage, "HTTP-Redirect")).unwrap();
        assert_eq!(provider.sso_url, "https://idp.example/sso");
        assert_eq!(provider.keys, [recorded_key()]);
    }
    let encrypts = read(&metadata(" use=\"encryption\"", "HTTP-Redirect"));
    assert_eq!(encrypts.unwrap_err(), MetadataError::Keys);
    assert_eq!(read(&metadata("", "HTTP-POST")).unwrap_err(), MetadataError::Redirect);
    let other = metadata("", "HTTP-Redirect").replace(PROVIDER, "other");
    assert_eq!(read(&other).unwrap_err(), MetadataError::Entity);
    assert_eq!(read("<!DOCTYPE x>").unwrap_err(), MetadataError::Xml);
}

#[test]
fn requests_and_our_metadata() {
    let own = own();
    let request = own.request("_r1", at("2026-01-01T12:00:00.5Z"));
    let document = xml::parse(&request).unwrap();
    let root = document.root_element();
    assert!(is(root, PROTOCOL, "AuthnRequest"));
    assert_eq!(root.attribute("IssueInstant"), Some("2026-01-01T12:00:00Z"));
    assert_eq!(root.attribute("Destination"), Some("https://idp.example/sso?a=1&b"));
    assert_eq!(root.attribute("AssertionConsumerServiceURL"), Some(own.acs_url.as_str()));
    let metadata = own.metadata();
    let document = xml::parse(&metadata).unwrap();
    assert_eq!(document.root_element().attribute("entityID"), Some(own.entity_id.as_str()));
    assert!(metadata.contains("WantAssertionsSigned=\"true\""));
}
