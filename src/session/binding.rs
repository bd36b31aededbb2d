//! A mask plan bound to the definitions of one result: checked before the first row, and kept with a cursor.

use std::sync::Arc;

use crate::codec::{ColumnDefinition, ColumnFlags, ColumnType};
use crate::fault::Fault;
use crate::policy::{MaskPlan, MaskedColumn};

/// Longest masked value that definitions announce: a hash in hex, in four-byte characters.
const MASKED_LENGTH: u32 = 256;

/// What a masked result looks like.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) plan: Arc<MaskPlan>,
    /// Types of all columns, for binary rows.
    pub(super) types: Vec<ColumnType>,
    /// Character sets of all columns.
    pub(super) charsets: Vec<u16>,
}

impl Binding {
    /// A result that is about to be described.
    pub(super) fn new(plan: Arc<MaskPlan>) -> Self {
        Self { plan, types: Vec::new(), charsets: Vec::new() }
    }

    /// Whether a result of so many columns can be the plan's.
    pub(super) fn check_count(&self, columns: usize) -> Result<(), Fault> {
        if columns == self.plan.outputs.len() { Ok(()) } else { Err(mismatch()) }
    }

    /// Takes the next definition; what must be sent in its place is appended to `out`.
    pub(super) fn define(
        &mut self,
        definition: &ColumnDefinition<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let at = self.types.len();
        let expected = self.plan.outputs.get(at).ok_or_else(mismatch)?;
        if expected.as_ref().is_some_and(|name| !same_name(name, definition.name)) {
            return Err(mismatch());
        }
        self.types.push(definition.column_type);
        self.charsets.push(definition.charset);
        let mut sent = *definition;
        if self.masked(at).is_some() {
            sent.flags.0 &= !ColumnFlags::NOT_NULL;
            if definition.column_type.is_string() {
                sent.length = sent.length.max(MASKED_LENGTH);
                // What a mask writes is a text, and need not be the JSON or UUID that a driver would read it as.
                sent.extended = sent.extended.map(|_| &[][..]);
            }
        }
        sent.write(out);
        Ok(())
    }

    /// The mask on a column.
    pub(super) fn masked(&self, at: usize) -> Option<&MaskedColumn> {
        self.plan.columns.iter().find(|column| usize::from(column.index) == at)
    }
}

/// The server may spell a name in another case than the statement did.
fn same_name(expected: &str, found: &[u8]) -> bool {
    std::str::from_utf8(found).is_ok_and(|found| {
        found == expected || crate::schema::fold(found) == crate::schema::fold(expected)
    })
}

fn mismatch() -> Fault {
    Fault::analysis(
        "the result has other columns than the statement's analysis; nothing was released",
    )
}
