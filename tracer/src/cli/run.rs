//! `tracer run` and `tracer record`: the live agent until it is told to stop.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tracer::agent::{Agent, Propagation, Recorder, Stopped, Supervision, Surroundings};
use tracer::capture::{Capture, Redirecting};
use tracer::config::{
    AgentVariables, CaptureOptions, Configuration, Environment, ExportOptions, LinkOptions,
    RecordOptions, RunOptions, TargetOptions, Variables,
};
use tracer::event::{ClockOffset, Pid};
use tracer::export::{ExportHandle, SpanSink};
use tracer::memory::{Governor, limit_of_control_group};
use tracer::metrics::{Metrics, Watch};
use tracer::propagation;
use tracer::proxy::Linked;
use tracer::proxy::redirect::Proxy;
use tracer::recording::{Header, Writer, create};
use tracer::sampling::Samplers;
use tracer::target::{Processes, Resolver, Selection};
use tracer::trace;

use super::logging::LogHandle;
use super::parts;
use super::reload::Reloader;
use super::report::Report;
use super::settings;

/// Time to deliver what is queued after a signal.
const FLUSH: Duration = Duration::from_secs(5);
/// Pause between looks for a signal while there is nothing to do.
const IDLE: Duration = Duration::from_millis(200);

pub(crate) fn run(
    options: &RunOptions,
    configuration: &Configuration,
    agent: AgentVariables,
    logs: LogHandle,
    environment: &Environment,
) -> Result<ExitCode> {
    if agent.disabled {
        return idle();
    }
    let clock = Capture::clock_offset();
    let limit = options.memory.memory_limit.map(|limit| limit.0).or_else(limit_of_control_group);
    let RunOptions { target, capture, link, propagate, span, redact, sampling, export, .. } =
        options;
    let variables = &configuration.variables;
    let mut core = parts::Core::of((link, span, redact, sampling), agent.known_methods, variables)?;
    let exporters = parts::exporters(export, variables, limit)?;
    let (metrics, warnings) = settings::metrics(&options.metrics, export, variables)?;
    for warning in warnings {
        eprintln!("tracer: {warning}");
    }
    core.measured = metrics.wanted();
    let watch = metrics.wanted().then(|| Arc::new(Watch::new(metrics.exemplars)));
    let (changes, changed) = mpsc::channel();
    let mut supervisor = Supervisor {
        log: None,
        measure_probes: options.metrics.probe_times,
        supervision: Supervision {
            watch: watch.clone(),
            governor: limit.map(Governor::new),
            changes: Some(changed),
        },
        metrics: None,
        reloader: Some(Reloader::new(configuration, environment.clone(), logs, changes)?),
    };
    if let Some(watch) = watch {
        let observer = exporters.1.observer();
        supervisor.metrics = Some(Metrics::start(metrics, watch, observer, agent.resource)?);
    }
    let propagating = parts::Propagating::of(propagate, core.samplers.otherwise, variables)?;
    follow(target, capture, propagating, core, exporters, clock, supervisor)
}

/// What watches over an agent, apart from the agent itself.
#[derive(Default)]
struct Supervisor {
    log: Option<Recorder>,
    measure_probes: bool,
    supervision: Supervision,
    metrics: Option<Metrics>,
    reloader: Option<Reloader>,
}

