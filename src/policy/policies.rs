//! The compiled Cedar policies: loading, and every check that can be made before the first statement.
//! Loading is strict, so that a rule that is loaded is a rule that works.

use std::collections::HashMap;
use std::str::FromStr as _;
use std::sync::RwLock;

use cedar_policy::{
    Authorizer, Effect, Policy, PolicyId, PolicySet, PolicySetError, ValidationMode, Validator,
};

use super::asking::Reveal;
use super::literals::{groups_in, labels_in, reads_run, reads_time};
use super::rule::{Complaint, Rule, check_id};
use super::vocabulary::Vocabulary;
use super::{MaskSpec, PluginHost};
use crate::run::Names;
use crate::schema::Labels;

/// Most policies in one bundle. Each costs about a microsecond on a decision that is not cached.
const MAX_POLICIES: usize = 1_000;

/// What is wrong with a policy file, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {place}{what}; {mend}")]
pub struct PolicyError {
    /// The file's name as it was given.
    pub file: String,
    /// `policy agents-see-cards: `, where it is about one.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub mend: String,
}

/// The compiled Cedar policies.
pub struct Policies {
    pub(super) vocabulary: Vocabulary,
    pub(super) authorizer: Authorizer,
    pub(super) all: PolicySet,
    /// Only the permits: what an identity may do were there no forbid. An approval lifts a forbid, not the
    /// default deny, and a detector shows what it does not find: both ask this too.
    pub(super) permits: PolicySet,
    /// What decides about the gateway itself: the rules that name nothing else, and every forbid.
    pub(super) control: PolicySet,
    pub(super) rules: HashMap<PolicyId, Loaded>,
    /// Some rule reads the time, so no verdict may be kept.
    pub(super) reads_time: bool,
    /// What rules read of what clients say of their runs: all that decisions are told of it.
    pub(super) reads_run: Names,
    /// Answers about columns, and about what depends on who asks where alone, which repeat far more often than statements do. Bounded by
    /// [`super::decide::MAX_MEMO`]; emptied when full.
    pub(super) reveals: RwLock<HashMap<String, Reveal>>,
    pub(super) standing: RwLock<HashMap<String, Option<String>>>,
}

/// A rule, and where it came from.
pub(super) struct Loaded {
    pub(super) rule: Rule,
    file: String,
    /// The labels that it names.
    labels: Vec<String>,
    /// The groups that it names, those that are asked for an approval among them.
    groups: Vec<String>,
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies").field("rules", &self.rules.len()).finish_non_exhaustive()
    }
}

impl Policies {
    /// Parses and checks the files, given as (name, text).
    pub fn load(sources: &[(&str, &str)]) -> Result<Self, PolicyError> {
        let vocabulary = Vocabulary::new().map_err(|error| {
            PolicyError::new(
                "rowgate.cedarschema",
                "",
                error.to_string(),
                "this is a defect of Rowgate",
            )
        })?;
        let mut policies = Self {
            vocabulary,
            authorizer: Authorizer::new(),
            all: PolicySet::new(),
            permits: PolicySet::new(),
            control: PolicySet::new(),
            rules: HashMap::new(),
            reads_time: false,
            reads_run: Names::default(),
            reveals: RwLock::default(),
            standing: RwLock::default(),
        };
        for (file, text) in sources {
            policies.add_file(file, text)?;
        }
        policies.validate()?;
        Ok(policies)
    }

    /// Every label that a policy names must be declared: a misspelt one would protect nothing.
    pub fn check_labels(&self, labels: &Labels) -> Result<(), PolicyError> {
        for (id, loaded) in self.in_order() {
            let unknown = loaded.labels.iter().find(|label| labels.find(label).is_none());
            if let Some(label) = unknown {
                let what = format!("label {label:?} is not declared");
                let mend = format!(
                    "add [[labels]] name = {label:?} to the configuration (its patterns may be empty)"
                );
                return Err(PolicyError::new(&loaded.file, id, what, &mend));
            }
        }
        Ok(())
    }

    /// Every mask that a policy names must be one that a loaded plugin has.
    pub fn check_masks(&self, plugins: &dyn PluginHost) -> Result<(), PolicyError> {
        for (id, loaded) in self.in_order() {
            let Some(mask) = &loaded.rule.mask else { continue };
            // What no rule names a mask for is redacted, so whoever masks needs that too.
            for mask in [mask, &MaskSpec::redact()] {
                plugins.check_mask(mask).map_err(|why| {
                    let what = format!("@mask(\"{mask}\"): {why}");
                    PolicyError::new(&loaded.file, id, what, "name a mask of a loaded plugin")
                })?;
            }
        }
        Ok(())
    }

    /// Whether a policy names this group: who is in no other may what everybody may.
    pub fn names_group(&self, group: &str) -> bool {
        self.rules.values().any(|loaded| loaded.groups.iter().any(|named| named == group))
    }

