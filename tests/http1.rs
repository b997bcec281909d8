//! HTTP/1.x on the wire, edge by edge: both ends do exactly what a step list says, and each end's
//! spans are compared.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use rustix::process::Signal;
use tracer_tests::service::Nginx;
use tracer_tests::wire::{
    Step, broken, bytewise, end, gate, hang, play, reset, say, send, serve, shutdown, sip,
    start_call, until,
};
use tracer_tests::{
    Agent, AgentOptions, Backend, Finished, Kind, Launcher, Process, Span, Spans, backends, layout,
    port,
};

/// End of a message head.
const HEAD: &str = "\r\n\r\n";

/// A conversation between two scripted ends, and the spans it must give.
struct Case {
    /// Host name in every request, by which the spans are told apart.
    host: &'static str,
    server: Vec<Step>,
    client: Vec<Step>,
    /// Each span as [`summary`] writes it, in any order.
    spans: &'static [&'static str],
}

/// What matters of a span here: `server GET /path 200`, `client GET / - connection_reset`.
fn summary(span: &Span) -> String {
    let kind = match span.kind {
        Kind::Server => "server",
        Kind::Client => "client",
    };
    let attribute = |name| span.attributes.text(name);
    let url = attribute("url.full").and_then(|url| url.split_once("://")).map(|(_, rest)| rest);
    let path = attribute("url.path")
        .or_else(|| url.map(|rest| rest.find('/').map_or("", |slash| &rest[slash..])))
        .map(|path| path.split_once('?').map_or(path, |(path, _)| path));
    let mut text = format!(
        "{kind} {} {}",
        attribute("http.request.method").unwrap_or("?"),
        path.unwrap_or("")
    );
    match span.http_status() {
        Some(status) => write!(text, " {status}"),
        None => write!(text, " -"),
    }
    .expect("text takes text");
    if let Some(error) = attribute("error.type") {
        text.extend([" ", error]);
    }
    text
}

fn summaries(spans: &Spans) -> Vec<String> {
    let mut lines: Vec<String> = spans.iter().map(summary).collect();
    lines.sort();
    lines
}

fn sorted(lines: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    lines.sort();
    lines
}

/// A traced launcher, and the agent that traces it.
fn start(backend: Backend) -> Result<(Launcher, Agent)> {
    let launcher = Launcher::start()?;
    let agent = AgentOptions::new(backend).pid(launcher.pid()).start()?;
    Ok((launcher, agent))
}

/// Plays all cases under one agent and compares each one's spans, then their sum.
fn check(cases: &[Case]) -> Result<()> {
    for backend in backends() {
        let (mut launcher, mut agent) = start(backend)?;
        for case in cases {
            play(&mut launcher, &case.server, &case.client)
                .with_context(|| case.host.to_owned())?;
        }
        let count = cases.iter().map(|case| case.spans.len()).sum();
        // A wait that fails is told below, case by case.
        let waited = agent.wait_for_spans(count);
        let finished = agent.stop()?;
        for case in cases {
            let spans = finished.spans.with("server.address", case.host);
            assert_eq!(
                summaries(&spans),
                sorted(case.spans),
                "{} on {backend}: {}",
                case.host,
                finished.report.json
            );
        }
        waited?;
        assert_eq!(finished.spans.len(), count, "others on {backend}:\n{}", finished.spans);
        assert_eq!(finished.report.lost(), 0, "on {backend}: {}", finished.report.json);
    }
    Ok(())
}

fn request(method: &str, target: &str, host: &str, rest: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{rest}\r\n")
}

