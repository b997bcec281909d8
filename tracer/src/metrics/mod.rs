//! Numbers about the agent and about the requests it saw: `/metrics`, `/healthz`, `/readyz`, OTLP.
//!
//! Everything is stated once, as [`family::Family`] under its OpenTelemetry name, and written in
//! two ways: no library writes both from one statement. The thread that makes spans only counts and
//! publishes; reading, writing and sending happen on the thread `tracer-metrics`. Must not change
//! what it watches.

mod delta;
mod exposition;
mod family;
mod of_agent;
mod of_export;
mod otlp;
mod requests;
mod service;
mod watch;

pub use family::{Family, Labels, Number, Point, Unit};
pub use requests::RequestDurations;
pub use service::{Metrics, MetricsError};
pub use watch::{AgentState, Watch};
