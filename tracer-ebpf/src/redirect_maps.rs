//! Maps of the redirect. The agent enlarges them only when it redirects.

use core::ffi::c_void;
use core::ptr::null_mut;

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::generated::{
    bpf_sk_storage_delete, bpf_sk_storage_get, bpf_skc_to_tcp_sock,
};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray};
use tracer_ebpf::redirect::{
    ANCESTORS, Ancestor, ClientEnd, HANDSHAKES, ListenerPorts, NAMESPACES, OUTCOMES, Outcome,
    PORT_WORDS, RANGES, Redirected, state,
};

use crate::kernel::read;
use crate::offsets::at;

/// Of connecting sockets.
#[btf_map]
static REDIRECTED: SkStorage<Redirected> = SkStorage::new();

/// Of the sockets that the agent accepts; the agent reads it.
#[btf_map]
static ACCEPTED: SkStorage<Redirected> = SkStorage::new();

/// Marks the agent's listeners; the agent writes it.
#[btf_map]
static LISTENERS: SkStorage<u32> = SkStorage::new();

/// Connections on their way to the agent.
#[map(name = "HANDSHAKES")]
pub(crate) static CONNECTING: LruHashMap<ClientEnd, Redirected> =
    LruHashMap::with_max_entries(HANDSHAKES, 0);

/// Network namespace to the agent's listeners in it.
#[map(name = "LISTENER_PORTS")]
static PORTS_BY_NETNS: HashMap<u32, ListenerPorts> = HashMap::with_max_entries(NAMESPACES, 0);

/// Network namespaces in which a listener was missed, with the process that missed it.
#[map(name = "MISSED_NETNS")]
pub(crate) static MISSED: LruHashMap<u32, u32> = LruHashMap::with_max_entries(NAMESPACES, 0);

/// Destination ports in scope, a bit each.
#[map(name = "REDIRECT_PORTS")]
static PORTS_IN_SCOPE: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);

/// One of `range` by address.
#[map(name = "REDIRECT_ADDRESSES")]
pub(crate) static ADDRESSES: LpmTrie<[u8; 16], u8> = LpmTrie::with_max_entries(RANGES, 0);

#[map(name = "REDIRECT_CGROUPS")]
pub(crate) static SELECTED_ANCESTORS: Array<Ancestor> = Array::with_max_entries(ANCESTORS, 0);

#[map(name = "REDIRECT_STATE")]
static STATE: Array<u64> = Array::with_max_entries(state::COUNT, 0);

#[map(name = "REDIRECT_OUTCOMES")]
static OUTCOME_VALUES: PerCpuArray<u64> = PerCpuArray::with_max_entries(OUTCOMES, 0);

/// Cookie of a redirected socket to its destination, for the probes that get no typed socket.
#[map(name = "DESTINATIONS")]
pub(crate) static DESTINATIONS: LruHashMap<u64, Redirected> = LruHashMap::with_max_entries(1, 0);

/// What is remembered of a connecting socket, if it was redirected.
#[inline(always)]
pub(crate) fn redirected(socket: *mut c_void) -> Option<&'static mut Redirected> {
    // SAFETY: the verifier checks that the socket is one; the value lives as long as the program.
    unsafe { storage(&raw const REDIRECTED, socket, null_mut()).as_mut() }
}

/// Remembers the destination of a connecting socket; returns whether there was memory for it.
#[inline(always)]
pub(crate) fn remember(socket: *mut c_void, destination: &mut Redirected) -> bool {
    !storage(&raw const REDIRECTED, socket, destination).is_null()
}

/// Forgets it again.
#[inline(always)]
pub(crate) fn forget(socket: *mut c_void) {
    // SAFETY: as above.
    unsafe { bpf_sk_storage_delete((&raw const REDIRECTED).cast_mut().cast(), socket) };
}

/// Tells the agent where its accepted socket was meant to go.
#[inline(always)]
pub(crate) fn hand_over(socket: *mut c_void, destination: &mut Redirected) {
    storage(&raw const ACCEPTED, socket, destination);
}

/// Whether this is one of the agent's listeners.
#[inline(always)]
pub(crate) fn is_own_listener(socket: *mut bpf_sock) -> bool {
    !storage(&raw const LISTENERS, socket.cast(), null_mut()).is_null()
}

/// The value kept with a socket, created from `initial` unless that is null.
#[inline(always)]
fn storage<T>(map: *const SkStorage<T>, socket: *mut c_void, initial: *mut T) -> *mut T {
    let flags = if initial.is_null() { 0 } else { BPF_SK_STORAGE_GET_F_CREATE };
    // SAFETY: the verifier checks map, socket and value.
    unsafe {
        bpf_sk_storage_get(map.cast_mut().cast(), socket, initial.cast(), flags.into()).cast()
    }
}

/// Inode of a TCP socket's network namespace.
#[inline(always)]
pub(crate) fn netns_of(socket: *mut c_void) -> u32 {
    // Only of this type of pointer may fields be read that the kernel does not publish.
    // SAFETY: the verifier checks that the socket is one.
    let tcp = unsafe { bpf_skc_to_tcp_sock(socket) };
    if tcp.is_null() {
        return 0;
    }
    let net = read::<u64>(tcp as u64 + at::SOCK_NET()).unwrap_or(0);
    read::<u32>(net + at::NET_INUM()).unwrap_or(0)
}

#[inline(always)]
pub(crate) fn listener_ports(netns: u32) -> Option<ListenerPorts> {
    // SAFETY: copied at once.
    unsafe { PORTS_BY_NETNS.get(netns) }.copied()
}

#[inline(always)]
pub(crate) fn is_port_in_scope(port: u16) -> bool {
    let word = PORTS_IN_SCOPE.get(u32::from(port >> 6)).copied().unwrap_or(0);
    word >> (port & 63) & 1 == 1
}

#[inline(always)]
pub(crate) fn state(index: u32) -> u64 {
    STATE.get(index).copied().unwrap_or(0)
}

#[inline(always)]
pub(crate) fn set_state(index: u32, value: u64) {
    if let Some(cell) = STATE.get_ptr_mut(index) {
        // SAFETY: a live array value.
        unsafe { cell.write_volatile(value) };
    }
}

#[inline(always)]
pub(crate) fn tally(outcome: Outcome) {
    if let Some(value) = OUTCOME_VALUES.get_ptr_mut(outcome as u32) {
        // SAFETY: a per-CPU slot. A program of the same kind may interrupt this one between read
        // and write only on kernels that preempt within programs; it then costs one count.
        unsafe { *value += 1 };
    }
}
