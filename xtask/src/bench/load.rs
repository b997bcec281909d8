//! Load generators: wrk for as much as goes, h2load for a fixed rate.
//!
//! wrk cannot pace. h2load sends HTTP/1.1 at a given rate and logs each request's time; it sends
//! each connection's share in small bursts, so its latencies include some waiting for each other,
//! equally in every variant.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use tracer_tests::{Launcher, layout};

/// Seconds beyond its own that a generator may take.
const SLACK: u32 = 60;
const PACED_CONNECTIONS: u32 = 20;

/// How to load a server.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// As many requests as the server answers, over this many connections.
    Saturating { connections: u32 },
    /// Requests per second.
    Paced { rate: u32 },
}

/// What a generator saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Load {
    /// Sends requests for so many seconds, from a program that this shell starts; fails unless all
    /// are answered well.
    pub(crate) fn run(self, launcher: &mut Launcher, url: &str, seconds: u32) -> Result<Measured> {
        let directory = tempfile::tempdir()?;
        let log = directory.path().join("requests");
        let patience = (seconds + SLACK).to_string();
        let mut words = vec!["env", "-u", "LD_LIBRARY_PATH", "LC_ALL=C", "timeout", &patience];
        let generator = match self {
            Self::Saturating { connections } => saturate(url, seconds, connections),
            Self::Paced { rate } => pace(url, seconds, rate, &log),
        };
        words.extend(generator.iter().map(String::as_str));
        let output = launcher.run(words)?.success().context("the load generator failed")?;
        match self {
            Self::Saturating { .. } => wrk_result(&output.stdout),
            Self::Paced { .. } => h2load_result(&fs::read_to_string(log)?),
        }
    }
}

fn saturate(url: &str, seconds: u32, connections: u32) -> Vec<String> {
    let script = layout::workspace().join("xtask/src/bench/wrk.lua");
    let (duration, connections) = (format!("-d{seconds}s"), format!("-c{connections}"));
    let script = script.to_string_lossy();
    ["wrk", "-t1", &connections, &duration, "-s", &script, url].map(str::to_owned).to_vec()
}

fn pace(url: &str, seconds: u32, rate: u32, log: &Path) -> Vec<String> {
    let (clients, requests) = (format!("-c{PACED_CONNECTIONS}"), format!("-n{}", rate * seconds));
    let (rate, log) = (format!("--rps={}", rate / PACED_CONNECTIONS), log.to_string_lossy());
    let words = ["h2load", "--h1", "-t1", &clients, &requests, &rate, "--log-file", &log, url];
    words.map(str::to_owned).to_vec()
}

fn wrk_result(output: &str) -> Result<Measured> {
    let line = output.lines().rev().find(|line| line.starts_with('{'));
    let json: Json = serde_json::from_str(line.context("wrk printed no result")?)?;
    let number = |name: &str| json[name].as_f64().with_context(|| format!("no {name}: {json}"));
    ensure!(json["errors"] == 0, "wrk saw errors: {json}");
    let requests = number("requests")?;
    Ok(Measured {
        requests: requests as u64,
        per_second: requests * 1e6 / number("duration_us")?,
        p50_us: number("p50_us")?,
        p99_us: number("p99_us")?,
    })
}

/// A log line holds start (microseconds), status code and duration (microseconds).
fn h2load_result(log: &str) -> Result<Measured> {
    let mut durations = Vec::new();
    let (mut first, mut last) = (f64::MAX, 0.0_f64);
    for line in log.lines() {
        let fields: Vec<f64> = line.split('\t').filter_map(|field| field.parse().ok()).collect();
        let [start, status, duration] = fields[..] else {
            anyhow::bail!("unexpected line in h2load's log: {line:?}")
        };
        ensure!((200.0..300.0).contains(&status), "a request failed: {line:?}");
        first = first.min(start);
        last = last.max(start + duration);
        durations.push(duration);
    }
    ensure!(!durations.is_empty(), "h2load logged no request");
    durations.sort_by(f64::total_cmp);
    let percentile = |share: f64| durations[((durations.len() - 1) as f64 * share) as usize];
    Ok(Measured {
        requests: durations.len() as u64,
        per_second: durations.len() as f64 * 1e6 / (last - first),
        p50_us: percentile(0.50),
        p99_us: percentile(0.99),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_h2loads_log() {
        let log = "1000000\t200\t500\n1000500\t200\t700\n1999000\t200\t1000\n";
        let measured = h2load_result(log).unwrap();
        assert_eq!(measured.requests, 3);
        assert!((measured.per_second - 3.0).abs() < 1e-9);
        assert!((measured.p50_us - 700.0).abs() < 1e-9);
        h2load_result("1000000\t502\t500\n").unwrap_err();
        h2load_result("").unwrap_err();
    }

    #[test]
    fn reads_wrks_result_and_refuses_errors() {
        let line = |errors| {
            format!(
                "Running…\n{{\"requests\":100,\"duration_us\":2000000,\"p50_us\":5,\
                 \"p99_us\":9,\"errors\":{errors}}}\n"
            )
        };
        assert!((wrk_result(&line(0)).unwrap().per_second - 50.0).abs() < 1e-9);
        wrk_result(&line(1)).unwrap_err();
    }
}
