//! What the kernel saw, as plain values: the input language of the whole sans-IO core.
//!
//! Events are produced by [`crate::capture`] (live) or [`crate::recording`] (replay) and must not
//! know where they came from. They carry no HTTP and no OTLP notions.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Nanoseconds of the kernel's monotonic clock, the one clock of every event of a run.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct KernelTime(pub u64);

impl KernelTime {
    /// Nanoseconds from `earlier` to `self`; zero if `earlier` is later.
    pub fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Converts kernel times of one run to wall-clock time, with an offset taken once at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockOffset(pub i64);

impl ClockOffset {
    /// Nanoseconds since the Unix epoch.
    pub fn unix_nanos(self, time: KernelTime) -> u64 {
        time.0.saturating_add_signed(self.0)
    }
}

/// One socket for its whole life, unique within a run of the agent; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnId(pub u64);

/// Process id as the agent's pid namespace shows it (the kernel's `tgid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pid(pub u32);

/// Thread id (the kernel's `pid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tid(pub u32);

/// A task that a process' own runtime runs on threads, such as a goroutine: its identity within
/// the process, which no other task of the process ever has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId(pub u64);

/// A place in a program's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CodeAddress(pub u64);

/// What is known of the task on whose behalf a thread did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Task {
    /// Identity.
    pub id: TaskId,
    /// The task that started it; `None` if unknown.
    pub parent: Option<TaskId>,
    /// Where it was started; zero if unknown.
    pub site: CodeAddress,
}

impl Task {
    /// Whether `parent` is not the task that started this one, but the last in the row of those
    /// that wait for it, itself if there is none. The identity of such a task is given to another
    /// one once it is gone.
    pub fn is_awaited(&self) -> bool {
        self.site.0 == tracer_ebpf::TaskKey::AWAITED
    }
}

/// Which way bytes went, seen from the process that owns the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// The process wrote.
    Send,
    /// The process read.
    Receive,
}

impl Direction {
    /// The other direction.
    #[must_use]
    pub fn reverse(self) -> Self {
        match self {
            Self::Send => Self::Receive,
            Self::Receive => Self::Send,
        }
    }
}

/// Position in one direction of a connection's byte stream, modulo 2^32.
///
/// For TCP it is the sequence number space both ends share; other sockets count bytes from the
/// first one seen. Only differences mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StreamOffset(pub u32);

impl StreamOffset {
    /// The offset `len` bytes further on.
    #[must_use]
    pub fn advance(self, len: u32) -> Self {
        Self(self.0.wrapping_add(len))
    }

    /// Bytes from `earlier` to `self`; negative if `self` lies before it.
    pub fn distance_from(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Endpoint {
    /// TCP over IPv4 or IPv6; v4-mapped addresses are already unmapped.
    Inet(SocketAddr),
    /// A Unix socket's path (`@name` for the abstract space); empty when unnamed.
    Unix(String),
}

impl Endpoint {
    /// The address for `network.peer.address`; `None` for unnamed Unix sockets.
    pub fn address(&self) -> Option<String> {
        match self {
            Self::Inet(address) => Some(address.ip().to_string()),
            Self::Unix(path) if path.is_empty() => None,
            Self::Unix(path) => Some(path.clone()),
        }
    }

    /// The TCP port; `None` for Unix sockets.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Inet(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// The first sight of a connection; precedes all its other events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The connection.
    pub conn: ConnId,
    /// When it was first seen, which may be long after it was established.
    pub time: KernelTime,
    /// This process's end.
    pub local: Endpoint,
    /// The other end.
    pub remote: Endpoint,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Identity of this Unix socket and of its peer, for joining both ends; zero for TCP.
    pub unix_pair: (u64, u64),
    /// Inode of the socket, as `/proc` shows it; zero if unknown.
    pub inode: u64,
}

/// Why a range of bytes was seen but its content was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Unreadable {
    /// Sent or received by `io_uring`.
    IoUring,
    /// Moved inside the kernel: `sendfile`, `splice`, `MSG_TRUNC`.
    InKernel,
    /// The page could not be read from probe context.
    Fault,
    /// A 32-bit system call, or one the agent does not know.
    UnknownCall,
}

/// One successful send or receive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data<'a> {
    /// The connection.
    pub conn: ConnId,
    /// When the call finished; for TCP sends corrected towards the transmit time.
    pub time: KernelTime,
    /// The process that made the call (not necessarily the one that opened the socket).
    pub pid: Pid,
    /// The thread that made the call.
    pub tid: Tid,
    /// Which way.
    pub direction: Direction,
    /// Where in the stream the first byte stands.
    pub offset: StreamOffset,
    /// How many bytes were moved.
    pub len: u32,
    /// How often the connection changed direction before this call. Counts messages even where
    /// events are lost: without pipelining a request and its response are two turns.
    pub turn: u32,
    /// How often the thread has waited for something in its life, modulo 2^32. Between two equal
    /// counts it ran, or was ready to, all the time.
    pub waits: u32,
    /// The task on whose behalf the thread made the call. Only looked for where `turn` changes,
    /// which is where a message begins; `None` also if it cannot be told.
    pub task: Option<Task>,
    /// The callback of an event loop within which this was done, by the time of the read that it
    /// began with; `None` if unknown.
    pub callback: Option<KernelTime>,
    /// The first bytes of the range; shorter than `len` when the copy budget was used up.
    #[serde(borrow)]
    pub head: &'a [u8],
    /// The very last bytes of the range, copied only when `head` does not reach the end.
    #[serde(borrow)]
    pub tail: &'a [u8],
    /// Set when content is missing for another reason than the budget.
    pub unreadable: Option<Unreadable>,
}

