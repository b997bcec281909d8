//! Short-lived clients whose parent the agent knows: `curl` lives a few milliseconds, so it cannot
//! be named by process id beforehand. A long-lived shell can, and its children are its
//! descendants.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::agent::{Agent, AgentOptions, Backend};
use crate::process::Process;
use crate::wait;

/// Ends the output of one command; not a line a client would print.
const END: &str = "==== tracer launcher ====";

/// Seconds after which a server that does not answer fails a test.
const CURL_PATIENCE: &str = "30";

/// A shell that runs commands one after the other.
pub struct Launcher {
    process: Process,
    output: BufReader<ChildStdout>,
    directory: TempDir,
    spawned: u32,
}

/// What a command gave.
#[derive(Debug)]
pub struct Output {
    /// Exit code; 128 plus the signal when one killed it.
    pub code: i32,
    /// Process id the command had.
    pub pid: u32,
    /// Standard output, lossily as text.
    pub stdout: String,
    /// Standard error, lossily as text.
    pub stderr: String,
}

impl Output {
    /// Fails, showing standard error, unless the exit code is zero.
    pub fn success(self) -> Result<Self> {
        ensure!(self.code == 0, "exit code {}: {}{}", self.code, self.stdout, self.stderr);
        Ok(self)
    }
}

/// A program of [`Launcher::spawn`].
#[derive(Debug)]
pub struct Background {
    pid: u32,
    output: PathBuf,
}

impl Background {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it printed so far, on standard output and error.
    pub fn output(&self) -> String {
        read_lossy(&self.output).unwrap_or_default()
    }

    /// Waits for a whole line that begins so, and gives the rest of that line.
    pub fn wait_for(&self, beginning: &str) -> Result<String> {
        let found = wait::until(&format!("`{beginning}`"), || {
            let output = self.output();
            let complete = output.rfind('\n').map_or("", |end| &output[..end]);
            Ok(complete.lines().find_map(|line| line.strip_prefix(beginning).map(str::to_owned)))
        });
        found.with_context(|| format!("it printed: {}", self.output()))
    }

    /// Ends it as `kill` does.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        Ok(rustix::process::kill_process(pid.context("not a process id")?, signal)?)
    }
}

