//! The table of known processes: whose span is this?
//!
//! A process id is used again after a process is gone, and a process changes its program by
//! `exec`: each id therefore has a short history, and a look-up names the time it asks about.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::process_context::ProcessContext;
use super::{Host, Process, Resolver};
use crate::event::{KernelTime, Pid, ProcessSeen};
use crate::trace::ResourceId;

/// Most processes in the table; beyond, the ones longest gone are forgotten, then the oldest.
const MAX_PROCESSES: usize = 16_384;
/// Most programs remembered for one id.
const MAX_HISTORY: usize = 4;
/// How long a gone process is kept: an exchange it left open still ends after it.
const GRACE_NANOS: u64 = 30_000_000_000;

/// Nanoseconds from the first look at what a process' SDK publishes to the second: an SDK may start
/// late, and change its mind. Each further pause is twice as long as the one before.
const FIRST_PAUSE: u64 = 1_000_000_000;
/// The longest such pause.
const LONGEST_PAUSE: u64 = 64_000_000_000;

/// What the table did, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessCounts {
    /// Processes resolved.
    pub resolved: u64,
    /// Look-ups of processes of which nothing could be found out.
    pub unknown: u64,
    /// Processes forgotten early because the table was full.
    pub evicted: u64,
}

/// All processes that spans may still come from.
#[derive(Debug)]
pub struct Processes {
    /// `None` in a replay, where there is no host to ask.
    resolver: Option<Arc<Resolver>>,
    known: FxHashMap<Pid, Known>,
    /// Those that are gone, oldest first; some may have been replaced since.
    gone: VecDeque<(KernelTime, Pid)>,
    next_resource: u64,
    next_entry: u64,
    counts: ProcessCounts,
}

#[derive(Debug)]
struct Known {
    /// What it was, by [`Process::since`]; never empty.
    history: VecDeque<Arc<Process>>,
    gone: Option<KernelTime>,
    /// Order of arrival in the table.
    entry: u64,
    /// What the process' SDK publishes, when last looked at.
    published: Option<Published>,
}

#[derive(Debug)]
struct Published {
    context: Option<ProcessContext>,
    next_look: KernelTime,
    pause: u64,
}

impl Processes {
    /// A table that asks the host.
    pub fn live(resolver: Arc<Resolver>) -> Self {
        Self { resolver: Some(resolver), ..Self::replayed() }
    }

    /// A table that knows only what it is told by [`Self::insert`].
    pub fn replayed() -> Self {
        Self {
            resolver: None,
            known: FxHashMap::default(),
            gone: VecDeque::new(),
            next_resource: 1,
            next_entry: 0,
            counts: ProcessCounts::default(),
        }
    }

    /// Whether processes are looked up on the host, as opposed to being told by a recording.
    pub fn asks_host(&self) -> bool {
        self.resolver.is_some()
    }

    /// The kernel half has seen a process, or the program it changed into. In a replay, where the
    /// recording tells the result, use [`Self::insert`].
    pub fn on_seen(&mut self, seen: &ProcessSeen<'_>) -> Arc<Process> {
        let id = self.resource_id();
        let process = match &self.resolver {
            Some(resolver) => resolver.seen(seen, id),
            None => Process::unknown(seen.pid, seen.time, id, &Host::default()),
        };
        self.counts.resolved += 1;
        let process = Arc::new(process);
        self.insert(Arc::clone(&process));
        process
    }

