//! Processes: which ones to trace, and what to call them.
//!
//! [`Selection`] decides whether a process is traced; [`Processes`] knows the OpenTelemetry
//! resource of every process that is. Both read `/proc` through [`HostFs`], so that tests can give
//! them a directory instead of a machine. Nothing here knows sockets' bytes, HTTP or OTLP.
//!
//! Environments and command lines hold secrets. They are read for the few facts a resource needs
//! and then dropped; they are not kept, logged or exported.

mod cgroup;
mod clock;
mod container;
mod environment;
mod host;
mod listing;
mod process;
mod process_context;
mod processes;
mod procfs;
mod program;
mod resource;
mod scan;
mod selection;
mod service_name;
mod sockets;
#[cfg(test)]
mod testing;

pub use cgroup::{CgroupError, CgroupPath};
pub use clock::{ClockSource, Clocks, StartTicks};
pub use environment::{AttributesError, resource_attributes};
pub use host::Host;
pub use listing::{Instrumented, Listing, Row};
pub use process::{Process, Resolver};
pub use processes::{ProcessCounts, Processes};
pub use procfs::HostFs;
pub use program::Runtime;
pub use scan::Scanner;
pub use selection::{
    Decision, ExecutableGlob, ProcessFacts, Selection, SelectionError, Selectors, Why,
};
pub use service_name::ServiceNameSource;
