//! What the model is told: moments of requests and calls, by name and time only.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::event::KernelTime;

/// The process (or group of like processes) whose requests cause the calls; any key the caller
/// keeps stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service(pub u64);

/// What a request or call asks for, reduced to a key of low cardinality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operation(u64);

impl Operation {
    /// The key of a named operation; `peer` names the called service, and is empty for an inbound
    /// request.
    pub fn named(operation: &str, peer: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (operation, peer).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// Handle of an inbound request, chosen by the caller, unique among the open ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Handle of an outbound call, chosen by the caller, unique among the undecided ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// What stronger evidence already said about a call's parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Nothing: the model is asked.
    Nothing,
    /// This request caused it; the model only learns from it.
    Parent(RequestId),
    /// No request caused it.
    Root,
}

/// Something that happened to a request or a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The service read an inbound request.
    Arrived {
        /// The request.
        request: RequestId,
        /// What it asks for.
        operation: Operation,
    },
    /// The service wrote the last of its response.
    Answered {
        /// The request.
        request: RequestId,
    },
    /// The service wrote an outbound request.
    Called {
        /// The call.
        call: CallId,
        /// What it asks of whom.
        operation: Operation,
        /// What is known of its parent.
        evidence: Evidence,
    },
    /// The service read the last of the call's response, or the call failed.
    Returned {
        /// The call.
        call: CallId,
    },
}

/// One moment of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Whose.
    pub service: Service,
    /// When.
    pub at: KernelTime,
    /// What.
    pub moment: Moment,
}
