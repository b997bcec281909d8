//! What was learned of one service: how its requests behave, and what it does unasked.

use std::collections::HashMap;

use super::behaviour::Behaviour;
use super::observation::Operation;
use super::progress::{Label, MAX_LABELS};
use crate::event::KernelTime;

/// Inbound operations of one service that are told apart; further ones share one behaviour.
pub(super) const MAX_OPERATIONS: usize = 128;
/// Calls without any request: how many, in how much time, before anything is known.
const UNASKED_CALLS: f64 = 0.01;
const UNASKED_MICROS: f64 = 1e6;
/// A silence counts as no longer than this towards the time observed.
const MAX_SILENCE_NANOS: u64 = 10_000_000_000;
/// How many recent calls the doubt remembers, and where it starts.
const DOUBT_RATE: f64 = 0.01;
const FIRST_DOUBT: f64 = 0.05;
/// Calls from which on a service counts as known.
const PROBATION: u32 = 100;
/// The doubt above which no decision is accepted: where most calls are ambiguous, those few that
/// look clear are the model's mistakes more often than not.
const TOO_MUCH_DOUBT: f64 = 0.05;
/// Calls and doubt from which on it is not expected to get better.
const PATIENCE: u32 = 2_000;
const HOPELESS_DOUBT: f64 = 0.25;

/// Learned state of one service; survives all of its requests.
#[derive(Debug)]
pub(super) struct Habits {
    labels: HashMap<Operation, Label>,
    operations: HashMap<Operation, usize>,
    behaviours: Vec<Behaviour>,
    /// Calls that no request made, by label.
    unasked: Vec<f64>,
    observed_micros: f64,
    doubt: f64,
    /// Calls decided, or known without.
    calls: u32,
}

impl Habits {
    pub(super) fn new() -> Self {
        Self {
            labels: HashMap::new(),
            operations: HashMap::new(),
            behaviours: Vec::new(),
            unasked: Vec::new(),
            observed_micros: 0.0,
            doubt: FIRST_DOUBT,
            calls: 0,
        }
    }

    /// Counts time in which unasked calls could have happened.
    pub(super) fn observe_time(&mut self, from: KernelTime, to: KernelTime) {
        let nanos = to.nanos_since(from).min(MAX_SILENCE_NANOS);
        self.observed_micros += nanos as f64 / 1_000.0;
    }

    /// Outbound operations known so far.
    pub(super) fn labels(&self) -> usize {
        self.labels.len()
    }

    pub(super) fn label_of(&mut self, operation: Operation) -> Label {
        if let Some(&label) = self.labels.get(&operation) {
            return label;
        }
        if self.labels.len() >= MAX_LABELS {
            return Label((MAX_LABELS - 1) as u8);
        }
        let label = Label(self.labels.len() as u8);
        self.labels.insert(operation, label);
        self.unasked.push(0.0);
        label
    }

    /// Index of an inbound operation's behaviour.
    pub(super) fn behaviour_of(&mut self, operation: Operation) -> usize {
        if let Some(&index) = self.operations.get(&operation) {
            return index;
        }
        if self.behaviours.len() >= MAX_OPERATIONS {
            return MAX_OPERATIONS - 1;
        }
        self.behaviours.push(Behaviour::default());
        self.operations.insert(operation, self.behaviours.len() - 1);
        self.behaviours.len() - 1
    }

    pub(super) fn behaviour(&self, index: usize) -> &Behaviour {
        &self.behaviours[index]
    }

    pub(super) fn behaviour_mut(&mut self, index: usize) -> &mut Behaviour {
        &mut self.behaviours[index]
    }

    /// Takes note of a call that no request made, counted `weight` times.
    pub(super) fn learn_unasked(&mut self, label: Label, weight: f64) {
        self.unasked[usize::from(label.0)] += weight;
    }

    /// Log density, per microsecond, of a call that no request makes.
    pub(super) fn log_unasked(&self, label: Label) -> f64 {
        let calls = self.unasked[usize::from(label.0)] + UNASKED_CALLS;
        (calls / (self.observed_micros + UNASKED_MICROS)).ln()
    }

    /// How unsure the recent decisions were, from 0 to 1: where many calls are ambiguous, even
    /// those that look clear are less so.
    pub(super) fn doubt(&self) -> f64 {
        self.doubt
    }

    /// Whether the service behaves regularly enough for its decisions to be accepted at all.
    pub(super) fn is_regular(&self) -> bool {
        self.calls >= PROBATION && self.doubt <= TOO_MUCH_DOUBT
    }

    /// Whether so many decisions were so unsure that more would be a waste.
    pub(super) fn is_hopeless(&self) -> bool {
        self.calls >= PATIENCE && self.doubt >= HOPELESS_DOUBT
    }

    /// Takes note of a call, whoever decided it.
    pub(super) fn count_call(&mut self) {
        self.calls = self.calls.saturating_add(1);
    }

    /// Takes note of a decision.
    pub(super) fn learn_doubt(&mut self, probability: f64) {
        self.count_call();
        self.doubt += DOUBT_RATE * (1.0 - probability - self.doubt);
    }
}
