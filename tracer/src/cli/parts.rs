//! Builds the library's parts from command-line options.

use anyhow::{Context as _, Result};
use tracer::capture::{self, Capture, Redirect, Redirecting, Unknown};
use tracer::config::{
    Backend, ByteSize, CaptureOptions, ExportOptions, LinkOptions, QueueDrop, RedactOptions,
    SamplingOptions, SpanOptions,
};
use tracer::conn::{self, Connections};
use tracer::event::ClockOffset;
use tracer::exchange::HeaderInterest;
use tracer::export::{self, ExportHandle, Overflow, SpanSink, SpoolSettings};
use tracer::pipeline::Pipeline;
use tracer::proxy::redirect::{self, Rehearsal};
use tracer::redact;
use tracer::sampling::{Samplers, tail};
use tracer::target::{Processes, Resolver, Selection, Selectors};
use tracer::trace::context::IdSource;
use tracer::trace::route::RoutePattern;
use tracer::trace::{self, SpanBuilder};

/// Capture options of a selection.
pub(crate) fn capture_options(
    options: &CaptureOptions,
    redirect: Option<Redirecting>,
    selectors: &Selectors,
    selection: &Selection,
    resolver: &Resolver,
) -> capture::Options {
    let unknown = if selection.is_all() {
        Unknown::Trace
    } else if selectors.executables.is_empty() {
        Unknown::Skip
    } else {
        Unknown::Ask
    };
    capture::Options {
        backend: match options.backend {
            Backend::Auto => None,
            Backend::Socket => Some(capture::Backend::Socket),
            Backend::Syscall => Some(capture::Backend::Syscall),
        },
        ring_bytes: options.ring_size.bytes(),
        message_budget: options.message_budget.bytes(),
        max_connections: options.max_connections.count(),
        unknown,
        ports: if selection.is_all() { Vec::new() } else { selectors.ports.clone() },
        cgroups: if selection.is_all() {
            Vec::new()
        } else {
            selection.cgroup_directories(resolver)
        },
        redirect,
    }
}

/// The redirect, attached and tried, if it is asked for.
pub(crate) fn redirect(
    capture: &mut Capture,
    options: Option<&redirect::Options>,
    selectors: &Selectors,
    selection: &Selection,
    resolver: &Resolver,
) -> Result<Option<Redirect>> {
    let Some(options) = options else { return Ok(None) };
    let by_groups_alone = !selection.is_all()
        && selectors.ports.is_empty()
        && selectors.pids.is_empty()
        && selectors.executables.is_empty();
    let selected =
        if selection.is_all() { Vec::new() } else { selection.cgroup_directories(resolver) };
    let mut attached = || -> Result<Redirect> {
        let scope = options.scope.resolve()?;
        let groups = redirect::attachment(&selected, by_groups_alone)?;
        let mut redirect = capture.redirect(&scope, &groups)?;
        Rehearsal::perform(&mut redirect)?;
        Ok(redirect)
    };
    attached().map(Some).context("--propagate proxy cannot keep its promises here")
}

/// What of the configuration the sans-IO core is made of.
pub(crate) struct Core<'a> {
    pub(crate) links: &'a LinkOptions,
    pub(crate) spans: &'a SpanOptions,
    pub(crate) redaction: redact::Options,
    pub(crate) samplers: Samplers,
    pub(crate) tail: Option<tail::Options>,
}

impl<'a> Core<'a> {
    /// Reads what the environment says of it, too; warnings about that go to standard error.
    pub(crate) fn of(
        links: &'a LinkOptions,
        spans: &'a SpanOptions,
        redact: &RedactOptions,
        sampling: &SamplingOptions,
    ) -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let (warnings, redaction) = redact.options(variable);
        let (further, samplers) = sampling.samplers(variable);
        for warning in warnings.into_iter().chain(further) {
            eprintln!("tracer: {warning}");
        }
        Self { links, spans, redaction, samplers, tail: sampling.tail() }
    }
}

/// The sans-IO core.
pub(crate) fn pipeline(
    core: Core<'_>,
    max_connections: usize,
    processes: Processes,
    clock: ClockOffset,
) -> Result<Pipeline> {
    let Core { links, spans, redaction, samplers, tail } = core;
    let interest = HeaderInterest {
        request: spans.request_headers.iter().map(ToString::to_string).collect(),
        response: spans.response_headers.iter().map(ToString::to_string).collect(),
    };
    let routes = spans
        .routes
        .iter()
        .map(|pattern| {
            pattern.parse::<RoutePattern>().with_context(|| format!("--route {pattern}"))
        })
        .collect::<Result<_>>()?;
    let builder = SpanBuilder::new(
        trace::SpanOptions {
            routes,
            infer_routes: spans.route_heuristic.then_some(spans.max_routes),
            captured_headers: interest.clone(),
            redaction,
            known_methods: None,
        },
        clock,
    );
    let connections =
        Connections::new(conn::Options { max_connections, interest, ..conn::Options::default() });
    let ids = IdSource::random();
    let pipeline = Pipeline::new(connections, processes, links.options(), builder, ids);
    Ok(pipeline.sampled(samplers, tail))
}

/// The exporters, started. Warnings about the environment go to standard error.
pub(crate) fn exporters(options: &ExportOptions) -> Result<(SpanSink, ExportHandle)> {
    let options = export::Options {
        exporters: options.exporter.clone(),
        otlp_endpoints: options.otlp_endpoint.clone(),
        otlp_protocols: options.otlp_protocol.clone(),
        otlp_headers: options.otlp_headers.clone(),
        otlp_compression: options.otlp_compression.clone(),
        otlp_timeout: options.otlp_timeout.map(Into::into),
        otlp_max_request: options.otlp_max_request.map(bytes),
        retry_for: options.retry_for.map(Into::into),
        spool: options
            .spool
            .clone()
            .map(|directory| SpoolSettings { directory, max_bytes: options.spool_size.0 }),
        max_queue_size: options.queue_spans,
        max_queue_bytes: Some(bytes(options.queue_bytes)),
        overflow: match options.queue_drop {
            QueueDrop::Newest => Overflow::Newest,
            QueueDrop::Oldest => Overflow::Oldest,
        },
        ..export::Options::default()
    };
    let (settings, warnings) =
        export::Settings::resolve(&options, |name| std::env::var(name).ok())?;
    for warning in warnings {
        eprintln!("tracer: {warning}");
    }
    Ok(export::start(settings)?)
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}
