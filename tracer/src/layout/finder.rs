//! Finds layouts on a thread of its own: an executable may be slow to read, and events do not
//! wait.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use super::{Layout, of_executable};
use crate::event::Pid;

/// Processes that wait to be looked at; the tasks of further ones are not followed.
const WAITING: usize = 1_024;

/// A process whose tasks can be told apart.
#[derive(Clone, Copy, Debug)]
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
        let processes = root.join("proc");
        thread::Builder::new()
            .name("layouts".to_owned())
            .spawn(move || find_all(&processes, &requests, &answers))?;
        Ok(Self { wanted, found })
    }

    /// Asks for a process' layout.
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

fn find_all(processes: &Path, requests: &Receiver<Pid>, answers: &SyncSender<Found>) {
    while let Ok(pid) = requests.recv() {
        let executable: PathBuf = processes.join(pid.0.to_string()).join("exe");
        // A process that is gone by now needs no layout.
        let Ok(file) = File::open(executable) else { continue };
        match of_executable(file) {
            Ok(Some(layout)) => {
                if answers.send(Found { pid, layout }).is_err() {
                    return;
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(pid = pid.0, "tasks cannot be followed: {error}"),
        }
    }
}