    /// How many policies it holds.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is none (then everything is denied).
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    fn add_file(&mut self, file: &str, text: &str) -> Result<(), PolicyError> {
        let parsed = PolicySet::from_str(text).map_err(|error| {
            let place = position(&error, text);
            PolicyError {
                file: file.to_owned(),
                place,
                what: one_line(&error.to_string()),
                mend: "mend the Cedar syntax".to_owned(),
            }
        })?;
        if parsed.num_of_templates() > 0 {
            let mend = "write a policy for each principal or resource";
            return Err(PolicyError::new(file, "", "templates (?principal) are refused", mend));
        }
        let mut policies: Vec<&Policy> = parsed.policies().collect();
        policies.sort_by_key(|policy| number(policy));
        for policy in policies {
            self.add_policy(file, policy)?;
        }
        Ok(())
    }

    fn add_policy(&mut self, file: &str, policy: &Policy) -> Result<(), PolicyError> {
        let Some(id) = policy.annotation("id") else {
            let what = format!("policy number {} has no @id", number(policy).saturating_add(1));
            return Err(PolicyError::new(file, "", what, "put @id(\"a-name\") before it"));
        };
        let complain = |(what, mend): Complaint| PolicyError::new(file, id, what, mend);
        check_id(id).map_err(complain)?;
        let rule = Rule::read(id, policy).map_err(complain)?;
        if self.rules.len() >= MAX_POLICIES {
            let what = format!("more than {MAX_POLICIES} policies");
            return Err(PolicyError::new(file, id, what, "merge some"));
        }
        let json = policy.to_json().map_err(|error| {
            PolicyError::new(file, id, error.to_string(), "write it more simply")
        })?;
        self.reads_time |= reads_time(&json);
        self.reads_run = self.reads_run.and(reads_run(&json));
        let named = policy.new_id(PolicyId::new(id));
        let control = rule.control;
        let mut groups = groups_in(&json);
        groups.extend(rule.approve.iter().flat_map(|approve| approve.groups.clone()));
        let (file_name, labels) = (file.to_owned(), labels_in(&json));
        let loaded = Loaded { rule, file: file_name, labels, groups };
        if let Some(other) = self.rules.insert(PolicyId::new(id), loaded) {
            let what = format!("the @id is also that of a policy in {}", other.file);
            return Err(PolicyError::new(file, id, what, "give each its own"));
        }
        let clash = |error: PolicySetError| {
            PolicyError::new(file, id, error.to_string(), "give each its own @id")
        };
        if control || policy.effect() == Effect::Forbid {
            self.control.add(named.clone()).map_err(clash)?;
        }
        if control {
            return Ok(());
        }
        if policy.effect() == Effect::Permit {
            self.permits.add(named.clone()).map_err(clash)?;
        }
        self.all.add(named).map_err(clash)
    }

    /// Strict validation. Its warnings are errors here: a policy that can't apply, or a name written in
    /// look-alike letters, is a mistake or worse.
    fn validate(&self) -> Result<(), PolicyError> {
        let validator = Validator::new(self.vocabulary.schema.clone());
        let results = [&self.all, &self.control]
            .map(|policies| validator.validate(policies, ValidationMode::Strict));
        let error = results
            .iter()
            .flat_map(|of| of.validation_errors().map(|e| (e.policy_id(), e.to_string())));
        let warning = results
            .iter()
            .flat_map(|of| of.validation_warnings().map(|w| (w.policy_id(), w.to_string())));
        // The smallest id, so that the same file always gives the same message.
        let Some((id, what)) = error.chain(warning).min_by_key(|(id, _)| id.to_string()) else {
            return Ok(());
        };
        let file = self.rules.get(id).map_or("?", |loaded| loaded.file.as_str());
        let mend = "see policies/rowgate.cedarschema for what there is";
        Err(PolicyError::new(file, id.as_ref(), without_prefix(&what), mend))
    }

    fn in_order(&self) -> Vec<(&str, &Loaded)> {
        let mut rules: Vec<_> =
            self.rules.values().map(|loaded| (loaded.rule.id.as_str(), loaded)).collect();
        rules.sort_by_key(|(id, _)| *id);
        rules
    }
}

impl PolicyError {
    fn new(file: &str, id: &str, what: impl Into<String>, mend: &str) -> Self {
        let place = if id.is_empty() { String::new() } else { format!("policy {id}: ") };
        Self { file: file.to_owned(), place, what: one_line(&what.into()), mend: mend.to_owned() }
    }
}

/// The policy's place in its file: the parser names them `policy0`, `policy1`, ….
fn number(policy: &Policy) -> usize {
    let id = policy.id().to_string();
    id.trim_start_matches("policy").parse().unwrap_or(usize::MAX)
}

/// `line 3, column 7: ` of a syntax error.
fn position(error: &cedar_policy::ParseErrors, text: &str) -> String {
    let first = error.iter().next();
    let label = first.and_then(miette::Diagnostic::labels).and_then(|mut labels| labels.next());
    let Some(before) = label.and_then(|label| text.get(..label.offset())) else {
        return String::new();
    };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: ")
}

/// Cedar begins with "for policy `id`, ", which the error says already.
fn without_prefix(what: &str) -> &str {
    let rest = what.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, "));
    rest.map_or(what, |(_, rest)| rest)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
