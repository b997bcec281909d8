//! The harness of the end-to-end tests: the agent as a process, real servers and clients for it to
//! observe, and a real OTLP receiver for it to export to.
//!
//! Used by the tests in this package and by `cargo xtask` (demo and benchmarks). It starts
//! programs and reads what they print; it knows the agent only by its command line.
//!
//! Everything started here dies with its guard, and with the thread that started it (see
//! [`Process`]), so a crashed or interrupted test leaves nothing behind.

#![forbid(unsafe_code)]

mod agent;
pub mod conversation;
mod expect;
pub mod http;
mod launcher;
pub mod layout;
pub mod message;
mod namespace;
pub mod port;
mod process;
mod rotel;
pub mod scenario;
pub mod service;
mod span;
pub mod wait;
pub mod wire;

pub use agent::{Agent, AgentOptions, Backend, Finished, Report};
pub use expect::{Expected, check_resource, check_short_lived};
pub use launcher::{Background, Launcher, Output, curl_user_agent};
pub use namespace::Namespace;
pub use process::Process;
pub use rotel::Rotel;
pub use service::Service;
pub use span::{Attributes, Kind, Link, Span, Spans, Status, Value};

/// Both capture backends; a scenario runs once on each.
///
/// ```no_run
/// for backend in tracer_tests::backends() {
///     // start the agent with `AgentOptions::backend(backend)` …
/// }
/// ```
pub fn backends() -> [Backend; 2] {
    [Backend::Socket, Backend::Syscall]
}

/// Runs a scenario on each backend in turn; what a failed test prints names the one it failed on.
pub fn on_each_backend(scenario: impl Fn(Backend) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for backend in backends() {
        eprintln!("backend {backend}:");
        scenario(backend)?;
    }
    Ok(())
}
