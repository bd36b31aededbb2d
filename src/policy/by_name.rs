//! What is asked about a target alone, beside statements, and permitted by name only: a permit of everything is a permit
//! of statements.

use super::policies::Policies;
use super::vocabulary::{Action, CedarFault, target_context};
use crate::identity::Principal;

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
