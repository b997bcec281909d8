//! How requests lie in a segment: told from damage and from the end of a write that was cut off.
//! Knows bytes, not files.
//!
//! A segment is [`MAGIC`] and then records: a head of 16 bytes and a body. The head is four 32-bit
//! numbers, little-endian: length of the body, spans in it, checksum (CRC-32) of the body, checksum
//! of the three before. So a damaged body costs itself, a damaged head the rest of its segment, and
//! what a crash left unfinished is no damage at all.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;

/// How a segment begins.
pub const MAGIC: [u8; 8] = *b"tracrsp1";
/// Bytes before each body.
pub const HEAD_LEN: usize = 16;
/// No request is longer; a head that says so is damaged.
pub const MAX_BODY: usize = 64 * 1024 * 1024;

/// Where a segment can be read from.
pub trait Source {
    /// What can go wrong.
    type Error;

    /// Fills the buffer with the bytes from there on, which must exist.
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> Result<(), Self::Error>;
}

impl Source for [u8] {
    type Error = Infallible;

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> Result<(), Infallible> {
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let len = buffer.len().min(from.len());
        buffer[..len].copy_from_slice(&from[..len]);
        Ok(())
    }
}

impl Source for std::fs::File {
    type Error = io::Error;

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, at)
    }
}

/// What stands at a place of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A request.
    Record {
        /// The request.
        body: Bytes,
        /// Spans in it.
        spans: u32,
        /// Where the next record begins.
        end: u64,
    },
    /// A request whose body was changed.
    Damaged {
        /// Spans that were in it.
        spans: u32,
        /// Where the next record begins.
        end: u64,
    },
    /// Something that is no record: what follows cannot be found.
    Lost,
    /// The beginning of a record whose end was never written.
    Unfinished,
    /// Nothing more.
    End,
}

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    len: u32,
    spans: u32,
    checksum: u32,
}

impl Head {
    /// The head for a body; `None` if that is longer than any may be.
    pub fn of(body: &[u8], spans: u32) -> Option<Self> {
        let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_BODY)?;
        Some(Self { len, spans, checksum: crc32fast::hash(body) })
    }

    /// As it is written.
    pub fn encode(self) -> [u8; HEAD_LEN] {
        let mut bytes = [0; HEAD_LEN];
        bytes[..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.spans.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.checksum.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..12]);
        bytes[12..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// As it was written; `None` if it was changed since.
    pub fn decode(bytes: [u8; HEAD_LEN]) -> Option<Self> {
        let number = |at: usize| {
            let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            u32::from_le_bytes(bytes)
        };
        let intact = number(12) == crc32fast::hash(&bytes[..12]);
        let head = Self { len: number(0), spans: number(4), checksum: number(8) };
        (intact && head.len as usize <= MAX_BODY).then_some(head)
    }

    /// Spans in the body.
    pub fn spans(self) -> u32 {
        self.spans
    }

    /// Where the record ends that begins at `at`.
    fn end(self, at: u64) -> u64 {
        at + HEAD_LEN as u64 + u64::from(self.len)
    }
}

/// The head that stands at `at` of a segment of `len` bytes, and where its record ends; else what
/// stands there instead.
pub fn head_at<S: Source + ?Sized>(
    segment: &S,
    len: u64,
    at: u64,
) -> Result<Result<(Head, u64), Found>, S::Error> {
    if at >= len {
        return Ok(Err(Found::End));
    }
    if len - at < HEAD_LEN as u64 {
        return Ok(Err(Found::Unfinished));
    }
    let mut bytes = [0; HEAD_LEN];
    segment.read_exact_at(&mut bytes, at)?;
    Ok(match Head::decode(bytes) {
        None => Err(Found::Lost),
        Some(head) if head.end(at) > len => Err(Found::Unfinished),
        Some(head) => Ok((head, head.end(at))),
    })
}

/// What stands at `at` of a segment of `len` bytes. Records begin after [`MAGIC`].
pub fn record_at<S: Source + ?Sized>(segment: &S, len: u64, at: u64) -> Result<Found, S::Error> {
    let (head, end) = match head_at(segment, len, at)? {
        Ok(found) => found,
        Err(found) => return Ok(found),
    };
    let mut body = vec![0; head.len as usize];
    segment.read_exact_at(&mut body, at + HEAD_LEN as u64)?;
    Ok(if crc32fast::hash(&body) == head.checksum {
        Found::Record { body: body.into(), spans: head.spans, end }
    } else {
        Found::Damaged { spans: head.spans, end }
    })
}

