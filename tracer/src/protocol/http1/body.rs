//! Where a message body ends (RFC 9112 section 6.3), also when not all of it can be seen.

use super::chunked::{Chunked, Progress};
use super::framing::Framing;

/// A body being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes are left of so many.
    Length {
        /// Bytes to come, not zero.
        left: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Chunked, in step.
    Chunked(Chunked),
    /// Everything until the close.
    UntilClose {
        /// Bytes so far.
        size: u64,
    },
    /// Out of step with the chunks, or never in step: ends where a call's last bytes look like
    /// the last chunk, or with the next message.
    Blind(Ending),
}

/// What became of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// It goes on.
    More,
    /// It ended, so many bytes into what was given; its size if framing told.
    Done {
        /// Bytes taken.
        used: u64,
        /// Body bytes without transfer coding, zero if unknown.
        size: u64,
    },
}

impl Body {
    /// `None` for bodies that end where they begin.
    pub(super) fn new(framing: Framing) -> Option<Self> {
        match framing {
            Framing::Length(0) => None,
            Framing::Length(total) => Some(Self::Length { left: total, total }),
            Framing::Chunked => Some(Self::Chunked(Chunked::new())),
            Framing::UntilClose => Some(Self::UntilClose { size: 0 }),
            Framing::Unknown => Some(Self::Blind(Ending::default())),
        }
    }

    /// Takes known bytes; `last` if the call moved nothing after them.
    pub(super) fn feed(&mut self, bytes: &[u8], last: bool) -> Fed {
        match self {
            Self::Chunked(chunked) => match chunked.feed(bytes) {
                Progress::More => Fed::More,
                Progress::Done(used) => Fed::Done { used: used as u64, size: chunked.payload() },
                Progress::Broken => self.go_blind(bytes, last),
            },
            Self::Blind(_) => self.go_blind(bytes, last),
            Self::Length { .. } | Self::UntilClose { .. } => self.skip(bytes.len() as u64, &[]),
        }
    }

    /// Takes `len` bytes of unknown content that end with `tail`.
    pub(super) fn skip(&mut self, len: u64, tail: &[u8]) -> Fed {
        match self {
            Self::Length { left, total } => {
                if len < *left {
                    *left -= len;
                    return Fed::More;
                }
                Fed::Done { used: *left, size: *total }
            }
            Self::UntilClose { size } => {
                *size += len;
                Fed::More
            }
            Self::Chunked(chunked) if chunked.covers(len) => {
                chunked.skip(len);
                Fed::More
            }
            Self::Chunked(_) | Self::Blind(_) => {
                let mut ending =
                    if let Self::Blind(ending) = self { *ending } else { Ending::default() };
                if tail.len() as u64 != len {
                    ending = Ending::default();
                }
                *self = Self::Blind(ending);
                match self.go_blind(tail, true) {
                    Fed::Done { size, .. } => Fed::Done { used: len, size },
                    Fed::More => Fed::More,
                }
            }
        }
    }

    /// Whether `len` unseen bytes leave the reader in step: the body goes on after them.
    pub(super) fn covers(&self, len: u64) -> bool {
        match self {
            Self::Length { left, .. } => len < *left,
            Self::Chunked(chunked) => chunked.covers(len),
            Self::UntilClose { .. } => true,
            Self::Blind(_) => false,
        }
    }

    /// Whether only the look of its last bytes, or the next message, can end it.
    pub(super) fn may_go_blind(&self) -> bool {
        matches!(self, Self::Chunked(_) | Self::Blind(_))
    }

    /// Body bytes if the framing of the head alone tells them.
    pub(super) fn declared(&self) -> u64 {
        if let Self::Length { total, .. } = self { *total } else { 0 }
    }

    fn go_blind(&mut self, bytes: &[u8], last: bool) -> Fed {
        let mut ending = if let Self::Blind(ending) = self { *ending } else { Ending::default() };
        ending.push(bytes);
        *self = Self::Blind(ending);
        if last && ending.is_last_chunk() {
            return Fed::Done { used: bytes.len() as u64, size: 0 };
        }
        Fed::More
    }
}

const LAST_CHUNK: &[u8; 7] = b"\r\n0\r\n\r\n";

/// The last bytes of what was seen of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ending([u8; LAST_CHUNK.len()]);

impl Ending {
    fn push(&mut self, bytes: &[u8]) {
        let window = self.0.len();
        if bytes.len() >= window {
            self.0.copy_from_slice(&bytes[bytes.len() - window..]);
        } else {
            self.0.rotate_left(bytes.len());
            self.0[window - bytes.len()..].copy_from_slice(bytes);
        }
    }

    fn is_last_chunk(self) -> bool {
        self.0 == *LAST_CHUNK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked() -> Body {
        Body::new(Framing::Chunked).unwrap()
    }

    #[test]
    fn a_gap_inside_a_chunk_keeps_the_step() {
        let mut body = chunked();
        assert_eq!(body.feed(b"64\r\nabc", false), Fed::More);
        assert_eq!(body.skip(97, b"xyz"), Fed::More);
        assert_eq!(body.feed(b"\r\n0\r\n\r\nHTTP", true), Fed::Done { used: 7, size: 100 });
    }

    #[test]
    fn a_gap_over_chunks_is_ended_by_its_tail() {
        let mut body = chunked();
        assert_eq!(body.feed(b"3\r\nabc", false), Fed::More);
        assert_eq!(body.skip(500, b"more\r\n"), Fed::More);
        assert_eq!(body.skip(500, b"end\r\n0\r\n\r\n"), Fed::Done { used: 500, size: 0 });
    }

    #[test]
    fn blind_endings_join_over_calls() {
        let mut body = chunked();
        assert_eq!(body.skip(9, b"abc\r\n"), Fed::More);
        assert_eq!(body.feed(b"0\r\n\r\n", true), Fed::Done { used: 5, size: 0 });
        let mut body = chunked();
        assert_eq!(body.skip(9, b"abc\r\n"), Fed::More);
        assert_eq!(body.skip(9, b"0\r\n\r\n"), Fed::More, "bytes between them are unknown");
    }
}
