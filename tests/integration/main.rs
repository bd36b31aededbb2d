//! Rowgate as its users meet it: the real binary over real databases, with stock clients.
//!
//! Each test starts a database and a gateway of its own on free ports of loopback, in a temporary folder, and
//! ends them by pid. `cargo xtask test` installs and builds what they need.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod accounts;
mod answers;
mod approvals;
mod attributes;
mod bad_input;
mod browser;
mod bulk;
mod certificates;
mod clients;
mod collected;
mod commands;
mod compression;
mod custody;
mod cutting;
mod deadlines;
mod docs;
mod dumps;
mod failures;
mod fresh;
mod greeting;
mod half_open;
mod hostile;
mod idle;
mod leaks;
mod login;
mod metadata;
mod methods;
mod nowhere;
mod offered;
mod oidc;
mod operations;
mod overlong;
mod packaging;
mod people;
mod permitted;
mod policy;
mod pool;
mod proxies;
mod record;
mod relay;
mod replay;
mod runs;
mod saml;
mod sessions;
mod simulated;
mod sockets;
mod stand;
mod syscalls;
mod tickets;
mod tls;
mod tokens;
mod tracking;
mod tries;
mod unasked;
mod upgrade;
mod vault;
mod watching;
mod web;
mod webhooks;
mod wire;
mod write_back;
