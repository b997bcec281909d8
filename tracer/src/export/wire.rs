//! Spans as OTLP protobuf, written straight into the request's bytes.
//!
//! The agent may export tens of thousands of spans a second beside the programs it watches, and
//! building generated message trees first costs several allocations for every attribute. So the
//! few messages we need are written by field number here, and checked in the tests against the
//! generated types. Field numbers are those of `opentelemetry/proto/trace/v1/trace.proto`.

mod message;

use bytes::Bytes;

use super::queue::Batch;
use crate::trace::context::TraceFlags;
use crate::trace::semconv::{SCHEMA_URL, SCOPE_NAME, SCOPE_VERSION};
use crate::trace::{Link, Resource, Span, SpanKind, Status, Value};
use message::Message;

/// `SpanFlags`: it is known whether the parent is remote.
const HAS_IS_REMOTE: u32 = 0x100;
/// `SpanFlags`: the parent is remote.
const IS_REMOTE: u32 = 0x200;
/// Longest key and length of an embedded message.
const FIELD_HEAD: usize = 6;

/// One `ExportTraceServiceRequest`, with at least one span.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// Its protobuf encoding.
    pub(super) body: Bytes,
    /// Spans inside.
    pub(super) spans: usize,
}

/// A batch as requests that each respect a size limit.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) requests: Vec<Request>,
    /// Spans that alone exceed the limit and are in no request.
    pub(super) too_large: usize,
}

/// Encodes a batch, one `ResourceSpans` a resource, into requests of at most `max_bytes`.
pub(super) fn encode(batch: &Batch, max_bytes: usize) -> Requests {
    let mut spans: Vec<&Span> = batch.iter().collect();
    spans.sort_by_key(|span| span.resource.id);

    let mut packing = Packing { max_bytes, ..Packing::default() };
    let mut scratch = Message::default();
    for of_one in spans.chunk_by(|a, b| a.resource.id == b.resource.id) {
        packing.resource = resource_head(&of_one[0].resource);
        for span in of_one {
            scratch.clear();
            scratch.embed(2, |message| write_span(message, span));
            packing.add(scratch.as_slice());
        }
        packing.close_resource();
    }
    packing.close_request();
    packing.done
}

/// The request under construction.
#[derive(Debug, Default)]
struct Packing {
    max_bytes: usize,
    done: Requests,
    /// Finished `ResourceSpans` of the current request, and the spans in them.
    request: Message,
    request_spans: usize,
    /// Encoded `resource` field of the current `ResourceSpans`.
    resource: Message,
    /// Encoded `spans` fields of its one `ScopeSpans`.
    spans: Message,
    spans_count: usize,
}

impl Packing {
    fn add(&mut self, span: &[u8]) {
        let envelope = self.resource.len() + scope_overhead() + 3 * FIELD_HEAD;
        if envelope + span.len() > self.max_bytes {
            self.done.too_large += 1;
            return;
        }
        if self.request.len() + envelope + self.spans.len() + span.len() > self.max_bytes {
            self.close_resource();
            self.close_request();
        }
        self.spans.append(span);
        self.spans_count += 1;
    }

    fn close_resource(&mut self) {
        if self.spans_count == 0 {
            return;
        }
        let mut scope = Message::default();
        scope.embed(1, |scope| {
            scope.text(1, SCOPE_NAME);
            scope.text(2, SCOPE_VERSION);
        });
        let mut schema_url = Message::default();
        schema_url.text(3, SCHEMA_URL);
        let (spans, schema_url) = (self.spans.as_slice(), schema_url.as_slice());
        let mut scope_spans = Message::default();
        scope_spans.embed_head(2, scope.len() + spans.len() + schema_url.len());
        // Lengths come first, so that the many spans are copied but once.
        self.request.embed_fields(
            1,
            &[
                self.resource.as_slice(),
                scope_spans.as_slice(),
                scope.as_slice(),
                spans,
                schema_url,
                schema_url,
            ],
        );
        self.spans.clear();
        self.request_spans += std::mem::take(&mut self.spans_count);
    }

    fn close_request(&mut self) {
        if self.request_spans == 0 {
            return;
        }
        let body = std::mem::take(&mut self.request).into_bytes();
        let spans = std::mem::take(&mut self.request_spans);
        self.done.requests.push(Request { body, spans });
    }
}

/// Upper bound for scope and schema URLs.
fn scope_overhead() -> usize {
    SCOPE_NAME.len() + SCOPE_VERSION.len() + 2 * SCHEMA_URL.len() + 5 * FIELD_HEAD
}

/// The `resource` field of `ResourceSpans`.
fn resource_head(resource: &Resource) -> Message {
    let mut head = Message::default();
    head.embed(1, |message| {
        for (name, value) in &resource.attributes {
            write_attribute(message, 1, name, value);
        }
    });
    head
}

fn write_span(message: &mut Message, span: &Span) {
    message.bytes(1, &span.trace.0);
    message.bytes(2, &span.id.0);
    if !span.state.0.is_empty() {
        message.text(3, &span.state.0);
    }
    if let Some(parent) = span.parent {
        message.bytes(4, &parent.0);
    }
    message.text(5, &span.name);
    message.number(
        6,
        match span.kind {
            SpanKind::Server => 2,
            SpanKind::Client => 3,
        },
    );
    message.fixed64(7, span.start);
    message.fixed64(8, span.end);
    for (name, value) in &span.attributes {
        write_attribute(message, 9, name, value);
    }
    if span.dropped_attributes > 0 {
        message.number(10, u64::from(span.dropped_attributes));
    }
    for link in &span.links {
        message.embed(13, |message| write_link(message, link));
    }
    if span.dropped_links > 0 {
        message.number(14, u64::from(span.dropped_links));
    }
    message.embed(15, |message| match span.status {
        Status::Unset => {}
        Status::Error => message.number(3, 2),
    });
    message.fixed32(16, span_flags(span.flags, span.parent_is_remote));
}

fn span_flags(flags: TraceFlags, parent_is_remote: bool) -> u32 {
    u32::from(flags.0) | HAS_IS_REMOTE | if parent_is_remote { IS_REMOTE } else { 0 }
}

fn write_link(message: &mut Message, link: &Link) {
    message.bytes(1, &link.trace.0);
    message.bytes(2, &link.span.0);
    for (name, value) in &link.attributes {
        write_attribute(message, 4, name, value);
    }
    if link.dropped_attributes > 0 {
        message.number(5, u64::from(link.dropped_attributes));
    }
}

/// A `KeyValue`.
fn write_attribute(message: &mut Message, field: u32, name: &str, value: &Value) {
    let written = match value {
        Value::Text(text) => message.short_text_pair(field, name, text),
        Value::Int(number) => message.short_number_pair(field, name, *number as u64),
        _ => false,
    };
    if written {
        return;
    }
    message.embed(field, |pair| {
        pair.text(1, name);
        pair.embed(2, |any| match value {
            Value::Text(text) => any.text(1, text),
            Value::Bool(truth) => any.number(2, u64::from(*truth)),
            Value::Int(number) => any.number(3, *number as u64),
            Value::Double(number) => any.fixed64(4, number.to_bits()),
            Value::TextList(list) => any.embed(5, |array| {
                for text in list {
                    array.embed(1, |any| any.text(1, text));
                }
            }),
        });
    });
}

#[cfg(test)]
mod tests;
