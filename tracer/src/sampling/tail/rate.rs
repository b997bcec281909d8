//! A limit on how much is kept in a second, as the part of what comes that fits it.
//!
//! No bucket of tokens: who finds it empty would be left out without a known probability, and
//! counts could not be told from what is kept. The limit holds on average, not in each second.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::KernelTime;
use crate::sampling::threshold::Threshold;

/// How long the past counts, in nanoseconds; what a quiet time leaves for a burst.
const WINDOW: f64 = 2e9;

/// A limit and what came lately.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many in a second.
    pub limit: f64,
    /// Of what.
    pub unit: RateUnit,
    #[serde(skip)]
    lately: f64,
    #[serde(skip)]
    last: KernelTime,
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateUnit {
    /// Traces, as far as this node sees them.
    Traces,
    /// Spans.
    Spans,
}

impl Rate {
    /// So many in a second.
    pub fn new(limit: f64, unit: RateUnit) -> Self {
        Self { limit, unit, lately: 0.0, last: KernelTime::default() }
    }

    /// The threshold for a trace of so many spans that comes now.
    pub(super) fn threshold(&mut self, spans: usize, now: KernelTime) -> Threshold {
        let passed = now.0.saturating_sub(self.last.0) as f64;
        self.last = now.max(self.last);
        self.lately = self.lately * (-passed / WINDOW).exp()
            + match self.unit {
                RateUnit::Traces => 1.0,
                RateUnit::Spans => spans as f64,
            };
        let rate = self.lately / (WINDOW / 1e9);
        Threshold::from_probability(self.limit / rate)
    }
}

impl fmt::Display for RateUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Traces => "traces",
            Self::Spans => "spans",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many traces of `spans` are kept in expectation, of so many a second for so long.
    fn kept(rate: &mut Rate, spans: usize, a_second: u64, from: u64, seconds: u64) -> f64 {
        let pause = 1_000_000_000 / a_second;
        (0..a_second * seconds)
            .map(|n| rate.threshold(spans, KernelTime(from + n * pause)).probability())
            .sum()
    }

    #[test]
    fn what_stays_below_the_limit_is_kept_whole() {
        let mut rate = Rate::new(100.0, RateUnit::Traces);
        assert!((kept(&mut rate, 7, 90, 0, 20) - 1_800.0).abs() < 1e-6);
    }

    #[test]
    fn more_is_cut_down_to_the_limit_after_a_burst() {
        for (unit, spans, expected) in [(RateUnit::Traces, 4, 100.0), (RateUnit::Spans, 4, 25.0)] {
            let mut rate = Rate::new(100.0, unit);
            let burst = kept(&mut rate, spans, 1_000, 0, 10);
            assert!(burst < 20.0 * expected, "{unit}: {burst}");
            let steady = kept(&mut rate, spans, 1_000, 10_000_000_000, 10) / 10.0;
            assert!((steady / expected - 1.0).abs() < 0.02, "{unit}: {steady}");
            let faster = kept(&mut rate, spans, 10_000, 20_000_000_000, 10) / 10.0;
            assert!((0.9..1.5).contains(&(faster / expected)), "{unit}: {faster}");
        }
    }

    #[test]
    fn nothing_is_kept_at_a_limit_of_nothing() {
        let mut rate = Rate::new(0.0, RateUnit::Spans);
        assert_eq!(rate.threshold(1, KernelTime(1)), Threshold::NEVER);
    }
}
