//! Which response belongs to which request, and how many exchanges nobody saw.
//!
//! Responses answer requests in order. Where events were lost, [`Slots`] still tell. (Interim
//! responses and early answers use more turns than two; while they are seen, nothing is inferred
//! from turns.)

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::KernelTime;
use crate::exchange::{Exchange, Outcome, ResponseHead, Role};
pub(super) use crate::protocol::slots::slot;
use crate::protocol::slots::{Kind, Slots};
use crate::protocol::{Host, LossReason, Moment, Observation};

/// Requests without a response at most; more are lost.
pub(super) const MAX_PENDING: usize = 256;

/// A request and what is known of its response.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) exchange: Box<Exchange>,
    /// Turn of the last request bytes.
    pub(super) turn: u32,
}

impl Pending {
    fn slot(&self) -> u32 {
        slot(Kind::Request, self.turn)
    }
}

/// A client's response that was reported before its request: two threads, two processors.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) head: ResponseHead,
    pub(super) began: Moment,
    /// When its last byte was read, and its body size.
    pub(super) done: Option<(KernelTime, u64)>,
}

#[derive(Debug)]
pub(super) struct Ledger {
    role: Role,
    pending: VecDeque<Pending>,
    /// While there is one, requests are in step: its request comes next.
    pub(super) early: Option<Box<Early>>,
    slots: Slots,
    /// Two requests were waiting at once.
    pipelined: bool,
    /// The first turn was a response, which may yet turn out to be an early one.
    opened_by_orphan: bool,
}

