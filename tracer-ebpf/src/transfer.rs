//! One send or receive, whichever probe saw it: decide cheaply whether it matters, then report.
//!
//! What happens with every message is one piece of code; what happens once a connection, or to
//! unusual calls, is a function of its own that is never inlined. Code that is jumped over still
//! costs room in the processor's caches, at the expense of the traced program. These functions are
//! not marked `cold`: they would get a section of their own, and the loader takes functions at the
//! same address of two sections for one.

use core::ffi::c_void;
use core::mem::offset_of;

use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_probe_read_user};
use tracer_ebpf::redirect::Redirected;
use tracer_ebpf::{
    ConnState, Counter, DataRecord, OpenRecord, RecordHeader, TaskKey, UNIX_PATH, close, direction,
    end_known, phase, record, runtime, setting,
};

use crate::asyncio;
use crate::callbacks;
use crate::emit::{self, Moved, now};
use crate::kernel::{UserRegisters, number, read};
use crate::maps::{Scratch, VERDICTS, count, setting};
use crate::offsets::at;
use crate::payload::Source;
use crate::processes;
use crate::sniff::{SNIFF, may_be_fastcgi, may_be_http};
use crate::state::{INET, INET6, Socket, UNIX, state_of};
use crate::tasks;

/// Unlikely messages in a row after which a connection is ignored for good.
const MISSES: u16 = 4;
const SHUTDOWN_RECEIVE: u8 = 1;
const SHUTDOWN_SEND: u8 = 2;
/// `SOCK_DONE`, which TCP sets when a FIN comes in.
const FIN_RECEIVED: u64 = 1 << 1;

/// One send or receive as the probe understood it. Kept in map memory and read anew wherever it is
/// needed: what a probe knows of the call at hand (its number, say) then does not multiply the
/// paths that the verifier follows through everything after it, which kernel 6.1 gives up on.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Transfer {
    source: Source,
    len: u32,
    moving: u32,
    pub(crate) user: UserRegisters,
}

impl Transfer {
    #[inline(always)]
    pub(crate) fn new(moving: u8, len: u32, source: Source, user: UserRegisters) -> Self {
        Self { source, len, moving: u32::from(moving), user }
    }

    #[inline(always)]
    pub(crate) fn source(&self) -> Source {
        // SAFETY: a reference is valid for reads.
        unsafe { (&raw const self.source).read_volatile() }
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (&raw const self.len).read_volatile() }
    }

    #[inline(always)]
    pub(crate) fn moving(&self) -> u8 {
        // SAFETY: as above.
        unsafe { (&raw const self.moving).read_volatile() as u8 }
    }
}

/// The state of a socket that is followed when the current process uses it; asked first, and of all
/// sockets of the host.
#[inline(always)]
pub(crate) fn followed<S: Socket>(
    socket: S,
    scratch: &mut Scratch,
) -> Option<&'static mut ConnState> {
    let tgid = (thread() >> 32) as u32;
    let own = u64::from(tgid) == at::AGENT_TGID();
    if own && setting(setting::REHEARSAL) == 0 {
        return None;
    }
    let state = state_of(socket);
    if own || state.is_null() {
        return None;
    }
    // SAFETY: checked for null; state memory stays valid for the program's run. Other CPUs may
    // write to it at the same time; each field is one plain word, and stream offsets from TCP
    // keep the agent from being misled.
    let state = unsafe { &mut *state };
    if state.phase == phase::IGNORED {
        return None;
    }
    let epoch = setting(setting::EPOCH);
    if state.tgid != tgid || state.epoch != epoch {
        state.tgid = tgid;
        state.epoch = epoch;
        admit(socket.address(), state, scratch);
    }
    if state.phase == phase::UNTARGETED { None } else { Some(state) }
}

/// Process and thread.
#[inline(always)]
fn thread() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bpf_get_current_pid_tgid() }
}

/// Bytes moved on a socket that is followed.
#[inline(always)]
pub(crate) fn observe<S: Socket>(
    socket: S,
    state: &mut ConnState,
    transfer: Transfer,
    scratch: &mut Scratch,
) {
    scratch.transfer = transfer;
    let thread = thread();
    let tgid = (thread >> 32) as u32;
    let starts_message = turn(state, scratch.transfer.moving());
    let (offset, time) = position(socket, state, &scratch.transfer);
    match scratch.transfer.source() {
        Source::IoUring => count(Counter::IoUringBytes, u64::from(scratch.transfer.len())),
        Source::Unknown => count(Counter::UnknownCallBytes, u64::from(scratch.transfer.len())),
        _ => {}
    }
    if starts_message {
        if !wanted(state, scratch) {
            return;
        }
    } else if state.phase == phase::UNDECIDED {
        return;
    }
    if state.opened == 0 {
        if !open(socket, state, time, scratch) {
            count(Counter::RingFullOpen, 1);
            count(Counter::RingFullData, 1);
            count(Counter::RingFullBytes, u64::from(scratch.transfer.len()));
            return;
        }
        state.opened = 1;
    }
    forget_task(&mut scratch.data);
    if state.runtime != runtime::NONE {
        note_task(state, thread, time, starts_message, scratch);
    }
    scratch.cursor.start(scratch.transfer.source(), u64::from(scratch.transfer.len()));
    let moved = Moved { offset, time, tgid, tid: thread as u32, waits: S::waits() };
    emit::data(scratch, state, &moved);
    state.last_time = time;
}

