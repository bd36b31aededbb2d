//! A stream of one result: an instance checked out, opened for its columns, and given back.

use std::sync::Arc;

use super::abi::{MaskColumn, OpenInfo};
use super::instance::Instance;
use super::loaded::Loaded;
use crate::policy::{Batch, Edits, PluginFault, RowFilter, StreamColumn, StreamInfo};

/// An open stream.
pub(super) struct Stream {
    plugin: Arc<Loaded>,
    worker: usize,
    /// `None` after a failure: the instance is gone, and so is the stream.
    instance: Option<Instance>,
    id: u32,
}

impl Stream {
    pub(super) fn open(
        plugin: Arc<Loaded>,
        worker: usize,
        stream: &StreamInfo<'_>,
    ) -> Result<Self, PluginFault> {
        let column = |column: &StreamColumn<'_>| MaskColumn {
            type_code: column.type_code,
            charset: column.charset,
            labels: column.masked.label_names.clone(),
            mask: column.masked.mask.name.clone(),
            arguments: column.masked.mask.arguments.clone(),
            rule: column.masked.rule.clone(),
        };
        let columns = stream.columns.iter().map(column).collect();
        let info = OpenInfo { stream_id: 0, binary: stream.binary, columns };
        let mut instance = plugin.check_out(worker, stream.subject)?;
        let id = instance.open_stream(&plugin, info)?;
        Ok(Self { plugin, worker, instance: Some(instance), id })
    }
}

impl RowFilter for Stream {
    fn filter(&mut self, batch: Batch<'_>, edits: &mut Edits) -> Result<(), PluginFault> {
        let Some(mut instance) = self.instance.take() else {
            return Err(PluginFault::Missing(self.plugin.name.clone()));
        };
        if batch.cells.len() > self.plugin.max_batch_bytes {
            return Err(self.plugin.broke("a batch longer than it takes"));
        }
        let cells = (batch.cells, batch.lens);
        instance.mask_batch(&self.plugin, self.id, batch.rows, cells, edits)?;
        self.instance = Some(instance);
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Some(mut instance) = self.instance.take() else { return };
        if instance.close_stream(&self.plugin, self.id).is_ok() {
            self.plugin.give_back(self.worker, instance);
        }
    }
}
