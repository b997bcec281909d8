//! Collects what a [`Selection`] wants to know of processes: of one that the kernel half has just
//! seen, or of all that run already.

use std::path::PathBuf;

use super::cgroup::CgroupPath;
use super::procfs::Stat;
use super::sockets::{Socket, SocketTables};
use super::{Decision, ProcessFacts, Resolver, Selection, StartTicks};
use crate::event::{Pid, ProcessSeen};

/// Longest line of ancestors followed.
const MAX_ANCESTORS: usize = 64;

/// Applies one selection to the processes of one host.
#[derive(Debug)]
pub struct Scanner<'a> {
    resolver: &'a Resolver,
    selection: &'a Selection,
    tables: SocketTables,
}

impl<'a> Scanner<'a> {
    /// A scanner sees the sockets as they were when it first looked: make one for each occasion.
    pub fn new(resolver: &'a Resolver, selection: &'a Selection) -> Self {
        Self { resolver, selection, tables: SocketTables::default() }
    }

    /// Verdicts on the agent and on those running processes that are selected. With `--all` that
    /// is the agent alone: all others are traced as they come.
    pub fn initial(&mut self) -> Vec<(Pid, Decision)> {
        let mut verdicts = vec![self.selection.agent()];
        if !self.selection.is_all() {
            let agent = verdicts[0].0;
            let pids = self.resolver.fs().pids().filter(|&pid| pid != agent);
            verdicts.extend(pids.filter_map(|pid| {
                let decision = self.running(pid)?;
                decision.traced.then_some((pid, decision))
            }));
        }
        verdicts
    }

    /// The verdict on a running process; `None` if it is gone.
    pub fn running(&mut self, pid: Pid) -> Option<Decision> {
        let stat = self.resolver.fs().process(pid).stat()?;
        let facts = self.facts(pid, &stat);
        Some(self.selection.decide(&facts))
    }

    /// The verdict on a process that the kernel half has just seen, and which may be gone.
    pub fn seen(&mut self, seen: &ProcessSeen<'_>) -> Decision {
        let clocks = self.resolver.clocks();
        let stat = self.resolver.fs().process(seen.pid).stat();
        let facts = match stat.filter(|stat| clocks.agree(seen.started, stat.started)) {
            Some(stat) => {
                let mut facts = self.facts(seen.pid, &stat);
                // It may have exited between the two reads.
                facts.executable = facts.executable.or_else(|| stated_executable(seen));
                facts.cgroup = facts.cgroup.or_else(|| self.cgroup(seen));
                facts
            }
            None => ProcessFacts {
                process: Some((seen.pid, Some(clocks.ticks(seen.started)))),
                ancestors: self.line_from(seen.parent),
                executable: stated_executable(seen),
                cgroup: self.cgroup(seen),
                ports: Vec::new(),
            },
        };
        self.selection.decide(&facts)
    }

    /// Stream sockets of a running process.
    pub(super) fn sockets(&mut self, pid: Pid) -> Vec<Socket> {
        self.tables.of(&self.resolver.fs().process(pid))
    }

    fn facts(&mut self, pid: Pid, stat: &Stat) -> ProcessFacts {
        let directory = self.resolver.fs().process(pid);
        let mut ports = Vec::new();
        if self.selection.asks_for_ports() {
            ports.extend(self.tables.of(&directory).iter().filter_map(Socket::served_port));
        }
        ProcessFacts {
            process: Some((pid, Some(stat.started))),
            ancestors: self.line_from(stat.parent),
            executable: directory.executable(),
            cgroup: directory.cgroups().and_then(|text| CgroupPath::parse(&text)),
            ports,
        }
    }

    fn cgroup(&self, seen: &ProcessSeen<'_>) -> Option<CgroupPath> {
        self.resolver.hierarchy().path_of(seen.cgroup)
    }

    /// A process and its ancestors.
    fn line_from(&self, first: Pid) -> Vec<(Pid, Option<StartTicks>)> {
        let mut line = Vec::new();
        let mut next = Some(first);
        while let Some(pid) = next.filter(|&Pid(pid)| pid != 0 && line.len() < MAX_ANCESTORS) {
            let stat = self.resolver.fs().process(pid).stat();
            line.push((pid, stat.as_ref().map(|stat| stat.started)));
            next = stat.map(|stat| stat.parent);
        }
        line
    }
}

