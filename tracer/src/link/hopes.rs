//! Calls whose parent is not known when they begin, but may be proven by what threads do later:
//! by whose response the thread writes next, or by the process showing a habit often enough.
//!
//! Keeps what is probable and what holds otherwise; knows nothing of why.

use rustc_hash::FxHashMap;

use super::threads::Trust;
use super::{Kind, Origin};
use crate::event::{KernelTime, Pid};
use crate::exchange::ExchangeId;

/// Calls waited for at once; further ones are not waited for.
const MAX_HOPES: usize = 16_384;

/// One call.
#[derive(Debug)]
pub(super) struct Hope {
    pid: Pid,
    began: KernelTime,
    candidates: usize,
    /// The parent, if the process can be trusted with this kind of evidence.
    probable: Option<(ExchangeId, Kind)>,
    /// The response that its task writes may still tell; nothing else counts until then.
    of_worker: bool,
    /// The thread's next response may still tell.
    of_thread: bool,
    /// A response within a callback may still tell.
    of_callback: bool,
    /// The task that waits for the call's response may still tell.
    of_task: bool,
    /// The order of responses may still tell.
    of_order: bool,
    /// What timing said meanwhile.
    otherwise: Option<Origin>,
}

impl Hope {
    pub(super) fn new(
        pid: Pid,
        began: KernelTime,
        candidates: usize,
        probable: Option<(ExchangeId, Kind)>,
    ) -> Self {
        Self {
            pid,
            began,
            candidates,
            probable,
            of_worker: false,
            of_thread: true,
            of_callback: false,
            of_task: false,
            of_order: false,
            otherwise: None,
        }
    }

    /// Has the call wait for [`Hopes::expect_of_worker`] before anything else.
    pub(super) fn by_worker(self, of_worker: bool) -> Self {
        Self { of_worker, ..self }
    }

    /// Of a process where callbacks tell, and not threads.
    pub(super) fn by_callback(self, of_callback: bool) -> Self {
        Self { of_thread: false, of_callback, ..self }
    }

    /// Has the call wait for [`Hopes::expect_nothing_of_task`] too.
    pub(super) fn by_task(self, of_task: bool) -> Self {
        Self { of_task, ..self }
    }

    /// Has the call wait for [`Hopes::expect_of_order`] too.
    pub(super) fn by_order(self, of_order: bool) -> Self {
        Self { of_order, ..self }
    }

    fn child_of(&self, (parent, kind): (ExchangeId, Kind)) -> Origin {
        Origin::Child { parent, kind, candidates: self.candidates, confidence: None }
    }

    fn resolved(self, call: ExchangeId, origin: Option<Origin>) -> Resolved {
        Resolved { call, origin, released: self.probable.map(|(request, _)| request) }
    }
}

/// A call that is waited for no longer.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) call: ExchangeId,
    /// Where it comes from; `None` if timing has not said yet.
    pub(super) origin: Option<Origin>,
    /// A request that need not be kept for it any more.
    pub(super) released: Option<ExchangeId>,
}

/// All calls that are waited for.
#[derive(Debug, Default)]
pub(super) struct Hopes {
    hopes: FxHashMap<ExchangeId, Hope>,
    by_process: FxHashMap<Pid, Vec<ExchangeId>>,
}

impl Hopes {
    /// Returns whether the call is waited for.
    pub(super) fn add(&mut self, call: ExchangeId, hope: Hope) -> bool {
        if self.hopes.len() >= MAX_HOPES {
            return false;
        }
        if !hope.of_worker {
            self.by_process.entry(hope.pid).or_default().push(call);
        }
        self.hopes.insert(call, hope);
        true
    }

    /// Where the call comes from is known: it is waited for no longer.
    pub(super) fn conclude(&mut self, call: ExchangeId, origin: Origin) -> Option<Resolved> {
        Some(self.hopes.remove(&call)?.resolved(call, Some(origin)))
    }

    /// The task's response came, and this is the parent, if that means anything. Returns whether
    /// the request is needed from now on.
    pub(super) fn expect_of_worker(
        &mut self,
        call: ExchangeId,
        probable: Option<(ExchangeId, Kind)>,
    ) -> bool {
        let Some(hope) = self.hopes.get_mut(&call).filter(|hope| hope.of_worker) else {
            return false;
        };
        hope.of_worker = false;
        hope.probable = probable;
        self.by_process.entry(hope.pid).or_default().push(call);
        probable.is_some()
    }

    /// The thread's response came: this is the parent, if that means anything. Returns whether the
    /// request is needed from now on.
    pub(super) fn expect(&mut self, call: ExchangeId, probable: (ExchangeId, Kind)) -> bool {
        let Some(hope) = self.hopes.get_mut(&call) else { return false };
        hope.of_thread = false;
        if hope.of_worker || hope.probable.is_some() {
            return false;
        }
        hope.probable = Some(probable);
        true
    }

