//! The live agent: capture feeds the pipeline, the pipeline's decisions go back to capture, its
//! spans to the exporters. One thread, and in its pauses those who ask it in passing; exporters run
//! on their own.

mod surroundings;
mod turns;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use crate::capture::{Capture, ConnectionVerdict, Treatment};
use crate::conn::Verdict;
use crate::event::{CloseKind, ConnId, Event, KernelTime, Pid};
use crate::exchange::ExchangeId;
use crate::export::{DropReason, SpanSink};
use crate::layout::{Finder, Found};
use crate::link::Committed;
use crate::memory::{Pressure, Shed};
use crate::pipeline::{Output, Pipeline};
use crate::propagation;
use crate::proxy::redirect::Targets;
use crate::recording::{Entry, WriteError};
use crate::target::{Decision, Resolver, Scanner, Selection, Why};

pub use surroundings::{Propagation, Recorder, Supervision, Surroundings};

/// Events taken from the ring before their results are handed on.
const BATCH: usize = 8_192;
/// The same while there are others who ask: they are to find the agent free.
const SHORT_BATCH: usize = 512;
/// Events that who asks in passing takes from the ring, at most.
const IN_PASSING: usize = 256;
/// Results from which on who asks in passing hands them on, which else the next turn does.
const HELD_RESULTS: usize = 256;
/// Pause between drains. A filling ring ends it early.
const PAUSE: Duration = Duration::from_millis(50);
/// The same where much happens. Few long batches disturb the traced programs less than many short
/// ones: each wakes a thread next to them, takes over caches, and moves them between processors.
const LONG_PAUSE: Duration = Duration::from_millis(200);
/// Events since the last pause from which on the next one is long.
const MUCH: usize = 2_000;
/// Pause while somebody waits for the context of a call that the kernel half is about to report.
const RETRY: Duration = Duration::from_micros(50);
/// Looks for running processes at the start, at most. Two are enough unless they multiply meanwhile.
const LOOKS: usize = 16;
/// Time that a start may take to look at executables; what is found later counts from then on.
const LAYOUTS: Duration = Duration::from_secs(5);
/// Interval of timers in the core.
const TICK_NANOS: u64 = 100_000_000;
/// Interval of housekeeping towards the kernel half.
const SETTLE_NANOS: u64 = 1_000_000_000;

/// A running agent.
pub struct Agent {
    capture: Capture,
    pipeline: Pipeline,
    resolver: Arc<Resolver>,
    selection: Selection,
    sink: SpanSink,
    log: Option<Recorder>,
    /// Results of the events so far.
    outputs: Vec<Output>,
    /// Events taken since the last pause.
    since_pause: usize,
    /// What went wrong when somebody asked in passing.
    failure: Option<AgentError>,
    /// Processes whose data may still be in the ring though they are not targets.
    untargeted: FxHashSet<Pid>,
    /// Connections of which the kernel half is to be told that they speak HTTP, if they last.
    follow: FxHashSet<ConnId>,
    layouts: Finder,
    propagation: Propagation,
    supervision: Supervision,
    last_tick: KernelTime,
    last_settle: KernelTime,
}

/// What is left of an agent, for the final report.
pub struct Stopped {
    /// Still attached.
    pub capture: Capture,
    /// With its counts.
    pub pipeline: Pipeline,
    /// What became of questions for contexts, if somebody could ask.
    pub contexts: Option<propagation::Counts>,
    /// What was given up for lack of memory.
    pub shed: Shed,
}

