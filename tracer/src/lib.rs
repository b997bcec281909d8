//! Distributed traces for programs nobody instrumented.
//!
//! The crate is one pipeline, see `docs/architecture.md`: [`capture`] feeds [`event`]s to the
//! sans-IO core ([`conn`], [`protocol`], [`exchange`], [`trace`]); side effects live in
//! [`capture`], [`target`] and [`export`].

pub mod agent;
pub mod capture;
pub mod config;
pub mod conn;
pub mod doctor;
pub mod event;
pub mod exchange;
pub mod export;
pub mod histogram;
pub mod layout;
pub mod link;
pub mod memory;
pub mod metrics;
pub mod pipeline;
pub mod propagation;
pub mod protocol;
pub mod proxy;
pub mod recording;
pub mod redact;
pub mod sampling;
pub mod target;
pub mod telemetry;
pub mod trace;
