//! HTTP/1.0 and 1.1, passively: real framing over whatever was seen of the two byte streams.
//!
//! Nothing is guessed. Where a message's start, end or partner was not seen, its exchange is
//! counted as lost and reading goes on at the next message start. Must not know connections'
//! addresses other than to copy them.

mod body;
mod chunked;
mod close;
mod head;
mod ledger;
mod side;

use body::{Body, Fed, Framing};
use head::{NoHead, Parsed};
use ledger::{Early, Ledger, Pending, slot};
use side::{Kind, PartialHead, Side, State};

use super::{Host, Joint, Likeness, LossReason, Moment, Observation, Protocol, Segment, Standing};
use crate::event::{Closed, Direction, StreamOffset};
use crate::exchange::{Exchange, ExchangeId, Outcome, RequestHead, ResponseHead, Role};

/// Bytes of a first line at most while nothing proves that this is HTTP.
const MAX_UNPROVEN: usize = 8 * 1024;

/// One connection.
#[derive(Debug)]
pub struct Http1 {
    role: Role,
    request_direction: Direction,
    requests: Side,
    responses: Side,
    ledger: Ledger,
    confirmed: bool,
    opaque: bool,
    /// Some of the current segment could not be attributed to an exchange.
    stray: bool,
    /// The current segment shows that this is not HTTP/1.x.
    rejected: bool,
    peer_ended: bool,
}

impl Protocol for Http1 {
    fn likeness(start: &[u8]) -> Likeness {
        let start = &start[head::empty_lines(start)..];
        match (head::may_start_request(start), head::may_start_response(start)) {
            (true, true) => Likeness::Either,
            (true, false) => Likeness::Request,
            (false, true) => Likeness::Response,
            (false, false) => Likeness::Neither,
        }
    }

    fn on_segment(&mut self, segment: &Segment<'_>, host: &mut Host<'_>) -> Standing {
        if self.opaque {
            return Standing::Opaque;
        }
        let kind = self.kind(segment.direction);
        let moment = segment.moment;
        let slot = slot(kind, moment.turn);
        self.stray = false;
        if self.confirmed {
            self.ledger.settle(slot, host);
        }
        self.join(kind, segment, host);
        self.read(kind, segment, host);
        if self.rejected {
            return Standing::Rejected;
        }
        if self.confirmed {
            let loss = match kind {
                Kind::Request => LossReason::HeadGap,
                Kind::Response => LossReason::RequestUnseen,
            };
            self.ledger.charge(slot, self.stray.then_some(loss), host);
        }
        let side = self.side(kind);
        side.last_turn = Some(moment.turn);
        side.last_time = moment.time;
        match (self.opaque, self.confirmed) {
            (true, _) => Standing::Opaque,
            (false, true) => Standing::Confirmed,
            (false, false) => Standing::Tentative,
        }
    }

    fn on_closed(&mut self, closed: &Closed, complete: bool, host: &mut Host<'_>) {
        self.close(closed, complete, host);
    }

    fn abandon(&mut self, reason: LossReason, host: &mut Host<'_>) {
        self.ledger.drop_all(reason, host);
        for kind in [Kind::Request, Kind::Response] {
            let from = self.side(kind).last_turn.map_or(0, |turn| turn.saturating_add(1));
            self.become_state(kind, State::Lost { from }, host);
        }
    }

    fn open_exchanges(&self) -> usize {
        self.ledger.len()
    }
}

impl Http1 {
    /// A connection whose requests travel in `request_direction`.
    pub fn new(request_direction: Direction) -> Self {
        let role = super::role_of(request_direction);
        Self {
            role,
            request_direction,
            requests: Side::new(),
            responses: Side::new(),
            ledger: Ledger::new(role),
            confirmed: false,
            opaque: false,
            stray: false,
            rejected: false,
            peer_ended: false,
        }
    }

    fn kind(&self, direction: Direction) -> Kind {
        if direction == self.request_direction { Kind::Request } else { Kind::Response }
    }

    fn side(&mut self, kind: Kind) -> &mut Side {
        match kind {
            Kind::Request => &mut self.requests,
            Kind::Response => &mut self.responses,
        }
    }

    fn become_state(&mut self, kind: Kind, state: State, host: &mut Host<'_>) {
        self.side(kind).become_state(state, host.buffered);
    }

