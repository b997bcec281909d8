//! Command line of the agent: turns options into the library's parts and exits with a status.

mod cli;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use tracer::config::{
    AgentVariables, Command, Configuration, ConfigurationError, Environment, LogOptions,
};

use cli::logging;

fn main() -> ExitCode {
    let environment: Environment = Arc::new(|name: &str| std::env::var(name).ok());
    let configuration = match Configuration::load(std::env::args_os(), environment.clone()) {
        Ok(configuration) => configuration,
        Err(ConfigurationError::Usage(error)) => error.exit(),
        Err(ConfigurationError::File(error)) => {
            eprintln!("tracer: {error}");
            return ExitCode::FAILURE;
        }
    };
    run(&configuration, &environment).unwrap_or_else(|error| {
        eprintln!("tracer: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(configuration: &Configuration, environment: &Environment) -> Result<ExitCode> {
    let (agent, warnings) = AgentVariables::read(&configuration.variables);
    let log = match &configuration.cli.command {
        Command::Run(options) => options.log.clone(),
        Command::Record(options) => options.log.clone(),
        Command::Replay(options) => options.log.clone(),
        _ => LogOptions::default(),
    };
    let logs = logging::start(&log, agent.log_level)?;
    let tell = || {
        for warning in configuration.warnings.iter().chain(&warnings) {
            eprintln!("tracer: {warning}");
        }
    };
    match &configuration.cli.command {
        Command::Run(options) => {
            tell();
            cli::run::run(options, configuration, agent, logs, environment)
        }
        Command::Record(options) => {
            tell();
            cli::run::record(options)
        }
        Command::Replay(options) => {
            tell();
            cli::replay::replay(options, &configuration.variables, agent)
        }
        Command::Targets(options) => cli::inspect::targets(options),
        Command::Doctor(options) => cli::inspect::doctor(options),
        Command::Config(command) => cli::config::config(command, configuration, environment),
        Command::Completions { shell } => {
            cli::config::completions(*shell);
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { command } => cli::config::manual(command.as_deref()),
    }
}
