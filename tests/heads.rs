//! Protects: heads are understood in every form they may have, of any length up to the budget.

use anyhow::Result;
use tracer_tests::conversation::{Conversation, assert_summaries, check, exchange};
use tracer_tests::message::{HEAD, get, ok, request};
use tracer_tests::wire::{Step, end, play, send, sip, until};
use tracer_tests::{AgentOptions, Backend, Finished, Launcher, on_each_backend};

/// Protects: HTTP/1.0, methods outside the list, and request targets that are no path.
#[test]
fn old_versions_and_odd_targets() -> Result<()> {
    check(&[
        Conversation {
            host: "old.test",
            server: vec![until(HEAD), send("HTTP/1.0 200 OK\r\n\r\nhello")],
            client: vec![send("GET /old HTTP/1.0\r\nHost: old.test\r\n\r\n"), end()],
            spans: &["server GET /old 200", "client GET /old 200"],
        },
        Conversation {
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
        Conversation {
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
        Conversation {
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

/// Protects: the span of an unknown method is named `HTTP`, and says what was sent.
#[test]
fn a_method_nobody_knows_is_kept_beside_other() -> Result<()> {
    on_each_backend(|backend| {
        let (mut launcher, agent) = Launcher::start_traced(backend)?;
        exchange(&mut launcher, &request("PROPFIND", "/dav", "method.test", ""))?;
        for span in agent.stop_after(2)?.spans.iter() {
            assert_eq!(span.name, "HTTP");
            assert_eq!(span.attributes.text("http.request.method"), Some("_OTHER"));
            assert_eq!(span.attributes.text("http.request.method_original"), Some("PROPFIND"));
        }
        Ok(())
    })
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A head of 60 KB whose last field is the trace context.
fn long_request() -> String {
    let filler = |number| format!("X-Filler-{number}: {}\r\n", "f".repeat(2_000));
    let context = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    let fields: String = (0..30).map(filler).chain([context]).collect();
    request("GET", "/long", "long.test", &fields)
}

/// Sends [`long_request`] to a peer that `reads` it, and a short one on another connection, which
/// must be traced whatever becomes of the long one.
fn send_long_head(backend: Backend, budget: &str, reads: Step) -> Result<Finished> {
    let mut launcher = Launcher::start()?;
    let options = AgentOptions::new(backend).pid(launcher.pid());
    let mut agent = options.argument("--message-budget").argument(budget).start()?;
    play(&mut launcher, &[reads, send(ok("long")), end()], &[send(long_request()), until("long")])?;
    exchange(&mut launcher, &get("/short", "short.test"))?;
    // The short one's spans tell that the long one was dealt with.
    agent.wait_for_spans(2)?;
    let finished = agent.stop()?;
    assert_eq!(finished.spans.with("server.address", "short.test").len(), 2);
    Ok(finished)
}

/// Protects: a head that fits into the budget is read to its last field, in one call or in many.
#[test]
fn a_head_of_60_kilobytes_with_its_trace_context_last() -> Result<()> {
    on_each_backend(|backend| {
        for reads in [until(HEAD), sip(HEAD)] {
            let finished = send_long_head(backend, "128K", reads)?;
            let spans = finished.spans.with("server.address", "long.test");
            // Whoever makes a context reports the call itself.
            assert_summaries(&spans, &["server GET /long 200"]);
            let server = spans.only()?;
            assert_eq!(server.trace_id, TRACE);
            assert_eq!(server.parent_span_id.as_deref(), Some(PARENT));
            finished.report.assert_nothing_lost();
        }
        Ok(())
    })
}

/// Protects: a head of which the end was not copied is a counted loss at both ends, and no span.
#[test]
fn a_head_beyond_the_budget_is_counted_not_guessed() -> Result<()> {
    on_each_backend(|backend| {
        let finished = send_long_head(backend, "16K", until(HEAD))?;
        assert_summaries(&finished.spans.with("server.address", "long.test"), &[]);
        assert_eq!(finished.report.lost(), 2, "{}", finished.report.json);
        Ok(())
    })
}
