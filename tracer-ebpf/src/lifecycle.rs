//! Ends of connections, and processes coming, changing and going.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_ebpf::{
    ConnState, ConnectRecord, Counter, ExitRecord, ProcessState, RecordHeader, TaskKey, close,
    phase, process_flag, record, runtime, setting,
};

use crate::callbacks;
use crate::emit::{closed, never_told, now, output};
use crate::kernel::read;
use crate::maps::{
    CONNECT_STACKS, CONNECTIONS, PROCESS_TABLE, PYTHON_LAYOUTS, RUNTIME_LAYOUTS, bump_setting,
    count, own_slot,
};
use crate::offsets::at;
use crate::processes::{is_selected_port, may_be_target, select_by_port};
use crate::redirect_alarm;
use crate::state::{AddressedSocket, Socket, TypedSocket, state_of};
use crate::transfer::{has_untold, inode_of};

/// What a process passes on to those it forks.
const INHERITED: u8 = process_flag::LINEAGE | process_flag::PROPAGATE;
const SYN_SENT: i32 = 2;
const FIN_WAIT1: i32 = 4;
const CLOSE: i32 = 7;
const LAST_ACK: i32 = 9;
const LISTEN: i32 = 10;

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn socket_state(ctx: BtfTracePointContext) -> i32 {
    let socket = ctx.arg::<*mut c_void>(0);
    let new_state: i32 = ctx.arg(2);
    match new_state {
        LISTEN => listening(socket as u64),
        SYN_SENT if at::STATE_IN_MAP() != 0 => {
            let address = socket as u64;
            connecting(AddressedSocket { address, inode: inode_of(address) });
        }
        SYN_SENT => connecting(TypedSocket(socket)),
        FIN_WAIT1 | LAST_ACK | CLOSE if at::STATE_IN_MAP() != 0 => {
            let socket = AddressedSocket { address: socket as u64, inode: 0 };
            if closing(socket, new_state) {
                let _ = CONNECTIONS.remove(socket.address);
            }
        }
        FIN_WAIT1 | LAST_ACK | CLOSE => {
            closing(TypedSocket(socket), new_state);
        }
        _ => {}
    }
    0
}

/// `tcp_destroy_sock(struct sock *sk)`
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn socket_destroyed(ctx: BtfTracePointContext) -> i32 {
    let socket = ctx.arg::<*mut c_void>(0);
    if at::STATE_IN_MAP() == 0 {
        gone(TypedSocket(socket));
    } else {
        let socket = AddressedSocket { address: socket as u64, inode: 0 };
        gone(socket);
        let _ = CONNECTIONS.remove(socket.address);
    }
    0
}

#[inline(always)]
fn listening(socket: u64) {
    if at::PORT_SELECTION() == 0 {
        return;
    }
    let port = read::<u16>(socket + at::SOCK_NUM()).unwrap_or(0);
    // SAFETY: no preconditions.
    let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    // Process 1 listens on behalf of others (socket activation); its children are everybody.
    if tgid > 1 && is_selected_port(port) {
        select_by_port(tgid);
    }
}

/// Reports which thread connects: the request that this is for may be written much later, from an
/// event loop that has long turned to other things.
#[inline(always)]
fn connecting<S: Socket>(socket: S) {
    // SAFETY: no preconditions.
    let thread = unsafe { bpf_get_current_pid_tgid() };
    let tgid = (thread >> 32) as u32;
    if u64::from(tgid) == at::AGENT_TGID() || !may_be_target(tgid) {
        return;
    }
    let state = state_of(socket);
    if state.is_null() {
        return;
    }
    let mut callback = 0;
    // SAFETY: copied at once.
    let known = unsafe { PROCESS_TABLE.get(tgid) }.copied();
    if known.is_some_and(|state| state.runtime == runtime::CALLBACKS)
        && let Some(stack) = own_slot(&CONNECT_STACKS)
    {
        callback = callbacks::within(thread as u32, stack);
    }
    let event = ConnectRecord {
        header: RecordHeader { kind: record::CONNECT, detail: 0, unreadable: 0, tail: 0, head: 0 },
        // SAFETY: checked for null.
        conn: unsafe { (*state).id },
        time: now(),
        tgid,
        tid: thread as u32,
        waits: S::waits(),
        padding: 0,
        task: TaskKey::UNKNOWN,
        callback,
    };
    if !output((&raw const event).cast(), size_of::<ConnectRecord>() as u64) {
        count(Counter::RingFullConnect, 1);
    }
}

