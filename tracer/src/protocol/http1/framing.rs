//! How a message says where its body ends: `Content-Length` and `Transfer-Encoding` (RFC 9112
//! section 6).

/// How a head says its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes, often none.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
    /// The head contradicts itself; nobody can tell.
    Unknown,
}

/// What a head's fields say about its body.
#[derive(Clone, Copy, Default)]
pub(super) struct FramingFields {
    length: Option<u64>,
    length_conflicts: bool,
    coded: bool,
    /// The last transfer coding is chunked, and no other is.
    chunked: bool,
    chunked_twice: bool,
}

impl FramingFields {
    pub(super) fn request_framing(self) -> Framing {
        if self.coded {
            return if self.is_chunked() { Framing::Chunked } else { Framing::Unknown };
        }
        if self.length_conflicts {
            return Framing::Unknown;
        }
        Framing::Length(self.length.unwrap_or(0))
    }

    pub(super) fn response_framing(self) -> Framing {
        if self.coded {
            return if self.is_chunked() { Framing::Chunked } else { Framing::UntilClose };
        }
        if self.length_conflicts {
            return Framing::Unknown;
        }
        self.length.map_or(Framing::UntilClose, Framing::Length)
    }

    fn is_chunked(self) -> bool {
        self.chunked && !self.chunked_twice
    }

    /// A list of equal values is one value (RFC 9110 section 8.6).
    pub(super) fn add_length(&mut self, value: &[u8]) {
        for part in value.split(|byte| *byte == b',') {
            let part = part.trim_ascii();
            let digits = !part.is_empty() && part.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(part).ok().and_then(|part| part.parse().ok());
            match (digits, length) {
                (true, Some(length)) if self.length.is_none_or(|known| known == length) => {
                    self.length = Some(length);
                }
                _ => self.length_conflicts = true,
            }
        }
    }

    pub(super) fn add_codings(&mut self, value: &[u8]) {
        self.coded = true;
        for coding in value.split(|byte| *byte == b',') {
            let coding = coding.trim_ascii();
            if !coding.is_empty() {
                self.chunked_twice |= self.chunked;
                self.chunked = coding.eq_ignore_ascii_case(b"chunked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::HeaderInterest;
    use crate::protocol::http1::head::{request, response};

    fn framing_of(fields: &str) -> (Framing, Framing) {
        let interest = HeaderInterest::default();
        let as_request = request(format!("POST / HTTP/1.1\r\n{fields}\r\n").as_bytes(), &interest);
        let as_response =
            response(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes(), &interest);
        (as_request.unwrap().framing, as_response.unwrap().framing)
    }

    #[test]
    fn framing_follows_rfc_9112_section_6_3() {
        use Framing::{Chunked, Length, Unknown, UntilClose};
        for (fields, request, response) in [
            ("", Length(0), UntilClose),
            ("Content-Length: 5\r\n", Length(5), Length(5)),
            ("Content-Length: 5\r\ncontent-length: 5\r\n", Length(5), Length(5)),
            ("Content-Length: 5, 5\r\n", Length(5), Length(5)),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Unknown, Unknown),
            ("Content-Length: 5, 6\r\n", Unknown, Unknown),
            ("Content-Length: +5\r\n", Unknown, Unknown),
            ("Content-Length: -1\r\n", Unknown, Unknown),
            ("Content-Length: 99999999999999999999\r\n", Unknown, Unknown),
            ("Content-Length:\r\n", Unknown, Unknown),
            ("Transfer-Encoding: chunked\r\n", Chunked, Chunked),
            ("Transfer-Encoding: gzip, Chunked\r\n", Chunked, Chunked),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Chunked, Chunked),
            ("Transfer-Encoding:\r\n chunked\r\n", Chunked, Chunked),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Chunked, Chunked),
            ("Transfer-Encoding: gzip\r\n", Unknown, UntilClose),
            ("Transfer-Encoding: chunked, gzip\r\n", Unknown, UntilClose),
            ("Transfer-Encoding: chunked, chunked\r\n", Unknown, UntilClose),
            ("Content-Length : 5\r\n", Unknown, Unknown),
            ("no colon\r\nContent-Length: 5\r\n", Unknown, Unknown),
        ] {
            assert_eq!(framing_of(fields), (request, response), "{fields:?}");
        }
    }
}
