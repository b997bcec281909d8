use std::collections::HashMap;

use std::time::Duration;

use proptest::prelude::*;

use super::window::{MAX_IN_FLIGHT, MAX_OPEN, MAX_UNDECIDED};
use super::*;

const SERVICE: Service = Service(7);

fn moment(micros: u64, moment: Moment) -> Observation {
    Observation { service: SERVICE, at: KernelTime(micros * 1_000), moment }
}

fn arrived(micros: u64, request: u64) -> Observation {
    let operation = Operation::named("GET /", "");
    moment(micros, Moment::Arrived { request: RequestId(request), operation })
}

fn answered(micros: u64, request: u64) -> Observation {
    moment(micros, Moment::Answered { request: RequestId(request) })
}

fn called(micros: u64, call: u64, name: &str) -> Observation {
    called_with(micros, call, name, Evidence::Nothing)
}

fn called_with(micros: u64, call: u64, name: &str, evidence: Evidence) -> Observation {
    let operation = Operation::named(name, "peer");
    moment(micros, Moment::Called { call: CallId(call), operation, evidence })
}

fn returned(micros: u64, call: u64) -> Observation {
    moment(micros, Moment::Returned { call: CallId(call) })
}

fn run(model: &mut Timing, observations: &[Observation]) -> Vec<Decision> {
    observations.iter().flat_map(|observation| model.observe(observation)).collect()
}

/// A request of 10 ms which calls "a" after 1 ms for 3 ms and "b" 1 ms after its return; its calls
/// have twice its number, and that plus one.
fn ordinary(start: u64, request: u64) -> [Observation; 6] {
    [
        arrived(start, request),
        called(start + 1_000, 2 * request, "a"),
        returned(start + 4_000, 2 * request),
        called(start + 5_000, 2 * request + 1, "b"),
        returned(start + 8_000, 2 * request + 1),
        answered(start + 10_000, request),
    ]
}

/// A model that has seen ordinary requests, one at a time, and the time it stopped at.
fn taught() -> (Timing, u64) {
    let mut model = Timing::new(Options::default());
    let requests = 200;
    for request in 0..requests {
        run(&mut model, &ordinary(request * 20_000, request));
    }
    (model, requests * 20_000)
}

fn interleaved(start: u64, offset: u64) -> Vec<Observation> {
    let mut both = [ordinary(start, 1_000), ordinary(start + offset, 1_001)].concat();
    both.sort_by_key(|observation| observation.at);
    both
}

#[test]
fn a_new_model_names_the_likeliest_but_accepts_nothing() {
    let mut model = Timing::new(Options::default());
    let decisions = run(&mut model, &ordinary(0, 0));
    assert_eq!(decisions.len(), 2);
    assert!(decisions.iter().all(|decision| decision.likeliest == Some(RequestId(0))));
    assert!(decisions.iter().all(|decision| decision.parent().is_none()));
}

#[test]
fn a_service_without_habits_is_never_decided() {
    let mut model = Timing::new(Options::default());
    // Pairs of requests that come and call at the same times: each call is a toss-up.
    for pair in 0..500 {
        run(&mut model, &interleaved(pair * 20_000, 0));
    }
    let decisions = run(&mut model, &ordinary(500 * 20_000, 5_000));
    assert!(decisions.iter().all(|decision| decision.likeliest == Some(RequestId(5_000))));
    assert!(decisions.iter().all(|decision| decision.parent().is_none()));
}

#[test]
fn interleaved_requests_are_told_apart_by_habit() {
    for offset in [300, 2_000, 3_500, 6_000] {
        let (mut model, now) = taught();
        let decisions = run(&mut model, &interleaved(now, offset));
        assert_eq!(decisions.len(), 4);
        for decision in decisions {
            assert_eq!(decision.parent(), Some(RequestId(decision.call.0 / 2)), "{offset}");
        }
    }
}

#[test]
fn requests_that_nothing_tells_apart_get_no_parent() {
    let (mut model, now) = taught();
    let decisions = run(&mut model, &interleaved(now, 0));
    assert!(decisions.iter().any(|decision| decision.parent().is_none()));
    for decision in &decisions {
        assert!(decision.likeliest.is_some());
        assert_eq!(decision.candidate_count, 2);
    }
}

#[test]
fn known_parents_teach_and_are_not_asked_about() {
    let mut model = Timing::new(Options::default());
    for request in 0..200 {
        let mut told = interleaved(request * 20_000, 1_500);
        for observation in &mut told {
            if let Moment::Called { call, evidence, .. } = &mut observation.moment {
                *evidence = Evidence::Parent(RequestId(call.0 / 2));
            }
        }
        assert_eq!(run(&mut model, &told), []);
    }
    let decisions = run(&mut model, &interleaved(200 * 20_000, 1_500));
    assert_eq!(decisions.len(), 4);
    for decision in decisions {
        assert_eq!(decision.parent(), Some(RequestId(decision.call.0 / 2)));
    }
}

