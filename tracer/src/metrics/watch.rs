//! Where the thread that makes spans leaves what others may read.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::requests::RequestDurations;
use crate::capture::{Capture, KernelCounters};
use crate::conn;
use crate::link::Tally;
use crate::memory::Shed;
use crate::pipeline::{CoreCounts, Pipeline};
use crate::sampling::tail;
use crate::target::ProcessCounts;
use crate::trace::Span;

/// An agent that has not published for so long is stuck: it does every second.
const STUCK: Duration = Duration::from_secs(10);

/// What the agent has counted, at one moment.
#[derive(Clone, Debug)]
pub struct AgentState {
    /// What the core made and gave up.
    pub core: CoreCounts,
    /// What happened to connections.
    pub connections: conn::Counters,
    /// Connections by what is known of them.
    pub standings: BTreeMap<&'static str, usize>,
    /// Bytes of incomplete heads.
    pub buffered_bytes: usize,
    /// How parents were found.
    pub links: Tally,
    /// Exchanges and spans that are not sampled, by when that was decided.
    pub unsampled: BTreeMap<&'static str, u64>,
    /// What became of traces when they were over, if that is looked at.
    pub tail: Option<tail::Counts>,
    /// Exchanges left to SDKs, by reason.
    pub muted: BTreeMap<&'static str, u64>,
    /// The process table.
    pub processes: ProcessCounts,
    /// The kernel half.
    pub kernel: KernelCounters,
    /// Bytes of the ring.
    pub ring_bytes: u64,
    /// What was given up for lack of memory, if that has a limit.
    pub shed: Option<Shed>,
    /// Runs and nanoseconds of each program of the kernel half, if they are measured.
    pub probes: Vec<(String, u64, u64)>,
}

impl AgentState {
    /// What they have counted by now.
    pub fn of(capture: &Capture, pipeline: &mut Pipeline, shed: Option<Shed>) -> Self {
        Self {
            standings: pipeline.standings(),
            core: pipeline.counts().clone(),
            connections: pipeline.connection_counts(),
            buffered_bytes: pipeline.buffered_bytes(),
            links: pipeline.links().clone(),
            unsampled: pipeline.unsampled(),
            tail: pipeline.tail_counts(),
            muted: pipeline.muted().clone(),
            processes: pipeline.process_counts(),
            kernel: capture.counters(),
            ring_bytes: capture.ring_bytes(),
            shed,
            probes: capture.probe_times(),
        }
    }
}

/// The place.
#[derive(Debug)]
pub struct Watch {
    requests: Mutex<RequestDurations>,
    state: Mutex<Option<(Instant, AgentState)>>,
}

impl Watch {
    /// Nothing is there yet.
    pub fn new(exemplars: bool) -> Self {
        Self { requests: Mutex::new(RequestDurations::new(exemplars)), state: Mutex::new(None) }
    }

    /// Counts the requests that spans stand for; to be called before any are dropped.
    pub fn record(&self, spans: &[Span]) {
        let mut requests = self.requests();
        for span in spans {
            requests.record(span);
        }
    }

    /// To be called about once a second.
    pub fn publish(&self, state: AgentState) {
        *self.state() = Some((Instant::now(), state));
    }

    /// The last state that was published.
    pub fn latest(&self) -> Option<AgentState> {
        self.state().as_ref().map(|(_, state)| state.clone())
    }

    /// Whether the agent works.
    pub fn is_ready(&self) -> bool {
        self.state().is_some()
    }

    /// Whether the agent stopped working.
    pub fn is_stuck(&self) -> bool {
        self.state().as_ref().is_some_and(|(at, _)| at.elapsed() > STUCK)
    }

    pub(super) fn requests(&self) -> MutexGuard<'_, RequestDurations> {
        // Counts are right at any time.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, Option<(Instant, AgentState)>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
