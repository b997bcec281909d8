//! Field sections: of requests, responses and trailers. Strict, so that nobody can read them in
//! another way.
//!
//! Byte-driven: any split of the input gives the same result. No field is kept, but what the
//! section says about the message is. Tells how much of the input has to be withheld because it is,
//! or may become, the place where a trace context stands.

use super::syntax::{is_token, token_run, value_run};
use crate::proxy::OpaqueReason;
use crate::proxy::heads::{is_context_field, may_become_context_field};

/// Bytes of a name that are kept: one more than the longest that matters.
const NAME_BYTES: usize = 18;
/// Bytes of a value that are kept: more than any that is not suspicious.
const VALUE_BYTES: usize = 24;

/// A field section being read.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    state: State,
    name: Start<NAME_BYTES>,
    value: Start<VALUE_BYTES>,
    field: Field,
    /// A line with trace context was seen: all that follows in this section is withheld.
    withholds: bool,
    facts: Facts,
}

/// What a section says about its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    /// Coded in any way.
    pub(super) coded: bool,
    /// Has an `Upgrade` field.
    pub(super) upgrade: bool,
    /// The `Upgrade` field is `h2c`.
    pub(super) h2c: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    LineStart,
    Name,
    Value,
    LineEnd,
    SectionEnd,
}

/// A field that matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field {
    #[default]
    Other,
    ContentLength,
    TransferEncoding,
    Upgrade,
}

/// What a stretch of input did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fed {
    /// Bytes taken.
    pub(super) used: usize,
    /// Taken bytes from here on are to be withheld, and with zero all those withheld before, too.
    pub(super) withheld_from: usize,
    pub(super) progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The section goes on.
    More,
    /// The section is complete. What is withheld ends with the empty line.
    End(Facts),
    /// The byte after those taken must not stand there.
    Broken(OpaqueReason),
}

impl Section {
    /// Reads on.
    pub(super) fn feed(&mut self, input: &[u8]) -> Fed {
        let mut at = 0;
        // Where the line began, if it began in this input.
        let mut line = 0;
        let mut withheld_from = self.withholds.then_some(0);
        while let Some(&byte) = input.get(at) {
            let step = match self.state {
                State::LineStart => {
                    line = at;
                    self.start_line(byte)
                }
                State::Name => {
                    let run = token_run(&input[at..]);
                    self.name.extend(&input[at..at + run]);
                    at += run;
                    match input.get(at) {
                        None => break,
                        Some(b':') => self.end_name(),
                        Some(_) => Err(OpaqueReason::FieldName),
                    }
                }
                State::Value => {
                    let run = value_run(&input[at..]);
                    if self.field != Field::Other {
                        self.value.extend(&input[at..at + run]);
                    }
                    at += run;
                    match input.get(at) {
                        None => break,
                        Some(b'\r') => Ok(State::LineEnd),
                        Some(b'\n') => Err(OpaqueReason::LineEnd),
                        Some(_) => Err(OpaqueReason::FieldValue),
                    }
                }
                State::LineEnd if byte == b'\n' => self.end_field(),
                State::SectionEnd if byte == b'\n' => {
                    let progress = Progress::End(self.facts);
                    let withheld_from = withheld_from.unwrap_or(line);
                    return Fed { used: at + 1, withheld_from, progress };
                }
                State::LineEnd | State::SectionEnd => Err(OpaqueReason::LineEnd),
            };
            match step {
                Ok(state) => self.state = state,
                Err(reason) => {
                    let withheld_from = withheld_from.unwrap_or(line);
                    return Fed { used: at, withheld_from, progress: Progress::Broken(reason) };
                }
            }
            at += 1;
            if self.withholds && withheld_from.is_none() {
                withheld_from = Some(line);
            }
        }
        let is_open = match self.state {
            State::Name => may_become_context_field(self.name.bytes()),
            State::SectionEnd => true,
            State::LineStart | State::Value | State::LineEnd => false,
        };
        let withheld_from = withheld_from.unwrap_or(if is_open { line } else { at });
        Fed { used: at, withheld_from, progress: Progress::More }
    }

