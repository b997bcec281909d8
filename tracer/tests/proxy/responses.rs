//! Streams of responses, and what they mean for the request that follows.

/// Requests, the stream that answers them, and whether the next request gets a context.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) requests: Vec<u8>,
    pub(crate) response: Vec<u8>,
    /// Heads that get one in all.
    pub(crate) injected: usize,
}

/// The request that follows.
pub(crate) const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nHost: a\r\n\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
const CONNECT: &str = "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n";
const UPGRADE: &str =
    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

pub(crate) fn all() -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |name: &str, requests: String, response: String, followed: bool| {
        let injected = requests.matches(" HTTP/1.1\r\n").count() + usize::from(followed);
        let (requests, response) = (requests.into_bytes(), response.into_bytes());
        all.push(Case { name: name.to_owned(), requests, response, injected });
    };
    // After these, requests go on, and are given contexts.
    for (name, response) in [
        ("length", OK),
        ("no content", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("not modified", "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n"),
        ("length zero", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        ("no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
        ("empty reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"),
        ("odd reason", "HTTP/1.1 299 \u{e4}\t!\r\nContent-Length: 0\r\n\r\n"),
        ("odd status", "HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n"),
        ("HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("continue", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (
            "processing twice",
            "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 204 x\r\n\r\n",
        ),
        ("early hints", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 x\r\n\r\n"),
        ("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        (
            "chunked, extensions",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=\"b\"\r\nok\r\n0;c\r\n\r\n",
        ),
        (
            "chunked, trailers",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nDigest: x\r\ntraceparent: y\r\n\r\n",
        ),
        ("a context of its own", "HTTP/1.1 200 OK\r\ntraceparent: x\r\nContent-Length: 0\r\n\r\n"),
        (
            "a response as body",
            "HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\nHTTP/1.1 101 x\r\n\r\n\r",
        ),
        ("upgrade offered", "HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n"),
        (
            "upgrade demanded",
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
        ),
        // What follows cannot be told, but none of it can be a switch of protocols.
        ("bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        ("folded", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"),
        (
            "length and coding",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("broken chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n0\r\n\r\n"),
        ("odd coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("bad field name", "HTTP/1.1 200 OK\r\nX : 1\r\nContent-Length: 0\r\n\r\n"),
        ("no field", "HTTP/1.1 200 OK\r\nnothing\r\nContent-Length: 0\r\n\r\n"),
        ("NUL", "HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 0\r\n\r\n"),
        ("Shoutcast", "ICY 200 OK\r\n\r\n"),
        ("HTTP/0.9", "<html>hello</html>"),
        ("binary", "\0\x01\x02\x03"),
        (
            "two for one",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        ("status of two digits", "HTTP/1.1 20 OK\r\n\r\n"),
        ("status of four digits", "HTTP/1.1 2000 OK\r\n\r\n"),
        ("switch that nobody asked for", SWITCH),
        ("line end before", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        add(&format!("{name}, alone"), GET.into(), response.into(), true);
        add(&format!("{name}, after another"), [GET, GET].concat(), [OK, response].concat(), true);
    }
    let until_close = "HTTP/1.1 200 OK\r\n\r\nall of it";
    for (name, requests, response, followed) in [
        ("until close", GET.into(), until_close.to_owned(), false),
        ("until close, HTTP/1.0", GET.into(), until_close.replace("1.1", "1.0"), false),
        ("until close, after another", [GET, GET].concat(), [OK, until_close].concat(), false),
        ("of HEAD, without length", HEAD.into(), "HTTP/1.1 200 OK\r\n\r\n".into(), true),
        (
            "of HEAD, with length",
            HEAD.into(),
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".into(),
            true,
        ),
        (
            "of HEAD, chunked",
            HEAD.into(),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
            true,
        ),
        (
            "HEAD, then GET",
            [HEAD, GET].concat(),
            ["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", OK].concat(),
            true,
        ),
        ("tunnel", CONNECT.into(), "HTTP/1.1 200 Connection established\r\n\r\n".into(), false),
        (
            "tunnel refused",
            CONNECT.into(),
            "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n".into(),
            false,
        ),
        ("switched", UPGRADE.into(), SWITCH.into(), false),
        ("switched, with bytes behind", UPGRADE.into(), [SWITCH, "\x01\x02"].concat(), false),
        (
            "switched, after hints",
            UPGRADE.into(),
            ["HTTP/1.1 103 x\r\n\r\n", SWITCH].concat(),
            false,
        ),
        ("switched, later", [GET, UPGRADE].concat(), [OK, SWITCH].concat(), false),
        ("switch refused", UPGRADE.into(), OK.into(), true),
        ("switch refused, later", [GET, UPGRADE].concat(), [OK, OK].concat(), true),
        (
            "switch refused, chunked",
            UPGRADE.into(),
            "HTTP/1.1 400 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            true,
        ),
        (
            "switch after a lost response",
            [GET, UPGRADE].concat(),
            ["ICY 200\r\n", SWITCH].concat(),
            false,
        ),
        ("switch undecided", UPGRADE.into(), "HTTP/1.1 100 Continue\r\n\r\n".into(), false),
    ] {
        add(name, requests, response, followed);
    }
    all
}
