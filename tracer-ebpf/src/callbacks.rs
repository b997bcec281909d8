//! Within which callback of an event loop the current thread moves bytes: the one that began when
//! it last read from a socket, if the function that did is still running.
//!
//! Needs a program that keeps frame pointers. The chain of callers at a read is remembered; a later
//! call of the same thread is made within that read's callback if its own chain of callers ends in
//! the same one, and nothing else was read since. Timers and all other callbacks have callers of
//! their own.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_get_task_stack};

use crate::kernel::read;
use crate::maps::LAST_READS;
use crate::offsets::at;

/// Callers looked at, at most: as many as the kernel gives, and a power of two.
const CALLERS: usize = 128;
/// Callers of a function that reads, at most; in between are the program's entry and its loop.
const OUTER: u64 = 24;
/// With fewer callers than that there are no frame pointers.
const LEAST: u64 = 3;
const USER_STACK: u64 = 1 << 8;

/// Return addresses, innermost first.
#[repr(C)]
pub(crate) struct Stack {
    callers: [u64; CALLERS],
    count: u64,
}

/// What is remembered of a thread's last read.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LastRead {
    /// When, which is the name of its callback.
    time: u64,
    /// Stands for the addresses of the callers.
    chain: u64,
    /// How many those are.
    callers: u32,
    /// Reads of any kind that the thread has begun in its life, this one included.
    reads: u32,
}

/// A thread reads: a callback begins. `counted` tells whether the kernel has counted the read
/// already, or never will. Returns the callback's name.
#[inline(always)]
pub(crate) fn begin(tid: u32, time: u64, counted: bool, stack: &mut Stack) -> u64 {
    if at::TASK_READS() == 0 || !stack.fill() || stack.count > OUTER {
        let _ = LAST_READS.remove(tid);
        return 0;
    }
    let callers = stack.count;
    let last = LastRead {
        time,
        chain: stack.outer(callers),
        callers: callers as u32,
        reads: reads().wrapping_add(u32::from(!counted)),
    };
    if LAST_READS.insert(tid, last, 0).is_err() {
        return 0;
    }
    time
}

/// The name of the callback within which the thread makes a call; zero if that is not known.
#[inline(always)]
pub(crate) fn within(tid: u32, stack: &mut Stack) -> u64 {
    // SAFETY: copied at once.
    let Some(last) = (unsafe { LAST_READS.get(tid) }).copied() else {
        return 0;
    };
    if last.reads != reads() || !stack.fill() {
        return 0;
    }
    let callers = u64::from(last.callers);
    if stack.count < callers || stack.outer(callers) != last.chain {
        return 0;
    }
    last.time
}

impl Stack {
    /// Takes the callers of the current thread's system call.
    #[inline(always)]
    fn fill(&mut self) -> bool {
        const SIZE: u32 = (CALLERS * size_of::<u64>()) as u32;
        let callers = self.callers.as_mut_ptr().cast::<c_void>();
        // SAFETY: the current task; the buffer is that long.
        let bytes =
            unsafe { bpf_get_task_stack(bpf_get_current_task_btf(), callers, SIZE, USER_STACK) };
        if bytes < 0 {
            return false;
        }
        // The first address is where the system call itself was made, which differs.
        self.count = (bytes as u64 / size_of::<u64>() as u64).saturating_sub(1);
        self.count >= LEAST && self.count < CALLERS as u64
    }

    /// Stands for the outermost `amount` callers.
    #[inline(always)]
    fn outer(&self, amount: u64) -> u64 {
        let first = self.count.wrapping_sub(amount).wrapping_add(1);
        let mut hash = 0u64;
        let mut index = 0;
        while index < OUTER {
            if index >= amount {
                break;
            }
            let at = (first.wrapping_add(index) & (CALLERS as u64 - 1)) as usize;
            // SAFETY: within bounds by the mask.
            let caller = unsafe { (&raw const self.callers[0]).add(at).read_volatile() };
            hash = (hash ^ caller).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
            index += 1;
        }
        hash
    }
}

/// How many calls of the kind of `read` the current thread has begun in its life, modulo 2^32.
#[inline(always)]
fn reads() -> u32 {
    // SAFETY: no preconditions.
    let task = unsafe { bpf_get_current_task_btf() } as u64;
    read::<u64>(task + at::TASK_READS()).unwrap_or(0) as u32
}
