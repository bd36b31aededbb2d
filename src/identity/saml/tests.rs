//! Answers good and bad: those of a real provider (SimpleSAMLphp's, recorded), and others as one would sign them.

use aws_lc_rs::digest::{SHA256, digest as hash};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::sync::LazyLock;

use super::*;

mod assertions;
mod documents;
mod recorded;
mod signatures;
mod writing;

const CERTIFICATE: &str = include_str!("../../../tests/saml/answers/idp.crt");

const PROVIDER: &str = "https://idp.example/metadata";

fn at(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().unwrap().as_microsecond()
}

fn recorded_key() -> SigningKey {
    SigningKey::of_certificate(&CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap())
        .unwrap()
}

/// The certificate's base64.
fn plain_certificate() -> String {
    CERTIFICATE.lines().filter(|line| !line.starts_with('-')).collect()
}

fn of(name: &str, keys: Vec<SigningKey>) -> ServiceProvider {
    ServiceProvider {
        provider: IdentityProvider {
            entity_id: PROVIDER.into(),
            sso_url: "https://idp.example/sso?a=1&b".into(),
            keys,
        },
        entity_id: format!("https://rowgate.example/saml/{name}/metadata"),
        acs_url: format!("https://rowgate.example/saml/{name}/acs"),
        subject: None,
        name_id_formats: vec!["urn:oasis:names:tc:SAML:2.0:nameid-format:persistent".into()],
        groups: Some("groups".into()),
        group_names: vec![],
        kind: PrincipalKind::Human,
        skew_s: 60,
        lifetime_s: 600,
        request_key: None,
    }
}

/// A key pair of ours.
struct Pair {
    rsa: aws_lc_rs::signature::RsaKeyPair,
    ec: EcdsaKeyPair,
}

static RSA: LazyLock<Pair> = LazyLock::new(Pair::new);
static EVIL: LazyLock<Pair> = LazyLock::new(Pair::new);

impl Pair {
    fn new() -> Self {
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = rsa.as_der().unwrap();
        Self {
            rsa: aws_lc_rs::signature::RsaKeyPair::from_pkcs8(der.as_ref()).unwrap(),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        }
    }

    fn signing_key(&self) -> SigningKey {
        SigningKey::of_parts(true, self.rsa.public_key().as_ref())
    }

    fn ec_key(&self) -> SigningKey {
        SigningKey::of_parts(false, self.ec.public_key().as_ref())
    }

    fn sign(&self, how: &str, bytes: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        if how.ends_with("ecdsa-sha256") {
            return self.ec.sign(&random, bytes).unwrap().as_ref().to_vec();
        }
        if how.ends_with("hmac-sha256") {
            let key = hmac::Key::new(hmac::HMAC_SHA256, self.rsa.public_key().as_ref());
            return hmac::sign(&key, bytes).as_ref().to_vec();
        }
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature).unwrap();
        signature
    }
}

/// How an assertion is signed.
#[derive(Clone, Copy)]
struct How<'a> {
    method: &'a str,
    transforms: &'a str,
    digest: &'a str,
    uri: &'a str,
    key_info: &'a str,
}

const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
const TRANSFORMS: &str = "<ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/>\
    <ds:Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"><ec:InclusiveNamespaces \
    xmlns:ec=\"http://www.w3.org/2001/10/xml-exc-c14n#\" PrefixList=\"xs\"/></ds:Transform>";

const GOOD: How<'static> = How {
    method: RSA_SHA256,
    transforms: TRANSFORMS,
    digest: "http://www.w3.org/2001/04/xmlenc#sha256",
    uri: "#_a1",
    key_info: "",
};

/// An assertion that is good at noon.
const ASSERTION_TEXT: &str = r#"<saml:Assertion xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" ID="_a1" Version="2.0" IssueInstant="2026-01-01T12:00:00Z"><saml:Issuer>https://idp.example/metadata</saml:Issuer><saml:Subject><saml:NameID Format="urn:oasis:names:tc:SAML:2.0:nameid-format:persistent">ann</saml:NameID><saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData NotOnOrAfter="2026-01-01T12:05:00Z" Recipient="https://rowgate.example/saml/own/acs" InResponseTo="_r1"/></saml:SubjectConfirmation></saml:Subject><saml:Conditions NotBefore="2026-01-01T12:00:00Z" NotOnOrAfter="2026-01-01T12:05:00Z"><saml:AudienceRestriction><saml:Audience>https://rowgate.example/saml/own/metadata</saml:Audience></saml:AudienceRestriction></saml:Conditions><saml:AuthnStatement AuthnInstant="2026-01-01T12:00:00Z" SessionNotOnOrAfter="2026-01-01T20:00:00Z"/><saml:AttributeStatement><saml:Attribute Name="groups"><saml:AttributeValue xsi:type="xs:string">dba</saml:AttributeValue></saml:Attribute></saml:AttributeStatement></saml:Assertion>"#;

/// The response around it.
fn around(inside: &str) -> String {
    format!(
        "<samlp:Response xmlns:samlp=\"{PROTOCOL}\" xmlns:saml=\"{ASSERTION}\" ID=\"_r\" Version=\"2.0\" InResponseTo=\"_r1\">\
         <samlp:Status><samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:Success\"/></samlp:Status>{inside}</samlp:Response>"
    )
}

/// The response with this assertion, signed.
fn sign(assertion: &str, how: &How<'_>, pair: &Pair) -> String {
    let whole = around(assertion);
    let document = xml::parse(&whole).unwrap();
    let element = document.descendants().find(|node| is(*node, ASSERTION, "Assertion")).unwrap();
    let prefixes: &[&str] = if how.transforms.contains("PrefixList") { &["xs"] } else { &[] };
    let bytes = canonical::canonical(element, None, prefixes).unwrap();
    let digest = STANDARD.encode(hash(&SHA256, bytes.as_bytes()));
    let info = format!(
        "<ds:SignedInfo xmlns:ds=\"{SIGNATURE}\"><ds:CanonicalizationMethod Algorithm=\"{}\"></ds:CanonicalizationMethod>\
         <ds:SignatureMethod Algorithm=\"{}\"></ds:SignatureMethod><ds:Reference URI=\"{}\"><ds:Transforms>{}</ds:Transforms>\
         <ds:DigestMethod Algorithm=\"{}\"></ds:DigestMethod><ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>",
        canonical::EXCLUSIVE,
        how.method,
        how.uri,
        how.transforms,
        how.digest
    );
    let document = xml::parse(&info).unwrap();
    let bytes = canonical::canonical(document.root_element(), None, &[]).unwrap();
    let signature = STANDARD.encode(pair.sign(how.method, bytes.as_bytes()));
    let signature = format!(
        "<ds:Signature xmlns:ds=\"{SIGNATURE}\">{info}<ds:SignatureValue>{signature}</ds:SignatureValue>{}</ds:Signature>",
        how.key_info
    );
    let at = "</saml:Issuer>";
    whole.replacen(at, &format!("{at}{signature}"), 1)
}

fn own() -> ServiceProvider {
    of("own", vec![RSA.signing_key(), RSA.ec_key()])
}

fn check(answer: &str) -> Result<SignedIn, SamlRefusal> {
    own().verify(answer.as_bytes(), "_r1", at("2026-01-01T12:01:00Z"))
}
