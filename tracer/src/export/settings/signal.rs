//! What is exported: each kind of telemetry has variables, a path and a service of its own.

/// A kind of telemetry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    #[default]
    Traces,
    /// Metrics of the agent and of the requests it saw.
    Metrics,
}

impl Signal {
    /// `OTEL_EXPORTER_OTLP_<signal>_<name>`.
    pub(super) fn variable(self, name: &str) -> String {
        let signal = match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
        };
        format!("OTEL_EXPORTER_OTLP_{signal}_{name}")
    }

    /// Below the base URL of OTLP/HTTP.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Traces => "v1/traces",
            Self::Metrics => "v1/metrics",
        }
    }
}
