//! Putting records into the ring, counting those that do not fit.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_ktime_get_ns, bpf_probe_read_user, bpf_ringbuf_output, bpf_ringbuf_query,
};
use tracer_ebpf::{
    CHUNK, CloseRecord, ConnState, Counter, DataRecord, RecordHeader, TAIL, close, record,
    unreadable,
};

use crate::maps::{EVENTS, Scratch, count};
use crate::offsets::at;
use crate::payload::Source;

const AVAILABLE_DATA: u64 = 0;
const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;

/// Looks at the ring's fill on the way to the one that wakes the agent.
const LOOKS: u64 = 16;

/// Steps of one copy: user ranges visited plus records filled.
const COPY_STEPS: u32 = 16;
/// User ranges visited to find the end of a range.
const TAIL_STEPS: u32 = 4;

/// Appends `size` bytes at `bytes` to the ring. The agent drains it on its own clock and is woken
/// only when the ring fills up.
#[inline(always)]
pub(crate) fn output(bytes: *const c_void, size: u64) -> bool {
    // SAFETY: the map is a ring.
    let waiting = unsafe { bpf_ringbuf_query(ring(), AVAILABLE_DATA) };
    append(bytes, size, if waiting > at::WAKE_BYTES() { FORCE_WAKEUP } else { NO_WAKEUP })
}

/// As [`output`], and has the agent look at once.
#[inline(always)]
pub(crate) fn output_urgent(bytes: *const c_void, size: u64) -> bool {
    append(bytes, size, FORCE_WAKEUP)
}

#[inline(always)]
fn append(bytes: *const c_void, size: u64, flags: u64) -> bool {
    // SAFETY: the map is a ring; the verifier checks that `size` bytes are readable.
    unsafe { bpf_ringbuf_output(ring(), bytes.cast_mut(), size, flags) == 0 }
}

#[inline(always)]
fn ring() -> *mut c_void {
    (&raw const EVENTS).cast_mut().cast()
}

#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Where, when and by whom the bytes of the transfer in the scratch space were moved.
#[derive(Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) offset: u32,
    pub(crate) time: u64,
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
    pub(crate) waits: u32,
}

/// Reports moved bytes, by the task already noted in the record: the first ones copied as far as
/// the message's budget goes, the last ones if that was not all.
#[inline(always)]
pub(crate) fn data(scratch: &mut Scratch, state: &mut ConnState, moved: &Moved) {
    let (len, moving) = (scratch.transfer.len(), scratch.transfer.moving());
    let code = match scratch.transfer.source() {
        Source::InKernel => unreadable::IN_KERNEL,
        Source::IoUring => unreadable::IO_URING,
        Source::Unknown => unreadable::UNKNOWN_CALL,
        _ => unreadable::NO,
    };
    let data = &mut scratch.data;
    data.header =
        RecordHeader { kind: record::DATA, detail: moving, unreadable: code, tail: 0, head: 0 };
    data.conn = state.id;
    data.time = moved.time;
    data.tgid = moved.tgid;
    data.tid = moved.tid;
    data.offset = moved.offset;
    data.len = len;
    data.turn = state.turn;
    data.waits = moved.waits;
    // Nothing of an earlier call may pass for this one's bytes.
    scratch.cursor.filled = 0;
    if volatile_byte(&scratch.data.header.unreadable) == unreadable::NO {
        // A short rest of a message is worth its few bytes even without budget: it may be what
        // ends a chunked body.
        let copy = if len <= TAIL as u32 || len < state.budget { len } else { state.budget };
        state.budget = state.budget.saturating_sub(len);
        scratch.cursor.left = u64::from(copy);
        copy_head(scratch, state);
        if copy < len && scratch.data.header.unreadable == unreadable::NO {
            copy_tail(scratch, u64::from(len - copy));
        }
    }
    submit(scratch, state);
}

/// Copies `cursor.left` bytes from the cursor on, handing in full records on the way.
#[inline(always)]
fn copy_head(scratch: &mut Scratch, state: &mut ConnState) {
    let mut step = 0;
    while step < COPY_STEPS {
        step += 1;
        if volatile(&scratch.cursor.left) == 0 {
            return;
        }
        if !scratch.cursor.refill() {
            return;
        }
        let filled = volatile(&scratch.cursor.filled);
        if filled >= CHUNK as u64 {
            submit_full(scratch, state);
            continue;
        }
        let room = CHUNK as u64 - filled;
        scratch.cursor.step = least(least(scratch.cursor.remaining, scratch.cursor.left), room);
        let amount = volatile(&scratch.cursor.step);
        if amount == 0 || amount > CHUNK as u64 {
            continue;
        }
        // SAFETY: `filled` and `amount` are each at most a chunk, the buffer is two.
        let failed = unsafe {
            let to = scratch.bytes.as_mut_ptr().add(filled as usize);
            bpf_probe_read_user(to.cast(), amount as u32, scratch.cursor.address as *const c_void)
        } != 0;
        if failed {
            scratch.data.header.unreadable = unreadable::FAULT;
            count(Counter::FaultBytes, scratch.cursor.left);
            return;
        }
        scratch.cursor.consume(amount);
        scratch.cursor.left -= amount;
        scratch.cursor.filled = filled + amount;
    }
}

