//! Layouts of runtimes as the kernel half reads them.

use tracer_ebpf::{RuntimeLayout, go, runtime};

use crate::layout::{GoLayout, Layout};

/// A map value.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct MapValue(RuntimeLayout);

// SAFETY: integers without padding between them.
unsafe impl aya::Pod for MapValue {}

impl MapValue {
    pub(super) fn kind(&self) -> u8 {
        self.0.kind as u8
    }
}

impl From<&Layout> for MapValue {
    fn from(layout: &Layout) -> Self {
        match layout {
            Layout::Go(layout) => Self(of_go(layout)),
            Layout::Callbacks => Self(RuntimeLayout {
                addresses: [0; 4],
                offsets: [0; 23],
                kind: u32::from(runtime::CALLBACKS),
            }),
        }
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
