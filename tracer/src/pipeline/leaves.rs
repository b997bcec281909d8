//! Processes from whose requests nothing is learnt: no span of their service is ever recorded, and
//! they call nobody, so that no place of another span depends on them.
//!
//! Connections on which such a process is asked need not be watched. Those on which it asks always
//! are: who it calls has to know that the trace is not sampled. Should a process call somebody only
//! after it was taken for a leaf, requests on connections that are not watched any more are not
//! known; its calls are then unsampled roots instead of unsampled children, which nobody sees.

use rustc_hash::FxHashMap;

use crate::event::Pid;

/// Requests that a process has to answer without a call before it is taken for a leaf.
const PROOF: u32 = 64;
/// Processes known at once; the connections of others are watched.
const MAX_PROCESSES: usize = 16_384;

/// What processes of services that are never recorded were seen to do.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    processes: FxHashMap<Pid, Habit>,
}

#[derive(Clone, Copy, Debug)]
enum Habit {
    /// It answered so many requests, and called nobody.
    Answers(u32),
    Calls,
}

impl Leaves {
    /// A request was answered. Returns whether the connection it came on need not be watched.
    pub(super) fn on_answered(&mut self, pid: Pid) -> bool {
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&pid) {
            return false;
        }
        match self.processes.entry(pid).or_insert(Habit::Answers(0)) {
            Habit::Calls => false,
            Habit::Answers(count) => {
                *count = count.saturating_add(1);
                *count > PROOF
            }
        }
    }

    /// It calls somebody.
    pub(super) fn on_call(&mut self, pid: Pid) {
        if self.processes.len() < MAX_PROCESSES || self.processes.contains_key(&pid) {
            self.processes.insert(pid, Habit::Calls);
        }
    }

    /// It is gone.
    pub(super) fn on_gone(&mut self, pid: Pid) {
        self.processes.remove(&pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(leaves: &mut Leaves, pid: u32, requests: u32) -> u32 {
        (0..requests).map(|_| u32::from(leaves.on_answered(Pid(pid)))).sum()
    }

    #[test]
    fn who_answers_long_enough_without_a_call_is_a_leaf() {
        let mut leaves = Leaves::default();
        assert_eq!(answers(&mut leaves, 1, PROOF), 0);
        assert_eq!(answers(&mut leaves, 1, 3), 3);
        assert_eq!(answers(&mut leaves, 2, 1), 0, "each by itself");
        leaves.on_call(Pid(1));
        assert_eq!(answers(&mut leaves, 1, 2 * PROOF), 0, "one call is enough");
        leaves.on_gone(Pid(1));
        assert_eq!(answers(&mut leaves, 1, PROOF + 1), 1, "the id is of another process");
    }

    #[test]
    fn only_so_many_are_known() {
        let mut leaves = Leaves::default();
        for pid in 0..MAX_PROCESSES as u32 {
            leaves.on_call(Pid(pid));
        }
        assert_eq!(answers(&mut leaves, u32::MAX, 2 * PROOF), 0);
        leaves.on_call(Pid(u32::MAX));
        assert_eq!(leaves.processes.len(), MAX_PROCESSES);
    }
}
