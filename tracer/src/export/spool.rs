//! A queue on disk for requests that cannot be delivered now. It outlives the agent, however that
//! ends, and is bounded.
//!
//! A directory holds segments, numbered in the order they were written, and a cursor that says how
//! far they were delivered. A segment is written to until it is large, and removed once all of it
//! was delivered. What was written before a restart is never written to again.
//!
//! - **Acknowledged** is a request once [`Spool::append`] returned: its bytes are synced, so neither
//!   a killed agent nor a power failure loses it. Deliveries are noted without syncing: a killed
//!   agent delivers at most one request twice, a power failure at most what the file system had not
//!   yet written of the cursor.
//! - **At the size limit** quarantined files go first, then the oldest segment: old traces are worth
//!   less than new ones.
//! - **Damage** costs what cannot be read. The segment is kept under another name, for whoever wants
//!   to look, and the next one is read.
//! - **A full disk** makes `append` fail and changes nothing.
//!
//! Knows requests as bytes with a number of spans, not what is in them.

mod cursor;
pub mod format;
mod recovery;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};

use cursor::{Cursor, Position};
use format::{Found, HEAD_LEN, Head, MAGIC, record_at};
use recovery::recover;

/// Share of the spool that one segment may take, so that dropping one drops little.
const SEGMENTS: u64 = 16;
/// Bounds of a segment's size.
const LEAST_SEGMENT: u64 = 64 * 1024;
const MOST_SEGMENT: u64 = 16 * 1024 * 1024;
/// Files looked at to tell whether a directory is a spool.
const MOST_LOOKED_AT: usize = 1_000;
/// Names of segments and of what is kept of damaged ones.
const SEGMENT: &str = "segment";
const DAMAGED: &str = "damaged";

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The directory or a file in it.
    #[error(
        "cannot use {path} as a spool: {source}; give --spool a directory that the agent may write \
         to", path = path.display()
    )]
    Files {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else has it.
    #[error(
        "the spool {path} is in use by another agent; give each its own --spool",
        path = path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

/// A request that waits in a spool.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) body: Bytes,
    pub(super) spans: u32,
    segment: u64,
    end: u64,
}

/// A step through a spool.
#[derive(Debug, Default)]
pub(super) struct Next {
    /// The oldest request; `None` if there is none.
    pub(super) record: Option<Record>,
    /// Spans that were found to be damaged before it.
    pub(super) damaged: u64,
}

/// The spool of one destination. Does blocking I/O.
#[derive(Debug)]
pub(super) struct Spool {
    directory: PathBuf,
    max_bytes: u64,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// The last segment, while it may be written to.
    writer: Option<File>,
    /// The first segment, once it was read from.
    reader: Option<File>,
    /// Where the oldest request begins, in the first segment.
    read_at: u64,
    /// The request that is being delivered, if it is still in a segment.
    taken: Option<Record>,
    cursor: Cursor,
    /// Damaged files that were kept, oldest first, with their sizes.
    damaged: VecDeque<(PathBuf, u64)>,
    next_number: u64,
    /// Held as long as the spool is in use.
    _lock: File,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    /// Spans in it that were not delivered or given up.
    spans: u64,
    damaged: bool,
}

