//! Protocols: from the ordered pieces of a connection's two byte streams to exchanges.
//!
//! One module a protocol, one trait for all. Must not know processes beyond their pid, how bytes
//! were captured, or what becomes of an exchange.

pub mod fastcgi;
mod fields;
pub mod http1;
mod observation;
mod slots;

pub use observation::{LossReason, Observation, Verdict};

use std::fmt;
use std::sync::Arc;

use crate::event::{Closed, ConnId, Direction, KernelTime, Pid, StreamOffset, Tid};
use crate::exchange::{Ends, HeaderInterest, Role};

/// What a protocol needs to know of one connection, and where it puts what it finds.
pub struct Host<'a> {
    /// The connection.
    pub conn: ConnId,
    /// Its ends.
    pub ends: &'a Arc<Ends>,
    /// Header fields to keep.
    pub interest: &'a HeaderInterest,
    /// Bounds.
    pub limits: Limits,
    /// Bytes buffered by all connections.
    pub buffered: &'a mut usize,
    /// Findings.
    pub out: &'a mut Vec<Observation>,
}

impl Host<'_> {
    /// Counts exchanges that were never announced.
    fn lose(&mut self, reason: LossReason, exchanges: u32) {
        self.out.push(Observation::Lost { conn: self.conn, id: None, reason, exchanges });
    }
}

/// Bounds on memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message head at most.
    pub head_bytes: usize,
    /// Bytes of all incomplete heads together at most.
    pub buffered_bytes: usize,
}

/// Who moved bytes, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub time: KernelTime,
    /// Process.
    pub pid: Pid,
    /// Thread.
    pub tid: Tid,
    /// See [`crate::event::Data::turn`].
    pub turn: u32,
}

/// How a segment joins the ones seen before it in its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joint {
    /// It follows them, or is the first one.
    Contiguous,
    /// So many bytes before it were moved without an event.
    Unseen(u32),
    /// It repeats or precedes bytes already seen.
    Overlap,
}

/// What one call moved: first `bytes`, then `rest` bytes of unknown content.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Which way.
    pub direction: Direction,
    /// By whom and when.
    pub moment: Moment,
    /// Where `bytes` begins.
    pub offset: StreamOffset,
    /// How it follows what was seen before.
    pub joint: Joint,
    /// Known content.
    pub bytes: &'a [u8],
    /// Length of what follows.
    pub rest: u32,
    /// The last bytes of what follows, if known.
    pub tail: &'a [u8],
}

/// How sure a protocol is of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing contradicts it so far.
    Tentative,
    /// It is this protocol.
    Confirmed,
    /// It is not.
    Rejected,
    /// It was, and now carries something else that nobody looks into.
    Opaque,
}

/// What the first bytes of a message look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// A request.
    Request,
    /// A response.
    Response,
    /// One or the other: too few bytes.
    Either,
    /// Neither.
    Neither,
}

/// The state machine of one connection that (probably) speaks a protocol.
pub trait Protocol: fmt::Debug + Send {
    /// Judges the first bytes of a message.
    fn likeness(start: &[u8]) -> Likeness
    where
        Self: Sized;

    /// Takes what moved in one direction. Segments of one direction come in stream order.
    fn on_segment(&mut self, segment: &Segment<'_>, host: &mut Host<'_>) -> Standing;

    /// Takes the end of a direction or of the connection. `complete` is false if bytes are known
    /// to have moved unseen before it.
    fn on_closed(&mut self, closed: &Closed, complete: bool, host: &mut Host<'_>);

    /// Gives up every open exchange and every buffer.
    fn abandon(&mut self, reason: LossReason, host: &mut Host<'_>);

    /// Stable name for metrics.
    fn name(&self) -> &'static str;

    /// Exchanges begun and not ended.
    fn open_exchanges(&self) -> usize;
}

/// Role of the observed process, from the direction its requests travel.
pub(crate) fn role_of(requests: Direction) -> Role {
    match requests {
        Direction::Send => Role::Client,
        Direction::Receive => Role::Server,
    }
}
