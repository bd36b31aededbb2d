//! Plugins as WASM components: loaded, limited, called. It knows the ABI and nothing of rows or policy.
//!
//! Each worker has a small pool of instances a plugin. A stream checks one out and gives it back; one that trapped,
//! ran out of its limits or broke the contract is thrown away. Nothing a plugin does can release a raw cell: its
//! answers are edits, and the session checks every one.

mod abi;
mod classify;
mod clock;
mod engine;
mod inspect;
mod instance;
mod loaded;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub use classify::{ColumnName, Proposal};
pub use inspect::{Inspection, inspect};
pub use loaded::PluginStats;

use crate::config;
use crate::policy::{
    GuardDecision, GuardInput, MaskSpec, PluginFault, PluginHost, RowFilter, StreamInfo,
};
use crate::secret::Secret;
use engine::Runtime;
use loaded::Loaded;

/// A plugin can't be loaded: one line that names the file and the mend.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file.
    #[error("{0}: plugins.path: {1}; run `cargo xtask plugins`, or give the path of a component")]
    File(PathBuf, std::io::Error),
    /// Not a component.
    #[error("{0}: plugins.path: not a WASM component ({1}); build it as docs/plugins.md says")]
    Component(PathBuf, String),
    /// Another version of the contract.
    #[error(
        "{path}: plugins.path: made for {found}, this gateway speaks {expected}; build it against wit/v1"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What it exports.
        found: String,
        /// What is expected.
        expected: String,
    },
    /// Its own refusal.
    #[error("{path}: plugins.{name}.config: {what}; mend the configuration")]
    Config {
        /// The file.
        path: PathBuf,
        /// The plugin.
        name: String,
        /// What it says.
        what: String,
    },
    /// It failed while it was loaded.
    #[error("{0}: plugins.path: {1}")]
    Start(PathBuf, String),
    /// The runtime itself.
    #[error("WASM can't run here: {0}")]
    Engine(String),
}

/// The plugins of one snapshot.
pub struct Plugins {
    loaded: BTreeMap<String, Arc<Loaded>>,
}

impl Plugins {
    /// Loads and configures every plugin of the configuration.
    pub fn load(
        settings: &[config::Plugin],
        keys: BTreeMap<String, Secret>,
        workers: usize,
    ) -> Result<Self, PluginError> {
        let runtime = Arc::new(Runtime::start()?);
        let keys = Arc::new(keys);
        let mut loaded = BTreeMap::new();
        for setting in settings {
            let plugin = Loaded::load(setting, &runtime, &keys, workers)?;
            loaded.insert(setting.name.clone(), Arc::new(plugin));
        }
        Ok(Self { loaded })
    }

    /// How each plugin fares.
    pub fn stats(&self) -> impl Iterator<Item = (&str, PluginStats)> {
        self.loaded.iter().map(|(name, plugin)| (name.as_str(), plugin.stats()))
    }

    /// What the classifying plugins say of columns, by name.
    pub fn classify_columns(
        &self,
        columns: &[ColumnName],
    ) -> Result<Vec<Vec<Proposal>>, PluginFault> {
        self.classified(columns.len(), |plugin| plugin.classify_columns(columns))
    }

    /// What the classifying plugins say of values; `None` is NULL.
    pub fn classify_values(
        &self,
        values: &[Option<Vec<u8>>],
    ) -> Result<Vec<Vec<Proposal>>, PluginFault> {
        self.classified(values.len(), |plugin| plugin.classify_values(values))
    }

    fn named(&self, name: &str) -> Result<&Arc<Loaded>, PluginFault> {
        self.loaded.get(name).ok_or_else(|| PluginFault::Missing(name.to_owned()))
    }

    fn classified(
        &self,
        count: usize,
        ask: impl Fn(&Loaded) -> Result<Vec<Vec<Proposal>>, PluginFault>,
    ) -> Result<Vec<Vec<Proposal>>, PluginFault> {
        let mut proposals = vec![Vec::new(); count];
        for plugin in self.loaded.values().filter(|plugin| plugin.classifies) {
            for (all, more) in proposals.iter_mut().zip(ask(plugin)?) {
                all.extend(more);
            }
        }
        Ok(proposals)
    }
}

impl std::fmt::Debug for Plugins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.loaded.keys()).finish()
    }
}

impl PluginHost for Plugins {
    fn check_mask(&self, mask: &MaskSpec) -> Result<(), String> {
        let plugin = self.loaded.get(&mask.plugin).ok_or_else(|| {
            format!("plugin {:?} is not loaded; add it under [[plugins]]", mask.plugin)
        })?;
        plugin.check_mask(&mask.name, &mask.arguments)
    }

    fn digest(&self, plugin: &str) -> Option<&str> {
        self.loaded.get(plugin).map(|plugin| plugin.digest.as_str())
    }

    fn open(
        &self,
        worker: usize,
        stream: &StreamInfo<'_>,
    ) -> Result<Box<dyn RowFilter>, PluginFault> {
        let plugin = Arc::clone(self.named(stream.plugin)?);
        Ok(Box::new(stream::Stream::open(plugin, worker, stream)?))
    }

    fn recognises(
        &self,
        worker: usize,
        subject: &str,
        mask: &MaskSpec,
        values: &[Vec<u8>],
    ) -> Result<bool, PluginFault> {
        self.named(&mask.plugin)?.recognises(worker, subject, mask, values)
    }

    fn guards(&self) -> bool {
        self.loaded.values().any(|plugin| plugin.decides)
    }

    fn guard(&self, worker: usize, input: &GuardInput<'_>) -> Result<GuardDecision, PluginFault> {
        let mut strictest = GuardDecision::Allow;
        for plugin in self.loaded.values().filter(|plugin| plugin.decides) {
            match plugin.decide(worker, input)? {
                GuardDecision::Allow => {}
                deny @ GuardDecision::Deny { .. } => return Ok(deny),
                held @ GuardDecision::RequireApproval { .. } => strictest = held,
            }
        }
        Ok(strictest)
    }
}
