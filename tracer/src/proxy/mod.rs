//! The transparent proxy: carries trace context to other hosts for programs that nobody
//! instrumented. [`redirect`] brings their outbound connections to the agent; a forwarder takes
//! them on to where they were meant to go.

pub mod redirect;
pub mod tunnel;
