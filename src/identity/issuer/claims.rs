//! What the claims of a token that is proven say: who, in which groups, from when until when.

use serde_json::{Map, Value};

use super::{Asserted, IssuerRules, LEEWAY_S};
use crate::identity::groups::{self, MAX_GROUPS};
use crate::identity::{LoginRefusal, Told, UserName, is_identity};
use crate::secret;

/// Whether what the client asks to be is what the claims say it is, or stands for anyone of the issuer.
pub(super) fn is_named(rules: &IssuerRules, name: &UserName, asserted: &Asserted) -> bool {
    name.identity == asserted.subject || rules.aliases.contains(&name.identity)
}

/// What an ID token has to say besides (OpenID Connect Core 1.0, section 3.1.3.7): that it is the answer to this
/// sign-in, and, where it is meant for others as well, that it was given to this client.
pub(super) fn answers(claims: &Map<String, Value>, client: &str, nonce: &str) -> bool {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let given_to = match claims.get("azp") {
        Some(_) => text("azp") == Some(client),
        None => !matches!(claims.get("aud"), Some(Value::Array(all)) if all.len() > 1),
    };
    given_to && text("nonce").is_some_and(|said| secret::equal(said.as_bytes(), nonce.as_bytes()))
}

/// Reads the claims.
pub(super) fn read(
    rules: &IssuerRules,
    claims: &Map<String, Value>,
    now_us: i64,
    told: Told<'_>,
) -> Result<Asserted, LoginRefusal> {
    told("time", format_args!("from nbf, if there is one, until exp; {LEEWAY_S} s are granted"));
    let expires_us = time(claims, "exp")?.ok_or(LoginRefusal::Proof)?;
    let leeway_us = LEEWAY_S * 1_000_000;
    if expires_us.saturating_add(leeway_us) <= now_us {
        return Err(LoginRefusal::Expired);
    }
    if time(claims, "nbf")?.is_some_and(|from| from.saturating_sub(leeway_us) > now_us) {
        return Err(LoginRefusal::Proof);
    }
    told("subject", format_args!("claim {}: a name that can log in", rules.subject));
    let subject =
        claims.get(&rules.subject).and_then(Value::as_str).filter(|text| is_identity(text));
    let subject = subject.ok_or(LoginRefusal::Claims)?;
    told("groups", format_args!("claim {}: names", rules.groups.as_deref().unwrap_or("(none)")));
    let listed = listed(rules, claims)?;
    let counted = groups::counted(&rules.group_names, &listed).ok_or(LoginRefusal::Claims)?;
    Ok(Asserted {
        subject: subject.to_owned(),
        kind: rules.kind,
        groups: groups::names(&counted),
        issuer: rules.issuer.clone(),
        expires_us: expires_us.saturating_add(leeway_us),
    })
}

/// A NumericDate (RFC 7519, 2), in microseconds. One that is no number is an error, not an absence.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, LoginRefusal> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..=1e11).contains(seconds));
    let seconds = seconds.ok_or(LoginRefusal::Proof)?;
    #[allow(clippy::cast_possible_truncation, reason = "at most 10^17, which fits")]
    Ok(Some((seconds * 1e6) as i64))
}

/// The groups that it lists. A claim that is not there is no groups; one of another form is an error, since rules that forbid
/// by group would not see them.
pub(super) fn listed<'c>(
    rules: &IssuerRules,
    claims: &'c Map<String, Value>,
) -> Result<Vec<&'c str>, LoginRefusal> {
    let Some(path) = &rules.groups else { return Ok(Vec::new()) };
    match at(claims, path) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one]),
        Some(Value::Array(all)) if all.len() <= MAX_GROUPS => {
            let texts = all.iter().map(Value::as_str).collect::<Option<_>>();
            texts.ok_or(LoginRefusal::Claims)
        }
        Some(_) => Err(LoginRefusal::Claims),
    }
}

/// The claim of that very name, or else the one that a path with dots leads to.
fn at<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let mut steps = path.split('.');
    let first = claims.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.get(step))
}
