//! `tracer doctor`: would `run` work here, and if not, what is missing?
//!
//! Looks and tries; changes nothing that outlives the check.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::capture::{Backend, ProbeCheck, check_probes};
use crate::proxy::redirect;

/// A capability with what it is needed for, and the bit it has in `CapEff`.
const CAPABILITIES: &[(&str, u32, &str)] = &[
    ("CAP_BPF", 39, "load eBPF programs and create maps"),
    ("CAP_PERFMON", 38, "attach probes and read process memory from them"),
    ("CAP_SYS_PTRACE", 19, "read names and service settings of other users' processes"),
    ("CAP_DAC_READ_SEARCH", 2, "read /proc entries of other users' processes"),
];
/// Implies `CAP_BPF` and `CAP_PERFMON`.
const CAP_SYS_ADMIN: u32 = 21;

/// Everything `doctor` found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Kernel release.
    pub kernel: String,
    /// Machine architecture.
    pub architecture: String,
    /// The kernel publishes its types.
    pub btf: bool,
    /// Missing capabilities, each with what it is for.
    pub missing_capabilities: Vec<MissingCapability>,
    /// Where the version 2 cgroup hierarchy is mounted.
    pub cgroup2: Option<String>,
    /// State of tracefs.
    pub tracefs: Mount,
    /// State of bpffs.
    pub bpffs: Mount,
    /// Kernel lockdown mode (`none`, `integrity`, `confidentiality`), if the kernel has it.
    pub lockdown: Option<String>,
    /// Each probe, attached or not.
    pub probes: Vec<ProbeCheck>,
    /// Why no probe could be tried.
    pub probe_failure: Option<String>,
    /// The backend `run` would choose.
    pub backend: Option<Backend>,
    /// Whether `--propagate proxy` would work.
    pub propagation: Propagation,
}

/// Whether connections can be sent through the agent.
#[derive(Clone, Debug, Serialize)]
pub struct Propagation {
    /// Tried and found to work.
    pub works: bool,
    /// Over IPv6 as well.
    pub ipv6: bool,
    /// Why it does not.
    pub refused: Option<String>,
}

/// A capability the agent lacks.
#[derive(Clone, Debug, Serialize)]
pub struct MissingCapability {
    /// `CAP_…`
    pub name: &'static str,
    /// What the agent needs it for.
    pub needed_to: &'static str,
}

/// Whether a kernel file system is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mount {
    /// Mounted there.
    Mounted(String),
    /// Not mounted, but the kernel knows it. The agent does not need it.
    Mountable,
    /// The kernel does not know it.
    Unsupported,
}

impl Report {
    /// Looks at the running system.
    pub fn of_this_system() -> Self {
        let mounts = read("/proc/self/mounts");
        let filesystems = read("/proc/filesystems");
        let (probes, probe_failure) = match check_probes() {
            Ok(probes) => (probes, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let backend = Backend::ALL.into_iter().find(|backend| attachable(&probes, *backend));
        let system = rustix::system::uname();
        Self {
            kernel: system.release().to_string_lossy().into_owned(),
            architecture: system.machine().to_string_lossy().into_owned(),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            missing_capabilities: missing_capabilities(&read("/proc/self/status")),
            cgroup2: mount_point(&mounts, "cgroup2"),
            tracefs: mount(&mounts, &filesystems, "tracefs"),
            bpffs: mount(&mounts, &filesystems, "bpf"),
            lockdown: lockdown(&read("/sys/kernel/security/lockdown")),
            probes,
            probe_failure,
            backend,
            propagation: Propagation::of_this_system(backend),
        }
    }

    /// Whether `run` would work.
    pub fn ready(&self) -> bool {
        self.backend.is_some()
    }
}

impl Propagation {
    fn of_this_system(backend: Option<Backend>) -> Self {
        let Some(backend) = backend else {
            let reason = "no process can be watched, see the probes";
            return Self { works: false, ipv6: false, refused: Some(reason.to_owned()) };
        };
        match redirect::check(backend) {
            Ok(rehearsal) => Self { works: true, ipv6: rehearsal.v6, refused: None },
            Err(error) => Self { works: false, ipv6: false, refused: Some(error.to_string()) },
        }
    }
}

impl fmt::Display for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.refused, self.ipv6) {
            (None, true) => f.write_str("--propagate proxy works"),
            (None, false) => f.write_str("--propagate proxy works, for IPv4 alone"),
            (Some(reason), _) => write!(f, "--propagate proxy does not work: {reason}"),
        }
    }
}

