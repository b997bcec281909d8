//! `cargo xtask bench outage`: a receiver that is away for minutes, under load. Which spans arrive
//! once it is back, what becomes of the others, and how much memory the agent takes meanwhile.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tracer_tests::service::Nginx;
use tracer_tests::{Agent, AgentOptions, Backend, Launcher, Process, Service, layout, port};

use super::cpu::Memory;
use super::load::Load;
use super::plot;
use super::report::{Report, Table, median};
use crate::shell::{note, step};

#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Effort {
    /// Seconds without the receiver
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    down: u32,
    /// Spans a second
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(20..))]
    rate: u32,
}

/// Seconds of load before and after.
const AROUND: u32 = 20;
/// Bytes of a trace id and a span id, as the receiver writes them.
const IDS: usize = 24;
/// Characters of the line that shows memory over time.
const COLUMNS: usize = 72;
const LOOK: Duration = Duration::from_secs(1);
/// How long the agent may take to deliver what waits, beside a tenth of the time it waited.
const DRAIN: Duration = Duration::from_mins(2);

pub(crate) fn run(effort: Effort) -> Result<Report> {
    let mut report = Report::new(
        "outage",
        vec![
            format!(
                "{} spans a second of an nginx under h2load; the receiver, in Python with \
                 OpenTelemetry's own messages, is killed after {AROUND} s, away for {} s, and back \
                 for the rest. Made: spans that the agent says it made. Arrived: distinct span ids at \
                 the receiver. Unaccounted: made, but neither arrived nor counted as dropped.",
                effort.rate, effort.down
            ),
            "Memory of the agent: resident, in MiB, once a second.".to_owned(),
        ],
    );
    let header = [
        "",
        "made",
        "arrived",
        "twice",
        "dropped, counted",
        "unaccounted",
        "delivered after",
        "MiB before",
        "while down, median",
        "most",
        "at the end",
    ];
    let mut table = Table::new("A receiver that is away", &header);
    let mut course =
        Table::new("Memory from start to end", &["", "0 to MiB", "", "seconds, all of them"]);
    for (name, key, spooled) in [("with spool", "spool", true), ("without", "memory", false)] {
        step(name);
        let outcome = Outage::new(effort, spooled)?.run()?;
        outcome.report(name, key, &mut table, &mut report);
        outcome.plot(name, &mut course);
    }
    report.table(table);
    report.table(course);
    Ok(report)
}

struct Outage {
    effort: Effort,
    nginx: Service,
    directory: tempfile::TempDir,
    port: u16,
    spooled: bool,
}

struct Outcome {
    made: u64,
    arrived: u64,
    repeated: u64,
    dropped: u64,
    drained: Duration,
    before: f64,
    down: Vec<f64>,
    /// All of it, once a second.
    memory: Vec<f64>,
    most: f64,
    end: f64,
}

impl Outage {
    fn new(effort: Effort, spooled: bool) -> Result<Self> {
        let nginx = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
        let (directory, port) = (tempfile::tempdir()?, port::free()?);
        Ok(Self { effort, nginx, directory, port, spooled })
    }

