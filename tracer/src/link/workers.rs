//! What cooperative tasks tell of parents: the task that writes a response has done the work for
//! it. The calls that it made since its response before are for this request, and those made by
//! tasks that it was waiting for; which request that is, is known only then.
//!
//! For tasks that say who waits for them, such as those of Python's asyncio, where reading is the
//! event loop's business and tells nothing. A task is known by its address, and once it is gone
//! another one may get that: what it did is therefore forgotten with the response, and nothing
//! counts that was done before the request came. Knows exchanges by id, and no clock; times only
//! order events.

use rustc_hash::FxHashMap;

use super::Kind;
use super::per_process::PerProcess;
use super::threads::{Clue, ENOUGH, Trust};
use crate::event::{ConnId, KernelTime, Pid, Task, TaskId};
use crate::exchange::ExchangeId;

/// Responses after which older ones count half.
const WINDOW: u32 = 256;
/// Calls of one process that wait for a response; of further ones nothing is proven.
const MAX_MADE: usize = 16_384;
/// Tasks of one process that are remembered for their last response.
const MAX_SERVERS: usize = 16_384;

/// What is known when a call begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is for this request, whose response its task has begun.
    Parent(ExchangeId),
    /// Its task will tell, by the response that it writes.
    Later,
    /// Tasks tell nothing in this process.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
struct Made {
    call: ExchangeId,
    at: KernelTime,
    /// Its own other end, if that was seen before.
    itself: Option<ExchangeId>,
    /// The task that made it.
    by: TaskId,
    /// The last in the row of those that wait for that one.
    of: TaskId,
}

/// A request whose response was begun.
#[derive(Clone, Copy, Debug)]
struct Served {
    request: ExchangeId,
    at: KernelTime,
}

#[derive(Debug, Default)]
struct Process {
    /// Calls by [`Made::of`].
    made: FxHashMap<TaskId, Vec<Made>>,
    count: usize,
    /// Tasks that write responses which are not over.
    writing: FxHashMap<TaskId, ExchangeId>,
    /// The same the other way round.
    written: FxHashMap<ExchangeId, TaskId>,
    /// The last response below each task that waits for those that write.
    below: FxHashMap<TaskId, Served>,
    /// Responses that a task was seen to write, lately, and others.
    told: u32,
    untold: u32,
    /// How often a request was answered below a task that waits for the one that answered.
    cases: u32,
    /// Two requests were answered below one task at the same time.
    shared: bool,
}

/// All processes whose tasks were seen.
#[derive(Debug, Default)]
pub(super) struct Workers {
    processes: PerProcess<Process>,
}

impl Told {
    /// What is known of a call, given what its thread tells: nothing against its task, except that
    /// there was no request at all.
    pub(super) fn improve(self, clue: Clue) -> Clue {
        let candidates = clue.candidates();
        match self {
            Self::Parent(parent) => Clue::Parent { parent, kind: Kind::Task, candidates },
            Self::Later if candidates > 0 => Clue::Unclear { candidates, probable: None },
            Self::Later | Self::Nothing => clue,
        }
    }
}

impl Workers {
    /// A call began. Says what is known of its parent by now; it cannot be `itself`, its own other
    /// end.
    pub(super) fn on_call(
        &mut self,
        call: ExchangeId,
        pid: Pid,
        task: Option<Task>,
        at: KernelTime,
        itself: Option<ExchangeId>,
    ) -> Told {
        let Some(task) = task.filter(Task::is_awaited) else { return Told::Nothing };
        let Some(process) = self.processes.remember(pid) else { return Told::Nothing };
        if process.untold > process.told {
            return Told::Nothing;
        }
        let outermost = outermost(task);
        let mut writing =
            [task.id, outermost].into_iter().filter_map(|it| process.writing.get(&it));
        if let Some(request) = writing.find(|request| Some(**request) != itself) {
            return Told::Parent(*request);
        }
        if process.count >= MAX_MADE {
            return Told::Nothing;
        }
        process.count += 1;
        process.made.entry(outermost).or_default().push(Made {
            call,
            at,
            itself,
            by: task.id,
            of: outermost,
        });
        Told::Later
    }

