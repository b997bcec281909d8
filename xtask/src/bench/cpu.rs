//! Processor time and memory of processes, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

/// Processor time, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }

    /// Used so far by a process and its descendants that live now.
    pub(crate) fn of_tree(root: u32) -> Result<Self> {
        let mut sum = Self::default();
        for pid in tree(root)? {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
                .with_context(|| format!("process {pid} ended while it was measured"))?;
            let cpu = Stat::parse(&stat)?.cpu;
            sum.user += cpu.user;
            sum.system += cpu.system;
        }
        Ok(sum)
    }

    /// Used so far by each thread of a process, threads of one name together.
    pub(crate) fn by_thread(pid: u32) -> Result<BTreeMap<String, Self>> {
        let mut threads = BTreeMap::<String, Self>::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            // A thread may end between listing and reading.
            let Ok(text) = fs::read_to_string(task.path().join("stat")) else { continue };
            let stat = Stat::parse(&text)?;
            let sum = threads.entry(stat.name).or_default();
            sum.user += stat.cpu.user;
            sum.system += stat.cpu.system;
        }
        Ok(threads)
    }
}

/// Processor time that the hypervisor gave to others though this machine wanted it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stolen {
    stolen: f64,
    total: f64,
}

impl Stolen {
    /// Since boot, see `proc_stat(5)`.
    pub(crate) fn so_far() -> Result<Self> {
        let times = machine_times()?;
        Ok(Self { stolen: times[7], total: times.iter().sum() })
    }

    /// Share of all processors' time since an earlier reading, from 0 to 1.
    pub(crate) fn share_since(self, earlier: Self) -> f64 {
        (self.stolen - earlier.stolen) / (self.total - earlier.total).max(1.0)
    }
}

/// Processor time that this machine used for anything, interrupts included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Busy(f64);

impl Busy {
    /// Since boot.
    pub(crate) fn so_far() -> Result<Self> {
        let [user, nice, system, _idle, _io_wait, hard, soft, _stolen] = machine_times()?;
        Ok(Self(user + nice + system + hard + soft))
    }

    /// Since then, in microseconds.
    pub(crate) fn until_now(self) -> Result<f64> {
        Ok((Self::so_far()?.0 - self.0) * tick())
    }
}

/// What all processors did since boot, in ticks, in the order of `proc_stat(5)`.
fn machine_times() -> Result<[f64; 8]> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let times: Vec<f64> =
        line.split_whitespace().skip(1).take(8).filter_map(|time| time.parse().ok()).collect();
    times.try_into().ok().context("/proc/stat tells too little")
}

/// In microseconds.
fn tick() -> f64 {
    1e6 / rustix::param::clock_ticks_per_second() as f64
}

/// Resident memory of a process, in MiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) resident: f64,
    pub(crate) peak: f64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let mebibytes = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
            kibibytes.map(|kibibytes: f64| kibibytes / 1024.0).with_context(|| format!("no {name}"))
        };
        Ok(Self { resident: mebibytes("VmRSS")?, peak: mebibytes("VmHWM")? })
    }
}

struct Stat {
    name: String,
    parent: u32,
    cpu: Cpu,
}

impl Stat {
    /// One line of `/proc/PID/stat`, see `proc_pid_stat(5)`.
    fn parse(text: &str) -> Result<Self> {
        let parse = || {
            // The name may itself hold spaces and parentheses.
            let (before, after) = text.rsplit_once(") ")?;
            let name = before.split_once(" (")?.1.to_owned();
            let fields: Vec<&str> = after.split_whitespace().collect();
            let time = |index: usize| Some(fields.get(index)?.parse::<f64>().ok()? * tick());
            // Fields 4, 14 and 15; `fields` begins with field 3.
            let cpu = Cpu { user: time(11)?, system: time(12)? };
            Some(Self { name, parent: fields.get(1)?.parse().ok()?, cpu })
        };
        parse().with_context(|| format!("unexpected /proc stat line: {text:?}"))
    }
}

/// A process and all its descendants.
fn tree(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        parents.push((pid, Stat::parse(&text)?.parent));
    }
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(parent) = tree.get(next).copied() {
        tree.extend(parents.iter().filter(|(_, its)| *its == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        let line = "42 (a) b (c)) S 7 42 42 0 -1 4194304 1 2 3 4 150 50 0 0 20 0 1 0 99 1 1";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat.name, "a) b (c)");
        assert_eq!(stat.parent, 7);
        assert!((stat.cpu.user / stat.cpu.system - 3.0).abs() < 1e-9);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id();
        assert!(Memory::of(pid).unwrap().peak > 0.5);
        assert!(!Cpu::by_thread(pid).unwrap().is_empty());
        assert!(tree(pid).unwrap().contains(&pid));
        Cpu::of_tree(pid).unwrap();
    }
}
