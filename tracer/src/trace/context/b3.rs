//! B3 propagation: the single `b3` header, else the `x-b3-*` headers.
//!
//! A sampling decision without ids (a lone `b3: 0`) names no parent and so yields no context.

use super::{RemoteContext, SpanId, TraceFlags, TraceId, TraceState, only_value};
use crate::exchange::Field;

/// The context of a request with valid B3 headers.
pub(super) fn extract(headers: &[Field]) -> Option<RemoteContext> {
    single(headers).or_else(|| multiple(headers))
}

/// `{trace}-{span}[-{decision}[-{parent}]]`.
fn single(headers: &[Field]) -> Option<RemoteContext> {
    let mut fields = only_value(headers, "b3")?.split('-');
    let trace = trace_id(fields.next()?)?;
    let span = SpanId::from_hex(fields.next()?)?;
    let flags = match fields.next() {
        None | Some("1" | "d") => TraceFlags::SAMPLED,
        Some("0") => TraceFlags::default(),
        Some(_) => return None,
    };
    if let Some(parent) = fields.next() {
        SpanId::from_hex(parent)?;
    }
    fields.next().is_none().then(|| context(trace, span, flags))
}

fn multiple(headers: &[Field]) -> Option<RemoteContext> {
    let trace = trace_id(only_value(headers, "x-b3-traceid")?)?;
    let span = SpanId::from_hex(only_value(headers, "x-b3-spanid")?)?;
    let debug = only_value(headers, "x-b3-flags") == Some("1");
    let flags = match only_value(headers, "x-b3-sampled") {
        Some("0" | "false") if !debug => TraceFlags::default(),
        // No decision yet: it falls to the receiver, and we record.
        _ => TraceFlags::SAMPLED,
    };
    Some(context(trace, span, flags))
}

/// 32 hexadecimal digits, or 16 which are padded on the left.
fn trace_id(text: &str) -> Option<TraceId> {
    TraceId::from_hex(text).or_else(|| {
        let low = SpanId::from_hex(text)?;
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&low.0);
        Some(TraceId(bytes))
    })
}

fn context(trace: TraceId, span: SpanId, flags: TraceFlags) -> RemoteContext {
    RemoteContext { trace, span, flags, state: TraceState::default() }
}

#[cfg(test)]
mod tests {
    use super::super::extract;

    const LONG: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const SHORT: &str = "64fe8b2a57d3eff7";
    const PADDED: &str = "000000000000000064fe8b2a57d3eff7";
    const SPAN: &str = "e457b5a2e4d86bd1";
    const PARENT: &str = "05e3ac9a4f6e3b90";

    fn parse(fields: &[(&str, &str)]) -> Option<(String, u8)> {
        let headers: Vec<_> =
            fields.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        extract(&headers).map(|context| {
            assert_eq!(context.span.to_string(), SPAN);
            assert!(context.state.0.is_empty());
            (context.trace.to_string(), context.flags.0)
        })
    }

    #[test]
    fn every_form_of_the_single_header() {
        #[rustfmt::skip]
        let rows = [
            ("accept", format!("{LONG}-{SPAN}-1"), Some((LONG, 1))),
            ("debug", format!("{LONG}-{SPAN}-d"), Some((LONG, 1))),
            ("deny", format!("{LONG}-{SPAN}-0"), Some((LONG, 0))),
            ("deferred", format!("{LONG}-{SPAN}"), Some((LONG, 1))),
            ("with parent", format!("{LONG}-{SPAN}-1-{PARENT}"), Some((LONG, 1))),
            ("short trace id", format!("{SHORT}-{SPAN}-1"), Some((PADDED, 1))),
            ("blanks around", format!(" {LONG}-{SPAN}-1\t"), Some((LONG, 1))),
            ("lone decision", "0".to_owned(), None),
            ("lone debug", "d".to_owned(), None),
            ("unknown decision", format!("{LONG}-{SPAN}-x"), None),
            ("malformed parent", format!("{LONG}-{SPAN}-1-12"), None),
            ("a field too many", format!("{LONG}-{SPAN}-1-{PARENT}-1"), None),
            ("zero trace id", format!("{}-{SPAN}-1", "0".repeat(32)), None),
            ("zero span id", format!("{LONG}-{}-1", "0".repeat(16)), None),
            ("upper-case", format!("{}-{SPAN}-1", LONG.to_uppercase()), None),
        ];
        for (rule, value, expected) in rows {
            let expected = expected.map(|(trace, flags)| (trace.to_owned(), flags));
            assert_eq!(parse(&[("b3", &value)]), expected, "{rule}");
        }
    }

    #[test]
    fn every_form_of_the_multiple_headers() {
        let ids = [("x-b3-traceid", LONG), ("x-b3-spanid", SPAN)];
        #[rustfmt::skip]
        let rows = [
            ("deferred", vec![], 1),
            ("accept", vec![("x-b3-sampled", "1")], 1),
            ("accept, old spelling", vec![("x-b3-sampled", "true")], 1),
            ("deny", vec![("x-b3-sampled", "0")], 0),
            ("deny, old spelling", vec![("x-b3-sampled", "false")], 0),
            ("debug beats deny", vec![("x-b3-sampled", "0"), ("x-b3-flags", "1")], 1),
            ("parent is ignored", vec![("x-b3-parentspanid", PARENT)], 1),
        ];
        for (rule, more, flags) in rows {
            let fields: Vec<_> = ids.into_iter().chain(more).collect();
            assert_eq!(parse(&fields), Some((LONG.to_owned(), flags)), "{rule}");
        }
        assert_eq!(parse(&ids[..1]), None, "no span id");
        assert_eq!(parse(&[("x-b3-traceid", "zz"), ids[1]]), None, "malformed trace id");
    }

    #[test]
    fn single_comes_before_multiple_and_w3c_before_both() {
        let single = format!("{SHORT}-{SPAN}-0");
        let multiple = [("x-b3-traceid", LONG), ("x-b3-spanid", SPAN)];
        let parent = format!("00-{}-{SPAN}-00", "ab".repeat(16));

        let both = [("b3", single.as_str()), multiple[0], multiple[1]];
        assert_eq!(parse(&both), Some((PADDED.to_owned(), 0)));
        let bad_single = [("b3", "bad"), multiple[0], multiple[1]];
        assert_eq!(parse(&bad_single), Some((LONG.to_owned(), 1)));
        let all = [both[0], both[1], both[2], ("traceparent", &parent)];
        assert_eq!(parse(&all), Some(("ab".repeat(16), 0)));
        let bad_parent = [both[0], ("traceparent", "bad")];
        assert_eq!(parse(&bad_parent), Some((PADDED.to_owned(), 0)));
    }
}
