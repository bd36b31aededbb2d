//! Who may log in, by name; and the check of a proof against the verifiers kept for that name.

mod explain;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

use super::certificate::{Certificate, CertificateRule};
use super::issuer::{self, Issuer, SignIn};
use super::pass::{Pass, PassEnd, Source};
use super::password::{MAX_LIVE_PASSWORDS, PasswordRecord};
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
    passwords: HashMap<String, Vec<Entry>>,
    issuers: Vec<Issuer>,
    certificates: Vec<CertificateRule>,
    /// The groups that the configuration puts identities in, whichever way they come.
    members: HashMap<String, Vec<String>>,
    /// Identities that may not log in, whichever way.
    revoked: HashSet<String>,
    /// Tried for unknown names, so that they cost what known ones do.
    decoy: Verifier,
}

/// A token or a session password, and what its logins share: thousands of sessions of one agent hold it once.
#[derive(Debug)]
struct Entry {
    scope: Scope,
    verifier: Verifier,
    revoked: bool,
    principal: Arc<Principal>,
    pass: Arc<Pass>,
}

impl Entry {
    fn of_token(record: TokenRecord) -> Self {
        let TokenRecord { id, identity, kind, groups, scope, verifier, expires_us, revoked } =
            record;
        let source = Source::Token(id.into());
        let pass = Pass { identity: identity.clone(), source, expires_us };
        let groups = sorted(groups);
        let principal = Principal { subject: identity, kind, groups, attributes: BTreeMap::new() };
        Self { scope, verifier, revoked, principal: Arc::new(principal), pass: Arc::new(pass) }
    }

    fn of_password(record: PasswordRecord) -> Self {
        let PasswordRecord { id, identity, kind, groups, attributes, .. } = record;
        let PasswordRecord { scope, verifier, expires_us, revoked, .. } = record;
        let source = Source::Password(id.into());
        let pass = Pass { identity: identity.clone(), source, expires_us: Some(expires_us) };
        let principal = Principal { subject: identity, kind, groups: sorted(groups), attributes };
        Self { scope, verifier, revoked, principal: Arc::new(principal), pass: Arc::new(pass) }
    }

    /// Live ones first, then those that ended last: the bounded number of tries is for them.
    fn rank(&self) -> (bool, Reverse<i64>) {
        (self.revoked, Reverse(self.pass.expires_us.unwrap_or(i64::MAX)))
    }

    /// Whether it is good at this time. `told` hears of each check before it is made; nobody listens at a login.
    fn check(
        &self,
        now_us: i64,
        told: &mut dyn FnMut(&'static str, fmt::Arguments<'_>),
    ) -> Result<(), LoginRefusal> {
        told("revoked", format_args!("it is not"));
        if self.revoked {
            return Err(LoginRefusal::Revoked);
        }
        told("time", format_args!("it has not ended"));
        if self.pass.has_expired(now_us) {
            return Err(LoginRefusal::Expired);
        }
        Ok(())
    }

    /// Who logs in under this name with it.
    fn principal(&self, name: UserName) -> Arc<Principal> {
        if name.attributes.is_empty() {
            return Arc::clone(&self.principal);
        }
        // What it was made with is not the client's to change.
        let mut attributes = name.attributes;
        attributes.extend(self.principal.attributes.clone());
        Arc::new(Principal { attributes, ..Principal::clone(&self.principal) })
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
        let tokens = by_identity(records.into_iter().map(Entry::of_token));
        let (passwords, decoy) = (HashMap::new(), Verifier::of(b"nobody holds this"));
        let members = HashMap::new();
        Self { tokens, passwords, issuers, certificates, members, revoked, decoy }
    }

    /// The same with these groups for the identities of these names.
    #[must_use]
    pub fn with_members(self, members: HashMap<String, Vec<String>>) -> Self {
        Self { members, ..self }
    }

    /// The same with these session passwords.
    #[must_use]
    pub fn with_passwords(self, records: Vec<PasswordRecord>) -> Self {
        let passwords = by_identity(records.into_iter().map(Entry::of_password));
        Self { passwords, ..self }
    }

    /// Checks a login; who it is, and what that rests on. `now_us`: the wall clock.
    pub fn admit(
        &self,
        attempt: &Attempt<'_>,
        now_us: i64,
    ) -> Result<(Arc<Principal>, Arc<Pass>), LoginRefusal> {
        let (principal, pass) = self.identify(attempt, now_us)?;
        // Last, and by who it is: an issuer's token and an alias name the identity otherwise than the user name does.
        Ok((self.welcome(principal)?, pass))
    }

