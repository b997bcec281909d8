//! Traffic as it comes, and what holds of whatever is kept of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::sampling::Sampler;
use crate::trace::Resource;
use crate::trace::context::{IdSource, SpanId, TraceFlags};

/// Traffic of which it is known what is to be kept.
struct Load {
    ids: IdSource,
    random: fastrand::Rng,
    resources: [Arc<Resource>; 3],
}

impl Load {
    fn new(seed: u64) -> Self {
        let resources = ["edge", "orders", "stock"];
        Self {
            ids: IdSource::seeded(seed),
            random: fastrand::Rng::with_seed(seed),
            resources: resources.map(|service| fixtures::resource(1, service)),
        }
    }

    /// The spans of one trace in the order in which they end, the root last, and when each does in
    /// nanoseconds after the start.
    fn trace(&mut self) -> Vec<(u64, Span)> {
        let id = self.ids.trace_id();
        let slow = self.random.u32(..200) == 0;
        let fails = self.random.u32(..100) == 0;
        let took = if slow { 1_100 + self.random.u64(..9_000) } else { 1 + self.random.u64(..900) };
        let mut spans: Vec<_> = (0..3_u64)
            .map(|depth| {
                let end = (took - took * (2 - depth) / 4) * 1_000_000;
                let status = if fails && depth == 0 { Status::Error } else { Status::Unset };
                let resource = Arc::clone(&self.resources[2 - depth as usize]);
                let attributes = vec![("url.path".into(), Value::Text("/orders/12345".into()))];
                let id = (SpanId(self.random.u64(1..).to_be_bytes()), id);
                let mut span = Span {
                    end: 1 + end,
                    start: 1,
                    status,
                    resource,
                    attributes,
                    ..fixtures::span(1)
                };
                (span.id, span.trace) = id;
                (end, span)
            })
            .collect();
        spans.sort_by_key(|(end, _)| *end);
        spans
    }
}

