//! Every way a program sends and receives on a socket. Each program is both ends of its own
//! connection, and each end has its span.

use anyhow::{Context, Result};
use tracer_tests::conversation::assert_summaries;
use tracer_tests::{
    AgentOptions, Backend, Kind, Launcher, Span, Spans, Status, layout, on_each_backend,
};

/// Ways to send, as `tests/programs/calls.py` names them.
const SENDS: [&str; 9] = [
    "write", "writev", "pwritev2", "send", "sendmsg", "sendmmsg", "sendfile", "splice", "bytewise",
];
/// Ways to receive, likewise.
const RECEIVES: [&str; 9] =
    ["read", "readv", "recv", "recvmsg", "recvmmsg", "peek", "waitall", "splice", "bytewise"];

/// Each send against a plain receive, each receive against a plain send.
fn combinations() -> Vec<(&'static str, &'static str)> {
    let sends = SENDS.iter().map(|send| (*send, "recv"));
    let receives = RECEIVES.iter().filter(|it| **it != "recv").map(|receive| ("send", *receive));
    sends.chain(receives).collect()
}

fn assert_span(span: &Span, family: &str) {
    assert_eq!(span.name, "POST");
    assert_eq!(span.status, Status::Unset);
    assert_eq!(span.http_status(), Some(200));
    assert_eq!(span.attributes.text("error.type"), None);
    assert_eq!(span.attributes.text("server.address"), Some("calls.test"));
    assert_eq!(span.attributes.text("network.protocol.version"), Some("1.1"));
    assert_eq!(span.service(), "calls");
    match span.kind {
        Kind::Server => {
            assert_eq!(span.attributes.text("url.path"), Some("/calls"));
            assert_eq!(span.attributes.text("url.query"), Some("state=1"));
        }
        Kind::Client => {
            let url = span.attributes.text("url.full");
            assert_eq!(url, Some("http://calls.test/calls?state=1"));
        }
    }
    let peer = span.attributes.text("network.peer.address");
    match (family, span.kind) {
        ("inet" | "mapped", _) => assert_eq!(peer, Some("127.0.0.1")),
        ("inet6", _) => assert_eq!(peer, Some("::1")),
        // Only the server's end of a Unix socket has a name.
        (_, Kind::Server) => assert_eq!(peer, None),
        (_, Kind::Client) => assert!(peer.is_some_and(|path| path.ends_with("/s")), "{peer:?}"),
    }
    assert_eq!(span.attributes.int("network.peer.port").is_some(), family != "unix");
}

/// No socket probe sees a splice out of a Unix socket: that exchange's reader cannot be reported,
/// and is counted.
fn is_blind_spot(backend: Backend, family: &str, receive: &str) -> bool {
    (backend, family, receive) == (Backend::Socket, "unix", "splice")
}

/// Protects: with whatever calls a program sends and receives, its exchange gives a whole span at
/// each end. All combinations, over one address family, with one message budget.
fn every_call(backend: Backend, family: &str, budget: &str) -> Result<()> {
    let mut launcher = Launcher::start()?;
    let options = AgentOptions::new(backend).pid(launcher.pid());
    let mut agent = options.argument("--message-budget").argument(budget).start()?;
    let mut pids = Vec::new();
    for (send, receive) in combinations() {
        let words = layout::python("calls.py", &[send, receive, family])?;
        let output = launcher.run(words)?.success().context(send).context(receive)?;
        assert_eq!(output.stdout, "done 200\n", "{send} {receive}");
        pids.push((send, receive, output.pid));
    }
    let blind = |receive: &str| is_blind_spot(backend, family, receive);
    let lost = pids.iter().filter(|(_, receive, _)| blind(receive)).count();
    let count = 2 * pids.len() - lost;
    // Told below, call by call, if it fails.
    let waited = agent.wait_for_spans(count);
    let finished = agent.stop()?;
    let faulty: Vec<String> = pids
        .iter()
        .filter_map(|(send, receive, pid)| {
            let spans = finished.spans.of_pid(*pid);
            let clean = |spans: &Spans| {
                spans.only().is_ok_and(|span| {
                    span.http_status() == Some(200) && span.status == Status::Unset
                })
            };
            let both = clean(&spans.servers()) && (blind(receive) || clean(&spans.clients()));
            (!both).then(|| format!("{send} {receive}:\n{spans}"))
        })
        .collect();
    assert!(faulty.is_empty(), "{family}:\n{}{}", faulty.join("\n"), finished.report.json);
    waited?;
    assert_eq!(finished.spans.len(), count, "{}", finished.spans);
    for span in finished.spans.iter() {
        assert_span(span, family);
    }
    assert_eq!(finished.report.lost(), lost as u64, "{}", finished.report.json);
    Ok(())
}

fn on_both_backends(family: &str, budget: &str) -> Result<()> {
    on_each_backend(|backend| every_call(backend, family, budget))
}

#[test]
fn over_ipv4() -> Result<()> {
    on_both_backends("inet", "16K")
}

#[test]
fn over_ipv6() -> Result<()> {
    on_both_backends("inet6", "16K")
}

#[test]
fn over_ipv4_mapped_into_ipv6() -> Result<()> {
    on_both_backends("mapped", "16K")
}

#[test]
fn over_unix_sockets() -> Result<()> {
    on_both_backends("unix", "16K")
}

#[test]
fn with_the_smallest_budget() -> Result<()> {
    on_both_backends("inet", "256")
}

#[test]
fn with_the_largest_budget() -> Result<()> {
    on_both_backends("inet", "128K")
}

/// What `io_uring` moves cannot be read. The socket probes see that something moved and count it;
/// the system-call probe sees nothing at all. Neither makes a span of it, and the other end is
/// traced all the same.
#[test]
fn io_uring_is_counted_not_read() -> Result<()> {
    const COUNT: usize = 6;
    on_each_backend(|backend| {
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(launcher.pid()).start()?;
        let server = launcher.spawn(layout::python("uring.py", &[&COUNT.to_string()])?)?;
        let port = server.wait_for("listening ")?;
        let url = format!("http://127.0.0.1:{port}/[1-{COUNT}]");
        let output = launcher.run(["curl", "-sS", &url])?.success()?;
        assert_eq!(output.stdout, "ok".repeat(COUNT));
        assert_eq!(launcher.wait(&server)?, 0, "{}", server.output());
        let moved: u64 = server.wait_for("moved ")?.parse()?;
        let finished = agent.stop_after(COUNT)?;
        assert_eq!(finished.spans.clients().of_pid(output.pid).len(), COUNT);
        let report = &finished.report;
        let counted = report.json["kernel"]["io_uring_bytes"].as_u64();
        let expected = if backend == Backend::Socket { moved } else { 0 };
        assert_eq!(counted, Some(expected), "{}", report.json);
        report.assert_nothing_lost();
        Ok(())
    })
}

/// Protects: a process that calls itself is both the client and the server of the exchange.
#[test]
fn a_process_that_calls_itself_is_both_ends() -> Result<()> {
    on_each_backend(|backend| {
        let (mut launcher, agent) = Launcher::start_traced(backend)?;
        let output = launcher.run(layout::python("calls.py", &["send", "recv"])?)?.success()?;
        let finished = agent.stop_after(2)?;
        assert_summaries(&finished.spans, &["server POST /calls 200", "client POST /calls 200"]);
        assert_eq!(finished.spans.of_pid(output.pid).len(), 2);
        Ok(())
    })
}
