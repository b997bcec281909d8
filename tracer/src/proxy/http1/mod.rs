//! HTTP/1.0 and 1.1 between an application and its server: where each request head ends, so that a
//! trace context can be added there.
//!
//! Sans-IO: bytes in, in whatever pieces they come; bytes to pass on out. Strict: what could be
//! read in more than one way ends the reading, and everything passes as it is from there on. Must
//! not know sockets, nor whose context is added.

mod body;
mod chunked;
mod requests;
mod responses;
mod section;
mod start_line;
mod syntax;

use requests::{Requests, Step};
use responses::{News, Pending, Responses};

use super::{Fed, OpaqueReason, http2};

/// Bytes of a head at most.
pub(super) const MAX_HEAD: u64 = 64 * 1024;

/// A connection from its first byte on.
#[derive(Debug, Default)]
pub struct Conversation {
    requests: Requests,
    /// `None` once responses are followed no further.
    responses: Option<Responses>,
    opaque: Option<OpaqueReason>,
    upgraded: bool,
}

/// A head that lacks nothing but its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Complete<'a> {
    /// Bytes of the stream before the head.
    pub offset: u64,
    /// Whole lines: from the first that carries context to the empty line.
    pub withheld: &'a [u8],
}

impl Conversation {
    /// A connection of which no byte was sent.
    pub fn new() -> Self {
        Self { responses: Some(Responses::default()), ..Self::default() }
    }

    /// Takes bytes of the application's; what passes is added to `out` unless said otherwise.
    pub fn from_application(&mut self, input: &[u8], out: &mut Vec<u8>) -> Fed {
        if let Some(reason) = self.opaque {
            return Fed::Opaque(reason);
        }
        match self.requests.feed(input, out) {
            Step::Head { used } => Fed::Taken(used),
            Step::Pass { used } => Fed::Pass(used),
            Step::Complete { used } => Fed::Head(used),
            Step::Http2 { used } => {
                self.responses = None;
                Fed::Http2(used)
            }
            Step::Opaque(reason) => Fed::Opaque(self.become_opaque(reason)),
        }
    }

    /// What reads on after [`Fed::Http2`].
    pub fn http2(&self) -> http2::Requests {
        http2::Requests::new(self.requests.taken(), self.upgraded)
    }

    /// The head that awaits its context.
    pub fn complete(&self) -> Complete<'_> {
        Complete { offset: self.requests.head_offset(), withheld: self.requests.withheld() }
    }

    /// The complete head has been passed on, with whatever context.
    pub fn settle(&mut self) {
        let pending = Pending::new(self.requests.method(), self.requests.asks_to_switch());
        let may_switch = matches!(pending, Pending::Connect | Pending::Upgrade);
        let is_followed = match &mut self.responses {
            Some(responses) => {
                if !responses.expect(pending) {
                    self.become_opaque(OpaqueReason::Pipelined);
                    return;
                }
                true
            }
            None => false,
        };
        if let Err(reason) = self.requests.settle() {
            self.become_opaque(reason);
        } else if may_switch && !is_followed {
            self.become_opaque(OpaqueReason::UpgradeUndecided);
        }
    }

    /// Sees bytes of the server's, which pass as they are. False if it need see no more of them.
    pub fn from_server(&mut self, input: &[u8]) -> bool {
        if self.requests.is_fresh() {
            self.become_opaque(OpaqueReason::ServerFirst);
        }
        let mut at = 0;
        while at < input.len() {
            let Some(responses) = &mut self.responses else {
                return false;
            };
            let (used, news) = responses.feed(&input[at..]);
            at += used;
            match news {
                None => {}
                Some(News::Refused) => self.requests.on_refused(),
                Some(News::Switched { h2c }) => {
                    self.requests.on_switch(h2c);
                    self.upgraded = h2c;
                    self.responses = None;
                }
                Some(News::Last) => {
                    self.requests.on_last_response();
                    self.responses = None;
                }
                Some(News::Lost) => self.responses = None,
            }
        }
        self.responses.is_some()
    }

    /// The application has sent its last byte: adds what is still withheld to `out`.
    pub fn finish_application(&mut self, out: &mut Vec<u8>) {
        self.requests.finish(out);
    }

    /// How many of the application's next bytes pass as they are, whatever they are.
    pub fn application_unread(&self) -> u64 {
        if self.opaque.is_some() { u64::MAX } else { self.requests.unread() }
    }

    /// So many of them passed.
    pub fn skip_application(&mut self, bytes: u64) {
        self.requests.skip(bytes);
    }

    /// How many of the server's next bytes are of no interest, whatever they are.
    pub fn server_unread(&self) -> u64 {
        self.responses.as_ref().map_or(u64::MAX, Responses::unread)
    }

    /// So many of them passed.
    pub fn skip_server(&mut self, bytes: u64) {
        if let Some(responses) = &mut self.responses {
            responses.skip(bytes);
        }
    }

    /// Whether every request is answered, none has begun, and that can be told.
    pub fn is_idle(&self) -> bool {
        self.opaque.is_none()
            && self.requests.is_idle()
            && self.responses.as_ref().is_some_and(Responses::is_idle)
    }

    /// Why everything passes as it is, if it does.
    pub fn opaque(&self) -> Option<OpaqueReason> {
        self.opaque
    }

    fn become_opaque(&mut self, reason: OpaqueReason) -> OpaqueReason {
        self.responses = None;
        *self.opaque.insert(reason)
    }
}

#[cfg(test)]
mod tests;
