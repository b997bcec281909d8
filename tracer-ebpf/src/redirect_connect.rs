//! Whether a connection goes to the agent's proxy or straight to where it was sent.
//!
//! Straight is the answer to every doubt: the agent is not there, does not answer, has too much to
//! do, is itself the one who connects, or the socket is special in a way that the agent's own
//! connection to the destination could not repeat.

use core::ffi::c_void;

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr, bpf_sock_tuple};
use aya_ebpf::cty::c_long;
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_task, bpf_get_socket_cookie,
    bpf_sk_lookup_tcp, bpf_sk_release, bpf_skc_to_mptcp_sock, bpf_skc_to_tcp_sock,
};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::SockAddrContext;
use tracer_ebpf::redirect::{
    AGENT_PRIORITY, ANCESTORS, BEAT_NANOS, Outcome, Redirected, range, state as cell,
};
use tracer_ebpf::{process_flag, verdict};

use crate::emit::now;
use crate::kernel::read;
use crate::maps::PROCESS_TABLE;
use crate::offsets::at;
use crate::redirect_maps::{
    ADDRESSES, DESTINATIONS, MISSED, SELECTED_ANCESTORS, forget, is_own_listener, is_port_in_scope,
    listener_ports, netns_of, redirected, remember, state, tally,
};
use crate::state::INET6;

/// `SOCK_STREAM` and `IPPROTO_TCP`.
const STREAM: u32 = 1;
const TCP: u32 = 6;
/// The network namespace of the socket at hand.
const OWN_NETNS: u64 = -1i64 as u64;
/// What cgroup programs return to let a call go on.
const PROCEED: i32 = 1;
const LOOPBACK_V4: u32 = u32::from_ne_bytes([127, 0, 0, 1]);
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);
const ONE: u32 = u32::from_ne_bytes([0, 0, 0, 1]);

/// `connect` of an IPv4 socket. `sendto` with `MSG_FASTOPEN` comes this way as well.
#[cgroup_sock_addr(connect4)]
pub fn redirect_connect4(ctx: SockAddrContext) -> i32 {
    let call = ctx.sock_addr;
    // SAFETY: the context is the kernel's; the verifier checks each access.
    unsafe {
        let given = (&raw const (*call).user_ip4).read_volatile();
        let address = if given == 0 { LOOPBACK_V4 } else { given };
        let Some(port) = redirect(call, [0, 0, MAPPED, address], false) else {
            return PROCEED;
        };
        (&raw mut (*call).user_ip4).write_volatile(LOOPBACK_V4);
        (&raw mut (*call).user_port).write_volatile(u32::from(port.to_be()));
    }
    PROCEED
}

/// `connect` of an IPv6 socket, to IPv4 addresses in their mapped form too.
#[cgroup_sock_addr(connect6)]
pub fn redirect_connect6(ctx: SockAddrContext) -> i32 {
    let call = ctx.sock_addr;
    // SAFETY: as above.
    unsafe {
        let ip = (&raw mut (*call).user_ip6).cast::<u32>();
        let mut address = [
            ip.read_volatile(),
            ip.add(1).read_volatile(),
            ip.add(2).read_volatile(),
            ip.add(3).read_volatile(),
        ];
        if address == [0, 0, 0, 0] {
            address = [0, 0, 0, ONE];
        }
        let mapped = address[0] == 0 && address[1] == 0 && address[2] == MAPPED;
        if mapped && address[3] == 0 {
            address[3] = LOOPBACK_V4;
        }
        let Some(port) = redirect(call, address, !mapped) else {
            return PROCEED;
        };
        ip.write_volatile(0);
        ip.add(1).write_volatile(0);
        ip.add(2).write_volatile(if mapped { MAPPED } else { 0 });
        ip.add(3).write_volatile(if mapped { LOOPBACK_V4 } else { ONE });
        (&raw mut (*call).user_port).write_volatile(u32::from(port.to_be()));
    }
    PROCEED
}

/// The port of the agent's listener, if the connection is to go there. The destination is
/// remembered then.
///
/// # Safety
/// `call` must be the context of a connect program.
#[inline(always)]
unsafe fn redirect(call: *mut bpf_sock_addr, address: [u32; 4], v6: bool) -> Option<u16> {
    // SAFETY: by contract.
    let (kind, protocol, port, socket) = unsafe {
        (
            (&raw const (*call).type_).read_volatile(),
            (&raw const (*call).protocol).read_volatile(),
            (&raw const (*call).user_port).read_volatile(),
            (*call).__bindgen_anon_1.sk,
        )
    };
    if kind != STREAM || protocol != TCP || socket.is_null() {
        return None;
    }
    let destination = Redirected {
        // SAFETY: plain integers of the same size.
        address: unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(address) },
        conn: 0,
        cookie: 0,
        port: u16::from_be(port as u16),
        first: 0,
        padding: 0,
    };
    // A socket that failed to connect, or was disconnected, may be used again.
    if redirected(socket.cast()).is_some() {
        forget(socket.cast());
    }
    match decide(call, socket, destination, v6)? {
        Ok(port) => {
            tally(Outcome::Redirected);
            Some(port)
        }
        Err(reason) => {
            tally(reason);
            None
        }
    }
}

