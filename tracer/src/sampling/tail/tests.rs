mod load;

use super::*;
use crate::export::fixtures;
use crate::trace::context::TraceState;
use crate::trace::{Status, Value};

const SECOND: u64 = 1_000_000_000;

/// A sampler with what it kept.
struct Run {
    sampler: TailSampler,
    kept: Vec<Span>,
    now: u64,
}

impl Run {
    fn new(policy: &str) -> Self {
        Self::with(Options::new(policy.parse().unwrap()))
    }

    fn with(options: Options) -> Self {
        Self { sampler: TailSampler::new(options), kept: Vec::new(), now: SECOND }
    }

    fn span(&mut self, span: Span) {
        self.sampler.on_span(span, KernelTime(self.now), &mut |span| self.kept.push(span));
    }

    /// Time passes, while these traces are open.
    fn pass(&mut self, seconds: u64, open: &[TraceId]) {
        for _ in 0..seconds * 10 {
            self.now += SECOND / 10;
            let is_open = |trace: TraceId| open.contains(&trace);
            let keep = &mut |span| self.kept.push(span);
            self.sampler.on_tick(KernelTime(self.now), is_open, keep);
        }
    }

    fn finish(mut self) -> (Vec<Span>, Counts) {
        self.sampler.finish(KernelTime(self.now), &mut |span| self.kept.push(span));
        assert_eq!((self.sampler.bytes(), self.sampler.traces()), (0, 0));
        (self.kept, self.sampler.counts())
    }

    fn kept(&self) -> usize {
        self.kept.len()
    }
}

/// A trace whose randomness is this part of all.
fn trace(number: u64, randomness: f64) -> TraceId {
    let random = (randomness * (1_u64 << 56) as f64) as u64;
    TraceId((u128::from(number) << 64 | u128::from(random)).to_be_bytes())
}

fn span(trace: TraceId, millis: u64) -> Span {
    let start = 5_000_000;
    Span { trace, start, end: start + millis * 1_000_000, ..fixtures::span(1) }
}

fn failed(span: Span) -> Span {
    Span { status: Status::Error, ..span }
}

fn with(span: Span, name: &'static str, value: Value) -> Span {
    Span { attributes: vec![(name.into(), value)], ..span }
}

fn of(service: &str, span: Span) -> Span {
    Span { resource: fixtures::resource(2, service), ..span }
}

#[test]
fn conditions_are_met_by_what_they_name() {
    let (low, high) = (trace(1, 0.0), trace(1, 0.995));
    let plain = || span(low, 1_000);
    let path = |path: &str| with(plain(), "url.path", Value::Text(path.into()));
    let status = |status| with(plain(), "http.response.status_code", Value::Int(status));
    let rows: Vec<(&str, Vec<Span>, bool)> = vec![
        ("always", vec![plain()], true),
        ("error", vec![plain()], false),
        ("error", vec![plain(), failed(plain())], true),
        ("latency>1s", vec![plain()], false),
        ("latency>999ms", vec![plain()], true),
        ("latency>1s", vec![plain(), Span { start: 4_000_000, ..plain() }], true),
        ("probability 1%", vec![plain()], false),
        ("probability 1%", vec![span(high, 1)], true),
        ("probability 0.1%", vec![span(high, 1)], false),
        ("error or probability 1%", vec![failed(plain())], true),
        ("error and probability 1%", vec![failed(plain())], false),
        ("error and probability 1%", vec![failed(span(high, 1))], true),
        ("not error", vec![plain()], true),
        ("not error", vec![plain(), failed(plain())], false),
        ("route /users/{id}", vec![path("/users/7")], true),
        ("route /users/{id}", vec![path("/users")], false),
        ("route /a", vec![with(path("/b"), "http.route", Value::Text("/a".into()))], true),
        (
            "route /users/{id}",
            vec![with(plain(), "http.route", Value::Text("/users/7".into()))],
            false,
        ),
        ("attribute http.response.status_code>=400", vec![status(400)], true),
        ("attribute http.response.status_code>400", vec![status(400)], false),
        ("attribute http.response.status_code<=400", vec![status(400)], true),
        ("attribute http.response.status_code<400", vec![status(400)], false),
        ("attribute http.response.status_code=400", vec![status(400)], true),
        ("attribute http.response.status_code!=400", vec![status(400)], false),
        ("attribute http.response.status_code!=400", vec![plain()], false),
        ("attribute url.path~'^/a'", vec![path("/b"), path("/ab")], true),
        ("attribute url.path~'^/a'", vec![path("/b/a")], false),
        (
            "attribute x=b",
            vec![with(plain(), "x", Value::TextList(vec!["a".into(), "b".into()]))],
            true,
        ),
        ("attribute x=true", vec![with(plain(), "x", Value::Bool(true))], true),
        ("attribute x>0.5", vec![with(plain(), "x", Value::Double(0.6))], true),
        ("attribute service.name=shop", vec![plain()], true),
        ("attribute service.version", vec![plain()], false),
        ("service pay", vec![plain()], false),
        ("service pay", vec![plain(), of("pay", plain())], true),
        ("service p* (error)", vec![failed(plain()), of("pay", plain())], false),
        ("service p* (not error)", vec![failed(plain()), of("pay", plain())], true),
        ("not service pay (error)", vec![failed(of("pay", plain()))], false),
        ("service pay (service shop)", vec![plain(), of("pay", plain())], false),
        ("rate 1 traces/s", vec![plain()], true),
        ("rate 0 traces/s", vec![plain()], false),
    ];
    for (policy, spans, expected) in rows {
        let mut run = Run::new(policy);
        let count = spans.len();
        for span in spans {
            run.span(span);
        }
        let (kept, counts) = run.finish();
        assert_eq!(kept.len(), if expected { count } else { 0 }, "{policy}");
        assert_eq!(counts.kept_spans + counts.dropped_spans, count as u64);
    }
}

