//! Streams of requests: valid, odd, malformed, and the published ways of smuggling.

use std::fmt::Write as _;

/// What a client sends.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// Heads that are given a context.
    pub(crate) injected: usize,
    /// Nothing is withheld at its end.
    pub(crate) is_complete: bool,
}

const GET: &str = "GET /probe HTTP/1.1\r\nHost: a\r\n\r\n";
/// A request inside a body, which is none.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nX: ";

fn stream(name: impl Into<String>, bytes: impl Into<Vec<u8>>, injected: usize) -> Stream {
    Stream { name: name.into(), bytes: bytes.into(), injected, is_complete: true }
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut coded = Vec::new();
    for chunk in body.chunks(size) {
        coded.extend(format!("{:x}\r\n", chunk.len()).bytes());
        coded.extend(chunk);
        coded.extend(b"\r\n");
    }
    coded.extend(b"0\r\n\r\n");
    coded
}

/// Requests that nobody can misread, each followed by another.
pub(crate) fn valid() -> Vec<Stream> {
    let mut all = Vec::new();
    let mut add = |name: String, request: &[u8]| {
        all.push(stream(format!("valid: {name}"), [request, GET.as_bytes()].concat(), 2));
    };
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"]
    {
        for version in ["1.0", "1.1"] {
            let head = format!("{method} /a HTTP/{version}\r\nHost: a\r\n\r\n");
            add(format!("{method} HTTP/{version}"), head.as_bytes());
        }
    }
    let odd_targets = [
        "*",
        "/",
        "//",
        "/?",
        "/a%00b",
        "/a?b#c",
        "http://a/b",
        "HTTP/1.1",
        "/\u{e4}",
        "/\"<>\\^`{|}",
        "/;=@:",
        "a:443",
        "/..//../",
        "?",
        "/HTTP/1.0",
    ];
    for target in odd_targets {
        add(
            format!("target {target}"),
            format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(),
        );
    }
    for method in ["M-SEARCH", "X", "get", "!#$%&'*+-.^_`|~09az", "CONNECTED", "HEADER", "PRI"] {
        add(format!("method {method}"), format!("{method} / HTTP/1.1\r\n\r\n").as_bytes());
    }
    let odd_fields = [
        "X:",
        "X: ",
        "X:\t",
        "X: a b\tc",
        "X:a",
        "X: \u{e4}\u{f6}",
        "X: \"a\r",
        "X!: 1",
        "0: 0",
        "TRACEPARENT-X: 1",
        "Trace: 1",
        "x-b3: 1",
        "X-B3-Other: 1",
        "B: 3",
        "traceparents: 1",
        "Content-Length-X: 9",
        "Content-Type: text/plain",
        "Expect: 100-continue",
        "Connection: close",
        "Connection: keep-alive, traceparent",
        "Host: b",
        "TE: trailers, chunked",
        "Trailer: traceparent",
        "X: Content-Length: 9",
        "X: Transfer-Encoding: chunked",
        "Cookie: a=b; c",
        "baggage: a=b",
        "X-Content-Length: 9",
        "Keep-Alive: timeout=5",
        "Max-Forwards: 0",
    ];
    for field in odd_fields.iter().filter(|field| !field.ends_with('\r')) {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        add(format!("field {field:?}"), head.as_bytes());
    }
    for fields in [0, 1, 100, 2000] {
        let mut head = "GET / HTTP/1.1\r\n".to_owned();
        (0..fields).for_each(|n| write!(head, "F{n}: {n}\r\n").unwrap());
        add(format!("{fields} fields"), format!("{head}\r\n").as_bytes());
    }
    for len in [4_000, 16_000, 60_000] {
        let long = "x".repeat(len);
        add(format!("value of {len}"), format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n").as_bytes());
        add(format!("target of {len}"), format!("GET /{long} HTTP/1.1\r\n\r\n").as_bytes());
        add(format!("name of {len}"), format!("GET / HTTP/1.1\r\nX{long}: 1\r\n\r\n").as_bytes());
    }
    for lines in 1..=4 {
        let request = format!("{}{GET}", "\r\n".repeat(lines));
        add(format!("{lines} empty lines before"), request.as_bytes());
    }
    bodies(&mut add);
    for requests in [3, 10, 200] {
        all.push(stream(format!("valid: {requests} pipelined"), GET.repeat(requests), requests));
    }
    all
}

fn bodies(add: &mut impl FnMut(String, &[u8])) {
    let contents: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("a byte", b"x".to_vec()),
        ("a request", GET.into()),
        ("part of a request", SMUGGLED.into()),
        ("line ends", b"\r\n\r\n\n\r0\r\n\r\n".to_vec()),
        ("all bytes", (0..=255).cycle().take(100_000).collect()),
    ];
    for (name, body) in &contents {
        let len = body.len();
        for (spelling, head) in [
            ("", format!("POST / HTTP/1.1\r\nContent-Length: {len}\r\n\r\n")),
            (", HTTP/1.0", format!("POST / HTTP/1.0\r\nContent-Length: {len}\r\n\r\n")),
            (", of GET", format!("GET / HTTP/1.1\r\ncontent-LENGTH:{len} \t\r\n\r\n")),
            (
                ", expected",
                format!("PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {len}\r\n\r\n"),
            ),
        ] {
            add(format!("body of {name}{spelling}"), &[head.as_bytes(), body].concat());
        }
        let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for size in [1, 7, 70_000] {
            if body.len() / size < 1000 {
                let coded = chunked(body, size);
                add(format!("chunks of {size} of {name}"), &[&head[..], &coded].concat());
            }
        }
    }
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (name, coded) in [
        ("last chunk of many zeros", "0000000\r\n\r\n"),
        ("size with leading zeros", "0003\r\nabc\r\n0\r\n\r\n"),
        ("size in upper case", "A\r\n0123456789\r\n0\r\n\r\n"),
        ("extension", "3;x\r\nabc\r\n0\r\n\r\n"),
        ("extension with value", "3;x=y\r\nabc\r\n0;z\r\n\r\n"),
        ("extension, quoted", "3;x=\"a;b\"\r\nabc\r\n0\r\n\r\n"),
        ("extension, empty", "3;\r\nabc\r\n0\r\n\r\n"),
        ("extension with blanks", "3; x = y\r\nabc\r\n0\r\n\r\n"),
        ("trailer", "3\r\nabc\r\n0\r\nDigest: x\r\n\r\n"),
        ("trailers", "0\r\nA: b\r\nC:\r\n\r\n"),
        ("trailer with a context", "0\r\ntraceparent: x\r\n\r\n"),
        ("trailer with a length", "0\r\nContent-Length: 5\r\n\r\n"),
    ] {
        add(format!("chunked, {name}"), format!("{head}{coded}").as_bytes());
    }
    for spelling in ["chunked", "Chunked", "CHUNKED", "chunked \t", "\tchunked"] {
        let request = format!("POST / HTTP/1.1\r\nTransfer-Encoding:{spelling}\r\n\r\n0\r\n\r\n");
        add(format!("coding {spelling:?}"), request.as_bytes());
    }
}

