//! Command line of the agent: turns options into the library's parts and exits with a status.

mod cli;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use tracer::config::{Cli, Command};

/// What is logged: beside trouble, that a receiver of spans is back.
const LOG: &str = "warn,tracer::export=info";

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("TRACER_LOG").unwrap_or_else(|_| EnvFilter::new(LOG));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let result = match cli.command {
        Command::Run(options) => cli::run::run(&options),
        Command::Record(options) => cli::run::record(&options),
        Command::Replay(options) => cli::replay::replay(&options),
        Command::Targets(options) => cli::inspect::targets(&options),
        Command::Doctor(options) => cli::inspect::doctor(&options),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tracer: {error:#}");
        ExitCode::FAILURE
    })
}
