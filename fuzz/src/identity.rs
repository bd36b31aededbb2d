//! Who logs in: tokens, keys and certificates that anyone may send, and user names.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rowgate::identity::{
    Attempt, Certificate, CertificateRule, Directory, Issuer, IssuerKeys, IssuerRules, NameKind,
    PrincipalKind, Proof, UserName,
};
use rowgate::secret::Secret;

/// A key whose private half nobody has kept: RFC 7517's example (appendix A.1).
const KEYS: &[u8] = br#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1",
"x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

static DIRECTORY: LazyLock<Directory> = LazyLock::new(|| {
    let rules = IssuerRules {
        issuer: "https://idp.example".into(),
        audiences: vec!["rowgate".into()],
        algorithms: vec!["ES256".into(), "HS256".into(), "none".into()],
        subject: "sub".into(),
        groups: Some("a.b".into()),
        group_names: vec![],
        kind: PrincipalKind::Agent,
        aliases: vec!["oidc".into()],
    };
    let keys = IssuerKeys::parse(KEYS, i64::MAX).map(Arc::new);
    assert!(keys.is_some(), "the example's key can be used");
    let rule = CertificateRule {
        kind: NameKind::Uri,
        pattern: "*".into(),
        identity: None,
        groups: vec![],
        principal: PrincipalKind::Agent,
    };
    Directory::new(vec![], vec![Issuer { rules, keys }], vec![rule], HashSet::new())
});

/// Tokens: none is let in that the issuer's key did not sign; and key sets and certificates, which don't panic either.
pub fn jwt(data: &[u8]) {
    let admitted = |token: &[u8]| {
        let proof = Proof::Clear(Secret::new(token.to_vec()));
        DIRECTORY.admit(&attempt(&proof, None), 0).is_ok()
    };
    assert!(!admitted(data), "nobody signed it");
    // The same as the parts of a token that has the right form.
    let mut parts = data.splitn(3, |byte| *byte == b'\n').map(|part| URL_SAFE_NO_PAD.encode(part));
    let mut part = || parts.next().unwrap_or_default();
    assert!(!admitted([part(), part(), part()].join(".").as_bytes()), "nobody signed it");
    if let Some(keys) = IssuerKeys::parse(data, 0) {
        drop(keys);
    }
    if let Some(certificate) = Certificate::parse(data) {
        let nobody = Proof::Clear(Secret::new(Vec::new()));
        let _ = DIRECTORY.admit(&attempt(&nobody, Some(&certificate)), 0);
    }
}

fn attempt<'a>(proof: &'a Proof, certificate: Option<&'a Certificate>) -> Attempt<'a> {
    Attempt { user: "oidc", proof, certificate, target: "shop", address: None }
}

/// User names: what is taken apart is whole, bounded, and the same when written again.
pub fn user_name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(name) = UserName::parse(text) else { return };
    assert!(!name.identity.is_empty() && !name.identity.contains(';'));
    assert!(name.attributes.len() <= 16 && text.len() != 96);
    let mut again = name.identity.clone();
    for (key, value) in &name.attributes {
        assert!(!key.is_empty() && !value.contains(';'));
        again.push_str(&format!(";{key}={value}"));
    }
    // (Of 96 bytes is what a client may have cut.)
    if again.len() != 96 {
        assert_eq!(UserName::parse(&again).as_ref(), Some(&name));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds() {
        for seed in [
            &b""[..],
            b"eyJhbGciOiJub25lIn0.e30.",
            b"{\"alg\":\"none\"}\n{\"iss\":\"https://idp.example\",\"sub\":\"oidc\"}\n",
            b"{\"alg\":\"ES256\",\"kid\":\"1\"}\n{\"iss\":\"https://idp.example\",\"aud\":\"rowgate\",\"exp\":9e9}\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            super::KEYS,
        ] {
            super::jwt(seed);
        }
        for seed in ["", "bot", "bot;run=7;pipeline=x", "a;b;c=1", ";", "é;k=v=w"] {
            super::user_name(seed.as_bytes());
        }
    }
}
