//! The last resort at work: which processes need [`timing`](super::timing), and what it is told of
//! them.
//!
//! A process is modelled from its first call on that nothing else could decide; until then, and
//! for all other processes, nothing is spent. Requests that a waiting call may belong to are asked
//! to be kept until no such call is left.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::Origin;
use super::timing::{
    CallId, Decision, Evidence, Moment, Observation, Operation, Options, RequestId, Service, Timing,
};
use crate::event::{KernelTime, Pid};
use crate::exchange::{ExchangeId, RequestHead};

/// Nanoseconds for which a process is not modelled that proved too irregular for it.
const SUSPENSION: u64 = 300 * 1_000_000_000;
/// Segments of a path that name an operation; what follows is data more often than not.
const NAMING_SEGMENTS: usize = 3;

/// Calls in a row that something else decided, after which a process is not modelled until there is
/// one again that nothing else does.
const UNNEEDED: u32 = 1_024;

/// A process that is modelled.
#[derive(Debug, Default)]
struct Modelled {
    /// Its undecided calls.
    waiting: usize,
    /// Its last calls, all of which something else decided.
    unneeded: u32,
}

/// Calls that are decided now, and requests that no waiting call can belong to any more.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    pub(super) calls: Vec<(ExchangeId, Decision)>,
    pub(super) released: Vec<ExchangeId>,
}

#[derive(Debug)]
pub(super) struct ByTiming {
    timing: Timing,
    hold: u64,
    modelled: FxHashMap<Pid, Modelled>,
    /// Processes that are not modelled for the time being, and since when.
    suspended: FxHashMap<Pid, KernelTime>,
    next: u64,
    requests: FxHashMap<ExchangeId, RequestId>,
    request_exchanges: FxHashMap<RequestId, ExchangeId>,
    calls: FxHashMap<ExchangeId, CallId>,
    call_exchanges: FxHashMap<CallId, (ExchangeId, Pid)>,
    /// Answered requests that are kept, oldest first.
    answered: VecDeque<(KernelTime, ExchangeId)>,
}

impl ByTiming {
    pub(super) fn new(options: Options) -> Self {
        Self {
            timing: Timing::new(options),
            hold: u64::try_from(options.hold.as_nanos()).unwrap_or(u64::MAX),
            modelled: FxHashMap::default(),
            suspended: FxHashMap::default(),
            next: 0,
            requests: FxHashMap::default(),
            request_exchanges: FxHashMap::default(),
            calls: FxHashMap::default(),
            call_exchanges: FxHashMap::default(),
            answered: VecDeque::new(),
        }
    }

    /// Whether an undecided call may belong to a request of this process.
    pub(super) fn waits_for(&self, pid: Pid) -> bool {
        self.modelled.get(&pid).is_some_and(|process| process.waiting > 0)
    }

    /// Whether the calls of a process are not decided at all.
    pub(super) fn is_suspended(&self, pid: Pid) -> bool {
        self.suspended.contains_key(&pid)
    }

    /// A process exited.
    pub(super) fn on_gone(&mut self, pid: Pid) {
        self.suspended.remove(&pid);
    }

    /// The exchange that the model calls by this handle.
    pub(super) fn exchange(&self, request: RequestId) -> Option<ExchangeId> {
        self.request_exchanges.get(&request).copied()
    }

    pub(super) fn on_request(
        &mut self,
        id: ExchangeId,
        pid: Pid,
        head: &RequestHead,
        at: KernelTime,
    ) -> Decisions {
        if !self.modelled.contains_key(&pid) {
            return Decisions::default();
        }
        let request = self.name_request(id);
        self.observe(pid, at, Moment::Arrived { request, operation: operation(head, false) })
    }

