//! Builds the library's parts from command-line options.

use anyhow::{Context as _, Result};
use tracer::capture::{self, Capture, Redirect, Redirecting, Unknown};
use tracer::config::{
    Backend, CaptureOptions, ExportOptions, LinkOptions, PropagateOptions, RedactOptions,
    SamplingOptions, SpanOptions, Variables,
};
use tracer::conn::{self, Connections};
use tracer::event::ClockOffset;
use tracer::exchange::HeaderInterest;
use tracer::export::{self, ExportHandle, SpanSink};
use tracer::pipeline::Pipeline;
use tracer::proxy::Formats;
use tracer::proxy::redirect::{self, Rehearsal};
use tracer::sampling::{Sampler, Samplers, tail};
use tracer::target::{ExecutableGlob, Processes, Resolver, Selection, Selectors};
use tracer::trace::context::IdSource;
use tracer::trace::route::RoutePattern;
use tracer::trace::{self, SpanBuilder};

use super::settings;

/// The formats of trace context that are asked for, as all of OpenTelemetry names them.
const PROPAGATORS: &str = "OTEL_PROPAGATORS";

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

/// How context is propagated.
pub(crate) struct Propagating {
    pub(crate) redirect: redirect::Options,
    /// Only processes that run one of these; all, if there is none.
    pub(crate) chosen: Vec<ExecutableGlob>,
}

impl Propagating {
    /// `None` if it is not; what is known of no service begins traces as `roots` decides.
    pub(crate) fn of(
        options: &PropagateOptions,
        roots: Sampler,
        variables: &Variables,
    ) -> Result<Option<Self>> {
        let Some(mut redirect) = options.redirect(roots) else { return Ok(None) };
        redirect.heads.b3 = Formats::parse(&variables.get(PROPAGATORS).unwrap_or_default())?.b3;
        let chosen = options.executables().into_iter().map(|glob| ExecutableGlob::parse(&glob));
        Ok(Some(Self { redirect, chosen: chosen.collect::<Result<_, _>>()? }))
    }
}

/// The redirect, attached and tried.
pub(crate) fn redirect(
    capture: &mut Capture,
    options: &redirect::Options,
    selectors: &Selectors,
    selection: &Selection,
    resolver: &Resolver,
) -> Result<Redirect> {
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
    attached().context("--propagate proxy cannot keep its promises here")
}

/// What of the configuration the sans-IO core is made of.
pub(crate) struct Core<'a> {
    pub(crate) links: &'a LinkOptions,
    pub(crate) spans: trace::SpanOptions,
    pub(crate) samplers: Samplers,
    pub(crate) tail: Option<tail::Options>,
    /// Somebody measures what is not sampled as well.
    pub(crate) measured: bool,
}

impl<'a> Core<'a> {
    /// Reads what the variables say of it, too; warnings about those go to standard error.
    pub(crate) fn of(
        (links, spans, redact, sampling): (
            &'a LinkOptions,
            &SpanOptions,
            &RedactOptions,
            &SamplingOptions,
        ),
        known_methods: Option<Vec<String>>,
        variables: &Variables,
    ) -> Result<Self> {
        let (warnings, spans) = span_options(spans, redact, known_methods, variables)?;
        let (further, samplers) = sampling.samplers(|name| variables.get(name));
        for warning in warnings.into_iter().chain(further) {
            eprintln!("tracer: {warning}");
        }
        Ok(Self { links, spans, samplers, tail: sampling.tail(), measured: false })
    }
}

/// What spans say, and what has to be kept of exchanges for that; with warnings about variables.
pub(crate) fn span_options(
    spans: &SpanOptions,
    redact: &RedactOptions,
    known_methods: Option<Vec<String>>,
    variables: &Variables,
) -> Result<(Vec<String>, trace::SpanOptions)> {
    let captured_headers = HeaderInterest {
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
    let (warnings, redaction) = redact.options(|name| variables.get(name));
    let options = trace::SpanOptions {
        routes,
        infer_routes: spans.route_heuristic.then_some(spans.max_routes),
        captured_headers,
        redaction,
        known_methods,
    };
    Ok((warnings, options))
}

/// The sans-IO core.
pub(crate) fn pipeline(
    core: Core<'_>,
    max_connections: usize,
    processes: Processes,
    clock: ClockOffset,
) -> Pipeline {
    let Core { links, spans, samplers, tail, measured } = core;
    let interest = spans.captured_headers.clone();
    let builder = SpanBuilder::new(spans, clock);
    let connections =
        Connections::new(conn::Options { max_connections, interest, ..conn::Options::default() });
    let ids = IdSource::random();
    let pipeline = Pipeline::new(connections, processes, links.options(), builder, ids);
    let pipeline = pipeline.sampled(samplers, tail);
    if measured { pipeline.measured() } else { pipeline }
}

/// The exporters, started. Warnings about the environment go to standard error.
pub(crate) fn exporters(
    options: &ExportOptions,
    variables: &Variables,
    memory_limit: Option<u64>,
) -> Result<(SpanSink, ExportHandle)> {
    let (mut settings, warnings) = settings::export(options, variables)?;
    settings::fit(&mut settings, memory_limit);
    for warning in warnings {
        eprintln!("tracer: {warning}");
    }
    Ok(export::start(settings)?)
}
