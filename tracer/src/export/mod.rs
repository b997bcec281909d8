//! Where finished spans go: OTLP, files, the terminal. All side effects of export live here.
//!
//! Each destination has a bounded queue of its own over shared, immutable spans and is served by
//! tasks on one thread, `tracer-export`; a slow or dead destination holds up neither another one
//! nor the thread that submits. Must not know exchanges, connections or where spans come from.

mod blocking;
mod choice;
pub mod console;
mod file;
#[cfg(test)]
pub(crate) mod fixtures;
mod ledger;
mod log_limit;
mod observer;
mod otlp;
mod queue;
mod settings;
pub mod spool;
mod start;
mod wire;

pub use choice::{ChoiceError, ExporterChoice, FileTarget};
pub use ledger::{DropReason, ExportReport, ExporterReport};
pub use observer::{DestinationState, ExportObserver};
pub use otlp::{MetricsExporter, Outcome, RetryPolicy, TlsError};
pub use queue::{Overflow, QueueBounds};
pub use settings::{
    BatchSettings, Compression, ConsoleSettings, MetricsSettings, Options, OtlpSettings, Protocol,
    Proxy, Route, Settings, SettingsError, Signal, SpoolSettings, Temporality, TlsFiles,
};
pub use spool::SpoolError;
pub use start::{ExportError, ExportHandle, SpanSink, start};
