use super::*;
use crate::sampling::threshold::Randomness;
use crate::trace::context::{IdSource, RemoteContext, SpanId, TraceId, TraceState};

/// Its randomness lies in the middle.
const MIDDLE: TraceId = TraceId([7, 7, 7, 7, 7, 7, 7, 7, 7, 0x80, 0, 0, 0, 0, 0, 0]);

fn remote(flags: u8, state: &str) -> SpanContext {
    IdSource::seeded(1).child_of_remote(RemoteContext {
        trace: MIDDLE,
        span: SpanId([2; 8]),
        flags: TraceFlags(flags),
        state: TraceState(state.into()),
    })
}

fn root() -> SpanContext {
    SpanContext { trace: MIDDLE, ..IdSource::seeded(1).root() }
}

fn decided(sampler: &str, mut span: SpanContext) -> (bool, String) {
    sampler.parse::<Sampler>().unwrap().decide(&mut span);
    (span.flags.contains(TraceFlags::SAMPLED), span.state.0.to_string())
}

#[test]
fn every_sampler_decides_on_roots() {
    for (sampler, sampled, state) in [
        ("always_on", true, ""),
        ("always_off", false, ""),
        ("traceidratio:0.6", true, "ot=th:66666"),
        ("traceidratio:0.5", true, "ot=th:8"),
        ("traceidratio:0.4", false, ""),
        ("traceidratio", true, "ot=th:0"),
        ("parentbased_always_on", true, ""),
        ("parentbased_always_off", false, ""),
        ("parentbased_traceidratio:0.6", true, "ot=th:66666"),
        ("parentbased_traceidratio:0.4", false, ""),
        ("on", true, ""),
        ("off", false, ""),
        ("60%", true, "ot=th:66666"),
        ("40 %", false, ""),
        ("1.0", true, "ot=th:0"),
        ("0", false, ""),
    ] {
        assert_eq!(decided(sampler, root()), (sampled, state.to_owned()), "{sampler}");
    }
}

#[test]
fn parents_are_followed_by_those_that_are_based_on_them_and_by_no_others() {
    for (sampler, flags, sampled) in [
        ("parentbased_always_on", 0, false),
        ("parentbased_always_off", 1, true),
        ("parentbased_traceidratio:0", 1, true),
        ("parentbased_traceidratio:1", 0, false),
        ("always_on", 0, true),
        ("always_off", 1, false),
        ("traceidratio:0.6", 0, true),
        ("traceidratio:0.4", 1, false),
    ] {
        assert_eq!(decided(sampler, remote(flags, "")).0, sampled, "{sampler}, {flags}");
        let mut local = SpanContext { parent_is_remote: false, ..remote(flags, "") };
        sampler.parse::<Sampler>().unwrap().decide(&mut local);
        assert_eq!(local.flags.contains(TraceFlags::SAMPLED), sampled, "{sampler}, local");
    }
}

#[test]
fn the_threshold_on_a_span_is_the_one_it_was_kept_with() {
    for (what, sampler, flags, before, after) in [
        ("copied", "on", 1, "ot=th:8,a=1", "ot=th:8,a=1"),
        ("copied, not sampled", "on", 0, "ot=th:c", "ot=th:c"),
        ("would not have been kept", "on", 1, "ot=th:c,a=1", "a=1"),
        ("would have been kept", "on", 0, "ot=th:8", ""),
        (
            "by explicit randomness",
            "on",
            1,
            "ot=th:c;rv:f0000000000000",
            "ot=th:c;rv:f0000000000000",
        ),
        ("of others, left alone", "on", 1, "a=1", "a=1"),
        ("replaced", "traceidratio:0.6", 1, "a=1,ot=th:8", "ot=th:66666,a=1"),
        ("taken away", "traceidratio:0.4", 1, "a=1,ot=th:8", "a=1"),
        ("certain", "always_on", 0, "ot=th:c", "ot=th:0"),
        ("unknown stays unknown", "always_on", 1, "a=1", "a=1"),
        ("off", "always_off", 1, "ot=th:8;rv:f0000000000000", "ot=rv:f0000000000000"),
    ] {
        assert_eq!(decided(sampler, remote(flags, before)).1, after, "{what}");
    }
}

#[test]
fn explicit_randomness_decides() {
    let state = "ot=rv:00000000000001";
    assert_eq!(decided("traceidratio:0.6", remote(1, state)), (false, state.to_owned()));
    let state = "ot=rv:ffffffffffffff";
    assert!(decided("traceidratio:0.01", remote(0, state)).0);
}

#[test]
fn the_random_flag_stays_as_it_came() {
    for flags in [0b10, 0b11] {
        for sampler in [Sampler::ON, Sampler::OFF, Sampler::ratio(0.4)] {
            let mut span = remote(flags, "");
            sampler.decide(&mut span);
            assert!(span.flags.contains(TraceFlags::RANDOM));
        }
    }
}

#[test]
fn bad_options_say_what_to_write() {
    for (text, error) in [
        ("", "is not a sampler"),
        ("sometimes", "is not a sampler"),
        ("jaeger_remote", "is not a sampler"),
        ("parentbased_on", "is not a sampler"),
        ("1.1", "is not a part"),
        ("101%", "is not a part"),
        ("1e9", "is not a part"),
        ("traceidratio:x", "is not a part"),
        ("always_on:1", "takes no argument"),
    ] {
        let message = text.parse::<Sampler>().unwrap_err().to_string();
        assert!(message.contains(error), "{text}: {message}");
    }
}

