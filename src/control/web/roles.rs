//! What someone may do here, as Cedar says it now.

use crate::identity::Principal;
use crate::policy::{ControlAction, Policies};

/// What someone may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Decide approvals, of those that the groups may.
    pub approve: bool,
    /// See everything.
    pub audit: bool,
    /// Change it.
    pub administer: bool,
}

impl Roles {
    /// Those of this principal; `None` where it may not sign in at all.
    pub(super) fn of(policies: &Policies, principal: &Principal) -> Option<Self> {
        let may = |action| policies.may(principal, action);
        may(ControlAction::SignIn).then(|| {
            let administer = may(ControlAction::Administer);
            Self {
                approve: may(ControlAction::Approve),
                // Who changes things sees them.
                audit: administer || may(ControlAction::Audit),
                administer,
            }
        })
    }

    /// What they are called, for the page.
    pub(super) fn words(self) -> Vec<&'static str> {
        let all = [(self.administer, "admin"), (self.audit, "auditor"), (self.approve, "approver")];
        let mut words: Vec<_> = all.iter().filter(|(has, _)| *has).map(|(_, word)| *word).collect();
        words.push("user");
        words
    }
}
