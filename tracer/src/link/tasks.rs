//! What tasks tell of parents, where a process' own runtime runs them on threads (goroutines): a
//! task that reads a request works on it until it has answered, and the tasks that it starts
//! meanwhile work on it too.
//!
//! That is relied on as far as a process does it. In a *loyal* one the task that reads a request
//! also writes its response, and handles nothing else meanwhile. Tasks started at one *site* of the
//! program are *joined* if what they call is over before the request is: others may outlive their
//! request, and be found calling during the next one. Unlike a thread, a task that is known but
//! works for no open request works for none. Knows exchanges by id, and no clock.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::per_process::PerProcess;
use super::threads::{Clue, Habit, Trust};
use super::{Began, Kind};
use crate::event::{CodeAddress, ConnId, Data, Pid, Task, TaskId};
use crate::exchange::ExchangeId;

/// Generations that lie between a call's task and the one that reads requests, at most.
const MAX_GENERATIONS: usize = 6;
/// Connections whose tasks are remembered at once; beyond, all of them are forgotten.
const MAX_CONNECTIONS: usize = 65_536;
/// Calls looked after at once.
const MAX_CALLS: usize = 32_768;
/// Tasks of one process whose origin is remembered; beyond, those seen longest ago are forgotten.
const MAX_ORIGINS: usize = 16_384;
/// Sites of one process; the tasks of further ones prove nothing.
const MAX_SITES: usize = 4_096;
/// Unanswered requests of one process; beyond, nothing is concluded from tasks.
const MAX_OPEN: usize = 16_384;

/// Who moved the first bytes of the message that a connection carries at the moment.
#[derive(Clone, Copy, Debug)]
struct Message {
    turn: u32,
    task: Option<Task>,
}

/// A call whose request is known by its task.
#[derive(Debug)]
struct Call {
    pid: Pid,
    request: ExchangeId,
    /// Where the tasks between the request's and the call's were started.
    sites: Vec<CodeAddress>,
    /// The task that read the request has answered it.
    confirmed: bool,
    /// It was counted whether it is over before its request.
    judged: bool,
    over: bool,
    /// Somebody may still ask whether it is trusted.
    awaited: bool,
}

#[derive(Debug, Default)]
struct Process {
    /// Unanswered requests by the task that reads them, oldest first. A task without any is one
    /// that has read some before.
    serving: FxHashMap<TaskId, Vec<ExchangeId>>,
    /// The task of each unanswered request, `None` if unknown.
    open: FxHashMap<ExchangeId, Option<TaskId>>,
    origins: Origins,
    loyal: Habit,
    joined: FxHashMap<CodeAddress, Habit>,
}

/// Who started a task, and where.
#[derive(Debug, Default)]
struct Origins {
    by_task: FxHashMap<TaskId, (TaskId, CodeAddress)>,
    oldest: VecDeque<TaskId>,
}

/// What is concluded of a call without its task, for the case that it stays unknown.
#[derive(Clone, Copy, Debug)]
struct Pending {
    pid: Pid,
    clue: Clue,
}

/// What a call's task says of its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// Nothing.
    Nothing,
    /// It works for this request, if the process can be trusted so far.
    Request(ExchangeId, Trust),
    /// It works for none.
    None,
}

/// All that is known of tasks.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    messages: FxHashMap<ConnId, Message>,
    /// Which task reads the requests of a connection.
    readers: FxHashMap<ConnId, (Pid, TaskId)>,
    processes: PerProcess<Process>,
    calls: FxHashMap<ExchangeId, Call>,
    /// Calls whose task may be known when they are answered.
    pending: FxHashMap<ExchangeId, Pending>,
    /// Calls of each unanswered request.
    made: FxHashMap<ExchangeId, Vec<ExchangeId>>,
}

impl Tasks {
    /// Bytes were moved.
    pub(super) fn on_data(&mut self, data: &Data<'_>) {
        let task = data.task.filter(|task| !task.is_awaited());
        let message = Message { turn: data.turn, task };
        match self.messages.get_mut(&data.conn) {
            Some(known) if known.turn != data.turn => *known = message,
            Some(_) => {}
            None if task.is_none() => {}
            None => insert_bounded(&mut self.messages, data.conn, message),
        }
    }

    /// The task of the message that a connection carries.
    fn task(&self, conn: ConnId) -> Option<Task> {
        self.messages.get(&conn)?.task
    }

    /// A request began.
    pub(super) fn on_request(&mut self, began: &Began<'_>) {
        let Began { id, pid, .. } = *began;
        let task = self.task(id.conn);
        if task.is_none() && !self.processes.contains(pid) {
            return;
        }
        let reader = task.map(|task| self.reader(pid, id.conn, task));
        let Some(process) = self.processes.remember(pid) else { return };
        if process.open.len() < MAX_OPEN {
            process.open.insert(id, reader);
            if let Some(reader) = reader {
                process.serving.entry(reader).or_default().push(id);
            }
        }
    }

