//! Request lines and status lines (RFC 9112 sections 3 and 4), read strictly and byte by byte.

use super::syntax::{is_token, target_run, token_run, value_run};
use crate::proxy::OpaqueReason;

const VERSION: &[u8; 7] = b"HTTP/1.";

/// What a stretch of input did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress<L> {
    /// All of it was taken, and the line goes on.
    More,
    /// The line ended after so many bytes.
    End(usize, L),
    /// The byte after so many must not stand there.
    Broken(usize, OpaqueReason),
}

/// A method, as far as it changes how messages are framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Method {
    Head,
    Connect,
    #[default]
    Other,
}

/// What a request line says about its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) is_http10: bool,
}

/// A request line being read, after any empty lines.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestLine {
    state: RequestState,
    /// The method's first bytes, one more than matter.
    method: [u8; 8],
    method_len: u8,
    is_asterisk: bool,
    is_http10: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum RequestState {
    /// Before the line.
    #[default]
    Before,
    /// In an empty line before it.
    EmptyLine,
    Method,
    Target {
        is_empty: bool,
    },
    Version(u8),
    Cr,
    Lf,
}

impl RequestLine {
    /// Whether nothing but empty lines was seen.
    pub(super) fn is_before(&self) -> bool {
        matches!(self.state, RequestState::Before | RequestState::EmptyLine)
    }

    pub(super) fn feed(&mut self, input: &[u8]) -> Progress<Request> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            let step = match self.state {
                // Empty lines before a request are ignored (section 2.2).
                RequestState::Before if byte == b'\r' => Ok(RequestState::EmptyLine),
                RequestState::EmptyLine if byte == b'\n' => Ok(RequestState::Before),
                RequestState::Before if is_token(byte) => {
                    self.state = RequestState::Method;
                    continue;
                }
                RequestState::Method => {
                    let run = token_run(&input[at..]);
                    self.keep_method(&input[at..at + run]);
                    at += run;
                    match input.get(at) {
                        None => break,
                        Some(b' ') => Ok(RequestState::Target { is_empty: true }),
                        Some(_) => Err(OpaqueReason::RequestLine),
                    }
                }
                RequestState::Target { is_empty } => {
                    let run = target_run(&input[at..]);
                    self.is_asterisk = if is_empty {
                        &input[at..at + run] == b"*"
                    } else {
                        self.is_asterisk && run == 0
                    };
                    let is_empty = is_empty && run == 0;
                    self.state = RequestState::Target { is_empty };
                    at += run;
                    match input.get(at) {
                        None => break,
                        Some(b' ') if !is_empty => Ok(RequestState::Version(0)),
                        // HTTP/0.9 has no version.
                        Some(b'\r' | b'\n') if !is_empty => Err(OpaqueReason::Version),
                        Some(_) => Err(OpaqueReason::RequestLine),
                    }
                }
                RequestState::Version(matched) => match version_step(matched, byte) {
                    Version::Goes(matched) => Ok(RequestState::Version(matched)),
                    Version::Ends { is_http10 } => {
                        self.is_http10 = is_http10;
                        Ok(RequestState::Cr)
                    }
                    Version::Other => Err(OpaqueReason::Version),
                },
                RequestState::Cr if byte == b'\r' => Ok(RequestState::Lf),
                RequestState::Before | RequestState::Cr if byte != b'\n' => {
                    Err(OpaqueReason::RequestLine)
                }
                RequestState::Lf if byte == b'\n' => {
                    return Progress::End(at + 1, self.request());
                }
                RequestState::Before
                | RequestState::EmptyLine
                | RequestState::Cr
                | RequestState::Lf => Err(OpaqueReason::LineEnd),
            };
            match step {
                Ok(state) => self.state = state,
                Err(reason) => return Progress::Broken(at, reason),
            }
            at += 1;
        }
        Progress::More
    }

    /// Whether method and target are those of the preface of HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.is_asterisk && &self.method[..usize::from(self.method_len)] == b"PRI"
    }

    fn keep_method(&mut self, bytes: &[u8]) {
        let len = usize::from(self.method_len);
        for (slot, byte) in self.method[len..].iter_mut().zip(bytes) {
            *slot = *byte;
        }
        self.method_len = (len + bytes.len()).min(self.method.len()) as u8;
    }

    fn request(&self) -> Request {
        let method = match &self.method[..usize::from(self.method_len)] {
            b"HEAD" => Method::Head,
            b"CONNECT" => Method::Connect,
            _ => Method::Other,
        };
        Request { method, is_http10: self.is_http10 }
    }
}

