//! `cargo xtask bench NAME`: benchmarks. Each compares variants in one run, interleaved, because
//! only ratios within a run survive a change of machine or weather.

mod bystander;
mod collector;
mod cpu;
mod export;
mod links;
mod load;
mod outage;
mod overhead;
mod plot;
mod proxy;
mod report;
mod rounds;

use std::path::PathBuf;

use anyhow::Result;

use self::report::Report;
use self::rounds::Effort;
use crate::privilege;
use crate::setup::{self, Part};
use crate::shell::{build_agent, note, step};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
    /// Write the figures to this file, as JSON under stable names
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
    /// Set-up and build are done; only run
    #[arg(long, hide = true, global = true)]
    prepared: bool,
}

#[derive(clap::Subcommand)]
enum Benchmark {
    /// What tracing costs nginx and a Flask service, beside OpenTelemetry's Python instrumentation
    Overhead(Effort),
    /// A receiver that is away for minutes: which spans arrive, and how much memory the agent takes
    Outage(outage::Effort),
    /// What exporting a span takes, beside OpenTelemetry's Rust SDK and a collector
    Export(export::Effort),
    /// What the proxy of `--propagate proxy` costs, beside `HAProxy` and Envoy
    Proxy(proxy::Arguments),
    /// How often a call is given the request that caused it
    Links(links::Arguments),
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Some(report) = measure(arguments)? else { return Ok(()) };
    step("Results");
    print!("{report}");
    if let Some(file) = &arguments.json {
        report.write_json(file)?;
        note(format!("written to {}", file.display()));
    }
    report.check_complete()
}

/// `None` if another process, which is root, has measured and reported instead.
fn measure(arguments: &Arguments) -> Result<Option<Report>> {
    match &arguments.benchmark {
        Benchmark::Links(links) => links::run(links, arguments.prepared),
        Benchmark::Export(effort) => {
            if !arguments.prepared {
                setup::ensure(&[Part::Build, Part::Test])?;
            }
            export::run(*effort).map(Some)
        }
        Benchmark::Outage(effort) => {
            as_root(arguments, &[Part::Build, Part::Test], || outage::run(*effort))
        }
        Benchmark::Overhead(effort) => {
            as_root(arguments, &[Part::Build, Part::Test], || overhead::run(*effort))
        }
        Benchmark::Proxy(proxy) => {
            as_root(arguments, &[Part::Build, Part::Test, Part::Proxies], || proxy::run(proxy))
        }
    }
}

fn as_root(
    arguments: &Arguments,
    parts: &[Part],
    run: impl FnOnce() -> Result<Report>,
) -> Result<Option<Report>> {
    if !arguments.prepared {
        setup::ensure(parts)?;
        build_agent()?;
    }
    if privilege::rerun_as_root("loading eBPF programs into the kernel", &["--prepared"])? {
        return Ok(None);
    }
    run().map(Some)
}
