//! What the order of reading and writing tells of parents. A proxy may read several requests
//! before it makes the calls for them, all on one thread; but it goes through them in the order in
//! which they came.
//!
//! So the first call that a thread makes, or connection that it opens for one, is taken to be for
//! the first request that it has read, and so on, until it waits. Responses tell whether that is
//! right: where the response to a request is written, that to its call was read before, since the
//! thread last waited. An *orderly* process never contradicts this, and shows it in cases that
//! leave no choice: of several requests, one was called for, and its response came alone. Knows
//! exchanges by id, and no clock.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::per_process::PerProcess;
use super::threads::{DIALED_FOR, Habit, Trust};
use crate::event::{ConnId, Connecting, KernelTime, Pid, Tid};
use crate::exchange::ExchangeId;

/// Threads remembered at once; beyond, all of them are forgotten, and counted.
pub(super) const MAX_THREADS: usize = 16_384;
/// What one thread has read and not written on yet; beyond, nothing is concluded from its order.
const MAX_READ: usize = 4_096;
/// Calls looked after at once; of further ones nothing is known.
const MAX_CALLS: usize = 32_768;
/// Connections being made that are remembered at once; of further ones nothing is known.
const MAX_DIALED: usize = 16_384;

/// What a call is for by the order of requests.
#[derive(Clone, Copy, Debug)]
struct Assumed {
    request: ExchangeId,
    /// Others were open as well.
    of_several: bool,
}

/// What a thread has read since it last waited, and not gone through.
#[derive(Debug, Default)]
struct Thread {
    waits: u32,
    requests: VecDeque<ExchangeId>,
    /// Calls whose responses were read and not written on.
    responses: Vec<(ExchangeId, Option<Assumed>)>,
    /// Responses that were read at all.
    came: usize,
}

/// All that is known of orders.
#[derive(Debug, Default)]
pub(super) struct Orders {
    threads: FxHashMap<Tid, Thread>,
    forgotten: u64,
    processes: PerProcess<Habit>,
    /// Connections made for a call, and the request that it will be for.
    dialed: FxHashMap<ConnId, (KernelTime, Option<ExchangeId>)>,
    /// Of calls that are not over.
    assumed: FxHashMap<ExchangeId, Assumed>,
}

impl Orders {
    /// Threads that were forgotten because there were too many.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// A thread read a request.
    pub(super) fn on_request(&mut self, id: ExchangeId, pid: Pid, tid: Tid, waits: Option<u32>) {
        if let Some(thread) = self.reading(pid, tid, waits) {
            if thread.requests.len() >= MAX_READ {
                thread.requests.clear();
            }
            thread.requests.push_back(id);
        }
    }

    /// A thread begins to make a connection: a call will be made on it for the same request.
    pub(super) fn on_connecting(&mut self, event: &Connecting) {
        if self.trust(event.pid) != Trust::Denied && self.dialed.len() < MAX_DIALED {
            let request = self.next(event.tid);
            self.dialed.insert(event.conn, (event.time, request));
        }
    }

    /// A thread made a call, which `candidates` open requests may have caused. Says whether the
    /// response may tell which it was.
    pub(super) fn on_call(&mut self, id: ExchangeId, tid: Tid, candidates: usize) -> bool {
        let request = match self.dialed.remove(&id.conn) {
            Some((_, request)) => request,
            None => self.next(tid),
        };
        let Some(request) = request.filter(|_| self.assumed.len() < MAX_CALLS) else {
            return false;
        };
        self.assumed.insert(id, Assumed { request, of_several: candidates > 1 });
        true
    }

    /// A thread began to read the response to a call.
    pub(super) fn on_call_answered(
        &mut self,
        id: ExchangeId,
        pid: Pid,
        tid: Tid,
        waits: Option<u32>,
    ) {
        let assumed = self.assumed.get(&id).copied();
        if let Some(thread) = self.reading(pid, tid, waits) {
            if thread.responses.len() >= MAX_READ {
                thread.responses.clear();
            }
            thread.responses.push((id, assumed));
            thread.came += 1;
        }
    }

    /// A thread began to write the response to a request. Gives the call that this tells of.
    pub(super) fn on_response(&mut self, id: ExchangeId, pid: Pid, tid: Tid) -> Option<ExchangeId> {
        let thread = self.threads.get_mut(&tid)?;
        // One that nothing was called for is not in the way of others.
        thread.requests.retain(|request| *request != id);
        let alone = thread.came == 1;
        let of_this = |(_, assumed): &(_, Option<Assumed>)| {
            assumed.is_some_and(|assumed| assumed.request == id)
        };
        if let Some(at) = thread.responses.iter().position(of_this) {
            let (call, assumed) = thread.responses.remove(at);
            if alone && assumed.is_some_and(|assumed| assumed.of_several) {
                self.processes.remember(pid)?.observe(true);
            }
            return Some(call);
        }
        if !thread.responses.is_empty() && thread.responses.iter().all(|(_, it)| it.is_some()) {
            thread.responses.clear();
            thread.requests.clear();
            self.processes.remember(pid)?.observe(false);
        }
        None
    }

    /// A call is over.
    pub(super) fn on_call_over(&mut self, id: ExchangeId) {
        self.assumed.remove(&id);
    }

    /// Whether a process is orderly.
    pub(super) fn trust(&self, pid: Pid) -> Trust {
        self.processes.get(pid).map_or(Trust::Open, |habit| habit.trust())
    }

    /// Nothing more will come of a connection.
    pub(super) fn on_closed(&mut self, conn: ConnId) {
        self.dialed.remove(&conn);
    }

    /// Forgets connections that were never used.
    pub(super) fn expire(&mut self, now: KernelTime) {
        self.dialed.retain(|_, (at, _)| now.nanos_since(*at) < DIALED_FOR);
    }

    /// A process exited.
    pub(super) fn on_gone(&mut self, pid: Pid) {
        self.processes.forget(pid);
        self.threads.remove(&Tid(pid.0));
    }

    /// The thread that reads now, of a process that may be orderly. What it had read before it
    /// waited is gone through in another way, if at all.
    fn reading(&mut self, pid: Pid, tid: Tid, waits: Option<u32>) -> Option<&mut Thread> {
        if self.trust(pid) == Trust::Denied {
            return None;
        }
        if self.threads.len() >= MAX_THREADS && !self.threads.contains_key(&tid) {
            self.forgotten += self.threads.len() as u64;
            self.threads.clear();
        }
        let thread = self.threads.entry(tid).or_default();
        if waits != Some(thread.waits) {
            thread.requests.clear();
            thread.responses.clear();
            thread.came = 0;
            thread.waits = waits?;
        }
        Some(thread)
    }

    /// What the thread goes through next.
    fn next(&mut self, tid: Tid) -> Option<ExchangeId> {
        self.threads.get_mut(&tid)?.requests.pop_front()
    }
}
