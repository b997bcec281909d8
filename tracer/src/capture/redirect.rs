//! The kernel half of the transparent proxy: attaches the programs that send connections of traced
//! processes to the agent's listeners, and carries what both halves tell each other about it.
//! Knows nothing of what the agent does with the connections.
//!
//! Every attachment is a link held by descriptor, never pinned: however the agent ends, the kernel
//! takes the programs away with it, and connections go straight again.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap as BpfHashMap, MapData, MapError, PerCpuArray, SkStorage};
use aya::programs::cgroup_sockopt::CgroupSockoptLink;
use aya::programs::links::FdLink;
use aya::programs::{
    BtfTracePoint, CgroupAttachMode, CgroupSockAddr, CgroupSockopt, ProgramError, SockOps,
};
use serde::Serialize;
use tracer_ebpf::redirect::{
    ANCESTORS, BEAT_NANOS, ListenerPorts, NO_PORT, OUTCOMES, PORT_WORDS, Redirected, range, state,
};

use super::loader::{LoadError, describe};
use crate::event::{ConnId, Pid, StreamOffset};

/// How long a beat of [`Redirect::beat`] keeps connections coming.
pub const BEAT: std::time::Duration = std::time::Duration::from_nanos(BEAT_NANOS);

/// Inode of the root of the version 2 hierarchy; a cgroup namespace shows another directory there.
const ROOT_INODE: u64 = 1;

/// A network namespace, by the inode that `/proc/PID/ns/net` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Netns(pub u32);

/// Which connections may be redirected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectScope {
    /// By destination port; what is not there is out of scope.
    pub ports: Vec<bool>,
    /// By destination address: the longest prefix that matches decides, and without one it is
    /// [`Range::Outside`].
    pub ranges: Vec<AddressRange>,
}

/// Addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    /// IPv4 stands in its mapped form.
    pub prefix: Ipv6Addr,
    /// Bits of the prefix, from 0 to 128.
    pub bits: u8,
    /// What becomes of connections there.
    pub kind: Range,
}

/// What becomes of connections to an [`AddressRange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Range {
    /// They go straight.
    Outside,
    /// They are redirected.
    Inside,
    /// They go straight, being connections to the host itself.
    Loopback,
}

/// The control groups whose processes may be redirected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    /// The programs are attached to these: the selected ones, or the root. None is within another:
    /// the programs would run twice.
    pub attached: Vec<PathBuf>,
    /// The agent's own, in which its listeners are.
    pub own: PathBuf,
    /// Those selected, of which processes are targets before they were seen; with their depths.
    pub selected: Vec<(PathBuf, u32)>,
}

/// Where an accepted connection was meant to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handed {
    /// The destination; IPv4 as such.
    pub destination: SocketAddr,
    /// The connection in the events of the capture, if that has room for it.
    pub connection: Option<ConnId>,
    /// Where the first byte that the application sends stands in its stream.
    pub first: StreamOffset,
}

/// Connects of traced processes, by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RedirectCounters {
    /// Sent to the agent.
    pub redirected: u64,
    /// Went straight to their destination, by reason.
    pub straight: BTreeMap<&'static str, u64>,
}

/// Names of [`tracer_ebpf::redirect::Outcome`], in order, after the first.
const REASONS: [&str; OUTCOMES as usize - 1] = [
    "undecided_process",
    "process_out_of_scope",
    "port_out_of_scope",
    "address_out_of_scope",
    "loopback",
    "bound_socket",
    "multipath_tcp",
    "agent_socket",
    "no_listener_in_namespace",
    "listener_gone",
    "agent_not_accepting",
    "accept_queue_filling",
    "no_memory",
];

/// Why connections cannot be redirected.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The object or a map.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A program was refused.
    #[error("the kernel refuses {program}: {}{}", describe(refusal), advice(refusal))]
    Program {
        /// Its name.
        program: &'static str,
        /// What the kernel said.
        refusal: Box<ProgramError>,
    },
    /// A kernel that attaches programs for good.
    #[error(
        "this kernel attaches {0} without a link, so that it would stay when the agent is killed \
         and cut off every connection; kernels from 5.7 do better"
    )]
    NoLink(&'static str),
    /// A cgroup directory could not be opened.
    #[error("cgroup {}: {source}", path.display())]
    Group {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The mount shows a part of the hierarchy.
    #[error(
        "{} is not the root of the cgroup hierarchy but what a cgroup namespace shows of it, so \
         processes elsewhere would be missed; run the agent in the host's cgroup namespace \
         (`--cgroupns host` for containers), or select processes by --cgroup alone", .0.display()
    )]
    NotRoot(PathBuf),
    /// More cgroups than the kernel half looks for.
    #[error("{0} cgroups are selected; propagation takes {ANCESTORS} at most")]
    ManyGroups(usize),
}

