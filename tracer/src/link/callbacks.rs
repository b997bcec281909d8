//! What the callbacks of an event loop tell of parents. What is written within the callback that a
//! read began is done for what was read: a request, or the response to a call, which was made for
//! a request.
//!
//! A call that a timer made, or anything else that was not read, is for an unknown request; so is
//! all that is done when its response is read, until the response to a request is written there:
//! that request it was, all along. Calls that are known to be for the same request are a *chain*.
//!
//! That is relied on as far as a process does it: in a *faithful* one the response to a request is
//! written within callbacks of that request or of its own calls. One that shares its connections
//! among waiting calls, or answers many by one call, is not. Knows exchanges by id, and no clock.

use rustc_hash::FxHashMap;

use super::per_process::PerProcess;
use super::threads::{Clue, DIALED_FOR, Habit, Trust};
use super::{Began, Kind};
use crate::event::{ConnId, Connecting, Data, KernelTime, Pid, Tid};
use crate::exchange::{ExchangeId, Role};

/// Threads whose callback is remembered at once; beyond, all are forgotten, and counted.
const MAX_THREADS: usize = 16_384;
/// Calls looked after at once; of further ones nothing is known.
const MAX_CALLS: usize = 32_768;
/// Connections being made that are remembered at once; of further ones nothing is known.
const MAX_DIALED: usize = 16_384;

/// For what something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// For this request.
    Request(ExchangeId),
    /// For the same one as this call, the first of its chain.
    Chain(ExchangeId),
    /// For anything.
    Unknown,
}

/// What a thread does since it last read.
#[derive(Clone, Copy, Debug)]
struct Callback {
    pid: Pid,
    began: KernelTime,
    cause: Cause,
}

/// Calls for one unknown request.
#[derive(Debug, Default)]
struct Chain {
    calls: Vec<(ExchangeId, KernelTime)>,
    /// How many of them are not over.
    under_way: usize,
}

/// Calls of one chain, and what is known of their request now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Revealed {
    pub(super) calls: Vec<ExchangeId>,
    /// Which it is; `None` if nothing more can tell.
    pub(super) request: Option<ExchangeId>,
}

/// All that is known of callbacks.
#[derive(Debug, Default)]
pub(super) struct Callbacks {
    /// Processes whose callbacks are told apart, and how faithful they are.
    processes: PerProcess<Habit>,
    running: FxHashMap<Tid, Callback>,
    forgotten: u64,
    /// What the calls are for that are not over.
    causes: FxHashMap<ExchangeId, Cause>,
    /// By their first call.
    chains: FxHashMap<ExchangeId, Chain>,
    chain_of: FxHashMap<ExchangeId, ExchangeId>,
    dialed: FxHashMap<ConnId, (KernelTime, Cause)>,
}

impl Callbacks {
    /// Threads of which the callback was forgotten because there were too many.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// A thread begins to make a connection.
    pub(super) fn on_connecting(&mut self, event: &Connecting) {
        if self.processes.contains(event.pid) && self.dialed.len() < MAX_DIALED {
            let cause = self.cause(event.tid, event.callback);
            self.dialed.insert(event.conn, (event.time, cause));
        }
    }

    /// What it is for if the next bytes of an exchange are read: the request itself, or the
    /// response to a call.
    pub(super) fn reading(&self, id: ExchangeId, role: Role) -> Cause {
        match role {
            Role::Server => Cause::Request(id),
            Role::Client => self.causes.get(&id).copied().unwrap_or(Cause::Unknown),
        }
    }

    /// A thread has read something: if that is the beginning of a callback, all that it does until
    /// it reads again is for the same cause. Gives calls of which nothing more can be known.
    pub(super) fn on_read(&mut self, data: &Data<'_>, cause: Cause) -> Option<Revealed> {
        let began = data.callback?;
        self.processes.remember(data.pid)?;
        if self.running.len() >= MAX_THREADS && !self.running.contains_key(&data.tid) {
            self.forgotten += self.running.len() as u64;
            self.running.clear();
        }
        let callback = Callback { pid: data.pid, began, cause };
        let Some(Callback { cause: Cause::Chain(ended), .. }) =
            self.running.insert(data.tid, callback)
        else {
            return None;
        };
        let over = self.chains.get(&ended).is_some_and(|chain| chain.under_way == 0);
        (over && cause != Cause::Chain(ended)).then(|| self.reveal(ended, None))
    }

