//! One statement's verdict: what it needs to be allowed, asked one by one, and the answers put together. Deny
//! beats hold, hold beats allow, and whatever is not understood is a deny.

use std::sync::Arc;

use cedar_policy::{Context, Decision, EntityUid, PolicyId};

use super::case::Case;
use super::policies::{Loaded, Policies};
use super::questions::questions;
use super::rule::Rule;
use super::shown::Shown;
use super::vocabulary::{Action, CedarFault, statement_context};
use super::{Effect, MaskPlan, Request, Verdict};
use crate::identity::Principal;

/// Answers kept for each of the two memos: (identities × labelled columns) of a busy gateway, some MiB.
pub(super) const MAX_MEMO: usize = 8_192;

impl Policies {
    /// Whether the strict measures apply: all but to who has a permit with `@passthrough` on this target.
    pub fn governed(&self, principal: &Principal, target: &str) -> bool {
        self.passthrough(principal, target).is_none()
    }

    /// The verdict on one statement.
    pub fn decide(&self, request: &Request<'_>) -> Verdict {
        let passthrough = self.passthrough(request.principal, request.target);
        let governed = passthrough.is_none();
        let speaks = request.run.on_behalf_of().map(|person| self.speaks_for(request, person));
        let cacheable = !self.reads_time || (!governed && speaks.is_none());
        let (permit, passed) = match (speaks.transpose(), passthrough) {
            // What is claimed in the record must be true, whoever claims it and whatever the statement is.
            (Err(refusal), _) => (None, Err(refusal)),
            (Ok(permit), Some(rule)) => (permit, Ok(Passed::by(Effect::Allow, rule))),
            (Ok(permit), None) => {
                let request = &Request { run: request.run.only(self.reads_run), ..*request };
                (permit, self.judge(request))
            }
        };
        let passed = passed.unwrap_or_else(|Refusal { rule, message }| {
            Passed::by(Effect::Deny { rule: rule.clone(), message }, rule)
        });
        let Passed { effect, mut rules, mask, shown } = passed;
        rules.extend(permit);
        rules.sort_unstable();
        rules.dedup();
        let records_rows = self.records_rows(request.principal, request.target);
        Verdict { effect, rules, mask, shown: shown.into(), governed, cacheable, records_rows }
    }

    fn judge(&self, request: &Request<'_>) -> Result<Passed, Refusal> {
        let analysis = request.analysis;
        if let Some(unknown) = &analysis.unknown {
            return Err(Refusal::new("analysis", unknown.to_string()));
        }
        let questions = questions(&analysis.facts, &analysis.digest_text)?;
        let mut case = Case {
            policies: self,
            request,
            principal: self.vocabulary.principal(request.principal),
            entities: self.vocabulary.entities(request)?,
            context: statement_context(request)?,
            rules: Vec::new(),
            holds: Vec::new(),
            shown: Vec::new(),
        };
        for question in &questions {
            case.ask(question)?;
        }
        case.ask_columns()?;
        let mask = case.mask_outputs()?;
        if analysis.facts.explained && mask.is_some() {
            return Err(Refusal::new(
                "masked-explain",
                "a plan can quote values of masked columns; explain a statement that does not read them",
            ));
        }
        Ok(Passed { effect: case.effect()?, rules: case.rules, mask, shown: case.shown })
    }

    /// The id of the permit that makes this identity ungoverned.
    pub fn passthrough(&self, principal: &Principal, target: &str) -> Option<String> {
        self.standing_permit(principal, Action::Passthrough, target).unwrap_or_default()
    }

    /// Whether the rows that this identity sees are recorded. They are where that can't be evaluated: too much in the
    /// record is better than too little.
    fn records_rows(&self, principal: &Principal, target: &str) -> bool {
        let permit = self.standing_permit(principal, Action::RecordRows, target);
        permit.map_or(true, |rule| rule.is_some())
    }

    /// The id of the permit of exactly this action, which depends on nothing but who asks where.
    fn standing_permit(
        &self,
        principal: &Principal,
        action: Action,
        target: &str,
    ) -> Result<Option<String>, CedarFault> {
        let key = key(principal, &[action.as_str(), target]);
        let known = self.standing.read().ok().and_then(|memo| memo.get(&key).cloned());
        if let Some(known) = known {
            return Ok(known);
        }
        let answer = self.permit_by_name(principal, action, target, Context::empty())?;
        if let Ok(mut memo) = self.standing.write() {
            if memo.len() >= MAX_MEMO {
                memo.clear();
            }
            memo.insert(key, answer.clone());
        }
        Ok(answer)
    }

    /// The id of the permit, of exactly this action, that covers it.
    pub(super) fn permit_by_name(
        &self,
        principal: &Principal,
        action: Action,
        target: &str,
        context: Context,
    ) -> Result<Option<String>, CedarFault> {
        let request = cedar_policy::Request::new(
            self.vocabulary.principal(principal),
            self.action(action)?,
            self.vocabulary.target(target),
            context,
            None,
        )?;
        let entities = self.vocabulary.two(principal, target)?;
        let response = self.authorizer.is_authorized(&request, &self.all, &entities);
        // An error could be a forbid's, which Cedar then leaves out.
        let clean = response.diagnostics().errors().next().is_none();
        if response.decision() != Decision::Allow || !clean {
            return Ok(None);
        }
        let rules = response.diagnostics().reason().filter_map(|id| self.rule(id));
        Ok(rules.filter(|rule| rule.only == Some(action)).map(|rule| rule.id.clone()).min())
    }

    pub(super) fn rule(&self, id: &PolicyId) -> Option<&Rule> {
        self.rules.get(id).map(|Loaded { rule, .. }| rule)
    }

    pub(super) fn action(&self, action: Action) -> Result<EntityUid, CedarFault> {
        self.vocabulary.action(action).ok_or_else(|| "the schema lacks an action".into())
    }
}

/// A deny in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    rule: String,
    message: String,
}

impl Refusal {
    pub(super) fn new(rule: &str, message: impl Into<String>) -> Self {
        Self { rule: rule.to_owned(), message: message.into() }
    }
}

/// Cedar could not be asked. Its own text may quote values, so only the log gets it.
impl From<CedarFault> for Refusal {
    fn from(fault: CedarFault) -> Self {
        tracing::error!(error = %fault, "a decision failed, so the statement is denied");
        Self::new("cedar-error", "the policies could not be evaluated; tell the gateway's operator")
    }
}

/// What is not a deny.
struct Passed {
    effect: Effect,
    rules: Vec<String>,
    mask: Option<Arc<MaskPlan>>,
    shown: Vec<Shown>,
}

impl Passed {
    /// By one rule alone.
    fn by(effect: Effect, rule: String) -> Self {
        Self { effect, rules: vec![rule], mask: None, shown: Vec::new() }
    }
}

/// A memo's key: the whole principal and what else the answer depends on, so joined that no two are alike.
pub(super) fn key(principal: &Principal, more: &[&str]) -> String {
    let mut key = String::new();
    let mut part = |text: &str| {
        key.push_str(&text.len().to_string());
        key.push(':');
        key.push_str(text);
    };
    part(&principal.subject);
    part(principal.kind.as_str());
    part(&principal.groups.len().to_string());
    for group in &principal.groups {
        part(group);
    }
    part(&principal.attributes.len().to_string());
    for (name, value) in &principal.attributes {
        part(name);
        part(value);
    }
    for text in more {
        part(text);
    }
    key
}
