//! Loading the eBPF object and attaching what the chosen backend needs.

use std::fs::File;
use std::path::PathBuf;

use aya::maps::{Array, CgroupArray, HashMap as BpfHashMap, MapError};
use aya::programs::{BtfTracePoint, ProgramError};
use aya::{Btf, Ebpf, EbpfError, EbpfLoader};
use tracer_ebpf::redirect::HANDSHAKES;
use tracer_ebpf::{setting, verdict};

use super::kernel_types::{KernelTypes, KernelTypesError};
use super::rehearsal::rehearse;

/// The compiled kernel half.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracer-ebpf.o"));

/// Where events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Socket tracepoints and socket storage.
    Socket,
    /// System-call exit.
    Syscall,
}

impl Backend {
    /// Both, the preferred one first.
    pub const ALL: [Self; 2] = [Self::Socket, Self::Syscall];

    /// As spelled on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Syscall => "syscall",
        }
    }

    /// Its own programs with the tracepoints they attach to.
    pub(super) fn programs(self) -> &'static [Probe] {
        match self {
            Self::Socket => &[
                Probe { program: "sock_send", tracepoint: "sock_send_length" },
                Probe { program: "sock_receive", tracepoint: "sock_recv_length" },
                Probe { program: "tcp_splice_receive", tracepoint: "tcp_rcv_space_adjust" },
            ],
            Self::Syscall => &[Probe { program: "sys_exit", tracepoint: "sys_exit" }],
        }
    }
}

/// Scratch slots where the number of possible processors cannot be read.
const MAX_PROCESSORS: u32 = 256;

/// Programs both backends need.
pub(super) const LIFECYCLE: &[Probe] = &[
    Probe { program: "socket_state", tracepoint: "inet_sock_set_state" },
    Probe { program: "socket_destroyed", tracepoint: "tcp_destroy_sock" },
    Probe { program: "process_fork", tracepoint: "sched_process_fork" },
    Probe { program: "process_exec", tracepoint: "sched_process_exec" },
    Probe { program: "process_exit", tracepoint: "sched_process_exit" },
];

/// A program and where it attaches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    /// Name in the object file.
    pub(super) program: &'static str,
    /// Kernel tracepoint.
    pub(super) tracepoint: &'static str,
}

/// What a process that nobody decided on is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// A target (`--all`).
    Trace,
    /// Announced, and traced until user space decides (`--exe`).
    Ask,
    /// Not a target (only `--pid`, `--port`, `--cgroup`).
    Skip,
}

/// How to capture.
#[derive(Clone, Debug)]
pub struct Options {
    /// Force one backend.
    pub backend: Option<Backend>,
    /// Size of the ring; a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Bytes copied of each message.
    pub message_budget: u32,
    /// Connections tracked at once.
    pub max_connections: u32,
    /// What undecided processes are.
    pub unknown: Unknown,
    /// Processes that listen on these ports are targets.
    pub ports: Vec<u16>,
    /// Processes in these version 2 cgroups, or below, are targets.
    pub cgroups: Vec<PathBuf>,
    /// Prepare for [`super::Capture::redirect`].
    pub redirect: Option<Redirecting>,
}

/// What has to be known of the redirect when programs are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redirecting {
    /// Only processes that [`super::Capture::decide_process`] marks are redirected.
    pub only_chosen: bool,
}

