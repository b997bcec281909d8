//! Both ends of one exchange: the client span of one process and the server span of another (or
//! the same) are joined by what their connection has in common, with no header at all.
//!
//! Both ends of a TCP connection count the same sequence numbers, whatever the addresses between
//! them are translated to; with one address in common as well, two requests are the same. Unix
//! sockets know their peer. Knows no process and no trace.

use std::collections::VecDeque;
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

/// Halves waiting for each other.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    waiting: FxHashMap<Key, Vec<Half>>,
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
        let others = self.waiting.entry(key).or_default();
        let differences = &self.differences;
        if let Some(index) = others.iter().rposition(|other| fit(&half, other, differences)) {
            let other = others.remove(index);
            if let Key::Socket(socket) = key {
                if self.differences.len() >= MAX_WAITING {
                    self.differences.clear();
                }
                self.differences.insert(socket, difference(&half, &other));
            }
            if others.is_empty() {
                self.waiting.remove(&key);
            }
            self.under_way.remove(&other.id);
            return Some(other.id);
        }
        others.push(half);
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
        if let Some(halves) = self.waiting.get_mut(&key) {
            halves.retain(|half| half.id != id);
            if halves.is_empty() {
                self.waiting.remove(&key);
            }
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
