//! One statement → one ruling: analysis, policy and deciding plugins, behind this worker's three caches.
//!
//! The first cache answers a text that was seen before: one keyed hash, one full comparison. The second answers a new
//! text that has a known one's tokens but for the values of its literals, where those were not looked at. The third
//! answers what had to be analysed: policy and plugins see facts only, never literals, so statements whose facts are
//! equal in full have one verdict. Of what is said of a statement's run, what rules heed is part of every key. Nothing here
//! waits; holds are the caller's business.

mod held;
mod shape;

use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};
use std::sync::Arc;

pub use held::Held;
use shape::shape_of;
pub use shape::{Decision, Shape};

use super::halves::Halves;
use crate::clock::Now;
use crate::fault::Fault;
use crate::identity::Principal;
use crate::policy::{
    Effect, GuardDecision, GuardInput, Hold, PluginFault, Request, Snapshot, Verdict,
};
use crate::run::{Kept, Names, Run, kept};
use crate::schema::{Catalog, SqlMode};
use crate::session::{Facets, StatementKind};
use crate::sql::{Analysis, Context, Digest, Facts, Form, Tokens, Unknown, analyse_tokens};

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
    /// What its query attributes say of its run.
    pub said: Run<'a>,
    /// What its session's login said.
    pub login: Run<'a>,
}

impl<'a> Query<'a> {
    /// What is said of its run, and by that counts: what came with it before what its text says, and that before its login.
    fn run(&self, comment: Option<&'a Kept>, heeded: Names) -> Run<'a> {
        self.said.or(kept(comment)).or(self.login).only(heeded)
    }
}

/// A worker's decisions.
pub struct Decider {
    worker: usize,
    /// The snapshot under which everything cached was decided: what another one decides is kept for nothing, and would
    /// keep its plugins too.
    serial: u64,
    hasher: RandomState,
    texts: Halves<TextEntry>,
    forms: Halves<FormEntry>,
    shapes: Halves<ShapeEntry>,
    seen: Vec<u64>,
    /// Room for the tokens of the text under way.
    tokens: Tokens,
}

struct TextEntry {
    text: Box<[u8]>,
    kind: StatementKind,
    key: Key,
    decision: Decision,
}

struct FormEntry {
    form: Form,
    key: Key,
    shape: Arc<Shape>,
}

struct ShapeEntry {
    digest: Digest,
    facts: Facts,
    unknown: Option<Unknown>,
    key: Key,
    shape: Arc<Shape>,
}

/// Everything but the statement and the snapshot that a verdict depends on.
#[derive(Clone, Debug)]
struct Key {
    target: usize,
    principal: Arc<Principal>,
    schema: Option<Box<str>>,
    sql_mode: SqlMode,
    source: Box<str>,
    prepared: bool,
    /// What holds one run of it to a row is no fact of many.
    bulk: bool,
    /// What rules heed of what was said of its run.
    run: Option<Box<Kept>>,
}

impl Key {
    fn of(query: &Query<'_>, run: Run<'_>) -> Self {
        Self {
            target: query.target,
            principal: Arc::clone(query.facets.principal),
            schema: query.facets.schema.map(Into::into),
            sql_mode: query.facets.sql_mode,
            source: query.source.into(),
            prepared: is_prepared(query.kind),
            bulk: query.kind == StatementKind::BulkExecute,
            run: run.keep(),
        }
    }

    fn matches(&self, query: &Query<'_>, run: Run<'_>) -> bool {
        let same_principal = Arc::ptr_eq(&self.principal, query.facets.principal)
            || *self.principal == **query.facets.principal;
        self.target == query.target
            && self.sql_mode == query.facets.sql_mode
            && self.prepared == is_prepared(query.kind)
            && self.bulk == (query.kind == StatementKind::BulkExecute)
            && self.schema.as_deref() == query.facets.schema
            && *self.source == *query.source
            && kept(self.run.as_deref()) == run
            && same_principal
    }
}

impl Decider {
    /// The caches of one worker, empty.
    pub fn new(worker: usize) -> Self {
        Self {
            worker,
            serial: 0,
            hasher: RandomState::new(),
            texts: Halves::new(),
            forms: Halves::new(),
            shapes: Halves::new(),
            seen: vec![0; SEEN],
            tokens: Tokens::default(),
        }
    }

