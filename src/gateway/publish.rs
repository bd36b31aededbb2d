//! The one place that makes snapshots: from the inputs, the tokens and the targets' schemas, whichever changed.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::catalog::{self, Raw};
use crate::identity::{Directory, IssuerKeys};
use crate::policy::{PluginHost, Snapshot};
use crate::schema::Catalog;
use crate::store::Logins;

use super::identities::directory;
use super::inputs::Inputs;

/// What snapshots are made of, and the last one made.
pub(super) struct Publisher {
    inputs: Inputs,
    logins: Logins,
    /// Issuers' keys, by their URLs.
    keys: HashMap<String, Arc<IssuerKeys>>,
    directory: Arc<Directory>,
    targets: Vec<TargetSchema>,
    serial: u64,
    epoch: u64,
    published: Arc<ArcSwap<Snapshot>>,
}

#[derive(Default)]
struct TargetSchema {
    raw: Option<Raw>,
    catalog: Option<Arc<Catalog>>,
}

impl Publisher {
    /// The first snapshot: no schema has been read yet, so everything is refused until it has.
    pub(super) fn new(inputs: Inputs, logins: Logins) -> Self {
        let keys = HashMap::new();
        let directory = Arc::new(directory(&inputs.config, &logins, &keys));
        let mut targets = Vec::new();
        targets.resize_with(inputs.config.targets.len(), TargetSchema::default);
        let first = snapshot(&inputs, &directory, &targets, 1);
        let published = Arc::new(ArcSwap::from_pointee(first));
        Self { inputs, logins, keys, directory, targets, serial: 1, epoch: 0, published }
    }

    /// Where workers read.
    pub(super) fn published(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.published)
    }

    /// What the snapshots are made of now.
    pub(super) fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// The serial of the last snapshot.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// New inputs: labels may have changed, so every catalogue is built again.
    pub(super) fn set_inputs(&mut self, inputs: Inputs) {
        self.inputs = inputs;
        for at in 0..self.targets.len() {
            self.rebuild(at);
        }
        let listed = &self.inputs.config.issuers;
        self.keys.retain(|url, _| listed.iter().any(|issuer| issuer.url == *url));
        self.set_directory();
    }

    /// New tokens, or others who are revoked.
    pub(super) fn set_logins(&mut self, logins: Logins) {
        self.logins = logins;
        self.set_directory();
    }

    /// An issuer's keys.
    pub(super) fn set_keys(&mut self, url: String, keys: IssuerKeys) {
        self.keys.insert(url, Arc::new(keys));
        self.set_directory();
    }

    fn set_directory(&mut self) {
        self.directory = Arc::new(directory(&self.inputs.config, &self.logins, &self.keys));
        self.publish();
    }

    /// What a target said of itself; `false` if that is what it said before.
    pub(super) fn set_schema(&mut self, target: usize, raw: Raw) -> bool {
        if self.targets.len() <= target {
            self.targets.resize_with(target + 1, TargetSchema::default);
        }
        let Some(of_target) = self.targets.get_mut(target) else { return false };
        if of_target.raw.as_ref() == Some(&raw) {
            return false;
        }
        of_target.raw = Some(raw);
        self.rebuild(target);
        self.publish();
        true
    }

    /// What a target that was removed said of itself.
    pub(super) fn forget(&mut self, target: usize) {
        if let Some(of_target) = self.targets.get_mut(target) {
            *of_target = TargetSchema::default();
            self.publish();
        }
    }

    /// How many targets have said something of themselves, or are to.
    pub(super) fn targets(&self) -> usize {
        self.targets.len()
    }

    /// The `sql_mode` that a target's server has by default, once it was read.
    pub(super) fn sql_mode(&self, target: usize) -> Option<&str> {
        self.targets.get(target)?.raw.as_ref().map(|raw| raw.sql_mode_text.as_str())
    }

    fn rebuild(&mut self, target: usize) {
        self.epoch += 1;
        let (inputs, epoch) = (&self.inputs, self.epoch);
        if let Some(of_target) = self.targets.get_mut(target) {
            of_target.catalog = of_target.raw.as_ref().map(|raw| {
                Arc::new(catalog::build(raw, &inputs.label_rules, &inputs.labels, epoch))
            });
        }
    }

    fn publish(&mut self) {
        self.serial += 1;
        let next = snapshot(&self.inputs, &self.directory, &self.targets, self.serial);
        self.published.store(Arc::new(next));
    }
}

fn snapshot(
    inputs: &Inputs,
    directory: &Arc<Directory>,
    targets: &[TargetSchema],
    serial: u64,
) -> Snapshot {
    Snapshot {
        serial,
        version: inputs.digest.to_hex().to_string(),
        policies: Arc::clone(&inputs.policies),
        directory: Arc::clone(directory),
        plugins: Arc::clone(&inputs.plugins) as Arc<dyn PluginHost>,
        catalogs: targets.iter().map(|target| target.catalog.clone()).collect(),
    }
}
