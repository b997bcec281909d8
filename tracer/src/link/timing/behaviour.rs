//! What requests of one operation usually do: which calls, how many, in which order, how soon.
//!
//! A request is seen as a chain of actions. Given how far it has come, the next action is drawn
//! from what followed the same state before, thinned out to coarser views of the state where it
//! is new; the delay of that action is drawn from the distributions of delays since each earlier
//! moment, each trusted by how well it predicted this action so far. So the call graph is never
//! written down: a sequential call is predicted sharply by the return before it, a parallel one by
//! its siblings' start, and requests that lack a usual call are improbable to be answered.

use std::hash::Hash;

use rustc_hash::FxHashMap;

use super::gaps::Gaps;
use super::progress::{Action, Anchor, Label, Progress, StateKey};
use crate::event::KernelTime;

/// States whose next actions are remembered, per inbound operation.
const MAX_STATES: usize = 1_024;
/// Pairs of action and earlier moment whose delays are remembered, per inbound operation.
const MAX_DELAYS: usize = 1_024;
/// Weight at which counts are halved, so that the last few hundred requests decide.
const MEMORY: f32 = 1_000.0;
/// What was seen less than this is forgotten when there is too much.
const RARE: f32 = 2.0;
/// Samples' worth of trust in the coarser view of a state.
const STATE_TRUST: f64 = 2.0;
const LATEST_TRUST: f64 = 2.0;
/// How often a call is repeated is told apart up to this many times.
const MAX_REPEATS: usize = 4;
/// How strongly the better predictor of a delay is preferred to a worse one.
const PREFERENCE: f64 = 4.0;
/// Samples at which a predictor of delays is half trusted.
const PREDICTOR_TRUST: f64 = 3.0;
/// Weight of the delay being anything at all, beside the learned predictors.
const UNLEARNED: f64 = 0.02;
/// Chance that a call outlasts the request which made it, before anything is known, and the
/// samples' worth of trust in it.
const OUTLAST: f64 = 0.002;
const OUTLAST_TRUST: f64 = 20.0;

/// Learned habits of one inbound operation of one service.
#[derive(Debug, Default)]
pub(super) struct Behaviour {
    /// Next actions by full state: calls made, calls open, what happened last.
    by_state: FxHashMap<StateKey, Tally>,
    /// Next actions by what happened last alone.
    by_latest: FxHashMap<(Anchor, bool), Tally>,
    repeats: Vec<Repeats>,
    delays: FxHashMap<(Action, Anchor), Delay>,
    calls: f64,
    outlasting: f64,
}

/// How often each action followed.
#[derive(Debug, Default)]
struct Tally {
    total: f32,
    actions: Vec<(Action, f32)>,
    /// Delay of the next action since the last moment.
    silence: Gaps,
}

/// Of the requests that made a call `n` times, how many made it again.
#[derive(Clone, Copy, Debug, Default)]
struct Repeats {
    reached: [f32; MAX_REPEATS],
    repeated: [f32; MAX_REPEATS],
}

/// The delays of one action since one earlier moment, and how well they predict it.
#[derive(Debug, Default)]
struct Delay {
    gaps: Gaps,
    samples: f64,
    /// Mean log density of new samples, recent ones weighted more.
    fit: f64,
}

impl Behaviour {
    /// Log probability that a request in this state does `action` next.
    pub(super) fn log_action(&self, progress: &Progress, action: Action) -> f64 {
        let coarse = self.coarse(progress, action);
        let probability = match self.by_state.get(&progress.state()) {
            Some(tally) => tally.blend(action, coarse, STATE_TRUST),
            None => coarse,
        };
        probability.max(f64::MIN_POSITIVE).ln()
    }

    /// Log density, per microsecond, of doing `action` at this time.
    pub(super) fn log_delay(&self, progress: &Progress, action: Action, at: KernelTime) -> f64 {
        let predictors = || {
            progress.anchors().filter_map(|(anchor, since)| {
                self.delays.get(&(action, anchor)).map(|delay| (delay, at.nanos_since(since)))
            })
        };
        let best_fit = predictors().map(|(delay, _)| delay.fit).fold(f64::NEG_INFINITY, f64::max);
        let unlearned = Gaps::default().log_density(at.nanos_since(progress.latest_at()));
        let mut weights = UNLEARNED;
        let mut density = UNLEARNED * unlearned.exp();
        for (delay, nanos) in predictors() {
            let trust = delay.samples / (delay.samples + PREDICTOR_TRUST);
            let weight = trust * (PREFERENCE * (delay.fit - best_fit)).exp();
            weights += weight;
            density += weight * delay.gaps.log_density(nanos).exp();
        }
        (density / weights).max(f64::MIN_POSITIVE).ln()
    }

    /// Log probability that a request in this state has not acted by now.
    pub(super) fn log_patience(&self, progress: &Progress, now: KernelTime) -> f64 {
        let Some(tally) = self.by_state.get(&progress.state()) else { return 0.0 };
        let wait = tally.blend(Action::Wait, 0.0, STATE_TRUST);
        let silence = tally.silence.survival(now.nanos_since(progress.latest_at()));
        (wait + (1.0 - wait) * silence).ln()
    }