    /// The response to a request began.
    pub(super) fn on_response(&mut self, id: ExchangeId, pid: Pid) {
        let task = self.task(id.conn);
        let Some(process) = self.processes.get_mut(pid) else { return };
        let (Some(writer), Some(Some(reader))) = (task, process.open.get(&id).copied()) else {
            return;
        };
        let loyal = writer.id == reader && process.request_of(reader).is_some();
        process.loyal.observe(loyal);
        for call in self.made.get(&id).into_iter().flatten() {
            if let Some(call) = self.calls.get_mut(call) {
                call.confirmed = loyal;
            }
        }
    }

    /// A request was answered to the end, or given up.
    pub(super) fn on_answered(&mut self, id: ExchangeId, pid: Pid) {
        let Some(process) = self.processes.get_mut(pid) else { return };
        if let Some(Some(reader)) = process.open.remove(&id)
            && let Some(requests) = process.serving.get_mut(&reader)
        {
            requests.retain(|request| *request != id);
        }
        for call in self.made.remove(&id).unwrap_or_default() {
            self.judge(call, false);
        }
    }

    /// A call began, of which threads say `clue`; says what is known all in all.
    pub(super) fn on_call(&mut self, id: ExchangeId, pid: Pid, clue: Clue) -> Clue {
        if !self.processes.contains(pid) {
            return clue;
        }
        let candidates = clue.candidates();
        if let Some(task) = self.task(id.conn) {
            return self.join(id, pid, task, clue);
        }
        if candidates == 0 || self.pending.len() >= MAX_CALLS {
            return clue;
        }
        self.pending.insert(id, Pending { pid, clue });
        Clue::Unclear { candidates, probable: None }
    }

    /// Whether the response to a call may tell its task.
    pub(super) fn awaits(&self, call: ExchangeId) -> bool {
        self.pending.contains_key(&call)
    }

    /// The response to a call began, or it is over. If its task was not known before, says what is known now.
    pub(super) fn on_call_answered(&mut self, id: ExchangeId) -> Option<Clue> {
        let Pending { pid, clue } = self.pending.remove(&id)?;
        Some(match self.task(id.conn) {
            Some(task) => self.join(id, pid, task, clue),
            None => clue,
        })
    }

    /// Joins what a call's task says to what threads say.
    fn join(&mut self, id: ExchangeId, pid: Pid, task: Task, clue: Clue) -> Clue {
        let Some(process) = self.processes.get_mut(pid) else { return clue };
        let candidates = clue.candidates();
        process.origins.remember(task);
        let (says, sites) = process.ask(task);
        match says {
            Says::Nothing => clue,
            Says::None => Clue::Root,
            Says::Request(_, Trust::Denied) => Clue::Unclear { candidates, probable: None },
            Says::Request(request, trust) => {
                let kind = Kind::Coroutine;
                // With one request open there is no doubt whose work its own task does; one that
                // it started may be left from the request before.
                let alone = sites.is_empty() && candidates == 1;
                let certain = trust == Trust::Given || alone;
                if self.calls.len() < MAX_CALLS {
                    self.made.entry(request).or_default().push(id);
                    let awaited = !certain;
                    let (confirmed, judged, over) = (false, sites.is_empty(), false);
                    let call = Call { pid, request, sites, confirmed, judged, over, awaited };
                    self.calls.insert(id, call);
                }
                if certain {
                    Clue::Parent { parent: request, kind, candidates }
                } else {
                    Clue::Unclear { candidates, probable: Some((request, kind)) }
                }
            }
        }
    }

    /// A call is over.
    pub(super) fn on_call_over(&mut self, id: ExchangeId) {
        self.judge(id, true);
        if let Some(call) = self.calls.get_mut(&id) {
            call.over = true;
            if !call.awaited {
                self.forget_call(id);
            }
        }
    }

    /// Whether a call's task can be trusted by now.
    pub(super) fn trust(&self, call: ExchangeId) -> Trust {
        let Some(call) = self.calls.get(&call) else { return Trust::Denied };
        let Some(process) = self.processes.get(call.pid) else { return Trust::Denied };
        let loyal = match process.loyal.trust() {
            Trust::Open if call.confirmed => Trust::Given,
            trust => trust,
        };
        loyal.and(process.joined(&call.sites))
    }

    /// Whether nothing speaks against a call's task by now, though that may not be much.
    pub(super) fn is_unblemished(&self, call: ExchangeId) -> bool {
        let Some(call) = self.calls.get(&call) else { return false };
        let Some(process) = self.processes.get(call.pid) else { return false };
        let joined = |site| process.joined.get(site).is_some_and(|habit| habit.is_unblemished());
        call.confirmed && call.sites.iter().all(joined)
    }

