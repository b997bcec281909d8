//! Backend 2: one tracepoint at the exit of every system call, for kernels without backend 1's
//! tracepoints. The arguments still stand in the saved registers, so no entry probe is needed.

use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use tracer_ebpf::direction;

use crate::kernel::{Call, message_flag, number, read, read_user};
use crate::maps::{SEND_SCRATCH, own_slot};
use crate::offsets::at;
use crate::payload::Source;
use crate::state::AddressedSocket;
use crate::transfer::{Transfer, followed, observe, observe_end};

const TYPE_MASK: u16 = 0o170_000;
const SOCKET_TYPE: u16 = 0o140_000;
/// Messages of one `recvmmsg` or `sendmmsg` whose lengths are added up.
const MESSAGES: u64 = 8;
/// Size of `struct mmsghdr`, and where its `msg_len` stands.
const MESSAGE_SIZE: u64 = 64;
const MESSAGE_LEN: u64 = 56;

/// `sys_exit(struct pt_regs *regs, long ret)`
#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    let result: i64 = ctx.arg(1);
    if result < 0 {
        return 0;
    }
    // SAFETY: the tracepoint's first argument is `struct pt_regs *`.
    let mut call = unsafe { Call::from_registers(ctx.arg::<*const _>(0)) };
    // The call has returned, but its own arguments are what stands there.
    call.in_progress = true;
    let Some((moving, descriptor)) = classify(&call, result) else {
        return 0;
    };
    let Some(socket) = socket_of(descriptor) else {
        return 0;
    };
    let Some(scratch) = own_slot(&SEND_SCRATCH) else {
        return 0;
    };
    let flags = receive_flags(&call);
    if flags & (message_flag::PEEK | message_flag::ERROR_QUEUE | message_flag::OUT_OF_BAND) != 0 {
        return 0;
    }
    let mut moved = result as u64;
    let mut source = Source::of(&call, flags);
    if let Source::Messages(vector, _) = source {
        source = Source::Messages(vector, moved);
        moved = total_len(vector, moved);
    }
    if moved == 0 {
        observe_end(socket);
    } else if moved < i32::MAX as u64 {
        let transfer = Transfer::new(moving, moved as u32, source, call.user());
        if let Some(state) = followed(socket, scratch) {
            observe(socket, state, transfer, scratch);
        }
    }
    0
}

/// Direction and descriptor of a call that may have moved socket bytes.
#[inline(always)]
fn classify(call: &Call, result: i64) -> Option<(u8, u64)> {
    if !call.native {
        return None;
    }
    let [first, _, third, _] = call.arguments;
    let nothing = result == 0;
    match call.number {
        number::READ | number::RECVFROM | number::READV | number::RECVMSG | number::PREADV2 => {
            Some((direction::RECEIVE, first))
        }
        _ if nothing => None,
        number::RECVMMSG => Some((direction::RECEIVE, first)),
        number::WRITE
        | number::SENDTO
        | number::WRITEV
        | number::SENDMSG
        | number::SENDMMSG
        | number::PWRITEV2
        | number::SENDFILE => Some((direction::SEND, first)),
        // One end is a pipe; a pipe has no socket, so it is tried first.
        number::SPLICE if is_socket(third) => Some((direction::SEND, third)),
        number::SPLICE => Some((direction::RECEIVE, first)),
        _ => None,
    }
}

#[inline(always)]
fn receive_flags(call: &Call) -> u64 {
    match call.number {
        number::RECVFROM | number::RECVMMSG => call.arguments[3],
        number::RECVMSG => call.arguments[2],
        _ => 0,
    }
}

#[inline(always)]
fn is_socket(descriptor: u64) -> bool {
    match file_of(descriptor) {
        Some(file) => inode_of_socket(file).is_some(),
        None => false,
    }
}

#[inline(always)]
fn socket_of(descriptor: u64) -> Option<AddressedSocket> {
    let file = file_of(descriptor)?;
    let inode = inode_of_socket(file)?;
    let socket = read::<u64>(file + at::FILE_PRIVATE())?;
    let address = read::<u64>(socket + at::SOCKET_SK())?;
    if address == 0 {
        return None;
    }
    Some(AddressedSocket { address, inode })
}

/// The file behind a descriptor of the current process.
#[inline(always)]
fn file_of(descriptor: u64) -> Option<u64> {
    // SAFETY: no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let files = read::<u64>(task + at::TASK_FILES())?;
    let table = read::<u64>(files + at::FILES_FDT())?;
    let size = read::<u32>(table + at::FDT_MAX())?;
    let descriptor = descriptor & 0xffff_ffff;
    if descriptor >= u64::from(size) {
        return None;
    }
    let array = read::<u64>(table + at::FDT_FD())?;
    let file = read::<u64>(array + descriptor * 8)?;
    if file == 0 { None } else { Some(file) }
}

#[inline(always)]
fn inode_of_socket(file: u64) -> Option<u64> {
    let inode = read::<u64>(file + at::FILE_INODE())?;
    if read::<u16>(inode + at::INODE_MODE())? & TYPE_MASK != SOCKET_TYPE {
        return None;
    }
    read::<u64>(inode + at::INODE_INO())
}

/// Bytes of the first `count` messages.
#[inline(always)]
fn total_len(vector: u64, count: u64) -> u64 {
    let mut total = 0;
    let mut index = 0;
    while index < MESSAGES {
        if index >= count {
            break;
        }
        total +=
            u64::from(read_user::<u32>(vector + index * MESSAGE_SIZE + MESSAGE_LEN).unwrap_or(0));
        index += 1;
    }
    total
}
