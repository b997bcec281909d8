//! Where in the process' memory the moved bytes are, and walking over them.

use crate::kernel::{Call, message_flag, number, read_user};

/// `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Vector {
    base: u64,
    len: u64,
}

/// `struct msghdr` as user space sees it, up to what is needed.
#[repr(C)]
#[derive(Clone, Copy)]
struct MessageHeader {
    name: u64,
    name_len: u64,
    vectors: u64,
    vector_count: u64,
}

/// Size of `struct mmsghdr`, and where its `msg_len` stands.
const MESSAGE_VECTOR_SIZE: u64 = 64;
const MESSAGE_VECTOR_LEN: u64 = 56;

/// Position in the user memory of one call. Lives in a map, not on the stack: the verifier then
/// forgets its values between steps, and does not follow every combination of them.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Cursor {
    /// Next byte, and how many follow it contiguously.
    pub(crate) address: u64,
    pub(crate) remaining: u64,
    /// Next `iovec`, and how many follow.
    vectors: u64,
    vector_count: u64,
    /// The next `iovec` if it was read together with the one before, which is cheaper than twice.
    ahead: Vector,
    is_ahead: u64,
    /// Next `mmsghdr`, and how many follow.
    messages: u64,
    message_count: u64,
    /// Bytes of the current message that were really moved.
    message_left: u64,
    /// Working values of a copy, see `emit`.
    pub(crate) filled: u64,
    pub(crate) left: u64,
    pub(crate) step: u64,
    pub(crate) size: u64,
}

/// How a call names its bytes.
#[repr(C, u64)]
#[derive(Clone, Copy)]
pub(crate) enum Source {
    Flat(u64),
    Vectors(u64, u64),
    Message(u64),
    /// `mmsghdr`s, and how many of them the call completed.
    Messages(u64, u64),
    InKernel,
    IoUring,
    Unknown,
}

impl Source {
    /// The user memory of a call on a socket, by its number and arguments. Message vectors are
    /// given as they stand; which of their messages is meant is the caller's to say.
    #[inline(always)]
    pub(crate) fn of(call: &Call, flags: u64) -> Self {
        if !call.in_progress || call.number == number::IO_URING_ENTER {
            return Self::IoUring;
        }
        if !call.native {
            return Self::Unknown;
        }
        if flags & message_flag::TRUNCATE != 0 {
            return Self::InKernel;
        }
        let [_, second, third, _] = call.arguments;
        match call.number {
            number::READ | number::WRITE | number::SENDTO | number::RECVFROM => Self::Flat(second),
            number::READV | number::WRITEV | number::PREADV2 | number::PWRITEV2 => {
                Self::Vectors(second, third)
            }
            number::SENDMSG | number::RECVMSG => Self::Message(second),
            number::SENDMMSG | number::RECVMMSG => Self::Messages(second, third),
            number::SENDFILE | number::SPLICE => Self::InKernel,
            _ => Self::Unknown,
        }
    }

    /// The `index`th message of a message vector.
    #[inline(always)]
    pub(crate) fn message_at(vector: u64, index: u64) -> Self {
        Self::Message(vector + index * MESSAGE_VECTOR_SIZE)
    }
}

impl Cursor {
    /// Stands the cursor at the first of `len` bytes.
    #[inline(always)]
    pub(crate) fn start(&mut self, source: Source, len: u64) {
        for field in [
            &mut self.address,
            &mut self.remaining,
            &mut self.vectors,
            &mut self.vector_count,
            &mut self.is_ahead,
            &mut self.messages,
            &mut self.message_count,
        ] {
            // SAFETY: a reference is valid for writes. One store each: plain ones become a call of
            // `memset`, which here is a loop over bytes.
            unsafe { core::ptr::from_mut(field).write_volatile(0) };
        }
        self.message_left = len;
        match source {
            Source::Flat(address) => {
                self.address = address;
                self.remaining = len;
            }
            Source::Vectors(vectors, count) => {
                self.vectors = vectors;
                self.vector_count = count;
            }
            Source::Message(header) => self.open_message(header),
            Source::Messages(messages, count) => {
                self.messages = messages;
                self.message_count = count;
                self.message_left = 0;
            }
            Source::InKernel | Source::IoUring | Source::Unknown => {}
        }
    }

    #[inline(never)]
    fn open_message(&mut self, header: u64) {
        if let Some(header) = read_user::<MessageHeader>(header) {
            self.vectors = header.vectors;
            self.vector_count = header.vector_count;
        }
    }

    /// Moves to the next contiguous range if the current one is used up. May have to be called
    /// again (an empty vector, the next message); `false` if there is nothing more.
    #[inline(always)]
    pub(crate) fn refill(&mut self) -> bool {
        if self.remaining != 0 {
            return true;
        }
        if self.vector_count == 0 || self.message_left == 0 {
            return self.message_count != 0 && self.next_message();
        }
        let Some(vector) = self.next_vector() else {
            return false;
        };
        self.address = vector.base;
        self.remaining =
            if vector.len < self.message_left { vector.len } else { self.message_left };
        self.message_left -= self.remaining;
        true
    }

    #[inline(never)]
    fn next_message(&mut self) -> bool {
        let message = self.messages;
        self.messages += MESSAGE_VECTOR_SIZE;
        self.message_count -= 1;
        let Some(len) = read_user::<u32>(message + MESSAGE_VECTOR_LEN) else {
            return false;
        };
        self.message_left = u64::from(len);
        self.vector_count = 0;
        self.open_message(message);
        true
    }

    #[inline(always)]
    fn next_vector(&mut self) -> Option<Vector> {
        let vector = if self.is_ahead != 0 {
            self.is_ahead = 0;
            self.ahead
        } else if self.vector_count > 1 {
            let [vector, ahead] = read_user::<[Vector; 2]>(self.vectors)?;
            self.ahead = ahead;
            self.is_ahead = 1;
            vector
        } else {
            read_user::<Vector>(self.vectors)?
        };
        self.vectors += size_of::<Vector>() as u64;
        self.vector_count -= 1;
        Some(vector)
    }

    /// Goes `len` bytes on within the current range.
    #[inline(always)]
    pub(crate) fn consume(&mut self, len: u64) {
        self.address += len;
        self.remaining -= len;
    }
}
