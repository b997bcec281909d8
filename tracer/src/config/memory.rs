//! Options on the memory that the agent may take.

use clap::Args;

use super::ByteSize;

/// The memory that the agent may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Agent")]
pub struct MemoryOptions {
    /// Bytes of memory never to exceed: near them the agent drops, and counts, what is worth least;
    /// without it the limit of its control group, if that has one
    #[arg(long, env = "TRACER_MEMORY_LIMIT", value_name = "BYTES")]
    pub memory_limit: Option<ByteSize>,
}
