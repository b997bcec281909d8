//! What was not seen: gaps between and inside segments, and messages given up because of them.
//!
//! A direction's next message start can be believed in only where nothing unseen can reach into
//! it; until then the direction is out of step.

use super::Http1;
use super::body::Body;
use super::head;
use super::ledger::slot;
use super::reading::is_message_start;
use super::side::{Kind, State};
use crate::protocol::{Host, Joint, LossReason, Moment, Segment};

impl Http1 {
    /// Joins a segment to what was seen before it.
    pub(super) fn join(&mut self, kind: Kind, segment: &Segment<'_>, host: &mut Host<'_>) {
        let turn = segment.moment.turn;
        if kind == Kind::Response && self.ledger.is_early_before(turn) {
            self.drop_early(host);
        }
        let side = self.side(kind);
        let later = side.last_turn.is_some_and(|last| turn > last);
        match segment.joint {
            Joint::Contiguous if later && side.is_weak() => {
                // The end of something unseen, taken for the beginning of a first line.
                let last = side.last_turn.unwrap_or(turn);
                self.lose_message(kind, last, LossReason::HeadGap, host);
                self.rejected = false;
            }
            Joint::Contiguous => {
                let side = self.side(kind);
                if later
                    && matches!(side.state, State::Body(Body::Blind(_)))
                    && is_message_start(kind, segment.bytes)
                {
                    let end = Moment { time: side.last_time, ..segment.moment };
                    self.end_message(kind, 0, end, host);
                }
            }
            Joint::Unseen(len) => {
                if kind == Kind::Request && matches!(self.requests.state, State::Start) {
                    self.pass_early(segment, host);
                }
                self.pass_unseen(kind, len, turn, host);
            }
            Joint::Overlap => self.lose_message(kind, turn, LossReason::Desync, host),
        }
    }

    /// Whether a segment is only empty lines between messages. Before a response there are none.
    pub(super) fn is_blank(&mut self, kind: Kind, segment: &Segment<'_>) -> bool {
        let is_between = match self.side(kind).state {
            State::Start => true,
            State::Lost { .. } => kind == Kind::Request,
            _ => false,
        };
        segment.rest == 0 && is_between && head::empty_lines(segment.bytes) == segment.bytes.len()
    }

    /// Passes bytes that no event told of.
    ///
    /// The direction's next message start can be believed in only if a whole turn lies between,
    /// or the end of the last message is exactly known: otherwise the unseen bytes may belong to
    /// the very message that goes on now.
    pub(super) fn pass_unseen(&mut self, kind: Kind, len: u32, turn: u32, host: &mut Host<'_>) {
        let confirmed = self.confirmed;
        let side = self.side(kind);
        let last_turn = side.last_turn.unwrap_or(turn);
        let later = turn > last_turn;
        let turn_between = turn > last_turn.saturating_add(2);
        let next = turn.saturating_add(1);
        let mut from = if later { turn } else { next };
        let was_head = matches!(side.state, State::Head(_));
        match &mut side.state {
            State::Lost { .. } => return,
            State::Start => from = if turn_between { turn } else { next },
            State::Head(_) if !confirmed => self.rejected = true,
            State::Head(_) => match kind {
                Kind::Request => self.lose_request(last_turn, LossReason::HeadGap, host),
                Kind::Response => {
                    let slot = slot(kind, last_turn);
                    self.ledger.lose_response(slot, LossReason::HeadGap, host);
                }
            },
            State::Body(body) if body.covers(u64::from(len)) || (!later && body.may_go_blind()) => {
                body.skip(u64::from(len), &[]);
                return;
            }
            State::Body(Body::Length { left, .. }) => {
                let is_exact = *left == u64::from(len);
                self.end_unseen(kind, host);
                if is_exact {
                    return self.become_state(kind, State::Start, host);
                }
                from = if turn_between { turn } else { next };
            }
            State::Body(_) => self.end_unseen(kind, host),
        }
        if from > turn {
            match kind {
                Kind::Request if !later && !was_head => {
                    self.lose_request(turn, LossReason::HeadGap, host);
                }
                Kind::Request => {}
                Kind::Response => self.ledger.drop_through(slot(kind, turn), host),
            }
        }
        self.become_state(kind, State::Lost { from }, host);
    }

