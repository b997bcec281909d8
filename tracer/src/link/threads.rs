//! What threads tell of parents: who read which request last, and whether this process is one
//! where that means anything.
//!
//! Kinds of process are told apart by what they do, never by name. In a *loyal* one a thread that
//! reads a request also writes its response, and handles nothing else meanwhile: a call that it
//! makes then is for that request. In a *diligent* one at least the thread that writes a response
//! has done all the work for it: the calls it made since the response before are for this request,
//! which is known only then. In a *prompt* one every call is written at once after something was
//! read, as proxies do: it is for what was read last. In all others threads prove nothing. Knows
//! exchanges by id, and no clock; times only order events.

use std::collections::HashMap;

use rustc_hash::{FxHashMap, FxHashSet};

use super::per_process::PerProcess;
use super::{Began, Kind, Origin};
use crate::event::{ConnId, Data, Endpoint, KernelTime, Pid, Tid};
use crate::exchange::ExchangeId;

/// Threads remembered at once; beyond, those silent longest are forgotten.
const MAX_THREADS: usize = 65_536;
/// Connections being made that are remembered at once.
const MAX_DIALED: usize = 65_536;
/// Nanoseconds after which a connection that was never used is forgotten.
pub(super) const DIALED_FOR: u64 = 120 * 1_000_000_000;
/// Unanswered requests of one process; beyond, nothing is concluded from threads.
const MAX_OPEN: usize = 16_384;
/// Called addresses remembered of one process; calls of further ones are not linked because only
/// one request is open.
const MAX_PEERS: usize = 256;
/// Calls of one thread without a response in between; of further ones nothing is proven.
const MAX_MADE: usize = 64;
/// Cases that are needed before a process' habit counts.
pub(super) const ENOUGH: u32 = 32;
/// Cases after which older ones count half.
const WINDOW: u32 = 8_192;
/// Exceptions to a habit that are borne: one in so many cases.
const BORNE: u32 = 1_000;

/// What was going on when a call was made or its connection opened.
#[derive(Clone, Copy, Debug, Default)]
struct Spot {
    /// The one request that the thread has read and nobody has answered.
    alone: Option<ExchangeId>,
    /// The request that the thread worked on when it last read something, if it has not waited for
    /// anything since.
    at_once: Option<ExchangeId>,
}

/// How often a process does what a rule relies on, lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Habit {
    cases: u32,
    exceptions: u32,
}

impl Habit {
    pub(super) fn observe(&mut self, as_expected: bool) {
        self.cases += 1;
        self.exceptions += u32::from(!as_expected);
        if self.cases >= WINDOW {
            self.cases /= 2;
            self.exceptions /= 2;
        }
    }

    /// Whether there are cases and no exceptions.
    pub(super) fn is_unblemished(self) -> bool {
        self.cases > 0 && self.exceptions == 0
    }

    pub(super) fn trust(self) -> Trust {
        if self.exceptions > 0 && self.exceptions * BORNE > self.cases {
            Trust::Denied
        } else if self.cases < ENOUGH {
            Trust::Open
        } else {
            Trust::Given
        }
    }
}

#[derive(Debug, Default)]
struct Thread {
    /// Requests it read that are unanswered.
    open: FxHashSet<ExchangeId>,
    /// It has read some.
    serves: bool,
    /// What it last read for.
    baton: Option<ExchangeId>,
    /// That was a request, and it has called nobody since.
    asked: bool,
    /// Its count of waits at that time.
    waits: u32,
    last: KernelTime,
    /// Calls it made since it last began a response, and whether each is over.
    made: Vec<Made>,
}

#[derive(Clone, Copy, Debug)]
struct Made {
    call: ExchangeId,
    at: KernelTime,
    over: bool,
}

#[derive(Debug, Default)]
struct Process {
    /// Unanswered requests, by who read them.
    open: FxHashMap<ExchangeId, (Tid, KernelTime)>,
    /// Who is called, and how often because of a request.
    peers: HashMap<Endpoint, Habit>,
    loyal: Habit,
    diligent: Habit,
    prompt: Habit,
}

