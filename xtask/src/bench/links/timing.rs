//! How often the right parent is found by times and names alone, on recorded observations or,
//! without recordings, on simulated services.
//!
//! The measuring is done by the agent's own bench target, because this program must build where
//! the agent cannot yet; here its figures become tables.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::bench::report::{Report, Table};
use crate::shell::{cargo, output, step};

pub(crate) fn run(data: Option<&Path>) -> Result<Report> {
    step("Deciding parents by timing alone");
    let mut bench = cargo();
    bench.args(["bench", "--quiet", "--package", "tracer", "--bench", "links", "--"]);
    if let Some(folder) = data {
        let folder = folder.canonicalize();
        bench.arg("--data").arg(folder.context("--data names no folder")?);
    }
    let outcomes: Value = serde_json::from_str(&output(&mut bench)?)
        .context("the bench target did not print JSON")?;
    let outcomes = outcomes.as_array().context("the bench target printed no list")?;

    let source = match data {
        Some(_) => "Recorded observations; every file starts with a model that knows nothing.",
        None => "Simulated services of random shape; each starts with a model that knows nothing.",
    };
    let mut report = Report::new(
        "links",
        vec![
            source.to_owned(),
            "Only names and times are known. Oldest and newest: guessing the oldest or newest \
             request that was open all along."
                .to_owned(),
        ],
    );
    report.table(overview(outcomes));
    report.table(curve(outcomes));
    report.table(reliability(outcomes));
    for outcome in outcomes {
        add_figures(&mut report, outcome);
    }
    Ok(report)
}

fn overview(outcomes: &[Value]) -> Table {
    let mut table = Table::new(
        "Share of calls, and of whole requests",
        &[
            "set",
            "calls",
            "oldest",
            "newest",
            "all assigned",
            "requests",
            "right",
            "orphan",
            "wrong",
            "µs/call",
        ],
    );
    for outcome in outcomes {
        let all = &outcome["curve"][0][1];
        let accepted = &outcome["at_default"];
        table.row(vec![
            name(outcome),
            count(all, "calls").to_string(),
            share(&outcome["oldest_open"], "right"),
            share(&outcome["newest_open"], "right"),
            share(all, "right"),
            percent(ratio(all, "requests_right", "requests")),
            share(accepted, "right"),
            share(accepted, "orphan"),
            share(accepted, "wrong"),
            format!("{:.0}", outcome["micros_per_call"].as_f64().unwrap_or(0.0)),
        ]);
    }
    table
}

fn curve(outcomes: &[Value]) -> Table {
    let thresholds = outcomes.first().and_then(|outcome| outcome["curve"].as_array());
    let mut header = vec!["right / wrong from confidence".to_owned()];
    header.extend(thresholds.into_iter().flatten().map(|point| point[0].to_string()));
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = Table::new("Thresholds", &header);
    for outcome in outcomes {
        let mut row = vec![name(outcome)];
        for point in outcome["curve"].as_array().into_iter().flatten() {
            row.push(format!("{} / {}", share(&point[1], "right"), share(&point[1], "wrong")));
        }
        table.row(row);
    }
    table
}

fn reliability(outcomes: &[Value]) -> Table {
    let mut table = Table::new(
        "Whether the confidence is true, all sets together",
        &["confidence from", "calls", "stated", "right"],
    );
    let bins = outcomes.first().and_then(|outcome| outcome["reliability"].as_array());
    for index in 0..bins.map_or(0, Vec::len) {
        let sum = |field: &str| -> f64 {
            let bins = outcomes.iter().map(|outcome| &outcome["reliability"][index][field]);
            bins.filter_map(Value::as_f64).sum()
        };
        let calls = sum("calls");
        table.row(vec![
            bins.map_or_else(String::new, |bins| bins[index]["from"].to_string()),
            calls.to_string(),
            percent(sum("stated") / calls.max(1.0)),
            percent(sum("right") / calls.max(1.0)),
        ]);
    }
    table
}

fn add_figures(report: &mut Report, outcome: &Value) {
    let set = name(outcome);
    for (key, score) in [
        ("oldest_open", &outcome["oldest_open"]),
        ("newest_open", &outcome["newest_open"]),
        ("all_assigned", &outcome["curve"][0][1]),
        ("default_threshold", &outcome["at_default"]),
    ] {
        for part in ["right", "orphan", "wrong"] {
            report.figure(format!("{set}_{key}_{part}_share"), ratio(score, part, "calls"));
        }
        let requests = ratio(score, "requests_right", "requests");
        report.figure(format!("{set}_{key}_whole_requests_share"), requests);
    }
    for point in outcome["curve"].as_array().into_iter().flatten() {
        for part in ["right", "wrong"] {
            let value = ratio(&point[1], part, "calls");
            report.figure(format!("{set}_threshold_{}_{part}_share", point[0]), value);
        }
    }
}

fn name(outcome: &Value) -> String {
    outcome["name"].as_str().unwrap_or_default().to_owned()
}

fn count(score: &Value, part: &str) -> u64 {
    score[part].as_u64().unwrap_or(0)
}

fn ratio(score: &Value, part: &str, of: &str) -> f64 {
    count(score, part) as f64 / count(score, of).max(1) as f64
}

fn share(score: &Value, part: &str) -> String {
    percent(ratio(score, part, "calls"))
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
