//! What both halves agree on about connections that the agent's proxy takes over.
//!
//! A process connects; the kernel half writes the agent's listener over the destination and keeps
//! the destination with the socket. When the connection arrives at the listener, the kernel half
//! copies it to the accepted socket, where the agent reads it.

/// Where a redirected connection was meant to go. Kept with the connecting socket for its whole
/// life, and with the socket that the agent accepts.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Redirected {
    /// IPv6, or IPv4 in its mapped form.
    pub address: [u8; 16],
    /// Id of the connection in the events of the capture; zero if it has none.
    pub conn: u64,
    /// Cookie of the connecting socket.
    pub cookie: u64,
    /// Sequence number of the first byte that the connecting end sends; known once it is accepted.
    pub first: u32,
    /// Host byte order.
    pub port: u16,
    /// Keeps the alignment.
    pub padding: u16,
}

/// The connecting end of a redirected connection, by which its accepted end is found.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClientEnd {
    /// IPv6, or IPv4 in its mapped form.
    pub address: [u8; 16],
    /// Inode of the network namespace.
    pub netns: u32,
    /// Host byte order.
    pub port: u16,
    /// Keeps the alignment.
    pub padding: u16,
}

/// Ports of the agent's listeners on a network namespace's loopback addresses, in host byte order;
/// zero where there is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerPorts {
    /// On `127.0.0.1`.
    pub v4: u16,
    /// On `::1`.
    pub v6: u16,
}

/// A selected cgroup, as an ancestor to look for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ancestor {
    /// Its id.
    pub id: u64,
    /// Its depth; the root has zero.
    pub level: u32,
    /// Keeps the alignment.
    pub padding: u32,
}

/// Indices of the `REDIRECT_STATE` array.
pub mod state {
    /// When the agent last said that it accepts connections, in monotonic nanoseconds; zero means
    /// that it does not.
    pub const BEAT: u32 = 0;
    /// Non-zero once the agent is about to end. Never reset.
    pub const DYING: u32 = 1;
    /// While the agent tries the redirect on itself: the port it connects to, or
    /// [`super::NO_PORT`]. Nobody else is redirected meanwhile. Zero at all other times.
    pub const REHEARSAL_PORT: u32 = 2;
    /// Non-zero from the moment that the agent is sent `SIGSTOP` until it is sent `SIGCONT`. It may
    /// be about to say that it accepts just then, and says so before it stops.
    pub const STOPPED: u32 = 3;
    /// How many there are.
    pub const COUNT: u32 = 4;
}

/// Values of the `REDIRECT_ADDRESSES` trie: what becomes of connections to a range of addresses.
/// The longest matching prefix decides; an address without one is out of scope.
pub mod range {
    /// Not redirected.
    pub const OUTSIDE: u8 = 0;
    /// Redirected.
    pub const INSIDE: u8 = 1;
    /// Not redirected, being the host itself.
    pub const LOOPBACK: u8 = 2;
}

/// No port at all, and not zero.
pub const NO_PORT: u64 = 1 << 16;
/// How long the agent's word that it accepts connections holds. It renews it far more often; an
/// agent that is stopped or hangs gets no new connections after this time.
pub const BEAT_NANOS: u64 = 1_000_000_000;
/// `SO_PRIORITY` of sockets that belong to any agent's proxy: by it agents know each other's.
/// As a class of traffic it means best effort.
pub const AGENT_PRIORITY: u32 = 0x7472_6160;
/// Connections that can be between connecting and being accepted at once.
pub const HANDSHAKES: u32 = 16_384;
/// Network namespaces with a listener at once.
pub const NAMESPACES: u32 = 256;
/// Ranges of addresses that can be told apart.
pub const RANGES: u32 = 1_024;
/// Words of the bitmap of destination ports.
pub const PORT_WORDS: u32 = 1_024;
/// Selected cgroups at most.
pub const ANCESTORS: u32 = 16;

/// What became of a traced process' TCP connect; index into the per-CPU array `REDIRECT_OUTCOMES`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Sent to the agent.
    Redirected,
    /// Went straight: the agent has not said yet whether the process is a target.
    Undecided,
    /// Went straight: the process is traced, but not chosen for propagation.
    Process,
    /// Went straight: the port is out of scope.
    Port,
    /// Went straight: the address is out of scope.
    Address,
    /// Went straight: to this host itself.
    Loopback,
    /// Went straight: the socket is bound to an address, port or device, or has a routing mark.
    Bound,
    /// Went straight: a subflow of multipath TCP.
    Multipath,
    /// Went straight: from or to the proxy of an agent.
    AgentSocket,
    /// Went straight: no listener in the network namespace yet.
    NoNamespace,
    /// Went straight: the listener is gone.
    NoListener,
    /// Went straight: the agent does not accept connections right now.
    Unarmed,
    /// Went straight: too many connections wait to be accepted.
    Backlog,
    /// Went straight: no memory to remember the destination.
    NoMemory,
}

/// How many [`Outcome`]s there are.
pub const OUTCOMES: u32 = 14;
