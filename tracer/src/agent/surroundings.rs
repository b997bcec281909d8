//! What an agent has to do with beside its job: who keeps what happens, who asks about it, and who
//! watches and changes the agent while it runs.

use std::sync::{Arc, mpsc};

use super::Agent;
use crate::conn;
use crate::memory::{Governor, Pressure, resident_bytes};
use crate::metrics::{AgentState, Watch};
use crate::propagation::Desk;
use crate::proxy::redirect::Targets;
use crate::recording::Writer;
use crate::trace::SpanOptions;

/// Where a recording goes.
pub type Recorder = Writer<std::io::BufWriter<std::fs::File>>;

/// What an agent has to do with beside its job.
#[derive(Default)]
pub struct Surroundings {
    /// Keeps what happens.
    pub log: Option<Recorder>,
    /// Asks about what happens.
    pub propagation: Propagation,
    /// Watches the agent itself.
    pub supervision: Supervision,
}

/// What watches the agent and changes it while it runs.
#[derive(Default)]
pub struct Supervision {
    /// Where others read how it is.
    pub watch: Option<Arc<Watch>>,
    /// Says what to give up for lack of memory.
    pub governor: Option<Governor>,
    /// Other options for spans.
    pub changes: Option<mpsc::Receiver<SpanOptions>>,
}

/// What carries trace context to other hosts, if anything does.
#[derive(Default)]
pub struct Propagation {
    /// Is told of targets when their connections may be redirected.
    pub targets: Option<Targets>,
    /// Where the proxy asks for the contexts of calls.
    pub desk: Option<Desk>,
}

impl Agent {
    /// Tells how it is, and takes what has changed.
    pub(super) fn supervise(&mut self) {
        let Self { capture, pipeline, supervision, .. } = self;
        if let Some(governor) = &mut supervision.governor
            && governor.measure(resident_bytes())
        {
            let pressure = governor.pressure();
            let limit = governor.limit();
            tracing::warn!(limit, ?pressure, "what is given up to stay below the memory limit");
            let buffer = if pressure >= Pressure::Bodies {
                0
            } else {
                conn::Options::default().max_buffered_bytes
            };
            pipeline.set_buffer_limit(buffer);
            pipeline.decide_at_once(pressure >= Pressure::Undecided);
        }
        if let Some(spans) = supervision.changes.as_ref().and_then(|it| it.try_iter().last()) {
            pipeline.reconfigure(spans);
        }
        if let Some(watch) = &supervision.watch {
            let shed = supervision.governor.map(|governor| governor.shed);
            watch.publish(AgentState::of(capture, pipeline, shed));
        }
    }
}
