//! Finds layouts on a thread of its own: an executable may be slow to read, and events do not
//! wait.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Instant;

use super::{Layout, of_executable};
use crate::event::Pid;

/// Processes that wait to be looked at; the tasks of further ones are not followed.
const WAITING: usize = 1_024;

/// A process that was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Which.
    pub pid: Pid,
    /// How its tasks can be told apart, if they can.
    pub layout: Option<Layout>,
}

/// The thread, which ends with this.
#[derive(Debug)]
pub struct Finder {
    wanted: SyncSender<Pid>,
    found: Receiver<Found>,
    /// Answers that are still to come.
    pending: usize,
}

impl Finder {
    /// Starts the thread. `root` is the root directory of the host.
    pub fn start(root: &Path) -> std::io::Result<Self> {
        let (wanted, requests) = sync_channel(WAITING);
        let (answers, found) = sync_channel(WAITING);
        let processes = root.join("proc");
        thread::Builder::new()
            .name("layouts".to_owned())
            .spawn(move || find_all(&processes, &requests, &answers))?;
        Ok(Self { wanted, found, pending: 0 })
    }

    /// Asks for a process' layout.
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
        let found = self.found.try_recv().ok()?;
        self.pending = self.pending.saturating_sub(1);
        Some(found)
    }

    /// The next answer of those that are to come, waited for until `deadline` at most.
    pub fn wait(&mut self, deadline: Instant) -> Option<Found> {
        if self.pending == 0 {
            return None;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let found = self.found.recv_timeout(left).ok()?;
        self.pending -= 1;
        Some(found)
    }
}

fn find_all(processes: &Path, requests: &Receiver<Pid>, answers: &SyncSender<Found>) {
    while let Ok(pid) = requests.recv() {
        let executable: PathBuf = processes.join(pid.0.to_string()).join("exe");
        // A process that is gone by now needs no layout.
        let layout = File::open(executable).ok().and_then(|file| {
            of_executable(file).unwrap_or_else(|error| {
                tracing::warn!(pid = pid.0, "tasks cannot be followed: {error}");
                None
            })
        });
        if answers.send(Found { pid, layout }).is_err() {
            return;
        }
    }
}
