//! The part of OpenTelemetry's declarative configuration (file format 1) that concerns an agent, as
//! types. Keys that are not here are mistakes; sections of the format about things that the agent
//! does not make are here to be skipped with a warning.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// The whole file but for the agent's own section.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Declarative {
    /// Version of OpenTelemetry's file format, such as "1.0".
    pub(super) file_format: Option<String>,
    /// Trace nothing.
    pub(super) disabled: Option<bool>,
    /// What the agent logs about itself.
    pub(super) log_level: Option<LogLevel>,
    /// Limits of all attributes.
    pub(super) attribute_limits: Option<AttributeLimits>,
    /// What the agent says about itself.
    pub(super) resource: Option<Resource>,
    /// Formats of trace context.
    pub(super) propagator: Option<Propagator>,
    /// Where spans go.
    pub(super) tracer_provider: Option<TracerProvider>,
    /// Where metrics go.
    pub(super) meter_provider: Option<MeterProvider>,
    /// What spans say.
    #[serde(rename = "instrumentation/development")]
    pub(super) instrumentation: Option<Instrumentation>,
    /// Skipped: the agent makes no logs of others.
    pub(super) logger_provider: Option<Skipped>,
    /// Skipped.
    pub(super) distribution: Option<Skipped>,
}

/// Content that is not looked at.
#[derive(Debug, Default, JsonSchema)]
pub(super) struct Skipped;

impl<'de> Deserialize<'de> for Skipped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// A component without settings; its presence is what matters, be it with `null` or `{}`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Empty {}

