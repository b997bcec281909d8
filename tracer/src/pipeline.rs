//! The core as one value: events in, spans and verdicts out.
//!
//! Used alike by the live agent and by replay, which is why a recording gives the same spans.

mod leaves;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::conn::{self, Connections};
use crate::event::{CloseKind, ConnId, Event, KernelTime, Pid};
use crate::exchange::{Exchange, ExchangeId, Role};
use crate::link::{self, Began, Committed, Linker, Placed, Tally};
use crate::protocol::{LossReason, Observation, Verdict};
use crate::redact;
use crate::sampling::tail::{self, TailSampler};
use crate::sampling::{Sampler, Samplers};
use crate::target::{Process, ProcessCounts, Processes};
use crate::telemetry::server_spans;
use crate::trace::context::{IdSource, SpanContext, TraceFlags};
use crate::trace::{Span, SpanBuilder, SpanOptions};
use leaves::Leaves;

/// What an event led to.
#[derive(Debug)]
pub enum Output {
    /// A finished span.
    Span(Span),
    /// What happened, for whoever measures all of it: a span that is not, or not yet, given out.
    Measured(Span),
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
    /// Exchanges that became no span because the trace they belong to is not sampled.
    pub unsampled: u64,
    /// Connections that are not watched any more because what they carry is never recorded.
    pub unsampled_connections: u64,
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
    samplers: Samplers,
    /// Present if there may be services of which nothing is ever recorded.
    leaves: Option<Leaves>,
    /// Connections that need not be watched any more.
    dismissed: Vec<ConnId>,
    tail: Option<Box<TailSampler>>,
    /// Somebody wants to know of all spans, whether they are sampled or not.
    measured: bool,
    /// As far as events and ticks have come.
    now: KernelTime,
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
            samplers: Samplers::default(),
            leaves: None,
            dismissed: Vec::new(),
            tail: None,
            measured: false,
            now: KernelTime::default(),
            counts: CoreCounts::default(),
            tally: Tally::default(),
            observations: Vec::new(),
            placed: Vec::new(),
        }
    }

    /// Has not every trace become spans: those that `samplers` decide against when they begin do
    /// not, and those that `tail` decides against when they are over are made but not given out.
    #[must_use]
    pub fn sampled(self, samplers: Samplers, tail: Option<tail::Options>) -> Self {
        let tail = tail.map(|options| Box::new(TailSampler::new(options)));
        let leaves = samplers.leave_out().then(Leaves::default);
        Self { samplers, leaves, tail, ..self }
    }

    /// Also tells of spans that are not sampled, at the price of making them.
    #[must_use]
    pub fn measured(self) -> Self {
        Self { measured: true, leaves: None, ..self }
    }

    /// Whether spans are given out later than they are measured.
    pub fn measures_apart(&self) -> bool {
        self.tail.is_some()
    }

    /// Takes one event; appends what it led to.
    pub fn on_event(&mut self, event: &Event<'_>, outputs: &mut Vec<Output>) {
        self.now = event.time().max(self.now);
        match event {
            Event::Process(seen) if self.processes.asks_host() => {
                outputs.push(Output::Process(self.processes.on_seen(seen)));
            }
            // In a replay the recording says what became of it.
            Event::Process(_) => {}
            Event::ProcessGone { pid, time } => {
                self.processes.on_gone(*pid, *time);
                self.linker.on_gone(*pid);
                if let Some(leaves) = &mut self.leaves {
                    leaves.on_gone(*pid);
                }
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
        self.now = now.max(self.now);
        if let Some(tail) = &mut self.tail
            && tail.is_due(self.now)
        {
            let open = self.linker.traces();
            let is_open = |trace| open.contains(&trace);
            tail.on_tick(self.now, is_open, &mut |span| outputs.push(Output::Span(span)));
        }
    }

    /// Ends the run: what is still open is counted, nothing is invented.
    pub fn finish(&mut self, outputs: &mut Vec<Output>) {
        self.connections.finish(&mut self.observations);
        self.settle(KernelTime::default(), outputs);
        self.linker.finish(&mut self.ids, &mut self.placed);
        self.build_placed(outputs);
        if let Some(tail) = &mut self.tail {
            tail.finish(self.now, &mut |span| outputs.push(Output::Span(span)));
        }
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

    /// From now on, or not any more, whether a trace is kept is decided by what of it is there.
    pub fn decide_at_once(&mut self, at_once: bool) {
        if let Some(tail) = &mut self.tail {
            tail.decide_at_once(at_once);
        }
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

    /// What became of traces after they were over, if that was looked at.
    pub fn tail_counts(&self) -> Option<tail::Counts> {
        self.tail.as_ref().map(|tail| tail.counts())
    }

    /// Exchanges and spans of traces that are not sampled, by whether that was decided before the
    /// spans were made, when the trace was over, or after that.
    pub fn unsampled(&self) -> BTreeMap<&'static str, u64> {
        let tail = self.tail_counts().unwrap_or_default();
        let at_its_end = tail.dropped_spans - tail.dropped_late_spans;
        let head = ("head", self.counts.unsampled);
        [head, ("tail", at_its_end), ("tail_late", tail.dropped_late_spans)].into()
    }

    /// How often a request had an inferred route beyond those that its service may have.
    pub fn routes_overflowed(&self) -> u64 {
        self.spans.routes_overflowed()
    }

    /// What was left out of spans.
    pub fn redacted(&self) -> redact::Counts {
        self.spans.redacted()
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
                    let sampler = self.sampler(pid, at, outputs);
                    if let Some(leaves) = &mut self.leaves
                        && role == Role::Client
                        && sampler.is_never()
                    {
                        leaves.on_call(pid);
                    }
                    let (ends, request) = (&ends, &request);
                    let began = Began { id, role, pid, tid, at, ends, request, sampler };
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
                    let is_span = id.is_none_or(|id| {
                        self.linker.on_lost(id, now, &mut self.ids, &mut self.placed)
                    });
                    if is_span {
                        self.lost(reason, exchanges);
                    }
                }
            }
        }
        self.observations = observations;
        self.build_placed(outputs);
        if !self.dismissed.is_empty() {
            for conn in std::mem::take(&mut self.dismissed) {
                self.counts.unsampled_connections += 1;
                self.connections.dismiss(conn, &mut self.observations);
            }
            self.settle(now, outputs);
        }
    }

    /// The sampler of what a process does.
    fn sampler(&mut self, pid: Pid, at: KernelTime, outputs: &mut Vec<Output>) -> Sampler {
        if !self.samplers.differ() {
            return self.samplers.otherwise;
        }
        if self.processes.asks_host() {
            let process = self.process(pid, at, outputs);
            return self.samplers.of(&process.resource.service);
        }
        // A recording tells of some processes only when their first exchange is over.
        let known = self.processes.get(pid);
        known.map_or(self.samplers.otherwise, |process| self.samplers.of(&process.resource.service))
    }

    /// The process with this id at that time.
    fn process(&mut self, pid: Pid, at: KernelTime, outputs: &mut Vec<Output>) -> Arc<Process> {
        let resolved = self.processes.counts().resolved;
        self.processes.look_again(pid, self.now);
        let process = self.processes.at(pid, at);
        if self.processes.counts().resolved != resolved {
            outputs.push(Output::Process(Arc::clone(&process)));
        }
        process
    }

    fn finished(&mut self, exchange: Box<Exchange>, outputs: &mut Vec<Output>) {
        let process = self.process(exchange.pid, exchange.start, outputs);
        if process.instrumented {
            self.linker.on_instrumented(process.pid);
        }
        if let Some(leaves) = &mut self.leaves
            && exchange.role == Role::Server
            && self.samplers.of(&process.resource.service).is_never()
            && leaves.on_answered(exchange.pid)
        {
            self.dismissed.push(exchange.id.conn);
        }
        let (id, end) = (exchange.id, exchange.end);
        self.linker.on_finished(id, (exchange, process), end, &mut self.ids, &mut self.placed);
    }

    /// Makes spans of the exchanges whose place is settled.
    fn build_placed(&mut self, outputs: &mut Vec<Output>) {
        for Placed { exchange: (exchange, process), place, origin } in self.placed.drain(..) {
            let resource = Arc::clone(&process.resource);
            if !place.flags.contains(TraceFlags::SAMPLED) {
                self.counts.unsampled += 1;
                if self.measured {
                    let span = self.spans.build(&exchange, &place, &origin, resource);
                    outputs.push(Output::Measured(span));
                }
                continue;
            }
            match exchange.role {
                Role::Server => self.counts.server_spans += 1,
                Role::Client => self.counts.client_spans += 1,
            }
            self.tally.add(&resource.service, &origin);
            let span = self.spans.build(&exchange, &place, &origin, resource);
            match &mut self.tail {
                None => outputs.push(Output::Span(span)),
                Some(tail) => {
                    if self.measured {
                        outputs.push(Output::Measured(span.clone()));
                    }
                    tail.on_span(span, self.now, &mut |span| outputs.push(Output::Span(span)));
                }
            }
        }
    }

    fn lost(&mut self, reason: LossReason, exchanges: u32) {
        if reason == LossReason::Unsampled {
            self.counts.unsampled += u64::from(exchanges);
        } else if exchanges > 0 {
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
        LossReason::Unsampled => "unsampled",
        LossReason::Expired => "expired",
        LossReason::Unfinished => "unfinished",
    }
}