fn advice(error: &ProgramError) -> &'static str {
    let text = describe(error);
    if text.contains("ermission") || text.contains("not permitted") {
        "; propagation needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, and no kernel lockdown"
    } else {
        ""
    }
}

/// The attached redirect. Dropping it lets all connections go straight.
pub struct Redirect {
    /// What sends connections to the agent.
    connect: Vec<FdLink>,
    /// The same for the agent itself, to try it.
    trial: Vec<FdLink>,
    /// What serves connections that were: needed as long as one of them is open.
    _rest: Vec<FdLink>,
    _answers: Vec<CgroupSockoptLink>,
    /// Laid out as [`Redirected`].
    accepted: SkStorage<MapData, [u8; size_of::<Redirected>()]>,
    listeners: SkStorage<MapData, u32>,
    ports: BpfHashMap<MapData, u32, [u16; 2]>,
    missed: BpfHashMap<MapData, u32, u32>,
    state: Array<MapData, u64>,
    outcomes: PerCpuArray<MapData, u64>,
    /// Outcomes of the agent's own trials.
    tried: [u64; OUTCOMES as usize],
}

impl Redirect {
    pub(super) fn load(
        object: &mut Ebpf,
        scope: &RedirectScope,
        groups: &Groups,
    ) -> Result<Self, RedirectError> {
        fill_scope(object, scope)?;
        fill_groups(object, groups)?;
        let mut take = |name| object.take_map(name).ok_or(LoadError::Missing(name));
        let accepted = take("ACCEPTED")?.try_into().map_err(failed("ACCEPTED"))?;
        let listeners = take("LISTENERS")?.try_into().map_err(failed("LISTENERS"))?;
        let ports = take("LISTENER_PORTS")?.try_into().map_err(failed("LISTENER_PORTS"))?;
        let missed = take("MISSED_NETNS")?.try_into().map_err(failed("MISSED_NETNS"))?;
        let state = take("REDIRECT_STATE")?.try_into().map_err(failed("REDIRECT_STATE"))?;
        let outcomes =
            take("REDIRECT_OUTCOMES")?.try_into().map_err(failed("REDIRECT_OUTCOMES"))?;

        let attached = groups.attached.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let own = open(&groups.own)?;
        let mut everywhere: Vec<&File> = attached.iter().collect();
        // The agent's listeners must be seen as well, and it tries the redirect on itself.
        if !groups.attached.iter().any(|group| groups.own.starts_with(group)) {
            everywhere.push(&own);
        }
        // What connections need once they are redirected comes first.
        let (mut rest, mut answers) = (Vec::new(), Vec::new());
        for group in &everywhere {
            rest.push(attach_sock_ops(object, "redirect_handshake", group)?);
            rest.push(attach_sock_addr(object, "redirect_peer4", group)?);
            rest.push(attach_sock_addr(object, "redirect_peer6", group)?);
            answers.push(attach_sockopt(object, "redirect_getsockopt", group)?);
        }
        rest.push(attach_tracepoint(object, "redirect_alarm", "signal_generate")?);
        let mut trial = Vec::new();
        for group in everywhere.iter().skip(attached.len()) {
            trial.push(attach_sock_addr(object, "redirect_connect4", group)?);
            trial.push(attach_sock_addr(object, "redirect_connect6", group)?);
        }
        let mut connect = Vec::new();
        for group in &attached {
            connect.push(attach_sock_addr(object, "redirect_connect4", group)?);
            connect.push(attach_sock_addr(object, "redirect_connect6", group)?);
        }
        Ok(Self {
            connect,
            trial,
            _rest: rest,
            _answers: answers,
            accepted,
            listeners,
            ports,
            missed,
            state,
            outcomes,
            tried: [0; OUTCOMES as usize],
        })
    }

    /// Marks a listening socket as one that connections may be sent to.
    pub fn mark_listener(&mut self, listener: &impl AsRawFd) -> Result<(), LoadError> {
        self.listeners.insert(listener, 1, 0).map_err(failed("LISTENERS"))
    }

    /// Sends connections within a network namespace to these ports of its loopback addresses, at
    /// which marked listeners must be.
    pub fn open_namespace(
        &mut self,
        namespace: Netns,
        v4: Option<u16>,
        v6: Option<u16>,
    ) -> Result<(), LoadError> {
        let ports = ListenerPorts { v4: v4.unwrap_or(0), v6: v6.unwrap_or(0) };
        let ports = [ports.v4, ports.v6];
        self.ports.insert(namespace.0, ports, 0).map_err(failed("LISTENER_PORTS"))
    }

