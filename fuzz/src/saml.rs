//! Answers of a SAML identity provider, as anyone may send them.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rowgate::identity::PrincipalKind;
use rowgate::identity::saml::{IdentityProvider, ServiceProvider, SignedIn, SigningKey};

/// What a real provider has answered once, and the certificate of the key that signed it. (Nobody has kept that key.)
const ANSWER: &[u8] = include_bytes!("../../tests/saml/answers/corp.xml");
const CERTIFICATE: &str = include_str!("../../tests/saml/answers/idp.crt");

/// When that was, in microseconds: 2026-11-28T18:02:30Z.
const THEN_US: i64 = 1_795_888_950_000_000;

static SERVICE: LazyLock<ServiceProvider> = LazyLock::new(|| {
    let plain: String = CERTIFICATE.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(plain).expect("the certificate");
    ServiceProvider {
        provider: IdentityProvider {
            entity_id: "https://idp.example/metadata".into(),
            sso_url: "https://idp.example/sso".into(),
            keys: vec![SigningKey::of_certificate(&der).expect("its key")],
        },
        entity_id: "https://rowgate.example/saml/corp/metadata".into(),
        acs_url: "https://rowgate.example/saml/corp/acs".into(),
        subject: None,
        name_id_formats: vec!["urn:oasis:names:tc:SAML:2.0:nameid-format:persistent".into()],
        groups: Some("groups".into()),
        group_names: vec![],
        kind: PrincipalKind::Human,
        skew_s: 60,
        lifetime_s: 600,
        request_key: None,
    }
});

static SIGNED_IN: LazyLock<SignedIn> =
    LazyLock::new(|| SERVICE.verify(ANSWER, "_req1", THEN_US).expect("the answer is good"));

/// Answers: whatever comes, nobody signs in but whom the provider's key has signed, in the assertion that it has signed.
/// And metadata, which doesn't panic either.
pub fn saml_response(data: &[u8]) {
    judge(data);
    judge(&edited(data));
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = IdentityProvider::of_metadata(text, "https://idp.example/metadata");
    }
}

fn judge(answer: &[u8]) {
    if let Ok(signed_in) = SERVICE.verify(answer, "_req1", THEN_US) {
        assert_eq!(signed_in, *SIGNED_IN, "nobody signed that");
    }
    assert!(SERVICE.verify(answer, "_req2", THEN_US).is_err(), "nobody asked for that");
}

/// The good answer, with edits: where (two bytes), how much is copied from there, where it goes (two bytes), how much it
/// takes the place of, how many bytes of the input follow it, and those.
fn edited(mut data: &[u8]) -> Vec<u8> {
    let mut answer = ANSWER.to_vec();
    while let [from, from_low, copied, to, to_low, cut, more, rest @ ..] = data {
        let place =
            |high: &u8, low: &u8| (usize::from(*high) << 8 | usize::from(*low)) % answer.len();
        let (from, to) = (place(from, from_low), place(to, to_low));
        // (Copies are long, since elements are.)
        let end = answer.len().min(from + usize::from(*copied) * 16);
        let mut put = answer[from..end].to_vec();
        let (own, rest) = rest.split_at(rest.len().min(usize::from(*more)));
        put.extend_from_slice(own);
        let end = answer.len().min(to + usize::from(*cut));
        answer.splice(to..end, put);
        if answer.is_empty() || answer.len() > 1 << 20 {
            break;
        }
        data = rest;
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds() {
        assert_eq!(edited(b""), ANSWER);
        for seed in [
            &b""[..],
            ANSWER,
            CERTIFICATE.as_bytes(),
            b"\x01\x02\xff\x01\x00\x00\x03<x>",
            &[7; 700],
        ] {
            saml_response(seed);
        }
        for at in 0..=255_u8 {
            for more in [&[][..], b"<!---->", b"x", b" "] {
                let head = [at, at.wrapping_mul(7), at / 16, at, at.wrapping_mul(13), at % 3];
                let count = u8::try_from(more.len()).unwrap();
                saml_response(&[&head[..], &[count], more].concat());
            }
        }
    }
}
