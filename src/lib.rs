//! Rowgate: the gateway between agents (and people) and MySQL or MariaDB.
//!
//! Modules are layered: each uses only those of the layers below its own. `ARCHITECTURE.md` has
//! the table, and `tests/tidy.rs` enforces it. Without the feature `gateway`, only the layers
//! without sockets, disks and WASM are built.

// layer 0
pub mod clock;
pub mod codec;
pub mod fault;
pub mod network;
pub mod principal;
pub mod run;
pub mod schema;
pub mod secret;
pub mod visible;
// layer 1
pub mod config;
pub mod identity;
pub mod sql;
// layer 2
pub mod policy;
pub mod record;
// layer 3
pub mod session;
// layer 4
#[cfg(feature = "gateway")]
pub mod https;
#[cfg(feature = "gateway")]
pub mod metrics;
#[cfg(feature = "gateway")]
pub mod socket;
#[cfg(feature = "gateway")]
pub mod store;
// layer 5
#[cfg(feature = "gateway")]
pub mod approval;
#[cfg(feature = "gateway")]
pub mod audit;
#[cfg(feature = "gateway")]
pub mod catalog;
#[cfg(feature = "gateway")]
pub mod plugin;
#[cfg(feature = "gateway")]
pub mod vault;
// layer 6
#[cfg(feature = "gateway")]
pub mod control;
#[cfg(feature = "gateway")]
pub mod net;
// layer 7
#[cfg(feature = "gateway")]
pub mod gateway;
// layer 8
#[cfg(feature = "gateway")]
pub mod cli;
