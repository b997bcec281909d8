//! One direction of a connection: which bytes should come next.

use crate::event::StreamOffset;
use crate::protocol::Joint;

/// Where a direction's stream stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stream {
    next: Option<StreamOffset>,
}

impl Stream {
    /// Takes the next range, and says how it joins what came before. The latest range wins.
    pub(super) fn advance(&mut self, offset: StreamOffset, len: u32) -> Joint {
        let expected = self.next.replace(offset.advance(len));
        match expected.map_or(0, |expected| offset.distance_from(expected)) {
            0 => Joint::Contiguous,
            gap @ 1.. => Joint::Unseen(gap.unsigned_abs()),
            _ => Joint::Overlap,
        }
    }

    /// Whether a stream that ended at `end` was seen to its end, as far as that is known.
    pub(super) fn is_complete(self, end: Option<StreamOffset>) -> bool {
        match (self.next, end) {
            (Some(next), Some(end)) => next == end,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_across_the_wrap_of_offsets() {
        let mut stream = Stream::default();
        assert_eq!(stream.advance(StreamOffset(u32::MAX - 9), 10), Joint::Contiguous);
        assert_eq!(stream.advance(StreamOffset(0), 5), Joint::Contiguous);
        assert_eq!(stream.advance(StreamOffset(8), 2), Joint::Unseen(3));
        assert_eq!(stream.advance(StreamOffset(9), 2), Joint::Overlap);
        assert_eq!(stream.advance(StreamOffset(11), 1), Joint::Contiguous);
        assert!(stream.is_complete(Some(StreamOffset(12))) && stream.is_complete(None));
        assert!(!stream.is_complete(Some(StreamOffset(13))));
    }
}
