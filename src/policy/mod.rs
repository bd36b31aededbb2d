//! (identity, facts, snapshot) → allow, mask, deny or hold. Owns the [`Snapshot`] that reaches every worker,
//! and the traits by which plugins take part, so that nothing here knows of WASM.

mod asking;
mod by_name;
mod case;
mod control;
mod decide;
mod filter;
mod labels;
mod literals;
mod mask;
mod no_plugins;
mod policies;
mod questions;
mod rule;
mod shown;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::sync::Arc;

pub use by_name::Asker;
pub use control::ControlAction;
pub use filter::{
    Batch, Edit, Edits, GuardDecision, GuardInput, NULL, PluginFault, PluginHost, RowFilter,
    StreamColumn, StreamInfo,
};
pub use labels::{LabelError, LabelRules};
pub use mask::{MaskPlan, MaskSpec, MaskedColumn};
pub use no_plugins::NoPlugins;
pub use policies::{Policies, PolicyError};
pub use rule::SPEAKS_FOR;
pub use shown::{Shown, Values, WRITE_BACK, written_back};

use crate::config::ApprovalMode;
use crate::identity::{Directory, Principal};
use crate::run::Run;
use crate::schema::{Catalog, Labels};
use crate::sql::Analysis;

/// One statement to decide.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who.
    pub principal: &'a Principal,
    /// On which target, by its name in the configuration.
    pub target: &'a str,
    /// What.
    pub analysis: &'a Analysis,
    /// Names of the labels in the facts.
    pub labels: &'a Labels,
    /// The client's address, without port; `unix` for a socket.
    pub source: &'a str,
    /// Microseconds since the epoch.
    pub now_us: i64,
    /// What the client says of its run; at least what [`Policies::heeds`] names.
    pub run: Run<'a>,
}

/// What policy says of one statement.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Allow, deny or hold.
    pub effect: Effect,
    /// Ids of the rules that decided, for the record.
    pub rules: Vec<String>,
    /// What to mask when it runs (at once, or after approval).
    pub mask: Option<Arc<MaskPlan>>,
    /// How the masked columns that it writes to are shown to whoever writes them.
    pub shown: Arc<[Shown]>,
    /// Every strict measure applies: the snapshot holds a rule that could mask, hold or deny for this identity.
    pub governed: bool,
    /// Depends on nothing but the cache key (no rule read the time or a budget).
    pub cacheable: bool,
    /// The rows that it shows are recorded.
    pub records_rows: bool,
}

/// The three ways to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Forward it.
    Allow,
    /// Refuse it.
    Deny {
        /// The deciding rule's `@id`.
        rule: String,
        /// Its `@message`: a hint that an agent can act on.
        message: String,
    },
    /// Ask people.
    Hold(Hold),
}

impl Effect {
    /// Every value of the metric label `verdict` (`mask` is an allow with a plan).
    pub const LABELS: [&'static str; 4] = ["allow", "mask", "deny", "hold"];
}

/// What must happen before a held statement runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The deciding rule's `@id`.
    pub rule: String,
    /// Why, for the approver.
    pub message: String,
    /// The groups whose members may approve.
    pub approver_groups: Vec<String>,
    /// How many distinct approvers.
    pub approvers: u8,
    /// How the client waits; `None`: as the configuration says.
    pub mode: Option<ApprovalMode>,
}

/// Everything a worker needs to decide a statement. Immutable; swapped whole.
pub struct Snapshot {
    /// Grows with every swap; part of every cache key.
    pub serial: u64,
    /// BLAKE3 of all inputs (configuration, policies, labels, plugins), in hex.
    pub version: String,
    /// The rules.
    pub policies: Arc<Policies>,
    /// Who may log in.
    pub directory: Arc<Directory>,
    /// The plugins, by the generation that this snapshot holds.
    pub plugins: Arc<dyn PluginHost>,
    /// A catalogue for each target, in the order of the configuration; `None` until it was first read.
    pub catalogs: Vec<Option<Arc<Catalog>>>,
}
