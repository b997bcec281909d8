//! The chunked transfer coding (RFC 9112 section 7.1), reading only: finds where a body ends.
//!
//! Byte-driven, so that any split of the input gives the same result. Payload is skipped, never
//! looked at. Lines may end with a bare LF.

/// Hexadecimal digits of a chunk size at most, leading zeros included.
const SIZE_DIGITS: u8 = 16;

/// A chunked body being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunked {
    state: State,
    payload: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { value: u64, digits: u8 },
    Extension { size: u64 },
    Data { left: u64 },
    DataEnd { cr: bool },
    TrailerStart { cr: bool },
    TrailerLine,
}

/// What a stretch of bytes did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All of it belongs to the body, which goes on.
    More,
    /// The body ended after so many bytes.
    Done(usize),
    /// It is not chunked coding.
    Broken,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self { state: State::Size { value: 0, digits: 0 }, payload: 0 }
    }

    /// Payload bytes so far, without framing and trailers.
    pub(super) fn payload(&self) -> u64 {
        self.payload
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Progress {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let State::Data { left } = self.state {
                let available = (bytes.len() - at) as u64;
                let step = left.min(available);
                self.skip_payload(left, step);
                at += step as usize;
                continue;
            }
            at += 1;
            match self.step(byte) {
                Progress::More => {}
                Progress::Done(_) => return Progress::Done(at),
                Progress::Broken => return Progress::Broken,
            }
        }
        Progress::More
    }

    /// Whether the next bytes, unknown as they are, are known to be payload.
    pub(super) fn covers(&self, len: u64) -> bool {
        matches!(self.state, State::Data { left } if len <= left)
    }

    /// Skips payload of unknown content, as much as the chunk has.
    pub(super) fn skip(&mut self, len: u64) {
        if let State::Data { left } = self.state {
            self.skip_payload(left, len.min(left));
        }
    }

    fn skip_payload(&mut self, left: u64, step: u64) {
        self.payload += step;
        self.state = if left == step {
            State::DataEnd { cr: false }
        } else {
            State::Data { left: left - step }
        };
    }

    fn step(&mut self, byte: u8) -> Progress {
        self.state = match (self.state, byte) {
            (State::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == SIZE_DIGITS {
                    return Progress::Broken;
                }
                let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                State::Size { value: value << 4 | digit, digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Progress::Broken,
            (State::Size { value, .. }, b';' | b' ' | b'\t' | b'\r') => {
                State::Extension { size: value }
            }
            (State::Size { value: size, .. } | State::Extension { size }, b'\n') => match size {
                0 => State::TrailerStart { cr: false },
                left => State::Data { left },
            },
            (extension @ State::Extension { .. }, _) => extension,
            (State::DataEnd { cr: false }, b'\r') => State::DataEnd { cr: true },
            (State::DataEnd { .. }, b'\n') => State::Size { value: 0, digits: 0 },
            (State::TrailerStart { .. }, b'\n') => return Progress::Done(0),
            (State::TrailerStart { cr: false }, b'\r') => State::TrailerStart { cr: true },
            (State::TrailerStart { cr: false } | State::TrailerLine, _) => match byte {
                b'\n' => State::TrailerStart { cr: false },
                _ => State::TrailerLine,
            },
            _ => return Progress::Broken,
        };
        Progress::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(body: &[u8]) -> (Progress, u64) {
        let mut chunked = Chunked::new();
        let progress = chunked.feed(body);
        (progress, chunked.payload())
    }

    #[test]
    fn extensions_and_trailers_are_framing() {
        let body =
            b"4;name=\"v;w\"\r\nWiki\r\n5 \r\npedia\r\n0;last\r\nDigest: x\r\nA: b\r\n\r\nNEXT";
        assert_eq!(end_of(body), (Progress::Done(body.len() - 4), 9));
    }

    #[test]
    fn bare_line_feeds_end_lines() {
        assert_eq!(end_of(b"3\nabc\n0\nA: b\n\nX"), (Progress::Done(14), 3));
    }

    #[test]
    fn every_split_ends_at_the_same_byte() {
        let body = b"a;x\r\n0123456789\r\n01\r\nz\r\n000\r\nT: 1\r\n\r\n";
        for split in 0..body.len() {
            let mut chunked = Chunked::new();
            assert_eq!(chunked.feed(&body[..split]), Progress::More);
            assert_eq!(chunked.feed(&body[split..]), Progress::Done(body.len() - split));
            assert_eq!(chunked.payload(), 11);
        }
    }

    #[test]
    fn what_is_not_chunked_is_broken() {
        for body in
            [&b"\r\n"[..], b"xyz\r\n", b"3\r\nabcd\r\n", b"10000000000000000\r\n", b"0\r\n\rX"]
        {
            assert_eq!(end_of(body).0, Progress::Broken, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn only_payload_can_be_skipped() {
        let mut chunked = Chunked::new();
        assert!(!chunked.covers(1));
        assert_eq!(chunked.feed(b"a\r\n012"), Progress::More);
        assert!(chunked.covers(7) && !chunked.covers(8));
        chunked.skip(7);
        assert_eq!(chunked.feed(b"\r\n0\r\n\r\n"), Progress::Done(7));
        assert_eq!(chunked.payload(), 10);
    }
}
