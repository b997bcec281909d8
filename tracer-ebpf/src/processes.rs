//! Which processes are traced, and telling the agent about one when it first matters.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_current_task_under_cgroup, bpf_get_current_cgroup_id, bpf_get_current_task,
    bpf_probe_read_user,
};
use tracer_ebpf::{
    ARGUMENTS, Counter, ENVIRONMENT, ProcessRecord, ProcessState, RecordHeader, process_flag,
    record, runtime, setting, verdict,
};

use crate::emit::{now, output_urgent};
use crate::kernel::read;
use crate::maps::{PROCESS_TABLE, SELECTED_CGROUPS, SELECTED_PORTS, Scratch, bump_setting, count};
use crate::offsets::at;

const NO_EXIST: u64 = 1;
const MAX_CGROUPS: u32 = 16;
/// A process of which nothing is known.
const UNKNOWN: ProcessState =
    ProcessState { verdict: verdict::ASK, flags: 0, runtime: runtime::NONE, padding: 0 };

/// Whether the current process' use of `socket` is to be traced; if so, gives its runtime.
/// Announces the process to the agent when this is the first time.
#[inline(always)]
pub(crate) fn admits(tgid: u32, socket: u64, scratch: &mut Scratch) -> Option<u8> {
    let state = match PROCESS_TABLE.get_ptr_mut(tgid) {
        Some(state) => state,
        None => {
            let first = ProcessState { verdict: first_verdict(), ..UNKNOWN };
            let _ = PROCESS_TABLE.insert(tgid, first, NO_EXIST);
            match PROCESS_TABLE.get_ptr_mut(tgid) {
                Some(state) => state,
                None => {
                    count(Counter::ProcessTableFull, 1);
                    return if first.verdict == verdict::SKIP { None } else { Some(first.runtime) };
                }
            }
        }
    };
    // SAFETY: a live map value; concurrent writers store single bytes.
    let state = unsafe { &mut *state };
    if state.verdict == verdict::SKIP {
        if at::PORT_SELECTION() == 0 || !serves_selected_port(socket) {
            return None;
        }
        state.verdict = verdict::TRACE;
    }
    if state.flags & process_flag::ANNOUNCED == 0 && announce(tgid, state.verdict, scratch) {
        state.flags |= process_flag::ANNOUNCED;
    }
    Some(state.runtime)
}

/// Whether the process may be a target, without telling the agent of it yet.
#[inline(always)]
pub(crate) fn may_be_target(tgid: u32) -> bool {
    // SAFETY: copied at once.
    let known = unsafe { PROCESS_TABLE.get(tgid) }.map(|state| state.verdict);
    known.unwrap_or(at::DEFAULT_VERDICT() as u8) != verdict::SKIP
}

#[inline(always)]
fn first_verdict() -> u8 {
    let mut index = 0;
    while index < MAX_CGROUPS {
        if u64::from(index) >= at::CGROUP_COUNT() {
            break;
        }
        let map = (&raw const SELECTED_CGROUPS).cast_mut().cast::<c_void>();
        // SAFETY: the map is a cgroup array; the helper checks the index.
        if unsafe { bpf_current_task_under_cgroup(map, index) } == 1 {
            return verdict::TRACE;
        }
        index += 1;
    }
    at::DEFAULT_VERDICT() as u8
}

#[inline(always)]
fn serves_selected_port(socket: u64) -> bool {
    match read::<u16>(socket + at::SOCK_NUM()) {
        Some(port) => is_selected_port(port),
        None => false,
    }
}

#[inline(always)]
pub(crate) fn is_selected_port(port: u16) -> bool {
    // SAFETY: the value is not used beyond its existence.
    unsafe { SELECTED_PORTS.get(port) }.is_some()
}

/// Makes the process and its children targets, by a port it listens on.
#[inline(always)]
pub(crate) fn select_by_port(tgid: u32) {
    let state = ProcessState { verdict: verdict::TRACE, flags: process_flag::LINEAGE, ..UNKNOWN };
    if PROCESS_TABLE.insert(tgid, state, 0).is_err() {
        count(Counter::ProcessTableFull, 1);
    }
    bump_setting(setting::EPOCH);
}

/// Sends name, arguments and environment of the current process, read while it certainly exists.
#[inline(always)]
fn announce(tgid: u32, verdict: u8, scratch: &mut Scratch) -> bool {
    // SAFETY: no preconditions.
    let (task, cgroup) = unsafe { (bpf_get_current_task(), bpf_get_current_cgroup_id()) };
    let leader = read::<u64>(task + at::TASK_LEADER()).unwrap_or(task);
    let parent = read::<u64>(leader + at::TASK_REAL_PARENT()).unwrap_or(0);
    let memory = read::<u64>(task + at::TASK_MM()).unwrap_or(0);

    let event = &mut scratch.process;
    event.time = now();
    event.started = read::<u64>(leader + at::TASK_START()).unwrap_or(0);
    event.cgroup = cgroup;
    event.tgid = tgid;
    event.parent = read::<u32>(parent + at::TASK_TGID()).unwrap_or(0);
    event.comm = read::<[u8; 16]>(leader + at::TASK_COMM()).unwrap_or([0; 16]);
    let arguments =
        copy_range(&mut event.arguments, memory + at::MM_ARG_START(), memory + at::MM_ARG_END());
    event.environment_len =
        copy_range(&mut event.environment, memory + at::MM_ENV_START(), memory + at::MM_ENV_END());
    event.header = RecordHeader {
        kind: record::PROCESS,
        detail: verdict,
        unreadable: 0,
        tail: 0,
        head: arguments,
    };
    // Short-lived processes: what is not in the record has to be looked up while they live.
    let sent = output_urgent((&raw const *event).cast(), size_of::<ProcessRecord>() as u64);
    if !sent {
        count(Counter::RingFullProcess, 1);
    }
    sent
}

/// Copies the user range whose bounds stand at two kernel addresses; returns the bytes copied.
#[inline(always)]
fn copy_range<const N: usize>(to: &mut [u8; N], start_at: u64, end_at: u64) -> u32 {
    let start = read::<u64>(start_at).unwrap_or(0);
    let end = read::<u64>(end_at).unwrap_or(0);
    let wanted = end.saturating_sub(start);
    let len = if wanted < N as u64 { wanted } else { N as u64 };
    let len = core::hint::black_box(len);
    if len == 0 || len > N as u64 {
        return 0;
    }
    // SAFETY: at most `N` bytes into a buffer of `N`.
    if unsafe { bpf_probe_read_user(to.as_mut_ptr().cast(), len as u32, start as *const c_void) }
        == 0
    {
        len as u32
    } else {
        0
    }
}
