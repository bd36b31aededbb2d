//! Documents around an assertion that is good, and is not taken out of them.

use super::SamlRefusal::{
    Assertions, Comment, Destination, Dtd, Form, Ids, Issuer, Request, Size, Status, Xml,
};
use super::*;

/// What is changed in the good answer, and why it is refused then.
const CHANGED: &[(&str, &str, &str, SamlRefusal)] = &[
    ("a comment in a name", ">ann<", ">an<!-- -->n<", Comment),
    ("a comment behind a name", ">ann<", ">ann<!-- -->.evil.example<", Comment),
    ("a comment anywhere", "<samlp:Status>", "<!-- --><samlp:Status>", Comment),
    ("a comment behind the end", "</samlp:Response>", "</samlp:Response><!-- -->", Comment),
    ("an instruction", ">ann<", ">an<?x?>n<", Comment),
    ("an unknown entity", ">ann<", ">&ann;<", Xml),
    ("an empty DTD", "<samlp:Response ", "<!DOCTYPE r><samlp:Response ", Dtd),
    ("two of one ID", "ID=\"_r\"", "ID=\"_a1\"", Ids),
    ("two of one id", "<samlp:Status>", "<samlp:Status id=\"_a1\">", Ids),
    (
        "a signature elsewhere",
        "<samlp:Status>",
        "<samlp:Extensions><ds:Signature xmlns:ds=\"x\"/></samlp:Extensions><samlp:Status>",
        Form,
    ),
    (
        "a response elsewhere",
        "<samlp:Status>",
        "<samlp:Extensions><samlp:Response/></samlp:Extensions><samlp:Status>",
        Form,
    ),
    (
        "an assertion of another kind",
        "<samlp:Status>",
        "<x:Assertion xmlns:x='x'/><samlp:Status>",
        Assertions,
    ),
    (
        "something encrypted",
        "<samlp:Status>",
        "<saml:EncryptedAssertion/><samlp:Status>",
        SamlRefusal::Encrypted,
    ),
    ("nobody signed in", "status:Success", "status:Requester", Status),
    ("two states", "<samlp:Status>", "<samlp:Status/><samlp:Status>", Form),
    ("no state", "<samlp:StatusCode Value=", "<samlp:Other Value=", Form),
    ("another version", "ID=\"_r\" Version=\"2.0\"", "ID=\"_r\" Version=\"1.1\"", Form),
    ("another protocol", PROTOCOL, "urn:oasis:names:tc:SAML:1.1:protocol", Form),
    (
        "another destination",
        "ID=\"_r\"",
        "ID=\"_r\" Destination=\"https://rowgate.example/saml/other/acs\"",
        Destination,
    ),
    ("no request", " InResponseTo=\"_r1\">", ">", Request),
    ("another request", " InResponseTo=\"_r1\">", " InResponseTo=\"_r2\">", Request),
    (
        "another issuer",
        "<samlp:Status>",
        "<saml:Issuer>https://evil.example</saml:Issuer><samlp:Status>",
        Issuer,
    ),
    (
        "a signature that is none",
        "<samlp:Status>",
        "<ds:Signature xmlns:ds='http://www.w3.org/2000/09/xmldsig#'/><samlp:Status>",
        Form,
    ),
];

fn good() -> String {
    sign(ASSERTION_TEXT, &GOOD, &RSA)
}

fn with(from: &str, to: &str) -> String {
    let good = good();
    assert!(good.contains(from), "{from}");
    good.replacen(from, to, 1)
}

/// The good answer with this in its extensions.
fn beside(more: &str) -> String {
    let to = format!("<samlp:Extensions>{more}</samlp:Extensions><samlp:Status>");
    with("<samlp:Status>", &to)
}

#[test]
fn documents_that_don_t_count() {
    for (what, from, to, refusal) in CHANGED {
        assert_eq!(check(&with(from, to)).unwrap_err(), *refusal, "{what}");
    }
    let good = good();
    assert_eq!(check(ASSERTION_TEXT).unwrap_err(), Xml);
    assert_eq!(check("SAMLResponse").unwrap_err(), Xml);
    assert_eq!(check(&good[..good.len() - 9]).unwrap_err(), Xml);
    assert_eq!(own().verify(&[0xFF, 0xFE], "_r1", 0).unwrap_err(), Xml);
    // The same text written otherwise is the same: the signature is over what it says.
    for same in ["><![CDATA[ann]]><", ">&#97;nn<", ">a<![CDATA[n]]>n<"] {
        assert_eq!(check(&with(">ann<", same)).unwrap().principal.subject, "ann", "{same}");
    }
    assert!(check(&with("<samlp:Response ", "<?xml version=\"1.0\"?>\n<samlp:Response ")).is_ok());
}

