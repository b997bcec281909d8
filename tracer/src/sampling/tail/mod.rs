//! Tail sampling on one node: spans wait until what their trace was like can be told, and then
//! the trace is kept whole or not at all.
//!
//! A trace is decided on once no exchange of it has been open here for a while. Decisions are
//! remembered, for spans that come later. What a node sees is its own part of a trace: the same
//! policy on two nodes decides alike only as far as it goes by probability. No clock: time comes
//! with spans and with [`TailSampler::on_tick`].

mod attribute;
mod parse;
mod policy;
mod rate;
mod trace;

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::Serialize;

pub use attribute::{AttributeTest, Pattern, Test};
pub use parse::ParseError;
pub use policy::{Policy, PolicyError, Probability, ServicePolicy};
pub use rate::{Rate, RateUnit};

use super::ot;
use super::threshold::Threshold;
use crate::event::KernelTime;
use crate::trace::Span;
use crate::trace::context::TraceId;
use trace::Spans;

/// Bytes that a trace takes besides its spans.
const TRACE_BYTES: usize = 2 * (size_of::<TraceId>() + size_of::<Waiting>());

/// What is kept, how long it takes to tell, and what that may cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Which traces are kept.
    pub policy: Policy,
    /// A trace of which nothing was open or came for so long is decided on.
    pub wait: Duration,
    /// A trace is decided on after so long even if something of it is open.
    pub longest_wait: Duration,
    /// Traces that wait; beyond, the one that has waited longest is decided on.
    pub traces: usize,
    /// Spans of one trace that wait; beyond, it is decided on.
    pub trace_spans: usize,
    /// Bytes that all spans that wait may take; beyond, the trace that has waited longest is
    /// decided on.
    pub bytes: usize,
    /// Decisions remembered; beyond, the oldest is forgotten.
    pub decisions: usize,
}

impl Options {
    /// A policy with bounds for one node.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            wait: Duration::from_secs(5),
            longest_wait: Duration::from_mins(2),
            traces: 50_000,
            trace_spans: 10_000,
            bytes: 64 << 20,
            decisions: 100_000,
        }
    }
}

/// What became of traces and their spans, since start. Spans that came in are those kept, those
/// dropped and those that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Traces kept.
    pub kept_traces: u64,
    /// Traces that the policy does not keep.
    pub dropped_traces: u64,
    /// Spans kept.
    pub kept_spans: u64,
    /// Spans of traces that the policy does not keep.
    pub dropped_spans: u64,
    /// Of the spans kept, those that came after the decision.
    pub kept_late_spans: u64,
    /// Of the spans dropped, those that came after the decision.
    pub dropped_late_spans: u64,
    /// Traces decided on early because too many waited.
    pub early_traces: u64,
    /// Traces decided on early because they had too many spans.
    pub early_trace_spans: u64,
    /// Traces decided on early because spans took too much memory.
    pub early_bytes: u64,
    /// Traces decided on while something of them was open, as they had waited longest.
    pub early_open: u64,
    /// Decisions forgotten; later spans of those traces are decided on anew.
    pub forgotten: u64,
}

/// `None` for what is dropped, else with which threshold it is kept.
type Decision = Option<Threshold>;

/// Traces that wait, and what was decided about others.
#[derive(Debug)]
pub struct TailSampler {
    policy: Policy,
    wait: u64,
    longest_wait: u64,
    bounds: Bounds,
    at_once: bool,
    waiting: FxHashMap<TraceId, Waiting>,
    /// When to look at which trace. The traces of some entries are decided on already.
    due: VecDeque<(KernelTime, TraceId)>,
    bytes: usize,
    decided: FxHashMap<TraceId, Decision>,
    /// Traces decided on, oldest first.
    remembered: VecDeque<TraceId>,
    counts: Counts,
}

#[derive(Debug)]
struct Bounds {
    traces: usize,
    trace_spans: usize,
    bytes: usize,
    decisions: usize,
}

#[derive(Debug)]
struct Waiting {
    spans: Vec<Span>,
    bytes: usize,
    since: KernelTime,
    /// When the last span came.
    last: KernelTime,
    /// The entry of [`TailSampler::due`] that is about this.
    due: KernelTime,
}

/// Why a trace is not waited for any longer.
#[derive(Clone, Copy)]
enum Early {
    Traces,
    TraceSpans,
    Bytes,
    Open,
}

impl TailSampler {
    /// Nothing waits yet.
    pub fn new(options: Options) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            policy: options.policy,
            wait: nanos(options.wait),
            longest_wait: nanos(options.longest_wait),
            bounds: Bounds {
                traces: options.traces,
                trace_spans: options.trace_spans,
                bytes: options.bytes,
                decisions: options.decisions,
            },
            at_once: false,
            waiting: FxHashMap::default(),
            due: VecDeque::new(),
            bytes: 0,
            decided: FxHashMap::default(),
            remembered: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Takes a span; `keep` is given what is kept, now or of those that waited.
    pub fn on_span(&mut self, span: Span, now: KernelTime, keep: &mut impl FnMut(Span)) {
        let trace = span.trace;
        if let Some(decision) = self.decided.get(&trace) {
            if let Some(threshold) = *decision {
                self.counts.kept_late_spans += 1;
                self.counts.kept_spans += 1;
                keep(kept(span, threshold));
            } else {
                self.counts.dropped_late_spans += 1;
                self.counts.dropped_spans += 1;
            }
            return;
        }
        let bytes = span.footprint();
        let due = KernelTime(now.0.saturating_add(self.wait));
        let waiting = self.waiting.entry(trace).or_insert_with(|| {
            self.due.push_back((due, trace));
            self.bytes += TRACE_BYTES;
            Waiting { spans: Vec::new(), bytes: TRACE_BYTES, since: now, last: now, due }
        });
        // Most traces have few spans here, and room that they do not use is not counted.
        let room = waiting.spans.len() / 2 + 1;
        if waiting.spans.len() == waiting.spans.capacity() {
            waiting.spans.reserve_exact(room);
        }
        waiting.spans.push(span);
        waiting.bytes += bytes;
        waiting.last = now;
        self.bytes += bytes;
        if waiting.spans.len() > self.bounds.trace_spans {
            self.decide(trace, now, Some(Early::TraceSpans), keep);
        }
        while self.waiting.len() > self.bounds.traces {
            self.decide_oldest(now, Early::Traces, keep);
        }
        let room = if self.at_once { 0 } else { self.bounds.bytes };
        while self.bytes > room && !self.waiting.is_empty() {
            self.decide_oldest(now, Early::Bytes, keep);
        }
    }

