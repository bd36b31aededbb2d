//! The SDK for Rowgate's plugins: one trait, one macro. The ABI (`wit/v1`) stays out of sight.
//!
//! ```
//! use rowgate_plugin::{Cells, Edits, Plugin};
//!
//! /// Shows how long a value is, and nothing of it.
//! struct Lengths;
//!
//! impl Plugin for Lengths {
//!     const NAME: &'static str = "lengths";
//!     const MASKS: &'static [&'static str] = &["length"];
//!     type Config = ();
//!     type Mask = ();
//!
//!     fn new((): ()) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!
//!     fn mask_of(&self, name: &str, arguments: &str) -> Result<(), String> {
//!         match (name, arguments) {
//!             ("length", "") => Ok(()),
//!             _ => Err("there is only \"length\", without arguments".to_owned()),
//!         }
//!     }
//!
//!     fn mask(&self, _: &[()], cells: &Cells<'_>, edits: &mut Edits) -> Result<(), String> {
//!         for cell in cells.iter() {
//!             edits.replace_all(&cell, format!("{} bytes", cell.value.len()).as_bytes());
//!         }
//!         Ok(())
//!     }
//!
//!     fn recognises(&self, (): &(), value: &[u8]) -> bool {
//!         let digits = value.strip_suffix(b" bytes");
//!         digits.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
//!     }
//! }
//!
//! rowgate_plugin::export!(Lengths);
//! ```
//!
//! Everything but the macro's expansion builds on the host too, so that a plugin's logic is tested with plain
//! `cargo test`.

mod batch;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod guest;

pub use batch::{Cell, Cells, Edits, NULL};

/// Something that can mask, classify, decide, or all of it.
pub trait Plugin: Sized + 'static {
    /// Its name in configuration and policies.
    const NAME: &'static str;
    /// The masks it knows.
    const MASKS: &'static [&'static str] = &[];
    /// It classifies.
    const CLASSIFIES: bool = false;
    /// It decides statements.
    const DECIDES: bool = false;
    /// What its configuration is read into.
    type Config: serde::de::DeserializeOwned + Default;
    /// A mask with its arguments read.
    type Mask;

    /// Made once per instance. `Err` says what is wrong with the configuration.
    fn new(config: Self::Config) -> Result<Self, String>;

    /// Reads a mask's name and arguments. `Err` says what is wrong with them.
    fn mask_of(&self, name: &str, arguments: &str) -> Result<Self::Mask, String> {
        let _ = arguments;
        Err(format!("no mask is called {name:?}"))
    }

    /// Masks one batch of cells, each with its column's mask: edits are made in order.
    fn mask(
        &self,
        masks: &[Self::Mask],
        cells: &Cells<'_>,
        edits: &mut Edits,
    ) -> Result<(), String> {
        let _ = (masks, cells, edits);
        Err("this plugin does not mask".to_owned())
    }

    /// Whether a value could be one that this mask made. It is about to be written to a column that is shown so: whoever
    /// writes back what it was shown destroys what is there. A plugin that can't tell takes every value for such, so that
    /// nothing is written to the columns that it masks.
    fn recognises(&self, mask: &Self::Mask, value: &[u8]) -> bool {
        let _ = (mask, value);
        true
    }

    /// Labels for a column, by its name.
    fn classify_column(&self, column: &Column) -> Vec<Label> {
        let _ = column;
        Vec::new()
    }

    /// Labels for a value.
    fn classify_value(&self, value: &[u8]) -> Vec<Label> {
        let _ = value;
        Vec::new()
    }

    /// Decides a statement.
    fn decide(&self, statement: &Statement) -> Decision {
        let _ = statement;
        Decision::Allow
    }
}

/// A column to classify.
#[derive(Clone, Debug, Default)]
pub struct Column {
    /// Database.
    pub schema: String,
    /// Table.
    pub table: String,
    /// Name.
    pub name: String,
    /// The server's data type, lower case.
    pub data_type: String,
}

/// A label that is proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// 0 to 100.
    pub confidence: u8,
}

/// How a table is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Rows are read.
    Read,
    /// Rows are written.
    Write,
    /// Its definition is made, changed or dropped.
    Define,
}

/// A table that a statement touches.
#[derive(Clone, Debug)]
pub struct Table {
    /// Database.
    pub schema: String,
    /// Name.
    pub name: String,
    /// How.
    pub access: Access,
    /// Its and its columns' labels.
    pub labels: Vec<String>,
    /// The catalogue's estimate.
    pub estimated_rows: u64,
}

/// The facts about a statement.
#[derive(Clone, Debug, Default)]
pub struct Statement {
    /// Who.
    pub subject: String,
    /// In which groups.
    pub groups: Vec<String>,
    /// On which target.
    pub target: String,
    /// In which database.
    pub schema: Option<String>,
    /// Digest of the shape, hex.
    pub digest: String,
    /// The statement with its literals replaced.
    pub shape: String,
    /// What it is: `select`, `drop`, ….
    pub verb: String,
    /// What it touches.
    pub tables: Vec<Table>,
    /// Has a WHERE.
    pub has_where: bool,
    /// Its WHERE pins a whole unique key.
    pub key_pinned: bool,
    /// The literal LIMIT.
    pub limit: Option<u64>,
    /// Touches labelled data.
    pub sensitive: bool,
    /// Came over the prepared protocol.
    pub prepared: bool,
}

/// What a plugin says of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing against it.
    Allow,
    /// Refuse it, with this reason.
    Deny(String),
    /// Ask people.
    RequireApproval {
        /// Why.
        reason: String,
        /// Whom; empty for the configured groups.
        groups: Vec<String>,
    },
}

/// HMAC-SHA-256 of each cell under a key that the gateway holds: 32 bytes a cell.
pub fn hmac_sha256(key: &str, cells: &[u8], lens: &[u32]) -> Result<Vec<u8>, String> {
    #[cfg(target_family = "wasm")]
    return guest::hmac_sha256(key, cells, lens);
    #[cfg(not(target_family = "wasm"))]
    {
        let _ = (cells, lens);
        Err(format!("key {key:?}: keyed hashes need the gateway"))
    }
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the plugin's author.
    Debug,
    /// Good to know.
    Info,
    /// Someone should look.
    Warn,
    /// It does not work.
    Error,
}

/// Writes a line to the gateway's log, which cuts it at 1,024 characters and takes 100 lines in ten seconds. Never cell
/// values. On the host, in tests, nothing happens.
pub fn log(level: Level, message: &str) {
    #[cfg(target_family = "wasm")]
    guest::log(level, message);
    #[cfg(not(target_family = "wasm"))]
    let _ = (level, message);
}

/// Makes a component of a [`Plugin`].
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            ::std::thread_local! {
                static STATE: $crate::guest::Cell<$plugin> = $crate::guest::new_cell();
            }
            struct Component;
            $crate::guest_impls!(Component, $plugin, STATE);
    $crate::guest::bindings::export!(Component with_types_in $crate::guest::bindings);
        };
    };
}
