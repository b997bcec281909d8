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
mod cgroup;
mod chains;
mod command;
pub mod context_rules;
pub mod conversation;
mod expect;
mod faulty;
mod head_echo;
pub mod http;
mod launcher;
pub mod layout;
pub mod message;
mod mirror;
mod namespace;
pub mod port;
mod process;
mod rotel;
pub mod scenario;
pub mod service;
mod span;
mod traffic;
pub mod wait;
pub mod wire;

pub use agent::{Agent, AgentOptions, Backend, Finished, Report};
pub use cgroup::Cgroup;
pub use chains::assert_chains;
pub use command::{ConfigFile, Shown, tracer};
pub use expect::{Expected, check_resource, check_short_lived};
pub use faulty::{Attempt, FaultyReceiver};
pub use head_echo::HeadEcho;
pub use launcher::{Background, Launcher, Output, curl_user_agent};
pub use mirror::Mirror;
pub use namespace::Namespace;
pub use process::Process;
pub use rotel::Rotel;
pub use service::Service;
pub use span::{Attributes, Kind, Link, Span, Spans, Status, Value};
pub use traffic::Traffic;

/// Runs a scenario on each capture backend in turn; what a failed test prints names the one it
/// failed on, so that messages need not.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// use tracer_tests::{Launcher, on_each_backend};
///
/// on_each_backend(|backend| {
///     let (mut launcher, agent) = Launcher::start_traced(backend)?;
///     launcher.curl(["http://127.0.0.1:8000/"])?;
///     agent.finish(1)?;
///     Ok(())
/// })
/// # }
/// ```
pub fn on_each_backend(scenario: impl Fn(Backend) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for backend in [Backend::Socket, Backend::Syscall] {
        eprintln!("backend {backend}:");
        scenario(backend)?;
    }
    Ok(())
}
