//! The agent under test, as a process.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::command::unconfigured;
use crate::layout;
use crate::namespace::Namespace;
use crate::process::Process;
use crate::span::Spans;

/// The agent promises to flush within 5 s; a loaded machine gets more.
const STOP_PATIENCE: Duration = Duration::from_secs(80);
/// What the agent prints on standard error once its probes are attached.
const READY: &str = "ready";
/// What its final report's line starts with.
const REPORT: &str = "report: ";

/// Which kernel half runs, `--backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Whichever the agent finds to work.
    Auto,
    /// Socket tracepoints.
    Socket,
    /// System-call exit.
    Syscall,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Socket => "socket",
            Self::Syscall => "syscall",
        })
    }
}

/// How to start the agent. It always exports to a file, beside what [`AgentOptions::exporter`]
/// adds, unless [`AgentOptions::without_file`] says otherwise.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    backend: Backend,
    arguments: Vec<String>,
    exporters: Vec<String>,
    file: bool,
    environment: Vec<(String, String)>,
    show_stdout: bool,
    recording: Option<PathBuf>,
    /// What the agent's command line is given to.
    wrapper: Vec<String>,
}

impl AgentOptions {
    /// No target yet: add at least one, tests must not trace the machine at large.
    pub fn new(backend: Backend) -> Self {
        Self {
            backend,
            arguments: Vec::new(),
            exporters: Vec::new(),
            file: true,
            environment: Vec::new(),
            show_stdout: false,
            recording: None,
            wrapper: Vec::new(),
        }
    }

    /// Traces a process and its descendants.
    #[must_use]
    pub fn pid(self, pid: u32) -> Self {
        self.argument("--pid").argument(pid.to_string())
    }

    /// Traces who serves a port.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.argument("--port").argument(port.to_string())
    }

    /// Traces by executable.
    #[must_use]
    pub fn exe(self, glob: &str) -> Self {
        self.argument("--exe").argument(glob)
    }

    /// Sends connections of the targets through the agent's proxy, those over loopback as well.
    #[must_use]
    pub fn propagate(self) -> Self {
        self.argument("--propagate").argument("proxy").argument("--propagate-loopback")
    }

    /// Adds any other command-line argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds an exporter: `otlp`, `console`, …
    #[must_use]
    pub fn exporter(mut self, exporter: &str) -> Self {
        self.exporters.push(exporter.to_owned());
        self
    }

    /// Exports OTLP over gRPC.
    #[must_use]
    pub fn otlp_grpc(self, endpoint: &str) -> Self {
        self.otlp(endpoint, "grpc")
    }

    /// Exports OTLP over HTTP with binary protobuf.
    #[must_use]
    pub fn otlp_http(self, endpoint: &str) -> Self {
        self.otlp(endpoint, "http/protobuf")
    }

    fn otlp(self, endpoint: &str, protocol: &str) -> Self {
        self.exporter("otlp")
            .argument("--otlp-endpoint")
            .argument(endpoint)
            .argument("--otlp-protocol")
            .argument(protocol)
    }

    /// Does not export to a file; [`Agent::spans`] then has nothing to read.
    #[must_use]
    pub fn without_file(mut self) -> Self {
        self.file = false;
        self
    }

    /// Sets an environment variable of the agent.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets the agent write to the terminal (or wherever our own standard output goes).
    #[must_use]
    pub fn show_stdout(mut self) -> Self {
        self.show_stdout = true;
        self
    }

    /// Runs the agent inside a network namespace.
    #[must_use]
    pub fn inside(mut self, namespace: &Namespace) -> Self {
        self.wrapper.extend(namespace.words());
        self
    }

    /// Lets the agent have so many open files, and no more whatever it asks for.
    #[must_use]
    pub fn open_files(mut self, limit: u32) -> Self {
        self.wrapper.extend(["prlimit".to_owned(), format!("--nofile={limit}:{limit}")]);
        self
    }

    /// Records into a file instead of exporting.
    #[must_use]
    pub fn record(mut self, file: &Path) -> Self {
        self.recording = Some(file.to_owned());
        self.without_file()
    }

    /// Starts the agent and waits until its probes are attached.
    pub fn start(&self) -> Result<Agent> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "loading eBPF programs needs root; run `cargo xtask test` (it uses sudo)"
        );
        let directory = tempfile::Builder::new().prefix("tracer-agent-").tempdir()?;
        let file = directory.path().join("spans.jsonl");
        let agent = layout::agent()?;
        let mut words = self.wrapper.iter().map(OsStr::new).chain([agent.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        match &self.recording {
            None => command.arg("run"),
            Some(file) => command.arg("record").arg(file),
        };
        command.args(["--backend", &self.backend.to_string()]).args(&self.arguments);
        let mut exporters = self.exporters.clone();
        if self.file {
            exporters.push(format!("file:{}", file.display()));
        }
        if !exporters.is_empty() {
            command.args(["--exporter", &exporters.join(",")]);
        }
        unconfigured(&mut command);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));

        let log = directory.path().join("stderr");
        let stdout = directory.path().join("stdout");
        let sink = if self.show_stdout {
            Stdio::inherit()
        } else {
            Stdio::from(fs::File::create(&stdout)?)
        };
        let mut process = Process::start_with_stdout("tracer", &command, &log, sink)?;
        process.wait_until("the agent to attach its probes", |process| {
            Ok(process.log().lines().any(|line| line.contains(READY)).then_some(()))
        })?;
        Ok(Agent { process, file, stdout, directory })
    }
}

/// A running agent.
pub struct Agent {
    process: Process,
    file: PathBuf,
    stdout: PathBuf,
    // Holds the files above; removed last.
    directory: TempDir,
}

