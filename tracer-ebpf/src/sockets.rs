//! Backend 1: the tracepoints the kernel calls after every socket send and receive.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_ebpf::{direction, end_known, phase};

use crate::kernel::{Call, UserRegisters, message_flag, number};
use crate::maps::{RECEIVE_SCRATCH, SEND_SCRATCH, own_slot};
use crate::payload::Source;
use crate::state::{Socket, TypedSocket, state_of};
use crate::transfer::{observe, read_up_to};

/// `sock_send_length(struct sock *sk, int ret, int flags)`
#[btf_tracepoint(function = "sock_send_length")]
pub fn sock_send(ctx: BtfTracePointContext) -> i32 {
    let socket = TypedSocket(ctx.arg::<*mut c_void>(0));
    let moved: i32 = ctx.arg(1);
    if moved > 0
        && let Some(scratch) = own_slot(&SEND_SCRATCH)
    {
        let call = current_call();
        let source = source(socket, &call, 0);
        observe(socket, direction::SEND, moved as u32, source, call.user(), scratch);
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
    if moved >= 0
        && consumes
        && let Some(scratch) = own_slot(&RECEIVE_SCRATCH)
    {
        let (source, user) = if moved == 0 {
            (Source::InKernel, UserRegisters::UNKNOWN)
        } else {
            let call = current_call();
            (source(socket, &call, flags), call.user())
        };
        observe(socket, direction::RECEIVE, moved as u32, source, user, scratch);
    }
    0
}

/// `tcp_rcv_space_adjust(struct sock *sk)`: called after every TCP receive, of interest only for
/// `splice`, which the receive tracepoint does not see.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn tcp_splice_receive(ctx: BtfTracePointContext) -> i32 {
    if current_call().number != number::SPLICE {
        return 0;
    }
    let socket = TypedSocket(ctx.arg::<*mut c_void>(0));
    let state = socket.find();
    if state.is_null() {
        return 0;
    }
    // SAFETY: checked for null.
    let state = unsafe { &mut *state };
    if state.phase == phase::IGNORED || state.known & end_known::RECEIVED == 0 {
        return 0;
    }
    let Some(tcp) = socket.as_tcp() else {
        return 0;
    };
    let moved = read_up_to(tcp).wrapping_sub(state.receive_next);
    if moved != 0
        && moved < i32::MAX as u32
        && let Some(scratch) = own_slot(&RECEIVE_SCRATCH)
    {
        let user = UserRegisters::UNKNOWN;
        observe(socket, direction::RECEIVE, moved, Source::InKernel, user, scratch);
    }
    0
}

#[inline(always)]
fn current_call() -> Call {
    // SAFETY: the helpers return the current task and its registers, both known to the verifier.
    unsafe { Call::from_registers(bpf_task_pt_regs(bpf_get_current_task_btf()) as *const _) }
}

/// The tracepoint comes once a message also for `sendmmsg` and `recvmmsg`: which one it is follows
/// from counting. A vector that was left half-way and then used again is counted wrong at most
/// once, and shows as unlikely content.
#[inline(always)]
fn source(socket: TypedSocket, call: &Call, flags: u64) -> Source {
    let source = Source::of(call, flags);
    let Source::Messages(vector, count) = source else {
        return source;
    };
    // Created here if this is the socket's first use: the second message must know of the first.
    let state = state_of(socket);
    if state.is_null() {
        return Source::message_at(vector, 0);
    }
    // SAFETY: checked for null.
    let state = unsafe { &mut *state };
    let index = if state.vector == vector && u64::from(state.vector_index) < count {
        state.vector_index
    } else {
        0
    };
    state.vector = vector;
    state.vector_index = index + 1;
    Source::message_at(vector, u64::from(index))
}
