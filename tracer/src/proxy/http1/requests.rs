//! What the application sends: requests, read as they pass.
//!
//! Every byte passes at once, but for those that may have to change: from the first line of a head
//! that carries, or may come to carry, a trace context up to the head's end. In most heads that is
//! the empty line alone.

use super::MAX_HEAD;
use super::body::{Body, Framed, Progress as BodyProgress};
use super::section::{Facts, Fed, Progress as SectionProgress, Section};
use super::start_line::{Method, Progress as LineProgress, Request, RequestLine};
use crate::proxy::OpaqueReason;

/// With which an HTTP/2 connection begins (RFC 9113 section 3.4).
pub(super) const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of the preface with which a request of HTTP/1 could begin, too.
const BEFORE_HTTP2: usize = b"PRI * HTTP/".len();
/// Bytes of memory that are kept between heads.
const KEPT: usize = 64;

/// The application's side of a connection.
#[derive(Debug, Default)]
pub(super) struct Requests {
    state: State,
    /// Bytes of the stream that were taken.
    taken: u64,
    /// Where the head begins.
    head: u64,
    request: Request,
    facts: Facts,
    /// Taken and not passed on: complete lines and the beginning of one.
    withheld: Vec<u8>,
    /// The server's answer to a request to switch protocols.
    switch: Switch,
    /// No response can follow the ones that are under way.
    is_last: bool,
    has_request: bool,
}

#[derive(Debug)]
enum State {
    Line(RequestLine),
    Fields(Section),
    /// Complete but for its context.
    Asked,
    Body(Body),
    /// So many bytes into the preface of HTTP/2.
    Preface(usize),
}

impl Default for State {
    fn default() -> Self {
        Self::Line(RequestLine::default())
    }
}

/// Whether the latest request asked to switch protocols, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Switch {
    #[default]
    No,
    Asked,
    Done,
    /// Done, and what follows is HTTP/2.
    Http2,
}

/// What a stretch of input did. `used` bytes of it were taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Part of a head: what may pass was written to the output.
    Head { used: usize },
    /// The input's first bytes pass as they are.
    Pass { used: usize },
    /// A head is complete but for its context; [`Requests::settle`] must be called before any other
    /// input is given.
    Complete { used: usize },
    /// The preface of HTTP/2 is complete: its first bytes pass, and what follows are frames.
    Http2 { used: usize },
    /// All further bytes pass unread; what was withheld is in the output.
    Opaque(OpaqueReason),
}

impl Requests {
    /// Reads on, and writes what passes to `out` unless the step says it passes from the input.
    pub(super) fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Step {
        let step = match &mut self.state {
            State::Line(_) => self.line(input),
            State::Fields(_) => self.fields(input, out),
            State::Body(_) => self.body(input),
            State::Preface(at) => {
                let at = *at;
                self.preface(at, input)
            }
            State::Asked => Step::Pass { used: 0 },
        };
        match step {
            Step::Head { used }
            | Step::Pass { used }
            | Step::Complete { used }
            | Step::Http2 { used } => self.taken += used as u64,
            Step::Opaque(_) => out.append(&mut self.withheld),
        }
        step
    }

    /// Bytes of the stream before the current head.
    pub(super) fn head_offset(&self) -> u64 {
        self.head
    }

    /// Bytes of the stream that were taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether nothing was taken.
    pub(super) fn is_fresh(&self) -> bool {
        self.taken == 0
    }

    /// Complete lines from the first that carries context to the empty line.
    pub(super) fn withheld(&self) -> &[u8] {
        &self.withheld
    }

    /// The head was passed on; goes on behind it.
    pub(super) fn settle(&mut self) -> Result<(), OpaqueReason> {
        if self.withheld.capacity() > KEPT {
            self.withheld = Vec::new();
        }
        self.withheld.clear();
        self.switch = if self.facts.upgrade { Switch::Asked } else { Switch::No };
        if self.request.method == Method::Connect {
            return Err(OpaqueReason::Connect);
        }
        // Was without contradictions when the head was complete.
        self.state = match Body::framed(self.facts, self.request.is_http10)? {
            Framed::Body(body) => State::Body(body),
            Framed::Empty | Framed::Unframed => State::default(),
        };
        Ok(())
    }

    /// Whether no request has begun.
    pub(super) fn is_idle(&self) -> bool {
        matches!(&self.state, State::Line(line) if line.is_before())
    }

    /// The current head's method.
    pub(super) fn method(&self) -> Method {
        self.request.method
    }

    /// Whether the current head asks to switch protocols.
    pub(super) fn asks_to_switch(&self) -> bool {
        self.facts.upgrade
    }

    /// The server refused to switch protocols.
    pub(super) fn on_refused(&mut self) {
        self.switch = Switch::No;
    }

