//! Parents: which inbound request of a process caused which outbound one, and which outbound
//! request of one process is the inbound request of another.
//!
//! Takes what connections observed, in order, and holds every exchange until its place in a trace
//! is settled for good. Evidence comes in kinds, the strongest first; without evidence a call
//! stays a root, because a missing link is honest and a wrong one is a lie. Must not know OTLP,
//! how bytes were captured, or any clock but the times it is told.

mod by_timing;
mod family;
mod hopes;
mod pairs;
mod tally;
mod tasks;
mod threads;
pub mod timing;
mod workers;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::event::{ConnId, Connecting, Data, Direction, KernelTime, Pid, Task, Tid};
use crate::exchange::{Ends, ExchangeId, RequestHead, Role};
use crate::trace::context::{IdSource, RemoteContext, SpanContext, extract};
use by_timing::ByTiming;
use family::{Family, Settled};
use hopes::{Hope, Hopes};
use pairs::Pairs;
pub use tally::Tally;
use tasks::Tasks;
use threads::{Clue, Threads};
use timing::Confidence;
use workers::{Told, Workers};

/// Nanoseconds that a server's half waits for the client's: that is written down when the call
/// that sent it returns, which may be after the server has read it.
const PAIR_WINDOW: u64 = 150_000_000;
/// Exchanges held at once; beyond, the oldest undecided ones are settled with what is known.
const MAX_HELD: usize = 32_768;

/// How sure to be, and how patient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Least confidence of a parent that only [`timing`] gives.
    pub threshold: Confidence,
    /// A request open for longer causes no more calls.
    pub longest_request: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { threshold: Confidence::new(0.9), longest_request: Duration::from_mins(5) }
    }
}

/// What decided a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The request carried the context that the parent had received.
    Header,
    /// Both ends of the connection were seen.
    Pair,
    /// The task that made the call, or one that started it, was handling that request.
    Coroutine,
    /// The task that made the call, or one that waited for it, wrote that request's response.
    #[serde(rename = "coroutine")]
    Task,
    /// As `Task`, but another task below the one that waits for both.
    #[serde(rename = "coroutine")]
    RelatedTask,
    /// The thread that made the call was handling that request and no other.
    Thread,
    /// The thread that made the call wrote that request's response next.
    Worker,
    /// The call was written at once after something of that request was read.
    Tick,
    /// No other request was open.
    Sole,
    /// It was by far the most likely one.
    Timing,
}

impl Kind {
    /// All names, the strongest evidence first.
    pub const NAMES: [&str; 7] =
        ["header", "pair", "coroutine", "thread", "tick", "sole", "timing"];

    /// As spans and reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Pair => "pair",
            Self::Coroutine | Self::Task | Self::RelatedTask => "coroutine",
            Self::Thread | Self::Worker => "thread",
            Self::Tick => "tick",
            Self::Sole => "sole",
            Self::Timing => "timing",
        }
    }
}

/// Where an exchange comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// Nobody that is known.
    Root,
    /// The span whose context it carries.
    Remote(Box<RemoteContext>),
    /// Another exchange that was seen.
    Child {
        /// Which.
        parent: ExchangeId,
        /// How that is known.
        kind: Kind,
        /// Requests that it could have been, this one included.
        candidates: usize,
        /// How sure that is, where it is not certain.
        confidence: Option<Confidence>,
    },
    /// One of several requests, but not sure enough which.
    Unclear {
        /// How many.
        candidates: usize,
        /// The likeliest one's place, if all of them belong to one trace.
        related: Option<Box<SpanContext>>,
    },
}

impl Origin {
    fn parent(&self) -> Option<ExchangeId> {
        match self {
            Self::Child { parent, .. } => Some(*parent),
            Self::Root | Self::Remote(_) | Self::Unclear { .. } => None,
        }
    }
}

/// An exchange that just began.
#[derive(Clone, Debug)]
pub struct Began<'a> {
    /// Identity.
    pub id: ExchangeId,
    /// Which end was observed.
    pub role: Role,
    /// Process.
    pub pid: Pid,
    /// Thread that read or wrote the first byte.
    pub tid: Tid,
    /// When.
    pub at: KernelTime,
    /// The connection's ends.
    pub ends: &'a Arc<Ends>,
    /// The request.
    pub request: &'a RequestHead,
}

