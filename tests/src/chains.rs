//! Requests that pass through several services: each is one trace, a chain of spans.

use std::collections::{BTreeMap, BTreeSet};

use crate::span::{Kind, Span};

/// Fails unless there are `count` requests, each of which is a trace of its own: a span for each of
/// `links`, service and kind, each the child of the one before. What tells requests apart is up to
/// the caller.
pub fn assert_chains(requests: &BTreeMap<&str, Vec<&Span>>, count: usize, links: &[(&str, Kind)]) {
    assert_eq!(requests.len(), count);
    let mut traces = BTreeSet::new();
    for (request, spans) in requests {
        let mut found = Vec::new();
        let mut next = spans.iter().find(|span| span.parent_span_id.is_none());
        while let Some(span) = next {
            assert_eq!(span.trace_id, spans[0].trace_id, "{request}: {spans:#?}");
            found.push((span.service(), span.kind));
            next = spans.iter().find(|it| it.parent_span_id.as_ref() == Some(&span.span_id));
        }
        assert_eq!(found, links, "{request}: {spans:#?}");
        assert_eq!(spans.len(), links.len(), "{request}");
        traces.insert(&spans[0].trace_id);
    }
    assert_eq!(traces.len(), count, "a trace each");
}
