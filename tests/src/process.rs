//! A program that cannot outlive its guard.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::wait;

/// How long a program may take to obey `SIGTERM` when its guard is dropped.
const GRACE: Duration = Duration::from_secs(3);
/// Lines of a log that an error message carries.
const LOG_TAIL: usize = 25;

/// A running program in its own process group.
///
/// Dropping it ends the group: `SIGTERM`, then `SIGKILL`. The kernel also sends `SIGTERM` when the
/// *thread* that started it ends, however that happens, Ctrl-C included: do not start one from a
/// short-lived thread.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with standard output and error appended to `log`, no standard input.
    pub fn start(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let mut guarded = guarded(command);
        guarded.stdout(file.try_clone()?).stderr(file).stdin(Stdio::null());
        Self::spawn(name, guarded, log)
    }

    /// As [`Process::start`], but only standard error goes to `log`: standard output goes where
    /// `stdout` says.
    pub fn start_with_stdout(
        name: &str,
        command: &Command,
        log: &Path,
        stdout: impl Into<Stdio>,
    ) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let mut guarded = guarded(command);
        guarded.stdout(stdout).stderr(file).stdin(Stdio::null());
        Self::spawn(name, guarded, log)
    }

    /// As [`Process::start`], with pipes for standard input and output.
    pub fn start_piped(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let mut guarded = guarded(command);
        guarded.stdout(Stdio::piped()).stderr(file).stdin(Stdio::piped());
        Self::spawn(name, guarded, log)
    }

    fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Process id, which is also the id of its group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Pipes of [`Process::start_piped`].
    pub(crate) fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map_or_else(
            |error| format!("(no log: {error})"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Fails, with the end of the log, if it exited.
    pub fn check_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended early, {status}:\n{}", self.name, tail(&self.log()));
        }
        Ok(())
    }

    /// Polls until `ready` gives a value, failing early if the program exits.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        mut ready: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<T> {
        wait::until(what, || match ready(self)? {
            Some(value) => Ok(Some(value)),
            None => self.check_running().map(|()| None),
        })
        .with_context(|| format!("log of {}:\n{}", self.name, tail(&self.log())))
    }

    /// Signals the program alone, not its group.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        rustix::process::kill_process(self.raw_pid(), signal)?;
        Ok(())
    }

    /// Asks it to end with `SIGTERM` and waits for its exit status.
    pub fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        if self.child.try_wait()?.is_none() {
            self.signal(Signal::TERM)?;
        }
        wait::until_within(patience, "the end of a program", || Ok(self.child.try_wait()?))
            .with_context(|| format!("{} ignores SIGTERM:\n{}", self.name, tail(&self.log())))
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        wait::until_within(patience, "the end of a program", || Ok(self.child.try_wait()?))
            .with_context(|| format!("{} does not end:\n{}", self.name, tail(&self.log())))
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let group = self.raw_pid();
        // Signalling fails only when the whole group is gone, which is what is wanted.
        let _ = kill_process_group(group, Signal::TERM);
        let _ = wait::until_within(GRACE, &self.name, || Ok(self.child.try_wait()?));
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// `command` in its own process group, with `SIGTERM` on the death of the starting thread.
/// `setpriv` (util-linux) asks the kernel for that and then executes the program in its own place,
/// so process id and name are the program's.
fn guarded(command: &Command) -> Command {
    use std::os::unix::process::CommandExt as _;

    let mut guarded = Command::new("setpriv");
    guarded.args(["--pdeathsig", "TERM", "--"]).arg(command.get_program()).args(command.get_args());
    // Cargo's own library path is for the Rust programs it runs, not for the peers.
    guarded.env_remove("LD_LIBRARY_PATH");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => guarded.env(name, value),
            None => guarded.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        guarded.current_dir(directory);
    }
    guarded.process_group(0);
    guarded
}

/// Last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_guard_ends_the_whole_group() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo $!; wait"]);
        let mut process = Process::start("shell", &command, &directory.path().join("log")).unwrap();
        let child: u32 = process
            .wait_until("the child's pid", |process| Ok(process.log().trim().parse().ok()))
            .unwrap();
        assert!(Path::new(&format!("/proc/{child}")).exists());
        drop(process);
        wait::until("the grandchild's end", || {
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            // An orphan may linger as a zombie until init reaps it.
            Ok((stat.is_empty() || stat.contains(") Z ")).then_some(()))
        })
        .unwrap();
    }

    #[test]
    fn an_early_exit_is_reported_with_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such port; exit 3"]);
        let mut process =
            Process::start("server", &command, &directory.path().join("log")).unwrap();
        let error = process.wait_until("never", |_| Ok(None::<()>)).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("no such port") && text.contains("exit status: 3"), "{text}");
    }
}
