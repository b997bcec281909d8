//! `cargo xtask bench links`: how often the agent gives a call the request that caused it.
//!
//! Without further options real services of every kind are run under the agent; with `--data` or
//! `--simulated`, the model behind `timing` alone is asked.

mod docs;
mod driver;
mod judge;
mod leaf;
mod plan;
mod runtime;
mod services;
mod tables;
mod timing;

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use tracer_tests::Backend;

use super::report::Report;
use crate::privilege;
use crate::setup::{self, Part};
use crate::shell::{build_agent, note};

use self::runtime::Runtime;
use self::services::Bench;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Ask the model behind `timing` on recordings: a folder of `*.csv.gz`
    #[arg(long, value_name = "DIR", conflicts_with_all = ["simulated", "write_docs"])]
    data: Option<PathBuf>,
    /// Ask the model behind `timing` on simulated services
    #[arg(long, conflicts_with = "write_docs")]
    simulated: bool,
    /// Only this service; may be given several times
    #[arg(long, value_name = "NAME", value_parser = runtime_names())]
    runtime: Vec<String>,
    /// Requests under way at a time; may be given several times
    #[arg(long, value_name = "N", default_values_t = [1, 8, 64, 256],
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    concurrency: Vec<u32>,
    /// Multiplies the number of requests, which is 200 to 3000 by concurrency
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    effort: f64,
    /// Decides plans and delays
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// How the agent captures
    #[arg(long, default_value = "auto", value_parser = ["auto", "socket", "syscall"])]
    backend: String,
    /// Keep each run's spans, as OTLP JSON lines, in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Put the tables into docs/links.md
    #[arg(long, conflicts_with = "runtime")]
    write_docs: bool,
}

fn runtime_names() -> PossibleValuesParser {
    PossibleValuesParser::new(runtime::ALL.iter().map(|runtime| runtime.name))
}

/// `None` if another process, which is root, has measured and reported instead.
pub(crate) fn run(arguments: &Arguments, prepared: bool) -> Result<Option<Report>> {
    if arguments.simulated || arguments.data.is_some() {
        setup::ensure(&[Part::Build])?;
        return timing::run(arguments.data.as_deref()).map(Some);
    }
    if !prepared {
        setup::ensure(&[Part::Build, Part::Test, Part::Links])?;
        build_agent()?;
        services::build()?;
    }
    if privilege::rerun_as_root("loading eBPF programs into the kernel", &["--prepared"])? {
        return Ok(None);
    }
    if let Some(folder) = &arguments.keep {
        fs::create_dir_all(folder)?;
    }
    let bench = Bench {
        backend: match &*arguments.backend {
            "socket" => Backend::Socket,
            "syscall" => Backend::Syscall,
            _ => Backend::Auto,
        },
        seed: arguments.seed,
        concurrencies: &arguments.concurrency,
        effort: arguments.effort,
        keep: arguments.keep.as_deref(),
    };
    let wanted = |runtime: &&Runtime| {
        arguments.runtime.is_empty() || arguments.runtime.iter().any(|name| name == runtime.name)
    };
    let (mut measured, mut failed) = (Vec::new(), Vec::new());
    for runtime in runtime::ALL.iter().filter(wanted) {
        // One that does not run here must not cost the figures of the others.
        match bench.measure(runtime) {
            Ok(runs) => measured.push((runtime, runs)),
            Err(error) => {
                note(format!("{error:#}"));
                failed.push(runtime.name);
            }
        }
    }
    let mut report = tables::report(&bench, &measured)?;
    for name in failed {
        report.failed(name);
    }
    if arguments.write_docs && report.check_complete().is_ok() {
        docs::write(&report)?;
        note(format!("written to {}", docs::FILE));
    }
    Ok(Some(report))
}
