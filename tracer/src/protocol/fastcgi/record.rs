//! `FastCGI` records: what their first bytes say (specification 1.0, sections 3.3, 5 and 8).
//!
//! `FCGI_BEGIN_REQUEST` and `FCGI_END_REQUEST` have eight bytes of content always, which are read
//! as a part of the header. Must not know what came before a record.

use crate::protocol::Likeness;

/// Bytes of a record header.
pub(super) const HEADER: usize = 8;
/// Bytes of a header with the content of a record that begins or ends a request.
pub(super) const LONG_HEADER: usize = 16;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A request begins.
    Begin {
        /// The application is to respond, not to authorize or to filter.
        responder: bool,
        /// And to leave the connection open afterwards.
        keeps: bool,
    },
    /// The web server gives a request up.
    Abort,
    /// A request is over.
    End {
        /// It was refused (any protocol status but `FCGI_REQUEST_COMPLETE`).
        refused: bool,
    },
    /// Names and values.
    Params,
    /// Body of the request.
    Stdin,
    /// The response.
    Stdout,
    /// Messages for the web server's log, and the like.
    Stderr,
    /// A file to filter.
    Data,
    /// About the connection, not about a request.
    GetValues,
    /// An answer to that, or to a record that was not understood.
    Management,
}

/// A record header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Which request; zero if none.
    pub(super) id: u16,
    /// Bytes of content that follow.
    pub(super) content: u16,
    /// Bytes after that which mean nothing.
    pub(super) padding: u8,
}

/// What bytes are that may be a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// One, and so long it is.
    Header(Header, usize),
    /// The beginning of one.
    Incomplete,
    /// None.
    Invalid,
}

const BEGIN: u8 = 1;
const END: u8 = 3;

/// Parses a header that starts at the first byte.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let is_long = matches!(bytes.get(1), Some(&(BEGIN | END)));
    let own = bytes.iter().take(HEADER).enumerate();
    if !own.into_iter().all(|(at, byte)| may_stand(at, *byte, is_long)) {
        return Parsed::Invalid;
    }
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Parsed::Incomplete };
    let id = u16::from_be_bytes([header[2], header[3]]);
    let content = u16::from_be_bytes([header[4], header[5]]);
    let kind = match header[1] {
        BEGIN | END => return parse_long(bytes, id),
        2 => Kind::Abort,
        4 => Kind::Params,
        5 => Kind::Stdin,
        6 => Kind::Stdout,
        7 => Kind::Stderr,
        8 => Kind::Data,
        9 => Kind::GetValues,
        _ => Kind::Management,
    };
    let is_management = matches!(kind, Kind::GetValues | Kind::Management);
    if is_management != (id == 0) {
        return Parsed::Invalid;
    }
    Parsed::Header(Header { kind, id, content, padding: header[6] }, HEADER)
}

/// Whether a byte may stand at this place of a header.
fn may_stand(at: usize, byte: u8, is_long: bool) -> bool {
    match (at, is_long) {
        // The version.
        (0, _) => byte == 1,
        // The type.
        (1, _) => (1..=11).contains(&byte),
        // High byte of the length; reserved.
        (4, true) | (7, _) => byte == 0,
        (5, true) => byte == 8,
        _ => true,
    }
}

fn parse_long(bytes: &[u8], id: u16) -> Parsed {
    let Some(header) = bytes.first_chunk::<LONG_HEADER>() else { return Parsed::Incomplete };
    let body = &header[HEADER..];
    let kind = if header[1] == BEGIN {
        // Role, flags (the only one defined keeps the connection), five reserved bytes.
        if body[0] != 0 || !(1..=3).contains(&body[1]) || body[2] > 1 || body[3..] != [0; 5] {
            return Parsed::Invalid;
        }
        Kind::Begin { responder: body[1] == 1, keeps: body[2] == 1 }
    } else {
        // Four bytes of the application's own, the protocol status, three that PHP never clears.
        if body[4] > 3 {
            return Parsed::Invalid;
        }
        Kind::End { refused: body[4] != 0 }
    };
    if id == 0 {
        return Parsed::Invalid;
    }
    Parsed::Header(Header { kind, id, content: 0, padding: header[6] }, LONG_HEADER)
}

/// Judges the first bytes of what may be a record.
pub(super) fn likeness(start: &[u8]) -> Likeness {
    let start = &start[..start.len().min(LONG_HEADER)];
    match (parse(start), start.get(1)) {
        (Parsed::Invalid, _) => Likeness::Neither,
        (_, None) => Likeness::Either,
        (_, Some(3 | 6 | 7 | 10 | 11)) if start.len() >= HEADER => Likeness::Response,
        _ if start.len() >= HEADER => Likeness::Request,
        _ => Likeness::Either,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_with_what_always_follows_them() {
        let header = |kind, id, content, padding| Header { kind, id, content, padding };
        let rows: [(&[u8], Header, usize); 5] = [
            (
                b"\x01\x01\0\x01\0\x08\0\0\0\x01\x01\0\0\0\0\0",
                header(Kind::Begin { responder: true, keeps: true }, 1, 0, 0),
                16,
            ),
            (
                b"\x01\x01\x02\x01\0\x08\0\0\0\x02\0\0\0\0\0\0",
                header(Kind::Begin { responder: false, keeps: false }, 0x201, 0, 0),
                16,
            ),
            (
                b"\x01\x03\0\x01\0\x08\x02\0\0\0\0\x07\x01htm",
                header(Kind::End { refused: true }, 1, 0, 2),
                16,
            ),
            (b"\x01\x04\0\x01\x12\x34\x07\0rest", header(Kind::Params, 1, 0x1234, 7), 8),
            (b"\x01\x09\0\0\0\x10\0\0", header(Kind::GetValues, 0, 16, 0), 8),
        ];
        for (bytes, header, len) in rows {
            assert_eq!(parse(bytes), Parsed::Header(header, len));
            for cut in 0..len {
                assert_eq!(parse(&bytes[..cut]), Parsed::Incomplete, "{bytes:?} to {cut}");
            }
        }
    }

    #[test]
    fn other_bytes_are_no_headers() {
        let others: [&[u8]; 11] = [
            b"GET",
            b"\0\x01",
            b"\x02",
            b"\x01\0",
            b"\x01\x0c",
            b"\x01\x01\0\x01\0\x09",
            b"\x01\x05\0\x01\0\0\0\x01",
            b"\x01\x05\0\0\0\0\0\0",
            b"\x01\x0b\0\x01\0\0\0\0",
            b"\x01\x01\0\x01\0\x08\0\0\0\x04\0\0\0\0\0\0",
            b"\x01\x03\0\x01\0\x08\0\0\0\0\0\0\x04\0\0\0",
        ];
        for bytes in others {
            assert_eq!(parse(bytes), Parsed::Invalid, "{bytes:?}");
            assert_eq!(likeness(bytes), Likeness::Neither, "{bytes:?}");
        }
    }

    #[test]
    fn eight_bytes_tell_the_direction() {
        let begin = b"\x01\x01\0\x01\0\x08\0\0";
        assert_eq!(likeness(&begin[..7]), Likeness::Either);
        assert_eq!(likeness(begin), Likeness::Request);
        assert_eq!(likeness(b"\x01\x05\0\x01\0\0\0\0\x01\x01"), Likeness::Request);
        assert_eq!(likeness(b"\x01\x06\0\x01\x12\0\0\0HTTP"), Likeness::Response);
        assert_eq!(likeness(b"\x01\x03\0\x01\0\x08\0\0"), Likeness::Response);
    }
}
