//! What all evidence together says of a call when it begins.

use super::contexts::Provenance;
use super::family::Settled;
use super::hopes::Hope;
use super::threads::{Clue, Trust};
use super::workers::Told;
use super::{Began, Kind, Linker, Origin};
use crate::exchange::{ExchangeId, Role};
use crate::trace::context::{IdSource, RemoteContext};

impl<T> Linker<T> {
    /// A call of a process: looks for the request that caused it, and gives it if it is known.
    /// It cannot be `itself`, its own other end.
    pub(super) fn call(
        &mut self,
        began: &Began<'_>,
        carried: Option<Box<RemoteContext>>,
        itself: Option<ExchangeId>,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) -> Option<ExchangeId> {
        let Began { id, pid, tid, at, .. } = *began;
        let moment = self.moment_of(tid);
        let waits = moment.map(|moment| moment.waits);
        let within = moment.and_then(|moment| moment.callback);
        let clue = self.threads.on_call(began, waits, itself);
        let clue = self.tasks.on_call(id, pid, clue);
        let task = moment.and_then(|moment| moment.task).filter(|_| carried.is_none());
        let told = self.workers.on_call(id, pid, task, at, itself);
        let clue = told.improve(clue);
        let open = &self.open;
        let is_open = |request| Some(request) != itself && open.contains_key(&request);
        let clue = self.callbacks.on_call(began, within, clue, is_open);
        let in_order = self.orders.on_call(id, tid, clue.candidates());
        let origin = if let Some(carried) = carried {
            match self.contexts.provenance(pid, &carried, itself) {
                Provenance::Brought(requests) => {
                    self.instrumented.on_passed_on(pid);
                    passed_on(&requests, clue, carried)
                }
                // The work outlived its request; whoever sent that is still above it.
                Provenance::BroughtBefore => {
                    self.instrumented.on_passed_on(pid);
                    Some(Origin::Remote(carried))
                }
                Provenance::Continued(requests) => {
                    return self.on_continued(began, carried, &requests, clue, ids, settled);
                }
                Provenance::Made => return self.on_made(began, carried, clue, ids, settled),
            }
        } else {
            if clue != Clue::Root {
                self.instrumented.on_plain(pid);
            }
            clue.origin()
        };
        if let (None, Clue::Unclear { candidates, probable }) = (&origin, clue) {
            let hope = Hope::new(pid, at, candidates, probable)
                .by_task(self.tasks.awaits(id))
                .by_worker(told == Told::Later);
            let hope = match self.callbacks.trust(pid) {
                Trust::Denied => hope.by_order(in_order),
                _ => hope.by_callback(self.callbacks.may_reveal(id)),
            };
            if !self.hopes.add(id, hope) {
                self.tasks.release(id);
            } else if let Some((request, _)) = probable {
                self.family.keep(request);
            }
        }
        let parent = origin.as_ref().and_then(Origin::parent);
        let open = &self.open;
        let decisions = self.timing.on_call(id, pid, began.request, origin.as_ref(), at, || {
            let requests = open.iter().filter(|(request, it)| {
                it.role == Role::Server && it.pid == pid && Some(**request) != itself
            });
            requests.map(|(id, it)| (*id, it.at)).collect()
        });
        match origin {
            Some(origin) => self.family.decide(id, origin, ids, settled),
            None if self.timing.is_suspended(pid) => {
                let origin = Origin::Unclear { candidates: clue.candidates(), related: None };
                self.take_likely(id, origin, ids, settled);
            }
            None => {}
        }
        self.take_decisions(decisions, ids, settled);
        self.settle_hopes(pid, ids, settled);
        parent
    }
}

/// The origin of a call whose context these open requests brought.
fn passed_on(requests: &[ExchangeId], clue: Clue, context: Box<RemoteContext>) -> Option<Origin> {
    match (clue, requests) {
        (Clue::Parent { parent, .. }, _) if requests.contains(&parent) => clue.origin(),
        (_, &[parent]) => {
            Some(Origin::Child { parent, kind: Kind::Header, candidates: 1, confidence: None })
        }
        // Whichever it was, the sender of all of them is above it.
        _ => Some(Origin::Remote(context)),
    }
}
