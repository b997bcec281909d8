//! HTTP/1.0 and 1.1, passively: real framing over whatever was seen of the two byte streams.
//!
//! Nothing is guessed. Where a message's start, end or partner was not seen, its exchange is
//! counted as lost and reading goes on at the next message start. Must not know connections'
//! addresses other than to copy them.

mod body;
mod chunked;
mod close;
mod framing;
mod gaps;
mod head;
mod kept;
mod ledger;
mod messages;
mod plain;
mod reading;
mod side;

use ledger::{Ledger, slot};
use side::{Kind, Side, State};

use super::{Host, Likeness, LossReason, Protocol, Segment, Standing};
use crate::event::{Closed, Direction};
use crate::exchange::Role;

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
    /// The request whose body begins next carries telemetry.
    exports: bool,
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
        let is_blank = self.is_blank(kind, segment);
        self.read(kind, segment, host);
        if self.rejected {
            return Standing::Rejected;
        }
        // Whose a response is can be told once its head is complete.
        let is_unclear = kind == Kind::Response
            && matches!(self.responses.state, State::Head(_))
            && !self.ledger.awaits_response(slot);
        if self.confirmed && !is_blank && !is_unclear {
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

    fn name(&self) -> &'static str {
        "http1"
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
            exports: false,
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
}
