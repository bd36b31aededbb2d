//! What was decided, in the form in which it is carried out, recorded and kept.

use std::sync::Arc;

use super::Query;
use super::held::Held;
use crate::fault::Fault;
use crate::policy::{
    Effect, MaskPlan, MaskedColumn, PluginFault, PluginHost, SPEAKS_FOR, Shown, Snapshot, Verdict,
};
use crate::record::Masked;
use crate::run::Kept;
use crate::schema::Catalog;
use crate::session::{Ruling, StatementKind};
use crate::sql::{Analysis, Digest, Facts, Leaves, Lineage, Trace, Unknown, Verb};

/// What was decided, for this text.
#[derive(Clone)]
pub struct Decision {
    /// What all statements of these facts share.
    pub shape: Arc<Shape>,
    /// The text to send instead of the original, of the same length.
    pub canonical: Option<Arc<[u8]>>,
    /// What the text's comments say of its run.
    pub comment: Option<Arc<Kept>>,
}

/// What statements with equal facts share: the verdict, and what the record says of them.
#[derive(Clone)]
pub struct Shape {
    /// What to do.
    pub effect: Effect,
    /// The error to answer with, where the effect is a denial.
    pub refusal: Option<Fault>,
    /// What an approval is given for, where the effect is a hold.
    pub held: Option<Arc<Held>>,
    /// What to mask.
    pub mask: Option<Arc<MaskPlan>>,
    /// The masked columns that it writes to.
    pub shown: Arc<[Shown]>,
    /// Strictness applies.
    pub governed: bool,
    /// Errors from the database may carry labelled data.
    pub rewrite_errors: bool,
    /// What it is.
    pub verb: Verb,
    /// Digest of the shape.
    pub digest: Digest,
    /// The shape as text; whoever lists sessions shares it.
    pub digest_text: Arc<String>,
    /// The deciding rules.
    pub rules: Vec<String>,
    /// Each masked column, as it is recorded.
    pub masked: Vec<String>,
    /// `schema.table` of each table touched.
    pub tables: Vec<String>,
    /// The database that USE makes current.
    pub uses: Option<String>,
    /// The catalogue has it.
    pub known: bool,
    /// Changes definitions: the catalogue must be read again after it.
    pub defines: bool,
    /// The analysis failed on a name: reading the catalogue again may help.
    pub unknown_name: bool,
    /// Takes a lock that outlives it.
    pub locks: bool,
    /// What it sees and leaves on its connection.
    pub trace: Trace,
    /// What of it its own session could look for later, sent as a query.
    pub leaves: Leaves,
    /// What it answers is recorded.
    pub records_rows: bool,
    /// The version of the policy that decided.
    pub policy_version: String,
    /// The plugins of the snapshot that decided: what was decided under one policy is masked under it.
    pub plugins: Arc<dyn PluginHost>,
}

impl Shape {
    /// The metric and record label of the verdict.
    pub fn label(&self) -> &'static str {
        match (&self.effect, &self.mask) {
            (Effect::Allow, None) => "allow",
            (Effect::Allow, Some(_)) => "mask",
            (Effect::Deny { .. }, _) => "deny",
            (Effect::Hold(_), _) => "hold",
        }
    }
}

impl Decision {
    /// What is sent as it stands, and says nothing of its run.
    pub(super) fn of(shape: &Arc<Shape>) -> Self {
        Self { shape: Arc::clone(shape), canonical: None, comment: None }
    }

    /// The same statement, refused.
    #[must_use]
    pub fn refused(&self, rule: &str, message: &str) -> Self {
        let effect = Effect::Deny { rule: rule.to_owned(), message: message.to_owned() };
        let rules = vec![rule.to_owned()];
        let shape = Shape { effect, refusal: None, rules, ..Shape::clone(&self.shape) };
        Self { shape: Arc::new(shape), ..self.clone() }
    }

    /// The same statement, which this rule permits besides.
    #[must_use]
    pub fn permitted_by(&self, rule: String) -> Self {
        let mut shape = Shape::clone(&self.shape);
        shape.rules.push(rule);
        Self { shape: Arc::new(shape), ..self.clone() }
    }

    /// The ruling that runs the statement (allowed, or approved after a hold).
    pub fn run(&self) -> Ruling {
        Ruling::Run {
            canonical: self.canonical.clone(),
            mask: self.shape.mask.clone(),
            plugins: Arc::clone(&self.shape.plugins),
            rewrite_errors: self.shape.rewrite_errors,
            governed: self.shape.governed,
            uses: self.shape.uses.clone(),
            known: self.shape.known,
        }
    }
}

