//! One connection: its ends, its two streams, and the protocol it turned out to speak.

use std::sync::Arc;

use super::detection::{Detection, Finding};
use super::stream::Stream;
use super::{Counters, LossReason, Observation, Verdict};
use crate::event::{CloseKind, Closed, ConnId, Data, Direction, KernelTime, Opened};
use crate::exchange::{End, Ends, HeaderInterest};
use crate::protocol::{Host, Joint, Limits, Moment, Protocol, Segment, Standing};

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) interest: HeaderInterest,
    pub(super) limits: Limits,
    /// Bytes of incomplete heads.
    pub(super) buffered: usize,
    pub(super) counters: Counters,
}

#[derive(Debug)]
pub(super) struct Connection {
    ends: Arc<Ends>,
    sent: Stream,
    received: Stream,
    stage: Stage,
    last_active: KernelTime,
}

#[derive(Debug)]
enum Stage {
    Unknown(Detection),
    Speaks {
        protocol: Box<dyn Protocol>,
        /// What was known before, in case it is something else after all; `None` once it is not.
        before: Option<Detection>,
    },
    /// Nobody looks at it any more, for this reason.
    Ignored(&'static str),
}

/// Nothing of it looked like anything we know.
const UNKNOWN_PROTOCOL: &str = "ignored_unknown_protocol";
/// It carries something else by now, as after `CONNECT` or an upgrade.
const TUNNEL: &str = "ignored_tunnel";
/// Nothing of its service is ever recorded.
const UNSAMPLED: &str = "ignored_unsampled";

impl Connection {
    pub(super) fn new(opened: &Opened) -> Self {
        Self {
            ends: Arc::new(Ends {
                local: End::new(opened.local.clone()),
                remote: End::new(opened.remote.clone()),
                unix_pair: opened.unix_pair,
            }),
            sent: Stream::default(),
            received: Stream::default(),
            stage: Stage::Unknown(Detection::default()),
            last_active: opened.time,
        }
    }

    /// What is known of it, as a stable name for metrics.
    pub(super) fn standing(&self) -> &'static str {
        match &self.stage {
            Stage::Unknown(_) => "undecided",
            Stage::Speaks { protocol, .. } => protocol.name(),
            Stage::Ignored(why) => why,
        }
    }

    pub(super) fn last_active(&self) -> KernelTime {
        self.last_active
    }

    pub(super) fn on_data(
        &mut self,
        data: &Data<'_>,
        shared: &mut Shared,
        out: &mut Vec<Observation>,
    ) {
        self.last_active = data.time;
        if matches!(self.stage, Stage::Ignored(_)) || data.len == 0 {
            return;
        }
        let stream = match data.direction {
            Direction::Send => &mut self.sent,
            Direction::Receive => &mut self.received,
        };
        let joint = stream.advance(data.offset, data.len);
        match joint {
            Joint::Contiguous => {}
            Joint::Unseen(len) => {
                shared.counters.gaps += 1;
                shared.counters.gap_bytes += u64::from(len);
            }
            Joint::Overlap => shared.counters.overlaps += 1,
        }
        let bytes = &data.head[..data.head.len().min(data.len as usize)];
        let rest = data.len - bytes.len() as u32;
        let tail = &data.tail[data.tail.len().saturating_sub(rest as usize)..];
        let moment = Moment { time: data.time, pid: data.pid, tid: data.tid, turn: data.turn };
        let segment = Segment {
            direction: data.direction,
            moment,
            offset: data.offset,
            joint,
            bytes,
            rest,
            tail,
        };
        self.on_segment(data.conn, &segment, shared, out);
    }

    pub(super) fn on_closed(
        &mut self,
        closed: &Closed,
        shared: &mut Shared,
        out: &mut Vec<Observation>,
    ) {
        self.last_active = closed.time;
        let complete = self.sent.is_complete(closed.sent_end)
            && self.received.is_complete(closed.received_end);
        let (mut host, stage) = self.host(closed.conn, shared, out);
        match stage {
            Stage::Speaks { protocol, .. } => protocol.on_closed(closed, complete, &mut host),
            Stage::Unknown(detection) => {
                // Connections are announced when a message looks like one we know. If none was
                // seen, its events were lost.
                if closed.kind == CloseKind::Gone && detection.saw_no_start() {
                    let (conn, exchanges) = (closed.conn, closed.turns / 2 + 1);
                    let reason = LossReason::Unseen;
                    out.push(Observation::Lost { conn, id: None, reason, exchanges });
                }
            }
            Stage::Ignored(_) => {}
        }
    }

