//! Finds layouts on a thread of its own: an executable may be slow to read, and events do not
//! wait.

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

/// A process whose tasks can be told apart.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which.
    pub pid: Pid,
    /// How.
    pub layout: Layout,
}

/// The thread, which ends with this.
#[derive(Debug)]
pub struct Finder {
    wanted: SyncSender<Pid>,
    found: Receiver<Found>,
}

impl Finder {
    /// Starts the thread. `root` is the root directory of the host.
    pub fn start(root: &Path) -> std::io::Result<Self> {
        let (wanted, requests) = sync_channel(WAITING);
        let (answers, found) = sync_channel(WAITING);
        let search = Search {
            processes: root.join("proc"),
            started: Instant::now(),
            pythons: python::Watch::default(),
            answers,
        };
        thread::Builder::new()
            .name("layouts".to_owned())
            .spawn(move || search.answer_all(&requests))?;
        Ok(Self { wanted, found })
    }

    /// Asks for a process' layout. More than one answer may come: what a process keeps its tasks in
    /// may be there only later.
    pub fn ask(&self, pid: Pid) {
        if let Err(TrySendError::Full(pid)) = self.wanted.try_send(pid) {
            tracing::warn!(pid = pid.0, "too many new processes to look at the tasks of this one");
        }
    }

    /// An answer, if there is one.
    pub fn next(&self) -> Option<Found> {
        self.found.try_recv().ok()
    }
}

/// What the thread does.
struct Search {
    processes: PathBuf,
    started: Instant,
    /// Programs of which the file alone tells nothing.
    pythons: python::Watch,
    answers: SyncSender<Found>,
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

    fn look_at_file(&mut self, pid: Pid) -> Result<(), SendError<Found>> {
        // A process that is gone by now needs no layout.
        let Ok(file) = File::open(self.directory(pid).join("exe")) else { return Ok(()) };
        match of_executable(file) {
            Ok(Some(layout)) => return self.answers.send(Found { pid, layout }),
            Ok(None) => self.pythons.add(pid, self.now()),
            Err(error) => tracing::warn!(pid = pid.0, "tasks cannot be followed: {error}"),
        }
        Ok(())
    }

    fn look_into_pythons(&mut self) -> Result<(), SendError<Found>> {
        for pid in self.pythons.due(self.now()) {
            match python::look(&self.directory(pid)) {
                python::Seen::Nothing => self.pythons.remove(pid),
                python::Seen::NotYet => {}
                python::Seen::Layout(layout) => {
                    self.answers.send(Found { pid, layout: Layout::Python(layout) })?;
                }
            }
        }
        Ok(())
    }

    fn directory(&self, pid: Pid) -> PathBuf {
        self.processes.join(pid.0.to_string())
    }

    /// Time since the thread was started: the one clock of the watch.
    fn now(&self) -> KernelTime {
        KernelTime(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
