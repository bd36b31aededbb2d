//! What SimpleSAMLphp has answered: `tests/saml/idp` is how it was set up.

use super::*;

#[path = "../../../../tests/saml/wrapping.rs"]
mod wrapping;

const CORP: &str = include_str!("../../../../tests/saml/answers/corp.xml");
const BOTH: &str = include_str!("../../../../tests/saml/answers/both.xml");
const RESPONSE: &str = include_str!("../../../../tests/saml/answers/response.xml");
const SHA1: &str = include_str!("../../../../tests/saml/answers/sha1.xml");
const SECRET: &str = include_str!("../../../../tests/saml/answers/secret.xml");

/// When the answers were given.
static THEN: LazyLock<i64> = LazyLock::new(|| at("2026-11-28T18:02:30Z"));

fn recorded(name: &str, answer: &str) -> Result<SignedIn, SamlRefusal> {
    of(name, vec![recorded_key()]).verify(answer.as_bytes(), "_req1", *THEN)
}

#[test]
fn a_real_provider_s_answer() {
    let signed_in = recorded("corp", CORP).unwrap();
    assert_eq!(signed_in.principal.subject, "ann");
    assert_eq!(signed_in.principal.groups, ["analysts", "approvers"]);
    assert_eq!(signed_in.principal.kind, PrincipalKind::Human);
    assert!(signed_in.assertion.starts_with('_') && CORP.contains(&signed_in.assertion));
    assert_eq!(signed_in.assertion_ends_us, at("2026-11-28T18:08:21Z"));
    assert_eq!(signed_in.session_ends_us, Some(at("2026-11-29T02:02:21Z")));
    // Both signed, then both are checked.
    assert!(recorded("both", BOTH).is_ok());
    let broken = BOTH.replacen("<ds:DigestValue>", "<ds:DigestValue>A", 1);
    assert_eq!(recorded("both", &broken).unwrap_err(), SamlRefusal::Form);
    let elsewhere = BOTH.replacen(
        "Version=\"2.0\" IssueInstant",
        "Version=\"2.0\"  Consent=\"x\" IssueInstant",
        1,
    );
    assert_eq!(recorded("both", &elsewhere).unwrap_err(), SamlRefusal::Proof);
}

#[test]
fn attributes_and_keys() {
    let mut by_mail = of("corp", vec![recorded_key()]);
    by_mail.subject = Some("mail".into());
    by_mail.name_id_formats = vec![];
    by_mail.group_names = vec![("approvers".into(), "deciders".into()), ("x".into(), "y".into())];
    let verify = |rules: &ServiceProvider| rules.verify(CORP.as_bytes(), "_req1", *THEN);
    let signed_in = verify(&by_mail).unwrap();
    assert_eq!(signed_in.principal.subject, "ann@example.org");
    assert_eq!(signed_in.principal.groups, ["deciders"]);
    for (subject, groups) in [("groups", "mail"), ("none", "mail")] {
        let mut rules = of("corp", vec![recorded_key()]);
        (rules.subject, rules.groups) = (Some(subject.into()), Some(groups.into()));
        assert_eq!(verify(&rules).unwrap_err(), SamlRefusal::Claims, "{subject}");
    }
    let mut other_format = of("corp", vec![recorded_key()]);
    other_format.name_id_formats = vec!["urn:other".into()];
    assert_eq!(verify(&other_format).unwrap_err(), SamlRefusal::Claims);
    // While keys rotate there are two; the one that has signed may be either.
    let own = RSA.signing_key();
    let second = of("corp", vec![own.clone(), recorded_key()]);
    assert!(verify(&second).is_ok());
    assert_eq!(verify(&of("corp", vec![own])).unwrap_err(), SamlRefusal::Proof);
    assert_eq!(verify(&of("corp", vec![])).unwrap_err(), SamlRefusal::Proof);
}

#[test]
fn a_real_provider_s_answer_is_for_one_use() {
    let verify = |name: &str, answer: &str, request: &str, now: &str| {
        of(name, vec![recorded_key()]).verify(answer.as_bytes(), request, at(now)).unwrap_err()
    };
    let then = "2026-11-28T18:02:30Z";
    assert_eq!(verify("corp", CORP, "_req2", then), SamlRefusal::Request);
    assert_eq!(verify("corp", CORP, "", then), SamlRefusal::Request);
    assert_eq!(verify("corp", CORP, "_req1", "2026-11-28T18:08:21Z"), SamlRefusal::Expired);
    assert_eq!(verify("corp", CORP, "_req1", "2026-11-28T18:00:00Z"), SamlRefusal::Early);
    assert_eq!(verify("other", CORP, "_req1", then), SamlRefusal::Destination);
    assert_eq!(verify("response", RESPONSE, "_req1", then), SamlRefusal::Unsigned);
    assert_eq!(verify("sha1", SHA1, "_req1", then), SamlRefusal::Algorithm);
    assert_eq!(verify("secret", SECRET, "_req1", then), SamlRefusal::Encrypted);
}

/// Each is refused for what it is: the documents are well-formed, and the key and the times would do.
#[test]
fn eight_shapes_of_wrapping() {
    use SamlRefusal::{Assertions, Form};
    let shapes = wrapping::of_assertions(CORP, "ann", "root");
    assert_eq!(shapes.len(), 6);
    for (shape, answer) in shapes {
        assert!(answer.contains(">root<") && xml::parse(&answer).is_ok(), "{shape}");
        assert_eq!(recorded("corp", &answer).unwrap_err(), Assertions, "{shape}");
    }
    for (name, answer) in [("response", RESPONSE), ("both", BOTH)] {
        let shapes = wrapping::of_responses(answer, "ann", "root");
        assert_eq!(shapes.len(), 2);
        for (shape, answer) in shapes {
            assert!(answer.contains(">root<") && xml::parse(&answer).is_ok(), "{shape}");
            assert_eq!(recorded(name, &answer).unwrap_err(), Form, "{shape}");
        }
    }
}
