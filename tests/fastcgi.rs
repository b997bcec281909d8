//! PHP behind nginx: requests that are handed on by `FastCGI`, over TCP and Unix sockets, on
//! connections of their own and on kept ones.

use anyhow::{Context, Result, ensure};
use tracer_tests::service::{FastCgi, Nginx, PhpFpm, Reuse};
use tracer_tests::{
    Agent, AgentOptions, Backend, Expected, Launcher, Span, Spans, layout, on_each_backend,
};

/// Every way from the web server to PHP.
const WAYS: [(FastCgi, Reuse); 4] = [
    (FastCgi::Tcp, Reuse::Close),
    (FastCgi::Tcp, Reuse::Keep),
    (FastCgi::Unix, Reuse::Close),
    (FastCgi::Unix, Reuse::Keep),
];
/// More than any buffer on the way, and any message budget.
const LARGE: usize = 3 << 20;

fn start(by: FastCgi, reuse: Reuse) -> Result<PhpFpm> {
    // One process, so that a kept connection is always the one that is free.
    PhpFpm::start_with(&layout::service_source("page.php"), 1, by, reuse, &[])
}

fn trace(backend: Backend, php: &PhpFpm) -> Result<Agent> {
    AgentOptions::new(backend).pid(php.nginx.pid()).pid(php.pool_pid()).start()
}

fn on_every_way(scenario: impl Fn(Backend, FastCgi, Reuse) -> Result<()>) -> Result<()> {
    on_each_backend(|backend| {
        for (by, reuse) in WAYS {
            scenario(backend, by, reuse).with_context(|| format!("{by:?} {reuse:?}"))?;
        }
        Ok(())
    })
}

/// The three spans of a request, from the outside in.
struct Request<'a> {
    entry: &'a Span,
    handed_on: &'a Span,
    served: &'a Span,
}

/// Of each request to this target.
fn requests<'a>(spans: &'a Spans, php: &PhpFpm, target: &str) -> Result<Vec<Request<'a>>> {
    let (path, _) = target.split_once('?').unwrap_or((target, ""));
    let entries = spans.iter().filter(|span| {
        span.attributes.text("url.path") == Some(path) && span.parent_span_id.is_none()
    });
    let below = |span: &Span| -> Result<&'a Span> {
        let children = spans.iter().filter(|child| {
            child.trace_id == span.trace_id
                && child.parent_span_id.as_deref() == Some(&*span.span_id)
        });
        let children: Vec<_> = children.collect();
        ensure!(children.len() == 1, "{} children of {span:?} in\n{spans}", children.len());
        Ok(children[0])
    };
    entries
        .map(|entry| {
            let handed_on = below(entry)?;
            let served = below(handed_on)?;
            ensure!(served.attributes.text("tracer.link") == Some("pair"), "{served:?}");
            ensure!(entry.pid() == handed_on.pid() && entry.pid() != served.pid(), "{spans}");
            ensure!(served.pid() != Some(php.pool_pid()), "a worker answers, not the master");
            ensure!(entry.start <= handed_on.start && handed_on.start <= served.start, "{spans}");
            ensure!(handed_on.end <= entry.end, "{spans}");
            Ok(Request { entry, handed_on, served })
        })
        .collect()
}

fn carried_by_fastcgi(expected: Expected) -> Expected {
    expected.is("network.protocol.name", "fastcgi").is("network.protocol.version", "1.0")
}

/// What nginx's call to PHP must be.
fn handed_on(php: &PhpFpm, by: FastCgi, method: &str, target: &str) -> Expected {
    let expected = carried_by_fastcgi(Expected::client(method, &php.nginx.url(target)));
    match (by, php.listens_at().parse()) {
        (FastCgi::Tcp, Ok(address)) => expected.at(address).peer_port(address.port()),
        _ => expected
            .is("server.address", php.listens_at())
            .without("server.port")
            .over_unix_socket(php.listens_at().as_ref()),
    }
}

