//! A call whose parent is still open to evidence.

use super::hypothesis::{Belief, Hypothesis, NO_PARENT};
use super::observation::{CallId, RequestId};
use super::progress::Label;
use crate::event::KernelTime;

/// A parent still open does not hold up a decision if it is less probable than this.
const UNLIKELY: f64 = 1e-3;

/// A call without a decision.
#[derive(Debug)]
pub(super) struct Undecided {
    pub(super) call: CallId,
    pub(super) label: Label,
    pub(super) at: KernelTime,
    /// Its most plausible parents.
    pub(super) choices: Vec<Choice>,
    /// Requests open when it began: the first of them, and how many.
    pub(super) candidates: Vec<RequestId>,
    pub(super) candidate_count: usize,
    /// Share of the probability that the kept hypotheses stand for.
    pub(super) kept: f64,
    /// What hypotheses said of the call when they were dropped.
    pub(super) dropped: Belief<f64>,
}

/// A possible parent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) request: RequestId,
    /// Not answered yet.
    pub(super) open: bool,
}

impl Undecided {
    /// Remembers what the hypotheses say that are about to be dropped; `lost` is the probability
    /// that each of them takes away. Evidence yet to come could have raised them again, so their
    /// word stays as it is.
    pub(super) fn drop_hypotheses(&mut self, index: usize, from: &[Hypothesis], lost: &[f64]) {
        for (hypothesis, lost) in from.iter().zip(lost).filter(|(_, lost)| **lost > 0.0) {
            for (dropped, belief) in self.dropped.iter_mut().zip(hypothesis.beliefs[index]) {
                *dropped += self.kept * lost * f64::from(belief);
            }
        }
        self.kept *= (1.0 - lost.iter().sum::<f64>()).max(0.0);
    }

    /// Probability of each choice. The sum falls short of one by what candidates that were not
    /// even chosen would have got.
    pub(super) fn probabilities(&self, index: usize, hypotheses: &[Hypothesis]) -> Belief<f64> {
        let mut probabilities = self.dropped;
        for hypothesis in hypotheses {
            let weight = hypothesis.log_weight.exp() * self.kept;
            for (probability, belief) in probabilities.iter_mut().zip(hypothesis.beliefs[index]) {
                *probability += weight * f64::from(belief);
            }
        }
        probabilities
    }

    /// Whether every parent that still matters has been answered.
    pub(super) fn is_ripe(&self, probabilities: &Belief<f64>) -> bool {
        let choices = self.choices.iter().zip(probabilities);
        choices.filter(|(choice, _)| choice.open).map(|(_, p)| p).sum::<f64>() < UNLIKELY
    }

    /// The most probable parent with its probability.
    pub(super) fn likeliest(&self, probabilities: &Belief<f64>) -> Option<(RequestId, f64)> {
        let parents = self.choices.iter().zip(&probabilities[..NO_PARENT]);
        parents.map(|(choice, p)| (choice.request, *p)).reduce(|a, b| if b.1 > a.1 { b } else { a })
    }
}
