//! The memory that the agent may take, and what it gives up as it comes near: first what is worth
//! least.
//!
//! Every queue and table has a bound of its own. This is the bound of all of them together, for
//! hosts where their sum is more than there is.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::param::page_size;

use crate::trace::Span;

/// Shares of the limit from which on things are given up.
const BODIES: f64 = 0.80;
const UNDECIDED: f64 = 0.86;
const NEWEST: f64 = 0.91;
const EVENTS: f64 = 0.96;

/// What is given up by now; each includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Nothing.
    #[default]
    None,
    /// Parts of messages that would have to wait for the rest.
    Bodies,
    /// Waiting for whether a trace is sampled: what is known by now decides.
    Undecided,
    /// Every span that is made: those that wait already are kept.
    Newest,
    /// Events of connections, before anything is made of them.
    Events,
}

/// What was given up, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Shed {
    /// Spans just made.
    pub newest_spans: u64,
    /// Events.
    pub events: u64,
}

/// Watches over a limit.
#[derive(Clone, Copy, Debug)]
pub struct Governor {
    limit: u64,
    pressure: Pressure,
    /// What was given up so far.
    pub shed: Shed,
}

impl Governor {
    /// Over so many bytes.
    pub fn new(limit: u64) -> Self {
        Self { limit, pressure: Pressure::None, shed: Shed::default() }
    }

    /// In bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// What is given up now.
    pub fn pressure(&self) -> Pressure {
        self.pressure
    }

    /// Takes away the spans that are not to be kept now; returns how many those are.
    pub fn give_up(&mut self, spans: &mut Vec<Span>) -> usize {
        let before = spans.len();
        if self.pressure >= Pressure::Newest {
            spans.clear();
            self.shed.newest_spans += before as u64;
        }
        before - spans.len()
    }

    /// Takes a measurement; returns whether anything changed.
    pub fn measure(&mut self, resident: u64) -> bool {
        let share = resident as f64 / self.limit.max(1) as f64;
        let pressure = match share {
            share if share >= EVENTS => Pressure::Events,
            share if share >= NEWEST => Pressure::Newest,
            share if share >= UNDECIDED => Pressure::Undecided,
            share if share >= BODIES => Pressure::Bodies,
            _ => Pressure::None,
        };
        std::mem::replace(&mut self.pressure, pressure) != pressure
    }
}

/// Bytes of memory that this process has.
pub fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * page_size() as u64
}

/// The smallest limit of the control groups that this process is in, if there is any.
pub fn limit_of_control_group() -> Option<u64> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    limits(&membership, &mounts).into_iter().min()
}

/// Of the group and those above it, in either version of control groups.
fn limits(membership: &str, mounts: &str) -> Vec<u64> {
    let mut limits = Vec::new();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (kind, file) = match controllers {
            "" => ("cgroup2", "memory.max"),
            list if list.split(',').any(|it| it == "memory") => ("cgroup", "memory.limit_in_bytes"),
            _ => continue,
        };
        let Some(mount) = mount_of(mounts, kind) else { continue };
        let group = mount.join(path.trim_start_matches('/'));
        for directory in group.ancestors().take_while(|directory| directory.starts_with(&mount)) {
            limits.extend(limit_in(&directory.join(file)));
        }
    }
    limits
}

fn mount_of(mounts: &str, kind: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, path, found, options) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let memory = kind == "cgroup2" || options.split(',').any(|option| option == "memory");
        (found == kind && memory).then(|| PathBuf::from(path))
    })
}

/// `max`, or a number that is as good, is no limit.
fn limit_in(file: &Path) -> Option<u64> {
    const NO_LIMIT: u64 = 1 << 60;
    let limit = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    (limit < NO_LIMIT).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fixtures::span;

    #[test]
    fn what_is_worth_least_goes_first_and_comes_back_last() {
        let mut governor = Governor::new(1_000);
        for (resident, pressure) in [
            (100, Pressure::None),
            (800, Pressure::Bodies),
            (870, Pressure::Undecided),
            (920, Pressure::Newest),
            (1_200, Pressure::Events),
            (900, Pressure::Undecided),
            (0, Pressure::None),
        ] {
            let before = governor.pressure();
            assert_eq!(governor.measure(resident), before != pressure);
            assert_eq!(governor.pressure(), pressure, "{resident}");
        }
    }

    #[test]
    fn new_spans_are_given_up_and_counted() {
        let kept = |resident| {
            let (mut governor, mut spans) = (Governor::new(1_000), vec![span(0), span(1)]);
            governor.measure(resident);
            let given_up = governor.give_up(&mut spans);
            assert_eq!(given_up as u64, governor.shed.newest_spans);
            spans.len()
        };
        assert_eq!([kept(0), kept(870), kept(920)], [2, 2, 0]);
    }

    #[test]
    fn the_smallest_limit_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let mount = root.path();
        fs::create_dir_all(mount.join("a/b")).unwrap();
        fs::write(mount.join("a/memory.max"), "1000\n").unwrap();
        fs::write(mount.join("a/b/memory.max"), "max\n").unwrap();
        let mounts = format!("none {} cgroup2 rw 0 0\n", mount.display());
        assert_eq!(limits("0::/a/b\n", &mounts), [1_000]);
        fs::write(mount.join("a/b/memory.max"), "500\n").unwrap();
        assert_eq!(limits("1:cpu:/\n0::/a/b\n", &mounts), [500, 1_000]);
        assert_eq!(limits("0::/\n", &mounts), [0; 0]);

        fs::write(mount.join("a/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        let mounts = format!("none {} cgroup rw,memory 0 0\n", mount.display());
        assert_eq!(limits("4:memory:/a\n", &mounts), [0; 0]);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes() > 100_000);
    }
}
