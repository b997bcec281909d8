//! What the two halves of the agent agree on: records in the ring, values in maps, the names and
//! order of counters and kernel offsets.
//!
//! `no_std`, no dependencies, compiled for the BPF target and for the host. All layouts are
//! `#[repr(C)]` in native byte order: both halves run on one machine.

#![no_std]

pub mod python;
pub mod redirect;

/// What a ring record is; the first byte of its [`RecordHeader`].
pub mod record {
    /// A [`super::ProcessRecord`].
    pub const PROCESS: u8 = 1;
    /// A [`super::ExitRecord`].
    pub const EXIT: u8 = 2;
    /// A [`super::OpenRecord`].
    pub const OPEN: u8 = 3;
    /// A [`super::DataRecord`], followed by its copied bytes.
    pub const DATA: u8 = 4;
    /// A [`super::CloseRecord`].
    pub const CLOSE: u8 = 5;
    /// A [`super::ConnectRecord`].
    pub const CONNECT: u8 = 6;
}

/// Direction of a [`DataRecord`]; zero means none yet in [`ConnState::last_direction`].
pub mod direction {
    /// The process wrote.
    pub const SEND: u8 = 1;
    /// The process read.
    pub const RECEIVE: u8 = 2;
}

/// Why content is missing from a [`DataRecord`].
pub mod unreadable {
    /// It is not, beyond the copy budget.
    pub const NO: u8 = 0;
    /// `io_uring`.
    pub const IO_URING: u8 = 1;
    /// Moved inside the kernel.
    pub const IN_KERNEL: u8 = 2;
    /// The user page was not there.
    pub const FAULT: u8 = 3;
    /// A system call the kernel half cannot take apart.
    pub const UNKNOWN_CALL: u8 = 4;
}

/// How far a [`CloseRecord`] says the connection is closed.
pub mod close {
    /// End-of-file was read.
    pub const RECEIVE_END: u8 = 1;
    /// The sending side was shut.
    pub const SEND_END: u8 = 2;
    /// The socket is gone.
    pub const GONE: u8 = 3;
}

/// Which ends of a [`CloseRecord`] are known.
pub mod end_known {
    /// `sent_end`.
    pub const SENT: u8 = 1;
    /// `received_end`.
    pub const RECEIVED: u8 = 2;
}

/// What the kernel half does with a connection.
pub mod phase {
    /// No message so far looked like a protocol we know.
    pub const UNDECIDED: u8 = 0;
    /// The current message may be one; the agent has not confirmed it yet.
    pub const CANDIDATE: u8 = 1;
    /// The agent confirmed the protocol.
    pub const CONFIRMED: u8 = 2;
    /// Never look at it again.
    pub const IGNORED: u8 = 3;
    /// Used by a process that is not a target; looked at again when another process uses it.
    pub const UNTARGETED: u8 = 4;
}

/// Whether a process is a target.
pub mod verdict {
    /// Not known: announce it, let its data pass, wait for the agent.
    pub const ASK: u8 = 0;
    /// Trace it.
    pub const TRACE: u8 = 1;
    /// Leave it alone.
    pub const SKIP: u8 = 2;
}

/// Bits of [`ProcessState::flags`].
pub mod process_flag {
    /// A [`super::ProcessRecord`] was delivered since the last `exec`.
    pub const ANNOUNCED: u8 = 1;
    /// Children inherit the verdict, and `exec` does not clear it.
    pub const LINEAGE: u8 = 2;
    /// Its connections may be redirected. Children have it from their parent until they `exec`.
    pub const PROPAGATE: u8 = 4;
}

/// Runtimes that schedule tasks of their own on threads; [`RuntimeLayout::kind`] and
/// [`ProcessState::runtime`].
pub mod runtime {
    /// None, or one whose tasks cannot be told apart.
    pub const NONE: u8 = 0;
    /// Go: goroutines.
    pub const GO: u8 = 1;
    /// Python: asyncio tasks. The `PYTHONS` map has the layout instead.
    pub const PYTHON: u8 = 2;
    /// An event loop whose callbacks can be told apart by their callers.
    pub const CALLBACKS: u8 = 3;
}

/// Meaning of [`RuntimeLayout::offsets`] by index, for [`runtime::GO`].
pub mod go {
    /// `g.stack`: its two bounds.
    pub const G_STACK: usize = 0;
    /// `g.goid`.
    pub const G_ID: usize = 1;
    /// `g.parentGoid`, and `g.gopc` right after it.
    pub const G_PARENT: usize = 2;
    /// `hchan.recvq.first`. What is before it never moved: `qcount`, `dataqsiz`, `buf` and
    /// `elemsize` stand at the beginning.
    pub const CHAN_RECEIVERS: usize = 3;
    /// `sudog.g`.
    pub const WAITER_G: usize = 4;
    /// `sudog.c`: the channel itself.
    pub const WAITER_CHAN: usize = 5;
}

