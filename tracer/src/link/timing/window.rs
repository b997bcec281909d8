//! The open requests of one service and every plausible way to share its calls among them.
//!
//! Multiple-hypothesis tracking: a hypothesis gives each call so far to one open request (or to
//! none), and weighs as much as the learned behaviours make all those requests probable together.
//! Each moment reweighs or branches the hypotheses; those that no longer differ in any open
//! request are merged, and only the heaviest are kept. A call is decided when its possible parents
//! are answered, from the weight of all hypotheses, not from the best one alone.

use rustc_hash::FxHashMap;

use super::habits::Habits;
use super::hypothesis::{Hypothesis, MAX_CHOICES, NO_PARENT, log_sum, merge, normalize};
use super::observation::{CallId, Evidence, Operation, RequestId};
use super::progress::Label;
use super::track::{OpenRequest, Track};
use super::undecided::{Choice, Undecided};
use super::{Counters, Decision, Options};
use crate::event::KernelTime;

/// Requests of one service open at a time; beyond, the oldest is given up as a parent.
pub(super) const MAX_OPEN: usize = 256;
/// Calls of one service that wait for a decision; beyond, the oldest is decided early.
pub(super) const MAX_UNDECIDED: usize = 512;
/// Calls of one service whose return is waited for; beyond, calls count as never returning.
pub(super) const MAX_IN_FLIGHT: usize = 4_096;
/// Candidates named in a decision.
const MAX_CANDIDATES: usize = 32;
/// Hypotheses kept where few requests are open, and where many are.
const MAX_HYPOTHESES: usize = 128;
const MIN_HYPOTHESES: usize = 16;
/// Bound on open requests times hypotheses.
const MAX_WORK: usize = 8_192;
/// Hypotheses this much lighter than the heaviest are dropped (natural logarithm).
const NEGLIGIBLE: f64 = 10.0;
/// Assumptions about a request that are less probable than this teach nothing.
const LESSON: f64 = 0.02;

/// State of one service.
#[derive(Debug)]
pub(super) struct Window {
    habits: Habits,
    now: Option<KernelTime>,
    open: Vec<OpenRequest>,
    undecided: Vec<Undecided>,
    /// Requests that may have made a call which has not returned.
    in_flight: FxHashMap<CallId, Vec<RequestId>>,
    /// Never empty; heaviest first; weights sum to one.
    hypotheses: Vec<Hypothesis>,
}

