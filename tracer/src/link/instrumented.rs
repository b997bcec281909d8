//! Programs that report spans of their own: which of their requests an SDK reports already, so
//! that no second span is made of them.
//!
//! Told by what a program does. A call that carries a context which no request brought was made
//! under a span of an SDK. If its trace is that of a request, with another span, the SDK made
//! spans around that request too; so it probably did if the request brought no context. But if
//! the request brought another trace, or calls of one request carry different ones, only calls
//! are instrumented: then the requests are ours to report. Best of all, the program's own exports
//! name the requests that it reports. Judged for each port of a process by itself, since one
//! program can serve by several libraries.
//!
//! A program without an SDK may look like one with, where a request that brought the context was
//! not seen. So what programs without an SDK do counts as well: passing contexts on, and calling
//! without one.
//! Knows exchanges by id; which call belongs to which request is found out elsewhere.

use std::collections::HashMap;

use rustc_hash::FxHashMap;

use crate::event::{KernelTime, Pid};
use crate::exchange::{Ends, ExchangeId};
use crate::trace::context::TraceId;

/// Processes that are judged at once; of further ones everything is reported.
const MAX_PROCESSES: usize = 16_384;
/// Ports judged of one process.
const MAX_DOORS: usize = 64;
/// Cases that count as much as one to the contrary, where they prove less than that.
const WEIGHT: u32 = 4;
/// Cases after which older ones count half.
const WINDOW: u32 = 4_096;

/// Nanoseconds from the first request that came in by a door of a program with an SDK, in which
/// answered ones are held until it shows who reports them. SDKs export every 5 s.
pub(super) const PATIENCE: u64 = 6_500_000_000;

/// Why an exchange becomes no span of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Muted {
    /// It carries telemetry to a collector.
    OtlpExport,
    /// The SDK that gave the call its context reports the call.
    SdkClient,
    /// The process' SDK reports its requests.
    SdkServer,
}

impl Muted {
    /// As reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OtlpExport => "otlp_export",
            Self::SdkClient => "sdk_client_span",
            Self::SdkServer => "sdk_server_span",
        }
    }
}

/// Where a process takes requests: a TCP port, or (all as one) its Unix sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Door {
    pid: Pid,
    port: Option<u16>,
}

impl Door {
    pub(super) fn new(pid: Pid, ends: &Ends) -> Self {
        Self { pid, port: ends.local.port() }
    }

    #[cfg(test)]
    pub(super) fn tcp(pid: Pid, port: u16) -> Self {
        Self { pid, port: Some(port) }
    }

    pub(super) fn pid(self) -> Pid {
        self.pid
    }
}

/// Who reports the requests that come in by a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reporter {
    /// We do.
    Us,
    /// The program's SDK does.
    Sdk,
    /// The program has an SDK, but it is not known whether that reports requests.
    Unknown,
}

/// What requests of one door have shown.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// When the first one came.
    first: Option<KernelTime>,
    /// The program has exported a span around one.
    exported: bool,
    /// Calls that went on in the trace of one, or of another call for it.
    around: u32,
    /// Requests without a context whose calls carried one.
    began: u32,
    /// Requests whose calls carried the context of something else.
    apart: u32,
}

/// What a process has shown.
#[derive(Debug, Default)]
struct Program {
    /// It seems to have an SDK.
    instrumented: bool,
    /// Calls that passed on the context of a request.
    passed_on: u32,
    /// Calls without a context while requests were open.
    plain: u32,
    doors: HashMap<Option<u16>, Tally>,
}

impl Program {
    fn reporter(&self, port: Option<u16>) -> Reporter {
        let tally = self.doors.get(&port).copied().unwrap_or_default();
        let around = tally.around > 0 && tally.around >= self.passed_on;
        let began = tally.began > WEIGHT * tally.apart
            && WEIGHT * tally.began > self.plain
            && tally.began > self.passed_on;
        if tally.exported || around || began {
            Reporter::Sdk
        } else if !self.instrumented || tally.apart > 0 || self.passed_on > 0 {
            Reporter::Us
        } else {
            Reporter::Unknown
        }
    }
}

fn count(cases: &mut u32) {
    *cases = if *cases >= WINDOW { WINDOW / 2 } else { *cases + 1 };
}

/// A request without a context, or with one that its calls do not go on with.
#[derive(Clone, Copy, Debug)]
struct Made {
    trace: TraceId,
    apart: bool,
}

/// All programs with an SDK.
#[derive(Debug, Default)]
pub(super) struct Instrumented {
    programs: FxHashMap<Pid, Program>,
    /// The trace that the calls of an open request began.
    made: FxHashMap<ExchangeId, Made>,
}

