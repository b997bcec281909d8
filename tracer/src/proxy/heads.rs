//! Trace context in heads: which fields carry it, and how one context replaces all others.
//!
//! Must not know how heads are framed in streams.

use std::io::Write as _;

use crate::exchange::Field;
use crate::trace::context::{RemoteContext, inject};

/// Names of fields that carry trace context, in lower case.
const CONTEXT_FIELDS: [&str; 8] = [
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
];

/// Whether a field of this lower-case name carries trace context.
pub(super) fn is_context_field(name: &[u8]) -> bool {
    CONTEXT_FIELDS.iter().any(|field| field.as_bytes() == name)
}

/// Whether a name that begins like this, in lower case, may be that of such a field.
pub(super) fn may_become_context_field(start: &[u8]) -> bool {
    CONTEXT_FIELDS.iter().any(|field| field.as_bytes().starts_with(start))
}

/// Which B3 fields a request carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct B3 {
    /// `b3`.
    pub single: bool,
    /// `X-B3-TraceId` and its kin.
    pub multiple: bool,
}

impl B3 {
    /// Those that stand there.
    fn of(fields: &[Field]) -> Self {
        Self {
            single: fields.iter().any(|(name, _)| name == "b3"),
            multiple: fields.iter().any(|(name, _)| name.starts_with("x-b3-")),
        }
    }
}

/// The fields that carry `context` to the next service, in the order in which they are written.
///
/// B3 is written where it stood before, so that no two contexts contradict each other, and where
/// it is asked for.
pub fn context_fields(
    context: &RemoteContext,
    before: &[Field],
    asked: B3,
) -> Vec<(&'static str, String)> {
    let had = B3::of(before);
    let mut fields = vec![("traceparent", inject::traceparent(context))];
    let state = inject::tracestate(&context.state);
    if !state.is_empty() {
        fields.push(("tracestate", state));
    }
    if had.single || asked.single {
        fields.push(("b3", inject::b3_single(context)));
    }
    if had.multiple || asked.multiple {
        fields.extend(inject::b3_multiple(context));
    }
    fields
}

/// The context fields among the complete lines of a section's end.
pub fn fields_of(lines: &[u8]) -> Vec<Field> {
    // By far the most heads: nothing is withheld but the empty line.
    if lines.len() <= b"\r\n".len() {
        return Vec::new();
    }
    lines
        .split_inclusive(|byte| *byte == b'\n')
        .filter_map(|line| {
            let (name, value) = split_line(line)?;
            is_context_field(&name).then(|| {
                let name = String::from_utf8_lossy(&name).into();
                (name, String::from_utf8_lossy(value.trim_ascii()).into())
            })
        })
        .collect()
}

/// Writes a section's end, complete lines and the empty line, with `fields` instead of the context
/// fields that stand there.
pub fn replace(lines: &[u8], fields: &[(&'static str, String)], out: &mut Vec<u8>) {
    let (lines, empty_line) = lines.split_at(lines.len().saturating_sub(b"\r\n".len()));
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        if split_line(line).is_none_or(|(name, _)| !is_context_field(&name)) {
            out.extend_from_slice(line);
        }
    }
    for (name, value) in fields {
        // Writing to memory cannot fail.
        let _ = write!(out, "{name}: {value}\r\n");
    }
    out.extend_from_slice(empty_line);
}

/// The lower-case name and the value of a line.
fn split_line(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((line[..colon].to_ascii_lowercase(), &line[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::context::extract;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn context(state: &str) -> RemoteContext {
        let fields = [("traceparent".into(), PARENT.into()), ("tracestate".into(), state.into())];
        extract(&fields).unwrap()
    }

    fn replaced(lines: &str, state: &str, asked: B3) -> String {
        let fields = fields_of(lines.as_bytes());
        let mut out = Vec::new();
        replace(lines.as_bytes(), &context_fields(&context(state), &fields, asked), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_context_replaces_all_others_and_nothing_else() {
        let none = B3::default();
        assert_eq!(replaced("\r\n", "", none), format!("traceparent: {PARENT}\r\n\r\n"));
        assert_eq!(
            replaced(
                "TraceParent: x\r\nA:  b\r\ntracestate: y\r\nTRACEPARENT: z\r\nC: d\r\n\r\n",
                "k=v",
                none
            ),
            format!("A:  b\r\nC: d\r\ntraceparent: {PARENT}\r\ntracestate: k=v\r\n\r\n")
        );
    }

    #[test]
    fn b3_is_written_where_it_stood_or_is_asked_for() {
        let single = "b3: 0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1\r\n";
        let multiple = "X-B3-TraceId: 0af7651916cd43dd8448eb211c80319c\r\n\
            X-B3-SpanId: b7ad6b7169203331\r\nX-B3-Sampled: 1\r\n";
        for (lines, asked, expected) in [
            ("B3: 0\r\n\r\n", B3::default(), single.to_owned()),
            ("x-b3-sampled: 0\r\n\r\n", B3::default(), multiple.to_owned()),
            ("\r\n", B3 { single: true, multiple: true }, format!("{single}{multiple}")),
        ] {
            let expected = format!("traceparent: {PARENT}\r\n{expected}\r\n");
            assert_eq!(replaced(lines, "", asked), expected, "{lines:?}");
        }
    }

    #[test]
    fn fields_are_those_of_contexts_alone() {
        let fields =
            fields_of(b"TraceParent: \tp \r\nOther: x\r\nB3:0\r\nX-B3-Flags: 1\r\nb33: y\r\n\r\n");
        let expected = [("traceparent", "p"), ("b3", "0"), ("x-b3-flags", "1")];
        assert_eq!(fields.iter().map(|(n, v)| (&**n, &**v)).collect::<Vec<_>>(), expected);
    }
}