#[test]
fn a_call_after_the_answer_has_no_parent() {
    let (mut model, now) = taught();
    run(&mut model, &ordinary(now, 500));
    let decisions = run(&mut model, &[called(now + 10_001, 9_000, "a")]);
    assert_eq!(decisions.len(), 1);
    assert_eq!(decisions[0].likeliest, None);
    assert_eq!(decisions[0].candidate_count, 0);
}

#[test]
fn a_regular_background_call_is_not_a_child() {
    let mut model = Timing::new(Options::default());
    let mut decisions = Vec::new();
    for round in 0..300 {
        let start = round * 40_000;
        decisions = run(&mut model, &[called(start, 50_000 + round, "health")]);
        run(&mut model, &[returned(start + 200, 50_000 + round)]);
        run(&mut model, &ordinary(start + 20_000, round));
    }
    assert_eq!(decisions[0].parent(), None);
    let start = 300 * 40_000;
    let mut crossing = ordinary(start, 5_000).to_vec();
    crossing.insert(2, called(start + 2_000, 60_000, "health"));
    crossing.insert(3, returned(start + 2_200, 60_000));
    for decision in run(&mut model, &crossing) {
        let is_own = decision.call != CallId(60_000);
        assert_eq!(decision.parent().is_some(), is_own);
    }
}

#[test]
fn a_request_that_stays_open_holds_a_call_no_longer_than_the_option() {
    let hold = Duration::from_millis(50);
    let mut model = Timing::new(Options { hold, ..Options::default() });
    assert_eq!(run(&mut model, &[arrived(0, 1), called(1_000, 1, "a")]), []);
    assert_eq!(model.advance(KernelTime(51_000_000)), []);
    assert_eq!(model.advance(KernelTime(51_000_001)).len(), 1);
    assert_eq!(model.counters().decided_by_hold, 1);
}

#[test]
fn a_request_open_for_too_long_is_no_parent() {
    let (mut model, now) = taught();
    run(&mut model, &[arrived(now, 900)]);
    let later = now + 61_000_000;
    let decisions = run(&mut model, &[called(later, 9_000, "a")]);
    assert_eq!(decisions[0].candidate_count, 0);
    assert_eq!(model.counters().requests_outlived, 1);
}

#[test]
fn too_many_open_requests_crowd_out_the_oldest() {
    let mut model = Timing::new(Options::default());
    for request in 0..=MAX_OPEN as u64 {
        run(&mut model, &[arrived(request, request)]);
    }
    assert_eq!(model.counters().requests_crowded_out, 1);
    run(&mut model, &[called(1_000, 1, "a")]);
    let decisions = model.flush();
    assert_eq!(decisions[0].candidate_count, MAX_OPEN);
    assert_eq!(decisions[0].parent(), None);
    assert_eq!(decisions[0].sole_trace(|_| Some(1)), None, "not all candidates are known");
}

#[test]
fn too_many_undecided_calls_are_decided_early() {
    let mut model = Timing::new(Options::default());
    run(&mut model, &[arrived(0, 1), arrived(1, 2)]);
    let mut decided = 0;
    for call in 0..MAX_UNDECIDED as u64 + 10 {
        decided += run(&mut model, &[called(10 + call, call, "a")]).len();
    }
    assert_eq!(decided, 10);
    assert_eq!(model.counters().decided_by_room, 10);
    assert_eq!(model.flush().len(), MAX_UNDECIDED);
}

#[test]
fn returns_beyond_the_bound_are_counted() {
    let mut model = Timing::new(Options::default());
    run(&mut model, &[arrived(0, 1)]);
    for call in 0..=MAX_IN_FLIGHT as u64 {
        run(&mut model, &[called_with(1, call, "a", Evidence::Parent(RequestId(1)))]);
    }
    assert_eq!(model.counters().returns_ignored, 1);
}

#[test]
fn the_service_heard_of_longest_ago_is_forgotten() {
    let mut model = Timing::new(Options::default());
    for service in 0..=MAX_SERVICES as u64 {
        let mut observation = called(service, 1, "a");
        observation.service = Service(service);
        model.observe(&observation);
    }
    assert_eq!(model.counters().services_forgotten, 1);
    assert_eq!(model.services.len(), MAX_SERVICES);
    assert!(!model.services.contains_key(&Service(0)));
}

#[test]
fn ids_in_use_are_refused() {
    let mut model = Timing::new(Options::default());
    run(&mut model, &[arrived(0, 1), arrived(1, 1), called(2, 1, "a"), called(3, 1, "a")]);
    assert_eq!(model.counters().repeated_ids, 2);
    assert_eq!(model.flush().len(), 1);
}

#[test]
fn the_one_trace_of_all_candidates_is_told() {
    let (mut model, now) = taught();
    let decisions = run(&mut model, &interleaved(now, 0));
    assert_eq!(decisions[0].sole_trace(|_| Some("one")), Some("one"));
    assert_eq!(decisions[0].sole_trace(Some), None);
    assert_eq!(decisions[0].sole_trace(|_| None::<u8>), None);
}

