//! The chores behind `cargo xtask …`, as a library so that the integration tests start the same
//! private databases and gateways as the demo does.
//!
//! Few dependencies on purpose: a clean checkout must reach its first useful line in seconds.

#![allow(clippy::print_stdout, reason = "a chore talks to its user on the terminal")]
#![allow(missing_docs, reason = "chores are documented by their --help and their module comments")]

pub mod browser;
pub mod chromium;
pub mod clients;
pub mod gateway;
pub mod http;
pub mod issuer;
pub mod mariadb;
pub mod mysql;
pub mod saml;
pub mod setup;
pub mod sh;
pub mod shop;
pub mod terminal;
