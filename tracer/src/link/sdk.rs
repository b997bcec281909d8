//! What the linker does about exchanges that an SDK reports: [`super::instrumented`] judges, this
//! carries it out.
//!
//! A call whose context an SDK made is that SDK's span, and no span of ours: the request at its
//! other end is below it. A request that an SDK reports is no span of ours either; calls made for
//! it that the SDK does not know of are placed below the nearest span that is known: the request's
//! sender, as far as the SDK stayed in the sender's trace, and otherwise in the trace that the
//! SDK's calls for this request show.

use std::collections::HashSet;

use super::instrumented::PATIENCE;
use super::{
    Began, Clue, Door, ExchangeId, IdSource, KernelTime, Linker, Muted, Origin, Pid, Placed,
    RemoteContext, Reporter, Role, Settled,
};
use crate::telemetry::ServerSpan;

/// Answered requests that wait at once for their program to show who reports them; beyond, the
/// oldest is reported by us.
const MAX_AWAITING: usize = 8_192;

/// An answered request that an SDK may report.
#[derive(Debug)]
pub(super) struct Awaiting {
    id: ExchangeId,
    door: Door,
    since: KernelTime,
}

impl<T> Linker<T> {
    /// A process is known to have an SDK.
    pub fn on_instrumented(&mut self, pid: Pid) {
        self.instrumented.on_instrumented(pid);
    }

    /// An exchange carries telemetry: it is nobody's span, and tells nothing of other exchanges.
    pub(super) fn on_export(
        &mut self,
        id: ExchangeId,
        role: Role,
        pid: Pid,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        if role == Role::Client {
            self.on_instrumented(pid);
        }
        self.family.mute(id, Muted::OtlpExport, None);
        self.family.decide(id, Origin::Root, ids, settled);
    }

    /// A request began: has it become no span if an SDK reports it, and leaves that open if an SDK
    /// might.
    pub(super) fn ask_who_reports(
        &mut self,
        id: ExchangeId,
        door: Door,
        carried: Option<&RemoteContext>,
        at: KernelTime,
    ) {
        if let Some(context) = carried {
            self.contexts.on_request(door, id, context);
        }
        match self.instrumented.on_request(door, at) {
            Reporter::Us => {}
            Reporter::Unknown => self.family.suspend(id),
            Reporter::Sdk => {
                self.family.mute(id, Muted::SdkServer, None);
                if carried.is_none() {
                    // Its trace may be told by a call.
                    self.family.suspend(id);
                }
            }
        }
    }

    /// A request is over: who reports it is settled now, or after a while if that is worth it.
    pub(super) fn settle_who_reports(
        &mut self,
        id: ExchangeId,
        door: Option<Door>,
        at: KernelTime,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        self.instrumented.on_answered(id);
        let Some(door) = door else { return };
        match self.instrumented.reporter(door) {
            Reporter::Unknown if self.instrumented.is_worth_waiting(door, at) => {
                self.family.suspend(id);
                self.awaiting.push_back(Awaiting { id, door, since: at });
                if self.awaiting.len() > MAX_AWAITING
                    && let Some(oldest) = self.awaiting.pop_front()
                {
                    self.family.resume(oldest.id, ids, settled);
                }
                return;
            }
            Reporter::Us | Reporter::Unknown => {}
            Reporter::Sdk => self.family.mute(id, Muted::SdkServer, None),
        }
        self.family.resume(id, ids, settled);
    }

    /// Settles answered requests of which nothing more came to light in time.
    pub(super) fn await_no_longer(
        &mut self,
        now: KernelTime,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        let late = |awaiting: &Awaiting| now.nanos_since(awaiting.since) >= PATIENCE;
        while self.awaiting.front().is_some_and(late)
            && let Some(Awaiting { id, .. }) = self.awaiting.pop_front()
        {
            self.family.resume(id, ids, settled);
        }
    }

    /// A process exported these spans around requests.
    pub fn on_exported(
        &mut self,
        pid: Pid,
        spans: &[ServerSpan],
        ids: &mut IdSource,
        placed: &mut Vec<Placed<T>>,
    ) {
        self.on_instrumented(pid);
        let mut doors: HashSet<Door> = HashSet::new();
        for span in spans {
            doors.extend(self.contexts.door(pid, span.trace, span.parent));
        }
        // A span without a parent can be of any request without a context.
        if let (true, &[door]) = (doors.is_empty(), &*self.instrumented.doors(pid)) {
            doors.extend(spans.iter().find(|span| span.parent.is_none()).map(|_| door));
        }
        let mut settled = std::mem::take(&mut self.settled);
        for door in doors {
            let before = self.instrumented.reporter(door);
            self.instrumented.on_exported(door);
            self.mute_all(door, before, ids, &mut settled);
        }
        self.hand_on(settled, placed);
    }

