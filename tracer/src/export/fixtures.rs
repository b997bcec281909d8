//! Spans for tests.

use std::ops::Range;
use std::sync::Arc;

use super::ledger::Ledger;
use super::queue::{Batch, BatchTrigger, Overflow, Queue, QueueBounds, Submission};
use crate::trace::context::{SpanId, TraceFlags, TraceId, TraceState};
use crate::trace::{Resource, ResourceId, Span, SpanKind, Status, Value};

pub(crate) fn resource(id: u64, service: &str) -> Arc<Resource> {
    Arc::new(Resource {
        id: ResourceId(id),
        service: service.to_owned(),
        attributes: vec![("service.name".into(), Value::Text(service.to_owned().into()))],
    })
}

/// A root span that begins at `start`, which also tells it from others.
pub(crate) fn span(start: u64) -> Span {
    Span {
        trace: TraceId((u128::from(start) + 1).to_be_bytes()),
        id: SpanId((start + 1).to_be_bytes()),
        parent: None,
        parent_is_remote: false,
        flags: TraceFlags::SAMPLED,
        state: TraceState::default(),
        name: "GET".into(),
        kind: SpanKind::Server,
        start,
        end: start + 1,
        status: Status::Unset,
        attributes: Vec::new(),
        dropped_attributes: 0,
        links: Vec::new(),
        dropped_links: 0,
        resource: resource(1, "shop"),
    }
}

pub(super) fn spans(starts: Range<u64>) -> Vec<Span> {
    starts.map(span).collect()
}

/// Bounds of a queue for so many spans of any size.
pub(super) fn room(spans: usize) -> QueueBounds {
    QueueBounds { spans, bytes: usize::MAX, overflow: Overflow::Newest }
}

/// The spans as one batch.
pub(super) fn batch(spans: Vec<Span>) -> Batch {
    let trigger = BatchTrigger { size: usize::MAX, linger: std::time::Duration::ZERO };
    let queue = Queue::new(room(spans.len()), trigger, Arc::new(Ledger::new("test".to_owned())));
    queue.push(&Submission::share(spans));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(queue.next()).unwrap()
}