    /// `origin` is what is known already, if anything is; `open` lists the process' open requests,
    /// asked for when its modelling begins.
    pub(super) fn on_call(
        &mut self,
        id: ExchangeId,
        pid: Pid,
        head: &RequestHead,
        origin: Option<&Origin>,
        at: KernelTime,
        open: impl FnOnce() -> Vec<(ExchangeId, KernelTime)>,
    ) -> Decisions {
        let mut decisions = Decisions::default();
        if !self.modelled.contains_key(&pid) {
            if origin.is_some() || self.is_suspended(pid) {
                return decisions;
            }
            self.modelled.insert(pid, Modelled::default());
            let mut open = open();
            open.sort_by_key(|(id, began)| (*began, id.conn));
            for (id, began) in open {
                // It may have had a name before the model rested.
                self.forget_request(id);
                let request = self.name_request(id);
                let operation = Operation::named("", "");
                decisions.extend(self.observe(pid, began, Moment::Arrived { request, operation }));
            }
        }
        let evidence = match origin.map(Origin::parent) {
            None => Evidence::Nothing,
            Some(parent) => parent
                .and_then(|parent| self.requests.get(&parent))
                .map_or(Evidence::Root, |request| Evidence::Parent(*request)),
        };
        self.next += 1;
        let call = CallId(self.next);
        self.calls.insert(id, call);
        let process = self.modelled.entry(pid).or_default();
        if origin.is_none() {
            self.call_exchanges.insert(call, (id, pid));
            process.waiting += 1;
            process.unneeded = 0;
        } else {
            process.unneeded = process.unneeded.saturating_add(1);
        }
        let operation = operation(head, true);
        decisions.extend(self.observe(pid, at, Moment::Called { call, operation, evidence }));
        decisions
    }

    pub(super) fn on_answered(&mut self, id: ExchangeId, pid: Pid, at: KernelTime) -> Decisions {
        let Some(request) = self.requests.get(&id).copied() else { return Decisions::default() };
        let mut decisions = self.observe(pid, at, Moment::Answered { request });
        if self.waits_for(pid) {
            self.answered.push_back((at, id));
        } else {
            self.forget_request(id);
            decisions.released.push(id);
        }
        decisions
    }

    pub(super) fn on_returned(&mut self, id: ExchangeId, pid: Pid, at: KernelTime) -> Decisions {
        match self.calls.remove(&id) {
            Some(call) => self.observe(pid, at, Moment::Returned { call }),
            None => Decisions::default(),
        }
    }

    pub(super) fn on_tick(&mut self, now: KernelTime) -> Decisions {
        let decided = self.timing.advance(now);
        let mut decisions = self.translate(decided);
        decisions.extend(self.suspend_hopeless(now));
        let none_waits = self.modelled.values().all(|process| process.waiting == 0);
        self.rest();
        while let Some((at, id)) = self.answered.front().copied()
            && (none_waits || now.nanos_since(at) > self.hold)
        {
            self.answered.pop_front();
            self.forget_request(id);
            decisions.released.push(id);
        }
        decisions
    }

    pub(super) fn finish(&mut self) -> Decisions {
        let decided = self.timing.flush();
        let mut decisions = self.translate(decided);
        for (_, id) in std::mem::take(&mut self.answered) {
            decisions.released.push(id);
        }
        decisions
    }

    fn suspend_hopeless(&mut self, now: KernelTime) -> Decisions {
        self.suspended.retain(|_, since| now.nanos_since(*since) < SUSPENSION);
        let timing = &self.timing;
        let hopeless = self.modelled.keys().filter(|pid| timing.is_hopeless(service(**pid)));
        let hopeless: Vec<Pid> = hopeless.copied().collect();
        let mut decisions = Decisions::default();
        for pid in hopeless {
            let decided = self.timing.forget(service(pid));
            decisions.extend(self.translate(decided));
            self.modelled.remove(&pid);
            self.suspended.insert(pid, now);
        }
        decisions
    }

    /// Models no longer what is of no use. Of calls that wait, nothing is lost: there are none.
    fn rest(&mut self) {
        let timing = &mut self.timing;
        self.modelled.retain(|pid, process| {
            let needed = process.waiting > 0 || process.unneeded < UNNEEDED;
            if !needed {
                timing.rest(service(*pid));
            }
            needed
        });
    }

    fn observe(&mut self, pid: Pid, at: KernelTime, moment: Moment) -> Decisions {
        if !self.modelled.contains_key(&pid) {
            return Decisions::default();
        }
        let decided = self.timing.observe(&Observation { service: service(pid), at, moment });
        self.translate(decided)
    }