    /// Joins a segment to what was seen before it.
    fn join(&mut self, kind: Kind, segment: &Segment<'_>, host: &mut Host<'_>) {
        let turn = segment.moment.turn;
        match segment.joint {
            Joint::Contiguous => {
                let side = self.side(kind);
                let later = side.last_turn.is_some_and(|last| turn > last);
                if later
                    && matches!(side.state, State::Body(Body::Blind(_)))
                    && is_message_start(kind, segment.bytes)
                {
                    let end = Moment { time: side.last_time, ..segment.moment };
                    self.end_message(kind, 0, end, host);
                }
            }
            Joint::Unseen(len) => self.pass_unseen(kind, len, turn, host),
            Joint::Overlap => self.lose_message(kind, turn, LossReason::Desync, host),
        }
    }

    /// Passes bytes that no event told of.
    ///
    /// The direction's next message start can be believed in only if a whole turn lies between,
    /// or the end of the last message is exactly known: otherwise the unseen bytes may belong to
    /// the very message that goes on now.
    fn pass_unseen(&mut self, kind: Kind, len: u32, turn: u32, host: &mut Host<'_>) {
        let confirmed = self.confirmed;
        let side = self.side(kind);
        let last_turn = side.last_turn.unwrap_or(turn);
        let later = turn > last_turn;
        let turn_between = turn > last_turn.saturating_add(2);
        let next = turn.saturating_add(1);
        let mut from = if later { turn } else { next };
        match &mut side.state {
            State::Lost { .. } => return,
            State::Start => from = if turn_between { turn } else { next },
            State::Head(_) if !confirmed => self.rejected = true,
            State::Head(_) => match kind {
                Kind::Request => self.ledger.lose_request(last_turn, LossReason::HeadGap, host),
                Kind::Response => self.ledger.lose_response(LossReason::HeadGap, host),
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
                Kind::Request if !later => {
                    self.ledger.lose_request(turn, LossReason::HeadGap, host);
                }
                Kind::Request => {}
                Kind::Response => self.ledger.drop_through(slot(kind, turn), host),
            }
        }
        self.become_state(kind, State::Lost { from }, host);
    }

    /// A message's last bytes were not seen. For a request that does no harm.
    fn end_unseen(&mut self, kind: Kind, host: &mut Host<'_>) {
        if kind == Kind::Response {
            self.ledger.lose_response(LossReason::ResponseUnseen, host);
        }
    }

