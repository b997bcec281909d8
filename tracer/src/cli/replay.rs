//! `tracer replay`: the same core over a recording.

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tracer::config::{AgentVariables, ReplayOptions, Variables};
use tracer::export::ExportHandle;
use tracer::memory::Shed;
use tracer::pipeline::Output;
use tracer::recording::{Entry, Reader};
use tracer::target::Processes;

use super::parts;
use super::report::Report;

/// Connections of a recording are bounded like those of a run.
const MAX_CONNECTIONS: usize = 65_536;
/// Time to deliver what is queued at the end.
const FLUSH: Duration = Duration::from_mins(1);
/// Spans handed over at once.
const BATCH: usize = 1_024;
/// Undelivered spans, well below the queues' bound, at which the replay waits.
const MOST_PENDING: u64 = 4_096;

pub(crate) fn replay(
    options: &ReplayOptions,
    variables: &Variables,
    agent: AgentVariables,
) -> Result<ExitCode> {
    let path = options.file.display();
    let file = File::open(&options.file).with_context(|| format!("cannot open {path}"))?;
    let mut reader = Reader::new(BufReader::new(file)).with_context(|| path.to_string())?;
    let clock = reader.header().clock;
    let ReplayOptions { link, span, redact, sampling, .. } = options;
    let core = parts::Core::of((link, span, redact, sampling), agent.known_methods, variables)?;
    let mut pipeline = parts::pipeline(core, MAX_CONNECTIONS, Processes::replayed(), clock);
    let (sink, exporters) = parts::exporters(&options.export, variables, None)?;

    let mut outputs = Vec::new();
    let damage = loop {
        match reader.next() {
            Ok(Some(Entry::Event(event))) => pipeline.on_event(&event, &mut outputs),
            Ok(Some(Entry::Process(process))) => pipeline.on_process(process),
            Ok(Some(Entry::Tick(now))) => pipeline.on_tick(now, &mut outputs),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
        if outputs.len() >= BATCH {
            sink.submit(spans(&mut outputs));
            wait_for_room(&exporters);
        }
    };
    pipeline.finish(&mut outputs);
    sink.submit(spans(&mut outputs));

    let delivered = exporters.shutdown(FLUSH);
    Report::new(&pipeline, &delivered, None, None, Shed::default()).print(&delivered);
    match damage {
        None => Ok(ExitCode::SUCCESS),
        Some(error) => Err(error).with_context(|| path.to_string()),
    }
}

/// A replay outruns any receiver; waiting for the slowest keeps its queue from overflowing.
fn wait_for_room(exporters: &ExportHandle) {
    while exporters.report().exporters.iter().any(|exporter| exporter.pending > MOST_PENDING) {
        thread::sleep(Duration::from_millis(1));
    }
}

fn spans(outputs: &mut Vec<Output>) -> Vec<tracer::trace::Span> {
    outputs
        .drain(..)
        .filter_map(|output| match output {
            Output::Span(span) => Some(span),
            // There is no kernel half to tell, and the recording exists already.
            Output::Measured(_) | Output::Verdict(..) | Output::Process(_) => None,
        })
        .collect()
}
