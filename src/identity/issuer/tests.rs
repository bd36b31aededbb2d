//! Tokens good and bad, as an issuer and others would sign them.

use std::collections::HashSet;
use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde_json::json;

use super::*;
use crate::identity::{Attempt, Directory, PassEnd, Proof};
use crate::secret::Secret;

const NOW_S: i64 = 1_800_000_000;
const NOW_US: i64 = NOW_S * 1_000_000;
const URL: &str = "https://idp.example";

/// A key pair: what signs, and the JWK.
struct Pair {
    private: EncodingKey,
    jwk: Value,
}

fn ec(kid: &str) -> Pair {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let der = pair.to_pkcs8v1().unwrap();
    let point = pair.public_key().as_ref()[1..].to_vec();
    let [x, y] = [&point[..32], &point[32..]].map(|part| URL_SAFE_NO_PAD.encode(part));
    let jwk = json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "alg": "ES256", "x": x, "y": y});
    Pair { private: EncodingKey::from_ec_der(der.as_ref()), jwk }
}

fn rsa(kid: &str) -> Pair {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let public = pair.public_key();
    let [n, e] = [
        public.modulus().big_endian_without_leading_zero(),
        public.exponent().big_endian_without_leading_zero(),
    ]
    .map(|part| URL_SAFE_NO_PAD.encode(part));
    let jwk = json!({"kty": "RSA", "kid": kid, "n": n, "e": e});
    // PKCS#1 is what PKCS#8 wraps, behind 26 bytes at this length.
    Pair { private: EncodingKey::from_rsa_der(&der.as_ref()[26..]), jwk }
}

static EC: LazyLock<Pair> = LazyLock::new(|| ec("ec"));
static OTHER: LazyLock<Pair> = LazyLock::new(|| ec("other"));
static RSA: LazyLock<Pair> = LazyLock::new(|| rsa("rsa"));

fn rules() -> IssuerRules {
    IssuerRules {
        issuer: URL.into(),
        audiences: vec!["rowgate".into()],
        algorithms: ["ES256", "RS256", "PS256"].map(String::from).into(),
        subject: "sub".into(),
        groups: Some("groups".into()),
        group_names: vec![],
        kind: PrincipalKind::Agent,
        aliases: vec!["oidc".into()],
    }
}

#[allow(clippy::unnecessary_wraps, reason = "as an issuer has them")]
fn keys(pairs: &[&Pair]) -> Option<Arc<IssuerKeys>> {
    let set = json!({"keys": pairs.iter().map(|pair| &pair.jwk).collect::<Vec<_>>()});
    Some(Arc::new(IssuerKeys::parse(set.to_string().as_bytes(), NOW_US + 1).unwrap()))
}

fn issuers() -> Vec<Issuer> {
    let other = IssuerRules { issuer: "https://other.example".into(), ..rules() };
    vec![
        Issuer { rules: rules(), keys: keys(&[&EC, &RSA]) },
        Issuer { rules: other, keys: keys(&[&OTHER]) },
    ]
}

