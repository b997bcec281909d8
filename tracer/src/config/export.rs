//! Options on where spans go. Only text here: what it means is defined where spans are exported.

use clap::Args;

/// Where spans go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Export")]
pub struct ExportOptions {
    /// Comma list of `otlp`, `console`, `file:PATH` (`-` for standard output) and `none`; without
    /// it `OTEL_TRACES_EXPORTER`, then `otlp` if an endpoint is known, else `console`
    #[arg(long, env = "TRACER_EXPORTER", value_name = "LIST")]
    pub exporter: Option<String>,
    /// URL of an OTLP receiver, such as `http://localhost:4318`; without it
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`
    #[arg(long, env = "TRACER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// `grpc` or `http/protobuf`; without it `OTEL_EXPORTER_OTLP_PROTOCOL`, else `http/protobuf`
    #[arg(long, env = "TRACER_OTLP_PROTOCOL", value_name = "NAME")]
    pub otlp_protocol: Option<String>,
}
