//! HTTP/2 from an application to its server (RFC 9113), frame by frame: the context of a request is
//! written into its header block, and every other frame passes as it is.
//!
//! Nothing is coded anew. Settings, priorities, flow control, pings, resets and whatever is invented
//! next are the two ends' own business, and so are the frames that the server sends, which are not
//! looked at. Sans-IO. Must not know sockets, nor whose context is written.

mod hpack;
mod huffman;

use hpack::{Decoder, Found, Irreplaceable};

use super::{Fed, OpaqueReason};
use crate::exchange::Field;

/// Bytes of a frame's header.
const FRAME_HEADER: usize = 9;
/// Bytes of a frame that every receiver takes.
const MAX_FRAME: usize = 16 * 1024;
/// Bytes of a header block's frames at most.
const MAX_BLOCK: usize = 64 * 1024;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The application's side of a connection, behind the preface.
#[derive(Debug, Default)]
pub struct Requests {
    state: State,
    decoder: Decoder,
    /// Bytes of the stream that were taken.
    taken: u64,
    /// Whole and partial frames of the current header block.
    frames: Vec<u8>,
    /// The beginning of the next frame's header.
    header: Vec<u8>,
    /// Where the current block begins.
    head: u64,
    /// The stream of the latest request.
    latest: u32,
    block: Option<Block>,
    opaque: Option<OpaqueReason>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// In a frame's header.
    #[default]
    Header,
    /// In a frame that passes.
    Payload { left: u32 },
    /// In a frame of a header block.
    Fragment { left: u32, ends: bool },
    /// A request's block is complete.
    Asked,
}

/// A complete header block.
#[derive(Debug)]
struct Block {
    stream: u32,
    /// Flags of the first frame.
    flags: u8,
    /// What stands before the fields in the first frame, and how much behind them.
    prefix: Vec<u8>,
    padding: usize,
    /// Bytes that a frame may have.
    most: usize,
    fields: Vec<u8>,
    found: Vec<Found>,
}

impl Requests {
    /// Frames from `offset` of the application's stream on. After an upgrade from HTTP/1.1, the
    /// request on stream 1 is behind them.
    pub fn new(offset: u64, upgraded: bool) -> Self {
        Self { taken: offset, latest: u32::from(upgraded), ..Self::default() }
    }

