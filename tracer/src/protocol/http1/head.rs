//! Message heads: bytes to [`RequestHead`] and [`ResponseHead`], and what they say about the
//! body.
//!
//! Three parses: a quick one for heads that are complete and [`plain`]; a strict one on bytes where
//! they lie; and, for heads with folded or malformed lines, a lenient one on a copy. All agree on
//! where a head ends: at its first empty line.

use std::mem::MaybeUninit;

use httparse::{Error, Header, ParserConfig, Request, Response, Status};

use super::framing::Framing;
use super::kept::Fields;
use super::plain;
use crate::exchange::{HeaderInterest, HttpVersion, RequestHead, ResponseHead};
pub(super) use crate::protocol::fields::end_of_head;

/// Fields of an ordinary head; their array lives on the stack.
const USUAL_HEADERS: usize = 64;
/// Fields of a head at most.
pub(super) const MAX_HEADERS: usize = 1024;
/// Longest method token believed in; the kernel half has the same bound.
const MAX_METHOD: usize = 24;

/// A complete head.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed<H> {
    pub(super) head: H,
    /// Of a response: holds unless status or method forbid a body.
    pub(super) framing: Framing,
    /// Bytes of the head.
    pub(super) len: usize,
}

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// Its end is not there yet.
    Incomplete,
    /// Not HTTP/1.x.
    Malformed,
    /// More than [`MAX_HEADERS`] fields.
    TooManyHeaders,
}

/// Parses a request head that starts at the first byte.
pub(super) fn request(
    bytes: &[u8],
    interest: &HeaderInterest,
) -> Result<Parsed<RequestHead>, NoHead> {
    plain_request(bytes, interest).map_or_else(|| any_request(bytes, interest), Ok)
}

/// Parses a response head that starts at the first byte.
pub(super) fn response(
    bytes: &[u8],
    interest: &HeaderInterest,
) -> Result<Parsed<ResponseHead>, NoHead> {
    plain_response(bytes, interest).map_or_else(|| any_response(bytes, interest), Ok)
}

fn plain_request(bytes: &[u8], interest: &HeaderInterest) -> Option<Parsed<RequestHead>> {
    let line = plain::request_line(bytes)?;
    let mut fields = Fields::of_request(interest);
    let len = plain::fields(bytes, line.len, |name, value| fields.take(name, value))?;
    Some(fields.into_request(line.method, line.target, line.version, len))
}

fn plain_response(bytes: &[u8], interest: &HeaderInterest) -> Option<Parsed<ResponseHead>> {
    let line = plain::status_line(bytes).filter(|line| line.status >= 100)?;
    let mut fields = Fields::of_response(interest);
    let len = plain::fields(bytes, line.len, |name, value| fields.take(name, value))?;
    Some(fields.into_response(line.status, line.version, len))
}

fn any_request(bytes: &[u8], interest: &HeaderInterest) -> Result<Parsed<RequestHead>, NoHead> {
    parse(bytes, |bytes, config| {
        let mut array = [const { MaybeUninit::uninit() }; USUAL_HEADERS];
        match read_request(bytes, config, &mut array, interest) {
            Err(Error::TooManyHeaders) => {
                let mut array = vec![MaybeUninit::uninit(); MAX_HEADERS];
                read_request(bytes, config, &mut array, interest)
            }
            result => result,
        }
    })
}

fn any_response(bytes: &[u8], interest: &HeaderInterest) -> Result<Parsed<ResponseHead>, NoHead> {
    let parsed = parse(bytes, |bytes, config| {
        let mut array = [const { MaybeUninit::uninit() }; USUAL_HEADERS];
        match read_response(bytes, config, &mut array, interest) {
            Err(Error::TooManyHeaders) => {
                let mut array = vec![MaybeUninit::uninit(); MAX_HEADERS];
                read_response(bytes, config, &mut array, interest)
            }
            result => result,
        }
    })?;
    if parsed.head.status < 100 { Err(NoHead::Malformed) } else { Ok(parsed) }
}

fn parse<H>(
    bytes: &[u8],
    read: impl Fn(&[u8], &ParserConfig) -> httparse::Result<Parsed<H>>,
) -> Result<Parsed<H>, NoHead> {
    let strict = ParserConfig::default();
    match read(bytes, &strict) {
        Ok(Status::Complete(parsed)) => return Ok(parsed),
        Ok(Status::Partial) => return Err(NoHead::Incomplete),
        Err(Error::TooManyHeaders) => return Err(NoHead::TooManyHeaders),
        Err(Error::HeaderName | Error::HeaderValue) => {}
        Err(Error::NewLine | Error::Status | Error::Token | Error::Version) => {
            return Err(NoHead::Malformed);
        }
    }
    let len = end_of_head(bytes, 0).ok_or(NoHead::Incomplete)?;
    let unfolded = unfold(&bytes[..len]);
    if let Ok(Status::Complete(parsed)) = read(&unfolded, &strict) {
        return Ok(parsed);
    }
    let mut lenient = ParserConfig::default();
    lenient.ignore_invalid_headers_in_requests(true).ignore_invalid_headers_in_responses(true);
    match read(&unfolded, &lenient) {
        // A line that was left out may have been about the body.
        Ok(Status::Complete(parsed)) => Ok(Parsed { framing: Framing::Unknown, len, ..parsed }),
        Err(Error::TooManyHeaders) => Err(NoHead::TooManyHeaders),
        _ => Err(NoHead::Malformed),
    }
}

