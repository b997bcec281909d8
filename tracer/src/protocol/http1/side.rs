//! One direction of an HTTP/1.x connection: where in which message it stands.

use super::body::Body;
use crate::event::{KernelTime, StreamOffset};
use crate::protocol::Moment;
pub(super) use crate::protocol::slots::Kind;

/// Reading state of one direction.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) state: State,
    /// Turn of the last bytes.
    pub(super) last_turn: Option<u32>,
    /// Time of the last bytes.
    pub(super) last_time: KernelTime,
    /// The message in progress is the first one after bytes that were not understood.
    pub(super) rejoined: bool,
}

/// Where a direction stands.
#[derive(Debug)]
pub(super) enum State {
    /// Out of step: the next message start is looked for from this turn on.
    Lost {
        /// First turn that may begin with a message.
        from: u32,
    },
    /// Between two messages.
    Start,
    /// Inside a head.
    Head(Box<PartialHead>),
    /// Inside a body.
    Body(Body),
}

/// A head whose end was not seen yet.
#[derive(Debug)]
pub(super) struct PartialHead {
    pub(super) bytes: Vec<u8>,
    /// Who moved its first byte.
    pub(super) began: Moment,
    /// Where that byte stands.
    pub(super) offset: StreamOffset,
    /// The first line is complete and was found valid.
    pub(super) line_is_valid: bool,
}

impl Side {
    pub(super) fn new() -> Self {
        Self {
            state: State::Lost { from: 0 },
            last_turn: None,
            last_time: KernelTime::default(),
            rejoined: false,
        }
    }

    /// Bytes held back.
    pub(super) fn buffered(&self) -> usize {
        if let State::Head(head) = &self.state { head.bytes.len() } else { 0 }
    }

    /// Whether it is in a message only on the strength of a few bytes.
    pub(super) fn is_weak(&self) -> bool {
        self.rejoined && matches!(&self.state, State::Head(head) if !head.line_is_valid)
    }

    /// Moves on, giving back what was held.
    pub(super) fn become_state(&mut self, state: State, buffered: &mut usize) {
        *buffered = buffered.saturating_sub(self.buffered());
        self.state = state;
    }
}