    /// The server switches protocols.
    pub(super) fn on_switch(&mut self, h2c: bool) {
        self.switch = if h2c { Switch::Http2 } else { Switch::Done };
    }

    /// The current response ends with the connection.
    pub(super) fn on_last_response(&mut self) {
        self.is_last = true;
    }

    /// How many of the next bytes pass, whatever they are.
    pub(super) fn unread(&self) -> u64 {
        if let State::Body(body) = &self.state { body.unread() } else { 0 }
    }

    /// So many of them passed.
    pub(super) fn skip(&mut self, bytes: u64) {
        if let State::Body(body) = &mut self.state {
            body.skip(bytes);
            self.taken += bytes;
        }
    }

    /// No more will come.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.withheld);
    }

    fn line(&mut self, input: &[u8]) -> Step {
        let State::Line(line) = &mut self.state else {
            return Step::Pass { used: 0 };
        };
        let was_before = line.is_before();
        if was_before {
            match self.switch {
                Switch::No if self.is_last => return Step::Opaque(OpaqueReason::UntilClose),
                Switch::No => {}
                Switch::Asked => return Step::Opaque(OpaqueReason::UpgradeUndecided),
                Switch::Http2 => {
                    self.state = State::Preface(0);
                    return Step::Pass { used: 0 };
                }
                Switch::Done => return Step::Opaque(OpaqueReason::Upgraded),
            }
        }
        let progress = line.feed(input);
        let is_http2 = line.is_http2();
        let used = match progress {
            LineProgress::More => input.len(),
            LineProgress::End(used, _) | LineProgress::Broken(used, _) => used,
        };
        if was_before {
            let is_empty = |byte: &&u8| matches!(byte, b'\r' | b'\n');
            self.head = self.taken + input[..used].iter().take_while(is_empty).count() as u64;
        }
        match progress {
            LineProgress::Broken(..)
                if is_http2 && self.taken + used as u64 == BEFORE_HTTP2 as u64 =>
            {
                self.state = State::Preface(BEFORE_HTTP2);
                Step::Pass { used }
            }
            LineProgress::Broken(_, reason) if self.has_request => Step::Opaque(reason),
            LineProgress::Broken(..) => Step::Opaque(OpaqueReason::NotHttp),
            _ if self.is_too_large(used) => Step::Opaque(OpaqueReason::TooLarge),
            LineProgress::More => Step::Pass { used },
            LineProgress::End(_, request) => {
                self.request = request;
                self.has_request = true;
                self.state = State::Fields(Section::default());
                Step::Pass { used }
            }
        }
    }

    fn fields(&mut self, input: &[u8], out: &mut Vec<u8>) -> Step {
        let State::Fields(section) = &mut self.state else {
            return Step::Pass { used: 0 };
        };
        let Fed { used, withheld_from, progress } = section.feed(input);
        if self.is_too_large(used) {
            return Step::Opaque(OpaqueReason::TooLarge);
        }
        match progress {
            SectionProgress::More => {}
            SectionProgress::Broken(reason) => return Step::Opaque(reason),
            SectionProgress::End(facts) => {
                // Contradictions have to be known before anything is added.
                if let Err(reason) = Body::framed(facts, self.request.is_http10) {
                    return Step::Opaque(reason);
                }
                self.facts = facts;
            }
        }
        if withheld_from > 0 {
            out.append(&mut self.withheld);
            out.extend_from_slice(&input[..withheld_from]);
        }
        self.withheld.extend_from_slice(&input[withheld_from..used]);
        if let SectionProgress::End(_) = progress {
            self.state = State::Asked;
            return Step::Complete { used };
        }
        Step::Head { used }
    }

    fn body(&mut self, input: &[u8]) -> Step {
        let State::Body(body) = &mut self.state else {
            return Step::Pass { used: 0 };
        };
        match body.feed(input) {
            BodyProgress::More => Step::Pass { used: input.len() },
            BodyProgress::End(used) => {
                self.state = State::default();
                Step::Pass { used }
            }
            BodyProgress::Broken(_, reason) => Step::Opaque(reason),
        }
    }

    fn preface(&mut self, at: usize, input: &[u8]) -> Step {
        let rest = &HTTP2_PREFACE[at..];
        let len = rest.len().min(input.len());
        if rest.is_empty() {
            return Step::Opaque(OpaqueReason::Http2);
        }
        if rest[..len] != input[..len] {
            return Step::Opaque(OpaqueReason::NotHttp);
        }
        self.state = State::Preface(at + len);
        if len == rest.len() { Step::Http2 { used: len } } else { Step::Pass { used: len } }
    }

    fn is_too_large(&self, used: usize) -> bool {
        self.taken + used as u64 - self.head > MAX_HEAD
    }
}
