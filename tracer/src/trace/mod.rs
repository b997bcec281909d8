//! Trace context, the span model, and HTTP semantic conventions.
//!
//! Turns a finished [`crate::exchange::Exchange`] into a [`Span`]. Must not know
//! sockets, processes beyond their [`Resource`], or export formats.

pub mod context;
mod resource;
mod span;

pub use resource::{Resource, ResourceId};
pub use span::{Link, Span, SpanKind, Status, Value};
