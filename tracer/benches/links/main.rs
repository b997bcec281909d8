//! `cargo xtask bench links --data DIR`: how often the timing model finds the parent of a call.
//!
//! Prints one JSON document. For each `*.csv.gz` of `--data` (or, without it, for simulated
//! services at growing load): the baselines, the model at every threshold, and how far its
//! confidence can be trusted.

mod recorded;
mod recording;
mod scoring;
mod simulation;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use tracer::link::timing::Options;

use crate::recording::Recording;
use crate::scoring::{Guess, Reliability, Run, Score, THRESHOLDS};
use crate::simulation::Scenario;

/// Average numbers of open requests that simulated services are run at.
const LOADS: [f64; 5] = [1.0, 2.0, 4.0, 8.0, 16.0];

#[derive(Parser)]
struct Arguments {
    /// Folder of recordings; without it, services are simulated
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Simulated services
    #[arg(long, default_value_t = 40)]
    services: u64,
    /// First seed of the simulation; the constants were fitted on 1000 to 1039
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Requests to each simulated service
    #[arg(long, default_value_t = 600)]
    requests: usize,
    /// What `cargo bench` passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// Everything measured on one set of calls.
#[derive(Serialize)]
struct Outcome {
    name: String,
    default_threshold: f64,
    oldest_open: Score,
    newest_open: Score,
    at_default: Score,
    curve: Vec<(f64, Score)>,
    reliability: Vec<Reliability>,
    micros_per_call: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let outcomes = match &arguments.data {
        Some(folder) => recorded::files(folder)?
            .iter()
            .map(|file| Ok(measure_one(&recorded::read(file)?)))
            .collect::<Result<Vec<_>>>()?,
        None => LOADS.iter().map(|&load| simulate(&arguments, load)).collect(),
    };
    println!("{}", serde_json::to_string_pretty(&outcomes)?);
    Ok(())
}

fn measure_one(recording: &Recording) -> Outcome {
    let mut outcome = Outcome::new(recording.name.clone());
    let took = outcome.add(recording);
    outcome.finish(took)
}

fn simulate(arguments: &Arguments, load: f64) -> Outcome {
    let mut outcome = Outcome::new(format!("simulated-load{load}"));
    let took = (arguments.seed..arguments.seed + arguments.services)
        .map(|seed| outcome.add(&Scenario::random(seed, load, arguments.requests).record()))
        .sum();
    outcome.finish(took)
}

impl Outcome {
    fn new(name: String) -> Self {
        Self {
            name,
            default_threshold: Options::default().threshold.probability(),
            oldest_open: Score::default(),
            newest_open: Score::default(),
            at_default: Score::default(),
            curve: THRESHOLDS.iter().map(|&threshold| (threshold, Score::default())).collect(),
            reliability: Reliability::bins(),
            micros_per_call: 0.0,
        }
    }

    fn add(&mut self, recording: &Recording) -> Duration {
        let run = Run::of(recording, Options::default());
        self.oldest_open += scoring::baseline(recording, Guess::OldestOpen);
        self.newest_open += scoring::baseline(recording, Guess::NewestOpen);
        self.at_default += run.score(recording, self.default_threshold);
        for (threshold, score) in &mut self.curve {
            *score += run.score(recording, *threshold);
        }
        run.add_reliability(recording, &mut self.reliability);
        run.took
    }

    fn finish(mut self, took: Duration) -> Self {
        self.micros_per_call = took.as_secs_f64() * 1e6 / self.at_default.calls.max(1) as f64;
        self
    }
}
