//! What the check of a login costs, without the wire and without TLS: by a gateway token's hash and whole, by a session
//! password's hash where its owner has one and as many as can be, by a token of an OpenID issuer whose keys are known, by a
//! certificate. All among as many session passwords of others as there may be.

#![allow(clippy::unwrap_used, reason = "a bench that can't be set up ends")]

use std::collections::{BTreeMap, HashSet};
use std::hint::black_box;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rowgate::identity::{
    Attempt, Certificate, CertificateRule, Directory, Issuer, IssuerKeys, IssuerRules,
    MAX_LIVE_PASSWORDS, NameKind, PasswordRecord, PrincipalKind, Proof, Scope, TokenRecord,
    Verifier,
};
use rowgate::secret::Secret;
use serde_json::json;

const URL: &str = "https://login.example.com";
const NOW_S: i64 = 1_800_000_000;
const BOT: &str = "etl-bot;run=42";
const TOKEN: &[u8] = b"rgt_0123456789abcdefghijklmnopqrstuvwxyz0123456";

/// All the session passwords that there may be.
const PASSWORDS: usize = 20_000;

/// Of whom there are as many as one may have, and of whom there is one.
const MANY: &str = "ann";
const FEW: &str = "ben";

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An issuer's keys as it publishes them, and a token by each.
fn issued() -> (serde_json::Value, [String; 2]) {
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = &ec.public_key().as_ref()[1..];
    let ec_jwk = json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": encoded(&point[..32]), "y": encoded(&point[32..])});
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = rsa.public_key();
    let (n, e) = (public.modulus(), public.exponent());
    let rsa_jwk = json!({
        "kty": "RSA", "kid": "rsa",
        "n": encoded(n.big_endian_without_leading_zero()),
        "e": encoded(e.big_endian_without_leading_zero()),
    });
    let claims = json!({
        "iss": URL, "aud": "rowgate", "sub": "etl-bot", "exp": NOW_S + 60, "iat": NOW_S,
        "groups": ["agents", "everyone", "europe"], "jti": "0123456789abcdef", "scope": "sql",
    });
    let sign = |algorithm, kid: &str, key: &EncodingKey| {
        let header = Header { kid: Some(kid.into()), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, &claims, key).unwrap()
    };
    let ec = EncodingKey::from_ec_der(ec.to_pkcs8v1().unwrap().as_ref());
    let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    // PKCS#1 is what PKCS#8 wraps, behind 26 bytes at this length.
    let rsa = EncodingKey::from_rsa_der(&der.as_ref()[26..]);
    let tokens = [sign(Algorithm::ES256, "ec", &ec), sign(Algorithm::RS256, "rsa", &rsa)];
    (json!({"keys": [ec_jwk, rsa_jwk]}), tokens)
}

fn directory(keys: &serde_json::Value) -> Directory {
    let record = TokenRecord {
        id: "tok_1".into(),
        identity: "etl-bot".into(),
        kind: PrincipalKind::Agent,
        groups: vec!["agents".into()],
        scope: Scope::default(),
        verifier: Verifier::of(TOKEN),
        expires_us: None,
        revoked: false,
    };
    let rules = IssuerRules {
        issuer: URL.into(),
        audiences: vec!["rowgate".into()],
        algorithms: vec!["ES256".into(), "RS256".into()],
        subject: "sub".into(),
        groups: Some("groups".into()),
        group_names: vec![],
        kind: PrincipalKind::Agent,
        aliases: vec![],
    };
    let keys = IssuerKeys::parse(keys.to_string().as_bytes(), i64::MAX).map(Arc::new);
    let rule = CertificateRule {
        kind: NameKind::Uri,
        pattern: "spiffe://prod.example/agent/*".into(),
        identity: None,
        groups: vec!["agents".into()],
        principal: PrincipalKind::Agent,
    };
    Directory::new(vec![record], vec![Issuer { rules, keys }], vec![rule], HashSet::new())
        .with_passwords(passwords())
}

/// The n-th session password of this identity, as text.
fn password(identity: &str, n: usize) -> String {
    format!("rgs_{identity}-{n:0>40}")
}

fn passwords() -> Vec<PasswordRecord> {
    let many = (0..MAX_LIVE_PASSWORDS).map(|n| (MANY.to_owned(), n));
    let others = (MAX_LIVE_PASSWORDS + 1..PASSWORDS).map(|n| (format!("other-{n}"), 0));
    let all = many.chain([(FEW.to_owned(), 0)]).chain(others);
    let record = |(identity, n): (String, usize)| PasswordRecord {
        id: format!("pwd_{n}"),
        kind: PrincipalKind::Human,
        groups: vec!["support".into()],
        attributes: BTreeMap::new(),
        scope: Scope::default(),
        verifier: Verifier::of(password(&identity, n).as_bytes()),
        expires_us: i64::MAX,
        revoked: false,
        identity,
    };
    all.map(record).collect()
}

/// What a client of caching_sha2_password answers.
fn hashed(password: &str) -> Proof {
    let scramble = [7; 20];
    let once = digest(&SHA256, password.as_bytes());
    let twice = digest(&SHA256, once.as_ref());
    let mask = digest(&SHA256, &[twice.as_ref(), &scramble].concat());
    let response = once.as_ref().iter().zip(mask.as_ref()).map(|(a, b)| a ^ b).collect();
    Proof::CachingSha2 { scramble, response }
}

fn attempt<'a>(
    user: &'a str,
    proof: &'a Proof,
    certificate: Option<&'a Certificate>,
) -> Attempt<'a> {
    let address = Some([10, 0, 0, 1].into());
    Attempt { user, proof, certificate, target: "shop", address }
}

fn logins(c: &mut Criterion) {
    let (keys, [es256, rs256]) = issued();
    let directory = directory(&keys);
    let now_us = NOW_S * 1_000_000;
    let clear = |text: &[u8]| Proof::Clear(Secret::new(text.to_vec()));
    // A hash that is wrong costs what a right one does.
    let hash = Proof::CachingSha2 { scramble: [7; 20], response: vec![7; 32] };
    let last = hashed(&password(MANY, MAX_LIVE_PASSWORDS - 1));
    for (name, user, proof, admitted) in [
        ("gateway token, hash", BOT, hash, false),
        ("gateway token, whole", BOT, clear(TOKEN), true),
        ("session password, hash", "ben;run=42", hashed(&password(FEW, 0)), true),
        ("session password, hash, the last of 16", "ann;run=42", last, true),
        ("issuer's token, ES256", BOT, clear(es256.as_bytes()), true),
        ("issuer's token, RS256", BOT, clear(rs256.as_bytes()), true),
    ] {
        let attempt = attempt(user, &proof, None);
        let check = || directory.admit(&attempt, now_us);
        assert_eq!(check().is_ok(), admitted, "{name}");
        c.bench_function(&format!("login: {name}"), |b| b.iter(|| black_box(check())));
    }
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    let name = "spiffe://prod.example/agent/etl-bot".try_into().unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(name)];
    let der = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
    let nothing = clear(b"");
    let check = || {
        let certificate = Certificate::parse(&der);
        directory.admit(&attempt(BOT, &nothing, certificate.as_ref()), now_us)
    };
    assert!(check().is_ok());
    c.bench_function("login: certificate", |b| b.iter(|| black_box(check())));
}

criterion_group!(benches, logins);
criterion_main!(benches);