/// A finished exchange with its place in a trace.
#[derive(Debug)]
pub struct Placed<T> {
    /// What was handed in when it finished.
    pub exchange: T,
    /// Its place.
    pub place: Arc<SpanContext>,
    /// Where that comes from.
    pub origin: Origin,
}

/// What was not treated the ordinary way, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Exchanges settled early because too many were held.
    pub settled_early: u64,
    /// Requests open for so long that they cause no more calls.
    pub outlived: u64,
}

#[derive(Debug)]
struct Open {
    role: Role,
    pid: Pid,
    tid: Tid,
    at: KernelTime,
    /// The context that the request carried.
    carried: Option<Box<RemoteContext>>,
    /// Of a call: the request that caused it.
    parent: Option<ExchangeId>,
}

/// The thread that moved bytes, and the request it did that for as far as was known before.
#[derive(Clone, Copy, Debug)]
struct Moment {
    tid: Tid,
    waits: u32,
    at: KernelTime,
    task: Option<Task>,
    request: Option<ExchangeId>,
}

/// The server's half of an exchange, and where it comes from if the other half is not seen.
#[derive(Debug)]
struct Unpaired {
    id: ExchangeId,
    at: KernelTime,
    otherwise: Origin,
}

/// All evidence, and all that waits for it.
#[derive(Debug)]
pub struct Linker<T> {
    family: Family<T>,
    threads: Threads,
    tasks: Tasks,
    workers: Workers,
    pairs: Pairs,
    timing: ByTiming,
    open: HashMap<ExchangeId, Open>,
    /// The newest exchange of each connection.
    newest: HashMap<ConnId, ExchangeId>,
    /// Server halves that wait for their client's, oldest first.
    unpaired: VecDeque<Unpaired>,
    /// What the data that is being looked at is about.
    moment: Option<Moment>,
    /// Calls whose parent threads may yet prove.
    hopes: Hopes,
    hold: u64,
    longest_request: u64,
    counters: Counters,
}

impl<T> Linker<T> {
    /// Knows nothing yet.
    pub fn new(options: Options) -> Self {
        let Options { threshold, longest_request } = options;
        let timing = timing::Options { threshold, longest_request, ..timing::Options::default() };
        Self {
            family: Family::new(),
            threads: Threads::default(),
            tasks: Tasks::default(),
            workers: Workers::default(),
            pairs: Pairs::default(),
            timing: ByTiming::new(timing),
            hopes: Hopes::default(),
            hold: nanos(timing.hold),
            longest_request: nanos(longest_request),
            open: HashMap::new(),
            newest: HashMap::new(),
            unpaired: VecDeque::new(),
            moment: None,
            counters: Counters::default(),
        }
    }

    /// What was not treated the ordinary way so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// A connection is being made.
    pub fn on_connecting(&mut self, event: &Connecting) {
        self.threads.on_connecting(event.conn, event.tid, event.waits, event.time);
    }

    /// Bytes are about to be looked at: what begins now, begins by this thread.
    pub fn before_data(&mut self, data: &Data<'_>) {
        self.tasks.on_data(data);
        let request = self.request_of(data.conn);
        let Data { tid, waits, time: at, task, .. } = *data;
        self.moment = Some(Moment { tid, waits, at, task, request });
    }

    /// Bytes were looked at, and what they began or ended was told.
    pub fn after_data(&mut self, data: &Data<'_>) {
        let before = self.moment.take().and_then(|moment| moment.request);
        if data.direction == Direction::Receive {
            // The last byte of a response ends the call, but was read for its request.
            let request = self.request_of(data.conn).or(before);
            self.threads.on_read(data.tid, data.waits, data.time, request);
        }
    }

    /// The request that a connection is used for at the moment.
    fn request_of(&self, conn: ConnId) -> Option<ExchangeId> {
        let id = self.newest.get(&conn)?;
        let open = self.open.get(id)?;
        if open.role == Role::Server { Some(*id) } else { open.parent }
    }