#[test]
fn a_rate_sees_only_what_is_left_to_it() {
    let mut run = Run::new("error or rate 1 traces/s");
    for number in 0..100 {
        run.span(failed(span(trace(number, 0.5), 1)));
    }
    run.span(span(trace(1_000, 0.5), 1));
    let (kept, _) = run.finish();
    assert_eq!(kept.len(), 101, "errors do not use it up");
}

#[test]
fn a_trace_is_decided_on_once_it_is_quiet_and_closed() {
    let id = trace(1, 0.5);
    let mut run = Run::new("always");
    run.span(span(id, 1));
    run.pass(4, &[]);
    run.span(span(id, 1));
    run.pass(4, &[]);
    assert_eq!(run.kept(), 0, "the second span came lately");
    run.pass(6, &[]);
    assert_eq!(run.kept(), 2);

    let slow = trace(2, 0.5);
    run.span(span(slow, 1));
    run.pass(60, &[slow]);
    assert_eq!(run.kept(), 2, "something of it is open");
    run.span(span(slow, 60_000));
    run.pass(11, &[]);
    assert_eq!(run.kept(), 4);
    run.span(span(trace(3, 0.5), 1));
    run.pass(126, &[trace(3, 0.5)]);
    assert_eq!(run.kept(), 5, "but not forever");
    assert_eq!(run.finish().1.early_open, 1);
}

#[test]
fn late_spans_follow_the_decision() {
    let (bad, good) = (trace(1, 0.5), trace(2, 0.5));
    let mut run = Run::new("error");
    run.span(failed(span(bad, 1)));
    run.span(span(good, 1));
    run.pass(6, &[]);
    run.span(span(bad, 1));
    run.span(failed(span(good, 1)));
    assert_eq!(run.kept(), 2);
    let (_, counts) = run.finish();
    let expected = Counts {
        kept_traces: 1,
        dropped_traces: 1,
        kept_spans: 2,
        dropped_spans: 2,
        kept_late_spans: 1,
        dropped_late_spans: 1,
        ..Counts::default()
    };
    assert_eq!(counts, expected);
}

