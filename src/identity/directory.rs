//! Who may log in, by name; and the check of a proof against the verifiers kept for that name.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

use super::certificate::{Certificate, CertificateRule};
use super::issuer::{self, Issuer, SignIn};
use super::pass::{Pass, PassEnd, Source};
use super::{Principal, PrincipalKind, Scope, UserName, sorted};
use crate::secret::{self, Secret};

/// At most so many verifiers of one name are tried, so that a login costs a bounded time: more tokens than this can't be
/// live at once.
pub const MAX_LIVE_TOKENS: usize = 16;

/// What is kept of a token: enough for both challenge-response plugins, useless as a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    /// SHA256(SHA256(token)), for caching_sha2_password's fast path.
    pub sha256: [u8; 32],
    /// SHA1(SHA1(token)), for mysql_native_password.
    pub sha1: [u8; 20],
}

impl Verifier {
    /// The verifier of a token.
    pub fn of(token: &[u8]) -> Self {
        Self { sha256: sha256(&[&sha256(&[token])]), sha1: sha1(&[&sha1(&[token])]) }
    }

    /// Whether `proof` was made with the token that this verifier was made of.
    fn accepts(&self, proof: &Proof) -> bool {
        match proof {
            Proof::Native { scramble, response } => {
                let Ok(response) = <[u8; 20]>::try_from(response.as_slice()) else { return false };
                let mask = sha1(&[scramble, &self.sha1]);
                secret::equal(&sha1(&[&xor(response, mask)]), &self.sha1)
            }
            Proof::CachingSha2 { scramble, response } => {
                let Ok(response) = <[u8; 32]>::try_from(response.as_slice()) else { return false };
                let mask = sha256(&[&self.sha256, scramble]);
                secret::equal(&sha256(&[&xor(response, mask)]), &self.sha256)
            }
            Proof::Clear(token) => secret::equal(&Self::of(token.expose()).sha256, &self.sha256),
        }
    }
}

/// A proof of identity as a login carried it.
#[derive(Clone, Debug)]
pub enum Proof {
    /// mysql_native_password: 20 bytes over this scramble.
    Native {
        /// The challenge.
        scramble: [u8; 20],
        /// The answer.
        response: Vec<u8>,
    },
    /// caching_sha2_password's fast path: 32 bytes over this scramble.
    CachingSha2 {
        /// The challenge.
        scramble: [u8; 20],
        /// The answer.
        response: Vec<u8>,
    },
    /// The secret itself, which came inside TLS.
    Clear(Secret),
}

/// A token as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its public id.
    pub id: String,
    /// Whose it is.
    pub identity: String,
    /// What kind of principal that is.
    pub kind: PrincipalKind,
    /// The groups it confers.
    pub groups: Vec<String>,
    /// Where it is good.
    pub scope: Scope,
    /// The check.
    pub verifier: Verifier,
    /// Microseconds since the epoch.
    pub expires_us: Option<i64>,
    /// Revoked tokens stay, so that the record can tell why a login failed.
    pub revoked: bool,
}

/// Why a login was refused: for the record and the metrics, never for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoginRefusal {
    /// No such identity, or a malformed user name.
    Unknown,
    /// The proof is wrong.
    Proof,
    /// The token has expired.
    Expired,
    /// The token, or whose it is, was revoked.
    Revoked,
    /// The token is not for this target, or not from there.
    Scope,
    /// The issuer at this place has no key by which the token could be checked, or none that is fresh enough.
    Key(usize),
    /// The user name is not that of the token's subject.
    Name,
    /// The token's claims don't say who it is, or in a form that is not understood.
    Claims,
}

impl LoginRefusal {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Proof => "proof",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Scope => "scope",
            Self::Key(_) => "key",
            Self::Name => "name",
            Self::Claims => "claims",
        }
    }
}

/// A login as it is checked.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The whole user name.
    pub user: &'a str,
    /// What came as the password.
    pub proof: &'a Proof,
    /// The client's certificate, which TLS has verified.
    pub certificate: Option<&'a Certificate>,
    /// The name of the target.
    pub target: &'a str,
    /// The client's own address, also behind a balancer; none: it came by a Unix socket.
    pub address: Option<IpAddr>,
}

/// Everyone who may log in. Immutable; a change makes another.
#[derive(Debug)]
pub struct Directory {
    tokens: HashMap<String, Vec<Entry>>,
    issuers: Vec<Issuer>,
    certificates: Vec<CertificateRule>,
    /// Identities that may not log in, whichever way.
    revoked: HashSet<String>,
    /// Tried for unknown names, so that they cost what known ones do.
    decoy: Verifier,
}