    /// The thread's response came, and the call cannot be for it.
    pub(super) fn expect_nothing_of_thread(&mut self, call: ExchangeId) {
        if let Some(hope) = self.hopes.get_mut(&call) {
            hope.of_thread = false;
        }
    }

    /// It is known whom the call's callback is for, as far as it ever will be. Returns whether the
    /// request is needed from now on.
    pub(super) fn expect_of_callback(
        &mut self,
        call: ExchangeId,
        request: Option<ExchangeId>,
    ) -> bool {
        let Some(hope) = self.hopes.get_mut(&call) else { return false };
        hope.of_callback = false;
        if hope.of_worker || hope.probable.is_some() || request.is_none() {
            return false;
        }
        hope.probable = request.map(|request| (request, Kind::Callback));
        true
    }

    /// Responses confirm the order of requests, by which this is the parent. Returns whether the
    /// request is needed from now on.
    pub(super) fn expect_of_order(&mut self, call: ExchangeId, request: ExchangeId) -> bool {
        let Some(hope) = self.hopes.get_mut(&call) else { return false };
        if !std::mem::take(&mut hope.of_order) || hope.of_worker || hope.probable.is_some() {
            return false;
        }
        hope.probable = Some((request, Kind::Order));
        true
    }

    /// The call's task is as well known as it will be.
    pub(super) fn expect_nothing_of_task(&mut self, call: ExchangeId) {
        if let Some(hope) = self.hopes.get_mut(&call) {
            hope.of_task = false;
        }
    }

    /// Notes what timing says; gives it back if nothing better is hoped for.
    pub(super) fn otherwise(&mut self, call: ExchangeId, origin: Origin) -> Option<Origin> {
        match self.hopes.get_mut(&call) {
            Some(hope) => {
                hope.otherwise = Some(origin);
                None
            }
            None => Some(origin),
        }
    }

    /// Calls of a process that need not wait any longer, given how far it can be trusted.
    pub(super) fn resolve(
        &mut self,
        pid: Pid,
        trust: impl Fn(ExchangeId, Kind) -> Trust,
    ) -> Vec<Resolved> {
        let Some(calls) = self.by_process.get_mut(&pid) else { return Vec::new() };
        let hopes = &mut self.hopes;
        let mut resolved = Vec::new();
        calls.retain(|call| {
            let Some(hope) = hopes.get(call) else { return false };
            let origin = match hope
                .probable
                .map(|(parent, kind)| (parent, kind, trust(*call, kind)))
            {
                Some((parent, kind, Trust::Given)) => Some(hope.child_of((parent, kind))),
                Some((.., Trust::Open)) => return true,
                _ if hope.of_task => return true,
                _ if hope.of_order && trust(*call, Kind::Order) != Trust::Denied => return true,
                _ if hope.of_callback && trust(*call, Kind::Callback) != Trust::Denied => {
                    return true;
                }
                _ if hope.of_thread && trust(*call, Kind::Worker) != Trust::Denied => return true,
                _ => None,
            };
            if let Some(hope) = hopes.remove(call) {
                let origin = origin.or_else(|| hope.otherwise.clone());
                resolved.push(hope.resolved(*call, origin));
            }
            false
        });
        if calls.is_empty() {
            self.by_process.remove(&pid);
        }
        resolved
    }

    /// Gives up what began before `time`, or, if a task of a process was to tell by its response,
    /// before there were any requests that are `unanswered` there. What is probable holds where it
    /// is accepted without proof.
    pub(super) fn give_up(
        &mut self,
        time: KernelTime,
        unanswered: impl Fn(Pid) -> KernelTime,
        accepted: impl Fn(ExchangeId, Kind) -> bool,
    ) -> Vec<Resolved> {
        let late = self.hopes.iter().filter(|(_, hope)| {
            hope.began < if hope.of_worker { unanswered(hope.pid) } else { time }
        });
        let mut late: Vec<ExchangeId> = late.map(|(call, _)| *call).collect();
        late.sort_by_key(|id| (id.conn, id.offset.0));
        late.into_iter()
            .filter_map(|call| {
                let mut hope = self.hopes.remove(&call)?;
                let origin = match hope.probable.filter(|(_, kind)| accepted(call, *kind)) {
                    // Its task has answered none of the requests: it was none of theirs, or
                    // nobody saw.
                    _ if hope.of_worker => {
                        Some(Origin::Unclear { candidates: hope.candidates, related: None })
                    }
                    Some(probable) => Some(hope.child_of(probable)),
                    None => hope.otherwise.take(),
                };
                Some(hope.resolved(call, origin))
            })
            .collect()
    }
}