#[test]
fn at_every_bound_the_longest_waiting_are_decided_on() {
    let base = Options::new("error".parse().unwrap());
    let one = span(trace(1, 0.5), 1).footprint() + TRACE_BYTES;
    for (options, counted) in [
        (Options { traces: 10, ..base.clone() }, (90, 0)),
        (Options { bytes: 10 * one, ..base.clone() }, (0, 90)),
        (Options { bytes: 0, ..base.clone() }, (0, 100)),
    ] {
        let bound = options.bytes;
        let mut run = Run::with(options);
        for number in 0..100 {
            run.now += 1;
            run.span(failed(span(trace(number, 0.5), 1)));
            assert!(run.sampler.bytes() <= bound);
            assert!(run.sampler.traces() <= 10);
        }
        let early = run.kept();
        let counts = run.sampler.counts();
        assert_eq!((counts.early_traces, counts.early_bytes), counted);
        let order: Vec<_> = run.kept.iter().map(|span| span.trace).collect();
        assert!(order.is_sorted(), "the oldest first");
        assert_eq!(run.finish().0.len(), 100, "{early} early");
    }
}

#[test]
fn a_trace_with_too_many_spans_is_decided_on_and_goes_on_whole() {
    let mut run = Run::with(Options { trace_spans: 10, ..Options::new("error".parse().unwrap()) });
    let (bad, good) = (trace(1, 0.5), trace(2, 0.5));
    run.span(failed(span(bad, 1)));
    for _ in 0..30 {
        run.span(span(bad, 1));
        run.span(span(good, 1));
    }
    run.span(failed(span(good, 1)));
    let (kept, counts) = run.finish();
    assert!(kept.iter().all(|span| span.trace == bad));
    assert_eq!((kept.len(), counts.dropped_spans, counts.early_trace_spans), (31, 31, 2));
}

#[test]
fn decisions_are_remembered_up_to_a_bound() {
    let mut run = Run::with(Options { decisions: 2, ..Options::new("error".parse().unwrap()) });
    for number in 0..3 {
        run.span(failed(span(trace(number, 0.5), 1)));
    }
    run.pass(6, &[]);
    for number in 0..3 {
        run.span(span(trace(number, 0.5), 1));
    }
    let (kept, counts) = run.finish();
    assert_eq!(kept.len(), 5, "the first one was forgotten, and is decided on anew");
    assert_eq!(counts.forgotten, 2);
}

#[test]
fn what_is_kept_says_how_many_it_stands_for() {
    let high = trace(1, 0.999_5);
    let state = |text: &str, span| Span { state: TraceState(text.into()), ..span };
    for (policy, before, after) in [
        ("always", "", ""),
        ("always", "a=1", "a=1"),
        ("probability 1%", "", "ot=th:fd70a4"),
        ("probability 1%", "ot=th:8,a=1", "ot=th:fd70a4,a=1"),
        ("probability 50%", "ot=th:fd70a4,a=1", "ot=th:fd70a4,a=1"),
        ("latency>1s or probability 1%", "", "ot=th:fd70a4"),
        ("always or probability 1%", "", ""),
        ("probability 1% or probability 50%", "", "ot=th:8"),
        ("probability 1% and probability 50%", "", "ot=th:fd70a4"),
        ("service shop (probability 50%)", "", "ot=th:8"),
    ] {
        let mut run = Run::new(policy);
        run.span(state(before, span(high, 1)));
        run.pass(11, &[]);
        run.span(state(before, span(high, 1)));
        let (kept, _) = run.finish();
        let states: Vec<_> = kept.iter().map(|span| span.state.0.as_str()).collect();
        assert_eq!(states, [after; 2], "{policy}, {before}");
    }
}

#[test]
fn randomness_that_a_caller_chose_decides() {
    let low = trace(1, 0.0);
    let chosen = Span { state: TraceState("ot=rv:ffffffffffffff".into()), ..span(low, 1) };
    let mut run = Run::new("probability 1%");
    run.span(span(low, 1));
    run.span(chosen);
    assert_eq!(run.finish().0.len(), 2);
}

/// Protects: the memory limit, at which nothing may wait.
#[test]
fn without_room_a_trace_is_decided_on_by_what_of_it_is_there() {
    let mut run = Run::new("error");
    let (first, second) = (trace(1, 0.5), trace(2, 0.5));
    run.span(failed(span(first, 1)));
    run.sampler.decide_at_once(true);
    run.span(span(second, 1));
    assert_eq!((run.kept(), run.sampler.traces()), (1, 0));
    run.sampler.decide_at_once(false);
    run.span(span(trace(3, 0.5), 1));
    assert_eq!(run.sampler.traces(), 1);
    assert_eq!(run.finish().1.early_bytes, 2);
}
