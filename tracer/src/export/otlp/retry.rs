//! How long to wait before the next attempt, and when to stop. Without a clock or randomness.

use std::time::Duration;

use tokio::time::Instant;

/// Exponential backoff with jitter, or what the receiver asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Mean delay after the first failure.
    pub initial: Duration,
    /// Growth of the mean from one failure to the next.
    pub multiplier: f64,
    /// Limit of the mean.
    pub max: Duration,
    /// No attempt starts later than so long after the first one; `Duration::MAX` for no limit.
    pub give_up_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(5),
            multiplier: 1.5,
            max: Duration::from_secs(30),
            give_up_after: Duration::from_mins(5),
        }
    }
}

/// Delays lie within this share of the mean, so that agents do not retry in step.
const JITTER: f64 = 0.5;

/// A receiver that asks for more is taken to err.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// The retries of one request.
#[derive(Debug)]
pub(super) struct Backoff {
    policy: RetryPolicy,
    mean: Duration,
    started: Instant,
}

impl Backoff {
    pub(super) fn new(policy: RetryPolicy, now: Instant) -> Self {
        Self { policy, mean: policy.initial.min(policy.max), started: now }
    }

    /// The delay before the next attempt; `None` to give up.
    ///
    /// `asked` is the receiver's wish, which is never undercut; `random` is uniform in `0..1`.
    pub(super) fn next_delay(
        &mut self,
        asked: Option<Duration>,
        now: Instant,
        random: f64,
    ) -> Option<Duration> {
        let jittered = self.mean.mul_f64(1.0 - JITTER + 2.0 * JITTER * random);
        self.mean = self.mean.mul_f64(self.policy.multiplier.max(1.0)).min(self.policy.max);
        let delay = asked.map_or(jittered, |asked| asked.min(LONGEST_PAUSE));
        match self.started.checked_add(self.policy.give_up_after) {
            Some(latest) => (now + delay <= latest).then_some(delay),
            None => Some(delay),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_mean_grows_to_its_limit() {
        let now = Instant::now();
        let mut backoff = Backoff::new(RetryPolicy::default(), now);
        let delays: Vec<_> =
            (0..7).map(|_| backoff.next_delay(None, now, 0.5).unwrap().as_secs_f64()).collect();
        assert_eq!(delays, [5.0, 7.5, 11.25, 16.875, 25.3125, 30.0, 30.0]);
    }

    #[test]
    fn jitter_spreads_half_the_mean_both_ways() {
        let now = Instant::now();
        let delay =
            |random| Backoff::new(RetryPolicy::default(), now).next_delay(None, now, random);
        assert_eq!(delay(0.0), Some(SECOND * 5 / 2));
        assert_eq!(delay(1.0), Some(SECOND * 15 / 2));
    }

    #[test]
    fn the_receivers_wish_counts_and_time_runs_out() {
        let start = Instant::now();
        let mut backoff = Backoff::new(RetryPolicy::default(), start);
        assert_eq!(backoff.next_delay(Some(SECOND * 60), start, 0.0), Some(SECOND * 60));
        assert_eq!(backoff.next_delay(Some(Duration::ZERO), start, 0.9), Some(Duration::ZERO));
        assert_eq!(backoff.next_delay(Some(SECOND * 301), start, 0.0), None);
        let late = start + SECOND * 299;
        assert_eq!(backoff.next_delay(Some(SECOND), late, 0.0), Some(SECOND));
        assert_eq!(backoff.next_delay(None, late, 0.0), None);
        assert_eq!(backoff.next_delay(Some(Duration::MAX), start, 0.0), None);
    }

    #[test]
    fn without_a_limit_no_pause_lasts_for_ever() {
        let policy = RetryPolicy { give_up_after: Duration::MAX, ..RetryPolicy::default() };
        let start = Instant::now();
        let mut backoff = Backoff::new(policy, start);
        let delay = backoff.next_delay(Some(Duration::MAX), start + SECOND * 1_000_000, 0.0);
        assert_eq!(delay, Some(LONGEST_PAUSE));
    }
}
