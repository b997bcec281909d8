//! Parents: which inbound request of a process caused which outbound one, and which outbound
//! request of one process is the inbound request of another.
//!
//! Takes what connections observed, in order, and holds every exchange until its place in a trace
//! is settled for good. Evidence comes in kinds, the strongest first; without evidence a call
//! stays a root, because a missing link is honest and a wrong one is a lie. Must not know OTLP,
//! how bytes were captured, or any clock but the times it is told.

mod by_timing;
mod callbacks;
mod calls;
mod commitment;
mod contexts;
mod family;
mod hopes;
mod instrumented;
mod orders;
mod origin;
mod pairs;
mod per_process;
mod place;
mod sdk;
mod settling;
mod tally;
mod tasks;
mod threads;
pub mod timing;
mod workers;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use crate::event::{ConnId, Connecting, Data, Direction, KernelTime, Pid, Task, Tid};
use crate::exchange::{Ends, ExchangeId, RequestHead, Role};
use crate::sampling::Sampler;
use crate::telemetry::is_export;
use crate::trace::context::{IdSource, RemoteContext, SpanContext, TraceId, extract};
use by_timing::ByTiming;
use callbacks::{Callbacks, Cause};
pub use commitment::Committed;
use contexts::Contexts;
use family::{Family, Settled};
use hopes::Hopes;
pub use instrumented::Muted;
use instrumented::{Door, Instrumented, Reporter};
use orders::Orders;
pub use origin::{Kind, Origin};
use pairs::Pairs;
use sdk::Awaiting;
pub use tally::Tally;
use tasks::Tasks;
use threads::{Clue, Threads};
use timing::Confidence;
use workers::Workers;

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
    /// Decides whether the span that it becomes is recorded.
    pub sampler: Sampler,
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
    /// Calls whose place was needed before it was known, which made them roots.
    pub committed_unlinked: u64,
    /// Threads of which was forgotten what they were doing because there were too many: their next
    /// calls may miss their parents.
    pub forgotten_threads: u64,
}