/// What a process that is gone was called: the zeroth argument if it is a plain name or path,
/// else the kernel's short name.
fn stated_executable(seen: &ProcessSeen<'_>) -> Option<PathBuf> {
    let zeroth = seen.arguments.split(|&byte| byte == 0).next().unwrap_or_default();
    let zeroth = str::from_utf8(zeroth).unwrap_or_default();
    let plain = !zeroth.is_empty() && !zeroth.contains([' ', ':']);
    let name = if plain { zeroth } else { seen.comm };
    (!name.is_empty()).then(|| PathBuf::from(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::KernelTime;
    use crate::target::testing::{FakeHost, tcp_line};
    use crate::target::{Selectors, Why};

    const AGENT: Pid = Pid(99);

    fn seen(pid: u32, parent: u32, arguments: &str) -> ProcessSeen<'_> {
        ProcessSeen {
            pid: Pid(pid),
            parent: Pid(parent),
            time: KernelTime(20_000_000_000),
            started: KernelTime(10_000_000_000),
            comm: "comm",
            arguments: arguments.as_bytes(),
            environment: b"",
            cgroup: 0,
            selected: false,
        }
    }

    fn traced(host: &FakeHost, selectors: &Selectors) -> Vec<(u32, String)> {
        let resolver = host.resolver();
        let selection = Selection::new(selectors, AGENT, &resolver).expect("valid");
        let verdicts = Scanner::new(&resolver, &selection).initial();
        assert_eq!(verdicts[0], (AGENT, Decision { traced: false, why: Why::Agent }));
        let mut traced: Vec<_> =
            verdicts[1..].iter().map(|(pid, verdict)| (pid.0, verdict.why.to_string())).collect();
        traced.sort();
        traced
    }

    fn host() -> FakeHost {
        let host = FakeHost::new();
        host.process(10).stat("nginx", 1, 1000).executable("/usr/sbin/nginx");
        host.process(11).stat("nginx", 10, 1000).executable("/usr/sbin/nginx");
        host.process(12).stat("node", 11, 1000).executable("/usr/bin/node");
        host.process(99).stat("tracer", 10, 1000).executable("/usr/bin/tracer");
        host
    }

    #[test]
    fn descendants_of_a_process_are_found_at_start() {
        let selectors = Selectors { pids: vec![Pid(10)], ..Selectors::default() };
        let expected = [(10, "is named by --pid"), (11, "descends from --pid 10")];
        let expected = expected.into_iter().chain([(12, "descends from --pid 10")]);
        let expected: Vec<_> = expected.map(|(pid, why)| (pid, why.to_owned())).collect();
        assert_eq!(traced(&host(), &selectors), expected);
    }

    #[test]
    fn listeners_and_those_who_serve_for_them_are_found_at_start() {
        let host = host();
        let table = tcp_line(80, "0A", 1) + &tcp_line(80, "01", 2) + &tcp_line(40000, "01", 3);
        host.process(10).network(1, &table, "").socket(3, 1);
        host.process(11).network(1, &table, "").socket(4, 2);
        host.process(12).network(1, &table, "").socket(5, 3);
        let selectors = Selectors { ports: vec![80, 40000], ..Selectors::default() };
        let expected = [10, 11].map(|pid| (pid, "serves --port 80".to_owned()));
        assert_eq!(traced(&host, &selectors), expected);
    }

    #[test]
    fn with_all_there_is_nothing_to_look_for() {
        assert_eq!(traced(&host(), &Selectors::default()), []);
    }

    #[test]
    fn a_gone_process_is_selected_by_what_the_kernel_half_saw() {
        let host = host();
        let resolver = host.resolver();
        let selectors =
            Selectors { executables: vec!["curl".into(), "comm".into()], ..Selectors::default() };
        let selection = Selection::new(&selectors, AGENT, &resolver).expect("valid");
        let mut scanner = Scanner::new(&resolver, &selection);
        let why = |decision: Decision| decision.why.to_string();
        assert_eq!(why(scanner.seen(&seen(50, 1, "/bin/curl\0-s\0"))), "matches --exe 'curl'");
        assert_eq!(why(scanner.seen(&seen(50, 1, "a title\0"))), "matches --exe 'comm'");
        assert_eq!(why(scanner.seen(&seen(50, 1, "wget\0"))), "no selector matches");
        // Process 10 lives, and started then.
        assert_eq!(why(scanner.seen(&seen(10, 1, "curl\0"))), "no selector matches");
    }

    #[test]
    fn a_gone_child_of_a_selected_process_is_selected() {
        let host = host();
        let resolver = host.resolver();
        let selectors = Selectors { pids: vec![Pid(10)], ..Selectors::default() };
        let selection = Selection::new(&selectors, AGENT, &resolver).expect("valid");
        let mut scanner = Scanner::new(&resolver, &selection);
        assert_eq!(scanner.seen(&seen(50, 11, "curl\0")).why, Why::Descendant(Pid(10)));
        assert_eq!(scanner.seen(&seen(50, 1, "curl\0")).why, Why::NoSelector);
    }

    #[test]
    fn a_group_is_known_by_its_id_when_the_process_is_gone() {
        use std::os::unix::fs::MetadataExt;

        let host = host();
        let group = host.directory("/sys/fs/cgroup/unified/shop/job");
        let resolver = host.resolver();
        let selectors = Selectors { cgroups: vec!["shop".into()], ..Selectors::default() };
        let selection = Selection::new(&selectors, AGENT, &resolver).expect("valid");
        let mut scanner = Scanner::new(&resolver, &selection);
        let cgroup = std::fs::metadata(group).expect("just made").ino();
        assert!(scanner.seen(&ProcessSeen { cgroup, ..seen(50, 1, "curl\0") }).traced);
        assert!(!scanner.seen(&seen(50, 1, "curl\0")).traced);
    }
}
