//! Options on what the agent tells about itself and about the requests it sees.

use std::net::SocketAddr;

use clap::Args;
use clap::builder::FalseyValueParser;

/// What the agent tells in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Metrics")]
pub struct MetricsOptions {
    /// Serve /metrics, /healthz and /readyz here, like 127.0.0.1:9464; not at all unless asked for
    #[arg(long, env = "TRACER_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// Measure the run time of the kernel half, which makes every eBPF program on this host a little
    /// slower while the agent runs
    #[arg(long, env = "TRACER_PROBE_TIMES", value_parser = FalseyValueParser::new())]
    pub probe_times: bool,
}
