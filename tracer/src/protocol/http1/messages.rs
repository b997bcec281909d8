//! Complete heads and ended bodies to requests, responses and their exchanges.

use std::sync::Arc;

use super::Http1;
use super::body::Body;
use super::framing::Framing;
use super::head::Parsed;
use super::ledger::{Early, Pending, slot};
use super::side::{Kind, State};
use crate::event::{KernelTime, StreamOffset};
use crate::exchange::{Exchange, ExchangeId, Outcome, RequestHead, ResponseHead, Role};
use crate::protocol::{Host, LossReason, Moment, Protocol};
use crate::telemetry::is_export;

impl Http1 {
    pub(super) fn confirm(&mut self, kind: Kind, turn: u32, host: &mut Host<'_>) {
        if !self.confirmed {
            self.confirmed = true;
            self.ledger.open(kind, turn);
            if let (Kind::Response, State::Head(_), Some(turn)) =
                (kind, &self.requests.state, self.requests.last_turn)
            {
                // The beginning of a request, accounted for when its rest is seen or not.
                let slot = slot(Kind::Request, turn);
                self.ledger.settle(slot, host);
                self.ledger.charge(slot, None, host);
            }
            self.ledger.settle(slot(kind, turn), host);
        }
    }

    pub(super) fn begin_request(
        &mut self,
        parsed: Parsed<RequestHead>,
        offset: StreamOffset,
        began: Moment,
        now: Moment,
        host: &mut Host<'_>,
    ) {
        if self.ledger.is_full() {
            self.ledger.drop_all(LossReason::PipelineFull, host);
            self.become_state(Kind::Response, State::Lost { from: now.turn }, host);
            self.lose_message(Kind::Request, now.turn, LossReason::PipelineFull, host);
            return;
        }
        let Parsed { head, mut framing, .. } = parsed;
        if head.method == "CONNECT" {
            // What follows is a tunnel's or, if that is refused, the next request.
            framing = Framing::Unknown;
        }
        let body = Body::new(framing);
        self.exports = is_export(&head);
        self.requests.rejoined = false;
        if self.ledger.early.is_some() && matches!(&*head.method, "CONNECT" | "HEAD") {
            // Where its response ends was not known when that was read.
            self.lose_request(now.turn, LossReason::Desync, host);
            let state = body.map_or(State::Start, State::Body);
            return self.become_state(Kind::Request, state, host);
        }
        let exchange = Box::new(Exchange {
            id: ExchangeId { conn: host.conn, offset },
            role: self.role,
            pid: began.pid,
            tid: began.tid,
            ends: Arc::clone(host.ends),
            request: Arc::new(head),
            response: None,
            start: began.time,
            response_start: None,
            end: began.time,
            request_body: body.as_ref().map_or(0, Body::declared),
            response_body: 0,
            outcome: Outcome::Complete,
        });
        let early = self.ledger.early.take();
        self.ledger.begin(Pending { exchange, turn: now.turn }, host);
        let state = body.map_or(State::Start, State::Body);
        self.become_state(Kind::Request, state, host);
        if let Some(early) = early {
            self.attach(*early, host);
        }
    }

    /// Gives a request the response that was reported before it.
    pub(super) fn attach(&mut self, early: Early, host: &mut Host<'_>) {
        if let Some(front) = self.ledger.front() {
            front.exchange.start = front.exchange.start.min(early.began.time);
        }
        self.ledger.respond(early.head, early.began, host);
        if let Some((end, size)) = early.done {
            self.finish_response(size, end, host);
        }
    }

    pub(super) fn begin_response(
        &mut self,
        parsed: Parsed<ResponseHead>,
        began: Moment,
        now: Moment,
        host: &mut Host<'_>,
    ) {
        let Parsed { head, framing, .. } = parsed;
        let status = head.status;
        if (100..200).contains(&status) && status != 101 {
            return self.become_state(Kind::Response, State::Start, host);
        }
        let Some(front) = self.ledger.front() else {
            return self.begin_stray_response(head, framing, began, now, host);
        };
        let method = &*front.exchange.request.method;
        let is_tunnel = status == 101 || (method == "CONNECT" && (200..300).contains(&status));
        let has_body = method != "HEAD" && status != 204 && status != 304;
        self.ledger.respond(head, began, host);
        if is_tunnel {
            self.finish_response(0, now.time, host);
            self.abandon(LossReason::Desync, host);
            self.opaque = true;
            return;
        }
        match has_body.then(|| Body::new(framing)).flatten() {
            Some(body) => self.become_state(Kind::Response, State::Body(body), host),
            None => self.end_message(Kind::Response, 0, now, host),
        }
    }

    /// A response nobody is known to have asked for. A client that writes in one thread and reads
    /// in another may be seen to read before it is seen to write; else it is skipped.
    pub(super) fn begin_stray_response(
        &mut self,
        head: ResponseHead,
        framing: Framing,
        began: Moment,
        now: Moment,
        host: &mut Host<'_>,
    ) {
        self.drop_early(host);
        let in_step = matches!(self.requests.state, State::Start) && !self.responses.rejoined;
        if self.role == Role::Server || !in_step {
            self.stray = true;
            self.lose_answered_head(now.turn, host);
            self.ledger.orphan(now.turn);
            let from = now.turn.saturating_add(1);
            return self.become_state(Kind::Response, State::Lost { from }, host);
        }
        let has_body = head.status != 204 && head.status != 304;
        self.ledger.early = Some(Box::new(Early { head, began, done: None }));
        match has_body.then(|| Body::new(framing)).flatten() {
            Some(body) => self.become_state(Kind::Response, State::Body(body), host),
            None => self.end_message(Kind::Response, 0, now, host),
        }
    }

    /// A message is complete; its last byte moved at `end`.
    pub(super) fn end_message(&mut self, kind: Kind, size: u64, end: Moment, host: &mut Host<'_>) {
        self.become_state(kind, State::Start, host);
        self.side(kind).rejoined = false;
        match kind {
            Kind::Request => self.ledger.request_complete(size),
            Kind::Response => match &mut self.ledger.early {
                Some(early) if early.done.is_none() => early.done = Some((end.time, size)),
                _ => self.finish_response(size, end.time, host),
            },
        }
    }

    pub(super) fn finish_response(&mut self, size: u64, end: KernelTime, host: &mut Host<'_>) {
        if let Some(front) = self.ledger.front()
            && front.exchange.response.is_some()
        {
            front.exchange.response_body = size;
            self.ledger.finish(Outcome::Complete, end, host);
        }
    }
}
