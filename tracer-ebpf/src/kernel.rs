//! Reading kernel memory, and the few system-call facts of the architecture.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user};

/// Reads a `T` at a kernel address.
#[inline(always)]
pub(crate) fn read<T: Copy>(address: u64) -> Option<T> {
    // SAFETY: the helper fails without a fault where nothing can be read.
    read_by(|to, size| unsafe { bpf_probe_read_kernel(to, size, address as *const c_void) })
}

/// Reads a `T` at a user address of the current process.
#[inline(always)]
pub(crate) fn read_user<T: Copy>(address: u64) -> Option<T> {
    // SAFETY: as in `read`.
    read_by(|to, size| unsafe { bpf_probe_read_user(to, size, address as *const c_void) })
}

#[inline(always)]
fn read_by<T: Copy>(copy: impl FnOnce(*mut c_void, u32) -> i64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    if copy(value.as_mut_ptr().cast(), size_of::<T>() as u32) != 0 {
        return None;
    }
    // SAFETY: the helper wrote `size_of::<T>()` bytes, or failed; every `T` used is a plain integer
    // or byte array.
    Some(unsafe { value.assume_init() })
}

/// `struct pt_regs` of x86-64: the user's registers at system-call entry.
#[repr(C)]
pub(crate) struct Registers {
    r15: u64,
    r14: u64,
    unused: [u64; 5],
    r10: u64,
    r9: u64,
    r8: u64,
    ax: u64,
    cx: u64,
    dx: u64,
    si: u64,
    di: u64,
    orig_ax: u64,
    ip: u64,
    cs: u64,
    flags: u64,
    sp: u64,
}

/// User registers that a runtime uses for itself. Zeros if the bytes were not moved by a call of
/// the current thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct UserRegisters {
    pub(crate) sp: u64,
    pub(crate) r14: u64,
    /// The call's number.
    pub(crate) call: u64,
}

impl UserRegisters {
    pub(crate) const UNKNOWN: Self = Self { sp: 0, r14: 0, call: u64::MAX };
}

/// What a `Registers` pointer says, taken over once.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) arguments: [u64; 4],
    /// The call has not returned yet: its arguments belong to what is happening now.
    pub(crate) in_progress: bool,
    /// Made with the 64-bit calling convention.
    pub(crate) native: bool,
    user: UserRegisters,
}

const ENOSYS: u64 = -38i64 as u64;
const USER_CODE_SEGMENT_32: u64 = 0x23;

impl Call {
    /// # Safety
    /// `registers` must be a pointer the verifier knows as `struct pt_regs`.
    #[inline(always)]
    pub(crate) unsafe fn from_registers(registers: *const Registers) -> Self {
        // SAFETY: by contract; the verifier checks each load.
        unsafe {
            Self {
                number: (*registers).orig_ax,
                arguments: [(*registers).di, (*registers).si, (*registers).dx, (*registers).r10],
                in_progress: (*registers).ax == ENOSYS,
                native: (*registers).cs != USER_CODE_SEGMENT_32,
                user: UserRegisters {
                    sp: (*registers).sp,
                    r14: (*registers).r14,
                    call: (*registers).orig_ax,
                },
            }
        }
    }

    /// The registers of the code that made the call.
    #[inline(always)]
    pub(crate) fn user(&self) -> UserRegisters {
        if self.in_progress && self.native { self.user } else { UserRegisters::UNKNOWN }
    }
}

/// System-call numbers of x86-64.
pub(crate) mod number {
    pub(crate) const READ: u64 = 0;
    pub(crate) const WRITE: u64 = 1;
    pub(crate) const READV: u64 = 19;
    pub(crate) const WRITEV: u64 = 20;
    pub(crate) const SENDFILE: u64 = 40;
    pub(crate) const SENDTO: u64 = 44;
    pub(crate) const RECVFROM: u64 = 45;
    pub(crate) const SENDMSG: u64 = 46;
    pub(crate) const RECVMSG: u64 = 47;
    pub(crate) const SPLICE: u64 = 275;
    pub(crate) const RECVMMSG: u64 = 299;
    pub(crate) const SENDMMSG: u64 = 307;
    pub(crate) const PREADV2: u64 = 327;
    pub(crate) const PWRITEV2: u64 = 328;
    pub(crate) const IO_URING_ENTER: u64 = 426;
}

/// Flags of receive calls.
pub(crate) mod message_flag {
    pub(crate) const OUT_OF_BAND: u64 = 0x1;
    pub(crate) const PEEK: u64 = 0x2;
    pub(crate) const TRUNCATE: u64 = 0x20;
    pub(crate) const ERROR_QUEUE: u64 = 0x2000;
}
