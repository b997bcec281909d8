//! The core as one value: events in, spans and verdicts out.
//!
//! Used alike by the live agent and by replay, which is why a recording gives the same spans.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::conn::{self, Connections};
use crate::event::{CloseKind, ConnId, Event, KernelTime};
use crate::exchange::{Exchange, ExchangeId, Role};
use crate::link::{self, Began, Committed, Linker, Placed, Tally};
use crate::protocol::{LossReason, Observation, Verdict};
use crate::target::{Process, ProcessCounts, Processes};
use crate::telemetry::server_spans;
use crate::trace::context::{IdSource, SpanContext};
use crate::trace::{Span, SpanBuilder, SpanOptions};

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

/// A finished exchange that waits for its place in a trace.
type Held = (Box<Exchange>, Arc<Process>);

/// Connections, processes, parents and span building, joined.
#[derive(Debug)]
pub struct Pipeline {
    connections: Connections,
    processes: Processes,
    linker: Linker<Held>,
    spans: SpanBuilder,
    ids: IdSource,
    counts: CoreCounts,
    tally: Tally,
    observations: Vec<Observation>,
    placed: Vec<Placed<Held>>,
}

impl Pipeline {
    /// Joins the parts.
    pub fn new(
        connections: Connections,
        processes: Processes,
        linker: link::Options,
        spans: SpanBuilder,
        ids: IdSource,
    ) -> Self {
        Self {
            connections,
            processes,
            linker: Linker::new(linker),
            spans,
            ids,
            counts: CoreCounts::default(),
            tally: Tally::default(),
            observations: Vec::new(),
            placed: Vec::new(),
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
            Event::ProcessGone { pid, time } => {
                self.processes.on_gone(*pid, *time);
                self.linker.on_gone(*pid);
            }
            Event::Connecting(connecting) => self.linker.on_connecting(connecting),
            Event::Opened(_) => self.connections.on_event(event, &mut self.observations),
            Event::Data(data) => {
                self.linker.before_data(data);
                self.connections.on_event(event, &mut self.observations);
                self.settle(data.time, outputs);
                self.linker.after_data(data);
            }
            Event::Closed(closed) => {
                self.connections.on_event(event, &mut self.observations);
                self.settle(closed.time, outputs);
                if closed.kind == CloseKind::Gone {
                    self.linker.on_closed(closed.conn);
                }
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
        self.settle(now, outputs);
        self.linker.on_tick(now, &mut self.ids, &mut self.placed);
        self.build_placed(outputs);
    }

    /// Ends the run: what is still open is counted, nothing is invented.
    pub fn finish(&mut self, outputs: &mut Vec<Output>) {
        self.connections.finish(&mut self.observations);
        self.settle(KernelTime::default(), outputs);
        self.linker.finish(&mut self.ids, &mut self.placed);
        self.build_placed(outputs);
    }

    /// Settles the place of a call for good, as its context goes on the wire now; appends what
    /// that led to. `None` if the call was not seen (yet).
    pub fn commit(&mut self, call: ExchangeId, outputs: &mut Vec<Output>) -> Option<Committed> {
        let committed = self.linker.commit(call, &mut self.ids, &mut self.placed);
        self.build_placed(outputs);
        committed
    }

    /// This context went out with a call. Returns whether the call is or will be that span.
    pub fn commit_to(
        &mut self,
        call: ExchangeId,
        context: SpanContext,
        outputs: &mut Vec<Output>,
    ) -> bool {
        let held = self.linker.commit_to(call, context, &mut self.ids, &mut self.placed);
        self.build_placed(outputs);
        held
    }

    /// Goes on with other options for spans, from the next exchange on.
    pub fn reconfigure(&mut self, spans: SpanOptions) {
        self.connections.set_interest(spans.captured_headers.clone());
        self.spans.reconfigure(spans);
    }

    /// From now on at most so many bytes of incomplete message heads are held back.
    pub fn set_buffer_limit(&mut self, bytes: usize) {
        self.connections.set_buffer_limit(bytes);
    }

    /// Connections by what is known of each.
    pub fn standings(&mut self) -> BTreeMap<&'static str, usize> {
        self.connections.standings()
    }

    /// Bytes of incomplete message heads.
    pub fn buffered_bytes(&self) -> usize {
        self.connections.buffered_bytes()
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

    /// How parents were found, by service.
    pub fn links(&self) -> &Tally {
        &self.tally
    }

    /// What happened to parents out of the ordinary.
    pub fn link_counts(&self) -> link::Counters {
        self.linker.counters()
    }

    /// Exchanges that became no spans, by reason.
    pub fn muted(&self) -> &BTreeMap<&'static str, u64> {
        self.linker.muted()
    }

    fn settle(&mut self, now: KernelTime, outputs: &mut Vec<Output>) {
        let mut observations = std::mem::take(&mut self.observations);
        for observation in observations.drain(..) {
            match observation {
                Observation::RequestBegan { id, role, pid, tid, at, ends, request } => {
                    let known = self.processes.get(pid);
                    if known.is_some_and(|process| process.instrumented) {
                        self.linker.on_instrumented(pid);
                    }
                    let began = Began { id, role, pid, tid, at, ends: &ends, request: &request };
                    self.linker.on_began(&began, &mut self.ids, &mut self.placed);
                }
                Observation::ResponseBegan { id, tid, .. } => {
                    self.linker.on_response(id, tid, &mut self.ids, &mut self.placed);
                }
                Observation::Exported { role: Role::Client, pid, body } => {
                    let spans = server_spans(&body);
                    self.linker.on_exported(pid, &spans, &mut self.ids, &mut self.placed);
                }
                Observation::Exported { .. } => {}
                Observation::Finished(exchange) => self.finished(exchange, outputs),
                Observation::Verdict { conn, verdict } => {
                    outputs.push(Output::Verdict(conn, verdict));
                }
                Observation::Lost { id, reason, exchanges, .. } => {
                    if let Some(id) = id {
                        self.linker.on_lost(id, now, &mut self.ids, &mut self.placed);
                    }
                    self.lost(reason, exchanges);
                }
            }
        }
        self.observations = observations;
        self.build_placed(outputs);
    }

    fn finished(&mut self, exchange: Box<Exchange>, outputs: &mut Vec<Output>) {
        let resolved = self.processes.counts().resolved;
        self.processes.look_again(exchange.pid, exchange.end);
        let process = self.processes.at(exchange.pid, exchange.start);
        if process.instrumented {
            self.linker.on_instrumented(process.pid);
        }
        if self.processes.counts().resolved != resolved {
            outputs.push(Output::Process(Arc::clone(&process)));
        }
        let (id, end) = (exchange.id, exchange.end);
        self.linker.on_finished(id, (exchange, process), end, &mut self.ids, &mut self.placed);
    }

    /// Makes spans of the exchanges whose place is settled.
    fn build_placed(&mut self, outputs: &mut Vec<Output>) {
        for Placed { exchange: (exchange, process), place, origin } in self.placed.drain(..) {
            match exchange.role {
                Role::Server => self.counts.server_spans += 1,
                Role::Client => self.counts.client_spans += 1,
            }
            let resource = Arc::clone(&process.resource);
            self.tally.add(&resource.service, &origin);
            outputs.push(Output::Span(self.spans.build(&exchange, &place, &origin, resource)));
        }
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
        LossReason::Multiplexed => "multiplexed",
        LossReason::NotResponder => "not_responder",
        LossReason::BuffersFull => "buffers_full",
        LossReason::Desync => "desync",
        LossReason::TableFull => "connection_table_full",
        LossReason::Expired => "expired",
        LossReason::Unfinished => "unfinished",
    }
}
