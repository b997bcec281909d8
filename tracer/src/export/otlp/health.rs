//! Whether a receiver works, and the one line when that changes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::trouble::Trouble;

/// Time between two reports that the same receiver went away.
const INTERVAL: Duration = Duration::from_secs(30);
/// What says little is told only if nothing clearer shows: not of the first failures, as many as
/// there are requests under way, …
const VAGUE_FAILURES: u32 = 4;
/// … but of any after so long.
const VAGUE_TIME: Duration = Duration::from_secs(2);

/// What is known about a receiver from its answers.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the current episode of trouble began.
    since: Option<Instant>,
    /// The last attempt may succeed if it is repeated.
    down: bool,
    /// What the operator was told in this episode.
    told: Vec<Trouble>,
    last_told: Option<Instant>,
    /// Failures that say little since the last that was told.
    vague: u32,
    last_success: Option<Instant>,
}

impl Health {
    /// The receiver took a request. If the operator knows of trouble: how long it lasted.
    pub(super) fn worked(&self, now: Instant) -> Option<Duration> {
        let mut state = self.lock();
        state.last_success = Some(now);
        state.down = false;
        let since = state.since.take()?;
        let told = !std::mem::take(&mut state.told).is_empty();
        told.then(|| now.duration_since(since))
    }

    /// An attempt failed; `down` if another one may work. Returns whether to tell the operator.
    pub(super) fn failed(&self, trouble: Trouble, down: bool, now: Instant) -> bool {
        let mut state = self.lock();
        state.down = down;
        let since = *state.since.get_or_insert(now);
        if trouble.is_vague() {
            state.vague = state.vague.saturating_add(1);
            if state.vague <= VAGUE_FAILURES && now.duration_since(since) < VAGUE_TIME {
                return false;
            }
        }
        let stale = state.told.iter().any(|told| told.covers(trouble));
        if stale || trouble == Trouble::Shared {
            return false;
        }
        // A receiver that comes and goes all the time is one message in a while, but different
        // troubles of one episode are told each.
        let recently = state.last_told.is_some_and(|last| now.duration_since(last) < INTERVAL);
        if state.told.is_empty() && recently {
            return false;
        }
        state.told.push(trouble);
        state.vague = 0;
        state.last_told = Some(now);
        true
    }

    /// Whether the last attempt failed in a way that passes.
    pub(super) fn is_down(&self) -> bool {
        self.lock().down
    }

    /// The trouble may be with the request rather than with the receiver: the next other one finds
    /// out.
    pub(super) fn doubt(&self) {
        self.lock().down = false;
    }

    /// Whether it took something at or after that time.
    pub(super) fn worked_since(&self, time: Instant) -> bool {
        self.lock().last_success.is_some_and(|success| success >= time)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whatever happened to another user of the lock, the state is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_message_when_it_goes_and_one_when_it_returns() {
        let health = Health::default();
        let start = Instant::now();
        assert_eq!(health.worked(start), None);
        assert!(health.failed(Trouble::NobodyListens, true, start));
        assert!(health.is_down());
        for second in 1..100 {
            assert!(!health.failed(Trouble::NobodyListens, true, start + SECOND * second));
        }
        assert_eq!(health.worked(start + SECOND * 100), Some(SECOND * 100));
        assert!(!health.is_down());
        assert_eq!(health.worked(start + SECOND * 101), None);
    }

    #[test]
    fn another_trouble_is_news() {
        let health = Health::default();
        let now = Instant::now();
        assert!(health.failed(Trouble::NobodyListens, true, now));
        assert!(health.failed(Trouble::NotGrpc, true, now));
        assert!(!health.failed(Trouble::NobodyListens, true, now));
        assert!(health.failed(Trouble::Unauthorized, false, now));
        assert!(!health.is_down(), "it answers");
    }

    #[test]
    fn what_says_little_waits_for_something_clearer() {
        let start = Instant::now();
        let health = Health::default();
        for _ in 0..VAGUE_FAILURES {
            assert!(!health.failed(Trouble::HungUpOnGrpc, true, start));
        }
        assert!(health.failed(Trouble::NotGrpc, true, start));
        assert!(!health.failed(Trouble::HungUpOnGrpc, true, start + VAGUE_TIME));

        let health = Health::default();
        assert!(!health.failed(Trouble::HungUp, true, start));
        assert!(health.failed(Trouble::HungUp, true, start + VAGUE_TIME), "nothing clearer came");

        let health = Health::default();
        for _ in 0..VAGUE_FAILURES {
            assert!(!health.failed(Trouble::HungUp, true, start));
        }
        assert!(health.failed(Trouble::HungUp, true, start), "nor after many");
        assert!(!health.failed(Trouble::HungUp, true, start + VAGUE_TIME));

        let health = Health::default();
        health.failed(Trouble::HungUpOnGrpc, true, start);
        assert!(health.failed(Trouble::HungUpOnGrpc, true, start + VAGUE_TIME));
        assert!(!health.failed(Trouble::NotGrpc, true, start + VAGUE_TIME), "was advised already");
    }

    #[test]
    fn a_receiver_that_comes_and_goes_does_not_fill_the_log() {
        let health = Health::default();
        let start = Instant::now();
        let mut messages = 0;
        for tenth in 0..600 {
            let now = start + SECOND * tenth / 10;
            messages += u32::from(health.failed(Trouble::HungUp, true, now));
            messages += u32::from(health.worked(now).is_some());
        }
        assert_eq!(messages, 4);
    }

    #[test]
    fn success_is_remembered() {
        let health = Health::default();
        let now = Instant::now();
        assert!(!health.worked_since(now));
        health.worked(now);
        health.failed(Trouble::Busy, true, now + SECOND);
        assert!(health.worked_since(now) && !health.worked_since(now + SECOND));
    }
}