/// A thread begins to connect a socket. May precede the connection's [`Opened`], or be all that is
/// ever heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connecting {
    /// The connection to be.
    pub conn: ConnId,
    /// When.
    pub time: KernelTime,
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// As in [`Data::waits`].
    pub waits: u32,
    /// As in [`Data::task`].
    pub task: Option<Task>,
    /// The callback of an event loop within which this was done, by the time of the read that it
    /// began with; `None` if unknown.
    pub callback: Option<KernelTime>,
}

/// How far a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CloseKind {
    /// The process read end-of-file: nothing more will be received.
    ReceiveEnd,
    /// The process shut down or closed its sending side: nothing more will be sent.
    SendEnd,
    /// The socket is gone; last event of the connection.
    Gone,
}

/// End of one or both directions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// The connection.
    pub conn: ConnId,
    /// When.
    pub time: KernelTime,
    /// How far.
    pub kind: CloseKind,
    /// The socket's pending error (`ECONNRESET` 104, `ETIMEDOUT` 110, …); zero when orderly.
    pub errno: i32,
    /// Direction changes in the whole life of the connection, see [`Data::turn`].
    pub turns: u32,
    /// Where the next sent byte would stand, if known: shows sends whose events were lost last.
    pub sent_end: Option<StreamOffset>,
    /// Where the next received byte would stand, if known.
    pub received_end: Option<StreamOffset>,
}

/// What the kernel half tells of a process when it first touches a traced socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSeen<'a> {
    /// The process.
    pub pid: Pid,
    /// Its parent.
    pub parent: Pid,
    /// When this event was taken.
    pub time: KernelTime,
    /// When the process was forked.
    pub started: KernelTime,
    /// The kernel's 15-character name of the thread group leader.
    #[serde(borrow)]
    pub comm: &'a str,
    /// NUL-separated arguments, possibly cut.
    #[serde(borrow)]
    pub arguments: &'a [u8],
    /// NUL-separated environment, possibly cut. Never leaves the agent as such.
    #[serde(borrow)]
    pub environment: &'a [u8],
    /// Id (inode) of its cgroup in the version 2 hierarchy; zero if unknown.
    pub cgroup: u64,
    /// The kernel half knows it for a target: by descent, by a port it serves, or by its cgroup.
    /// User space may look too late to see the same.
    pub selected: bool,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event<'a> {
    /// First socket activity of a process, or of the program it changed into by `exec`.
    #[serde(borrow)]
    Process(ProcessSeen<'a>),
    /// A process exited.
    ProcessGone {
        /// The process.
        pid: Pid,
        /// When.
        time: KernelTime,
    },
    /// A connection is being made.
    Connecting(Connecting),
    /// First sight of a connection.
    Opened(Opened),
    /// Bytes moved.
    #[serde(borrow)]
    Data(Data<'a>),
    /// A direction or the whole connection ended.
    Closed(Closed),
}

impl Event<'_> {
    /// When it happened.
    pub fn time(&self) -> KernelTime {
        match self {
            Self::Process(event) => event.time,
            Self::ProcessGone { time, .. } => *time,
            Self::Connecting(event) => event.time,
            Self::Opened(event) => event.time,
            Self::Data(event) => event.time,
            Self::Closed(event) => event.time,
        }
    }
}
