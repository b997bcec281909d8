//! Protects: messages are found in the byte stream exactly, however they are framed and wherever
//! calls cut them.

use anyhow::Result;
use tracer_tests::conversation::{Conversation, check};
use tracer_tests::message::{HEAD, get, ok, request};
use tracer_tests::wire::{bytewise, end, send, sip, until};

/// Protects: where calls cut a message does not matter, down to one byte a call.
#[test]
fn heads_and_bodies_in_pieces() -> Result<()> {
    check(&[
        Conversation {
            host: "whole.test",
            server: vec![until(HEAD), send(ok("hello")), end()],
            client: vec![send(get("/", "whole.test")), until("hello")],
            spans: &["server GET / 200", "client GET / 200"],
        },
        Conversation {
            host: "bytewise.test",
            server: vec![sip(HEAD), bytewise(ok("hello")), end()],
            client: vec![bytewise(get("/b?q=1", "bytewise.test")), sip("hello")],
            spans: &["server GET /b 200", "client GET /b 200"],
        },
        // The head ends in the middle of a read, its last bytes alone.
        Conversation {
            host: "last-byte.test",
            server: vec![
                until("Host: last-byte.test\r\n\r"),
                sip("\n"),
                send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r"),
                send("\nhello"),
                end(),
            ],
            client: vec![
                send("GET / HTTP/1.1\r\nHost: last-byte.test\r\n\r"),
                send("\n"),
                until("hello"),
            ],
            spans: &["server GET / 200", "client GET / 200"],
        },
        // Empty lines before a request are to be skipped (RFC 9112 section 2.2).
        Conversation {
            host: "blank.test",
            server: vec![until(HEAD), until(HEAD), send(ok("")), end()],
            client: vec![send("\r\n\r\n"), send(get("/after-blank", "blank.test")), until(HEAD)],
            spans: &["server GET /after-blank 200", "client GET /after-blank 200"],
        },
    ])
}

/// Protects: a body's end is found by whatever frames it, so that the next message is too.
#[test]
fn bodies_by_every_framing() -> Result<()> {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5;ext=\"a;b\"\r\nhello\r\n0\r\nTrailer: x\r\n\r\n";
    check(&[
        // Each of these leaves the connection in order for the next.
        Conversation {
            host: "framing.test",
            server: vec![
                until(HEAD),
                send(chunked),
                until(HEAD),
                send("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"),
                until(HEAD),
                send("HTTP/1.1 204 No Content\r\n\r\n"),
                until(HEAD),
                send("HTTP/1.1 304 Not Modified\r\nContent-Length: 9999\r\n\r\n"),
                until("last\r\n0\r\n\r\n"),
                send("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
                until("HEAD"),
                until(HEAD),
                send("HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n"),
                until(HEAD),
                send("HTTP/1.1 200 OK\r\n\r\nuntil the end"),
            ],
            client: vec![
                send(get("/chunked", "framing.test")),
                until("Trailer: x\r\n\r\n"),
                send(request("HEAD", "/head", "framing.test", "")),
                until(HEAD),
                send(get("/204", "framing.test")),
                until(HEAD),
                send(get("/304", "framing.test")),
                until(HEAD),
                send(request("POST", "/post", "framing.test", "Transfer-Encoding: chunked\r\n")),
                send("3\r\nfir\r\n"),
                send("6\r\nstlast\r\n0\r\n\r\n"),
                until("0\r\n\r\n"),
                send(request("HEAD", "/head-chunked", "framing.test", "")),
                until(HEAD),
                send(get("/until-close", "framing.test")),
                end(),
            ],
            spans: &[
                "server GET /chunked 200",
                "client GET /chunked 200",
                "server HEAD /head 200",
                "client HEAD /head 200",
                "server GET /204 204",
                "client GET /204 204",
                "server GET /304 304",
                "client GET /304 304",
                "server POST /post 201",
                "client POST /post 201",
                "server HEAD /head-chunked 404",
                "client HEAD /head-chunked 404 404",
                "server GET /until-close 200",
                "client GET /until-close 200",
            ],
        },
        // Bodies that look like messages are bodies.
        Conversation {
            host: "nested.test",
            server: vec![
                until(HEAD),
                until(HEAD),
                send(ok("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")),
                until(HEAD),
                send(ok("bye")),
                end(),
            ],
            client: vec![
                send(request("POST", "/outer", "nested.test", "Content-Length: 44\r\n")),
                send("GET /inner HTTP/1.1\r\nHost: nested.test  \r\n\r\n"),
                until("Oops\r\nContent-Length: 0\r\n\r\n"),
                send(get("/next", "nested.test")),
                until("bye"),
            ],
            spans: &[
                "server POST /outer 200",
                "client POST /outer 200",
                "server GET /next 200",
                "client GET /next 200",
            ],
        },
    ])
}

/// Protects: pipelined requests and responses are paired in order, wherever calls cut them.
#[test]
fn several_messages_at_once() -> Result<()> {
    let three: String = ["/1", "/2", "/3"].iter().map(|path| get(path, "pipelined.test")).collect();
    let answers = format!(
        "{}HTTP/1.1 204 No Content\r\n\r\n{}",
        ok("one"),
        "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nlast"
    );
    let mixed = get("/a", "mixed.test") + &get("/b", "mixed.test");
    let (first, second) = mixed.split_at(mixed.len() / 2 + 7);
    let split_answers = ok("A") + &ok("B");
    let (head, tail) = split_answers.split_at(20);
    check(&[
        Conversation {
            host: "pipelined.test",
            server: vec![until("/3 HTTP/1.1"), until(HEAD), send(answers), end()],
            client: vec![send(three), until("last")],
            spans: &[
                "server GET /1 200",
                "client GET /1 200",
                "server GET /2 204",
                "client GET /2 204",
                "server GET /3 404",
                "client GET /3 404 404",
            ],
        },
        Conversation {
            host: "mixed.test",
            server: vec![sip(HEAD), send(head), until(HEAD), send(tail), end()],
            client: vec![send(first), send(second), until("\r\n\r\nA"), until("\r\n\r\nB")],
            spans: &[
                "server GET /a 200",
                "client GET /a 200",
                "server GET /b 200",
                "client GET /b 200",
            ],
        },
    ])
}

/// Protects: `100 Continue` and `103 Early Hints` answer nothing; the final response does.
#[test]
fn interim_responses_are_not_final() -> Result<()> {
    check(&[
        Conversation {
            host: "continue.test",
            server: vec![
                until(HEAD),
                send("HTTP/1.1 100 Continue\r\n\r\n"),
                until("body"),
                send(ok("done")),
                end(),
            ],
            client: vec![
                send(request(
                    "PUT",
                    "/c",
                    "continue.test",
                    "Expect: 100-continue\r\nContent-Length: 4\r\n",
                )),
                until("100 Continue\r\n\r\n"),
                send("body"),
                until("done"),
            ],
            spans: &["server PUT /c 200", "client PUT /c 200"],
        },
        Conversation {
            host: "hints.test",
            server: vec![
                until(HEAD),
                send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"),
                send("HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\nHTTP/1.1 403 No\r\n"),
                send("Content-Length: 2\r\n\r\nno"),
                end(),
            ],
            client: vec![send(get("/h", "hints.test")), until("\r\n\r\nno")],
            spans: &["server GET /h 403", "client GET /h 403 403"],
        },
    ])
}