/// A token, and what its logins share: thousands of sessions of one agent hold it once.
#[derive(Debug)]
struct Entry {
    record: TokenRecord,
    principal: Arc<Principal>,
    pass: Arc<Pass>,
}

impl Entry {
    fn new(record: TokenRecord) -> Self {
        let principal = Principal {
            subject: record.identity.clone(),
            kind: record.kind,
            groups: sorted(record.groups.clone()),
            attributes: BTreeMap::new(),
        };
        let pass = Pass {
            identity: record.identity.clone(),
            source: Source::Token(record.id.as_str().into()),
            expires_us: record.expires_us,
        };
        Self { record, principal: Arc::new(principal), pass: Arc::new(pass) }
    }

    /// Who logs in under this name with it.
    fn principal(&self, name: UserName) -> Arc<Principal> {
        if name.attributes.is_empty() {
            return Arc::clone(&self.principal);
        }
        Arc::new(Principal { attributes: name.attributes, ..Principal::clone(&self.principal) })
    }
}

impl Directory {
    /// A directory of these tokens, of whom these issuers vouch for, and of whose certificates are whose; but for the
    /// `revoked` identities.
    pub fn new(
        records: Vec<TokenRecord>,
        issuers: Vec<Issuer>,
        certificates: Vec<CertificateRule>,
        revoked: HashSet<String>,
    ) -> Self {
        let mut tokens: HashMap<String, Vec<Entry>> = HashMap::new();
        for record in records {
            tokens.entry(record.identity.clone()).or_default().push(Entry::new(record));
        }
        for of_one in tokens.values_mut() {
            // Live ones first, then those that ended last: the bounded number of tries is for them.
            of_one.sort_by_key(|Entry { record, .. }| {
                (record.revoked, Reverse(record.expires_us.unwrap_or(i64::MAX)))
            });
        }
        Self { tokens, issuers, certificates, revoked, decoy: Verifier::of(b"nobody holds this") }
    }

    /// Checks a login; who it is, and what that rests on. `now_us`: the wall clock.
    pub fn admit(
        &self,
        attempt: &Attempt<'_>,
        now_us: i64,
    ) -> Result<(Arc<Principal>, Arc<Pass>), LoginRefusal> {
        let (principal, pass) = self.identify(attempt, now_us)?;
        // Last, and by who it is: an issuer's token and an alias name the identity otherwise than the user name does.
        if self.revoked.contains(&principal.subject) {
            return Err(LoginRefusal::Revoked);
        }
        Ok((principal, pass))
    }

    /// A certificate that is the identity's by a rule is proof enough.
    fn identify(
        &self,
        attempt: &Attempt<'_>,
        now_us: i64,
    ) -> Result<(Arc<Principal>, Arc<Pass>), LoginRefusal> {
        let Attempt { user, proof, certificate, target, address } = *attempt;
        let name = UserName::parse(user);
        if let (Some(name), Some(certificate)) = (&name, certificate)
            && let Some(rule) = certificate.is_of(&self.certificates, &name.identity, now_us)
        {
            return Ok(certified(name, rule, certificate));
        }
        if let Proof::Clear(secret) = proof
            && issuer::is_token(secret.expose())
        {
            let name = name.ok_or(LoginRefusal::Unknown)?;
            return self.asserted(name, secret, now_us);
        }
        let known = name.as_ref().and_then(|name| self.tokens.get(&name.identity));
        let (Some(name), Some(entries)) = (name, known) else {
            let _ = self.decoy.accepts(proof);
            return Err(LoginRefusal::Unknown);
        };
        let mut tried = entries.iter().take(MAX_LIVE_TOKENS);
        let entry =
            tried.find(|entry| entry.record.verifier.accepts(proof)).ok_or(LoginRefusal::Proof)?;
        if entry.record.revoked {
            return Err(LoginRefusal::Revoked);
        }
        if entry.pass.has_expired(now_us) {
            return Err(LoginRefusal::Expired);
        }
        if !entry.record.scope.covers(target, address) {
            return Err(LoginRefusal::Scope);
        }
        Ok((entry.principal(name), Arc::clone(&entry.pass)))
    }

    /// Checks a token that an issuer signed.
    fn asserted(
        &self,
        name: UserName,
        token: &Secret,
        now_us: i64,
    ) -> Result<(Arc<Principal>, Arc<Pass>), LoginRefusal> {
        let asserted = issuer::verify(&self.issuers, &name, token.expose(), now_us)?;
        let pass = Pass {
            identity: asserted.subject.clone(),
            source: Source::Issuer(asserted.issuer),
            expires_us: Some(asserted.expires_us),
        };
        let principal = Principal {
            subject: asserted.subject,
            kind: asserted.kind,
            groups: asserted.groups,
            attributes: name.attributes,
        };
        Ok((Arc::new(principal), Arc::new(pass)))
    }

