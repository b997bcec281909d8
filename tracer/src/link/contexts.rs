//! Where the trace context of a call comes from: passed on as a request of the same process
//! brought it, or made by an SDK inside the process.
//!
//! Remembers what the open requests of a process brought, and for a while what answered ones did:
//! work goes on after a response. Knows ids and times only.

use std::collections::{HashMap, VecDeque};

use super::instrumented::Door;
use crate::event::{KernelTime, Pid};
use crate::exchange::ExchangeId;
use crate::trace::context::{RemoteContext, SpanId, TraceId};

/// Nanoseconds for which the context of an answered request is remembered.
const REMEMBERED: u64 = 60 * 1_000_000_000;
/// Contexts of answered requests that are remembered at once; beyond, the oldest is forgotten.
const MAX_ANSWERED: usize = 65_536;

/// What a call's context says of the program that sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Provenance {
    /// These open requests of the process brought it: it was passed on.
    Brought(Vec<ExchangeId>),
    /// Requests that are answered brought it.
    BroughtBefore,
    /// The trace is that of these open requests of the process, the span is its own.
    Continued(Vec<ExchangeId>),
    /// No request of the process that is remembered belongs to this trace.
    Made,
}

#[derive(Clone, Copy, Debug)]
struct Bringer {
    span: SpanId,
    request: ExchangeId,
    door: Door,
}

/// The contexts that requests brought.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    /// Open requests, by process and trace.
    open: HashMap<(Pid, TraceId), Vec<Bringer>>,
    /// What answered requests brought, with the last time one of them did, and where it came in.
    before: HashMap<(Pid, TraceId, SpanId), (KernelTime, Door)>,
    /// In the order of their answers.
    order: VecDeque<(KernelTime, Pid, TraceId, SpanId)>,
}

impl Contexts {
    /// A request brought this context.
    pub(super) fn on_request(&mut self, door: Door, request: ExchangeId, context: &RemoteContext) {
        let bringer = Bringer { span: context.span, request, door };
        self.open.entry((door.pid(), context.trace)).or_default().push(bringer);
    }

    /// Where a request came in that brought this context.
    pub(super) fn door(&self, pid: Pid, trace: TraceId, span: Option<SpanId>) -> Option<Door> {
        let span = span?;
        let open = self.open.get(&(pid, trace)).into_iter().flatten();
        let open = open.filter(|bringer| bringer.span == span).map(|bringer| bringer.door).next();
        open.or_else(|| self.before.get(&(pid, trace, span)).map(|(_, door)| *door))
    }

    /// A request that brought this context was answered, or given up.
    pub(super) fn on_answered(
        &mut self,
        pid: Pid,
        request: ExchangeId,
        context: &RemoteContext,
        at: KernelTime,
    ) {
        let key = (pid, context.trace);
        let Some(open) = self.open.get_mut(&key) else { return };
        let Some(index) = open.iter().position(|bringer| bringer.request == request) else {
            return;
        };
        let Bringer { door, .. } = open.swap_remove(index);
        if open.is_empty() {
            self.open.remove(&key);
        }
        self.before.insert((pid, context.trace, context.span), (at, door));
        self.order.push_back((at, pid, context.trace, context.span));
        if self.order.len() > MAX_ANSWERED {
            self.forget_oldest();
        }
    }

    /// Forgets what was answered too long ago.
    pub(super) fn expire(&mut self, now: KernelTime) {
        while self.order.front().is_some_and(|(at, ..)| now.nanos_since(*at) > REMEMBERED) {
            self.forget_oldest();
        }
    }