/// Why the agent stopped early.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The recording could not be written.
    #[error("the recording cannot be continued: {0}; is the disk full?")]
    Recording(#[from] WriteError),
    /// A verdict could not be handed to the kernel half.
    #[error(transparent)]
    Capture(#[from] crate::capture::LoadError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}; raise the limit of processes")]
    Thread(#[from] std::io::Error),
}

impl Agent {
    /// Puts the parts together and tells the kernel half about processes that run already.
    pub fn new(
        capture: Capture,
        pipeline: Pipeline,
        resolver: Arc<Resolver>,
        selection: Selection,
        sink: SpanSink,
        surroundings: Surroundings,
    ) -> Result<Self, AgentError> {
        let Surroundings { log, propagation, supervision } = surroundings;
        if let Some(desk) = &propagation.desk {
            capture.attention().attend(desk.bell())?;
        }
        let now = Capture::now();
        let layouts = Finder::start(Path::new("/"))?;
        let mut agent = Self {
            capture,
            pipeline,
            resolver,
            selection,
            sink,
            log,
            outputs: Vec::new(),
            since_pause: 0,
            failure: None,
            untargeted: FxHashSet::default(),
            follow: FxHashSet::default(),
            layouts,
            propagation,
            supervision,
            last_tick: now,
            last_settle: now,
        };
        agent.decide_running_processes()?;
        if let Some(targets) = &agent.propagation.targets {
            targets.settle();
        }
        agent.follow_running_tasks();
        agent.supervise();
        Ok(agent)
    }

    /// Waits for the layouts of running processes, so that their first requests are linked as well
    /// as their later ones.
    fn follow_running_tasks(&mut self) {
        let deadline = Instant::now() + LAYOUTS;
        while let Some(found) = self.layouts.wait(deadline) {
            self.follow_tasks(found);
        }
    }

    fn follow_tasks(&mut self, found: Found) {
        let Found { pid, layout: Some(layout) } = found else { return };
        let followed = self.capture.follow_tasks(pid, &layout);
        tracing::debug!(pid = pid.0, ?layout, followed, "found the layout of tasks");
    }

    /// Looks until there is nothing new: a process may be forked after a look, and before its
    /// parent's verdict is there to be inherited.
    fn decide_running_processes(&mut self) -> Result<(), AgentError> {
        let mut known = FxHashSet::default();
        for _ in 0..LOOKS {
            let mut running = Scanner::new(&self.resolver, &self.selection).initial();
            running.retain(|(pid, _)| known.insert(*pid));
            if running.is_empty() {
                return Ok(());
            }
            for (pid, decision) in running {
                self.capture.decide_process(
                    pid,
                    treatment(pid, &decision, self.propagation.targets.as_ref()),
                )?;
                if decision.traced {
                    self.layouts.ask(pid);
                }
            }
        }
        tracing::warn!("processes multiply too fast to find all; restart the agent once they rest");
        Ok(())
    }

    /// Runs until `stop` is set, then takes what is left in the ring and gives the parts back for
    /// the final report.
    pub fn run(self, stop: &AtomicBool) -> Result<Stopped, AgentError> {
        turns::run(self, stop)
    }

    /// Takes what has happened and answers what was asked before. Returns how long there is
    /// nothing to do.
    fn turn(&mut self) -> Result<Option<Duration>, AgentError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let mut batch = BATCH;
        if let Some(desk) = &mut self.propagation.desk {
            desk.collect();
            batch = SHORT_BATCH;
        }
        let drained = self.step(batch)?;
        let Self { propagation, pipeline, outputs, .. } = self;
        let left = propagation.desk.as_mut().is_some_and(|desk| desk.answer(pipeline, outputs));
        self.apply();
        self.since_pause += drained;
        if drained == batch {
            return Ok(None);
        }
        let events = std::mem::take(&mut self.since_pause);
        Ok(Some(match (left, events) {
            (true, _) => RETRY,
            (false, MUCH..) => LONG_PAUSE,
            (false, _) => PAUSE,
        }))
    }

    /// The place of a call, if it can be known by now.
    fn answer_now(&mut self, call: ExchangeId) -> Option<Committed> {
        if self.failure.is_some() {
            return None;
        }
        if let Err(error) = self.step(IN_PASSING) {
            self.failure = Some(error);
            return None;
        }
        let Self { propagation, pipeline, outputs, .. } = self;
        let committed = propagation.desk.as_mut()?.answer_now(call, pipeline, outputs);
        if self.outputs.len() >= HELD_RESULTS {
            self.apply();
        }
        committed
    }

    fn finish(mut self) -> Result<Stopped, AgentError> {
        let mut drained = BATCH;
        while drained == BATCH {
            drained = self.step(BATCH)?;
            self.apply();
        }
        self.pipeline.finish(&mut self.outputs);
        record(&mut self.log, &self.outputs, |_| Ok(()))?;
        self.apply();
        if let Some(log) = self.log.take() {
            log.finish()?;
        }
        self.supervise();
        let contexts = self.propagation.desk.map(|desk| desk.counts());
        let shed = self.supervision.governor.map(|governor| governor.shed).unwrap_or_default();
        Ok(Stopped { capture: self.capture, pipeline: self.pipeline, contexts, shed })
    }

    /// One drain of up to `batch` events with its consequences; returns how many there were.
    fn step(&mut self, batch: usize) -> Result<usize, AgentError> {
        let mut failure = None;
        let Self { capture, pipeline, resolver, selection, .. } = self;
        let Self { untargeted, layouts, log, outputs, .. } = self;
        let mut decisions = Vec::new();
        let mut gone = Vec::new();
        let mut exited = Vec::new();
        let started = Capture::now();
        let mut latest = started;
        let governor = &mut self.supervision.governor;
        let drained = capture.drain(batch, |event| {
            latest = event.time();
            if let Some(governor) = governor
                && governor.pressure() >= Pressure::Events
                && matches!(event, Event::Data(_) | Event::Opened(_))
            {
                governor.shed.events += 1;
                return;
            }
            match &event {
                Event::Process(seen) => {
                    let decision = Scanner::new(resolver, selection).seen(seen);
                    if decision.traced || seen.selected {
                        untargeted.remove(&seen.pid);
                        layouts.ask(seen.pid);
                    } else {
                        untargeted.insert(seen.pid);
                    }
                    // What the kernel half selected by itself needs no confirmation, least of all
                    // by who came too late to see why.
                    if decision.traced || !seen.selected {
                        decisions.push((seen.pid, decision));
                    }
                }
                Event::ProcessGone { pid, .. } => {
                    untargeted.remove(pid);
                    exited.push(*pid);
                }
                Event::Data(data) if untargeted.contains(&data.pid) => return,
                Event::Connecting(connecting) => {
                    tracing::debug!(conn = ?connecting.conn, pid = connecting.pid.0, "connecting");
                }
                Event::Closed(closed) if closed.kind == CloseKind::Gone => gone.push(closed.conn),
                _ => {}
            }
            let before = outputs.len();
            pipeline.on_event(&event, outputs);
            if let Err(error) = record(log, &outputs[before..], |log| log.event(&event)) {
                failure = Some(error);
            }
        });
        if let Some(error) = failure {
            return Err(error.into());
        }
        for (pid, decision) in decisions {
            self.capture.decide_seen_process(
                pid,
                treatment(pid, &decision, self.propagation.targets.as_ref()),
            );
        }
        for pid in exited {
            self.capture.forget_tasks(pid);
        }
        while let Some(found) = self.layouts.try_next() {
            self.follow_tasks(found);
        }
        for conn in gone {
            if !self.follow.remove(&conn) {
                self.capture.forget_connection(conn);
            }
        }
        // What is overdue is told by how far the events have come, not by how late the agent is.
        self.tick(if drained < batch { started } else { latest })?;
        Ok(drained)
    }

    fn tick(&mut self, now: KernelTime) -> Result<(), AgentError> {
        if now.nanos_since(self.last_tick) >= TICK_NANOS {
            self.last_tick = now;
            let before = self.outputs.len();
            self.pipeline.on_tick(now, &mut self.outputs);
            record(&mut self.log, &self.outputs[before..], |log| log.write(&Entry::Tick(now)))?;
            // Not at once: for a connection of one request, telling costs more than it saves.
            for conn in self.follow.drain() {
                self.capture.decide_connection(conn, ConnectionVerdict::Follow);
            }
        }
        if now.nanos_since(self.last_settle) >= SETTLE_NANOS {
            self.last_settle = now;
            self.capture.settle_verdicts();
            self.supervise();
        }
        Ok(())
    }

    /// Hands results on: spans to the exporters, verdicts to the kernel half.
    fn apply(&mut self) {
        // Nearly all of it is spans, of one kind.
        let (mut spans, mut measured) = (Vec::with_capacity(self.outputs.len()), Vec::new());
        for output in self.outputs.drain(..) {
            match output {
                Output::Span(span) => spans.push(span),
                Output::Measured(span) => measured.push(span),
                Output::Verdict(conn, Verdict::Http) => {
                    self.follow.insert(conn);
                }
                Output::Verdict(conn, Verdict::Ignore) => {
                    self.follow.remove(&conn);
                    self.capture.decide_connection(conn, ConnectionVerdict::Ignore);
                }
                // Already recorded.
                Output::Process(_) => {}
            }
        }
        if let Some(watch) = &self.supervision.watch {
            watch.record(&measured);
            if !self.pipeline.measures_apart() {
                watch.record(&spans);
            }
        }
        if let Some(governor) = &mut self.supervision.governor {
            let given_up = governor.give_up(&mut spans);
            self.sink.give_up(given_up, DropReason::Memory);
        }
        if !spans.is_empty() {
            self.sink.submit(spans);
        }
    }
}

/// Records a step, after the processes that it made known: a replay cannot ask the host for them,
/// so it needs them first.
fn record(
    log: &mut Option<Recorder>,
    outputs: &[Output],
    step: impl FnOnce(&mut Recorder) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let Some(log) = log else { return Ok(()) };
    for output in outputs {
        if let Output::Process(process) = output {
            log.write(&Entry::Process(Arc::clone(process)))?;
        }
    }
    step(log)
}

/// What a decision means for the kernel half, and for those who wait for targets.
fn treatment(pid: Pid, decision: &Decision, propagation: Option<&Targets>) -> Treatment {
    let targets = propagation.filter(|_| decision.traced);
    Treatment {
        trace: decision.traced,
        lineage: lineage(decision),
        propagate: targets.is_some_and(|targets| targets.appeared(pid)),
    }
}

/// Whether a verdict extends to what the process starts.
fn lineage(decision: &Decision) -> bool {
    decision.traced && matches!(decision.why, Why::Pid | Why::Descendant(_) | Why::Port(_))
}
