//! A stand-in until the decision pipeline is here: refuses everything outside of tests.
#![allow(unused_imports, dead_code, reason = "replaced by the decision pipeline")]
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::sync::Arc;

use crate::clock::Now;
use crate::fault::Fault;
use crate::identity::Principal;
use crate::policy::{
    Effect, GuardDecision, GuardInput, Hold, MaskPlan, PluginFault, Request, Snapshot, Verdict,
};
use crate::schema::{Catalog, SqlMode};
use crate::session::{Facets, Ruling, StatementKind};
use crate::sql::{Analysis, Context, Digest, Facts, Unknown, Verb};

/// Entries of each half of a cache. Two halves of 2,048 hold an application's working set many times over
/// and stay under a few MiB a core.
const HALF: usize = 2_048;

/// Longer texts are not cached: bulk inserts don't repeat, and 2,048 of these are 8 MiB.
const MAX_CACHED_TEXT: usize = 4_096;

/// Slots that remember a text's hash, so that only a text's second coming costs a copy of it.
const SEEN: usize = 4_096;

/// A statement to decide.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Its text as it came.
    pub text: &'a [u8],
    /// How it came.
    pub kind: StatementKind,
    /// What the session knows.
    pub facets: &'a Facets<'a>,
    /// The target's index in the configuration.
    pub target: usize,
    /// The target's name.
    pub target_name: &'a str,
    /// The client's address without its port.
    pub source: &'a str,
    /// The gateway's id of the session.
    pub session_id: u64,
    /// This turn's time.
    pub now: Now,
}

/// What was decided, for this text.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What all statements of these facts share.
    pub shape: Arc<Shape>,
    /// The text to send instead of the original, of the same length.
    pub canonical: Option<Arc<[u8]>>,
}

/// What statements with equal facts share: the verdict, and what the record says of them.
#[derive(Debug)]
pub struct Shape {
    /// What to do.
    pub effect: Effect,
    /// The error to answer with, where the effect is a denial.
    pub refusal: Option<Fault>,
    /// What to mask.
    pub mask: Option<Arc<MaskPlan>>,
    /// Strictness applies.
    pub governed: bool,
    /// Errors from the database may carry labelled data.
    pub rewrite_errors: bool,
    /// What it is.
    pub verb: Verb,
    /// Digest of the shape.
    pub digest: Digest,
    /// The shape as text.
    pub digest_text: String,
    /// The deciding rules.
    pub rules: Vec<String>,
    /// `column=rule` of each masked column.
    pub masked: Vec<String>,
    /// `schema.table` of each table touched.
    pub tables: Vec<String>,
    /// The database that USE makes current.
    pub uses: Option<String>,
    /// Changes definitions: the catalogue must be read again after it.
    pub defines: bool,
    /// The analysis failed on a name: reading the catalogue again may help.
    pub unknown_name: bool,
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
    /// The ruling that runs the statement (allowed, or approved after a hold).
    pub fn run(&self, snapshot: &Snapshot) -> Ruling {
        Ruling::Run {
            canonical: self.canonical.clone(),
            mask: self.shape.mask.clone(),
            plugins: Arc::clone(&snapshot.plugins),
            rewrite_errors: self.shape.rewrite_errors,
            governed: self.shape.governed,
            uses: self.shape.uses.clone(),
        }
    }
}

#[derive(Debug)]
pub struct Decider;
impl Decider {
    pub fn new(_worker: usize) -> Self {
        Self
    }
    pub fn decide(&mut self, _snapshot: &Snapshot, query: &Query<'_>) -> Decision {
        let effect = if cfg!(test) {
            Effect::Allow
        } else {
            Effect::Deny { rule: "not-ready".into(), message: "".into() }
        };
        let mut shape = Shape::bare(effect);
        shape.governed = false;
        shape.rewrite_errors = false;
        let canonical = None;
        if matches!(query.kind, StatementKind::InitDb) {
            shape.uses = String::from_utf8(query.text.to_vec()).ok();
        }
        Decision { shape: Arc::new(shape), canonical }
    }
}
impl Shape {
    fn bare(effect: Effect) -> Self {
        Self {
            effect,
            refusal: None,
            mask: None,
            governed: true,
            rewrite_errors: true,
            verb: Verb::Unknown,
            digest: Digest::default(),
            digest_text: String::new(),
            rules: Vec::new(),
            masked: Vec::new(),
            tables: Vec::new(),
            uses: None,
            defines: false,
            unknown_name: false,
        }
    }
}
