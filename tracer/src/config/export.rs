//! Options on where spans go. Only text here: what it means is defined where spans are exported.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::ByteSize;

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Export")]
pub struct ExportOptions {
    /// Comma list of `otlp`, `console`, `file:PATH` (`-` for standard output) and `none`; without
    /// it `OTEL_TRACES_EXPORTER`, then `otlp` if an endpoint is known, else `console`
    #[arg(long, env = "TRACER_EXPORTER", value_name = "LIST")]
    pub exporter: Option<String>,
    /// URL of an OTLP receiver, such as `http://localhost:4318` or `unix:///run/otlp.sock`; may be
    /// repeated or a comma list, and every receiver gets everything; without it
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`
    #[arg(long, env = "TRACER_OTLP_ENDPOINT", value_name = "URL", value_delimiter = ',')]
    pub otlp_endpoint: Vec<String>,
    /// `grpc`, `http/protobuf` or `http/json`: once for all endpoints, or once for each; without it
    /// `OTEL_EXPORTER_OTLP_PROTOCOL`, else `http/protobuf`
    #[arg(long, env = "TRACER_OTLP_PROTOCOL", value_name = "NAME", value_delimiter = ',')]
    pub otlp_protocol: Vec<String>,
    /// Headers of exports, `name=value,name2=value2` with values percent-encoded: once for all
    /// endpoints, or once for each; without it `OTEL_EXPORTER_OTLP_HEADERS`
    #[arg(long, env = "TRACER_OTLP_HEADERS", value_name = "LIST", hide_env_values = true)]
    pub otlp_headers: Vec<String>,
    /// `gzip`, `zstd` (which collectors take, though OTLP does not name it) or `none`; without it
    /// `OTEL_EXPORTER_OTLP_COMPRESSION`, else `none`
    #[arg(long, env = "TRACER_OTLP_COMPRESSION", value_name = "NAME")]
    pub otlp_compression: Option<String>,
    /// How long a receiver may take to answer, like `10s`; without it `OTEL_EXPORTER_OTLP_TIMEOUT`,
    /// else 10s
    #[arg(long, env = "TRACER_OTLP_TIMEOUT", value_name = "TIME")]
    pub otlp_timeout: Option<humantime::Duration>,
    /// Bytes of a request before compression, at most 64M; below 4M is what every receiver takes
    /// [default: 4M less one byte]
    #[arg(long, env = "TRACER_OTLP_MAX_REQUEST", value_name = "BYTES")]
    pub otlp_max_request: Option<ByteSize>,
    /// How long a request is tried again, like `5m`; `0s` for as long as it takes. Without it
    /// `OTEL_BSP_EXPORT_TIMEOUT`, else 5m. With a spool nothing is given up
    #[arg(long, env = "TRACER_RETRY_FOR", value_name = "TIME")]
    pub retry_for: Option<humantime::Duration>,
    /// Spans that may wait for each destination; without it `OTEL_BSP_MAX_QUEUE_SIZE`, else 16384
    #[arg(long, env = "TRACER_QUEUE_SPANS", value_name = "COUNT")]
    pub queue_spans: Option<usize>,
    /// Bytes that the spans waiting for each destination may take
    #[arg(long, env = "TRACER_QUEUE_BYTES", value_name = "BYTES", default_value_t = QUEUE_BYTES)]
    pub queue_bytes: ByteSize,
    /// Which spans are dropped, and counted, when they come faster than they leave
    #[arg(long, env = "TRACER_QUEUE_DROP", value_enum, value_name = "WHICH", default_value_t)]
    pub queue_drop: QueueDrop,
    /// Directory where spans for OTLP receivers wait while these are away or slow; it outlives the
    /// agent
    #[arg(long, env = "TRACER_SPOOL", value_name = "DIR")]
    pub spool: Option<PathBuf>,
    /// Bytes that the files of each receiver may take there; at the limit the oldest are dropped
    #[arg(long, env = "TRACER_SPOOL_SIZE", value_name = "BYTES", default_value_t = SPOOL_SIZE)]
    pub spool_size: ByteSize,
}

const QUEUE_BYTES: ByteSize = ByteSize(64 << 20);
const SPOOL_SIZE: ByteSize = ByteSize(1 << 30);

/// Which spans leave a queue that is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum QueueDrop {
    /// Those that come, so that what led to the trouble is kept
    #[default]
    Newest,
    /// Those that wait longest, so that what is going on now is kept
    Oldest,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            exporter: None,
            otlp_endpoint: Vec::new(),
            otlp_protocol: Vec::new(),
            otlp_headers: Vec::new(),
            otlp_compression: None,
            otlp_timeout: None,
            otlp_max_request: None,
            retry_for: None,
            queue_spans: None,
            queue_bytes: QUEUE_BYTES,
            queue_drop: QueueDrop::default(),
            spool: None,
            spool_size: SPOOL_SIZE,
        }
    }
}
