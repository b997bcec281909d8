//! Records to requests, responses and their ends.

use super::record::{Header, Kind};
use super::request::Request;
use super::{FastCgi, Way, response};
use crate::event::{KernelTime, StreamOffset};
use crate::exchange::{Outcome, Role};
use crate::protocol::{Host, LossReason, Moment};

impl FastCgi {
    /// A record starts: `began` by whom, and where.
    pub(super) fn on_record(
        &mut self,
        way: Way,
        header: Header,
        began: (Moment, StreamOffset),
        moment: Moment,
        host: &mut Host<'_>,
    ) {
        let Header { kind, id, content, .. } = header;
        match (way, kind) {
            (Way::Request, Kind::Begin { responder, keeps }) => {
                self.begin(id, responder, keeps, began, moment, host);
            }
            (Way::Request, Kind::Abort | Kind::Params | Kind::Stdin) if self.is_current(id) => {
                let Some(request) = &mut self.current else { return };
                if kind == Kind::Params && request.is_announced() {
                    // Another request's, which began unseen.
                    self.stray = true;
                    return self.lose_current(LossReason::ResponseUnseen, host);
                }
                self.known = true;
                match kind {
                    Kind::Abort => request.abort(),
                    Kind::Params if content == 0 => self.announce(host),
                    Kind::Stdin if content == 0 => request.end_input(),
                    _ => {}
                }
            }
            // Of a request whose beginning was not seen, or what one leaves unread.
            (Way::Request, Kind::Params) => self.stray = true,
            (Way::Request, Kind::Abort | Kind::Stdin | Kind::Data) => {}
            (_, Kind::GetValues | Kind::Management) => self.known = true,
            (Way::Response, Kind::Stdout | Kind::Stderr | Kind::End { .. }) => {
                self.on_response_record(header, began.0, moment, host);
            }
            (Way::Request, Kind::Stdout | Kind::Stderr | Kind::End { .. }) | (Way::Response, _) => {
                self.miss_record(way, moment.turn, host);
            }
        }
    }

    fn on_response_record(
        &mut self,
        header: Header,
        began: Moment,
        moment: Moment,
        host: &mut Host<'_>,
    ) {
        let Header { kind, id, .. } = header;
        if matches!(kind, Kind::End { .. }) {
            self.confirm(Way::Response, moment.turn, host);
        }
        if !self.is_current(id) {
            self.stray |= self.current.is_none();
            return;
        }
        self.known = true;
        let Some(request) = &mut self.current else { return };
        if !request.is_announced() {
            return self.lose_current(LossReason::HeadGap, host);
        }
        match kind {
            Kind::End { refused } => {
                let outcome = match (refused, request.is_aborted()) {
                    (_, true) => given_up_by(Role::Client, self.role),
                    (true, false) => given_up_by(Role::Server, self.role),
                    // An application that says nothing is less likely than that it was not seen.
                    (false, false) if !request.is_answered() => {
                        return self.lose_current(LossReason::ResponseUnseen, host);
                    }
                    (false, false) => Outcome::Complete,
                };
                self.finish(outcome, moment.time, host);
            }
            Kind::Stdout => request.on_output(began),
            _ => {}
        }
    }

    /// Known content of a record.
    pub(super) fn on_content(
        &mut self,
        way: Way,
        header: Header,
        bytes: &[u8],
        moment: Moment,
        host: &mut Host<'_>,
    ) {
        if way == Way::Response
            && header.kind == Kind::Stdout
            && self.current.is_none()
            && response::may_start(bytes)
        {
            self.confirm(way, moment.turn, host);
        }
        if !self.is_current(header.id) {
            return;
        }
        self.known = true;
        let Some(request) = &mut self.current else { return };
        let taken = match (way, header.kind) {
            (Way::Request, Kind::Params) => request.add_params(bytes, host),
            (Way::Request, Kind::Stdin) => {
                request.add_input(bytes.len());
                Ok(())
            }
            (Way::Response, Kind::Stdout) => request.add_output(bytes, host),
            _ => Ok(()),
        };
        if let Err(reason) = taken {
            self.lose_current(reason, host);
        }
    }

    /// Unknown content of a record.
    pub(super) fn on_unknown_content(&mut self, way: Way, header: Header, host: &mut Host<'_>) {
        if !self.is_current(header.id) {
            return;
        }
        self.known = true;
        let Some(request) = &mut self.current else { return };
        let is_head = match (way, header.kind) {
            (Way::Request, Kind::Params) => !request.is_announced(),
            (Way::Response, Kind::Stdout) => !request.is_answered(),
            _ => false,
        };
        if is_head {
            return self.lose_current(LossReason::HeadGap, host);
        }
        request.forget_sizes();
    }

    fn begin(
        &mut self,
        id: u16,
        responder: bool,
        keeps: bool,
        began: (Moment, StreamOffset),
        moment: Moment,
        host: &mut Host<'_>,
    ) {
        let turn = moment.turn;
        self.confirm(Way::Request, turn, host);
        self.known = true;
        if self.is_current(id) && self.responses.records.may_have_ended() {
            self.finish(Outcome::Complete, self.responses.last_time, host);
        } else if self.is_current(id) || self.responses.records.is_blind() {
            // The end of the last one was among what was not seen.
            self.lose_current(LossReason::ResponseUnseen, host);
        } else if self.current.is_some() {
            self.shared = true;
            return self.slots.lose_request(turn, LossReason::Multiplexed, host);
        }
        (self.keeps, self.shared) = (keeps, false);
        if !self.responses.records.is_between() {
            let seen = self.responses.last_turn.map_or(0, |last| last.saturating_add(1));
            self.responses.records.lose(seen);
        }
        if !responder {
            return self.slots.lose_request(turn, LossReason::NotResponder, host);
        }
        self.current = Some(Box::new(Request::new(id, self.role, began, host)));
    }

    /// All parameters are there.
    fn announce(&mut self, host: &mut Host<'_>) {
        let Some(request) = &mut self.current else { return };
        if let Err(reason) = request.announce(host) {
            self.lose_current(reason, host);
        }
    }

    /// Hands out the exchange.
    pub(super) fn finish(&mut self, outcome: Outcome, end: KernelTime, host: &mut Host<'_>) {
        if let Some(request) = self.current.take() {
            request.finish(outcome, end, host);
        }
    }
}

/// How an exchange ended that one end gave up, as seen from this end.
fn given_up_by(end: Role, observed: Role) -> Outcome {
    if end == observed { Outcome::ClosedLocally } else { Outcome::ClosedByPeer }
}
