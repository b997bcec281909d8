//! A look at every destination from outside, at any time and from any thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::ledger::ExporterReport;
use super::queue::Queue;
use crate::histogram::Distribution;

/// A destination at one moment.
#[derive(Clone, Debug)]
pub struct DestinationState {
    /// What became of its spans.
    pub report: ExporterReport,
    /// What kind of exporter it has, as the conventions name them.
    pub kind: &'static str,
    /// Spans that wait.
    pub queued_spans: u64,
    /// Bytes that they take.
    pub queued_bytes: u64,
    /// Spans that may wait.
    pub capacity: u64,
    /// How long requests took, by what went wrong; `None` is success.
    pub operations: Vec<(Option<&'static str>, Distribution)>,
}

/// How long requests to a receiver took.
#[derive(Debug, Default)]
pub(super) struct Operations(Mutex<BTreeMap<Option<&'static str>, Distribution>>);

impl Operations {
    pub(super) fn record(&self, error: Option<&'static str>, took: Duration) {
        let mut operations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        operations.entry(error).or_default().record(took.as_secs_f64(), None);
    }

    fn look(&self) -> Vec<(Option<&'static str>, Distribution)> {
        let operations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        operations.iter().map(|(error, durations)| (*error, durations.clone())).collect()
    }
}

/// A destination as it is looked at.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) queue: Arc<Queue>,
    pub(super) kind: &'static str,
    pub(super) operations: Arc<Operations>,
}

/// Looks at all destinations. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ExportObserver(pub(super) Arc<[Observed]>);

impl ExportObserver {
    /// All destinations, in the order the user named them.
    pub fn look(&self) -> Vec<DestinationState> {
        let look = |observed: &Observed| {
            let (spans, bytes) = observed.queue.waiting();
            DestinationState {
                report: observed.queue.ledger().report(),
                kind: observed.kind,
                queued_spans: spans as u64,
                queued_bytes: bytes as u64,
                capacity: observed.queue.capacity() as u64,
                operations: observed.operations.look(),
            }
        };
        self.0.iter().map(look).collect()
    }
}