    /// What counts of an identity, whichever way it comes: it is not revoked, and is in its groups of the configuration.
    pub fn welcome(&self, mut principal: Arc<Principal>) -> Result<Arc<Principal>, LoginRefusal> {
        if self.revoked.contains(&principal.subject) {
            return Err(LoginRefusal::Revoked);
        }
        if let Some(groups) = self.members.get(&principal.subject) {
            let principal = Arc::make_mut(&mut principal);
            principal.groups.extend(groups.iter().cloned());
            principal.groups.sort();
            principal.groups.dedup();
        }
        Ok(principal)
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
        let entry = self.held(name.as_ref(), proof)?;
        let name = name.ok_or(LoginRefusal::Unknown)?;
        entry.check(now_us, &mut |_, _| {})?;
        if !entry.scope.covers(target, address) {
            return Err(LoginRefusal::Scope);
        }
        Ok((entry.principal(name), Arc::clone(&entry.pass)))
    }

    /// The token or session password that this proves.
    fn held(&self, name: Option<&UserName>, proof: &Proof) -> Result<&Entry, LoginRefusal> {
        let tokens = name.and_then(|name| self.tokens.get(&name.identity));
        let passwords = name.and_then(|name| self.passwords.get(&name.identity));
        if tokens.is_none() && passwords.is_none() {
            let _ = self.decoy.accepts(proof);
            return Err(LoginRefusal::Unknown);
        }
        let passwords = passwords.into_iter().flatten().take(MAX_LIVE_PASSWORDS);
        let mut tried = tokens.into_iter().flatten().take(MAX_LIVE_TOKENS).chain(passwords);
        tried.find(|entry| entry.verifier.accepts(proof)).ok_or(LoginRefusal::Proof)
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
        let principal = Principal {
            subject: asserted.subject,
            kind: asserted.kind,
            groups: asserted.groups,
            attributes: BTreeMap::new(),
        };
        self.welcome(Arc::new(principal)).map(Arc::unwrap_or_clone)
    }

