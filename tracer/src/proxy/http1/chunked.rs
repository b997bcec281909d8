//! The chunked transfer coding (RFC 9112 section 7.1), strictly: every line ends with CRLF, a size
//! has nothing after it but extensions, trailers are well-formed fields.
//!
//! The passive reader in `protocol::http1` takes much more, for nothing depends on it. Here two
//! readers that disagree about where a body ends would disagree about where a request begins.

use super::section::{self, Section};
use super::syntax::value_run;
use crate::proxy::OpaqueReason;

/// Hexadecimal digits of a chunk size at most; some servers know no larger numbers.
const SIZE_DIGITS: u8 = 15;
/// Bytes of a chunk's extensions, and of a trailer section, at most.
const MAX_FRAMING: u32 = 64 * 1024;

/// A chunked body being read.
#[derive(Clone, Debug)]
pub(super) struct Chunked(State);

#[derive(Clone, Debug)]
enum State {
    Size { value: u64, digits: u8 },
    Extension { size: u64, len: u32 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer { section: Section, len: u32 },
}

/// What a stretch of input did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All of it belongs to the body, which goes on.
    More,
    /// The body ended after so many bytes.
    End(usize),
    /// The byte after so many must not stand there.
    Broken(usize, OpaqueReason),
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self(State::Size { value: 0, digits: 0 })
    }

    pub(super) fn feed(&mut self, input: &[u8]) -> Progress {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match &mut self.0 {
                State::Data { left } => {
                    let step = (*left).min((input.len() - at) as u64);
                    *left -= step;
                    at += step as usize;
                    if *left == 0 {
                        self.0 = State::DataCr;
                    }
                    continue;
                }
                State::Extension { len, .. } => {
                    let run = value_run(&input[at..]);
                    *len = len.saturating_add(run as u32);
                    if *len > MAX_FRAMING {
                        return Progress::Broken(at, OpaqueReason::TooLarge);
                    }
                    at += run;
                    if run > 0 {
                        continue;
                    }
                }
                State::Trailer { section, len } => {
                    let fed = section.feed(&input[at..]);
                    *len = len.saturating_add(fed.used as u32);
                    if *len > MAX_FRAMING {
                        return Progress::Broken(at, OpaqueReason::TooLarge);
                    }
                    at += fed.used;
                    match fed.progress {
                        section::Progress::More => continue,
                        section::Progress::End(_) => return Progress::End(at),
                        section::Progress::Broken(reason) => return Progress::Broken(at, reason),
                    }
                }
                _ => {}
            }
            match self.step(byte) {
                Some(state) => self.0 = state,
                None => return Progress::Broken(at, OpaqueReason::Chunk),
            }
            at += 1;
        }
        Progress::More
    }

    fn step(&self, byte: u8) -> Option<State> {
        match (&self.0, byte) {
            (State::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
                if *digits < SIZE_DIGITS =>
            {
                let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                Some(State::Size { value: value << 4 | digit, digits: digits + 1 })
            }
            (State::Size { value: size, digits: 1.. }, b';') => {
                Some(State::Extension { size: *size, len: 0 })
            }
            (State::Size { value: size, digits: 1.. } | State::Extension { size, .. }, b'\r') => {
                Some(State::SizeLf { size: *size })
            }
            (State::SizeLf { size: 0 }, b'\n') => {
                Some(State::Trailer { section: Section::default(), len: 0 })
            }
            (State::SizeLf { size }, b'\n') => Some(State::Data { left: *size }),
            (State::DataCr, b'\r') => Some(State::DataLf),
            (State::DataLf, b'\n') => Some(State::Size { value: 0, digits: 0 }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(body: &[u8]) -> Progress {
        Chunked::new().feed(body)
    }

    #[test]
    fn extensions_and_trailers_are_framing_at_every_split() {
        let body = b"a;name=\"v;w\" ; x\r\n0123456789\r\n010\r\n\r\n234567\r\n012345\r\n\
            00;last\r\nDigest: x\r\ntraceparent: y\r\n\r\nNEXT";
        let end = body.len() - 4;
        for split in 0..=end {
            let mut chunked = Chunked::new();
            match chunked.feed(&body[..split]) {
                Progress::More => {
                    assert_eq!(chunked.feed(&body[split..]), Progress::End(end - split));
                }
                progress => assert_eq!((progress, split), (Progress::End(end), end)),
            }
        }
    }

    #[test]
    fn what_is_read_in_more_than_one_way_is_broken() {
        use OpaqueReason as R;
        #[rustfmt::skip]
        let rows: [(&[u8], usize, R); 20] = [
            (b"\r\n", 0, R::Chunk),
            (b"xyz\r\n", 0, R::Chunk),
            (b"3\nabc\r\n", 1, R::Chunk),
            (b"3\r\nabcd\r\n", 6, R::Chunk),
            (b"3\r\nabc\n", 6, R::Chunk),
            (b"3\r\nabc\rX", 7, R::Chunk),
            (b"3 \r\nabc\r\n", 1, R::Chunk),
            (b"3\t;x\r\nabc\r\n", 1, R::Chunk),
            (b" 3\r\nabc\r\n", 0, R::Chunk),
            (b"+3\r\nabc\r\n", 0, R::Chunk),
            (b"-3\r\nabc\r\n", 0, R::Chunk),
            (b"0x3\r\nabc\r\n", 1, R::Chunk),
            (b"3_0\r\n", 1, R::Chunk),
            (b";x\r\n", 0, R::Chunk),
            (b"3;a\nb\r\nabc", 3, R::Chunk),
            (b"1000000000000000\r\n", 15, R::Chunk),
            (b"0\r\n\n", 3, R::LineEnd),
            (b"0\r\nA : b\r\n\r\n", 4, R::FieldName),
            (b"0\r\nA: b\r\n c\r\n\r\n", 9, R::Folded),
            (b"0\r\n\rX", 4, R::LineEnd),
        ];
        for (body, at, reason) in rows {
            assert_eq!(end_of(body), Progress::Broken(at, reason), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn extensions_and_trailers_have_an_end() {
        let long = [b"1;", &vec![b'x'; MAX_FRAMING as usize][..], b"x\r\n"].concat();
        assert!(matches!(end_of(&long), Progress::Broken(_, OpaqueReason::TooLarge)));
        let long = [b"0\r\n", &b"A: b\r\n".repeat(MAX_FRAMING as usize / 6)[..], b"C: d\r\n"];
        let long = long.concat();
        assert!(matches!(end_of(&long), Progress::Broken(_, OpaqueReason::TooLarge)));
    }
}