/// Does nothing until told to stop, as who disabled tracing wants no failing service either.
fn idle() -> Result<ExitCode> {
    let stop = stop_signal(None)?;
    eprintln!("tracer: disabled by OTEL_SDK_DISABLED or its file; nothing is traced");
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(IDLE);
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn record(options: &RecordOptions) -> Result<ExitCode> {
    let clock = Capture::clock_offset();
    let header = Header { clock, agent_version: env!("CARGO_PKG_VERSION").to_owned() };
    let file = create(&options.file)
        .with_context(|| format!("cannot create {}", options.file.display()))?;
    let log = Writer::new(file, &header)?;
    // What is recorded is sampled and redacted when it is replayed.
    let core = parts::Core {
        links: &LinkOptions::default(),
        spans: trace::SpanOptions::default(),
        samplers: Samplers::default(),
        tail: None,
        measured: false,
    };
    let export = ExportOptions { exporter: Some("none".to_owned()), ..ExportOptions::default() };
    let exporters = parts::exporters(&export, &Variables::new(Arc::new(|_| None), None), None)?;
    let supervisor = Supervisor { log: Some(log), ..Supervisor::default() };
    let (target, capture) = (&options.target, &options.capture);
    follow(target, capture, None, core, exporters, clock, supervisor)
}

fn follow(
    target: &TargetOptions,
    capture: &CaptureOptions,
    propagating: Option<parts::Propagating>,
    core: parts::Core<'_>,
    (sink, exporters): (SpanSink, ExportHandle),
    clock: ClockOffset,
    supervisor: Supervisor,
) -> Result<ExitCode> {
    let Supervisor { log, measure_probes, supervision, metrics, reloader } = supervisor;
    let resolver = Arc::new(Resolver::system());
    let selectors = target.selectors();
    let selection = Selection::new(&selectors, Pid(std::process::id()), &resolver)?;
    let stop = stop_signal(reloader)?;
    let roots = core.samplers.otherwise;
    let redirecting = propagating
        .as_ref()
        .map(|propagating| Redirecting { only_chosen: !propagating.chosen.is_empty() });

    let capture_options =
        parts::capture_options(capture, redirecting, &selectors, &selection, &resolver);
    let pipeline = parts::pipeline(
        core,
        capture.max_connections.count() as usize,
        Processes::live(Arc::clone(&resolver)),
        clock,
    );
    let mut capture = Capture::start(&capture_options)?;
    if measure_probes {
        capture.measure_probes().context("--probe-times: the kernel refuses to measure")?;
    }
    let backend = capture.backend();
    // Connections through the proxy are watched until the last of them has ended.
    let mut end = Arc::clone(&stop);
    let (mut proxy, mut propagation) = (None, Propagation::default());
    if let Some(parts::Propagating { redirect: options, chosen }) = propagating {
        let attached = parts::redirect(&mut capture, &options, &selectors, &selection, &resolver)?;
        end = Arc::new(AtomicBool::new(false));
        let (inquirer, courier, answering) =
            propagation::open().context("cannot start the proxy")?;
        let contexts = Arc::new(Linked::new(inquirer, roots));
        let (answers, ended) = (courier.deliver(), Arc::clone(&end));
        let started = Proxy::start(attached, options, contexts, answers, stop, ended)?;
        propagation = Propagation { targets: Some(started.targets(chosen)), desk: Some(answering) };
        proxy = Some(started);
    }
    let surroundings = Surroundings { log, propagation, supervision };
    let agent = Agent::new(capture, pipeline, resolver, selection, sink, surroundings)?;
    eprintln!("tracer: ready ({} backend); stop with Ctrl-C", backend.name());

    let Stopped { capture, pipeline, contexts, shed } = agent.run(&end)?;
    let propagation = proxy.and_then(Proxy::join);
    let counters = capture.counters();
    // Detach before waiting for receivers: from here on nothing is watched.
    drop(capture);
    let delivered = exporters.shutdown(FLUSH);
    if let Some(metrics) = metrics {
        metrics.stop();
    }
    let captured = Some((backend, counters));
    let propagation = propagation.zip(contexts);
    Report::new(&pipeline, &delivered, captured, propagation, shed).print(&delivered);
    Ok(ExitCode::SUCCESS)
}

/// A flag that SIGINT or SIGTERM sets. A second signal ends the process at once. SIGHUP reads the
/// configuration again.
fn stop_signal(mut reloader: Option<Reloader>) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot watch for signals")?;
    let (mut interrupt, mut terminate, mut hangup) = {
        let _context = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        )
    };
    let flag = Arc::clone(&stop);
    thread::Builder::new()
        .name("tracer-signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hangup.recv(), if reloader.is_some() => {
                            if let Some(reloader) = &mut reloader {
                                reloader.reload();
                            }
                            continue;
                        }
                    }
                    if flag.swap(true, Ordering::Relaxed) {
                        std::process::exit(130);
                    }
                }
            });
        })
        .context("cannot watch for signals")?;
    Ok(stop)
}
