//! `cargo xtask bench NAME`: benchmarks. Each compares variants in one run, interleaved, because
//! only ratios within a run survive a change of machine or weather.

mod cpu;
mod links;
mod load;
mod overhead;
mod report;

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use self::report::Report;
use crate::privilege;
use crate::setup::{self, Part};
use crate::shell::{build_agent, note, step};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which benchmark
    #[arg(value_enum)]
    benchmark: Benchmark,
    /// Write the figures to this file, as JSON under stable names
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Rounds of each variant; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Length of a round
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Recordings for `links`: a folder of `*.csv.gz`; without it, services are simulated
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Set-up and build are done; only run
    #[arg(long, hide = true)]
    prepared: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Benchmark {
    /// What tracing costs nginx and a Flask service, beside OpenTelemetry's Python instrumentation
    Overhead,
    /// How often the parent of an outbound request is found by timing alone
    Links,
}

/// How long to measure.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Some(report) = measure(arguments)? else { return Ok(()) };
    step("Results");
    print!("{report}");
    if let Some(file) = &arguments.json {
        report.write_json(file)?;
        note(format!("written to {}", file.display()));
    }
    Ok(())
}

/// `None` if another process, which is root, has measured and reported instead.
fn measure(arguments: &Arguments) -> Result<Option<Report>> {
    match arguments.benchmark {
        Benchmark::Links => {
            setup::ensure(&[Part::Build])?;
            links::run(arguments.data.as_deref()).map(Some)
        }
        Benchmark::Overhead => {
            if !arguments.prepared {
                setup::ensure(&[Part::Build, Part::Test])?;
                build_agent()?;
            }
            if privilege::rerun_as_root("loading eBPF programs into the kernel", &["--prepared"])? {
                return Ok(None);
            }
            let effort = Effort { rounds: arguments.rounds, seconds: arguments.seconds };
            overhead::run(effort).map(Some)
        }
    }
}
