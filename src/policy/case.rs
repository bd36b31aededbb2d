//! A statement being decided: its tables, its labelled columns and its result, asked for in turn, and what the
//! answers come to.

use std::sync::Arc;

use cedar_policy::{Context, Entities, EntityUid};

use super::asking::{Reveal, Step, stricter};
use super::decide::Refusal;
use super::policies::Policies;
use super::questions::Question;
use super::rule::Rule;
use super::shown::{Shown, WRITE_BACK, write_back};
use super::vocabulary::{Action, column_context, column_name};
use super::{Effect, Hold, MaskPlan, MaskSpec, MaskedColumn, Request};
use crate::schema::LabelSet;
use crate::sql::{Assigned, ColumnRef, ColumnUse, Lineage, NewValue, Output, Place};

/// One statement being decided.
pub(super) struct Case<'a> {
    pub(super) policies: &'a Policies,
    pub(super) request: &'a Request<'a>,
    pub(super) principal: EntityUid,
    pub(super) entities: Entities,
    pub(super) context: Context,
    pub(super) rules: Vec<String>,
    pub(super) holds: Vec<&'a Rule>,
    pub(super) shown: Vec<Shown>,
}

impl<'a> Case<'a> {
    /// Asks about a table or the target.
    pub(super) fn ask(&mut self, question: &Question<'_>) -> Result<(), Refusal> {
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
    pub(super) fn ask_columns(&mut self) -> Result<(), Refusal> {
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
        for assigned in labelled(&facts.assigned, |assigned| &assigned.column) {
            let column = &assigned.column;
            let context = column_context(self.request, &[("verb", verb)])?;
            let resource = self.policies.vocabulary.column(column);
            let step = self.demand(Action::Assign, &resource, &context, || {
                let name = column_name(column);
                let message = format!("no policy permits you to write to {name}; leave it out");
                Refusal::new("default-deny", message)
            })?;
            self.take(step);
            self.see_shown(assigned)?;
        }
        Ok(())
    }

    /// Notes how a column that is written to is shown to whoever writes it. NULL over a value that is shown as NULL is
    /// refused at once.
    fn see_shown(&mut self, assigned: &Assigned) -> Result<(), Refusal> {
        let Reveal::Masked(mask, _) = self.reveal(&assigned.column)? else { return Ok(()) };
        let column = column_name(&assigned.column);
        let as_null = mask.is_null() || !assigned.is_string;
        if as_null && assigned.given == NewValue::Null {
            return Err(Refusal::new(WRITE_BACK, write_back(&column)));
        }
        let mask = (!as_null).then_some(mask);
        let null = as_null && assigned.given == NewValue::Parameter;
        // One column tells for all that are shown in the same way.
        let known = self.shown.iter().any(|known| known.mask == mask && known.null == null);
        if !known && (mask.is_some() || null) {
            self.shown.push(Shown { column, mask, null });
        }
        Ok(())
    }

    /// The plan for the result's columns; `None` where nothing is masked.
    pub(super) fn mask_outputs(&mut self) -> Result<Option<Arc<MaskPlan>>, Refusal> {
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
    /// values stand as they are, NULL where anything was computed of them.
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
            Lineage::Computed(_) => (MaskSpec::null(), rule),
            _ => (mask, rule),
        }))
    }

    fn take(&mut self, step: Step<'a>) {
        match step {
            Step::Permitted(rules) => self.rules.extend(rules),
            Step::Held(rules) => self.holds.extend(rules),
        }
    }

    /// Allow, or one hold that satisfies every rule that asked for one.
    pub(super) fn effect(&mut self) -> Result<Effect, Refusal> {
        self.holds.sort_by(|a, b| a.id.cmp(&b.id));
        self.holds.dedup_by(|a, b| a.id == b.id);
        let Some(first) = self.holds.first() else { return Ok(Effect::Allow) };
        let mut hold = Hold {
            rule: first.id.clone(),
            message: String::new(),
            approver_groups: Vec::new(),
            approvers: 1,
            // Who wants no connection to wait is not overruled by who lets one.
            mode: self.holds.iter().filter_map(|rule| rule.mode).min(),
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

/// The groups that satisfy both demands; an empty list is the default approvers', so it adds no demand of its
/// own to a list that names some.
fn both(a: &[String], b: &[String]) -> Option<Vec<String>> {
    if a.is_empty() || b.is_empty() {
        return Some(if a.is_empty() { b.to_vec() } else { a.to_vec() });
    }
    let common: Vec<String> = a.iter().filter(|group| b.contains(group)).cloned().collect();
    (!common.is_empty()).then_some(common)
}

fn labelled<T>(all: &[T], column: impl Fn(&T) -> &ColumnRef) -> impl Iterator<Item = &T> {
    all.iter().filter(move |item| !column(item).labels.is_empty())
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
