//! Connections: from the events of all sockets to the exchanges of each.
//!
//! Puts every direction's bytes in order, shows protocols what is known and what is missing, and
//! forgets connections that end or that nobody can afford. Must not know processes beyond their
//! pid, where events come from, or what becomes of an exchange. No clock: time comes with events.

mod connection;
mod detection;
mod stream;
mod table;
#[cfg(test)]
mod tests;

pub use crate::protocol::{LossReason, Observation, Verdict};

use std::collections::BTreeMap;

use connection::{Connection, Shared};
use serde::Serialize;
use table::Table;

use crate::event::{CloseKind, Closed, ConnId, Data, Event, KernelTime, Opened};
use crate::exchange::HeaderInterest;
use crate::protocol::Limits;

/// How often silent connections are looked for, in nanoseconds.
const EXPIRY_INTERVAL: u64 = 1_000_000_000;

/// Bounds and choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Connections known at once; beyond, the one idle longest is given up.
    pub max_connections: usize,
    /// Header fields to keep.
    pub interest: HeaderInterest,
    /// Bytes of one incomplete message head at most.
    pub max_head_bytes: usize,
    /// Bytes of all incomplete message heads together at most.
    pub max_buffered_bytes: usize,
    /// Nanoseconds without any event on a connection after which its open exchanges are given up.
    pub max_exchange_silence: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: 65_536,
            interest: HeaderInterest::default(),
            max_head_bytes: 128 * 1024,
            max_buffered_bytes: 16 * 1024 * 1024,
            max_exchange_silence: 300 * 1_000_000_000,
        }
    }
}

/// What happened that belongs to no exchange. Only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Connections announced.
    pub opened: u64,
    /// Connections given up because the table was full.
    pub evicted: u64,
    /// Events of connections that are not in the table: evicted, or never announced.
    pub unknown_connection: u64,
    /// Data whose stream offsets went backwards.
    pub overlaps: u64,
    /// Gaps: data preceded by bytes that no event told of.
    pub gaps: u64,
    /// Bytes in those gaps.
    pub gap_bytes: u64,
}

/// Every connection of a run.
#[derive(Debug)]
pub struct Connections {
    table: Table<Connection>,
    shared: Shared,
    capacity: usize,
    max_exchange_silence: u64,
    last_expiry: KernelTime,
}

impl Connections {
    /// Knows no connection yet.
    pub fn new(options: Options) -> Self {
        let limits = Limits {
            head_bytes: options.max_head_bytes,
            buffered_bytes: options.max_buffered_bytes,
        };
        Self {
            table: Table::new(),
            shared: Shared {
                interest: options.interest,
                limits,
                buffered: 0,
                counters: Counters::default(),
            },
            capacity: options.max_connections.max(1),
            max_exchange_silence: options.max_exchange_silence,
            last_expiry: KernelTime::default(),
        }
    }

    /// Takes the next event; those that are not about connections do nothing.
    pub fn on_event(&mut self, event: &Event<'_>, out: &mut Vec<Observation>) {
        match event {
            Event::Data(data) => self.on_data(data, out),
            Event::Opened(opened) => self.on_opened(opened, out),
            Event::Closed(closed) => self.on_closed(closed, out),
            Event::Process(_) | Event::ProcessGone { .. } | Event::Connecting(_) => {}
        }
    }

    /// Gives up a connection of which nothing more is to be known, while its socket lives on.
    pub fn dismiss(&mut self, conn: ConnId, out: &mut Vec<Observation>) {
        if let Some(connection) = self.table.get(conn) {
            connection.dismiss(conn, &mut self.shared, out);
        }
    }

    /// Gives up exchanges of connections that fell silent.
    pub fn on_tick(&mut self, now: KernelTime, out: &mut Vec<Observation>) {
        if now.nanos_since(self.last_expiry) < EXPIRY_INTERVAL {
            return;
        }
        self.last_expiry = now;
        let (shared, silence) = (&mut self.shared, self.max_exchange_silence);
        self.table.for_oldest(|conn, connection| {
            if now.nanos_since(connection.last_active()) < silence {
                return false;
            }
            connection.abandon(conn, LossReason::Expired, shared, out);
            true
        });
    }

    /// Counts what is still open, and forgets everything.
    pub fn finish(&mut self, out: &mut Vec<Observation>) {
        while let Some((conn, mut connection)) = self.table.pop_oldest() {
            connection.abandon(conn, LossReason::Unfinished, &mut self.shared, out);
        }
    }

    /// What happened that belongs to no exchange.
    pub fn counters(&self) -> Counters {
        self.shared.counters
    }

    /// Connections known.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no connection is known.
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// Connections by what is known of each: a protocol, or why nobody looks at it.
    pub fn standings(&mut self) -> BTreeMap<&'static str, usize> {
        let mut standings = BTreeMap::new();
        self.table.for_oldest(|_, connection| {
            *standings.entry(connection.standing()).or_default() += 1;
            true
        });
        standings
    }

    /// From now on at most so many bytes of incomplete heads are held back.
    pub fn set_buffer_limit(&mut self, bytes: usize) {
        self.shared.limits.buffered_bytes = bytes;
    }

    /// Bytes held back because a message head is not complete.
    pub fn buffered_bytes(&self) -> usize {
        self.shared.buffered
    }

    /// From now on these header fields are kept.
    pub fn set_interest(&mut self, interest: HeaderInterest) {
        self.shared.interest = interest;
    }

    fn on_opened(&mut self, opened: &Opened, out: &mut Vec<Observation>) {
        if self.table.get(opened.conn).is_some() {
            return;
        }
        if self.table.len() >= self.capacity
            && let Some((conn, mut oldest)) = self.table.pop_oldest()
        {
            self.shared.counters.evicted += 1;
            oldest.evict(conn, &mut self.shared, out);
        }
        self.shared.counters.opened += 1;
        self.table.insert(opened.conn, Connection::new(opened));
    }

    fn on_data(&mut self, data: &Data<'_>, out: &mut Vec<Observation>) {
        match self.table.get(data.conn) {
            Some(connection) => connection.on_data(data, &mut self.shared, out),
            None => self.shared.counters.unknown_connection += 1,
        }
    }

    fn on_closed(&mut self, closed: &Closed, out: &mut Vec<Observation>) {
        let known = match self.table.get(closed.conn) {
            Some(connection) => {
                connection.on_closed(closed, &mut self.shared, out);
                true
            }
            None => false,
        };
        if !known {
            self.shared.counters.unknown_connection += 1;
        } else if closed.kind == CloseKind::Gone {
            self.forget(closed.conn);
        }
    }

    fn forget(&mut self, conn: ConnId) {
        self.table.remove(conn);
    }
}
