//! Where those who forward requests ask whose trace a call belongs to, and the agent's own thread,
//! which alone knows, answers.
//!
//! An [`Inquirer`] may be on any thread; it never waits. If nothing else is done at the moment, an
//! [`Attend`]ant answers at once, on the asking thread: that spares both threads a wake-up. Else the
//! question goes to the [`Desk`], which is the agent's: it takes what was asked *before* it reads the
//! ring, so that the call, which was made before the question, is known when it answers. Its answers
//! go in batches, as they come, to a [`Courier`] on the asking thread, which is woken once for each
//! batch, not for each answer. Must not know HTTP, sockets or how contexts look on the wire.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, OnceLock, Weak};

use rustix::event::{EventfdFlags, eventfd};
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::exchange::ExchangeId;
use crate::link::Committed;
use crate::pipeline::{Output, Pipeline};
use crate::trace::context::SpanContext;

/// Questions and reports on their way at once; further questions get no answer.
const MAX_WAITING: usize = 16_384;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Inquirer {
    attendant: Attendant,
    outbox: SyncSender<Message>,
    bell: Arc<Bell>,
    unheard: Arc<AtomicU64>,
}

/// What becomes of a question.
#[derive(Debug)]
pub enum Asked {
    /// It was answered at once.
    Answered(Committed),
    /// The answer comes. Whoever stops waiting drops the receiver; a sender that is dropped means
    /// there will be none.
    Waits(oneshot::Receiver<Committed>),
}

/// Whoever can answer at once, if all that is needed is there.
pub trait Attend: Send + Sync {
    /// The place of a call that was made. Must not wait for anything, and do little.
    fn answer_now(&self, call: ExchangeId) -> Option<Committed>;
}

type Attendant = Arc<OnceLock<Weak<dyn Attend>>>;

/// Who answers.
pub struct Desk {
    attendant: Attendant,
    inbox: Receiver<Message>,
    bell: Arc<Bell>,
    unheard: Arc<AtomicU64>,
    /// Questions whose call was not seen yet.
    waiting: VecDeque<Question>,
    told: Vec<(ExchangeId, SpanContext)>,
    /// Holds no more than what was asked, which is bounded.
    answers: UnboundedSender<Vec<Reply>>,
    counts: Counts,
}

/// Who takes answers to those that asked.
#[derive(Debug)]
pub struct Courier(UnboundedReceiver<Vec<Reply>>);

#[derive(Debug)]
struct Reply {
    to: oneshot::Sender<Committed>,
    committed: Committed,
}

/// What became of questions, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Answered with a context below a request.
    pub linked: u64,
    /// Answered with a context that begins a trace, as no request is known to have caused the call.
    pub roots: u64,
    /// Answered that an SDK's own context is to stay.
    pub kept: u64,
    /// Not answered: the call was not seen in time.
    pub unseen: u64,
    /// Not answered, or not heard of what went out instead: too many at once.
    pub unheard: u64,
    /// A context went out without an answer, and the call is reported as another span.
    pub contradicted: u64,
}

#[derive(Debug)]
enum Message {
    Question(Question),
    Told(ExchangeId, SpanContext),
}

#[derive(Debug)]
struct Question {
    call: ExchangeId,
    reply: oneshot::Sender<Committed>,
}

/// Wakes the agent's thread, once for many.
#[derive(Debug)]
struct Bell {
    descriptor: OwnedFd,
    rung: AtomicBool,
}

/// All three.
pub fn open() -> io::Result<(Inquirer, Courier, Desk)> {
    let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let bell = Arc::new(Bell { descriptor, rung: AtomicBool::new(false) });
    let (outbox, inbox) = mpsc::sync_channel(MAX_WAITING);
    let unheard = Arc::new(AtomicU64::new(0));
    let attendant = Attendant::default();
    let inquirer = Inquirer {
        attendant: Arc::clone(&attendant),
        outbox,
        bell: Arc::clone(&bell),
        unheard: Arc::clone(&unheard),
    };
    let (waiting, told, counts) = (VecDeque::new(), Vec::new(), Counts::default());
    let (answers, delivered) = unbounded_channel();
    let desk = Desk { attendant, inbox, bell, unheard, waiting, told, answers, counts };
    Ok((inquirer, Courier(delivered), desk))
}

