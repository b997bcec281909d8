//! Per-connection state: found by typed socket (socket storage) or by address (LRU map).

use core::ffi::c_void;
use core::ptr::null_mut;

use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_get_current_task_btf, bpf_get_smp_processor_id, bpf_sk_storage_get,
    bpf_skc_to_tcp_sock,
};
use tracer_ebpf::redirect::Redirected;
use tracer_ebpf::{ConnState, Counter};

use crate::kernel::read;
use crate::maps::{CONN_IDS, CONNECTIONS, SOCKETS, count};
use crate::offsets::at;
use crate::redirect_maps::{DESTINATIONS, redirected};

const STORAGE_CREATE: u64 = 1;

/// A socket as a probe was handed it.
pub(crate) trait Socket: Copy {
    /// Address of its `struct sock`.
    fn address(&self) -> u64;
    /// Its state, if it was seen before.
    fn find(&self) -> *mut ConnState;
    /// Its state, zeroed if it is new; null when there is no room.
    fn create(&self) -> *mut ConnState;
    /// Reads a field of `struct sock`, or of `struct tcp_sock` if this came from [`Socket::as_tcp`].
    fn field<T: Copy + Default>(&self, offset: u64) -> T;
    /// Where it was to go, if its connection was redirected.
    fn destination(&self) -> Option<&'static Redirected>;
    /// How often the current thread has waited for something in its life.
    fn waits() -> u32;
    /// The same socket, if it has TCP sequence numbers (not so Unix sockets and multipath TCP).
    fn as_tcp(&self) -> Option<Self>;
}

/// A socket the verifier knows as `struct sock`.
#[derive(Clone, Copy)]
pub(crate) struct TypedSocket(pub(crate) *mut c_void);

impl Socket for TypedSocket {
    #[inline(always)]
    fn address(&self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    fn find(&self) -> *mut ConnState {
        storage(self.0, 0)
    }

    #[inline(always)]
    fn create(&self) -> *mut ConnState {
        storage(self.0, STORAGE_CREATE)
    }

    /// A plain load, which the verifier checks against the kernel's types: a helper call less.
    #[inline(always)]
    fn field<T: Copy + Default>(&self, offset: u64) -> T {
        // SAFETY: the offset is that of a field of this type, by the loader; the socket is alive.
        unsafe { self.0.cast::<u8>().add(offset as usize).cast::<T>().read_volatile() }
    }

    #[inline(always)]
    fn destination(&self) -> Option<&'static Redirected> {
        redirected(self.0).map(|destination| &*destination)
    }

    #[inline(always)]
    fn waits() -> u32 {
        // SAFETY: the helper returns the current task, known to the verifier, which checks the load.
        unsafe {
            let task = bpf_get_current_task_btf().cast::<u8>();
            task.add(at::TASK_WAITS() as usize).cast::<u64>().read_volatile() as u32
        }
    }

    #[inline(always)]
    fn as_tcp(&self) -> Option<Self> {
        // SAFETY: the verifier knows the pointer as a socket.
        let tcp = unsafe { bpf_skc_to_tcp_sock(self.0) };
        if tcp.is_null() { None } else { Some(Self(tcp.cast())) }
    }
}

#[inline(always)]
fn storage(socket: *mut c_void, flags: u64) -> *mut ConnState {
    // SAFETY: the map and the socket are what the helper expects; the verifier checks both.
    unsafe {
        bpf_sk_storage_get((&raw const SOCKETS).cast_mut().cast(), socket, null_mut(), flags).cast()
    }
}

/// A socket known by address only. `inode` tells apart two sockets that lived at one address.
#[derive(Clone, Copy)]
pub(crate) struct AddressedSocket {
    pub(crate) address: u64,
    pub(crate) inode: u64,
}

impl Socket for AddressedSocket {
    #[inline(always)]
    fn address(&self) -> u64 {
        self.address
    }

    #[inline(always)]
    fn find(&self) -> *mut ConnState {
        let Some(state) = CONNECTIONS.get_ptr_mut(self.address) else {
            return null_mut();
        };
        // SAFETY: a live map value.
        if self.inode != 0 && unsafe { (*state).inode } != self.inode {
            return null_mut();
        }
        state
    }

    #[inline(always)]
    fn create(&self) -> *mut ConnState {
        let empty = ConnState { inode: self.inode, ..EMPTY };
        if CONNECTIONS.insert(self.address, empty, 0).is_err() {
            return null_mut();
        }
        CONNECTIONS.get_ptr_mut(self.address).unwrap_or(null_mut())
    }

    #[inline(always)]
    fn field<T: Copy + Default>(&self, offset: u64) -> T {
        read(self.address + offset).unwrap_or_default()
    }

    #[inline(always)]
    fn destination(&self) -> Option<&'static Redirected> {
        let cookie = self.field::<u64>(at::SOCK_COOKIE());
        // SAFETY: entries are written before the socket carries any bytes, and then left alone.
        unsafe { DESTINATIONS.get(cookie) }
    }

    #[inline(always)]
    fn waits() -> u32 {
        // SAFETY: no preconditions.
        let task = unsafe { bpf_get_current_task() };
        read::<u64>(task + at::TASK_WAITS()).unwrap_or_default() as u32
    }

    #[inline(always)]
    fn as_tcp(&self) -> Option<Self> {
        let tcp = self.field::<u16>(at::SOCK_FAMILY()) != UNIX
            && self.field::<u16>(at::SOCK_PROTOCOL()) == TCP;
        if tcp { Some(*self) } else { None }
    }
}

const EMPTY: ConnState = ConnState {
    id: 0,
    last_time: 0,
    inode: 0,
    vector: 0,
    awaited_at: 0,
    vector_index: 0,
    tgid: 0,
    epoch: 0,
    turn: 0,
    told_turns: 0,
    budget: 0,
    receive_next: 0,
    send_next: 0,
    errno: 0,
    padding_errno: 0,
    misses: 0,
    phase: 0,
    last_direction: 0,
    opened: 0,
    receive_ended: 0,
    known: 0,
    runtime: 0,
};

/// The state of a stream socket, new or not; null for other sockets and when there is no room.
#[inline(always)]
pub(crate) fn state_of<S: Socket>(socket: S) -> *mut ConnState {
    let state = socket.find();
    if state.is_null() { first_state_of(socket) } else { state }
}

#[inline(never)]
fn first_state_of<S: Socket>(socket: S) -> *mut ConnState {
    if !is_stream(socket) {
        return null_mut();
    }
    let state = socket.create();
    if state.is_null() {
        count(Counter::ConnectionTableFull, 1);
        return state;
    }
    // SAFETY: checked for null; map memory.
    unsafe { (*state).id = next_id() };
    state
}

const STREAM: u16 = 1;
/// `AF_UNIX`.
pub(crate) const UNIX: u16 = 1;
/// `AF_INET`.
pub(crate) const INET: u16 = 2;
/// `AF_INET6`.
pub(crate) const INET6: u16 = 10;
/// `IPPROTO_TCP`.
const TCP: u16 = 6;

#[inline(always)]
fn is_stream<S: Socket>(socket: S) -> bool {
    let family = socket.field::<u16>(at::SOCK_FAMILY());
    (family == INET || family == INET6 || family == UNIX)
        && socket.field::<u16>(at::SOCK_TYPE()) == STREAM
}

#[inline(always)]
fn next_id() -> u64 {
    let Some(slot) = CONN_IDS.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: a per-CPU slot; the helper has no preconditions.
    unsafe {
        *slot += 1;
        ((u64::from(bpf_get_smp_processor_id()) + 1) << 48) | *slot
    }
}
