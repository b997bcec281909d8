//! What a process is told about its own redirected connection: what it would be told without us.

use core::ffi::c_void;

use aya_ebpf::bindings::bpf_sockopt;
use aya_ebpf::macros::{cgroup_sock_addr, cgroup_sockopt};
use aya_ebpf::programs::{SockAddrContext, SockoptContext};
use tracer_ebpf::redirect::Redirected;

use crate::redirect_maps::redirected;
use crate::state::{INET, INET6};

const PROCEED: i32 = 1;
/// `SOL_IP` and `SOL_IPV6`.
const IP: i32 = 0;
const IPV6: i32 = 41;
/// `SO_ORIGINAL_DST` and `IP6T_SO_ORIGINAL_DST`.
const ORIGINAL_DESTINATION: i32 = 80;
/// More than this, the kernel shows programs only the beginning.
const VISIBLE: i32 = 4096;
/// Sizes of `struct sockaddr_in` and `struct sockaddr_in6`.
const SOCKADDR_V4: usize = 16;
const SOCKADDR_V6: usize = 28;

/// `getpeername` of an IPv4 socket.
#[cgroup_sock_addr(getpeername4)]
pub fn redirect_peer4(ctx: SockAddrContext) -> i32 {
    let call = ctx.sock_addr;
    // SAFETY: the context is the kernel's; the verifier checks each access.
    unsafe {
        if let Some(destination) = destination_of((*call).__bindgen_anon_1.sk.cast()) {
            let word = word(destination, 3);
            (&raw mut (*call).user_ip4).write_volatile(word);
            (&raw mut (*call).user_port).write_volatile(u32::from(destination.port.to_be()));
        }
    }
    PROCEED
}

/// `getpeername` of an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
pub fn redirect_peer6(ctx: SockAddrContext) -> i32 {
    let call = ctx.sock_addr;
    // SAFETY: as above.
    unsafe {
        if let Some(destination) = destination_of((*call).__bindgen_anon_1.sk.cast()) {
            let ip = (&raw mut (*call).user_ip6).cast::<u32>();
            ip.write_volatile(word(destination, 0));
            ip.add(1).write_volatile(word(destination, 1));
            ip.add(2).write_volatile(word(destination, 2));
            ip.add(3).write_volatile(word(destination, 3));
            (&raw mut (*call).user_port).write_volatile(u32::from(destination.port.to_be()));
        }
    }
    PROCEED
}

/// `getsockopt`. Where connection tracking is not there to answer, it is not there without us
/// either: only answers that were given are corrected.
#[cgroup_sockopt(getsockopt)]
pub fn redirect_getsockopt(ctx: SockoptContext) -> i32 {
    let call = ctx.sockopt;
    // SAFETY: the context is the kernel's; the verifier checks each access.
    unsafe {
        let (level, name) = ((*call).level, (*call).optname);
        if name == ORIGINAL_DESTINATION && (level == IP || level == IPV6) {
            if (*call).retval == 0 {
                correct(call, level);
            }
        } else if (*call).optlen > VISIBLE {
            // By contract of the interface; without it older kernels fail the call.
            (*call).optlen = 0;
        }
    }
    PROCEED
}

/// # Safety
/// `call` must be the context of a `getsockopt` program.
#[inline(always)]
unsafe fn correct(call: *mut bpf_sockopt, level: i32) {
    // SAFETY: by contract; bounds are checked before each write, as the verifier demands.
    unsafe {
        let Some(destination) = destination_of((*call).__bindgen_anon_1.sk.cast()) else {
            return;
        };
        let start = (*call).__bindgen_anon_2.optval.cast::<u8>();
        let end = (*call).__bindgen_anon_3.optval_end.cast::<u8>();
        if level == IP && destination.address[10] == 0xff {
            if start.add(SOCKADDR_V4) <= end {
                start.cast::<u16>().write(INET);
                start.add(2).cast::<u16>().write(destination.port.to_be());
                start.add(4).cast::<u32>().write(word(destination, 3));
            }
        } else if level == IPV6 && start.add(SOCKADDR_V6) <= end {
            start.cast::<u16>().write(INET6);
            start.add(2).cast::<u16>().write(destination.port.to_be());
            start.add(8).cast::<u32>().write(word(destination, 0));
            start.add(12).cast::<u32>().write(word(destination, 1));
            start.add(16).cast::<u32>().write(word(destination, 2));
            start.add(20).cast::<u32>().write(word(destination, 3));
        }
    }
}

#[inline(always)]
fn destination_of(socket: *mut c_void) -> Option<&'static Redirected> {
    if socket.is_null() {
        return None;
    }
    redirected(socket).map(|destination| &*destination)
}

/// Four bytes of the address, as they stand in memory.
#[inline(always)]
fn word(destination: &Redirected, index: usize) -> u32 {
    // SAFETY: `index` is below 4, the address has 16 bytes.
    unsafe { destination.address.as_ptr().cast::<u32>().add(index).read_unaligned() }
}