    /// Gives up what is open; the connection itself may go on.
    pub(super) fn abandon(
        &mut self,
        conn: ConnId,
        reason: LossReason,
        shared: &mut Shared,
        out: &mut Vec<Observation>,
    ) {
        let (mut host, stage) = self.host(conn, shared, out);
        if let Stage::Speaks { protocol, .. } = stage {
            protocol.abandon(reason, &mut host);
        }
    }

    /// Has nothing more be known of the connection.
    pub(super) fn dismiss(
        &mut self,
        conn: ConnId,
        shared: &mut Shared,
        out: &mut Vec<Observation>,
    ) {
        if !matches!(self.stage, Stage::Ignored(_)) {
            self.abandon(conn, LossReason::Unsampled, shared, out);
            self.ignore(UNSAMPLED, conn, out);
        }
    }

    /// Gives up the connection while its socket lives on.
    pub(super) fn evict(&mut self, conn: ConnId, shared: &mut Shared, out: &mut Vec<Observation>) {
        if matches!(self.stage, Stage::Ignored(_)) {
            return;
        }
        self.abandon(conn, LossReason::TableFull, shared, out);
        // Its ends are forgotten, so no later exchange of it could be reported.
        out.push(Observation::Verdict { conn, verdict: Verdict::Ignore });
    }

    fn on_segment(
        &mut self,
        conn: ConnId,
        segment: &Segment<'_>,
        shared: &mut Shared,
        out: &mut Vec<Observation>,
    ) {
        if let Stage::Unknown(detection) = &mut self.stage {
            match detection.on_segment(segment) {
                Finding::Undecided => return,
                Finding::GiveUp => return self.ignore(UNKNOWN_PROTOCOL, conn, out),
                Finding::Speaks(protocol, prefix) => {
                    let before = Some(std::mem::take(detection));
                    self.stage = Stage::Speaks { protocol, before };
                    if let Some(prefix) = prefix {
                        self.speak(conn, &prefix.segment(), shared, out);
                    }
                }
            }
        }
        self.speak(conn, segment, shared, out);
    }

    fn speak(
        &mut self,
        conn: ConnId,
        segment: &Segment<'_>,
        shared: &mut Shared,
        out: &mut Vec<Observation>,
    ) {
        let (mut host, stage) = self.host(conn, shared, out);
        let Stage::Speaks { protocol, before } = stage else {
            return;
        };
        match protocol.on_segment(segment, &mut host) {
            Standing::Tentative => {}
            Standing::Confirmed => {
                if before.take().is_some() {
                    out.push(Observation::Verdict { conn, verdict: Verdict::Http });
                }
            }
            Standing::Opaque => {
                if before.take().is_some() {
                    out.push(Observation::Verdict { conn, verdict: Verdict::Http });
                }
                self.ignore(TUNNEL, conn, out);
            }
            Standing::Rejected => {
                let mut detection = before.take().unwrap_or_default();
                protocol.abandon(LossReason::BadHead, &mut host);
                match detection.refute(segment.moment.turn) {
                    Finding::GiveUp => self.ignore(UNKNOWN_PROTOCOL, conn, out),
                    _ => self.stage = Stage::Unknown(detection),
                }
            }
        }
    }

    fn ignore(&mut self, why: &'static str, conn: ConnId, out: &mut Vec<Observation>) {
        self.stage = Stage::Ignored(why);
        out.push(Observation::Verdict { conn, verdict: Verdict::Ignore });
    }

    fn host<'a>(
        &'a mut self,
        conn: ConnId,
        shared: &'a mut Shared,
        out: &'a mut Vec<Observation>,
    ) -> (Host<'a>, &'a mut Stage) {
        let host = Host {
            conn,
            ends: &self.ends,
            interest: &shared.interest,
            limits: shared.limits,
            buffered: &mut shared.buffered,
            out,
        };
        (host, &mut self.stage)
    }
}