    /// What a session got in with, as it is now, for a token may end sooner than it was to; or why it counts no more.
    pub fn renewed(&self, pass: &Arc<Pass>) -> Result<Arc<Pass>, PassEnd> {
        if self.revoked.contains(&pass.identity) {
            return Err(PassEnd::Revoked);
        }
        let of = |entries: &HashMap<String, Vec<Entry>>| {
            let mut of_one = entries.get(&pass.identity).into_iter().flatten();
            let entry = of_one.find(|entry| entry.pass.source == pass.source);
            entry.map(|entry| (Arc::clone(&entry.pass), entry.revoked))
        };
        let holds = match &pass.source {
            Source::Token(_) => {
                let live = of(&self.tokens).filter(|(_, revoked)| !revoked);
                return live.map(|(pass, _)| pass).ok_or(PassEnd::Revoked);
            }
            // Revoked ones are kept until they would have expired: one that is gone has expired long since, and a statement
            // that still runs may finish.
            Source::Password(_) => {
                let (pass, revoked) = of(&self.passwords).ok_or(PassEnd::Withdrawn)?;
                return if revoked { Err(PassEnd::Revoked) } else { Ok(pass) };
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

fn by_identity(entries: impl Iterator<Item = Entry>) -> HashMap<String, Vec<Entry>> {
    let mut all: HashMap<String, Vec<Entry>> = HashMap::new();
    for entry in entries {
        all.entry(entry.principal.subject.clone()).or_default().push(entry);
    }
    all.values_mut().for_each(|of_one| of_one.sort_by_key(Entry::rank));
    all
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

    /// The configuration's groups come to those of whatever vouches; nobody else gets them.
    #[test]
    fn members_are_in_their_groups_whoever_vouches() {
        let members = [("bot".to_owned(), vec!["dba".to_owned(), "a".to_owned()])];
        let directory =
            of(vec![record("bot", b"t"), record("bob", b"t")]).with_members(members.into());
        let groups = |user: &str| {
            directory.admit(&attempt(user, &native(b"t")), 0).unwrap().0.groups.clone()
        };
        assert_eq!(groups("bot"), ["a", "b", "dba"]);
        assert_eq!(groups("bot;run=7"), ["a", "b", "dba"]);
        assert_eq!(groups("bob"), ["a", "b"]);
        let person = |subject: &str| Principal {
            subject: subject.into(),
            kind: PrincipalKind::Human,
            groups: vec![],
            attributes: BTreeMap::new(),
        };
        assert_eq!(directory.welcome(Arc::new(person("bot"))).unwrap().groups, ["a", "dba"]);
        assert_eq!(directory.welcome(Arc::new(person("Bot"))).unwrap().groups, [""; 0]);
    }

    /// What a secret or a name is worth is told as a login would find it.
    #[test]
    fn what_is_explained_is_what_a_login_finds() {
        let mut late = record("bot", b"late");
        (late.id, late.expires_us) = ("tok_late".into(), Some(10));
        let mut gone = record("bot", b"gone");
        (gone.id, gone.revoked) = ("tok_gone".into(), true);
        let directory = of(vec![record("bot", b"t"), late, gone]);
        let explain = |token: &[u8], user: Option<&str>| {
            let secret = Secret::new(token.to_vec());
            let (found, refused) = directory.explain(&secret, user, 10);
            let last = found.checks.last().map_or("", |check| check.of.as_str()).to_owned();
            (found.by, last, refused)
        };
        let refused = |by: &str, last: &str, why| (by.to_owned(), last.to_owned(), Some(why));
        let good = ("token tok_1".to_owned(), "identity".to_owned(), None);
        assert_eq!(explain(b"t", None), good);
        assert_eq!(explain(b"t", Some("bot;run=7")), good);
        assert_eq!(explain(b"t", Some("ann")), refused("token tok_1", "name", LoginRefusal::Proof));
        let late = refused("token tok_late", "time", LoginRefusal::Expired);
        assert_eq!(explain(b"late", None), late);
        let gone = refused("token tok_gone", "revoked", LoginRefusal::Revoked);
        assert_eq!(explain(b"gone", None), gone);
        let nothing = "nothing that is known here";
        assert_eq!(explain(b"x", None), refused(nothing, "secret", LoginRefusal::Proof));
        assert_eq!(explain(b"t", Some(";")), refused(nothing, "user", LoginRefusal::Unknown));
        let ways = directory.explain_name("bot", 10);
        let said: Vec<_> =
            ways.iter().map(|way| (way.by.as_str(), way.refused.as_deref())).collect();
        let expected = [
            ("token tok_1", None),
            ("token tok_late", Some("expired")),
            ("token tok_gone", Some("revoked")),
        ];
        assert_eq!(said, expected);
        assert_eq!(directory.explain_name("ann", 10), []);
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

    fn password(id: &str, text: &[u8], expires_us: i64) -> PasswordRecord {
        PasswordRecord {
            id: id.into(),
            identity: "ann".into(),
            kind: PrincipalKind::Human,
            groups: vec!["support".into()],
            attributes: BTreeMap::from([("by".into(), "web".into())]),
            scope: Scope::default(),
            verifier: Verifier::of(text),
            expires_us,
            revoked: false,
        }
    }

    #[test]
    fn a_session_password_is_a_login_until_it_ends() {
        let mut over = password("pwd_2", b"over", 3);
        over.scope.targets = vec!["crm".into()];
        let records = vec![password("pwd_1", b"one", 10), over.clone()];
        let directory = of(vec![record("ann", b"tok")]).with_passwords(records.clone());
        let check = |directory: &Directory, user: &str, text: &[u8], now_us| {
            let all = [native(text), sha2(text), Proof::Clear(Secret::new(text.to_vec()))];
            let mut found = all.map(|proof| directory.admit(&attempt(user, &proof), now_us));
            assert!(found.windows(2).all(|two| two[0] == two[1]));
            std::mem::replace(&mut found[0], Err(LoginRefusal::Unknown))
        };
        let (principal, pass) = check(&directory, "ann;run=7;by=me", b"one", 9).unwrap();
        assert_eq!((principal.kind, &principal.groups[0][..]), (PrincipalKind::Human, "support"));
        assert_eq!(
            (&principal.attributes["run"][..], &principal.attributes["by"][..]),
            ("7", "web")
        );
        assert_eq!(check(&directory, "ann", b"one", 10), Err(LoginRefusal::Expired));
        assert_eq!(check(&directory, "ann", b"over", 2), Err(LoginRefusal::Scope));
        assert_eq!(check(&directory, "bob", b"one", 2), Err(LoginRefusal::Unknown));
        assert_eq!(check(&directory, "ann", b"two", 2), Err(LoginRefusal::Proof));
        assert!(check(&directory, "ann", b"tok", 2).is_ok(), "a token beside it");

        assert_eq!(directory.renewed(&pass), Ok(pass.clone()));
        let swept = of(vec![]).with_passwords(vec![over.clone()]);
        assert_eq!(swept.renewed(&pass), Err(PassEnd::Withdrawn), "a running statement may finish");
        let mut revoked = records;
        revoked[0].revoked = true;
        let without = of(vec![]).with_passwords(revoked);
        assert_eq!(without.renewed(&pass), Err(PassEnd::Revoked));
        assert_eq!(check(&without, "ann", b"one", 9), Err(LoginRefusal::Revoked));
    }

    /// However many have ended, what is live is tried, and no more than a bounded number are.
    #[test]
    fn live_passwords_are_tried_first() {
        let mut all: Vec<_> = (0..40_u8).map(|n| password("pwd_old", &[b'o', n], 5)).collect();
        let live = 0..u8::try_from(MAX_LIVE_PASSWORDS).unwrap();
        all.extend(live.clone().map(|n| password("pwd_new", &[b'n', n], 50)));
        let directory = of(vec![]).with_passwords(all);
        for n in live {
            let proof = native(&[b'n', n]);
            assert!(directory.admit(&attempt("ann", &proof), 9).is_ok());
        }
        let proof = native(b"o\0");
        let refused = directory.admit(&attempt("ann", &proof), 2).unwrap_err();
        assert_eq!(refused, LoginRefusal::Proof, "beyond the bound");
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
