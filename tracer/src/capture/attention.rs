//! Waiting for the kernel half to ask for attention: the ring fills up, or a process appeared. It
//! does not for single events, so that they come in batches.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::LoadError;

/// What ends a pause early. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Attention(Arc<OwnedFd>);

impl Attention {
    /// Edge-triggered: records that merely wait in the ring are no reason to end a pause.
    pub(super) fn of(ring: &RingBuf<MapData>) -> io::Result<Self> {
        let attention = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let interest = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&attention, ring, epoll::EventData::new_u64(0), interest)?;
        Ok(Self(Arc::new(attention)))
    }

    /// Waits until `timeout` is over or attention is asked for.
    pub fn wait(&self, timeout: Duration) {
        let timeout =
            Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        let mut calls = Vec::with_capacity(1);
        // An interrupted wait is a short one; the caller loops.
        let _ = epoll::wait(&*self.0, spare_capacity(&mut calls), Some(&timeout));
    }

    /// Has [`Self::wait`] end as long as `bell` is readable, too.
    pub fn attend(&self, bell: impl AsFd) -> Result<(), LoadError> {
        let (interest, data) = (epoll::EventFlags::IN, epoll::EventData::new_u64(1));
        epoll::add(&*self.0, bell, data, interest).map_err(|error| LoadError::Wait(error.into()))
    }
}
