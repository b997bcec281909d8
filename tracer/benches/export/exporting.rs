//! Exports the same spans either as the agent does or as OpenTelemetry's Rust SDK does, each by
//! OTLP over HTTP in batches of the SDK's size, from a queue that holds all of them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use opentelemetry::{InstrumentationScope, KeyValue, trace as api};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _,
};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tracer::export::{self, Options, Settings};
use tracer::trace::context::{SpanId, TraceFlags, TraceId, TraceState};
use tracer::trace::{Resource, ResourceId, Span, SpanKind, Status, Value};

/// Spans of a request, which is the SDK's default.
const BATCH: usize = 512;
/// Spans that the agent hands in at a time.
const HANDED_IN: usize = 32;
const PATIENCE: Duration = Duration::from_mins(1);
/// 2026-01-01, in seconds since the Unix epoch.
const BEGINNING: u64 = 1_767_225_600;

#[derive(Clone, Copy, ValueEnum)]
enum Exporter {
    /// The agent's
    Agent,
    /// OpenTelemetry's Rust SDK
    Sdk,
}

#[derive(Parser)]
struct Arguments {
    exporter: Exporter,
    /// Base URL of the receiver
    endpoint: String,
    /// Spans to export
    spans: usize,
    /// What `cargo bench` passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// What it took.
#[derive(Serialize)]
pub(crate) struct Exported {
    /// Spans that were delivered.
    pub(crate) spans: usize,
    /// Processor time of all threads.
    pub(crate) cpu_us: f64,
    /// Time that passed.
    pub(crate) wall_us: f64,
}

/// Exports what the command line says; calls `begin` once the spans are there.
pub(crate) fn run(begin: impl FnOnce()) -> Result<Exported> {
    let Arguments { exporter, endpoint, spans, .. } = Arguments::parse();
    match exporter {
        Exporter::Agent => as_agent(&endpoint, spans, begin),
        Exporter::Sdk => as_sdk(&endpoint, spans, begin),
    }
}

fn as_agent(endpoint: &str, count: usize, begin: impl FnOnce()) -> Result<Exported> {
    let options = Options {
        exporters: Some("otlp".to_owned()),
        otlp_endpoints: vec![endpoint.to_owned()],
        otlp_protocols: vec!["http/protobuf".to_owned()],
        max_queue_size: Some(count),
        max_queue_bytes: Some(usize::MAX),
        max_batch_size: Some(BATCH),
        ..Options::default()
    };
    let (settings, warnings) = Settings::resolve(&options, |_| None)?;
    ensure!(warnings.is_empty(), "{warnings:?}");
    let (sink, exporters) = export::start(settings)?;
    let resource = Arc::new(Resource {
        id: ResourceId(1),
        service: "nginx".to_owned(),
        attributes: vec![("service.name".into(), text("nginx"))],
    });
    let mut spans = (1..=count).map(|number| agents_span(number as u64, &resource));
    let submissions: Vec<Vec<Span>> =
        std::iter::from_fn(|| Some(spans.by_ref().take(HANDED_IN).collect()))
            .take_while(|submission: &Vec<Span>| !submission.is_empty())
            .collect();
    begin();
    let clock = Clock::start();
    for submission in submissions {
        sink.submit(submission);
    }
    let report = exporters.shutdown(PATIENCE);
    let delivered: u64 = report.exporters.iter().map(|exporter| exporter.sent).sum();
    ensure!(delivered == count as u64, "{delivered} of {count} spans were delivered");
    Ok(clock.stop(count))
}

fn as_sdk(endpoint: &str, count: usize, begin: impl FnOnce()) -> Result<Exported> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{endpoint}/v1/traces"))
        .build()?;
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(count)
        .with_max_export_batch_size(BATCH)
        .build();
    let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    let resource = opentelemetry_sdk::Resource::builder_empty().with_service_name("nginx").build();
    processor.set_resource(&resource);
    let scope = InstrumentationScope::builder("tracer").with_version("0.1.0").build();
    let spans: Vec<SpanData> =
        (1..=count).map(|number| sdks_span(number as u64, scope.clone())).collect();
    begin();
    let clock = Clock::start();
    for span in spans {
        processor.on_end(span);
    }
    processor.shutdown_with_timeout(PATIENCE)?;
    Ok(clock.stop(count))
}

/// Time passed and used since.
struct Clock {
    wall: Instant,
    cpu: Duration,
}

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), cpu: processor_time() }
    }

    fn stop(self, spans: usize) -> Exported {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let cpu_us = micros(processor_time().saturating_sub(self.cpu));
        Exported { spans, cpu_us, wall_us: micros(self.wall.elapsed()) }
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Text and numbers of a request that nginx served, as both exporters get them.
const TEXTS: [(&str, &str); 8] = [
    ("http.request.method", "GET"),
    ("url.scheme", "http"),
    ("url.path", "/catalogue/items/4711"),
    ("server.address", "shop.example"),
    ("client.address", "192.0.2.17"),
    ("network.peer.address", "192.0.2.17"),
    ("network.protocol.version", "1.1"),
    ("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101"),
];
const NUMBERS: [(&str, i64); 3] =
    [("http.response.status_code", 200), ("server.port", 8080), ("network.peer.port", 51_234)];

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn agents_span(number: u64, resource: &Arc<Resource>) -> Span {
    let texts = TEXTS.map(|(name, value)| (Cow::Borrowed(name), text(value)));
    let numbers = NUMBERS.map(|(name, value)| (Cow::Borrowed(name), Value::Int(value)));
    let start = BEGINNING * 1_000_000_000 + number * 1_000;
    Span {
        trace: TraceId(u128::from(number).to_be_bytes()),
        id: SpanId(number.to_be_bytes()),
        parent: None,
        parent_is_remote: false,
        flags: TraceFlags::SAMPLED,
        state: TraceState::default(),
        name: "GET".into(),
        kind: SpanKind::Server,
        start,
        end: start + 420_000,
        status: Status::Unset,
        attributes: texts.into_iter().chain(numbers).collect(),
        dropped_attributes: 0,
        links: Vec::new(),
        dropped_links: 0,
        resource: Arc::clone(resource),
    }
}

fn sdks_span(number: u64, scope: InstrumentationScope) -> SpanData {
    let texts = TEXTS.map(|(name, value)| KeyValue::new(name, value.to_owned()));
    let numbers = NUMBERS.map(|(name, value)| KeyValue::new(name, value));
    let start_time =
        SystemTime::UNIX_EPOCH + Duration::from_secs(BEGINNING) + Duration::from_micros(number);
    SpanData {
        span_context: api::SpanContext::new(
            api::TraceId::from(u128::from(number)),
            api::SpanId::from(number),
            api::TraceFlags::SAMPLED,
            false,
            api::TraceState::NONE,
        ),
        parent_span_id: api::SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: api::SpanKind::Server,
        name: "GET".into(),
        start_time,
        end_time: start_time + Duration::from_micros(420),
        attributes: texts.into_iter().chain(numbers).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: api::Status::Unset,
        instrumentation_scope: scope,
    }
}
