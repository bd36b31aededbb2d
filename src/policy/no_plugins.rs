//! The plugin host of a configuration without plugins. It fails closed: a mask that is asked of it is an error.

use super::{GuardDecision, GuardInput, MaskSpec, PluginFault, PluginHost, RowFilter, StreamInfo};

/// No plugins at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPlugins;

impl PluginHost for NoPlugins {
    fn check_mask(&self, mask: &MaskSpec) -> Result<(), String> {
        Err(format!("plugin {} is not loaded; add it to [[plugins]]", mask.plugin))
    }

    fn open(
        &self,
        _worker: usize,
        stream: &StreamInfo<'_>,
    ) -> Result<Box<dyn RowFilter>, PluginFault> {
        Err(PluginFault::Missing(stream.plugin.to_owned()))
    }

    fn guards(&self) -> bool {
        false
    }

    fn guard(&self, _worker: usize, _input: &GuardInput<'_>) -> Result<GuardDecision, PluginFault> {
        Ok(GuardDecision::Allow)
    }
}
