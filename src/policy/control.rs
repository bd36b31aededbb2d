//! Who may do what with the gateway itself: sign in to its pages, approve, audit, administer.
//!
//! These rules stand in the same files as those on statements and are kept apart from them, so that neither decides the
//! other: a permit of every action is meant for the databases and makes nobody an administrator.

use cedar_policy::{ActionConstraint, Context, Decision, Policy};

use super::policies::Policies;
use super::vocabulary::CedarFault;
use super::{Effect, Request};
use crate::identity::Principal;
use crate::run::Run;
use crate::schema::Labels;
use crate::sql::{Analysis, Digest, Facts, Verb};

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlAction {
    /// To use the pages at all.
    SignIn,
    /// To see what waits for an approval, and to decide what one's groups may.
    Approve,
    /// To see who does what: sessions, tokens, identities.
    Audit,
    /// To change it: tokens, identities, sessions, targets.
    Administer,
}

impl ControlAction {
    /// Every action, in the order of the declaration.
    pub const ALL: [Self; 4] = [Self::SignIn, Self::Approve, Self::Audit, Self::Administer];

    /// The name in the schema.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignIn => "sign-in",
            Self::Approve => "approve",
            Self::Audit => "audit",
            Self::Administer => "administer",
        }
    }

    fn is_named(name: &str) -> bool {
        Self::ALL.into_iter().any(|action| action.as_str() == name)
    }
}

/// What a policy's scope says of these actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// It names nothing else.
    Only,
    /// It names some, and actions on data.
    Mixed,
    /// It names none, or nothing at all.
    None,
}

/// Reads a policy's scope.
pub(super) fn names(policy: &Policy) -> Names {
    let uids = match policy.action_constraint() {
        ActionConstraint::Any => return Names::None,
        ActionConstraint::Eq(uid) => vec![uid],
        ActionConstraint::In(uids) => uids,
    };
    let of_control = uids.iter().filter(|uid| ControlAction::is_named(uid.id().unescaped()));
    match of_control.count() {
        0 => Names::None,
        all if all == uids.len() => Names::Only,
        _ => Names::Mixed,
    }
}

impl Policies {
    /// Whether this principal may do that. What can't be evaluated is not allowed.
    pub fn may(&self, principal: &Principal, action: ControlAction) -> bool {
        self.ask_control(principal, action).unwrap_or_else(|fault| {
            tracing::error!(error = %fault, "a decision failed, so it is denied");
            false
        })
    }

    /// Whether this principal may do anything at all on a target: the least that a client asks there is `SELECT 1`.
    pub fn may_use(&self, principal: &Principal, target: &str, now_us: i64) -> bool {
        let analysis = Analysis {
            canonical: None,
            digest: Digest([0; 16]),
            digest_text: "SELECT ?".to_owned(),
            facts: Facts { verb: Verb::Select, ..Facts::default() },
            unknown: None,
        };
        let labels = Labels::default();
        let request = Request {
            principal,
            target,
            analysis: &analysis,
            labels: &labels,
            source: "web",
            now_us,
            run: Run::default(),
        };
        !matches!(self.decide(&request).effect, Effect::Deny { .. })
    }

    fn ask_control(
        &self,
        principal: &Principal,
        action: ControlAction,
    ) -> Result<bool, CedarFault> {
        let vocabulary = &self.vocabulary;
        let action = vocabulary.control_action(action).ok_or("the schema lacks an action")?;
        let (who, what) = (vocabulary.principal(principal), vocabulary.gateway());
        let request = cedar_policy::Request::new(who, action, what, Context::empty(), None)?;
        let entities = vocabulary.with_gateway(principal)?;
        let response = self.authorizer.is_authorized(&request, &self.control, &entities);
        let clean = response.diagnostics().errors().next().is_none();
        Ok(response.decision() == Decision::Allow && clean)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::identity::PrincipalKind;

    fn person(kind: PrincipalKind, groups: &[&str]) -> Principal {
        Principal {
            subject: "ann".into(),
            kind,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            attributes: BTreeMap::new(),
        }
    }

    fn may(policies: &Policies, groups: &[&str]) -> Vec<&'static str> {
        let ann = person(PrincipalKind::Human, groups);
        let all = ControlAction::ALL.into_iter();
        all.filter(|action| policies.may(&ann, *action)).map(ControlAction::as_str).collect()
    }

    #[test]
    fn the_default_bundles_roles() {
        let text = include_str!("../../policies/default.cedar");
        let policies = Policies::load(&[("default.cedar", text)]).unwrap();
        assert_eq!(may(&policies, &[]), ["sign-in"]);
        assert_eq!(may(&policies, &["approvers"]), ["sign-in", "approve"]);
        assert_eq!(may(&policies, &["auditors"]), ["sign-in", "audit"]);
        assert_eq!(may(&policies, &["admins"]), ["sign-in", "approve", "audit", "administer"]);
        // Whoever may do everything to the databases may change nothing here.
        assert_eq!(may(&policies, &["dba"]), ["sign-in"]);
        let bot = person(PrincipalKind::Agent, &["agents"]);
        assert!(!policies.may(&bot, ControlAction::SignIn));
    }

    #[test]
    fn who_may_use_a_target() {
        let text = include_str!("../../policies/default.cedar");
        let policies = Policies::load(&[("default.cedar", text)]).unwrap();
        let uses =
            |groups: &[&str]| policies.may_use(&person(PrincipalKind::Human, groups), "shop", 0);
        assert!(uses(&["agents"]) && uses(&["dba"]) && uses(&["dumpers"]));
        assert!(!uses(&[]) && !uses(&["admins"]));
    }

    #[test]
    fn a_forbid_of_everything_counts_here_too() {
        let text = r#"
            @id("all") permit (principal, action == Action::"sign-in", resource);
            @id("not") forbid (principal in Group::"out", action, resource);
        "#;
        let policies = Policies::load(&[("p.cedar", text)]).unwrap();
        assert_eq!(may(&policies, &[]), ["sign-in"]);
        assert_eq!(may(&policies, &["out"]), [""; 0]);
    }

    #[test]
    fn no_rule_lets_nobody_in() {
        let text = "@id(\"all\") permit (principal, action, resource);";
        let policies = Policies::load(&[("p.cedar", text)]).unwrap();
        assert_eq!(may(&policies, &["admins", "dba"]), [""; 0]);
    }

    #[test]
    fn a_policy_is_of_one_kind() {
        let text = r#"@id("both") permit (principal, action in [Action::"audit", Action::"select"], resource);"#;
        let error = Policies::load(&[("p.cedar", text)]).unwrap_err().to_string();
        assert!(error.contains("policy both: it names actions on the gateway"), "{error}");
        let text = r#"@id("held") @approve("dba") forbid (principal, action == Action::"audit", resource);"#;
        assert!(Policies::load(&[("p.cedar", text)]).is_err());
    }
}
