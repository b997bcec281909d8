//! Protects: however an exchange ends, its spans say how, each from its own end's view.

use anyhow::Result;
use rustix::process::Signal;
use tracer_tests::conversation::{Conversation, assert_summaries, check};
use tracer_tests::message::{HEAD, get, ok, request};
use tracer_tests::wire::{
    broken, end, gate, hang, reset, say, send, serve, shutdown, start_call, until,
};
use tracer_tests::{Launcher, on_each_backend};

/// Protects: early answers, half-closed connections and unasked responses are told right.
#[test]
fn ends_that_are_not_in_step() -> Result<()> {
    check(&[
        // An answer before the body was read, and the connection closed under the client.
        Conversation {
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
        Conversation {
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
        Conversation {
            host: "half.test",
            server: vec![until(HEAD), end(), send("HTTP/1.1 200 OK\r\n\r\nlate")],
            client: vec![send(get("/half", "half.test")), shutdown(), until("late"), end()],
            spans: &["server GET /half 200", "client GET /half 200"],
        },
        // A response that nobody asked for, as servers send when they close an idle connection.
        Conversation {
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

/// Protects: each end's span names the failure as that end saw it.
#[test]
fn exchanges_that_fail() -> Result<()> {
    let begun = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun";
    check(&[
        Conversation {
            host: "reset.test",
            server: vec![until(HEAD), reset()],
            client: vec![send(get("/reset", "reset.test")), broken()],
            spans: &[
                "server GET /reset - connection_closed",
                "client GET /reset - connection_reset",
            ],
        },
        Conversation {
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
        Conversation {
            host: "closed.test",
            server: vec![until(HEAD)],
            client: vec![send(get("/closed", "closed.test")), end()],
            spans: &[
                "server GET /closed - connection_closed",
                "client GET /closed - connection_closed",
            ],
        },
        Conversation {
            host: "truncated.test",
            server: vec![until(HEAD), send(begun)],
            client: vec![send(get("/cut", "truncated.test")), end()],
            spans: &[
                "server GET /cut 200 connection_closed",
                "client GET /cut 200 connection_closed",
            ],
        },
        Conversation {
            host: "gone.test",
            server: vec![until(HEAD), end()],
            client: vec![send(get("/gone", "gone.test"))],
            spans: &["server GET /gone - connection_closed", "client GET /gone - aborted"],
        },
        // The reset comes while the request is being sent: the server has long closed.
        Conversation {
            host: "stale.test",
            server: vec![],
            client: vec![end(), send(get("/stale", "stale.test")), end()],
            spans: &["client GET /stale - connection_closed"],
        },
        Conversation {
            host: "stale-kept.test",
            server: vec![until(HEAD), send(ok("kept"))],
            client: vec![
                send(get("/kept", "stale-kept.test")),
                until("kept"),
                end(),
                send(get("/stale", "stale-kept.test")),
                end(),
            ],
            spans: &[
                "server GET /kept 200",
                "client GET /kept 200",
                "client GET /stale - connection_reset",
            ],
        },
        // Having seen enough, the client hangs up: no error of its own, but the server's answer
        // did not get through.
        Conversation {
            host: "enough.test",
            server: vec![until(HEAD), send(begun), broken()],
            client: vec![send(get("/enough", "enough.test")), until("begun"), reset()],
            spans: &["server GET /enough 200 connection_reset", "client GET /enough 200"],
        },
    ])
}

/// Protects: what a killed server leaves unanswered is told, with the server's own process id.
#[test]
fn a_server_that_dies() -> Result<()> {
    on_each_backend(|backend| {
        let (mut launcher, agent) = Launcher::start_traced(backend)?;
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
        assert_summaries(&finished.spans, &expected);
        assert_eq!(finished.spans.servers().only()?.pid(), Some(server.process.pid()));
        Ok(())
    })
}

/// Protects: what a killed client leaves unread is told, with the client's own process id.
#[test]
fn a_client_that_dies() -> Result<()> {
    on_each_backend(|backend| {
        let (mut launcher, agent) = Launcher::start_traced(backend)?;
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
        assert_summaries(&finished.spans, &expected);
        assert_eq!(finished.spans.clients().only()?.pid(), Some(client.pid()));
        Ok(())
    })
}

/// Protects: what arrived before the connection was gone can be read afterwards, and is the answer.
#[test]
fn a_response_read_when_the_connection_is_gone() -> Result<()> {
    on_each_backend(|backend| {
        // What the server does after its answer, and what the client does after its request. Where
        // the client shuts down, the server first waits for that: a reset would forbid it.
        for (server_goes, client_goes) in [
            (vec![reset()], vec![]),
            (vec![end(), reset()], vec![shutdown()]),
            (vec![end()], vec![shutdown()]),
        ] {
            let (mut launcher, agent) = Launcher::start_traced(backend)?;
            let directory = tempfile::tempdir()?;
            let gone = directory.path().join("gone");
            let answer = vec![until(HEAD), send(ok("late"))];
            let server = serve(&mut launcher, &[answer, server_goes].concat())?;
            let ask = vec![send(get("/late", "late.test"))];
            let read = vec![gate(&gone), until("late")];
            let steps = [ask, client_goes, read].concat();
            let client = start_call(&mut launcher, server.port, &steps)?;
            // The server's end is over once its process is.
            assert_eq!(launcher.wait(&server.process)?, 0, "{}", server.process.output());
            std::fs::write(&gone, "")?;
            assert_eq!(launcher.wait(&client)?, 0, "{}", client.output());
            let finished = agent.stop_after(2)?;
            assert_summaries(&finished.spans, &["server GET /late 200", "client GET /late 200"]);
            finished.report.assert_nothing_lost();
        }
        Ok(())
    })
}
