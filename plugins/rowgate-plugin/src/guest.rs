//! Between the ABI and the SDK's types; only in WASM.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::{Cells, Edits, Plugin};

/// The generated bindings.
#[allow(missing_docs, unsafe_code, clippy::all, clippy::pedantic)]
pub mod bindings {
    wit_bindgen::generate!({
        world: "plugin",
        path: "../../wit/v1",
        pub_export_macro: true,
        default_bindings_module: "rowgate_plugin::guest::bindings",
    });
}

use bindings::exports::rowgate::plugin::{classify, decide, lifecycle, mask};
use bindings::rowgate::plugin::types::PluginError;

/// An instance's state: the plugin once configured, and its open streams.
pub struct State<P: Plugin> {
    plugin: Option<P>,
    streams: HashMap<u32, Vec<P::Mask>>,
}

/// Where the macro keeps it.
pub type Cell<P> = RefCell<State<P>>;

/// An instance before it is configured.
pub fn new_cell<P: Plugin>() -> Cell<P> {
    RefCell::new(State { plugin: None, streams: HashMap::new() })
}

fn failed(message: String) -> PluginError {
    PluginError { code: 1, message }
}

fn with<P: Plugin, T>(
    state: &Cell<P>,
    run: impl FnOnce(&P) -> Result<T, String>,
) -> Result<T, PluginError> {
    let state = state.borrow();
    let plugin = state.plugin.as_ref().ok_or_else(|| failed("not configured".to_owned()))?;
    run(plugin).map_err(failed)
}

pub fn describe<P: Plugin>(version: &str) -> lifecycle::Manifest {
    let mut hooks = lifecycle::Hooks::empty();
    if !P::MASKS.is_empty() {
        hooks |= lifecycle::Hooks::MASK;
    }
    if P::CLASSIFIES {
        hooks |= lifecycle::Hooks::CLASSIFY;
    }
    if P::DECIDES {
        hooks |= lifecycle::Hooks::DECIDE;
    }
    lifecycle::Manifest {
        name: P::NAME.to_owned(),
        version: version.to_owned(),
        hooks,
        masks: P::MASKS.iter().map(|name| (*name).to_owned()).collect(),
        max_batch_bytes: 1 << 20,
        config_schema: String::new(),
    }
}

pub fn configure<P: Plugin>(
    state: &Cell<P>,
    config: &str,
) -> Result<(), Vec<lifecycle::ConfigError>> {
    let wrong =
        |message: String| vec![lifecycle::ConfigError { path: "config".to_owned(), message }];
    let config = match config {
        "" | "{}" => P::Config::default(),
        text => serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?,
    };
    state.borrow_mut().plugin = Some(P::new(config).map_err(wrong)?);
    Ok(())
}

pub fn check_mask<P: Plugin>(state: &Cell<P>, name: &str, arguments: &str) -> Result<(), String> {
    with(state, |plugin| plugin.mask_of(name, arguments).map(|_| ())).map_err(|e| e.message)
}

pub fn open_stream<P: Plugin>(state: &Cell<P>, info: mask::StreamInfo) -> Result<(), PluginError> {
    let masks = with(state, |plugin| {
        info.columns.iter().map(|column| plugin.mask_of(&column.mask, &column.arguments)).collect()
    })?;
    state.borrow_mut().streams.insert(info.stream_id, masks);
    Ok(())
}

pub fn mask_batch<P: Plugin>(
    state: &Cell<P>,
    stream_id: u32,
    cells: &[u8],
    lens: &[u32],
) -> Result<mask::Outcome, PluginError> {
    let state = state.borrow();
    let masks = state.streams.get(&stream_id).ok_or_else(|| failed("no such stream".to_owned()))?;
    let plugin = state.plugin.as_ref().ok_or_else(|| failed("not configured".to_owned()))?;
    if masks.is_empty() {
        return Err(failed("a stream without columns".to_owned()));
    }
    let mut edits = Edits::with_capacity(lens.len(), cells.len());
    plugin.mask(masks, &Cells { bytes: cells, lens }, &mut edits).map_err(failed)?;
    Ok(if edits.edits.is_empty() {
        mask::Outcome::Unchanged
    } else {
        mask::Outcome::Edited(mask::Edits { edits: edits.edits, replacement: edits.replacement })
    })
}

pub fn close_stream<P: Plugin>(state: &Cell<P>, stream_id: u32) {
    state.borrow_mut().streams.remove(&stream_id);
}

pub fn recognise<P: Plugin>(
    state: &Cell<P>,
    (name, arguments): (&str, &str),
    cells: &[u8],
    lens: &[u32],
) -> Result<Vec<bool>, PluginError> {
    with(state, |plugin| {
        let mask = plugin.mask_of(name, arguments)?;
        let mut found = vec![false; lens.len()];
        for cell in (Cells { bytes: cells, lens }).iter() {
            found[cell.index] = plugin.recognises(&mask, cell.value);
        }
        Ok(found)
    })
}

fn label(label: crate::Label) -> classify::Label {
    classify::Label { name: label.name, confidence: label.confidence }
}

pub fn classify_columns<P: Plugin>(
    state: &Cell<P>,
    columns: Vec<classify::Column>,
) -> Result<Vec<Vec<classify::Label>>, PluginError> {
    with(state, |plugin| {
        let of = |column: classify::Column| {
            let column = crate::Column {
                schema: column.schema,
                table: column.table,
                name: column.name,
                data_type: column.data_type,
            };
            plugin.classify_column(&column).into_iter().map(label).collect()
        };
        Ok(columns.into_iter().map(of).collect())
    })
}

