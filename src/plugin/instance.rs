//! One instance: a store with its limits, and the functions that are called on it.

use std::time::Instant;

use wasmtime::component::{
    ComponentNamedList, Func, Instance as WasmInstance, InstancePre, Lift, Lower, TypedFunc,
};
use wasmtime::{Store, Trap};

use super::abi::{
    ClassifiedColumn, ConfigProblem, Decided, Manifest, OpenInfo, Outcome, PluginFailure,
    ProposedLabel, StatementFacts, interface,
};
use super::engine::Host;
use super::loaded::Loaded;
use crate::policy::{Edit, Edits, PluginFault};

/// What a guest may hand to the host in one call, in bytes: a batch's answer is a few times its cells.
const HOSTCALL_FUEL: usize = 32 << 20;

/// Labels for each of several questions, or the plugin's own error.
type Labels = (Result<Vec<Vec<ProposedLabel>>, PluginFailure>,);

/// An instance of a plugin.
pub(super) struct Instance {
    store: Store<Host>,
    exports: WasmInstance,
    mask_batch: Option<Func>,
    /// For whom it has worked; empty before its first stream.
    pub(super) subject: String,
    next_stream: u32,
}

impl Instance {
    pub(super) fn new(
        plugin: &Loaded,
        pre: &InstancePre<Host>,
        host: Host,
    ) -> Result<Self, PluginFault> {
        let mut store = Store::new(&plugin.runtime.engine, host);
        store.limiter(|host| &mut host.limits);
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        // Start-up code is the guest's code: its time counts too.
        store.set_epoch_deadline(plugin.ticks);
        let _running = plugin.runtime.clock.running();
        let exports = pre.instantiate(&mut store).map_err(|error| trap(plugin, &error))?;
        let (mask_batch, subject, next_stream) = (None, String::new(), 0);
        let mut made = Self { store, exports, mask_batch, subject, next_stream };
        made.mask_batch = made.function("mask", "mask-batch");
        Ok(made)
    }

    fn function(&mut self, of: &str, name: &str) -> Option<Func> {
        let of = self.exports.get_export_index(&mut self.store, None, &interface(of))?;
        let at = self.exports.get_export_index(&mut self.store, Some(&of), name)?;
        self.exports.get_func(&mut self.store, at)
    }

    /// Calls a function of the contract, within the limits.
    fn call<P, R>(
        &mut self,
        plugin: &Loaded,
        of: &str,
        name: &str,
        params: P,
    ) -> Result<R, PluginFault>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift + 'static,
    {
        let function = self.function(of, name);
        let function = function.ok_or_else(|| plugin.broke("a hook that is not exported"))?;
        let typed: TypedFunc<P, R> = function
            .typed(&self.store)
            .map_err(|_| plugin.broke("a function of another signature"))?;
        self.store.set_epoch_deadline(plugin.ticks);
        let _running = plugin.runtime.clock.running();
        let since = Instant::now();
        let result = typed.call(&mut self.store, params);
        plugin.called(since);
        result.map_err(|error| trap(plugin, &error))
    }

    pub(super) fn describe(&mut self, plugin: &Loaded) -> Result<Manifest, PluginFault> {
        let (manifest,) = self.call::<(), (Manifest,)>(plugin, "lifecycle", "describe", ())?;
        Ok(manifest)
    }

    pub(super) fn configure(
        &mut self,
        plugin: &Loaded,
        config: &str,
    ) -> Result<Vec<ConfigProblem>, PluginFault> {
        type Answer = (Result<(), Vec<ConfigProblem>>,);
        let (answer,) =
            self.call::<(&str,), Answer>(plugin, "lifecycle", "configure", (config,))?;
        Ok(answer.err().unwrap_or_default())
    }

    pub(super) fn check_mask(
        &mut self,
        plugin: &Loaded,
        name: &str,
        arguments: &str,
    ) -> Result<Result<(), String>, PluginFault> {
        type Answer = (Result<(), String>,);
        let params = (name, arguments);
        let (answer,) = self.call::<(&str, &str), Answer>(plugin, "mask", "check-mask", params)?;
        Ok(answer)
    }

    /// Opens a stream; its id.
    pub(super) fn open_stream(
        &mut self,
        plugin: &Loaded,
        mut info: OpenInfo,
    ) -> Result<u32, PluginFault> {
        type Answer = (Result<(), PluginFailure>,);
        self.next_stream = self.next_stream.wrapping_add(1);
        info.stream_id = self.next_stream;
        let (answer,) =
            self.call::<(&OpenInfo,), Answer>(plugin, "mask", "open-stream", (&info,))?;
        answer.map(|()| self.next_stream).map_err(|failure| refused(plugin, &failure))
    }

    pub(super) fn close_stream(&mut self, plugin: &Loaded, stream: u32) -> Result<(), PluginFault> {
        self.call::<(u32,), ()>(plugin, "mask", "close-stream", (stream,))
    }

