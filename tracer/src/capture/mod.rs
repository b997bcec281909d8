//! The only code that touches eBPF: load, attach, read the ring, hand out [`Event`]s, and carry
//! decisions back to the kernel half. Knows nothing of HTTP.

mod attachability;
mod attention;
mod decode;
mod kernel_types;
mod loader;
mod losses;
mod probe_times;
mod redirect;
mod rehearsal;
mod runtimes;
mod unix_sockets;

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::OwnedFd;

use aya::Ebpf;
use aya::maps::{Array, HashMap as BpfHashMap, MapData, MapError, RingBuf};
use tracer_ebpf::{phase, process_flag, setting, verdict};

pub use attachability::{ProbeCheck, check_probes, redirect_alone};
pub use attention::Attention;
pub use kernel_types::KernelTypesError;
pub use loader::{Backend, LoadError, Options, Redirecting, Unknown};
pub use losses::KernelCounters;
pub use redirect::{
    AddressRange, BEAT, Groups, Handed, Netns, Range, Redirect, RedirectCounters, RedirectError,
    RedirectScope,
};

use runtimes::Runtimes;
use unix_sockets::{Look, UnixSockets};

use crate::event::{ClockOffset, ConnId, Event, KernelTime, Pid};
use crate::layout::Layout;

/// Connection verdicts the kernel half has not picked up are withdrawn after this many newer ones.
const REMEMBERED_VERDICTS: usize = 16_384;
/// Interval of looking for ended Unix sockets.
const LOOK_NANOS: u64 = 1_000_000_000;

/// `BPF_ANY` and `BPF_EXIST`.
const ANY: u64 = 0;
const EXISTING: u64 = 2;

/// What the kernel half shall do with a connection from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionVerdict {
    /// Deliver every message.
    Follow,
    /// Deliver nothing any more.
    Ignore,
}

/// What the kernel half shall do with a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Treatment {
    /// It is a target.
    pub trace: bool,
    /// Its future children are targets if it is, and `exec` does not change that.
    pub lineage: bool,
    /// Its connections may be redirected where only chosen ones are.
    pub propagate: bool,
}

/// A running capture. Dropping it detaches everything: links are held by descriptor only.
pub struct Capture {
    backend: Backend,
    /// Holds the links; the maps below were taken out of it.
    object: Ebpf,
    ring: RingBuf<MapData>,
    attention: Attention,
    settings: Array<MapData, u32>,
    /// Laid out as `ProcessState`: verdict, flags, runtime, padding.
    processes: BpfHashMap<MapData, u32, [u8; 4]>,
    verdicts: BpfHashMap<MapData, u64, u8>,
    runtimes: Runtimes,
    undelivered: VecDeque<ConnId>,
    counters: losses::CounterMap,
    /// Hides kernel addresses that serve as identities.
    identities: RandomState,
    records: u64,
    copied_bytes: u64,
    /// Keeps the kernel measuring for as long as it is open.
    measuring: Option<OwnedFd>,
    malformed: u64,
    ring_bytes: u64,
    unix_sockets: UnixSockets,
    last_look: KernelTime,
}