    /// Adds a process that was resolved elsewhere.
    pub fn insert(&mut self, process: Arc<Process>) {
        let pid = process.pid;
        // Ids of a recording and our own must not meet.
        self.next_resource = self.next_resource.max(process.resource.id.0.saturating_add(1));
        if let Some(known) = self.known.get_mut(&pid) {
            known.gone = None;
            let at = known.history.partition_point(|earlier| earlier.since <= process.since);
            match at.checked_sub(1).and_then(|before| known.history.get_mut(before)) {
                // The same program, of which more is known.
                Some(before) if before.since == process.since => *before = process,
                _ => known.history.insert(at, process),
            }
            if known.history.len() > MAX_HISTORY {
                known.history.pop_front();
            }
            return;
        }
        if self.known.len() >= MAX_PROCESSES {
            self.evict();
        }
        let entry = self.next_entry;
        self.next_entry += 1;
        let history = VecDeque::from([process]);
        self.known.insert(pid, Known { history, gone: None, entry, published: None });
    }

    /// The process exited; it stays known for a while.
    pub fn on_gone(&mut self, pid: Pid, time: KernelTime) {
        if let Some(known) = self.known.get_mut(&pid)
            && known.gone.is_none()
        {
            known.gone = Some(time);
            self.gone.push_back((time, pid));
        }
        self.expire(time);
    }

    /// Forgets processes that have been gone for longer than the grace period.
    pub fn expire(&mut self, now: KernelTime) {
        while let Some(&(time, pid)) = self.gone.front()
            && now.nanos_since(time) > GRACE_NANOS
        {
            self.gone.pop_front();
            self.forget(pid, time);
        }
    }

    /// Looks, now and then, at what the SDK of a process publishes, and resolves the process anew
    /// if that has changed.
    pub fn look_again(&mut self, pid: Pid, now: KernelTime) {
        let (Some(resolver), Some(known)) = (&self.resolver, self.known.get_mut(&pid)) else {
            return;
        };
        let pause = match &known.published {
            _ if known.gone.is_some() => return,
            Some(published) if now < published.next_look => return,
            Some(published) => (published.pause * 2).min(LONGEST_PAUSE),
            None => FIRST_PAUSE,
        };
        let context = resolver.process_context(pid);
        let before = known.published.take().and_then(|published| published.context);
        let changed = context.is_some() && context != before;
        let next_look = KernelTime(now.0.saturating_add(pause));
        known.published = Some(Published { context, next_look, pause });
        let Some(newest) = known.history.back().filter(|_| changed) else { return };
        let (since, resolver) = (newest.since, Arc::clone(resolver));
        let id = self.resource_id();
        if let Some(process) = resolver.running(pid, now, id) {
            self.counts.resolved += 1;
            self.insert(Arc::new(Process { since, ..process }));
        }
    }

    /// What the process with this id was at that time; asks `/proc` for one that was there before
    /// the agent. Never fails: of some processes only the id is known.
    pub fn at(&mut self, pid: Pid, time: KernelTime) -> Arc<Process> {
        if let Some(known) = self.known.get(&pid) {
            let later = known.history.partition_point(|process| process.since <= time);
            // The first sight of a process may come just after its first bytes.
            let index = later.saturating_sub(1);
            return Arc::clone(&known.history[index]);
        }
        let id = self.resource_id();
        let resolver = self.resolver.as_ref();
        let running = resolver.and_then(|resolver| resolver.running(pid, time, id));
        if let Some(process) = running {
            self.counts.resolved += 1;
            let process = Arc::new(process);
            self.insert(Arc::clone(&process));
            return process;
        }
        let nowhere = Host::default();
        let host = resolver.map_or(&nowhere, |resolver| resolver.host());
        let process = Arc::new(Process::unknown(pid, time, id, host));
        self.counts.unknown += 1;
        self.insert(Arc::clone(&process));
        // No word of its end will come.
        self.on_gone(pid, time);
        process
    }

    /// The newest program of a process already in the table.
    pub fn get(&self, pid: Pid) -> Option<&Arc<Process>> {
        self.known.get(&pid)?.history.back()
    }

    /// How many processes the table holds.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// What happened so far.
    pub fn counts(&self) -> ProcessCounts {
        self.counts
    }

    fn resource_id(&mut self) -> ResourceId {
        let id = ResourceId(self.next_resource);
        self.next_resource += 1;
        id
    }

