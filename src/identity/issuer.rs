//! OIDC: a token that a configured issuer signed, checked with that issuer's keys (RFC 7519, RFC 8725), and who its
//! claims say it is.

mod claims;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jsonwebtoken::jwk::{JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header, Validation};
use serde_json::{Map, Value};

use super::explain::{Short, ShortJson, nobody};
use super::{LoginRefusal, PrincipalKind, Told, UserName, groups};

/// Longest token that is looked at: those of issuers that list hundreds of groups are about 10 kB.
const MAX_TOKEN: usize = 32 << 10;

/// Most keys of one issuer: while it rotates them it has two or three.
const MAX_KEYS: usize = 64;

/// How far the issuer's clock and ours may differ, in seconds.
const LEEWAY_S: i64 = 30;

/// What the operator says of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerRules {
    /// What its tokens say in `iss`, to the letter.
    pub issuer: String,
    /// Of these a token must be meant for one (`aud`).
    pub audiences: Vec<String>,
    /// How its tokens may be signed (RFC 7518). Shared secrets never count: they would let us sign, too.
    pub algorithms: Vec<String>,
    /// The claim that names the identity.
    pub subject: String,
    /// The claim that lists its groups; a path with dots where no claim has that very name.
    pub groups: Option<String>,
    /// Which of the listed groups count (a `*` at the end stands for any rest), and as what; empty: all, as they are called.
    pub group_names: Vec<(String, String)>,
    /// What its principals are.
    pub kind: PrincipalKind,
    /// User names under which any of its identities may log in.
    pub aliases: Vec<String>,
}

/// An issuer's keys, and how long they may be relied on.
#[derive(Debug)]
pub struct IssuerKeys {
    keys: Vec<Key>,
    until_us: i64,
}

/// One that signatures are checked with.
#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// The only algorithm it is for, where the issuer says so.
    algorithm: Option<Algorithm>,
    public: DecodingKey,
}

impl IssuerKeys {
    /// Reads a JWK set (RFC 7517). Keys that are not for signatures, or of kinds that are not checked here, are left
    /// out. `until_us`: when they are too old to be relied on. `None` where it is no JWK set or has no usable key.
    pub fn parse(json: &[u8], until_us: i64) -> Option<Self> {
        let set: JwkSet = serde_json::from_slice(json).ok()?;
        let mut keys = Vec::new();
        for jwk in set.keys.into_iter().take(MAX_KEYS) {
            let signs = jwk.common.public_key_use.as_ref();
            if signs.is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
                continue;
            }
            let named = jwk.common.key_algorithm;
            let algorithm = named.and_then(|algorithm| Algorithm::try_from(algorithm).ok());
            // A shared secret is no public key; one for an algorithm that is unknown here is not for another.
            let Ok(key) = DecodingKey::from_jwk(&jwk) else { continue };
            if key.family() == jsonwebtoken::AlgorithmFamily::Hmac
                || (named.is_some() && algorithm.is_none())
            {
                continue;
            }
            keys.push(Key { id: jwk.common.key_id, algorithm, public: key });
        }
        (!keys.is_empty()).then_some(Self { keys, until_us })
    }

    /// The key that a token names; without a name, the only one that could be meant.
    fn find(&self, header: &Header) -> Option<&Key> {
        let fits = |key: &&Key| {
            key.public.family().algorithms().contains(&header.alg)
                && key.algorithm.is_none_or(|algorithm| algorithm == header.alg)
        };
        let mut fitting = self.keys.iter().filter(fits);
        match &header.kid {
            Some(id) => fitting.find(|key| key.id.as_ref() == Some(id)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }
}

/// Who a token says it is, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asserted {
    pub(super) subject: String,
    pub(super) kind: PrincipalKind,
    pub(super) groups: Vec<String>,
    pub(super) issuer: String,
    pub(super) expires_us: i64,
}