    /// A call began within `within`, of which others say `clue`; says what is known all in all.
    /// `is_open` tells whether a request can still cause calls.
    pub(super) fn on_call(
        &mut self,
        began: &Began<'_>,
        within: Option<KernelTime>,
        clue: Clue,
        is_open: impl Fn(ExchangeId) -> bool,
    ) -> Clue {
        let Began { id, pid, tid, at, .. } = *began;
        if !self.processes.contains(pid) {
            return clue;
        }
        // The first call on a connection is the one that it was made for.
        let dialed = self.dialed.remove(&id.conn).map(|(_, cause)| cause);
        let dialed = dialed.filter(|cause| *cause != Cause::Unknown);
        let cause = dialed.unwrap_or_else(|| self.cause(tid, within));
        let candidates = clue.candidates();
        if let Cause::Request(request) = cause {
            self.causes.insert(id, cause);
            let kind = Kind::Callback;
            return match self.trust(pid) {
                Trust::Denied => beyond_threads(clue),
                _ if !is_open(request) => Clue::Root,
                Trust::Open if candidates > 1 => {
                    Clue::Unclear { candidates, probable: Some((request, kind)) }
                }
                _ => Clue::Parent { parent: request, kind, candidates },
            };
        }
        self.chain(id, at, cause);
        beyond_threads(clue)
    }

    /// The response to a request began. Gives the calls that turn out to be for it.
    pub(super) fn on_response(
        &mut self,
        id: ExchangeId,
        tid: Tid,
        within: Option<KernelTime>,
        began: KernelTime,
    ) -> Option<Revealed> {
        let cause = self.cause(tid, within);
        let habit = self.processes.get_mut(self.running.get(&tid)?.pid)?;
        match cause {
            Cause::Request(request) => {
                habit.observe(request == id);
                None
            }
            Cause::Chain(first) => {
                let earliest = self.chains.get(&first)?.calls.iter().map(|(_, at)| *at).min();
                habit.observe(earliest.is_some_and(|earliest| earliest >= began));
                if let Some(callback) = self.running.get_mut(&tid) {
                    callback.cause = Cause::Request(id);
                }
                Some(self.reveal(first, Some(id)))
            }
            Cause::Unknown => None,
        }
    }

    /// A call is over.
    pub(super) fn on_call_over(&mut self, id: ExchangeId) {
        if let Some(Cause::Chain(first)) = self.causes.remove(&id)
            && let Some(chain) = self.chains.get_mut(&first)
        {
            chain.under_way -= 1;
        }
    }

    /// Whether callbacks mean anything in a process.
    pub(super) fn trust(&self, pid: Pid) -> Trust {
        self.processes.get(pid).map_or(Trust::Denied, |habit| habit.trust())
    }

    /// Whether a later response may tell what a call is for.
    pub(super) fn may_reveal(&self, call: ExchangeId) -> bool {
        self.chain_of.contains_key(&call)
    }

    /// Nobody wants to know any more what a call is for.
    pub(super) fn release(&mut self, call: ExchangeId) {
        if let Some(first) = self.chain_of.get(&call).copied() {
            self.reveal(first, None);
        }
    }

    /// Nothing more will come of a connection.
    pub(super) fn on_closed(&mut self, conn: ConnId) {
        self.dialed.remove(&conn);
    }

    /// Forgets connections that were never used, such as those to databases.
    pub(super) fn expire(&mut self, now: KernelTime) {
        self.dialed.retain(|_, (at, _)| now.nanos_since(*at) < DIALED_FOR);
    }

    /// A process exited.
    pub(super) fn on_gone(&mut self, pid: Pid) {
        if self.processes.forget(pid).is_some() {
            self.running.retain(|_, callback| callback.pid != pid);
        }
    }

    fn cause(&self, tid: Tid, within: Option<KernelTime>) -> Cause {
        let callback = self.running.get(&tid).filter(|callback| within == Some(callback.began));
        callback.map_or(Cause::Unknown, |callback| callback.cause)
    }

    /// Notes a call as one of a chain, or as the first of a new one.
    fn chain(&mut self, id: ExchangeId, at: KernelTime, cause: Cause) {
        if self.chain_of.len() >= MAX_CALLS {
            return;
        }
        let first = if let Cause::Chain(first) = cause { first } else { id };
        let chain = self.chains.entry(first).or_default();
        chain.calls.push((id, at));
        chain.under_way += 1;
        self.chain_of.insert(id, first);
        self.causes.insert(id, Cause::Chain(first));
    }

    /// Ends a chain.
    fn reveal(&mut self, first: ExchangeId, request: Option<ExchangeId>) -> Revealed {
        let chain = self.chains.remove(&first).unwrap_or_default();
        let cause = request.map_or(Cause::Unknown, Cause::Request);
        let calls = chain.calls.into_iter().map(|(call, _)| call).collect::<Vec<_>>();
        for call in &calls {
            self.chain_of.remove(call);
            if let Some(known) = self.causes.get_mut(call) {
                *known = cause;
            }
        }
        Revealed { calls, request }
    }
}

/// What is left of a clue if threads prove nothing: on one thread, a timer's call may follow what
/// was read for another request.
fn beyond_threads(clue: Clue) -> Clue {
    let candidates = clue.candidates();
    match clue {
        Clue::Parent { kind: Kind::Thread | Kind::Tick, .. } if candidates > 1 => {
            Clue::Unclear { candidates, probable: None }
        }
        Clue::Unclear { .. } => Clue::Unclear { candidates, probable: None },
        Clue::Parent { .. } | Clue::Root => clue,
    }
}