    fn evict(&mut self) {
        self.counts.evicted += 1;
        while let Some((time, pid)) = self.gone.pop_front() {
            if self.forget(pid, time) {
                return;
            }
        }
        let oldest = self.known.iter().min_by_key(|(_, known)| known.entry).map(|(&pid, _)| pid);
        if let Some(pid) = oldest {
            self.known.remove(&pid);
        }
    }

    /// Removes a process that is gone since then, unless its id lives again.
    fn forget(&mut self, pid: Pid, gone: KernelTime) -> bool {
        let same = self.known.get(&pid).is_some_and(|known| known.gone == Some(gone));
        if same {
            self.known.remove(&pid);
        }
        same
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::testing::FakeHost;

    const SECOND: u64 = 1_000_000_000;

    fn seen(pid: u32, seconds: u64, started: u64, comm: &str) -> ProcessSeen<'_> {
        ProcessSeen {
            pid: Pid(pid),
            parent: Pid(1),
            time: KernelTime(seconds * SECOND),
            started: KernelTime(started * SECOND),
            comm,
            arguments: b"",
            environment: b"",
            cgroup: 0,
            selected: false,
        }
    }

    fn table() -> (FakeHost, Processes) {
        let host = FakeHost::new();
        let processes = Processes::live(Arc::new(host.resolver()));
        (host, processes)
    }

    fn service_at(processes: &mut Processes, pid: u32, seconds: u64) -> String {
        processes.at(Pid(pid), KernelTime(seconds * SECOND)).resource.service.clone()
    }

    #[test]
    fn an_exec_changes_the_name_from_then_on() {
        let (_host, mut processes) = table();
        processes.on_seen(&seen(7, 10, 5, "sh"));
        processes.on_seen(&seen(7, 20, 5, "curl"));
        assert_eq!(service_at(&mut processes, 7, 15), "sh");
        assert_eq!(service_at(&mut processes, 7, 20), "curl");
        assert_eq!(service_at(&mut processes, 7, 9), "sh", "bytes just before the first sight");
        assert_eq!(processes.get(Pid(7)).expect("known").resource.service, "curl");
        assert_eq!(processes.len(), 1);
    }

    #[test]
    fn an_id_used_again_is_another_process() {
        let (_host, mut processes) = table();
        let first = processes.on_seen(&seen(7, 10, 10, "a"));
        processes.on_gone(Pid(7), KernelTime(11 * SECOND));
        let second = processes.on_seen(&seen(7, 20, 20, "b"));
        assert_ne!(first.resource.id, second.resource.id);
        assert_eq!(service_at(&mut processes, 7, 10), "a");
        assert_eq!(service_at(&mut processes, 7, 25), "b");
        processes.expire(KernelTime(1000 * SECOND));
        assert_eq!(service_at(&mut processes, 7, 25), "b", "the end of the first is not its own");
    }

