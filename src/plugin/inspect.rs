//! `rowgate plugin inspect`: what a component says it is, without a gateway.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::PluginError;
use super::abi::{Hooks, PACKAGE, VERSION};
use super::engine::Runtime;
use super::loaded::{Loaded, component, read};
use crate::config;
use crate::policy::PluginFault;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Inspection {
    /// Its name, by its own word.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The contract it was made for.
    pub contract: String,
    /// `classify`, `mask`, `decide`.
    pub hooks: Vec<&'static str>,
    /// The masks it knows.
    pub masks: Vec<String>,
    /// What it imports.
    pub imports: Vec<String>,
    /// Its size in bytes.
    pub bytes: u64,
    /// BLAKE3 of its bytes, in hex.
    pub digest: String,
    /// The longest batch it takes.
    pub max_batch_bytes: u32,
    /// JSON Schema of its configuration; empty for none.
    pub config_schema: String,
}

/// Loads a component and asks what it is.
pub fn inspect(path: &Path) -> Result<Inspection, PluginError> {
    let runtime = Arc::new(Runtime::start()?);
    let bytes = read(path)?;
    let compiled = component(path, &bytes, &runtime)?;
    let setting = config::Plugin {
        name: "inspected".to_owned(),
        path: path.to_path_buf(),
        config: toml::Table::new(),
        memory_mib: 64,
        timeout_ms: 5_000,
    };
    let ty = compiled.component_type();
    let imports = ty.imports(&runtime.engine).map(|(name, _)| name.to_owned()).collect();
    let loaded = Loaded::load(&setting, &runtime, &Arc::new(BTreeMap::new()), 1)?;
    let start = |fault: PluginFault| PluginError::Start(path.to_path_buf(), fault.to_string());
    let manifest =
        loaded.check_out(0, "").and_then(|mut one| one.describe(&loaded)).map_err(start)?;
    let named = [(Hooks::CLASSIFY, "classify"), (Hooks::MASK, "mask"), (Hooks::DECIDE, "decide")];
    let hooks = named.into_iter().filter(|(hook, _)| manifest.hooks & *hook == *hook);
    Ok(Inspection {
        name: manifest.name,
        version: manifest.version,
        contract: format!("{PACKAGE}@{VERSION}"),
        hooks: hooks.map(|(_, name)| name).collect(),
        masks: manifest.masks,
        imports,
        bytes: bytes.len() as u64,
        digest: loaded.digest.clone(),
        max_batch_bytes: manifest.max_batch_bytes,
        config_schema: manifest.config_schema,
    })
}