/// What stands there, be it nothing: a key with nothing behind it names a component, too.
fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(|found| Some(found.unwrap_or_default()))
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AttributeLimits {
    pub(super) attribute_value_length_limit: Option<u32>,
    pub(super) attribute_count_limit: Option<u32>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Resource {
    #[serde(default)]
    pub(super) attributes: Vec<Attribute>,
    /// `name=value,name2=value2`, percent-encoded; `attributes` win.
    pub(super) attributes_list: Option<String>,
    pub(super) schema_url: Option<String>,
    #[serde(rename = "detection/development")]
    pub(super) detection: Option<Skipped>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) value: AttributeValue,
    #[serde(rename = "type")]
    #[expect(dead_code, reason = "values are written as they stand there")]
    kind: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum AttributeValue {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
}

impl std::fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Double(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Propagator {
    /// One mapping a format: `tracecontext`, `baggage`, `b3`, `b3multi`.
    #[serde(default)]
    pub(super) composite: Vec<BTreeMap<String, Option<Empty>>>,
    /// The same as a comma list.
    pub(super) composite_list: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TracerProvider {
    #[serde(default)]
    pub(super) processors: Vec<SpanProcessor>,
    pub(super) limits: Option<SpanLimits>,
    pub(super) sampler: Option<Sampler>,
    #[serde(rename = "tracer_configurator/development")]
    pub(super) configurator: Option<Skipped>,
}

/// Exactly one of them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SpanProcessor {
    pub(super) batch: Option<Batch>,
    pub(super) simple: Option<Simple>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    /// Milliseconds.
    pub(super) schedule_delay: Option<u64>,
    /// Milliseconds.
    pub(super) export_timeout: Option<u64>,
    pub(super) max_queue_size: Option<u64>,
    pub(super) max_export_batch_size: Option<u64>,
    pub(super) exporter: Exporter,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Simple {
    pub(super) exporter: Exporter,
}

/// Exactly one of them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Exporter {
    #[serde(default, deserialize_with = "present")]
    pub(super) otlp_http: Option<Otlp>,
    #[serde(default, deserialize_with = "present")]
    pub(super) otlp_grpc: Option<Otlp>,
    #[serde(default, deserialize_with = "present")]
    pub(super) console: Option<Empty>,
    #[serde(default, deserialize_with = "present", rename = "otlp_file/development")]
    pub(super) otlp_file: Option<OtlpFile>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Otlp {
    /// The complete URL: nothing is appended to it.
    pub(super) endpoint: Option<String>,
    pub(super) tls: Option<Tls>,
    #[serde(default)]
    pub(super) headers: Vec<Header>,
    /// `name=value,name2=value2`, percent-encoded; `headers` win.
    pub(super) headers_list: Option<String>,
    /// `gzip`, `zstd` or `none`.
    pub(super) compression: Option<String>,
    /// Milliseconds.
    pub(super) timeout: Option<u64>,
    /// Of HTTP.
    pub(super) encoding: Option<Encoding>,
    /// Of metrics.
    pub(super) temporality_preference: Option<Temporality>,
    /// Of metrics.
    pub(super) default_histogram_aggregation: Option<HistogramAggregation>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) ca_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) cert_file: Option<String>,
    /// Of gRPC endpoints without a scheme.
    pub(super) insecure: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) value: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Temporality {
    Cumulative,
    Delta,
    LowMemory,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum HistogramAggregation {
    ExplicitBucketHistogram,
    Base2ExponentialBucketHistogram,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OtlpFile {
    /// `stdout`, or `file:///PATH`.
    pub(super) output_stream: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "as the format has them")]
pub(super) struct SpanLimits {
    pub(super) attribute_value_length_limit: Option<u32>,
    pub(super) attribute_count_limit: Option<u32>,
    pub(super) event_count_limit: Option<u32>,
    pub(super) link_count_limit: Option<u32>,
    pub(super) event_attribute_count_limit: Option<u32>,
    pub(super) link_attribute_count_limit: Option<u32>,
}

/// Exactly one of them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sampler {
    #[serde(default, deserialize_with = "present")]
    pub(super) always_on: Option<Empty>,
    #[serde(default, deserialize_with = "present")]
    pub(super) always_off: Option<Empty>,
    #[serde(default, deserialize_with = "present")]
    pub(super) trace_id_ratio_based: Option<Ratio>,
    #[serde(default, deserialize_with = "present", rename = "probability/development")]
    pub(super) probability: Option<Ratio>,
    #[serde(default, deserialize_with = "present")]
    pub(super) parent_based: Option<Box<ParentBased>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ratio {
    /// From 0 to 1.
    pub(super) ratio: Option<f64>,
}

/// What the parent decided; the root sampler where there is none.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ParentBased {
    pub(super) root: Option<Sampler>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MeterProvider {
    #[serde(default)]
    pub(super) readers: Vec<MetricReader>,
    pub(super) exemplar_filter: Option<ExemplarFilter>,
    pub(super) views: Option<Skipped>,
    #[serde(rename = "meter_configurator/development")]
    pub(super) configurator: Option<Skipped>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ExemplarFilter {
    AlwaysOn,
    AlwaysOff,
    TraceBased,
}

/// Exactly one of them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricReader {
    pub(super) periodic: Option<Periodic>,
    pub(super) pull: Option<Pull>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Periodic {
    /// Milliseconds.
    pub(super) interval: Option<u64>,
    /// Milliseconds.
    pub(super) timeout: Option<u64>,
    pub(super) exporter: Exporter,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pull {
    pub(super) exporter: PullExporter,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PullExporter {
    #[serde(default, deserialize_with = "present", rename = "prometheus/development")]
    pub(super) prometheus: Option<Prometheus>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Prometheus {
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Instrumentation {
    pub(super) general: Option<General>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct General {
    pub(super) http: Option<Http>,
    pub(super) sanitization: Option<Sanitization>,
    pub(super) stability_opt_in_list: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub(super) client: Option<HttpSide>,
    pub(super) server: Option<HttpSide>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpSide {
    #[serde(default)]
    pub(super) request_captured_headers: Vec<String>,
    #[serde(default)]
    pub(super) response_captured_headers: Vec<String>,
    pub(super) known_methods: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sanitization {
    pub(super) url: Option<UrlSanitization>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UrlSanitization {
    pub(super) sensitive_query_parameters: Option<Vec<String>>,
}