    /// A call of an SDK in the trace of one of these requests. Gives the one it was made for, if
    /// that is known.
    pub(super) fn on_continued(
        &mut self,
        began: &Began<'_>,
        context: Box<RemoteContext>,
        requests: &[ExchangeId],
        clue: Clue,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) -> Option<ExchangeId> {
        self.mute_call(began, context, ids, settled);
        let doors: HashSet<Door> = requests.iter().filter_map(|id| self.door_of(*id)).collect();
        for door in doors {
            let before = self.instrumented.reporter(door);
            self.instrumented.on_continued(door);
            self.mute_all(door, before, ids, settled);
        }
        match requests {
            [request] => Some(*request),
            _ => clue.parent().filter(|parent| requests.contains(parent)),
        }
    }

    /// A call of an SDK in a trace that no request brought. Gives the request it was made for, if
    /// that is known.
    pub(super) fn on_made(
        &mut self,
        began: &Began<'_>,
        context: Box<RemoteContext>,
        clue: Clue,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) -> Option<ExchangeId> {
        let trace = context.trace;
        self.mute_call(began, context, ids, settled);
        let Some((request, open)) = clue.parent().and_then(|id| Some((id, self.open.get(&id)?)))
        else {
            self.on_made_by_any(began.pid, ids, settled);
            return None;
        };
        let brought = open.carried.is_some();
        let door = open.door?;
        let before = self.instrumented.reporter(door);
        let around = self.instrumented.on_made(request, door, brought, trace);
        if let Some(trace) = around
            && self.instrumented.reporter(door) == Reporter::Sdk
        {
            self.family.mute(request, Muted::SdkServer, Some(trace));
            self.family.resume(request, ids, settled);
        }
        self.mute_all(door, before, ids, settled);
        Some(request)
    }

    /// The call was made for one of the open requests, or for none.
    fn on_made_by_any(&mut self, pid: Pid, ids: &mut IdSource, settled: &mut Vec<Settled<T>>) {
        let mut doors = HashSet::new();
        for request in self.threads.open_requests(pid) {
            let Some(open) = self.open.get(&request) else { continue };
            if open.carried.is_some() {
                return;
            }
            doors.extend(open.door);
        }
        doors.retain(|door| self.instrumented.reporter(*door) == Reporter::Unknown);
        for door in doors {
            self.instrumented.on_made_by_any(door);
            self.mute_all(door, Reporter::Unknown, ids, settled);
        }
    }

    fn mute_call(
        &mut self,
        began: &Began<'_>,
        context: Box<RemoteContext>,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        self.instrumented.on_instrumented(began.pid);
        self.tasks.release(began.id);
        self.family.mute(began.id, Muted::SdkClient, None);
        self.family.decide(began.id, Origin::Remote(context), ids, settled);
    }

    /// If it just turned out that an SDK reports what comes in by this door, has what came in
    /// become no spans.
    fn mute_all(
        &mut self,
        door: Door,
        before: Reporter,
        ids: &mut IdSource,
        settled: &mut Vec<Settled<T>>,
    ) {
        if before == Reporter::Sdk || self.instrumented.reporter(door) != Reporter::Sdk {
            return;
        }
        for Awaiting { id, .. } in self.awaiting.iter().filter(|it| it.door == door) {
            self.family.mute(*id, Muted::SdkServer, None);
            self.family.resume(*id, ids, settled);
        }
        self.awaiting.retain(|it| it.door != door);
        let requests: Vec<ExchangeId> = self.threads.open_requests(door.pid()).collect();
        for request in requests {
            let Some(open) = self.open.get(&request) else { continue };
            if open.door == Some(door) {
                let carried = open.carried.is_some();
                self.family.mute(request, Muted::SdkServer, None);
                if carried {
                    self.family.resume(request, ids, settled);
                }
            }
        }
    }

    fn door_of(&self, request: ExchangeId) -> Option<Door> {
        self.open.get(&request)?.door
    }
}