#[derive(Debug)]
struct Open {
    role: Role,
    pid: Pid,
    tid: Tid,
    at: KernelTime,
    /// The context that the request carried.
    carried: Option<Box<RemoteContext>>,
    /// Of a request: where it came in.
    door: Option<Door>,
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
    /// The callback within which that was.
    callback: Option<KernelTime>,
    /// What reading is for, as far as was known before.
    cause: Cause,
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
    callbacks: Callbacks,
    orders: Orders,
    pairs: Pairs,
    timing: ByTiming,
    open: FxHashMap<ExchangeId, Open>,
    /// The newest exchange of each connection.
    newest: FxHashMap<ConnId, ExchangeId>,
    /// Server halves that wait for their client's, oldest first.
    unpaired: VecDeque<Unpaired>,
    /// What the data that is being looked at is about.
    moment: Option<Moment>,
    /// Calls whose parent threads may yet prove.
    hopes: Hopes,
    contexts: Contexts,
    instrumented: Instrumented,
    awaiting: VecDeque<Awaiting>,
    /// What calls went out with that were not seen yet.
    ahead: BTreeMap<(ConnId, u32), SpanContext>,
    muted: BTreeMap<&'static str, u64>,
    /// Room for what is settled together, kept because there is always more.
    settled: Vec<Settled<T>>,
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
            callbacks: Callbacks::default(),
            orders: Orders::default(),
            pairs: Pairs::default(),
            timing: ByTiming::new(timing),
            hopes: Hopes::default(),
            hold: nanos(timing.hold),
            longest_request: nanos(longest_request),
            contexts: Contexts::default(),
            instrumented: Instrumented::default(),
            awaiting: VecDeque::new(),
            ahead: BTreeMap::new(),
            muted: BTreeMap::new(),
            settled: Vec::new(),
            open: FxHashMap::default(),
            newest: FxHashMap::default(),
            unpaired: VecDeque::new(),
            moment: None,
            counters: Counters::default(),
        }
    }

    /// What was not treated the ordinary way so far.
    pub fn counters(&self) -> Counters {
        let forgotten_threads = self.orders.forgotten() + self.callbacks.forgotten();
        Counters { forgotten_threads, ..self.counters }
    }

    /// Exchanges that became no spans, because they are nothing to report or an SDK reports them, by
    /// reason.
    pub fn muted(&self) -> &BTreeMap<&'static str, u64> {
        &self.muted
    }

    /// A connection is being made.
    pub fn on_connecting(&mut self, event: &Connecting) {
        self.callbacks.on_connecting(event);
        self.orders.on_connecting(event);
        self.threads.on_connecting(event.conn, event.tid, event.waits, event.time);
    }

    /// Bytes are about to be looked at: what begins now, begins by this thread.
    pub fn before_data(&mut self, data: &Data<'_>) {
        self.tasks.on_data(data);
        let &Data { conn, tid, waits, time: at, task, callback, .. } = data;
        let (request, cause) = self.use_of(conn).unwrap_or((None, Cause::Unknown));
        self.moment = Some(Moment { tid, waits, at, task, request, callback, cause });
    }

    /// Bytes were looked at, and what they began or ended was told.
    pub fn after_data(&mut self, data: &Data<'_>) {
        let Some(before) = self.moment.take() else { return };
        if data.direction == Direction::Receive {
            let (request, cause) = self.use_of(data.conn).unwrap_or((None, before.cause));
            // The last byte of a response ends the call, but was read for its request.
            self.threads.on_read(data, request.or(before.request));
            if let Some(revealed) = self.callbacks.on_read(data, cause) {
                self.take_revealed(&revealed);
            }
        }
    }

    /// What is being looked at, if that is something `tid` did.
    fn moment_of(&self, tid: Tid) -> Option<Moment> {
        self.moment.filter(|moment| moment.tid == tid)
    }

    /// The request that a connection is used for at the moment, and what reading from it is for.
    fn use_of(&self, conn: ConnId) -> Option<(Option<ExchangeId>, Cause)> {
        let id = *self.newest.get(&conn)?;
        let open = self.open.get(&id)?;
        let request = if open.role == Role::Server { Some(id) } else { open.parent };
        Some((request, self.callbacks.reading(id, open.role)))
    }

    /// An exchange began.
    pub fn on_began(&mut self, began: &Began<'_>, ids: &mut IdSource, placed: &mut Vec<Placed<T>>) {
        let carried = extract(&began.request.headers).map(Box::new);
        let Began { id, role, pid, tid, at, .. } = *began;
        self.family.begin(id, began.sampler);
        let mut settled = std::mem::take(&mut self.settled);
        if is_export(began.request) {
            self.on_export(id, role, pid, ids, &mut settled);
            return self.hand_on(settled, placed);
        }
        self.newest.insert(id.conn, id);
        match role {
            Role::Server => {
                let otherwise = carried.clone().map_or(Origin::Root, Origin::Remote);
                let door = Door::new(pid, began.ends);
                self.ask_who_reports(id, door, carried.as_deref(), at);
                let door = Some(door);
                self.open.insert(id, Open { role, pid, tid, at, carried, door, parent: None });
                self.threads.on_request(id, pid, tid, at);
                self.tasks.on_request(began);
                self.orders.on_request(id, pid, tid, self.moment_of(tid).map(|it| it.waits));
                let decisions = self.timing.on_request(id, pid, began.request, at);
                self.take_decisions(decisions, ids, &mut settled);
                match self.pairs.meet(id, role, began.ends, at) {
                    Some(call) => self.pair(call, id, ids, &mut settled),
                    None => self.unpaired.push_back(Unpaired { id, at, otherwise }),
                }
            }
            Role::Client => {
                self.take_ahead(id, ids, &mut settled);
                // Where sending is seen late, the other end may have read the request before.
                let request = self.pairs.meet(id, role, began.ends, at);
                let parent = self.call(began, carried.clone(), request, ids, &mut settled);
                self.open.insert(id, Open { role, pid, tid, at, carried, door: None, parent });
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
        self.hand_on(settled, placed);
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
        let (pid, began) = (open.pid, open.at);
        if open.role == Role::Client {
            self.threads.on_call_answered(pid, open.tid, tid);
            self.orders.on_call_answered(id, pid, tid, self.moment_of(tid).map(|it| it.waits));
            let mut settled = std::mem::take(&mut self.settled);
            if let Some(clue) = self.tasks.on_call_answered(id) {
                self.on_late_clue(id, clue, ids, &mut settled);
            }
            self.settle_hopes(pid, ids, &mut settled);
            return self.hand_on(settled, placed);
        }
        self.tasks.on_response(id, pid);
        if let Some(call) = self.orders.on_response(id, pid, tid)
            && self.hopes.expect_of_order(call, id)
        {
            self.family.keep(id);
        }
        let moment = self.moment_of(tid);
        let (task, at) = moment.map_or((None, began), |moment| (moment.task, moment.at));
        for (call, kind) in self.workers.on_response(id, pid, task, began, at) {
            if self.hopes.expect_of_worker(call, kind.map(|kind| (id, kind))) {
                self.family.keep(id);
            }
        }
        let within = moment.and_then(|moment| moment.callback);
        if let Some(revealed) = self.callbacks.on_response(id, tid, within, began) {
            self.take_revealed(&revealed);
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
        let mut settled = std::mem::take(&mut self.settled);
        self.settle_hopes(pid, ids, &mut settled);
        self.hand_on(settled, placed);
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
        let mut settled = std::mem::take(&mut self.settled);
        self.close(id, at, ids, &mut settled);
        self.family.finish(id, exchange, &mut settled);
        self.hand_on(settled, placed);
    }

    /// An exchange that began will never be reported. Returns whether a span is lost with it: one
    /// that would have been none anyway counts as such.
    pub fn on_lost(
        &mut self,
        id: ExchangeId,
        at: KernelTime,
        ids: &mut IdSource,
        placed: &mut Vec<Placed<T>>,
    ) -> bool {
        let mut settled = std::mem::take(&mut self.settled);
        self.close(id, at, ids, &mut settled);
        let muted = self.family.muted(id);
        if let Some(reason) = muted {
            *self.muted.entry(reason.name()).or_default() += 1;
        }
        self.family.lose(id, ids, &mut settled);
        self.hand_on(settled, placed);
        muted.is_none()
    }

    /// A connection is gone.
    pub fn on_closed(&mut self, conn: ConnId) {
        self.newest.remove(&conn);
        self.forget_ahead(conn);
        self.threads.on_closed(conn);
        self.tasks.on_closed(conn);
        self.callbacks.on_closed(conn);
        self.orders.on_closed(conn);
    }

    /// A process exited.
    pub fn on_gone(&mut self, pid: Pid) {
        self.threads.on_gone(pid);
        self.tasks.on_gone(pid);
        self.workers.on_gone(pid);
        self.timing.on_gone(pid);
        self.callbacks.on_gone(pid);
        self.orders.on_gone(pid);
        self.instrumented.on_gone(pid);
    }

    /// Time passed.
    pub fn on_tick(&mut self, now: KernelTime, ids: &mut IdSource, placed: &mut Vec<Placed<T>>) {
        let mut settled = std::mem::take(&mut self.settled);
        let late = |half: &Unpaired| now.nanos_since(half.at) >= PAIR_WINDOW;
        while self.unpaired.front().is_some_and(late)
            && let Some(half) = self.unpaired.pop_front()
        {
            self.family.decide(half.id, half.otherwise, ids, &mut settled);
        }
        self.pairs.expire(KernelTime(now.0.saturating_sub(PAIR_WINDOW)));
        self.counters.outlived += self.threads.expire(now, self.longest_request);
        self.callbacks.expire(now);
        self.orders.expire(now);
        self.contexts.expire(now);
        self.await_no_longer(now, ids, &mut settled);
        let decisions = self.timing.on_tick(now);
        self.take_decisions(decisions, ids, &mut settled);
        let late = KernelTime(now.0.saturating_sub(self.hold));
        let unanswered = self.unanswered(now);
        let unanswered = |pid| unanswered.get(&pid).copied().unwrap_or(now);
        self.workers.expire(unanswered);
        self.give_up_hopes(late, unanswered, ids, &mut settled);
        self.hand_on(settled, placed);
    }

    /// When the oldest unanswered request of each process began, of those that may still cause
    /// something.
    fn unanswered(&self, now: KernelTime) -> FxHashMap<Pid, KernelTime> {
        let mut oldest = FxHashMap::default();
        for open in self.open.values().filter(|open| open.role == Role::Server) {
            if now.nanos_since(open.at) < self.longest_request {
                let at = oldest.entry(open.pid).or_insert(open.at);
                *at = open.at.min(*at);
            }
        }
        oldest
    }

    /// The traces of which something is open, as far as their places are settled.
    pub fn traces(&self) -> FxHashSet<TraceId> {
        self.family.traces().collect()
    }

    /// Nothing more will come: settles everything with what is known.
    pub fn finish(&mut self, ids: &mut IdSource, placed: &mut Vec<Placed<T>>) {
        let mut settled = std::mem::take(&mut self.settled);
        while let Some(half) = self.unpaired.pop_front() {
            self.family.decide(half.id, half.otherwise, ids, &mut settled);
        }
        let decisions = self.timing.finish();
        self.take_decisions(decisions, ids, &mut settled);
        let end = KernelTime(u64::MAX);
        self.give_up_hopes(end, |_| end, ids, &mut settled);
        self.await_no_longer(end, ids, &mut settled);
        for id in self.family.undecided() {
            self.family.decide(id, Origin::Root, ids, &mut settled);
        }
        self.hand_on(settled, placed);
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
                if let Some(context) = &open.carried {
                    self.contexts.on_answered(open.pid, id, context, at);
                }
                self.settle_who_reports(id, open.door, at, ids, settled);
                if self.timing.waits_for(open.pid) {
                    self.family.keep(id);
                }
                let decisions = self.timing.on_answered(id, open.pid, at);
                self.take_decisions(decisions, ids, settled);
            }
            Role::Client => {
                self.pairs.on_call_over(id, at);
                self.threads.on_call_over(id, open.tid);
                if let Some(clue) = self.tasks.on_call_answered(id) {
                    self.on_late_clue(id, clue, ids, settled);
                }
                self.tasks.on_call_over(id);
                self.callbacks.on_call_over(id);
                self.orders.on_call_over(id);
                let decisions = self.timing.on_returned(id, open.pid, at);
                self.take_decisions(decisions, ids, settled);
            }
        }
    }

    fn hand_on(&mut self, mut all: Vec<Settled<T>>, placed: &mut Vec<Placed<T>>) {
        for settled in all.drain(..) {
            match settled {
                Settled::Span { held: exchange, place, origin } => {
                    placed.push(Placed { exchange, place, origin });
                }
                Settled::Muted(reason) => *self.muted.entry(reason.name()).or_default() += 1,
            }
        }
        self.settled = all;
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
