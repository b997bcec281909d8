//! Layouts of runtimes as the kernel half reads them.

use aya::maps::{HashMap as BpfHashMap, MapData, MapError};
use tracer_ebpf::python::PythonLayout;
use tracer_ebpf::{RuntimeLayout, go, runtime};

use super::ANY;
use crate::event::Pid;
use crate::layout::{GoLayout, Layout};

/// A map value.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Value<T>(T);

// SAFETY: integers without padding between them.
unsafe impl aya::Pod for Value<RuntimeLayout> {}
// SAFETY: as above.
unsafe impl aya::Pod for Value<PythonLayout> {}

/// The layouts that the kernel half knows.
pub(super) struct Runtimes {
    most: BpfHashMap<MapData, u32, Value<RuntimeLayout>>,
    pythons: BpfHashMap<MapData, u32, Value<PythonLayout>>,
}

impl Runtimes {
    /// Those of two maps: most layouts are small, Python's is not.
    pub(super) fn new(most: aya::maps::Map, pythons: aya::maps::Map) -> Result<Self, MapError> {
        Ok(Self { most: most.try_into()?, pythons: pythons.try_into()? })
    }

    /// Adds or changes a process' layout; gives its runtime.
    pub(super) fn insert(&mut self, pid: Pid, layout: &Layout) -> Result<u8, MapError> {
        match layout {
            Layout::Go(layout) => {
                self.most.insert(pid.0, Value(of_go(layout)), ANY)?;
                Ok(runtime::GO)
            }
            Layout::Callbacks => {
                self.most.insert(pid.0, Value(of_callbacks()), ANY)?;
                Ok(runtime::CALLBACKS)
            }
            Layout::Python(layout) => {
                self.pythons.insert(pid.0, Value(**layout), ANY)?;
                Ok(runtime::PYTHON)
            }
        }
    }

    pub(super) fn remove(&mut self, pid: Pid) {
        // Nothing to remove is what most processes have.
        let _ = self.most.remove(&pid.0);
        let _ = self.pythons.remove(&pid.0);
    }
}

fn of_go(layout: &GoLayout) -> RuntimeLayout {
    let mut offsets = [0; 23];
    offsets[go::G_STACK] = layout.stack;
    offsets[go::G_ID] = layout.id;
    offsets[go::G_PARENT] = layout.parent;
    offsets[go::CHAN_RECEIVERS] = layout.receivers;
    offsets[go::WAITER_G] = layout.waiter;
    offsets[go::WAITER_CHAN] = layout.waiter_channel;
    RuntimeLayout { addresses: [0; 4], offsets, kind: u32::from(runtime::GO) }
}

fn of_callbacks() -> RuntimeLayout {
    RuntimeLayout { addresses: [0; 4], offsets: [0; 23], kind: u32::from(runtime::CALLBACKS) }
}
