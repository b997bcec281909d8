//! All maps. Sizes given here are defaults; the loader sets what the options say.

use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, CgroupArray, HashMap, LruHashMap, PerCpuArray, RingBuf};
use tracer_ebpf::python::{PythonLayout, Walk};
use tracer_ebpf::{
    CHUNK, COUNTERS, ConnState, Counter, DataRecord, OpenRecord, PORTS, PROCESSES, ProcessRecord,
    ProcessState, RUNTIMES, RuntimeLayout, TAIL, setting,
};

use crate::callbacks::{LastRead, Stack};
use crate::payload::Cursor;
use crate::tasks::Goroutine;
use crate::transfer::Transfer;

#[map(name = "EVENTS")]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(4 * 1024 * 1024, 0);

/// Per-connection state where the probe gets a typed socket.
#[btf_map]
pub(crate) static SOCKETS: SkStorage<ConnState> = SkStorage::new();

/// Per-connection state by socket address, where it does not.
#[map(name = "CONNECTIONS")]
pub(crate) static CONNECTIONS: LruHashMap<u64, ConnState> = LruHashMap::with_max_entries(65_536, 0);

/// Connection id to phase, from the agent.
#[map(name = "VERDICTS")]
pub(crate) static VERDICTS: LruHashMap<u64, u8> = LruHashMap::with_max_entries(65_536, 0);

#[map(name = "PROCESSES")]
pub(crate) static PROCESS_TABLE: HashMap<u32, ProcessState> =
    HashMap::with_max_entries(PROCESSES, 1);

/// Process to where its runtime keeps its tasks.
#[map(name = "RUNTIMES")]
pub(crate) static RUNTIME_LAYOUTS: HashMap<u32, RuntimeLayout> =
    HashMap::with_max_entries(RUNTIMES, 1);

/// The same for those whose runtime is Python.
#[map(name = "PYTHONS")]
pub(crate) static PYTHON_LAYOUTS: HashMap<u32, PythonLayout> =
    HashMap::with_max_entries(RUNTIMES, 1);

/// Thread to its last read, where callbacks are told apart.
#[map(name = "LAST_READS")]
pub(crate) static LAST_READS: LruHashMap<u32, LastRead> = LruHashMap::with_max_entries(4_096, 0);

#[map(name = "PORTS")]
pub(crate) static SELECTED_PORTS: HashMap<u16, u8> = HashMap::with_max_entries(PORTS, 0);

#[map(name = "CGROUPS")]
pub(crate) static SELECTED_CGROUPS: CgroupArray = CgroupArray::with_max_entries(16, 0);

#[map(name = "SETTINGS")]
static SETTINGS: Array<u32> = Array::with_max_entries(setting::COUNT, 0);

#[map(name = "COUNTERS")]
static COUNTER_VALUES: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Number of connections first seen on this CPU.
#[map(name = "CONN_IDS")]
pub(crate) static CONN_IDS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Where records are put together, too large for the stack. Each program kind has its own: one
/// may be interrupted by another on the same CPU, never by itself. `bytes` is twice the chunk, so
/// that the verifier accepts any bounded position plus any bounded length. Per-CPU maps take at
/// most 32 KiB a value, so these are plain arrays with one slot a processor; the loader sizes them.
#[repr(C)]
pub(crate) struct Scratch {
    pub(crate) data: DataRecord,
    pub(crate) bytes: [u8; 2 * CHUNK + TAIL],
    pub(crate) cursor: Cursor,
    /// Bytes appended since the ring's fill was looked at.
    pub(crate) unlooked: u64,
    pub(crate) transfer: Transfer,
    pub(crate) goroutine: Goroutine,
    pub(crate) walk: Walk,
    pub(crate) stack: Stack,
    pub(crate) open: OpenRecord,
    pub(crate) process: ProcessRecord,
}

#[map(name = "SEND_SCRATCH")]
pub(crate) static SEND_SCRATCH: Array<Scratch> = Array::with_max_entries(1, 0);

#[map(name = "RECV_SCRATCH")]
pub(crate) static RECEIVE_SCRATCH: Array<Scratch> = Array::with_max_entries(1, 0);

/// As the scratch spaces, for connects.
#[map(name = "CONNECT_STACKS")]
pub(crate) static CONNECT_STACKS: Array<Stack> = Array::with_max_entries(1, 0);

/// This processor's slot.
#[inline(always)]
pub(crate) fn own_slot<T>(scratch: &'static Array<T>) -> Option<&'static mut T> {
    // SAFETY: the helper has no preconditions; the slot belongs to this processor and the map to
    // one program kind, which cannot run twice at the same time there.
    unsafe { scratch.get_ptr_mut(bpf_get_smp_processor_id())?.as_mut() }
}

/// The current value of one of [`setting`].
#[inline(always)]
pub(crate) fn setting(index: u32) -> u32 {
    SETTINGS.get(index).copied().unwrap_or(0)
}

/// Adds one to a setting. Of two racing increments one may get lost; it changes all the same.
#[inline(always)]
pub(crate) fn bump_setting(index: u32) {
    if let Some(value) = SETTINGS.get_ptr_mut(index) {
        // SAFETY: a live array value.
        unsafe { *value = (*value).wrapping_add(1) };
    }
}

/// Adds to a counter. What is counted is rare, and kept out of the way of what is not.
#[inline(never)]
pub(crate) fn count(counter: Counter, amount: u64) {
    if let Some(value) = COUNTER_VALUES.get_ptr_mut(counter as u32) {
        // SAFETY: a per-CPU slot; only programs on this CPU write it.
        unsafe { *value += amount };
    }
}