    /// An exchange began.
    pub fn on_began(&mut self, began: &Began<'_>, ids: &mut IdSource, placed: &mut Vec<Placed<T>>) {
        let carried = extract(&began.request.headers).map(Box::new);
        let Began { id, role, pid, tid, at, .. } = *began;
        self.family.begin(id);
        self.newest.insert(id.conn, id);
        let mut settled = Vec::new();
        match role {
            Role::Server => {
                let otherwise = carried.clone().map_or(Origin::Root, Origin::Remote);
                self.open.insert(id, Open { role, pid, tid, at, carried, parent: None });
                self.threads.on_request(id, pid, tid, at);
                self.tasks.on_request(began);
                let decisions = self.timing.on_request(id, pid, began.request, at);
                self.take_decisions(decisions, ids, &mut settled);
                match self.pairs.meet(id, role, began.ends, at) {
                    Some(call) => self.pair(call, id, ids, &mut settled),
                    None => self.unpaired.push_back(Unpaired { id, at, otherwise }),
                }
            }
            Role::Client => {
                // Where sending is seen late, the other end may have read the request before.
                let request = self.pairs.meet(id, role, began.ends, at);
                let parent = self.call(began, carried.clone(), request, ids, &mut settled);
                self.open.insert(id, Open { role, pid, tid, at, carried, parent });
                if let Some(request) = request {
                    self.pair(id, request, ids, &mut settled);
                }
            }
        }
        while self.family.len() > MAX_HELD {
            let Some(oldest) = self.unpaired.pop_front() else { break };
            self.counters.settled_early += u64::from(!self.family.is_decided(oldest.id));
            self.family.decide(oldest.id, oldest.otherwise, ids, &mut settled);
        }
        hand_on(settled, placed);
    }

    /// A final response began; `tid` wrote or read its first byte.
    pub fn on_response(
        &mut self,
        id: ExchangeId,
        tid: Tid,
        ids: &mut IdSource,
        placed: &mut Vec<Placed<T>>,
    ) {
        let Some(open) = self.open.get(&id) else { return };
        if open.role == Role::Client {
            return self.threads.on_call_answered(open.pid, open.tid, tid);
        }
        let (pid, began) = (open.pid, open.at);
        self.tasks.on_response(id, pid);
        let moment = self.moment.filter(|moment| moment.tid == tid);
        let (task, at) = moment.map_or((None, began), |moment| (moment.task, moment.at));
        let work = self.workers.on_response(id, pid, task, began, at);
        for (call, kind) in work {
            if self.hopes.expect_of_task(call, kind.map(|kind| (id, kind))) {
                self.family.keep(id);
            }
        }
        let work = self.threads.on_response(id, pid, tid);
        for call in work.own {
            if self.hopes.expect(call, (id, Kind::Worker)) {
                self.family.keep(id);
            }
        }
        for call in work.others {
            self.hopes.expect_nothing_of_thread(call);
        }
        let mut settled = Vec::new();
        self.settle_hopes(pid, ids, &mut settled);
        hand_on(settled, placed);
    }

    /// An exchange is over. It is given back once its place is settled.
    pub fn on_finished(
        &mut self,
        id: ExchangeId,
        exchange: T,
        at: KernelTime,
        ids: &mut IdSource,
        placed: &mut Vec<Placed<T>>,
    ) {
        let mut settled = Vec::new();
        self.close(id, at, ids, &mut settled);
        self.family.finish(id, exchange, &mut settled);
        hand_on(settled, placed);
    }

    /// An exchange that began will never be reported.
    pub fn on_lost(
        &mut self,
        id: ExchangeId,
        at: KernelTime,
        ids: &mut IdSource,
        placed: &mut Vec<Placed<T>>,
    ) {
        let mut settled = Vec::new();
        self.close(id, at, ids, &mut settled);
        self.family.lose(id, ids, &mut settled);
        hand_on(settled, placed);
    }

    /// A connection is gone.
    pub fn on_closed(&mut self, conn: ConnId) {
        self.newest.remove(&conn);
        self.threads.on_closed(conn);
        self.tasks.on_closed(conn);
    }

    /// A process exited.
    pub fn on_gone(&mut self, pid: Pid) {
        self.threads.on_gone(pid);
        self.tasks.on_gone(pid);
        self.workers.on_gone(pid);
    }