    /// Log probability that `open` calls are still open when their request is answered.
    pub(super) fn log_outlast(&self, open: usize) -> f64 {
        let chance = (self.outlasting + OUTLAST * OUTLAST_TRUST) / (self.calls + OUTLAST_TRUST);
        open as f64 * chance.ln()
    }

    /// Takes note of what a request in this state did next, and when.
    pub(super) fn learn(
        &mut self,
        progress: &Progress,
        action: Action,
        at: KernelTime,
        weight: f32,
    ) {
        let waiting = progress.open_calls() > 0;
        self.by_latest.entry((progress.latest(), waiting)).or_default().learn(action, weight);
        if let Some(tally) = room(&mut self.by_state, progress.state(), MAX_STATES, |t| t.total) {
            tally.learn(action, weight);
            if action != Action::Wait {
                tally.silence.learn(at.nanos_since(progress.latest_at()), weight);
            }
        }
        if action == Action::Wait {
            return;
        }
        for (anchor, since) in progress.anchors() {
            let key = (action, anchor);
            if let Some(delay) = room(&mut self.delays, key, MAX_DELAYS, |d| d.samples as f32) {
                delay.learn(at.nanos_since(since), weight);
            }
        }
    }

    /// Takes note of everything an answered request called.
    pub(super) fn learn_whole(&mut self, progress: &Progress, labels: usize, weight: f32) {
        self.repeats.resize(self.repeats.len().max(labels), Repeats::default());
        for (index, repeats) in self.repeats.iter_mut().enumerate() {
            repeats.learn(progress.count(Label(index as u8)), weight);
        }
        let calls: f64 = progress.tallies().map(|(_, count, _)| f64::from(count)).sum();
        self.calls += f64::from(weight) * calls;
        self.outlasting += f64::from(weight) * progress.open_calls() as f64;
        if self.calls > f64::from(MEMORY) {
            self.calls *= 0.5;
            self.outlasting *= 0.5;
        }
    }

    /// Probability of an action where the full state is new: what usually follows the last
    /// moment, times whether this request still lacks that call.
    fn coarse(&self, progress: &Progress, action: Action) -> f64 {
        let uniform = 1.0 / (self.repeats.len() + 2) as f64;
        let tally = self.by_latest.get(&(progress.latest(), progress.open_calls() > 0));
        let after_latest = |action| match tally {
            Some(tally) => tally.blend(action, uniform, LATEST_TRUST),
            None => uniform,
        };
        let wait = if progress.open_calls() > 0 { after_latest(Action::Wait) } else { 0.0 };
        if action == Action::Wait {
            return wait;
        }
        let (mut wanted, mut sum, mut complete) = (0.0, 0.0, 1.0);
        for index in 0..self.repeats.len().max(1) {
            let label = Label(index as u8);
            let again = self.repeats.get(index).map_or(0.3, |r| r.again(progress.count(label)));
            complete *= 1.0 - again;
            let weight = again * after_latest(Action::Call(label));
            sum += weight;
            if action == Action::Call(label) {
                wanted = weight;
            }
        }
        let answer = complete * after_latest(Action::Answer);
        sum += answer;
        match action {
            Action::Answer => wanted = answer,
            Action::Call(Label(index)) if usize::from(index) >= self.repeats.len().max(1) => {
                wanted = 0.3 * uniform;
                sum += wanted;
            }
            _ => {}
        }
        (1.0 - wait) * wanted / sum.max(f64::MIN_POSITIVE)
    }
}

/// The entry of a key, which is made if there is room or rare entries can be forgotten for it.
fn room<K: Copy + Eq + Hash, V: Default>(
    map: &mut FxHashMap<K, V>,
    key: K,
    most: usize,
    seen: impl Fn(&V) -> f32,
) -> Option<&mut V> {
    if map.len() >= most && !map.contains_key(&key) {
        map.retain(|_, value| seen(value) >= RARE);
        if map.len() >= most {
            return None;
        }
    }
    Some(map.entry(key).or_default())
}

impl Tally {
    fn learn(&mut self, action: Action, weight: f32) {
        match self.actions.iter_mut().find(|(known, _)| *known == action) {
            Some((_, count)) => *count += weight,
            None => self.actions.push((action, weight)),
        }
        self.total += weight;
        if self.total > MEMORY {
            self.total *= 0.5;
            self.actions.iter_mut().for_each(|(_, count)| *count *= 0.5);
        }
    }

    fn blend(&self, action: Action, fallback: f64, trust: f64) -> f64 {
        let count =
            self.actions.iter().find(|(known, _)| *known == action).map_or(0.0, |&(_, c)| c);
        (f64::from(count) + trust * fallback) / (f64::from(self.total) + trust)
    }
}

