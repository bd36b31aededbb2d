//! Masks as policy names them.

use crate::schema::LabelSet;

/// `plugin/name:arguments`, as in `@mask("keep-last:4")` or `@mask("classify-pii/spans")`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MaskSpec {
    /// The plugin's name; `mask-standard` where the annotation names none.
    pub plugin: String,
    /// The mask's name: `redact`, `keep-last`, `hash`, `null`, `spans`, …
    pub name: String,
    /// What follows the colon; empty where nothing does.
    pub arguments: String,
}

/// A column of one result and the mask on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskedColumn {
    /// Index in the result.
    pub index: u16,
    /// The mask.
    pub mask: MaskSpec,
    /// At most this many bytes of a cell may survive in the masked value, as the host enforces (DECISIONS 12);
    /// `None`: the mask may leave a cell unchanged (detectors in free text).
    pub may_keep: Option<u32>,
    /// The labels that asked for it.
    pub labels: LabelSet,
    /// Those labels' names, for the plugin and the record.
    pub label_names: Vec<String>,
    /// The deciding rule's `@id`.
    pub rule: String,
}

/// What to mask in a statement's results, bound to the definitions before the first row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskPlan {
    /// By index, ascending; never empty.
    pub columns: Vec<MaskedColumn>,
    /// The names the result must have, where they can be told; its length is the count the result must have.
    pub outputs: Vec<Option<String>>,
}
