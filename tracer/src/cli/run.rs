//! `tracer run` and `tracer record`: the live agent until it is told to stop.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tracer::agent::{Agent, Propagation, Recorder, Stopped};
use tracer::capture::{Capture, Redirecting};
use tracer::config::{
    CaptureOptions, ExportOptions, LinkOptions, PropagateOptions, RecordOptions, RunOptions,
    SpanOptions, TargetOptions,
};
use tracer::event::{ClockOffset, Pid};
use tracer::propagation;
use tracer::proxy::Linked;
use tracer::proxy::redirect::Proxy;
use tracer::recording::{Header, Writer, create};
use tracer::target::{ExecutableGlob, Processes, Resolver, Selection};

use super::parts;
use super::report::Report;

/// Time to deliver what is queued after a signal.
const FLUSH: Duration = Duration::from_secs(5);

pub(crate) fn run(options: &RunOptions) -> Result<ExitCode> {
    let clock = Capture::clock_offset();
    let RunOptions { target, capture, link, propagate, span, export } = options;
    trace(target, capture, propagate, (link, span), export, clock, None)
}

pub(crate) fn record(options: &RecordOptions) -> Result<ExitCode> {
    let clock = Capture::clock_offset();
    let header = Header { clock, agent_version: env!("CARGO_PKG_VERSION").to_owned() };
    let file = create(&options.file)
        .with_context(|| format!("cannot create {}", options.file.display()))?;
    let log = Writer::new(file, &header)?;
    let spans = (&LinkOptions::default(), &SpanOptions::default());
    let export = ExportOptions { exporter: Some("none".to_owned()), ..ExportOptions::default() };
    let propagate = PropagateOptions::default();
    trace(&options.target, &options.capture, &propagate, spans, &export, clock, Some(log))
}

fn trace(
    target: &TargetOptions,
    capture: &CaptureOptions,
    propagate: &PropagateOptions,
    (links, spans): (&LinkOptions, &SpanOptions),
    export: &ExportOptions,
    clock: ClockOffset,
    log: Option<Recorder>,
) -> Result<ExitCode> {
    let resolver = Arc::new(Resolver::system());
    let selectors = target.selectors();
    let selection = Selection::new(&selectors, Pid(std::process::id()), &resolver)?;
    let stop = stop_signal()?;
    let redirect = propagate.redirect();
    let chosen = propagate.executables().into_iter().map(|glob| ExecutableGlob::parse(&glob));
    let chosen: Vec<ExecutableGlob> = chosen.collect::<Result<_, _>>()?;
    let redirecting = redirect.as_ref().map(|_| Redirecting { only_chosen: !chosen.is_empty() });

    let capture_options =
        parts::capture_options(capture, redirecting, &selectors, &selection, &resolver);
    let pipeline = parts::pipeline(
        spans,
        links,
        capture.max_connections.count() as usize,
        Processes::live(Arc::clone(&resolver)),
        clock,
    )?;
    let (sink, exporters) = parts::exporters(export)?;
    let mut capture = Capture::start(&capture_options)?;
    let backend = capture.backend();
    let attached =
        parts::redirect(&mut capture, redirect.as_ref(), &selectors, &selection, &resolver)?;
    // Connections through the proxy are watched until the last of them has ended.
    let mut end = Arc::clone(&stop);
    let (mut proxy, mut desk) = (None, None);
    if let Some((options, attached)) = redirect.zip(attached) {
        end = Arc::new(AtomicBool::new(false));
        let (inquirer, courier, answering) =
            propagation::open().context("cannot start the proxy")?;
        let contexts = Arc::new(Linked::new(inquirer));
        let (answers, ended) = (courier.deliver(), Arc::clone(&end));
        proxy = Some(Proxy::start(attached, options, contexts, answers, stop, ended)?);
        desk = Some(answering);
    }
    let targets = proxy.as_ref().map(|proxy| proxy.targets(chosen));
    let propagation = Propagation { targets, desk };
    let agent = Agent::new(capture, pipeline, resolver, &selection, sink, log, propagation)?;
    eprintln!("tracer: ready ({} backend); stop with Ctrl-C", backend.name());

    let Stopped { capture, pipeline, contexts } = agent.run(&end)?;
    let propagation = proxy.and_then(Proxy::join);
    let counters = capture.counters();
    // Detach before waiting for receivers: from here on nothing is watched.
    drop(capture);
    let delivered = exporters.shutdown(FLUSH);
    let captured = Some((backend, counters));
    let propagation = propagation.zip(contexts);
    Report::new(&pipeline, &delivered, captured, propagation).print(&delivered);
    Ok(ExitCode::SUCCESS)
}

/// A flag that SIGINT or SIGTERM sets. A second signal ends the process at once.
fn stop_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot watch for signals")?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
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
