//! Backend 1: the tracepoints the kernel calls after every socket send and receive.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_ebpf::{ConnState, direction, end_known, phase};

use crate::kernel::{Call, UserRegisters, message_flag, number};
use crate::maps::{RECEIVE_SCRATCH, SEND_SCRATCH, own_slot};
use crate::payload::Source;
use crate::state::{Socket, TypedSocket};
use crate::transfer::{Transfer, followed, observe, observe_end, read_up_to};

/// `sock_send_length(struct sock *sk, int ret, int flags)`
#[btf_tracepoint(function = "sock_send_length")]
pub fn sock_send(ctx: BtfTracePointContext) -> i32 {
    let socket = TypedSocket(ctx.arg::<*mut c_void>(0));
    let moved: i32 = ctx.arg(1);
    if moved > 0
        && let Some(scratch) = own_slot(&SEND_SCRATCH)
        && let Some(state) = followed(socket, scratch)
    {
        let transfer = transfer(state, direction::SEND, moved as u32, 0);
        observe(socket, state, transfer, scratch);
    }
    0
}

/// `sock_recv_length(struct sock *sk, int ret, int flags)`
#[btf_tracepoint(function = "sock_recv_length")]
pub fn sock_receive(ctx: BtfTracePointContext) -> i32 {
    let socket = TypedSocket(ctx.arg::<*mut c_void>(0));
    let moved: i32 = ctx.arg(1);
    let flags: i32 = ctx.arg(2);
    let flags = flags as u32 as u64;
    let consumes =
        flags & (message_flag::PEEK | message_flag::ERROR_QUEUE | message_flag::OUT_OF_BAND) == 0;
    if moved < 0 || !consumes {
        return 0;
    }
    if moved == 0 {
        observe_end(socket);
    } else if let Some(scratch) = own_slot(&RECEIVE_SCRATCH)
        && let Some(state) = followed(socket, scratch)
    {
        let transfer = transfer(state, direction::RECEIVE, moved as u32, flags);
        observe(socket, state, transfer, scratch);
    }
    0
}

/// `tcp_rcv_space_adjust(struct sock *sk)`: called after every TCP receive, of interest only for
/// `splice`, which the receive tracepoint does not see.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn tcp_splice_receive(ctx: BtfTracePointContext) -> i32 {
    if current_call().number == number::SPLICE {
        splice_received(TypedSocket(ctx.arg::<*mut c_void>(0)));
    }
    0
}

#[inline(never)]
fn splice_received(socket: TypedSocket) {
    let state = socket.find();
    if state.is_null() {
        return;
    }
    // SAFETY: checked for null.
    let state = unsafe { &mut *state };
    if state.phase == phase::IGNORED || state.known & end_known::RECEIVED == 0 {
        return;
    }
    let Some(tcp) = socket.as_tcp() else {
        return;
    };
    let moved = read_up_to(tcp).wrapping_sub(state.receive_next);
    if moved != 0
        && moved < i32::MAX as u32
        && let Some(scratch) = own_slot(&RECEIVE_SCRATCH)
    {
        let (source, user) = (Source::InKernel, UserRegisters::UNKNOWN);
        let transfer = Transfer::new(direction::RECEIVE, moved, source, user);
        if let Some(state) = followed(socket, scratch) {
            observe(socket, state, transfer, scratch);
        }
    }
}

#[inline(always)]
fn current_call() -> Call {
    // SAFETY: the helpers return the current task and its registers, both known to the verifier.
    unsafe { Call::from_registers(bpf_task_pt_regs(bpf_get_current_task_btf()) as *const _) }
}

/// What the current call moved.
#[inline(always)]
fn transfer(state: &mut ConnState, moving: u8, len: u32, flags: u64) -> Transfer {
    let call = current_call();
    let source = match Source::of(&call, flags) {
        Source::Messages(vector, count) => {
            Source::message_at(vector, message_index(state, vector, count))
        }
        source => source,
    };
    Transfer::new(moving, len, source, call.user())
}

/// Which message of a vector was moved: the tracepoint comes once a message also for `sendmmsg` and
/// `recvmmsg`, so it follows from counting. A vector that was left half-way and then used again is
/// counted wrong at most once, and shows as unlikely content.
#[inline(never)]
fn message_index(state: &mut ConnState, vector: u64, count: u64) -> u64 {
    let index = if state.vector == vector && u64::from(state.vector_index) < count {
        state.vector_index
    } else {
        0
    };
    state.vector = vector;
    state.vector_index = index + 1;
    u64::from(index)
}
