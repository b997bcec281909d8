//! Both ends of one exchange: the client span of one process and the server span of another (or
//! the same) are joined by what their connection has in common, with no header at all.
//!
//! Both ends of a TCP connection count the same sequence numbers, whatever the addresses between
//! them are translated to; with one address in common as well, two requests are the same. Unix
//! sockets know their peer. Knows no process and no trace.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::event::{Endpoint, KernelTime};
use crate::exchange::{Ends, ExchangeId, Role};

/// Halves that wait for their other half; beyond, the oldest is given up.
const MAX_WAITING: usize = 65_536;

/// What the two halves of an exchange agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// The sequence number of the request's first byte.
    Sequence(u32),
    /// The client's Unix socket.
    Socket(u64),
}

#[derive(Clone, Debug)]
struct Half {
    id: ExchangeId,
    role: Role,
    ends: Arc<Ends>,
}

/// Halves under one key; nearly always there is one.
#[derive(Debug)]
struct Halves {
    first: Half,
    others: Vec<Half>,
}

impl Halves {
    fn get(&self, index: usize) -> Option<&Half> {
        index.checked_sub(1).map_or(Some(&self.first), |index| self.others.get(index))
    }

    /// The newest one that is as `wanted`.
    fn newest(&self, wanted: impl Fn(&Half) -> bool) -> Option<usize> {
        let newest = self.others.iter().rposition(&wanted).map(|index| index + 1);
        newest.or_else(|| wanted(&self.first).then_some(0))
    }

    /// Forgets one; returns whether others are left.
    fn forget(&mut self, index: usize) -> bool {
        if let Some(index) = index.checked_sub(1) {
            self.others.remove(index);
            return true;
        }
        if self.others.is_empty() {
            return false;
        }
        self.first = self.others.remove(0);
        true
    }
}

/// Halves waiting for each other.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    waiting: FxHashMap<Key, Halves>,
    /// By how much the ends of a Unix socket count differently: each counts from the first byte
    /// that the agent saw of it.
    differences: FxHashMap<u64, u32>,
    /// Halves whose other half must come soon, if it comes at all.
    order: VecDeque<(KernelTime, Key, ExchangeId)>,
    /// Clients' halves of calls that are not over: a busy server may take long to read one.
    under_way: FxHashMap<ExchangeId, Key>,
}

impl Pairs {
    /// Takes the half that just began; gives the other one if it is here.
    pub(super) fn meet(
        &mut self,
        id: ExchangeId,
        role: Role,
        ends: &Arc<Ends>,
        at: KernelTime,
    ) -> Option<ExchangeId> {
        let half = Half { id, role, ends: Arc::clone(ends) };
        let key = key(&half)?;
        match self.waiting.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(Halves { first: half, others: Vec::new() });
            }
            Entry::Occupied(mut entry) => {
                let differences = &self.differences;
                let halves = entry.get_mut();
                let index = halves.newest(|other| fit(&half, other, differences));
                if let Some((index, other)) =
                    index.and_then(|at| Some((at, halves.get(at)?.clone())))
                {
                    if !halves.forget(index) {
                        entry.remove();
                    }
                    if let Key::Socket(socket) = key {
                        if self.differences.len() >= MAX_WAITING {
                            self.differences.clear();
                        }
                        self.differences.insert(socket, difference(&half, &other));
                    }
                    self.under_way.remove(&other.id);
                    return Some(other.id);
                }
                halves.others.push(half);
            }
        }
        if role == Role::Client && self.under_way.len() < MAX_WAITING {
            self.under_way.insert(id, key);
        } else {
            self.expect_soon(at, key, id);
        }
        None
    }

    /// A call is over.
    pub(super) fn on_call_over(&mut self, id: ExchangeId, at: KernelTime) {
        if let Some(key) = self.under_way.remove(&id) {
            self.expect_soon(at, key, id);
        }
    }

    fn expect_soon(&mut self, at: KernelTime, key: Key, id: ExchangeId) {
        self.order.push_back((at, key, id));
        if self.order.len() > MAX_WAITING {
            self.forget_oldest();
        }
    }

    /// Forgets halves of requests that began, and of calls that were over, before `time`.
    pub(super) fn expire(&mut self, time: KernelTime) {
        while self.order.front().is_some_and(|(at, ..)| *at < time) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, key, id)) = self.order.pop_front() else { return };
        if let Entry::Occupied(mut entry) = self.waiting.entry(key)
            && let Some(index) = entry.get().newest(|half| half.id == id)
            && !entry.get_mut().forget(index)
        {
            entry.remove();
        }
    }
}

fn key(half: &Half) -> Option<Key> {
    match half.ends.local.endpoint() {
        Endpoint::Inet(_) => Some(Key::Sequence(half.id.offset.0)),
        Endpoint::Unix(_) => {
            let (own, peer) = half.ends.unix_pair;
            let client = match half.role {
                Role::Client => own,
                Role::Server => peer,
            };
            (client != 0).then_some(Key::Socket(client))
        }
    }
}

/// Whether two halves under one key are the two ends of one exchange.
fn fit(one: &Half, other: &Half, differences: &FxHashMap<u64, u32>) -> bool {
    if one.role == other.role || one.id.conn == other.id.conn {
        return false;
    }
    match key(one) {
        Some(Key::Sequence(_)) => {
            one.ends.local.endpoint() == other.ends.remote.endpoint()
                || one.ends.remote.endpoint() == other.ends.local.endpoint()
        }
        Some(Key::Socket(socket)) => {
            differences.get(&socket).is_none_or(|known| *known == difference(one, other))
        }
        None => false,
    }
}

fn difference(one: &Half, other: &Half) -> u32 {
    let (client, server) = if one.role == Role::Client { (one, other) } else { (other, one) };
    client.id.offset.0.wrapping_sub(server.id.offset.0)
}
