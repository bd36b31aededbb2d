//! What is asked about a target alone, beside statements, and permitted by name only: a permit of everything is a permit
//! of statements.

use super::Request;
use super::decide::Refusal;
use super::policies::Policies;
use super::rule::SPEAKS_FOR;
use super::vocabulary::{Action, CedarFault, target_context};
use crate::identity::{Principal, is_identity};
use crate::run::Names;

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The identity.
    pub principal: &'a Principal,
    /// The target's name.
    pub target: &'a str,
    /// The client's address.
    pub source: &'a str,
    /// Microseconds since 1970.
    pub now_us: i64,
}

impl Policies {
    /// The id of the permit by which this command of the protocol, by the manual's name, is passed on. The governed have
    /// none: what it brings back is not analysed, so nothing of it could be masked.
    pub fn permits_command(&self, asker: Asker<'_>, command: &str) -> Option<String> {
        if self.governed(asker.principal, asker.target) {
            return None;
        }
        self.permit(asker, Action::Command, ("command", command))
    }

    /// The id of the permit by which the database finishes a statement of this kind whose client is gone.
    pub fn permits_finish(&self, asker: Asker<'_>, verb: &str) -> Option<String> {
        self.permit(asker, Action::Finish, ("verb", verb))
    }

    /// What of all that is said of a statement's run a verdict may depend on.
    pub fn heeds(&self) -> Names {
        self.reads_run.and(Names::ON_BEHALF_OF)
    }

    /// The id of the permit by which whoever asks may say that a statement is on behalf of this person.
    pub(super) fn speaks_for(
        &self,
        request: &Request<'_>,
        person: &str,
    ) -> Result<String, Refusal> {
        let Request { principal, target, source, now_us, .. } = *request;
        if !is_identity(person) {
            let why = "what on_behalf_of says is no name of an identity";
            return Err(Refusal::new(SPEAKS_FOR, why));
        }
        let asker = Asker { principal, target, source, now_us };
        self.permit(asker, Action::OnBehalfOf, ("person", person)).ok_or_else(|| {
            let who = &principal.subject;
            let why = format!(
                "no policy permits {who} to speak for {person}; leave on_behalf_of out, or ask for a permit"
            );
            Refusal::new(SPEAKS_FOR, why)
        })
    }

    fn permit(&self, asker: Asker<'_>, action: Action, more: (&str, &str)) -> Option<String> {
        let ask = || -> Result<Option<String>, CedarFault> {
            let context = target_context(more, asker.source, asker.now_us)?;
            self.permit_by_name(asker.principal, action, asker.target, context)
        };
        ask().unwrap_or_else(|fault| {
            tracing::error!(error = %fault, "a permit could not be asked for, so there is none");
            None
        })
    }
}
