//! The check of a login, its record, and the cost of failing.

use std::net::IpAddr;

use super::idle::Past;
use super::waits::until_ended;
use super::{Pump, Stop};
use crate::fault::{Fault, FaultKind};
use crate::identity::{Attempt, Certificate, LoginRefusal, Pass, PassEnd, Principal, Use};
use crate::net::acceptor::THIS_MACHINE;
use crate::net::control::End;
use crate::net::tls;
use crate::record::Event;
use crate::run::Run;
use crate::session::Login;
use std::sync::Arc;

/// Longest name that goes into the record of a failed login, and back to the client: what MySQL's own clients send at most.
const MAX_RECORDED_NAME: usize = 96;

/// Who logs in, what that rests on, and by which snapshot.
type Verified = Result<(Arc<Principal>, Arc<Pass>, u64), LoginRefusal>;

/// The record's name of the verified certificate's fingerprint.
const CERTIFICATE: &str = "tls_client_certificate";

impl Pump {
    /// Answers [`crate::session::Op::Authenticate`].
    pub(super) async fn authenticate(&mut self, login: Login) -> Result<(), Stop> {
        let shared = Arc::clone(&self.worker.shared);
        // (Where nothing is bound, nothing is released that would forget it.)
        self.past = Past::default();
        let verified = if shared.rate.allows(self.counted_as(), self.now) {
            self.verify(&login).await?.map_err(LoginRefusal::label)
        } else {
            Err("limit")
        };
        // A client whose hash is not that of a token may be asked for the secret itself: that one counts, or that it
        // never comes.
        self.asked_again = None;
        let answer = match verified {
            Ok((principal, pass, serial)) => {
                self.control.admitted(Arc::clone(&pass), serial);
                let admitted = self.admit(&login, principal);
                if admitted.is_ok() {
                    shared.uses.note(&pass, Use { at_us: self.now.wall_us, from: self.address });
                }
                admitted
            }
            Err("limit") => {
                if shared.rate.is_first_refusal(self.counted_as(), self.now) {
                    self.record_refused(&login.user, "limit");
                } else {
                    self.worker.metrics().login_refused("limit");
                }
                Err(Fault { kind: FaultKind::Limit, ..self.denied(&login.user) })
            }
            Err(_) if login.asks_again => {
                let refused = self.denied(&login.user);
                self.asked_again = Some(login.user.into());
                Err(refused)
            }
            Err(reason) => {
                let (delay, by) = shared.rate.failed(self.counted_as(), &login.user, self.now);
                self.record_refused(&login.user, reason);
                self.worker.metrics().login_delayed(by);
                until_ended(&self.control, monoio::time::sleep(delay)).await?;
                self.now = self.worker.now();
                Err(self.denied(&login.user))
            }
        };
        self.session.on_authenticated(answer);
        Ok(())
    }

    /// Checks a login; where its issuer's keys lack the one that its token names, once they were fetched again.
    async fn verify(&mut self, login: &Login) -> Result<Verified, Stop> {
        let verified = self.verify_now(login);
        let Err(LoginRefusal::Key(issuer)) = verified else { return Ok(verified) };
        let fetched = self.worker.shared.keys.refresh(issuer);
        until_ended(&self.control, fetched).await?;
        self.now = self.worker.now();
        Ok(self.verify_now(login))
    }

    fn verify_now(&self, login: &Login) -> Verified {
        let shown = self.client.client_certificate();
        let shown = shown.and_then(|certificate| Certificate::parse(certificate));
        self.worker.with_snapshot(|snapshot| {
            let attempt = Attempt {
                user: &login.user,
                proof: &login.proof,
                certificate: shown.as_ref(),
                target: &self.target.runtime.name,
                address: self.address,
            };
            let admitted = snapshot.directory.admit(&attempt, self.now.wall_us);
            admitted.map(|(principal, pass)| (principal, pass, snapshot.serial))
        })
    }