    /// Who signs in to the pages, by the issuer's answer.
    pub fn signed_in(
        &self,
        sign_in: &SignIn<'_>,
        token: &Secret,
        now_us: i64,
    ) -> Result<Principal, LoginRefusal> {
        let asserted = issuer::verify_sign_in(&self.issuers, sign_in, token.expose(), now_us)?;
        if self.revoked.contains(&asserted.subject) {
            return Err(LoginRefusal::Revoked);
        }
        Ok(Principal {
            subject: asserted.subject,
            kind: asserted.kind,
            groups: asserted.groups,
            attributes: BTreeMap::new(),
        })
    }

    /// What a session got in with, as it is now, for a token may end sooner than it was to; or why it counts no more.
    pub fn renewed(&self, pass: &Arc<Pass>) -> Result<Arc<Pass>, PassEnd> {
        if self.revoked.contains(&pass.identity) {
            return Err(PassEnd::Revoked);
        }
        let holds = match &pass.source {
            Source::Token(id) => {
                let mut entries = self.tokens.get(&pass.identity).into_iter().flatten();
                let live = entries.find(|entry| *entry.record.id == **id && !entry.record.revoked);
                return live.map(|entry| Arc::clone(&entry.pass)).ok_or(PassEnd::Revoked);
            }
            Source::Certificate(pattern) => {
                self.certificates.iter().any(|rule| rule.pattern == *pattern)
            }
            Source::Issuer(url) => self.issuers.iter().any(|issuer| issuer.rules.issuer == *url),
        };
        if holds { Ok(Arc::clone(pass)) } else { Err(PassEnd::Withdrawn) }
    }

    /// Whether a token of an issuer can be a login.
    pub fn has_issuers(&self) -> bool {
        !self.issuers.is_empty()
    }
}

/// Whose certificate it is.
fn certified(
    name: &UserName,
    rule: &CertificateRule,
    certificate: &Certificate,
) -> (Arc<Principal>, Arc<Pass>) {
    let pass = Pass {
        identity: name.identity.clone(),
        source: Source::Certificate(rule.pattern.clone()),
        expires_us: Some(certificate.ends_us()),
    };
    let principal = Principal {
        subject: name.identity.clone(),
        kind: rule.principal,
        groups: rule.groups.clone(),
        attributes: name.attributes.clone(),
    };
    (Arc::new(principal), Arc::new(pass))
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let joined = parts.concat();
    let mut out = [0; 20];
    out.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, &joined).as_ref());
    out
}

