//! A socket as the kernel half tells of it: offsets, turns and times come by themselves.

use crate::conn::{Connections, LossReason, Observation, Options, Verdict};
use crate::event::{
    CloseKind, Closed, ConnId, Data, Direction, Endpoint, Event, KernelTime, Opened, Pid,
    StreamOffset, Tid,
};
use crate::exchange::{Exchange, Outcome, Role};

pub(super) const CONN: ConnId = ConnId(7);
/// Close to the wrap, so that offsets wrap in every longer test.
const FIRST_OFFSET: u32 = u32::MAX - 20;

/// An event that owns its bytes.
#[derive(Clone, Debug)]
pub(super) enum Record {
    Opened(Opened),
    Data { data: Data<'static>, head: Vec<u8>, tail: Vec<u8> },
    Closed(Closed),
}

impl Record {
    pub(super) fn event(&self) -> Event<'_> {
        match self {
            Self::Opened(opened) => Event::Opened(opened.clone()),
            Self::Data { data, head, tail } => Event::Data(Data { head, tail, ..data.clone() }),
            Self::Closed(closed) => Event::Closed(closed.clone()),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Wire {
    role: Role,
    pub(super) records: Vec<Record>,
    time: u64,
    turn: u32,
    last: Option<Direction>,
    sent: StreamOffset,
    received: StreamOffset,
}

impl Wire {
    pub(super) fn new(role: Role) -> Self {
        let opened = Opened {
            conn: CONN,
            time: KernelTime(1000),
            local: Endpoint::Inet(([127, 0, 0, 1], 80).into()),
            remote: Endpoint::Inet(([127, 0, 0, 1], 5555).into()),
            netns: 1,
            unix_pair: (0, 0),
            inode: 1,
        };
        Self {
            role,
            records: vec![Record::Opened(opened)],
            time: 1000,
            turn: 0,
            last: None,
            sent: StreamOffset(FIRST_OFFSET),
            received: StreamOffset(FIRST_OFFSET - 100),
        }
    }

    pub(super) fn server() -> Self {
        Self::new(Role::Server)
    }

    pub(super) fn client() -> Self {
        Self::new(Role::Client)
    }

    fn requests(&self) -> Direction {
        match self.role {
            Role::Client => Direction::Send,
            Role::Server => Direction::Receive,
        }
    }

    /// Request bytes, moved by one call; time goes on by ten.
    pub(super) fn request(self, bytes: impl AsRef<[u8]>) -> Self {
        let direction = self.requests();
        self.moved(direction, bytes.as_ref(), usize::MAX)
    }

    pub(super) fn response(self, bytes: impl AsRef<[u8]>) -> Self {
        let direction = self.requests().reverse();
        self.moved(direction, bytes.as_ref(), usize::MAX)
    }

    /// Request bytes of which only the first `copied` are known, and the very last.
    pub(super) fn request_cut(self, bytes: impl AsRef<[u8]>, copied: usize) -> Self {
        let direction = self.requests();
        self.moved(direction, bytes.as_ref(), copied)
    }

    pub(super) fn response_cut(self, bytes: impl AsRef<[u8]>, copied: usize) -> Self {
        let direction = self.requests().reverse();
        self.moved(direction, bytes.as_ref(), copied)
    }

    pub(super) fn moved(mut self, direction: Direction, bytes: &[u8], copied: usize) -> Self {
        if self.last.replace(direction).is_some_and(|last| last != direction) {
            self.turn += 1;
        }
        self.time += 10;
        let next = match direction {
            Direction::Send => &mut self.sent,
            Direction::Receive => &mut self.received,
        };
        let offset = std::mem::replace(next, next.advance(bytes.len() as u32));
        let head = bytes[..copied.min(bytes.len())].to_vec();
        let tail = bytes[head.len().max(bytes.len().saturating_sub(32))..].to_vec();
        let data = Data {
            conn: CONN,
            time: KernelTime(self.time),
            pid: Pid(1),
            tid: Tid(self.turn + 1),
            direction,
            offset,
            len: bytes.len() as u32,
            turn: self.turn,
            waits: 0,
            task: None,
            callback: None,
            head: &[],
            tail: &[],
            unreadable: None,
        };
        self.records.push(Record::Data { data, head, tail });
        self
    }

    /// Bytes of a request that no event tells of.
    pub(super) fn request_unseen(self, bytes: impl AsRef<[u8]>) -> Self {
        self.request(bytes).lost()
    }

    pub(super) fn response_unseen(self, bytes: impl AsRef<[u8]>) -> Self {
        self.response(bytes).lost()
    }

    fn lost(mut self) -> Self {
        self.records.pop();
        self
    }

    pub(super) fn closed(mut self, kind: CloseKind, errno: i32) -> Self {
        self.time += 10;
        self.records.push(Record::Closed(Closed {
            conn: CONN,
            time: KernelTime(self.time),
            kind,
            errno,
            turns: self.turn,
            sent_end: None,
            received_end: None,
        }));
        self
    }

    /// Tells where both streams end, as capture does if it can.
    pub(super) fn with_ends(mut self) -> Self {
        let (sent, received) = (self.sent, self.received);
        if let Some(Record::Closed(closed)) = self.records.last_mut() {
            closed.sent_end = Some(sent);
            closed.received_end = Some(received);
        }
        self
    }

    pub(super) fn gone(self) -> Self {
        self.closed(CloseKind::Gone, 0)
    }

    pub(super) fn run(&self) -> Run {
        Run::of(&self.records, Options::default())
    }
}

/// What came out.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) connections: Connections,
    pub(super) out: Vec<Observation>,
}

impl Run {
    pub(super) fn of(records: &[Record], options: Options) -> Self {
        let mut connections = Connections::new(options);
        let mut out = Vec::new();
        for record in records {
            connections.on_event(&record.event(), &mut out);
        }
        check_announcements(&out, &connections);
        Self { connections, out }
    }

