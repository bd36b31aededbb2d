//! The WASM engine: its settings, its clock, and the two things that plugins may import.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::hmac;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, OptLevel, StoreContextMut, StoreLimits};

use super::PluginError;
use super::abi::{LogLevel, interface};
use super::clock::PluginClock;
use crate::policy::NULL;
use crate::secret::Secret;

/// Longest text that a plugin may log at once.
const MAX_LOG: usize = 1 << 10;

/// Most lines that one instance may log: more is a plugin that floods.
const MAX_LOGS: u32 = 100;

/// The engine and the clock of its time limits.
pub(super) struct Runtime {
    pub(super) engine: Engine,
    pub(super) clock: PluginClock,
}

/// What belongs to one instance.
pub(super) struct Host {
    pub(super) limits: StoreLimits,
    plugin: String,
    keys: Arc<BTreeMap<String, Secret>>,
    logs: u32,
}

impl Host {
    pub(super) fn new(
        plugin: &str,
        limits: StoreLimits,
        keys: &Arc<BTreeMap<String, Secret>>,
    ) -> Self {
        Self { limits, plugin: plugin.to_owned(), keys: Arc::clone(keys), logs: 0 }
    }
}

impl Runtime {
    pub(super) fn start() -> Result<Self, PluginError> {
        let failed = |error: &dyn std::fmt::Display| PluginError::Engine(error.to_string());
        let mut config = Config::new();
        config.wasm_component_model(true);
        // A call costs a third without it, and no plugin of this contract can use it.
        config.concurrency_support(false);
        config.cranelift_opt_level(OptLevel::Speed);
        config.epoch_interruption(true);
        let engine = Engine::new(&config).map_err(|error| failed(&error))?;
        let ticking = engine.clone();
        let clock = PluginClock::start(move || ticking.increment_epoch());
        Ok(Self { engine, clock: clock.map_err(|error| failed(&error))? })
    }

    /// What plugins may import: `log` and `crypto`, nothing else.
    pub(super) fn linker(&self) -> wasmtime::Result<Linker<Host>> {
        let mut linker = Linker::new(&self.engine);
        linker.instance(&interface("log"))?.func_wrap("log", log)?;
        linker.instance(&interface("crypto"))?.func_wrap("hmac-sha256", keyed_hash)?;
        Ok(linker)
    }
}

#[allow(clippy::unnecessary_wraps, reason = "the linker's signature")]
fn log(
    mut store: StoreContextMut<'_, Host>,
    (level, message): (LogLevel, String),
) -> wasmtime::Result<()> {
    let host = store.data_mut();
    host.logs += 1;
    if host.logs > MAX_LOGS {
        return Ok(());
    }
    let text: String = message.chars().filter(|c| !c.is_control()).take(MAX_LOG).collect();
    drop(message);
    let plugin = host.plugin.as_str();
    match level {
        LogLevel::Debug => tracing::debug!(plugin, "{text}"),
        LogLevel::Info => tracing::info!(plugin, "{text}"),
        LogLevel::Warn => tracing::warn!(plugin, "{text}"),
        LogLevel::Error => tracing::error!(plugin, "{text}"),
    }
    Ok(())
}

#[allow(
    clippy::unnecessary_wraps,
    clippy::needless_pass_by_value,
    clippy::type_complexity,
    reason = "the linker's signature"
)]
fn keyed_hash(
    store: StoreContextMut<'_, Host>,
    (key, cells, lens): (String, Vec<u8>, Vec<u32>),
) -> wasmtime::Result<(Result<Vec<u8>, String>,)> {
    let Some(secret) = store.data().keys.get(&key) else {
        return Ok((Err(format!("no key is called {key:?}; add it under [keys]")),));
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
    let mut rest = cells.as_slice();
    let mut tags = Vec::with_capacity(lens.len() * 32);
    for len in lens.iter().filter(|len| **len != NULL) {
        let Some((cell, after)) = rest.split_at_checked(*len as usize) else {
            return Ok((Err("lengths that do not add up".to_owned()),));
        };
        tags.extend_from_slice(hmac::sign(&key, cell).as_ref());
        rest = after;
    }
    Ok((Ok(tags),))
}
