//! Pipes through which bytes go from socket to socket without being copied.
//!
//! A thread keeps a few empty ones; how many there are in all is bounded, for each costs two
//! descriptors.

use std::cell::RefCell;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// Pipes in use at most. Whoever gets none copies.
pub(super) const MOST: usize = 256;
/// Empty ones that a thread keeps.
const KEPT: usize = 8;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(MOST);

/// Lets no more than so many be in use, for want of descriptors.
pub(super) fn limit(pipes: usize) {
    LIMIT.store(pipes.min(MOST), Ordering::Relaxed);
}

thread_local! {
    static EMPTY: RefCell<Vec<Arc<Ends>>> = const { RefCell::new(Vec::new()) };
}

/// A pipe, and how many bytes are in it.
pub(super) struct Pipe {
    ends: Arc<Ends>,
    filled: usize,
    _place: Place,
}

struct Ends {
    output: OwnedFd,
    input: OwnedFd,
}

impl Pipe {
    /// Bytes it is meant to hold.
    pub(super) const SIZE: usize = 256 * 1024;

    /// An empty pipe, if one can be had.
    pub(super) fn take() -> Option<Self> {
        let place = Place::take()?;
        let ends = EMPTY.with_borrow_mut(Vec::pop).or_else(Ends::new)?;
        Some(Self { ends, filled: 0, _place: place })
    }

    /// Where bytes are put in.
    pub(super) fn input(&self) -> BorrowedFd<'_> {
        self.ends.input.as_fd()
    }

    /// Where bytes come out.
    pub(super) fn output(&self) -> BorrowedFd<'_> {
        self.ends.output.as_fd()
    }

    /// Bytes in it.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// So many bytes were put in.
    pub(super) fn fill(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    /// So many bytes came out.
    pub(super) fn drain(&mut self, bytes: usize) {
        self.filled -= bytes;
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // Bytes of a connection that was broken off are nobody's.
        if self.filled == 0 {
            EMPTY.with_borrow_mut(|empty| {
                if empty.len() < KEPT {
                    empty.push(Arc::clone(&self.ends));
                }
            });
        }
    }
}

impl Ends {
    fn new() -> Option<Arc<Self>> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // A smaller one, as users without privileges may get, only takes more calls.
        let _ = fcntl_setpipe_size(&input, Pipe::SIZE);
        Some(Arc::new(Self { output, input }))
    }
}

/// One of the pipes that may be in use.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let taken = IN_USE.fetch_add(1, Ordering::Relaxed);
        let place = Self;
        (taken < LIMIT.load(Ordering::Relaxed)).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        IN_USE.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // One test, since the limit is the process's.
    #[test]
    fn only_empty_pipes_are_used_again_and_there_is_a_limit() {
        let input = |pipe: &Pipe| Arc::as_ptr(&pipe.ends);
        let mut pipe = Pipe::take().unwrap();
        let first = input(&pipe);
        pipe.fill(1);
        pipe.drain(1);
        drop(pipe);
        let mut again = Pipe::take().unwrap();
        assert_eq!(input(&again), first);
        again.fill(1);
        drop(again);
        assert!(EMPTY.with_borrow(Vec::is_empty));

        let mut pipes: Vec<_> = std::iter::from_fn(Pipe::take).collect();
        assert!(pipes.len() <= MOST);
        pipes.pop();
        assert!(Pipe::take().is_some());
    }
}