impl Capture {
    /// Loads and attaches. Needs the capabilities that `tracer doctor` lists.
    pub fn start(options: &Options) -> Result<Self, LoadError> {
        let (mut object, backend) = loader::load(options)?;
        let mut take = |name| object.take_map(name).ok_or(LoadError::Missing(name));
        let map_error = |map: &'static str| {
            move |source: MapError| LoadError::Map { map, source: Box::new(source) }
        };
        let ring = take("EVENTS")?.try_into().map_err(map_error("EVENTS"))?;
        let attention = Attention::of(&ring).map_err(LoadError::Wait)?;
        let settings = take("SETTINGS")?.try_into().map_err(map_error("SETTINGS"))?;
        let processes = take("PROCESSES")?.try_into().map_err(map_error("PROCESSES"))?;
        let verdicts = take("VERDICTS")?.try_into().map_err(map_error("VERDICTS"))?;
        let runtimes = Runtimes::new(take("RUNTIMES")?, take("PYTHONS")?);
        let runtimes = runtimes.map_err(map_error("RUNTIMES"))?;
        let counters = take("COUNTERS")?.try_into().map_err(map_error("COUNTERS"))?;
        Ok(Self {
            backend,
            object,
            ring,
            attention,
            settings,
            processes,
            verdicts,
            runtimes,
            undelivered: VecDeque::new(),
            counters,
            identities: RandomState::new(),
            records: 0,
            copied_bytes: 0,
            measuring: None,
            malformed: 0,
            ring_bytes: options.ring_bytes.into(),
            unix_sockets: UnixSockets::default(),
            last_look: KernelTime::default(),
        })
    }

    /// Loads the programs that send connections of traced processes to the agent, and attaches
    /// them to the control groups. Nothing is redirected before [`Redirect::beat`]. Once only, and
    /// only if [`Options::redirect`] said so.
    pub fn redirect(
        &mut self,
        scope: &RedirectScope,
        groups: &Groups,
    ) -> Result<Redirect, RedirectError> {
        Redirect::load(&mut self.object, scope, groups)
    }

    /// Which backend was chosen.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// What tells that the kernel half asks for attention.
    pub fn attention(&self) -> Attention {
        self.attention.clone()
    }

    /// Hands every waiting event to `handle`, oldest first, at most `limit` of them. Returns how
    /// many there were.
    pub fn drain(&mut self, limit: usize, mut handle: impl FnMut(Event<'_>)) -> usize {
        let look = self.look_at_unix_sockets();
        let mut drained = 0;
        while drained < limit {
            let Some(item) = self.ring.next() else { break };
            drained += 1;
            match decode::event(&item) {
                Ok(Event::Opened(mut opened)) => {
                    let (own, peer) = opened.unix_pair;
                    opened.unix_pair =
                        (hidden(&self.identities, own), hidden(&self.identities, peer));
                    self.unix_sockets.on_opened(&opened);
                    handle(Event::Opened(opened));
                }
                Ok(Event::Data(data)) => {
                    self.copied_bytes += (data.head.len() + data.tail.len()) as u64;
                    self.unix_sockets.on_data(&data);
                    handle(Event::Data(data));
                }
                Ok(event) => handle(event),
                Err(error) => {
                    self.malformed += 1;
                    tracing::debug!(%error, "skipped a ring record");
                }
            }
        }
        self.records += drained as u64;
        // Only once all that those sockets did before the look has been handed out.
        if let Some((look, time)) = look
            && drained < limit
        {
            for closed in self.unix_sockets.take_ended(&look, time) {
                handle(Event::Closed(closed));
            }
        }
        drained
    }

    fn look_at_unix_sockets(&mut self) -> Option<(Look, KernelTime)> {
        let now = Self::now();
        if self.unix_sockets.is_empty() || now.nanos_since(self.last_look) < LOOK_NANOS {
            return None;
        }
        self.last_look = now;
        Some((self.unix_sockets.look(), now))
    }

    /// Tells the kernel half what to do with a process that it has not seen.
    pub fn decide_process(&mut self, pid: Pid, treatment: Treatment) -> Result<(), LoadError> {
        self.write_process(pid, treatment, ANY)
            .map_err(|source| LoadError::Map { map: "PROCESSES", source: Box::new(source) })
    }

    /// Answers an [`Event::Process`]. Does nothing if the process is gone by now: an entry would
    /// outlive it, and be taken for that of the next process with its id.
    pub fn decide_seen_process(&mut self, pid: Pid, treatment: Treatment) {
        // The only failure of an update in place is that there is nothing to update.
        let _ = self.write_process(pid, treatment, EXISTING);
    }

    fn write_process(
        &mut self,
        pid: Pid,
        treatment: Treatment,
        flags: u64,
    ) -> Result<(), MapError> {
        let verdict = if treatment.trace { verdict::TRACE } else { verdict::SKIP };
        let [_, flags_before, runtime, _] = self.processes.get(&pid.0, 0).unwrap_or_default();
        let lineage = if treatment.lineage { process_flag::LINEAGE } else { 0 };
        let propagate = if treatment.propagate { process_flag::PROPAGATE } else { 0 };
        let kept = flags_before & process_flag::ANNOUNCED;
        let state = [verdict, kept | lineage | propagate, runtime, 0];
        self.processes.insert(pid.0, state, flags)?;
        self.bump_epoch();
        Ok(())
    }

    /// Tells the kernel half how to find the tasks of a process that it has seen. Returns whether
    /// it will: not if the process is gone by now, or if too many others are looked at already.
    pub fn follow_tasks(&mut self, pid: Pid, layout: &Layout) -> bool {
        let Ok([verdict, flags_before, runtime_before, _]) = self.processes.get(&pid.0, 0) else {
            return false;
        };
        let followed = self.runtimes.insert(pid, layout).is_ok_and(|runtime| {
            let state = [verdict, flags_before, runtime, 0];
            runtime == runtime_before || self.processes.insert(pid.0, state, EXISTING).is_ok()
        });
        if followed {
            self.bump_epoch();
        } else {
            self.forget_tasks(pid);
        }
        followed
    }

    /// To be called when a process is gone. The kernel half forgets by itself, unless it was told
    /// too late.
    pub fn forget_tasks(&mut self, pid: Pid) {
        self.runtimes.remove(pid);
    }

    /// Tells the kernel half how to go on with a connection.
    pub fn decide_connection(&mut self, conn: ConnId, decision: ConnectionVerdict) {
        let decision = match decision {
            ConnectionVerdict::Follow => phase::CONFIRMED,
            ConnectionVerdict::Ignore => phase::IGNORED,
        };
        // Without the verdict the connection is only more expensive, so failure is no error.
        if self.verdicts.insert(conn.0, decision, 0).is_err() {
            return;
        }
        if self.undelivered.is_empty() {
            let _ = self.settings.set(setting::PENDING_VERDICTS, 1, 0);
        }
        self.undelivered.push_back(conn);
        if self.undelivered.len() > REMEMBERED_VERDICTS
            && let Some(oldest) = self.undelivered.pop_front()
        {
            let _ = self.verdicts.remove(&oldest.0);
        }
    }

    /// To be called about once a second: forgets verdicts that were picked up or came too late.
    pub fn settle_verdicts(&mut self) {
        let verdicts = &self.verdicts;
        self.undelivered.retain(|conn| verdicts.get(&conn.0, 0).is_ok());
        if self.undelivered.is_empty() {
            let _ = self.settings.set(setting::PENDING_VERDICTS, 0, 0);
        }
    }

    /// To be called when a connection is gone.
    pub fn forget_connection(&mut self, conn: ConnId) {
        if !self.undelivered.is_empty() {
            let _ = self.verdicts.remove(&conn.0);
        }
    }

    fn bump_epoch(&mut self) {
        let epoch = self.settings.get(&setting::EPOCH, 0).unwrap_or(0).wrapping_add(1);
        let _ = self.settings.set(setting::EPOCH, epoch, 0);
    }

    /// What the kernel half counted so far.
    pub fn counters(&self) -> KernelCounters {
        let mut counters = losses::read(&self.counters);
        counters.records = self.records;
        counters.copied_bytes = self.copied_bytes;
        counters.malformed_records = self.malformed;
        counters.unwatched_unix_sockets = self.unix_sockets.unwatched();
        counters
    }

    /// Has the kernel measure how long programs run, which it does for all of this host.
    pub fn measure_probes(&mut self) -> Result<(), LoadError> {
        let measuring = probe_times::enable().map_err(LoadError::Wait)?;
        self.measuring = Some(measuring);
        Ok(())
    }

    /// Runs and nanoseconds of each program; nothing unless they are measured.
    pub fn probe_times(&self) -> Vec<(String, u64, u64)> {
        if self.measuring.is_some() { probe_times::read(&self.object) } else { Vec::new() }
    }

    /// Bytes of the ring.
    pub fn ring_bytes(&self) -> u64 {
        self.ring_bytes
    }

    /// The current kernel time.
    pub fn now() -> KernelTime {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        KernelTime(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }

    /// The offset from kernel time to wall-clock time, taken as the tightest of a few readings.
    pub fn clock_offset() -> ClockOffset {
        let reading = || {
            let before = Self::now();
            let wall = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
            let after = Self::now();
            let wall = wall.tv_sec * 1_000_000_000 + wall.tv_nsec;
            let width = after.nanos_since(before);
            (width, wall - (before.0 + width / 2) as i64)
        };
        let best = (0..8).map(|_| reading()).min_by_key(|(width, _)| *width);
        // Eight readings were taken.
        ClockOffset(best.map_or(0, |(_, offset)| offset))
    }
}

fn hidden(identities: &RandomState, address: u64) -> u64 {
    if address == 0 { 0 } else { identities.hash_one(address) }
}
