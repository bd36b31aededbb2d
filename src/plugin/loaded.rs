//! One plugin of a snapshot: its component, its limits, its pools of instances, and how it fares.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use wasmtime::StoreLimitsBuilder;
use wasmtime::component::{Component, InstancePre};

use super::PluginError;
use super::abi::{Hooks, Manifest, PACKAGE, interface};
use super::clock::PluginClock;
use super::engine::{Host, LogBudget, Runtime};
use super::instance::Instance;
use crate::config;
use crate::policy::{MaskSpec, PluginFault};
use crate::secret::Secret;

/// Idle instances kept for each worker: streams of one worker rarely overlap.
const KEPT: usize = 4;

/// So many failures in a row, and the plugin is left alone for a while.
const MAX_FAILURES: u32 = 5;

/// For how long.
const QUARANTINE_MS: u64 = 2_000;

/// Longest file that is read: componentize-py's are 18 MiB.
const MAX_FILE: u64 = 64 << 20;

/// Values in one call at the most: their lengths take four bytes each of the guest's memory, however short they are.
const MAX_BATCH_VALUES: usize = 65_536;

/// How a core module of version 1 starts; a component has another version there.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// How a plugin fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginStats {
    /// Calls.
    pub calls: u64,
    /// Nanoseconds spent in them.
    pub ns: u64,
    /// Traps, time-outs, memory over the limit, broken answers.
    pub faults: u64,
}

/// A loaded plugin.
pub(super) struct Loaded {
    pub(super) name: String,
    /// BLAKE3 of its file, in hex.
    pub(super) digest: String,
    pub(super) classifies: bool,
    pub(super) decides: bool,
    pub(super) max_batch_bytes: usize,
    /// The time limit of a call, in ticks of the runtime's clock.
    pub(super) ticks: u64,
    pub(super) runtime: Arc<Runtime>,
    masks: bool,
    pre: InstancePre<Host>,
    keys: Arc<BTreeMap<String, Secret>>,
    logs: Arc<LogBudget>,
    config: String,
    memory: usize,
    pools: Vec<Mutex<Vec<Instance>>>,
    calls: AtomicU64,
    ns: AtomicU64,
    faults: AtomicU64,
    in_a_row: AtomicU32,
    failed_at_ms: AtomicU64,
    started: Instant,
}

impl Loaded {
    pub(super) fn load(
        setting: &config::Plugin,
        runtime: &Arc<Runtime>,
        keys: &Arc<BTreeMap<String, Secret>>,
        workers: usize,
    ) -> Result<Self, PluginError> {
        let path = setting.path.as_path();
        let bytes = read(path)?;
        let component = component(path, &bytes, runtime)?;
        check_version(path, &component, runtime)?;
        let start = |error: &dyn std::fmt::Display| {
            PluginError::Start(path.to_path_buf(), error.to_string())
        };
        let linker = runtime.linker().map_err(|error| PluginError::Engine(error.to_string()))?;
        let mut loaded = Self {
            name: setting.name.clone(),
            digest: blake3::hash(&bytes).to_hex().to_string(),
            classifies: false,
            decides: false,
            max_batch_bytes: usize::MAX,
            ticks: PluginClock::ticks(u64::from(setting.timeout_ms)),
            runtime: Arc::clone(runtime),
            masks: false,
            pre: linker.instantiate_pre(&component).map_err(|error| start(&error))?,
            keys: Arc::clone(keys),
            logs: Arc::default(),
            config: serde_json::to_string(&setting.config).map_err(|error| start(&error))?,
            memory: usize::try_from(setting.memory_mib).unwrap_or(16).saturating_mul(1 << 20),
            pools: (0..workers.max(1)).map(|_| Mutex::default()).collect(),
            calls: AtomicU64::new(0),
            ns: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            in_a_row: AtomicU32::new(0),
            failed_at_ms: AtomicU64::new(0),
            started: Instant::now(),
        };
        let (instance, manifest) = loaded.first(path)?;
        loaded.classifies = manifest.hooks & Hooks::CLASSIFY == Hooks::CLASSIFY;
        loaded.decides = manifest.hooks & Hooks::DECIDE == Hooks::DECIDE;
        loaded.masks = manifest.hooks & Hooks::MASK == Hooks::MASK;
        loaded.max_batch_bytes = usize::try_from(manifest.max_batch_bytes).unwrap_or(usize::MAX);
        loaded.give_back(0, instance);
        Ok(loaded)
    }

