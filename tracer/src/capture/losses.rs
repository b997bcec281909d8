//! The kernel half's counters, summed over processors.

use std::borrow::Borrow;

use aya::maps::{MapData, PerCpuArray};
use serde::Serialize;
use tracer_ebpf::Counter;

/// The per-CPU counter array.
pub(super) type CounterMap<M = MapData> = PerCpuArray<M, u64>;

/// What the kernel half delivered and what it could not, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KernelCounters {
    /// Records taken from the ring.
    pub records: u64,
    /// Bytes of payload in them.
    pub copied_bytes: u64,
    /// Data records that found the ring full, and the stream bytes they stood for.
    pub ring_full_data: u64,
    /// See `ring_full_data`.
    pub ring_full_bytes: u64,
    /// Connection announcements that found the ring full (tried again with the next data).
    pub ring_full_open: u64,
    /// Connection ends that found the ring full.
    pub ring_full_close: u64,
    /// Notes of connecting threads that found the ring full.
    pub ring_full_connect: u64,
    /// Process announcements that found the ring full (tried again).
    pub ring_full_process: u64,
    /// Exchanges of closed connections that no record told of.
    pub lost_exchanges: u64,
    /// Connections not seen for lack of memory.
    pub connection_table_full: u64,
    /// Processes not remembered because the table is full.
    pub process_table_full: u64,
    /// Bytes moved by `io_uring`: seen, not readable.
    pub io_uring_bytes: u64,
    /// Bytes whose page could not be read.
    pub fault_bytes: u64,
    /// Bytes of system calls the agent cannot take apart.
    pub unknown_call_bytes: u64,
    /// Connections given up on in the kernel because their content is nothing we know.
    pub ignored_connections: u64,
    /// Records the agent could not decode.
    pub malformed_records: u64,
    /// Unix sockets whose end will not be noticed, for there were too many.
    pub unwatched_unix_sockets: u64,
}

/// Reads all counters; one that cannot be read counts as zero.
pub(super) fn read<M: Borrow<MapData>>(map: &CounterMap<M>) -> KernelCounters {
    let sum = |counter: Counter| -> u64 {
        map.get(&(counter as u32), 0).map_or(0, |values| values.iter().sum())
    };
    KernelCounters {
        records: 0,
        copied_bytes: 0,
        ring_full_data: sum(Counter::RingFullData),
        ring_full_bytes: sum(Counter::RingFullBytes),
        ring_full_open: sum(Counter::RingFullOpen),
        ring_full_close: sum(Counter::RingFullClose),
        ring_full_connect: sum(Counter::RingFullConnect),
        ring_full_process: sum(Counter::RingFullProcess),
        lost_exchanges: sum(Counter::LostExchanges),
        connection_table_full: sum(Counter::ConnectionTableFull),
        process_table_full: sum(Counter::ProcessTableFull),
        io_uring_bytes: sum(Counter::IoUringBytes),
        fault_bytes: sum(Counter::FaultBytes),
        unknown_call_bytes: sum(Counter::UnknownCallBytes),
        ignored_connections: sum(Counter::IgnoredConnections),
        malformed_records: 0,
        unwatched_unix_sockets: 0,
    }
}
