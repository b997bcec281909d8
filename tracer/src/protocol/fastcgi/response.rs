//! The response's head, as the gateway interface has it: header fields of which one at least is the
//! interface's own (`Status`, `Location` or `Content-Type`), and an empty line (RFC 3875 section 6).
//!
//! Must not know records: it is given the standard output of a request from its first byte.

use crate::exchange::{HeaderInterest, HttpVersion, ResponseHead};
pub(super) use crate::protocol::fields::end_of_head as end;
use crate::protocol::fields::{asked_name, text};

/// Of a response that names no status.
const DEFAULT_STATUS: u16 = 200;
/// Of one that names none, but another place.
const REDIRECT: u16 = 302;
/// Bytes of a field's name at most, where nothing proves yet that there are fields.
const MAX_UNPROVEN: usize = 64;

/// Whether output starts like a header field.
pub(super) fn may_start(bytes: &[u8]) -> bool {
    let name = bytes.iter().take(MAX_UNPROVEN).position(|byte| *byte == b':');
    name.is_some_and(|len| is_name(&bytes[..len]))
}

/// Reads a complete head, in answer to a request of this version; `None` if it is none.
pub(super) fn head(
    bytes: &[u8],
    version: HttpVersion,
    interest: &HeaderInterest,
) -> Option<ResponseHead> {
    let (mut status, mut implied, mut headers) = (None, None, Vec::new());
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // A status line is what PHP writes if it is told to; a blank continues the field before.
        if index == 0 && line.starts_with(b"HTTP/") {
            let blank = line.iter().position(|byte| *byte == b' ')?;
            status = Some(code(&line[blank + 1..])?);
            continue;
        }
        if line.first().is_none_or(|first| matches!(first, b' ' | b'\t')) {
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let name =
            Some(name).filter(|name| is_name(name)).and_then(|it| str::from_utf8(it).ok())?;
        if name.eq_ignore_ascii_case("status") {
            status = Some(code(value)?);
        }
        if name.eq_ignore_ascii_case("location") {
            implied = Some(REDIRECT);
        } else if name.eq_ignore_ascii_case("content-type") {
            implied = implied.or(Some(DEFAULT_STATUS));
        }
        if let Some(name) = asked_name(name.as_bytes(), &interest.response) {
            headers.push((name, text(value)));
        }
    }
    Some(ResponseHead { status: status.or(implied)?, version, headers })
}

/// The three digits of a final status.
fn code(text: &[u8]) -> Option<u16> {
    let digits = text.first_chunk::<3>()?;
    let code = str::from_utf8(digits).ok()?.parse().ok()?;
    (code >= 200 && text.get(3).is_none_or(|next| !next.is_ascii_digit())).then_some(code)
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> Option<u16> {
        let end = end(text.as_bytes(), 0)?;
        let interest = HeaderInterest::default();
        Some(head(&text.as_bytes()[..end], HttpVersion::Http11, &interest)?.status)
    }

    #[test]
    fn the_status_is_a_field_or_implied() {
        assert_eq!(status("Content-type: text/html\r\n\r\n<p>"), Some(200));
        assert_eq!(status("X: y\nstatus:404\n\n"), Some(404));
        assert_eq!(status("Status: 503 Service Unavailable\r\nX: y\r\n\r\n"), Some(503));
        assert_eq!(status("Location: /\r\nContent-Type: x\r\n\r\n"), Some(302));
        assert_eq!(status("Status: 301\r\nLocation: /\r\n\r\n"), Some(301));
        assert_eq!(status("HTTP/1.1 418 Teapot\r\nA: b\r\n c\r\n\r\n"), Some(418));
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for text in [
            "no field\r\n\r\n",
            "Not: ours\n\n",
            "Status: abc\r\n\r\n",
            "Status: 100\n\n",
            "a b: c\n\n",
            "A: b\r\n",
        ] {
            assert_eq!(status(text), None, "{text:?}");
        }
        assert!(may_start(b"X-Powered-By: PHP") && may_start(b"Status:"));
        assert!(!may_start(b"<html>: ") && !may_start(b"Status") && !may_start(b": "));
    }

    #[test]
    fn asked_fields_are_kept() {
        let interest = HeaderInterest { response: vec!["x-cache".into()], ..Default::default() };
        let bytes = b"X-Cache: hit \r\nStatus: 200\r\n\r\n";
        let head = head(bytes, HttpVersion::Http10, &interest).unwrap();
        assert_eq!(head.headers, [("x-cache".into(), "hit".into())]);
        assert_eq!(head.version, HttpVersion::Http10);
    }
}