    /// The response to a request that was read at `began` begins. Gives the calls of which its
    /// task tells: made by that task or by those that it waits for, by others for a task that waits
    /// for it ([`Kind::RelatedTask`]), or not for this request.
    pub(super) fn on_response(
        &mut self,
        request: ExchangeId,
        pid: Pid,
        task: Option<Task>,
        began: KernelTime,
        at: KernelTime,
    ) -> Vec<(ExchangeId, Option<Kind>)> {
        let task = task.filter(Task::is_awaited);
        // A process becomes known by the first task that is seen of it.
        let process = match task {
            Some(_) => self.processes.remember(pid),
            None => self.processes.get_mut(pid),
        };
        let Some(process) = process else { return Vec::new() };
        process.count_response(task.is_some());
        let Some(task) = task else { return Vec::new() };
        process.writing.insert(task.id, request);
        process.written.insert(request, task.id);
        let outermost = outermost(task);
        let mut work: Vec<_> = process.take_if(task.id, |_| true);
        if outermost != task.id {
            process.observe_below(outermost, Served { request, at }, began);
            // What is not this task's may be that of another one which is still to answer.
            let shared = process.shared;
            work.extend(process.take_if(outermost, |made| !shared || made.by == task.id));
        }
        let kind = |made: &Made| {
            let own = made.by == task.id || made.of == task.id;
            if own { Kind::Task } else { Kind::RelatedTask }
        };
        let in_time = |made: &Made| made.at >= began && made.itself != Some(request);
        work.into_iter().map(|made| (made.call, in_time(&made).then(|| kind(&made)))).collect()
    }

    /// A request was answered, or given up.
    pub(super) fn on_answered(&mut self, request: ExchangeId, pid: Pid) {
        if let Some(process) = self.processes.get_mut(pid)
            && let Some(task) = process.written.remove(&request)
            && process.writing.get(&task) == Some(&request)
        {
            process.writing.remove(&task);
        }
    }

    /// Whether links of this kind are right in this process.
    pub(super) fn trust(&self, pid: Pid, kind: Kind) -> Trust {
        match (kind, self.processes.get(pid)) {
            (Kind::RelatedTask, Some(process)) if process.shared => Trust::Denied,
            (Kind::RelatedTask, Some(process)) if process.cases < ENOUGH => Trust::Open,
            (Kind::Task, _) | (Kind::RelatedTask, Some(_)) => Trust::Given,
            _ => Trust::Denied,
        }
    }

    /// A process exited.
    pub(super) fn on_gone(&mut self, pid: Pid) {
        self.processes.forget(pid);
    }

    /// Forgets calls made before there were any requests that are `unanswered` in their process.
    pub(super) fn expire(&mut self, unanswered: impl Fn(Pid) -> KernelTime) {
        for (pid, process) in self.processes.iter_mut() {
            let time = unanswered(pid);
            process.made.retain(|_, calls| {
                calls.retain(|made| made.at >= time);
                !calls.is_empty()
            });
            process.count = process.made.values().map(Vec::len).sum();
            process.below.retain(|_, served| served.at >= time);
        }
    }
}

impl Process {
    /// A response was written. Now and then a task is not seen though there is one; where
    /// responses are written for tasks by somebody else, as on uvloop, there never is.
    fn count_response(&mut self, by_task: bool) {
        if by_task {
            self.told += 1;
        } else {
            self.untold += 1;
        }
        if self.told + self.untold >= WINDOW {
            self.told /= 2;
            self.untold /= 2;
        }
    }

    /// Takes calls made for a task.
    fn take_if(&mut self, task: TaskId, wanted: impl Fn(&Made) -> bool) -> Vec<Made> {
        let made = self.made.remove(&task).unwrap_or_default();
        let (taken, left): (Vec<_>, Vec<_>) = made.into_iter().partition(wanted);
        self.count = self.count.saturating_sub(taken.len());
        if !left.is_empty() {
            self.made.insert(task, left);
        }
        taken
    }

    /// A response was written below `task`. If another request, of another connection, was
    /// answered there while this one was open, the task is nobody's alone.
    fn observe_below(&mut self, task: TaskId, served: Served, began: KernelTime) {
        if self.below.len() >= MAX_SERVERS {
            self.below.clear();
        }
        let conn = |served: &Served| -> ConnId { served.request.conn };
        let before = self.below.insert(task, served);
        self.cases = self.cases.saturating_add(1);
        self.shared |= before.is_some_and(|it| conn(&it) != conn(&served) && it.at > began);
    }
}

/// The last of the tasks that wait for each other.
fn outermost(task: Task) -> TaskId {
    task.parent.unwrap_or(task.id)
}

#[cfg(test)]
mod tests;
