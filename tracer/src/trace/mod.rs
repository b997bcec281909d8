//! Trace context, the span model, and HTTP semantic conventions.
//!
//! Turns a finished [`crate::exchange::Exchange`] into a [`Span`]. Must not know
//! sockets, processes beyond their [`Resource`], or export formats.

pub mod context;
mod footprint;
mod http;
mod resource;
pub mod route;
pub mod semconv;
mod span;

pub use http::{SpanBuilder, SpanOptions};
pub use resource::{Resource, ResourceId};
pub use route::{RouteError, RoutePattern};
pub use span::{Link, Span, SpanKind, Status, Value};