    /// Lets connections within a network namespace go straight from now on. Its listeners should
    /// stay for a moment: one may be on its way.
    pub fn close_namespace(&mut self, namespace: Netns) {
        // The only failure is that it was not open.
        let _ = self.ports.remove(&namespace.0);
    }

    /// Network namespaces in which a listener was missed since the last call, with a process that
    /// missed it and may be gone.
    pub fn take_missed(&mut self) -> Vec<(Netns, Pid)> {
        let missed: Vec<_> = self.missed.iter().flatten().collect();
        for (namespace, _) in &missed {
            let _ = self.missed.remove(namespace);
        }
        missed.into_iter().map(|(namespace, pid)| (Netns(namespace), Pid(pid))).collect()
    }

    /// Says that the agent accepts connections: they come for [`BEAT`] from now on.
    pub fn beat(&mut self) {
        self.set_state(state::BEAT, super::Capture::now().0);
    }

    /// Lets connections go straight until the next beat.
    pub fn pause(&mut self) {
        self.set_state(state::BEAT, 0);
    }

    /// For trying: takes the agent's own connections to this port, or not even these, and nobody
    /// else's.
    pub(crate) fn rehearse(&mut self, port: Option<u16>) {
        self.set_state(state::REHEARSAL_PORT, port.map_or(NO_PORT, u64::from));
    }

    /// Ends the trial; what it led to is not counted.
    pub(crate) fn end_rehearsal(&mut self) {
        self.trial.clear();
        self.tried = self.outcomes();
        self.set_state(state::REHEARSAL_PORT, 0);
    }

    /// Where an accepted connection was meant to go; `None` if it was not redirected.
    pub fn destination(&self, accepted: &impl AsRawFd) -> Option<Handed> {
        let bytes = self.accepted.get(accepted, 0).ok()?;
        Some(handed(&bytes))
    }

    /// Lets all new connections go straight, for good. Those that are open go on.
    pub fn detach(&mut self) {
        self.connect.clear();
    }

    /// What became of connects so far.
    pub fn counters(&self) -> RedirectCounters {
        let mut counts = self.outcomes().into_iter().zip(self.tried).map(|(all, own)| all - own);
        let redirected = counts.next().unwrap_or_default();
        let straight = REASONS.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
        RedirectCounters { redirected, straight }
    }

    fn outcomes(&self) -> [u64; OUTCOMES as usize] {
        let sum = |index: usize| -> u64 {
            self.outcomes.get(&(index as u32), 0).map_or(0, |values| values.iter().sum())
        };
        std::array::from_fn(sum)
    }

    fn set_state(&mut self, index: u32, value: u64) {
        // An array has all its indices.
        let _ = self.state.set(index, value, 0);
    }
}

fn handed(bytes: &[u8; size_of::<Redirected>()]) -> Handed {
    let field = |at: usize| -> [u8; 8] {
        let mut value = [0; 8];
        value.copy_from_slice(&bytes[at..at + 8]);
        value
    };
    let mut address = [0; 16];
    let at = core::mem::offset_of!(Redirected, address);
    address.copy_from_slice(&bytes[at..at + 16]);
    let address = IpAddr::V6(Ipv6Addr::from(address)).to_canonical();
    let at = core::mem::offset_of!(Redirected, port);
    let port = u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    let conn = u64::from_ne_bytes(field(core::mem::offset_of!(Redirected, conn)));
    let at = core::mem::offset_of!(Redirected, first);
    let mut first = [0; 4];
    first.copy_from_slice(&bytes[at..at + 4]);
    Handed {
        destination: SocketAddr::new(address, port),
        connection: (conn != 0).then_some(ConnId(conn)),
        first: StreamOffset(u32::from_ne_bytes(first)),
    }
}

fn fill_scope(object: &mut Ebpf, scope: &RedirectScope) -> Result<(), LoadError> {
    let in_scope = |port: usize| scope.ports.get(port).copied().unwrap_or(false);
    let mut ports: Array<_, u64> = map(object, "REDIRECT_PORTS")?;
    for word in 0..PORT_WORDS {
        let bits = (0..64).filter(|bit| in_scope(word as usize * 64 + bit));
        let bits = bits.fold(0_u64, |bits, bit| bits | 1 << bit);
        ports.set(word, bits, 0).map_err(failed("REDIRECT_PORTS"))?;
    }
    let mut addresses: LpmTrie<_, [u8; 16], u8> = map(object, "REDIRECT_ADDRESSES")?;
    for given in &scope.ranges {
        let kind = match given.kind {
            Range::Outside => range::OUTSIDE,
            Range::Inside => range::INSIDE,
            Range::Loopback => range::LOOPBACK,
        };
        let key = Key::new(u32::from(given.bits), given.prefix.octets());
        addresses.insert(&key, kind, 0).map_err(failed("REDIRECT_ADDRESSES"))?;
    }
    Ok(())
}