    #[test]
    fn a_gone_process_is_kept_for_the_grace_period() {
        let (_host, mut processes) = table();
        processes.on_seen(&seen(7, 10, 10, "a"));
        processes.on_gone(Pid(7), KernelTime(10 * SECOND));
        processes.expire(KernelTime(10 * SECOND + GRACE_NANOS));
        assert_eq!(processes.len(), 1);
        processes.expire(KernelTime(10 * SECOND + GRACE_NANOS + 1));
        assert!(processes.is_empty());
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_gone_first() {
        let (_host, mut processes) = table();
        for pid in 0..MAX_PROCESSES as u32 {
            processes.on_seen(&seen(pid + 10, 1, 1, "x"));
        }
        processes.on_gone(Pid(500), KernelTime(SECOND));
        processes.on_seen(&seen(1, 2, 2, "y"));
        assert!(processes.get(Pid(500)).is_none());
        assert!(processes.get(Pid(10)).is_some());
        processes.on_seen(&seen(2, 2, 2, "z"));
        assert!(processes.get(Pid(10)).is_none(), "the oldest");
        assert_eq!(processes.len(), MAX_PROCESSES);
        assert_eq!(processes.counts().evicted, 2);
    }

    #[test]
    fn a_history_is_bounded() {
        let (_host, mut processes) = table();
        for seconds in 1..20 {
            processes.on_seen(&seen(7, seconds, 1, "x"));
        }
        assert_eq!(processes.known[&Pid(7)].history.len(), MAX_HISTORY);
    }

    #[test]
    fn processes_older_than_the_agent_are_asked_for() {
        let (host, mut processes) = table();
        host.process(9).stat("nginx", 1, 1000).executable("/usr/sbin/nginx");
        assert_eq!(service_at(&mut processes, 9, 20), "nginx");
        assert_eq!(processes.counts(), ProcessCounts { resolved: 1, ..ProcessCounts::default() });
    }

    /// An SDK publishes only once it runs; what it says then holds for the process from its start.
    #[test]
    fn what_an_sdk_publishes_names_the_process_from_then_on() {
        let (host, mut processes) = table();
        let process = host.process(9);
        process.stat("python3", 1, 1000).executable("/usr/bin/python3").file("maps", "");
        assert_eq!(service_at(&mut processes, 9, 20), "python3");
        processes.look_again(Pid(9), KernelTime(20 * SECOND));
        assert_eq!(service_at(&mut processes, 9, 20), "python3");

        let attribute = [b"\x0a\x0cservice.name\x12\x06\x0a\x04".as_slice(), b"shop"].concat();
        let resource = [&[0x0a, attribute.len() as u8], &*attribute].concat();
        let payload = [&[0x0a, resource.len() as u8], &*resource].concat();
        let mut header = b"OTEL_CTX".to_vec();
        header.extend([2u32, payload.len() as u32].map(u32::to_ne_bytes).concat());
        header.extend([1u64, 0x7100].map(u64::to_ne_bytes).concat());
        process.memory(&[(0x7000, &header), (0x7100, &payload)]);
        process.file("maps", "7000-8000 rw-p 00000000 00:01 1  /memfd:OTEL_CTX (deleted)\n");
        processes.look_again(Pid(9), KernelTime(20 * SECOND + SECOND / 2));
        assert_eq!(service_at(&mut processes, 9, 20), "python3", "not yet looked at again");
        processes.look_again(Pid(9), KernelTime(21 * SECOND));
        assert_eq!(service_at(&mut processes, 9, 20), "shop", "of what began before, too");
        assert!(processes.get(Pid(9)).expect("known").instrumented);
        let resolved = processes.counts().resolved;
        processes.look_again(Pid(9), KernelTime(100 * SECOND));
        assert_eq!(processes.counts().resolved, resolved, "nothing changed");
        assert_eq!(processes.known[&Pid(9)].history.len(), 1);
    }

    #[test]
    fn a_successor_does_not_pass_for_the_process_that_is_gone() {
        let (host, mut processes) = table();
        host.process(9).stat("nginx", 1, 3000).executable("/usr/sbin/nginx");
        assert_eq!(service_at(&mut processes, 9, 20), "unknown_service");
        assert_eq!(processes.counts().unknown, 1);
    }

    #[test]
    fn a_replay_knows_what_it_is_told() {
        let (_host, mut live) = table();
        let mut replayed = Processes::replayed();
        let process = live.on_seen(&seen(7, 10, 5, "curl"));
        replayed.insert(Arc::clone(&process));
        assert_eq!(replayed.at(Pid(7), KernelTime(11 * SECOND)), process);
        let unknown = replayed.at(Pid(8), KernelTime(11 * SECOND));
        assert_eq!(unknown.resource.service, "unknown_service");
        assert_ne!(unknown.resource.id, process.resource.id);
    }
}