    /// From now on, or not any more, nothing waits, as if there were no room.
    pub fn decide_at_once(&mut self, at_once: bool) {
        self.at_once = at_once;
    }

    /// Whether a trace has waited long enough to be looked at by [`Self::on_tick`].
    pub fn is_due(&self, now: KernelTime) -> bool {
        self.due.front().is_some_and(|(due, _)| *due <= now)
    }

    /// Decides on traces that have waited long enough and of which nothing `is_open`.
    pub fn on_tick(
        &mut self,
        now: KernelTime,
        is_open: impl Fn(TraceId) -> bool,
        keep: &mut impl FnMut(Span),
    ) {
        while let Some(&(due, trace)) = self.due.front()
            && due <= now
        {
            self.due.pop_front();
            let Some(waiting) = self.waiting.get_mut(&trace).filter(|it| it.due == due) else {
                continue;
            };
            let open = is_open(trace);
            let quiet = now.nanos_since(waiting.last) >= self.wait;
            let too_long = now.nanos_since(waiting.since) >= self.longest_wait;
            if (quiet && !open) || too_long {
                self.decide(trace, now, open.then_some(Early::Open), keep);
            } else {
                // Not sooner than others, so that the oldest stays in front.
                waiting.due = KernelTime(now.0.saturating_add(self.wait));
                self.due.push_back((waiting.due, trace));
            }
        }
    }

    /// Nothing more will come: decides on everything that waits.
    pub fn finish(&mut self, now: KernelTime, keep: &mut impl FnMut(Span)) {
        while let Some((_, trace)) = self.due.pop_front() {
            self.decide(trace, now, None, keep);
        }
    }

    /// What became of traces so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes of spans that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Traces that wait.
    pub fn traces(&self) -> usize {
        self.waiting.len()
    }

    fn decide_oldest(&mut self, now: KernelTime, early: Early, keep: &mut impl FnMut(Span)) {
        while let Some((due, trace)) = self.due.pop_front() {
            if self.waiting.get(&trace).is_some_and(|waiting| waiting.due == due) {
                return self.decide(trace, now, Some(early), keep);
            }
        }
    }

    fn decide(
        &mut self,
        trace: TraceId,
        now: KernelTime,
        early: Option<Early>,
        keep: &mut impl FnMut(Span),
    ) {
        let Some(waiting) = self.waiting.remove(&trace) else { return };
        let counts = &mut self.counts;
        match early {
            None => {}
            Some(Early::Traces) => counts.early_traces += 1,
            Some(Early::TraceSpans) => counts.early_trace_spans += 1,
            Some(Early::Bytes) => counts.early_bytes += 1,
            Some(Early::Open) => counts.early_open += 1,
        }
        self.bytes -= waiting.bytes;
        let spans = waiting.spans.len() as u64;
        let threshold = self.policy.threshold(&Spans::new(&waiting.spans), now);
        // Randomness that a caller chose stands in the state of whichever spans are below it.
        let stated = waiting.spans.iter().find(|span| !span.state.0.is_empty());
        let randomness = stated.or(waiting.spans.first());
        let randomness = randomness.map(|span| ot::randomness(trace, &span.state));
        let is_kept = randomness.is_some_and(|randomness| threshold.keeps(randomness));
        self.remember(trace, is_kept.then_some(threshold));
        let counts = &mut self.counts;
        if is_kept {
            counts.kept_traces += 1;
            counts.kept_spans += spans;
            for span in waiting.spans {
                keep(kept(span, threshold));
            }
        } else {
            counts.dropped_traces += 1;
            counts.dropped_spans += spans;
        }
    }

    fn remember(&mut self, trace: TraceId, decision: Decision) {
        if self.bounds.decisions == 0 {
            return;
        }
        if self.remembered.len() >= self.bounds.decisions
            && let Some(oldest) = self.remembered.pop_front()
        {
            self.decided.remove(&oldest);
            self.counts.forgotten += 1;
        }
        self.decided.insert(trace, decision);
        self.remembered.push_back(trace);
    }
}

/// A span with what tells how many it stands for. Who kept it before may have kept fewer.
fn kept(mut span: Span, threshold: Threshold) -> Span {
    if threshold > ot::threshold(&span.state).unwrap_or(Threshold::ALWAYS) {
        span.state = ot::with_threshold(&span.state, Some(threshold));
    }
    span
}

#[cfg(test)]
mod tests;