/// Nothing of an earlier call may pass for this one's.
#[inline(always)]
fn forget_task(data: &mut DataRecord) {
    let TaskKey { task, parent_task, site } = &mut data.task;
    for field in [task, parent_task, site, &mut data.callback] {
        // SAFETY: a reference is valid for writes. One store each: plain ones become a call of
        // `memset`, which here is a loop over bytes.
        unsafe { core::ptr::from_mut(field).write_volatile(0) };
    }
}

/// Whether this process' use of the socket is traced, now that it or the targets have changed.
#[inline(never)]
fn admit(socket: u64, state: &mut ConnState, scratch: &mut Scratch) {
    let Some(runtime) = processes::admits(state.tgid, socket, scratch) else {
        state.phase = phase::UNTARGETED;
        return;
    };
    state.runtime = runtime;
    if state.phase == phase::UNTARGETED {
        state.phase = phase::UNDECIDED;
    }
}

/// Notes in the scratch space what the thread runs, or for whom, in the terms of its runtime.
#[inline(never)]
fn note_task(
    state: &mut ConnState,
    thread: u64,
    time: u64,
    starts_message: bool,
    scratch: &mut Scratch,
) {
    let tgid = (thread >> 32) as u32;
    match state.runtime {
        runtime::CALLBACKS => note_callback(thread as u32, time, scratch),
        _ if !starts_message => {}
        // Event loops read for whom it may concern; only who writes knows what for.
        runtime::PYTHON if scratch.transfer.moving() == direction::SEND => {
            asyncio::read(tgid, scratch);
        }
        runtime::PYTHON => {}
        _ => tasks::read(tgid, state, scratch),
    }
}

/// Notes in the scratch space within which callback of its event loop the thread moves bytes.
#[inline(always)]
fn note_callback(tid: u32, time: u64, scratch: &mut Scratch) {
    if scratch.transfer.moving() == direction::SEND {
        scratch.data.callback = callbacks::within(tid, &mut scratch.stack);
        return;
    }
    // The kernel counts these when they return, and others not at all.
    let is_counted =
        matches!(scratch.transfer.user.call, number::READ | number::READV | number::PREADV2);
    let counted = !is_counted || at::STATE_IN_MAP() != 0;
    scratch.data.callback = callbacks::begin(tid, time, counted, &mut scratch.stack);
}

/// Notes the direction; `true` if it changed, which is where a new message begins.
#[inline(always)]
fn turn(state: &mut ConnState, moving: u8) -> bool {
    if state.last_direction == moving {
        return false;
    }
    if state.last_direction != 0 {
        state.turn = state.turn.wrapping_add(1);
    }
    state.last_direction = moving;
    state.budget = at::MESSAGE_BUDGET() as u32;
    true
}

/// Whether the message that begins here may be of interest.
#[inline(always)]
fn wanted(state: &mut ConnState, scratch: &mut Scratch) -> bool {
    if setting(setting::PENDING_VERDICTS) != 0 {
        take_verdict(state);
    }
    match state.phase {
        phase::CONFIRMED => true,
        phase::IGNORED => false,
        _ => is_likely(state, scratch),
    }
}

/// The same of a connection about which the agent has not decided.
#[inline(never)]
fn is_likely(state: &mut ConnState, scratch: &mut Scratch) -> bool {
    if looks_like_message(scratch) {
        state.phase = phase::CANDIDATE;
        state.misses = 0;
        return true;
    }
    if state.phase == phase::CANDIDATE {
        // A response may be interrupted by the next request, and the agent is slower than that:
        // whether the likely message was one is its to say.
        return true;
    }
    if matches!(scratch.transfer.source(), Source::IoUring | Source::Unknown) {
        // What cannot be read is not held against the connection.
        return false;
    }
    state.misses += 1;
    if state.misses >= MISSES {
        state.phase = phase::IGNORED;
        count(Counter::IgnoredConnections, 1);
    } else {
        state.phase = phase::UNDECIDED;
    }
    false
}

