//! One request on its way: parameters, then an exchange whose response is on its way.
//!
//! Must not know records: it is given their content, piece by piece.

use std::sync::Arc;

use super::{params, response};
use crate::event::{KernelTime, StreamOffset};
use crate::exchange::{Exchange, ExchangeId, Outcome, Role};
use crate::protocol::{Host, LossReason, Moment, Observation};

/// A request that began.
#[derive(Debug)]
pub(super) struct Request {
    id: u16,
    exchange: ExchangeId,
    role: Role,
    began: Moment,
    aborted: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// What there is of its parameters.
    Asked(Vec<u8>),
    /// It was told.
    Announced(Answer),
}

#[derive(Debug)]
struct Answer {
    exchange: Box<Exchange>,
    /// Who moved the first byte of output.
    began: Option<Moment>,
    /// What there is of the response's head.
    head: Vec<u8>,
    /// Bytes of the request's body, as long as all are seen.
    input: Option<u64>,
    /// Bytes of the response's body, likewise.
    output: Option<u64>,
}

impl Request {
    /// `began` by whom, and where.
    pub(super) fn new(
        id: u16,
        role: Role,
        (began, offset): (Moment, StreamOffset),
        host: &Host<'_>,
    ) -> Self {
        let exchange = ExchangeId { conn: host.conn, offset };
        Self { id, exchange, role, began, aborted: false, stage: Stage::Asked(Vec::new()) }
    }

    /// The number that its records carry.
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    /// The turn in which it began.
    pub(super) fn turn(&self) -> u32 {
        self.began.turn
    }

    /// The web server wants no response any more.
    pub(super) fn abort(&mut self) {
        self.aborted = true;
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.aborted
    }

    /// Whether its parameters are complete.
    pub(super) fn is_announced(&self) -> bool {
        matches!(self.stage, Stage::Announced(_))
    }

    /// Whether the head of its response is complete.
    pub(super) fn is_answered(&self) -> bool {
        matches!(&self.stage, Stage::Announced(answer) if answer.exchange.response.is_some())
    }

    pub(super) fn add_params(
        &mut self,
        bytes: &[u8],
        host: &mut Host<'_>,
    ) -> Result<(), LossReason> {
        match &mut self.stage {
            Stage::Asked(held) => hold(held, bytes, host),
            Stage::Announced(_) => Ok(()),
        }
    }

    /// All parameters are there: tells of the exchange.
    pub(super) fn announce(&mut self, host: &mut Host<'_>) -> Result<(), LossReason> {
        let Stage::Asked(held) = &mut self.stage else { return Ok(()) };
        let bytes = release(held, host);
        let request = params::request(&bytes, host.interest).ok_or(LossReason::BadHead)?;
        let exchange = Box::new(Exchange {
            id: self.exchange,
            role: self.role,
            pid: self.began.pid,
            tid: self.began.tid,
            ends: Arc::clone(host.ends),
            request: Arc::new(request.head),
            response: None,
            start: self.began.time,
            response_start: None,
            end: self.began.time,
            request_body: request.body,
            response_body: 0,
            outcome: Outcome::Complete,
        });
        host.out.push(Observation::RequestBegan {
            id: exchange.id,
            role: exchange.role,
            pid: exchange.pid,
            tid: exchange.tid,
            at: exchange.start,
            ends: Arc::clone(&exchange.ends),
            request: Arc::clone(&exchange.request),
        });
        self.stage = Stage::Announced(Answer {
            exchange,
            began: None,
            head: Vec::new(),
            input: Some(0),
            output: Some(0),
        });
        Ok(())
    }

    /// A piece of the request's body.
    pub(super) fn add_input(&mut self, len: usize) {
        if let Stage::Announced(Answer { input: Some(input), .. }) = &mut self.stage {
            *input += len as u64;
        }
    }

    /// The request's body is complete.
    pub(super) fn end_input(&mut self) {
        if let Stage::Announced(Answer { input: Some(input), exchange, .. }) = &mut self.stage {
            exchange.request_body = *input;
        }
    }

