//! Holds the spans of each trace until the trace has been quiet for a while. Bounded: when full,
//! the quietest trace is handed out early, and a late span then starts a second drawing.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;

use crate::export::queue::SharedSpan;
use crate::export::settings::ConsoleSettings;
use crate::trace::context::TraceId;

/// Traces that may still grow.
#[derive(Debug)]
pub(super) struct Assembly {
    settings: ConsoleSettings,
    traces: HashMap<TraceId, Held>,
    /// Traces by their last growth, the quietest one first.
    order: BTreeMap<Growth, TraceId>,
    growths: u64,
    spans: usize,
}

/// Counts growths, so that time may stand still.
type Growth = u64;

#[derive(Debug)]
struct Held {
    spans: Vec<SharedSpan>,
    last_growth: Growth,
    grown_at: Instant,
}

impl Assembly {
    pub(super) fn new(settings: ConsoleSettings) -> Self {
        Self { settings, traces: HashMap::new(), order: BTreeMap::new(), growths: 0, spans: 0 }
    }

    /// Takes spans in; gives back the traces that had to make room.
    pub(super) fn add(
        &mut self,
        spans: impl Iterator<Item = SharedSpan>,
        now: Instant,
    ) -> Vec<Vec<SharedSpan>> {
        let mut evicted = Vec::new();
        for span in spans {
            self.growths += 1;
            let growth = self.growths;
            let trace = span.trace;
            let held = self.traces.entry(trace).or_insert_with(|| Held {
                spans: Vec::new(),
                last_growth: growth,
                grown_at: now,
            });
            self.order.remove(&held.last_growth);
            self.order.insert(growth, trace);
            held.last_growth = growth;
            held.grown_at = now;
            held.spans.push(span);
            self.spans += 1;
            while self.traces.len() > self.settings.max_traces.max(1)
                || self.spans > self.settings.max_spans.max(1)
            {
                let Some(quietest) = self.take_quietest() else { break };
                evicted.push(quietest);
            }
        }
        evicted
    }

    /// When the next trace will have been quiet for long enough.
    pub(super) fn next_quiet(&self) -> Option<Instant> {
        let trace = self.order.first_key_value()?.1;
        Some(self.traces.get(trace)?.grown_at + self.settings.quiet)
    }

    /// The traces that have been quiet for long enough.
    pub(super) fn take_quiet(&mut self, now: Instant) -> Vec<Vec<SharedSpan>> {
        let mut quiet = Vec::new();
        while self.next_quiet().is_some_and(|at| at <= now) {
            quiet.extend(self.take_quietest());
        }
        quiet
    }

    /// All traces, as nothing more will come.
    pub(super) fn take_all(&mut self) -> Vec<Vec<SharedSpan>> {
        std::iter::from_fn(|| self.take_quietest()).collect()
    }

    fn take_quietest(&mut self) -> Option<Vec<SharedSpan>> {
        let (_, trace) = self.order.pop_first()?;
        let held = self.traces.remove(&trace)?;
        self.spans -= held.spans.len();
        Some(held.spans)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::export::fixtures::{batch, span};
    use crate::trace::Span;

    fn of_trace(trace: u8, start: u64) -> Span {
        Span { trace: TraceId([trace; 16]), ..span(start) }
    }

    fn assembly(max_traces: usize, max_spans: usize) -> Assembly {
        Assembly::new(ConsoleSettings { max_traces, max_spans, ..ConsoleSettings::default() })
    }

    fn add(assembly: &mut Assembly, spans: Vec<Span>, now: Instant) -> Vec<Vec<u64>> {
        starts(&assembly.add(batch(spans).shared(), now))
    }

    fn starts(traces: &[Vec<SharedSpan>]) -> Vec<Vec<u64>> {
        traces.iter().map(|trace| trace.iter().map(|span| span.start).collect()).collect()
    }

    #[test]
    fn a_trace_is_whole_once_it_is_quiet() {
        let mut assembly = assembly(10, 10);
        let start = Instant::now();
        let second = Duration::from_secs(1);
        add(&mut assembly, vec![of_trace(1, 0), of_trace(2, 1)], start);
        add(&mut assembly, vec![of_trace(1, 2)], start + second / 2);
        assert_eq!(assembly.next_quiet(), Some(start + second));
        assert_eq!(starts(&assembly.take_quiet(start + second)), [[1]]);
        assert_eq!(starts(&assembly.take_quiet(start + second)), Vec::<Vec<u64>>::new());
        assert_eq!(starts(&assembly.take_quiet(start + second * 3 / 2)), [[0, 2]]);
        assert_eq!(assembly.next_quiet(), None);
    }

    #[test]
    fn too_many_traces_or_spans_push_out_the_quietest() {
        let now = Instant::now();
        let mut few_traces = assembly(2, 10);
        add(&mut few_traces, vec![of_trace(1, 0), of_trace(2, 1), of_trace(1, 2)], now);
        assert_eq!(add(&mut few_traces, vec![of_trace(3, 3)], now), [[1]]);

        let mut few_spans = assembly(10, 3);
        add(&mut few_spans, vec![of_trace(1, 0), of_trace(1, 1), of_trace(2, 2)], now);
        assert_eq!(add(&mut few_spans, vec![of_trace(2, 3)], now), [[0, 1]]);
        assert_eq!(starts(&few_spans.take_all()), [[2, 3]]);
    }
}
