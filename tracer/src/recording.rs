//! Event logs on disk: what `tracer record` writes and `tracer replay` reads.
//!
//! A recording holds everything the sans-IO core gets, in order, so that a replay gives the same
//! spans. It knows nothing of what the events mean, with one exception: command lines and
//! environments of processes never enter it, only the resources made of them. It does contain the
//! captured bytes of requests and responses, so [`create`] makes files that only their owner reads.
//!
//! ```text
//! recording = magic(8) version(u16) frame(Header) frame(Entry)*
//! frame     = length(u32) crc32(u32) payload     length and checksum of the payload
//! ```
//!
//! Integers are little-endian, payloads are in postcard encoding.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use flate2::Crc;
use serde::{Deserialize, Serialize};

use crate::event::{ClockOffset, Event, KernelTime, ProcessSeen};
use crate::target::Process;

const MAGIC: &[u8; 8] = b"TRACEREC";

/// Version of the format; grows with every change of [`Entry`] or of what it contains.
pub const FORMAT_VERSION: u16 = 6;

/// Longest payload of a frame; well above the largest message budget.
pub const MAX_FRAME: usize = 1 << 20;

/// Length and checksum.
const FRAME_HEAD: usize = 8;

/// What a recording says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Converts the recording's times.
    pub clock: ClockOffset,
    /// The agent that wrote it.
    pub agent_version: String,
}

/// One step of a recorded run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Entry<'a> {
    /// Something happened. Of processes only their existence is kept, see [`Entry::Process`].
    #[serde(borrow)]
    Event(Event<'a>),
    /// A process was resolved.
    Process(Arc<Process>),
    /// Time passed: timers of the core are due.
    Tick(KernelTime),
}

/// Why an entry could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The entry is larger than a reader would accept; nothing was written.
    #[error("an entry of {0} bytes does not fit into a recording; lower --message-budget")]
    TooLong(usize),
    /// The entry cannot be encoded; nothing was written.
    #[error("an entry cannot be encoded: {0}")]
    Encoding(postcard::Error),
    /// The file cannot be written.
    #[error("the recording cannot be written: {0}; is the disk full?")]
    Io(#[from] io::Error),
}

/// Why a recording could not be read on. Everything before it was delivered.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It does not begin like one.
    #[error("this is not a recording of `tracer record`")]
    NotARecording,
    /// It was written by another generation of the agent.
    #[error(
        "the recording has format version {found}, this agent reads version {FORMAT_VERSION}; \
         replay it with the agent that recorded it"
    )]
    Version {
        /// Its version.
        found: u16,
    },
    /// It ends within a frame.
    #[error(
        "the recording ends in the middle of the frame at byte {offset}: the recording agent was \
         killed or the disk was full; everything before was replayed"
    )]
    Truncated {
        /// Where the frame begins.
        offset: u64,
    },
    /// A frame is damaged.
    #[error(
        "the recording is damaged in the frame at byte {offset} ({reason}); everything before was \
         replayed; cut the file there with `truncate -s {offset}`, or copy it again"
    )]
    Corrupt {
        /// Where the frame begins.
        offset: u64,
        /// What is wrong with it.
        reason: Damage,
    },
    /// The file cannot be read.
    #[error("the recording cannot be read at byte {offset}: {source}")]
    Io {
        /// Where the frame begins.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
}

/// How a frame is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Its length is impossible.
    #[error("impossible length")]
    Length,
    /// Its checksum does not match.
    #[error("wrong checksum")]
    Checksum,
    /// Its checksum matches, but it holds no entry.
    #[error("unknown content")]
    Content,
}

/// Creates a file for a recording. It must not exist, and only its owner may read it: it will
/// hold parts of what the traced programs said to each other.
pub fn create(path: &Path) -> io::Result<BufWriter<File>> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(BufWriter::with_capacity(256 * 1024, file))
}