    /// Time passed.
    pub fn on_tick(&mut self, now: KernelTime, ids: &mut IdSource, placed: &mut Vec<Placed<T>>) {
        let mut settled = Vec::new();
        let late = |half: &Unpaired| now.nanos_since(half.at) >= PAIR_WINDOW;
        while self.unpaired.front().is_some_and(late)
            && let Some(half) = self.unpaired.pop_front()
        {
            self.family.decide(half.id, half.otherwise, ids, &mut settled);
        }
        self.pairs.expire(KernelTime(now.0.saturating_sub(PAIR_WINDOW)));
        self.counters.outlived += self.threads.expire(now, self.longest_request);
        let decisions = self.timing.on_tick(now);
        self.take_decisions(decisions, ids, &mut settled);
        let late = KernelTime(now.0.saturating_sub(self.hold));
        let unanswered = self.unanswered(now);
        let unanswered = |pid| unanswered.get(&pid).copied().unwrap_or(now);
        self.workers.expire(unanswered);
        for resolved in self.hopes.give_up(late, unanswered) {
            self.settle_hope(resolved, ids, &mut settled);
        }
        hand_on(settled, placed);
    }

    /// When the oldest unanswered request of each process began, of those that may still cause
    /// something.
    fn unanswered(&self, now: KernelTime) -> HashMap<Pid, KernelTime> {
        let mut oldest = HashMap::new();
        for open in self.open.values().filter(|open| open.role == Role::Server) {
            if now.nanos_since(open.at) < self.longest_request {
                let at = oldest.entry(open.pid).or_insert(open.at);
                *at = open.at.min(*at);
            }
        }
        oldest
    }

    /// Nothing more will come: settles everything with what is known.
    pub fn finish(&mut self, ids: &mut IdSource, placed: &mut Vec<Placed<T>>) {
        let mut settled = Vec::new();
        while let Some(half) = self.unpaired.pop_front() {
            self.family.decide(half.id, half.otherwise, ids, &mut settled);
        }
        let decisions = self.timing.finish();
        self.take_decisions(decisions, ids, &mut settled);
        for resolved in self.hopes.give_up(KernelTime(u64::MAX), |_| KernelTime(u64::MAX)) {
            self.settle_hope(resolved, ids, &mut settled);
        }
        for id in self.family.undecided() {
            self.family.decide(id, Origin::Root, ids, &mut settled);
        }
        hand_on(settled, placed);
    }

    /// A call of a process: looks for the request that caused it, and gives it if it is known.
    /// It cannot be `itself`, its own other end.
    fn call(
        &mut self,
        began: &Began<'_>,
        carried: Option<Box<RemoteContext>>,
        itself: Option<ExchangeId>,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) -> Option<ExchangeId> {
        let Began { id, pid, tid, at, .. } = *began;
        let moment = self.moment.filter(|moment| moment.tid == tid);
        let waits = moment.map(|moment| moment.waits);
        let clue = self.threads.on_call(id, pid, tid, waits, at, itself);
        let clue = self.tasks.on_call(id, pid, clue);
        let task = moment.and_then(|moment| moment.task).filter(|_| carried.is_none());
        let told = self.workers.on_call(id, pid, task, at);
        let clue = told.improve(clue);
        let origin = match carried {
            Some(carried) => match self.brought_by(pid, &carried, clue) {
                Some(brought) => brought.origin(),
                // Somebody else's context: its owner is the parent.
                None => Some(Origin::Remote(carried)),
            },
            None => clue.origin(),
        };
        if let (None, Clue::Unclear { candidates, probable }) = (&origin, clue) {
            if let Some((request, _)) = probable {
                self.family.keep(request);
            }
            let hope = match told {
                Told::Later => Hope::of_task(pid, at, candidates),
                Told::Parent(_) | Told::Nothing => Hope::new(pid, at, candidates, probable),
            };
            self.hopes.add(id, hope);
        }
        let parent = origin.as_ref().map(Origin::parent);
        let open = &self.open;
        let decisions = self.timing.on_call(id, pid, began.request, parent, at, || {
            let requests = open.iter().filter(|(request, it)| {
                it.role == Role::Server && it.pid == pid && Some(**request) != itself
            });
            requests.map(|(id, it)| (*id, it.at)).collect()
        });
        if let Some(origin) = origin {
            self.family.decide(id, origin, ids, settled);
        }
        self.take_decisions(decisions, ids, settled);
        self.settle_hopes(pid, ids, settled);
        parent.flatten()
    }