    /// Where the context comes from that a call of the process carries; `itself` is the call's own
    /// other end, if that was seen before.
    pub(super) fn provenance(
        &self,
        pid: Pid,
        context: &RemoteContext,
        itself: Option<ExchangeId>,
    ) -> Provenance {
        let open = self.open.get(&(pid, context.trace)).map_or(&[][..], Vec::as_slice);
        let open = || open.iter().filter(|bringer| Some(bringer.request) != itself);
        let unchanged = open().filter(|bringer| bringer.span == context.span);
        let brought: Vec<ExchangeId> = unchanged.map(|bringer| bringer.request).collect();
        let before = self.before.contains_key(&(pid, context.trace, context.span));
        if !brought.is_empty() {
            Provenance::Brought(brought)
        } else if before && itself.is_none() {
            Provenance::BroughtBefore
        } else if open().next().is_none() {
            Provenance::Made
        } else {
            Provenance::Continued(open().map(|bringer| bringer.request).collect())
        }
    }

    fn forget_oldest(&mut self) {
        let Some((at, pid, trace, span)) = self.order.pop_front() else { return };
        // It may have been brought again since.
        if self.before.get(&(pid, trace, span)).is_some_and(|(last, _)| *last == at) {
            self.before.remove(&(pid, trace, span));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ConnId, StreamOffset};
    use crate::trace::context::{TraceFlags, TraceState};

    const SECOND: u64 = 1_000_000_000;

    fn context(trace: u8, span: u8) -> RemoteContext {
        RemoteContext {
            trace: TraceId([trace; 16]),
            span: SpanId([span; 8]),
            flags: TraceFlags::SAMPLED,
            state: TraceState::default(),
        }
    }

    fn request(conn: u64) -> ExchangeId {
        ExchangeId { conn: ConnId(conn), offset: StreamOffset(0) }
    }

    #[test]
    fn passed_on_continued_and_made_contexts_are_told_apart() {
        let mut contexts = Contexts::default();
        contexts.on_request(Door::tcp(Pid(1), 80), request(1), &context(1, 1));
        contexts.on_request(Door::tcp(Pid(1), 81), request(2), &context(1, 2));
        let span = Some(SpanId([2; 8]));
        let door = contexts.door(Pid(1), TraceId([1; 16]), span);
        assert_eq!(door, Some(Door::tcp(Pid(1), 81)));
        let of = |pid, trace, span| contexts.provenance(Pid(pid), &context(trace, span), None);
        assert_eq!(of(1, 1, 2), Provenance::Brought(vec![request(2)]));
        assert_eq!(of(1, 1, 9), Provenance::Continued(vec![request(1), request(2)]));
        let itself = Some(request(2));
        let own = contexts.provenance(Pid(1), &context(1, 2), itself);
        assert_eq!(own, Provenance::Continued(vec![request(1)]), "brought by its own other end");
        assert_eq!(of(1, 9, 1), Provenance::Made, "another trace");
        assert_eq!(of(2, 1, 1), Provenance::Made, "another process");
    }

    #[test]
    fn what_an_answered_request_brought_is_remembered_for_a_while() {
        let mut contexts = Contexts::default();
        contexts.on_request(Door::tcp(Pid(1), 80), request(1), &context(1, 1));
        contexts.on_answered(Pid(1), request(1), &context(1, 1), KernelTime(0));
        let provenance = |contexts: &Contexts| contexts.provenance(Pid(1), &context(1, 1), None);
        contexts.expire(KernelTime(59 * SECOND));
        assert_eq!(provenance(&contexts), Provenance::BroughtBefore);
        contexts.expire(KernelTime(61 * SECOND));
        assert_eq!(provenance(&contexts), Provenance::Made);
        assert!(contexts.before.is_empty() && contexts.open.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let mut contexts = Contexts::default();
        let excess = 10;
        for number in 0..MAX_ANSWERED as u64 + excess {
            let mut context = context(1, 1);
            context.span = SpanId(number.to_be_bytes());
            contexts.on_request(Door::tcp(Pid(1), 80), request(number), &context);
            contexts.on_answered(Pid(1), request(number), &context, KernelTime(number));
        }
        assert_eq!((contexts.order.len(), contexts.before.len()), (MAX_ANSWERED, MAX_ANSWERED));
    }
}
