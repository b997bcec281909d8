//! `cargo xtask bench export`: what it takes to get finished spans onto a socket, beside
//! OpenTelemetry's Rust SDK and beside a collector that passes them on.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tracer_tests::service::Nginx;
use tracer_tests::{Rotel, Service};

use super::cpu::Cpu;
use super::report::{Report, Table, median};
use crate::shell::{cargo, note, output, step};

#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Effort {
    /// Rounds of each exporter; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Spans of a round
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    spans: u32,
}

/// Each exporter's name in the tables, and what the bench target calls it.
const EXPORTERS: [(&str, &str); 2] = [("tracer", "agent"), ("opentelemetry_sdk (Rust)", "sdk")];
const COLLECTOR: &str = "rotel, passing on";
const SIZES: &str = "sizes.log";
/// How long nothing must come for a collector to have passed on everything.
const QUIET: Duration = Duration::from_secs(2);

/// One round of one exporter.
struct Round {
    cpu_us: f64,
    wall_us: Option<f64>,
    bytes: f64,
}

pub(crate) fn run(effort: Effort) -> Result<Report> {
    let receiver = Receiver::start()?;
    let collector = Rotel::forwarding(&receiver.0.url(""))?;
    let mut rounds = BTreeMap::<&str, Vec<Round>>::new();
    step("Processor time");
    for number in 1..=effort.rounds {
        for (name, exporter) in EXPORTERS {
            let round = receiver.export(exporter, effort.spans)?;
            note(format!("round {number}: {name:<26} {:>9.0} ns CPU/span", per(&round, effort)));
            rounds.entry(name).or_default().push(round);
        }
        let round = receiver.pass_on(&collector, effort.spans)?;
        note(format!("round {number}: {COLLECTOR:<26} {:>9.0} ns CPU/span", per(&round, effort)));
        rounds.entry(COLLECTOR).or_default().push(round);
    }
    step("Allocations");
    let allocations = EXPORTERS.map(|(_, exporter)| {
        bench("export_allocations", exporter, &receiver.0.url(""), effort.spans)
    });

    let mut report = Report::new("export", conditions(effort)?);
    let mut table = Table::new(
        "From finished spans to bytes on the socket",
        &[
            "",
            "ns CPU/span",
            "spans/CPU s",
            "of the SDK's",
            "spans/s",
            "bytes/span",
            "allocations/span",
            "allocated bytes/span",
        ],
    );
    let cost = |name: &str| median(rounds[name].iter().map(|round| per(round, effort)));
    let sdk = cost(EXPORTERS[1].0);
    let mut allocations = allocations.into_iter();
    for name in EXPORTERS.map(|(name, _)| name).into_iter().chain([COLLECTOR]) {
        let key = name.split([' ', ',']).next().unwrap_or(name);
        let mut cells = vec![name.to_owned()];
        let mut cell = |figure: &str, value: Option<f64>, decimals: usize| match value {
            Some(value) => {
                report.figure(format!("{key}.{figure}"), value);
                cells.push(format!("{value:.decimals$}"));
            }
            None => cells.push(String::new()),
        };
        cell("cpu_ns_per_span", Some(cost(name)), 0);
        cell("spans_per_cpu_second", Some(1e9 / cost(name)), 0);
        cell("spans_per_cpu_second_of_sdk", Some(sdk / cost(name)), 2);
        let walls: Vec<f64> = rounds[name].iter().filter_map(|round| round.wall_us).collect();
        let pace = (!walls.is_empty()).then(|| f64::from(effort.spans) * 1e6 / median(walls));
        cell("spans_per_second", pace, 0);
        let bytes = median(rounds[name].iter().map(|round| round.bytes));
        cell("bytes_per_span", Some(bytes / f64::from(effort.spans)), 1);
        let counted = allocations.next().transpose()?;
        let counted = |name: &str| counted.as_ref().and_then(|counted| counted[name].as_f64());
        cell("allocations_per_span", counted("allocations_per_span"), 2);
        cell("allocated_bytes_per_span", counted("allocated_bytes_per_span"), 0);
        table.row(cells);
    }
    report.table(table);
    Ok(report)
}

fn per(round: &Round, effort: Effort) -> f64 {
    round.cpu_us * 1e3 / f64::from(effort.spans)
}

fn conditions(effort: Effort) -> Result<Vec<String>> {
    let kernel = output(&mut crate::shell::command("uname", ["-sr"]))?;
    Ok(vec![
        format!(
            "{}, {} processors. {} rounds of {} spans with eleven attributes, exporters taking \
             turns; medians.",
            kernel.trim(),
            thread::available_parallelism()?,
            effort.rounds,
            effort.spans
        ),
        "OTLP over HTTP in protobuf, 512 spans a request, uncompressed, to an nginx on the same \
         machine that discards them. Processor time is that of all of the exporter's threads, user \
         and system; bytes are those of the requests' bodies. Making the spans is \
         not measured. The collector takes the same requests and exports them again."
            .to_owned(),
    ])
}

/// Takes everything, keeps nothing, and writes down how much it was.
struct Receiver(Service);

impl Receiver {
    fn start() -> Result<Self> {
        let server = "client_max_body_size 64m; location / { return 200; }";
        let nginx = Nginx::new(&format!("access_log {SIZES} size; {server}"))?;
        Ok(Self(nginx.http("log_format size $content_length;").start()?))
    }

    /// Bytes so far.
    fn received(&self) -> Result<f64> {
        let log = fs::read_to_string(self.0.directory().join(SIZES))?;
        // The last line may be half written.
        let complete = log.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete.lines().map(|line| line.parse::<f64>().context("no size in nginx's log")).sum()
    }

    fn export(&self, exporter: &str, spans: u32) -> Result<Round> {
        let before = self.received()?;
        let measured = bench("export", exporter, &self.0.url(""), spans)?;
        let figure = |name: &str| measured[name].as_f64().context("a figure is missing");
        let bytes = self.received()? - before;
        ensure!(bytes > 0.0, "nothing arrived of {exporter}");
        Ok(Round { cpu_us: figure("cpu_us")?, wall_us: Some(figure("wall_us")?), bytes })
    }

    /// Has the collector pass on what the agent's exporter sends to it.
    fn pass_on(&self, collector: &Rotel, spans: u32) -> Result<Round> {
        let (before, cpu) = (self.received()?, Cpu::of_tree(collector.pid())?);
        bench("export", "agent", &collector.http_endpoint(), spans)?;
        let mut received = before;
        loop {
            thread::sleep(QUIET);
            let now = self.received()?;
            if now <= received {
                break;
            }
            received = now;
        }
        ensure!(received > before, "the collector passed on nothing");
        let cpu = Cpu::of_tree(collector.pid())?.since(cpu);
        Ok(Round { cpu_us: cpu.total(), wall_us: None, bytes: received - before })
    }
}

/// Runs a bench target of the agent, because this program must build where the agent cannot yet.
fn bench(target: &str, exporter: &str, endpoint: &str, spans: u32) -> Result<Value> {
    let mut bench = cargo();
    bench.args(["bench", "--quiet", "--package", "tracer", "--bench", target, "--"]);
    bench.args([exporter, endpoint, &spans.to_string()]);
    serde_json::from_str(&output(&mut bench)?).context("the bench target did not print JSON")
}
