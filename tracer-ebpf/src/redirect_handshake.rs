//! From the socket that connects to the one that the agent accepts: carries over where the
//! connection was meant to go, by the address pair that both ends share.

use core::ffi::c_void;

use aya_ebpf::bindings::{BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_TCP_CONNECT_CB};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use tracer_ebpf::redirect::ClientEnd;

use crate::maps::CONNECTIONS;
use crate::offsets::at;
use crate::redirect_maps::{CONNECTING, hand_over, listener_ports, netns_of, redirected};
use crate::state::{INET, Socket as _, TypedSocket};

/// Anything else fails the handshake.
const PROCEED: u32 = 1;
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

#[sock_ops]
pub fn redirect_handshake(ctx: SockOpsContext) -> u32 {
    // The reply is left alone: other programs of the same cgroups may have given theirs.
    match ctx.op() {
        // The port is chosen and nothing is sent yet.
        BPF_SOCK_OPS_TCP_CONNECT_CB => connecting(&ctx),
        // The agent, should it be waiting in `accept` already, waits for the socket's lock.
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => arriving(&ctx),
        _ => {}
    }
    PROCEED
}

#[inline(always)]
fn connecting(ctx: &SockOpsContext) {
    let Some(socket) = socket_of(ctx) else { return };
    let Some(destination) = redirected(socket) else { return };
    destination.conn = connection_of(socket);
    let port = ctx.local_port() as u16;
    let address = local_address(ctx);
    let end = ClientEnd { address, netns: netns_of(socket), port, padding: 0 };
    let _ = CONNECTING.insert(end, *destination, 0);
}

#[inline(always)]
fn arriving(ctx: &SockOpsContext) {
    let Some(socket) = socket_of(ctx) else { return };
    let netns = netns_of(socket);
    let Some(listeners) = listener_ports(netns) else { return };
    let local = ctx.local_port() as u16;
    if local == 0 || (local != listeners.v4 && local != listeners.v6) {
        return;
    }
    let port = u32::from_be(ctx.remote_port()) as u16;
    let address = remote_address(ctx);
    let end = ClientEnd { address, netns, port, padding: 0 };
    // SAFETY: copied at once.
    let Some(mut destination) = (unsafe { CONNECTING.get(end) }).copied() else {
        return;
    };
    let _ = CONNECTING.remove(end);
    // SAFETY: the context is the kernel's; the verifier checks the access.
    destination.first = unsafe { (*ctx.ops).rcv_nxt };
    hand_over(socket, &mut destination);
}

#[inline(always)]
fn socket_of(ctx: &SockOpsContext) -> Option<*mut c_void> {
    // SAFETY: the verifier checks the access.
    let socket = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if socket.is_null() { None } else { Some(socket.cast()) }
}

/// Id of the connection in the events of the capture, which saw it begin a moment ago.
#[inline(always)]
fn connection_of(socket: *mut c_void) -> u64 {
    let state = if at::STATE_IN_MAP() == 0 {
        TypedSocket(socket).find()
    } else {
        CONNECTIONS.get_ptr_mut(socket as u64).unwrap_or(core::ptr::null_mut())
    };
    // SAFETY: checked for null.
    if state.is_null() { 0 } else { unsafe { (*state).id } }
}

#[inline(always)]
fn local_address(ctx: &SockOpsContext) -> [u8; 16] {
    // SAFETY: the context is the kernel's; the verifier checks each access.
    unsafe { address(ctx, &raw const (*ctx.ops).local_ip4, &raw const (*ctx.ops).local_ip6) }
}

#[inline(always)]
fn remote_address(ctx: &SockOpsContext) -> [u8; 16] {
    // SAFETY: as above.
    unsafe { address(ctx, &raw const (*ctx.ops).remote_ip4, &raw const (*ctx.ops).remote_ip6) }
}

/// # Safety
/// The addresses must be fields of the context.
#[inline(always)]
unsafe fn address(ctx: &SockOpsContext, v4: *const u32, v6: *const [u32; 4]) -> [u8; 16] {
    let v6 = v6.cast::<u32>();
    // All are read, whatever the family is: the verifier refuses loads at a place that depends.
    // SAFETY: by contract.
    let (v4, v6) = unsafe {
        (
            v4.read_volatile(),
            [
                v6.read_volatile(),
                v6.add(1).read_volatile(),
                v6.add(2).read_volatile(),
                v6.add(3).read_volatile(),
            ],
        )
    };
    let words = if ctx.family() == u32::from(INET) { [0, 0, MAPPED, v4] } else { v6 };
    // SAFETY: plain integers of the same size.
    unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) }
}