/// Heads that some read in one way and some in another: first, and after a request.
pub(crate) fn ambiguous_heads() -> Vec<Stream> {
    let mut all = Vec::new();
    let mut add = |name: String, head: &str| {
        let rest = format!("{head}{SMUGGLED}{GET}");
        all.push(stream(format!("first: {name}"), rest.clone(), 0));
        all.push(stream(format!("second: {name}"), format!("{GET}{rest}"), 1));
    };
    for line in [
        "GET  / HTTP/1.1\r\n",
        " GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1 \r\n",
        "GET /  HTTP/1.1\r\n",
        "GET\t/ HTTP/1.1\r\n",
        "GET / x HTTP/1.1\r\n",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\r",
        "GET /\r\n",
        "GET\r\n",
        "GET / HTTP/1\r\n",
        "GET / HTTP/1.\r\n",
        "GET / HTTP/1.2\r\n",
        "GET / HTTP/01.1\r\n",
        "GET / HTTP/1.1x\r\n",
        "GET / HTTP/2.0\r\n",
        "GET / HTTP/0.9\r\n",
        "GET / http/1.1\r\n",
        "GET / HTTPS/1.1\r\n",
        "GET / HTTP/1,1\r\n",
        "G\0T / HTTP/1.1\r\n",
        "G@T / HTTP/1.1\r\n",
        "GET /\0 HTTP/1.1\r\n",
        "GET /\x7f HTTP/1.1\r\n",
        "GET / HTTP/1.1\0\r\n",
        "\nGET / HTTP/1.1\r\n",
        "\rGET / HTTP/1.1\r\n",
        "\r\n GET / HTTP/1.1\r\n",
        "\x0bGET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\r\n",
    ] {
        add(format!("line {line:?}"), &format!("{line}Host: a\r\n\r\n"));
    }
    for field in [
        "X : 1",
        "X\t: 1",
        " X: 1",
        "\tX: 1",
        "X",
        ": 1",
        "X Y: 1",
        "X\0: 1",
        "X\u{e4}: 1",
        "(X): 1",
        "X: \0",
        "X: \x01",
        "X: \x7f",
        "X: a\x0bb",
        "X: a\rb",
        "X: a\nb",
        "X: a\n",
        "X: a\r\n b",
        "X: a\r\n\tb",
        "X: a\r\n :b",
        "\"X\": 1",
        "X;: 1",
        "X\\: 1",
        "X: \x1b[0m",
        "X\r: 1",
        "X:\n 1",
        "X: 1\r\r",
        "Y: 1\n\nGET /x HTTP/1.1",
    ] {
        add(format!("field {field:?}"), &format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"));
        add(
            format!("field {field:?} behind a context"),
            &format!("GET / HTTP/1.1\r\ntraceparent: x\r\n{field}\r\n\r\n"),
        );
    }
    for value in [
        "",
        "+5",
        "-5",
        "5 ",
        "5,5",
        "5, 5",
        "5,6",
        "0x5",
        "5.0",
        "5e0",
        "05",
        "00",
        "5 5",
        "5;",
        "five",
        "\"5\"",
        "99999999999999999999",
        "18446744073709551621",
        "5\t6",
        "5\u{a0}",
        "\u{665}",
        "(5)",
        "_5",
    ] {
        // A blank at the end is no part of the value.
        if value != "5 " {
            add(
                format!("length {value:?}"),
                &format!("POST / HTTP/1.1\r\nContent-Length: {value}\r\n\r\nabcde"),
            );
        }
    }
    for (name, fields) in [
        ("twice, equal", "Content-Length: 5\r\nContent-Length: 5"),
        ("twice, different", "Content-Length: 5\r\nContent-Length: 6"),
        ("twice, one zero", "Content-Length: 0\r\nContent-Length: 5"),
        ("twice, spelled differently", "Content-Length: 5\r\nCONTENT-LENGTH: 5"),
        ("with a blank", "Content-Length : 5"),
        ("with a tab", "Content-Length\t: 5"),
        ("with an underscore", "Content_Length: 5"),
        ("folded", "Content-Length:\r\n 5"),
        ("behind a NUL", "X: \0\r\nContent-Length: 5"),
        ("behind a bare LF", "X: 1\nContent-Length: 5"),
        ("behind a bare CR", "X: 1\rContent-Length: 5"),
    ] {
        add(format!("length {name}"), &format!("POST / HTTP/1.1\r\n{fields}\r\n\r\nabcde"));
    }
    codings(&mut add);
    for (name, len) in [("field", 70_000), ("fields", 8)] {
        let fields = format!("X: {}\r\n", "y".repeat(len)).repeat(if len > 100 { 1 } else { 7000 });
        add(format!("too long, by {name}"), &format!("GET / HTTP/1.1\r\n{fields}\r\n"));
    }
    add("too long, by target".into(), &format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000)));
    all
}

