//! The last words of a run, for people and, on one line, for programs.

use std::collections::BTreeMap;

use serde::Serialize;
use tracer::capture::{Backend, KernelCounters};
use tracer::conn;
use tracer::export::{ExportReport, ExporterReport};
use tracer::link::{self, Tally};
use tracer::memory::Shed;
use tracer::pipeline::Pipeline;
use tracer::propagation;
use tracer::proxy::redirect::ProxyReport;
use tracer::redact;
use tracer::sampling::tail;

/// Marks the line that programs read.
const PREFIX: &str = "report: ";

/// Everything that was counted.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// How events were captured; absent in a replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<Backend>,
    /// Spans made.
    spans: u64,
    server_spans: u64,
    client_spans: u64,
    /// Spans delivered, by exporter.
    exported: BTreeMap<String, u64>,
    /// Spans not delivered, by exporter and reason.
    undelivered: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// Spans that wait in the spool for the next run, by exporter.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    spooled: BTreeMap<String, u64>,
    /// Spans that an earlier run had left in the spool, by exporter; not among `spans`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    recovered: BTreeMap<String, u64>,
    /// Exchanges and spans that are not exported because their traces are not sampled, by whether
    /// that was decided before the spans were made, when their traces were over, or after that.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unsampled: BTreeMap<&'static str, u64>,
    /// Connections that were not watched to their end because what they carry is never recorded.
    #[serde(skip_serializing_if = "is_zero")]
    unsampled_connections: u64,
    /// What became of traces when they were over, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    tail: Option<tail::Counts>,
    /// What was left out of spans.
    redacted: redact::Counts,
    /// Spans whose route was reported as `_OTHER` because their service has too many.
    #[serde(skip_serializing_if = "is_zero")]
    routes_overflowed: u64,
    /// Exchanges that happened and are not among the spans, by reason.
    losses: BTreeMap<&'static str, u64>,
    /// Spans by service and by what decided their parent.
    links: Tally,
    /// What happened to parents out of the ordinary.
    link_limits: link::Counters,
    /// Exchanges that are left to the SDKs of traced programs, and exports of telemetry, by reason.
    muted: BTreeMap<&'static str, u64>,
    /// What happened to connections as such. Of an evicted one no later exchange is known.
    connections: conn::Counters,
    /// What the process table did.
    processes: Processes,
    /// What the kernel half counted; absent in a replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<KernelCounters>,
    /// What became of connections, if they were propagated.
    #[serde(skip_serializing_if = "Option::is_none")]
    propagation: Option<Propagation>,
    /// What was given up to stay below the memory limit; spans of it are undelivered ones.
    #[serde(skip_serializing_if = "is_nothing")]
    shed: Shed,
}

fn is_nothing(shed: &Shed) -> bool {
    *shed == Shed::default()
}

#[derive(Debug, Serialize)]
struct Propagation {
    #[serde(flatten)]
    proxy: ProxyReport,
    contexts: propagation::Counts,
}

#[derive(Debug, Serialize)]
struct Processes {
    resolved: u64,
    unknown: u64,
    evicted: u64,
}

impl Report {
    pub(crate) fn new(
        pipeline: &Pipeline,
        export: &ExportReport,
        captured: Option<(Backend, KernelCounters)>,
        propagation: Option<(ProxyReport, propagation::Counts)>,
        shed: Shed,
    ) -> Self {
        let (core, processes) = (pipeline.counts(), pipeline.process_counts());
        let mut losses = core.lost_exchanges.clone();
        let kernel = captured.map(|(_, counters)| counters);
        // Of connections whose end found the ring full.
        let untold = kernel.map_or(0, |counters| counters.lost_exchanges);
        if untold > 0 {
            losses.insert("connection_end_lost", untold);
        }
        let exporters = || export.exporters.iter();
        let counts = |count: fn(&ExporterReport) -> u64| {
            let counts = exporters().map(|report| (report.name.clone(), count(report)));
            counts.filter(|(_, spans)| *spans > 0).collect()
        };
        Self {
            backend: captured.map(|(backend, _)| backend),
            spans: core.server_spans + core.client_spans,
            server_spans: core.server_spans,
            client_spans: core.client_spans,
            exported: exporters().map(|report| (report.name.clone(), report.sent)).collect(),
            undelivered: exporters()
                .map(|report| {
                    let reasons = report.drops().map(|(reason, spans)| (reason.as_str(), spans));
                    (report.name.clone(), reasons.collect::<BTreeMap<_, _>>())
                })
                .filter(|(_, reasons)| !reasons.is_empty())
                .collect(),
            spooled: counts(|report| report.spooled),
            recovered: counts(|report| report.recovered),
            unsampled: without_zeros(pipeline.unsampled()),
            unsampled_connections: core.unsampled_connections,
            tail: pipeline.tail_counts(),
            redacted: pipeline.redacted(),
            routes_overflowed: pipeline.routes_overflowed(),
            losses,
            links: pipeline.links().clone(),
            link_limits: pipeline.link_counts(),
            muted: pipeline.muted().clone(),
            connections: pipeline.connection_counts(),
            processes: Processes {
                resolved: processes.resolved,
                unknown: processes.unknown,
                evicted: processes.evicted,
            },
            kernel,
            propagation: propagation.map(|(proxy, contexts)| Propagation { proxy, contexts }),
            shed,
        }
    }

    /// Prints both forms to standard error.
    pub(crate) fn print(&self, export: &ExportReport) {
        eprintln!("tracer: {} server and {} client spans", self.server_spans, self.client_spans);
        if !export.exporters.is_empty() {
            eprintln!("{export}");
        }
        if !self.links.is_empty() {
            eprintln!("tracer: what decided the spans' parents\n{}", self.links);
        }
        if let Some(tail) = &self.tail {
            let tail::Counts { kept_traces, dropped_traces, .. } = tail;
            eprintln!("tracer: {kept_traces} traces kept by policy, {dropped_traces} not");
        }
        for (decided, spans) in &self.unsampled {
            eprintln!("tracer: {spans} spans not sampled: {decided}");
        }
        for (reason, exchanges) in &self.muted {
            eprintln!("tracer: {exchanges} exchanges left out: {reason}");
        }
        for (reason, exchanges) in &self.losses {
            eprintln!("tracer: {exchanges} exchanges lost: {reason}");
        }
        if let Some(propagation) = &self.propagation {
            let Propagation { proxy, contexts } = propagation;
            let straight = &proxy.connects.straight;
            eprintln!("tracer: {} connections went through the proxy", proxy.accepted);
            for (event, count) in &proxy.forwarder {
                eprintln!("tracer: {count} times in the proxy: {event}");
            }
            eprintln!(
                "tracer: {} calls sent on below a request, {} as roots, {} with their own context",
                contexts.linked, contexts.roots, contexts.kept
            );
            for (reason, connections) in straight {
                eprintln!("tracer: {connections} connections went straight: {reason}");
            }
        }
        match serde_json::to_string(self) {
            Ok(line) => eprintln!("{PREFIX}{line}"),
            Err(error) => eprintln!("tracer: the report cannot be printed: {error}"),
        }
    }
}

fn without_zeros(mut counts: BTreeMap<&'static str, u64>) -> BTreeMap<&'static str, u64> {
    counts.retain(|_, count| *count > 0);
    counts
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