impl Shape {
    pub(super) fn bare(effect: Effect, snapshot: &Snapshot) -> Self {
        Self {
            effect,
            refusal: None,
            held: None,
            mask: None,
            shown: Arc::default(),
            governed: true,
            rewrite_errors: true,
            verb: Verb::Unknown,
            digest: Digest::default(),
            digest_text: Arc::default(),
            rules: Vec::new(),
            masked: Vec::new(),
            tables: Vec::new(),
            uses: None,
            known: false,
            defines: false,
            unknown_name: false,
            locks: false,
            trace: Trace::Any,
            leaves: Leaves::More,
            records_rows: false,
            policy_version: snapshot.version.clone(),
            plugins: Arc::clone(&snapshot.plugins),
        }
    }
}

/// What a verdict makes of a statement.
pub(super) fn shape_of(
    verdict: Verdict,
    guard_fault: Option<PluginFault>,
    analysis: &Analysis,
    query: &Query<'_>,
    (snapshot, catalog): (&Snapshot, &Catalog),
) -> Shape {
    let refusal = match (&guard_fault, &verdict.effect) {
        (Some(fault), _) => Some(Fault::plugin(&fault.to_string())),
        (None, Effect::Deny { rule, message }) if rule == SPEAKS_FOR => {
            Some(Fault::on_behalf(message))
        }
        (None, Effect::Deny { rule, message }) => Some(match &analysis.unknown {
            Some(unknown) if verdict.governed => unknown.fault(),
            _ => Fault::denied(rule, message),
        }),
        _ => None,
    };
    let effect = match guard_fault {
        Some(fault) => Effect::Deny { rule: "plugin-fault".to_owned(), message: fault.to_string() },
        None => verdict.effect,
    };
    let facts = &analysis.facts;
    let defining = [Verb::Create, Verb::Alter, Verb::Drop, Verb::Rename, Verb::Call];
    let masked = verdict.mask.iter().flat_map(|plan| &plan.columns);
    let masked = masked.map(|column| recorded(column, facts, snapshot).write());
    let uses = uses(facts, query);
    let held = matches!(effect, Effect::Hold(_)).then(|| Arc::new(Held::of(facts, catalog)));
    Shape {
        held,
        refusal,
        masked: masked.collect(),
        mask: verdict.mask,
        shown: verdict.shown,
        governed: verdict.governed,
        rewrite_errors: verdict.governed && facts.is_sensitive(),
        verb: facts.verb,
        digest: analysis.digest,
        digest_text: Arc::new(analysis.digest_text.clone()),
        rules: verdict.rules,
        tables: facts.tables.iter().map(|t| format!("{}.{}", t.schema, t.name)).collect(),
        known: uses.as_deref().is_some_and(|name| catalog.has_schema(name)),
        uses,
        defines: defining.contains(&facts.verb),
        unknown_name: facts.misses || analysis.unknown.as_ref().is_some_and(Unknown::is_a_name),
        locks: facts.takes_lock,
        // By other commands statements stay, or databases change.
        trace: if query.kind == StatementKind::Query { facts.trace } else { Trace::Any },
        leaves: facts.leaves,
        records_rows: verdict.records_rows,
        policy_version: snapshot.version.clone(),
        plugins: Arc::clone(&snapshot.plugins),
        effect,
    }
}

fn recorded(column: &MaskedColumn, facts: &Facts, snapshot: &Snapshot) -> Masked {
    let outputs = facts.outputs.as_deref().unwrap_or_default();
    let lineage = outputs.get(usize::from(column.index)).map(|output| &output.lineage);
    let made_of = lineage.into_iter().flat_map(Lineage::columns);
    let labelled = made_of.filter(|column| !column.labels.is_empty());
    Masked {
        index: column.index,
        labels: column.label_names.clone(),
        mask: column.mask.to_string(),
        rule: column.rule.clone(),
        plugin: column.mask.plugin.clone(),
        digest: snapshot.plugins.digest(&column.mask.plugin).unwrap_or_default().to_owned(),
        columns: labelled.map(|c| format!("{}.{}.{}", c.schema, c.table, c.name)).collect(),
    }
}

fn uses(facts: &Facts, query: &Query<'_>) -> Option<String> {
    match query.kind {
        StatementKind::InitDb => String::from_utf8(query.text.to_vec()).ok(),
        _ => facts.use_database.clone(),
    }
}
