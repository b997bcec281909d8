//! The finished span, independent of any export format.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::context::{SpanId, TraceFlags, TraceId, TraceState};
use super::resource::Resource;

/// Which end of an exchange a span describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// The process answered the request.
    Server,
    /// The process made the request.
    Client,
}

/// An attribute value; only the types the conventions we use need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// Text.
    Text(SmolStr),
    /// Integer.
    Int(i64),
    /// Floating point.
    Double(f64),
    /// Boolean.
    Bool(bool),
    /// List of text, as captured headers have it.
    TextList(Vec<String>),
}

/// Span status; `Ok` is never set by an observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Nothing is known to be wrong.
    Unset,
    /// The operation failed.
    Error,
}

/// Reference to a span of possibly another trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Linked trace.
    pub trace: TraceId,
    /// Linked span.
    pub span: SpanId,
    /// Why it is linked.
    pub attributes: Vec<(&'static str, Value)>,
    /// Attributes left out because there were too many.
    pub dropped_attributes: u32,
}

/// One finished operation of one process.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The trace it belongs to.
    pub trace: TraceId,
    /// Its own id.
    pub id: SpanId,
    /// Its parent's id; `None` for a root.
    pub parent: Option<SpanId>,
    /// The parent came over the wire in a trace context header.
    pub parent_is_remote: bool,
    /// W3C flags.
    pub flags: TraceFlags,
    /// W3C trace state, empty when there is none.
    pub state: TraceState,
    /// Low-cardinality name.
    pub name: SmolStr,
    /// Server or client.
    pub kind: SpanKind,
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    /// Nanoseconds since the Unix epoch, not before `start`.
    pub end: u64,
    /// Outcome.
    pub status: Status,
    /// Attributes by semantic-convention name; names are unique.
    pub attributes: Vec<(Cow<'static, str>, Value)>,
    /// Attributes left out because there were too many.
    pub dropped_attributes: u32,
    /// References to other spans.
    pub links: Vec<Link>,
    /// Links left out because there were too many.
    pub dropped_links: u32,
    /// The process that did it.
    pub resource: Arc<Resource>,
}

impl Link {
    /// A reference to a span, for no stated reason.
    pub fn to(trace: TraceId, span: SpanId) -> Self {
        Self { trace, span, attributes: Vec::new(), dropped_attributes: 0 }
    }
}

impl Span {
    /// The value of an attribute that is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        let attribute = self.attributes.iter().find(|(known, _)| known == name);
        attribute.and_then(|(_, value)| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }
}