fn claims() -> Value {
    json!({"iss": URL, "aud": "rowgate", "sub": "bot", "exp": NOW_S + 60, "groups": ["b", "a", "b"]})
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

fn header(algorithm: Algorithm, kid: &str) -> Header {
    Header { kid: Some(kid.into()), ..Header::new(algorithm) }
}

fn token(claims: &Value) -> String {
    jsonwebtoken::encode(&header(Algorithm::ES256, "ec"), claims, &EC.private).unwrap()
}

fn check(user: &str, token: &str) -> Result<Asserted, LoginRefusal> {
    verify(&issuers(), &UserName::parse(user).unwrap(), token.as_bytes(), NOW_US)
}

#[test]
fn who_it_is() {
    let good = token(&claims());
    for user in ["bot", "oidc", "bot;run=7"] {
        let asserted = check(user, &good).unwrap();
        assert_eq!(asserted.subject, "bot");
        assert_eq!(asserted.groups, ["a", "b"]);
        assert_eq!(asserted.expires_us, (NOW_S + 60 + LEEWAY_S) * 1_000_000);
    }
    for algorithm in [Algorithm::RS256, Algorithm::PS256] {
        let signed =
            jsonwebtoken::encode(&header(algorithm, "rsa"), &claims(), &RSA.private).unwrap();
        assert!(check("bot", &signed).is_ok());
    }
    let directory = Directory::new(vec![], issuers(), vec![], HashSet::new());
    let proof = Proof::Clear(Secret::new(good.into_bytes()));
    let none = Directory::new(vec![], vec![], vec![], HashSet::new());
    let attempt =
        |user| Attempt { user, proof: &proof, certificate: None, target: "shop", address: None };
    let (principal, pass) = directory.admit(&attempt("bot;run=7"), NOW_US).unwrap();
    assert_eq!((principal.subject.as_str(), principal.attributes["run"].as_str()), ("bot", "7"));
    assert!(directory.renewed(&pass).is_ok() && none.renewed(&pass) == Err(PassEnd::Withdrawn));
    // Whatever it is called by: revoked is who it is.
    let revoked = HashSet::from(["bot".to_owned()]);
    let without = Directory::new(vec![], issuers(), vec![], revoked);
    for user in ["bot", "oidc", "bot;run=7"] {
        let refused = without.admit(&attempt(user), NOW_US).unwrap_err();
        assert_eq!(refused, LoginRefusal::Revoked, "{user}");
    }
    assert_eq!(without.renewed(&pass), Err(PassEnd::Revoked));
    assert!(!pass.has_expired(NOW_US) && pass.has_expired(NOW_US + 90_000_000));
}

#[test]
fn signatures_that_don_t_count() {
    use LoginRefusal::{Key, Proof};
    let sign = |header: &Header, key| jsonwebtoken::encode(header, &claims(), key).unwrap();
    let good = token(&claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let none = format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims()));
    let altered = format!(
        "{}.{}.{signature}",
        part(&json!({"alg": "ES256", "kid": "ec"})),
        part(&with("sub", json!("root")))
    );
    // HS256 with the public key as the secret.
    let secret = EncodingKey::from_secret(EC.jwk["x"].as_str().unwrap().as_bytes()).unwrap();
    let points_elsewhere = |set: fn(&mut Header)| {
        let mut header = header(Algorithm::ES256, "ec");
        set(&mut header);
        sign(&header, &EC.private)
    };
    for (what, token, refusal) in [
        ("none", none, Proof),
        ("no signature", format!("{signed}."), Proof),
        ("altered", altered, Proof),
        ("HS256", sign(&header(Algorithm::HS256, "ec"), &secret), Proof),
        ("not listed", sign(&header(Algorithm::RS512, "rsa"), &RSA.private), Proof),
        ("another's key", sign(&header(Algorithm::ES256, "ec"), &OTHER.private), Proof),
        ("another issuer's kid", sign(&header(Algorithm::ES256, "other"), &OTHER.private), Key(0)),
        ("unknown kid", sign(&header(Algorithm::ES256, "new"), &EC.private), Key(0)),
        ("a key of another kind", sign(&header(Algorithm::ES256, "rsa"), &EC.private), Key(0)),
        ("jku", points_elsewhere(|header| header.jku = Some("https://evil.example".into())), Proof),
        ("x5u", points_elsewhere(|header| header.x5u = Some("https://evil.example".into())), Proof),
        ("x5c", points_elsewhere(|header| header.x5c = Some(vec![])), Proof),
        ("crit", points_elsewhere(|header| header.crit = Some(vec!["exp".into()])), Proof),
        ("long", token(&with("more", json!("x".repeat(MAX_TOKEN)))), Proof),
        ("junk", "eyJ.x.y".into(), Proof),
    ] {
        assert_eq!(check("bot", &token).unwrap_err(), refusal, "{what}");
    }
}

#[test]
fn a_token_without_a_kid_needs_one_key_that_fits() {
    let header = Header::new(Algorithm::ES256);
    let token = jsonwebtoken::encode(&header, &claims(), &EC.private).unwrap();
    let name = UserName::parse("bot").unwrap();
    let of = |keys| [Issuer { rules: rules(), keys }];
    assert!(verify(&of(keys(&[&EC, &RSA])), &name, token.as_bytes(), NOW_US).is_ok());
    let two = verify(&of(keys(&[&OTHER, &EC])), &name, token.as_bytes(), NOW_US);
    assert_eq!(two.unwrap_err(), LoginRefusal::Key(0));
}

