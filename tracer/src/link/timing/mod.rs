//! The last resort: parents by likelihood, where several requests were open and nothing else tells
//! them apart.
//!
//! Learns on line, per service and inbound operation, which calls requests make, in which order
//! and how soon, and shares the calls of interleaved requests among them so that all of them
//! together are as ordinary as possible. Every answer carries a calibrated confidence, and below
//! [`Options::threshold`] the answer is "unknown". Knows names and times alone: no ids, threads,
//! bytes or clocks. The same observations in the same order always give the same decisions.

mod behaviour;
mod decision;
mod gaps;
mod habits;
mod hypothesis;
mod observation;
mod progress;
mod track;
mod undecided;
mod window;

use std::time::Duration;

pub use decision::{Confidence, Decision};
pub use observation::{CallId, Evidence, Moment, Observation, Operation, RequestId, Service};
use window::Window;

use rustc_hash::FxHashMap;

use crate::event::KernelTime;

/// Services modelled at a time; beyond, the one heard of longest ago is forgotten.
pub const MAX_SERVICES: usize = 1_024;

/// How sure, and how patient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// A parent is given only at this confidence or more.
    pub threshold: Confidence,
    /// A call is decided this long after its start at the latest.
    pub hold: Duration,
    /// A request open for longer is no longer considered a parent.
    pub longest_request: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threshold: Confidence::new(0.9),
            hold: Duration::from_secs(10),
            longest_request: Duration::from_mins(1),
        }
    }
}

/// What was not treated the ordinary way, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls decided while possible parents were open, because [`Options::hold`] was over.
    pub decided_by_hold: u64,
    /// Calls decided early because too many were waiting.
    pub decided_by_room: u64,
    /// Requests open longer than [`Options::longest_request`].
    pub requests_outlived: u64,
    /// Requests given up because too many were open.
    pub requests_crowded_out: u64,
    /// Services forgotten because there were too many.
    pub services_forgotten: u64,
    /// Calls taken as never returning, because too many had not returned.
    pub returns_ignored: u64,
    /// Requests and calls ignored because their id was in use.
    pub repeated_ids: u64,
}

/// The model of all services.
#[derive(Debug)]
pub struct Timing {
    options: Options,
    services: FxHashMap<Service, (u64, Window)>,
    /// Observations so far: orders services by when they were last heard of.
    heard: u64,
    counters: Counters,
}

impl Timing {
    /// A model that knows nothing yet.
    pub fn new(options: Options) -> Self {
        Self { options, services: FxHashMap::default(), heard: 0, counters: Counters::default() }
    }

    /// Takes in one observation and returns the calls that it decides.
    ///
    /// Observations of one service should come in the order of their times; one that comes late is
    /// taken as happening at its own time but after those before it.
    pub fn observe(&mut self, observation: &Observation) -> Vec<Decision> {
        let Observation { service, at, moment } = *observation;
        self.heard += 1;
        let mut decisions = self.make_room(service);
        let (heard, window) = self.services.entry(service).or_insert_with(|| (0, Window::new()));
        *heard = self.heard;
        let (options, counters) = (&self.options, &mut self.counters);
        decisions.extend(window.advance(at, options, counters));
        match moment {
            Moment::Arrived { request, operation } => {
                window.arrived(request, operation, at, counters);
            }
            Moment::Answered { request } => {
                decisions.extend(window.answered(request, at, options));
            }
            Moment::Called { call, operation, evidence } => {
                decisions.extend(window.called(call, operation, evidence, at, options, counters));
            }
            Moment::Returned { call } => window.returned(call, at),
        }
        decisions
    }

    /// Lets time pass: decides what has been held too long.
    pub fn advance(&mut self, now: KernelTime) -> Vec<Decision> {
        let mut services: Vec<_> = self.services.iter_mut().collect();
        services.sort_by_key(|(service, _)| **service);
        services
            .into_iter()
            .flat_map(|(_, (_, window))| window.advance(now, &self.options, &mut self.counters))
            .collect()
    }

    /// Whether a service is too irregular to be worth modelling.
    pub fn is_hopeless(&self, service: Service) -> bool {
        self.services.get(&service).is_some_and(|(_, window)| window.is_hopeless())
    }

    /// Forgets a service, and decides its calls that still wait.
    pub fn forget(&mut self, service: Service) -> Vec<Decision> {
        let forgotten = self.services.remove(&service);
        forgotten.map_or_else(Vec::new, |(_, mut window)| window.flush(&self.options))
    }

    /// Keeps what was learned of a service, and nothing of what it is doing. Must not be asked for
    /// while calls wait.
    pub fn rest(&mut self, service: Service) {
        if let Some((_, window)) = self.services.get_mut(&service) {
            window.rest();
        }
    }

    /// Decides every call that still waits, as at the end of a run.
    pub fn flush(&mut self) -> Vec<Decision> {
        let mut services: Vec<_> = self.services.iter_mut().collect();
        services.sort_by_key(|(service, _)| **service);
        services.into_iter().flat_map(|(_, (_, window))| window.flush(&self.options)).collect()
    }

    /// What was not treated the ordinary way so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn make_room(&mut self, service: Service) -> Vec<Decision> {
        if self.services.len() < MAX_SERVICES || self.services.contains_key(&service) {
            return Vec::new();
        }
        let quietest = self.services.iter().min_by_key(|(_, (heard, _))| *heard);
        let Some(quietest) = quietest.map(|(service, _)| *service) else { return Vec::new() };
        self.counters.services_forgotten += 1;
        self.forget(quietest)
    }
}

#[cfg(test)]
mod tests;