#[test]
fn the_environment_is_read_as_the_specification_has_it() {
    let ratio = |part| Sampler::ratio(part);
    let rows = [
        (None, None, Sampler::default(), 0),
        (Some(""), Some(""), Sampler::default(), 0),
        (Some("always_on"), None, Sampler::ON, 0),
        (Some("ALWAYS_OFF"), Some("0.5"), Sampler::OFF, 0),
        (Some(" traceidratio "), Some(" 0.25 "), ratio(0.25), 0),
        (Some("traceidratio"), None, ratio(1.0), 0),
        (Some("traceidratio"), Some("2"), ratio(1.0), 1),
        (Some("parentbased_traceidratio"), Some("x"), ratio(1.0).parent_based(), 1),
        (Some("parentbased_traceidratio"), Some("25%"), ratio(1.0).parent_based(), 1),
        (Some("parentbased_always_off"), Some("x"), Sampler::OFF.parent_based(), 0),
        (Some("jaeger_remote"), Some("endpoint=x"), Sampler::default(), 1),
        (Some("xray"), None, Sampler::default(), 1),
        (None, Some("0.5"), Sampler::default(), 0),
    ];
    for (name, argument, expected, warned) in rows {
        let (warnings, sampler) = Sampler::from_environment(name, argument);
        assert_eq!(sampler, expected, "{name:?} {argument:?}");
        assert_eq!(warnings.len(), warned, "{warnings:?}");
    }
}

#[test]
fn the_first_rule_that_matches_a_service_decides() {
    let rule = |pattern: &str, sampler| (pattern.parse().unwrap(), sampler);
    let rules = vec![rule("pay*", Sampler::OFF), rule("payments", Sampler::ON)];
    let samplers = Samplers { rules, otherwise: Sampler::ratio(0.5) };
    assert!(samplers.differ());
    assert_eq!(samplers.of("payments"), Sampler::OFF);
    assert_eq!(samplers.of("orders"), Sampler::ratio(0.5));
    for bad in ["", "a[", "{a"] {
        assert!(bad.parse::<ServicePattern>().is_err(), "{bad}");
    }
}

#[test]
fn never_is_what_records_nothing_below_anybody() {
    for (sampler, never) in [
        ("always_off", true),
        ("off", true),
        ("traceidratio:0", true),
        ("0%", false),
        ("parentbased_always_off", false),
        ("traceidratio:0.001", false),
        ("on", false),
    ] {
        assert_eq!(sampler.parse::<Sampler>().unwrap().is_never(), never, "{sampler}");
    }
}

/// Deviation of a count from its expectation that a fair sampler exceeds once in 10^9 runs, and
/// these runs are always the same.
fn bound(traces: usize, probability: f64) -> f64 {
    6.0 * (traces as f64 * probability * (1.0 - probability)).sqrt() + 1.0
}

#[test]
fn rates_and_estimated_counts_are_within_their_bounds() {
    const TRACES: usize = 200_000;
    for probability in [0.001, 0.01, 0.1, 0.25, 0.5, 0.9] {
        let sampler = Sampler::ratio(probability).parent_based();
        let mut ids = IdSource::seeded(probability.to_bits());
        let (mut kept, mut estimate) = (0, 0.0);
        for _ in 0..TRACES {
            let mut span = ids.root();
            sampler.decide(&mut span);
            if span.flags.contains(TraceFlags::SAMPLED) {
                kept += 1;
                estimate += ot::threshold(&span.state).unwrap().adjusted_count();
            }
        }
        let bound = bound(TRACES, probability);
        let off = f64::from(kept) - TRACES as f64 * probability;
        assert!(off.abs() <= bound, "{probability}: {kept}");
        assert!(
            (estimate - TRACES as f64).abs() <= bound / probability,
            "{probability}: {estimate}"
        );
    }
}

#[test]
fn two_agents_agree_on_every_trace_and_the_stricter_one_keeps_a_subset() {
    // One agent begins the trace, another sees it with its own sampler, whose flags say nothing.
    let (mut ids, mut both) = (IdSource::seeded(5), 0);
    for _ in 0..20_000 {
        let begun = ids.root();
        let seen = |sampler: Sampler, from: &SpanContext| {
            let mut span = from.clone();
            sampler.decide(&mut span);
            span
        };
        let elsewhere = seen(Sampler::ratio(0.2), &begun);
        let again = seen(Sampler::ratio(0.2), &begun);
        assert_eq!(elsewhere, again);
        let below = IdSource::seeded(6).child_of_remote(RemoteContext {
            trace: begun.trace,
            span: begun.span,
            flags: begun.flags,
            state: begun.state,
        });
        let (few, many) = (seen(Sampler::ratio(0.2), &below), seen(Sampler::ratio(0.6), &below));
        let sampled = |span: &SpanContext| span.flags.contains(TraceFlags::SAMPLED);
        assert_eq!(sampled(&few), sampled(&elsewhere), "the same trace, the same decision");
        assert!(!sampled(&few) || sampled(&many));
        both += u32::from(sampled(&few));
    }
    assert!((3_500..4_500).contains(&both), "{both}");
    assert!(Threshold::ALWAYS.keeps(Randomness::of(MIDDLE)));
}