/// An issuer, and its keys once they were fetched.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// What is asked of its tokens.
    pub rules: IssuerRules,
    /// Its keys.
    pub keys: Option<Arc<IssuerKeys>>,
}

/// Whether a secret can be nothing but a signed token: three parts, the first of which is a JSON object in base64url.
pub(super) fn is_token(secret: &[u8]) -> bool {
    secret.starts_with(b"eyJ") && secret.split(|byte| *byte == b'.').count() == 3
}

/// Checks a token. `issuers` are all that there are: the token's own `iss` says whose it must be, and only that one's
/// keys count.
pub(super) fn verify(
    issuers: &[Issuer],
    name: &UserName,
    token: &[u8],
    now_us: i64,
) -> Result<Asserted, LoginRefusal> {
    let (rules, claims) = proven(issuers, token, None, now_us, &mut nobody)?;
    let asserted = claims::read(rules, &claims, now_us, &mut nobody)?;
    if !claims::is_named(rules, name, &asserted) {
        return Err(LoginRefusal::Name);
    }
    Ok(asserted)
}

/// A sign-in that an issuer was asked for, and now answers with an ID token.
#[derive(Clone, Copy, Debug)]
pub struct SignIn<'a> {
    /// The URL of the issuer that was asked. No other's token is an answer.
    pub issuer: &'a str,
    /// The client that asked: the token must be meant for it.
    pub client: &'a str,
    /// What was sent along, for the token to repeat.
    pub nonce: &'a str,
}

/// Checks the ID token that answers a sign-in. It is a person, whatever the issuer's tokens are at a database login.
pub(super) fn verify_sign_in(
    issuers: &[Issuer],
    sign_in: &SignIn<'_>,
    token: &[u8],
    now_us: i64,
) -> Result<Asserted, LoginRefusal> {
    let client = [sign_in.client.to_owned()];
    let (rules, claims) = proven(issuers, token, Some(&client), now_us, &mut nobody)?;
    let is_answer = claims::answers(&claims, sign_in.client, sign_in.nonce);
    if rules.issuer != sign_in.issuer || !is_answer {
        return Err(LoginRefusal::Proof);
    }
    let asserted = claims::read(rules, &claims, now_us, &mut nobody)?;
    Ok(Asserted { kind: PrincipalKind::Human, ..asserted })
}

/// Who a token says it is, and where each of its groups comes from.
#[derive(Debug)]
pub(super) struct Explained {
    pub(super) asserted: Asserted,
    /// Each group, and why it is one.
    pub(super) origins: Vec<(String, String)>,
    /// The groups that it lists and no rule takes.
    pub(super) left_out: Vec<String>,
}

/// What [`verify`] finds, and why; `name`: as who the client would log in, if that is asked.
pub(super) fn explain(
    issuers: &[Issuer],
    name: Option<&UserName>,
    token: &[u8],
    now_us: i64,
    told: Told<'_>,
) -> Result<Explained, LoginRefusal> {
    let (rules, claims) = proven(issuers, token, None, now_us, told)?;
    let asserted = claims::read(rules, &claims, now_us, told)?;
    if let Some(name) = name {
        let (asked, subject) = (Short(&name.identity), Short(&asserted.subject));
        told("name", format_args!("{asked} is {subject}, or of aliases {:?}", rules.aliases));
        if !claims::is_named(rules, name, &asserted) {
            return Err(LoginRefusal::Name);
        }
    }
    let listed = claims::listed(rules, &claims)?;
    let counted = groups::counted(&rules.group_names, &listed).ok_or(LoginRefusal::Claims)?;
    let claim = rules.groups.as_deref().unwrap_or_default();
    let origin = |group: &groups::Counted<'_>| {
        let by = group
            .rule
            .map_or("as it is called".to_owned(), |rule| format!("by group_names {rule:?}"));
        (group.ours.to_owned(), format!("claim {claim} lists {:?}, {by}", group.listed))
    };
    let origins = counted.iter().map(origin).collect();
    let left_out = groups::left_out(&rules.group_names, &listed).map(str::to_owned).collect();
    Ok(Explained { asserted, origins, left_out })
}