    /// A message's last bytes were not seen. For a request that does no harm.
    pub(super) fn end_unseen(&mut self, kind: Kind, host: &mut Host<'_>) {
        if kind == Kind::Response {
            let slot = slot(kind, self.responses.last_turn.unwrap_or(0));
            self.ledger.lose_response(slot, LossReason::ResponseUnseen, host);
        }
    }

    /// Accounts for the bytes of a segment whose content is not known.
    pub(super) fn pass_rest(
        &mut self,
        kind: Kind,
        rest: u64,
        segment: &Segment<'_>,
        host: &mut Host<'_>,
    ) {
        let turn = segment.moment.turn;
        self.exports &= kind != Kind::Request;
        match &mut self.side(kind).state {
            State::Lost { from } => {
                *from = (*from).max(turn.saturating_add(1));
                self.stray = true;
            }
            State::Start | State::Head(_) => {
                self.lose_message(kind, turn, LossReason::HeadGap, host);
            }
            State::Body(body) => {
                let fed = body.skip(rest, segment.tail);
                if let Some(used) = self.after_body(kind, fed, segment.moment, host)
                    && used < rest
                {
                    self.pass_rest(kind, rest - used, segment, host);
                }
            }
        }
    }

    /// Gives up the message being read; the direction is out of step until its next turn.
    pub(super) fn lose_message(
        &mut self,
        kind: Kind,
        turn: u32,
        reason: LossReason,
        host: &mut Host<'_>,
    ) {
        let from = turn.saturating_add(1);
        if !self.confirmed {
            self.rejected = true;
            return self.become_state(kind, State::Lost { from }, host);
        }
        match (kind, &self.requests.state) {
            (Kind::Request, State::Body(_)) => {
                if self.ledger.drop_back(reason, host) {
                    self.skip_response(host);
                }
            }
            (Kind::Request, State::Lost { .. }) => self.stray = true,
            (Kind::Request, _) => self.lose_request(turn, reason, host),
            (Kind::Response, _) => {
                let slot = slot(kind, turn);
                self.stray = !self.ledger.awaits_response(slot);
                self.ledger.lose_response(slot, reason, host);
            }
        }
        self.become_state(kind, State::Lost { from }, host);
    }

    /// Something answers a request of which only the beginning was seen.
    pub(super) fn lose_answered_head(&mut self, turn: u32, host: &mut Host<'_>) {
        if let (State::Head(_), Some(asked)) = (&self.requests.state, self.requests.last_turn)
            && asked < turn
            && self.confirmed
        {
            self.lose_request(asked, LossReason::HeadGap, host);
            let from = turn.saturating_add(1);
            self.become_state(Kind::Request, State::Lost { from }, host);
        }
    }

    /// Counts a request that cannot be an exchange, together with the response that was reported
    /// before it.
    pub(super) fn lose_request(&mut self, turn: u32, reason: LossReason, host: &mut Host<'_>) {
        self.forget_early(host);
        self.ledger.lose_request(turn, reason, host);
    }

    /// Lets go of a response whose exchange is counted otherwise.
    pub(super) fn forget_early(&mut self, host: &mut Host<'_>) {
        if let Some(early) = self.ledger.early.take()
            && early.done.is_none()
        {
            self.skip_response(host);
        }
    }

    /// Passes unseen bytes between requests: if a response is early, what it answers began there.
    fn pass_early(&mut self, segment: &Segment<'_>, host: &mut Host<'_>) {
        let is_rest = !is_message_start(Kind::Request, segment.bytes);
        if is_rest && self.is_early_for(segment.moment.turn) {
            self.forget_early(host);
        } else {
            self.drop_early(host);
        }
    }

    /// Whether a response is early whose request was made in this very turn: all of the turns
    /// before are known. Its slot then accounts for it.
    pub(super) fn is_early_for(&self, turn: u32) -> bool {
        self.ledger.early.as_ref().is_some_and(|early| {
            turn == early.began.turn.saturating_add(1)
                && self.requests.last_turn.is_some_and(|last| turn == last.saturating_add(2))
        })
    }

    /// Gives up a response whose request did not come after all.
    pub(super) fn drop_early(&mut self, host: &mut Host<'_>) {
        if self.ledger.drop_early(host) {
            self.skip_response(host);
        }
    }

    /// Skips the rest of a response that is nobody's any more.
    fn skip_response(&mut self, host: &mut Host<'_>) {
        let from = self.responses.last_turn.map_or(0, |turn| turn.saturating_add(1));
        self.become_state(Kind::Response, State::Lost { from }, host);
    }
}