impl Inquirer {
    /// Asks for the place of a call that was made.
    pub fn ask(&self, call: ExchangeId) -> Asked {
        let attendant = self.attendant.get().and_then(Weak::upgrade);
        if let Some(committed) = attendant.and_then(|attendant| attendant.answer_now(call)) {
            return Asked::Answered(committed);
        }
        let (reply, answer) = oneshot::channel();
        self.send(Message::Question(Question { call, reply }));
        Asked::Waits(answer)
    }

    /// Reports that a call went out with this context, without an answer.
    pub fn tell(&self, call: ExchangeId, context: SpanContext) {
        self.send(Message::Told(call, context));
    }

    fn send(&self, message: Message) {
        if self.outbox.try_send(message).is_ok() {
            self.bell.ring();
        } else {
            self.unheard.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Courier {
    /// Takes answers where they are waited for, as long as the desk is there. Without it running
    /// there are none.
    pub async fn deliver(mut self) {
        while let Some(replies) = self.0.recv().await {
            hand_over(replies);
        }
    }
}

fn hand_over(replies: Vec<Reply>) {
    for Reply { to, committed } in replies {
        // Whoever asked may have given up just now, and tells what went out instead.
        let _ = to.send(committed);
    }
}

impl Desk {
    /// Has questions go there first.
    pub fn attended_by(&self, attendant: Weak<dyn Attend>) {
        // One for a desk's life: the first stays.
        let _ = self.attendant.set(attendant);
    }

    /// What tells that somebody asked: readable until [`Self::collect`].
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.descriptor.as_fd()
    }

    /// Takes what was asked so far. What the kernel half saw until now is to be read before
    /// [`Self::answer`].
    pub fn collect(&mut self) {
        self.bell.reset();
        while self.waiting.len() < MAX_WAITING
            && let Ok(message) = self.inbox.try_recv()
        {
            match message {
                Message::Question(question) => self.waiting.push_back(question),
                Message::Told(call, context) => self.told.push((call, context)),
            }
        }
    }

    /// Answers what can be answered. Returns whether questions are left that should be tried again
    /// soon: the kernel half reports a call just after it was made.
    pub fn answer(&mut self, pipeline: &mut Pipeline, outputs: &mut Vec<Output>) -> bool {
        for (call, context) in self.told.drain(..) {
            self.counts.contradicted += u64::from(!pipeline.commit_to(call, context, outputs));
        }
        let mut replies = Vec::new();
        for question in std::mem::take(&mut self.waiting) {
            if question.reply.is_closed() {
                self.counts.unseen += 1;
                continue;
            }
            match self.answer_now(question.call, pipeline, outputs) {
                Some(committed) => replies.push(Reply { to: question.reply, committed }),
                None => self.waiting.push_back(question),
            }
        }
        if !replies.is_empty() {
            // Fails if the proxy has ended, and nobody waits any more.
            let _ = self.answers.send(replies);
        }
        !self.waiting.is_empty()
    }

    /// Answers a question that was not collected, if its call was seen.
    pub fn answer_now(
        &mut self,
        call: ExchangeId,
        pipeline: &mut Pipeline,
        outputs: &mut Vec<Output>,
    ) -> Option<Committed> {
        let committed = pipeline.commit(call, outputs)?;
        match &committed {
            Committed::Ours(context) if context.parent.is_some() => self.counts.linked += 1,
            Committed::Ours(_) => self.counts.roots += 1,
            Committed::Theirs => self.counts.kept += 1,
        }
        Some(committed)
    }

    /// What became of questions so far.
    pub fn counts(&self) -> Counts {
        Counts { unheard: self.unheard.load(Ordering::Relaxed), ..self.counts }
    }
}

impl Bell {
    fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // Fails only if the counter is full, and then it is rung.
            let _ = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
        }
    }

    /// In this order: who rings between the two steps has put its question where it is taken next.
    fn reset(&self) {
        if self.rung.load(Ordering::Acquire) {
            // Nothing to read if whoever rang is not that far yet: that only wakes once too often.
            let _ = rustix::io::read(&self.descriptor, &mut [0; 8]);
            self.rung.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;