fn get(target: &str, host: &str) -> String {
    request("GET", target, host, "")
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn heads_and_bodies_in_pieces() -> Result<()> {
    check(&[
        Case {
            host: "whole.test",
            server: vec![until(HEAD), send(ok("hello")), end()],
            client: vec![send(get("/", "whole.test")), until("hello")],
            spans: &["server GET / 200", "client GET / 200"],
        },
        Case {
            host: "bytewise.test",
            server: vec![sip(HEAD), bytewise(ok("hello")), end()],
            client: vec![bytewise(get("/b?q=1", "bytewise.test")), sip("hello")],
            spans: &["server GET /b 200", "client GET /b 200"],
        },
        // The head ends in the middle of a read, its last bytes alone.
        Case {
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
        Case {
            host: "blank.test",
            server: vec![until(HEAD), until(HEAD), send(ok("")), end()],
            client: vec![send("\r\n\r\n"), send(get("/after-blank", "blank.test")), until(HEAD)],
            spans: &["server GET /after-blank 200", "client GET /after-blank 200"],
        },
    ])
}

#[test]
fn bodies_by_every_framing() -> Result<()> {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5;ext=\"a;b\"\r\nhello\r\n0\r\nTrailer: x\r\n\r\n";
    check(&[
        // Each of these leaves the connection in order for the next.
        Case {
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
        Case {
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
        Case {
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
        Case {
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

#[test]
fn interim_responses_are_not_final() -> Result<()> {
    check(&[
        Case {
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
        Case {
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

#[test]
fn switched_connections_are_opaque() -> Result<()> {
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    check(&[
        Case {
            host: "upgrade.test",
            server: vec![
                until(HEAD),
                send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
                until(HEAD),
                send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
                until(b"\x88\x80"),
            ],
            client: vec![
                send(request("GET", "/ws", "upgrade.test", upgrade)),
                until(HEAD),
                // What looks like a request is a frame's content now.
                send(get("/frame", "upgrade.test")),
                until(HEAD),
                send(b"\x88\x80\x00\x00\x00\x00"),
                end(),
            ],
            spans: &["server GET /ws 101", "client GET /ws 101"],
        },
        // An upgrade that the server does not take.
        Case {
            host: "declined.test",
            server: vec![until(HEAD), send(ok("no")), until(HEAD), send(ok("no")), end()],
            client: vec![
                send(request("GET", "/1", "declined.test", upgrade)),
                until("\r\n\r\nno"),
                send(get("/2", "declined.test")),
                until("\r\n\r\nno"),
            ],
            spans: &[
                "server GET /1 200",
                "client GET /1 200",
                "server GET /2 200",
                "client GET /2 200",
            ],
        },
        Case {
            host: "tunnel.test",
            server: vec![
                until(HEAD),
                send("HTTP/1.1 200 Connection established\r\n\r\n"),
                until(HEAD),
                send("HTTP/1.1 500 Inside\r\nContent-Length: 0\r\n\r\n"),
                end(),
            ],
            client: vec![
                send("CONNECT tunnel.test:443 HTTP/1.1\r\nHost: tunnel.test:443\r\n\r\n"),
                until(HEAD),
                send(get("/inside", "tunnel.test")),
                until(HEAD),
            ],
            spans: &["server CONNECT  200", "client CONNECT  200"],
        },
        // A refused tunnel leaves an ordinary connection.
        Case {
            host: "refused.test",
            server: vec![
                until(HEAD),
                send("HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n"),
                until(HEAD),
                send(ok("")),
                end(),
            ],
            client: vec![
                send("CONNECT refused.test:443 HTTP/1.1\r\nHost: refused.test:443\r\n\r\n"),
                until(HEAD),
                send(get("/plain", "refused.test")),
                until(HEAD),
            ],
            spans: &[
                "server CONNECT  407",
                "client CONNECT  407 407",
                "server GET /plain 200",
                "client GET /plain 200",
            ],
        },
    ])
}

#[test]
fn old_versions_and_odd_targets() -> Result<()> {
    check(&[
        Case {
            host: "old.test",
            server: vec![until(HEAD), send("HTTP/1.0 200 OK\r\n\r\nhello")],
            client: vec![send("GET /old HTTP/1.0\r\nHost: old.test\r\n\r\n"), end()],
            spans: &["server GET /old 200", "client GET /old 200"],
        },
        Case {
            host: "kept.test",
            server: vec![
                until(HEAD),
                send("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"),
                until(HEAD),
                send("HTTP/1.0 503 Busy\r\nContent-Length: 2\r\n\r\nno"),
            ],
            client: vec![
                send("GET /1 HTTP/1.0\r\nHost: kept.test\r\nConnection: keep-alive\r\n\r\n"),
                until("\r\n\r\nok"),
                send("GET /2 HTTP/1.0\r\nHost: kept.test\r\nConnection: keep-alive\r\n\r\n"),
                end(),
            ],
            spans: &[
                "server GET /1 200",
                "client GET /1 200",
                "server GET /2 503 503",
                "client GET /2 503 503",
            ],
        },
        Case {
            host: "method.test",
            server: vec![until(HEAD), send(ok("")), until(HEAD), send(ok("")), end()],
            client: vec![
                send(request("PROPFIND", "/dav", "method.test", "Depth: 1\r\n")),
                until(HEAD),
                send(request("x-a.b!", "/token", "method.test", "")),
                until(HEAD),
            ],
            spans: &[
                "server _OTHER /dav 200",
                "client _OTHER /dav 200",
                "server _OTHER /token 200",
                "client _OTHER /token 200",
            ],
        },
        Case {
            host: "absolute.test",
            server: vec![until(HEAD), send(ok("")), until(HEAD), send(ok("")), end()],
            client: vec![
                send(request("GET", "http://absolute.test/through?a=b", "other.test", "")),
                until(HEAD),
                send(request("OPTIONS", "*", "absolute.test", "")),
                until(HEAD),
            ],
            spans: &[
                "server GET /through 200",
                "client GET /through 200",
                "server OPTIONS * 200",
                "client OPTIONS  200",
            ],
        },
    ])
}

#[test]
fn a_method_nobody_knows_is_kept_beside_other() -> Result<()> {
    for backend in backends() {
        let (mut launcher, agent) = start(backend)?;
        play(
            &mut launcher,
            &[until(HEAD), send(ok("")), end()],
            &[send(request("PROPFIND", "/dav", "method.test", "")), until(HEAD)],
        )?;
        for span in agent.stop_after(2)?.spans.iter() {
            assert_eq!(span.name, "HTTP");
            assert_eq!(span.attributes.text("http.request.method"), Some("_OTHER"));
            assert_eq!(span.attributes.text("http.request.method_original"), Some("PROPFIND"));
        }
    }
    Ok(())
}

#[test]
fn ends_that_are_not_in_step() -> Result<()> {
    check(&[
        // An answer before the body was read, and the connection closed under the client.
        Case {
            host: "early.test",
            server: vec![
                until("first"),
                send("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig"),
            ],
            client: vec![
                send(request("POST", "/early", "early.test", "Content-Length: 100000\r\n")),
                send("first"),
                until("big"),
            ],
            spans: &["server POST /early 413", "client POST /early 413 413"],
        },
        // An answer before the body was read, on a connection that lives on.
        Case {
            host: "patient.test",
            server: vec![
                until(HEAD),
                send(ok("fine")),
                until("rest"),
                until(HEAD),
                send(ok("next")),
                end(),
            ],
            client: vec![
                send(request("POST", "/1", "patient.test", "Content-Length: 4\r\n")),
                until("fine"),
                send("rest"),
                send(get("/2", "patient.test")),
                until("next"),
            ],
            spans: &[
                "server POST /1 200",
                "client POST /1 200",
                "server GET /2 200",
                "client GET /2 200",
            ],
        },
        Case {
            host: "half.test",
            server: vec![until(HEAD), end(), send("HTTP/1.1 200 OK\r\n\r\nlate")],
            client: vec![send(get("/half", "half.test")), shutdown(), until("late"), end()],
            spans: &["server GET /half 200", "client GET /half 200"],
        },
        // A response that nobody asked for, as servers send when they close an idle connection.
        Case {
            host: "idle.test",
            server: vec![
                until(HEAD),
                send(ok("hello")),
                send("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"),
            ],
            client: vec![send(get("/idle", "idle.test")), end()],
            spans: &["server GET /idle 200", "client GET /idle 200"],
        },
    ])
}

#[test]
fn exchanges_that_fail() -> Result<()> {
    let begun = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun";
    check(&[
        Case {
            host: "reset.test",
            server: vec![until(HEAD), reset()],
            client: vec![send(get("/reset", "reset.test")), broken()],
            spans: &[
                "server GET /reset - connection_closed",
                "client GET /reset - connection_reset",
            ],
        },
        Case {
            host: "reset-late.test",
            server: vec![until(HEAD), send(begun), until("go"), reset()],
            client: vec![
                send(get("/late", "reset-late.test")),
                until("begun"),
                send("go"),
                broken(),
            ],
            spans: &[
                "server GET /late 200 connection_closed",
                "client GET /late 200 connection_reset",
            ],
        },
        Case {
            host: "closed.test",
            server: vec![until(HEAD)],
            client: vec![send(get("/closed", "closed.test")), end()],
            spans: &[
                "server GET /closed - connection_closed",
                "client GET /closed - connection_closed",
            ],
        },
        Case {
            host: "truncated.test",
            server: vec![until(HEAD), send(begun)],
            client: vec![send(get("/cut", "truncated.test")), end()],
            spans: &[
                "server GET /cut 200 connection_closed",
                "client GET /cut 200 connection_closed",
            ],
        },
        Case {
            host: "gone.test",
            server: vec![until(HEAD), end()],
            client: vec![send(get("/gone", "gone.test"))],
            spans: &["server GET /gone - connection_closed", "client GET /gone - aborted"],
        },
        // Having seen enough, the client hangs up: no error of its own, but the server's answer
        // did not get through.
        Case {
            host: "enough.test",
            server: vec![until(HEAD), send(begun), broken()],
            client: vec![send(get("/enough", "enough.test")), until("begun"), reset()],
            spans: &["server GET /enough 200 connection_reset", "client GET /enough 200"],
        },
    ])
}

#[test]
fn a_server_that_dies() -> Result<()> {
    for backend in backends() {
        let (mut launcher, agent) = start(backend)?;
        let server = serve(&mut launcher, &[until(HEAD), hang()])?;
        let client = start_call(
            &mut launcher,
            server.port,
            &[send(get("/died", "died.test")), end(), say("ended")],
        )?;
        server.process.wait_for("hanging")?;
        server.process.signal(Signal::KILL)?;
        client.wait_for("ended")?;
        let finished = agent.stop_after(2)?;
        let expected =
            ["server GET /died - connection_closed", "client GET /died - connection_closed"];
        assert_eq!(summaries(&finished.spans), sorted(&expected), "on {backend}");
        assert_eq!(finished.spans.servers().only()?.pid(), Some(server.process.pid()));
    }
    Ok(())
}

#[test]
fn a_client_that_dies() -> Result<()> {
    for backend in backends() {
        let (mut launcher, agent) = start(backend)?;
        let steps = [until(HEAD), say("asked"), end(), say("ended")];
        let server = serve(&mut launcher, &steps)?;
        let client =
            start_call(&mut launcher, server.port, &[send(get("/died", "died.test")), hang()])?;
        server.process.wait_for("asked")?;
        client.wait_for("hanging")?;
        client.signal(Signal::KILL)?;
        server.process.wait_for("ended")?;
        let finished = agent.stop_after(2)?;
        let expected = ["server GET /died - connection_closed", "client GET /died - aborted"];
        assert_eq!(summaries(&finished.spans), sorted(&expected), "on {backend}");
        assert_eq!(finished.spans.clients().only()?.pid(), Some(client.pid()));
    }
    Ok(())
}

/// What arrived before the connection broke can be read afterwards.
#[test]
fn a_response_read_when_the_connection_is_gone() -> Result<()> {
    for backend in backends() {
        for last in [reset(), end()] {
            let (mut launcher, agent) = start(backend)?;
            let directory = tempfile::tempdir()?;
            let gone = directory.path().join("gone");
            let server = serve(&mut launcher, &[until(HEAD), send(ok("late")), last, say("gone")])?;
            let steps = [send(get("/late", "late.test")), shutdown(), gate(&gone), until("late")];
            let client = start_call(&mut launcher, server.port, &steps)?;
            server.process.wait_for("gone")?;
            // The server's end is over once its process is.
            launcher.wait(&server.process)?;
            std::fs::write(&gone, "")?;
            assert_eq!(launcher.wait(&client)?, 0, "{}", client.output());
            let finished = agent.stop_after(2)?;
            let expected = ["server GET /late 200", "client GET /late 200"];
            assert_eq!(summaries(&finished.spans), sorted(&expected), "on {backend}");
            assert_eq!(finished.report.lost(), 0, "on {backend}: {}", finished.report.json);
        }
    }
    Ok(())
}

/// A head of 60 KB whose last field is the trace context.
fn long_request() -> String {
    let mut fields = String::new();
    for number in 0..30 {
        fields.extend([format!("X-Filler-{number}: "), "f".repeat(2_000), "\r\n".to_owned()]);
    }
    fields += "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    request("GET", "/long", "long.test", &fields)
}

fn send_long_head(backend: Backend, budget: &str, reads: Step) -> Result<(Finished, usize)> {
    let mut launcher = Launcher::start()?;
    let options = AgentOptions::new(backend).pid(launcher.pid());
    let mut agent = options.argument("--message-budget").argument(budget).start()?;
    play(&mut launcher, &[reads, send(ok("long")), end()], &[send(long_request()), until("long")])?;
    // Another connection tells when the first one was dealt with.
    play(
        &mut launcher,
        &[until(HEAD), send(ok("")), end()],
        &[send(get("/short", "short.test")), until(HEAD)],
    )?;
    agent.wait_for_spans(2)?;
    let finished = agent.stop()?;
    let long = finished.spans.with("server.address", "long.test").len();
    assert_eq!(finished.spans.with("server.address", "short.test").len(), 2);
    Ok((finished, long))
}

#[test]
fn a_head_of_60_kilobytes_with_its_trace_context_last() -> Result<()> {
    for backend in backends() {
        for reads in [until(HEAD), sip(HEAD)] {
            let (finished, long) = send_long_head(backend, "128K", reads)?;
            assert_eq!(long, 2, "on {backend}:\n{}{}", finished.spans, finished.log);
            let spans = finished.spans.with("server.address", "long.test");
            assert_eq!(
                summaries(&spans),
                sorted(&["server GET /long 200", "client GET /long 200"])
            );
            let server = spans.servers();
            let server = server.only()?;
            assert_eq!(server.trace_id, "0af7651916cd43dd8448eb211c80319c");
            assert_eq!(server.parent_span_id.as_deref(), Some("b7ad6b7169203331"));
            assert_eq!(finished.report.lost(), 0, "{}", finished.report.json);
        }
    }
    Ok(())
}

#[test]
fn a_head_beyond_the_budget_is_counted_not_guessed() -> Result<()> {
    for backend in backends() {
        let (finished, long) = send_long_head(backend, "16K", until(HEAD))?;
        assert_eq!(long, 0, "on {backend}:\n{}", finished.spans);
        assert_eq!(finished.report.lost(), 2, "on {backend}: {}", finished.report.json);
    }
    Ok(())
}

#[test]
fn what_is_not_http_gives_nothing() -> Result<()> {
    let scrambled = (0..8_192_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
    let mark = b"\0\xffend";
    let noise: Vec<u8> = scrambled.chain(*mark).collect();
    for backend in backends() {
        let (mut launcher, agent) = start(backend)?;
        // Binary both ways; a server that speaks first; words that are nearly a request.
        let asked = vec![vec![send(&noise), until(mark)]; 3].concat();
        for _ in 0..3 {
            let answered = vec![vec![until(mark), send(&noise)]; 3].concat();
            play(&mut launcher, &answered, &asked)?;
        }
        play(
            &mut launcher,
            &[
                send("220 mail.test ESMTP\r\n"),
                until("\r\n"),
                send("250 mail.test\r\n"),
                until("\r\n"),
                send("250 Ok\r\n"),
                until("\r\n"),
                send("221 Bye\r\n"),
            ],
            &[
                until("\r\n"),
                send("EHLO client.test\r\n"),
                until("\r\n"),
                send("MAIL FROM:<a@b.test>\r\n"),
                until("\r\n"),
                send("QUIT\r\n"),
                until("\r\n"),
                end(),
            ],
        )?;
        let mut redis = Vec::new();
        let mut answers = Vec::new();
        for _ in 0..5 {
            redis.extend([send("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"), until("\r\n")]);
            answers.extend([until("k\r\n"), send("$-1\r\n")]);
        }
        answers.push(end());
        play(&mut launcher, &answers, &redis)?;
        // SSH and a lookalike: method, space, slash, but no version.
        play(
            &mut launcher,
            &[until("\r\n"), send("GET /ok\r\n"), until("\r\n"), send("bye\r\n"), end()],
            &[send("GET /x y z\r\n"), until("\r\n"), send("GET /y\r\n"), until("bye")],
        )?;
        play(
            &mut launcher,
            &[until(HEAD), send(ok("")), end()],
            &[send(get("/real", "real.test")), until(HEAD)],
        )?;
        let finished = agent.stop_after(2)?;
        assert_eq!(
            summaries(&finished.spans),
            sorted(&["server GET /real 200", "client GET /real 200"])
        );
        assert_eq!(finished.report.lost(), 0, "on {backend}: {}", finished.report.json);
        let ignored = finished.report.json["kernel"]["ignored_connections"].as_u64();
        assert!(ignored >= Some(8), "on {backend}: {}", finished.report.json);
    }
    Ok(())
}

#[test]
fn tls_gives_nothing() -> Result<()> {
    let nginx = Nginx::new("location / { return 200 'secret'; }")?;
    let nginx = nginx.tls()?.start()?;
    for backend in backends() {
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(launcher.pid()).pid(nginx.pid()).start()?;
        let url = nginx.url("/[1-5]").replace("http:", "https:");
        let output = launcher.run(["curl", "-sSk", &url])?.success()?;
        assert_eq!(output.stdout, "secret".repeat(5));
        play(
            &mut launcher,
            &[until(HEAD), send(ok("")), end()],
            &[send(get("/plain", "plain.test")), until(HEAD)],
        )?;
        let finished = agent.stop_after(2)?;
        assert_eq!(finished.spans.with("server.address", "plain.test").len(), 2, "on {backend}");
        assert_eq!(finished.report.lost(), 0, "on {backend}: {}", finished.report.json);
    }
    Ok(())
}

/// apache as a forward proxy that tunnels.
fn start_apache() -> Result<(Process, u16, tempfile::TempDir)> {
    let directory = tempfile::Builder::new().prefix("tracer-apache-").tempdir()?;
    let port = port::free()?;
    let root = directory.path().display();
    let modules = ["mpm_event", "authz_core", "proxy", "proxy_connect", "proxy_http"]
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"));
    let configuration = format!(
        "{}ServerRoot {root}\nPidFile {root}/pid\nErrorLog /dev/stderr\nServerName proxy.test\n\
         Listen 127.0.0.1:{port}\nStartServers 1\nServerLimit 1\nThreadsPerChild 4\n\
         MaxRequestWorkers 4\nProxyRequests On\nAllowCONNECT 1-65535\nDefaultRuntimeDir {root}\n\
         User nobody\nGroup nogroup\n",
        modules.concat()
    );
    let file = directory.path().join("apache.conf");
    std::fs::write(&file, configuration)?;
    let mut command = std::process::Command::new("apache2");
    // One process in the foreground.
    command.arg("-f").arg(&file).arg("-X");
    let mut process = Process::start("apache2", &command, &directory.path().join("log"))?;
    process.wait_until("apache to listen", |_| {
        Ok(port::is_open(port::loopback(port)).then_some(()))
    })?;
    Ok((process, port, directory))
}

#[test]
fn a_tunnel_through_a_real_proxy() -> Result<()> {
    let nginx = Nginx::new("location / { return 200 'inside'; }")?.start()?;
    let (apache, port, _directory) = start_apache()?;
    for backend in backends() {
        let mut launcher = Launcher::start()?;
        let options = AgentOptions::new(backend).pid(launcher.pid());
        let agent = options.pid(nginx.pid()).pid(apache.pid()).start()?;
        let proxy = format!("http://127.0.0.1:{port}");
        let words = ["curl", "-sS", "--proxytunnel", "-x", &proxy, &nginx.url("/x")];
        assert_eq!(launcher.run(words)?.success()?.stdout, "inside");
        let finished = agent.stop_after(4)?;
        let of = |name: &str| summaries(&finished.spans.of_service(name));
        // The tunnel is opaque; what the proxy carries on to nginx is a request like any other.
        assert_eq!(of("curl"), ["client CONNECT  200"], "on {backend}");
        assert_eq!(of("apache2"), ["client GET /x 200", "server CONNECT  200"], "on {backend}");
        assert_eq!(of("nginx"), ["server GET /x 200"], "on {backend}");
    }
    Ok(())
}

#[test]
fn forwarded_through_a_real_proxy() -> Result<()> {
    let nginx = Nginx::new("location / { return 200 'inside'; }")?.start()?;
    let (apache, port, _directory) = start_apache()?;
    for backend in backends() {
        let mut launcher = Launcher::start()?;
        let options = AgentOptions::new(backend).pid(launcher.pid());
        let agent = options.pid(nginx.pid()).pid(apache.pid()).start()?;
        let proxy = format!("http://127.0.0.1:{port}");
        let url = nginx.url("/x");
        launcher.run(["curl", "-sS", "-x", &proxy, &url])?.success()?;
        let finished = agent.stop_after(4)?;
        let curl = finished.spans.of_service("curl");
        // Absolute form towards the proxy: the server is the origin, the peer the proxy.
        let curl = curl.only()?;
        assert_eq!(curl.attributes.text("url.full"), Some(url.as_str()), "on {backend}");
        assert_eq!(curl.attributes.int("server.port"), Some(nginx.port().into()));
        assert_eq!(curl.attributes.int("network.peer.port"), Some(port.into()));
        assert_eq!(
            summaries(&finished.spans.of_service("apache2")),
            ["client GET /x 200", "server GET /x 200"]
        );
        assert_eq!(summaries(&finished.spans.of_service("nginx")), ["server GET /x 200"]);
    }
    Ok(())
}

#[test]
fn a_process_that_calls_itself_is_both_ends() -> Result<()> {
    for backend in backends() {
        let (mut launcher, agent) = start(backend)?;
        let output = launcher.run(layout::python("calls.py", &["send", "recv"])?)?.success()?;
        let finished = agent.stop_after(2)?;
        assert_eq!(
            summaries(&finished.spans),
            sorted(&["server POST /calls 200", "client POST /calls 200"])
        );
        assert_eq!(finished.spans.of_pid(output.pid).len(), 2, "on {backend}");
    }
    Ok(())
}
