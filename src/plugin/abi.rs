//! The contract's types as the host lifts and lowers them: `wit/v1`, by hand, so that the row path lowers its
//! cells from borrowed slices.

use wasmtime::component::{ComponentType, Lift, Lower, flags};

/// The package that is spoken.
pub(super) const PACKAGE: &str = "rowgate:plugin";
/// Its version.
pub(super) const VERSION: &str = "0.1.0";

/// `rowgate:plugin/NAME@VERSION`.
pub(super) fn interface(name: &str) -> String {
    format!("{PACKAGE}/{name}@{VERSION}")
}

flags! {
    Hooks {
        #[component(name = "classify")]
        const CLASSIFY;
        #[component(name = "mask")]
        const MASK;
        #[component(name = "decide")]
        const DECIDE;
    }
}

#[derive(ComponentType, Lift, Debug)]
#[component(record)]
pub(super) struct PluginFailure {
    pub(super) code: u32,
    pub(super) message: String,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct Manifest {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) hooks: Hooks,
    pub(super) masks: Vec<String>,
    #[component(name = "max-batch-bytes")]
    pub(super) max_batch_bytes: u32,
    #[component(name = "config-schema")]
    pub(super) config_schema: String,
}

#[derive(ComponentType, Lift, Debug)]
#[component(record)]
pub(super) struct ConfigProblem {
    pub(super) path: String,
    pub(super) message: String,
}

#[derive(ComponentType, Lower, Debug)]
#[component(record)]
pub(super) struct MaskColumn {
    #[component(name = "type-code")]
    pub(super) type_code: u8,
    pub(super) charset: u16,
    pub(super) labels: Vec<String>,
    pub(super) mask: String,
    pub(super) arguments: String,
    pub(super) rule: String,
}

#[derive(ComponentType, Lower, Debug)]
#[component(record)]
pub(super) struct OpenInfo {
    #[component(name = "stream-id")]
    pub(super) stream_id: u32,
    pub(super) binary: bool,
    pub(super) columns: Vec<MaskColumn>,
}

/// Copied out as it is lifted: by the time a call returns, the guest's clean-up has run, and a list left in its memory
/// (`WasmList`) would be read after it was freed. Two allocations a batch are the price.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct PackedEdits {
    pub(super) edits: Vec<u32>,
    pub(super) replacement: Vec<u8>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum Outcome {
    #[component(name = "unchanged")]
    Unchanged,
    #[component(name = "edited")]
    Edited(PackedEdits),
    #[component(name = "deny")]
    Deny(String),
}

#[derive(ComponentType, Lower, Debug)]
#[component(record)]
pub(super) struct ClassifiedColumn {
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) name: String,
    #[component(name = "data-type")]
    pub(super) data_type: String,
}

#[derive(ComponentType, Lift, Debug)]
#[component(record)]
pub(super) struct ProposedLabel {
    pub(super) name: String,
    pub(super) confidence: u8,
}

#[derive(ComponentType, Lower, Clone, Copy, Debug)]
#[component(enum)]
#[repr(u8)]
pub(super) enum TableAccess {
    #[component(name = "read")]
    Read,
    #[component(name = "write")]
    Write,
    #[component(name = "define")]
    Define,
}

#[derive(ComponentType, Lower, Debug)]
#[component(record)]
pub(super) struct TableFact {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) access: TableAccess,
    pub(super) labels: Vec<String>,
    #[component(name = "estimated-rows")]
    pub(super) estimated_rows: u64,
}

#[derive(ComponentType, Lower, Debug)]
#[component(record)]
pub(super) struct StatementFacts {
    pub(super) subject: String,
    pub(super) groups: Vec<String>,
    pub(super) target: String,
    pub(super) schema: Option<String>,
    pub(super) digest: String,
    pub(super) shape: String,
    pub(super) verb: String,
    pub(super) tables: Vec<TableFact>,
    #[component(name = "has-where")]
    pub(super) has_where: bool,
    #[component(name = "key-pinned")]
    pub(super) key_pinned: bool,
    pub(super) limit: Option<u64>,
    pub(super) sensitive: bool,
    pub(super) prepared: bool,
}

#[derive(ComponentType, Lift, Debug)]
#[component(record)]
pub(super) struct ApprovalWish {
    pub(super) reason: String,
    pub(super) groups: Vec<String>,
}

#[derive(ComponentType, Lift, Debug)]
#[component(variant)]
pub(super) enum Decided {
    #[component(name = "allow")]
    Allow,
    #[component(name = "deny")]
    Deny(String),
    #[component(name = "require-approval")]
    RequireApproval(ApprovalWish),
}

#[allow(dead_code, reason = "values come from the guest only")]
#[derive(ComponentType, Lift, Clone, Copy, Debug)]
#[component(enum)]
#[repr(u8)]
pub(super) enum LogLevel {
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}