    /// A record of output starts.
    pub(super) fn on_output(&mut self, began: Moment) {
        if let Stage::Announced(answer) = &mut self.stage {
            answer.began.get_or_insert(began);
        }
    }

    /// A piece of output.
    pub(super) fn add_output(
        &mut self,
        bytes: &[u8],
        host: &mut Host<'_>,
    ) -> Result<(), LossReason> {
        let Stage::Announced(answer) = &mut self.stage else { return Ok(()) };
        let mut body = bytes.len();
        if answer.exchange.response.is_none() {
            let held = answer.head.len();
            // Mostly the head comes in one piece.
            let end = if held == 0 { response::end(bytes, 0) } else { None };
            if let Some(end) = end {
                answer.respond(&bytes[..end], host)?;
                body -= end;
            } else {
                hold(&mut answer.head, bytes, host)?;
                let Some(end) = response::end(&answer.head, held.saturating_sub(3)) else {
                    return Ok(());
                };
                let head = release(&mut answer.head, host);
                answer.respond(&head[..end], host)?;
                body = head.len() - end;
            }
        }
        if let Some(output) = &mut answer.output {
            *output += body as u64;
        }
        Ok(())
    }

    /// Bytes of a body were not seen.
    pub(super) fn forget_sizes(&mut self) {
        if let Stage::Announced(answer) = &mut self.stage {
            (answer.input, answer.output) = (None, None);
        }
    }

    /// It is over.
    pub(super) fn finish(mut self, outcome: Outcome, end: KernelTime, host: &mut Host<'_>) {
        self.release_all(host);
        if let Stage::Announced(answer) = self.stage {
            let Answer { mut exchange, output, .. } = answer;
            if outcome == Outcome::Complete {
                exchange.response_body = output.unwrap_or(0);
            }
            exchange.outcome = outcome;
            exchange.end = end.max(exchange.start);
            host.out.push(Observation::Finished(exchange));
        }
    }

    /// It will not be reported.
    pub(super) fn lose(mut self, reason: LossReason, host: &mut Host<'_>) {
        self.release_all(host);
        let id = self.is_announced().then_some(self.exchange);
        host.out.push(Observation::Lost { conn: host.conn, id, reason, exchanges: 1 });
    }

    /// It came to nothing before it was complete, and was no request.
    pub(super) fn forget(mut self, host: &mut Host<'_>) {
        self.release_all(host);
    }

    fn release_all(&mut self, host: &mut Host<'_>) {
        release(
            match &mut self.stage {
                Stage::Asked(held) => held,
                Stage::Announced(answer) => &mut answer.head,
            },
            host,
        );
    }
}

impl Answer {
    fn respond(&mut self, head: &[u8], host: &mut Host<'_>) -> Result<(), LossReason> {
        let exchange = &mut self.exchange;
        let head = response::head(head, exchange.request.version, host.interest);
        let (Some(head), Some(began)) = (head, self.began) else {
            return Err(LossReason::BadHead);
        };
        exchange.response = Some(head);
        exchange.response_start = Some(began.time);
        host.out.push(Observation::ResponseBegan {
            id: exchange.id,
            role: exchange.role,
            pid: began.pid,
            tid: began.tid,
            at: began.time,
        });
        Ok(())
    }
}

/// Keeps bytes of an incomplete head, within bounds.
fn hold(held: &mut Vec<u8>, bytes: &[u8], host: &mut Host<'_>) -> Result<(), LossReason> {
    if held.len() + bytes.len() > host.limits.head_bytes {
        return Err(LossReason::HeadTooLarge);
    }
    if *host.buffered + bytes.len() > host.limits.buffered_bytes {
        return Err(LossReason::BuffersFull);
    }
    held.extend_from_slice(bytes);
    *host.buffered += bytes.len();
    Ok(())
}

/// Gives back what was kept.
fn release(held: &mut Vec<u8>, host: &mut Host<'_>) -> Vec<u8> {
    *host.buffered = host.buffered.saturating_sub(held.len());
    std::mem::take(held)
}
