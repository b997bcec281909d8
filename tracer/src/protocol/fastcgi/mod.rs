//! `FastCGI` 1.0, passively: the requests that a web server hands on to an application.
//!
//! What travels is HTTP in other words, so the same is said of it as of HTTP/1.x. Nothing is
//! guessed: where a request's start, end or response was not seen, its exchange is counted as
//! lost. Of requests that share a connection at the same time, which nginx and Apache never make, the
//! first is followed and the others are counted.

mod close;
mod messages;
mod params;
mod record;
mod records;
mod request;
mod response;

use super::slots::{Kind as Way, Slots, slot};
use super::{Host, Joint, Likeness, LossReason, Moment, Protocol, Segment, Standing};
use crate::event::{Closed, Direction, KernelTime, StreamOffset};
use crate::exchange::Role;
use records::{Item, Records};
use request::Request;

/// One connection.
#[derive(Debug)]
pub struct FastCgi {
    role: Role,
    request_direction: Direction,
    requests: Side,
    responses: Side,
    /// The request that is being made or answered.
    current: Option<Box<Request>>,
    /// Another request was made before it was over.
    shared: bool,
    /// The last request lets others follow on this connection.
    keeps: bool,
    slots: Slots,
    confirmed: bool,
    /// Some of the current segment could not be attributed to an exchange.
    stray: bool,
    /// Some of it could.
    known: bool,
    /// It shows that this is not `FastCGI`.
    rejected: bool,
    peer_ended: bool,
}

/// One direction.
#[derive(Debug)]
struct Side {
    records: Records,
    /// Turn of the last bytes.
    last_turn: Option<u32>,
    /// Time of the last bytes.
    last_time: KernelTime,
}

impl Side {
    fn new() -> Self {
        Self { records: Records::new(), last_turn: None, last_time: KernelTime::default() }
    }
}

impl Protocol for FastCgi {
    fn likeness(start: &[u8]) -> Likeness {
        record::likeness(start)
    }

    fn on_segment(&mut self, segment: &Segment<'_>, host: &mut Host<'_>) -> Standing {
        let way = self.way(segment.direction);
        let moment = segment.moment;
        if self.confirmed {
            self.slots.settle(slot(way, moment.turn), host);
        }
        self.join(way, segment, host);
        (self.stray, self.known) = (false, false);
        self.read(way, segment.bytes, segment.offset, moment, host);
        if segment.rest > 0 && !self.rejected {
            let tail = segment.tail.len() as u32;
            let unknown = segment.rest.saturating_sub(tail);
            let at = segment.offset.advance(segment.bytes.len() as u32 + unknown);
            self.pass(way, u64::from(unknown), moment.turn, false, host);
            self.read(way, segment.tail, at, moment, host);
        }
        if self.rejected {
            return Standing::Rejected;
        }
        self.look_back(way, moment, host);
        self.account(way, moment.turn, host);
        let side = self.side(way);
        side.last_turn = Some(moment.turn);
        side.last_time = moment.time;
        if self.confirmed { Standing::Confirmed } else { Standing::Tentative }
    }

    fn on_closed(&mut self, closed: &Closed, complete: bool, host: &mut Host<'_>) {
        self.close(closed, complete, host);
    }

    fn abandon(&mut self, reason: LossReason, host: &mut Host<'_>) {
        self.give_up(reason, host);
        for way in [Way::Request, Way::Response] {
            let side = self.side(way);
            let from = side.last_turn.map_or(0, |turn| turn.saturating_add(1));
            side.records.lose(from);
        }
    }

    fn name(&self) -> &'static str {
        "fastcgi"
    }

    fn open_exchanges(&self) -> usize {
        usize::from(self.current.as_ref().is_some_and(|request| request.is_announced()))
    }
}

impl FastCgi {
    /// A connection whose requests travel in `request_direction`.
    pub fn new(request_direction: Direction) -> Self {
        Self {
            role: super::role_of(request_direction),
            request_direction,
            requests: Side::new(),
            responses: Side::new(),
            current: None,
            shared: false,
            keeps: true,
            slots: Slots::default(),
            confirmed: false,
            stray: false,
            known: false,
            rejected: false,
            peer_ended: false,
        }
    }

    fn way(&self, direction: Direction) -> Way {
        if direction == self.request_direction { Way::Request } else { Way::Response }
    }

    fn side(&mut self, way: Way) -> &mut Side {
        match way {
            Way::Request => &mut self.requests,
            Way::Response => &mut self.responses,
        }
    }

    fn last_turn(&self) -> Option<u32> {
        self.requests.last_turn.max(self.responses.last_turn)
    }

    /// Joins a segment to what was seen before it.
    fn join(&mut self, way: Way, segment: &Segment<'_>, host: &mut Host<'_>) {
        let turn = segment.moment.turn;
        if self.last_turn().is_some_and(|last| turn > last.saturating_add(1)) {
            // A whole turn was not seen: it may have been the rest of what is open.
            self.lose_current(LossReason::ResponseUnseen, host);
        }
        match segment.joint {
            Joint::Contiguous => {}
            Joint::Unseen(len) => self.pass(way, u64::from(len), turn, true, host),
            Joint::Overlap => {
                self.lose_current(LossReason::Desync, host);
                self.side(way).records.lose(turn.saturating_add(1));
            }
        }
        let side = self.side(way);
        if way == Way::Request && side.records.is_blind() && side.last_turn != Some(turn) {
            // Another request may begin here; if not, the last one goes on.
            side.records.expect();
        }
    }