/// Copied bytes of one record at most; longer copies become several records.
pub const CHUNK: usize = 16 * 1024;
/// Last bytes of a range that are copied when its head is not copied to the end.
pub const TAIL: usize = 32;
/// Argument bytes of a [`ProcessRecord`] at most.
pub const ARGUMENTS: usize = 2 * 1024;
/// Environment bytes of a [`ProcessRecord`] at most.
pub const ENVIRONMENT: usize = 8 * 1024;
/// Bytes of a Unix socket's path at most.
pub const UNIX_PATH: usize = 108;
/// Ports that can be selected at once.
pub const PORTS: u32 = 256;
/// Processes whose verdict is remembered at once.
pub const PROCESSES: u32 = 65_536;
/// Processes whose tasks are told apart at once.
pub const RUNTIMES: u32 = 4_096;

/// First eight bytes of every record.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RecordHeader {
    /// One of [`record`].
    pub kind: u8,
    /// `DATA`: one of [`direction`]. `CLOSE`: one of [`close`]. `PROCESS`: one of [`verdict`].
    pub detail: u8,
    /// `DATA`: one of [`unreadable`].
    pub unreadable: u8,
    /// `DATA`: bytes of the tail copy, after the head copy.
    pub tail: u8,
    /// `DATA`: bytes of the head copy. `PROCESS`: bytes of arguments.
    pub head: u32,
}

/// Some bytes moved.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DataRecord {
    /// Kind, direction, copied lengths.
    pub header: RecordHeader,
    /// Connection.
    pub conn: u64,
    /// Monotonic nanoseconds.
    pub time: u64,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Stream offset of the first byte.
    pub offset: u32,
    /// Bytes moved.
    pub len: u32,
    /// Direction changes before this call.
    pub turn: u32,
    /// How often the thread has waited for something in its life, modulo 2^32.
    pub waits: u32,
    /// What the thread ran; only where a message may begin.
    pub task: TaskKey,
    /// The callback within which this was done, by the time of the read that it began with; zero
    /// if that is not known.
    pub callback: u64,
}

/// A task of a process' own runtime, such as a goroutine. Zeros where it is not known.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TaskKey {
    /// Its identity within the process, which no other task of the process ever has.
    pub task: u64,
    /// That of the task that started it.
    pub parent_task: u64,
    /// The place in the program's code where it was started.
    pub site: u64,
}

impl TaskKey {
    /// Stands in [`TaskKey::site`] where `parent_task` is not the task that started this one but
    /// the outermost of those that wait for it, itself if there is none. Such tasks are known by
    /// address, which another task may get once they are gone.
    pub const AWAITED: u64 = u64::MAX;
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { task: 0, parent_task: 0, site: 0 };
}

/// Where a process' runtime keeps what [`TaskKey`] says. What each place means is up to the kind.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RuntimeLayout {
    /// Addresses in the process' memory.
    pub addresses: [u64; 4],
    /// Offsets within structures of the runtime.
    pub offsets: [u32; 23],
    /// One of [`runtime`].
    pub kind: u32,
}

/// A thread begins to connect a socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ConnectRecord {
    /// Kind.
    pub header: RecordHeader,
    /// Connection.
    pub conn: u64,
    /// Monotonic nanoseconds.
    pub time: u64,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// As in [`DataRecord`].
    pub waits: u32,
    /// Keeps the alignment.
    pub padding: u32,
    /// What the thread ran, where that can be read.
    pub task: TaskKey,
    /// As in [`DataRecord`].
    pub callback: u64,
}

/// A connection or one of its directions ended.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CloseRecord {
    /// Kind and how far; `tail` holds bits of [`end_known`].
    pub header: RecordHeader,
    /// Connection.
    pub conn: u64,
    /// Monotonic nanoseconds.
    pub time: u64,
    /// Pending socket error.
    pub errno: i32,
    /// Direction changes in the connection's whole life.
    pub turns: u32,
    /// Where the next sent byte would stand; valid with [`end_known::SENT`].
    pub sent_end: u32,
    /// Where the next received byte would stand; valid with [`end_known::RECEIVED`].
    pub received_end: u32,
}

/// First sight of a connection. Ends before the paths unless it is a Unix socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct OpenRecord {
    /// Kind; `head` and `tail` are the lengths of the local and remote Unix path.
    pub header: RecordHeader,
    /// Connection.
    pub conn: u64,
    /// Monotonic nanoseconds.
    pub time: u64,
    /// Address of this socket in the kernel, as an identity.
    pub socket: u64,
    /// The same for the other end of a Unix socket; zero for TCP.
    pub peer: u64,
    /// Inode of the socket.
    pub inode: u64,
    /// Inode of the network namespace.
    pub netns: u32,
    /// `AF_INET`, `AF_INET6` or `AF_UNIX`.
    pub family: u16,
    /// Host byte order.
    pub local_port: u16,
    /// Host byte order.
    pub remote_port: u16,
    /// Keeps the alignment.
    pub padding: [u16; 3],
    /// IPv4 in the first four bytes, IPv6 in all.
    pub local: [u8; 16],
    /// As `local`.
    pub remote: [u8; 16],
    /// Unix path of this end.
    pub local_path: [u8; UNIX_PATH],
    /// Unix path of the other end.
    pub remote_path: [u8; UNIX_PATH],
}

