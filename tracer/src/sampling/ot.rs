//! The `ot` member of `tracestate`: who comes after is to know the randomness of a trace and with
//! which threshold it was kept.
//!
//! What others put into the member and beside it stays, in its order.

use std::fmt::Write as _;

use smol_str::SmolStr;

use super::threshold::{Randomness, Threshold};
use crate::trace::context::{TraceId, TraceState};

const KEY: &str = "ot";
const THRESHOLD: &str = "th";
const RANDOMNESS: &str = "rv";
/// Characters of the member's value at most.
const MAX_VALUE: usize = 256;
/// Members of a `tracestate` at most (W3C Trace Context section 3.3.1.1).
const MAX_MEMBERS: usize = 32;

/// The threshold with which the sender kept the trace, if it says so.
pub(super) fn threshold(state: &TraceState) -> Option<Threshold> {
    pairs(value(state)?)
        .find(|(key, _)| *key == THRESHOLD)
        .and_then(|(_, it)| Threshold::from_hex(it))
}

/// The randomness of a trace: what its state says, else its id.
pub(super) fn randomness(trace: TraceId, state: &TraceState) -> Randomness {
    let pair = value(state).and_then(|value| pairs(value).find(|(key, _)| *key == RANDOMNESS));
    pair.and_then(|(_, text)| Randomness::from_hex(text)).unwrap_or_else(|| Randomness::of(trace))
}

/// The state with this threshold instead of the one it has, or without one.
pub(super) fn with_threshold(state: &TraceState, threshold: Option<Threshold>) -> TraceState {
    let stated = value(state).and_then(|it| pairs(it).find(|(key, _)| *key == THRESHOLD));
    if stated.is_none() && threshold.is_none() {
        return state.clone();
    }
    let mut member = String::new();
    if let Some(threshold) = threshold {
        // Writing to a string does not fail.
        let _ = write!(member, "{KEY}={THRESHOLD}:{threshold}");
    }
    let others = value(state).into_iter().flat_map(|it| it.split(';'));
    for pair in others.filter(|pair| key_of(pair) != THRESHOLD && !pair.is_empty()) {
        let begin = if member.is_empty() { "ot=" } else { ";" };
        if member.len() + begin.len() + pair.len() > KEY.len() + 1 + MAX_VALUE {
            break;
        }
        member.push_str(begin);
        member.push_str(pair);
    }
    let others = state.0.split(',').filter(|member| !is_ours(member) && !member.is_empty());
    // A member that changes moves to the left.
    for other in others.take(MAX_MEMBERS - usize::from(!member.is_empty())) {
        if !member.is_empty() {
            member.push(',');
        }
        member.push_str(other);
    }
    TraceState(SmolStr::from(member))
}

fn value(state: &TraceState) -> Option<&str> {
    if state.0.is_empty() {
        return None;
    }
    state.0.split(',').find(|member| is_ours(member)).map(|member| &member[KEY.len() + 1..])
}

fn is_ours(member: &str) -> bool {
    member.strip_prefix(KEY).is_some_and(|rest| rest.starts_with('='))
}

fn pairs(value: &str) -> impl Iterator<Item = (&str, &str)> {
    value.split(';').filter_map(|pair| pair.split_once(':'))
}

fn key_of(pair: &str) -> &str {
    pair.split_once(':').map_or(pair, |(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(text: &str) -> TraceState {
        TraceState(text.into())
    }

    #[test]
    fn thresholds_are_read_where_they_are_well_formed() {
        let half = Some(Threshold::from_probability(0.5));
        for (text, expected) in [
            ("", None),
            ("ot=th:8", half),
            ("a=1,ot=rv:00000000000001;th:8,b=2", half),
            ("ot=p:8;th:80000000000000", half),
            ("ot=th:8;th:c", half),
            ("ot=th:x", None),
            ("ot=th:", None),
            ("ot=th", None),
            ("otel=th:8", None),
            ("ot@x=th:8", None),
        ] {
            assert_eq!(threshold(&state(text)), expected, "{text}");
        }
    }

    #[test]
    fn explicit_randomness_comes_before_the_id() {
        let id = TraceId([0x11; 16]);
        let stated = randomness(id, &state("ot=rv:ffffffffffffff"));
        assert_eq!(Some(stated), Randomness::from_hex("ffffffffffffff"));
        for text in ["", "ot=rv:ff", "ot=rv:FFFFFFFFFFFFFF", "a=rv:ffffffffffffff"] {
            assert_eq!(randomness(id, &state(text)), Randomness::of(id), "{text}");
        }
    }

    #[test]
    fn only_the_threshold_changes() {
        let quarter = Some(Threshold::from_probability(0.25));
        let full = format!("x={}", "v".repeat(200));
        for (before, threshold, after) in [
            ("", quarter, "ot=th:c".to_owned()),
            ("", None, String::new()),
            ("a=1", quarter, "ot=th:c,a=1".to_owned()),
            ("a=1,ot=th:8,b=2", quarter, "ot=th:c,a=1,b=2".to_owned()),
            ("a=1,ot=th:8,b=2", None, "a=1,b=2".to_owned()),
            ("ot=th:8", None, String::new()),
            ("a=1,ot=p:8,b=2", None, "a=1,ot=p:8,b=2".to_owned()),
            (
                "a=1,ot=rv:00000000000001;th:8;x:y",
                quarter,
                "ot=th:c;rv:00000000000001;x:y,a=1".to_owned(),
            ),
            ("ot=th:8;x:y", None, "ot=x:y".to_owned()),
            (full.as_str(), quarter, format!("ot=th:c,{full}")),
        ] {
            assert_eq!(&*with_threshold(&state(before), threshold).0, after, "{before}");
        }
    }

    #[test]
    fn members_and_values_stay_within_their_bounds() {
        let members = |count| (0..count).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
        let half = Some(Threshold::from_probability(0.5));
        let grown = with_threshold(&state(&members(32)), half);
        assert_eq!(&*grown.0, format!("ot=th:8,{}", members(31)));

        let long = "v".repeat(250);
        let grown = with_threshold(&state(&format!("ot=rv:00000000000001;x:{long}")), half);
        assert_eq!(&*grown.0, "ot=th:8;rv:00000000000001", "what does not fit is left out");
    }
}
