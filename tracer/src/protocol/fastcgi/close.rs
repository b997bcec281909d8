//! What the end of a connection, or of one direction, means for the request that is open.

use super::{FastCgi, Way};
use crate::event::{CloseKind, Closed, Direction};
use crate::exchange::Outcome;
use crate::protocol::slots::slot;
use crate::protocol::{Host, LossReason};

/// `ETIMEDOUT`.
const TIMED_OUT: i32 = 110;

impl FastCgi {
    pub(super) fn close(&mut self, closed: &Closed, complete: bool, host: &mut Host<'_>) {
        let no_response_follows = self.ends_responses(closed.kind);
        if self.confirmed {
            if self.last_turn().is_some_and(|last| closed.turns > last) {
                self.close_unseen(closed.turns, host);
            } else if !complete && no_response_follows {
                self.lose_current(LossReason::ResponseUnseen, host);
            }
            if no_response_follows {
                self.end_current(closed, host);
            }
        }
        self.peer_ended |= closed.kind == CloseKind::ReceiveEnd;
        if closed.kind == CloseKind::Gone
            && let Some(request) = self.current.take()
        {
            request.forget(host);
        }
    }

    /// More turns were made than seen: what is open was answered, or went on, unseen.
    fn close_unseen(&mut self, turns: u32, host: &mut Host<'_>) {
        self.lose_current(LossReason::ResponseUnseen, host);
        let way = self.way_of_turn(turns);
        // What is left behind a request that lets no other follow is none.
        if way == Way::Response || self.keeps {
            let slot = slot(way, turns);
            self.slots.settle(slot, host);
            self.slots.charge(slot, Some(LossReason::Unseen), host);
        }
    }

    fn way_of_turn(&self, turn: u32) -> Way {
        let requests_are_odd = match (self.requests.last_turn, self.responses.last_turn) {
            (Some(turn), _) => turn % 2 == 1,
            (None, Some(turn)) => turn % 2 == 0,
            (None, None) => false,
        };
        if (turn % 2 == 1) == requests_are_odd { Way::Request } else { Way::Response }
    }

    fn ends_responses(&self, kind: CloseKind) -> bool {
        match kind {
            CloseKind::Gone => true,
            CloseKind::ReceiveEnd => self.request_direction == Direction::Send,
            CloseKind::SendEnd => self.request_direction == Direction::Receive,
        }
    }

    /// The open request did not end by itself, or its end was not seen.
    fn end_current(&mut self, closed: &Closed, host: &mut Host<'_>) {
        let Some(request) = &self.current else { return };
        if !request.is_announced() {
            return;
        }
        let records = &self.responses.records;
        if records.may_have_ended() && closed.errno == 0 {
            return self.finish(Outcome::Complete, self.responses.last_time, host);
        }
        if records.is_blind() && !records.knows_ending() && closed.errno == 0 {
            return self.lose_current(LossReason::ResponseUnseen, host);
        }
        let outcome = match (closed.errno, closed.kind) {
            (0, CloseKind::ReceiveEnd) => Outcome::ClosedByPeer,
            (0, _) if self.peer_ended => Outcome::ClosedByPeer,
            (0, _) => Outcome::ClosedLocally,
            (TIMED_OUT, _) => Outcome::TimedOut,
            _ => Outcome::Reset,
        };
        self.finish(outcome, closed.time, host);
    }
}