/// First socket activity of a process or of a program it `exec`ed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ProcessRecord {
    /// Kind, verdict so far, and bytes of `arguments`.
    pub header: RecordHeader,
    /// Monotonic nanoseconds.
    pub time: u64,
    /// When it was forked, monotonic nanoseconds.
    pub started: u64,
    /// Version 2 cgroup id.
    pub cgroup: u64,
    /// Process.
    pub tgid: u32,
    /// Parent process.
    pub parent: u32,
    /// Bytes of `environment`.
    pub environment_len: u32,
    /// Keeps the alignment.
    pub padding: u32,
    /// Name of the thread group leader.
    pub comm: [u8; 16],
    /// NUL-separated.
    pub arguments: [u8; ARGUMENTS],
    /// NUL-separated.
    pub environment: [u8; ENVIRONMENT],
}

/// A traced process exited.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ExitRecord {
    /// Kind.
    pub header: RecordHeader,
    /// Monotonic nanoseconds.
    pub time: u64,
    /// Process.
    pub tgid: u32,
    /// Keeps the alignment.
    pub padding: u32,
}

/// Per-connection state of the kernel half: socket storage, or a value of the LRU map.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ConnState {
    /// Connection id; zero before the first use.
    pub id: u64,
    /// Time of the last record.
    pub last_time: u64,
    /// Inode of the socket, to notice a reused address (LRU map only).
    pub inode: u64,
    /// Message vector of the `sendmmsg` or `recvmmsg` in progress.
    pub vector: u64,
    /// Something in the process' memory at which a task waits for the response to come, if it was
    /// not there yet when the request was sent; else zero. What it is is up to the runtime.
    pub awaited_at: u64,
    /// Next message of that vector.
    pub vector_index: u32,
    /// Process that used the connection last.
    pub tgid: u32,
    /// [`setting::EPOCH`] when its verdict was looked up.
    pub epoch: u32,
    /// Direction changes so far.
    pub turn: u32,
    /// Turns told to the agent: those of the last delivered record, plus one.
    pub told_turns: u32,
    /// Bytes of the current message that may still be copied.
    pub budget: u32,
    /// Where the next received byte stands.
    pub receive_next: u32,
    /// Where the next sent byte stands.
    pub send_next: u32,
    /// Socket error with which the connection ended, kept until the socket itself does.
    pub errno: i32,
    /// Keeps the alignment.
    pub padding_errno: u32,
    /// Messages in a row that looked like nothing we know.
    pub misses: u16,
    /// One of [`phase`].
    pub phase: u8,
    /// One of [`direction`].
    pub last_direction: u8,
    /// An [`OpenRecord`] was delivered.
    pub opened: u8,
    /// The `RECEIVE_END` was told.
    pub receive_ended: u8,
    /// Bits of [`end_known`]: whether `send_next` and `receive_next` are valid.
    pub known: u8,
    /// [`ProcessState::runtime`] when the verdict was looked up.
    pub runtime: u8,
}

/// Verdict on a process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ProcessState {
    /// One of [`verdict`].
    pub verdict: u8,
    /// Bits of [`process_flag`].
    pub flags: u8,
    /// One of [`runtime`]: if not zero, the `RUNTIMES` map has the layout.
    pub runtime: u8,
    /// Keeps the alignment.
    pub padding: u8,
}

/// Indices of the `SETTINGS` array: values that change while the programs run.
pub mod setting {
    /// Bumped whenever a process verdict changes, so that cached ones are looked up again.
    pub const EPOCH: u32 = 0;
    /// Non-zero while the `VERDICTS` map may hold something.
    pub const PENDING_VERDICTS: u32 = 1;
    /// Non-zero while the agent tries whether state can be kept for a socket of its own.
    pub const REHEARSAL: u32 = 2;
    /// How many settings there are.
    pub const COUNT: u32 = 3;
}

/// Counters of the kernel half, by index into the per-CPU array `COUNTERS`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Data records that did not fit into the ring.
    RingFullData,
    /// Stream bytes those records stood for.
    RingFullBytes,
    /// Connection announcements that did not fit (tried again with the next data).
    RingFullOpen,
    /// Close records that did not fit.
    RingFullClose,
    /// Connect records that did not fit.
    RingFullConnect,
    /// Process records that did not fit (tried again with the next data).
    RingFullProcess,
    /// Exchanges of closed connections that no record told of.
    LostExchanges,
    /// No room for a connection's state.
    ConnectionTableFull,
    /// No room for a process' verdict.
    ProcessTableFull,
    /// Bytes moved by `io_uring`.
    IoUringBytes,
    /// Bytes whose page was not readable.
    FaultBytes,
    /// Bytes of calls that cannot be taken apart.
    UnknownCallBytes,
    /// Connections given up on by content.
    IgnoredConnections,
}

/// How many [`Counter`]s there are.
pub const COUNTERS: u32 = 13;
