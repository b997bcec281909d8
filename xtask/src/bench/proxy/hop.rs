//! What stands between client and server.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tracer_tests::service::{self, Service};
use tracer_tests::{Agent, AgentOptions, Backend, Report};

/// A kind of hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    Direct,
    Agent,
    HaProxy,
    /// The same, without reading HTTP.
    HaProxyTcp,
    Envoy,
    EnvoyTraced,
}

/// One that runs.
pub(super) struct Running {
    /// Where clients are told to connect to.
    pub(super) address: SocketAddr,
    process: Process,
}

enum Process {
    None,
    Agent(Agent),
    Service(Service),
}

impl Hop {
    /// Stable name for tables and figures.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Agent => "agent",
            Self::HaProxy => "haproxy",
            Self::HaProxyTcp => "haproxy_tcp",
            Self::Envoy => "envoy",
            Self::EnvoyTraced => "envoy_traced",
        }
    }

    /// Starts it between the processes below `client` and a server; spans go to `collector`.
    pub(super) fn start(
        self,
        client: u32,
        server: SocketAddr,
        collector: &Service,
    ) -> Result<Running> {
        let through = |service: Service| Running {
            address: service.address(),
            process: Process::Service(service),
        };
        Ok(match self {
            Self::Direct => Running { address: server, process: Process::None },
            Self::Agent => {
                let options = AgentOptions::new(Backend::Auto).pid(client).propagate();
                let options = options.without_file().otlp_http(&collector.url(""));
                Running { address: server, process: Process::Agent(options.start()?) }
            }
            Self::HaProxy => through(service::haproxy(server, 1)?),
            Self::HaProxyTcp => through(service::haproxy_tcp(server)?),
            Self::Envoy => through(service::envoy(server, None)?),
            Self::EnvoyTraced => through(service::envoy(server, Some(collector.address()))?),
        })
    }
}

impl Running {
    /// Its process, if it is one.
    pub(super) fn pid(&self) -> Option<u32> {
        match &self.process {
            Process::None => None,
            Process::Agent(agent) => Some(agent.pid()),
            Process::Service(service) => Some(service.pid()),
        }
    }

    /// Ends it. Gives what became of the connections if it was the agent.
    pub(super) fn stop(self) -> Result<Option<Forwarded>> {
        match self.process {
            Process::Agent(agent) => Forwarded::read(&agent.stop()?.report).map(Some),
            Process::None | Process::Service(_) => Ok(None),
        }
    }
}

/// What the agent did with connections and heads.
pub(super) struct Forwarded {
    /// Connections that went through it.
    pub(super) connections: u64,
    /// Heads that were given a context.
    pub(super) injected: u64,
    /// Those of them that did not wait any longer for the linker's answer.
    pub(super) overdue: u64,
    /// Spans made.
    pub(super) spans: u64,
    /// Spans and events lost, for whatever reason.
    pub(super) lost: u64,
}

impl Forwarded {
    fn read(report: &Report) -> Result<Self> {
        let propagation = &report.json["propagation"];
        let connections = propagation["accepted"].as_u64().context("no count of connections")?;
        let did = |name: &str| propagation["forwarder"][name].as_u64().unwrap_or(0);
        let (injected, overdue) = (did("injected"), did("overdue"));
        Ok(Self { connections, injected, overdue, spans: report.spans, lost: report.lost() })
    }
}