#[test]
fn claims_that_don_t_count() {
    use LoginRefusal::{Claims, Expired, Name, Proof};
    for (what, claims, refusal) in [
        ("wrong issuer", with("iss", json!("https://evil.example")), Proof),
        ("another issuer", with("iss", json!("https://other.example")), LoginRefusal::Key(1)),
        ("two issuers", with("iss", json!([URL])), Proof),
        ("audience", with("aud", json!(["other"])), Proof),
        ("no audience", with("aud", Value::Null), Proof),
        ("expired", with("exp", json!(NOW_S - LEEWAY_S)), Expired),
        ("no end", with("exp", Value::Null), Proof),
        ("no number", with("exp", json!("never")), Proof),
        ("endless", with("exp", json!(1e300)), Proof),
        ("not yet", with("nbf", json!(NOW_S + LEEWAY_S + 1)), Proof),
        ("nbf no number", with("nbf", json!("now")), Proof),
        ("someone else", with("sub", json!("ann")), Name),
        ("no subject", with("sub", json!("")), Claims),
        ("subject no text", with("sub", json!(7)), Claims),
        ("subject with attributes", with("sub", json!("bot;run=1")), Claims),
        ("groups of another form", with("groups", json!({"a": true})), Claims),
        ("groups not all text", with("groups", json!(["a", 7])), Claims),
        ("groups without end", with("groups", json!(vec!["a"; MANY])), Claims),
    ] {
        assert_eq!(check("bot", &token(&claims)).unwrap_err(), refusal, "{what}");
    }
}

/// More groups than are read.
const MANY: usize = 1_025;

#[test]
fn stale_keys_are_none() {
    let name = UserName::parse("bot").unwrap();
    let stale = verify(&issuers(), &name, token(&claims()).as_bytes(), NOW_US + 1);
    assert_eq!(stale.unwrap_err(), LoginRefusal::Key(0));
    let none = [Issuer { rules: rules(), keys: None }];
    let unfetched = verify(&none, &name, token(&claims()).as_bytes(), NOW_US);
    assert_eq!(unfetched.unwrap_err(), LoginRefusal::Key(0));
}

#[test]
fn groups_by_path_and_by_name() {
    let mut rules = rules();
    rules.groups = Some("realm_access.roles".into());
    rules.group_names =
        vec![("db-agents".into(), "agents".into()), ("dba".into(), "admins".into())];
    let nested = with("realm_access", json!({"roles": ["db-agents", "everyone"]}));
    let issuers = [Issuer { rules, keys: keys(&[&EC]) }];
    let name = UserName::parse("bot").unwrap();
    let groups =
        |claims: &Value| verify(&issuers, &name, token(claims).as_bytes(), NOW_US).unwrap().groups;
    assert_eq!(groups(&nested), ["agents"]);
    assert_eq!(groups(&claims()), [""; 0]);
    assert_eq!(groups(&with("realm_access.roles", json!("dba"))), ["admins"]);
}

#[test]
fn key_sets() {
    let parse =
        |json: Value| IssuerKeys::parse(json.to_string().as_bytes(), 0).map(|keys| keys.keys.len());
    let mut encrypts = EC.jwk.clone();
    encrypts["use"] = json!("enc");
    let shared = json!({"kty": "oct", "k": "c2VjcmV0", "kid": "s"});
    let odd = json!({"kty": "new", "kid": "n"});
    assert_eq!(parse(json!({"keys": [EC.jwk, RSA.jwk, encrypts, shared, odd]})), Some(2));
    for none in [json!({"keys": [shared]}), json!({"keys": []}), json!({}), json!([])] {
        assert_eq!(parse(none), None);
    }
}

