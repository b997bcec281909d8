//! What the core says about a connection's exchanges, the output language of [`crate::conn`].
//!
//! Plain values; must not know how they were found or what becomes of them.

use std::sync::Arc;

use crate::event::{ConnId, KernelTime, Pid, Tid};
use crate::exchange::{Ends, Exchange, ExchangeId, RequestHead, Role};

/// One finding, in the order of the events that caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A request head is complete. Followed by exactly one [`Observation::Finished`] or
    /// [`Observation::Lost`] with the same id.
    RequestBegan {
        /// The exchange.
        id: ExchangeId,
        /// Which end is observed.
        role: Role,
        /// Process that read (server) or wrote (client) the first byte.
        pid: Pid,
        /// Thread that did so.
        tid: Tid,
        /// When it did.
        at: KernelTime,
        /// The connection's ends.
        ends: Arc<Ends>,
        /// What is requested.
        request: Arc<RequestHead>,
    },
    /// A final response head is complete.
    ResponseBegan {
        /// The exchange.
        id: ExchangeId,
        /// Which end is observed.
        role: Role,
        /// Process that wrote (server) or read (client) the first byte.
        pid: Pid,
        /// Thread that did so.
        tid: Tid,
        /// When it did.
        at: KernelTime,
    },
    /// The beginning of an announced request's body, as far as one call moved it. Only of
    /// requests that carry telemetry.
    Exported {
        /// Which end is observed.
        role: Role,
        /// Process that read (server) or wrote (client) it.
        pid: Pid,
        /// What is known of the body.
        body: Box<[u8]>,
    },
    /// An exchange ended, well or badly.
    Finished(Box<Exchange>),
    /// What the connection turned out to be. Each verdict is given once a connection.
    Verdict {
        /// The connection.
        conn: ConnId,
        /// What it is.
        verdict: Verdict,
    },
    /// Exchanges that happened but cannot be reported.
    Lost {
        /// The connection.
        conn: ConnId,
        /// Set when the exchange was announced by [`Observation::RequestBegan`]; `exchanges` is
        /// one then, or zero where the loss was already counted.
        id: Option<ExchangeId>,
        /// Why.
        reason: LossReason,
        /// How many.
        exchanges: u32,
    },
}

/// What to do with a connection from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It carries HTTP requests: report everything.
    Http,
    /// Nothing more will come of it: report nothing.
    Ignore,
}

/// Why an exchange could not be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LossReason {
    /// No event told of it, but the count of direction changes does.
    Unseen,
    /// Its response was seen but not its request: it began before the agent did, or events of it
    /// were dropped.
    RequestUnseen,
    /// Its response, or the end of it, was not seen.
    ResponseUnseen,
    /// A message head has a part whose content is not known.
    HeadGap,
    /// A message head is larger than [`Limits::head_bytes`](super::Limits::head_bytes).
    HeadTooLarge,
    /// A message head has more fields than the parser takes.
    TooManyHeaders,
    /// A message head is not what its protocol wants it to be.
    BadHead,
    /// More requests were waiting for a response than the queue takes.
    PipelineFull,
    /// The connection carried another request at the time, told apart by numbers.
    Multiplexed,
    /// An application was not asked to respond, but to authorize or to filter.
    NotResponder,
    /// Incomplete heads of all connections fill [`Limits::buffered_bytes`](super::Limits).
    BuffersFull,
    /// Stream offsets went backwards, or requests and responses could not be told apart.
    Desync,
    /// The connection table was full and this connection was idle longest.
    TableFull,
    /// The connection is not watched any more, because what it carries is never recorded.
    Unsampled,
    /// Nothing happened on the connection for too long.
    Expired,
    /// Still open when the agent stopped or the recording ended.
    Unfinished,
}