    /// The first instance, which tells what the plugin is and whether its configuration fits.
    fn first(&self, path: &Path) -> Result<(Instance, Manifest), PluginError> {
        let start = |fault: PluginFault| PluginError::Start(path.to_path_buf(), fault.to_string());
        let mut instance = Instance::new(self, &self.pre, self.host()).map_err(start)?;
        let manifest = instance.describe(self).map_err(start)?;
        let problems = instance.configure(self, &self.config).map_err(start)?;
        match problems.first() {
            None => Ok((instance, manifest)),
            Some(problem) => Err(PluginError::Config {
                path: path.to_path_buf(),
                name: self.name.clone(),
                what: format!("{}: {}", problem.path, problem.message),
            }),
        }
    }

    fn host(&self) -> Host {
        let limits = StoreLimitsBuilder::new()
            .memory_size(self.memory)
            .table_elements(100_000)
            .instances(100)
            .trap_on_grow_failure(true)
            .build();
        Host::new(&self.name, limits, &self.keys, &self.logs)
    }

    /// An instance of this worker's for this identity: a kept one, or a fresh one.
    pub(super) fn check_out(&self, worker: usize, subject: &str) -> Result<Instance, PluginFault> {
        if self.is_quarantined() {
            return Err(PluginFault::Quarantined(self.name.clone()));
        }
        let mut pool = self.pool(worker).lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut instance) = pool.pop() {
            // What an instance remembers of one identity must not reach another: others are dropped.
            if instance.subject.is_empty() || instance.subject == subject {
                subject.clone_into(&mut instance.subject);
                return Ok(instance);
            }
        }
        drop(pool);
        let mut instance = Instance::new(self, &self.pre, self.host())?;
        if !instance.configure(self, &self.config)?.is_empty() {
            return Err(self.broke("its configuration is refused now"));
        }
        subject.clone_into(&mut instance.subject);
        Ok(instance)
    }

    /// Takes back an instance that works.
    pub(super) fn give_back(&self, worker: usize, instance: Instance) {
        self.in_a_row.store(0, Ordering::Relaxed);
        let mut pool = self.pool(worker).lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < KEPT {
            pool.push(instance);
        }
    }

    fn pool(&self, worker: usize) -> &Mutex<Vec<Instance>> {
        &self.pools[worker % self.pools.len()]
    }

    /// Counts a call.
    pub(super) fn called(&self, since: Instant) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let ns = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Counts a failure, of which the instance does not come back.
    pub(super) fn failed(&self, fault: PluginFault) -> PluginFault {
        self.faults.fetch_add(1, Ordering::Relaxed);
        self.in_a_row.fetch_add(1, Ordering::Relaxed);
        self.failed_at_ms.store(self.now_ms(), Ordering::Relaxed);
        tracing::warn!(plugin = self.name, %fault, "a plugin failed");
        fault
    }

    /// A broken contract.
    pub(super) fn broke(&self, why: &'static str) -> PluginFault {
        self.failed(PluginFault::Contract { plugin: self.name.clone(), why })
    }

    fn is_quarantined(&self) -> bool {
        let since = self.now_ms().saturating_sub(self.failed_at_ms.load(Ordering::Relaxed));
        self.in_a_row.load(Ordering::Relaxed) >= MAX_FAILURES && since < QUARANTINE_MS
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn check_mask(&self, name: &str, arguments: &str) -> Result<(), String> {
        if !self.masks {
            return Err(format!("plugin {:?} does not mask", self.name));
        }
        let mut instance = self.check_out(0, "").map_err(|fault| fault.to_string())?;
        let answer =
            instance.check_mask(self, name, arguments).map_err(|fault| fault.to_string())?;
        self.give_back(0, instance);
        answer
    }

    /// Whether one of these values could be what the mask made, for all that the plugin knows.
    pub(super) fn recognises(
        &self,
        worker: usize,
        subject: &str,
        mask: &MaskSpec,
        values: &[Vec<u8>],
    ) -> Result<bool, PluginFault> {
        let mut instance = self.check_out(worker, subject)?;
        let (mut left, mut found) = (values, false);
        while !found && !left.is_empty() {
            let (cells, lens) = self.batch(&mut left)?;
            let mask = (mask.name.as_str(), mask.arguments.as_str());
            let answers = instance.recognise(self, mask, (&cells, &lens))?;
            if answers.len() != lens.len() {
                return Err(self.broke("another number of answers than questions"));
            }
            found = answers.contains(&true);
        }
        self.give_back(worker, instance);
        Ok(found)
    }

    /// As many values as one call takes, cut off from those that are left.
    fn batch(&self, left: &mut &[Vec<u8>]) -> Result<(Vec<u8>, Vec<u32>), PluginFault> {
        let (mut cells, mut lens) = (Vec::new(), Vec::new());
        while let Some((value, rest)) = left.split_first() {
            let fits = cells.len() + value.len() <= self.max_batch_bytes;
            let Ok(len) = u32::try_from(value.len()) else { break };
            if !fits || lens.len() == MAX_BATCH_VALUES {
                break;
            }
            cells.extend_from_slice(value);
            lens.push(len);
            *left = rest;
        }
        if lens.is_empty() {
            return Err(PluginFault::Contract {
                plugin: self.name.clone(),
                why: "it takes no value as long as this one",
            });
        }
        Ok((cells, lens))
    }

    pub(super) fn stats(&self) -> PluginStats {
        PluginStats {
            calls: self.calls.load(Ordering::Relaxed),
            ns: self.ns.load(Ordering::Relaxed),
            faults: self.faults.load(Ordering::Relaxed),
        }
    }
}