/// What a response tells of the calls that the thread which wrote it has made.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Those that can be for this request.
    pub(super) own: Vec<ExchangeId>,
    /// Those that cannot.
    pub(super) others: Vec<ExchangeId>,
}

/// What is known of a call's parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clue {
    /// No request was open.
    Root,
    /// It was this one.
    Parent {
        /// Which.
        parent: ExchangeId,
        /// Why.
        kind: Kind,
        /// Requests that were open.
        candidates: usize,
    },
    /// One of several.
    Unclear {
        /// How many.
        candidates: usize,
        /// Which one it is if the process turns out to have the habit that this relies on.
        probable: Option<(ExchangeId, Kind)>,
    },
}

/// Whether a habit can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Not enough cases yet.
    Open,
    Given,
    Denied,
}

impl Trust {
    /// In two things that are relied on together.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Denied, _) | (_, Self::Denied) => Self::Denied,
            (Self::Open, _) | (_, Self::Open) => Self::Open,
            (Self::Given, Self::Given) => Self::Given,
        }
    }
}

impl Clue {
    /// How many requests were open.
    pub(super) fn candidates(self) -> usize {
        match self {
            Self::Root => 0,
            Self::Parent { candidates, .. } | Self::Unclear { candidates, .. } => candidates,
        }
    }

    /// The parent, if it is known.
    pub(super) fn parent(self) -> Option<ExchangeId> {
        match self {
            Self::Parent { parent, .. } => Some(parent),
            Self::Root | Self::Unclear { .. } => None,
        }
    }

    /// What it means for the call; `None` if that is still open.
    pub(super) fn origin(self) -> Option<Origin> {
        match self {
            Self::Root => Some(Origin::Root),
            Self::Parent { parent, kind, candidates } => {
                Some(Origin::Child { parent, kind, candidates, confidence: None })
            }
            Self::Unclear { .. } => None,
        }
    }
}

/// All threads that were seen.
#[derive(Debug, Default)]
pub(super) struct Threads {
    by_id: FxHashMap<Tid, Thread>,
    processes: PerProcess<Process>,
    dialed: FxHashMap<ConnId, (KernelTime, Spot)>,
}

impl Threads {
    /// A thread begins to make a connection.
    pub(super) fn on_connecting(&mut self, conn: ConnId, tid: Tid, waits: u32, at: KernelTime) {
        if self.dialed.len() < MAX_DIALED {
            let spot = self.spot(tid, waits);
            self.dialed.insert(conn, (at, spot));
            self.thread(tid).asked = false;
        }
    }

    /// A thread read something that belongs to `request`: a part of it, or of the response to a
    /// call that it caused. `None` if that is not known.
    pub(super) fn on_read(&mut self, data: &Data<'_>, request: Option<ExchangeId>) {
        let &Data { conn, tid, waits, time, .. } = data;
        let thread = self.thread(tid);
        thread.baton = request;
        thread.asked = request.is_some_and(|request| request.conn == conn);
        thread.waits = waits;
        thread.last = time;
    }

    /// A request began; `tid` read its first byte.
    pub(super) fn on_request(&mut self, id: ExchangeId, pid: Pid, tid: Tid, at: KernelTime) {
        let Some(process) = self.processes.remember(pid) else { return };
        if process.open.len() >= MAX_OPEN {
            return;
        }
        process.open.insert(id, (tid, at));
        // One that reads several requests before it calls for any is not prompt.
        if let Some(thread) = self.by_id.get(&tid)
            && thread.asked
            && let Some(before) = thread.baton
            && let Some(process) = self.processes.get_mut(pid)
            && process.open.contains_key(&before)
            && before != id
        {
            process.prompt.observe(false);
        }
        let thread = self.thread(tid);
        thread.serves = true;
        thread.open.insert(id);
    }