    /// Decides one statement under one snapshot.
    pub fn decide(&mut self, snapshot: &Snapshot, query: &Query<'_>) -> Decision {
        if self.serial != snapshot.serial {
            self.serial = snapshot.serial;
            (self.texts, self.forms, self.shapes) = (Halves::new(), Halves::new(), Halves::new());
        }
        let heeded = snapshot.policies.heeds();
        let hash = self.hash(query, |hasher| {
            hasher.write(query.text);
            query.said.only(heeded).feed(hasher);
            query.login.only(heeded).feed(hasher);
        });
        let fits = |entry: &TextEntry| {
            let run = query.run(entry.decision.comment.as_deref(), heeded);
            entry.kind == query.kind && *entry.text == *query.text && entry.key.matches(query, run)
        };
        if let Some(entry) = self.texts.find(hash, fits) {
            return entry.decision.clone();
        }
        let Some(catalog) = snapshot.catalogs.get(query.target).and_then(Option::as_ref) else {
            return Self::not_ready(snapshot);
        };
        let (decision, cacheable) = self.decide_by_tokens(snapshot, catalog, query);
        if cacheable && query.text.len() <= MAX_CACHED_TEXT && self.was_seen(hash) {
            let run = query.run(decision.comment.as_deref(), heeded);
            let entry = TextEntry {
                text: query.text.into(),
                kind: query.kind,
                key: Key::of(query, run),
                decision: decision.clone(),
            };
            self.texts.insert(hash, entry);
        }
        decision
    }

    /// Whether it may be cached, too.
    fn decide_by_tokens(
        &mut self,
        snapshot: &Snapshot,
        catalog: &Catalog,
        query: &Query<'_>,
    ) -> (Decision, bool) {
        let use_text;
        let is_init_db = query.kind == StatementKind::InitDb;
        let text = if is_init_db {
            use_text = use_statement(query.text);
            use_text.as_slice()
        } else {
            query.text
        };
        let schema = query.facets.schema;
        let context = Context { catalog, sql_mode: query.facets.sql_mode, schema };
        let mut tokens = std::mem::take(&mut self.tokens);
        tokens.read(text, &context);
        let comment = if is_init_db { None } else { tokens.said(text) };
        let run = query.run(comment.as_deref(), snapshot.policies.heeds());
        let may_have_form = !is_init_db && tokens.have_form(text);
        let hash = may_have_form.then(|| {
            self.hash(query, |hasher| {
                tokens.hash_form(text, hasher);
                run.feed(hasher);
            })
        });
        let fits =
            |entry: &FormEntry| entry.form.is_of(text, &tokens) && entry.key.matches(query, run);
        let (mut decision, cacheable) = if let Some(entry) =
            hash.and_then(|hash| self.forms.find(hash, fits))
        {
            (Decision::of(&entry.shape), true)
        } else {
            let analysis = analyse_tokens(text, &tokens, &context);
            let kept = hash.filter(|hash| self.was_seen(*hash));
            let kept = kept.and_then(|hash| Some((hash, tokens.form(text, &analysis)?)));
            let given = (query, run);
            let (decision, cacheable) = self.decide_analysed(snapshot, catalog, given, analysis);
            if let Some((hash, form)) = kept.filter(|_| cacheable) {
                let shape = Arc::clone(&decision.shape);
                self.forms.insert(hash, FormEntry { form, key: Key::of(query, run), shape });
            }
            (decision, cacheable)
        };
        decision.comment = comment.map(Arc::from);
        self.tokens = tokens;
        (decision, cacheable)
    }

    fn decide_analysed(
        &mut self,
        snapshot: &Snapshot,
        catalog: &Catalog,
        (query, run): (&Query<'_>, Run<'_>),
        mut analysis: Analysis,
    ) -> (Decision, bool) {
        if query.kind == StatementKind::BulkExecute {
            analysis.facts.many_times();
        }
        let canonical = match query.kind {
            StatementKind::InitDb => None,
            _ => analysis.canonical.take().map(Arc::from),
        };
        let hash = self.hash(query, |hasher| {
            hasher.write(&analysis.digest.0);
            query.facets.schema.hash(hasher);
            run.feed(hasher);
        });
        let fits = |entry: &ShapeEntry| {
            entry.digest == analysis.digest
                && entry.key.matches(query, run)
                && entry.facts == analysis.facts
                && entry.unknown == analysis.unknown
        };
        if let Some(entry) = self.shapes.find(hash, fits) {
            return (Decision { canonical, ..Decision::of(&entry.shape) }, true);
        }
        let (shape, cacheable) = self.decide_afresh(snapshot, catalog, (query, run), &analysis);
        let shape = Arc::new(shape);
        // INIT_DB's database is in its text, not in the shape.
        if cacheable && query.kind != StatementKind::InitDb {
            let entry = ShapeEntry {
                digest: analysis.digest,
                facts: analysis.facts,
                unknown: analysis.unknown,
                key: Key::of(query, run),
                shape: Arc::clone(&shape),
            };
            self.shapes.insert(hash, entry);
        }
        (Decision { canonical, ..Decision::of(&shape) }, cacheable)
    }