    /// Takes bytes of the application's.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Fed {
        if let Some(reason) = self.opaque {
            return Fed::Opaque(reason);
        }
        let fed = self.step(input, out);
        match fed {
            Fed::Taken(used) | Fed::Pass(used) | Fed::Head(used) | Fed::Http2(used) => {
                self.taken += used as u64;
            }
            Fed::Opaque(reason) => {
                self.opaque = Some(reason);
                self.finish(out);
            }
        }
        fed
    }

    /// Bytes of the stream before the current head.
    pub fn head_offset(&self) -> u64 {
        self.head
    }

    /// The current head's stream.
    pub fn stream(&self) -> u32 {
        self.latest
    }

    /// The context fields of the current head.
    pub fn fields(&self) -> Vec<Field> {
        let found = self.block.iter().flat_map(|block| &block.found);
        found.map(|found| found.field().clone()).collect()
    }

    /// Writes the current head: with these context fields and no others, or as it is. False if what
    /// stands there cannot be replaced, and stays.
    pub fn settle(&mut self, fields: Option<&[(&'static str, String)]>, out: &mut Vec<u8>) -> bool {
        self.state = State::Header;
        let frames = std::mem::take(&mut self.frames);
        let Some(block) = self.block.take() else {
            return false;
        };
        let (rewritten, is_settled) = match self.rewritten(&block, fields) {
            Ok(rewritten) => (Ok(rewritten), true),
            Err(Irreplaceable) => (self.rewritten(&block, None), false),
        };
        match rewritten {
            Ok(rewritten) if rewritten != block.fields => block.write(&rewritten, out),
            Ok(_) | Err(Irreplaceable) => out.extend_from_slice(&frames),
        }
        is_settled
    }

    fn rewritten(
        &mut self,
        block: &Block,
        fields: Option<&[(&'static str, String)]>,
    ) -> Result<Vec<u8>, Irreplaceable> {
        self.decoder.rewrite(&block.fields, &block.found, fields)
    }

    /// How many of the next bytes pass as they are, whatever they are.
    pub fn unread(&self) -> u64 {
        match self.state {
            _ if self.opaque.is_some() => u64::MAX,
            State::Payload { left } => u64::from(left).saturating_sub(1),
            _ => 0,
        }
    }

    /// So many of them passed.
    pub fn skip(&mut self, bytes: u64) {
        if let State::Payload { left } = &mut self.state {
            *left = left.saturating_sub(bytes as u32).max(1);
            self.taken += bytes;
        }
    }

    /// The application has sent its last byte: adds what is still withheld to `out`.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.frames);
        out.append(&mut self.header);
    }

    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Fed {
        match self.state {
            State::Header => self.begin_frame(input, out),
            State::Payload { left } => {
                let used = input.len().min(left as usize);
                self.state = after(State::Payload { left: left - used as u32 });
                Fed::Pass(used)
            }
            State::Fragment { left, ends } => {
                let used = input.len().min(left as usize);
                self.frames.extend_from_slice(&input[..used]);
                self.extend_block(used, left - used as u32, ends, out)
            }
            State::Asked => Fed::Taken(0),
        }
    }

    fn begin_frame(&mut self, input: &[u8], out: &mut Vec<u8>) -> Fed {
        let used = input.len().min(FRAME_HEADER - self.header.len());
        self.header.extend_from_slice(&input[..used]);
        let Some(header) = self.header.as_array().map(|bytes| FrameHeader::new(*bytes)) else {
            return Fed::Taken(used);
        };
        let is_in_block = !self.frames.is_empty();
        let is_expected = match header.kind {
            CONTINUATION => is_in_block && header.stream == stream_of(&self.frames),
            // Applications open odd streams.
            HEADERS => !is_in_block && header.stream % 2 == 1,
            _ => !is_in_block,
        };
        let reason = if !is_expected {
            Some(OpaqueReason::Http2Frame)
        } else if !matches!(header.kind, HEADERS | CONTINUATION) {
            None
        } else if self.frames.len() + header.len as usize > MAX_BLOCK {
            Some(OpaqueReason::TooLarge)
        } else {
            if !is_in_block {
                self.head = self.taken + used as u64 - FRAME_HEADER as u64;
            }
            self.frames.append(&mut self.header);
            return self.extend_block(used, header.len, header.flags & END_HEADERS != 0, out);
        };
        if let Some(reason) = reason {
            // The header's last bytes come again with what passes.
            self.header.truncate(self.header.len() - used);
            return Fed::Opaque(reason);
        }
        out.append(&mut self.header);
        self.state = after(State::Payload { left: header.len });
        Fed::Taken(used)
    }

    /// More of the current block is there.
    fn extend_block(&mut self, used: usize, left: u32, ends: bool, out: &mut Vec<u8>) -> Fed {
        self.state = after(State::Fragment { left, ends });
        if left > 0 || !ends {
            return Fed::Taken(used);
        }
        let read = Block::new(&self.frames).and_then(|block| {
            let found = self.decoder.read(&block.fields).ok()?;
            Some(Block { found, ..block })
        });
        let Some(block) = read else {
            // The last bytes come again with what passes.
            self.frames.truncate(self.frames.len() - used);
            return Fed::Opaque(OpaqueReason::Http2Fields);
        };
        let is_request = block.stream > self.latest;
        let stream = block.stream;
        self.block = Some(block);
        if is_request {
            self.latest = stream;
            self.state = State::Asked;
            Fed::Head(used)
        } else {
            self.settle(None, out);
            Fed::Taken(used)
        }
    }
}

/// The state once what is left is as much as `state` says.
fn after(state: State) -> State {
    match state {
        State::Payload { left: 0 } | State::Fragment { left: 0, .. } => State::Header,
        state => state,
    }
}

/// A frame's header (section 4.1).
#[derive(Clone, Copy)]
struct FrameHeader {
    len: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl FrameHeader {
    fn new(bytes: [u8; FRAME_HEADER]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        let len = u32::from_be_bytes([0, a, b, c]);
        Self { len, kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff }
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.len.to_be_bytes()[1..]);
        out.extend_from_slice(&[self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
    }
}

/// The stream of the first of these frames; zero if there is none.
fn stream_of(frames: &[u8]) -> u32 {
    frames.first_chunk().map_or(0, |header| FrameHeader::new(*header).stream)
}

impl Block {
    /// The block in these frames, which are whole; `None` if one of them breaks the rules.
    fn new(mut frames: &[u8]) -> Option<Self> {
        let mut next = || {
            let header = FrameHeader::new(*frames.first_chunk()?);
            let (frame, rest) = frames.split_at_checked(FRAME_HEADER + header.len as usize)?;
            frames = rest;
            Some((header, &frame[FRAME_HEADER..]))
        };
        let (FrameHeader { flags, stream, len, .. }, payload) = next()?;
        let is_padded = flags & PADDED != 0;
        let padding = if is_padded { usize::from(*payload.first()?) } else { 0 };
        let prefix = usize::from(is_padded) + if flags & PRIORITY != 0 { 5 } else { 0 };
        let mut fields = payload.get(prefix..payload.len().checked_sub(padding)?)?.to_vec();
        let prefix = payload[..prefix].to_vec();
        while let Some((_, payload)) = next() {
            fields.extend_from_slice(payload);
        }
        let most = MAX_FRAME.max(len as usize);
        Some(Self { stream, flags, prefix, padding, most, fields, found: Vec::new() })
    }

    /// Writes frames with other fields.
    fn write(&self, fields: &[u8], out: &mut Vec<u8>) {
        let Self { stream, flags, ref prefix, padding, most, .. } = *self;
        let (first, mut rest) = fields.split_at(fields.len().min(most - prefix.len() - padding));
        let len = (prefix.len() + first.len() + padding) as u32;
        let flags = if rest.is_empty() { flags | END_HEADERS } else { flags & !END_HEADERS };
        FrameHeader { len, kind: HEADERS, flags, stream }.write(out);
        out.extend_from_slice(prefix);
        out.extend_from_slice(first);
        out.resize(out.len() + padding, 0);
        while !rest.is_empty() {
            let fragment;
            (fragment, rest) = rest.split_at(rest.len().min(most));
            let flags = if rest.is_empty() { END_HEADERS } else { 0 };
            let len = fragment.len() as u32;
            FrameHeader { len, kind: CONTINUATION, flags, stream }.write(out);
            out.extend_from_slice(fragment);
        }
    }
}

#[cfg(test)]
mod tests;
