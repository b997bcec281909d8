//! Who is whose child, and when that is settled for good.
//!
//! A span can be exported once its own parent is decided and its parent's place in a trace is
//! known. Until then it is held here. Some members become no span of ours, because the process
//! reports one itself: those below them are then placed below the nearest span that is known.
//! Knows exchanges by id; what is held is opaque to it.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Origin;
use super::instrumented::Muted;
use super::place::Place;
use crate::exchange::ExchangeId;
use crate::sampling::Sampler;
use crate::trace::context::{IdSource, SpanContext, TraceId};

/// One exchange on its way to becoming a span.
#[derive(Debug)]
struct Member<T> {
    /// Decides whether the span that it becomes is recorded.
    sampler: Sampler,
    origin: Option<Origin>,
    /// Its place, once it and all above it are settled.
    place: Option<Place>,
    /// Why it becomes no span, and its trace if that is another than its parent's.
    muted: Option<(Muted, Option<TraceId>)>,
    /// Whether it becomes a span is not to be settled yet.
    suspended: bool,
    /// Others were placed below it as a span, here or on the wire.
    relied_on: bool,
    /// The span that it is, no matter what.
    given: Option<Box<SpanContext>>,
    /// What is exported once the place is known.
    held: Option<T>,
    /// Members whose place depends on this one's.
    below: Vec<ExchangeId>,
    /// It is over, and was handed on.
    handed_on: bool,
    /// How many undecided things may still turn out to be its children.
    kept: usize,
}

impl<T> Member<T> {
    /// Nobody needs it any more.
    fn is_done(&self) -> bool {
        self.handed_on && self.kept == 0
    }
}

/// A held value whose fate is settled.
#[derive(Debug)]
pub(super) enum Settled<T> {
    /// It becomes this span.
    Span { held: T, place: Arc<SpanContext>, origin: Origin },
    /// It becomes none.
    Muted(Muted),
}

/// All exchanges that are open or not settled.
#[derive(Debug)]
pub(super) struct Family<T> {
    members: FxHashMap<ExchangeId, Member<T>>,
}