fn xor<const N: usize>(mut a: [u8; N], b: [u8; N]) -> [u8; N] {
    a.iter_mut().zip(b).for_each(|(a, b)| *a ^= b);
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAMBLE: [u8; 20] = *b"abcdefghijklmnopqrst";

    fn record(identity: &str, token: &[u8]) -> TokenRecord {
        TokenRecord {
            id: "tok_1".into(),
            identity: identity.into(),
            kind: PrincipalKind::Agent,
            groups: vec!["b".into(), "a".into(), "b".into()],
            scope: Scope::default(),
            verifier: Verifier::of(token),
            expires_us: None,
            revoked: false,
        }
    }

    fn of(records: Vec<TokenRecord>) -> Directory {
        Directory::new(records, vec![], vec![], HashSet::new())
    }

    fn attempt<'a>(user: &'a str, proof: &'a Proof) -> Attempt<'a> {
        let address = Some([10, 0, 0, 1].into());
        Attempt { user, proof, certificate: None, target: "shop", address }
    }

    fn native(token: &[u8]) -> Proof {
        let stage1 = sha1(&[token]);
        let response = xor(stage1, sha1(&[&SCRAMBLE, &sha1(&[&stage1])]));
        Proof::Native { scramble: SCRAMBLE, response: response.to_vec() }
    }

    fn sha2(token: &[u8]) -> Proof {
        let stage1 = sha256(&[token]);
        let response = xor(stage1, sha256(&[&sha256(&[&stage1]), &SCRAMBLE]));
        Proof::CachingSha2 { scramble: SCRAMBLE, response: response.to_vec() }
    }

    #[test]
    fn every_way_in() {
        let directory = of(vec![record("bot", b"old"), record("bot", b"new")]);
        for token in [b"old", b"new"] {
            for proof in [native(token), sha2(token), Proof::Clear(Secret::new(token.to_vec()))] {
                let principal = directory.admit(&attempt("bot;run=7", &proof), 0).unwrap().0;
                assert_eq!(principal.groups, ["a", "b"]);
                assert_eq!(principal.attributes["run"], "7");
            }
        }
    }

    #[test]
    fn a_pass_holds_as_long_as_its_token() {
        let mut token = record("bot", b"t");
        token.expires_us = Some(10);
        let proof = native(b"t");
        let (_, pass) = of(vec![token.clone()]).admit(&attempt("bot;run=7", &proof), 0).unwrap();
        assert!(!pass.has_expired(9) && pass.has_expired(10));
        let other = TokenRecord { id: "tok_2".into(), ..token.clone() };
        assert_eq!(of(vec![other.clone(), token.clone()]).renewed(&pass), Ok(pass.clone()));
        assert_eq!(of(vec![other]).renewed(&pass), Err(PassEnd::Revoked));
        // One that was rotated ends sooner than its sessions were told.
        token.expires_us = Some(5);
        let renewed = of(vec![token.clone()]).renewed(&pass).unwrap();
        assert!(!renewed.has_expired(4) && renewed.has_expired(5));
        let revoked = HashSet::from(["bot".to_owned()]);
        let without = Directory::new(vec![token.clone()], vec![], vec![], revoked);
        assert_eq!(without.renewed(&pass), Err(PassEnd::Revoked));
        let refused = without.admit(&attempt("bot;run=7", &proof), 0).unwrap_err();
        assert_eq!(refused, LoginRefusal::Revoked);
        token.revoked = true;
        assert_eq!(of(vec![token]).renewed(&pass), Err(PassEnd::Revoked));
    }

    #[test]
    fn a_scope_is_looked_at_behind_the_proof() {
        let mut near = record("bot", b"near");
        near.scope.targets = vec!["shop".into()];
        near.scope.networks = vec!["10.0.0.0/8".parse().unwrap()];
        let directory = of(vec![near, record("bot", b"wide")]);
        let check = |token: &[u8], target, address: Option<&str>| {
            let proof = sha2(token);
            let address = address.map(|address| address.parse().unwrap());
            let attempt = Attempt { target, address, ..attempt("bot", &proof) };
            directory.admit(&attempt, 0).map(drop)
        };
        assert_eq!(check(b"near", "shop", Some("10.9.9.9")), Ok(()));
        assert_eq!(check(b"near", "crm", Some("10.9.9.9")), Err(LoginRefusal::Scope));
        assert_eq!(check(b"near", "shop", Some("11.0.0.1")), Err(LoginRefusal::Scope));
        assert_eq!(check(b"near", "shop", None), Err(LoginRefusal::Scope));
        assert_eq!(check(b"wide", "crm", None), Ok(()));
        assert_eq!(check(b"wrong", "crm", None), Err(LoginRefusal::Proof));
    }

    /// However many have ended, what is live is tried.
    #[test]
    fn what_ended_keeps_nobody_out() {
        let tokens = (0..40_u8).map(|at| {
            let mut token = record("bot", &[at]);
            token.expires_us = Some(i64::from(at));
            token.revoked = at % 2 == 1;
            token
        });
        let directory = of(tokens.collect());
        let check = |at: u8, now_us| directory.admit(&attempt("bot", &native(&[at])), now_us);
        assert!(check(38, 37).is_ok());
        assert_eq!(check(36, 37).unwrap_err(), LoginRefusal::Expired);
    }

    #[test]
    fn refusals() {
        let mut expired = record("late", b"t");
        expired.expires_us = Some(10);
        let mut revoked = record("gone", b"t");
        revoked.revoked = true;
        let directory = of(vec![record("bot", b"t"), expired, revoked]);
        let check =
            |user: &str, proof: Proof| directory.admit(&attempt(user, &proof), 10).unwrap_err();
        assert_eq!(check("bot", native(b"x")), LoginRefusal::Proof);
        assert_eq!(check("bot", sha2(b"x")), LoginRefusal::Proof);
        assert_eq!(check("nobody", sha2(b"t")), LoginRefusal::Unknown);
        assert_eq!(check("late", sha2(b"t")), LoginRefusal::Expired);
        assert_eq!(check("gone", native(b"t")), LoginRefusal::Revoked);
        let short = Proof::Native { scramble: SCRAMBLE, response: vec![] };
        assert_eq!(check("bot", short), LoginRefusal::Proof);
    }
}
