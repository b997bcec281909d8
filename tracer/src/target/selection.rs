//! Which processes are traced, and why: the user's selectors, applied to one process at a time.

use std::fmt;
use std::path::{Path, PathBuf};

use globset::{Glob, GlobBuilder, GlobMatcher};
use serde::{Serialize, Serializer};

use super::{CgroupError, CgroupPath, Resolver, StartTicks};
use crate::event::Pid;

/// What the user asked for. A process is traced if any of them matches; all, if there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selectors {
    /// Processes that serve one of these TCP ports.
    pub ports: Vec<u16>,
    /// These processes and everything descended from them.
    pub pids: Vec<Pid>,
    /// Globs on the executable's path or, without a `/`, on its file name.
    pub executables: Vec<String>,
    /// Control groups of the version 2 hierarchy, with all below.
    pub cgroups: Vec<String>,
    /// Every process.
    pub all: bool,
}

/// Checked selectors.
#[derive(Debug)]
pub struct Selection {
    agent: Pid,
    ports: Vec<u16>,
    roots: Vec<(Pid, StartTicks)>,
    executables: Vec<ExecutableGlob>,
    cgroups: Vec<CgroupPath>,
    all: bool,
}

/// A glob on the executable's path or, without a `/`, on its file name.
#[derive(Clone, Debug)]
pub struct ExecutableGlob {
    written: String,
    matcher: GlobMatcher,
    /// Matches the whole path rather than the file name.
    on_path: bool,
}

/// What is known of a process when its tracing is decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Its id, and its start if known.
    pub process: Option<(Pid, Option<StartTicks>)>,
    /// Its parent, the parent's parent, …, as far as they are alive.
    pub ancestors: Vec<(Pid, Option<StartTicks>)>,
    /// Path of the executable; if the process is gone already, its zeroth argument or short name.
    pub executable: Option<PathBuf>,
    /// Its control group.
    pub cgroup: Option<CgroupPath>,
    /// TCP ports it serves; looked up only if a selector asks for ports.
    pub ports: Vec<u16>,
}

/// Whether to trace a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The verdict.
    pub traced: bool,
    /// Its reason, for people.
    pub why: Why,
}

/// The reason of a [`Decision`]; prints as a clause about the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// No selector was given, or `--all`.
    All,
    /// It serves a port of `--port`.
    Port(u16),
    /// It is named by `--pid`.
    Pid,
    /// It descends from a process of `--pid`.
    Descendant(Pid),
    /// Its executable matches this `--exe`.
    Executable(String),
    /// It stands in or below this `--cgroup`.
    Cgroup(CgroupPath),
    /// It is the agent, whose exports must not cause spans that are exported.
    Agent,
    /// Nothing selects it.
    NoSelector,
}