    fn translate(&mut self, decided: Vec<Decision>) -> Decisions {
        let mut decisions = Decisions::default();
        for decision in decided {
            let Some((exchange, pid)) = self.call_exchanges.remove(&decision.call) else {
                continue;
            };
            if let Some(process) = self.modelled.get_mut(&pid) {
                process.waiting = process.waiting.saturating_sub(1);
            }
            decisions.calls.push((exchange, decision));
        }
        decisions
    }

    fn name_request(&mut self, id: ExchangeId) -> RequestId {
        self.next += 1;
        let request = RequestId(self.next);
        self.requests.insert(id, request);
        self.request_exchanges.insert(request, id);
        request
    }

    fn forget_request(&mut self, id: ExchangeId) {
        if let Some(request) = self.requests.remove(&id) {
            self.request_exchanges.remove(&request);
        }
    }
}

fn service(pid: Pid) -> Service {
    Service(u64::from(pid.0))
}

impl Decisions {
    fn extend(&mut self, other: Self) {
        self.calls.extend(other.calls);
        self.released.extend(other.released);
    }
}

/// What a request asks for, as far as that tells how it behaves: the method, the beginning of the
/// path without what looks like data, and of a call the host that is asked.
fn operation(head: &RequestHead, outbound: bool) -> Operation {
    let target = head
        .target
        .split_once("://")
        .map_or(&*head.target, |(_, rest)| rest.find('/').map_or("", |path| &rest[path..]));
    let path = target.split(['?', '#']).next().unwrap_or("");
    let mut name = head.method.to_string();
    for segment in path.split('/').filter(|segment| !segment.is_empty()).take(NAMING_SEGMENTS) {
        name.push('/');
        let data = segment.bytes().any(|byte| byte.is_ascii_digit());
        name.push_str(if data { "*" } else { segment });
    }
    let host = head.headers.iter().find(|(name, _)| outbound && *name == "host");
    Operation::named(&name, host.map_or("", |(_, host)| host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ConnId, StreamOffset};
    use crate::exchange::HttpVersion;
    use crate::link::Kind;

    const PID: Pid = Pid(7);

    fn exchange(conn: u64) -> ExchangeId {
        ExchangeId { conn: ConnId(conn), offset: StreamOffset(0) }
    }

    fn head() -> RequestHead {
        RequestHead {
            method: "GET".into(),
            target: "/a".into(),
            version: HttpVersion::Http11,
            gateway: None,
            headers: Vec::new(),
        }
    }

    #[test]
    fn a_model_rests_while_nothing_needs_it() {
        let mut timing = ByTiming::new(Options::default());
        let (head, request) = (head(), exchange(1));
        let at = |millis: u64| KernelTime(millis * 1_000_000);
        let open = || vec![(request, at(1))];
        timing.on_call(exchange(2), PID, &head, None, at(2), open);
        assert!(timing.waits_for(PID));
        let late = timing.on_tick(at(20_000));
        assert_eq!(late.calls.len(), 1);

        let (kind, candidates) = (Kind::Thread, 1);
        let known = Origin::Child { parent: request, kind, candidates, confidence: None };
        for call in 0..u64::from(UNNEEDED) {
            let call = exchange(10 + call);
            assert!(timing.modelled.contains_key(&PID), "{call:?}");
            timing.on_call(call, PID, &head, Some(&known), at(20_001), Vec::new);
            timing.on_returned(call, PID, at(20_002));
            timing.on_tick(at(20_003));
        }
        assert!(!timing.modelled.contains_key(&PID));
        timing.on_request(exchange(3), PID, &head, at(20_004));
        timing.on_call(exchange(4), PID, &head, Some(&known), at(20_005), open);
        assert!(!timing.modelled.contains_key(&PID));

        timing.on_call(exchange(5), PID, &head, None, at(20_006), open);
        assert!(timing.waits_for(PID));
        let mut decided = timing.on_answered(request, PID, at(20_007));
        decided.extend(timing.on_tick(at(60_000)));
        assert_eq!(decided.calls.len(), 1);
        assert!(timing.requests.is_empty() && timing.request_exchanges.is_empty());
    }
}
