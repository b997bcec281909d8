//! Connections of every provenance: older than the agent, inherited, duplicated, handed to another
//! process, in another network namespace; short lives, long lives, many of each.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use tracer_tests::message::{self, HEAD, ok};
use tracer_tests::service::Nginx;
use tracer_tests::wire::{Step, end, gate, play, say, send, serve, serve_at, start_call, until};
use tracer_tests::{
    Agent, AgentOptions, Backend, Launcher, Namespace, Spans, Value, layout, on_each_backend, port,
};

fn get(path: &str) -> String {
    message::get(path, "wire.test")
}

fn answer() -> Step {
    send(ok("ok"))
}

/// Starts an agent for a launcher that is at work already; see [`Launcher::start_traced`].
fn trace(backend: Backend, launcher: &Launcher) -> Result<Agent> {
    AgentOptions::new(backend).pid(launcher.pid()).start()
}

/// Fails unless there is exactly one span for each expected value of the attribute.
fn assert_paths(spans: &Spans, attribute: &str, expected: impl Iterator<Item = String>) {
    let expected: BTreeSet<String> = expected.collect();
    let found: BTreeSet<String> = spans
        .iter()
        .filter_map(|span| span.attributes.text(attribute))
        .map(str::to_owned)
        .collect();
    assert_eq!(spans.len(), expected.len());
    let differing: Vec<_> = expected.symmetric_difference(&found).take(5).collect();
    assert!(differing.is_empty(), "they differ in {differing:?} and maybe more");
}

/// Protects: a connection that carried requests before the agent came is traced from its next one.
#[test]
fn older_than_the_agent() -> Result<()> {
    on_each_backend(|backend| {
        let mut launcher = Launcher::start()?;
        let directory = tempfile::tempdir()?;
        let started = directory.path().join("started");
        let server = serve(
            &mut launcher,
            &[until(HEAD), answer(), until(HEAD), answer(), until(HEAD), answer(), end()],
        )?;
        let client = start_call(
            &mut launcher,
            server.port,
            &[
                send(get("/before")),
                until("ok"),
                say("before"),
                gate(&started),
                send(get("/after/1")),
                until("ok"),
                send(get("/after/2")),
                until("ok"),
            ],
        )?;
        client.wait_for("before")?;
        let agent = trace(backend, &launcher)?;
        std::fs::write(&started, "")?;
        assert_eq!(launcher.wait(&client)?, 0, "{}", client.output());
        let finished = agent.stop_after(4)?;
        let paths = || (1..=2).map(|number| format!("/after/{number}"));
        assert_paths(&finished.spans.servers(), "url.path", paths());
        let urls = paths().map(|path| format!("http://wire.test{path}"));
        assert_paths(&finished.spans.clients(), "url.full", urls);
        assert_eq!(finished.spans.clients().of_pid(client.pid()).len(), 2);
        assert_eq!(finished.spans.servers().of_pid(server.process.pid()).len(), 2);
        finished.report.assert_nothing_lost();
        Ok(())
    })
}

/// Protects: the agent comes between a request and its response: that exchange cannot be told, and must not
/// be mixed up with the next.
#[test]
fn the_agent_starts_inside_an_exchange() -> Result<()> {
    on_each_backend(|backend| {
        let mut launcher = Launcher::start()?;
        let directory = tempfile::tempdir()?;
        let started = directory.path().join("started");
        let server = serve(
            &mut launcher,
            &[
                until(HEAD),
                say("asked"),
                gate(&started),
                send("HTTP/1.1 503 Late\r\nContent-Length: 2\r\n\r\nok"),
                until(HEAD),
                answer(),
                end(),
            ],
        )?;
        let client = start_call(
            &mut launcher,
            server.port,
            &[send(get("/half")), until("ok"), send(get("/whole")), until("ok")],
        )?;
        server.process.wait_for("asked")?;
        let agent = trace(backend, &launcher)?;
        std::fs::write(&started, "")?;
        assert_eq!(launcher.wait(&client)?, 0, "{}", client.output());
        let finished = agent.stop_after(2)?;
        for span in finished.spans.iter() {
            assert_eq!(span.http_status(), Some(200), "{}", finished.spans);
        }
        assert_paths(&finished.spans.servers(), "url.path", ["/whole".to_owned()].into_iter());
        // Seen by half on both ends, and said so.
        assert_eq!(finished.report.lost(), 2, "{}", finished.report.json);
        Ok(())
    })
}

