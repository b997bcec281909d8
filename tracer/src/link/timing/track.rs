//! One open request, and the distinct sets of calls that hypotheses give it.

use super::behaviour::Behaviour;
use super::observation::{CallId, RequestId};
use super::progress::{Action, Label, Progress};
use crate::event::KernelTime;

/// Calls one request can hold; it is no candidate for more.
pub(super) const MAX_CALLS: usize = 256;

/// An inbound request that is not answered yet.
#[derive(Debug)]
pub(super) struct OpenRequest {
    pub(super) id: RequestId,
    /// Index of its behaviour.
    pub(super) behaviour: usize,
    pub(super) arrived: KernelTime,
    /// Referred to by index from the hypotheses.
    pub(super) tracks: Vec<Track>,
}

/// One request under one assumption about its calls.
#[derive(Clone, Debug)]
pub(super) struct Track {
    progress: Progress,
    calls: usize,
    /// In order; what the request teaches once it is answered.
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Called(CallId, Label, KernelTime),
    Returned(CallId, KernelTime),
}

impl OpenRequest {
    pub(super) fn new(id: RequestId, behaviour: usize, arrived: KernelTime) -> Self {
        let progress = Progress::arrived(arrived);
        let track = Track { progress, calls: 0, steps: Vec::new() };
        Self { id, behaviour, arrived, tracks: vec![track] }
    }
}

impl Track {
    /// Log density of the request making this call now.
    pub(super) fn log_call(&self, behaviour: &Behaviour, label: Label, at: KernelTime) -> f64 {
        if self.is_full() {
            return f64::NEG_INFINITY;
        }
        self.log_act(behaviour, Action::Call(label), at)
    }

    /// Log density of the request being answered now.
    pub(super) fn log_answer(&self, behaviour: &Behaviour, at: KernelTime) -> f64 {
        self.log_act(behaviour, Action::Answer, at)
            + behaviour.log_outlast(self.progress.open_calls())
    }

    /// Log probability of the request waiting for this call, if the call is its own.
    pub(super) fn log_return(&self, behaviour: &Behaviour, call: CallId) -> f64 {
        if self.progress.has_open(call) {
            behaviour.log_action(&self.progress, Action::Wait)
        } else {
            0.0
        }
    }

    /// Log probability of the request not having acted since its last moment.
    pub(super) fn log_patience(&self, behaviour: &Behaviour, now: KernelTime) -> f64 {
        behaviour.log_patience(&self.progress, now)
    }

    pub(super) fn is_full(&self) -> bool {
        self.calls >= MAX_CALLS
    }

    pub(super) fn called(&mut self, call: CallId, label: Label, at: KernelTime) {
        self.progress.called(call, label, at);
        self.steps.push(Step::Called(call, label, at));
        self.calls += 1;
    }

    /// Does nothing if the call is not the request's own.
    pub(super) fn returned(&mut self, call: CallId, at: KernelTime) {
        if self.progress.has_open(call) {
            self.progress.returned(call, at);
            self.steps.push(Step::Returned(call, at));
        }
    }

    /// Teaches the behaviour everything this request did, counted `weight` times.
    pub(super) fn teach(
        &self,
        behaviour: &mut Behaviour,
        arrived: KernelTime,
        answered: KernelTime,
        labels: usize,
        weight: f32,
    ) {
        let mut progress = Progress::arrived(arrived);
        for step in &self.steps {
            match *step {
                Step::Called(call, label, at) => {
                    behaviour.learn(&progress, Action::Call(label), at, weight);
                    progress.called(call, label, at);
                }
                Step::Returned(call, at) => {
                    behaviour.learn(&progress, Action::Wait, at, weight);
                    progress.returned(call, at);
                }
            }
        }
        behaviour.learn(&progress, Action::Answer, answered, weight);
        behaviour.learn_whole(&progress, labels, weight);
    }

    fn log_act(&self, behaviour: &Behaviour, action: Action, at: KernelTime) -> f64 {
        behaviour.log_action(&self.progress, action)
            + behaviour.log_delay(&self.progress, action, at)
    }
}