    fn start_line(&mut self, byte: u8) -> Result<State, OpaqueReason> {
        match byte {
            b'\r' => Ok(State::SectionEnd),
            b'\n' => Err(OpaqueReason::LineEnd),
            b' ' | b'\t' => Err(OpaqueReason::Folded),
            _ if is_token(byte) => {
                self.name = Start::default();
                self.name.extend(&[byte]);
                Ok(State::Name)
            }
            _ => Err(OpaqueReason::FieldName),
        }
    }

    fn end_name(&mut self) -> Result<State, OpaqueReason> {
        let name = self.name.bytes();
        self.field = match name {
            b"content-length" => Field::ContentLength,
            b"transfer-encoding" => Field::TransferEncoding,
            b"upgrade" => Field::Upgrade,
            // Some servers take an underscore for a dash.
            b"content_length" | b"transfer_encoding" => return Err(OpaqueReason::FieldName),
            _ => Field::Other,
        };
        self.withholds |= is_context_field(name);
        self.value = Start::default();
        Ok(State::Value)
    }

    fn end_field(&mut self) -> Result<State, OpaqueReason> {
        let value = self.value.bytes().trim_ascii();
        let facts = &mut self.facts;
        match self.field {
            Field::Other => {}
            Field::ContentLength => {
                let length = plain_number(value).filter(|_| facts.length.is_none());
                facts.length = Some(length.ok_or(OpaqueReason::ContentLength)?);
            }
            Field::TransferEncoding => {
                if facts.coded {
                    return Err(OpaqueReason::TransferEncoding);
                }
                facts.coded = true;
                facts.chunked = value == b"chunked";
            }
            Field::Upgrade => {
                facts.upgrade = true;
                facts.h2c = value == b"h2c";
            }
        }
        Ok(State::LineStart)
    }
}