fn read_request<'b>(
    bytes: &'b [u8],
    config: &ParserConfig,
    array: &mut [MaybeUninit<Header<'b>>],
    interest: &HeaderInterest,
) -> httparse::Result<Parsed<RequestHead>> {
    let mut request = Request::new(&mut []);
    let Status::Complete(len) =
        config.parse_request_with_uninit_headers(&mut request, bytes, array)?
    else {
        return Ok(Status::Partial);
    };
    let mut fields = Fields::of_request(interest);
    for header in request.headers.iter() {
        fields.take(header.name.as_bytes(), header.value);
    }
    let method = request.method.unwrap_or_default();
    let target = request.path.unwrap_or_default();
    let parsed = fields.into_request(method, target, version(request.version), len);
    Ok(Status::Complete(parsed))
}

fn read_response<'b>(
    bytes: &'b [u8],
    config: &ParserConfig,
    array: &mut [MaybeUninit<Header<'b>>],
    interest: &HeaderInterest,
) -> httparse::Result<Parsed<ResponseHead>> {
    let mut response = Response::new(&mut []);
    let Status::Complete(len) =
        config.parse_response_with_uninit_headers(&mut response, bytes, array)?
    else {
        return Ok(Status::Partial);
    };
    let mut fields = Fields::of_response(interest);
    for header in response.headers.iter() {
        fields.take(header.name.as_bytes(), header.value);
    }
    let status = response.code.unwrap_or_default();
    let parsed = fields.into_response(status, version(response.version), len);
    Ok(Status::Complete(parsed))
}

fn version(minor: Option<u8>) -> HttpVersion {
    if minor == Some(0) { HttpVersion::Http10 } else { HttpVersion::Http11 }
}

/// Joins folded lines (RFC 9112 section 5.2): a line end before a blank becomes blanks.
fn unfold(head: &[u8]) -> Vec<u8> {
    let mut unfolded = head.to_vec();
    for at in 0..unfolded.len().saturating_sub(1) {
        if unfolded[at] == b'\n' && matches!(unfolded[at + 1], b' ' | b'\t') {
            unfolded[at] = b' ';
            if at > 0 && unfolded[at - 1] == b'\r' {
                unfolded[at - 1] = b' ';
            }
        }
    }
    unfolded
}

/// Bytes of empty lines before a message, which receivers ignore (RFC 9112 section 2.2).
pub(super) fn empty_lines(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len())
}

/// Could a response start with these bytes?
pub(super) fn may_start_response(bytes: &[u8]) -> bool {
    let start = b"HTTP/1.";
    let len = bytes.len().min(start.len());
    bytes[..len] == start[..len]
}

/// Could a request start with these bytes? Accepts what the kernel half accepts, less
/// `HTTP/`.
pub(super) fn may_start_request(bytes: &[u8]) -> bool {
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == b' ' {
            return at > 0 && bytes.get(at + 1).is_none_or(|target| may_be_target(bytes, *target));
        }
        if at == MAX_METHOD || !is_token(*byte) {
            return false;
        }
    }
    true
}

fn may_be_target(method: &[u8], first: u8) -> bool {
    matches!(first, b'/' | b'*' | b'h' | b'H') || method[0] == b'C'
}

/// Token characters, RFC 9110 section 5.6.2.
pub(super) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether the first line of a head is a request line.
pub(super) fn is_request_line(line: &[u8]) -> bool {
    let config = ParserConfig::default();
    let mut request = Request::new(&mut []);
    // A line of a head without fields: either complete or wanting its fields.
    match config.parse_request(&mut request, line) {
        Ok(_) => request.version.is_some(),
        Err(_) => false,
    }
}

