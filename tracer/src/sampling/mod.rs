//! Which traces are exported: [`Sampler`]s decide when a trace begins, [`tail`] when it has ended.
//!
//! Both compare one random number of the trace with a threshold, and write the threshold on what
//! they keep, so that counts can be told from it. No clock, no randomness of its own: every agent
//! decides alike on the same trace. Must not know exchanges, processes or export formats.

mod head;
mod ot;
mod service;
pub mod tail;
mod threshold;

pub use head::{Sampler, SamplerError, Samplers};
pub use service::{ServicePattern, ServicePatternError};
pub use threshold::{Randomness, Threshold};
