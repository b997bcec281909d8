//! When to look into which process again: what it imports later is seen later. Knows no process,
//! and no clock but the times it is told.

use std::collections::{BTreeSet, HashMap};

use crate::event::{KernelTime, Pid};

/// Processes looked into from time to time; as many as the kernel half can be told of.
const MAX_PROCESSES: usize = tracer_ebpf::RUNTIMES as usize;
/// Processes looked into at one go: the agent has other things to do.
const AT_ONCE: usize = 8;
/// Nanoseconds until the second look.
const FIRST_PAUSE: u64 = 500_000_000;
/// Nanoseconds between two looks, at most.
const LONGEST_PAUSE: u64 = 60_000_000_000;

/// The processes that are looked into.
#[derive(Debug, Default)]
pub(in crate::layout) struct Watch {
    due: BTreeSet<(KernelTime, Pid)>,
    processes: HashMap<Pid, Watched>,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    due: KernelTime,
    pause: u64,
}

impl Watch {
    /// Looks into a process as soon as possible, whatever was found before. Returns whether there
    /// is room for it.
    pub(in crate::layout) fn add(&mut self, pid: Pid, now: KernelTime) -> bool {
        self.remove(pid);
        let room = self.processes.len() < MAX_PROCESSES;
        if room {
            self.put(pid, Watched { due: now, pause: FIRST_PAUSE });
        }
        room
    }

    /// Looks into a process no longer.
    pub(in crate::layout) fn remove(&mut self, pid: Pid) {
        if let Some(watched) = self.processes.remove(&pid) {
            self.due.remove(&(watched.due, pid));
        }
    }

    /// The processes to look into now. Each is due again after a while, longer every time.
    pub(in crate::layout) fn due(&mut self, now: KernelTime) -> Vec<Pid> {
        let due: Vec<_> =
            self.due.iter().take_while(|(time, _)| *time <= now).take(AT_ONCE).copied().collect();
        let pids: Vec<Pid> = due.into_iter().map(|(_, pid)| pid).collect();
        for pid in &pids {
            let Some(Watched { due, pause }) = self.processes.get(pid).copied() else { continue };
            self.due.remove(&(due, *pid));
            let again = KernelTime(now.0.saturating_add(pause));
            self.put(*pid, Watched { due: again, pause: LONGEST_PAUSE.min(pause * 2) });
        }
        pids
    }

    /// When the next process is due.
    pub(in crate::layout) fn next(&self) -> Option<KernelTime> {
        self.due.first().map(|(due, _)| *due)
    }

    fn put(&mut self, pid: Pid, watched: Watched) {
        self.due.insert((watched.due, pid));
        self.processes.insert(pid, watched);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_process_is_looked_into_less_and_less_often_until_it_is_gone() {
        let mut watch = Watch::default();
        watch.add(Pid(7), KernelTime(0));
        let looks = |watch: &mut Watch, seconds: std::ops::Range<u64>| {
            seconds.filter(|second| !watch.due(KernelTime(second * SECOND)).is_empty()).count()
        };
        let (first, later) = (looks(&mut watch, 0..10), looks(&mut watch, 300..600));
        assert!((3..=6).contains(&first), "{first}");
        assert!((5..=8).contains(&later), "{later}");
        watch.add(Pid(7), KernelTime(700 * SECOND));
        assert_eq!(watch.due(KernelTime(700 * SECOND)), [Pid(7)], "it changed its program");
        watch.remove(Pid(7));
        assert_eq!(looks(&mut watch, 700..1_000), 0);
    }

    #[test]
    fn many_processes_are_looked_into_a_few_at_a_time() {
        let mut watch = Watch::default();
        for pid in 0..20 {
            watch.add(Pid(pid), KernelTime(0));
        }
        let mut seen: Vec<Pid> = (0..3).flat_map(|_| watch.due(KernelTime(1))).collect();
        assert_eq!(watch.due(KernelTime(1)), []);
        seen.sort_unstable();
        assert_eq!(seen, (0..20).map(Pid).collect::<Vec<_>>());
    }

    #[test]
    fn no_more_processes_are_watched_than_can_be_followed() {
        let mut watch = Watch::default();
        for pid in 0..tracer_ebpf::RUNTIMES + 10 {
            watch.add(Pid(pid), KernelTime(0));
        }
        assert_eq!(watch.processes.len(), tracer_ebpf::RUNTIMES as usize);
        assert_eq!(watch.due.len(), watch.processes.len());
    }
}
