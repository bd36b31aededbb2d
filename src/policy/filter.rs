//! How plugins take part, without saying how they run.

use super::MaskedColumn;
use crate::identity::Principal;
use crate::schema::Labels;
use crate::sql::Analysis;

/// NULL in [`Batch::lens`], and as [`Edit::replacement_len`] "the whole cell becomes NULL".
pub const NULL: u32 = u32::MAX;

/// Cells for one call: row-major, flat.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// How many rows.
    pub rows: u32,
    /// The cells' bytes, one after the other.
    pub cells: &'a [u8],
    /// `rows × columns` lengths; [`NULL`] for NULL.
    pub lens: &'a [u32],
}

/// Replace `len` bytes at `start` (an offset into [`Batch::cells`]) by the next `replacement_len` bytes of the
/// replacement; a `replacement_len` of [`NULL`] (then the edit covers exactly one cell) makes the cell NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Offset into the batch's cells.
    pub start: u32,
    /// Bytes replaced.
    pub len: u32,
    /// Bytes that replace them.
    pub replacement_len: u32,
}

/// A filter's answer: sorted, disjoint, each inside one cell. The session checks that.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Sorted by `start`.
    pub edits: Vec<Edit>,
    /// The replacements' bytes, in the edits' order.
    pub replacement: Vec<u8>,
}

impl Edits {
    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.edits.clear();
        self.replacement.clear();
    }
}

/// A plugin failed. The statement ends with an error; nothing raw is released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PluginFault {
    /// No such plugin or mask in this snapshot.
    #[error("plugin {0} is not loaded")]
    Missing(String),
    /// It trapped, ran out of time or memory.
    #[error("plugin {plugin} failed: {why}")]
    Trap {
        /// Its name.
        plugin: String,
        /// `trap`, `timeout`, `memory`, …: a closed set, also the metric label.
        why: &'static str,
    },
    /// It answered nonsense (edits out of order or outside a cell, kept too much).
    #[error("plugin {plugin} broke the contract: {why}")]
    Contract {
        /// Its name.
        plugin: String,
        /// What it broke.
        why: &'static str,
    },
    /// It refused the rows.
    #[error("plugin {0} denied the result")]
    Denied(String),
    /// Switched off after repeated failures.
    #[error("plugin {0} is quarantined")]
    Quarantined(String),
}

/// One column of a stream, for one plugin.
#[derive(Clone, Debug)]
pub struct StreamColumn<'a> {
    /// The masked column: mask, labels, rule.
    pub masked: &'a MaskedColumn,
    /// The wire's type code.
    pub type_code: u8,
    /// The column definition's character set.
    pub charset: u16,
}

/// A stream to open: the columns that one plugin masks in one result.
#[derive(Clone, Debug)]
pub struct StreamInfo<'a> {
    /// The plugin.
    pub plugin: &'a str,
    /// The binary protocol's rows (cells are handed over as bytes either way).
    pub binary: bool,
    /// Its columns, in the order of the cells.
    pub columns: Vec<StreamColumn<'a>>,
    /// For whom: instances are replaced when the identity changes.
    pub subject: &'a str,
}

/// An open stream of one plugin. Dropping it closes the stream.
pub trait RowFilter {
    /// Masks one batch: fills `edits` (which is empty on entry).
    fn filter(&mut self, batch: Batch<'_>, edits: &mut Edits) -> Result<(), PluginFault>;
}

/// A statement for plugins to decide on.
#[derive(Clone, Copy, Debug)]
pub struct GuardInput<'a> {
    /// Who.
    pub principal: &'a Principal,
    /// The session.
    pub session_id: u64,
    /// The target.
    pub target: &'a str,
    /// The current database.
    pub schema: Option<&'a str>,
    /// What.
    pub analysis: &'a Analysis,
    /// The text as it will be sent.
    pub text: &'a [u8],
    /// Names of labels.
    pub labels: &'a Labels,
    /// Over the prepared protocol.
    pub prepared: bool,
}

/// What the most restrictive plugin says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardDecision {
    /// Nothing against it.
    Allow,
    /// Refuse.
    Deny {
        /// The plugin.
        plugin: String,
        /// Its reason, cut and cleaned.
        reason: String,
    },
    /// Hold for approval.
    RequireApproval {
        /// The plugin.
        plugin: String,
        /// Its reason, cut and cleaned.
        reason: String,
        /// Groups it wants asked; empty: the default approvers.
        groups: Vec<String>,
    },
}

/// The plugins of a snapshot.
pub trait PluginHost: Send + Sync {
    /// Checks a mask's name and arguments at load: `Err` says what is wrong with it.
    fn check_mask(&self, mask: &super::MaskSpec) -> Result<(), String>;
    /// BLAKE3 of this plugin's file, in hex, for the record.
    fn digest(&self, plugin: &str) -> Option<&str> {
        let _ = plugin;
        None
    }
    /// Opens a stream on `worker`'s instances.
    fn open(
        &self,
        worker: usize,
        stream: &StreamInfo<'_>,
    ) -> Result<Box<dyn RowFilter>, PluginFault>;
    /// Whether one of these values could be what the mask made of others. A host without its plugin can't tell.
    fn recognises(
        &self,
        worker: usize,
        subject: &str,
        mask: &super::MaskSpec,
        values: &[Vec<u8>],
    ) -> Result<bool, PluginFault> {
        let _ = (worker, subject, values);
        Err(PluginFault::Missing(mask.plugin.clone()))
    }
    /// Whether any plugin decides statements (so that the caller can skip building the input).
    fn guards(&self) -> bool;
    /// Asks every deciding plugin; the most restrictive answer wins.
    fn guard(&self, worker: usize, input: &GuardInput<'_>) -> Result<GuardDecision, PluginFault>;
}
