//! One statement's verdict: what it needs to be allowed, asked of Cedar one by one, and the answers put
//! together. Deny beats hold, hold beats allow, and whatever is not understood is a deny.

use std::sync::Arc;

use cedar_policy::{Context, Decision, Entities, EntityUid, PolicyId};

use super::policies::{Loaded, Policies};
use super::questions::{Question, questions};
use super::rule::Rule;
use super::vocabulary::{Action, CedarFault, column_context, column_name, statement_context};
use super::{Effect, Hold, MaskPlan, MaskSpec, MaskedColumn, Request, Verdict};
use crate::identity::Principal;
use crate::schema::LabelSet;
use crate::sql::{ColumnRef, ColumnUse, Lineage, Output, Place};

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
    fn passthrough(&self, principal: &Principal, target: &str) -> Option<String> {
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
        let request = cedar_policy::Request::new(
            self.vocabulary.principal(principal),
            self.action(Action::Passthrough)?,
            self.vocabulary.target(target),
            Context::empty(),
            None,
        )?;
        let entities = self.vocabulary.two(principal, target)?;
        let response = self.authorizer.is_authorized(&request, &self.all, &entities);
        // Errors, and permits of everything that don't say @passthrough, leave it governed.
        let clean = response.diagnostics().errors().next().is_none();
        if response.decision() != Decision::Allow || !clean {
            return Ok(None);
        }
        let rules = response.diagnostics().reason().filter_map(|id| self.rule(id));
        Ok(rules.filter(|rule| rule.passthrough).map(|rule| rule.id.clone()).min())
    }

    fn rule(&self, id: &PolicyId) -> Option<&Rule> {
        self.rules.get(id).map(|Loaded { rule, .. }| rule)
    }

    fn action(&self, action: Action) -> Result<EntityUid, CedarFault> {
        self.vocabulary.action(action).ok_or_else(|| "the schema lacks an action".into())
    }
}

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

/// What Cedar says to one question.
enum Answer {
    /// Ids of the permits.
    Permitted(Vec<String>),
    /// No permit, no forbid.
    Unmentioned,
    /// The forbids.
    Forbidden(Vec<PolicyId>),
}

/// One statement being decided.
struct Case<'a> {
    policies: &'a Policies,
    request: &'a Request<'a>,
    principal: EntityUid,
    entities: Entities,
    context: Context,
    rules: Vec<String>,
    holds: Vec<&'a Rule>,
}

impl<'a> Case<'a> {
    /// Asks about a table or the target.
    fn ask(&mut self, question: &Question<'_>) -> Result<(), Refusal> {
        let vocabulary = &self.policies.vocabulary;
        let resource = match question.table {
            Some(table) => vocabulary.table(table),
            None => vocabulary.target(self.request.target),
        };
        let context = self.context.clone();
        self.demand(question.action, &resource, &context, || {
            let (who, what) = (&self.request.principal.subject, question.action.as_str());
            let message = format!(
                "no policy permits {who} to {what} on {resource}; use another statement, or ask for a permit"
            );
            Refusal::new("default-deny", message)
        })
        .map(|step| self.take(step))
    }

    /// Asks for every labelled column that is used where a mask can't help, or written to.
    fn ask_columns(&mut self) -> Result<(), Refusal> {
        let facts = &self.request.analysis.facts;
        let verb = facts.verb.as_str();
        for ColumnUse { column, place } in labelled(&facts.uses, |used| &used.column) {
            if self.reveal(column)? == Reveal::Clear {
                continue;
            }
            let place_name = place_name(*place);
            let context = column_context(self.request, &[("place", place_name), ("verb", verb)])?;
            let resource = self.policies.vocabulary.column(column);
            let step = self.demand(Action::Use, &resource, &context, || {
                Refusal::new("masked-use", masked_use(column, *place))
            })?;
            self.take(step);
        }
        for column in labelled(&facts.assigned, |column| column) {
            let context = column_context(self.request, &[("verb", verb)])?;
            let resource = self.policies.vocabulary.column(column);
            let step = self.demand(Action::Assign, &resource, &context, || {
                let name = column_name(column);
                let message = format!("no policy permits you to write to {name}; leave it out");
                Refusal::new("default-deny", message)
            })?;
            self.take(step);
        }
        Ok(())
    }

    /// The plan for the result's columns; `None` where nothing is masked.
    fn mask_outputs(&mut self) -> Result<Option<Arc<MaskPlan>>, Refusal> {
        let Some(outputs) = &self.request.analysis.facts.outputs else { return Ok(None) };
        let mut columns = Vec::new();
        for (index, output) in outputs.iter().enumerate() {
            let Some((mask, rule)) = self.mask_output(output)? else { continue };
            let index = u16::try_from(index)
                .map_err(|_| Refusal::new("analysis", "a result of more than 65535 columns"))?;
            let labels: LabelSet = output.lineage.labels();
            let names = self.request.labels.names(labels);
            self.rules.push(rule.clone());
            columns.push(MaskedColumn {
                index,
                may_keep: mask.may_keep(),
                mask,
                labels,
                label_names: names.into_iter().map(str::to_owned).collect(),
                rule,
            });
        }
        if columns.is_empty() {
            return Ok(None);
        }
        let outputs = outputs.iter().map(|output| output.name.clone()).collect();
        Ok(Some(Arc::new(MaskPlan { columns, outputs })))
    }