/// Copies the last bytes of the range, of which `rest` lie beyond the head copy.
#[inline(never)]
fn copy_tail(scratch: &mut Scratch, rest: u64) {
    let mut to_end = rest;
    let mut step = 0;
    while step < TAIL_STEPS {
        step += 1;
        if !scratch.cursor.refill() {
            return;
        }
        let remaining = scratch.cursor.remaining;
        if remaining < to_end {
            to_end -= remaining;
            scratch.cursor.remaining = 0;
            continue;
        }
        scratch.cursor.step = least(to_end, TAIL as u64);
        let end = scratch.cursor.address + to_end;
        let amount = volatile(&scratch.cursor.step);
        let filled = volatile(&scratch.cursor.filled);
        if amount == 0 || amount > TAIL as u64 || filled > CHUNK as u64 {
            return;
        }
        // SAFETY: at most a chunk plus a tail, the buffer is larger.
        unsafe {
            let to = scratch.bytes.as_mut_ptr().add(filled as usize);
            if bpf_probe_read_user(to.cast(), amount as u32, (end - amount) as *const c_void) == 0 {
                scratch.data.header.tail = amount as u8;
            }
        }
        return;
    }
}

/// Hands in a record whose copy is full, and goes on with the bytes after it.
#[inline(never)]
fn submit_full(scratch: &mut Scratch, state: &mut ConnState) {
    let len = scratch.data.len;
    scratch.data.len = CHUNK as u32;
    submit(scratch, state);
    scratch.data.offset = scratch.data.offset.wrapping_add(CHUNK as u32);
    scratch.data.len = len.saturating_sub(CHUNK as u32);
    scratch.cursor.filled = 0;
}

#[inline(always)]
fn submit(scratch: &mut Scratch, state: &mut ConnState) {
    scratch.data.header.head = scratch.cursor.filled as u32;
    scratch.cursor.size = size_of::<DataRecord>() as u64
        + scratch.cursor.filled
        + u64::from(scratch.data.header.tail);
    let size = volatile(&scratch.cursor.size);
    if size == 0 || size > (size_of::<DataRecord>() + CHUNK + TAIL) as u64 {
        return;
    }
    // Whether the ring fills up is looked at every so many bytes: it costs a helper call.
    scratch.unlooked += size;
    let appended = if scratch.unlooked > at::WAKE_BYTES() / LOOKS {
        scratch.unlooked = 0;
        output((&raw const *scratch).cast(), size)
    } else {
        append((&raw const *scratch).cast(), size, NO_WAKEUP)
    };
    if appended {
        state.told_turns = state.turn + 1;
    } else {
        count(Counter::RingFullData, 1);
        count(Counter::RingFullBytes, u64::from(scratch.data.len));
    }
}

/// Reports the end of one or both directions; returns whether the agent will know.
#[inline(always)]
pub(crate) fn closed(state: &mut ConnState, kind: u8, errno: i32) -> bool {
    let event = CloseRecord {
        header: RecordHeader {
            kind: record::CLOSE,
            detail: kind,
            unreadable: 0,
            tail: state.known,
            head: 0,
        },
        conn: state.id,
        time: now(),
        errno,
        turns: state.turn,
        sent_end: state.send_next,
        received_end: state.receive_next,
    };
    if output((&raw const event).cast(), size_of::<CloseRecord>() as u64) {
        // Of a connection that no data told of, the agent counts nothing before it is gone.
        if kind == close::GONE || state.told_turns != 0 {
            state.told_turns = state.turn + 1;
        }
        return true;
    }
    count(Counter::RingFullClose, 1);
    if kind == close::GONE {
        never_told(state);
    }
    false
}

/// Counts the exchanges of a connection that ended without the agent hearing of them. Two turns
/// make an exchange; one whose request was told is the agent's to count.
#[inline(always)]
pub(crate) fn never_told(state: &ConnState) {
    let turns = if state.last_direction == 0 { 0 } else { state.turn + 1 };
    let untold = turns.div_ceil(2).saturating_sub(state.told_turns.div_ceil(2));
    count(Counter::LostExchanges, u64::from(untold));
}

#[inline(always)]
fn least(a: u64, b: u64) -> u64 {
    if a < b { a } else { b }
}

/// Reads a working value back from map memory, so that neither compiler nor verifier relies on
/// what it was computed from; the check that follows is then the bound the verifier uses.
#[inline(always)]
fn volatile(value: &u64) -> u64 {
    // SAFETY: a reference is valid for reads.
    unsafe { core::ptr::from_ref(value).read_volatile() }
}

/// As [`volatile`], for a byte.
#[inline(always)]
fn volatile_byte(value: &u8) -> u8 {
    // SAFETY: a reference is valid for reads.
    unsafe { core::ptr::from_ref(value).read_volatile() }
}
