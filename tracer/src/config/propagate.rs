//! Options on carrying trace context to other hosts.

use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};

use super::target::GlobList;
use crate::proxy;
use crate::proxy::redirect::{self, Network, PortRange, Scope, ScopeError};
use crate::sampling::Sampler;

/// How trace context gets to other hosts.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Propagation")]
pub struct PropagateOptions {
    /// `proxy` sends outbound connections of traced processes through the agent, which adds the
    /// one missing header, and those that `OTEL_PROPAGATORS` asks for beside it;
    /// docs/propagation.md tells what that means
    #[arg(long, env = "TRACER_PROPAGATE", value_enum, default_value_t, value_name = "HOW")]
    pub propagate: Propagate,
    /// Ports to propagate to, like 80,8000-8099; without it, all but those known to carry other
    /// things than plain HTTP
    #[arg(long, env = "TRACER_PROPAGATE_PORTS", value_delimiter = ',', value_name = "PORTS")]
    pub propagate_ports: Vec<PortRange>,
    /// Ports never to propagate to
    #[arg(
        long,
        env = "TRACER_PROPAGATE_EXCEPT_PORTS",
        value_delimiter = ',',
        value_name = "PORTS"
    )]
    pub propagate_except_ports: Vec<PortRange>,
    /// Networks to propagate to, like `10.0.0.0/8,fd00::/8`; without it, all private ones.
    /// `0.0.0.0/0,::/0` is everywhere
    #[arg(long, env = "TRACER_PROPAGATE_TO", value_delimiter = ',', value_name = "NETWORKS")]
    pub propagate_to: Vec<Network>,
    /// Networks not to propagate to; of two networks that hold an address, the smaller one decides
    #[arg(long, env = "TRACER_PROPAGATE_EXCEPT", value_delimiter = ',', value_name = "NETWORKS")]
    pub propagate_except: Vec<Network>,
    /// Propagate over loopback, too, where both ends can be joined without
    #[arg(long, env = "TRACER_PROPAGATE_LOOPBACK", value_parser = FalseyValueParser::new())]
    pub propagate_loopback: bool,
    /// Of the traced processes, propagate only for those with this executable; as --exe; may be
    /// repeated
    #[arg(long = "propagate-exe", env = "TRACER_PROPAGATE_EXE", value_name = "GLOB")]
    pub propagate_executables: Vec<GlobList>,
    /// Time that open connections have to end when the agent is told to, before they are cut
    #[arg(
        long,
        env = "TRACER_PROPAGATE_DRAIN",
        default_value_t = DEFAULT_DRAIN.into(),
        value_name = "TIME"
    )]
    pub propagate_drain: humantime::Duration,
    /// Time that a request waits for the agent to know what it belongs to; then it begins a trace
    #[arg(
        long,
        env = "TRACER_PROPAGATE_WAIT",
        default_value_t = DEFAULT_WAIT.into(),
        value_name = "TIME"
    )]
    pub propagate_wait: humantime::Duration,
    /// Connections that go through the agent at the same time; further ones go straight
    #[arg(
        long,
        env = "TRACER_PROPAGATE_MAX_CONNECTIONS",
        default_value_t = DEFAULT_CONNECTIONS,
        value_parser = clap::value_parser!(u32).range(1..=1_048_576),
        value_name = "COUNT"
    )]
    pub propagate_max_connections: u32,
}

const DEFAULT_DRAIN: Duration = Duration::from_secs(10);
const DEFAULT_WAIT: Duration = Duration::from_millis(2);
const DEFAULT_CONNECTIONS: u32 = 16_384;

/// How trace context gets to other hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum Propagate {
    /// Not at all
    #[default]
    Off,
    /// Through the agent as a transparent proxy
    Proxy,
}

impl PropagateOptions {
    /// What the redirect takes, `roots` deciding on traces that it begins; `None` if it is off.
    pub fn redirect(&self, roots: Sampler) -> Option<redirect::Options> {
        (self.propagate == Propagate::Proxy).then(|| redirect::Options {
            scope: self.scope(),
            drain: self.propagate_drain.into(),
            max_connections: self.propagate_max_connections as usize,
            heads: self.heads(roots),
        })
    }

    /// Globs of executables; none if all are chosen.
    pub fn executables(&self) -> Vec<String> {
        self.propagate_executables.iter().flat_map(|list| list.globs().to_vec()).collect()
    }

    /// Checks what single options cannot.
    pub fn check(&self) -> Result<(), ScopeError> {
        self.scope().resolve().map(drop)
    }

    fn heads(&self, roots: Sampler) -> proxy::Options {
        proxy::Options { deadline: self.propagate_wait.into(), roots, ..proxy::Options::default() }
    }

    fn scope(&self) -> Scope {
        Scope {
            ports: self.propagate_ports.clone(),
            except_ports: self.propagate_except_ports.clone(),
            networks: self.propagate_to.clone(),
            except_networks: self.propagate_except.clone(),
            loopback: self.propagate_loopback,
        }
    }
}

impl Default for PropagateOptions {
    fn default() -> Self {
        Self {
            propagate: Propagate::Off,
            propagate_ports: Vec::new(),
            propagate_except_ports: Vec::new(),
            propagate_to: Vec::new(),
            propagate_except: Vec::new(),
            propagate_loopback: false,
            propagate_executables: Vec::new(),
            propagate_drain: DEFAULT_DRAIN.into(),
            propagate_wait: DEFAULT_WAIT.into(),
            propagate_max_connections: DEFAULT_CONNECTIONS,
        }
    }
}