    pub(super) fn exchanges(&self) -> Vec<&Exchange> {
        self.out
            .iter()
            .filter_map(|observation| match observation {
                Observation::Finished(exchange) => Some(&**exchange),
                _ => None,
            })
            .collect()
    }

    /// The only exchange; nothing was lost.
    pub(super) fn one(&self) -> &Exchange {
        assert_eq!(self.losses(), [], "{self:#?}");
        let exchanges = self.exchanges();
        assert_eq!(exchanges.len(), 1, "{self:#?}");
        exchanges[0]
    }

    pub(super) fn losses(&self) -> Vec<(LossReason, u32)> {
        self.out
            .iter()
            .filter_map(|observation| match observation {
                Observation::Lost { reason, exchanges, .. } => Some((*reason, *exchanges)),
                _ => None,
            })
            .collect()
    }

    pub(super) fn lost(&self) -> u32 {
        self.losses().iter().map(|(_, exchanges)| exchanges).sum()
    }

    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        self.out
            .iter()
            .filter_map(|observation| match observation {
                Observation::Verdict { verdict, .. } => Some(*verdict),
                _ => None,
            })
            .collect()
    }

    /// Status (zero if none), outcome, start and end of every exchange.
    pub(super) fn summary(&self) -> Vec<(u16, Outcome, u64, u64)> {
        self.exchanges()
            .iter()
            .map(|exchange| {
                let status = exchange.response.as_ref().map_or(0, |response| response.status);
                (status, exchange.outcome, exchange.start.0, exchange.end.0)
            })
            .collect()
    }
}

/// Every exchange is announced once and ends at most once, and none is open without a connection.
fn check_announcements(out: &[Observation], connections: &Connections) {
    let mut open = Vec::new();
    for observation in out {
        match observation {
            Observation::RequestBegan { id, .. } => {
                assert!(!open.contains(id), "began twice: {out:#?}");
                open.push(*id);
            }
            Observation::ResponseBegan { id, .. } => assert!(open.contains(id), "{out:#?}"),
            Observation::Finished(exchange) => {
                let at = open.iter().position(|id| *id == exchange.id);
                open.remove(at.unwrap_or_else(|| panic!("not announced: {out:#?}")));
                assert!(exchange.start <= exchange.end);
            }
            Observation::Lost { id: Some(id), .. } => {
                let at = open.iter().position(|open| open == id);
                open.remove(at.unwrap_or_else(|| panic!("not announced: {out:#?}")));
            }
            Observation::Lost { .. }
            | Observation::Verdict { .. }
            | Observation::Exported { .. } => {}
        }
    }
    if connections.is_empty() {
        assert_eq!(open, [], "{out:#?}");
        assert_eq!(connections.buffered_bytes(), 0);
    }
}
