//! The command line, its environment variables and the configuration file: one typed value out of
//! all.
//!
//! Says what the user may write and checks it as far as that needs no look at the machine. What
//! the values do is the business of the modules they are for. Every option can also be given as
//! `TRACER_…` in the environment, and below `tracer:` in a file; the command line wins, then the
//! environment. A flag's variable is off when it is empty, `0`, `false`, `no` or `off`.

mod agent_variables;
mod byte_size;
mod capture;
mod export;
mod file;
mod link;
mod load;
mod memory;
mod metrics;
mod propagate;
mod redact;
mod sampling;
mod schema;
mod service;
mod span;
mod suggestion;
mod target;
mod variables;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use agent_variables::AgentVariables;
pub use byte_size::{ByteSize, ByteSizeError};
pub use capture::{Backend, CaptureOptions, ConnectionLimit, MessageBudget, OptionError, RingSize};
pub use export::{ExportOptions, QueueDrop};
pub use file::{ConfigFile, ConfigFileError, FileError, Position};
pub use link::LinkOptions;
pub use load::{Configuration, ConfigurationError, OptionValue, check_text, read_file};
pub use memory::MemoryOptions;
pub use metrics::MetricsOptions;
pub use propagate::{Propagate, PropagateOptions};
pub use redact::RedactOptions;
pub use sampling::{SampleRule, SampleRuleError, SamplingOptions};
pub use schema::schema;
pub use service::{FileOptions, LogFormat, LogOptions};
pub use span::SpanOptions;
pub use target::{TargetOptionError, TargetOptions};
pub use variables::{Environment, Source, Variables};

/// Distributed traces for programs nobody instrumented.
#[derive(Clone, Debug, Parser)]
#[command(name = "tracer", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the agent can be asked to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Trace the services of this host until interrupted
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunOptions>),
    /// List the processes that use sockets: traced or not and why, and what they are called
    Targets(TargetsOptions),
    /// Tell whether `tracer run` would work here, with which backend, and what is missing
    Doctor(DoctorOptions),
    /// Write what happens to a file that `tracer replay` turns into the same spans
    Record(Box<RecordOptions>),
    /// Make spans of a recording; needs no privileges
    Replay(Box<ReplayOptions>),
    /// Check and show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a script that completes commands and options in a shell
    Completions {
        /// Whose
        shell: clap_complete::Shell,
    },
    /// Print a manual page, of the agent or of one of its commands
    Man {
        /// Which, like `run`
        command: Option<String>,
    },
}

/// What can be asked about the configuration.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Tell whether a file makes sense, and if not, where
    Check {
        /// YAML file
        file: PathBuf,
    },
    /// Print every setting as `tracer run` would have it with the same options, and where it comes
    /// from; secrets are masked
    Show(Box<ShowOptions>),
    /// Print the JSON schema of configuration files, for editors
    Schema,
}

/// Options of `tracer config show`.
#[derive(Clone, Debug, Default, Args)]
pub struct ShowOptions {
    /// Those of `tracer run`.
    #[command(flatten)]
    pub run: RunOptions,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

const RUN_EXAMPLES: &str = "\
Examples:
  tracer run                                      everything, shown in the terminal
  tracer run --port 8080                          the service on port 8080
  tracer run --exe 'nginx*' --exe gunicorn        by program
  tracer run --pid 1234 --otlp-endpoint http://localhost:4318";

/// Options of `tracer run`.
#[derive(Clone, Debug, Default, Args)]
pub struct RunOptions {
    /// Which processes.
    #[command(flatten)]
    pub target: TargetOptions,
    /// How to watch them.
    #[command(flatten)]
    pub capture: CaptureOptions,
    /// How parents are found.
    #[command(flatten)]
    pub link: LinkOptions,
    /// How context gets to other hosts.
    #[command(flatten)]
    pub propagate: PropagateOptions,
    /// What spans say.
    #[command(flatten)]
    pub span: SpanOptions,
    /// What spans must not say.
    #[command(flatten)]
    pub redact: RedactOptions,
    /// Which traces are exported.
    #[command(flatten)]
    pub sampling: SamplingOptions,
    /// Where spans go.
    #[command(flatten)]
    pub export: ExportOptions,
    /// What is told in numbers.
    #[command(flatten)]
    pub metrics: MetricsOptions,
    /// How much memory there is.
    #[command(flatten)]
    pub memory: MemoryOptions,
    /// The configuration file.
    #[command(flatten)]
    pub configuration: FileOptions,
    /// What is logged.
    #[command(flatten)]
    pub log: LogOptions,
}

/// Options of `tracer targets`.
#[derive(Clone, Debug, Default, Args)]
pub struct TargetsOptions {
    /// The configuration file.
    #[command(flatten)]
    pub configuration: FileOptions,
    /// Which processes would be traced.
    #[command(flatten)]
    pub target: TargetOptions,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Options of `tracer doctor`.
#[derive(Clone, Debug, Default, Args)]
pub struct DoctorOptions {
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Options of `tracer record`.
#[derive(Clone, Debug, Args)]
pub struct RecordOptions {
    /// File to write; must not exist. It will hold parts of requests and responses as they were
    /// sent, headers and bodies included: share it with care
    pub file: PathBuf,
    /// Which processes.
    #[command(flatten)]
    pub target: TargetOptions,
    /// How to watch them.
    #[command(flatten)]
    pub capture: CaptureOptions,
    /// The configuration file.
    #[command(flatten)]
    pub configuration: FileOptions,
    /// What is logged.
    #[command(flatten)]
    pub log: LogOptions,
}

/// Options of `tracer replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayOptions {
    /// File that `tracer record` wrote
    pub file: PathBuf,
    /// How parents are found.
    #[command(flatten)]
    pub link: LinkOptions,
    /// What spans say.
    #[command(flatten)]
    pub span: SpanOptions,
    /// What spans must not say.
    #[command(flatten)]
    pub redact: RedactOptions,
    /// Which traces are exported.
    #[command(flatten)]
    pub sampling: SamplingOptions,
    /// Where spans go.
    #[command(flatten)]
    pub export: ExportOptions,
    /// The configuration file.
    #[command(flatten)]
    pub configuration: FileOptions,
    /// What is logged.
    #[command(flatten)]
    pub log: LogOptions,
}

#[cfg(test)]
mod tests;
