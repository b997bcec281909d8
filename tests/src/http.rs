//! A minimal HTTP/1.1 client for poking at services: one request, one connection, no reuse.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A response, as far as tests look at one.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Everything after the head, as sent (not de-chunked).
    pub body: String,
}

/// `GET path` with further header fields; reads until the server closes.
pub fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("nobody listens at {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).with_context(|| format!("no answer to GET {path}"))?;
    let text = String::from_utf8_lossy(&bytes);
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    ensure!(text.starts_with("HTTP/1.") && status.is_some(), "not an HTTP response: {text:?}");
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(Response { status: status.unwrap_or_default(), body: body.to_owned() })
}

/// A path that makes those of the tests' services which call others call `url`.
pub fn calling(url: &str) -> String {
    url.bytes().fold("/call?url=".to_owned(), |mut path, byte| {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "%{byte:02X}");
        }
        path
    })
}
