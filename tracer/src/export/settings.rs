//! What the user asked for: explicit options first, then the `OTEL_*` environment, then defaults.
//!
//! The environment is a closure, so that nothing here reads globals. A bad value there is a
//! warning and counts as absent, as the specification has it; a bad option is an error.
//!
//! Four defaults differ from those of an SDK, because an agent serves a whole host and people
//! watch it: the queue holds 16,384 spans (not 2,048), a batch has up to 1,024 of them (not 512)
//! and waits at most 1 s (not 5 s), and delivery is retried for 300 s unless `OTEL_BSP_EXPORT_TIMEOUT` says otherwise.

mod endpoint;
mod environment;
mod headers;
mod metrics;
mod otlp;
mod route;
mod signal;

use std::path::PathBuf;
use std::time::Duration;

use super::choice::{ChoiceError, ExporterChoice};
use super::queue::{Overflow, QueueBounds};
use environment::Environment;
pub use metrics::{MetricsSettings, Temporality};
pub use otlp::{Compression, OtlpSettings, Protocol, TlsFiles};
pub use route::{Proxy, Route};
pub use signal::Signal;

/// What was given on the command line or in a file; `None` leaves it to the environment.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Exporter list as [`ExporterChoice::parse_list`] reads it.
    pub exporters: Option<String>,
    /// Base URLs, like `OTEL_EXPORTER_OTLP_ENDPOINT`: one a destination.
    pub otlp_endpoints: Vec<String>,
    /// `grpc`, `http/protobuf` or `http/json`: one for all endpoints, or one for each.
    pub otlp_protocols: Vec<String>,
    /// Headers in the form of `OTEL_EXPORTER_OTLP_HEADERS`: one list for all endpoints, or one for
    /// each.
    pub otlp_headers: Vec<String>,
    /// `gzip`, `zstd` or `none`.
    pub otlp_compression: Option<String>,
    /// Limit of one attempt.
    pub otlp_timeout: Option<Duration>,
    /// Limit of a request's bytes before compression.
    pub otlp_max_request: Option<usize>,
    /// How long a request is tried again; zero for as long as it takes.
    pub retry_for: Option<Duration>,
    /// Where spans wait that cannot be delivered now.
    pub spool: Option<SpoolSettings>,
    /// Spans that a queue may hold.
    pub max_queue_size: Option<usize>,
    /// Bytes that the spans of a queue may take.
    pub max_queue_bytes: Option<usize>,
    /// Which spans a full queue drops.
    pub overflow: Overflow,
    /// Spans of one batch.
    pub max_batch_size: Option<usize>,
    /// How long a span may wait for its batch to fill.
    pub schedule_delay: Option<Duration>,
    /// The waterfall.
    pub console: ConsoleSettings,
}

/// Everything [`super::start`] needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Destinations, without repetitions; empty for none.
    pub exporters: Vec<ExporterChoice>,
    /// What [`ExporterChoice::Otlp`] stands for, one or more; empty if it was not chosen.
    pub otlp: Vec<OtlpSettings>,
    /// Queueing.
    pub batch: BatchSettings,
    /// Where OTLP requests wait that cannot be delivered now; `None` keeps them in memory.
    pub spool: Option<SpoolSettings>,
    /// The waterfall.
    pub console: ConsoleSettings,
}

/// Queueing before each destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSettings {
    /// How much may wait.
    pub queue: QueueBounds,
    /// Spans of one OTLP request; at most as many as may wait.
    pub max_batch_size: usize,
    /// How long an OTLP batch may wait to fill.
    pub schedule_delay: Duration,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            queue: QueueBounds {
                spans: 16_384,
                bytes: 64 * 1024 * 1024,
                overflow: Overflow::default(),
            },
            max_batch_size: 1_024,
            schedule_delay: Duration::from_secs(1),
        }
    }
}

/// A directory for requests that wait for their receivers, and how much it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// Created if need be. Each destination has a directory of its own inside.
    pub directory: PathBuf,
    /// Limit of each destination's files together, in bytes.
    pub max_bytes: u64,
}

/// How traces are collected and drawn on the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleSettings {
    /// Columns of a line.
    pub width: usize,
    /// A trace is drawn once no span of it has come for so long.
    pub quiet: Duration,
    /// Traces held; beyond, the quietest one is drawn early.
    pub max_traces: usize,
    /// Spans held; beyond, the quietest traces are drawn early.
    pub max_spans: usize,
    /// Colours; `None` means only on a terminal and without `NO_COLOR`.
    pub colour: Option<bool>,
}

impl Default for ConsoleSettings {
    fn default() -> Self {
        Self {
            width: 100,
            quiet: Duration::from_secs(1),
            max_traces: 1_000,
            max_spans: 10_000,
            colour: None,
        }
    }
}

