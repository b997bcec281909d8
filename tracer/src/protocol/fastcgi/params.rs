//! Names and values (specification section 3.4) to the request that they describe, by the
//! variables that RFC 3875 and the web servers' own examples name.
//!
//! Must not know records: it is given all parameters of a request in one piece.

use smol_str::SmolStr;

use crate::exchange::{Field, Gateway, HeaderInterest, HttpVersion, RequestHead};
use crate::protocol::fields::{asked_name, built_in_name, text};

/// What parameters say.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) head: RequestHead,
    /// Bytes of the body, as `CONTENT_LENGTH` has it.
    pub(super) body: u64,
}

/// Reads all parameters of a request; `None` if they are cut off or name no method.
pub(super) fn request(bytes: &[u8], interest: &HeaderInterest) -> Option<Request> {
    let mut variables = Variables::default();
    let mut headers: Vec<Field> = Vec::new();
    let mut name_buffer = String::new();
    for pair in Pairs(bytes) {
        let (name, value) = pair?;
        let field = match name {
            b"CONTENT_TYPE" => name,
            b"CONTENT_LENGTH" => {
                variables.set(name, value);
                name
            }
            _ => {
                let Some(field) = name.strip_prefix(b"HTTP_") else {
                    variables.set(name, value);
                    continue;
                };
                field
            }
        };
        if field.is_ascii() {
            name_buffer.clear();
            let dashed = field.iter().map(|byte| if *byte == b'_' { '-' } else { *byte as char });
            name_buffer.extend(dashed);
            let name = name_buffer.as_bytes();
            let kept_as = built_in_name(name).or_else(|| asked_name(name, &interest.request));
            if let Some(name) = kept_as {
                headers.push((name, text(value.trim_ascii())));
            }
        }
    }
    let head = RequestHead {
        method: variables.method.filter(|method| !method.is_empty()).map(text)?,
        target: variables.target(),
        version: match variables.protocol {
            Some(b"HTTP/1.0") => HttpVersion::Http10,
            _ => HttpVersion::Http11,
        },
        gateway: Some(Box::new(variables.gateway())),
        headers,
    };
    Some(Request { head, body: variables.content_length.and_then(number).unwrap_or(0) })
}

/// The variables that are about the request line and the connection.
#[derive(Default)]
struct Variables<'a> {
    method: Option<&'a [u8]>,
    uri: Option<&'a [u8]>,
    script: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    query: Option<&'a [u8]>,
    protocol: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    https: Option<&'a [u8]>,
    server: Option<&'a [u8]>,
    port: Option<&'a [u8]>,
    client: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
}

impl<'a> Variables<'a> {
    fn set(&mut self, name: &[u8], value: &'a [u8]) {
        let variable = match name {
            b"REQUEST_METHOD" => &mut self.method,
            b"REQUEST_URI" => &mut self.uri,
            b"SCRIPT_NAME" => &mut self.script,
            b"PATH_INFO" => &mut self.path,
            b"QUERY_STRING" => &mut self.query,
            b"SERVER_PROTOCOL" => &mut self.protocol,
            b"REQUEST_SCHEME" => &mut self.scheme,
            b"HTTPS" => &mut self.https,
            b"SERVER_NAME" => &mut self.server,
            b"SERVER_PORT" => &mut self.port,
            b"REMOTE_ADDR" => &mut self.client,
            b"CONTENT_LENGTH" => &mut self.content_length,
            _ => return,
        };
        *variable = Some(value);
    }

    /// As the client sent it, if that is told; else as the web server understood it.
    fn target(&self) -> SmolStr {
        if let Some(uri) = self.uri.filter(|uri| !uri.is_empty()) {
            return text(uri);
        }
        let mut target = [self.script.unwrap_or_default(), self.path.unwrap_or_default()].concat();
        if let Some(query) = self.query.filter(|query| !query.is_empty()) {
            target.push(b'?');
            target.extend_from_slice(query);
        }
        text(&target)
    }

    fn gateway(&self) -> Gateway {
        let named = |value: Option<&[u8]>| value.filter(|value| !value.is_empty()).map(text);
        let is_secure = self.https.is_some_and(|https| {
            !https.is_empty() && !https.eq_ignore_ascii_case(b"off") && https != b"0"
        });
        let secure = is_secure.then(|| SmolStr::new_static("https"));
        Gateway {
            scheme: named(self.scheme).or(secure),
            server: named(self.server),
            port: self.port.and_then(number).and_then(|port| u16::try_from(port).ok()),
            client: named(self.client),
        }
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    str::from_utf8(digits).ok()?.parse().ok()
}

/// Names and values one after the other; `None` once for what is cut off.
struct Pairs<'a>(&'a [u8]);

impl<'a> Iterator for Pairs<'a> {
    type Item = Option<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut rest = std::mem::take(&mut self.0);
        let mut pair = || {
            let (name, value) = (length(&mut rest)?, length(&mut rest)?);
            Some((split(&mut rest, name)?, split(&mut rest, value)?))
        };
        let pair = pair();
        if pair.is_some() {
            self.0 = rest;
        }
        Some(pair)
    }
}

