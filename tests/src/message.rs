//! HTTP/1.1 messages as text, for scripted peers (see [`crate::wire`]) to send and to recognise.

/// What a message's head ends with.
pub const HEAD: &str = "\r\n\r\n";

/// A request's head: request line, `Host` and further `fields`, each with its line's end.
pub fn request(method: &str, target: &str, host: &str, fields: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
}

/// A `GET` with no field but `Host`.
pub fn get(target: &str, host: &str) -> String {
    request("GET", target, host, "")
}

/// A whole `200 OK` whose body is framed by its length.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_their_heads_once() {
        assert_eq!(
            request("PUT", "/a", "a.test", "Content-Length: 4\r\n"),
            "PUT /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\n"
        );
        for message in [get("/a", "a.test"), ok("body")] {
            assert_eq!(message.matches(HEAD).count(), 1, "{message:?}");
        }
    }
}
