//! Which task of its own runtime the current thread runs. Only ever looks: at the registers of the
//! system call that is being made, and at the program's memory, where the agent said what stands.
//!
//! Whatever is read is checked against something else that was read; what does not fit together is
//! no task at all.

use tracer_ebpf::{RuntimeLayout, TaskKey, go, runtime};

use crate::kernel::read_user;
use crate::maps::{RUNTIME_LAYOUTS, Scratch};

/// Longest stack of a goroutine: the runtime's own limit.
const MAX_STACK: u64 = 1 << 30;

/// Notes in the scratch space what the current thread runs, if that can be told.
#[inline(always)]
pub(crate) fn read_current(tgid: u32, scratch: &mut Scratch) {
    let Some(layout) = RUNTIME_LAYOUTS.get_ptr_mut(tgid) else {
        return;
    };
    // SAFETY: a live map value; programs only read it.
    let layout = unsafe { &*layout };
    if layout.kind == u32::from(runtime::GO) {
        goroutine(layout, scratch);
    }
}

/// Go keeps the running goroutine in R14.
#[inline(always)]
fn goroutine(layout: &RuntimeLayout, scratch: &mut Scratch) {
    let offset = |index: usize| u64::from(layout.offsets[index]);
    let user = scratch.transfer.user;
    // C code uses the register for anything, and runs on a stack of its own.
    let Some([low, high]) = read_user::<[u64; 2]>(user.r14 + offset(go::G_STACK)) else {
        return;
    };
    if user.sp < low || user.sp >= high || high - low > MAX_STACK {
        return;
    }
    scratch.task = TaskKey {
        task: read_user(user.r14 + offset(go::G_ID)).unwrap_or(0),
        parent_task: read_user(user.r14 + offset(go::G_PARENT)).unwrap_or(0),
        site: read_user(user.r14 + offset(go::G_SITE)).unwrap_or(0),
    };
}
