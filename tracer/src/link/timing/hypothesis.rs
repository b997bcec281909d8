//! Weighted hypotheses about who made which call.

use std::collections::HashMap;

/// Parents considered for one call.
pub(super) const MAX_CHOICES: usize = 8;
/// Index of the choice that no request made the call.
pub(super) const NO_PARENT: usize = MAX_CHOICES;

/// Probability of each choice of one call, [`NO_PARENT`] last.
pub(super) type Belief<T> = [T; MAX_CHOICES + 1];

/// One way to share all calls so far among the open requests.
#[derive(Clone, Debug)]
pub(super) struct Hypothesis {
    /// Natural logarithm of its probability.
    pub(super) log_weight: f64,
    /// For each open request, which of its tracks.
    pub(super) tracks: Vec<u32>,
    /// For each undecided call, whose it is: certain until hypotheses were merged.
    pub(super) beliefs: Vec<Belief<f32>>,
}

impl Hypothesis {
    /// The only hypothesis when nothing is open.
    pub(super) fn empty() -> Self {
        Self { log_weight: 0.0, tracks: Vec::new(), beliefs: Vec::new() }
    }

    fn absorb(&mut self, other: &Self) {
        let log_weight = log_sum([self.log_weight, other.log_weight].into_iter());
        let mine = (self.log_weight - log_weight).exp() as f32;
        let theirs = (other.log_weight - log_weight).exp() as f32;
        for (belief, other) in self.beliefs.iter_mut().zip(&other.beliefs) {
            for (belief, other) in belief.iter_mut().zip(other) {
                *belief = *belief * mine + other * theirs;
            }
        }
        self.log_weight = log_weight;
    }
}

/// Makes weights sum to one and puts the heaviest first.
pub(super) fn normalize(hypotheses: &mut [Hypothesis]) {
    let total = log_sum(hypotheses.iter().map(|hypothesis| hypothesis.log_weight));
    for hypothesis in hypotheses.iter_mut() {
        hypothesis.log_weight -= total;
    }
    hypotheses.sort_by(|a, b| b.log_weight.total_cmp(&a.log_weight));
}

/// Joins hypotheses that agree on every open request: their futures are the same.
pub(super) fn merge(hypotheses: &mut Vec<Hypothesis>) {
    let mut merged: HashMap<Vec<u32>, usize> = HashMap::with_capacity(hypotheses.len());
    let mut distinct: Vec<Hypothesis> = Vec::with_capacity(hypotheses.len());
    for hypothesis in hypotheses.drain(..) {
        if let Some(&index) = merged.get(&hypothesis.tracks) {
            distinct[index].absorb(&hypothesis);
        } else {
            merged.insert(hypothesis.tracks.clone(), distinct.len());
            distinct.push(hypothesis);
        }
    }
    *hypotheses = distinct;
    normalize(hypotheses);
}

/// Logarithm of the sum of what the terms are logarithms of.
pub(super) fn log_sum(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if !largest.is_finite() {
        return largest;
    }
    largest + terms.map(|term| (term - largest).exp()).sum::<f64>().ln()
}
