//! Parents: which inbound request of a process caused which outbound one.
//!
//! Knows requests and calls as intervals with names. Must not know OTLP, headers of any protocol,
//! or how bytes were captured.

pub mod timing;