pub fn classify_values<P: Plugin>(
    state: &Cell<P>,
    cells: &[u8],
    lens: &[u32],
) -> Result<Vec<Vec<classify::Label>>, PluginError> {
    with(state, |plugin| {
        let mut labels: Vec<Vec<classify::Label>> = lens.iter().map(|_| Vec::new()).collect();
        for cell in (Cells { bytes: cells, lens }).iter() {
            labels[cell.index] = plugin.classify_value(cell.value).into_iter().map(label).collect();
        }
        Ok(labels)
    })
}

pub fn decide<P: Plugin>(
    state: &Cell<P>,
    statement: decide::Statement,
) -> Result<decide::Decision, PluginError> {
    let table = |table: decide::Table| crate::Table {
        schema: table.schema,
        name: table.name,
        access: match table.access {
            decide::Access::Read => crate::Access::Read,
            decide::Access::Write => crate::Access::Write,
            decide::Access::Define => crate::Access::Define,
        },
        labels: table.labels,
        estimated_rows: table.estimated_rows,
    };
    let statement = crate::Statement {
        subject: statement.subject,
        groups: statement.groups,
        target: statement.target,
        schema: statement.schema,
        digest: statement.digest,
        shape: statement.shape,
        verb: statement.verb,
        tables: statement.tables.into_iter().map(table).collect(),
        has_where: statement.has_where,
        key_pinned: statement.key_pinned,
        limit: statement.limit,
        sensitive: statement.sensitive,
        prepared: statement.prepared,
    };
    let decision = with(state, |plugin| Ok(plugin.decide(&statement)))?;
    Ok(match decision {
        crate::Decision::Allow => decide::Decision::Allow,
        crate::Decision::Deny(reason) => decide::Decision::Deny(reason),
        crate::Decision::RequireApproval { reason, groups } => {
            decide::Decision::RequireApproval(decide::Approval { reason, groups })
        }
    })
}

pub fn hmac_sha256(key: &str, cells: &[u8], lens: &[u32]) -> Result<Vec<u8>, String> {
    bindings::rowgate::plugin::crypto::hmac_sha256(key, cells, lens)
}

pub fn log(level: crate::Level, message: &str) {
    use bindings::rowgate::plugin::log::{Level, log};
    let level = match level {
        crate::Level::Debug => Level::Debug,
        crate::Level::Info => Level::Info,
        crate::Level::Warn => Level::Warn,
        crate::Level::Error => Level::Error,
    };
    log(level, message);
}

/// The generated traits for the macro's component.
#[macro_export]
#[doc(hidden)]
macro_rules! guest_impls {
    ($component:ident, $plugin:ty, $state:ident) => {
        use $crate::guest::bindings::exports::rowgate::plugin as exports;
        use $crate::guest::bindings::rowgate::plugin::types::PluginError;

        impl exports::lifecycle::Guest for $component {
            fn describe() -> exports::lifecycle::Manifest {
                // of the plugin's own package: this is expanded there
                $crate::guest::describe::<$plugin>(env!("CARGO_PKG_VERSION"))
            }
            fn configure(config: String) -> Result<(), Vec<exports::lifecycle::ConfigError>> {
                $state.with(|state| $crate::guest::configure(state, &config))
            }
        }

        impl exports::mask::Guest for $component {
            fn check_mask(name: String, arguments: String) -> Result<(), String> {
                $state.with(|state| $crate::guest::check_mask(state, &name, &arguments))
            }
            fn open_stream(info: exports::mask::StreamInfo) -> Result<(), PluginError> {
                $state.with(|state| $crate::guest::open_stream(state, info))
            }
            fn mask_batch(
                stream_id: u32,
                _rows: u32,
                cells: Vec<u8>,
                lens: Vec<u32>,
            ) -> Result<exports::mask::Outcome, PluginError> {
                $state.with(|state| $crate::guest::mask_batch(state, stream_id, &cells, &lens))
            }
            fn close_stream(stream_id: u32) {
                $state.with(|state| $crate::guest::close_stream(state, stream_id));
            }
        }

        impl exports::recognise::Guest for $component {
            fn recognise(
                mask: String,
                arguments: String,
                cells: Vec<u8>,
                lens: Vec<u32>,
            ) -> Result<Vec<bool>, PluginError> {
                let mask = (mask.as_str(), arguments.as_str());
                $state.with(|state| $crate::guest::recognise(state, mask, &cells, &lens))
            }
        }

        impl exports::classify::Guest for $component {
            fn classify_columns(
                columns: Vec<exports::classify::Column>,
            ) -> Result<Vec<Vec<exports::classify::Label>>, PluginError> {
                $state.with(|state| $crate::guest::classify_columns(state, columns))
            }
            fn classify_values(
                cells: Vec<u8>,
                lens: Vec<u32>,
            ) -> Result<Vec<Vec<exports::classify::Label>>, PluginError> {
                $state.with(|state| $crate::guest::classify_values(state, &cells, &lens))
            }
        }

        impl exports::decide::Guest for $component {
            fn decide(
                statement: exports::decide::Statement,
            ) -> Result<exports::decide::Decision, PluginError> {
                $state.with(|state| $crate::guest::decide(state, statement))
            }
        }
    };
}