/// A directory in which one foreign group counts, and the configuration puts bot in another.
fn mapped() -> Directory {
    let mut issuers = issuers();
    issuers[0].rules.group_names = vec![("a*".into(), "agents".into()), ("x".into(), "dba".into())];
    let members = [("bot".to_owned(), vec!["night".to_owned(), "agents".to_owned()])];
    Directory::new(vec![], issuers, vec![], HashSet::from(["gone".to_owned()]))
        .with_members(members.into())
}

#[test]
fn why_it_is_who_it_is() {
    let good = Secret::new(token(&claims()).into_bytes());
    let (found, refused) = mapped().explain(&good, Some("oidc;run=7"), NOW_US);
    assert_eq!((refused, &found.refused), (None, &None));
    assert_eq!(
        (found.by.as_str(), found.subject.as_deref()),
        ("issuer https://idp.example", Some("bot"))
    );
    let checked: Vec<_> = found.checks.iter().map(|check| check.of.as_str()).collect();
    assert_eq!(
        checked.join(" "),
        "user form header issuer algorithm keys key signature audience time subject groups name identity"
    );
    assert!(found.checks.iter().all(|check| check.passed));
    let groups = found.groups.iter().map(|one| format!("{}: {}", one.group, one.from.join("; ")));
    assert_eq!(
        groups.collect::<Vec<_>>(),
        [
            "agents: claim groups lists \"a\", by group_names \"a*\"; [[groups]] lists it as a member",
            "night: [[groups]] lists it as a member",
        ]
    );
    assert_eq!(found.left_out, ["b", "b"]);
    // A login is in the same groups.
    let proof = Proof::Clear(good);
    let attempt =
        Attempt { user: "oidc", proof: &proof, certificate: None, target: "shop", address: None };
    assert_eq!(mapped().admit(&attempt, NOW_US).unwrap().0.groups, ["agents", "night"]);
}

/// The check that fails is named, it is the last one made, and a login is refused by the same word.
#[test]
fn why_it_is_nobody() {
    let signed = |header: &Header, claims: &Value, key: &Pair| {
        jsonwebtoken::encode(header, claims, &key.private).unwrap()
    };
    let es = |kid: &str| header(Algorithm::ES256, kid);
    let good = token(&claims());
    let mut without = claims();
    without.as_object_mut().unwrap().remove("aud");
    let jku = Header { jku: Some("https://evil.example".into()), ..es("ec") };
    for (user, token, of) in [
        ("bot", "eyJ.x.y".to_owned(), "form"),
        ("bot", signed(&jku, &claims(), &EC), "header"),
        ("bot", token(&with("iss", json!("https://evil.example"))), "issuer"),
        ("bot", signed(&header(Algorithm::RS384, "rsa"), &claims(), &RSA), "algorithm"),
        ("bot", signed(&es("nobody's"), &claims(), &EC), "key"),
        ("bot", signed(&es("ec"), &claims(), &OTHER), "signature"),
        ("bot", token(&with("aud", json!("another"))), "audience"),
        ("bot", token(&without), "audience"),
        ("bot", token(&with("exp", json!(NOW_S - 60))), "time"),
        ("bot", token(&with("nbf", json!(NOW_S + 60))), "time"),
        ("bot", token(&with("sub", json!("a;run=1"))), "subject"),
        ("bot", token(&with("groups", json!({"a": true}))), "groups"),
        ("ann", good, "name"),
        ("gone", token(&with("sub", json!("gone"))), "identity"),
    ] {
        let secret = Secret::new(token.clone().into_bytes());
        let (found, refused) = mapped().explain(&secret, Some(user), NOW_US);
        let (last, before) = found.checks.split_last().unwrap();
        assert_eq!((last.of.as_str(), last.passed), (of, false), "{found:?}");
        assert!(before.iter().all(|check| check.passed), "{found:?}");
        let proof = Proof::Clear(secret);
        let attempt =
            Attempt { user, proof: &proof, certificate: None, target: "shop", address: None };
        assert_eq!(mapped().admit(&attempt, NOW_US).err(), refused, "{of}");
        assert_eq!(found.refused.as_deref(), refused.map(LoginRefusal::label), "{of}");
        assert!(!format!("{found:?}").contains(&token), "{of}");
    }
}
