//! A plugin that misbehaves, for the tests of the host: it masks the first cell of a batch and forgets the others.

use rowgate_plugin::{Cells, Edits, Plugin};

/// The plugin.
pub struct Misbehaves;

impl Plugin for Misbehaves {
    const NAME: &'static str = "test-too-few";
    const MASKS: &'static [&'static str] = &["redact", "keep-last", "hash", "null"];
    type Config = std::collections::BTreeMap<String, String>;
    type Mask = ();

    fn new(_: Self::Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn mask_of(&self, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn mask(&self, _: &[()], cells: &Cells<'_>, edits: &mut Edits) -> Result<(), String> {
        if let Some(cell) = cells.iter().next() {
            edits.replace_all(&cell, b"[redacted]");
        }
        Ok(())
    }
}

rowgate_plugin::export!(Misbehaves);