/// Reads a component's file: a plain file, and not a longer one than any component is.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, PluginError> {
    let failed = |error| PluginError::File(path.to_path_buf(), error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if !facts.is_file() || facts.len() > MAX_FILE {
        let what = format!("not a file of at most {} MiB", MAX_FILE >> 20);
        return Err(failed(std::io::Error::other(what)));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Reads and compiles a component.
pub(super) fn component(
    path: &Path,
    bytes: &[u8],
    runtime: &Runtime,
) -> Result<Component, PluginError> {
    let refused = |why: String| PluginError::Component(path.to_path_buf(), why);
    if bytes.starts_with(CORE_MODULE) {
        return Err(refused("a core module: its linker made no component of it".to_owned()));
    }
    Component::new(&runtime.engine, bytes).map_err(|error| {
        let text = error.to_string();
        refused(text.lines().next().unwrap_or("").chars().take(200).collect())
    })
}

/// The component must export this version's lifecycle.
fn check_version(path: &Path, component: &Component, runtime: &Runtime) -> Result<(), PluginError> {
    let expected = interface("lifecycle");
    if component.get_export_index(None, &expected).is_some() {
        return Ok(());
    }
    let ty = component.component_type();
    let prefix = format!("{PACKAGE}/");
    let found = ty.exports(&runtime.engine).map(|(name, _)| name.to_owned());
    let found = found.filter(|name| name.starts_with(&prefix)).min();
    let found = found.unwrap_or_else(|| "nothing of rowgate:plugin".to_owned());
    Err(PluginError::Version { path: path.to_path_buf(), found, expected })
}