#[test]
fn errors_and_slow_traces_are_kept_at_five_thousand_traces_a_second_within_the_limit() {
    const RATE: u64 = 5_000;
    const SECONDS: u64 = 40;
    let policy = "error or latency>1s or probability 1%".parse().unwrap();
    let options = Options::new(policy);
    let limit = options.bytes;
    let mut run = Run::with(options);
    let mut load = Load::new(1);
    let mut under_way: BTreeMap<(u64, SpanId), Span> = BTreeMap::new();
    let mut open: FxHashMap<TraceId, u32> = FxHashMap::default();
    let (mut notable, mut others, mut most) = (BTreeSet::new(), 0_u64, 0);
    let tick = SECOND / 10;
    for step in 0..SECONDS * 10 {
        run.now = (step + 10) * tick;
        for _ in 0..RATE / 10 {
            let spans = load.trace();
            let whole = spans.len();
            let id = spans[0].1.trace;
            let is_notable = spans.iter().any(|(_, span)| span.status == Status::Error)
                || spans.iter().any(|(end, _)| *end > SECOND);
            if is_notable {
                notable.insert(id);
            } else {
                others += 1;
            }
            open.insert(id, whole as u32);
            under_way.extend(spans.into_iter().map(|(end, span)| ((run.now + end, span.id), span)));
        }
        while let Some(entry) = under_way.first_entry()
            && entry.key().0 <= run.now + tick
        {
            let span = entry.remove();
            let left = open.get_mut(&span.trace).unwrap();
            *left -= 1;
            if *left == 0 {
                open.remove(&span.trace);
            }
            run.span(span);
            assert!(run.sampler.bytes() <= limit);
        }
        most = most.max(run.sampler.bytes());
        let keep = &mut |span| run.kept.push(span);
        run.sampler.on_tick(KernelTime(run.now), |id| open.contains_key(&id), keep);
    }
    for (_, span) in under_way {
        run.span(span);
    }
    let counts = run.sampler.counts();
    assert_eq!((counts.early_traces, counts.early_bytes, counts.early_open), (0, 0, 0), "{most}");
    let (kept, _) = run.finish();

    let mut whole: BTreeMap<TraceId, usize> = BTreeMap::new();
    let mut estimate = 0.0;
    for span in &kept {
        *whole.entry(span.trace).or_default() += 1;
        let threshold = ot::threshold(&span.state);
        assert_eq!(threshold.is_none(), notable.contains(&span.trace), "certain or by chance");
        estimate += threshold.map_or(0.0, Threshold::adjusted_count) / 3.0;
    }
    assert!(whole.values().all(|spans| *spans == 3), "kept whole");
    assert!(notable.iter().all(|id| whole.contains_key(id)), "all that are of note");
    assert!(notable.len() > 2_000);
    // Six deviations of a count that one in a hundred makes, times a hundred.
    let deviation = 6.0 * (others as f64 * 0.01).sqrt() * 100.0;
    assert!((estimate - others as f64).abs() < deviation, "{estimate} of {others}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever chance keeps, what is kept stands for what there was.
    #[test]
    fn adjusted_counts_estimate_what_came(
        seed in any::<u64>(),
        policy in prop::sample::select(vec![
            "probability 10%",
            "error or probability 5%",
            "probability 50% and probability 20%",
            "error and probability 50% or latency>1s or probability 10%",
            "service stock (error or probability 25%) or probability 10%",
            "rate 300 traces/s",
            "error or rate 600 spans/s",
            "not error and probability 20% or error",
        ]),
        head in prop::sample::select(vec![1.0, 0.5, 0.25]),
    ) {
        const TRACES: u64 = 20_000;
        let mut run = Run::new(policy);
        let mut load = Load::new(seed);
        let sampler = Sampler::ratio(head);
        for _ in 0..TRACES {
            run.now += SECOND / 1_000;
            for (_, span) in load.trace() {
                let mut place = IdSource::seeded(1).root();
                place.trace = span.trace;
                sampler.decide(&mut place);
                if place.flags.contains(TraceFlags::SAMPLED) {
                    run.span(Span { state: place.state, ..span });
                }
            }
            let keep = &mut |span| run.kept.push(span);
            run.sampler.on_tick(KernelTime(run.now), |_| false, keep);
        }
        let (kept, _) = run.finish();
        let counts = kept.iter().map(|span| {
            ot::threshold(&span.state).map_or(1.0, Threshold::adjusted_count)
        });
        let (estimate, variance) = counts.fold((0.0, 0.0), |(sum, variance), count| {
            // The three spans of a trace are kept or dropped together.
            (sum + count / 3.0, variance + count * (count - 1.0) / 3.0)
        });
        let deviation = 6.0 * f64::sqrt(variance) + 1.0;
        prop_assert!((estimate - TRACES as f64).abs() < deviation, "{policy}, {head}: {estimate}");
    }

    /// Two agents, which see different spans of the same traces, agree where chance decides.
    #[test]
    fn agents_agree_by_probability(seed in any::<u64>()) {
        let kept = |part: usize| {
            let mut run = Run::new("probability 20%");
            let mut load = Load::new(seed);
            for _ in 0..500 {
                let mut spans = load.trace();
                run.span(spans.swap_remove(part).1);
            }
            run.finish().0.iter().map(|span| span.trace).collect::<BTreeSet<_>>()
        };
        prop_assert_eq!(kept(0), kept(2));
    }

    /// Spans are conserved, and traces whole, whatever the bounds.
    #[test]
    fn nothing_is_lost_or_torn_at_bounds(
        seed in any::<u64>(),
        traces in 1_usize..40,
        trace_spans in 1_usize..5,
        bytes in 1_usize..60_000,
    ) {
        let policy = "error or probability 30%".parse().unwrap();
        let mut run = Run::with(Options { traces, trace_spans, bytes, ..Options::new(policy) });
        let mut load = Load::new(seed);
        let mut spans: Vec<_> = (0..200).flat_map(|_| load.trace()).collect();
        spans.sort_by_key(|(end, _)| *end);
        let came = spans.len();
        for (_, span) in spans {
            run.now += SECOND / 100;
            run.span(span);
            prop_assert!(run.sampler.bytes() <= bytes && run.sampler.traces() <= traces);
        }
        let (kept, counts) = run.finish();
        let mut whole: BTreeMap<TraceId, usize> = BTreeMap::new();
        for span in &kept {
            *whole.entry(span.trace).or_default() += 1;
        }
        prop_assert!(whole.values().all(|spans| *spans == 3));
        prop_assert_eq!(counts.kept_spans, kept.len() as u64);
        prop_assert_eq!(counts.kept_spans + counts.dropped_spans, came as u64);
    }
}
