//! One direction's bytes cut into records, however they are split, and where it stands when some
//! of them are unknown.
//!
//! A record's length lets unknown content be passed. Where unknown bytes reach beyond a record,
//! the next one is looked for at the start of a turn only, or the end of all at the very end of
//! what is known. Must not know what records mean for an exchange.

use super::record::{Header, Kind, LONG_HEADER, Parsed, parse};
use crate::event::StreamOffset;
use crate::protocol::Moment;

/// Reading state of one direction.
#[derive(Debug)]
pub(super) struct Records {
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Out of step: a record is looked for from this turn on.
    Lost { from: u32 },
    /// Where a record should start, or in its header.
    Header(Partial),
    /// In the content of a record, so far from its end.
    Content { header: Header, left: u16 },
    /// Behind it.
    Padding { left: u8 },
    /// Somewhere in a message.
    Blind(Ending),
}

/// The beginning of a header.
#[derive(Debug, Default)]
struct Partial {
    bytes: [u8; LONG_HEADER],
    len: usize,
    /// Who moved its first byte, and where that stands.
    began: Option<(Moment, StreamOffset)>,
}

/// The last known bytes, as long as nothing unknown follows them.
#[derive(Debug, Default)]
struct Ending {
    bytes: [u8; LONG_HEADER],
    len: usize,
    /// What is unknown before them was seen to move, but not copied.
    uncopied: bool,
}

/// What known bytes are.
#[derive(Debug)]
pub(super) enum Item<'b> {
    /// Nothing that can be told yet.
    Nothing,
    /// Part of what was not understood before.
    Stray,
    /// No record, where one should start.
    NoRecord,
    /// A record starts; its header was begun by this one, here.
    Header(Header, Moment, StreamOffset),
    /// A piece of its content.
    Content(Header, &'b [u8]),
}

/// What unknown bytes are.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Content of this record was among them.
    pub(super) content: Option<Header>,
    /// They go on behind that record, or were part of none that is known.
    pub(super) beyond: bool,
}

impl Records {
    pub(super) fn new() -> Self {
        Self { place: Place::Lost { from: 0 } }
    }