    /// The mask on one output and the rule that asked for it: the strictest of its columns' masks where the
    /// values stand as they are, total redaction where anything was computed of them.
    fn mask_output(&mut self, output: &Output) -> Result<Option<(MaskSpec, String)>, Refusal> {
        let mut strictest: Option<(MaskSpec, String)> = None;
        for column in labelled(output.lineage.columns(), |column| column) {
            match self.reveal(column)? {
                Reveal::Clear => {}
                Reveal::Refused(refusal) => return Err(refusal),
                Reveal::Held(ids) => {
                    let policies = self.policies;
                    self.holds.extend(ids.iter().filter_map(|id| policies.rule(id)));
                }
                Reveal::Masked(mask, rule) => {
                    strictest = Some(match strictest {
                        Some(known) => stricter(known, (mask, rule)),
                        None => (mask, rule),
                    });
                }
            }
        }
        Ok(strictest.map(|(mask, rule)| match output.lineage {
            Lineage::Computed(_) => (MaskSpec::redact(), rule),
            _ => (mask, rule),
        }))
    }

    /// What this column shows to this principal, from the memo or from Cedar.
    fn reveal(&self, column: &ColumnRef) -> Result<Reveal, Refusal> {
        if self.policies.reads_time {
            return self.ask_reveal(column);
        }
        let labels = column.labels.0.to_string();
        let name = column_name(column);
        let more = [self.request.target, self.request.source, name.as_str(), labels.as_str()];
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
    fn demand(
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

    fn take(&mut self, step: Step<'a>) {
        match step {
            Step::Permitted(rules) => self.rules.extend(rules),
            Step::Held(rules) => self.holds.extend(rules),
        }
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

    /// Allow, or one hold that satisfies every rule that asked for one.
    fn effect(&mut self) -> Result<Effect, Refusal> {
        self.holds.sort_by(|a, b| a.id.cmp(&b.id));
        self.holds.dedup_by(|a, b| a.id == b.id);
        let Some(first) = self.holds.first() else { return Ok(Effect::Allow) };
        let mut hold = Hold {
            rule: first.id.clone(),
            message: String::new(),
            approver_groups: Vec::new(),
            approvers: 1,
        };
        let mut texts: Vec<&str> = Vec::new();
        for rule in &self.holds {
            if !texts.contains(&rule.text()) {
                texts.push(rule.text());
            }
            let Some(approve) = &rule.approve else { continue };
            hold.approvers = hold.approvers.max(approve.approvers);
            hold.approver_groups =
                both(&hold.approver_groups, &approve.groups).ok_or_else(|| {
                    let message = format!(
                        "rules {} and {} ask for approvers of different groups; split the statement",
                        first.id, rule.id
                    );
                    Refusal::new("approval-conflict", message)
                })?;
        }
        hold.message = texts.join("; ");
        self.rules = self.holds.iter().map(|rule| rule.id.clone()).collect();
        Ok(Effect::Hold(hold))
    }
}

/// A permission obtained, or to be obtained from people.
enum Step<'a> {
    Permitted(Vec<String>),
    Held(Vec<&'a Rule>),
}

/// The groups that satisfy both demands; an empty list is the default approvers', so it adds no demand of its
/// own to a list that names some.
fn both(a: &[String], b: &[String]) -> Option<Vec<String>> {
    if a.is_empty() || b.is_empty() {
        return Some(if a.is_empty() { b.to_vec() } else { a.to_vec() });
    }
    let common: Vec<String> = a.iter().filter(|group| b.contains(group)).cloned().collect();
    (!common.is_empty()).then_some(common)
}

fn stricter(a: (MaskSpec, String), b: (MaskSpec, String)) -> (MaskSpec, String) {
    let mask = a.0.clone().stricter(b.0.clone());
    let rule = if mask == b.0 && mask != a.0 { b.1 } else { a.1 };
    (mask, rule)
}

fn labelled<T>(all: &[T], column: impl Fn(&T) -> &ColumnRef) -> impl Iterator<Item = &T> {
    all.iter().filter(move |item| !column(item).labels.is_empty())
}

/// A memo's key: the whole principal and what else the answer depends on, so joined that no two are alike.
fn key(principal: &Principal, more: &[&str]) -> String {
    let mut key = String::new();
    let mut part = |text: &str| {
        key.push_str(&text.len().to_string());
        key.push(':');
        key.push_str(text);
    };
    part(&principal.subject);
    part(principal.kind.as_str());
    part(&principal.groups.len().to_string());
    principal.groups.iter().for_each(|group| part(group));
    part(&principal.attributes.len().to_string());
    for (name, value) in &principal.attributes {
        part(name);
        part(value);
    }
    more.iter().for_each(|text| part(text));
    key
}

fn place_name(place: Place) -> &'static str {
    match place {
        Place::Where => "where",
        Place::Join => "join",
        Place::Group => "group",
        Place::Having => "having",
        Place::Order => "order",
        Place::Distinct => "distinct",
        Place::Subquery => "subquery",
        Place::Expression => "expression",
        Place::Source => "source",
        Place::Other => "other",
    }
}

fn masked_use(column: &ColumnRef, place: Place) -> String {
    let name = column_name(column);
    let what = match place {
        Place::Where => "in WHERE",
        Place::Join => "to join",
        Place::Group => "to group",
        Place::Having => "in HAVING",
        Place::Order => "to order",
        Place::Distinct => "with DISTINCT, UNION or another operation that compares rows",
        Place::Subquery => "in a subquery",
        Place::Expression => "in a computation",
        Place::Source => "as the source of a written value",
        Place::Other => "in this place",
    };
    format!(
        "{name} is masked for you and can't be used {what}, which would tell its values; leave it out there \
         (it can be selected as it stands)"
    )
}
