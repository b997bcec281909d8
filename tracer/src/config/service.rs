//! Options of the agent as a program: its configuration file and what it logs.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Where options may come from beside the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Agent")]
pub struct FileOptions {
    /// YAML file with OpenTelemetry's declarative configuration and, below `tracer:`, any of these
    /// options; without it `OTEL_CONFIG_FILE`. What is given here wins over the file
    #[arg(long, env = "TRACER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What the agent logs about itself, on standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Agent")]
pub struct LogOptions {
    /// What is logged, like `info` or `warn,tracer::export=debug`; without it `OTEL_LOG_LEVEL`, else
    /// trouble and its end
    #[arg(long, env = "TRACER_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How it is written
    #[arg(long, env = "TRACER_LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// How log messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}
