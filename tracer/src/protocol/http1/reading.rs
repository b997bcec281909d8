//! Known bytes to heads and bodies, however they are split.

use super::Http1;
use super::body::{Body, Fed};
use super::head::{self, NoHead};
use super::ledger::slot;
use super::side::{Kind, PartialHead, State};
use crate::event::StreamOffset;
use crate::protocol::{Host, Joint, LossReason, Moment, Observation, Segment};

/// Bytes of a first line at most while nothing proves that this is HTTP.
const MAX_UNPROVEN: usize = 8 * 1024;

impl Http1 {
    /// Reads a segment's bytes, then accounts for its rest.
    pub(super) fn read(&mut self, kind: Kind, segment: &Segment<'_>, host: &mut Host<'_>) {
        let mut at = 0;
        while at < segment.bytes.len() && !self.opaque && !self.rejected {
            let bytes = &segment.bytes[at..];
            let used = match &self.side(kind).state {
                State::Lost { from } => {
                    let from = *from;
                    self.look_for_start(kind, bytes, from, segment, host)
                }
                State::Start => {
                    let offset = segment.offset.advance(at as u32);
                    self.read_start(kind, bytes, offset, segment.moment, host)
                }
                State::Head(_) => self.extend_head(kind, bytes, segment.moment, host),
                State::Body(_) => self.read_body(kind, bytes, segment, host),
            };
            at += used;
        }
        if segment.rest > 0 && !self.opaque && !self.rejected {
            self.pass_rest(kind, u64::from(segment.rest), segment, host);
        }
    }

    /// Out of step: only the first bytes of a turn can bring it back.
    pub(super) fn look_for_start(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        from: u32,
        segment: &Segment<'_>,
        host: &mut Host<'_>,
    ) -> usize {
        let turn = segment.moment.turn;
        let empty = head::empty_lines(bytes);
        if kind == Kind::Request && turn >= from && empty == bytes.len() {
            return empty;
        }
        let after_gap = matches!(segment.joint, Joint::Unseen(_));
        let found = turn >= from
            && empty < bytes.len()
            && is_message_start(kind, bytes)
            && (kind == Kind::Request || self.ledger.rejoin(slot(kind, turn), after_gap, host));
        if found {
            self.become_state(kind, State::Start, host);
            self.side(kind).rejoined = true;
            return empty;
        }
        if kind == Kind::Response {
            // Part of a response to what was asked before it.
            self.ledger.drop_through(slot(kind, turn), host);
            self.lose_answered_head(turn, host);
        }
        self.stray = true;
        self.rejected = !self.confirmed;
        let from = from.max(turn.saturating_add(1));
        self.become_state(kind, State::Lost { from }, host);
        bytes.len()
    }

    pub(super) fn read_start(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        offset: StreamOffset,
        moment: Moment,
        host: &mut Host<'_>,
    ) -> usize {
        let empty = head::empty_lines(bytes);
        let (bytes, offset) = (&bytes[empty..], offset.advance(empty as u32));
        if bytes.is_empty() {
            return empty;
        }
        match self.read_head(kind, bytes, offset, moment, moment, host) {
            Ok(used) => empty + used,
            Err(NoHead::Incomplete) => {
                let head =
                    PartialHead { bytes: Vec::new(), began: moment, offset, line_is_valid: false };
                self.become_state(kind, State::Head(Box::new(head)), host);
                empty + self.extend_head(kind, bytes, moment, host)
            }
            Err(error) => {
                self.refuse_head(kind, error, moment, host);
                empty + bytes.len()
            }
        }
    }

    /// Adds bytes to the head held back, and reads it once it is complete.
    pub(super) fn extend_head(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        moment: Moment,
        host: &mut Host<'_>,
    ) -> usize {
        let State::Head(partial) = &mut self.side(kind).state else {
            return bytes.len();
        };
        let held = partial.bytes.len();
        let room = host.limits.head_bytes.saturating_sub(held);
        let taken = &bytes[..bytes.len().min(room)];
        let is_full = *host.buffered + taken.len() > host.limits.buffered_bytes;
        if is_full {
            self.lose_message(kind, moment.turn, LossReason::BuffersFull, host);
            return bytes.len();
        }
        partial.bytes.extend_from_slice(taken);
        *host.buffered += taken.len();
        // The empty line may have begun in what was held.
        let Some(end) = head::end_of_head(&partial.bytes, held.saturating_sub(3)) else {
            return self.hold_head(kind, bytes.len(), taken.len(), moment, host);
        };
        let State::Head(partial) = std::mem::replace(&mut self.side(kind).state, State::Start)
        else {
            return bytes.len();
        };
        *host.buffered = host.buffered.saturating_sub(partial.bytes.len());
        let PartialHead { bytes: held_bytes, began, offset, .. } = *partial;
        if let Err(error) = self.read_head(kind, &held_bytes[..end], offset, began, moment, host) {
            self.refuse_head(kind, error, moment, host);
        }
        end - held
    }