    /// Nobody will ask for a call's trust again.
    pub(super) fn release(&mut self, id: ExchangeId) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.awaited = false;
            if call.over {
                self.forget_call(id);
            }
        }
    }

    /// Nothing more will come of a connection.
    pub(super) fn on_closed(&mut self, conn: ConnId) {
        self.messages.remove(&conn);
        if let Some((pid, reader)) = self.readers.remove(&conn)
            && let Some(process) = self.processes.get_mut(pid)
            && process.serving.get(&reader).is_some_and(Vec::is_empty)
        {
            process.serving.remove(&reader);
        }
    }

    /// A process exited, and its tasks with it.
    pub(super) fn on_gone(&mut self, pid: Pid) {
        self.processes.forget(pid);
    }

    /// Which task the requests of a connection are read by. A server may have started another one
    /// only to notice when the connection ends, and that may get the first byte of the next
    /// request.
    fn reader(&mut self, pid: Pid, conn: ConnId, task: Task) -> TaskId {
        match self.readers.get(&conn) {
            Some((_, reader)) if task.parent == Some(*reader) => *reader,
            _ => {
                insert_bounded(&mut self.readers, conn, (pid, task.id));
                task.id
            }
        }
    }

    fn forget_call(&mut self, id: ExchangeId) {
        if let Some(call) = self.calls.remove(&id)
            && let Some(made) = self.made.get_mut(&call.request)
        {
            made.retain(|made| *made != id);
        }
    }

    /// Counts once whether a call by a started task was over before its request.
    fn judge(&mut self, id: ExchangeId, in_time: bool) {
        if let Some(call) = self.calls.get_mut(&id)
            && !std::mem::replace(&mut call.judged, true)
            && let Some(process) = self.processes.get_mut(call.pid)
        {
            process.observe(&call.sites, in_time);
        }
    }
}

impl Process {
    /// The request that a task works on; of several, read ahead on one connection, the first.
    fn request_of(&self, task: TaskId) -> Option<ExchangeId> {
        let (first, others) = self.serving.get(&task)?.split_first()?;
        others.iter().all(|other| other.conn == first.conn).then_some(*first)
    }

    /// What a task that makes a call says, and the sites on the way from it to who says so.
    fn ask(&mut self, task: Task) -> (Says, Vec<CodeAddress>) {
        let mut sites = Vec::new();
        let mut next = Some((task.id, task.parent.map(|parent| (parent, task.site))));
        while let Some((id, origin)) = next {
            if self.serving.contains_key(&id) {
                break;
            }
            let Some((parent, site)) = origin.filter(|_| sites.len() < MAX_GENERATIONS) else {
                next = None;
                break;
            };
            sites.push(site);
            next = Some((parent, self.origins.by_task.get(&parent).copied()));
        }
        if self.loyal.trust() == Trust::Denied {
            return (Says::Nothing, sites);
        }
        if let Some((server, _)) = next {
            if let Some(request) = self.request_of(server) {
                let trust = self.loyal.trust().and(self.joined(&sites));
                return (Says::Request(request, trust), sites);
            }
            if self.serving.get(&server).is_some_and(|requests| !requests.is_empty()) {
                return (Says::Nothing, sites);
            }
            // Its request is over.
            self.observe(&sites, false);
        }
        // It may work for one that is not known by its task.
        let all_known = self.open.values().all(Option::is_some);
        (if all_known { Says::None } else { Says::Nothing }, sites)
    }

    fn joined(&self, sites: &[CodeAddress]) -> Trust {
        let trust = |site| self.joined.get(site).map_or(Trust::Open, |habit| habit.trust());
        sites.iter().map(trust).fold(Trust::Given, Trust::and)
    }

    fn observe(&mut self, sites: &[CodeAddress], in_time: bool) {
        for site in sites {
            if self.joined.len() < MAX_SITES || self.joined.contains_key(site) {
                self.joined.entry(*site).or_default().observe(in_time);
            }
        }
    }
}

impl Origins {
    fn remember(&mut self, task: Task) {
        let Some(parent) = task.parent else { return };
        if self.by_task.insert(task.id, (parent, task.site)).is_none() {
            self.oldest.push_back(task.id);
            if self.oldest.len() > MAX_ORIGINS
                && let Some(oldest) = self.oldest.pop_front()
            {
                self.by_task.remove(&oldest);
            }
        }
    }
}

fn insert_bounded<T>(map: &mut FxHashMap<ConnId, T>, conn: ConnId, value: T) {
    if map.len() >= MAX_CONNECTIONS && !map.contains_key(&conn) {
        map.clear();
    }
    map.insert(conn, value);
}