/// What a status line says about its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: u16,
    pub(super) is_http10: bool,
}

/// A status line being read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StatusLine {
    state: StatusState,
    status: Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StatusState {
    Version(u8),
    Blank,
    Code { digits: u8 },
    Reason,
    Lf,
}

impl Default for StatusState {
    fn default() -> Self {
        Self::Version(0)
    }
}

impl StatusLine {
    /// Whether nothing was seen.
    pub(super) fn is_before(self) -> bool {
        self.state == StatusState::default()
    }

    pub(super) fn feed(&mut self, input: &[u8]) -> Progress<Status> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            let step = match (self.state, byte) {
                (StatusState::Version(matched), _) => match version_step(matched, byte) {
                    Version::Goes(matched) => Ok(StatusState::Version(matched)),
                    Version::Ends { is_http10 } => {
                        self.status.is_http10 = is_http10;
                        Ok(StatusState::Blank)
                    }
                    Version::Other => Err(OpaqueReason::Version),
                },
                (StatusState::Blank, b' ') => Ok(StatusState::Code { digits: 0 }),
                (StatusState::Code { digits: digits @ 0..3 }, b'0'..=b'9') => {
                    self.status.code = self.status.code * 10 + u16::from(byte - b'0');
                    Ok(StatusState::Code { digits: digits + 1 })
                }
                (StatusState::Code { digits: 3 }, b' ') if self.status.code >= 100 => {
                    Ok(StatusState::Reason)
                }
                // Many servers leave out the blank before an empty reason.
                (StatusState::Code { digits: 3 }, b'\r') if self.status.code >= 100 => {
                    Ok(StatusState::Lf)
                }
                (StatusState::Reason, _) => {
                    at += value_run(&input[at..]);
                    match input.get(at) {
                        None => break,
                        Some(b'\r') => Ok(StatusState::Lf),
                        Some(_) => Err(OpaqueReason::LineEnd),
                    }
                }
                (StatusState::Lf, b'\n') => return Progress::End(at + 1, self.status),
                (StatusState::Lf, _) => Err(OpaqueReason::LineEnd),
                (StatusState::Blank | StatusState::Code { .. }, _) => {
                    Err(OpaqueReason::RequestLine)
                }
            };
            match step {
                Ok(state) => self.state = state,
                Err(reason) => return Progress::Broken(at, reason),
            }
            at += 1;
        }
        Progress::More
    }
}

enum Version {
    Goes(u8),
    Ends { is_http10: bool },
    Other,
}