    /// Keeps an incomplete head if it may still become one.
    pub(super) fn hold_head(
        &mut self,
        kind: Kind,
        given: usize,
        taken: usize,
        moment: Moment,
        host: &mut Host<'_>,
    ) -> usize {
        let confirmed = self.confirmed;
        let State::Head(partial) = &mut self.side(kind).state else {
            return given;
        };
        if taken < given {
            self.lose_message(kind, moment.turn, LossReason::HeadTooLarge, host);
            return given;
        }
        if partial.line_is_valid {
            return given;
        }
        let has_line = partial.bytes.contains(&b'\n');
        let is_too_long = !has_line && !confirmed && partial.bytes.len() > MAX_UNPROVEN;
        if is_too_long || !is_message_start(kind, &partial.bytes) {
            self.lose_message(kind, moment.turn, LossReason::BadHead, host);
        } else if has_line {
            partial.line_is_valid = true;
            self.confirm(kind, moment.turn, host);
        }
        given
    }

    /// Reads a head that should be complete.
    pub(super) fn read_head(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        offset: StreamOffset,
        began: Moment,
        now: Moment,
        host: &mut Host<'_>,
    ) -> Result<usize, NoHead> {
        match kind {
            Kind::Request => {
                let parsed = head::request(bytes, host.interest)?;
                let len = parsed.len;
                self.confirm(kind, now.turn, host);
                self.begin_request(parsed, offset, began, now, host);
                Ok(len)
            }
            Kind::Response => {
                let parsed = head::response(bytes, host.interest)?;
                let len = parsed.len;
                self.confirm(kind, now.turn, host);
                self.begin_response(parsed, began, now, host);
                Ok(len)
            }
        }
    }

    /// A head that cannot be read.
    pub(super) fn refuse_head(
        &mut self,
        kind: Kind,
        error: NoHead,
        moment: Moment,
        host: &mut Host<'_>,
    ) {
        let reason = match error {
            NoHead::TooManyHeaders => LossReason::TooManyHeaders,
            NoHead::Incomplete | NoHead::Malformed => LossReason::BadHead,
        };
        self.lose_message(kind, moment.turn, reason, host);
    }

    pub(super) fn read_body(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        segment: &Segment<'_>,
        host: &mut Host<'_>,
    ) -> usize {
        let length_left = match &self.side(kind).state {
            State::Body(Body::Length { left, .. }) => *left,
            _ => u64::MAX,
        };
        let bytes = &bytes[..(bytes.len() as u64).min(length_left) as usize];
        let State::Body(body) = &mut self.side(kind).state else {
            return bytes.len();
        };
        let fed = body.feed(bytes, segment.rest == 0);
        if kind == Kind::Request && std::mem::take(&mut self.exports) {
            let (role, pid) = (self.role, segment.moment.pid);
            host.out.push(Observation::Exported { role, pid, body: bytes.into() });
        }
        self.after_body(kind, fed, segment.moment, host).map_or(bytes.len(), |used| used as usize)
    }

    /// Takes note of what body bytes did; returns how many were taken if the body ended.
    pub(super) fn after_body(
        &mut self,
        kind: Kind,
        fed: Fed,
        moment: Moment,
        host: &mut Host<'_>,
    ) -> Option<u64> {
        if kind == Kind::Request {
            self.ledger.request_continues(moment.turn);
        }
        match fed {
            Fed::More => None,
            Fed::Done { used, size } => {
                self.end_message(kind, size, moment, host);
                Some(used)
            }
        }
    }
}

/// Whether a message may start here: a valid first line, or a beginning of one.
pub(super) fn is_message_start(kind: Kind, bytes: &[u8]) -> bool {
    let bytes = &bytes[head::empty_lines(bytes)..];
    let line = bytes.iter().position(|byte| *byte == b'\n').map(|end| &bytes[..=end]);
    match (kind, line) {
        (Kind::Request, Some(line)) => head::is_request_line(line),
        (Kind::Request, None) => head::may_start_request(bytes),
        (Kind::Response, Some(line)) => head::is_status_line(line),
        (Kind::Response, None) => head::may_start_response(bytes),
    }
}
