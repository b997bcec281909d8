//! For which task of its own runtime the current thread moves bytes. Only ever looks: at the
//! registers of the system call that is being made, and at the program's memory, where the agent
//! said what stands.
//!
//! Whatever is read is checked against something else that was read; what does not fit together is
//! no task at all.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use tracer_ebpf::{ConnState, RuntimeLayout, TaskKey, direction, go, runtime};

use crate::kernel::read_user;
use crate::maps::{RUNTIME_LAYOUTS, Scratch};
use crate::payload::Source;

/// Longest stack of a goroutine: the runtime's own limit.
const MAX_STACK: u64 = 1 << 30;
/// Words of a stack that are searched, from its outermost frame on: those of the loop that writes a
/// connection's requests are within the first 40 in every version so far.
const WORDS: usize = 48;
/// How far apart in memory two objects of one heap are at most.
const HEAP: u64 = 1 << 36;
/// The channel by which a caller learns that its request was written holds one error at most.
const ERRORS: u64 = 1;
const ERROR_SIZE: u16 = 16;
/// What a response begins with, and no request.
const RESPONSE: [u8; 4] = *b"HTTP";

/// Working values, in map memory so that the verifier does not follow every combination of them.
#[repr(C)]
pub(crate) struct Goroutine {
    words: [u64; WORDS],
    /// Address of the `g` in question.
    address: u64,
    /// Address of the channel on which somebody waits for it.
    channel: u64,
}

/// Notes in the scratch space for which task bytes are moved, if that can be told.
#[inline(always)]
pub(crate) fn read(tgid: u32, state: &mut ConnState, scratch: &mut Scratch) {
    let Some(layout) = RUNTIME_LAYOUTS.get_ptr_mut(tgid) else {
        return;
    };
    // SAFETY: a live map value; programs only read it.
    let layout = unsafe { &*layout };
    if layout.kind == u32::from(runtime::GO) {
        goroutine(layout, state, scratch);
    }
}

/// Go keeps the running goroutine in R14. It moves its own bytes, unless it is one that writes a
/// connection's requests for whoever asks it to: then it has a channel to tell them, and that is
/// where they wait, if not when the request is sent then until its response comes.
#[inline(always)]
fn goroutine(layout: &RuntimeLayout, state: &mut ConnState, scratch: &mut Scratch) {
    let own = scratch.transfer.user.r14;
    let sp = scratch.transfer.user.sp;
    // C code uses the register for anything, and runs on a stack of its own.
    let Some([low, high]) = stack(layout, own) else {
        return;
    };
    if sp < low || sp >= high {
        return;
    }
    scratch.goroutine.address = own;
    scratch.goroutine.channel = 0;
    let sends = scratch.transfer.moving() == direction::SEND;
    let response = is_response(scratch);
    if sends && !response {
        find_channel(high, scratch);
        state.awaited_at = volatile(&scratch.goroutine.channel);
    } else if response && !sends {
        // Somebody else's, or nobody's: not that of the one who reads it.
        if state.awaited_at == 0 {
            return;
        }
        scratch.goroutine.channel = state.awaited_at;
    }
    let channel = volatile(&scratch.goroutine.channel);
    if channel != 0 {
        let Some(waiting) = receiver(layout, channel) else {
            return;
        };
        if stack(layout, waiting).is_none() {
            return;
        }
        state.awaited_at = 0;
        scratch.goroutine.address = waiting;
    }
    let address = volatile(&scratch.goroutine.address);
    let Some(task) = read_user::<u64>(address + at(layout, go::G_ID)) else {
        return;
    };
    let Some([parent_task, site]) = read_user::<[u64; 2]>(address + at(layout, go::G_PARENT))
    else {
        return;
    };
    scratch.data.task = TaskKey { task, parent_task, site };
}

#[inline(always)]
fn at(layout: &RuntimeLayout, index: usize) -> u64 {
    u64::from(layout.offsets[index])
}

/// The bounds of a goroutine's stack, if there can be one at this address.
#[inline(always)]
fn stack(layout: &RuntimeLayout, goroutine: u64) -> Option<[u64; 2]> {
    let [low, high] = read_user::<[u64; 2]>(goroutine + at(layout, go::G_STACK))?;
    if low == 0 || high <= low || high - low > MAX_STACK { None } else { Some([low, high]) }
}

#[inline(always)]
fn is_response(scratch: &Scratch) -> bool {
    match scratch.transfer.source() {
        Source::Flat(address) => {
            scratch.transfer.len() as usize >= RESPONSE.len()
                && read_user::<[u8; 4]>(address) == Some(RESPONSE)
        }
        _ => false,
    }
}

/// Looks through the outermost frames of a stack that ends at `high` for a channel of errors. Only
/// the first one counts: what follows may be left from calls that are over.
#[inline(always)]
fn find_channel(high: u64, scratch: &mut Scratch) {
    let words = (&raw mut scratch.goroutine.words).cast::<c_void>();
    const SIZE: usize = WORDS * size_of::<u64>();
    // SAFETY: the buffer is that long.
    if unsafe { bpf_probe_read_user(words, SIZE as u32, (high - SIZE as u64) as *const c_void) }
        != 0
    {
        return;
    }
    let near = volatile(&scratch.goroutine.address).wrapping_sub(HEAP);
    let mut index = WORDS;
    while index > 0 {
        index -= 1;
        let word = volatile(&scratch.goroutine.words[index]);
        if word & 7 == 0 && word.wrapping_sub(near) < 2 * HEAP && is_channel_of_errors(word) {
            scratch.goroutine.channel = word;
            return;
        }
    }
}

#[inline(always)]
fn is_channel_of_errors(address: u64) -> bool {
    let Some([count, capacity, _, size]) = read_user::<[u64; 4]>(address) else {
        return false;
    };
    count <= ERRORS && capacity == ERRORS && size as u16 == ERROR_SIZE
}

/// The goroutine that waits first to receive from a channel.
#[inline(always)]
fn receiver(layout: &RuntimeLayout, channel: u64) -> Option<u64> {
    let waiter = read_user::<u64>(channel + at(layout, go::CHAN_RECEIVERS))?;
    if waiter == 0 {
        return None;
    }
    if read_user::<u64>(waiter + at(layout, go::WAITER_CHAN))? != channel {
        return None;
    }
    read_user::<u64>(waiter + at(layout, go::WAITER_G))
}

/// Reads a working value back from map memory, see `emit`.
#[inline(always)]
fn volatile(value: &u64) -> u64 {
    // SAFETY: a reference is valid for reads.
    unsafe { core::ptr::from_ref(value).read_volatile() }
}
