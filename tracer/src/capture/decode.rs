//! Ring records to [`Event`]s. Trusts nothing about lengths: a record that does not add up is an
//! error for the caller to count, never a panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tracer_ebpf::{
    ARGUMENTS, CloseRecord, ConnectRecord, DataRecord, ENVIRONMENT, ExitRecord, OpenRecord,
    ProcessRecord, RecordHeader, TaskKey, UNIX_PATH, close, direction, end_known, record,
    unreadable, verdict,
};

use crate::event::{
    CloseKind, Closed, CodeAddress, ConnId, Connecting, Data, Direction, Endpoint, Event,
    KernelTime, Opened, Pid, ProcessSeen, StreamOffset, Task, TaskId, Tid, Unreadable,
};

/// `AF_INET` and `AF_UNIX`; everything else announced is `AF_INET6`.
const AF_INET: u16 = 2;
const AF_UNIX: u16 = 1;

/// A record that makes no sense: the halves of the agent disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ring record of kind {kind} and {len} bytes is malformed")]
pub(super) struct MalformedRecord {
    /// Its first byte.
    pub(super) kind: u8,
    /// Its length.
    pub(super) len: usize,
}

/// Decodes one ring record.
pub(super) fn event(bytes: &[u8]) -> Result<Event<'_>, MalformedRecord> {
    let malformed = MalformedRecord { kind: bytes.first().copied().unwrap_or(0), len: bytes.len() };
    let header: RecordHeader = take(bytes).ok_or(malformed)?;
    match header.kind {
        record::DATA => data(bytes),
        record::OPEN => opened(bytes),
        record::CLOSE => closed(bytes),
        record::CONNECT => take(bytes).map(connecting),
        record::PROCESS => process(bytes),
        record::EXIT => take(bytes).map(|exit: ExitRecord| Event::ProcessGone {
            pid: Pid(exit.tgid),
            time: KernelTime(exit.time),
        }),
        _ => None,
    }
    .ok_or(malformed)
}

fn data(bytes: &[u8]) -> Option<Event<'_>> {
    let data: DataRecord = take(bytes)?;
    let copied = bytes.get(size_of::<DataRecord>()..)?;
    let head = copied.get(..data.header.head as usize)?;
    let tail = copied.get(head.len()..head.len() + usize::from(data.header.tail))?;
    if head.len() + tail.len() > data.len as usize {
        return None;
    }
    Some(Event::Data(Data {
        conn: ConnId(data.conn),
        time: KernelTime(data.time),
        pid: Pid(data.tgid),
        tid: Tid(data.tid),
        direction: match data.header.detail {
            direction::SEND => Direction::Send,
            direction::RECEIVE => Direction::Receive,
            _ => return None,
        },
        offset: StreamOffset(data.offset),
        len: data.len,
        turn: data.turn,
        waits: data.waits,
        task: task(data.task),
        callback: callback(data.callback),
        head,
        tail,
        unreadable: match data.header.unreadable {
            unreadable::NO => None,
            unreadable::IO_URING => Some(Unreadable::IoUring),
            unreadable::IN_KERNEL => Some(Unreadable::InKernel),
            unreadable::FAULT => Some(Unreadable::Fault),
            _ => Some(Unreadable::UnknownCall),
        },
    }))
}

fn connecting(record: ConnectRecord) -> Event<'static> {
    Event::Connecting(Connecting {
        conn: ConnId(record.conn),
        time: KernelTime(record.time),
        pid: Pid(record.tgid),
        tid: Tid(record.tid),
        waits: record.waits,
        task: task(record.task),
        callback: callback(record.callback),
    })
}

fn callback(time: u64) -> Option<KernelTime> {
    (time != 0).then_some(KernelTime(time))
}

fn task(key: TaskKey) -> Option<Task> {
    let known = |id| (id != 0).then_some(TaskId(id));
    let (id, parent) = (known(key.task)?, known(key.parent_task));
    Some(Task { id, parent, site: CodeAddress(key.site) })
}