    /// The hot path: one call a batch, two allocations on the host besides the growth of `edits`.
    pub(super) fn mask_batch(
        &mut self,
        plugin: &Loaded,
        stream: u32,
        rows: u32,
        (cells, lens): (&[u8], &[u32]),
        edits: &mut Edits,
    ) -> Result<(), PluginFault> {
        type Answer = (Result<Outcome, PluginFailure>,);
        let function = self.mask_batch;
        let function = function.ok_or_else(|| plugin.broke("a hook that is not exported"))?;
        let typed = function
            .typed::<(u32, u32, &[u8], &[u32]), Answer>(&self.store)
            .map_err(|_| plugin.broke("a function of another signature"))?;
        self.store.set_epoch_deadline(plugin.ticks);
        let _running = plugin.runtime.clock.running();
        let since = Instant::now();
        let result = typed.call(&mut self.store, (stream, rows, cells, lens));
        plugin.called(since);
        let (answer,) = result.map_err(|error| trap(plugin, &error))?;
        match answer.map_err(|failure| refused(plugin, &failure))? {
            Outcome::Unchanged => Ok(()),
            // Its reason stays here, as an error's text does: it has seen the cells, and may quote them.
            Outcome::Deny(why) => {
                let len = why.len();
                tracing::warn!(plugin = plugin.name, len, "a plugin denied a result");
                Err(PluginFault::Denied(plugin.name.clone()))
            }
            Outcome::Edited(packed) => {
                let (triples, rest) = packed.edits.as_chunks::<3>();
                if !rest.is_empty() {
                    return Err(plugin.broke("edits that are not triples"));
                }
                edits.edits.extend(triples.iter().map(|[start, len, replacement_len]| Edit {
                    start: *start,
                    len: *len,
                    replacement_len: *replacement_len,
                }));
                edits.replacement.extend_from_slice(&packed.replacement);
                Ok(())
            }
        }
    }

    /// One answer a value. Whoever can't tell gets the answer that destroys nothing.
    pub(super) fn recognise(
        &mut self,
        plugin: &Loaded,
        (name, arguments): (&str, &str),
        (values, lens): (&[u8], &[u32]),
    ) -> Result<Vec<bool>, PluginFault> {
        type Answer = (Result<Vec<bool>, PluginFailure>,);
        if self.function("recognise", "recognise").is_none() {
            return Ok(vec![true; lens.len()]);
        }
        let params = (name, arguments, values, lens);
        let (answer,) = self.call::<_, Answer>(plugin, "recognise", "recognise", params)?;
        answer.map_err(|failure| refused(plugin, &failure))
    }

    pub(super) fn decide(
        &mut self,
        plugin: &Loaded,
        facts: &StatementFacts,
    ) -> Result<Decided, PluginFault> {
        type Answer = (Result<Decided, PluginFailure>,);
        let (answer,) =
            self.call::<(&StatementFacts,), Answer>(plugin, "decide", "decide", (facts,))?;
        answer.map_err(|failure| refused(plugin, &failure))
    }

    pub(super) fn classify_columns(
        &mut self,
        plugin: &Loaded,
        columns: &[ClassifiedColumn],
    ) -> Result<Vec<Vec<ProposedLabel>>, PluginFault> {
        let params = (columns,);
        let (answer,) = self.call::<_, Labels>(plugin, "classify", "classify-columns", params)?;
        answer.map_err(|failure| refused(plugin, &failure))
    }

    pub(super) fn classify_values(
        &mut self,
        plugin: &Loaded,
        cells: &[u8],
        lens: &[u32],
    ) -> Result<Vec<Vec<ProposedLabel>>, PluginFault> {
        let params = (cells, lens);
        let (answer,) = self.call::<_, Labels>(plugin, "classify", "classify-values", params)?;
        answer.map_err(|failure| refused(plugin, &failure))
    }
}

/// A trap, by a closed list of reasons.
fn trap(plugin: &Loaded, error: &wasmtime::Error) -> PluginFault {
    let text = format!("{error:#}");
    let why = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => "it ran out of time",
        Some(Trap::StackOverflow) => "it ran out of stack",
        _ if text.contains("growing memory") || text.contains("grow memory") => {
            "it ran out of memory"
        }
        Some(_) => "it trapped",
        None => "it failed",
    };
    tracing::debug!(plugin = plugin.name, error = text, "a call failed");
    plugin.failed(PluginFault::Trap { plugin: plugin.name.clone(), why })
}

/// The plugin's own error. Its text stays here: it may quote what it saw.
fn refused(plugin: &Loaded, failure: &PluginFailure) -> PluginFault {
    let (code, len) = (failure.code, failure.message.len());
    tracing::warn!(plugin = plugin.name, code, len, "a plugin refused its work");
    plugin.failed(PluginFault::Trap { plugin: plugin.name.clone(), why: "it refused its work" })
}