/// Everything in a segment, damage included; nothing if it does not begin with [`MAGIC`].
pub fn records(segment: &[u8]) -> impl Iterator<Item = Found> {
    let len = segment.len() as u64;
    let mut at = if segment.starts_with(&MAGIC) { MAGIC.len() as u64 } else { len };
    std::iter::from_fn(move || {
        let Ok(found) = record_at(segment, len, at);
        at = match &found {
            Found::Record { end, .. } | Found::Damaged { end, .. } => *end,
            Found::Lost | Found::Unfinished | Found::End => len,
        };
        (found != Found::End).then_some(found)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Record = (Vec<u8>, u32);

    fn segment(records: &[Record]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (body, spans) in records {
            bytes.extend(Head::of(body, *spans).unwrap().encode());
            bytes.extend(body);
        }
        bytes
    }

    /// The requests that are read back, and whether anything else was found.
    fn read(segment: &[u8]) -> (Vec<Record>, Vec<Found>) {
        let mut read = Vec::new();
        let mut others = Vec::new();
        for found in records(segment) {
            match found {
                Found::Record { body, spans, .. } => read.push((body.to_vec(), spans)),
                other => others.push(other),
            }
        }
        (read, others)
    }

    /// Requests that end at or before that byte.
    fn complete(records: &[Record], byte: usize) -> usize {
        let mut end = MAGIC.len();
        let ends = records.iter().map(|(body, _)| {
            end += HEAD_LEN + body.len();
            end
        });
        ends.take_while(|end| *end <= byte).count()
    }

    fn some_records() -> impl Strategy<Value = Vec<Record>> {
        let body = prop::collection::vec(any::<u8>(), 0..40);
        prop::collection::vec((body, any::<u32>()), 0..8)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(records in some_records()) {
            prop_assert_eq!(read(&segment(&records)), (records, vec![]));
        }

        #[test]
        fn a_write_that_was_cut_off_costs_nothing_before(
            records in some_records(), cut in any::<prop::sample::Index>()
        ) {
            let whole = segment(&records);
            let len = MAGIC.len() + cut.index(whole.len() - MAGIC.len() + 1);
            let (read, others) = read(&whole[..len]);
            prop_assert_eq!(&read[..], &records[..complete(&records, len)]);
            prop_assert!(others.is_empty() || others == [Found::Unfinished]);
        }

        #[test]
        fn a_changed_bit_invents_nothing_and_costs_nothing_before(
            records in some_records(), place in any::<prop::sample::Index>(), bit in 0..8
        ) {
            let mut changed = segment(&records);
            let byte = place.index(changed.len());
            changed[byte] ^= 1_u8 << bit;
            let (read, others) = read(&changed);
            if byte < MAGIC.len() {
                prop_assert!(read.is_empty());
                return Ok(());
            }
            let before = complete(&records, byte);
            prop_assert_eq!(&read[..before], &records[..before]);
            // What comes after the damage is what came after the damaged one, or nothing.
            let after = &read[before..];
            prop_assert!(after.is_empty() || after == &records[before + 1..]);
            prop_assert_eq!(others.len(), 1, "the damage is noticed: {:?}", others);
        }

        #[test]
        fn a_changed_body_costs_only_itself(
            records in some_records(), which in any::<prop::sample::Index>(), bit in 0..8
        ) {
            prop_assume!(records.iter().any(|(body, _)| !body.is_empty()));
            let full: Vec<_> =
                (0..records.len()).filter(|index| !records[*index].0.is_empty()).collect();
            let index = full[which.index(full.len())];
            let start: usize = MAGIC.len()
                + records[..index].iter().map(|(body, _)| HEAD_LEN + body.len()).sum::<usize>();
            let mut changed = segment(&records);
            changed[start + HEAD_LEN] ^= 1_u8 << bit;
            let (read, others) = read(&changed);
            let mut others_left = records.clone();
            let (_, spans) = others_left.remove(index);
            prop_assert_eq!(read, others_left);
            let damaged = matches!(others[..], [Found::Damaged { spans: lost, .. }] if lost == spans);
            prop_assert!(damaged, "{:?}", others);
        }

        #[test]
        fn nothing_is_too_strange(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200), magic in any::<bool>()
        ) {
            if magic && bytes.len() >= MAGIC.len() {
                bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
            }
            prop_assert!(records(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn a_length_that_cannot_be_is_damage() {
        let head = Head { len: MAX_BODY as u32 + 1, spans: 1, checksum: 0 };
        assert_eq!(Head::decode(head.encode()), None);
    }
}
