//! Runs real services under the agent and judges the parents of their calls.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tracer_tests::{AgentOptions, Backend, Report as AgentReport, Span, Spans};

use super::driver::Load;
use super::judge::{Verdict, judge};
use super::leaf::{Asked, Leaf};
use super::runtime::{Runtime, Setting, Stack, TOKIO_EXAMPLE};
use crate::shell::{cargo, note, run, step};

/// Lines of a service's log that an error shows.
const LOG_TAIL: usize = 20;

/// What to measure, and how much.
pub(crate) struct Bench<'a> {
    pub(crate) backend: Backend,
    pub(crate) seed: u64,
    pub(crate) concurrencies: &'a [u32],
    /// Multiplies the number of requests.
    pub(crate) effort: f64,
    /// Where to leave the spans.
    pub(crate) keep: Option<&'a Path>,
}

/// One service at one concurrency.
pub(crate) struct Run {
    pub(crate) at_once: u32,
    pub(crate) requests: u32,
    pub(crate) verdict: Verdict,
    /// What the agent says it lost.
    pub(crate) lost: u64,
}

/// Builds what only this benchmark needs.
pub(crate) fn build() -> Result<()> {
    step("Building the service on tokio");
    run(cargo().args(["build", "--quiet", "--package", "tracer-tests", "--example", TOKIO_EXAMPLE]))
}

impl Bench<'_> {
    /// Measures a service at every concurrency.
    pub(crate) fn measure(&self, runtime: &Runtime) -> Result<Vec<Run>> {
        step(runtime.name);
        let runs = self.concurrencies.iter().map(|at_once| {
            let run = self.run(runtime, *at_once);
            run.with_context(|| format!("{}, {at_once} at once", runtime.name))
        });
        runs.inspect(|run| run.iter().for_each(Run::tell)).collect()
    }

    /// Service, agent and leaf are new each time: nothing is left of an earlier run.
    fn run(&self, runtime: &Runtime, at_once: u32) -> Result<Run> {
        let leaf = Leaf::start(self.seed)?;
        let stack = runtime.start(Setting { leaf: leaf.address(), at_once })?;
        let directory = tempfile::tempdir()?;
        let file = match self.keep {
            Some(kept) => kept.join(format!("{}-{at_once}.jsonl", runtime.name)),
            None => directory.path().join("spans.jsonl"),
        };
        // The agent appends to what an earlier run left.
        if fs::exists(&file)? {
            fs::remove_file(&file)?;
        }
        let mut agent = AgentOptions::new(self.backend).without_file();
        agent = agent.exporter(&format!("file:{}", file.display()));
        for pid in stack.pids() {
            agent = agent.pid(pid);
        }
        let agent = agent.start()?;

        let requests = (f64::from(usual_requests(at_once)) * self.effort).ceil() as u32;
        let load = Load {
            address: stack.address(),
            entry: runtime.entry,
            seed: self.seed,
            requests: requests.max(1),
            at_once,
        };
        let sent = load.drive().with_context(|| log_tail(&stack))?;
        let report = agent.stop()?.report;
        let services = stack.services();
        drop(stack);
        let asked = leaf.stop()?;
        check_service(&load, &asked)?;

        let verdict = judge(&spans_in(&file)?, &asked, &sent, services);
        Ok(Run { at_once, requests: load.requests, verdict, lost: lost(&report) })
    }
}

impl Run {
    fn tell(&self) {
        let calls = &self.verdict.calls;
        note(format!(
            "{:>3} at once: {} requests, {} calls: {} right, {} orphan, {} wrong",
            self.at_once,
            self.requests,
            self.verdict.outbound.expected,
            calls.right,
            calls.orphan,
            calls.wrong
        ));
        let (inbound, outbound) = (self.verdict.inbound, self.verdict.outbound);
        if [inbound.missing, inbound.surplus, outbound.missing, outbound.surplus, self.lost]
            .iter()
            .any(|count| *count > 0)
        {
            note(format!(
                "    spans of calls: {} missing, {} too many; of requests: {} missing, {} too many; \
                 the agent counts {} lost",
                outbound.missing, outbound.surplus, inbound.missing, inbound.surplus, self.lost
            ));
        }
        for example in &self.verdict.examples {
            note(format!("    {example}"));
        }
    }
}

/// Enough for rare mistakes to show, within some seconds.
fn usual_requests(at_once: u32) -> u32 {
    match at_once {
        0..=1 => 200,
        2..=8 => 800,
        9..=64 => 2000,
        _ => 3000,
    }
}

/// A service that does not do what it was asked would be measured by the wrong rule.
fn check_service(load: &Load, asked: &Asked) -> Result<()> {
    let planned: u64 = load.tags().map(|tag| u64::from(load.plan(tag).calls())).sum();
    ensure!(
        asked.len() as u64 == planned,
        "the service made {} different calls of {planned} planned",
        asked.len()
    );
    Ok(())
}

/// What the agent counts as lost on its way from the kernel to the file.
fn lost(report: &AgentReport) -> u64 {
    let undelivered = report.json["undelivered"].as_object().into_iter().flatten();
    let reasons = undelivered.filter_map(|(_, reasons)| reasons.as_object());
    let counts = reasons.flat_map(|reasons| reasons.values()).filter_map(serde_json::Value::as_u64);
    report.lost() + counts.sum::<u64>()
}

fn spans_in(file: &Path) -> Result<Vec<Span>> {
    if !fs::exists(file)? {
        bail!("the agent wrote no spans to {}", file.display());
    }
    let mut spans = Vec::new();
    Spans::each_in_file(file, |span| {
        spans.push(span);
        Ok(())
    })?;
    Ok(spans)
}

fn log_tail(stack: &Stack) -> String {
    let log = stack.log();
    let lines: Vec<&str> = log.lines().collect();
    format!("log of the service:\n{}", lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n"))
}
