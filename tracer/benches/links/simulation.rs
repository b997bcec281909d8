//! Services that never were: random request shapes, delays and loads, with the truth known.
//!
//! The model's constants are chosen on these, never on recordings of real services. A scenario is
//! a pure function of its seed: a service of a few operations, each a random program of
//! sequential, parallel, conditional and retried calls, under Poisson or bursty arrivals, with or
//! without a limited number of processors that requests queue for.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use fastrand::Rng;
use tracer::event::KernelTime;
use tracer::link::timing::{Operation, Service};

use crate::recording::{Interval, Recording};

/// Distribution of a duration in microseconds.
#[derive(Clone, Copy, Debug)]
enum Delay {
    LogNormal { median: f64, sigma: f64 },
    Exponential { mean: f64 },
    Pareto { least: f64, shape: f64 },
    Either { first: (f64, f64), second: (f64, f64), chance: f64 },
}

impl Delay {
    fn random(rng: &mut Rng, median: f64) -> Self {
        match rng.u8(0..10) {
            0..5 => Self::LogNormal { median, sigma: 0.1 + 0.7 * rng.f64() },
            5..7 => Self::Exponential { mean: 1.4 * median },
            7..8 => Self::Pareto { least: 0.6 * median, shape: 1.3 + rng.f64() },
            _ => Self::Either {
                first: (median, 0.2 + 0.3 * rng.f64()),
                second: (median * (3.0 + 10.0 * rng.f64()), 0.3),
                chance: 0.1 + 0.4 * rng.f64(),
            },
        }
    }

    fn sample(self, rng: &mut Rng) -> u64 {
        let micros = match self {
            Self::LogNormal { median, sigma } => median * (sigma * normal(rng)).exp(),
            Self::Exponential { mean } => -mean * (1.0 - rng.f64()).ln(),
            Self::Pareto { least, shape } => least * (1.0 - rng.f64()).powf(-1.0 / shape),
            Self::Either { first, second, chance } => {
                let (median, sigma) = if rng.f64() < chance { second } else { first };
                median * (sigma * normal(rng)).exp()
            }
        };
        (micros.min(3e6) * 1_000.0) as u64
    }
}

fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}

/// What a request does.
#[derive(Clone, Debug)]
enum Program {
    Sequence(Vec<Program>),
    Parallel(Vec<Program>),
    Call { operation: usize, before: Delay, chance: f64, retries: f64 },
}

/// How requests, processors and the background behave.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    programs: Vec<(Program, Delay)>,
    durations: Vec<Delay>,
    between: f64,
    bursty: bool,
    processors: Option<usize>,
    background: Option<(usize, f64)>,
    requests: usize,
    seed: u64,
}

impl Scenario {
    /// The scenario of a seed; `load` is about how many requests are open at a time.
    pub(crate) fn random(seed: u64, load: f64, requests: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let operations = rng.usize(2..7);
        let scale = 10_f64.powf(2.0 + 2.0 * rng.f64());
        let durations: Vec<Delay> = (0..operations)
            .map(|_| {
                let median = scale * 10_f64.powf(rng.f64());
                Delay::random(&mut rng, median)
            })
            .collect();
        let think = scale * 10_f64.powf(-1.5 + 1.2 * rng.f64());
        let kinds = rng.usize(1..4);
        let programs = (0..kinds)
            .map(|_| {
                let program = random_program(&mut rng, operations, think, 2);
                let after = Delay::random(&mut rng, think);
                (program, after)
            })
            .collect();
        let mut scenario = Self {
            programs,
            durations,
            between: 1.0,
            bursty: rng.f64() < 0.3,
            processors: (rng.f64() < 0.3).then(|| rng.usize(1..3)),
            background: (rng.f64() < 0.3).then(|| (rng.usize(0..=operations), 0.05)),
            requests,
            seed,
        };
        scenario.between = 1e12;
        let mut alone = scenario.clone();
        alone.requests = 60;
        alone.processors = None;
        let recording = alone.record();
        let total: u64 = recording.requests.iter().map(|r| r.end.nanos_since(r.start)).sum();
        let mean = total as f64 / recording.requests.len() as f64 / 1_000.0;
        scenario.between = mean / load;
        if let Some(processors) = scenario.processors {
            let busy = 3.0 * think * 4.0;
            scenario.between = scenario.between.max(busy / processors as f64);
        }
        scenario
    }

