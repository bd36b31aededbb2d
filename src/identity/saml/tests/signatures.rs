//! Signatures that are good for something else.

use super::SamlRefusal::{Algorithm, Form, Proof, Reference, Unsigned, Xml};
use super::*;

const ECDSA: &str = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256";
const ENVELOPED: &str =
    r#"<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>"#;
const CANONICAL: &str = r#"<ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>"#;
const XPATH: &str = r#"<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"><ds:XPath>self::x</ds:XPath></ds:Transform>"#;

/// How an assertion was signed, with the key that counts, and why that is refused.
const HOWS: &[(&str, How<'static>, SamlRefusal)] = &[
    (
        "HMAC with the public key",
        How { method: "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256", ..GOOD },
        Algorithm,
    ),
    ("SHA-1", How { method: "http://www.w3.org/2000/09/xmldsig#rsa-sha1", ..GOOD }, Algorithm),
    ("SHA-1 digest", How { digest: "http://www.w3.org/2000/09/xmldsig#sha1", ..GOOD }, Algorithm),
    (
        "unknown",
        How { method: "http://www.w3.org/2001/04/xmldsig-more#rsa-md5", ..GOOD },
        Algorithm,
    ),
    ("the whole document", How { uri: "", ..GOOD }, Reference),
    ("the response", How { uri: "#_r", ..GOOD }, Reference),
    ("an XPointer", How { uri: "#xpointer(id('_a1'))", ..GOOD }, Reference),
    ("elsewhere", How { uri: "https://evil.example/#_a1", ..GOOD }, Reference),
    ("no transforms", How { transforms: "", ..GOOD }, Algorithm),
    ("one transform", How { transforms: CANONICAL, ..GOOD }, Algorithm),
];

#[test]
fn algorithms_and_references() {
    assert_eq!(check(&sign(ASSERTION_TEXT, &GOOD, &RSA)).unwrap().principal.groups, ["dba"]);
    assert!(check(&sign(ASSERTION_TEXT, &How { method: ECDSA, ..GOOD }, &RSA)).is_ok());
    for (what, how, refusal) in HOWS {
        assert_eq!(check(&sign(ASSERTION_TEXT, how, &RSA)).unwrap_err(), *refusal, "{what}");
    }
    let comments = CANONICAL.replace("c14n#", "c14n#WithComments");
    let plain = format!("{ENVELOPED}{CANONICAL}");
    assert!(check(&sign(ASSERTION_TEXT, &How { transforms: &plain, ..GOOD }, &RSA)).is_ok());
    for transforms in [
        format!("{CANONICAL}{ENVELOPED}"),
        format!("{ENVELOPED}{XPATH}"),
        format!("{ENVELOPED}{XPATH}{CANONICAL}"),
        format!("{ENVELOPED}{CANONICAL}{XPATH}"),
        format!("{ENVELOPED}{comments}"),
    ] {
        let how = How { transforms: &transforms, ..GOOD };
        assert_eq!(
            check(&sign(ASSERTION_TEXT, &how, &RSA)).unwrap_err(),
            Algorithm,
            "{transforms}"
        );
    }
}

#[test]
fn keys_that_nobody_named() {
    let key_info = format!(
        "<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>",
        plain_certificate()
    );
    let value = format!(
        "<ds:KeyInfo><ds:KeyValue><ds:RSAKeyValue><ds:Modulus>{}</ds:Modulus></ds:RSAKeyValue></ds:KeyValue></ds:KeyInfo>",
        STANDARD.encode(EVIL.rsa.public_key().as_ref())
    );
    for key_info in ["", &key_info, &value] {
        let how = How { key_info, ..GOOD };
        assert_eq!(check(&sign(ASSERTION_TEXT, &how, &EVIL)).unwrap_err(), Proof, "{key_info}");
        assert!(check(&sign(ASSERTION_TEXT, &how, &RSA)).is_ok(), "nobody reads it");
    }
    // A key is for its own kind of algorithm.
    let confused = of("own", vec![SigningKey::of_parts(true, EVIL.ec.public_key().as_ref())]);
    let answer = sign(ASSERTION_TEXT, &How { method: ECDSA, ..GOOD }, &EVIL);
    let noon = at("2026-01-01T12:01:00Z");
    assert_eq!(confused.verify(answer.as_bytes(), "_r1", noon).unwrap_err(), Proof);
}

#[test]
fn signatures_that_were_touched() {
    let good = sign(ASSERTION_TEXT, &GOOD, &RSA);
    let cut = |from: &str, to: &str| {
        let (start, end) = (good.find(from).unwrap(), good.find(to).unwrap() + to.len());
        format!("{}{}", &good[..start], &good[end..])
    };
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let start = good.find("<ds:Signature ").unwrap();
    let signature = &good[start..good.find("</saml:Issuer>").unwrap().max(start)];
    let signature = if signature.is_empty() {
        let close = "</ds:Signature>";
        &good[start..good.find(close).unwrap() + close.len()]
    } else {
        signature
    };
    for (what, answer, refusal) in [
        ("unsigned", cut("<ds:Signature ", "</ds:Signature>"), Unsigned),
        ("no value", cut("<ds:SignatureValue", "</ds:SignatureValue>"), Form),
        ("no info", cut("<ds:SignedInfo", "</ds:SignedInfo>"), Form),
        ("two signatures", with(signature, &signature.repeat(2)), Form),
        ("an object", with("</ds:Signature>", "<ds:Object>x</ds:Object></ds:Signature>"), Form),
        ("another name", good.replace(">ann<", ">root<"), Proof),
        ("another group", good.replace(">dba<", ">admins<"), Proof),
        ("another method", good.replace("rsa-sha256", "rsa-sha512"), Proof),
        ("another reference", with("#_a1", "#_a2"), Proof),
        ("two references", with("</ds:Reference>", "</ds:Reference><ds:Reference/>"), Form),
        ("another ID", with(" ID=\"_a1\"", " ID=\"_a2\""), Reference),
        ("an attribute more", with(" ID=\"_a1\"", " ID=\"_a1\" x=\"\""), Proof),
        ("a value of no base64", with("<ds:SignatureValue>", "<ds:SignatureValue>!"), Form),
        ("another digest", with("<ds:DigestValue>", "<ds:DigestValue>AAAA"), Proof),
        ("no end", cut("</ds:SignatureValue>", "</ds:Signature>"), Xml),
    ] {
        assert_eq!(check(&answer).unwrap_err(), refusal, "{what}");
    }
}