/// Whether the first line of a head is a status line.
pub(super) fn is_status_line(line: &[u8]) -> bool {
    let config = ParserConfig::default();
    let mut response = Response::new(&mut []);
    match config.parse_response(&mut response, line) {
        Ok(_) => response.code.is_some(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever byte of a head is replaced, and wherever it ends.
        #[test]
        fn what_is_plain_means_the_same_to_the_parser_for_all_heads(
            template in 0_usize..4,
            at in 0_usize..160,
            byte in prop_oneof![any::<u8>(), prop::sample::select(b"\r\n\t :/\x7f\0aZ1".to_vec())],
            end in 0_usize..400,
        ) {
            let templates: [&[u8]; 4] = [
                b"GET /a?b=c HTTP/1.1\r\nHost: shop:80\r\nUser-Agent:x \r\nX-B3-Flags: 1\r\nb3: 0\r\n\
                Content-Length: 5\r\nX-Own-Field:  a b\r\ntraceparent: 00-1\r\n\r\nhello",
                b"POST * HTTP/1.0\r\nTransfer-Encoding: gzip, chunked\r\nTraceState:\r\n\r\n5\r\n",
                b"HTTP/1.1 200 OK\r\nServer: nginx\r\nETag: \"5\"\r\nContent-Length: 6\r\nX-Own: a \r\n\r\n",
                b"HTTP/1.0 404\r\nX-Own: \r\n\r\n",
            ];
            let mut bytes = templates[template].to_vec();
            if let Some(replaced) = bytes.get_mut(at) {
                *replaced = byte;
            }
            bytes.truncate(end);
            let asked = vec!["x-own".to_owned(), "x-own-field".to_owned()];
            let interest = HeaderInterest { request: asked.clone(), response: asked };
            if let Some(plain) = plain_request(&bytes, &interest) {
                prop_assert_eq!(Ok(plain), any_request(&bytes, &interest));
            }
            if let Some(plain) = plain_response(&bytes, &interest) {
                prop_assert_eq!(Ok(plain), any_response(&bytes, &interest));
            }
        }
    }

    #[test]
    fn usual_heads_are_plain() {
        let interest = HeaderInterest::default();
        let bytes = b"GET /a?b=%20 HTTP/1.1\r\nHost: a:80\r\nAccept: */*\r\nEmpty:\r\n\r\nbody";
        assert!(plain_request(bytes, &interest).is_some());
        let bytes = "HTTP/1.1 404 Not Found\r\nServer: a\r\nSet-Cookie: a=ä; b\r\n\r\n".as_bytes();
        assert!(plain_response(bytes, &interest).is_some());
    }

    #[test]
    fn only_fields_of_interest_are_kept() {
        let bytes =
            b"GET /x HTTP/1.1\r\nHOST: a\r\nCookie: s\r\nX-B3-TraceId:  1 \r\nX-Ask: \xff\r\n\
            TraceParent: t\r\n\r\n";
        let interest = HeaderInterest { request: vec!["x-ask".into()], ..Default::default() };
        let parsed = request(bytes, &interest).unwrap();
        let kept: Vec<_> = parsed.head.headers.iter().map(|(n, v)| (&**n, &**v)).collect();
        let expected =
            [("host", "a"), ("x-b3-traceid", "1"), ("x-ask", "\u{fffd}"), ("traceparent", "t")];
        assert_eq!(kept, expected);
        assert_eq!(parsed.len, bytes.len());
    }

    #[test]
    fn folded_lines_are_one_field_each() {
        let bytes = b"GET / HTTP/1.1\nHost: a\n  b\r\n\tc\r\n\r\nrest";
        let parsed = request(bytes, &HeaderInterest::default()).unwrap();
        assert_eq!(parsed.len, bytes.len() - 4);
        let (_, value) = &parsed.head.headers[0];
        assert_eq!(value.split_whitespace().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn the_number_of_fields_is_bounded() {
        let head = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
        let interest = HeaderInterest::default();
        assert!(request(head(MAX_HEADERS).as_bytes(), &interest).is_ok());
        let error = request(head(MAX_HEADERS + 1).as_bytes(), &interest).unwrap_err();
        assert_eq!(error, NoHead::TooManyHeaders);
    }

    #[test]
    fn starts_are_judged_by_few_bytes() {
        for start in ["G", "GET", "GET ", "GET /", "CONNECT a:1 ", "OPTIONS *", "M-SEARCH *", "H"] {
            assert!(may_start_request(start.as_bytes()), "{start}");
        }
        for start in [" GET", "get key", "\x16\x03\x01", "GET\0", "AAAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert!(!may_start_request(start.as_bytes()), "{start}");
        }
        assert!(may_start_response(b"HTT") && may_start_response(b"HTTP/1.1 200"));
        assert!(!may_start_response(b"HTTP/2 200") && !may_start_response(b"ICY 200"));
    }

    #[test]
    fn first_lines_are_recognised_alone() {
        assert!(is_request_line(b"GET / HTTP/1.1\r\n") && is_request_line(b"GET / HTTP/1.0\n"));
        assert!(!is_request_line(b"GET / HTTP/2.0\r\n") && !is_request_line(b"GET /\r\n"));
        assert!(is_status_line(b"HTTP/1.1 200 OK\r\n") && is_status_line(b"HTTP/1.0 404\n"));
        assert!(!is_status_line(b"HTTP/1.1 OK\r\n"));
    }
}