/// The published spellings of `Transfer-Encoding` that some servers see and others do not.
fn codings(add: &mut impl FnMut(String, &str)) {
    let body = "1e\r\nGET /smuggled HTTP/1.1\r\nX: 1234\r\n0\r\n\r\n";
    for field in [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: x chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: 'chunked'",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding:",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: \x0cchunked",
        "Transfer-Encoding: chunked\0",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "X: y\n Transfer-Encoding: chunked",
        "X: y\r Transfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Transfer-Encoding:\n chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding\r\n: chunked",
        "Transfer_Encoding: chunked",
        "Transfer-Encoding: chunk",
        "Transfer-Encoding: chunked\u{a0}",
        "Transfer-Encoding: chun\u{212a}ed",
        "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
        "Transfer-Encoding: chunked\r\nTransfer-encoding: chunked",
        "Transfer-Encoding: chunked chunked",
        "\0Transfer-Encoding: chunked",
        "Transfer-Encoding\0: chunked",
        "Transfer-Encoding: \u{feff}chunked",
    ] {
        add(format!("coding {field:?}"), &format!("POST / HTTP/1.1\r\n{field}\r\n\r\n{body}"));
        add(
            format!("length and coding {field:?}"),
            &format!("POST / HTTP/1.1\r\nContent-Length: 4\r\n{field}\r\n\r\n{body}"),
        );
    }
    for (name, fields) in [
        ("CL.TE", "Content-Length: 40\r\nTransfer-Encoding: chunked"),
        ("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 4"),
        ("CL.TE, zero", "Content-Length: 0\r\nTransfer-Encoding: chunked"),
        (
            "CL.TE, context between",
            "Content-Length: 4\r\ntraceparent: x\r\nTransfer-Encoding: chunked",
        ),
    ] {
        add(name.into(), &format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n{body}"));
    }
    add(
        "coding in HTTP/1.0".into(),
        &format!("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
    );
}

/// Bodies that end in more than one place, after a head like any other.
pub(crate) fn ambiguous_bodies() -> Vec<Stream> {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = "x".repeat(70_000);
    let mut all = Vec::new();
    for (name, body) in [
        ("no size", "\r\n0\r\n\r\n"),
        ("size is no number", "xyz\r\n0\r\n\r\n"),
        ("size with sign", "+3\r\nabc\r\n0\r\n\r\n"),
        ("size negative", "-1\r\nabc\r\n0\r\n\r\n"),
        ("size with prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("size with underscore", "0_3\r\nabc\r\n0\r\n\r\n"),
        ("size with blank before", " 3\r\nabc\r\n0\r\n\r\n"),
        ("size with blank after", "3 \r\nabc\r\n0\r\n\r\n"),
        ("size with tab after", "3\t\r\nabc\r\n0\r\n\r\n"),
        ("size with NUL", "3\0\r\nabc\r\n0\r\n\r\n"),
        ("size with quotes", "\"3\"\r\nabc\r\n0\r\n\r\n"),
        ("size overflows 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("size at the limit of 64 bits", "ffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
        ("size ends with LF", "3\nabc\r\n0\r\n\r\n"),
        ("size ends with CR", "3\rabc\r\n0\r\n\r\n"),
        ("size ends with CR CR LF", "3\r\r\nabc\r\n0\r\n\r\n"),
        ("extension ends with LF", "3;x\nabc\r\n0\r\n\r\n"),
        ("extension with CR", "3;x\ry\r\nabc\r\n0\r\n\r\n"),
        ("extension with NUL", "3;x\0\r\nabc\r\n0\r\n\r\n"),
        ("extension without semicolon", "3 x\r\nabc\r\n0\r\n\r\n"),
        ("data ends with LF", "3\r\nabc\n0\r\n\r\n"),
        ("data ends with CR", "3\r\nabc\r0\r\n\r\n"),
        ("data too long", "3\r\nabcd\r\n0\r\n\r\n"),
        ("data too short", "4\r\nabc\r\n0\r\n\r\n"),
        ("data without end", "3\r\nabc0\r\n\r\n"),
        ("last chunk ends with LF", "0\n\r\n"),
        ("end is LF", "0\r\n\n"),
        ("end is CR", "0\r\n\rX"),
        ("trailer ends with LF", "0\r\nA: b\n\r\n"),
        ("trailer folded", "0\r\nA: b\r\n c\r\n\r\n"),
        ("trailer with blank", "0\r\nA : b\r\n\r\n"),
        ("trailer without colon", "0\r\nA\r\n\r\n"),
        ("trailer is a request", "0\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
        ("trailer with NUL", "0\r\nA: \0\r\n\r\n"),
        ("trailer with two lengths", "0\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        ("extension too long", &*format!("3;{long}\r\nabc\r\n0\r\n\r\n")),
        ("trailer too long", &*format!("0\r\nA: {long}\r\n\r\n")),
    ] {
        let rest = format!("{head}{body}{GET}");
        all.push(stream(format!("first chunk: {name}"), rest.clone(), 1));
        let later = format!("{head}2\r\nhi\r\n{body}{GET}");
        all.push(stream(format!("second chunk: {name}"), format!("{GET}{later}"), 2));
    }
    for (name, body, injected) in [("short", "abc", 2), ("long", "abcdefgh", 1)] {
        let head = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
        // The next request begins where the length says, whatever stands there.
        all.push(stream(format!("length, {name}"), format!("{head}{body}\r\n{GET}"), injected));
    }
    all
}

/// What is no HTTP/1.x from its first byte on.
pub(crate) fn other_protocols() -> Vec<Stream> {
    let mut all = Vec::new();
    for (name, start) in [
        ("TLS", &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..]),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
        ("Redis", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"),
        ("Redis, inline", b"PING\r\n"),
        ("memcached", b"get key\r\n"),
        ("memcached, set", b"set k 0 0 5\r\nhello\r\n"),
        ("PostgreSQL", b"\x00\x00\x00\x08\x04\xd2\x16\x2f"),
        ("MySQL", b"\x20\x00\x00\x01\x85\xa6\xff\x01"),
        ("SMTP", b"EHLO example.org\r\nMAIL FROM:<a@b>\r\n"),
        ("IMAP", b"a001 LOGIN user pass\r\n"),
        ("POP3", b"USER anonymous\r\n"),
        ("FTP", b"USER anonymous\r\nPASS x\r\n"),
        ("RTSP", b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
        ("SIP", b"REGISTER sip:a SIP/2.0\r\nVia: x\r\n\r\n"),
        ("AMQP", b"AMQP\x00\x00\x09\x01"),
        ("Kafka", b"\x00\x00\x00\x14\x00\x12\x00\x00"),
        ("MQTT", b"\x10\x0c\x00\x04MQTT\x04\x02"),
        ("NATS", b"CONNECT {\"verbose\":false}\r\nPING\r\n"),
        ("MongoDB", b"\x3a\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xd4\x07\x00\x00"),
        ("Gearman", b"\x00REQ\x00\x00\x00\x01"),
        ("ZooKeeper", b"ruok\n"),
        ("beanstalkd", b"put 0 0 60 5\r\nhello\r\n"),
        ("DNS", b"\x00\x1d\xaa\xaa\x01\x00\x00\x01"),
        ("LDAP", b"\x30\x0c\x02\x01\x01\x60\x07"),
        ("PROXY protocol", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"),
        ("PROXY protocol 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"),
        ("HTTP/0.9", b"GET /index.html\r\n"),
        ("HTTP/1.1, a response", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("almost HTTP/2", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"),
        ("almost HTTP/2, early", b"PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("nulls", b"\0\0\0\0\0\0\0\0"),
        ("line ends", b"\n\n\n\n"),
        ("text", b"Hello, World!\n"),
        ("magic", b"ABCD\x01\x02"),
        ("XMPP", b"<?xml version='1.0'?><stream:stream>"),
        ("Thrift", b"\x00\x00\x00\x11\x80\x01\x00\x01\x00\x00\x00\x04ping"),
    ] {
        all.push(stream(format!("protocol: {name}"), start, 0));
        all.push(stream(
            format!("protocol: {name}, then HTTP"),
            [start, GET.as_bytes()].concat(),
            0,
        ));
    }
    all
}

/// Requests after which the connection is something else.
pub(crate) fn tunnels() -> Vec<Stream> {
    let websocket = "GET /chat HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    [
        ("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 1),
        ("CONNECT in HTTP/1.0", "CONNECT a:443 HTTP/1.0\r\n\r\n", 1),
        ("CONNECT with length zero", "CONNECT a:443 HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 1),
        ("websocket", websocket, 1),
        ("h2c", "GET / HTTP/1.1\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", 1),
        (
            "upgrade with a body",
            "POST / HTTP/1.1\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\nhi",
            1,
        ),
        ("upgrade to TLS", "OPTIONS * HTTP/1.1\r\nUpgrade: TLS/1.0\r\n\r\n", 1),
        ("empty upgrade", "GET / HTTP/1.1\r\nUpgrade:\r\n\r\n", 1),
    ]
    .into_iter()
    .flat_map(|(name, head, injected)| {
        [
            stream(format!("tunnel: {name}"), format!("{head}{GET}"), injected),
            stream(format!("tunnel: {name}, later"), format!("{GET}{head}{GET}"), injected + 1),
            stream(format!("tunnel: {name}, then bytes"), format!("{head}\x16\x03\0\0"), injected),
        ]
    })
    .collect()
}

/// Streams that end in the middle of a request.
pub(crate) fn broken_off() -> Vec<Stream> {
    let request = "POST /a HTTP/1.1\r\nHost: a\r\ntraceparent: x\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\nDigest: x\r\n\r\n";
    let head = request.find("\r\n\r\n").unwrap() + 4;
    let mut all: Vec<_> = (0..head)
        .map(|len| Stream {
            is_complete: false,
            ..stream(format!("broken off in the head after {len}"), &request.as_bytes()[..len], 0)
        })
        .collect();
    // The context that stands there is replaced, so it must not be in what is compared.
    let request = request.replace("traceparent: x\r\n", "");
    let head = request.find("\r\n\r\n").unwrap() + 4;
    all.extend((head..request.len()).map(|len| {
        stream(format!("broken off in the body after {len}"), &request.as_bytes()[..len], 1)
    }));
    all
}