    /// A response began; `tid` wrote its first byte. Gives the calls it made since the last one.
    pub(super) fn on_response(&mut self, id: ExchangeId, pid: Pid, tid: Tid) -> Work {
        let Some(process) = self.processes.get_mut(pid) else { return Work::default() };
        let Some(&(reader, began)) = process.open.get(&id) else { return Work::default() };
        let alone = self.by_id.get(&reader).is_some_and(|thread| thread.open.len() == 1);
        process.loyal.observe(reader == tid && alone);

        let Some(writer) = self.by_id.get_mut(&tid) else { return Work::default() };
        let made = std::mem::take(&mut writer.made);
        if made.is_empty() {
            return Work::default();
        }
        // One that has read several requests may have made any of its calls for any of them.
        let is_for_one = writer.open.len() <= 1;
        let is_own = |call: &Made| is_for_one && call.over && call.at >= began;
        for call in &made {
            process.diligent.observe(is_own(call));
        }
        let (own, others): (Vec<_>, Vec<_>) = made.into_iter().partition(is_own);
        let ids = |calls: Vec<Made>| calls.into_iter().map(|made| made.call).collect();
        Work { own: ids(own), others: ids(others) }
    }

    /// The unanswered requests of a process, in no order.
    pub(super) fn open_requests(&self, pid: Pid) -> impl Iterator<Item = ExchangeId> {
        self.processes.get(pid).into_iter().flat_map(|process| process.open.keys().copied())
    }

    /// Whether links of this kind are right in this process.
    pub(super) fn trust(&self, pid: Pid, kind: Kind) -> Trust {
        let Some(process) = self.processes.get(pid) else { return Trust::Denied };
        match kind {
            Kind::Thread => process.loyal.trust(),
            Kind::Worker => process.diligent.trust(),
            Kind::Tick => process.prompt.trust(),
            Kind::Header
            | Kind::Pair
            | Kind::Coroutine
            | Kind::Task
            | Kind::RelatedTask
            | Kind::Callback
            | Kind::Order
            | Kind::Sole
            | Kind::Timing => Trust::Given,
        }
    }

    /// A request was answered, or given up.
    pub(super) fn on_answered(&mut self, id: ExchangeId, pid: Pid) {
        let Some(process) = self.processes.get_mut(pid) else { return };
        let Some((reader, _)) = process.open.remove(&id) else { return };
        if let Some(thread) = self.by_id.get_mut(&reader) {
            thread.open.remove(&id);
        }
    }

    /// A call's response began: `caller` wrote its request, `reader` reads.
    pub(super) fn on_call_answered(&mut self, pid: Pid, caller: Tid, reader: Tid) {
        if let Some(process) = self.processes.get_mut(pid)
            && !process.open.is_empty()
        {
            process.loyal.observe(caller == reader);
        }
    }

    /// A call is over; `tid` made it.
    pub(super) fn on_call_over(&mut self, id: ExchangeId, tid: Tid) {
        if let Some(thread) = self.by_id.get_mut(&tid)
            && let Some(made) = thread.made.iter_mut().find(|made| made.call == id)
        {
            made.over = true;
        }
    }

