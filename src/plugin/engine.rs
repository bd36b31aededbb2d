//! The WASM engine: its settings, its clock, and the two things that plugins may import.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// Most lines that a plugin may log in [`LOG_WINDOW`], over all of its instances: more is a plugin that floods.
const MAX_LOGS: u32 = 100;

/// See [`MAX_LOGS`].
const LOG_WINDOW: Duration = Duration::from_secs(10);

/// How much a plugin has logged of late. A plugin that traps gets a new instance each time, so that the count is not the
/// instance's.
pub(super) struct LogBudget(Mutex<(Instant, u32)>);

impl Default for LogBudget {
    fn default() -> Self {
        Self(Mutex::new((Instant::now(), 0)))
    }
}

impl LogBudget {
    /// Whether a line may be logged, and how many were not in the window before this one.
    fn take(&self, now: Instant) -> (bool, u32) {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dropped = 0;
        if now.saturating_duration_since(window.0) >= LOG_WINDOW {
            dropped = window.1.saturating_sub(MAX_LOGS);
            *window = (now, 0);
        }
        window.1 = window.1.saturating_add(1);
        (window.1 <= MAX_LOGS, dropped)
    }
}

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
    logs: Arc<LogBudget>,
}

impl Host {
    pub(super) fn new(
        plugin: &str,
        limits: StoreLimits,
        keys: &Arc<BTreeMap<String, Secret>>,
        logs: &Arc<LogBudget>,
    ) -> Self {
        let (keys, logs) = (Arc::clone(keys), Arc::clone(logs));
        Self { limits, plugin: plugin.to_owned(), keys, logs }
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
    let (allowed, dropped) = host.logs.take(Instant::now());
    if dropped > 0 {
        tracing::warn!(plugin = host.plugin, dropped, "a plugin logged too much");
    }
    if !allowed {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_cut_and_told() {
        let budget = LogBudget::default();
        let start = Instant::now();
        let passed = (0..MAX_LOGS + 50).filter(|_| budget.take(start).0).count();
        assert_eq!(passed, MAX_LOGS as usize);
        assert_eq!(budget.take(start + LOG_WINDOW * 2), (true, 50));
        assert_eq!(budget.take(start + LOG_WINDOW * 2), (true, 0));
    }
}
