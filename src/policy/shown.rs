//! How columns that a statement writes to are shown to whoever writes them: a masked value that is written back, as an ORM
//! does that saves a whole row, would destroy the real one.

use super::{MaskSpec, PluginFault, PluginHost};

/// The rule that refuses what could be a masked value.
pub const WRITE_BACK: &str = "masked-write-back";

/// A masked column that a statement writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// `shop.customers.ssn`.
    pub column: String,
    /// The mask on its values, where those are shown as others.
    pub mask: Option<MaskSpec>,
    /// It is shown as NULL, and a parameter is written over what is there.
    pub null: bool,
}

/// The values that a statement brings, whichever column they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// Its strings.
    pub strings: Vec<Vec<u8>>,
    /// A parameter is NULL.
    pub null: bool,
}

/// Why a statement is refused whose values could be masked ones; `None`: they aren't. A plugin that fails can't say so.
pub fn written_back(
    shown: &[Shown],
    values: &Values,
    (plugins, worker, subject): (&dyn PluginHost, usize, &str),
) -> Result<Option<String>, PluginFault> {
    for Shown { column, mask, null } in shown {
        let seen = match mask {
            Some(mask) if !values.strings.is_empty() => {
                plugins.recognises(worker, subject, mask, &values.strings)?
            }
            _ => false,
        };
        if seen || *null && values.null {
            return Ok(Some(write_back(column)));
        }
    }
    Ok(None)
}

pub(super) fn write_back(column: &str) -> String {
    format!(
        "{column} is masked for you, and a value of this statement looks like what you are shown of it: writing that back \
         would destroy the real one; leave the column out"
    )
}