/// The claims of a token that one of the issuers signed, for one of these audiences (none: those of its rules). Times are
/// not checked yet.
fn proven<'i>(
    issuers: &'i [Issuer],
    token: &[u8],
    audiences: Option<&[String]>,
    now_us: i64,
    told: Told<'_>,
) -> Result<(&'i IssuerRules, Map<String, Value>), LoginRefusal> {
    told("form", format_args!("a signed token, of {MAX_TOKEN} bytes at the most"));
    if token.len() > MAX_TOKEN {
        return Err(LoginRefusal::Proof);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| LoginRefusal::Proof)?;
    told("header", format_args!("brings no key, and does not say where one is"));
    // What would have us take a key from the token, or from where it says (RFC 8725, 3.10).
    if header.jku.is_some() || header.x5u.is_some() || header.jwk.is_some() || header.x5c.is_some()
    {
        return Err(LoginRefusal::Proof);
    }
    let unproven: Map<String, Value> =
        jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| LoginRefusal::Proof)?;
    let says = unproven.get("iss").and_then(Value::as_str).ok_or(LoginRefusal::Proof)?;
    told("issuer", format_args!("iss {} is one of [[issuers]]", Short(says)));
    let mut all = issuers.iter().enumerate();
    let (at, Issuer { rules, keys }) =
        all.find(|(_, issuer)| issuer.rules.issuer == says).ok_or(LoginRefusal::Proof)?;
    told("algorithm", format_args!("{:?} is one of {:?}", header.alg, rules.algorithms));
    if !rules.allows(header.alg) {
        return Err(LoginRefusal::Proof);
    }
    told("keys", format_args!("the issuer's were fetched, and are no older than keep_keys_s"));
    let Some(keys) = keys else { return Err(LoginRefusal::Key(at)) };
    if keys.until_us <= now_us {
        return Err(LoginRefusal::Key(at));
    }
    let kid = header.kid.as_deref().unwrap_or("(none)");
    told("key", format_args!("kid {} is among them", Short(kid)));
    let Some(key) = keys.find(&header) else { return Err(LoginRefusal::Key(at)) };
    told("signature", format_args!("by that key"));
    let audiences = audiences.unwrap_or(&rules.audiences);
    let validation = rules.validation(header.alg, audiences);
    let proven = jsonwebtoken::decode::<Map<String, Value>>(token, &key.public, &validation);
    // (The signature is looked at before any claim is.)
    if proven.as_ref().err().is_none_or(is_of_claims) {
        let aud = ShortJson(unproven.get("aud").unwrap_or(&Value::Null));
        told("audience", format_args!("of aud, {aud}, one is of {audiences:?}"));
    }
    Ok((rules, proven.map_err(|_| LoginRefusal::Proof)?.claims))
}

/// Whether it is a claim that is not as it must be.
fn is_of_claims(error: &jsonwebtoken::errors::Error) -> bool {
    use jsonwebtoken::errors::ErrorKind::{InvalidAudience, InvalidIssuer, MissingRequiredClaim};
    matches!(error.kind(), InvalidAudience | InvalidIssuer | MissingRequiredClaim(_))
}

impl IssuerRules {
    fn allows(&self, algorithm: Algorithm) -> bool {
        let mut listed = self.algorithms.iter().filter_map(|name| name.parse::<Algorithm>().ok());
        algorithm.family() != AlgorithmFamily::Hmac && listed.any(|listed| listed == algorithm)
    }

    /// Times are checked by [`claims::read`], with the time that this crate is given.
    fn validation(&self, algorithm: Algorithm, audiences: &[String]) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(audiences);
        validation.validate_exp = false;
        validation
    }
}