#[test]
fn one_absurd_time_does_not_spoil_what_follows() {
    let (mut model, now) = taught();
    run(&mut model, &[arrived(u64::MAX / 1_000, 77), called(u64::MAX / 1_000, 78, "a")]);
    run(&mut model, &ordinary(now, 500));
    let decisions = run(&mut model, &ordinary(now + 20_000, 501));
    let parents: Vec<_> = decisions.iter().map(Decision::parent).collect();
    assert_eq!(parents, [Some(RequestId(501)); 2]);
}

/// Any moment of a few requests and calls, at any time.
fn anything() -> impl Strategy<Value = Observation> {
    let time = prop_oneof![8 => 0..50_000_u64, 1 => any::<u64>()];
    let evidence = prop_oneof![
        6 => Just(Evidence::Nothing),
        1 => (0..8_u64).prop_map(|request| Evidence::Parent(RequestId(request))),
        1 => Just(Evidence::Root),
    ];
    let names = prop::sample::select(vec!["a", "b", "c"]);
    let moment = prop_oneof![
        (0..8_u64, names.clone()).prop_map(|(request, name)| Moment::Arrived {
            request: RequestId(request),
            operation: Operation::named(name, ""),
        }),
        (0..8_u64).prop_map(|request| Moment::Answered { request: RequestId(request) }),
        (0..20_u64, names, evidence).prop_map(|(call, name, evidence)| Moment::Called {
            call: CallId(call),
            operation: Operation::named(name, "peer"),
            evidence,
        }),
        (0..20_u64).prop_map(|call| Moment::Returned { call: CallId(call) }),
    ];
    (time, moment).prop_map(|(at, moment)| Observation {
        service: SERVICE,
        at: KernelTime(at),
        moment,
    })
}

/// Well-formed traffic: requests that overlap at random, each with random calls.
fn traffic() -> impl Strategy<Value = Vec<Observation>> {
    let call = (0..9_000_u64, 1..3_000_u64, prop::sample::select(vec!["a", "b", "c"]));
    let request = (0..40_000_u64, prop::collection::vec(call, 0..4));
    prop::collection::vec(request, 1..25).prop_map(|requests| {
        let mut observations = Vec::new();
        let mut calls = 0;
        for (id, (start, made)) in requests.into_iter().enumerate() {
            observations.push(arrived(start, id as u64));
            observations.push(answered(start + 12_001, id as u64));
            for (after, took, name) in made {
                observations.push(called(start + after, calls, name));
                observations.push(returned(start + after + took, calls));
                calls += 1;
            }
        }
        observations.sort_by_key(|observation| observation.at);
        observations
    })
}

fn all_decisions(observations: &[Observation]) -> Vec<Decision> {
    let mut model = Timing::new(Options::default());
    let mut decisions = run(&mut model, observations);
    decisions.extend(model.flush());
    decisions
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn anything_at_any_time_is_taken(observations in prop::collection::vec(anything(), 0..120)) {
        for decision in all_decisions(&observations) {
            prop_assert!((0.0..=1.0).contains(&decision.confidence.probability()));
        }
    }

    #[test]
    fn every_call_is_decided_once_and_only_on_an_open_request(observations in traffic()) {
        let mut undecided: HashMap<CallId, Vec<RequestId>> = HashMap::new();
        let mut open: Vec<RequestId> = Vec::new();
        for observation in &observations {
            match observation.moment {
                Moment::Arrived { request, .. } => open.push(request),
                Moment::Answered { request } => open.retain(|other| *other != request),
                Moment::Called { call, .. } => { undecided.insert(call, open.clone()); }
                Moment::Returned { .. } => {}
            }
        }
        for decision in all_decisions(&observations) {
            let candidates = undecided.remove(&decision.call);
            prop_assert!(candidates.is_some(), "{:?} is decided twice", decision.call);
            let candidates = candidates.unwrap_or_default();
            prop_assert_eq!(decision.candidate_count, candidates.len());
            prop_assert!(decision.likeliest.is_none_or(|parent| candidates.contains(&parent)));
        }
        prop_assert!(undecided.is_empty());
    }

    #[test]
    fn a_shift_of_all_times_changes_nothing(observations in traffic(), shift in 0..1_u64 << 62) {
        let mut shifted = observations.clone();
        for observation in &mut shifted {
            observation.at.0 += shift;
        }
        prop_assert_eq!(all_decisions(&observations), all_decisions(&shifted));
    }

    #[test]
    fn other_ids_change_nothing(observations in traffic(), key: u64) {
        let mut renamed = observations.clone();
        for observation in &mut renamed {
            match &mut observation.moment {
                Moment::Arrived { request, .. } | Moment::Answered { request } => request.0 ^= key,
                Moment::Called { call, .. } | Moment::Returned { call } => call.0 ^= key,
            }
        }
        let mut decisions = all_decisions(&renamed);
        for decision in &mut decisions {
            decision.call.0 ^= key;
        }
        for (decision, renamed) in all_decisions(&observations).iter().zip(&decisions) {
            prop_assert_eq!(decision.call, renamed.call);
            prop_assert_eq!(decision.confidence, renamed.confidence);
            let parent = renamed.likeliest.map(|parent| RequestId(parent.0 ^ key));
            prop_assert_eq!(decision.likeliest, parent);
        }
    }
}
