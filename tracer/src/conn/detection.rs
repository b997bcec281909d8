//! Finding out what a connection speaks, by content, at the starts of its messages.

use crate::event::{Direction, StreamOffset};
use crate::protocol::fastcgi::FastCgi;
use crate::protocol::http1::Http1;
use crate::protocol::{Joint, Likeness, Moment, Protocol, Segment};

/// Message starts that looked like nothing we know, after which a connection is given up.
const MAX_MISSES: u8 = 4;
/// Bytes that tell any two messages' beginnings apart.
const PREFIX: usize = 8;

/// How a protocol is recognised, and followed on a connection whose requests travel one way.
type Known = (fn(&[u8]) -> Likeness, fn(Direction) -> Box<dyn Protocol>);
/// All protocols. No message looks like one of two of them.
const KNOWN: [Known; 2] = [
    (Http1::likeness, |requests| Box::new(Http1::new(requests))),
    (FastCgi::likeness, |requests| Box::new(FastCgi::new(requests))),
];

/// A connection nobody knows yet.
#[derive(Debug, Default)]
pub(super) struct Detection {
    misses: u8,
    /// Turn of the last message that was looked at.
    turn: Option<u32>,
    /// Some message looked like a protocol and was not.
    pub(super) refuted: bool,
    prefix: Option<Box<Prefix>>,
}

/// First bytes of a message, too few to judge.
#[derive(Debug)]
pub(super) struct Prefix {
    direction: Direction,
    moment: Moment,
    offset: StreamOffset,
    bytes: [u8; PREFIX],
    len: usize,
}

impl Prefix {
    /// As it came.
    pub(super) fn segment(&self) -> Segment<'_> {
        Segment {
            direction: self.direction,
            moment: self.moment,
            offset: self.offset,
            joint: Joint::Contiguous,
            bytes: &self.bytes[..self.len],
            rest: 0,
            tail: &[],
        }
    }
}

/// What a segment showed.
pub(super) enum Finding {
    /// Nothing yet.
    Undecided,
    /// A connection that seems to speak this, and the bytes held back before this segment.
    Speaks(Box<dyn Protocol>, Option<Box<Prefix>>),
    /// Nothing we know.
    GiveUp,
}

impl Detection {
    /// Looks at a segment. Only the start of a turn is a message start.
    pub(super) fn on_segment(&mut self, segment: &Segment<'_>) -> Finding {
        let prefix = self.prefix.take().filter(|prefix| {
            prefix.direction == segment.direction
                && prefix.moment.turn == segment.moment.turn
                && segment.joint == Joint::Contiguous
        });
        let turn = segment.moment.turn;
        if prefix.is_none() && self.turn.replace(turn) == Some(turn) {
            return Finding::Undecided;
        }
        let mut start = [0; PREFIX];
        let start = match &prefix {
            None => segment.bytes,
            Some(prefix) => {
                let more = segment.bytes.len().min(PREFIX - prefix.len);
                start[..prefix.len].copy_from_slice(&prefix.bytes[..prefix.len]);
                start[prefix.len..prefix.len + more].copy_from_slice(&segment.bytes[..more]);
                &start[..prefix.len + more]
            }
        };
        for (likeness, follow) in KNOWN {
            let requests = match likeness(start) {
                Likeness::Request => segment.direction,
                Likeness::Response => segment.direction.reverse(),
                Likeness::Either => return self.hold(prefix, segment),
                Likeness::Neither => continue,
            };
            return Finding::Speaks(follow(requests), prefix);
        }
        self.miss()
    }

    /// Notes that a message start was not what it looked like.
    pub(super) fn refute(&mut self, turn: u32) -> Finding {
        self.refuted = true;
        self.turn = Some(turn);
        self.miss()
    }

    /// Whether every segment so far was a message's continuation or unlike anything.
    pub(super) fn saw_no_start(&self) -> bool {
        !self.refuted && self.prefix.is_none()
    }

    fn miss(&mut self) -> Finding {
        self.misses += 1;
        if self.misses >= MAX_MISSES { Finding::GiveUp } else { Finding::Undecided }
    }

    /// Keeps bytes that begin both a request and a response.
    fn hold(&mut self, prefix: Option<Box<Prefix>>, segment: &Segment<'_>) -> Finding {
        let skipped = segment.bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        let bytes = if prefix.is_some() { segment.bytes } else { &segment.bytes[skipped..] };
        if segment.rest > 0 {
            return self.miss();
        }
        if bytes.is_empty() {
            // Empty lines only: the message starts later.
            self.turn = None;
            return Finding::Undecided;
        }
        let mut prefix = prefix.unwrap_or_else(|| {
            Box::new(Prefix {
                direction: segment.direction,
                moment: segment.moment,
                offset: segment.offset.advance(skipped as u32),
                bytes: [0; PREFIX],
                len: 0,
            })
        });
        let room = &mut prefix.bytes[prefix.len..];
        let taken = bytes.len().min(room.len());
        room[..taken].copy_from_slice(&bytes[..taken]);
        prefix.len += taken;
        self.prefix = Some(prefix);
        Finding::Undecided
    }
}
