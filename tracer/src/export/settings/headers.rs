//! Headers of exports, as `name=value` lists with percent-encoding.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Environment, SettingsError, Signal};

/// The option's headers, else the environment's. They hold secrets: no message repeats them.
pub(super) fn resolve(
    given: Option<&String>,
    signal: Signal,
    environment: &mut Environment<'_>,
) -> Result<HeaderMap, SettingsError> {
    if let Some(list) = given {
        let (headers, bad) = parse_headers(list);
        return if bad == 0 { Ok(headers) } else { Err(SettingsError::Headers) };
    }
    let Some((variable, list)) = environment.otlp(signal, "HEADERS") else {
        return Ok(HeaderMap::new());
    };
    let (headers, bad) = parse_headers(&list);
    if bad > 0 {
        let problem = format!(
            "{bad} of its headers are malformed and ignored; write name=value,name2=value2"
        );
        environment.warn(&variable, &problem);
    }
    Ok(headers)
}

/// A list in the form of W3C Baggage without properties; also counts malformed members.
fn parse_headers(list: &str) -> (HeaderMap, usize) {
    let mut headers = HeaderMap::new();
    let mut bad = 0;
    for member in list.split(',').map(str::trim).filter(|member| !member.is_empty()) {
        match parse_header(member) {
            Some((name, value)) => {
                headers.insert(name, value);
            }
            None => bad += 1,
        }
    }
    (headers, bad)
}

fn parse_header(member: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = member.split_once('=')?;
    let name = HeaderName::from_bytes(percent_decode(name.trim())?.as_bytes()).ok()?;
    let mut value = HeaderValue::from_str(&percent_decode(value.trim())?).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            (digit()? * 16 + digit()?) as u8
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}