fn attachable(probes: &[ProbeCheck], backend: Backend) -> bool {
    let mut needed = probes.iter().filter(|probe| probe.backends.contains(&backend)).peekable();
    needed.peek().is_some() && needed.all(|probe| probe.refused.is_none())
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn missing_capabilities(status: &str) -> Vec<MissingCapability> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective >> bit & 1 == 1;
    CAPABILITIES
        .iter()
        .filter(|(name, bit, _)| {
            let implied = matches!(*name, "CAP_BPF" | "CAP_PERFMON") && has(CAP_SYS_ADMIN);
            !has(*bit) && !implied
        })
        .map(|(name, _, needed_to)| MissingCapability { name, needed_to })
        .collect()
}

fn mount_point(mounts: &str, filesystem: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let point = fields.nth(1)?;
        (fields.next()? == filesystem).then(|| point.to_owned())
    })
}

fn mount(mounts: &str, filesystems: &str, filesystem: &str) -> Mount {
    match mount_point(mounts, filesystem) {
        Some(point) => Mount::Mounted(point),
        None if filesystems
            .lines()
            .any(|line| line.split_whitespace().last() == Some(filesystem)) =>
        {
            Mount::Mountable
        }
        None => Mount::Unsupported,
    }
}

/// The bracketed word of `none [integrity] confidentiality`.
fn lockdown(state: &str) -> Option<String> {
    let (_, rest) = state.split_once('[')?;
    let (mode, _) = rest.split_once(']')?;
    Some(mode.to_owned())
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted(point) => write!(f, "mounted at {point}"),
            Self::Mountable => f.write_str("not mounted, mountable (not needed)"),
            Self::Unsupported => f.write_str("not supported by this kernel (not needed)"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel        {} ({})", self.kernel, self.architecture)?;
        let btf = if self.btf { "yes" } else { "no: needs CONFIG_DEBUG_INFO_BTF=y" };
        writeln!(f, "kernel types  {btf}")?;
        writeln!(f, "lockdown      {}", self.lockdown.as_deref().unwrap_or("none"))?;
        let cgroup2 = self.cgroup2.as_deref().unwrap_or("not mounted: --cgroup will not work");
        writeln!(f, "cgroup2       {cgroup2}")?;
        writeln!(f, "tracefs       {}", self.tracefs)?;
        writeln!(f, "bpffs         {}", self.bpffs)?;
        if self.missing_capabilities.is_empty() {
            writeln!(f, "privileges    sufficient")?;
        } else {
            writeln!(f, "privileges    missing:")?;
            for missing in &self.missing_capabilities {
                writeln!(f, "                {} (to {})", missing.name, missing.needed_to)?;
            }
        }
        writeln!(f, "probes")?;
        if let Some(failure) = &self.probe_failure {
            writeln!(f, "  none tried: {failure}")?;
        }
        for probe in &self.probes {
            let backends: Vec<_> = probe.backends.iter().map(|backend| backend.name()).collect();
            let state = match &probe.refused {
                None => "ok".to_owned(),
                Some(reason) => format!("refused: {reason}"),
            };
            writeln!(f, "  {:<22} {:<15} {state}", probe.tracepoint, backends.join(", "))?;
        }
        match self.backend {
            Some(backend) => writeln!(f, "backend       {}", backend.name())?,
            None => writeln!(f, "backend       none works")?,
        }
        writeln!(f, "propagation   {}", self.propagation)?;
        match (self.ready(), self.missing_capabilities.is_empty()) {
            (true, true) => write!(f, "`tracer run` will work here."),
            (true, false) => write!(
                f,
                "`tracer run` will work here, but names of some processes will be missing."
            ),
            (false, true) => write!(f, "`tracer run` will not work here, see the probes above."),
            (false, false) => write!(
                f,
                "`tracer run` will not work here: run it as root, or grant {}.",
                self.missing_capabilities
                    .iter()
                    .map(|missing| missing.name)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_exactly_the_missing_capabilities() {
        let names = |status: &str| -> Vec<_> {
            missing_capabilities(status).iter().map(|missing| missing.name).collect()
        };
        assert_eq!(names("CapEff:\t000001ffffffffff\n"), Vec::<&str>::new());
        assert_eq!(
            names("CapEff:\t0000000000000000\n"),
            ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]
        );
        // CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.
        assert_eq!(names("CapEff:\t0000000000200000\n"), ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]);
    }

    #[test]
    fn reads_mounts_and_lockdown() {
        let mounts =
            "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mount_point(mounts, "cgroup2").as_deref(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount(mounts, "nodev\tbpf\n", "bpf"), Mount::Mountable);
        assert_eq!(mount(mounts, "nodev\tbpf\n", "tracefs"), Mount::Unsupported);
        assert_eq!(lockdown("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(lockdown(""), None);
    }
}