fn opened(bytes: &[u8]) -> Option<Event<'static>> {
    // The paths are there for Unix sockets only.
    let mut whole = [0; size_of::<OpenRecord>()];
    let len = bytes.len().min(whole.len());
    whole[..len].copy_from_slice(&bytes[..len]);
    let open: OpenRecord = take(&whole)?;
    let least = match open.family {
        AF_UNIX => whole.len(),
        _ => core::mem::offset_of!(OpenRecord, local_path),
    };
    if len < least {
        return None;
    }
    let (local, remote) = if open.family == AF_UNIX {
        (
            unix(&open.local_path, open.header.head as usize)?,
            unix(&open.remote_path, usize::from(open.header.tail))?,
        )
    } else {
        (
            inet(open.family, open.local, open.local_port),
            inet(open.family, open.remote, open.remote_port),
        )
    };
    Some(Event::Opened(Opened {
        conn: ConnId(open.conn),
        time: KernelTime(open.time),
        local,
        remote,
        netns: open.netns,
        unix_pair: if open.family == AF_UNIX { (open.socket, open.peer) } else { (0, 0) },
        inode: open.inode,
    }))
}

fn inet(family: u16, address: [u8; 16], port: u16) -> Endpoint {
    let ip = if family == AF_INET {
        IpAddr::V4(Ipv4Addr::new(address[0], address[1], address[2], address[3]))
    } else {
        IpAddr::V6(Ipv6Addr::from(address)).to_canonical()
    };
    Endpoint::Inet(SocketAddr::new(ip, port))
}

/// A path as bound: NUL-terminated in the file system, or `@` and a name in the abstract space.
fn unix(path: &[u8; UNIX_PATH], len: usize) -> Option<Endpoint> {
    let path = path.get(..len)?;
    let name = match path {
        [] => String::new(),
        [0, name @ ..] => format!("@{}", String::from_utf8_lossy(name)),
        _ => {
            let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
            String::from_utf8_lossy(&path[..end]).into_owned()
        }
    };
    Some(Endpoint::Unix(name))
}

fn closed(bytes: &[u8]) -> Option<Event<'static>> {
    let record: CloseRecord = take(bytes)?;
    Some(Event::Closed(Closed {
        conn: ConnId(record.conn),
        time: KernelTime(record.time),
        kind: match record.header.detail {
            close::RECEIVE_END => CloseKind::ReceiveEnd,
            close::SEND_END => CloseKind::SendEnd,
            close::GONE => CloseKind::Gone,
            _ => return None,
        },
        errno: record.errno,
        turns: record.turns,
        sent_end: (record.header.tail & end_known::SENT != 0)
            .then_some(StreamOffset(record.sent_end)),
        received_end: (record.header.tail & end_known::RECEIVED != 0)
            .then_some(StreamOffset(record.received_end)),
    }))
}

fn process(bytes: &[u8]) -> Option<Event<'_>> {
    if bytes.len() < size_of::<ProcessRecord>() {
        return None;
    }
    // Fields are taken one by one: the record is large and most of it is borrowed.
    let u32_at = |at: usize| -> Option<u32> { take(bytes.get(at..)?) };
    let u64_at = |at: usize| -> Option<u64> { take(bytes.get(at..)?) };
    let arguments_at = core::mem::offset_of!(ProcessRecord, arguments);
    let environment_at = core::mem::offset_of!(ProcessRecord, environment);
    let comm_at = core::mem::offset_of!(ProcessRecord, comm);
    let header: RecordHeader = take(bytes)?;
    let environment_len = u32_at(core::mem::offset_of!(ProcessRecord, environment_len))? as usize;
    let arguments_len = header.head as usize;
    if arguments_len > ARGUMENTS || environment_len > ENVIRONMENT {
        return None;
    }
    let comm = bytes.get(comm_at..comm_at + 16)?;
    let comm = &comm[..comm.iter().position(|byte| *byte == 0).unwrap_or(16)];
    Some(Event::Process(ProcessSeen {
        pid: Pid(u32_at(core::mem::offset_of!(ProcessRecord, tgid))?),
        parent: Pid(u32_at(core::mem::offset_of!(ProcessRecord, parent))?),
        time: KernelTime(u64_at(core::mem::offset_of!(ProcessRecord, time))?),
        started: KernelTime(u64_at(core::mem::offset_of!(ProcessRecord, started))?),
        comm: std::str::from_utf8(comm).unwrap_or(""),
        arguments: bytes.get(arguments_at..arguments_at + arguments_len)?,
        environment: bytes.get(environment_at..environment_at + environment_len)?,
        cgroup: u64_at(core::mem::offset_of!(ProcessRecord, cgroup))?,
        selected: header.detail == verdict::TRACE,
    }))
}

/// A record type made of plain integers and byte arrays: any bytes are a valid value.
trait Plain: Copy {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for RecordHeader {}
impl Plain for DataRecord {}
impl Plain for OpenRecord {}
impl Plain for CloseRecord {}
impl Plain for ConnectRecord {}
impl Plain for ExitRecord {}

fn take<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: long enough, read unaligned, and `Plain` types accept any bytes.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
