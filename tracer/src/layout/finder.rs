//! Finds layouts on a thread of its own: an executable may be slow to read, and events do not
//! wait.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SendError, SyncSender, TrySendError, sync_channel,
};
use std::thread;
use std::time::{Duration, Instant};

use super::{Layout, of_executable, python};
use crate::event::{KernelTime, Pid};

/// Processes that wait to be looked at; the tasks of further ones are not followed.
const WAITING: usize = 1_024;
/// Nanoseconds that processes which run already are left alone at least.
const SHORTEST_PAUSE: u64 = 50_000_000;

/// A process that was looked at.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which.
    pub pid: Pid,
    /// How its tasks can be told apart, if they can.
    pub layout: Option<Layout>,
}

/// What the thread says of a process.
#[derive(Debug)]
struct Answer {
    found: Found,
    /// It is the one that was asked for; others come when there is something new.
    first: bool,
}

/// The thread, which ends with this.
#[derive(Debug)]
pub struct Finder {
    wanted: SyncSender<Pid>,
    answers: Receiver<Answer>,
    /// First answers that are still to come.
    pending: usize,
}

impl Finder {
    /// Starts the thread. `root` is the root directory of the host.
    pub fn start(root: &Path) -> std::io::Result<Self> {
        let (wanted, requests) = sync_channel(WAITING);
        let (answering, answers) = sync_channel(WAITING);
        let search = Search {
            processes: root.join("proc"),
            started: Instant::now(),
            pythons: python::Watch::default(),
            unanswered: HashSet::new(),
            answers: answering,
        };
        thread::Builder::new()
            .name("layouts".to_owned())
            .spawn(move || search.answer_all(&requests))?;
        Ok(Self { wanted, answers, pending: 0 })
    }

    /// Asks for a process' layout. One answer comes in any case; more may: what a process keeps its
    /// tasks in may be there only later.
    pub fn ask(&mut self, pid: Pid) {
        match self.wanted.try_send(pid) {
            Ok(()) => self.pending += 1,
            Err(TrySendError::Full(pid)) => {
                tracing::warn!(pid = pid.0, "too many processes to look at the tasks of this one");
            }
            Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// An answer, if there is one.
    pub fn try_next(&mut self) -> Option<Found> {
        let answer = self.answers.try_recv().ok()?;
        Some(self.take(answer))
    }

    /// The next answer, waited for until `deadline` at most, and only while first ones are to come.
    pub fn wait(&mut self, deadline: Instant) -> Option<Found> {
        if self.pending == 0 {
            return None;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = self.answers.recv_timeout(left).ok()?;
        Some(self.take(answer))
    }

    fn take(&mut self, answer: Answer) -> Found {
        self.pending = self.pending.saturating_sub(usize::from(answer.first));
        answer.found
    }
}

/// What the thread does.
struct Search {
    processes: PathBuf,
    started: Instant,
    /// Programs of which the file alone tells nothing.
    pythons: python::Watch,
    /// Those of them that were not looked into yet.
    unanswered: HashSet<Pid>,
    answers: SyncSender<Answer>,
}

impl Search {
    /// Ends when nobody asks or listens any longer.
    fn answer_all(mut self, requests: &Receiver<Pid>) {
        loop {
            let request = match self.pythons.next() {
                Some(due) => {
                    let pause = due.nanos_since(self.now()).max(SHORTEST_PAUSE);
                    requests.recv_timeout(Duration::from_nanos(pause))
                }
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let answered = match request {
                Ok(pid) => self.look_at_file(pid),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if answered.and_then(|()| self.look_into_pythons()).is_err() {
                return;
            }
        }
    }

    fn look_at_file(&mut self, pid: Pid) -> Result<(), SendError<Answer>> {
        // A process that is gone by now needs no layout.
        let Ok(file) = File::open(self.directory(pid).join("exe")) else {
            return self.answer(pid, None, true);
        };
        match of_executable(file) {
            Ok(Some(layout)) => self.answer(pid, Some(layout), true),
            Ok(None) => self.look_into_later(pid),
            Err(error) => {
                tracing::warn!(pid = pid.0, "tasks cannot be followed: {error}");
                self.answer(pid, None, true)
            }
        }
    }

    /// The first look is taken at once, unless many are to be looked into, and answers.
    fn look_into_later(&mut self, pid: Pid) -> Result<(), SendError<Answer>> {
        let now = self.now();
        if self.pythons.add(pid, now) && self.unanswered.insert(pid) {
            return Ok(());
        }
        self.answer(pid, None, true)
    }

    fn look_into_pythons(&mut self) -> Result<(), SendError<Answer>> {
        for pid in self.pythons.due(self.now()) {
            let layout = match python::look(&self.directory(pid)) {
                python::Seen::Nothing => {
                    self.pythons.remove(pid);
                    None
                }
                python::Seen::NotYet => None,
                python::Seen::Layout(layout) => Some(Layout::Python(layout)),
            };
            let first = self.unanswered.remove(&pid);
            if first || layout.is_some() {
                self.answer(pid, layout, first)?;
            }
        }
        Ok(())
    }

    fn answer(
        &self,
        pid: Pid,
        layout: Option<Layout>,
        first: bool,
    ) -> Result<(), SendError<Answer>> {
        self.answers.send(Answer { found: Found { pid, layout }, first })
    }

    fn directory(&self, pid: Pid) -> PathBuf {
        self.processes.join(pid.0.to_string())
    }

    /// Time since the thread was started: the one clock of the watch.
    fn now(&self) -> KernelTime {
        KernelTime(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
