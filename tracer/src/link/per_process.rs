//! What is remembered of each process, for a bounded number of them. Must not know what that is.

use rustc_hash::FxHashMap;

use crate::event::Pid;

/// Processes remembered at once, as many as the kernel half follows; of further ones nothing is
/// concluded.
const MAX_PROCESSES: usize = 65_536;

/// A bounded table by process.
#[derive(Debug)]
pub(super) struct PerProcess<T>(FxHashMap<Pid, T>);

impl<T> Default for PerProcess<T> {
    fn default() -> Self {
        Self(FxHashMap::default())
    }
}

impl<T> PerProcess<T> {
    pub(super) fn contains(&self, pid: Pid) -> bool {
        self.0.contains_key(&pid)
    }

    pub(super) fn get(&self, pid: Pid) -> Option<&T> {
        self.0.get(&pid)
    }

    pub(super) fn get_mut(&mut self, pid: Pid) -> Option<&mut T> {
        self.0.get_mut(&pid)
    }

    /// What is remembered of a process, from now on if nothing was; `None` if there is no room.
    pub(super) fn remember(&mut self, pid: Pid) -> Option<&mut T>
    where
        T: Default,
    {
        let room = self.0.len() < MAX_PROCESSES || self.0.contains_key(&pid);
        room.then(|| self.0.entry(pid).or_default())
    }

    pub(super) fn forget(&mut self, pid: Pid) -> Option<T> {
        self.0.remove(&pid)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Pid, &mut T)> {
        self.0.iter_mut().map(|(pid, it)| (*pid, it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_more_processes_than_there_is_room_for_the_first_are_remembered() {
        let mut table = PerProcess::<u32>::default();
        for pid in 0..MAX_PROCESSES as u32 {
            assert!(table.remember(Pid(pid)).is_some());
        }
        assert!(table.remember(Pid(MAX_PROCESSES as u32)).is_none());
        assert!(table.remember(Pid(0)).is_some());
        table.forget(Pid(0));
        assert!(table.remember(Pid(MAX_PROCESSES as u32)).is_some());
    }
}