impl Launcher {
    /// Starts the shell.
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("tracer-launcher-").tempdir()?;
        let mut shell = Command::new("sh");
        // The command line is given as a line of shell words, quoted by `run`.
        shell.args(["-c", "while IFS= read -r line; do eval \"$line\"; done"]);
        Self::over(&shell, directory)
    }

    fn over(shell: &Command, directory: TempDir) -> Result<Self> {
        let mut process = Process::start_piped("sh", shell, &directory.path().join("log"))?;
        let stdout = process.child_mut().stdout.take().context("a pipe was asked for")?;
        Ok(Self { process, output: BufReader::new(stdout), directory, spawned: 0 })
    }

    /// Starts it with an agent that traces all it runs, and nothing else.
    pub fn start_traced(backend: Backend) -> Result<(Self, Agent)> {
        let launcher = Self::start()?;
        let agent = AgentOptions::new(backend).pid(launcher.pid()).start()?;
        Ok((launcher, agent))
    }

    /// Starts the shell inside a network namespace.
    pub fn start_in(namespace: &crate::Namespace) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("tracer-launcher-").tempdir()?;
        let mut shell = namespace.command("sh");
        shell.args(["-c", "while IFS= read -r line; do eval \"$line\"; done"]);
        Self::over(&shell, directory)
    }

    /// Process id of the shell: the agent's `--pid`.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Runs a program to its end. The program must end by itself.
    pub fn run<I, S>(&mut self, words: I) -> Result<Output>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let words: Vec<String> = words.into_iter().map(|word| quoted(word.as_ref())).collect();
        let stderr = self.directory.path().join("stderr");
        File::create(&stderr)?;
        // In the background so that its process id can be told; its input is empty.
        let line = format!(
            "{} </dev/null 2>{} & pid=$!; wait $pid; printf '\\n%s %s %s\\n' '{END}' $? $pid\n",
            words.join(" "),
            quoted(&stderr.to_string_lossy()),
        );
        self.write(&line)?;
        let (stdout, code, pid) = self.read_to_end_marker()?;
        Ok(Output { code, pid, stdout, stderr: read_lossy(&stderr)? })
    }

    /// Runs `curl` with these arguments; it must succeed, whatever the status of the response.
    pub fn curl<I, S>(&mut self, arguments: I) -> Result<Output>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let words = ["curl", "--silent", "--show-error", "--max-time", CURL_PATIENCE];
        let words = words.map(str::to_owned).into_iter();
        self.run(words.chain(arguments.into_iter().map(|it| it.as_ref().to_owned())))?.success()
    }

    /// Starts a program and goes on; it ends with the launcher at the latest.
    pub fn spawn<I, S>(&mut self, words: I) -> Result<Background>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let words: Vec<String> = words.into_iter().map(|word| quoted(word.as_ref())).collect();
        self.spawned += 1;
        let output = self.directory.path().join(format!("output-{}", self.spawned));
        File::create(&output)?;
        let line = format!(
            "{} </dev/null >{} 2>&1 & printf '\\n%s 0 %s\\n' '{END}' $!\n",
            words.join(" "),
            quoted(&output.to_string_lossy()),
        );
        self.write(&line)?;
        let (_, _, pid) = self.read_to_end_marker()?;
        Ok(Background { pid, output })
    }

    /// Waits for the end of a spawned program, which must end by itself or have been signalled;
    /// gives its exit code as in [`Output::code`].
    pub fn wait(&mut self, background: &Background) -> Result<i32> {
        let pid = background.pid;
        self.write(&format!("wait {pid}; printf '\\n%s %s %s\\n' '{END}' $? {pid}\n"))?;
        let (_, code, _) = self.read_to_end_marker()?;
        Ok(code)
    }

    fn write(&mut self, line: &str) -> Result<()> {
        let input = self.process.child_mut().stdin.as_mut().context("a pipe was asked for")?;
        Ok(input.write_all(line.as_bytes())?)
    }

    fn read_to_end_marker(&mut self) -> Result<(String, i32, u32)> {
        let mut stdout = Vec::new();
        loop {
            let begin = stdout.len();
            if self.output.read_until(b'\n', &mut stdout)? == 0 {
                bail!("the launcher's shell ended: {}", self.process.log());
            }
            let line = String::from_utf8_lossy(&stdout[begin..]).into_owned();
            let Some(rest) = line.strip_prefix(END) else { continue };
            let mut numbers = rest.split_whitespace();
            let code = numbers.next().context("no exit code")?.parse()?;
            let pid = numbers.next().context("no pid")?.parse()?;
            // The newline before the marker is ours.
            stdout.truncate(begin - 1);
            return Ok((String::from_utf8_lossy(&stdout).into_owned(), code, pid));
        }
    }
}

/// The `User-Agent` of the installed curl.
pub fn curl_user_agent() -> Result<String> {
    let output = Command::new("curl").arg("--version").output().context("cannot run curl")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().nth(1).context("curl does not tell its version")?;
    Ok(format!("curl/{version}"))
}

fn read_lossy(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}

/// One shell word.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_give_output_code_and_pid() {
        let mut launcher = Launcher::start().unwrap();
        let first = launcher.run(["printf", "%s|%s", "it's", "a b"]).unwrap();
        assert_eq!((first.stdout.as_str(), first.code), ("it's|a b", 0));
        let script = "echo $$; echo oops >&2; exit 7";
        let second = launcher.run(["sh", "-c", script]).unwrap();
        assert_eq!(second.code, 7);
        assert_eq!(second.stdout.trim(), second.pid.to_string());
        assert_eq!(second.stderr, "oops\n");
        second.success().unwrap_err();
    }

    #[test]
    fn commands_run_beside_each_other() {
        let mut launcher = Launcher::start().unwrap();
        let first = launcher.spawn(["sh", "-c", "echo up $$; kill -STOP $$; exit 3"]).unwrap();
        assert_eq!(first.wait_for("up ").unwrap(), first.pid().to_string());
        assert_eq!(launcher.run(["echo", "hi"]).unwrap().stdout, "hi\n");
        first.signal(rustix::process::Signal::KILL).unwrap();
        assert_eq!(launcher.wait(&first).unwrap(), 128 + 9);
    }
}