/// Protects: a connection that another process goes on with, by whatever way it got there, is that
/// process's from then on.
#[test]
fn handed_over_between_requests() -> Result<()> {
    on_each_backend(|backend| {
        for how in ["fork", "dup", "pass"] {
            let (mut launcher, agent) = Launcher::start_traced(backend)?;
            let server = launcher.spawn(layout::python("handover.py", &[how])?)?;
            let port = server.wait_for("listening ")?.parse()?;
            let client = start_call(
                &mut launcher,
                port,
                &[send(get("/first")), until("ok"), send(get("/second")), until("ok")],
            )?;
            assert_eq!(launcher.wait(&client)?, 0, "{how}: {}", client.output());
            assert_eq!(launcher.wait(&server)?, 0, "{how}: {}", server.output());
            let first: u32 = server.wait_for("first ")?.parse()?;
            let second: u32 = server.wait_for("second ")?.parse()?;
            assert_eq!(first == second, how == "dup");
            let finished = agent.stop_after(4).with_context(|| how)?;
            assert_eq!(finished.spans.of_pid(client.pid()).clients().len(), 2, "{how}");
            for (path, pid) in [("/first", first), ("/second", second)] {
                let span = finished.spans.with("url.path", path);
                let span = span.only().context(how)?;
                assert_eq!(span.pid(), Some(pid), "{how}: {path}");
                assert_eq!(span.service(), "handover", "{how}");
            }
            assert_eq!(finished.report.lost(), 0, "{how}: {}", finished.report.json);
        }
        Ok(())
    })
}

/// Protects: the same addresses and ports in two namespaces are two connections.
#[test]
fn equal_addresses_in_two_network_namespaces() -> Result<()> {
    let namespace = Namespace::new()?;
    on_each_backend(|backend| {
        let mut outside = Launcher::start()?;
        let mut inside = Launcher::start_in(&namespace)?;
        let agent = AgentOptions::new(backend).pid(outside.pid()).pid(inside.pid()).start()?;
        let steps = |body: &str| [until(HEAD), send(ok(body)), until(HEAD), send(ok(body))];
        let first = serve(&mut outside, &steps("AA"))?;
        let port = first.port;
        let second = serve_at(&mut inside, port, &steps("BB"))?;
        let local = port::free()?.to_string();
        let call = |launcher: &mut Launcher, name: &str| -> Result<String> {
            let url = format!("http://127.0.0.1:{port}/{name}/[1-2]");
            let words = ["curl", "-sS", "--local-port", &local, &url];
            Ok(launcher.run(words)?.success()?.stdout)
        };
        assert_eq!(call(&mut outside, "outside")?, "AAAA");
        assert_eq!(call(&mut inside, "inside")?, "BBBB");
        let finished = agent.stop_after(8)?;
        for (name, server) in [("outside", first.process.pid()), ("inside", second.process.pid())] {
            let servers = finished.spans.servers().of_pid(server);
            assert_paths(&servers, "url.path", (1..=2).map(|n| format!("/{name}/{n}")));
        }
        assert_eq!(finished.spans.clients().of_service("curl").len(), 4);
        finished.report.assert_nothing_lost();
        Ok(())
    })
}

/// Protects: who is gone before its span is made is named, with all its resource, nevertheless.
#[test]
fn a_process_of_a_few_milliseconds_has_its_name() -> Result<()> {
    let nginx = Nginx::new("location / { return 200 'hi'; }")?.start()?;
    on_each_backend(|backend| {
        let (mut launcher, agent) = Launcher::start_traced(backend)?;
        let mut pids = Vec::new();
        for number in 0..20 {
            let url = nginx.url(&format!("/{number}"));
            let words = ["env", "OTEL_RESOURCE_ATTRIBUTES=team=blue", "curl", "-sS", &url];
            pids.push(launcher.run(words)?.success()?.pid);
        }
        let named = ["env", "OTEL_SERVICE_NAME=shop", "curl", "-sS", &nginx.url("/named")];
        let named = launcher.run(named)?.success()?.pid;
        let finished = agent.stop_after(21)?;
        for (number, pid) in pids.iter().enumerate() {
            let spans = finished.spans.of_pid(*pid);
            let span = spans.only()?;
            assert_eq!(span.attributes.text("url.full"), Some(&*nginx.url(&format!("/{number}"))));
            // Named by what it became, not by the shell or the `env` it was forked as.
            assert_eq!(span.service(), "curl");
            let resource = |name| span.resource.text(name);
            assert_eq!(resource("process.command"), Some("curl"));
            assert_eq!(resource("team"), Some("blue"));
            assert!(resource("process.creation.time").is_some());
            assert!(resource("service.instance.id").is_some());
        }
        assert_eq!(finished.spans.of_pid(named).only()?.service(), "shop");
        Ok(())
    })
}

