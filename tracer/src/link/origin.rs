//! Where an exchange comes from, and the kinds of evidence that say so, as spans and reports name
//! them.

use super::timing::Confidence;
use crate::exchange::ExchangeId;
use crate::trace::context::{RemoteContext, SpanContext};

/// What decided a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The request carried the context that the parent had received.
    Header,
    /// Both ends of the connection were seen.
    Pair,
    /// The task that made the call, or one that started it, was handling that request.
    Coroutine,
    /// The task that made the call, or one that waited for it, wrote that request's response.
    Task,
    /// As `Task`, but another task below the one that waits for both.
    RelatedTask,
    /// The thread that made the call was handling that request and no other.
    Thread,
    /// The thread that made the call wrote that request's response next.
    Worker,
    /// The call was made within a callback that is for that request.
    Callback,
    /// The call was written at once after something of that request was read.
    Tick,
    /// The call and its response came in the order of that request and its response.
    Order,
    /// No other request was open.
    Sole,
    /// It was by far the most likely one.
    Timing,
}

impl Kind {
    /// All names, the strongest evidence first.
    pub const NAMES: [&str; 7] =
        ["header", "pair", "coroutine", "thread", "tick", "sole", "timing"];

    /// As spans and reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Pair => "pair",
            Self::Coroutine | Self::Task | Self::RelatedTask => "coroutine",
            Self::Thread | Self::Worker => "thread",
            Self::Callback | Self::Tick | Self::Order => "tick",
            Self::Sole => "sole",
            Self::Timing => "timing",
        }
    }
}

/// Where an exchange comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// Nobody that is known.
    Root,
    /// The span whose context it carries.
    Remote(Box<RemoteContext>),
    /// Another exchange that was seen.
    Child {
        /// Which.
        parent: ExchangeId,
        /// How that is known.
        kind: Kind,
        /// Requests that it could have been, this one included.
        candidates: usize,
        /// How sure that is, where it is not certain.
        confidence: Option<Confidence>,
    },
    /// One of several requests, but not sure enough which.
    Unclear {
        /// How many.
        candidates: usize,
        /// The likeliest one's place, if all of them belong to one trace.
        related: Option<Box<SpanContext>>,
    },
}

impl Origin {
    pub(super) fn parent(&self) -> Option<ExchangeId> {
        match self {
            Self::Child { parent, .. } => Some(*parent),
            Self::Root | Self::Remote(_) | Self::Unclear { .. } => None,
        }
    }
}