impl Ledger {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            pending: VecDeque::new(),
            early: None,
            slots: Slots::default(),
            pipelined: false,
            opened_by_orphan: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len() + usize::from(self.early.is_some())
    }

    pub(super) fn front(&mut self) -> Option<&mut Pending> {
        self.pending.front_mut()
    }

    /// Whether a response that is being read in `slot` is anybody's.
    pub(super) fn awaits_response(&self, slot: u32) -> bool {
        self.is_reading_early()
            || self
                .pending
                .front()
                .is_some_and(|front| front.exchange.response.is_some() || front.slot() <= slot)
    }

    /// Whether an early response is being read whose request should have come by now.
    pub(super) fn is_early_before(&self, turn: u32) -> bool {
        self.early.as_ref().is_some_and(|early| early.done.is_none() && early.began.turn < turn)
    }

    fn is_reading_early(&self) -> bool {
        self.early.as_ref().is_some_and(|early| early.done.is_none())
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= MAX_PENDING
    }

    /// As [`Slots::open`].
    pub(super) fn open(&mut self, kind: Kind, turn: u32) {
        self.slots.open(kind, turn);
    }

    /// As [`Slots::settle`].
    pub(super) fn settle(&mut self, slot: u32, host: &mut Host<'_>) {
        self.slots.settle(slot, host);
    }

    /// As [`Slots::charge`].
    pub(super) fn charge(&mut self, slot: u32, loss: Option<LossReason>, host: &mut Host<'_>) {
        self.slots.charge(slot, loss, host);
    }

    /// Counts a request that cannot be an exchange.
    pub(super) fn lose_request(&mut self, turn: u32, reason: LossReason, host: &mut Host<'_>) {
        self.slots.lose_request(turn, reason, host);
    }

    /// Notes a request.
    pub(super) fn begin(&mut self, pending: Pending, host: &mut Host<'_>) {
        let turn = pending.turn;
        if let Some(last) = self.pending.back() {
            // A client that does not wait for a response it was seen to read: that response
            // was no stray, and is already counted.
            if std::mem::take(&mut self.opened_by_orphan)
                && (last.turn, turn) == (1, 1)
                && last.exchange.response.is_none()
            {
                self.drop_front(LossReason::Desync, 0, host);
            } else {
                self.pipelined = true;
            }
        }
        let exchange = &pending.exchange;
        host.out.push(Observation::RequestBegan {
            id: exchange.id,
            role: exchange.role,
            pid: exchange.pid,
            tid: exchange.tid,
            at: exchange.start,
            ends: Arc::clone(&exchange.ends),
            request: Arc::clone(&exchange.request),
        });
        self.pending.push_back(pending);
    }

    /// The request being read goes on in this turn.
    pub(super) fn request_continues(&mut self, turn: u32) {
        if let Some(last) = self.pending.back_mut() {
            last.turn = last.turn.max(turn);
        }
    }

    /// The request being read is complete.
    pub(super) fn request_complete(&mut self, body: u64) {
        if let Some(last) = self.pending.back_mut() {
            last.exchange.request_body = body;
        }
    }

    /// Notes the response to the oldest request.
    pub(super) fn respond(&mut self, head: ResponseHead, began: Moment, host: &mut Host<'_>) {
        self.opened_by_orphan = false;
        let Some(front) = self.pending.front_mut() else {
            return;
        };
        let exchange = &mut front.exchange;
        exchange.response = Some(head);
        exchange.response_start = Some(began.time);
        host.out.push(Observation::ResponseBegan {
            id: exchange.id,
            role: exchange.role,
            pid: began.pid,
            tid: began.tid,
            at: began.time,
        });
    }

    /// Notes that a response came without a request. In any turn but the first it answers
    /// something of the turn before, and whoever asks next has not been answered.
    pub(super) fn orphan(&mut self, turn: u32) {
        self.opened_by_orphan = self.role == Role::Client && turn == 0;
    }

    /// Hands out the oldest exchange.
    pub(super) fn finish(&mut self, outcome: Outcome, end: KernelTime, host: &mut Host<'_>) {
        if let Some(mut front) = self.pending.pop_front() {
            front.exchange.outcome = outcome;
            front.exchange.end = end.max(front.exchange.start);
            host.out.push(Observation::Finished(front.exchange));
        }
    }

    /// Gives up the exchange that the response being read in `slot` belongs to.
    pub(super) fn lose_response(&mut self, slot: u32, reason: LossReason, host: &mut Host<'_>) {
        if self.is_reading_early() {
            self.drop_early(host);
        } else if self.awaits_response(slot) {
            self.drop_front(reason, 1, host);
        }
    }

    /// Gives up the request being read, if its exchange is still open; returns whether its
    /// response had begun.
    pub(super) fn drop_back(&mut self, reason: LossReason, host: &mut Host<'_>) -> bool {
        let Some(back) = self.pending.pop_back() else {
            return false;
        };
        let id = Some(back.exchange.id);
        host.out.push(Observation::Lost { conn: host.conn, id, reason, exchanges: 1 });
        back.exchange.response.is_some()
    }

    /// Gives up an early response: its request was not seen after all. Returns whether that
    /// response was still being read.
    pub(super) fn drop_early(&mut self, host: &mut Host<'_>) -> bool {
        let Some(early) = self.early.take() else {
            return false;
        };
        host.lose(LossReason::RequestUnseen, 1);
        early.done.is_none()
    }

    /// Gives up everything begun.
    pub(super) fn drop_all(&mut self, reason: LossReason, host: &mut Host<'_>) {
        while !self.pending.is_empty() {
            self.drop_front(reason, 1, host);
        }
        self.drop_early(host);
    }

    /// Gives up requests up to and including this slot: their responses were not seen.
    pub(super) fn drop_through(&mut self, slot: u32, host: &mut Host<'_>) {
        while self.pending.front().is_some_and(|front| front.slot() <= slot) {
            self.drop_front(LossReason::ResponseUnseen, 1, host);
        }
    }

    /// Whether a response that starts in `slot`, after bytes that were not understood, answers
    /// the oldest request that is left once those of earlier slots are given up.
    pub(super) fn rejoin(&mut self, slot: u32, after_gap: bool, host: &mut Host<'_>) -> bool {
        while self.pending.front().is_some_and(|front| front.slot() < slot) {
            self.drop_front(LossReason::ResponseUnseen, 1, host);
        }
        if after_gap && self.pipelined {
            // Which of several responses this is cannot be told.
            self.drop_through(slot, host);
        }
        self.pending.front().is_none_or(|front| front.slot() == slot)
    }

    fn drop_front(&mut self, reason: LossReason, exchanges: u32, host: &mut Host<'_>) {
        if let Some(front) = self.pending.pop_front() {
            let id = Some(front.exchange.id);
            host.out.push(Observation::Lost { conn: host.conn, id, reason, exchanges });
        }
    }
}
