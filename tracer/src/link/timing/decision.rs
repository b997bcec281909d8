//! What the model says about one call, and how sure it is.

use super::Options;
use super::habits::Habits;
use super::observation::{CallId, RequestId};
use super::undecided::Undecided;

/// Constant, factor of the raw log odds, factor of the doubt's logarithm. The constant lies 0.4
/// below the fitted one, so that errors of the fit fall on the side of caution.
const CALIBRATION: (f64, f64, f64) = (-2.2, 0.55, -0.78);
/// No confidence is stated beyond what the simulations can bear out.
const MOST_CERTAIN: f64 = 0.9995;

/// Probability that a statement is right, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Confidence(f64);

impl Confidence {
    /// Clamps to the range; not-a-number becomes 0.
    pub fn new(probability: f64) -> Self {
        Self(if probability.is_nan() { 0.0 } else { probability.clamp(0.0, 1.0) })
    }

    /// As a number from 0 to 1.
    pub fn probability(self) -> f64 {
        self.0
    }
}

/// The parent of one call, as far as it can be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The call.
    pub call: CallId,
    /// The most probable parent, accepted or not.
    pub likeliest: Option<RequestId>,
    /// How probable it is.
    pub confidence: Confidence,
    /// How many requests were open when the call began.
    pub candidate_count: usize,
    accepted: bool,
    /// The first of them.
    candidates: Vec<RequestId>,
}

impl Decision {
    pub(super) fn without_candidates(call: CallId) -> Self {
        Self {
            call,
            likeliest: None,
            confidence: Confidence(0.0),
            candidate_count: 0,
            accepted: false,
            candidates: Vec::new(),
        }
    }

    /// `likeliest` comes with its uncalibrated probability; `habits` are the service's.
    pub(super) fn new(
        call: Undecided,
        likeliest: Option<(RequestId, f64)>,
        habits: &Habits,
        options: &Options,
    ) -> Self {
        let confidence = likeliest.map_or(Confidence(0.0), |(_, p)| calibrate(p, habits.doubt()));
        Self {
            call: call.call,
            likeliest: likeliest.map(|(request, _)| request),
            confidence,
            candidate_count: call.candidate_count,
            accepted: likeliest.is_some() && confidence >= options.threshold && habits.is_regular(),
            candidates: call.candidates,
        }
    }

    /// The parent, if the confidence reaches the threshold and the service is regular enough.
    pub fn parent(&self) -> Option<RequestId> {
        self.likeliest.filter(|_| self.accepted)
    }

    /// The one trace that all candidates belong to, if there is exactly one: what to link a call
    /// to that got no parent. `trace_of` tells a request's trace.
    pub fn sole_trace<T: PartialEq>(&self, trace_of: impl Fn(RequestId) -> Option<T>) -> Option<T> {
        if self.candidates.len() < self.candidate_count {
            return None;
        }
        let mut traces = self.candidates.iter().map(|&request| trace_of(request));
        let first = traces.next()??;
        traces.all(|trace| trace.as_ref() == Some(&first)).then_some(first)
    }
}

/// The probability that a parent of this raw probability proves right.
///
/// Fitted by logistic regression on simulated services (`benches/links/simulation.rs`): dropped
/// hypotheses and imperfect learning make raw probabilities too extreme, the more so the more
/// ambiguous the service's recent calls were.
fn calibrate(raw: f64, doubt: f64) -> Confidence {
    let raw = raw.clamp(1e-7, 1.0 - 1e-6);
    let log_odds = CALIBRATION.0
        + CALIBRATION.1 * (raw / (1.0 - raw)).ln()
        + CALIBRATION.2 * doubt.clamp(1e-4, 1.0).ln();
    Confidence::new((1.0 / (1.0 + (-log_odds).exp())).min(MOST_CERTAIN))
}
