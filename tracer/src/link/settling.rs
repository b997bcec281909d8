//! How what is known of an exchange becomes final: at once, when a habit of its process turns out
//! to hold, or when nothing more can tell.

use super::callbacks::Revealed;
use super::family::Settled;
use super::threads::Clue;
use super::{Kind, Linker, Origin, by_timing, hopes, timing};
use crate::event::{KernelTime, Pid};
use crate::exchange::ExchangeId;
use crate::trace::context::IdSource;

impl<T> Linker<T> {
    /// Callbacks told what some calls are for, or that they never will.
    pub(super) fn take_revealed(&mut self, revealed: &Revealed) {
        for call in &revealed.calls {
            if self.hopes.expect_of_callback(*call, revealed.request)
                && let Some(request) = revealed.request
            {
                self.family.keep(request);
            }
        }
    }

    /// More is known of a call than when it began.
    pub(super) fn on_late_clue(
        &mut self,
        call: ExchangeId,
        clue: Clue,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        self.hopes.expect_nothing_of_task(call);
        match (clue, clue.origin()) {
            (Clue::Parent { parent, .. }, _) if !self.family.contains(parent) => {}
            (_, Some(origin)) => {
                if let Some(resolved) = self.hopes.conclude(call, origin) {
                    self.settle_hope(resolved, ids, settled);
                }
            }
            (Clue::Unclear { probable: Some(probable), .. }, None) => {
                if self.hopes.expect(call, probable) {
                    self.family.keep(probable.0);
                }
            }
            (_, None) => {}
        }
    }

    /// Both ends of one exchange are known.
    pub(super) fn pair(
        &mut self,
        call: ExchangeId,
        request: ExchangeId,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        if self.family.is_decided(request) || !self.family.contains(call) {
            return;
        }
        let carried = self.open.get(&request).and_then(|open| open.carried.clone());
        let origin = match carried {
            // The SDK's span is the parent, whose context the request carries.
            Some(context) if self.family.is_muted(call) => Origin::Remote(context),
            _ => Origin::Child { parent: call, kind: Kind::Pair, candidates: 1, confidence: None },
        };
        self.family.decide(request, origin, ids, settled);
    }

    pub(super) fn take_decisions(
        &mut self,
        decisions: by_timing::Decisions,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        for (call, decision) in decisions.calls {
            let origin = self.origin(&decision);
            self.take_likely(call, origin, ids, settled);
        }
        for request in decisions.released {
            self.family.release(request);
        }
    }

    /// What holds of a call if nothing is proven. A proof is better, but may come later.
    pub(super) fn take_likely(
        &mut self,
        call: ExchangeId,
        origin: Origin,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        if let Some(origin) = self.hopes.otherwise(call, origin) {
            self.settle_call(call, origin, ids, settled);
        }
    }

    /// Settles calls of which threads have proven enough, or will not.
    pub(super) fn settle_hopes(
        &mut self,
        pid: Pid,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        let (threads, tasks) = (&self.threads, &self.tasks);
        let (workers, callbacks, orders) = (&self.workers, &self.callbacks, &self.orders);
        let trust = |call, kind| match kind {
            Kind::Callback => callbacks.trust(pid),
            Kind::Order => orders.trust(pid),
            Kind::Coroutine => tasks.trust(call),
            Kind::Task | Kind::RelatedTask => workers.trust(pid, kind),
            _ => threads.trust(pid, kind),
        };
        for resolved in self.hopes.resolve(pid, trust) {
            self.settle_hope(resolved, ids, settled);
        }
    }

    /// Settles calls that began before `time` with what is known, and those of which a response was
    /// to tell as soon as there are no requests that are `unanswered`.
    pub(super) fn give_up_hopes(
        &mut self,
        time: KernelTime,
        unanswered: impl Fn(Pid) -> KernelTime,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        let tasks = &self.tasks;
        let accepted = |call, kind| kind == Kind::Coroutine && tasks.is_unblemished(call);
        for resolved in self.hopes.give_up(time, unanswered, accepted) {
            self.settle_hope(resolved, ids, settled);
        }
    }

    pub(super) fn settle_hope(
        &mut self,
        resolved: hopes::Resolved,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        let hopes::Resolved { call, origin, released } = resolved;
        self.tasks.release(call);
        self.callbacks.release(call);
        // Without an origin it is still up to timing.
        if let Some(origin) = origin {
            self.settle_call(call, origin, ids, settled);
        }
        if let Some(request) = released {
            self.family.release(request);
        }
    }

    pub(super) fn settle_call(
        &mut self,
        call: ExchangeId,
        origin: Origin,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        if self.family.is_decided(call) {
            return;
        }
        if let Some(open) = self.open.get_mut(&call) {
            open.parent = origin.parent();
        }
        self.family.decide(call, origin, ids, settled);
    }

    pub(super) fn origin(&self, decision: &timing::Decision) -> Origin {
        let candidates = decision.candidate_count;
        if let Some(parent) = decision.parent().and_then(|request| self.timing.exchange(request)) {
            let confidence = Some(decision.confidence);
            return Origin::Child { parent, kind: Kind::Timing, candidates, confidence };
        }
        if candidates == 0 {
            return Origin::Root;
        }
        let place = |request| self.family.span(self.timing.exchange(request)?);
        let related = decision
            .sole_trace(|request| place(request).map(|place| place.trace))
            .and_then(|_| place(decision.likeliest?))
            .map(|place| Box::new((**place).clone()));
        Origin::Unclear { candidates, related }
    }
}
