//! Places that cannot wait: the context of a call is to be put on the wire now, so its place in a
//! trace is settled with what is known, and what comes to light later changes nothing.
//!
//! Also the other way round: a context went out before the call was seen, and that is its place.

use std::sync::Arc;

use super::family::Settled;
use super::{Linker, Origin, Placed};
use crate::event::ConnId;
use crate::exchange::{ExchangeId, Role};
use crate::trace::context::{IdSource, SpanContext};

/// Contexts that went out for calls which were not seen yet; beyond, those calls get another.
const MAX_AHEAD: usize = 16_384;

/// Who reports a call, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// We do, as this span.
    Ours(Arc<SpanContext>),
    /// An SDK in the process does; its own context stays as it is.
    Theirs,
}

impl<T> Linker<T> {
    /// Settles the place of a call for good. `None` if the call is not known (yet).
    pub fn commit(
        &mut self,
        call: ExchangeId,
        ids: &mut IdSource,
        placed: &mut Vec<Placed<T>>,
    ) -> Option<Committed> {
        let mut settled = std::mem::take(&mut self.settled);
        let mut last = None;
        while let Some(open) = self.family.unsettled_above(call)
            && last != Some(open)
        {
            last = Some(open);
            self.settle_now(open, open == call, ids, &mut settled);
        }
        self.hand_on(settled, placed);
        if self.family.is_muted(call) {
            return Some(Committed::Theirs);
        }
        self.family.rely_on_span(call).map(Committed::Ours)
    }

    /// This context went out with a call. Returns whether that is how it will be reported.
    pub fn commit_to(
        &mut self,
        call: ExchangeId,
        context: SpanContext,
        ids: &mut IdSource,
        placed: &mut Vec<Placed<T>>,
    ) -> bool {
        if !self.family.contains(call) {
            let room = self.ahead.len() < MAX_AHEAD && !self.ended_lately(call);
            if room {
                self.ahead.insert((call.conn, call.offset.0), context);
            }
            return room;
        }
        let mut settled = std::mem::take(&mut self.settled);
        let done = self.family.place_as(call, context, ids, &mut settled);
        if done && let Some(resolved) = self.hopes.conclude(call, Origin::Root) {
            self.settle_hope(resolved, ids, &mut settled);
        }
        self.hand_on(settled, placed);
        done
    }

    /// The context that a call which begins went out with, if it was told before.
    pub(super) fn take_ahead(
        &mut self,
        call: ExchangeId,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        if let Some(context) = self.ahead.remove(&(call.conn, call.offset.0)) {
            self.family.place_as(call, context, ids, settled);
        }
    }

    /// Nothing more will be seen of a connection.
    pub(super) fn forget_ahead(&mut self, conn: ConnId) {
        let of_connection = (conn, 0)..=(conn, u32::MAX);
        while let Some((key, _)) = self.ahead.range(of_connection.clone()).next() {
            let key = *key;
            self.ahead.remove(&key);
        }
    }

    /// Ends what keeps a member from having its place: whether it is reported by us, or where it
    /// comes from.
    fn settle_now(
        &mut self,
        id: ExchangeId,
        is_the_call: bool,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        if self.family.is_decided(id) {
            return self.family.resume(id, ids, settled);
        }
        let origin = match self.open.get(&id) {
            Some(open) if open.role == Role::Server => {
                open.carried.clone().map_or(Origin::Root, Origin::Remote)
            }
            Some(_) => Origin::Root,
            None => self.unpaired_origin(id),
        };
        if is_the_call {
            self.counters.committed_unlinked += 1;
        } else {
            self.counters.settled_early += 1;
        }
        match self.hopes.conclude(id, origin.clone()) {
            Some(resolved) => self.settle_hope(resolved, ids, settled),
            None => self.settle_call(id, origin, ids, settled),
        }
    }

    /// Where a request that is over comes from if its other half does not show up any more.
    fn unpaired_origin(&self, id: ExchangeId) -> Origin {
        let half = self.unpaired.iter().find(|half| half.id == id);
        half.map_or(Origin::Root, |half| half.otherwise.clone())
    }

    /// Whether a later exchange of the connection has begun: an earlier one was seen or never will.
    fn ended_lately(&self, call: ExchangeId) -> bool {
        self.newest
            .get(&call.conn)
            .is_some_and(|newest| newest.offset.distance_from(call.offset) >= 0)
    }
}
