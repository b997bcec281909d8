//! What the end of a connection, or of one direction, means for the exchanges still open.

use super::Http1;
use super::body::Body;
use super::ledger::slot;
use super::side::{Kind, State};
use crate::event::{CloseKind, Closed, Direction, Endpoint};
use crate::exchange::{Outcome, Role};
use crate::protocol::{Host, LossReason};

/// `ETIMEDOUT`.
const TIMED_OUT: i32 = 110;

impl Http1 {
    pub(super) fn close(&mut self, closed: &Closed, complete: bool, host: &mut Host<'_>) {
        if self.opaque || !self.confirmed {
            return self.release(closed, complete, host);
        }
        self.lose_answered_head(closed.turns, host);
        if let Some(last) = self.requests.last_turn.max(self.responses.last_turn)
            && closed.turns > last
        {
            self.close_unseen(closed.turns, host);
        } else if (!complete || self.may_hide_bytes(closed, host))
            && self.responses_end(closed.kind)
        {
            self.ledger.drop_all(LossReason::ResponseUnseen, host);
        }
        if self.responses_end(closed.kind) {
            if let (State::Head(_), Some(turn)) = (&self.responses.state, self.responses.last_turn)
            {
                let slot = slot(Kind::Response, turn);
                self.ledger.charge(slot, Some(LossReason::RequestUnseen), host);
            }
            self.fail_open(closed, host);
        }
        self.peer_ended |= closed.kind == CloseKind::ReceiveEnd;
        self.release(closed, complete, host);
    }

    /// What a client takes from a Unix socket by `splice` is seen by no probe. One that closes in
    /// the middle of a body, as far as was seen, may well have read it all.
    fn may_hide_bytes(&self, closed: &Closed, host: &Host<'_>) -> bool {
        closed.kind == CloseKind::Gone
            && !self.peer_ended
            && self.role == Role::Client
            && matches!(host.ends.local.endpoint(), Endpoint::Unix(_))
            && matches!(self.responses.state, State::Body(_))
    }

    /// More turns were made than seen: what is open was answered, or went on, unseen.
    fn close_unseen(&mut self, turns: u32, host: &mut Host<'_>) {
        if self.is_early_for(turns) {
            self.forget_early(host);
        }
        self.ledger.drop_all(LossReason::ResponseUnseen, host);
        self.become_state(Kind::Response, State::Lost { from: turns }, host);
        let slot = slot(self.kind_of_turn(turns), turns);
        self.ledger.settle(slot, host);
        self.ledger.charge(slot, Some(LossReason::Unseen), host);
    }

    fn kind_of_turn(&self, turn: u32) -> Kind {
        let request_is_odd = match (self.requests.last_turn, self.responses.last_turn) {
            (Some(turn), _) => turn % 2 == 1,
            (None, Some(turn)) => turn % 2 == 0,
            (None, None) => false,
        };
        if (turn % 2 == 1) == request_is_odd { Kind::Request } else { Kind::Response }
    }

    /// No response byte can follow.
    fn responses_end(&self, kind: CloseKind) -> bool {
        match kind {
            CloseKind::Gone => true,
            CloseKind::ReceiveEnd => self.request_direction == Direction::Send,
            CloseKind::SendEnd => self.request_direction == Direction::Receive,
        }
    }

    fn fail_open(&mut self, closed: &Closed, host: &mut Host<'_>) {
        let ends_with_close =
            matches!(self.responses.state, State::Body(Body::UntilClose { .. } | Body::Blind(_)));
        if ends_with_close && closed.errno == 0 {
            let size = match &self.responses.state {
                State::Body(Body::UntilClose { size }) => *size,
                _ => 0,
            };
            self.finish_response(size, self.responses.last_time, host);
        }
        let outcome = match (closed.errno, closed.kind) {
            (0, CloseKind::ReceiveEnd) => Outcome::ClosedByPeer,
            (0, _) if self.peer_ended => Outcome::ClosedByPeer,
            (0, _) => Outcome::ClosedLocally,
            (TIMED_OUT, _) => Outcome::TimedOut,
            _ => Outcome::Reset,
        };
        while self.ledger.front().is_some() {
            self.ledger.finish(outcome, closed.time, host);
        }
        self.become_state(Kind::Response, State::Lost { from: closed.turns }, host);
    }

    /// Whether every request was seen and answered before the early response, so that nobody
    /// asked for it: servers say 408 to idle connections.
    fn is_early_unasked(&self) -> bool {
        let (Some(early), Some(asked)) = (&self.ledger.early, self.requests.last_turn) else {
            return false;
        };
        matches!(self.requests.state, State::Start) && early.began.turn <= asked.saturating_add(1)
    }

    fn release(&mut self, closed: &Closed, complete: bool, host: &mut Host<'_>) {
        if closed.kind == CloseKind::Gone {
            if complete && self.is_early_unasked() {
                self.ledger.early = None;
            }
            self.ledger.drop_early(host);
            for kind in [Kind::Request, Kind::Response] {
                self.become_state(kind, State::Lost { from: 0 }, host);
            }
        }
    }
}
