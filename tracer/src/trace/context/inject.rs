//! A context as the values of header fields.

use super::{RemoteContext, TraceFlags, TraceState};

/// Bytes of trace state that every participant has to propagate (section 3.3.1.5); more is cut at
/// members, since few servers take much longer lines.
const MAX_STATE: usize = 512;
/// Members longer than this go first when state is cut.
const LONG_MEMBER: usize = 128;

/// W3C `traceparent`, version 00.
pub fn traceparent(context: &RemoteContext) -> String {
    format!("00-{}-{}-{:02x}", context.trace, context.span, context.flags.known().0)
}

/// W3C `tracestate`; empty if there is none.
pub fn tracestate(state: &TraceState) -> String {
    if state.0.len() <= MAX_STATE {
        return state.0.to_string();
    }
    let mut members: Vec<&str> = state.0.split(',').collect();
    let len = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>();
    while len(&members) > MAX_STATE + 1 {
        let long = members.iter().rposition(|member| member.len() > LONG_MEMBER);
        members.remove(long.unwrap_or(members.len() - 1));
    }
    members.join(",")
}

/// The single `b3` field.
pub fn b3_single(context: &RemoteContext) -> String {
    format!("{}-{}-{}", context.trace, context.span, sampled(context))
}

/// The fields `X-B3-TraceId`, `X-B3-SpanId` and `X-B3-Sampled`. `X-B3-ParentSpanId` is never sent.
pub fn b3_multiple(context: &RemoteContext) -> [(&'static str, String); 3] {
    [
        ("X-B3-TraceId", context.trace.to_string()),
        ("X-B3-SpanId", context.span.to_string()),
        ("X-B3-Sampled", sampled(context).to_owned()),
    ]
}

fn sampled(context: &RemoteContext) -> &'static str {
    if context.flags.contains(TraceFlags::SAMPLED) { "1" } else { "0" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Field;
    use crate::trace::context::{IdSource, extract};

    fn root(state: &str) -> RemoteContext {
        let root = IdSource::seeded(1).root();
        let state = TraceState(state.into());
        RemoteContext { trace: root.trace, span: root.span, flags: root.flags, state }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let context = root("a=1,b=2");
        let fields: Vec<Field> = vec![
            ("traceparent".into(), traceparent(&context).into()),
            ("tracestate".into(), tracestate(&context.state).into()),
        ];
        assert_eq!(extract(&fields), Some(context));

        let context = RemoteContext { flags: TraceFlags::SAMPLED, ..root("") };
        assert_eq!(extract(&[("b3".into(), b3_single(&context).into())]), Some(context.clone()));
        let fields: Vec<Field> = b3_multiple(&context)
            .into_iter()
            .map(|(name, value)| (name.to_lowercase().into(), value.into()))
            .collect();
        assert_eq!(extract(&fields), Some(context));
    }

    #[test]
    fn unknown_flags_are_not_passed_on() {
        let context = RemoteContext { flags: TraceFlags(0xfe), ..root("") };
        assert!(traceparent(&context).ends_with("-02"));
        assert!(b3_single(&context).ends_with("-0"));
    }

    #[test]
    fn long_state_loses_whole_members_the_long_ones_first_then_the_last() {
        let long = format!("long={}", "x".repeat(200));
        let short = |n: usize| format!("k{n}={}", "y".repeat(96));
        let state =
            format!("{},{long},{},{},{},{}", short(0), short(1), short(2), short(3), short(4));
        let cut = tracestate(&TraceState(state.into()));
        let expected: Vec<_> = (0..5).map(short).collect();
        assert_eq!(cut, expected.join(","));

        let state: Vec<_> = (0..8).map(short).collect();
        let cut = tracestate(&TraceState(state.join(",").into()));
        assert_eq!(cut, state[..5].join(","));
    }
}