impl Spool {
    /// Opens the spool in a directory, which is created if need be.
    pub(super) fn open(directory: &Path, max_bytes: u64) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Files { path: directory.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let lock = create(&directory.join("lock")).map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => SpoolError::InUse { path: directory.to_owned() },
            error => failed(error.into()),
        })?;
        recover(directory, max_bytes, lock).map_err(failed)
    }

    /// Spans that wait.
    pub(super) fn spans(&self) -> u64 {
        self.segments.iter().map(|segment| segment.spans).sum()
    }

    /// Puts a request at the end and syncs it. Gives the number of older spans that were dropped
    /// to make room. After an error, the spool is as it was but for those.
    pub(super) fn append(&mut self, body: &[u8], spans: u32) -> Appended {
        let Some(head) = Head::of(body, spans) else {
            return Appended::refused(io::ErrorKind::FileTooLarge.into());
        };
        let needed = (HEAD_LEN + body.len()) as u64;
        if needed + MAGIC.len() as u64 > self.max_bytes {
            return Appended::refused(io::ErrorKind::StorageFull.into());
        }
        let room = self.segment_bytes();
        if self.segments.back().is_some_and(|last| last.bytes + needed > room) {
            self.writer = None;
        }
        let mut dropped = 0;
        let mut outcome = Ok(());
        while self.bytes() + needed + MAGIC.len() as u64 > self.max_bytes && outcome.is_ok() {
            outcome = self.drop_oldest().map(|spans| dropped += spans);
        }
        let outcome = outcome.and_then(|()| self.write(head, body));
        if outcome.is_ok()
            && let Some(last) = self.segments.back_mut()
        {
            last.bytes += needed;
            last.spans += u64::from(spans);
        }
        Appended { dropped, outcome }
    }

    fn segment_bytes(&self) -> u64 {
        (self.max_bytes / SEGMENTS).clamp(LEAST_SEGMENT, MOST_SEGMENT)
    }

    fn bytes(&self) -> u64 {
        let segments: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        segments + self.damaged.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }

    fn write(&mut self, head: Head, body: &[u8]) -> io::Result<()> {
        let file = match self.writer.take() {
            Some(file) => file,
            None => self.begin_segment()?,
        };
        let Some(last) = self.segments.back() else { return Err(io::ErrorKind::NotFound.into()) };
        let mut record = Vec::with_capacity(HEAD_LEN + body.len());
        record.extend(head.encode());
        record.extend(body);
        let written = file.write_all_at(&record, last.bytes).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // What it left is cut off here, or else found to be unfinished. After a failed sync
            // nothing is known of the file's last bytes: the next request begins a new one.
            let _ = file.set_len(last.bytes);
            if last.bytes == MAGIC.len() as u64 {
                let number = last.number;
                self.segments.pop_back();
                let _ = fs::remove_file(self.path(number, SEGMENT));
            }
            return Err(error);
        }
        self.writer = Some(file);
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<File> {
        let number = self.next_number;
        let path = self.path(number, SEGMENT);
        let file = create(&path)?;
        let begun = file
            .write_all_at(&MAGIC, 0)
            // So that the name is there after a power failure, too.
            .and_then(|()| File::open(&self.directory)?.sync_all());
        if let Err(error) = begun {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.next_number += 1;
        if self.segments.is_empty() {
            self.read_at = MAGIC.len() as u64;
            self.reader = None;
        }
        let bytes = MAGIC.len() as u64;
        self.segments.push_back(Segment { number, bytes, spans: 0, damaged: false });
        Ok(file)
    }

    /// Frees the oldest file; gives the spans that were lost with it.
    fn drop_oldest(&mut self) -> io::Result<u64> {
        if let Some((path, _)) = self.damaged.pop_front() {
            remove(&path)?;
            return Ok(0);
        }
        let Some(first) = self.segments.front() else {
            return Err(io::ErrorKind::StorageFull.into());
        };
        let number = first.number;
        let mut lost = first.spans;
        if let Some(record) = self.taken.take_if(|record| record.segment == number) {
            // It is on its way: what becomes of it is counted there.
            lost = lost.saturating_sub(u64::from(record.spans));
        }
        remove(&self.path(number, SEGMENT))?;
        self.forget_first();
        Ok(lost)
    }

    fn forget_first(&mut self) {
        self.segments.pop_front();
        if self.segments.is_empty() {
            self.writer = None;
        }
        self.reader = None;
        self.read_at = MAGIC.len() as u64;
    }

    /// The oldest request, which stays in the spool until it is acknowledged.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        let mut next = Next::default();
        while let Some(first) = self.segments.front() {
            let (number, len) = (first.number, first.bytes);
            let found = match self.read(number, len) {
                Ok(found) => found,
                // A disk that fails is damage like any other.
                Err(error) if error.kind() != io::ErrorKind::OutOfMemory => Found::Lost,
                Err(error) => return Err(error),
            };
            // Invariant: there is a first segment.
            let Some(first) = self.segments.front_mut() else { break };
            match found {
                Found::Record { body, spans, end } => {
                    let record = Record { body, spans, segment: number, end };
                    self.taken = Some(record.clone());
                    next.record = Some(record);
                    break;
                }
                Found::Damaged { spans, end } => {
                    let spans = u64::from(spans).min(first.spans);
                    next.damaged += spans;
                    first.spans -= spans;
                    first.damaged = true;
                    self.read_at = end;
                }
                Found::Lost => {
                    next.damaged += std::mem::take(&mut first.spans);
                    first.damaged = true;
                    self.read_at = len;
                }
                // Never acknowledged, so nothing is lost.
                Found::Unfinished | Found::End => self.finish_first()?,
            }
        }
        Ok(next)
    }

    fn read(&mut self, number: u64, len: u64) -> io::Result<Found> {
        if self.read_at >= len {
            return Ok(Found::End);
        }
        let file = if let Some(file) = self.reader.take() {
            file
        } else {
            let file = File::open(self.path(number, SEGMENT))?;
            let mut magic = [0; MAGIC.len()];
            file.read_exact_at(&mut magic, 0)?;
            if magic != MAGIC {
                return Ok(Found::Lost);
            }
            file
        };
        let found = record_at(&file, len, self.read_at)?;
        self.reader = Some(file);
        Ok(found)
    }

    /// All of the first segment was delivered, or what was not cannot be read.
    fn finish_first(&mut self) -> io::Result<()> {
        let Some(first) = self.segments.front() else { return Ok(()) };
        let path = self.path(first.number, SEGMENT);
        if first.damaged {
            let kept = self.path(first.number, DAMAGED);
            match fs::rename(&path, &kept) {
                Ok(()) => self.damaged.push_back((kept, first.bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        } else {
            remove(&path)?;
        }
        self.forget_first();
        Ok(())
    }

    /// The request was delivered, or never will be: it leaves the spool.
    pub(super) fn acknowledge(&mut self, record: &Record) -> io::Result<()> {
        self.taken = None;
        let Some(first) = self.segments.front_mut() else { return Ok(()) };
        if first.number != record.segment {
            // It had to make room meanwhile.
            return Ok(());
        }
        first.spans = first.spans.saturating_sub(u64::from(record.spans));
        self.read_at = record.end;
        let done = record.end >= first.bytes;
        self.cursor.advance(Position { segment: record.segment, offset: record.end })?;
        if done { self.finish_first() } else { Ok(()) }
    }

    /// The request was not delivered. Whether it is still there for another time.
    pub(super) fn put_back(&mut self, record: &Record) -> bool {
        self.taken = None;
        self.segments.front().is_some_and(|first| first.number == record.segment)
    }

    fn path(&self, number: u64, kind: &str) -> PathBuf {
        self.directory.join(format!("{number:016x}.{kind}"))
    }
}

/// What became of a request to append.
#[derive(Debug)]
pub(super) struct Appended {
    /// Older spans that had to make room.
    pub(super) dropped: u64,
    /// Whether it is in the spool.
    pub(super) outcome: io::Result<()>,
}

impl Appended {
    fn refused(error: io::Error) -> Self {
        Self { dropped: 0, outcome: Err(error) }
    }
}

/// Whether a directory looks like a spool that is not empty.
pub(super) fn holds_requests(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .take(MOST_LOOKED_AT)
        .any(|entry| entry.path().extension().is_some_and(|extension| extension == SEGMENT))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        // Whoever did it, it is what we want.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Opens a file to read and write that only we may look into: spans say much of what goes on.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests;
