//! How far one request has come, under one assumption about which calls are its own.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::observation::CallId;
use crate::event::KernelTime;

/// Index of an outbound operation within its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Label(pub(super) u8);

/// Outbound operations a service's model tells apart; further ones share the last label.
pub(super) const MAX_LABELS: usize = 64;

/// What a request does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Action {
    /// It calls.
    Call(Label),
    /// It is answered.
    Answer,
    /// It waits until one of its calls returns.
    Wait,
}

/// An earlier moment that a delay can be counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Anchor {
    /// The request's arrival.
    Arrival,
    /// Whatever happened last.
    Latest,
    /// The latest call.
    LatestCall,
    /// The latest return of a call.
    LatestReturn,
    /// The latest call of one operation.
    Call(Label),
    /// The latest return of one operation.
    Return(Label),
}

/// The calls of one operation so far.
#[derive(Clone, Copy, Debug)]
struct Calls {
    label: Label,
    count: u8,
    open: u8,
    called: KernelTime,
    returned: Option<KernelTime>,
}

/// A call that has not returned yet.
#[derive(Clone, Copy, Debug)]
struct OpenCall {
    call: CallId,
    label: Label,
}

/// State of one request: what it called, what has returned, and when.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    arrived: KernelTime,
    /// Sorted by label.
    calls: Vec<Calls>,
    open: Vec<OpenCall>,
    latest: (Anchor, KernelTime),
    latest_call: Option<KernelTime>,
    latest_return: Option<KernelTime>,
    state: StateKey,
}

/// Hash of the calls made, the calls open, and what happened last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct StateKey(u64);

impl Progress {
    pub(super) fn arrived(at: KernelTime) -> Self {
        let mut progress = Self {
            arrived: at,
            calls: Vec::new(),
            open: Vec::new(),
            latest: (Anchor::Arrival, at),
            latest_call: None,
            latest_return: None,
            state: StateKey(0),
        };
        progress.update_state();
        progress
    }

    pub(super) fn called(&mut self, call: CallId, label: Label, at: KernelTime) {
        match self.calls.binary_search_by_key(&label, |calls| calls.label) {
            Ok(index) => {
                let calls = &mut self.calls[index];
                calls.count = calls.count.saturating_add(1);
                calls.open = calls.open.saturating_add(1);
                calls.called = at;
            }
            Err(index) => {
                self.calls
                    .insert(index, Calls { label, count: 1, open: 1, called: at, returned: None });
            }
        }
        self.open.push(OpenCall { call, label });
        self.latest = (Anchor::Call(label), at);
        self.latest_call = Some(at);
        self.update_state();
    }

    pub(super) fn returned(&mut self, call: CallId, at: KernelTime) {
        let Some(index) = self.open.iter().position(|open| open.call == call) else { return };
        let label = self.open.remove(index).label;
        if let Ok(index) = self.calls.binary_search_by_key(&label, |calls| calls.label) {
            let calls = &mut self.calls[index];
            calls.open = calls.open.saturating_sub(1);
            calls.returned = Some(at);
        }
        self.latest = (Anchor::Return(label), at);
        self.latest_return = Some(at);
        self.update_state();
    }

    pub(super) fn has_open(&self, call: CallId) -> bool {
        self.open.iter().any(|open| open.call == call)
    }

    /// Calls that have not returned.
    pub(super) fn open_calls(&self) -> usize {
        self.open.len()
    }

    /// How often an operation was called.
    pub(super) fn count(&self, label: Label) -> usize {
        self.calls
            .binary_search_by_key(&label, |calls| calls.label)
            .map_or(0, |index| usize::from(self.calls[index].count))
    }

    /// What happened last, without its time.
    pub(super) fn latest(&self) -> Anchor {
        self.latest.0
    }

    /// When that was.
    pub(super) fn latest_at(&self) -> KernelTime {
        self.latest.1
    }

    /// What the next action depends on.
    pub(super) fn state(&self) -> StateKey {
        self.state
    }

    fn update_state(&mut self) {
        let mut hasher = DefaultHasher::new();
        for tally in self.tallies() {
            tally.hash(&mut hasher);
        }
        self.latest.0.hash(&mut hasher);
        self.state = StateKey(hasher.finish());
    }

    /// Operations called, how often, and how many of those calls are open.
    pub(super) fn tallies(&self) -> impl Iterator<Item = (Label, u8, u8)> + '_ {
        self.calls.iter().map(|calls| (calls.label, calls.count, calls.open))
    }

    /// Every moment that a delay until now can be counted from.
    pub(super) fn anchors(&self) -> impl Iterator<Item = (Anchor, KernelTime)> + '_ {
        let fixed = [
            Some((Anchor::Arrival, self.arrived)),
            Some((Anchor::Latest, self.latest.1)),
            self.latest_call.map(|at| (Anchor::LatestCall, at)),
            self.latest_return.map(|at| (Anchor::LatestReturn, at)),
        ];
        let per_operation = self.calls.iter().flat_map(|calls| {
            [
                Some((Anchor::Call(calls.label), calls.called)),
                calls.returned.map(|at| (Anchor::Return(calls.label), at)),
            ]
        });
        fixed.into_iter().chain(per_operation).flatten()
    }
}