/// One byte, or four of which the first has its highest bit set.
fn length(bytes: &mut &[u8]) -> Option<usize> {
    if bytes.first()? & 0x80 == 0 {
        return split(bytes, 1).map(|byte| usize::from(byte[0]));
    }
    let long = split(bytes, 4)?;
    Some(u32::from_be_bytes([long[0] & 0x7f, long[1], long[2], long[3]]) as usize)
}

fn split<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in pairs {
            for text in [name, value] {
                match u8::try_from(text.len()) {
                    Ok(short) if short < 0x80 => bytes.push(short),
                    _ => bytes.extend((text.len() as u32 | 1 << 31).to_be_bytes()),
                }
            }
            bytes.extend([name.as_bytes(), value.as_bytes()].concat());
        }
        bytes
    }

    fn read(pairs: &[(&str, &str)]) -> Request {
        request(&encoded(pairs), &HeaderInterest::default()).unwrap()
    }

    #[test]
    fn variables_become_a_request() {
        let long = "x".repeat(300);
        let uri = format!("/a%20b?{long}");
        let Request { head, body } = read(&[
            ("SCRIPT_FILENAME", "/srv/index.php"),
            ("QUERY_STRING", "other"),
            ("REQUEST_METHOD", "POST"),
            ("CONTENT_TYPE", "text/plain"),
            ("CONTENT_LENGTH", "12"),
            ("REQUEST_URI", &uri),
            ("SERVER_PROTOCOL", "HTTP/1.0"),
            ("REQUEST_SCHEME", "https"),
            ("REMOTE_ADDR", "10.0.0.9"),
            ("SERVER_PORT", "8443"),
            ("SERVER_NAME", "shop.test"),
            ("HTTP_HOST", "shop.test:8443"),
            ("HTTP_TRACEPARENT", "00-1"),
            ("HTTP_X_FORWARDED_FOR", " 1.1.1.1 "),
            ("HTTP_X_B3_TRACEID", "7"),
            ("HTTP_COOKIE", "secret"),
            ("", ""),
        ]);
        assert_eq!((&*head.method, &*head.target), ("POST", &*uri));
        assert_eq!((head.version, body), (HttpVersion::Http10, 12));
        let kept: Vec<_> = head.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let expected = [
            ("content-type", "text/plain"),
            ("host", "shop.test:8443"),
            ("traceparent", "00-1"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-b3-traceid", "7"),
        ];
        assert_eq!(kept, expected);
        let gateway = Gateway {
            scheme: Some("https".into()),
            server: Some("shop.test".into()),
            port: Some(8443),
            client: Some("10.0.0.9".into()),
        };
        assert_eq!(head.gateway.as_deref(), Some(&gateway));
    }

    #[test]
    fn the_target_may_be_in_parts_and_the_scheme_in_a_flag() {
        let parts = [
            ("REQUEST_METHOD", "GET"),
            ("SCRIPT_NAME", "/index.php"),
            ("PATH_INFO", "/x"),
            ("QUERY_STRING", "a=b"),
            ("HTTPS", "on"),
        ];
        let head = read(&parts).head;
        assert_eq!(head.target, "/index.php/x?a=b");
        assert_eq!(head.gateway.unwrap().scheme.as_deref(), Some("https"));
        let head = read(&[("REQUEST_METHOD", "GET"), ("HTTPS", "off")]).head;
        assert_eq!((&*head.target, head.gateway), ("", Some(Box::default())));
    }

    #[test]
    fn asked_fields_are_kept_by_their_http_names() {
        let asked = ["x-request-id", "content-type"].map(str::to_owned).to_vec();
        let interest = HeaderInterest { request: asked, ..Default::default() };
        let pairs = [
            ("REQUEST_METHOD", "GET"),
            ("HTTP_X_REQUEST_ID", "17"),
            ("HTTP_X_OTHER", "1"),
            ("CONTENT_TYPE", "text/plain"),
        ];
        let head = request(&encoded(&pairs), &interest).unwrap().head;
        let kept: Vec<_> = head.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(kept, [("x-request-id", "17"), ("content-type", "text/plain")]);
    }

    #[test]
    fn what_is_cut_off_or_no_request_is_refused() {
        let whole = encoded(&[("REQUEST_METHOD", "GET"), ("A", &"b".repeat(200))]);
        let interest = HeaderInterest::default();
        assert!(request(&whole, &interest).is_some());
        for cut in 1..whole.len() {
            // All of the first pair and nothing of the second is a request too.
            let is_whole = cut == 2 + "REQUEST_METHODGET".len();
            assert_eq!(request(&whole[..cut], &interest).is_some(), is_whole, "{cut}");
        }
        assert!(request(&encoded(&[("REQUEST_URI", "/")]), &interest).is_none());
        assert!(request(b"", &interest).is_none());
    }
}