/// One hypothesis extended by one choice of the new call's parent.
struct Branch {
    /// Log probability with regard to requests that are overdue to act.
    outlook: f64,
    /// Index of the hypothesis.
    from: usize,
    choice: usize,
    /// Log density of the call under that choice.
    score: f64,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            habits: Habits::new(),
            now: None,
            open: Vec::new(),
            undecided: Vec::new(),
            in_flight: FxHashMap::default(),
            hypotheses: vec![Hypothesis::empty()],
        }
    }

    /// Forgets all but the habits.
    pub(super) fn rest(&mut self) {
        let habits = std::mem::replace(&mut self.habits, Habits::new());
        *self = Self { habits, ..Self::new() };
    }

    /// Whether the service is too irregular to be worth the work.
    pub(super) fn is_hopeless(&self) -> bool {
        self.habits.is_hopeless()
    }

    /// Moves the clock and decides what has waited too long.
    pub(super) fn advance(
        &mut self,
        at: KernelTime,
        options: &Options,
        counters: &mut Counters,
    ) -> Vec<Decision> {
        let hold = options.hold.as_nanos();
        let now = match self.now {
            // Late by more than anything is held: the clock itself was set back.
            Some(before) if u128::from(before.nanos_since(at)) > hold => at,
            Some(before) => before.max(at),
            None => at,
        };
        self.habits.observe_time(self.now.unwrap_or(now), now);
        self.now = Some(now);
        let older = |at: KernelTime, nanos: u128| u128::from(now.nanos_since(at)) > nanos;
        let longest = options.longest_request.as_nanos();
        while let Some(index) = self.open.iter().position(|open| older(open.arrived, longest)) {
            counters.requests_outlived += 1;
            self.forget(index);
        }
        let mut decisions = Vec::new();
        while let Some(index) = self.undecided.iter().position(|call| older(call.at, hold)) {
            counters.decided_by_hold += 1;
            decisions.push(self.decide(index, options));
        }
        decisions
    }

    pub(super) fn arrived(
        &mut self,
        id: RequestId,
        operation: Operation,
        at: KernelTime,
        counters: &mut Counters,
    ) {
        if self.open.iter().any(|open| open.id == id) {
            counters.repeated_ids += 1;
            return;
        }
        if self.open.len() >= MAX_OPEN {
            counters.requests_crowded_out += 1;
            self.forget(0);
        }
        let behaviour = self.habits.behaviour_of(operation);
        self.open.push(OpenRequest::new(id, behaviour, at));
        self.hypotheses.iter_mut().for_each(|hypothesis| hypothesis.tracks.push(0));
    }

    pub(super) fn answered(
        &mut self,
        id: RequestId,
        at: KernelTime,
        options: &Options,
    ) -> Vec<Decision> {
        let Some(index) = self.open.iter().position(|open| open.id == id) else {
            return Vec::new();
        };
        let behaviour = self.habits.behaviour(self.open[index].behaviour);
        self.reweigh(&self.scores(index, |track| track.log_answer(behaviour, at)));
        self.learn(index, at);
        self.forget(index);
        let mut decisions = Vec::new();
        let mut next = 0;
        while let Some(call) = self.undecided.get(next) {
            if call.is_ripe(&call.probabilities(next, &self.hypotheses)) {
                decisions.push(self.decide(next, options));
            } else {
                next += 1;
            }
        }
        merge(&mut self.hypotheses);
        decisions
    }

    pub(super) fn called(
        &mut self,
        call: CallId,
        operation: Operation,
        evidence: Evidence,
        at: KernelTime,
        options: &Options,
        counters: &mut Counters,
    ) -> Vec<Decision> {
        if self.in_flight.contains_key(&call) || self.undecided.iter().any(|u| u.call == call) {
            counters.repeated_ids += 1;
            return Vec::new();
        }
        let label = self.habits.label_of(operation);
        match evidence {
            Evidence::Parent(id) => {
                if let Some(index) = self.open.iter().position(|open| open.id == id) {
                    self.give(call, label, at, index, counters);
                }
                Vec::new()
            }
            Evidence::Root => {
                self.habits.learn_unasked(label, 1.0);
                Vec::new()
            }
            Evidence::Nothing if self.open.is_empty() => {
                self.habits.learn_unasked(label, 1.0);
                vec![Decision::without_candidates(call)]
            }
            Evidence::Nothing => {
                let mut decisions = Vec::new();
                if self.undecided.len() >= MAX_UNDECIDED {
                    counters.decided_by_room += 1;
                    decisions.push(self.decide(0, options));
                }
                self.branch(call, label, at, counters);
                decisions
            }
        }
    }

    pub(super) fn returned(&mut self, call: CallId, at: KernelTime) {
        let Some(holders) = self.in_flight.remove(&call) else { return };
        for index in 0..self.open.len() {
            if !holders.contains(&self.open[index].id) {
                continue;
            }
            let behaviour = self.habits.behaviour(self.open[index].behaviour);
            self.reweigh(&self.scores(index, |track| track.log_return(behaviour, call)));
            self.open[index].tracks.iter_mut().for_each(|track| track.returned(call, at));
        }
    }

    /// Decides everything that is left.
    pub(super) fn flush(&mut self, options: &Options) -> Vec<Decision> {
        let mut decisions = Vec::new();
        while !self.undecided.is_empty() {
            decisions.push(self.decide(0, options));
        }
        decisions
    }

    /// Gives a call to the request that is known to have made it.
    fn give(
        &mut self,
        call: CallId,
        label: Label,
        at: KernelTime,
        index: usize,
        counters: &mut Counters,
    ) {
        self.habits.count_call();
        let behaviour = self.habits.behaviour(self.open[index].behaviour);
        self.reweigh(&self.scores(index, |track| {
            if track.is_full() { 0.0 } else { track.log_call(behaviour, label, at) }
        }));
        let request = &mut self.open[index];
        for track in request.tracks.iter_mut().filter(|track| !track.is_full()) {
            track.called(call, label, at);
        }
        let holder = request.id;
        self.expect_return(call, vec![holder], counters);
    }

    /// Branches every hypothesis by who made the call, and keeps the best branches.
    fn branch(&mut self, call: CallId, label: Label, at: KernelTime, counters: &mut Counters) {
        let (chosen, mut branches) = self.branches(label, at);
        branches.sort_by(|a, b| {
            b.outlook.total_cmp(&a.outlook).then((a.from, a.choice).cmp(&(b.from, b.choice)))
        });
        let least = branches.first().map_or(0.0, |heaviest| heaviest.outlook - NEGLIGIBLE);
        let room = (MAX_WORK / self.open.len().max(1)).clamp(MIN_HYPOTHESES, MAX_HYPOTHESES);
        let keep = branches.iter().take(room).take_while(|branch| branch.outlook >= least).count();
        let (kept, dropped) = branches.split_at(keep);

        let mut undecided = Undecided {
            call,
            label,
            at,
            choices: chosen
                .iter()
                .map(|&index| Choice { request: self.open[index].id, open: true })
                .collect(),
            candidates: self.open.iter().take(MAX_CANDIDATES).map(|open| open.id).collect(),
            candidate_count: self.open.len(),
            kept: kept.iter().map(|branch| branch.outlook.exp()).sum(),
            dropped: [0.0; MAX_CHOICES + 1],
        };
        let mut lost = vec![0.0; self.hypotheses.len()];
        for branch in dropped {
            lost[branch.from] += branch.outlook.exp();
            undecided.dropped[branch.choice] += branch.outlook.exp();
        }
        self.account(&lost);

        let mut extended: Vec<FxHashMap<u32, u32>> = vec![FxHashMap::default(); chosen.len()];
        let mut hypotheses = Vec::with_capacity(keep);
        for branch in kept {
            let mut hypothesis = self.hypotheses[branch.from].clone();
            hypothesis.log_weight += branch.score;
            let mut belief = [0.0; MAX_CHOICES + 1];
            belief[branch.choice] = 1.0;
            hypothesis.beliefs.push(belief);
            if branch.choice != NO_PARENT {
                let index = chosen[branch.choice];
                let tracks = &mut self.open[index].tracks;
                let old = hypothesis.tracks[index];
                hypothesis.tracks[index] =
                    *extended[branch.choice].entry(old).or_insert_with(|| {
                        let mut track = tracks[old as usize].clone();
                        track.called(call, label, at);
                        tracks.push(track);
                        (tracks.len() - 1) as u32
                    });
            }
            hypotheses.push(hypothesis);
        }
        self.hypotheses = hypotheses;
        normalize(&mut self.hypotheses);
        let holders = undecided.choices.iter().map(|choice| choice.request).collect();
        self.undecided.push(undecided);
        self.expect_return(call, holders, counters);
        self.drop_unused_tracks();
    }

    /// The open requests most plausible to have made a call, and every hypothesis extended by
    /// each of them or by none, with probabilities that sum to at most one.
    fn branches(&self, label: Label, at: KernelTime) -> (Vec<usize>, Vec<Branch>) {
        let requests = 0..self.open.len();
        let behaviour = |index: usize| self.habits.behaviour(self.open[index].behaviour);
        let scores: Vec<Vec<f64>> = requests
            .clone()
            .map(|index| self.scores(index, |t| t.log_call(behaviour(index), label, at)))
            .collect();
        let patience: Vec<Vec<f64>> = requests
            .clone()
            .map(|index| self.scores(index, |t| t.log_patience(behaviour(index), at)))
            .collect();
        let unasked = self.habits.log_unasked(label);
        let outlook: Vec<f64> = (self.hypotheses.iter().enumerate())
            .map(|(from, h)| h.log_weight + patience.iter().map(|of| of[from]).sum::<f64>())
            .collect();
        // A request that acts needs no patience.
        let branch =
            |from: usize, index: usize| outlook[from] - patience[index][from] + scores[index][from];

        let mut masses: Vec<(usize, f64)> = requests
            .map(|index| (index, log_sum((0..outlook.len()).map(|from| branch(from, index)))))
            .collect();
        masses.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.0.cmp(&a.0)));
        let none = log_sum(outlook.iter().copied()) + unasked;
        let total = log_sum(masses.iter().map(|&(_, mass)| mass).chain([none]));
        let chosen: Vec<usize> = masses.iter().take(MAX_CHOICES).map(|&(index, _)| index).collect();

        let mut branches = Vec::with_capacity(outlook.len() * (chosen.len() + 1));
        for from in 0..outlook.len() {
            branches.extend(chosen.iter().enumerate().map(|(choice, &index)| Branch {
                outlook: branch(from, index) - total,
                from,
                choice,
                score: scores[index][from],
            }));
            let outlook = outlook[from] + unasked - total;
            branches.push(Branch { outlook, from, choice: NO_PARENT, score: unasked });
        }
        (chosen, branches)
    }

    /// For each hypothesis, the score of the track it gives to one open request; each track is
    /// scored once.
    fn scores(&self, index: usize, score: impl Fn(&Track) -> f64) -> Vec<f64> {
        let tracks = &self.open[index].tracks;
        let mut known: Vec<Option<f64>> = vec![None; tracks.len()];
        self.hypotheses
            .iter()
            .map(|hypothesis| {
                let track = hypothesis.tracks[index] as usize;
                *known[track].get_or_insert_with(|| score(&tracks[track]))
            })
            .collect()
    }

    /// Adds log likelihoods to the hypotheses and drops those that become negligible.
    fn reweigh(&mut self, scores: &[f64]) {
        for (hypothesis, score) in self.hypotheses.iter_mut().zip(scores) {
            hypothesis.log_weight += score;
        }
        normalize(&mut self.hypotheses);
        let least = self.hypotheses[0].log_weight - NEGLIGIBLE;
        let lost: Vec<f64> = (self.hypotheses.iter())
            .map(|h| if h.log_weight >= least { 0.0 } else { h.log_weight.exp() })
            .collect();
        self.account(&lost);
        self.hypotheses.retain(|hypothesis| hypothesis.log_weight >= least);
        normalize(&mut self.hypotheses);
    }

    /// Remembers, for every undecided call, what the hypotheses to be dropped said about it.
    fn account(&mut self, lost: &[f64]) {
        if lost.iter().any(|lost| *lost > 0.0) {
            for (index, call) in self.undecided.iter_mut().enumerate() {
                call.drop_hypotheses(index, &self.hypotheses, lost);
            }
        }
    }

    fn expect_return(&mut self, call: CallId, holders: Vec<RequestId>, counters: &mut Counters) {
        if self.in_flight.len() < MAX_IN_FLIGHT {
            self.in_flight.insert(call, holders);
        } else {
            counters.returns_ignored += 1;
        }
    }

    fn decide(&mut self, index: usize, options: &Options) -> Decision {
        let call = self.undecided.remove(index);
        let probabilities = call.probabilities(index, &self.hypotheses);
        for hypothesis in &mut self.hypotheses {
            hypothesis.beliefs.remove(index);
        }
        self.habits.learn_unasked(call.label, probabilities[NO_PARENT]);
        let likeliest = call.likeliest(&probabilities);
        self.habits.learn_doubt(likeliest.map_or(0.0, |(_, probability)| probability));
        Decision::new(call, likeliest, &self.habits, options)
    }

    /// Teaches the request's behaviour what each of its tracks did, by their probability.
    fn learn(&mut self, index: usize, answered: KernelTime) {
        let request = &self.open[index];
        let mut weights = vec![0.0; request.tracks.len()];
        for hypothesis in &self.hypotheses {
            weights[hypothesis.tracks[index] as usize] += hypothesis.log_weight.exp();
        }
        let labels = self.habits.labels();
        let behaviour = self.habits.behaviour_mut(request.behaviour);
        for (track, weight) in request.tracks.iter().zip(weights) {
            if weight >= LESSON {
                track.teach(behaviour, request.arrived, answered, labels, weight as f32);
            }
        }
    }

    /// Takes a request out of the window.
    fn forget(&mut self, index: usize) {
        let id = self.open.remove(index).id;
        for hypothesis in &mut self.hypotheses {
            hypothesis.tracks.remove(index);
        }
        for call in &mut self.undecided {
            for choice in call.choices.iter_mut().filter(|choice| choice.request == id) {
                choice.open = false;
            }
        }
        self.in_flight.retain(|_, holders| {
            holders.retain(|holder| *holder != id);
            !holders.is_empty()
        });
    }

    fn drop_unused_tracks(&mut self) {
        for (index, request) in self.open.iter_mut().enumerate() {
            if request.tracks.len() <= 2 * MAX_HYPOTHESES {
                continue;
            }
            let mut moved: FxHashMap<u32, u32> = FxHashMap::default();
            let mut tracks = Vec::new();
            for hypothesis in &mut self.hypotheses {
                let old = hypothesis.tracks[index];
                hypothesis.tracks[index] = *moved.entry(old).or_insert_with(|| {
                    tracks.push(request.tracks[old as usize].clone());
                    (tracks.len() - 1) as u32
                });
            }
            request.tracks = tracks;
        }
    }
}