impl Repeats {
    fn learn(&mut self, count: usize, weight: f32) {
        for made in 0..=count {
            let index = made.min(MAX_REPEATS - 1);
            self.reached[index] += weight;
            if made < count {
                self.repeated[index] += weight;
            }
        }
        if self.reached[0] > MEMORY {
            self.reached.iter_mut().for_each(|count| *count *= 0.5);
            self.repeated.iter_mut().for_each(|count| *count *= 0.5);
        }
    }

    /// Chance of another call after `made` of them.
    fn again(&self, made: usize) -> f64 {
        let index = made.min(MAX_REPEATS - 1);
        let prior = if made == 0 { 0.3 } else { 0.1 };
        (f64::from(self.repeated[index]) + prior) / (f64::from(self.reached[index]) + 1.0)
    }
}

impl Delay {
    fn learn(&mut self, nanos: u64, weight: f32) {
        let density = self.gaps.log_density(nanos);
        self.samples += f64::from(weight);
        let rate = (f64::from(weight) / (self.samples + 1.0)).max(0.01 * f64::from(weight));
        self.fit += rate * (density - self.fit);
        self.gaps.learn(nanos, weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::timing::observation::CallId;
    use crate::link::timing::progress::MAX_LABELS;

    const A: Label = Label(0);
    const B: Label = Label(1);

    fn micros(micros: u64) -> KernelTime {
        KernelTime(micros * 1_000)
    }

    /// A request that calls A, waits for it, calls B, waits, and is answered.
    fn sequential() -> Behaviour {
        let mut behaviour = Behaviour::default();
        for lesson in 0..50 {
            let jitter = lesson % 7;
            let mut progress = Progress::arrived(micros(0));
            behaviour.learn(&progress, Action::Call(A), micros(100 + jitter), 1.0);
            progress.called(CallId(1), A, micros(100 + jitter));
            behaviour.learn(&progress, Action::Wait, micros(1_000 * (1 + jitter)), 1.0);
            progress.returned(CallId(1), micros(1_000 * (1 + jitter)));
            behaviour.learn(&progress, Action::Call(B), micros(1_000 * (1 + jitter) + 50), 1.0);
            progress.called(CallId(2), B, micros(1_000 * (1 + jitter) + 50));
            behaviour.learn(&progress, Action::Wait, micros(9_000), 1.0);
            progress.returned(CallId(2), micros(9_000));
            behaviour.learn(&progress, Action::Answer, micros(9_100), 1.0);
            behaviour.learn_whole(&progress, 2, 1.0);
        }
        behaviour
    }

    fn after_a() -> Progress {
        let mut progress = Progress::arrived(micros(0));
        progress.called(CallId(1), A, micros(100));
        progress.returned(CallId(1), micros(5_000));
        progress
    }

    #[test]
    fn a_missing_call_makes_the_answer_unlikely_and_a_second_one_is_no_better() {
        let behaviour = sequential();
        let progress = after_a();
        let next = behaviour.log_action(&progress, Action::Call(B));
        assert!(next > -0.2, "{next}");
        assert!(behaviour.log_action(&progress, Action::Answer) < next - 3.0);
        assert!(behaviour.log_action(&progress, Action::Call(A)) < next - 3.0);
    }

    #[test]
    fn a_sequential_call_is_timed_from_the_return_before_it() {
        let behaviour = sequential();
        let progress = after_a();
        let soon = behaviour.log_delay(&progress, Action::Call(B), micros(5_050));
        assert!(soon > behaviour.log_delay(&progress, Action::Call(B), micros(6_500)) + 3.0);
    }

    #[test]
    fn patience_runs_out() {
        let behaviour = sequential();
        let progress = after_a();
        assert!(behaviour.log_patience(&progress, micros(5_010)) > -0.2);
        assert!(behaviour.log_patience(&progress, micros(50_000)) < -2.0);
    }

    #[test]
    fn a_state_never_seen_is_judged_by_what_is_still_lacking() {
        let behaviour = sequential();
        let mut progress = Progress::arrived(micros(0));
        progress.called(CallId(2), B, micros(100));
        progress.returned(CallId(2), micros(2_000));
        let again = behaviour.log_action(&progress, Action::Call(B));
        assert!(behaviour.log_action(&progress, Action::Call(A)) > again);
    }

    #[test]
    fn states_and_delays_are_bounded() {
        let mut behaviour = Behaviour::default();
        for round in 0..MAX_STATES as u64 * 3 {
            let mut progress = Progress::arrived(micros(0));
            for bit in 0..12 {
                if round >> bit & 1 == 1 {
                    progress.called(CallId(bit), Label(bit as u8), micros(bit));
                }
            }
            let label = Label((round % MAX_LABELS as u64) as u8);
            behaviour.learn(&progress, Action::Call(label), micros(100), 1.0);
        }
        assert!(behaviour.by_state.len() <= MAX_STATES);
        assert!(behaviour.delays.len() <= MAX_DELAYS);
    }
}