    fn read(
        &mut self,
        way: Way,
        bytes: &[u8],
        offset: StreamOffset,
        moment: Moment,
        host: &mut Host<'_>,
    ) {
        let mut at = 0;
        while at < bytes.len() && !self.rejected {
            let offset = offset.advance(at as u32);
            let (used, item) = self.side(way).records.read(&bytes[at..], offset, moment);
            at += used;
            match item {
                Item::Nothing => {}
                Item::Stray => self.stray = true,
                Item::NoRecord => self.miss_record(way, moment.turn, host),
                Item::Header(header, began, offset) => {
                    self.on_record(way, header, (began, offset), moment, host);
                }
                Item::Content(header, bytes) => self.on_content(way, header, bytes, moment, host),
            }
        }
    }

    /// Passes bytes whose content is not known; `between` segments or as a part of one.
    fn pass(&mut self, way: Way, len: u64, turn: u32, between: bool, host: &mut Host<'_>) {
        let passed = self.side(way).records.pass(len, !between);
        if let Some(header) = passed.content {
            self.on_unknown_content(way, header, host);
        }
        if !passed.beyond {
            return;
        }
        if !self.confirmed {
            self.rejected = true;
            return;
        }
        let later = self.side(way).last_turn.is_none_or(|last| turn > last);
        let answered = self.responses.last_turn;
        if let Some(request) = &mut self.current {
            let is_body = match way {
                // After something was answered, the next request may have begun unseen.
                Way::Request if between && later && answered > Some(request.turn()) => false,
                Way::Request => request.is_announced(),
                // Its end, too, may have been among what was not seen.
                Way::Response if self.shared => false,
                Way::Response => request.is_answered(),
            };
            if is_body {
                request.forget_sizes();
                return self.side(way).records.go_blind(!between);
            }
        }
        let is_announced = self.current.as_ref().is_some_and(|request| request.is_announced());
        self.lose_current(
            if is_announced { LossReason::ResponseUnseen } else { LossReason::HeadGap },
            host,
        );
        self.stray |= !between;
        // A record that starts a later turn can be believed in.
        let is_start = between && later && way == Way::Request;
        self.side(way).records.lose(if is_start { turn } else { turn.saturating_add(1) });
    }

    /// Bytes are no record, where one should start.
    fn miss_record(&mut self, way: Way, turn: u32, host: &mut Host<'_>) {
        if !self.confirmed {
            self.rejected = true;
            return;
        }
        match (way, &self.current) {
            (Way::Request, Some(request)) if request.is_announced() => {
                self.known = true;
                return self.requests.records.go_blind(true);
            }
            (Way::Request, Some(_)) => self.lose_current(LossReason::BadHead, host),
            (Way::Response, Some(_)) => self.lose_current(LossReason::Desync, host),
            (_, None) => self.stray = true,
        }
        self.side(way).records.lose(turn.saturating_add(1));
    }

    /// Blind, a response ends where its last known bytes say so.
    fn look_back(&mut self, way: Way, moment: Moment, host: &mut Host<'_>) {
        if way == Way::Response
            && let Some(header) = self.responses.records.end()
            && self.is_current(header.id)
        {
            self.responses.records.expect();
            self.on_record(way, header, (moment, StreamOffset(0)), moment, host);
        }
    }

    /// Accounts for the turn that the segment is part of.
    fn account(&mut self, way: Way, turn: u32, host: &mut Host<'_>) {
        if !self.confirmed || !(self.stray || self.known) {
            return;
        }
        let loss = match way {
            Way::Request => LossReason::HeadGap,
            Way::Response => LossReason::RequestUnseen,
        };
        let is_lost = self.stray && !self.known;
        self.slots.charge(slot(way, turn), is_lost.then_some(loss), host);
    }

    fn confirm(&mut self, way: Way, turn: u32, host: &mut Host<'_>) {
        if !self.confirmed {
            self.confirmed = true;
            self.slots.open(way, turn);
            self.slots.settle(slot(way, turn), host);
        }
    }

    fn is_current(&self, id: u16) -> bool {
        self.current.as_ref().is_some_and(|request| request.id() == id)
    }

    /// Gives up what is open while the connection goes on.
    fn lose_current(&mut self, reason: LossReason, host: &mut Host<'_>) {
        self.give_up(reason, host);
        if self.responses.records.is_blind() {
            let from = self.responses.last_turn.map_or(0, |turn| turn.saturating_add(1));
            self.responses.records.lose(from);
        }
    }

    /// Gives up what is open.
    fn give_up(&mut self, reason: LossReason, host: &mut Host<'_>) {
        if let Some(request) = self.current.take() {
            request.lose(reason, host);
        }
    }
}