    fn run(&self) -> Result<Outcome> {
        let mut options = AgentOptions::new(Backend::Auto)
            .without_file()
            .pid(self.nginx.pid())
            .otlp_http(&format!("http://127.0.0.1:{}", self.port));
        if self.spooled {
            let spool = self.directory.path().join("spool");
            options = options.argument("--spool").argument(spool.to_string_lossy());
        }
        let receiver = self.receiver()?;
        let mut agent = options.start()?;
        let Effort { down, rate } = self.effort;
        let over = AtomicBool::new(false);
        let (requests, memory, drained) = thread::scope(|scope| {
            let load = scope.spawn(|| {
                let result = Load::Paced { rate }.run(
                    &mut Launcher::start()?,
                    &self.nginx.url("/hello"),
                    down + 2 * AROUND,
                );
                over.store(true, Ordering::Relaxed);
                result
            });
            let mut receiver = Some(receiver);
            let mut came_back = None;
            let mut memory = Vec::new();
            let began = Instant::now();
            while !over.load(Ordering::Relaxed) {
                thread::sleep(LOOK);
                memory.push(Memory::of(agent.pid())?.resident);
                let seconds = began.elapsed().as_secs();
                if receiver.is_some()
                    && (u64::from(AROUND)..u64::from(AROUND + down)).contains(&seconds)
                {
                    note("the receiver is killed");
                    receiver = None;
                } else if receiver.is_none() && seconds >= u64::from(AROUND + down) {
                    note("the receiver is back");
                    receiver = Some(self.receiver()?);
                    came_back = Some(Instant::now());
                }
            }
            let measured = load.join().expect("no panic above")?;
            let came_back = came_back.context("the load was over before the receiver was back")?;
            // The receiver lives on until everything has come.
            self.drain(&mut agent, came_back)?;
            drop(receiver);
            anyhow::Ok((measured.requests, memory, came_back.elapsed()))
        })?;
        let end = Memory::of(agent.pid())?.resident;
        let most = Memory::of(agent.pid())?.peak;
        let report = agent.stop()?.report;
        ensure!(
            report.spans + report.lost() >= requests,
            "of {requests} requests {} became spans",
            report.spans
        );
        let undelivered = report.json["undelivered"].as_object();
        let reasons = undelivered.into_iter().flat_map(|exporters| exporters.values());
        let dropped = reasons
            .filter_map(|reasons| reasons.as_object())
            .flat_map(|reasons| reasons.values())
            .filter_map(serde_json::Value::as_u64)
            .sum();
        let (arrived, repeated) = distinct(&self.ids())?;
        let (before, rest) = memory.split_at(memory.len().min(AROUND as usize - 2));
        let down = &rest[..rest.len().min(down as usize)];
        Ok(Outcome {
            made: report.spans,
            arrived,
            repeated,
            dropped,
            drained,
            before: before.last().copied().unwrap_or_default(),
            down: down.to_vec(),
            memory: memory.clone(),
            most,
            end,
        })
    }

    fn receiver(&self) -> Result<Process> {
        let mut command = Command::new(layout::python_program("python3")?);
        command.arg(layout::workspace().join("tests/programs/spans_receiver.py"));
        command.arg(self.port.to_string()).arg(self.ids());
        let log = self.directory.path().join("receiver.log");
        let mut process = Process::start("the receiver", &command, &log)?;
        process.wait_until("the receiver to listen", |_| {
            Ok(port::is_open(port::loopback(self.port)).then_some(()))
        })?;
        Ok(process)
    }

    fn ids(&self) -> PathBuf {
        self.directory.path().join("ids")
    }

    /// Waits until nothing comes any more.
    fn drain(&self, agent: &mut Agent, since: Instant) -> Result<()> {
        let patience = DRAIN + Duration::from_secs(u64::from(self.effort.down) / 10);
        let mut size = 0;
        loop {
            thread::sleep(5 * LOOK);
            agent.check_running()?;
            let now = fs::metadata(self.ids())?.len();
            if now == size {
                return Ok(());
            }
            ensure!(since.elapsed() < patience, "the agent is not done after {patience:?}");
            size = now;
        }
    }
}

impl Outcome {
    fn report(&self, name: &str, key: &str, table: &mut Table, report: &mut Report) {
        let unaccounted = self.made.saturating_sub(self.arrived + self.dropped);
        let mut cells = vec![name.to_owned()];
        for (figure, value, decimals) in [
            ("made", self.made as f64, 0),
            ("arrived", self.arrived as f64, 0),
            ("arrived_twice", self.repeated as f64, 0),
            ("dropped", self.dropped as f64, 0),
            ("unaccounted", unaccounted as f64, 0),
            ("drained_seconds", self.drained.as_secs_f64(), 0),
            ("rss_before_mib", self.before, 1),
            ("rss_down_median_mib", median(self.down.iter().copied()), 1),
            ("rss_most_mib", self.most, 1),
            ("rss_end_mib", self.end, 1),
        ] {
            report.figure(format!("{key}.{figure}"), value);
            cells.push(format!("{value:.decimals$}"));
        }
        table.row(cells);
    }

    fn plot(&self, name: &str, course: &mut Table) {
        let line = plot::line(&self.memory, COLUMNS, self.most);
        let seconds = self.memory.len().to_string();
        course.row(vec![name.to_owned(), format!("{:.1}", self.most), line, seconds]);
    }
}

/// Distinct spans that came, and how many came more than once.
fn distinct(file: &Path) -> Result<(u64, u64)> {
    let bytes = fs::read(file)?;
    // A receiver that is killed may have written half of its last request, which it did not answer.
    let all: Vec<&[u8]> = bytes.chunks_exact(IDS).collect();
    let distinct: HashSet<&[u8]> = all.iter().copied().collect();
    Ok((distinct.len() as u64, (all.len() - distinct.len()) as u64))
}
