//! The core as one value: events in, spans and verdicts out.
//!
//! Used alike by the live agent and by replay, which is why a recording gives the same spans.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::conn::{self, Connections};
use crate::event::{ConnId, Event, KernelTime};
use crate::exchange::{Exchange, Role};
use crate::protocol::{LossReason, Observation, Verdict};
use crate::target::{Process, ProcessCounts, Processes};
use crate::trace::context::{IdSource, extract};
use crate::trace::{Span, SpanBuilder};

/// What an event led to.
#[derive(Debug)]
pub enum Output {
    /// A finished span.
    Span(Span),
    /// What to do with a connection from now on.
    Verdict(ConnId, Verdict),
    /// A process was resolved; for the recording.
    Process(Arc<Process>),
}

/// What the core produced and what it had to give up, since start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CoreCounts {
    /// Server spans.
    pub server_spans: u64,
    /// Client spans.
    pub client_spans: u64,
    /// Exchanges that happened but could not become a span, by reason.
    pub lost_exchanges: BTreeMap<&'static str, u64>,
}

/// Connections, processes and span building, joined.
#[derive(Debug)]
pub struct Pipeline {
    connections: Connections,
    processes: Processes,
    spans: SpanBuilder,
    ids: IdSource,
    counts: CoreCounts,
    observations: Vec<Observation>,
}

impl Pipeline {
    /// Joins the parts.
    pub fn new(
        connections: Connections,
        processes: Processes,
        spans: SpanBuilder,
        ids: IdSource,
    ) -> Self {
        Self {
            connections,
            processes,
            spans,
            ids,
            counts: CoreCounts::default(),
            observations: Vec::new(),
        }
    }

    /// Takes one event; appends what it led to.
    pub fn on_event(&mut self, event: &Event<'_>, outputs: &mut Vec<Output>) {
        match event {
            Event::Process(seen) if self.processes.asks_host() => {
                outputs.push(Output::Process(self.processes.on_seen(seen)));
            }
            // In a replay the recording says what became of it.
            Event::Process(_) => {}
            Event::ProcessGone { pid, time } => self.processes.on_gone(*pid, *time),
            Event::Opened(_) | Event::Data(_) | Event::Closed(_) => {
                self.connections.on_event(event, &mut self.observations);
                self.settle(outputs);
            }
        }
    }

    /// Takes a process that was resolved when the recording was made.
    pub fn on_process(&mut self, process: Arc<Process>) {
        self.processes.insert(process);
    }

    /// Lets timers run.
    pub fn on_tick(&mut self, now: KernelTime, outputs: &mut Vec<Output>) {
        self.connections.on_tick(now, &mut self.observations);
        self.processes.expire(now);
        self.settle(outputs);
    }

    /// Ends the run: what is still open is counted, nothing is invented.
    pub fn finish(&mut self, outputs: &mut Vec<Output>) {
        self.connections.finish(&mut self.observations);
        self.settle(outputs);
    }

    /// What was produced and lost.
    pub fn counts(&self) -> &CoreCounts {
        &self.counts
    }

    /// What happened to connections as such.
    pub fn connection_counts(&self) -> conn::Counters {
        self.connections.counters()
    }

    /// What the process table did.
    pub fn process_counts(&self) -> ProcessCounts {
        self.processes.counts()
    }

    fn settle(&mut self, outputs: &mut Vec<Output>) {
        let mut observations = std::mem::take(&mut self.observations);
        for observation in observations.drain(..) {
            match observation {
                Observation::Finished(exchange) => self.finished(&exchange, outputs),
                Observation::Verdict { conn, verdict } => {
                    outputs.push(Output::Verdict(conn, verdict));
                }
                Observation::Lost { reason, exchanges, .. } => self.lost(reason, exchanges),
                // Moments that parent linking will be interested in.
                Observation::RequestBegan { .. } | Observation::ResponseBegan { .. } => {}
            }
        }
        self.observations = observations;
    }

    fn finished(&mut self, exchange: &Exchange, outputs: &mut Vec<Output>) {
        let resolved = self.processes.counts().resolved;
        let process = self.processes.at(exchange.pid, exchange.start);
        if self.processes.counts().resolved != resolved {
            outputs.push(Output::Process(Arc::clone(&process)));
        }
        match exchange.role {
            Role::Server => self.counts.server_spans += 1,
            Role::Client => self.counts.client_spans += 1,
        }
        let context = match extract(&exchange.request.headers) {
            Some(remote) => self.ids.child_of_remote(remote),
            None => self.ids.root(),
        };
        let resource = Arc::clone(&process.resource);
        outputs.push(Output::Span(self.spans.build(exchange, context, resource)));
    }

    fn lost(&mut self, reason: LossReason, exchanges: u32) {
        if exchanges > 0 {
            *self.counts.lost_exchanges.entry(reason_name(reason)).or_default() +=
                u64::from(exchanges);
        }
    }
}

/// The reason as it stands in reports.
fn reason_name(reason: LossReason) -> &'static str {
    match reason {
        LossReason::Unseen => "unseen",
        LossReason::RequestUnseen => "request_unseen",
        LossReason::ResponseUnseen => "response_unseen",
        LossReason::HeadGap => "head_gap",
        LossReason::HeadTooLarge => "head_too_large",
        LossReason::TooManyHeaders => "too_many_headers",
        LossReason::BadHead => "bad_head",
        LossReason::PipelineFull => "pipeline_full",
        LossReason::BuffersFull => "buffers_full",
        LossReason::Desync => "desync",
        LossReason::TableFull => "connection_table_full",
        LossReason::Expired => "expired",
        LossReason::Unfinished => "unfinished",
    }
}