    /// Why the login counts no more, if it does not.
    pub(super) fn no_longer_admitted(&self) -> Option<Fault> {
        if self.target.is_removed() {
            return Some(Fault::target_removed());
        }
        match self.worker.with_snapshot(|snapshot| self.control.still_admitted(snapshot)) {
            Err(PassEnd::Revoked) => Some(Fault::revoked()),
            Err(PassEnd::Withdrawn) => Some(Fault::login_ended()),
            Ok(()) => self.control.has_expired(self.now.wall_us).then(Fault::login_ended),
        }
    }

    /// Records a session that begins. One that can't be recorded does not begin.
    fn admit(&mut self, login: &Login, principal: Arc<Principal>) -> Result<Arc<Principal>, Fault> {
        let own = principal.attributes.iter().map(|(key, value)| (key.clone(), value.clone()));
        let mut attributes: Vec<_> = own.chain(login.attributes.iter().cloned()).collect();
        // The user name, which has no room, says `run`.
        let name = |key| if key == "run" { "run_id" } else { key };
        let said = attributes.iter().map(|(key, value)| (name(key.as_str()), value.as_str()));
        self.said = said.collect::<Run<'_>>().keep();
        // What a client says of itself under this name is not what was verified.
        attributes.retain(|(key, _)| key != CERTIFICATE);
        let shown = self.client.client_certificate().map(tls::fingerprint);
        attributes.extend(shown.map(|fingerprint| (CERTIFICATE.to_owned(), fingerprint)));
        let opened = Event::SessionOpened {
            session: self.id,
            at_us: self.now.wall_us,
            identity: &principal.subject,
            groups: &principal.groups,
            target: &self.target.runtime.name,
            source: self.cell.source(),
            attributes: &attributes,
        };
        self.worker.record(&opened).map_err(|why| Fault::audit(&why.to_string()))?;
        self.recorded_open = true;
        // The database that a login chooses is ruled on as a statement is: it came now.
        self.current.arrived(self.now);
        self.unproven = None;
        self.control.in_time();
        self.cell.logged_in(&principal);
        self.worker.metrics().login_ok();
        tracing::debug!(session = self.id, identity = principal.subject, "logged in");
        Ok(principal)
    }

    /// Counts a connection that ended before there was a proof to look at.
    pub(super) fn never_proved(&self, stop: &Stop) {
        let reason = match stop {
            Stop::Ended(End::LoginTimeout) => "timeout",
            Stop::Closed(Some(FaultKind::Protocol)) => "malformed",
            Stop::Closed(Some(FaultKind::Unsupported)) => "charset",
            Stop::Closed(Some(FaultKind::Login)) => "tls",
            _ => return,
        };
        if self.unproven.is_some() && !self.denied && self.asked_again.is_none() {
            self.worker.metrics().login_refused(reason);
        }
    }

    /// A client that was told that its hash is wrong, and then left, has failed as well.
    pub(super) fn never_answered(&mut self) {
        if let Some(user) = self.asked_again.take() {
            let _ = self.worker.shared.rate.failed(self.counted_as(), &user, self.now);
            self.record_refused(&user, "proof");
        }
    }

    /// Under which address its failures are counted.
    fn counted_as(&self) -> IpAddr {
        self.address.unwrap_or(THIS_MACHINE)
    }

    /// The one error for all; a name longer than any is not echoed in full.
    fn denied(&mut self, user: &str) -> Fault {
        self.denied = true;
        Fault::access_denied(recorded(user), self.cell.source())
    }

    fn record_refused(&self, user: &str, reason: &'static str) {
        let refused = Event::LoginRefused {
            at_us: self.now.wall_us,
            user: recorded(user),
            target: &self.target.runtime.name,
            source: self.cell.source(),
            reason,
        };
        // The login is refused either way; a record that is full shows in the metrics.
        let _ = self.worker.record(&refused);
        self.worker.metrics().login_refused(reason);
        tracing::info!(source = self.cell.source(), reason, "a login was refused");
    }
}

fn recorded(user: &str) -> &str {
    &user[..user.floor_char_boundary(MAX_RECORDED_NAME)]
}