    /// A call began; says what is known of its parent, which is not the request that is the call's
    /// other end.
    pub(super) fn on_call(
        &mut self,
        began: &Began<'_>,
        waits: Option<u32>,
        itself: Option<ExchangeId>,
    ) -> Clue {
        let Began { id, pid, tid, at, .. } = *began;
        let dialed = self.dialed.remove(&id.conn);
        if let Some(thread) = self.by_id.get_mut(&tid) {
            thread.asked = false;
        }
        let here = waits.map_or_else(Spot::default, |waits| self.spot(tid, waits));
        let Some(process) = self.processes.remember(pid) else { return Clue::Root };
        let mine = itself.is_some_and(|itself| process.open.contains_key(&itself));
        let candidates = process.open.len() - usize::from(mine);
        let open = |id: &ExchangeId| process.open.contains_key(id) && Some(*id) != itself;
        // The first call on a connection is the one it was made for.
        let at_once = match dialed {
            Some((_, spot)) => spot.at_once.filter(open).or(here.at_once.filter(open)),
            None => here.at_once.filter(open),
        };
        let peers = &mut process.peers;
        let peer = began.ends.remote.endpoint();
        let room = peers.len() < MAX_PEERS || peers.contains_key(peer);
        let asked = room.then(|| {
            let asked = peers.entry(peer.clone()).or_default();
            asked.observe(candidates > 0);
            *asked
        });
        if candidates == 0 {
            return Clue::Root;
        }
        process.prompt.observe(at_once.is_some());
        let loyal = (here.alone.filter(open), Kind::Thread, process.loyal.trust());
        let prompt = (at_once, Kind::Tick, process.prompt.trust());
        let with = |wanted| {
            [loyal, prompt].into_iter().find_map(|(parent, kind, trust)| {
                parent.filter(|_| trust == wanted).map(|parent| (parent, kind))
            })
        };
        if let Some((parent, kind)) = with(Trust::Given) {
            return Clue::Parent { parent, kind, candidates };
        }
        let asked = asked.is_some_and(|asked| asked.trust() != Trust::Denied);
        let sole = process.open.keys().copied().find(open).filter(|_| candidates == 1 && asked);
        let probable = with(Trust::Open);
        // The first call on a connection is not for a request that came after it was dialed.
        let too_young = |request: &ExchangeId| {
            dialed.is_some_and(|(at, _)| process.open.get(request).is_some_and(|it| it.1 > at))
        };
        let sole = sole.filter(|request| !too_young(request));
        let trust = process.loyal.trust();
        let thread = self.thread(tid);
        if thread.made.len() < MAX_MADE {
            thread.made.push(Made { call: id, at, over: false });
        }
        // One that has answered its own request does not work for another thread's.
        let at_rest = thread.serves && thread.open.is_empty() && trust != Trust::Denied;
        let sole = sole.filter(|_| !at_rest);
        match sole {
            Some(parent) => Clue::Parent { parent, kind: Kind::Sole, candidates },
            None => Clue::Unclear { candidates, probable },
        }
    }

    /// Nothing more will come of a connection.
    pub(super) fn on_closed(&mut self, conn: ConnId) {
        self.dialed.remove(&conn);
    }

    /// A process exited, and its threads with it.
    pub(super) fn on_gone(&mut self, pid: Pid) {
        if let Some(process) = self.processes.forget(pid) {
            for (tid, _) in process.open.values() {
                self.by_id.remove(tid);
            }
        }
        self.by_id.remove(&Tid(pid.0));
    }

    /// Forgets connections that were never used, and requests that have been open for longer than
    /// `longest` nanoseconds; gives how many of these there were.
    pub(super) fn expire(&mut self, now: KernelTime, longest: u64) -> u64 {
        self.dialed.retain(|_, (at, _)| now.nanos_since(*at) < DIALED_FOR);
        let mut outlived = 0;
        let threads = &mut self.by_id;
        for (_, process) in self.processes.iter_mut() {
            process.open.retain(|id, (reader, began)| {
                let stays = now.nanos_since(*began) <= longest;
                if !stays {
                    outlived += 1;
                    if let Some(thread) = threads.get_mut(reader) {
                        thread.open.remove(id);
                    }
                }
                stays
            });
        }
        outlived
    }

    fn thread(&mut self, tid: Tid) -> &mut Thread {
        if self.by_id.len() >= MAX_THREADS && !self.by_id.contains_key(&tid) {
            self.forget_silent();
        }
        self.by_id.entry(tid).or_default()
    }

    fn spot(&self, tid: Tid, waits: u32) -> Spot {
        let Some(thread) = self.by_id.get(&tid) else { return Spot::default() };
        Spot {
            alone: thread.open.iter().next().copied().filter(|_| thread.open.len() == 1),
            at_once: thread.baton.filter(|_| thread.waits == waits),
        }
    }

    /// Makes room by forgetting the older half of the threads that have nothing open.
    fn forget_silent(&mut self) {
        let idle = self.by_id.values().filter(|thread| thread.open.is_empty());
        let mut times: Vec<KernelTime> = idle.map(|thread| thread.last).collect();
        if times.is_empty() {
            self.by_id.clear();
            return;
        }
        let middle = times.len() / 2;
        let middle = *times.select_nth_unstable(middle).1;
        self.by_id.retain(|_, thread| !thread.open.is_empty() || thread.last > middle);
    }
}