/// Digits without a leading zero, far from any overflow.
fn plain_number(value: &[u8]) -> Option<u64> {
    const MOST_DIGITS: usize = 18;
    let is_plain = (1..=MOST_DIGITS).contains(&value.len())
        && value.iter().all(u8::is_ascii_digit)
        && (value[0] != b'0' || value.len() == 1);
    is_plain.then(|| value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// The first bytes of something, in lower case.
#[derive(Clone, Debug)]
struct Start<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> Default for Start<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Start<N> {
    /// What is too long stays too long: its last byte is kept, so that it equals nothing shorter.
    fn extend(&mut self, more: &[u8]) {
        let len = usize::from(self.len);
        for (slot, byte) in self.bytes[len..].iter_mut().zip(more) {
            *slot = byte.to_ascii_lowercase();
        }
        self.len = (len + more.len()).min(N) as u8;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OpaqueReason as R;

    fn facts(fields: &str) -> Result<Facts, OpaqueReason> {
        let section = format!("{fields}\r\n");
        let fed = Section::default().feed(section.as_bytes());
        match fed.progress {
            Progress::End(facts) => {
                assert_eq!(fed.used, section.len());
                Ok(facts)
            }
            Progress::Broken(reason) => Err(reason),
            Progress::More => panic!("{fields:?} has no end"),
        }
    }

    #[test]
    fn what_frames_the_message_is_read_strictly() {
        let length = |length| Ok(Facts { length: Some(length), ..Facts::default() });
        let chunked = Ok(Facts { chunked: true, coded: true, ..Facts::default() });
        let coded = Ok(Facts { coded: true, ..Facts::default() });
        #[rustfmt::skip]
        let rows = [
            ("", Ok(Facts::default())),
            ("Content-Length: 5\r\n", length(5)),
            ("content-length:0\t\r\n", length(0)),
            ("Content-Length: 999999999999999999\r\n", length(999_999_999_999_999_999)),
            ("Content-Length: 1000000000000000000\r\n", Err(R::ContentLength)),
            ("Content-Length: 00000000000000000000000005\r\n", Err(R::ContentLength)),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(R::ContentLength)),
            ("Content-Length: 5, 5\r\n", Err(R::ContentLength)),
            ("Content-Length: +5\r\n", Err(R::ContentLength)),
            ("Content-Length: -5\r\n", Err(R::ContentLength)),
            ("Content-Length: 0x5\r\n", Err(R::ContentLength)),
            ("Content-Length: 05\r\n", Err(R::ContentLength)),
            ("Content-Length: 5 5\r\n", Err(R::ContentLength)),
            ("Content-Length:\r\n", Err(R::ContentLength)),
            ("Transfer-Encoding: chunked\r\n", chunked),
            ("TRANSFER-ENCODING: CHUNKED \r\n", chunked),
            ("Transfer-Encoding: gzip, chunked\r\n", coded),
            ("Transfer-Encoding: chunked, chunked\r\n", coded),
            ("Transfer-Encoding: xchunked\r\n", coded),
            ("Transfer-Encoding: chunkedchunkedchunkedchunked\r\n", coded),
            ("Transfer-Encoding:\r\n", coded),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(R::TransferEncoding)),
            ("Content_Length: 5\r\n", Err(R::FieldName)),
            ("Transfer_Encoding: chunked\r\n", Err(R::FieldName)),
            ("Content-Length : 5\r\n", Err(R::FieldName)),
            ("Content-Lengthy: 5\r\n", Ok(Facts::default())),
            ("Transfer-Encoding-1: x\r\n", Ok(Facts::default())),
            ("no colon\r\n", Err(R::FieldName)),
            (": empty\r\n", Err(R::FieldName)),
            ("A: b\r\n folded\r\n", Err(R::Folded)),
            ("A: b\nB: c\r\n", Err(R::LineEnd)),
            ("A: b\rB: c\r\n", Err(R::LineEnd)),
            ("A: b\0\r\n", Err(R::FieldValue)),
            ("A: \x7f\r\n", Err(R::FieldValue)),
            ("Ä: b\r\n", Err(R::FieldName)),
            ("A: ä\r\n", Ok(Facts::default())),
        ];
        for (fields, expected) in rows {
            assert_eq!(facts(fields), expected, "{fields:?}");
        }
        let upgrade = facts("Upgrade: websocket\r\n").unwrap();
        assert!(upgrade.upgrade && !upgrade.h2c);
        assert!(facts("Upgrade: h2c\r\n").unwrap().h2c);
    }

    /// Feeds in pieces; returns what was let through and what was withheld, at every split.
    fn withheld(section: &[u8], split: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut through, mut held) = (Vec::new(), Vec::new());
        let mut reader = Section::default();
        for piece in [&section[..split], &section[split..]] {
            let fed = reader.feed(piece);
            if fed.withheld_from > 0 {
                through.append(&mut held);
            }
            through.extend(&piece[..fed.withheld_from]);
            held.extend(&piece[fed.withheld_from..fed.used]);
        }
        (through, held)
    }

    #[test]
    fn no_more_is_withheld_than_what_may_have_to_change() {
        let section = b"Host: a\r\nTrace: x\r\nTraceParent: p\r\nB: c\r\n\r\n";
        let first = section.windows(5).position(|window| window == b"Trace").unwrap();
        let parent = section.windows(11).position(|window| window == b"TraceParent").unwrap();
        for split in 0..=section.len() {
            let (through, held) = withheld(section, split);
            assert_eq!((&*through, &*held), section.split_at(parent), "split at {split}");
        }
        for (len, expected) in [(9, 0), (first + 5, 5), (first + 6, 0), (section.len(), 16 + 6 + 2)]
        {
            let (_, held) = withheld(&section[..len], len);
            assert_eq!(held.len(), expected, "of the first {len} bytes");
        }
    }

    #[test]
    fn without_a_context_only_the_empty_line_is_withheld() {
        let section = b"X-B3-Other: a\r\nTracing: b\r\n\r\n";
        for split in 0..=section.len() {
            let (_, held) = withheld(section, split);
            assert_eq!(held, b"\r\n", "split at {split}");
        }
    }
}
