//! A plugin that misbehaves, for the tests of the host: it allocates without end.

use rowgate_plugin::{Cells, Edits, Plugin};

/// The plugin.
pub struct Misbehaves;

impl Plugin for Misbehaves {
    const NAME: &'static str = "test-allocates";
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
        let mut hoard: Vec<Vec<u8>> = Vec::new();
        while std::hint::black_box(!cells.lens.is_empty() && edits.edits.is_empty()) {
            hoard.push(vec![1; 1 << 16]);
        }
        Ok(())
    }
}

rowgate_plugin::export!(Misbehaves);
