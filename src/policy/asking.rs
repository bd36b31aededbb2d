//! One question to Cedar, and what its answer means: permitted, unmentioned, or forbidden by these rules, which
//! may ask for a mask or for people.

use cedar_policy::{Context, Decision, EntityUid, PolicyId};

use super::MaskSpec;
use super::case::Case;
use super::decide::{MAX_MEMO, Refusal, key};
use super::rule::Rule;
use super::vocabulary::{Action, CedarFault, column_context, column_name};
use crate::sql::ColumnRef;

/// What a labelled column shows to someone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reveal {
    /// Its values.
    Clear,
    /// Its values under a mask, which this rule asked for.
    Masked(MaskSpec, String),
    /// Nothing: a forbid without a mask.
    Refused(Refusal),
    /// Its values, once people agree to these rules' demand.
    Held(Vec<PolicyId>),
}

/// A permission obtained, or to be obtained from people.
pub(super) enum Step<'a> {
    Permitted(Vec<String>),
    Held(Vec<&'a Rule>),
}

impl<'a> Case<'a> {
    /// What this column shows to this principal, from the memo or from Cedar.
    pub(super) fn reveal(&self, column: &ColumnRef) -> Result<Reveal, Refusal> {
        if self.policies.reads_time {
            return self.ask_reveal(column);
        }
        let labels = column.labels.0.to_string();
        let name = column_name(column);
        let mut more = vec![self.request.target, self.request.source, &name, &labels];
        more.extend(self.request.run.pairs().flat_map(|(name, value)| [name, value]));
        let key = key(self.request.principal, &more);
        if let Some(known) = self.policies.reveals.read().ok().and_then(|m| m.get(&key).cloned()) {
            return Ok(known);
        }
        let answer = self.ask_reveal(column)?;
        if let Ok(mut memo) = self.policies.reveals.write() {
            if memo.len() >= MAX_MEMO {
                memo.clear();
            }
            memo.insert(key, answer.clone());
        }
        Ok(answer)
    }

    fn ask_reveal(&self, column: &ColumnRef) -> Result<Reveal, Refusal> {
        let resource = self.policies.vocabulary.column(column);
        let context = column_context(self.request, &[])?;
        let by_default = || (MaskSpec::redact(), "default-redact".to_owned());
        let ids = match self.cedar(Action::Reveal, &resource, &context)? {
            Answer::Permitted(_) => return Ok(Reveal::Clear),
            Answer::Unmentioned => {
                let (mask, rule) = by_default();
                return Ok(Reveal::Masked(mask, rule));
            }
            Answer::Forbidden(ids) => ids,
        };
        let rules: Vec<&Rule> = ids.iter().filter_map(|id| self.policies.rule(id)).collect();
        let plain = rules.iter().find(|rule| rule.mask.is_none() && rule.approve.is_none());
        if let Some(rule) = plain {
            return Ok(Reveal::Refused(Refusal::new(&rule.id, rule.text())));
        }
        let masks = rules.iter().filter_map(|rule| Some((rule.mask.clone()?, rule.id.clone())));
        let strictest = masks.reduce(stricter);
        let needs_permit = strictest.as_ref().is_none_or(|(mask, _)| mask.is_detector());
        if needs_permit && !self.permitted(Action::Reveal, &resource, &context)? {
            let (mask, rule) = by_default();
            return Ok(Reveal::Masked(mask, rule));
        }
        Ok(match strictest {
            Some((mask, rule)) => Reveal::Masked(mask, rule),
            None => Reveal::Held(ids),
        })
    }

    /// A permission that the statement can't do without. `unmentioned` says why it fails by default.
    pub(super) fn demand(
        &self,
        action: Action,
        resource: &EntityUid,
        context: &Context,
        unmentioned: impl FnOnce() -> Refusal,
    ) -> Result<Step<'a>, Refusal> {
        let ids = match self.cedar(action, resource, context)? {
            Answer::Permitted(rules) => return Ok(Step::Permitted(rules)),
            Answer::Unmentioned => return Err(unmentioned()),
            Answer::Forbidden(ids) => ids,
        };
        let rules: Vec<&'a Rule> = ids.iter().filter_map(|id| self.policies.rule(id)).collect();
        if let Some(rule) = rules.iter().find(|rule| rule.approve.is_none()) {
            return Err(Refusal::new(&rule.id, rule.text()));
        }
        // An approval lifts the forbids that ask for it, not the default deny.
        if !self.permitted(action, resource, context)? {
            return Err(unmentioned());
        }
        Ok(Step::Held(rules))
    }

    /// Whether a permit covers it, forbids left aside.
    fn permitted(
        &self,
        action: Action,
        resource: &EntityUid,
        context: &Context,
    ) -> Result<bool, Refusal> {
        let request = self.cedar_request(action, resource, context)?;
        let policies = self.policies;
        let response =
            policies.authorizer.is_authorized(&request, &policies.permits, &self.entities);
        Ok(response.decision() == Decision::Allow)
    }

    /// Asks Cedar. A policy whose condition errs is skipped by Cedar, a forbid too, so that its answer would be
    /// more lenient than what was written: any error is a deny.
    fn cedar(
        &self,
        action: Action,
        resource: &EntityUid,
        context: &Context,
    ) -> Result<Answer, Refusal> {
        let request = self.cedar_request(action, resource, context)?;
        let policies = self.policies;
        let response = policies.authorizer.is_authorized(&request, &policies.all, &self.entities);
        if let Some(error) = response.diagnostics().errors().next() {
            return Err(CedarFault::from(error.to_string()).into());
        }
        let mut ids: Vec<PolicyId> = response.diagnostics().reason().cloned().collect();
        ids.sort_unstable_by(|a, b| {
            let (a, b): (&str, &str) = (a.as_ref(), b.as_ref());
            a.cmp(b)
        });
        Ok(match response.decision() {
            Decision::Allow => Answer::Permitted(ids.iter().map(ToString::to_string).collect()),
            Decision::Deny if ids.is_empty() => Answer::Unmentioned,
            Decision::Deny => Answer::Forbidden(ids),
        })
    }

    fn cedar_request(
        &self,
        action: Action,
        resource: &EntityUid,
        context: &Context,
    ) -> Result<cedar_policy::Request, Refusal> {
        let action = self.policies.action(action)?;
        // Checked against the schema where tests run; elsewhere a mismatch is an evaluation error, so a deny.
        let schema = cfg!(debug_assertions).then_some(&self.policies.vocabulary.schema);
        let (principal, resource) = (self.principal.clone(), resource.clone());
        let request =
            cedar_policy::Request::new(principal, action, resource, context.clone(), schema);
        request.map_err(|error| CedarFault::from(error).into())
    }
}

/// What Cedar says to one question.
enum Answer {
    /// Ids of the permits.
    Permitted(Vec<String>),
    /// No permit, no forbid.
    Unmentioned,
    /// The forbids.
    Forbidden(Vec<PolicyId>),
}

pub(super) fn stricter(a: (MaskSpec, String), b: (MaskSpec, String)) -> (MaskSpec, String) {
    let mask = a.0.clone().stricter(b.0.clone());
    let rule = if mask == b.0 && mask != a.0 { b.1 } else { a.1 };
    (mask, rule)
}