/// The next byte of a version of which so many are there.
fn version_step(matched: u8, byte: u8) -> Version {
    match (VERSION.get(usize::from(matched)), byte) {
        (Some(expected), _) if *expected == byte => Version::Goes(matched + 1),
        (None, b'0') => Version::Ends { is_http10: true },
        (None, b'1') => Version::Ends { is_http10: false },
        _ => Version::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OpaqueReason as R;

    #[test]
    fn request_lines_are_read_strictly() {
        let end = |method, is_http10| Ok(Request { method, is_http10 });
        #[rustfmt::skip]
        let rows: [(&[u8], Result<Request, R>); 26] = [
            (b"GET / HTTP/1.1\r\n", end(Method::Other, false)),
            (b"HEAD * HTTP/1.0\r\n", end(Method::Head, true)),
            (b"CONNECT a:1 HTTP/1.1\r\n", end(Method::Connect, false)),
            (b"CONNECTED a:1 HTTP/1.1\r\n", end(Method::Other, false)),
            (b"head / HTTP/1.1\r\n", end(Method::Other, false)),
            (b"\r\n\r\nGET /\xc3\xa4?q=\"<> HTTP/1.1\r\n", end(Method::Other, false)),
            (b"M-S!#$%&'*+-.^_`|~ / HTTP/1.1\r\n", end(Method::Other, false)),
            (b" GET / HTTP/1.1\r\n", Err(R::RequestLine)),
            (b"GET  / HTTP/1.1\r\n", Err(R::RequestLine)),
            (b"GET /  HTTP/1.1\r\n", Err(R::Version)),
            (b"GET / HTTP/1.1 \r\n", Err(R::RequestLine)),
            (b"GET /a b HTTP/1.1\r\n", Err(R::Version)),
            (b"GET\t/ HTTP/1.1\r\n", Err(R::RequestLine)),
            (b"GET /\r\n", Err(R::Version)),
            (b"GET /\0 HTTP/1.1\r\n", Err(R::RequestLine)),
            (b"GET / HTTP/1.2\r\n", Err(R::Version)),
            (b"GET / HTTP/1.10\r\n", Err(R::RequestLine)),
            (b"GET / HTTP/2.0\r\n", Err(R::Version)),
            (b"GET / http/1.1\r\n", Err(R::Version)),
            (b"GET / RTSP/1.0\r\n", Err(R::Version)),
            (b"GET / HTTP/1.1\n", Err(R::LineEnd)),
            (b"GET / HTTP/1.1\rX", Err(R::LineEnd)),
            (b"\nGET / HTTP/1.1\r\n", Err(R::LineEnd)),
            (b"\rGET / HTTP/1.1\r\n", Err(R::LineEnd)),
            (b"G(T / HTTP/1.1\r\n", Err(R::RequestLine)),
            (b"\x16\x03\x01", Err(R::RequestLine)),
        ];
        for (line, expected) in rows {
            for split in 0..line.len() {
                let mut reader = RequestLine::default();
                let read = match reader.feed(&line[..split]) {
                    Progress::More => match reader.feed(&line[split..]) {
                        Progress::End(used, request) => {
                            assert_eq!(split + used, line.len());
                            Ok(request)
                        }
                        Progress::Broken(_, reason) => Err(reason),
                        Progress::More => panic!("{} goes on", line.escape_ascii()),
                    },
                    Progress::Broken(_, reason) => Err(reason),
                    Progress::End(..) => panic!("{} ended early", line.escape_ascii()),
                };
                assert_eq!(read, expected, "{} split at {split}", line.escape_ascii());
            }
        }
    }

    #[test]
    fn status_lines_are_read_strictly() {
        let end = |code, is_http10| Some(Status { code, is_http10 });
        #[rustfmt::skip]
        let rows: [(&[u8], Option<Status>); 13] = [
            (b"HTTP/1.1 200 OK\r\n", end(200, false)),
            (b"HTTP/1.0 404 \r\n", end(404, true)),
            (b"HTTP/1.1 101\r\n", end(101, false)),
            (b"HTTP/1.1 299 \xe4 tab\there\r\n", end(299, false)),
            (b"HTTP/1.1 20 OK\r\n", None),
            (b"HTTP/1.1 2000 OK\r\n", None),
            (b"HTTP/1.1 099 OK\r\n", None),
            (b"HTTP/1.1  200 OK\r\n", None),
            (b"HTTP/1.1 200 OK\n", None),
            (b"HTTP/1.1 200 O\0\r\n", None),
            (b"HTTP/2 200\r\n", None),
            (b"ICY 200 OK\r\n", None),
            (b"\r\nHTTP/1.1 200 OK\r\n", None),
        ];
        for (line, expected) in rows {
            for split in 0..line.len() {
                let mut reader = StatusLine::default();
                let mut read = reader.feed(&line[..split]);
                if read == Progress::More {
                    read = reader.feed(&line[split..]);
                }
                let read = match read {
                    Progress::End(_, status) => Some(status),
                    Progress::Broken(..) => None,
                    Progress::More => panic!("{} goes on", line.escape_ascii()),
                };
                assert_eq!(read, expected, "{} split at {split}", line.escape_ascii());
            }
        }
    }
}