/// `None` for processes that are not traced, whose connections are nobody's business.
#[inline(always)]
fn decide(
    call: *mut bpf_sock_addr,
    socket: *mut bpf_sock,
    mut destination: Redirected,
    v6: bool,
) -> Option<Result<u16, Outcome>> {
    let tgid = current_tgid();
    let rehearsal = state(cell::REHEARSAL_PORT);
    if u64::from(tgid) == at::AGENT_TGID() {
        if u64::from(destination.port) != rehearsal {
            return None;
        }
    } else {
        match admits(tgid) {
            Admission::Stranger => return None,
            Admission::Refused(reason) => return Some(Err(reason)),
            Admission::Target if rehearsal != 0 => return Some(Err(Outcome::Unarmed)),
            Admission::Target => {
                if let Err(reason) = in_scope(&destination) {
                    return Some(Err(reason));
                }
            }
        }
    }
    Some(arrange(call, socket, &mut destination, tgid, v6))
}

enum Admission {
    Target,
    Refused(Outcome),
    Stranger,
}

#[inline(always)]
fn current_tgid() -> u32 {
    // SAFETY: no preconditions. Older kernels give these programs no other way to the process id.
    let task = unsafe { bpf_get_current_task() };
    read::<u32>(task + at::TASK_TGID()).unwrap_or(0)
}

#[inline(always)]
fn admits(tgid: u32) -> Admission {
    // SAFETY: copied at once.
    let known = unsafe { PROCESS_TABLE.get(tgid) }.copied();
    let (verdict, flags) = match known {
        Some(state) => (state.verdict, state.flags),
        None if in_selected_cgroup() => (verdict::TRACE, 0),
        None => (at::DEFAULT_VERDICT() as u8, 0),
    };
    match verdict {
        verdict::SKIP => Admission::Stranger,
        verdict::ASK => Admission::Refused(Outcome::Undecided),
        _ if at::REDIRECT_CHOSEN() != 0 && flags & process_flag::PROPAGATE == 0 => {
            Admission::Refused(Outcome::Process)
        }
        _ => Admission::Target,
    }
}

#[inline(always)]
fn in_selected_cgroup() -> bool {
    let mut index = 0;
    while index < ANCESTORS {
        if u64::from(index) >= at::CGROUP_COUNT() {
            break;
        }
        if let Some(selected) = SELECTED_ANCESTORS.get(index)
            // SAFETY: no preconditions.
            && unsafe { bpf_get_current_ancestor_cgroup_id(selected.level as i32) } == selected.id
        {
            return true;
        }
        index += 1;
    }
    false
}

#[inline(always)]
fn in_scope(destination: &Redirected) -> Result<(), Outcome> {
    if !is_port_in_scope(destination.port) {
        return Err(Outcome::Port);
    }
    match ADDRESSES.get(Key::new(128, destination.address)) {
        Some(&range::INSIDE) => Ok(()),
        Some(&range::LOOPBACK) => Err(Outcome::Loopback),
        _ => Err(Outcome::Address),
    }
}

