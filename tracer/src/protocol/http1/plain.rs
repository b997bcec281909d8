//! Plain heads, which nearly all are: read in one pass, without a list of their fields.
//!
//! What is plain here means the same to the parser for all heads, whose part anything else is: a
//! head that ends later, other line ends than CR LF, tabs, bytes that do not belong there. Must not
//! know which fields are of interest.

use crate::exchange::HttpVersion;

/// Fields of a plain head at most.
const MAX_FIELDS: usize = 64;
/// What a first line ends with, or begins with.
const VERSION: usize = "HTTP/1.1".len();

/// In each byte of a word, the lowest and the highest bit.
const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// The line `method target version`, and its length.
pub(super) struct RequestLine<'a> {
    pub(super) method: &'a str,
    pub(super) target: &'a str,
    pub(super) version: HttpVersion,
    pub(super) len: usize,
}

/// The line `version status reason`, and its length.
pub(super) struct StatusLine {
    pub(super) version: HttpVersion,
    pub(super) status: u16,
    pub(super) len: usize,
}

/// Reads the first line of a plain request.
pub(super) fn request_line(bytes: &[u8]) -> Option<RequestLine<'_>> {
    let method = token(bytes);
    let rest = bytes[method.len()..].strip_prefix(b" ")?;
    let end = rest.iter().position(|byte| !byte.is_ascii_graphic())?;
    let (target, rest) = rest.split_at(end);
    let version = version(rest.strip_prefix(b" ")?)?;
    if method.is_empty() || target.is_empty() {
        return None;
    }
    let len = end_of_line(bytes, method.len() + 1 + target.len() + 1 + VERSION)?;
    let text = |bytes| str::from_utf8(bytes).ok();
    Some(RequestLine { method: text(method)?, target: text(target)?, version, len })
}

/// Reads the first line of a plain response.
pub(super) fn status_line(bytes: &[u8]) -> Option<StatusLine> {
    let version = version(bytes)?;
    let Some([b' ', status @ .., after]) = bytes.get(VERSION..)?.first_chunk::<5>() else {
        return None;
    };
    let mut code = 0;
    for digit in status {
        code = code * 10 + u16::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    let mut at = VERSION + 1 + status.len();
    if *after == b' ' {
        at += text_len(&bytes[at..]);
    }
    Some(StatusLine { version, status: code, len: end_of_line(bytes, at)? })
}

/// Shows `take` the name and the value of each field from `at` on, blanks around the value
/// included. Gives the end of the head, unless that is not there or not everything is plain.
pub(super) fn fields<'a>(
    bytes: &'a [u8],
    mut at: usize,
    mut take: impl FnMut(&'a [u8], &'a [u8]),
) -> Option<usize> {
    for _ in 0..=MAX_FIELDS {
        let line = &bytes[at..];
        if line.starts_with(b"\r\n") {
            return Some(at + 2);
        }
        let name = token(line);
        let value = line[name.len()..].strip_prefix(b":")?;
        if name.is_empty() {
            return None;
        }
        let value = &value[..text_len(value)];
        take(name, value);
        at = end_of_line(bytes, at + name.len() + 1 + value.len())?;
    }
    None
}

/// Where the next line begins, if one ends here.
fn end_of_line(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..)?.starts_with(b"\r\n").then_some(at + 2)
}

fn version(bytes: &[u8]) -> Option<HttpVersion> {
    match bytes.first_chunk()? {
        b"HTTP/1.1" => Some(HttpVersion::Http11),
        b"HTTP/1.0" => Some(HttpVersion::Http10),
        _ => None,
    }
}

/// The token characters (RFC 9110 section 5.6.2) at the beginning of these bytes.
fn token(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| !TOKEN[usize::from(*byte)]).unwrap_or(bytes.len());
    &bytes[..end]
}

static TOKEN: [bool; 256] = {
    let mut token = [false; 256];
    let mut byte = 0;
    while byte < token.len() {
        token[byte] = super::head::is_token(byte as u8);
        byte += 1;
    }
    token
};

/// How many bytes are no control characters. Eight at a time: heads are made of such texts.
fn text_len(bytes: &[u8]) -> usize {
    let mut len = 0;
    while let Some(eight) = bytes[len..].first_chunk() {
        let eight = u64::from_le_bytes(*eight);
        // The lowest high bit left is that of the first byte below a blank, or that is DEL; a
        // borrow can only tell wrong of those after it.
        let low = eight.wrapping_sub(ONES * 0x20) & !eight;
        let delete = eight ^ (ONES * 0x7f);
        let delete = delete.wrapping_sub(ONES) & !delete;
        let found = (low | delete) & HIGH;
        if found != 0 {
            return len + found.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    let rest = &bytes[len..];
    len + rest.iter().position(u8::is_ascii_control).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_end_at_control_characters_wherever_they_stand() {
        for byte in 0..=u8::MAX {
            for at in 0..20 {
                let mut bytes = [b'a'; 20];
                bytes[at] = byte;
                bytes[19] = b'\n';
                let expected = bytes.iter().position(u8::is_ascii_control);
                assert_eq!(Some(text_len(&bytes)), expected, "{byte:#x} at {at}");
            }
        }
        assert_eq!(text_len(b"abc"), 3);
        assert_eq!(text_len(b"abcdefgh"), 8);
    }
}