    /// Runs the service.
    pub(crate) fn record(&self) -> Recording {
        Simulation::new(self).run()
    }
}

fn random_program(rng: &mut Rng, operations: usize, think: f64, depth: usize) -> Program {
    if depth == 0 || rng.f64() < 0.15 {
        let median = think * 10_f64.powf(-0.5 + rng.f64());
        return Program::Call {
            operation: rng.usize(0..operations),
            before: Delay::random(rng, median),
            chance: if rng.f64() < 0.25 { 0.1 + 0.8 * rng.f64() } else { 1.0 },
            retries: if rng.f64() < 0.15 { 0.05 + 0.2 * rng.f64() } else { 0.0 },
        };
    }
    let parts = rng.usize(1..4);
    let parts = (0..parts).map(|_| random_program(rng, operations, think, depth - 1)).collect();
    if rng.f64() < 0.7 { Program::Sequence(parts) } else { Program::Parallel(parts) }
}

/// A node of one request's program as it runs.
#[derive(Debug)]
struct Frame {
    request: usize,
    parent: Option<usize>,
    program: Program,
    next: usize,
    waiting: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    Begin(usize),
    Issue(usize),
    Finish(usize),
    Answer(usize),
    Background,
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    rng: Rng,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    frames: Vec<Frame>,
    busy: usize,
    ready: VecDeque<(u64, Event)>,
    requests: Vec<(Interval, usize)>,
    calls: Vec<(Interval, Option<usize>)>,
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        Self {
            scenario,
            rng: Rng::with_seed(scenario.seed ^ 0x5eed),
            queue: BinaryHeap::new(),
            sequence: 0,
            frames: Vec::new(),
            busy: 0,
            ready: VecDeque::new(),
            requests: Vec::new(),
            calls: Vec::new(),
        }
    }

    fn run(mut self) -> Recording {
        self.at(0, Event::Arrive);
        if self.scenario.background.is_some() {
            self.at(1, Event::Background);
        }
        while let Some(Reverse((now, _, event))) = self.queue.pop() {
            self.happen(now, event);
        }
        let requests: Vec<Interval> =
            self.requests.into_iter().map(|(interval, _)| interval).collect();
        Recording::new(format!("seed {}", self.scenario.seed), &requests, self.calls)
    }

    fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((time, self.sequence, event)));
    }

    /// Computes for `delay`, then `event`; queues for a processor where they are few.
    fn compute(&mut self, now: u64, delay: u64, event: Event) {
        match self.scenario.processors {
            Some(processors) if self.busy >= processors => self.ready.push_back((delay, event)),
            Some(_) => {
                self.busy += 1;
                self.at(now + delay, event);
            }
            None => self.at(now + delay, event),
        }
    }

    fn release(&mut self, now: u64) {
        if self.scenario.processors.is_none() {
            return;
        }
        self.busy -= 1;
        if let Some((delay, event)) = self.ready.pop_front() {
            self.busy += 1;
            self.at(now + delay, event);
        }
    }

    fn happen(&mut self, now: u64, event: Event) {
        match event {
            Event::Arrive => self.arrive(now),
            Event::Begin(frame) => self.begin(now, frame),
            Event::Issue(frame) => {
                self.release(now);
                self.issue(now, frame);
            }
            Event::Finish(frame) => self.finish(now, frame),
            Event::Answer(request) => {
                self.release(now);
                self.requests[request].0.end = KernelTime(now);
            }
            Event::Background => self.background(now),
        }
    }

    fn arrive(&mut self, now: u64) {
        let kind = self.rng.usize(0..self.scenario.programs.len());
        let interval = Interval {
            service: Service(0),
            operation: Operation::named(&format!("in {kind}"), ""),
            start: KernelTime(now),
            end: KernelTime(now),
        };
        let request = self.requests.len();
        self.requests.push((interval, kind));
        let program = self.scenario.programs[kind].0.clone();
        let frame = self.frame(request, None, program);
        self.at(now, Event::Begin(frame));
        if self.requests.len() < self.scenario.requests {
            let mut gap = -self.scenario.between * (1.0 - self.rng.f64()).ln();
            if self.scenario.bursty {
                gap *= if self.rng.f64() < 0.7 { 0.2 } else { 2.9 };
            }
            self.at(now + (gap * 1_000.0) as u64, Event::Arrive);
        }
    }

    fn frame(&mut self, request: usize, parent: Option<usize>, program: Program) -> usize {
        self.frames.push(Frame { request, parent, program, next: 0, waiting: 0 });
        self.frames.len() - 1
    }

    fn begin(&mut self, now: u64, frame: usize) {
        let request = self.frames[frame].request;
        match self.frames[frame].program.clone() {
            Program::Call { before, chance, .. } => {
                if self.rng.f64() < chance {
                    let delay = before.sample(&mut self.rng);
                    self.compute(now, delay, Event::Issue(frame));
                } else {
                    self.done(now, frame);
                }
            }
            Program::Sequence(parts) => {
                let first = self.frame(request, Some(frame), parts[0].clone());
                self.at(now, Event::Begin(first));
            }
            Program::Parallel(parts) => {
                self.frames[frame].waiting = parts.len();
                for part in parts {
                    let child = self.frame(request, Some(frame), part);
                    self.at(now, Event::Begin(child));
                }
            }
        }
    }

    fn issue(&mut self, now: u64, frame: usize) {
        let Program::Call { operation, .. } = self.frames[frame].program else { return };
        let took = self.scenario.durations[operation].sample(&mut self.rng);
        let request = self.frames[frame].request;
        self.call(now, took, operation, Some(request));
        self.at(now + took, Event::Finish(frame));
    }

    fn call(&mut self, now: u64, took: u64, operation: usize, parent: Option<usize>) {
        let interval = Interval {
            service: Service(0),
            operation: Operation::named(&format!("out {operation}"), "peer"),
            start: KernelTime(now),
            end: KernelTime(now + took),
        };
        self.calls.push((interval, parent));
    }

    fn finish(&mut self, now: u64, frame: usize) {
        if let Program::Call { before, retries, .. } = self.frames[frame].program
            && self.rng.f64() < retries
        {
            let delay = before.sample(&mut self.rng);
            self.compute(now, delay, Event::Issue(frame));
        } else {
            self.done(now, frame);
        }
    }

    fn done(&mut self, now: u64, frame: usize) {
        let request = self.frames[frame].request;
        let Some(parent) = self.frames[frame].parent else {
            let kind = self.requests[request].1;
            let delay = self.scenario.programs[kind].1.sample(&mut self.rng);
            self.compute(now, delay, Event::Answer(request));
            return;
        };
        let next = match &self.frames[parent].program {
            Program::Sequence(parts) => {
                let next = self.frames[parent].next + 1;
                parts.get(next).cloned().map(|part| (next, part))
            }
            _ => None,
        };
        if let Some((next, part)) = next {
            self.frames[parent].next = next;
            let child = self.frame(request, Some(parent), part);
            self.at(now, Event::Begin(child));
            return;
        }
        self.frames[parent].waiting = self.frames[parent].waiting.saturating_sub(1);
        if self.frames[parent].waiting == 0 {
            self.done(now, parent);
        }
    }

    fn background(&mut self, now: u64) {
        let Some((operation, share)) = self.scenario.background else { return };
        let known = operation.min(self.scenario.durations.len() - 1);
        let took = self.scenario.durations[known].sample(&mut self.rng);
        self.call(now, took, operation, None);
        if self.requests.len() < self.scenario.requests {
            let gap = -self.scenario.between / share * (1.0 - self.rng.f64()).ln();
            self.at(now + (gap * 1_000.0) as u64 + 1, Event::Background);
        }
    }
}
