//! How far a spool was delivered, in a file that is changed in place.
//!
//! Two slots are written in turn, so that one is whole whenever the other is being written. A
//! cursor that cannot be read only means that something is delivered twice.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::create;

const SLOT_LEN: usize = 20;

/// A place in a spool: everything before was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// Number of the segment.
    pub(super) segment: u64,
    /// Bytes from its beginning.
    pub(super) offset: u64,
}

impl Position {
    fn encode(self) -> [u8; SLOT_LEN] {
        let mut bytes = [0; SLOT_LEN];
        bytes[..8].copy_from_slice(&self.segment.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..16]);
        bytes[16..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, checksum) = bytes.split_at_checked(16)?;
        let number = |part: &[u8]| part.try_into().ok().map(u64::from_le_bytes);
        let checksum = checksum.first_chunk().copied().map(u32::from_le_bytes)?;
        let position = Self { segment: number(&numbers[..8])?, offset: number(&numbers[8..])? };
        (checksum == crc32fast::hash(numbers)).then_some(position)
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct Cursor {
    file: File,
    /// The slot to write next.
    slot: u64,
}

impl Cursor {
    /// Opens or creates it; gives the position it holds, or the beginning of everything.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Position)> {
        let file = create(path)?;
        if file.metadata()?.len() < 2 * SLOT_LEN as u64 {
            // Space for later, when the disk may be full.
            file.write_all_at(&[0; 2 * SLOT_LEN], 0)?;
        }
        let mut bytes = [0; 2 * SLOT_LEN];
        file.read_exact_at(&mut bytes, 0)?;
        let slots = [Position::decode(&bytes[..SLOT_LEN]), Position::decode(&bytes[SLOT_LEN..])];
        // `None` is less than any position.
        let newest = slots[0].max(slots[1]);
        let slot = u64::from(newest.is_some() && newest == slots[0]);
        Ok((Self { file, slot }, newest.unwrap_or_default()))
    }

    /// Notes that everything before was delivered. Not synced: losing it in a power failure costs
    /// duplicates, and syncing would cost as much as the delivery.
    pub(super) fn advance(&mut self, position: Position) -> io::Result<()> {
        self.file.write_all_at(&position.encode(), self.slot * SLOT_LEN as u64)?;
        self.slot = 1 - self.slot;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u64, offset: u64) -> Position {
        Position { segment, offset }
    }

    #[test]
    fn the_newest_position_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cursor");
        let (mut cursor, position) = Cursor::open(&path).unwrap();
        assert_eq!(position, Position::default());
        for step in 1..6 {
            cursor.advance(at(step / 2, step)).unwrap();
            let (reopened, position) = Cursor::open(&path).unwrap();
            assert_eq!(position, at(step / 2, step));
            assert_eq!(reopened.slot, cursor.slot);
        }
    }

    #[test]
    fn one_damaged_slot_costs_one_step() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cursor");
        let (mut cursor, _) = Cursor::open(&path).unwrap();
        for step in 1..4 {
            cursor.advance(at(1, step)).unwrap();
        }
        for byte in 0..2 * SLOT_LEN {
            let whole = std::fs::read(&path).unwrap();
            let mut damaged = whole.clone();
            damaged[byte] ^= 4;
            std::fs::write(&path, damaged).unwrap();
            let (_, position) = Cursor::open(&path).unwrap();
            assert!([at(1, 2), at(1, 3)].contains(&position), "byte {byte}: {position:?}");
            std::fs::write(&path, whole).unwrap();
        }
        std::fs::write(&path, "").unwrap();
        assert_eq!(Cursor::open(&path).unwrap().1, Position::default());
    }
}
