//! Observations of services together with the truth about their calls, kept apart: the model gets
//! the one, the scorer the other.

use std::cmp::Reverse;
use std::collections::HashMap;

use tracer::event::KernelTime;
use tracer::link::timing::{CallId, Evidence, Moment, Observation, Operation, RequestId, Service};

/// What an agent can see of one request or call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interval {
    pub(crate) service: Service,
    pub(crate) operation: Operation,
    pub(crate) start: KernelTime,
    pub(crate) end: KernelTime,
}

/// Which request made each call; `None` for a call that no request made.
#[derive(Debug, Default)]
pub(crate) struct Truth(HashMap<CallId, Option<RequestId>>);

impl Truth {
    pub(crate) fn calls(&self) -> impl Iterator<Item = (CallId, Option<RequestId>)> + '_ {
        self.0.iter().map(|(call, parent)| (*call, *parent))
    }
}

/// Everything seen, in order of start, with ids that say nothing but that order.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) name: String,
    pub(crate) requests: Vec<Interval>,
    pub(crate) calls: Vec<Interval>,
    pub(crate) truth: Truth,
}

impl Recording {
    /// `calls` carry the index of their true parent in `requests`.
    pub(crate) fn new(
        name: String,
        requests: &[Interval],
        mut calls: Vec<(Interval, Option<usize>)>,
    ) -> Self {
        let order = |interval: &Interval| {
            (interval.start, interval.service, interval.operation, Reverse(interval.end))
        };
        let mut by_start: Vec<usize> = (0..requests.len()).collect();
        by_start.sort_by_key(|&index| order(&requests[index]));
        let mut renamed = vec![0; requests.len()];
        for (new, &old) in by_start.iter().enumerate() {
            renamed[old] = new as u64;
        }
        let requests = by_start.into_iter().map(|index| requests[index]).collect();
        calls.sort_by_key(|(interval, _)| order(interval));
        let truth = calls
            .iter()
            .enumerate()
            .map(|(id, (_, parent))| {
                (CallId(id as u64), parent.map(|parent| RequestId(renamed[parent])))
            })
            .collect();
        let calls = calls.into_iter().map(|(interval, _)| interval).collect();
        Self { name, requests, calls, truth: Truth(truth) }
    }

    /// Every moment in the order it happened. Of moments with equal stamps those come first that
    /// can cause the others.
    pub(crate) fn observations(&self) -> Vec<Observation> {
        let mut moments = Vec::with_capacity(2 * (self.requests.len() + self.calls.len()));
        for (id, request) in self.requests.iter().enumerate() {
            let id = RequestId(id as u64);
            let Interval { service, operation, start, end } = *request;
            let arrived = Moment::Arrived { request: id, operation };
            moments.push((1, Observation { service, at: start, moment: arrived }));
            let answered = Moment::Answered { request: id };
            moments.push((4, Observation { service, at: end, moment: answered }));
        }
        for (id, call) in self.calls.iter().enumerate() {
            let id = CallId(id as u64);
            let Interval { service, operation, start, end } = *call;
            let called = Moment::Called { call: id, operation, evidence: Evidence::Nothing };
            moments.push((2, Observation { service, at: start, moment: called }));
            let rank = if end > start { 0 } else { 3 };
            let returned = Moment::Returned { call: id };
            moments.push((rank, Observation { service, at: end, moment: returned }));
        }
        moments.sort_by_key(|(rank, observation)| (observation.at, *rank));
        moments.into_iter().map(|(_, observation)| observation).collect()
    }
}