/// Why selectors cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SelectionError {
    /// A glob that cannot be parsed.
    #[error("--exe `{glob}` is not a glob: {reason}; quote it so that the shell leaves it alone")]
    Glob {
        /// What the user wrote.
        glob: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A process that does not exist.
    #[error("--pid {}: there is no such process; `tracer targets` lists those with sockets", .0.0)]
    NoProcess(Pid),
    /// A control group that cannot be found.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

impl Selection {
    /// Checks selectors against the host as it is now. `agent` is never traced.
    pub fn new(
        selectors: &Selectors,
        agent: Pid,
        resolver: &Resolver,
    ) -> Result<Self, SelectionError> {
        let Selectors { ports, pids, executables, cgroups, all } = selectors;
        let given =
            !(ports.is_empty() && pids.is_empty() && executables.is_empty() && cgroups.is_empty());
        let root = |&pid: &Pid| {
            let stat = resolver.fs().process(pid).stat();
            stat.map(|stat| (pid, stat.started)).ok_or(SelectionError::NoProcess(pid))
        };
        let hierarchy = resolver.hierarchy();
        Ok(Self {
            agent,
            ports: ports.clone(),
            roots: pids.iter().map(root).collect::<Result<_, _>>()?,
            executables: executables
                .iter()
                .map(|glob| ExecutableGlob::parse(glob))
                .collect::<Result<_, _>>()?,
            cgroups: cgroups
                .iter()
                .map(|given| hierarchy.resolve(given))
                .collect::<Result<_, _>>()?,
            all: *all || !given,
        })
    }

    /// Whether a verdict may change when a process begins to listen.
    pub fn asks_for_ports(&self) -> bool {
        !self.all && !self.ports.is_empty()
    }

    /// The directories of the selected control groups.
    pub fn cgroup_directories(&self, resolver: &Resolver) -> Vec<PathBuf> {
        let hierarchy = resolver.hierarchy();
        self.cgroups.iter().filter_map(|path| hierarchy.directory(path)).collect()
    }

    /// Whether every process but the agent is traced.
    pub fn is_all(&self) -> bool {
        self.all
    }

    /// Whether to trace this process.
    pub fn decide(&self, facts: &ProcessFacts) -> Decision {
        if facts.process.is_some_and(|(pid, _)| pid == self.agent) {
            return Decision { traced: false, why: Why::Agent };
        }
        match self.selected_by(facts) {
            Some(why) => Decision { traced: true, why },
            None => Decision { traced: false, why: Why::NoSelector },
        }
    }

    /// The verdict on the agent itself.
    pub(super) fn agent(&self) -> (Pid, Decision) {
        (self.agent, Decision { traced: false, why: Why::Agent })
    }

    /// The most telling selector that matches.
    fn selected_by(&self, facts: &ProcessFacts) -> Option<Why> {
        if let Some((pid, started)) = facts.process
            && self.is_root(pid, started)
        {
            return Some(Why::Pid);
        }
        if let Some(&port) = self.ports.iter().find(|port| facts.ports.contains(port)) {
            return Some(Why::Port(port));
        }
        if let Some(path) = &facts.executable
            && let Some(glob) = self.executables.iter().find(|glob| glob.matches(path))
        {
            return Some(Why::Executable(glob.written.clone()));
        }
        if let Some(path) = &facts.cgroup
            && let Some(group) = self.cgroups.iter().find(|group| path.is_within(group))
        {
            return Some(Why::Cgroup(group.clone()));
        }
        let root = facts.ancestors.iter().find(|&&(pid, started)| self.is_root(pid, started));
        root.map(|&(pid, _)| Why::Descendant(pid)).or_else(|| self.all.then_some(Why::All))
    }

    /// A process that took over the id of a selected one was not selected.
    fn is_root(&self, pid: Pid, started: Option<StartTicks>) -> bool {
        self.roots.iter().any(|&(root, since)| {
            root == pid && started.is_none_or(|started| started.0.abs_diff(since.0) <= 1)
        })
    }
}

impl ExecutableGlob {
    /// Checks it.
    pub fn parse(written: &str) -> Result<Self, SelectionError> {
        let glob: Result<Glob, _> = GlobBuilder::new(written).literal_separator(true).build();
        let glob = glob.map_err(|error| SelectionError::Glob {
            glob: written.to_owned(),
            reason: error.kind().to_string(),
        })?;
        Ok(Self {
            written: written.to_owned(),
            matcher: glob.compile_matcher(),
            on_path: written.contains('/'),
        })
    }

    /// Whether it means this executable.
    pub fn matches(&self, executable: &Path) -> bool {
        if self.on_path {
            self.matcher.is_match(executable)
        } else {
            executable.file_name().is_some_and(|name| self.matcher.is_match(name))
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => write!(f, "all processes are traced"),
            Self::Port(port) => write!(f, "serves --port {port}"),
            Self::Pid => write!(f, "is named by --pid"),
            Self::Descendant(pid) => write!(f, "descends from --pid {}", pid.0),
            Self::Executable(glob) => write!(f, "matches --exe '{glob}'"),
            Self::Cgroup(path) => write!(f, "is in --cgroup {path}"),
            Self::Agent => write!(f, "is the agent itself"),
            Self::NoSelector => write!(f, "no selector matches"),
        }
    }
}

impl Serialize for Why {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::testing::FakeHost;

    const AGENT: Pid = Pid(99);

    fn selection(host: &FakeHost, selectors: &Selectors) -> Selection {
        Selection::new(selectors, AGENT, &host.resolver()).expect("valid selectors")
    }

    fn facts(pid: u32, executable: &str) -> ProcessFacts {
        ProcessFacts {
            process: Some((Pid(pid), None)),
            executable: Some(executable.into()),
            ..ProcessFacts::default()
        }
    }

    fn why(selection: &Selection, facts: &ProcessFacts) -> String {
        let decision = selection.decide(facts);
        let verdict = if decision.traced { "traced" } else { "not traced" };
        format!("{verdict}: {}", decision.why)
    }

    #[test]
    fn without_selectors_everything_but_the_agent_is_traced() {
        let selection = selection(&FakeHost::new(), &Selectors::default());
        assert!(selection.is_all());
        assert_eq!(why(&selection, &facts(7, "/x")), "traced: all processes are traced");
        assert_eq!(why(&selection, &facts(99, "/x")), "not traced: is the agent itself");
    }

    #[test]
    fn globs_match_file_names_or_paths() {
        let host = FakeHost::new();
        let matches = |glob: &str, path: &str| {
            let selectors = Selectors { executables: vec![glob.into()], ..Selectors::default() };
            selection(&host, &selectors).decide(&facts(7, path)).traced
        };
        assert!(matches("nginx*", "/usr/sbin/nginx-debug"));
        assert!(matches("{node,nginx}", "/usr/sbin/nginx"));
        assert!(!matches("nginx", "/usr/sbin/nginx-debug"));
        assert!(!matches("sbin", "/usr/sbin/nginx"));
        assert!(matches("/usr/*/nginx", "/usr/sbin/nginx"));
        assert!(!matches("/usr/*", "/usr/sbin/nginx"));
        assert!(matches("/usr/**", "/usr/sbin/nginx"));
        assert!(matches("**/bin/app", "/srv/bin/app"));
        assert!(matches("curl", "curl"), "a process that is gone has only its zeroth argument");
    }

    #[test]
    fn selectors_are_a_union() {
        let host = FakeHost::new();
        host.process(10).stat("root", 1, 500);
        host.directory("/sys/fs/cgroup/unified/shop");
        let selectors = Selectors {
            ports: vec![80, 8080],
            pids: vec![Pid(10)],
            executables: vec!["nginx*".into()],
            cgroups: vec!["shop".into()],
            all: false,
        };
        let selection = selection(&host, &selectors);
        assert!(selection.asks_for_ports() && !selection.is_all());
        assert_eq!(why(&selection, &facts(7, "/x")), "not traced: no selector matches");
        assert_eq!(why(&selection, &facts(7, "/bin/nginx")), "traced: matches --exe 'nginx*'");
        assert_eq!(why(&selection, &facts(10, "/x")), "traced: is named by --pid");
        let serves = ProcessFacts { ports: vec![22, 8080], ..facts(7, "/x") };
        assert_eq!(why(&selection, &serves), "traced: serves --port 8080");
        let cgroup = CgroupPath::parse("0::/shop/web");
        let contained = ProcessFacts { cgroup, ..facts(7, "/x") };
        assert_eq!(why(&selection, &contained), "traced: is in --cgroup /shop");
        let ancestors = vec![(Pid(8), None), (Pid(10), Some(StartTicks(500)))];
        let child = ProcessFacts { ancestors, ..facts(7, "/x") };
        assert_eq!(why(&selection, &child), "traced: descends from --pid 10");
    }

    #[test]
    fn an_id_used_again_is_not_selected() {
        let host = FakeHost::new();
        host.process(10).stat("root", 1, 500);
        let selectors = Selectors { pids: vec![Pid(10)], ..Selectors::default() };
        let selection = selection(&host, &selectors);
        let successor = ProcessFacts {
            process: Some((Pid(10), Some(StartTicks(900)))),
            ..ProcessFacts::default()
        };
        assert!(!selection.decide(&successor).traced);
    }

    #[test]
    fn mistakes_are_explained() {
        let host = FakeHost::new();
        let error = |selectors: Selectors| {
            Selection::new(&selectors, AGENT, &host.resolver()).expect_err("invalid").to_string()
        };
        let glob = Selectors { executables: vec!["{a".into()], ..Selectors::default() };
        assert!(error(glob).starts_with("--exe `{a` is not a glob: "));
        let pid = Selectors { pids: vec![Pid(12345)], ..Selectors::default() };
        assert!(error(pid).starts_with("--pid 12345: there is no such process"));
        let cgroup = Selectors { cgroups: vec!["nowhere".into()], ..Selectors::default() };
        assert!(error(cgroup).contains("no cgroup `nowhere`"));
    }
}