/// Why the options make no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettingsError {
    /// The exporter list.
    #[error(transparent)]
    Exporters(#[from] ChoiceError),
    /// The endpoint is no URL. From any source: sending elsewhere instead would be worse.
    #[error(
        "{source_name}: `{value}` is not a URL; write it like http://localhost:4318, \
         or unix:///run/otlp.sock"
    )]
    Endpoint {
        /// Option or variable.
        source_name: String,
        /// What it said, without credentials.
        value: String,
    },
    /// An option has a value that is not among those known.
    #[error("{option}: `{value}` is not supported; use {supported}")]
    Unsupported {
        /// The option.
        option: &'static str,
        /// What it said.
        value: String,
        /// What it may say.
        supported: &'static str,
    },
    /// Proxies are spoken to in plain HTTP.
    #[error(
        "proxies of scheme `{scheme}` are not supported; set HTTP_PROXY or HTTPS_PROXY to http://HOST:PORT, or NO_PROXY to the receiver's host"
    )]
    Proxy {
        /// What was found instead of `http`.
        scheme: String,
    },
    /// An option was given several times, but not once for each endpoint.
    #[error(
        "{option}: given {given} times for {endpoints} endpoints; give it once, for all of them, \
         or once for each, in the same order"
    )]
    Count {
        /// The option.
        option: &'static str,
        /// How often it was given.
        given: usize,
        /// How many endpoints there are.
        endpoints: usize,
    },
    /// The headers option is malformed. Does not repeat it, since headers hold secrets.
    #[error("--otlp-headers: write it like name=value,name2=value2, with values percent-encoded")]
    Headers,
}

impl Settings {
    /// Merges `options` with the environment; the second part are warnings for the operator.
    pub fn resolve(
        options: &Options,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, Vec<String>), SettingsError> {
        let mut environment = Environment::new(&environment);
        let exporters = exporters(options, &mut environment)?;
        let wants_otlp = exporters.contains(&ExporterChoice::Otlp);
        let batch = batch(options, &mut environment);
        let otlp = if wants_otlp {
            OtlpSettings::resolve_all(options, Signal::Traces, &mut environment)?
        } else {
            Vec::new()
        };
        let spool = options.spool.clone().filter(|_| wants_otlp);
        if options.spool.is_some() && !wants_otlp {
            environment.warn("--spool", "only spans for OTLP receivers are spooled; not used");
        }
        let mut console = options.console;
        if console.colour.is_none() && environment.text("NO_COLOR").is_some() {
            console.colour = Some(false);
        }
        Ok((Self { exporters, otlp, batch, spool, console }, environment.into_warnings()))
    }

    /// Adds the destinations of `other`; everything else stays as it is. Gives a warning for each
    /// receiver that is there already.
    pub fn join(&mut self, other: Self) -> Vec<String> {
        let mut warnings = Vec::new();
        for choice in other.exporters {
            if !self.exporters.contains(&choice) {
                self.exporters.push(choice);
            }
        }
        for receiver in other.otlp {
            if self.otlp.iter().any(|known| known.is_same_receiver(&receiver)) {
                warnings.push(format!("{} is there twice", receiver.endpoint));
            } else {
                self.otlp.push(receiver);
            }
        }
        self.spool = self.spool.take().or(other.spool);
        OtlpSettings::name_all(&mut self.otlp);
        warnings
    }
}

fn exporters(
    options: &Options,
    environment: &mut Environment<'_>,
) -> Result<Vec<ExporterChoice>, SettingsError> {
    const VARIABLE: &str = "OTEL_TRACES_EXPORTER";
    if let Some(list) = &options.exporters {
        return Ok(ExporterChoice::parse_list(list)?);
    }
    if let Some(list) = environment.text(VARIABLE) {
        match ExporterChoice::parse_list(&list) {
            Ok(choices) => return Ok(choices),
            Err(error) => environment.warn(VARIABLE, &error.to_string()),
        }
    }
    let endpoint = !options.otlp_endpoints.is_empty()
        || endpoint::endpoint_in(Signal::Traces, environment).is_some();
    Ok(vec![if endpoint { ExporterChoice::Otlp } else { ExporterChoice::Console }])
}

fn batch(options: &Options, environment: &mut Environment<'_>) -> BatchSettings {
    let default = BatchSettings::default();
    let spans = options
        .max_queue_size
        .or_else(|| environment.count("OTEL_BSP_MAX_QUEUE_SIZE"))
        .unwrap_or(default.queue.spans)
        .max(1);
    let max_batch_size = options
        .max_batch_size
        .or_else(|| environment.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE"))
        .unwrap_or(default.max_batch_size)
        .max(1);
    if max_batch_size > spans {
        environment.warn(
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
            &format!("a batch of {max_batch_size} does not fit the queue; using {spans}"),
        );
    }
    BatchSettings {
        queue: QueueBounds {
            spans,
            bytes: options.max_queue_bytes.unwrap_or(default.queue.bytes),
            overflow: options.overflow,
        },
        max_batch_size: max_batch_size.min(spans),
        schedule_delay: options
            .schedule_delay
            .or_else(|| environment.millis("OTEL_BSP_SCHEDULE_DELAY"))
            .unwrap_or(default.schedule_delay),
    }
}

#[cfg(test)]
mod tests;