    /// Takes something off the front of `bytes`, and says how much.
    pub(super) fn read<'b>(
        &mut self,
        bytes: &'b [u8],
        offset: StreamOffset,
        moment: Moment,
    ) -> (usize, Item<'b>) {
        match &mut self.place {
            Place::Lost { from } if moment.turn < *from => (bytes.len(), Item::Stray),
            Place::Lost { .. } => {
                self.place = Place::Header(Partial::default());
                self.read_header(bytes, offset, moment)
            }
            Place::Header(_) => self.read_header(bytes, offset, moment),
            Place::Content { header, left } => {
                let header = *header;
                let used = bytes.len().min(usize::from(*left));
                *left -= used as u16;
                if *left == 0 {
                    self.place = behind(header);
                }
                (used, Item::Content(header, &bytes[..used]))
            }
            Place::Padding { left } => {
                let used = bytes.len().min(usize::from(*left));
                *left -= used as u8;
                if *left == 0 {
                    self.place = Place::Header(Partial::default());
                }
                (used, Item::Nothing)
            }
            Place::Blind(ending) => {
                ending.push(bytes);
                (bytes.len(), Item::Nothing)
            }
        }
    }

    fn read_header<'b>(
        &mut self,
        bytes: &'b [u8],
        offset: StreamOffset,
        moment: Moment,
    ) -> (usize, Item<'b>) {
        let Place::Header(partial) = &mut self.place else {
            return (bytes.len(), Item::Nothing);
        };
        let held = partial.len;
        let (began, offset) = *partial.began.get_or_insert((moment, offset));
        let parsed = if held == 0 {
            parse(bytes)
        } else {
            let more = bytes.len().min(LONG_HEADER - held);
            partial.bytes[held..held + more].copy_from_slice(&bytes[..more]);
            parse(&partial.bytes[..held + more])
        };
        match parsed {
            Parsed::Header(header, len) => {
                self.place = if header.content > 0 {
                    Place::Content { header, left: header.content }
                } else {
                    behind(header)
                };
                (len - held, Item::Header(header, began, offset))
            }
            Parsed::Incomplete => {
                // No header is longer than what is held of one.
                partial.bytes[held..held + bytes.len()].copy_from_slice(bytes);
                partial.len += bytes.len();
                (bytes.len(), Item::Nothing)
            }
            Parsed::Invalid => (bytes.len(), Item::NoRecord),
        }
    }

    /// Passes unknown bytes, which were seen to move and not copied (`seen`), or not seen at all.
    pub(super) fn pass(&mut self, len: u64, seen: bool) -> Passed {
        let mut passed = Passed::default();
        if len == 0 {
            return passed;
        }
        match &mut self.place {
            Place::Blind(ending) => {
                *ending = Ending { uncopied: seen, ..Ending::default() };
                passed.beyond = true;
            }
            Place::Lost { .. } | Place::Header(_) => passed.beyond = true,
            Place::Content { header, left } => {
                let (header, content) = (*header, u64::from(*left));
                passed.content = Some(header);
                let padding = u64::from(header.padding);
                if len < content {
                    *left -= len as u16;
                } else if len < content + padding {
                    self.place = Place::Padding { left: (content + padding - len) as u8 };
                } else {
                    passed.beyond = len > content + padding;
                    self.place = Place::Header(Partial::default());
                }
            }
            Place::Padding { left } => {
                if len < u64::from(*left) {
                    *left -= len as u8;
                } else {
                    passed.beyond = len > u64::from(*left);
                    self.place = Place::Header(Partial::default());
                }
            }
        }
        passed
    }

    /// Goes on somewhere in a message, after bytes that were `seen` to move.
    pub(super) fn go_blind(&mut self, seen: bool) {
        self.place = Place::Blind(Ending { uncopied: seen, ..Ending::default() });
    }

    /// Does not believe in a record before this turn.
    pub(super) fn lose(&mut self, from: u32) {
        self.place = Place::Lost { from };
    }

    /// Expects a record next.
    pub(super) fn expect(&mut self) {
        self.place = Place::Header(Partial::default());
    }

    pub(super) fn is_blind(&self) -> bool {
        matches!(self.place, Place::Blind(_))
    }

    /// Whether all records so far are complete.
    pub(super) fn is_between(&self) -> bool {
        match &self.place {
            Place::Header(partial) => partial.len == 0,
            Place::Padding { .. } => true,
            Place::Lost { .. } | Place::Content { .. } | Place::Blind(_) => false,
        }
    }

    /// Blind: the header that the last known bytes are, if they are the end of a request.
    pub(super) fn end(&self) -> Option<Header> {
        let Place::Blind(ending) = &self.place else { return None };
        match parse(&ending.bytes[..ending.len]) {
            Parsed::Header(header, LONG_HEADER) if header.padding == 0 => {
                matches!(header.kind, Kind::End { .. }).then_some(header)
            }
            _ => None,
        }
    }

    /// Blind: whether the end of the request may be among bytes that were seen, but not copied.
    pub(super) fn may_have_ended(&self) -> bool {
        matches!(&self.place, Place::Blind(ending) if ending.uncopied && ending.len < LONG_HEADER)
    }

    /// Blind: whether the last bytes are known. If they are no end, there was none.
    pub(super) fn knows_ending(&self) -> bool {
        matches!(&self.place, Place::Blind(ending) if ending.len == LONG_HEADER)
    }
}

/// The place behind a record's content.
fn behind(header: Header) -> Place {
    match header.padding {
        0 => Place::Header(Partial::default()),
        left => Place::Padding { left },
    }
}

impl Ending {
    fn push(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(LONG_HEADER)..];
        let kept = self.len.min(LONG_HEADER - last.len());
        self.bytes.copy_within(self.len - kept..self.len, 0);
        self.bytes[kept..kept + last.len()].copy_from_slice(last);
        self.len = kept + last.len();
    }
}