fn a_thousand(backend: Backend, name: &str, more: &[&str], connections: usize) -> Result<()> {
    const COUNT: usize = 1_000;
    let nginx = Nginx::new("location / { add_header X-Path $uri; return 200 'hi'; }")?.start()?;
    let mut launcher = Launcher::start()?;
    let options = AgentOptions::new(backend).pid(launcher.pid()).pid(nginx.pid());
    let agent = options.argument("--capture-response-header").argument("x-path").start()?;
    let url = nginx.url(&format!("/{name}/[1-{COUNT}]"));
    let format = ["-w", "%{num_connects}\\n", "-o", "/dev/null"];
    let words = [&["curl", "-sS"], &format[..], more, &[&url]].concat();
    let output = launcher.run(words)?.success()?;
    let opened: usize = output.stdout.lines().filter_map(|line| line.parse::<usize>().ok()).sum();
    ensure!(opened == connections, "curl opened {opened} connections");
    let finished = agent.stop_after(2 * COUNT)?;
    let paths = || (1..=COUNT).map(|number| format!("/{name}/{number}"));
    assert_paths(&finished.spans.servers(), "url.path", paths());
    assert_paths(&finished.spans.clients(), "url.full", paths().map(|path| nginx.url(&path)));
    for span in finished.spans.iter() {
        assert_eq!(span.http_status(), Some(200));
        // Each response belongs to its own request.
        let path = span.attributes.text("url.path").map(str::to_owned);
        let path = path.or_else(|| {
            let url = span.attributes.text("url.full")?;
            url.strip_prefix(&nginx.url("")).map(str::to_owned)
        });
        let echoed = span.attribute("http.response.header.x-path");
        let expected = path.as_deref().map(|path| Value::List(vec![path.into()]));
        assert_eq!(echoed, expected.as_ref());
    }
    finished.report.assert_nothing_lost();
    Ok(())
}

/// Protects: on a long-lived connection nothing drifts: each response belongs to its own request.
#[test]
fn a_thousand_requests_on_one_connection() -> Result<()> {
    on_each_backend(|backend| a_thousand(backend, "one", &[], 1))
}

/// Protects: connections whose addresses and file descriptors are used again are told apart.
#[test]
fn a_thousand_connections_with_one_request() -> Result<()> {
    let close = ["-H", "Connection: close"];
    on_each_backend(|backend| a_thousand(backend, "each", &close, 1_000))
}

/// Protects: more connections at once than the table takes: those driven out are counted, none are mixed up.
#[test]
fn more_connections_than_the_table_holds() -> Result<()> {
    const OPEN: usize = 40;
    on_each_backend(|backend| {
        let mut launcher = Launcher::start()?;
        let options = AgentOptions::new(backend).pid(launcher.pid());
        let agent = options.argument("--max-connections").argument("16").start()?;
        let directory = tempfile::tempdir()?;
        let go = directory.path().join("go");
        let mut clients = Vec::new();
        let mut servers = Vec::new();
        for number in 0..OPEN {
            let server = serve(
                &mut launcher,
                &[until(HEAD), answer(), gate(&go), until(HEAD), answer(), end()],
            )?;
            let steps = [
                send(get(&format!("/{number}/1"))),
                until("ok"),
                say("once"),
                gate(&go),
                send(get(&format!("/{number}/2"))),
                until("ok"),
            ];
            let client = start_call(&mut launcher, server.port, &steps)?;
            client.wait_for("once")?;
            clients.push(client);
            servers.push(server);
        }
        std::fs::write(&go, "")?;
        for client in &clients {
            assert_eq!(launcher.wait(client)?, 0, "{}", client.output());
        }
        for server in &servers {
            assert_eq!(launcher.wait(&server.process)?, 0, "{}", server.process.output());
        }
        play(&mut launcher, &[until(HEAD), answer(), end()], &[send(get("/end")), until("ok")])?;
        let finished = agent.stop()?;
        assert_eq!(finished.spans.with("url.path", "/end").len(), 1);
        let mut seen = BTreeSet::new();
        for span in finished.spans.iter() {
            let url = span.attributes.text("url.path").or(span.attributes.text("url.full"));
            assert_eq!(span.http_status(), Some(200), "{}", finished.spans);
            assert!(seen.insert((span.pid(), url.map(str::to_owned))), "twice: {url:?}");
        }
        // One end of each connection beyond the bound drove another out.
        let evicted = finished.report.json["connections"]["evicted"].as_u64();
        assert!(evicted >= Some(2 * OPEN as u64 - 16), "{}", finished.report.json);
        Ok(())
    })
}