#[test]
fn exactly_one_assertion() {
    let good = good();
    let (start, end) =
        (good.find("<saml:Assertion").unwrap(), good.find("</samlp:Response>").unwrap());
    let signed = &good[start..end];
    let second = ASSERTION_TEXT.replace("_a1", "_a2");
    for answer in [
        around(""),
        around(&format!("{signed}{second}")),
        around(&format!("{second}{signed}")),
        around(&format!("{signed}{}", signed.replace("_a1", "_a2"))),
        around(&format!("<samlp:Extensions>{signed}</samlp:Extensions>")),
        beside(&second),
        with(
            "</saml:Conditions>",
            &format!("</saml:Conditions><saml:Advice>{second}</saml:Advice>"),
        ),
    ] {
        assert_eq!(check(&answer).unwrap_err(), Assertions);
    }
}

#[test]
fn entities() {
    let mut bomb = String::from("<!DOCTYPE r [<!ENTITY e0 \"ha\">");
    for at in 1..30 {
        bomb.push_str(&format!("<!ENTITY e{at} \"&e{0};&e{0};\">", at - 1));
    }
    for (declared, name) in [
        (format!("{bomb}]>"), ">&e29;<"),
        ("<!DOCTYPE r [<!ENTITY f SYSTEM \"file:///etc/passwd\">]>".into(), ">&f;<"),
        ("<!DOCTYPE r SYSTEM \"http://127.0.0.1/x.dtd\">".into(), ">&f;<"),
        ("<!DOCTYPE r [<!ATTLIST saml:Assertion ID ID #IMPLIED>]>".into(), ">ann<"),
        ("<!DOCTYPE r [<!ENTITY % p \"\"> %p;]>".into(), ">ann<"),
    ] {
        let answer = format!("{declared}{}", with(">ann<", name));
        assert_eq!(check(&answer).unwrap_err(), Dtd, "{declared}");
    }
}

#[test]
fn sizes() {
    let (mut attributes, mut namespaces) = (String::new(), String::new());
    (0..5_000).for_each(|at| attributes.push_str(&format!("a{at}=\"\" ")));
    (0..300).for_each(|at| namespaces.push_str(&format!("xmlns:a{at}=\"x\" ")));
    for (what, answer) in [
        ("1 MB", with("<samlp:Status>", &format!("{}<samlp:Status>", " ".repeat(1 << 20)))),
        ("deep", beside(&format!("{}{}", "<x>".repeat(40), "</x>".repeat(40)))),
        ("deeper", beside(&format!("{}{}", "<x>".repeat(4_000), "</x>".repeat(4_000)))),
        ("elements", beside(&"<x/>".repeat(9_000))),
        ("attributes", beside(&format!("<x {attributes}/>"))),
        ("namespaces", beside(&format!("<x {namespaces}/>"))),
    ] {
        assert_eq!(check(&answer).unwrap_err(), Size, "{what}");
    }
    assert_eq!(own().verify(&vec![b'<'; 1 << 20], "_r1", 0).unwrap_err(), Size);
    // In canonical form, each of these declares the long name again: in what anyone can have canonicalised.
    let named = with("ID=\"_r\"", &format!("ID=\"_r\" xmlns:l=\"{}\"", "l".repeat(100_000)));
    let at = "<ds:CanonicalizationMethod ";
    let long = named.replacen(at, &format!("{}{at}", "<l:x/>".repeat(5_000)), 1);
    assert_eq!(check(&long).unwrap_err(), Size);
    let document = xml::parse(&long).unwrap();
    let info = document.descendants().find(|node| is(*node, SIGNATURE, "SignedInfo")).unwrap();
    assert_eq!(
        canonical::canonical(info, None, &[]).unwrap_err(),
        Size,
        "before all of it is made"
    );
}
