//! The figures of all runs as tables.

use anyhow::Result;

use super::judge::Tally;
use super::runtime::{Family, Runtime};
use super::services::{Bench, Run};
use crate::bench::report::{Report, Table};
use crate::shell::{command, output};

/// Runs of each service.
pub(crate) type Measured<'a> = [(&'a Runtime, Vec<Run>)];

pub(crate) fn report(bench: &Bench<'_>, measured: &Measured<'_>) -> Result<Report> {
    let mut report = Report::new("links", conditions(bench)?);
    for family in Family::ALL {
        let of_family = measured.iter().filter(|(runtime, _)| runtime.family == family);
        if let Some(table) = table(family, of_family) {
            report.table(table);
        }
    }
    for (runtime, runs) in measured {
        for run in runs {
            add_figures(&mut report, runtime, run);
        }
    }
    Ok(report)
}

fn conditions(bench: &Bench<'_>) -> Result<Vec<String>> {
    let kernel = output(&mut command("uname", ["-sr"]))?;
    let cpus = std::thread::available_parallelism()?;
    Ok(vec![
        format!(
            "{}, {cpus} CPUs, everything on this machine over loopback; backend {}, seed {}.",
            kernel.trim(),
            bench.backend,
            bench.seed
        ),
        "No header tells anything. Right: the call's parent is the request that made it. Orphan: \
         it has none. Wrong: it has another one. A request is right when all its calls are, wrong \
         when any is; those that make no call do not count."
            .to_owned(),
        "Missing: calls and requests without a span. Lost: what the agent itself counts as lost."
            .to_owned(),
    ])
}

fn table<'a>(
    family: Family,
    measured: impl Iterator<Item = &'a (&'a Runtime, Vec<Run>)>,
) -> Option<Table> {
    let mut table = Table::new(
        family.title(),
        &[
            "service",
            "at once",
            "calls",
            "right",
            "orphan",
            "wrong",
            "requests",
            "right",
            "orphan",
            "wrong",
            "missing",
            "lost",
            "decided by",
        ],
    );
    let mut rows = 0;
    for (runtime, runs) in measured {
        for run in runs {
            table.row(row(runtime, run));
            rows += 1;
        }
    }
    (rows > 0).then_some(table)
}

fn row(runtime: &Runtime, run: &Run) -> Vec<String> {
    let verdict = &run.verdict;
    let calls = verdict.outbound.expected;
    let requests = verdict.requests.total();
    let mut row = vec![runtime.name.to_owned(), run.at_once.to_string(), calls.to_string()];
    row.extend(shares(verdict.calls, calls));
    row.push(requests.to_string());
    row.extend(shares(verdict.requests, requests));
    let (outbound, inbound) = (verdict.outbound, verdict.inbound);
    row.push(match (outbound.missing, inbound.missing) {
        (0, 0) => "0".to_owned(),
        (calls, requests) => format!("{calls} + {requests}"),
    });
    row.push(run.lost.to_string());
    let links = verdict.links.iter().map(|(kind, count)| format!("{kind} {count}"));
    row.push(links.collect::<Vec<_>>().join(", "));
    row
}

/// Share and count of right, orphan and wrong.
fn shares(tally: Tally, total: u64) -> [String; 3] {
    [tally.right, tally.orphan, tally.wrong].map(|count| match count {
        0 => "0".to_owned(),
        count => format!("{:.2} % ({count})", 100.0 * count as f64 / total as f64),
    })
}

fn add_figures(report: &mut Report, runtime: &Runtime, run: &Run) {
    let mut figure = |name: &str, value: u64| {
        report.figure(format!("{}.{}.{name}", runtime.name, run.at_once), value as f64);
    };
    let verdict = &run.verdict;
    for (name, tally, total) in [
        ("calls", verdict.calls, verdict.outbound.expected),
        ("requests", verdict.requests, verdict.requests.total()),
    ] {
        figure(name, total);
        figure(&format!("{name}_right"), tally.right);
        figure(&format!("{name}_orphan"), tally.orphan);
        figure(&format!("{name}_wrong"), tally.wrong);
    }
    figure("client_spans_missing", verdict.outbound.missing);
    figure("client_spans_surplus", verdict.outbound.surplus);
    figure("server_spans_missing", verdict.inbound.missing);
    figure("server_spans_surplus", verdict.inbound.surplus);
    figure("lost", run.lost);
    for (kind, count) in &verdict.links {
        figure(&format!("link_{kind}"), *count);
    }
}
