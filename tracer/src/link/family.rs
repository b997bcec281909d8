//! Who is whose child, and when that is settled for good.
//!
//! A span can be exported once its own parent is decided and its parent's place in a trace is
//! known. Until then it is held here. Knows exchanges by id; what is held is opaque to it.

use std::collections::HashMap;
use std::sync::Arc;

use super::Origin;
use crate::exchange::ExchangeId;
use crate::trace::context::{IdSource, SpanContext};

/// One exchange on its way to becoming a span.
#[derive(Debug)]
struct Member<T> {
    origin: Option<Origin>,
    /// Its place, once it and all above it are settled.
    place: Option<Arc<SpanContext>>,
    /// What is exported once the place is known.
    held: Option<T>,
    /// Members whose place depends on this one's.
    below: Vec<ExchangeId>,
    /// It is over, and was handed on.
    handed_on: bool,
    /// How many undecided things may still turn out to be its children.
    kept: usize,
}

/// A held value whose place is settled.
#[derive(Debug)]
pub(super) struct Settled<T> {
    pub(super) held: T,
    pub(super) place: Arc<SpanContext>,
    pub(super) origin: Origin,
}

/// All exchanges that are open or not settled.
#[derive(Debug)]
pub(super) struct Family<T> {
    members: HashMap<ExchangeId, Member<T>>,
}

impl<T> Family<T> {
    pub(super) fn new() -> Self {
        Self { members: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn contains(&self, id: ExchangeId) -> bool {
        self.members.contains_key(&id)
    }

    /// A new member, of unknown origin.
    pub(super) fn begin(&mut self, id: ExchangeId) {
        self.members.insert(
            id,
            Member {
                origin: None,
                place: None,
                held: None,
                below: Vec::new(),
                handed_on: false,
                kept: 0,
            },
        );
    }

    pub(super) fn is_decided(&self, id: ExchangeId) -> bool {
        self.members.get(&id).is_none_or(|member| member.origin.is_some())
    }

    /// The place of a member, if it is settled.
    pub(super) fn place(&self, id: ExchangeId) -> Option<&Arc<SpanContext>> {
        self.members.get(&id)?.place.as_ref()
    }

    /// Decides where a member comes from. The first decision stands.
    pub(super) fn decide(
        &mut self,
        id: ExchangeId,
        origin: Origin,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        if self.is_decided(id) {
            return;
        }
        let parent = origin.parent();
        if parent.is_some_and(|parent| self.comes_from(parent, id)) {
            return self.decide(id, Origin::Root, ids, settled);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.origin = Some(origin);
        }
        if let Some(parent) = parent
            && let Some(parent) = self.members.get_mut(&parent)
            && parent.place.is_none()
        {
            parent.below.push(id);
            return;
        }
        self.settle(id, ids, settled);
    }

    /// Whether one member is another, or was caused by it. A process that calls itself may seem to
    /// have made a call for the very request which that call became.
    fn comes_from(&self, id: ExchangeId, other: ExchangeId) -> bool {
        let mut next = Some(id);
        while let Some(id) = next {
            if id == other {
                return true;
            }
            let member = self.members.get(&id).filter(|member| member.place.is_none());
            next = member.and_then(|member| member.origin.as_ref()?.parent());
        }
        false
    }

    /// A member is over: `held` is given back with its place as soon as that is settled.
    pub(super) fn finish(&mut self, id: ExchangeId, held: T, settled: &mut Vec<Settled<T>>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.held = Some(held);
        hand_on(member, settled);
        self.forget_if_done(id);
    }

    /// A member will never be over: what depends on it is settled without it.
    pub(super) fn lose(
        &mut self,
        id: ExchangeId,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        let Some(mut member) = self.members.remove(&id) else { return };
        for below in std::mem::take(&mut member.below) {
            if let Some(orphan) = self.members.get_mut(&below) {
                orphan.origin = Some(Origin::Root);
            }
            self.settle(below, ids, settled);
        }
    }

    /// Gives a member its place, and then those that waited for it.
    fn settle(&mut self, id: ExchangeId, ids: &mut IdSource, settled: &mut Vec<Settled<T>>) {
        let parent = self.members.get(&id).and_then(|member| member.origin.as_ref()?.parent());
        let mut ready = vec![(id, parent.and_then(|parent| self.place(parent).cloned()))];
        while let Some((id, parent)) = ready.pop() {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let place = match (&member.origin, parent) {
                (Some(Origin::Child { .. }), Some(parent)) => ids.child_of(&parent),
                (Some(Origin::Remote(context)), _) => ids.child_of_remote((**context).clone()),
                (Some(Origin::Child { .. }), None) => {
                    // Its parent ended long ago: to say nothing is better than to guess.
                    member.origin = Some(Origin::Root);
                    ids.root()
                }
                _ => ids.root(),
            };
            let place = Arc::new(place);
            member.place = Some(Arc::clone(&place));
            hand_on(member, settled);
            ready.extend(member.below.drain(..).map(|below| (below, Some(Arc::clone(&place)))));
            self.forget_if_done(id);
        }
    }

    /// Has a member stay when it is over, until it is released.
    pub(super) fn keep(&mut self, id: ExchangeId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.kept += 1;
        }
    }

    /// Ends [`Family::keep`].
    pub(super) fn release(&mut self, id: ExchangeId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.kept = member.kept.saturating_sub(1);
        }
        self.forget_if_done(id);
    }

    /// Members whose origin is not decided, in a stable order.
    pub(super) fn undecided(&self) -> Vec<ExchangeId> {
        let undecided = self.members.iter().filter(|(_, member)| member.origin.is_none());
        let mut ids: Vec<ExchangeId> = undecided.map(|(id, _)| *id).collect();
        ids.sort_by_key(|id| (id.conn, id.offset.0));
        ids
    }

    fn forget_if_done(&mut self, id: ExchangeId) {
        if self.members.get(&id).is_some_and(|member| member.handed_on && member.kept == 0) {
            self.members.remove(&id);
        }
    }
}

/// Gives out what is held if the place is known.
fn hand_on<T>(member: &mut Member<T>, settled: &mut Vec<Settled<T>>) {
    if let (Some(place), Some(origin)) = (&member.place, &member.origin)
        && let Some(held) = member.held.take()
    {
        settled.push(Settled { held, place: Arc::clone(place), origin: origin.clone() });
        member.handed_on = true;
    }
}