impl Instrumented {
    /// A process seems to have an SDK.
    pub(super) fn on_instrumented(&mut self, pid: Pid) {
        if let Some(program) = self.program(pid) {
            program.instrumented = true;
        }
    }

    /// A call passed on the context of a request.
    pub(super) fn on_passed_on(&mut self, pid: Pid) {
        if let Some(program) = self.program(pid) {
            count(&mut program.passed_on);
        }
    }

    /// A call carried no context while requests were open.
    pub(super) fn on_plain(&mut self, pid: Pid) {
        if let Some(program) = self.program(pid) {
            count(&mut program.plain);
        }
    }

    /// A request came in by a door: who reports it?
    pub(super) fn on_request(&mut self, door: Door, at: KernelTime) -> Reporter {
        let Some(program) = self.programs.get(&door.pid) else { return Reporter::Us };
        if program.instrumented
            && let Some(tally) = self.tally(door)
        {
            tally.first.get_or_insert(at);
        }
        self.reporter(door)
    }

    /// Whether it is worth waiting for the program to show who reports the requests of a door.
    pub(super) fn is_worth_waiting(&self, door: Door, now: KernelTime) -> bool {
        let tally = self.programs.get(&door.pid).and_then(|program| program.doors.get(&door.port));
        let first = tally.and_then(|tally| tally.first);
        first.is_none_or(|first| now.nanos_since(first) < PATIENCE)
    }

    /// The doors of a process that requests came in by since it is known to have an SDK.
    pub(super) fn doors(&self, pid: Pid) -> Vec<Door> {
        let ports = self.programs.get(&pid).into_iter().flat_map(|program| program.doors.keys());
        ports.map(|port| Door { pid, port: *port }).collect()
    }

    /// Who reports the requests of a door.
    pub(super) fn reporter(&self, door: Door) -> Reporter {
        let program = self.programs.get(&door.pid);
        program.map_or(Reporter::Us, |program| program.reporter(door.port))
    }

    /// The program exported a span around a request that came in by this door.
    pub(super) fn on_exported(&mut self, door: Door) {
        if let Some(tally) = self.tally(door) {
            tally.exported = true;
        }
    }

    /// A call went on in the trace of a request that came by this door, under another span.
    pub(super) fn on_continued(&mut self, door: Door) {
        if let Some(tally) = self.tally(door) {
            count(&mut tally.around);
        }
    }

    /// A call carried this context, which the request that it was made for did not bring;
    /// `brought` says whether that brought any. Gives the trace of the request's SDK span, if it
    /// has one.
    pub(super) fn on_made(
        &mut self,
        request: ExchangeId,
        door: Door,
        brought: bool,
        trace: TraceId,
    ) -> Option<TraceId> {
        let known = self.made.get(&request).copied();
        let made = known.unwrap_or(Made { trace, apart: brought });
        let apart = made.apart || made.trace != trace;
        self.made.insert(request, Made { apart, ..made });
        let tally = self.tally(door)?;
        match (known, apart) {
            (None, false) => count(&mut tally.began),
            (Some(Made { apart: false, .. }), true) => {
                tally.began = tally.began.saturating_sub(1);
                count(&mut tally.apart);
            }
            (None, true) => count(&mut tally.apart),
            // A second call in the same trace: there is a span around both.
            (Some(_), false) => count(&mut tally.around),
            (Some(Made { apart: true, .. }), true) => {}
        }
        (!apart).then_some(made.trace)
    }

    /// A call carried a context of the program's making, while only requests without a context
    /// were open, of this door among others; it was made for one of them, or for none.
    pub(super) fn on_made_by_any(&mut self, door: Door) {
        if let Some(tally) = self.tally(door) {
            count(&mut tally.began);
        }
    }

    /// A request was answered, or given up.
    pub(super) fn on_answered(&mut self, request: ExchangeId) {
        self.made.remove(&request);
    }

    /// A process exited.
    pub(super) fn on_gone(&mut self, pid: Pid) {
        self.programs.remove(&pid);
    }

    fn program(&mut self, pid: Pid) -> Option<&mut Program> {
        if self.programs.len() >= MAX_PROCESSES && !self.programs.contains_key(&pid) {
            return None;
        }
        Some(self.programs.entry(pid).or_default())
    }

    fn tally(&mut self, door: Door) -> Option<&mut Tally> {
        let doors = &mut self.programs.get_mut(&door.pid)?.doors;
        if doors.len() >= MAX_DOORS && !doors.contains_key(&door.port) {
            return None;
        }
        Some(doors.entry(door.port).or_default())
    }
}
