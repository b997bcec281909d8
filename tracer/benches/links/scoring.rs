//! How often decisions are right, orphaned or wrong, at every threshold, and what guessing gets.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use serde::Serialize;
use tracer::link::timing::{CallId, Confidence, Decision, Options, RequestId, Timing};

use crate::recording::{Interval, Recording};

/// Thresholds of the curve; 0 gives every call its likeliest parent.
pub(crate) const THRESHOLDS: [f64; 10] = [0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999];

/// Counts of calls by what became of them.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Score {
    pub(crate) calls: usize,
    /// Given their parent, or rightly given none.
    pub(crate) right: usize,
    /// Given no parent though there is one.
    pub(crate) orphan: usize,
    /// Given another parent, or one where there is none.
    pub(crate) wrong: usize,
    pub(crate) requests: usize,
    /// Requests that make calls and got all of them.
    pub(crate) requests_right: usize,
}

impl AddAssign for Score {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.right += other.right;
        self.orphan += other.orphan;
        self.wrong += other.wrong;
        self.requests += other.requests;
        self.requests_right += other.requests_right;
    }
}

/// Calls whose confidence lies in one range, and how many of their parents are right.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Reliability {
    pub(crate) from: f64,
    pub(crate) calls: usize,
    /// Sum of the stated confidences.
    pub(crate) stated: f64,
    pub(crate) right: usize,
}

impl Reliability {
    /// Empty ranges, each up to the next.
    pub(crate) fn bins() -> Vec<Self> {
        [0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999]
            .map(|from| Self { from, calls: 0, stated: 0.0, right: 0 })
            .to_vec()
    }
}

/// A recording's decisions and the time they took.
#[derive(Debug)]
pub(crate) struct Run {
    decisions: HashMap<CallId, Decision>,
    pub(crate) took: Duration,
}

impl Run {
    /// Lets a new model decide every call of a recording.
    pub(crate) fn of(recording: &Recording, options: Options) -> Self {
        let observations = recording.observations();
        let started = Instant::now();
        let mut model = Timing::new(options);
        let mut decisions = Vec::new();
        for observation in &observations {
            decisions.extend(model.observe(observation));
        }
        decisions.extend(model.flush());
        let took = started.elapsed();
        let decisions = decisions.into_iter().map(|decision| (decision.call, decision)).collect();
        Self { decisions, took }
    }

    /// Scores the decisions when parents are accepted at `threshold` or more.
    pub(crate) fn score(&self, recording: &Recording, threshold: f64) -> Score {
        score(recording, |call| {
            let decision = self.decisions.get(&call)?;
            decision.likeliest.filter(|_| decision.confidence >= Confidence::new(threshold))
        })
    }

    /// Sorts the decisions that name a parent into ranges of confidence.
    pub(crate) fn add_reliability(&self, recording: &Recording, bins: &mut [Reliability]) {
        for (call, truth) in recording.truth.calls() {
            let Some(decision) = self.decisions.get(&call) else { continue };
            let stated = decision.confidence.probability();
            let bin = bins.iter_mut().rfind(|bin| bin.from <= stated);
            if let Some(bin) = bin.filter(|_| decision.likeliest.is_some()) {
                bin.calls += 1;
                bin.stated += stated;
                bin.right += usize::from(decision.likeliest == truth);
            }
        }
    }
}

/// Which of the requests around a call a baseline takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Guess {
    OldestOpen,
    NewestOpen,
}

/// Scores a guess among the requests whose interval holds the call's.
pub(crate) fn baseline(recording: &Recording, guess: Guess) -> Score {
    let longest = recording.requests.iter().map(|r| r.end.nanos_since(r.start)).max().unwrap_or(0);
    score(recording, |call| {
        let call = recording.calls[call.0 as usize];
        let holds = |request: &Interval| {
            request.service == call.service
                && request.start <= call.start
                && call.end <= request.end
        };
        let to = recording.requests.partition_point(|request| request.start <= call.start);
        let from = recording
            .requests
            .partition_point(|request| request.start.0.saturating_add(longest) < call.start.0);
        let mut around = (from..to).filter(|&index| holds(&recording.requests[index]));
        let index = match guess {
            Guess::OldestOpen => around.next(),
            Guess::NewestOpen => around.next_back(),
        };
        index.map(|index| RequestId(index as u64))
    })
}

fn score(recording: &Recording, parent_of: impl Fn(CallId) -> Option<RequestId>) -> Score {
    let mut score = Score::default();
    let mut whole: HashMap<RequestId, bool> = HashMap::new();
    for (call, truth) in recording.truth.calls() {
        let given = parent_of(call);
        score.calls += 1;
        match (given, truth) {
            (given, truth) if given == truth => score.right += 1,
            (None, _) => score.orphan += 1,
            (Some(_), _) => score.wrong += 1,
        }
        if let Some(parent) = truth {
            *whole.entry(parent).or_insert(true) &= given == truth;
        }
    }
    score.requests = whole.len();
    score.requests_right = whole.values().filter(|right| **right).count();
    score
}
