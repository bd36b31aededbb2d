//! Assertions that are signed as they should be, and count for nothing.

use super::SamlRefusal::{
    Audience, Claims, Early, Expired, Form, Issuer, Lifetime, Recipient, Request,
};
use super::*;

/// What is changed in the good assertion before it is signed, and why it is refused then.
const CHANGED: &[(&str, &str, &str, SamlRefusal)] = &[
    ("other issuer", "idp.example/metadata", "evil.example/metadata", Issuer),
    ("issuer of another format", "<saml:Issuer>", "<saml:Issuer Format=\"x\">", Issuer),
    (
        "other audience",
        ">https://rowgate.example/saml/own/metadata<",
        ">https://other.example<",
        Audience,
    ),
    ("an audience that begins like ours", "own/metadata<", "own/metadata2<", Audience),
    (
        "a second restriction",
        "</saml:AudienceRestriction>",
        "</saml:AudienceRestriction><saml:AudienceRestriction><saml:Audience>x</saml:Audience></saml:AudienceRestriction>",
        Audience,
    ),
    (
        "no audience",
        "<saml:Audience>https://rowgate.example/saml/own/metadata</saml:Audience>",
        "",
        Audience,
    ),
    (
        "unknown condition",
        "<saml:AudienceRestriction>",
        "<saml:Condition/><saml:AudienceRestriction>",
        Form,
    ),
    ("other recipient", "saml/own/acs", "saml/other/acs", Recipient),
    ("no recipient", "Recipient=", "Other=", Recipient),
    ("other request", "InResponseTo=\"_r1\"/>", "InResponseTo=\"_r2\"/>", Request),
    ("no request", "InResponseTo=\"_r1\"/>", "/>", Request),
    (
        "expired for its bearer",
        "Data NotOnOrAfter=\"2026-01-01T12:05",
        "Data NotOnOrAfter=\"2026-01-01T12:00",
        Expired,
    ),
    (
        "expired",
        "NotOnOrAfter=\"2026-01-01T12:05:00Z\"><saml:Aud",
        "NotOnOrAfter=\"2026-01-01T12:00:00Z\"><saml:Aud",
        Expired,
    ),
    (
        "its session expired",
        "SessionNotOnOrAfter=\"2026-01-01T20",
        "SessionNotOnOrAfter=\"2026-01-01T11",
        Expired,
    ),
    ("without end", "Data NotOnOrAfter=", "Data Other=", Form),
    ("not yet", "NotBefore=\"2026-01-01T12:00", "NotBefore=\"2026-01-01T12:03", Early),
    (
        "made in the future",
        "IssueInstant=\"2026-01-01T12:00",
        "IssueInstant=\"2026-01-01T12:03",
        Early,
    ),
    (
        "good for a day",
        "Data NotOnOrAfter=\"2026-01-01",
        "Data NotOnOrAfter=\"2026-01-02",
        Lifetime,
    ),
    ("made long ago", "IssueInstant=\"2026-01-01", "IssueInstant=\"2025-01-01", Lifetime),
    ("no time", "12:05:00Z\" Recipient", "never\" Recipient", Form),
    ("no UTC", "12:05:00Z\" Recipient", "12:05:00+00:00\" Recipient", Form),
    ("not for its bearer", "cm:bearer", "cm:sender-vouches", Form),
    (
        "a bearer's NotBefore",
        "Data NotOnOrAfter",
        "Data NotBefore=\"2026-01-01T12:00:00Z\" NotOnOrAfter",
        Form,
    ),
    ("two subjects", "<saml:Subject>", "<saml:Subject/><saml:Subject>", Form),
    ("two names", "<saml:NameID ", "<saml:NameID>root</saml:NameID><saml:NameID ", Form),
    ("transient", "nameid-format:persistent", "nameid-format:transient", Claims),
    ("named for another", "<saml:NameID ", "<saml:NameID SPNameQualifier=\"x\" ", Claims),
    ("no name", ">ann<", "><", Claims),
    ("a name in two", ">ann<", ">an<b/>n<", Claims),
    ("a name with attributes", ">ann<", ">ann;run=1<", Claims),
    ("a name on two lines", ">ann<", ">ann\nroot<", Claims),
    ("no statement", "<saml:AuthnStatement ", "<saml:Other ", Form),
    ("an empty group", ">dba<", "><", Claims),
    ("a group of parts", ">dba<", "><b>dba</b><", Claims),
    (
        "groups twice",
        "<saml:AttributeStatement>",
        "<saml:AttributeStatement><saml:Attribute Name=\"groups\"/>",
        Claims,
    ),
    ("another version", "Version=\"2.0\" IssueInstant", "Version=\"1.1\" IssueInstant", Form),
];

#[test]
fn assertions_that_don_t_count() {
    for (what, from, to, refusal) in CHANGED {
        assert!(ASSERTION_TEXT.contains(from), "{what}");
        let answer = sign(&ASSERTION_TEXT.replace(from, to), &GOOD, &RSA);
        assert_eq!(check(&answer).unwrap_err(), *refusal, "{what}");
    }
    let group = "<saml:AttributeValue xsi:type=\"xs:string\">dba</saml:AttributeValue>";
    let many = |count| sign(&ASSERTION_TEXT.replace(group, &group.repeat(count)), &GOOD, &RSA);
    assert!(check(&many(1_024)).is_ok(), "each value declares xsi again in its canonical form");
    assert_eq!(check(&many(1_025)).unwrap_err(), Claims);
    // One of several confirmations that is for us is enough.
    let two = "<saml:SubjectConfirmation Method=\"x\"/><saml:SubjectConfirmation Method=\"urn";
    let two = ASSERTION_TEXT.replace("<saml:SubjectConfirmation Method=\"urn", two);
    assert!(check(&sign(&two, &GOOD, &RSA)).is_ok());
}
