//! The two directions of a connection as they are looked at while they pass.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::timeout;

use super::contexts::{Answer, Captured, Question, Verdict, Void};
use super::counts::Event;
use super::forwarder::Inner;
use super::heads;
use super::http1::Conversation;
use super::{Fed, http2};

/// What is to be done with bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inspected {
    /// They pass as they are.
    AsIs,
    /// The output passes instead.
    Rewritten,
    /// The output passes; more of it follows from [`Inspect::resume`].
    Waits,
}

/// Looks at the bytes of one direction.
pub(super) trait Inspect {
    /// Looks at bytes that were read, and writes to `out`, which is empty, unless they pass as they
    /// are.
    fn inspect(&mut self, input: &[u8], out: &mut Vec<u8>) -> Inspected;

    /// How many of the next bytes need not be looked at.
    fn unread(&self) -> u64;

    /// So many of these bytes passed.
    fn skip(&mut self, bytes: u64);

    /// The sender has sent its last byte: writes what is still withheld.
    fn finish(&mut self, out: &mut Vec<u8>);

    /// Goes on where the last inspection had to wait. True if it has to wait again.
    async fn resume(&mut self, out: &mut Vec<u8>) -> bool;
}

/// What both directions share.
pub(super) struct Talk<'f> {
    forwarder: &'f Inner,
    application: SocketAddr,
    destination: SocketAddr,
    connection: Option<Captured>,
    /// Directions with bytes that the receiver has yet to take.
    blocked: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    conversation: Conversation,
    is_counted: bool,
}

impl<'f> Talk<'f> {
    pub(super) fn new(
        forwarder: &'f Inner,
        application: SocketAddr,
        destination: SocketAddr,
        connection: Option<Captured>,
    ) -> Self {
        let state = State { conversation: Conversation::new(), is_counted: false };
        let (blocked, state) = (AtomicUsize::new(0), Mutex::new(state));
        Self { forwarder, application, destination, connection, blocked, state }
    }

    /// Whether every request that was sent is answered, and all of it was passed on.
    pub(super) fn is_idle(&self) -> bool {
        self.blocked.load(Ordering::Relaxed) == 0 && self.lock().conversation.is_idle()
    }

    /// A direction has bytes that the receiver has yet to take.
    pub(super) fn begin_blocked(&self) {
        self.blocked.fetch_add(1, Ordering::Relaxed);
    }

    /// They were taken.
    pub(super) fn end_blocked(&self) {
        self.blocked.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self, event: Event) {
        self.forwarder.counts.add(event);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Held by one task only; whoever panicked with it is gone with the connection.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts once that the connection became opaque.
    fn note(&self, state: &mut State) -> bool {
        let Some(reason) = state.conversation.opaque() else {
            return false;
        };
        if !std::mem::replace(&mut state.is_counted, true) {
            self.count(Event::Opaque(reason));
        }
        true
    }
}

/// From the application to the server.
pub(super) struct FromApplication<'t> {
    talk: &'t Talk<'t>,
    is_opaque: bool,
    waiting: Option<Box<Waiting>>,
    /// Reads on in the conversation's stead.
    http2: Option<Box<http2::Requests>>,
}

struct Waiting {
    question: Question,
    answer: Pin<Box<dyn Future<Output = Option<Verdict>> + Send>>,
    /// What was read behind the head.
    rest: Vec<u8>,
}

impl<'t> FromApplication<'t> {
    pub(super) fn new(talk: &'t Talk<'t>) -> Self {
        Self { talk, is_opaque: false, waiting: None, http2: None }
    }

    /// What becomes of the next bytes.
    fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Fed {
        if let Some(http2) = &mut self.http2 {
            let fed = http2.feed(input, out);
            if let Fed::Opaque(reason) = fed {
                self.is_opaque = true;
                self.talk.count(Event::Opaque(reason));
            }
            return fed;
        }
        let mut state = self.talk.lock();
        let fed = state.conversation.from_application(input, out);
        self.is_opaque = self.talk.note(&mut state);
        if let Fed::Http2(_) = fed {
            self.http2 = Some(Box::new(state.conversation.http2()));
            self.talk.count(Event::Http2);
        }
        fed
    }

    /// Asks for the context of the head that is complete.
    fn ask(&self) -> (Question, Answer) {
        let (offset, stream, fields) = if let Some(http2) = &self.http2 {
            (http2.head_offset(), Some(http2.stream()), http2.fields())
        } else {
            let state = self.talk.lock();
            let head = state.conversation.complete();
            (head.offset, None, heads::fields_of(head.withheld))
        };
        let Talk { application, destination, connection, .. } = *self.talk;
        let question = Question { application, destination, connection, offset, stream, fields };
        let answer = self.talk.forwarder.contexts.ask(&question);
        (question, answer)
    }

