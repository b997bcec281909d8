use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const B3: &str = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1";

type Named = (&'static str, String);

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Kept,
    /// Another trace, sampled, without state.
    NewTrace,
    /// The context of the B3 fields.
    TakenOver,
}

fn outcome(fields: &[(&str, &str)]) -> Outcome {
    let fields: Vec<Field> =
        fields.iter().map(|&(name, value)| (name.into(), value.into())).collect();
    match NewRoots::new(IdSource::seeded(1), Sampler::default()).verdict(&fields) {
        Verdict::Keep => Outcome::Kept,
        Verdict::Set(context) if context.trace.to_string() == TRACE => {
            assert_eq!(context.span.to_string(), SPAN);
            Outcome::TakenOver
        }
        Verdict::Set(context) => {
            assert_eq!(context.flags.0, 3);
            assert!(context.state.0.is_empty());
            Outcome::NewTrace
        }
    }
}

#[test]
fn every_rule_for_a_head_that_has_context_fields() {
    let zero_trace = VALID.replace(TRACE, &"0".repeat(32));
    let zero_span = VALID.replace(SPAN, &"0".repeat(16));
    let long_state = (0..33).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
    #[rustfmt::skip]
    let rows: Vec<(&str, Vec<Named>, Outcome)> = vec![
        ("none", vec![], Outcome::NewTrace),
        ("valid", vec![("traceparent", VALID.into())], Outcome::Kept),
        ("valid, not sampled", vec![("traceparent", VALID.replace("-01", "-00"))], Outcome::Kept),
        ("valid, random flag", vec![("traceparent", VALID.replace("-01", "-03"))], Outcome::Kept),
        ("valid, unknown flags", vec![("traceparent", VALID.replace("-01", "-ff"))], Outcome::Kept),
        ("higher version", vec![("traceparent", VALID.replace("00-0", "cc-0"))], Outcome::Kept),
        ("higher version with more", vec![("traceparent", format!("cc{}-what", &VALID[2..]))], Outcome::Kept),
        ("version 00 with more", vec![("traceparent", format!("{VALID}-what"))], Outcome::NewTrace),
        ("version ff", vec![("traceparent", VALID.replace("00-0", "ff-0"))], Outcome::NewTrace),
        ("empty", vec![("traceparent", String::new())], Outcome::NewTrace),
        ("upper-case", vec![("traceparent", VALID.to_uppercase())], Outcome::NewTrace),
        ("illegal character", vec![("traceparent", VALID.replace("0a", ".a"))], Outcome::NewTrace),
        ("trace id zero", vec![("traceparent", zero_trace)], Outcome::NewTrace),
        ("span id zero", vec![("traceparent", zero_span)], Outcome::NewTrace),
        ("too short", vec![("traceparent", VALID[1..].into())], Outcome::NewTrace),
        ("duplicated, equal", vec![("traceparent", VALID.into()), ("traceparent", VALID.into())], Outcome::NewTrace),
        ("duplicated, different", vec![("traceparent", VALID.into()), ("traceparent", VALID.replace("-01", "-00"))], Outcome::NewTrace),
        ("two in one", vec![("traceparent", format!("{VALID},{VALID}"))], Outcome::NewTrace),
        ("with state", vec![("traceparent", VALID.into()), ("tracestate", "a=1".into())], Outcome::Kept),
        ("with state in two fields", vec![("tracestate", "a=1".into()), ("traceparent", VALID.into()), ("tracestate", "b=2".into())], Outcome::Kept),
        ("with invalid state", vec![("traceparent", VALID.into()), ("tracestate", "A=1".into())], Outcome::Kept),
        ("with too much state", vec![("traceparent", VALID.into()), ("tracestate", long_state)], Outcome::Kept),
        ("state alone", vec![("tracestate", "a=1".into())], Outcome::NewTrace),
        ("invalid with state", vec![("traceparent", "x".into()), ("tracestate", "a=1".into())], Outcome::NewTrace),
        ("b3", vec![("b3", B3.into())], Outcome::Kept),
        ("b3, decision alone", vec![("b3", "0".into())], Outcome::NewTrace),
        ("b3, multiple", vec![("x-b3-traceid", TRACE.into()), ("x-b3-spanid", SPAN.into())], Outcome::Kept),
        ("b3, half", vec![("x-b3-traceid", TRACE.into())], Outcome::NewTrace),
        ("b3 beside invalid", vec![("traceparent", "x".into()), ("b3", B3.into())], Outcome::TakenOver),
        ("b3 beside valid", vec![("traceparent", VALID.into()), ("b3", "x".into())], Outcome::Kept),
    ];
    for (rule, fields, expected) in rows {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(outcome(&fields), expected, "{rule}");
    }
}

#[test]
fn a_trace_that_begins_is_sampled_as_the_sampler_decides() {
    for (sampler, flags, state) in [
        (Sampler::default(), 0b11, ""),
        (Sampler::OFF.parent_based(), 0b10, ""),
        (Sampler::ratio(1.0), 0b11, "ot=th:0"),
    ] {
        let Verdict::Set(root) = NewRoots::new(IdSource::seeded(1), sampler).verdict(&[]) else {
            panic!("a trace begins");
        };
        assert_eq!((root.flags.0, root.state.0.as_str()), (flags, state));
    }
}