/// Takes over what the agent decided about the connection, if it has.
#[inline(never)]
fn take_verdict(state: &mut ConnState) {
    // SAFETY: copied at once.
    let Some(decided) = (unsafe { VERDICTS.get(state.id) }).copied() else {
        return;
    };
    state.phase = decided;
    let _ = VERDICTS.remove(state.id);
}

#[inline(always)]
fn looks_like_message(scratch: &mut Scratch) -> bool {
    scratch.cursor.start(scratch.transfer.source(), u64::from(scratch.transfer.len()));
    // The first range may hide behind a message header and an empty vector.
    if !scratch.cursor.refill() || !scratch.cursor.refill() || !scratch.cursor.refill() {
        return false;
    }
    let available = scratch.cursor.remaining;
    let amount = if available < SNIFF as u64 { available } else { SNIFF as u64 };
    let amount = core::hint::black_box(amount);
    if amount == 0 || amount > SNIFF as u64 {
        return false;
    }
    // Into map memory, which needs no clearing first.
    // SAFETY: at most `SNIFF` bytes into a larger buffer.
    let failed = unsafe {
        bpf_probe_read_user(
            scratch.bytes.as_mut_ptr().cast(),
            amount as u32,
            scratch.cursor.address as *const c_void,
        )
    } != 0;
    let Some(first) = scratch.bytes.first_chunk() else {
        return false;
    };
    let amount = amount as usize;
    !failed && (may_be_http(first, amount) || may_be_fastcgi(first, amount))
}

/// Stream offset of the first moved byte, and when it was moved. Notes where the next one stands.
#[inline(always)]
fn position<S: Socket>(socket: S, state: &mut ConnState, transfer: &Transfer) -> (u32, u64) {
    let len = transfer.len();
    let now = now();
    let tcp = socket.as_tcp();
    if transfer.moving() == direction::RECEIVE {
        let end = match tcp {
            Some(tcp) => read_up_to(tcp),
            None => state.receive_next.wrapping_add(len),
        };
        state.receive_next = end;
        state.known |= end_known::RECEIVED;
        return (end.wrapping_sub(len), now);
    }
    let (end, time) = match tcp {
        Some(tcp) => {
            let end = tcp.field::<u32>(at::TCP_WRITE_SEQ());
            (end, transmit_time(tcp, state, end, now))
        }
        None => (state.send_next.wrapping_add(len), now),
    };
    state.send_next = end;
    state.known |= end_known::SENT;
    (end.wrapping_sub(len), time)
}

/// Sequence number of the byte to be read next. `copied_seq` counts the peer's FIN as a byte, as
/// soon as the reader gets there.
#[inline(always)]
pub(crate) fn read_up_to<S: Socket>(tcp: S) -> u32 {
    let copied = tcp.field::<u32>(at::TCP_COPIED_SEQ());
    let at_fin = tcp.field::<u64>(at::SOCK_FLAGS()) & FIN_RECEIVED != 0
        && tcp.field::<u32>(at::TCP_RCV_NXT()) == copied;
    if at_fin { copied.wrapping_sub(1) } else { copied }
}

/// Whether the socket has taken or holds bytes of which no probe has told yet: received ones can
/// still be read though the connection is over, and probes run after the call, in which the end
/// may have come.
#[inline(always)]
pub(crate) fn has_untold<S: Socket>(socket: S, state: &ConnState) -> bool {
    let Some(tcp) = socket.as_tcp() else {
        return false;
    };
    // Either end of stream takes a sequence number.
    let peer_ended = tcp.field::<u64>(at::SOCK_FLAGS()) & FIN_RECEIVED != 0;
    let ended = tcp.field::<u8>(at::SOCK_SHUTDOWN()) & SHUTDOWN_SEND != 0;
    let received = tcp.field::<u32>(at::TCP_RCV_NXT()).wrapping_sub(u32::from(peer_ended));
    let sent = tcp.field::<u32>(at::TCP_WRITE_SEQ()).wrapping_sub(u32::from(ended));
    let received_untold = if state.known & end_known::RECEIVED != 0 {
        received != state.receive_next
    } else {
        tcp.field::<u64>(at::TCP_BYTES_RECEIVED()) != 0
    };
    let sent_untold = if state.known & end_known::SENT != 0 {
        sent != state.send_next
    } else {
        tcp.field::<u64>(at::TCP_BYTES_SENT()) != 0
    };
    received_untold || sent_untold
}

/// When the sent bytes left, as near as the socket knows: the probe runs after the call, and the
/// peer may have answered meanwhile. Only believed when everything written was also transmitted.
#[inline(always)]
fn transmit_time<S: Socket>(tcp: S, state: &ConnState, written: u32, now: u64) -> u64 {
    if tcp.field::<u32>(at::TCP_SND_NXT()) != written {
        return now;
    }
    let stamp = tcp.field::<u64>(at::TCP_MSTAMP()).wrapping_mul(1000);
    if stamp > state.last_time && stamp < now { stamp } else { now }
}