/// Makes sure that the agent will accept the connection, and remembers where it was to go.
#[inline(always)]
fn arrange(
    call: *mut bpf_sock_addr,
    socket: *mut bpf_sock,
    destination: &mut Redirected,
    tgid: u32,
    v6: bool,
) -> Result<u16, Outcome> {
    let silent = now().wrapping_sub(state(cell::BEAT)) > BEAT_NANOS;
    if silent || state(cell::DYING) != 0 || state(cell::STOPPED) != 0 {
        return Err(Outcome::Unarmed);
    }
    // SAFETY: the socket of the context; the verifier checks each access.
    let (priority, bound) = unsafe {
        let word = |place: *const u32| place.read_volatile();
        let source = (&raw const (*socket).src_ip6).cast::<u32>();
        let source_v6 =
            word(source) | word(source.add(1)) | word(source.add(2)) | word(source.add(3));
        // An IPv4 socket keeps there what it was last connected from.
        let is_v6 = word(&raw const (*socket).family) == u32::from(INET6);
        (
            word(&raw const (*socket).priority),
            word(&raw const (*socket).bound_dev_if)
                | word(&raw const (*socket).mark)
                | word(&raw const (*socket).src_ip4)
                | word(&raw const (*socket).src_port)
                | if is_v6 { source_v6 } else { 0 },
        )
    };
    // The own ones that come this far are those of the rehearsal.
    if priority == AGENT_PRIORITY && u64::from(tgid) != at::AGENT_TGID() {
        return Err(Outcome::AgentSocket);
    }
    if bound != 0 {
        return Err(Outcome::Bound);
    }
    // SAFETY: the verifier knows the socket.
    if !unsafe { bpf_skc_to_mptcp_sock(socket.cast()) }.is_null() {
        return Err(Outcome::Multipath);
    }
    let netns = netns_of(socket.cast());
    let port = match listener_ports(netns) {
        Some(ports) if v6 => ports.v6,
        Some(ports) => ports.v4,
        None => {
            let _ = MISSED.insert(netns, tgid, 0);
            return Err(Outcome::NoNamespace);
        }
    };
    if port == 0 {
        return Err(Outcome::NoListener);
    }
    if leads_to_agent(call, destination) {
        return Err(Outcome::AgentSocket);
    }
    listens(call, port, v6)?;
    // SAFETY: the context of a connect program.
    destination.cookie = unsafe { bpf_get_socket_cookie(call.cast()) };
    if !remember(socket.cast(), destination) {
        return Err(Outcome::NoMemory);
    }
    if at::STATE_IN_MAP() != 0 {
        let _ = DESTINATIONS.insert(destination.cookie, *destination, 0);
    }
    Ok(port)
}

/// Whether the destination already is an agent's listener, this one's or another's that was asked
/// before.
#[inline(always)]
fn leads_to_agent(call: *mut bpf_sock_addr, destination: &Redirected) -> bool {
    let address = destination.address;
    let v4 = address[10] == 0xff;
    if !v4 && address[15] != 1 || v4 && address[12] != 127 {
        return false;
    }
    let Some(listener) = lookup(call, destination.port, !v4) else {
        return false;
    };
    // SAFETY: the look-up's socket, released afterwards.
    unsafe {
        let priority = (&raw const (*listener).priority).read_volatile();
        release(listener);
        priority == AGENT_PRIORITY
    }
}

/// Whether the agent's listener is there and does not have its hands full.
#[inline(always)]
fn listens(call: *mut bpf_sock_addr, port: u16, v6: bool) -> Result<(), Outcome> {
    let Some(listener) = lookup(call, port, v6) else {
        return Err(Outcome::NoListener);
    };
    let own = is_own_listener(listener);
    // SAFETY: the verifier knows the socket.
    let tcp = unsafe { bpf_skc_to_tcp_sock(listener.cast()) };
    let mut full = true;
    if !tcp.is_null() {
        // SAFETY: offsets of fields of this type, by the loader; the verifier checks the loads.
        let field =
            |at: u64| unsafe { tcp.cast::<u8>().add(at as usize).cast::<u32>().read_volatile() };
        full = field(at::SOCK_BACKLOG()) > field(at::SOCK_MAX_BACKLOG()) / 2;
    }
    release(listener);
    match (own, full) {
        (false, _) => Err(Outcome::NoListener),
        (true, true) => Err(Outcome::Backlog),
        (true, false) => Ok(()),
    }
}

/// Who listens on this port of the loopback address in the socket's namespace.
#[inline(always)]
fn lookup(call: *mut bpf_sock_addr, port: u16, v6: bool) -> Option<*mut bpf_sock> {
    // `struct bpf_sock_tuple`: source and destination address, then the two ports.
    let port = u32::from(port.to_be()) << 16;
    let v6_tuple = [0, 0, 0, 0, 0, 0, 0, ONE, port];
    let v4_tuple = [0, LOOPBACK_V4, port];
    let (tuple, size) = if v6 {
        (v6_tuple.as_ptr(), size_of_val(&v6_tuple))
    } else {
        (v4_tuple.as_ptr(), size_of_val(&v4_tuple))
    };
    let tuple = tuple.cast_mut().cast::<bpf_sock_tuple>();
    // SAFETY: the context of a connect program and a tuple of the size given.
    let found = unsafe { bpf_sk_lookup_tcp(call.cast(), tuple, size as u32, OWN_NETNS, 0) };
    if found.is_null() { None } else { Some(found) }
}

#[inline(always)]
fn release(socket: *mut bpf_sock) -> c_long {
    // SAFETY: called once for each socket that was looked up.
    unsafe { bpf_sk_release(socket.cast::<c_void>()) }
}
