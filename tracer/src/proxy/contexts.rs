//! The question of whose trace context a request is to carry, and its answer.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use crate::event::{ConnId, StreamOffset};
use crate::exchange::{ExchangeId, Field};
use crate::sampling::Sampler;
use crate::trace::context::{self, IdSource, RemoteContext};

/// A request head that is complete, but for the context it is to carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The application's end of the connection.
    pub application: SocketAddr,
    /// Where the application meant to connect to.
    pub destination: SocketAddr,
    /// The connection as the capture names it in its events, if it does.
    pub connection: Option<Captured>,
    /// How many bytes the application had sent on the connection before the head.
    pub offset: u64,
    /// The stream of an HTTP/2 connection.
    pub stream: Option<u32>,
    /// The context fields the head has, in order: `traceparent`, `tracestate`, `b3`, `x-b3-*`.
    /// Names are in lower case, values without blanks around them.
    pub fields: Vec<Field>,
}

impl Question {
    /// The call that the head begins, as the capture names it, if it sees the connection. Streams
    /// of HTTP/2 have no such names.
    pub fn call(&self) -> Option<ExchangeId> {
        let Captured { conn, first } = self.connection.filter(|_| self.stream.is_none())?;
        // Positions in a stream are counted modulo 2^32.
        Some(ExchangeId { conn, offset: first.advance(self.offset as u32) })
    }
}

/// A connection as the capture sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Its name in events.
    pub conn: ConnId,
    /// Where the first byte that the application sends stands in its stream.
    pub first: StreamOffset,
}

/// What is to become of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is forwarded as it is.
    Keep,
    /// It carries this context and no other.
    Set(RemoteContext),
}

/// A verdict, now or soon.
pub enum Answer {
    /// Known at once.
    Now(Verdict),
    /// The head waits for it until the deadline. `None` means that there will be no answer.
    Later(Pin<Box<dyn Future<Output = Option<Verdict>> + Send>>),
}

/// An answer that was not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Void {
    /// Which head.
    pub question: Question,
    /// What was done instead. Without an answer in time, [`NewRoots`] decided; what cannot be
    /// replaced in a header block of HTTP/2 was kept.
    pub verdict: Verdict,
}

/// Knows which context a request is to carry.
///
/// Called on the threads that forward: must not block.
pub trait Contexts: Send + Sync {
    /// The context for this head.
    fn ask(&self, question: &Question) -> Answer;

    /// The answer came too late or could not be followed; the head went out in another way.
    fn void(&self, void: Void);
}

/// The rule where nothing is known of what the application does: a valid context is kept, and a
/// request without one begins a trace.
///
/// By W3C Trace Context, a `traceparent` that is invalid or stands twice begins a new trace, and so
/// does a `tracestate` on its own. A valid B3 context beside an invalid `traceparent` is taken over.
#[derive(Debug)]
pub struct NewRoots {
    ids: Mutex<IdSource>,
    sampler: Sampler,
}

impl NewRoots {
    /// Roots with ids from `ids`, which `sampler` decides on.
    pub fn new(ids: IdSource, sampler: Sampler) -> Self {
        Self { ids: Mutex::new(ids), sampler }
    }

    /// What is to become of a head with these context fields.
    pub fn verdict(&self, fields: &[Field]) -> Verdict {
        let has = |name: &str| fields.iter().any(|(field, _)| field == name);
        match context::extract(fields) {
            None => Verdict::Set(self.root()),
            Some(carried) if has("traceparent") && context::extract_w3c(fields).is_none() => {
                Verdict::Set(carried)
            }
            Some(_) => Verdict::Keep,
        }
    }

    fn root(&self) -> RemoteContext {
        // A panic while it was held left ids as random as before.
        let mut root = self.ids.lock().unwrap_or_else(PoisonError::into_inner).root();
        self.sampler.decide(&mut root);
        RemoteContext { trace: root.trace, span: root.span, flags: root.flags, state: root.state }
    }
}

impl Contexts for NewRoots {
    fn ask(&self, question: &Question) -> Answer {
        Answer::Now(self.verdict(&question.fields))
    }

    fn void(&self, _void: Void) {}
}

#[cfg(test)]
mod tests;
