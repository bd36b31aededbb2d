//! One statement's verdict: what it needs to be allowed, asked one by one, and the answers put together. Deny
//! beats hold, hold beats allow, and whatever is not understood is a deny.

use std::sync::Arc;

use cedar_policy::{Context, Decision, EntityUid, PolicyId};

use super::case::Case;
use super::policies::{Loaded, Policies};
use super::questions::questions;
use super::rule::Rule;
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
        if let Some(rule) = self.passthrough(request.principal, request.target) {
            let (effect, rules) = (Effect::Allow, vec![rule]);
            return Verdict { effect, rules, mask: None, governed: false, cacheable: true };
        }
        let verdict = |effect, mut rules: Vec<String>, mask| {
            rules.sort_unstable();
            rules.dedup();
            Verdict { effect, rules, mask, governed: true, cacheable: !self.reads_time }
        };
        match self.judge(request) {
            Ok(Passed { effect, rules, mask }) => verdict(effect, rules, mask),
            Err(Refusal { rule, message }) => {
                let rules = vec![rule.clone()];
                verdict(Effect::Deny { rule, message }, rules, None)
            }
        }
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
        Ok(Passed { effect: case.effect()?, rules: case.rules, mask })
    }

    /// The id of the permit that makes this identity ungoverned.
    pub fn passthrough(&self, principal: &Principal, target: &str) -> Option<String> {
        let key = key(principal, &[target]);
        if let Some(known) = self.passthroughs.read().ok().and_then(|memo| memo.get(&key).cloned())
        {
            return known;
        }
        let answer = self.ask_passthrough(principal, target).unwrap_or_default();
        if let Ok(mut memo) = self.passthroughs.write() {
            if memo.len() >= MAX_MEMO {
                memo.clear();
            }
            memo.insert(key, answer.clone());
        }
        answer
    }

    fn ask_passthrough(
        &self,
        principal: &Principal,
        target: &str,
    ) -> Result<Option<String>, CedarFault> {
        self.permit_by_name(principal, Action::Passthrough, target, Context::empty())
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