    /// The request of `pid` that brought the context a call carries; `None` if none did.
    fn brought_by(&self, pid: Pid, carried: &RemoteContext, clue: Clue) -> Option<Clue> {
        let brought = |open: &Open| {
            let context = open.carried.as_deref();
            open.role == Role::Server
                && open.pid == pid
                && context.is_some_and(|it| (it.trace, it.span) == (carried.trace, carried.span))
        };
        if let Clue::Parent { parent, .. } = clue
            && self.open.get(&parent).is_some_and(brought)
        {
            return Some(clue);
        }
        let mut bringers = self.open.iter().filter(|(_, open)| brought(open));
        match (bringers.next(), bringers.next()) {
            (Some((parent, _)), None) => {
                Some(Clue::Parent { parent: *parent, kind: Kind::Header, candidates: 1 })
            }
            _ => None,
        }
    }

    /// Both ends of one exchange are known.
    fn pair(
        &mut self,
        call: ExchangeId,
        request: ExchangeId,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        if self.family.is_decided(request) || !self.family.contains(call) {
            return;
        }
        let origin =
            Origin::Child { parent: call, kind: Kind::Pair, candidates: 1, confidence: None };
        self.family.decide(request, origin, ids, settled);
    }

    /// An exchange is over, well or not.
    fn close(
        &mut self,
        id: ExchangeId,
        at: KernelTime,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        let Some(open) = self.open.remove(&id) else { return };
        match open.role {
            Role::Server => {
                self.threads.on_answered(id, open.pid);
                self.tasks.on_answered(id, open.pid);
                self.workers.on_answered(id, open.pid);
                if self.timing.waits_for(open.pid) {
                    self.family.keep(id);
                }
                let decisions = self.timing.on_answered(id, open.pid, at);
                self.take_decisions(decisions, ids, settled);
            }
            Role::Client => {
                self.threads.on_call_over(id, open.tid);
                self.tasks.on_call_over(id);
                let decisions = self.timing.on_returned(id, open.pid, at);
                self.take_decisions(decisions, ids, settled);
            }
        }
    }

    fn take_decisions(
        &mut self,
        decisions: by_timing::Decisions,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        for (call, decision) in decisions.calls {
            let origin = self.origin(&decision);
            // What threads prove is better than a likelihood, but may come later.
            if let Some(origin) = self.hopes.otherwise(call, origin) {
                self.settle_call(call, origin, ids, settled);
            }
        }
        for request in decisions.released {
            self.family.release(request);
        }
    }

    /// Settles calls of which threads have proven enough, or will not.
    fn settle_hopes(&mut self, pid: Pid, ids: &mut IdSource, settled: &mut Vec<Settled<T>>) {
        let (threads, tasks, workers) = (&self.threads, &self.tasks, &self.workers);
        let trust = |call, kind| match kind {
            Kind::Coroutine => tasks.trust(call),
            Kind::Task | Kind::RelatedTask => workers.trust(pid, kind),
            _ => threads.trust(pid, kind),
        };
        for resolved in self.hopes.resolve(pid, trust) {
            self.settle_hope(resolved, ids, settled);
        }
    }

    fn settle_hope(
        &mut self,
        resolved: hopes::Resolved,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        let hopes::Resolved { call, origin, released } = resolved;
        self.tasks.release(call);
        // Without an origin it is still up to timing.
        if let Some(origin) = origin {
            self.settle_call(call, origin, ids, settled);
        }
        if let Some(request) = released {
            self.family.release(request);
        }
    }

    fn settle_call(
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

    fn origin(&self, decision: &timing::Decision) -> Origin {
        let candidates = decision.candidate_count;
        if let Some(parent) = decision.parent().and_then(|request| self.timing.exchange(request)) {
            let confidence = Some(decision.confidence);
            return Origin::Child { parent, kind: Kind::Timing, candidates, confidence };
        }
        if candidates == 0 {
            return Origin::Root;
        }
        let place = |request| self.family.place(self.timing.exchange(request)?);
        let related = decision
            .sole_trace(|request| place(request).map(|place| place.trace))
            .and_then(|_| place(decision.likeliest?))
            .map(|place| Box::new((**place).clone()));
        Origin::Unclear { candidates, related }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn hand_on<T>(settled: Vec<Settled<T>>, placed: &mut Vec<Placed<T>>) {
    placed.extend(settled.into_iter().map(|settled| Placed {
        exchange: settled.held,
        place: settled.place,
        origin: settled.origin,
    }));
}

#[cfg(test)]
mod tests;
