//! Set-up, demo, tests, benchmarks and the kernel matrix: `cargo xtask COMMAND`.
//!
//! Each command first ensures what it needs itself, so a fresh machine needs no reading.

#![forbid(unsafe_code)]

mod bench;
mod demo;
mod privilege;
mod setup;
mod shell;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum as _};

use crate::setup::Part;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, demo, tests and benchmarks of tracer")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building, testing, the demo, benchmarks and virtual machines need
    Setup {
        /// Only these parts
        parts: Vec<Part>,
    },
    /// Trace one request through a stack of uninstrumented services
    Demo(demo::Arguments),
    /// Run unit, integration and end-to-end tests
    Test(test::Arguments),
    /// Measure
    Bench(bench::Arguments),
    /// Trace a request on other kernels, in virtual machines
    Vm(vm::Arguments),
    /// Run a command as root, by sudo where needed
    #[command(hide = true)]
    AsRoot {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup { parts } if parts.is_empty() => setup::ensure(Part::value_variants()),
        Task::Setup { parts } => setup::ensure(&parts),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run_all(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Vm(arguments) => vm::run(&arguments),
        Task::AsRoot { command } => privilege::replace_self(&command),
    }
}