    fn decide_afresh(
        &self,
        snapshot: &Snapshot,
        catalog: &Catalog,
        (query, run): (&Query<'_>, Run<'_>),
        analysis: &Analysis,
    ) -> (Shape, bool) {
        let verdict = snapshot.policies.decide(&Request {
            principal: query.facets.principal,
            target: query.target_name,
            analysis,
            labels: &catalog.labels,
            source: query.source,
            now_us: query.now.wall_us,
            run,
        });
        let (verdict, guard_fault) = self.ask_guards(snapshot, catalog, query, analysis, verdict);
        let cacheable = verdict.cacheable && guard_fault.is_none();
        (shape_of(verdict, guard_fault, analysis, query, (snapshot, catalog)), cacheable)
    }

    /// Lets deciding plugins tighten the verdict; they never loosen it. They see the statement's shape in place
    /// of its text, so that their answer holds for every statement of equal facts.
    fn ask_guards(
        &self,
        snapshot: &Snapshot,
        catalog: &Catalog,
        query: &Query<'_>,
        analysis: &Analysis,
        mut verdict: Verdict,
    ) -> (Verdict, Option<PluginFault>) {
        let decided = matches!(verdict.effect, Effect::Deny { .. });
        if decided || !verdict.governed || !snapshot.plugins.guards() {
            return (verdict, None);
        }
        let answer = snapshot.plugins.guard(
            self.worker,
            &GuardInput {
                principal: query.facets.principal,
                session_id: query.session_id,
                target: query.target_name,
                schema: query.facets.schema,
                analysis,
                text: analysis.digest_text.as_bytes(),
                labels: &catalog.labels,
                prepared: is_prepared(query.kind),
            },
        );
        match answer {
            Ok(GuardDecision::Allow) => {}
            Ok(GuardDecision::Deny { plugin, reason }) => {
                verdict.rules.push(plugin.clone());
                verdict.effect = Effect::Deny { rule: plugin, message: reason };
            }
            Ok(GuardDecision::RequireApproval { plugin, reason, groups }) => {
                if matches!(verdict.effect, Effect::Allow) {
                    verdict.rules.push(plugin.clone());
                    verdict.effect = Effect::Hold(Hold {
                        rule: plugin,
                        message: reason,
                        approver_groups: groups,
                        approvers: 1,
                        mode: None,
                    });
                }
            }
            Err(fault) => return (verdict, Some(fault)),
        }
        (verdict, None)
    }

    /// Refuses while the target's schema has never been read.
    fn not_ready(snapshot: &Snapshot) -> Decision {
        let why = "the database's schema could not be read yet; see /readyz";
        let fault = Fault::upstream_down(why);
        let effect = Effect::Deny { rule: "not-ready".to_owned(), message: why.to_owned() };
        let mut shape = Shape::bare(effect, snapshot);
        shape.refusal = Some(fault);
        Decision::of(&Arc::new(shape))
    }

    /// A keyed hash of what is looked for, and of whom it comes from.
    fn hash(&self, query: &Query<'_>, feed: impl FnOnce(&mut DefaultHasher)) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        feed(&mut hasher);
        hasher.write(query.facets.principal.subject.as_bytes());
        hasher.write_usize(query.target);
        hasher.finish()
    }

    /// Whether this hash came before, by a table that forgets on collision.
    fn was_seen(&mut self, hash: u64) -> bool {
        let slot = usize::try_from(hash % SEEN as u64).unwrap_or(0);
        let seen = self.seen[slot] == hash;
        self.seen[slot] = hash;
        seen
    }
}

/// COM_INIT_DB as the statement that it is.
fn use_statement(name: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(name.len() + 6);
    text.extend_from_slice(b"USE `");
    for byte in name {
        text.push(*byte);
        if *byte == b'`' {
            text.push(b'`');
        }
    }
    text.push(b'`');
    text
}

fn is_prepared(kind: StatementKind) -> bool {
    kind == StatementKind::Prepare || kind.is_prepared()
}