/// Why capture could not start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No type information.
    #[error(transparent)]
    KernelTypes(#[from] KernelTypesError),
    /// aya could not read it either.
    #[error("cannot load kernel type information: {0}")]
    Btf(#[from] aya::BtfError),
    /// The object or its maps were refused.
    #[error("the kernel refused the eBPF object: {0}; run `tracer doctor` to see what is missing")]
    Object(#[from] EbpfError),
    /// A program was refused.
    #[error("probe {tracepoint}: {}", describe(source))]
    Program {
        /// Where it should attach.
        tracepoint: &'static str,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// A map could not be written.
    #[error("map {map}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What the kernel said.
        source: Box<MapError>,
    },
    /// State of a socket cannot be kept, though the map exists.
    #[error("the kernel does not keep state for sockets; `--backend syscall` does without")]
    NoState,
    /// The programs could not be tried.
    #[error("cannot use a socket pair to try the probes: {0}; raise the limit of open files")]
    Rehearsal(std::io::Error),
    /// The ring cannot be waited for.
    #[error("cannot wait for events: {0}; raise the limit of open files")]
    Wait(std::io::Error),
    /// A cgroup directory could not be opened.
    #[error("cgroup {}: {source}; give a directory of the version 2 hierarchy", path.display())]
    Cgroup {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The object lacks something: a build error.
    #[error("the eBPF object has no `{0}`; rebuild the agent")]
    Missing(&'static str),
    /// Neither backend works.
    #[error("no capture backend works here: {}", reasons.join("; "))]
    NoBackend {
        /// One a backend.
        reasons: Vec<String>,
    },
}

/// The innermost reason of a program error, without the verifier's log.
pub(super) fn describe(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let last = log.lines().rev().map(str::trim).find(|line| {
                !line.is_empty()
                    && !line.starts_with("processed ")
                    && !line.starts_with("verification time")
                    && !line.starts_with("stack depth")
            });
            match last {
                Some(line) => format!("{io_error} ({line})"),
                None => io_error.to_string(),
            }
        }
        other => {
            let mut message = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(inner) = source {
                message = format!("{message}: {inner}");
                source = inner.source();
            }
            message
        }
    }
}

/// Loads and attaches with the first backend that works.
pub(super) fn load(options: &Options) -> Result<(Ebpf, Backend), LoadError> {
    let types = KernelTypes::of_running_kernel()?;
    let btf = Btf::from_sys_fs()?;
    let candidates: Vec<Backend> = match options.backend {
        Some(backend) => vec![backend],
        None => Backend::ALL.to_vec(),
    };
    let mut reasons = Vec::new();
    for backend in candidates {
        match load_backend(options, backend, &types, &btf) {
            Ok(object) => return Ok((object, backend)),
            Err(error) => reasons.push(format!("{}: {error}", backend.name())),
        }
    }
    Err(LoadError::NoBackend { reasons })
}

/// Loads, attaches, and makes sure that it works.
pub(super) fn load_backend(
    options: &Options,
    backend: Backend,
    types: &KernelTypes,
    btf: &Btf,
) -> Result<Ebpf, LoadError> {
    let mut object = load_object(options, backend, types, btf)?;
    select(&mut object, options)?;
    for probe in LIFECYCLE.iter().chain(backend.programs()) {
        attach(&mut object, *probe, btf)?;
    }
    rehearse(&mut object)?;
    Ok(object)
}

/// Creates the maps; loads no program yet.
pub(super) fn load_object(
    options: &Options,
    backend: Backend,
    types: &KernelTypes,
    btf: &Btf,
) -> Result<Ebpf, LoadError> {
    let constants = constants(options, backend, types)?;
    let mut loader = EbpfLoader::new();
    loader.btf(Some(btf));
    loader.map_max_entries("EVENTS", options.ring_bytes);
    // The map that the other backend would use is kept small.
    let addressed = if backend == Backend::Syscall { options.max_connections } else { 1 };
    loader.map_max_entries("CONNECTIONS", addressed);
    loader.map_max_entries("VERDICTS", options.max_connections);
    // Nor is there room for destinations if no connection is redirected.
    let redirects = options.redirect.is_some();
    loader.map_max_entries("HANDSHAKES", if redirects { HANDSHAKES } else { 1 });
    loader.map_max_entries("DESTINATIONS", if redirects { addressed } else { 1 });
    // Without the count the kernel half would find no slot; one for every id it can have.
    let processors = aya::util::nr_cpus().map_or(MAX_PROCESSORS, |count| count as u32);
    loader.map_max_entries("SEND_SCRATCH", processors);
    loader.map_max_entries("RECV_SCRATCH", processors);
    loader.map_max_entries("CONNECT_STACKS", processors);
    for (name, value) in &constants {
        loader.override_global(name, value, true);
    }
    Ok(loader.load(OBJECT)?)
}

/// Loads and attaches one program. Its link lives as long as the object.
pub(super) fn attach(object: &mut Ebpf, probe: Probe, btf: &Btf) -> Result<(), LoadError> {
    let failed = |source: ProgramError| LoadError::Program {
        tracepoint: probe.tracepoint,
        source: Box::new(source),
    };
    let program: &mut BtfTracePoint = object
        .program_mut(probe.program)
        .ok_or(LoadError::Missing(probe.program))?
        .try_into()
        .map_err(failed)?;
    program.load(probe.tracepoint, btf).map_err(failed)?;
    program.attach().map_err(failed)?;
    Ok(())
}

fn select(object: &mut Ebpf, options: &Options) -> Result<(), LoadError> {
    let map_error = |map: &'static str| {
        move |source: MapError| LoadError::Map { map, source: Box::new(source) }
    };
    let mut settings: Array<_, u32> = object
        .map_mut("SETTINGS")
        .ok_or(LoadError::Missing("SETTINGS"))?
        .try_into()
        .map_err(map_error("SETTINGS"))?;
    // Zero is what a fresh connection state holds; the first look-up must happen.
    settings.set(setting::EPOCH, 1, 0).map_err(map_error("SETTINGS"))?;

    let mut ports: BpfHashMap<_, u16, u8> = object
        .map_mut("PORTS")
        .ok_or(LoadError::Missing("PORTS"))?
        .try_into()
        .map_err(map_error("PORTS"))?;
    for port in &options.ports {
        ports.insert(port, 1, 0).map_err(map_error("PORTS"))?;
    }

    let mut cgroups: CgroupArray<_> = object
        .map_mut("CGROUPS")
        .ok_or(LoadError::Missing("CGROUPS"))?
        .try_into()
        .map_err(map_error("CGROUPS"))?;
    for (index, path) in options.cgroups.iter().enumerate() {
        let directory =
            File::open(path).map_err(|source| LoadError::Cgroup { path: path.clone(), source })?;
        cgroups.set(index as u32, directory, 0).map_err(map_error("CGROUPS"))?;
    }
    Ok(())
}

/// The read-only data of the kernel half: kernel offsets and start-up settings.
fn constants(
    options: &Options,
    backend: Backend,
    types: &KernelTypes,
) -> Result<Vec<(&'static str, u32)>, LoadError> {
    let mut constants = Vec::new();
    for (name, structure, member) in OFFSETS {
        constants.push((*name, types.offset(structure, member)?));
    }
    for (name, structure, member) in OPTIONAL_OFFSETS {
        constants.push((*name, types.offset(structure, member).unwrap_or(0)));
    }
    let unknown = match options.unknown {
        Unknown::Trace => verdict::TRACE,
        Unknown::Ask => verdict::ASK,
        Unknown::Skip => verdict::SKIP,
    };
    constants.extend([
        ("AGENT_TGID", std::process::id()),
        ("MESSAGE_BUDGET", options.message_budget),
        ("DEFAULT_VERDICT", u32::from(unknown)),
        ("CGROUP_COUNT", options.cgroups.len() as u32),
        ("PORT_SELECTION", u32::from(!options.ports.is_empty())),
        ("WAKE_BYTES", options.ring_bytes / 2),
        ("STATE_IN_MAP", u32::from(backend == Backend::Syscall)),
        ("REDIRECTS", u32::from(options.redirect.is_some())),
        ("REDIRECT_CHOSEN", u32::from(options.redirect.is_some_and(|it| it.only_chosen))),
    ]);
    Ok(constants)
}

const OFFSETS: &[(&str, &str, &str)] = &[
    ("SOCK_FAMILY", "sock", "__sk_common.skc_family"),
    ("SOCK_FLAGS", "sock", "__sk_common.skc_flags"),
    ("SOCK_NUM", "sock", "__sk_common.skc_num"),
    ("SOCK_DPORT", "sock", "__sk_common.skc_dport"),
    ("SOCK_DADDR", "sock", "__sk_common.skc_daddr"),
    ("SOCK_RCV_SADDR", "sock", "__sk_common.skc_rcv_saddr"),
    ("SOCK_NET", "sock", "__sk_common.skc_net.net"),
    ("SOCK_V6_DADDR", "sock", "__sk_common.skc_v6_daddr"),
    ("SOCK_V6_RCV_SADDR", "sock", "__sk_common.skc_v6_rcv_saddr"),
    ("SOCK_TYPE", "sock", "sk_type"),
    ("SOCK_PROTOCOL", "sock", "sk_protocol"),
    ("SOCK_ERR", "sock", "sk_err"),
    ("SOCK_SHUTDOWN", "sock", "sk_shutdown"),
    ("SOCK_SOCKET", "sock", "sk_socket"),
    ("SOCK_BACKLOG", "sock", "sk_ack_backlog"),
    ("SOCK_MAX_BACKLOG", "sock", "sk_max_ack_backlog"),
    ("SOCK_COOKIE", "sock", "__sk_common.skc_cookie"),
    ("NET_INUM", "net", "ns.inum"),
    ("TCP_WRITE_SEQ", "tcp_sock", "write_seq"),
    ("TCP_SND_NXT", "tcp_sock", "snd_nxt"),
    ("TCP_COPIED_SEQ", "tcp_sock", "copied_seq"),
    ("TCP_RCV_NXT", "tcp_sock", "rcv_nxt"),
    ("TCP_MSTAMP", "tcp_sock", "tcp_mstamp"),
    ("TCP_BYTES_SENT", "tcp_sock", "bytes_sent"),
    ("TCP_BYTES_RECEIVED", "tcp_sock", "bytes_received"),
    ("UNIX_ADDR", "unix_sock", "addr"),
    ("UNIX_PEER", "unix_sock", "peer"),
    ("UNIX_ADDR_LEN", "unix_address", "len"),
    ("UNIX_ADDR_NAME", "unix_address", "name"),
    ("SOCKET_SK", "socket", "sk"),
    ("SOCKET_FILE", "socket", "file"),
    ("FILE_INODE", "file", "f_inode"),
    ("FILE_PRIVATE", "file", "private_data"),
    ("INODE_INO", "inode", "i_ino"),
    ("INODE_MODE", "inode", "i_mode"),
    ("TASK_FILES", "task_struct", "files"),
    ("FILES_FDT", "files_struct", "fdt"),
    ("FDT_FD", "fdtable", "fd"),
    ("FDT_MAX", "fdtable", "max_fds"),
    ("TASK_MM", "task_struct", "mm"),
    ("TASK_LEADER", "task_struct", "group_leader"),
    ("TASK_REAL_PARENT", "task_struct", "real_parent"),
    ("TASK_TGID", "task_struct", "tgid"),
    ("TASK_COMM", "task_struct", "comm"),
    ("TASK_START", "task_struct", "start_time"),
    ("TASK_WAITS", "task_struct", "nvcsw"),
    ("TASK_FS_BASE", "task_struct", "thread.fsbase"),
    ("MM_ARG_START", "mm_struct", "arg_start"),
    ("MM_ARG_END", "mm_struct", "arg_end"),
    ("MM_ENV_START", "mm_struct", "env_start"),
    ("MM_ENV_END", "mm_struct", "env_end"),
];

/// Zero, which is no such member's place, where the kernel is built without.
const OPTIONAL_OFFSETS: &[(&str, &str, &str)] = &[("TASK_READS", "task_struct", "ioac.syscr")];