impl<T> Family<T> {
    pub(super) fn new() -> Self {
        Self { members: FxHashMap::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn contains(&self, id: ExchangeId) -> bool {
        self.members.contains_key(&id)
    }

    /// A new member, of unknown origin.
    pub(super) fn begin(&mut self, id: ExchangeId, sampler: Sampler) {
        self.members.insert(
            id,
            Member {
                sampler,
                origin: None,
                place: None,
                muted: None,
                suspended: false,
                relied_on: false,
                given: None,
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

    /// The span that a member is, if that is settled.
    pub(super) fn span(&self, id: ExchangeId) -> Option<&Arc<SpanContext>> {
        let member = self.members.get(&id).filter(|member| !member.suspended)?;
        match member.place.as_ref()? {
            Place::Span(span) => Some(span),
            Place::Below(_) | Place::Elsewhere => None,
        }
    }

    /// The topmost of a member and those above it that is without a place of its own; `None` if the
    /// member has its place.
    pub(super) fn unsettled_above(&self, id: ExchangeId) -> Option<ExchangeId> {
        let mut unsettled = None;
        let mut next = Some(id);
        while let Some(id) = next
            && let Some(member) = self.members.get(&id)
            && (member.place.is_none() || member.suspended)
        {
            unsettled = Some(id);
            next = member.origin.as_ref().and_then(Origin::parent);
        }
        unsettled
    }

    /// The span that a member is, which it will remain.
    pub(super) fn rely_on_span(&mut self, id: ExchangeId) -> Option<Arc<SpanContext>> {
        let span = self.span(id).map(Arc::clone)?;
        self.rely_on(id);
        Some(span)
    }

    /// Has a member be this span, a root. Returns whether it was not too late for that.
    pub(super) fn place_as(
        &mut self,
        id: ExchangeId,
        span: SpanContext,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) -> bool {
        let Some(member) = self.members.get_mut(&id) else { return false };
        if member.handed_on || member.relied_on || member.muted.is_some() {
            return false;
        }
        let waited_for = member.origin.replace(Origin::Root).and_then(|origin| origin.parent());
        member.given = Some(Box::new(span));
        member.relied_on = true;
        if let Some(parent) = waited_for.and_then(|parent| self.members.get_mut(&parent)) {
            parent.below.retain(|below| *below != id);
        }
        self.settle(id, ids, settled);
        true
    }

    /// Leaves open whether a member becomes a span, until it is resumed.
    pub(super) fn suspend(&mut self, id: ExchangeId) {
        if let Some(member) = self.members.get_mut(&id)
            && !member.relied_on
        {
            member.suspended = true;
        }
    }

    /// Ends [`Family::suspend`].
    pub(super) fn resume(
        &mut self,
        id: ExchangeId,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if !std::mem::take(&mut member.suspended) {
            return;
        }
        if let Some(place) = member.place.clone() {
            hand_on(member, settled);
            let below = std::mem::take(&mut member.below);
            member.relied_on |= !below.is_empty();
            let mut ready: Vec<_> = below.into_iter().map(|id| (id, place.clone())).collect();
            self.settle_ready(&mut ready, ids, settled);
            self.forget_if_done(id);
        }
    }

    /// Has a member become no span, because somebody else reports it, in `trace` if that is
    /// known to be another than its parent's. Does nothing where it is too late.
    pub(super) fn mute(&mut self, id: ExchangeId, reason: Muted, trace: Option<TraceId>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.handed_on || member.relied_on {
            return;
        }
        member.place = match (member.place.take(), trace) {
            (Some(Place::Span(span)), trace) => Some(Place::instead_of(&span, trace)),
            (Some(Place::Below(above)), Some(trace)) if above.trace == trace => {
                Some(Place::Below(above))
            }
            (Some(_), Some(trace)) => Some(Place::within(trace)),
            (place, _) => place,
        };
        let trace = trace.or_else(|| member.muted.and_then(|(_, trace)| trace));
        member.muted = Some((reason, trace));
    }

    /// Why a member becomes no span, if so.
    pub(super) fn muted(&self, id: ExchangeId) -> Option<Muted> {
        self.members.get(&id)?.muted.map(|(reason, _)| reason)
    }

    /// Whether a member becomes no span.
    pub(super) fn is_muted(&self, id: ExchangeId) -> bool {
        self.muted(id).is_some()
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
        let Some(member) = self.members.get_mut(&id) else { return };
        member.origin = Some(origin);
        if let Some(parent) = parent
            && let Some(parent) = self.members.get_mut(&parent)
            && (parent.place.is_none() || parent.suspended)
        {
            parent.below.push(id);
            return;
        }
        let parent = parent.and_then(|parent| self.rely_on(parent));
        self.settle_below(id, parent.as_ref(), ids, settled);
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
        if member.is_done() {
            self.members.remove(&id);
        }
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
        let parent = parent.and_then(|parent| self.rely_on(parent));
        self.settle_below(id, parent.as_ref(), ids, settled);
    }

    fn settle_below(
        &mut self,
        id: ExchangeId,
        parent: Option<&Place>,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        let mut ready = self.settle_one(id, parent, ids, settled);
        self.settle_ready(&mut ready, ids, settled);
    }

    /// Gives members their places below these, and then those that waited for them.
    fn settle_ready(
        &mut self,
        ready: &mut Vec<(ExchangeId, Place)>,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        while let Some((id, parent)) = ready.pop() {
            ready.extend(self.settle_one(id, Some(&parent), ids, settled));
        }
    }

    /// Gives a member its place below this one; gives those that waited for it, with its place.
    fn settle_one(
        &mut self,
        id: ExchangeId,
        parent: Option<&Place>,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) -> Vec<(ExchangeId, Place)> {
        let Some(member) = self.members.get_mut(&id) else { return Vec::new() };
        let placed = match (&member.origin, parent) {
            (Some(Origin::Child { .. }), Some(Place::Span(_) | Place::Below(_))) => {
                parent.map(|parent| parent.child(ids))
            }
            (Some(Origin::Remote(context)), _) => Some(ids.child_of_remote((**context).clone())),
            _ => None,
        };
        let span = member.given.take().map_or_else(
            || {
                let mut span = placed.unwrap_or_else(|| ids.root());
                member.sampler.decide(&mut span);
                span
            },
            |given| *given,
        );
        if span.parent.is_none() && matches!(member.origin, Some(Origin::Child { .. })) {
            // Its parent ended long ago, or is not known: to say nothing is better than to guess.
            member.origin = Some(Origin::Root);
        }
        let place = match member.muted {
            Some((_, trace)) => Place::instead_of(&span, trace),
            None => Place::Span(Arc::new(span)),
        };
        let place = member.place.insert(place);
        if member.suspended {
            return Vec::new();
        }
        let below = std::mem::take(&mut member.below);
        let below: Vec<_> = below.into_iter().map(|below| (below, place.clone())).collect();
        member.relied_on |= !below.is_empty();
        hand_on(member, settled);
        if member.is_done() {
            self.members.remove(&id);
        }
        below
    }

    /// The place of a member, for another one below it.
    fn rely_on(&mut self, id: ExchangeId) -> Option<Place> {
        let member = self.members.get_mut(&id)?;
        member.relied_on = true;
        member.place.clone()
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

    /// The traces of members that are to be handed on but were not yet.
    pub(super) fn traces(&self) -> impl Iterator<Item = TraceId> {
        let open = self.members.values().filter(|member| !member.handed_on);
        open.filter_map(|member| match &member.place {
            Some(Place::Span(span)) => Some(span.trace),
            _ => None,
        })
    }

    fn forget_if_done(&mut self, id: ExchangeId) {
        if self.members.get(&id).is_some_and(Member::is_done) {
            self.members.remove(&id);
        }
    }
}

/// Gives out what is held if the place is known.
fn hand_on<T>(member: &mut Member<T>, settled: &mut Vec<Settled<T>>) {
    if member.suspended {
        return;
    }
    let (Some(place), Some(origin)) = (&member.place, &member.origin) else { return };
    let Some(held) = member.held.take() else { return };
    settled.push(match (place, member.muted) {
        (Place::Span(place), _) => {
            Settled::Span { held, place: Arc::clone(place), origin: origin.clone() }
        }
        (_, muted) => Settled::Muted(muted.map_or(Muted::SdkServer, |(reason, _)| reason)),
    });
    member.handed_on = true;
}