/// Returns whether nothing more can come of the socket.
#[inline(always)]
fn closing<S: Socket>(socket: S, new_state: i32) -> bool {
    let state: *mut ConnState = socket.find();
    if state.is_null() {
        return false;
    }
    // SAFETY: checked for null.
    let state = unsafe { &mut *state };
    if new_state != CLOSE {
        if state.opened != 0 {
            closed(state, close::SEND_END, 0);
        }
        return false;
    }
    state.errno = socket.field(at::SOCK_ERR());
    if has_untold(socket, state) {
        return false;
    }
    end(state);
    true
}

#[inline(always)]
fn gone<S: Socket>(socket: S) {
    let state: *mut ConnState = socket.find();
    if !state.is_null() {
        // SAFETY: checked for null.
        end(unsafe { &mut *state });
    }
}

/// Reports the end of a connection, once.
#[inline(always)]
fn end(state: &mut ConnState) {
    if state.opened != 0 {
        closed(state, close::GONE, state.errno);
    } else if state.phase == phase::CANDIDATE || state.phase == phase::CONFIRMED {
        // Followed, and yet not announced: nothing of it fitted into the ring.
        never_told(state);
    }
    state.opened = 0;
    state.phase = phase::IGNORED;
}

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`
#[btf_tracepoint(function = "sched_process_fork")]
pub fn process_fork(ctx: BtfTracePointContext) -> i32 {
    let parent: u64 = ctx.arg::<*const c_void>(0) as u64;
    let child: u64 = ctx.arg::<*const c_void>(1) as u64;
    let parent = read::<u32>(parent + at::TASK_TGID()).unwrap_or(0);
    let child = read::<u32>(child + at::TASK_TGID()).unwrap_or(0);
    if parent == child {
        return 0;
    }
    // SAFETY: copied at once.
    if let Some(state) = unsafe { PROCESS_TABLE.get(parent) }.copied()
        && state.flags & process_flag::LINEAGE != 0
    {
        let inherited =
            ProcessState { flags: state.flags & INHERITED, runtime: runtime::NONE, ..state };
        let _ = PROCESS_TABLE.insert(child, inherited, 0);
    }
    0
}

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(_ctx: BtfTracePointContext) -> i32 {
    // SAFETY: no preconditions.
    let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    let Some(state) = PROCESS_TABLE.get_ptr_mut(tgid) else {
        return 0;
    };
    // SAFETY: a live map value.
    let (lineage, known_runtime) = unsafe {
        let known_runtime = (*state).runtime != runtime::NONE;
        (*state).runtime = runtime::NONE;
        (*state).flags &= process_flag::LINEAGE;
        ((*state).flags != 0, known_runtime)
    };
    if known_runtime {
        let _ = RUNTIME_LAYOUTS.remove(tgid);
        let _ = PYTHON_LAYOUTS.remove(tgid);
    }
    if !lineage {
        let _ = PROCESS_TABLE.remove(tgid);
    }
    bump_setting(setting::EPOCH);
    0
}

/// `sched_process_exit(struct task_struct *p)`
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(_ctx: BtfTracePointContext) -> i32 {
    // SAFETY: no preconditions.
    let thread = unsafe { bpf_get_current_pid_tgid() };
    let tgid = (thread >> 32) as u32;
    if tgid != thread as u32 {
        return 0;
    }
    if u64::from(tgid) == at::AGENT_TGID() {
        redirect_alarm::agent_exits();
    }
    // SAFETY: copied at once.
    let Some(state) = unsafe { PROCESS_TABLE.get(tgid) }.copied() else {
        return 0;
    };
    let _ = PROCESS_TABLE.remove(tgid);
    if state.runtime != runtime::NONE {
        let _ = RUNTIME_LAYOUTS.remove(tgid);
        let _ = PYTHON_LAYOUTS.remove(tgid);
    }
    if state.flags & process_flag::ANNOUNCED != 0 {
        let event = ExitRecord {
            header: RecordHeader { kind: record::EXIT, detail: 0, unreadable: 0, tail: 0, head: 0 },
            time: now(),
            tgid,
            padding: 0,
        };
        output((&raw const event).cast(), size_of::<ExitRecord>() as u64);
    }
    0
}