/// What PHP's answer must be.
fn served(php: &PhpFpm, by: FastCgi, method: &str, target: &str) -> Result<Expected> {
    let expected = carried_by_fastcgi(Expected::served_to_curl(&php.nginx, method, target)?);
    Ok(match by {
        FastCgi::Tcp => expected,
        // The web server tells who asked it.
        FastCgi::Unix => {
            expected.over_unix_socket(php.listens_at().as_ref()).is("client.address", "127.0.0.1")
        }
    })
}

fn check(
    found: &Request<'_>,
    php: &PhpFpm,
    by: FastCgi,
    (method, target, status): (&str, &str, u16),
) -> Result<()> {
    Expected::served_to_curl(&php.nginx, method, target)?.status(status).check(found.entry);
    handed_on(php, by, method, target).status(status).check(found.handed_on);
    served(php, by, method, target)?.status(status).check(found.served);
    Ok(())
}

/// Protects: a request through nginx to PHP is three spans of one trace, each with all attributes of
/// the conventions, whatever its method, status and body; the next request on a connection is found.
#[test]
fn requests_are_seen_at_both_ends() -> Result<()> {
    on_every_way(|backend, by, reuse| {
        let php = start(by, reuse)?;
        let mut launcher = Launcher::start()?;
        let agent = trace(backend, &php)?;
        let rows = [
            ("GET", "/hello?page=2", 200),
            ("HEAD", "/head", 200),
            ("GET", "/status/404", 404),
            ("POST", "/echo", 200),
            ("GET", "/status/503", 503),
            ("GET", "/warn", 200),
            ("GET", "/status/302", 302),
            ("GET", "/last", 200),
        ];
        for (method, target, _) in rows {
            let url = php.nginx.url(target);
            match method {
                "HEAD" => launcher.curl(["--head", &url])?,
                "POST" => launcher.curl(["--data", "some body", &url])?,
                _ => launcher.curl([&url])?,
            };
        }
        let spans = agent.finish(3 * rows.len())?;
        for row in rows {
            let found = requests(&spans, &php, row.1)?;
            ensure!(found.len() == 1, "{} requests {row:?}:\n{spans}", found.len());
            check(&found[0], &php, by, row)?;
        }
        let ports = spans.servers().with("network.protocol.name", "fastcgi").peer_ports().len();
        match (by, reuse) {
            (FastCgi::Tcp, Reuse::Close) => assert_eq!(ports, rows.len()),
            // nginx reads no body after HEAD, and so cannot keep the connection.
            (FastCgi::Tcp, Reuse::Keep) => assert_eq!(ports, 2),
            (FastCgi::Unix, _) => assert_eq!(ports, 1, "none"),
        }
        Ok(())
    })
}

/// Protects: bodies that nobody copies, larger than any budget, in both directions; what follows
/// them on the connection is in step.
#[test]
fn large_bodies() -> Result<()> {
    on_every_way(|backend, by, reuse| {
        let php = start(by, reuse)?;
        let directory = tempfile::tempdir()?;
        let body = directory.path().join("body");
        std::fs::write(&body, vec![b'x'; LARGE])?;
        let upload = format!("@{}", body.display());
        let mut launcher = Launcher::start()?;
        let agent = trace(backend, &php)?;
        for _ in 0..2 {
            let plain = "Content-Type: application/octet-stream";
            let echo = php.nginx.url("/echo");
            let echoed = launcher.curl(["-H", plain, "--data-binary", &upload, &echo])?;
            assert_eq!(echoed.stdout.len(), LARGE);
            launcher.curl([php.nginx.url("/large")])?;
            launcher.curl([php.nginx.url("/hello")])?;
        }
        let spans = agent.finish(18)?;
        for row in [("POST", "/echo", 200), ("GET", "/large", 200), ("GET", "/hello", 200)] {
            let found = requests(&spans, &php, row.1)?;
            ensure!(found.len() == 2, "{} requests {row:?}:\n{spans}", found.len());
            for request in found {
                check(&request, &php, by, row)?;
            }
        }
        Ok(())
    })
}

