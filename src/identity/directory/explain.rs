//! What the directory makes of a secret or of a name, and why. It asks what a login asks, in the same order.

use super::super::explain::Short;
use super::super::{Explanation, LoginRefusal, UserName, is_identity, issuer};
use super::{Directory, Entry, MAX_LIVE_TOKENS, Source, Verifier};
use crate::identity::MAX_LIVE_PASSWORDS;
use crate::secret::{self, Secret};

impl Directory {
    /// What a secret is worth; `user`: as who it would log in, if that is asked. An issuer's key that is not there is told
    /// by its place, so that it can be fetched.
    pub fn explain(
        &self,
        secret: &Secret,
        user: Option<&str>,
        now_us: i64,
    ) -> (Explanation, Option<LoginRefusal>) {
        let mut found = Explanation::new("nothing that is known here".to_owned());
        let refused = self.look_at(&mut found, secret, user, now_us).err();
        if let Some(refusal) = refused {
            found.fail(refusal.label());
        }
        (found, refused)
    }

    fn look_at(
        &self,
        found: &mut Explanation,
        secret: &Secret,
        user: Option<&str>,
        now_us: i64,
    ) -> Result<(), LoginRefusal> {
        let name = match user {
            None => None,
            Some(user) => {
                found.note("user", format_args!("{} can be a user name", Short(user)));
                Some(UserName::parse(user).ok_or(LoginRefusal::Unknown)?)
            }
        };
        if issuer::is_token(secret.expose()) {
            return self.look_at_token(found, name.as_ref(), secret, now_us);
        }
        found.note("secret", format_args!("is a gateway's token or a session password"));
        let verifier = Verifier::of(secret.expose());
        let mut entries = self.tokens.values().chain(self.passwords.values()).flatten();
        let same = |entry: &&Entry| secret::equal(&entry.verifier.sha256, &verifier.sha256);
        let entry = entries.find(same).ok_or(LoginRefusal::Proof)?;
        self.look_at_entry(found, entry, name.as_ref(), now_us)
    }

    fn look_at_token(
        &self,
        found: &mut Explanation,
        name: Option<&UserName>,
        secret: &Secret,
        now_us: i64,
    ) -> Result<(), LoginRefusal> {
        let told = &mut |of, must: std::fmt::Arguments<'_>| found.note(of, must);
        let said = issuer::explain(&self.issuers, name, secret.expose(), now_us, told)?;
        found.by = format!("issuer {}", said.asserted.issuer);
        found.kind = Some(said.asserted.kind);
        found.expires_us = Some(said.asserted.expires_us);
        found.left_out = said.left_out;
        for (group, from) in said.origins {
            found.add_group(&group, from);
        }
        self.identified(found, &said.asserted.subject)
    }

    fn look_at_entry(
        &self,
        found: &mut Explanation,
        entry: &Entry,
        name: Option<&UserName>,
        now_us: i64,
    ) -> Result<(), LoginRefusal> {
        let principal = &entry.principal;
        let (by, conferred) = match &entry.pass.source {
            Source::Password(id) => (format!("session password {id}"), "the sign-in conferred it"),
            Source::Token(id) => (format!("token {id}"), "the token confers it"),
            Source::Issuer(url) | Source::Certificate(url) => (url.clone(), "it confers it"),
        };
        found.by = by;
        if let Some(name) = name {
            let (asked, whose) = (Short(&name.identity), Short(&principal.subject));
            found.note("name", format_args!("{asked} is {whose}, whose it is"));
            if name.identity != principal.subject {
                return Err(LoginRefusal::Proof);
            }
        }
        entry.check(now_us, &mut |of, must| found.note(of, must))?;
        found.kind = Some(principal.kind);
        found.expires_us = entry.pass.expires_us;
        found.attributes.clone_from(&principal.attributes);
        found.limit(&entry.scope);
        for group in &principal.groups {
            found.add_group(group, conferred.to_owned());
        }
        self.identified(found, &principal.subject)
    }

    /// What counts of an identity, whichever way it comes.
    fn identified(&self, found: &mut Explanation, subject: &str) -> Result<(), LoginRefusal> {
        found.note("identity", format_args!("{} is not revoked", Short(subject)));
        found.subject = Some(subject.to_owned());
        if self.revoked.contains(subject) {
            return Err(LoginRefusal::Revoked);
        }
        for group in self.members.get(subject).into_iter().flatten() {
            found.add_group(group, "[[groups]] lists it as a member".to_owned());
        }
        Ok(())
    }

    /// Everything by which somebody could log in under this name, but for what only an issuer knows.
    pub fn explain_name(&self, name: &str, now_us: i64) -> Vec<Explanation> {
        let entries = |all: &std::collections::HashMap<String, Vec<Entry>>, most: usize| {
            let of_name = all.get(name).into_iter().flatten().take(most);
            of_name
                .map(|entry| explained(|found| self.look_at_entry(found, entry, None, now_us)))
                .collect::<Vec<_>>()
        };
        let mut ways = entries(&self.tokens, MAX_LIVE_TOKENS);
        ways.extend(entries(&self.passwords, MAX_LIVE_PASSWORDS));
        let rules = self.certificates.iter().filter(|rule| rule.can_name(name));
        ways.extend(rules.map(|rule| {
            explained(|found| {
                found.by = format!("a certificate, by the rule {:?}", rule.pattern);
                found.kind = Some(rule.principal);
                for group in &rule.groups {
                    found.add_group(group, "the rule of [[certificates]] confers it".to_owned());
                }
                self.identified(found, name)
            })
        }));
        if is_identity(name) {
            ways.extend(self.issuers.iter().map(|issuer| {
                explained(|found| {
                    found.by =
                        format!("issuer {}, whose tokens tell their groups", issuer.rules.issuer);
                    found.kind = Some(issuer.rules.kind);
                    self.identified(found, name)
                })
            }));
        }
        ways
    }
}

/// One way to be let in, as it was looked at.
fn explained(look: impl FnOnce(&mut Explanation) -> Result<(), LoginRefusal>) -> Explanation {
    let mut found = Explanation::default();
    if let Err(refusal) = look(&mut found) {
        found.fail(refusal.label());
    }
    found
}