    /// Writes the head's end.
    fn settle(&mut self, question: &Question, verdict: &Verdict, out: &mut Vec<u8>) {
        let fields = match verdict {
            Verdict::Keep => None,
            Verdict::Set(context) => {
                let asked = self.talk.forwarder.options.b3;
                Some(heads::context_fields(context, &question.fields, asked))
            }
        };
        let is_settled = if let Some(http2) = &mut self.http2 {
            http2.settle(fields.as_deref(), out)
        } else {
            let mut state = self.talk.lock();
            let withheld = state.conversation.complete().withheld;
            match &fields {
                None => out.extend_from_slice(withheld),
                Some(fields) => heads::replace(withheld, fields, out),
            }
            state.conversation.settle();
            self.talk.note(&mut state);
            true
        };
        let is_injected = fields.is_some() && is_settled;
        self.talk.count(if is_injected { Event::Injected } else { Event::Kept });
        if !is_settled {
            self.talk.count(Event::Irreplaceable);
            let void = Void { question: question.clone(), verdict: Verdict::Keep };
            self.talk.forwarder.contexts.void(void);
        }
    }
}

impl Inspect for FromApplication<'_> {
    fn inspect(&mut self, input: &[u8], out: &mut Vec<u8>) -> Inspected {
        if self.is_opaque {
            return Inspected::AsIs;
        }
        let mut rest = input;
        while !rest.is_empty() {
            let fed = self.feed(rest, out);
            let is_all = out.is_empty() && rest.len() == input.len();
            let used = match fed {
                Fed::Pass(used) | Fed::Http2(used) if is_all && used == input.len() => {
                    return Inspected::AsIs;
                }
                Fed::Opaque(_) if is_all => return Inspected::AsIs,
                Fed::Pass(used) | Fed::Http2(used) => {
                    out.extend_from_slice(&rest[..used]);
                    used
                }
                Fed::Opaque(_) => {
                    out.extend_from_slice(rest);
                    rest.len()
                }
                Fed::Taken(used) => used,
                Fed::Head(used) => {
                    let (question, answer) = self.ask();
                    match answer {
                        Answer::Now(verdict) => self.settle(&question, &verdict, out),
                        Answer::Later(answer) => {
                            let rest = rest[used..].to_vec();
                            self.waiting = Some(Box::new(Waiting { question, answer, rest }));
                            return Inspected::Waits;
                        }
                    }
                    used
                }
            };
            rest = &rest[used..];
        }
        Inspected::Rewritten
    }

    fn unread(&self) -> u64 {
        match &self.http2 {
            _ if self.is_opaque => u64::MAX,
            Some(http2) => http2.unread(),
            None => self.talk.lock().conversation.application_unread(),
        }
    }

    fn skip(&mut self, bytes: u64) {
        if let Some(http2) = &mut self.http2 {
            http2.skip(bytes);
        } else if !self.is_opaque {
            self.talk.lock().conversation.skip_application(bytes);
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(http2) = &mut self.http2 {
            http2.finish(out);
        } else {
            self.talk.lock().conversation.finish_application(out);
        }
    }

    async fn resume(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(waiting) = self.waiting.take() else {
            return false;
        };
        let forwarder = self.talk.forwarder;
        let Waiting { question, answer, mut rest } = *waiting;
        if let Ok(Some(verdict)) = timeout(forwarder.options.deadline, answer).await {
            self.settle(&question, &verdict, out);
        } else {
            self.talk.count(Event::Overdue);
            let verdict = forwarder.fallback.verdict(&question.fields);
            self.settle(&question, &verdict, out);
            forwarder.contexts.void(Void { question, verdict });
        }
        let mut more = Vec::new();
        let inspected = self.inspect(&rest, &mut more);
        out.append(if inspected == Inspected::AsIs { &mut rest } else { &mut more });
        inspected == Inspected::Waits
    }
}

/// From the server to the application.
pub(super) struct FromServer<'t> {
    talk: &'t Talk<'t>,
    is_followed: bool,
}

impl<'t> FromServer<'t> {
    pub(super) fn new(talk: &'t Talk<'t>) -> Self {
        Self { talk, is_followed: true }
    }
}

impl Inspect for FromServer<'_> {
    fn inspect(&mut self, input: &[u8], _out: &mut Vec<u8>) -> Inspected {
        if self.is_followed {
            let mut state = self.talk.lock();
            self.is_followed = state.conversation.from_server(input);
            self.talk.note(&mut state);
        }
        Inspected::AsIs
    }

    fn unread(&self) -> u64 {
        if self.is_followed { self.talk.lock().conversation.server_unread() } else { u64::MAX }
    }

    fn skip(&mut self, bytes: u64) {
        if self.is_followed {
            self.talk.lock().conversation.skip_server(bytes);
        }
    }

    fn finish(&mut self, _out: &mut Vec<u8>) {}

    async fn resume(&mut self, _out: &mut Vec<u8>) -> bool {
        false
    }
}