/// Writes a recording.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    frame: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a recording. `output` should be buffered.
    pub fn new(mut output: W, header: &Header) -> Result<Self, WriteError> {
        output.write_all(MAGIC)?;
        output.write_all(&FORMAT_VERSION.to_le_bytes())?;
        let mut writer = Self { output, frame: Vec::new() };
        writer.frame(header)?;
        Ok(writer)
    }

    /// Appends an entry, without the command line and environment it may have.
    pub fn write(&mut self, entry: &Entry<'_>) -> Result<(), WriteError> {
        match entry {
            Entry::Event(event) => self.event(event),
            Entry::Process(_) | Entry::Tick(_) => self.frame(entry),
        }
    }

    /// Appends an event, without the command line and environment it may have.
    pub fn event(&mut self, event: &Event<'_>) -> Result<(), WriteError> {
        let event = match event {
            Event::Process(seen) => {
                Event::Process(ProcessSeen { arguments: b"", environment: b"", ..seen.clone() })
            }
            other => other.clone(),
        };
        self.frame(&Entry::Event(event))
    }

    /// Flushes everything.
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.output.flush()?;
        Ok(self.output)
    }

    fn frame(&mut self, content: &impl Serialize) -> Result<(), WriteError> {
        self.frame.clear();
        self.frame.resize(FRAME_HEAD, 0);
        self.frame = postcard::to_extend(content, std::mem::take(&mut self.frame))
            .map_err(WriteError::Encoding)?;
        let (head, payload) = self.frame.split_at_mut(FRAME_HEAD);
        if payload.len() > MAX_FRAME {
            return Err(WriteError::TooLong(payload.len()));
        }
        // The cast cannot cut: see the bound above.
        head[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        head[4..].copy_from_slice(&checksum(payload).to_le_bytes());
        self.output.write_all(&self.frame)?;
        Ok(())
    }
}

/// Reads a recording.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    header: Header,
    payload: Vec<u8>,
    /// Where the next frame begins.
    offset: u64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning of a recording. `input` should be buffered.
    pub fn new(mut input: R) -> Result<Self, ReadError> {
        let mut start = [0; MAGIC.len() + 2];
        let read = read_up_to(&mut input, &mut start)
            .map_err(|source| ReadError::Io { offset: 0, source })?;
        let (magic, version) = start.split_at(MAGIC.len());
        if read < start.len() || magic != MAGIC {
            return Err(ReadError::NotARecording);
        }
        let found = u16::from_le_bytes([version[0], version[1]]);
        if found != FORMAT_VERSION {
            return Err(ReadError::Version { found });
        }
        let header = Header { clock: ClockOffset(0), agent_version: String::new() };
        let offset = start.len() as u64;
        let mut reader = Self { input, header, payload: Vec::new(), offset, ended: false };
        if !reader.read_frame()? {
            return Err(ReadError::Truncated { offset });
        }
        reader.header = decode(&reader.payload, offset)?;
        Ok(reader)
    }

    /// What the recording says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Position of the next frame, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next entry, borrowing from the reader's buffer; `None` at the end, and after an error.
    #[expect(clippy::should_implement_trait, reason = "entries borrow: no Iterator can give them")]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        // Pessimistic: whatever goes wrong below is the end.
        self.ended = true;
        let offset = self.offset;
        if !self.read_frame()? {
            return Ok(None);
        }
        let entry = decode(&self.payload, offset)?;
        self.ended = false;
        Ok(Some(entry))
    }

    /// Fills `payload` with that of the next frame; `false` at an orderly end.
    fn read_frame(&mut self) -> Result<bool, ReadError> {
        let offset = self.offset;
        let io = |source| ReadError::Io { offset, source };
        let mut head = [0; FRAME_HEAD];
        match read_up_to(&mut self.input, &mut head).map_err(io)? {
            0 => return Ok(false),
            FRAME_HEAD => {}
            _ => return Err(ReadError::Truncated { offset }),
        }
        // Both halves in one read: the length in the lower one.
        let head = u64::from_le_bytes(head);
        let (length, expected) = (head as u32 as usize, (head >> 32) as u32);
        if length == 0 || length > MAX_FRAME {
            return Err(ReadError::Corrupt { offset, reason: Damage::Length });
        }
        self.payload.resize(length, 0);
        if read_up_to(&mut self.input, &mut self.payload).map_err(io)? < length {
            return Err(ReadError::Truncated { offset });
        }
        if checksum(&self.payload) != expected {
            return Err(ReadError::Corrupt { offset, reason: Damage::Checksum });
        }
        self.offset += (FRAME_HEAD + length) as u64;
        Ok(true)
    }
}

fn decode<'a, T: Deserialize<'a>>(payload: &'a [u8], offset: u64) -> Result<T, ReadError> {
    match postcard::take_from_bytes(payload) {
        Ok((content, [])) => Ok(content),
        _ => Err(ReadError::Corrupt { offset, reason: Damage::Content }),
    }
}

fn checksum(payload: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(payload);
    crc.sum()
}

/// Reads until the buffer is full or the input ends; the number of bytes read.
fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
