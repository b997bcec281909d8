//! What a hop costs: nginx directly, through the agent, through `HAProxy`, and through Envoy, which
//! can make spans of requests as well.
//!
//! Clients are started by one shell. Those of the agent's rounds do not know of it: they connect to
//! nginx, and are redirected. All others are told the proxy's address.

mod hop;
mod idle;
mod requests;
mod transfer;

use anyhow::Result;
use clap::ValueEnum as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracer_tests::Launcher;
use tracer_tests::service::Service;

use super::collector;
use super::report::Report;
use super::rounds::Effort;
use crate::shell::output;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    effort: Effort,
    /// Measure only this; may be given several times
    #[arg(long, value_name = "WHAT")]
    only: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Requests per second at saturation
    Saturated,
    /// Latency at fixed rates
    Paced,
    /// Memory of idle connections
    Idle,
    /// Bytes that nobody reads
    Transfer,
}

/// What all parts share.
struct Bench {
    effort: Effort,
    launcher: Launcher,
    /// Takes spans and discards them, as cheaply as can be.
    collector: Service,
    /// That each process may have.
    descriptors: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Report> {
    let Arguments { effort, only } = arguments;
    let descriptors = raise_descriptors();
    let launcher = Launcher::start()?;
    let collector = collector::discarding()?;
    let mut bench = Bench { effort: *effort, launcher, collector, descriptors };
    let mut report = Report::new("proxy", conditions(*effort)?);
    for part in Part::value_variants() {
        if !only.is_empty() && !only.contains(part) {
            continue;
        }
        match part {
            Part::Saturated => requests::saturated(&mut bench, &mut report)?,
            Part::Paced => requests::paced(&mut bench, &mut report)?,
            Part::Idle => idle::measure(&mut bench, &mut report)?,
            Part::Transfer => transfer::measure(&mut bench, &mut report)?,
        }
    }
    Ok(report)
}

/// Takes as many as it may, for those that it starts, too.
fn raise_descriptors() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    limit.unwrap_or(u64::MAX)
}

fn conditions(effort: Effort) -> Result<Vec<String>> {
    let kernel = output(&mut crate::shell::command("uname", ["-sr"]))?;
    let cpus = std::thread::available_parallelism()?;
    let haproxy = output(&mut crate::shell::command("haproxy", ["-v"]))?;
    let haproxy = haproxy.split_whitespace().nth(2).unwrap_or_default();
    Ok(vec![
        format!("{}, {cpus} CPUs, everything on this machine over loopback.", kernel.trim()),
        effort.condition(),
        format!(
            "agent: `tracer run --propagate proxy`, the client traced, every request a span exported \
             by OTLP over HTTP to an nginx that discards them, because the work of a receiver is \
             done on another machine as a rule. haproxy: {haproxy}, 1 thread, reuses connections to \
             nginx. envoy: 1.40.0, 1 worker; traced: every request a span exported like the agent's."
        ),
    ])
}