/// A receive brought nothing: perhaps this is the end of the stream.
#[inline(never)]
pub(crate) fn observe_end<S: Socket>(socket: S) {
    let state = socket.find();
    if state.is_null() {
        return;
    }
    // SAFETY: checked for null; as in `observe`.
    let state = unsafe { &mut *state };
    let is_followed = state.phase != phase::IGNORED && state.phase != phase::UNTARGETED;
    if !is_followed || state.opened == 0 || state.receive_ended != 0 {
        return;
    }
    let shutdown = socket.field::<u8>(at::SOCK_SHUTDOWN());
    if shutdown & SHUTDOWN_RECEIVE != 0 && emit::closed(state, close::RECEIVE_END, 0) {
        state.receive_ended = 1;
    }
}

/// Announces the connection's ends.
#[inline(never)]
fn open<S: Socket>(from: S, state: &ConnState, time: u64, scratch: &mut Scratch) -> bool {
    let socket = from.address();
    let family = read::<u16>(socket + at::SOCK_FAMILY()).unwrap_or(0);
    let net = read::<u64>(socket + at::SOCK_NET()).unwrap_or(0);
    let event = &mut scratch.open;
    event.header = RecordHeader { kind: record::OPEN, detail: 0, unreadable: 0, tail: 0, head: 0 };
    event.conn = state.id;
    event.time = time;
    event.socket = socket;
    event.peer = 0;
    event.inode = inode_of(socket);
    event.netns = read::<u32>(net + at::NET_INUM()).unwrap_or(0);
    event.family = family;
    event.local_port = 0;
    event.remote_port = 0;
    match family {
        INET => {
            let local = read::<[u8; 4]>(socket + at::SOCK_RCV_SADDR()).unwrap_or([0; 4]);
            let remote = read::<[u8; 4]>(socket + at::SOCK_DADDR()).unwrap_or([0; 4]);
            event.local[..4].copy_from_slice(&local);
            event.remote[..4].copy_from_slice(&remote);
        }
        INET6 => {
            event.local = read(socket + at::SOCK_V6_RCV_SADDR()).unwrap_or([0; 16]);
            event.remote = read(socket + at::SOCK_V6_DADDR()).unwrap_or([0; 16]);
        }
        UNIX => {
            let peer = read::<u64>(socket + at::UNIX_PEER()).unwrap_or(0);
            event.peer = peer;
            event.header.head = unix_path(socket, &mut event.local_path);
            event.header.tail = unix_path(peer, &mut event.remote_path) as u8;
        }
        _ => {}
    }
    if family != UNIX {
        event.local_port = read(socket + at::SOCK_NUM()).unwrap_or(0);
        event.remote_port = u16::from_be(read(socket + at::SOCK_DPORT()).unwrap_or(0));
        if at::REDIRECTS() != 0
            && let Some(destination) = from.destination()
        {
            name_destination(event, destination);
        }
    }
    // Only Unix sockets have what follows the addresses.
    let size =
        if family == UNIX { size_of::<OpenRecord>() } else { offset_of!(OpenRecord, local_path) };
    emit::output((&raw const *event).cast(), size as u64)
}

/// The other end of a redirected connection is where the process meant to go, not the agent.
#[inline(always)]
fn name_destination(event: &mut OpenRecord, destination: &Redirected) {
    event.remote_port = destination.port;
    if event.family == INET {
        event.remote[..4].copy_from_slice(&destination.address[12..]);
    } else {
        event.remote = destination.address;
    }
}

#[inline(always)]
pub(crate) fn inode_of(socket: u64) -> u64 {
    let outer = read::<u64>(socket + at::SOCK_SOCKET()).unwrap_or(0);
    let file = read::<u64>(outer + at::SOCKET_FILE()).unwrap_or(0);
    let inode = read::<u64>(file + at::FILE_INODE()).unwrap_or(0);
    read::<u64>(inode + at::INODE_INO()).unwrap_or(0)
}

/// Copies the bound path of a Unix socket; returns its length.
#[inline(always)]
fn unix_path(socket: u64, to: &mut [u8; UNIX_PATH]) -> u32 {
    if socket == 0 {
        return 0;
    }
    let address = read::<u64>(socket + at::UNIX_ADDR()).unwrap_or(0);
    if address == 0 {
        return 0;
    }
    // `len` counts the two bytes of the family as well.
    let len = read::<u32>(address + at::UNIX_ADDR_LEN()).unwrap_or(0).saturating_sub(2);
    let Some(path) = read::<[u8; UNIX_PATH]>(address + at::UNIX_ADDR_NAME() + 2) else {
        return 0;
    };
    *to = path;
    if len < UNIX_PATH as u32 { len } else { UNIX_PATH as u32 }
}
