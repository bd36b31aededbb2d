//! Why somebody is let in, or is not, and where their groups come from: for administrators. A client is told none of it.

use std::collections::BTreeMap;
use std::fmt;

use super::{PrincipalKind, Scope};

/// Who is told of each check before it is made: nobody at a login, and whoever asks why.
pub(super) type Told<'t> = &'t mut dyn FnMut(&'static str, fmt::Arguments<'_>);

/// Who listens at a login.
pub(super) fn nobody(_: &'static str, _: fmt::Arguments<'_>) {}

/// Bytes of what somebody else wrote that are shown: enough to tell what it is.
const SHOWN: usize = 200;

/// What somebody else wrote, in quotes.
pub(super) struct Short<'a>(pub(super) &'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.floor_char_boundary(SHOWN)];
        let more = if shown.len() < self.0.len() { "…" } else { "" };
        write!(f, "{shown:?}{more}")
    }
}

/// The same of what is no plain text.
pub(super) struct ShortJson<'a>(pub(super) &'a serde_json::Value);

impl fmt::Display for ShortJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(&text[..text.floor_char_boundary(SHOWN)])
    }
}

/// One way to be let in: what vouches, what was checked of it, and who that is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Explanation {
    /// What vouches.
    pub by: String,
    /// What was checked, in order; after one that failed, nothing is.
    pub checks: Vec<Check>,
    /// The closed word of the record for why it lets nobody in; none: it does.
    pub refused: Option<String>,
    /// The identity.
    pub subject: Option<String>,
    /// What it is.
    pub kind: Option<PrincipalKind>,
    /// Its groups.
    pub groups: Vec<GroupOrigin>,
    /// Groups that it lists, and that no rule takes.
    pub left_out: Vec<String>,
    /// What it was given along, which its logins can't say otherwise.
    pub attributes: BTreeMap<String, String>,
    /// The targets that it opens; none: all.
    pub only_targets: Vec<String>,
    /// The networks from which it is accepted; none: all, and Unix sockets.
    pub only_networks: Vec<String>,
    /// When it ends, in microseconds since the epoch; none: never.
    pub expires_us: Option<i64>,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Check {
    /// Of what.
    pub of: String,
    /// What must be so.
    pub must: String,
    /// Whether it is.
    pub passed: bool,
}

/// A group, and why it is one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GroupOrigin {
    /// What policies call it.
    pub group: String,
    /// Where it comes from; by more than one way at times.
    pub from: Vec<String>,
}

impl Explanation {
    /// Of what vouches; nothing was checked yet.
    pub(super) fn new(by: String) -> Self {
        Self { by, ..Self::default() }
    }

    /// Notes a check that is about to be made.
    pub(super) fn note(&mut self, of: &'static str, must: fmt::Arguments<'_>) {
        self.checks.push(Check { of: of.to_owned(), must: must.to_string(), passed: true });
    }

    /// The check that was noted last has failed.
    pub(super) fn fail(&mut self, label: &str) {
        if let Some(last) = self.checks.last_mut() {
            last.passed = false;
        }
        self.refused = Some(label.to_owned());
    }

    /// A group of its, and why.
    pub(super) fn add_group(&mut self, group: &str, from: String) {
        match self.groups.binary_search_by(|known| known.group.as_str().cmp(group)) {
            Ok(at) => self.groups[at].from.push(from),
            Err(at) => {
                self.groups.insert(at, GroupOrigin { group: group.to_owned(), from: vec![from] });
            }
        }
    }

    /// Where it is good.
    pub(super) fn limit(&mut self, scope: &Scope) {
        self.only_targets.clone_from(&scope.targets);
        self.only_networks = scope.networks.iter().map(ToString::to_string).collect();
    }
}
