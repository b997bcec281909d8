//! Where a program's own runtime keeps the tasks that it runs on threads, so that the kernel half
//! can tell them apart by looking.
//!
//! Knows executables, by what stands in their file, and interpreters, by what stands in their
//! memory; not the kernel.

mod callbacks;
mod debug_info;
mod finder;
mod go;
mod python;

use std::fs::File;

use object::read::ReadCache;
use object::{Architecture, Object as _};
use tracer_ebpf::python::PythonLayout;

pub use finder::{Finder, Found};
pub use go::GoLayout;

/// A runtime whose tasks can be told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Go, with goroutines.
    Go(GoLayout),
    /// `CPython`, with asyncio tasks.
    Python(Box<PythonLayout>),
    /// An event loop, with callbacks.
    Callbacks,
}

/// Why a program's tasks cannot be told apart, though it has some.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Its runtime is newer than this agent, or none that was ever released.
    #[error(
        "it is built by {version}, which this agent does not know, and has no usable debug \
         information ({reason}); build it without `-ldflags=-w`, or update the agent"
    )]
    Unknown {
        /// As the program says.
        version: String,
        /// What is wrong with its debug information.
        reason: String,
    },
    /// Its runtime does not keep what is needed.
    #[error("it is built by {version}; tasks are followed from go1.21 on")]
    TooOld {
        /// As the program says.
        version: String,
    },
}

/// The layout of the program in an executable file; `None` if it has no runtime that is known
/// here.
pub fn of_executable(file: File) -> Result<Option<Layout>, LayoutError> {
    let cache = ReadCache::new(file);
    let Ok(object) = object::File::parse(&cache) else { return Ok(None) };
    if object.architecture() != Architecture::X86_64 {
        return Ok(None);
    }
    Ok(match go::layout(&object)? {
        Some(layout) => Some(Layout::Go(layout)),
        None => callbacks::has_callbacks(&object).then_some(Layout::Callbacks),
    })
}