impl Agent {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Signals it.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// A directory that lives as long as the agent.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Spans written to the file so far.
    pub fn spans(&self) -> Result<Spans> {
        spans_in(&self.file)
    }

    /// Waits until at least `count` spans were written, and gives all there are then.
    pub fn wait_for_spans(&mut self, count: usize) -> Result<Spans> {
        let file = self.file.clone();
        let waited = self.process.wait_until(&format!("{count} spans"), |_| {
            let spans = spans_in(&file)?;
            Ok((spans.len() >= count).then_some(spans))
        });
        waited.with_context(|| match self.spans() {
            Ok(spans) => format!("{} spans so far:\n{spans}", spans.len()),
            Err(error) => format!("unreadable spans: {error:#}"),
        })
    }

    /// Waits for the spans of everything that happened, stops it, and checks that there were
    /// exactly `count` and that nothing was lost. Gives them in the order in which they started.
    pub fn finish(mut self, count: usize) -> Result<Spans> {
        self.wait_for_spans(count)?;
        let Finished { spans, report, log, .. } = self.stop()?;
        ensure!(spans.len() == count, "{} spans instead of {count}:\n{spans}", spans.len());
        ensure!(report.spans == count as u64, "the report miscounts {count}: {}", report.json);
        ensure!(report.lost() == 0, "losses: {}\n{log}", report.json);
        Ok(spans.by_start())
    }

    /// Fails, with the end of its log, if it exited.
    pub fn check_running(&mut self) -> Result<()> {
        self.process.check_running()
    }

    /// Waits for the spans that must come, then stops it; fails unless there are exactly that many.
    pub fn stop_after(mut self, count: usize) -> Result<Finished> {
        self.wait_for_spans(count)?;
        let finished = self.stop()?;
        ensure!(
            finished.spans.len() == count,
            "expected {count} spans, found {}:\n{}{}",
            finished.spans.len(),
            finished.spans,
            finished.log
        );
        Ok(finished)
    }

    /// What it printed on standard error so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// What it printed on standard output so far (unless shown).
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// Kills it, so that it can do nothing more; gives the spans that it had written to its file.
    pub fn kill(mut self) -> Result<Spans> {
        self.process.signal(Signal::KILL)?;
        self.process.wait(STOP_PATIENCE)?;
        self.spans()
    }

    /// Stops it as an operator would, with `SIGTERM`: it detaches, flushes and reports.
    pub fn stop(mut self) -> Result<Finished> {
        self.process.terminate(STOP_PATIENCE)?;
        self.ended()
    }

    /// As [`Agent::stop`], of one that was told to stop already.
    pub fn ended(mut self) -> Result<Finished> {
        let status = self.process.wait(STOP_PATIENCE)?;
        let log = self.log();
        ensure!(status.success(), "the agent ended with {status}:\n{log}");
        let report = Report::in_log(&log).with_context(|| format!("log of the agent:\n{log}"))?;
        Ok(Finished { spans: self.spans()?, report, stdout: self.stdout(), log })
    }
}

/// What a stopped agent leaves.
#[derive(Debug)]
pub struct Finished {
    /// All spans it wrote to its file.
    pub spans: Spans,
    /// Its last words.
    pub report: Report,
    /// All it wrote to standard output.
    pub stdout: String,
    /// All it wrote to standard error.
    pub log: String,
}

/// The agent's final report.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Spans made.
    pub spans: u64,
    /// Spans sent, by exporter.
    pub exported: BTreeMap<String, u64>,
    /// Everything lost, by reason; reasons with a count of zero may be absent.
    pub losses: BTreeMap<String, u64>,
    /// The report as printed.
    pub json: Json,
}

impl Report {
    /// The last report in the agent's standard error.
    pub fn in_log(log: &str) -> Result<Self> {
        let line = log.lines().rev().find_map(|line| line.trim().strip_prefix(REPORT));
        let json: Json = serde_json::from_str(line.context("no report line")?)?;
        let counts = |name: &str| -> Result<BTreeMap<String, u64>> {
            let object = json[name].as_object().with_context(|| format!("no {name}: {json}"))?;
            let count = |(key, value): (&String, &Json)| {
                let value = value.as_u64().with_context(|| format!("{name}.{key} is {value}"))?;
                Ok((key.clone(), value))
            };
            object.iter().map(count).collect()
        };
        Ok(Self {
            spans: json["spans"].as_u64().with_context(|| format!("no spans: {json}"))?,
            exported: counts("exported")?,
            losses: counts("losses")?,
            json: json.clone(),
        })
    }

    /// Sum of all losses.
    pub fn lost(&self) -> u64 {
        self.losses.values().sum()
    }

    /// Fails, showing the report, if anything was lost.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        assert_eq!(self.lost(), 0, "lost in {}", self.json);
    }
}

fn spans_in(file: &Path) -> Result<Spans> {
    match fs::read_to_string(file) {
        Ok(text) => Spans::from_otlp_json_lines(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Spans::default()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_report_counts() {
        let log = "ready\nreport: {\"spans\":1,\"exported\":{},\"losses\":{}}\n\
                   report: {\"spans\":7,\"exported\":{\"file\":7},\"losses\":{\"ring_full\":2}}\n";
        let report = Report::in_log(log).unwrap();
        assert_eq!(report.spans, 7);
        assert_eq!(report.exported["file"], 7);
        assert_eq!(report.lost(), 2);
    }

    #[test]
    fn a_report_without_losses_is_refused() {
        Report::in_log("report: {\"spans\":7,\"exported\":{}}").unwrap_err();
        Report::in_log("ready").unwrap_err();
    }
}