/// Protects: parameters of several kilobytes are copied and understood.
#[test]
fn large_parameters() -> Result<()> {
    on_every_way(|backend, by, reuse| {
        let php = start(by, reuse)?;
        let mut launcher = Launcher::start()?;
        let agent = trace(backend, &php)?;
        let target = format!("/hello?{}", "long=query&".repeat(300));
        let cookie = format!("Cookie: {}", "name=value; ".repeat(500));
        launcher.curl(["-H", &cookie, &php.nginx.url(&target)])?;
        let spans = agent.finish(3)?;
        check(&requests(&spans, &php, &target)?[0], &php, by, ("GET", &target, 200))
    })
}

/// Protects: what PHP calls is a child of the request that it answers, and so is part of its trace;
/// a trace context that the client sent is handed on to PHP as a header and is no second parent.
#[test]
fn calls_belong_to_the_request() -> Result<()> {
    const REQUESTS: usize = 5;
    on_every_way(|backend, by, reuse| {
        let callee = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
        let php = start(by, reuse)?;
        let mut launcher = Launcher::start()?;
        let agent = trace(backend, &php)?;
        let target = format!("/call?url={}", callee.url("/hello"));
        for number in 1..=REQUESTS {
            let context = format!("traceparent: 00-{number:032x}-00f067aa0ba902b7-01");
            launcher.curl(["-H", &context, &php.nginx.url(&target)])?;
        }
        let spans = agent.finish(4 * REQUESTS)?;
        for number in 1..=REQUESTS {
            let trace = spans.of_trace(&format!("{number:032x}"));
            ensure!(trace.len() == 4, "one trace a request:\n{spans}");
            let mut parent = "00f067aa0ba902b7".to_owned();
            for _ in 0..4 {
                let below = trace.filter(|span| span.parent_span_id.as_deref() == Some(&*parent));
                below.only()?.span_id.clone_into(&mut parent);
            }
            let call = trace.filter(|span| span.span_id == parent);
            Expected::client("GET", &callee.url("/hello")).status(200).check(call.only()?);
        }
        Ok(())
    })
}

/// Protects: a process that dies in the middle of its answer, or before it, ends the exchange as
/// failed at both ends.
#[test]
fn a_process_that_dies() -> Result<()> {
    on_every_way(|backend, by, reuse| {
        let php = start(by, reuse)?;
        let mut launcher = Launcher::start()?;
        let agent = trace(backend, &php)?;
        launcher.run(["curl", "-s", "--max-time", "30", &php.nginx.url("/die")])?;
        launcher.curl([php.nginx.url("/mute")])?;
        launcher.curl([php.nginx.url("/hello")])?;
        let spans = agent.finish(9)?;

        let of = |target: &str, spans: Spans| {
            spans.filter(|span| {
                let text = |name| span.attributes.text(name).unwrap_or_default();
                text("url.path") == target || text("url.full").ends_with(target)
            })
        };
        let carried = spans.with("network.protocol.name", "fastcgi");
        let half = served(&php, by, "GET", "/die")?.status(200).failed("connection_closed");
        half.check(of("/die", carried.servers()).only()?);
        let silent = served(&php, by, "GET", "/mute")?.failed("connection_closed");
        silent.check(of("/mute", carried.servers()).only()?);
        // With bytes of the request unread, closing resets the connection. Of a Unix socket the
        // web server reads that as an error, which no probe sees, and then closes itself: as if it
        // had given up.
        for (target, given_up) in [("/die", ""), ("/mute", "aborted")] {
            let calls = of(target, carried.clients());
            let error = calls.only()?.attributes.text("error.type").unwrap_or_default();
            let is_broken = ["connection_closed", "connection_reset"].contains(&error);
            let is_given_up = by == FastCgi::Unix && error == given_up;
            assert!(is_broken || is_given_up, "{target}: {error}\n{spans}");
        }
        let found = requests(&spans, &php, "/hello")?;
        check(&found[0], &php, by, ("GET", "/hello", 200))
    })
}
