//! The asyncio task for which the current thread makes a system call.

use aya_ebpf::helpers::generated::bpf_get_current_task;
use tracer_ebpf::TaskKey;
use tracer_ebpf::python::Memory;

use crate::kernel::{self, read_user};
use crate::maps::{PYTHON_LAYOUTS, Scratch};
use crate::offsets::at;

/// What the current process can address.
struct OwnMemory;

impl Memory for OwnMemory {
    #[inline(always)]
    fn word(&self, address: u64) -> Option<u64> {
        read_user(address)
    }
}

/// Notes in the scratch space which task that is, if any.
#[inline(always)]
pub(crate) fn read(tgid: u32, scratch: &mut Scratch) {
    let Some(layout) = PYTHON_LAYOUTS.get_ptr_mut(tgid) else {
        return;
    };
    // SAFETY: a live map value; programs only read it.
    let layout = unsafe { &*layout };
    // SAFETY: no preconditions.
    let thread = unsafe { bpf_get_current_task() };
    let Some(pointer) = kernel::read::<u64>(thread + at::TASK_FS_BASE()) else {
        return;
    };
    if let Some(waiting) = layout.task(pointer, &mut scratch.walk, &OwnMemory) {
        scratch.data.task =
            TaskKey { task: waiting.task, parent_task: waiting.outermost, site: TaskKey::AWAITED };
    }
}