    /// Reads a segment's bytes, then accounts for its rest.
    fn read(&mut self, kind: Kind, segment: &Segment<'_>, host: &mut Host<'_>) {
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
    fn look_for_start(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        from: u32,
        segment: &Segment<'_>,
        host: &mut Host<'_>,
    ) -> usize {
        let turn = segment.moment.turn;
        let empty = head::empty_lines(bytes);
        if turn >= from && empty == bytes.len() {
            return bytes.len();
        }
        let after_gap = matches!(segment.joint, Joint::Unseen(_));
        let found = turn >= from
            && is_message_start(kind, bytes)
            && (kind == Kind::Request || self.ledger.rejoin(slot(kind, turn), after_gap, host));
        if found {
            self.become_state(kind, State::Start, host);
            self.side(kind).rejoined = true;
            return empty;
        }
        self.stray = true;
        self.rejected = !self.confirmed;
        let from = from.max(turn.saturating_add(1));
        self.become_state(kind, State::Lost { from }, host);
        bytes.len()
    }

    fn read_start(
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
    fn extend_head(
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
        if let Err(error) =
            self.read_head(kind, &held_bytes[..end], offset, began, moment, host)
        {
            self.refuse_head(kind, error, moment, host);
        }
        end - held
    }

    /// Keeps an incomplete head if it may still become one.
    fn hold_head(
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
        let may_be = is_message_start(kind, &partial.bytes)
            && (confirmed || has_line || partial.bytes.len() <= MAX_UNPROVEN);
        if !may_be {
            self.lose_message(kind, moment.turn, LossReason::BadHead, host);
            return given;
        }
        if has_line {
            partial.line_is_valid = true;
            self.confirm(kind, moment.turn, host);
        }
        given
    }

    /// Reads a head that should be complete.
    fn read_head(
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

    fn confirm(&mut self, kind: Kind, turn: u32, host: &mut Host<'_>) {
        if !self.confirmed {
            self.confirmed = true;
            self.ledger.open(kind, turn);
            self.ledger.settle(slot(kind, turn), host);
        }
    }

    fn begin_request(
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
        let takes_no_early = matches!(&*head.method, "CONNECT" | "HEAD");
        let body = Body::new(framing);
        let exchange = Box::new(Exchange {
            id: ExchangeId { conn: host.conn, offset },
            role: self.role,
            pid: began.pid,
            tid: began.tid,
            local: host.local.clone(),
            remote: host.remote.clone(),
            request: head,
            response: None,
            start: began.time,
            response_start: None,
            end: began.time,
            request_body: body.as_ref().map_or(0, Body::declared),
            response_body: 0,
            outcome: Outcome::Complete,
        });
        let early = if self.requests.rejoined || takes_no_early {
            self.ledger.drop_early(host);
            None
        } else {
            self.ledger.early.take()
        };
        self.requests.rejoined = false;
        self.ledger.begin(Pending { exchange, turn: now.turn }, host);
        let state = body.map_or(State::Start, State::Body);
        self.become_state(Kind::Request, state, host);
        if let Some(early) = early {
            self.attach(*early, host);
        }
    }

    /// Gives a request the response that was reported before it.
    fn attach(&mut self, early: Early, host: &mut Host<'_>) {
        if let Some(front) = self.ledger.front() {
            front.exchange.start = front.exchange.start.min(early.began.time);
        }
        self.ledger.respond(early.head, early.began, host);
        if let Some((end, size)) = early.done {
            self.finish_response(size, end, host);
        }
    }

    fn begin_response(
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
    fn begin_stray_response(
        &mut self,
        head: ResponseHead,
        framing: Framing,
        began: Moment,
        now: Moment,
        host: &mut Host<'_>,
    ) {
        self.ledger.drop_early(host);
        let in_step =
            matches!(self.requests.state, State::Start) && !self.responses.rejoined;
        if self.role == Role::Server || !in_step {
            self.stray = true;
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

    fn read_body(
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
        self.after_body(kind, fed, segment.moment, host).map_or(bytes.len(), |used| used as usize)
    }

    /// Accounts for the bytes of a segment whose content is not known.
    fn pass_rest(
        &mut self,
        kind: Kind,
        rest: u64,
        segment: &Segment<'_>,
        host: &mut Host<'_>,
    ) {
        let turn = segment.moment.turn;
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

    /// Takes note of what body bytes did; returns how many were taken if the body ended.
    fn after_body(
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

    /// A message is complete; its last byte moved at `end`.
    fn end_message(&mut self, kind: Kind, size: u64, end: Moment, host: &mut Host<'_>) {
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

    fn finish_response(
        &mut self,
        size: u64,
        end: crate::event::KernelTime,
        host: &mut Host<'_>,
    ) {
        if let Some(front) = self.ledger.front()
            && front.exchange.response.is_some()
        {
            front.exchange.response_body = size;
            self.ledger.finish(Outcome::Complete, end, host);
        }
    }

    /// A head that cannot be read.
    fn refuse_head(&mut self, kind: Kind, error: NoHead, moment: Moment, host: &mut Host<'_>) {
        let reason = match error {
            NoHead::TooManyHeaders => LossReason::TooManyHeaders,
            NoHead::Incomplete | NoHead::Malformed => LossReason::BadHead,
        };
        self.lose_message(kind, moment.turn, reason, host);
    }

    /// Gives up the message being read; the direction is out of step until its next turn.
    fn lose_message(
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
                    let from = self.responses.last_turn.map_or(0, |turn| turn.saturating_add(1));
                    self.become_state(Kind::Response, State::Lost { from }, host);
                }
            }
            (Kind::Request, State::Lost { .. }) => self.stray = true,
            (Kind::Request, _) => self.ledger.lose_request(turn, reason, host),
            (Kind::Response, _) if !self.ledger.awaits_response() => self.stray = true,
            (Kind::Response, _) => self.ledger.lose_response(reason, host),
        }
        self.become_state(kind, State::Lost { from }, host);
    }
}

/// Whether a message may start here: a valid first line, or a beginning of one.
fn is_message_start(kind: Kind, bytes: &[u8]) -> bool {
    let bytes = &bytes[head::empty_lines(bytes)..];
    let line = bytes.iter().position(|byte| *byte == b'\n').map(|end| &bytes[..=end]);
    match (kind, line) {
        (Kind::Request, Some(line)) => head::is_request_line(line),
        (Kind::Request, None) => head::may_start_request(bytes),
        (Kind::Response, Some(line)) => head::is_status_line(line),
        (Kind::Response, None) => head::may_start_response(bytes),
    }
}

impl Host<'_> {
    /// Counts exchanges that were never announced.
    fn lose(&mut self, reason: LossReason, exchanges: u32) {
        self.out.push(Observation::Lost { conn: self.conn, id: None, reason, exchanges });
    }
}