fn fill_groups(object: &mut Ebpf, groups: &Groups) -> Result<(), RedirectError> {
    if groups.selected.len() > ANCESTORS as usize {
        return Err(RedirectError::ManyGroups(groups.selected.len()));
    }
    let mut ancestors: Array<_, [u64; 2]> = map(object, "REDIRECT_CGROUPS")?;
    for (index, (path, level)) in groups.selected.iter().enumerate() {
        // Laid out as `Ancestor`: the level is followed by padding.
        let ancestor = [inode(path)?, u64::from(*level).to_le()];
        ancestors.set(index as u32, ancestor, 0).map_err(failed("REDIRECT_CGROUPS"))?;
    }
    for path in &groups.attached {
        let selected = groups.selected.iter().any(|(selected, _)| selected == path);
        if !selected && inode(path)? != ROOT_INODE {
            return Err(RedirectError::NotRoot(path.clone()));
        }
    }
    Ok(())
}

fn inode(path: &PathBuf) -> Result<u64, RedirectError> {
    let metadata = std::fs::metadata(path);
    let metadata =
        metadata.map_err(|source| RedirectError::Group { path: path.clone(), source })?;
    Ok(metadata.ino())
}

fn open(path: &PathBuf) -> Result<File, RedirectError> {
    File::open(path).map_err(|source| RedirectError::Group { path: path.clone(), source })
}

fn map<'a, M>(object: &'a mut Ebpf, name: &'static str) -> Result<M, LoadError>
where
    M: TryFrom<&'a mut aya::maps::Map, Error = MapError>,
{
    object.map_mut(name).ok_or(LoadError::Missing(name))?.try_into().map_err(failed(name))
}

fn failed(map: &'static str) -> impl Fn(MapError) -> LoadError {
    move |source| LoadError::Map { map, source: Box::new(source) }
}

/// Loads a program unless it is, attaches it to `$group`, and takes the link out.
macro_rules! attach {
    ($object:ident, $name:ident, $kind:ty, $program:ident => $load:expr, $attach:expr) => {{
        let failed = |refusal: ProgramError| {
            // With the verifier's whole log.
            tracing::debug!(program = $name, ?refusal, "refused");
            RedirectError::Program { program: $name, refusal: Box::new(refusal) }
        };
        let $program: &mut $kind = $object
            .program_mut($name)
            .ok_or(LoadError::Missing($name))?
            .try_into()
            .map_err(failed)?;
        if $program.fd().is_err() {
            $load.map_err(failed)?;
        }
        let id = $attach.map_err(failed)?;
        $program.take_link(id).map_err(failed)
    }};
}

fn attach_sock_addr(
    object: &mut Ebpf,
    name: &'static str,
    group: &File,
) -> Result<FdLink, RedirectError> {
    let link = attach!(object, name, CgroupSockAddr, program => program.load(),
        program.attach(group, CgroupAttachMode::Single));
    FdLink::try_from(link?).map_err(|_| RedirectError::NoLink(name))
}

fn attach_sockopt(
    object: &mut Ebpf,
    name: &'static str,
    group: &File,
) -> Result<CgroupSockoptLink, RedirectError> {
    // Of the programs attached alike before, it is known by now that this gives a link.
    attach!(object, name, CgroupSockopt, program => program.load(),
        program.attach(group, CgroupAttachMode::Single))
}

fn attach_sock_ops(
    object: &mut Ebpf,
    name: &'static str,
    group: &File,
) -> Result<FdLink, RedirectError> {
    let link = attach!(object, name, SockOps, program => program.load(),
        program.attach(group, CgroupAttachMode::Single));
    FdLink::try_from(link?).map_err(|_| RedirectError::NoLink(name))
}

fn attach_tracepoint(
    object: &mut Ebpf,
    name: &'static str,
    tracepoint: &'static str,
) -> Result<FdLink, RedirectError> {
    let btf = aya::Btf::from_sys_fs().map_err(LoadError::from)?;
    let link = attach!(object, name, BtfTracePoint, program => program.load(tracepoint, &btf),
        program.attach());
    Ok(link?.into())
}
