//! What an earlier run left in a directory.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::cursor::Cursor;
use super::format::{MAGIC, head_at};
use super::{DAMAGED, SEGMENT, Segment, Spool};

/// Takes stock of a directory, whose lock is held.
pub(super) fn recover(directory: &Path, max_bytes: u64, lock: File) -> io::Result<Spool> {
    let (cursor, position) = Cursor::open(&directory.join("cursor"))?;
    let mut segments = Vec::new();
    let mut damaged = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match numbered(&entry.path()) {
            Some((number, SEGMENT)) => segments.push((number, entry.metadata()?.len())),
            Some((number, _)) => damaged.push((number, entry.metadata()?.len())),
            None => {}
        }
    }
    segments.sort_unstable();
    damaged.sort_unstable();
    let numbers = segments.iter().chain(&damaged).map(|(number, _)| *number);
    let next_number = numbers.chain([position.segment]).max().unwrap_or(0) + 1;
    let mut spool = Spool {
        directory: directory.to_owned(),
        max_bytes,
        segments: VecDeque::new(),
        writer: None,
        reader: None,
        read_at: MAGIC.len() as u64,
        taken: None,
        cursor,
        damaged: VecDeque::new(),
        next_number,
        _lock: lock,
    };
    spool.damaged =
        damaged.into_iter().map(|(number, bytes)| (spool.path(number, DAMAGED), bytes)).collect();
    for (number, bytes) in segments {
        if number < position.segment {
            // Delivered, but the agent ended before it was removed.
            fs::remove_file(spool.path(number, SEGMENT))?;
            continue;
        }
        let start = if number == position.segment { position.offset } else { 0 };
        let (start, spans) = survey(&File::open(spool.path(number, SEGMENT))?, bytes, start);
        if spool.segments.is_empty() {
            spool.read_at = start;
        }
        spool.segments.push_back(Segment { number, bytes, spans, damaged: false });
    }
    Ok(spool)
}

/// Where the first request begins that was not delivered, and how many spans there are from there.
/// What cannot be read is found to be damaged when its turn comes.
fn survey(file: &File, len: u64, delivered: u64) -> (u64, u64) {
    let begin = MAGIC.len() as u64;
    let mut at = begin;
    let (mut spans, mut after) = (0, None);
    while let Ok(Ok((head, end))) = head_at(file, len, at) {
        if at == delivered {
            after = Some(spans);
        }
        spans += u64::from(head.spans());
        at = end;
    }
    if at == delivered {
        after = Some(spans);
    }
    // A cursor that points to no record is wrong: better twice than never.
    after.map_or((begin, spans), |before| (delivered, spans - before))
}

/// The number and kind in a file's name.
fn numbered(path: &Path) -> Option<(u64, &'static str)> {
    let kinds = [SEGMENT, DAMAGED];
    let kind = kinds.into_iter().find(|kind| path.extension().is_some_and(|it| it == *kind))?;
    Some((u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok()?, kind))
}
