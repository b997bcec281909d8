//! Where spans go: a real OTLP receiver over both transports, the terminal, files, and nowhere.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Result, ensure};
use tracer_tests::service::{Gunicorn, Nginx};
use tracer_tests::{
    Agent, AgentOptions, Backend, Launcher, Rotel, Service, Span, Spans, Traffic, on_each_backend,
    port, wait,
};

/// Requests whose spans are exported: one server and one client span each.
const REQUESTS: usize = 3;
const SPANS: usize = 2 * REQUESTS - 1;

/// Requests of several shapes: with a query, with a parent, with an error.
fn ask(traffic: &mut Traffic) -> Result<()> {
    let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let state = "tracestate: vendor=a:b";
    traffic.launcher.curl([traffic.nginx.url("/hello?q=(a),%20b")])?;
    traffic.launcher.curl(["-H", parent, "-H", state, &traffic.nginx.url("/hello")])?;
    traffic.ask(&["/nothing"])
}

/// Spans by id, without what rotel does not print.
fn comparable(spans: &Spans) -> BTreeMap<String, Span> {
    let printed = spans.iter().map(|span| {
        let span = Span { flags: 0, trace_state: String::new(), ..span.clone() };
        (span.span_id.clone(), span)
    });
    printed.collect()
}

/// What the receiver got is what the file got, span by span.
fn received_as_written(mut agent: Agent, rotel: &mut Rotel) -> Result<()> {
    agent.wait_for_spans(SPANS)?;
    let received = rotel.wait_for_spans(SPANS)?;
    let finished = agent.stop()?;
    assert_eq!(finished.spans.len(), SPANS, "{}", finished.spans);
    assert_eq!(rotel.spans()?.len(), SPANS);
    assert_eq!(comparable(&received), comparable(&finished.spans));
    assert_eq!(finished.report.exported["otlp"], SPANS as u64, "{}", finished.report.json);
    finished.report.assert_nothing_lost();
    Ok(())
}

/// Protects: a receiver that we did not write understands our gRPC, every attribute of it.
#[test]
fn otlp_over_grpc() -> Result<()> {
    on_each_backend(|backend| {
        let mut rotel = Rotel::start()?;
        let mut traffic = Traffic::start()?;
        let agent = traffic.both_ends(backend).otlp_grpc(&rotel.grpc_endpoint()).start()?;
        ask(&mut traffic)?;
        received_as_written(agent, &mut rotel)
    })
}

/// Protects: a receiver that we did not write understands our HTTP, every attribute of it.
#[test]
fn otlp_over_http() -> Result<()> {
    on_each_backend(|backend| {
        let mut rotel = Rotel::start()?;
        let mut traffic = Traffic::start()?;
        let agent = traffic.both_ends(backend).otlp_http(&rotel.http_endpoint()).start()?;
        ask(&mut traffic)?;
        received_as_written(agent, &mut rotel)
    })
}

/// A web server in front of a receiver, whose log tells how requests looked.
struct Gate {
    nginx: Service,
    port: u16,
    log: std::path::PathBuf,
    _directory: tempfile::TempDir,
}

impl Gate {
    /// `pass` is nginx's way to the receiver; `listen` follows the port.
    fn start(listen: &str, pass: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let log = directory.path().join("otlp.log");
        let port = port::free()?;
        let nginx = Nginx::new("")?
            .http(&format!(
                "log_format otlp '$request_uri|$content_type|$http_content_encoding\
                 |$http_grpc_encoding|$http_x_key|$status';
                 server {{
                     listen 127.0.0.1:{port} {listen};
                     access_log {} otlp;
                     location / {{ {pass} }}
                 }}",
                log.display()
            ))
            .start()?;
        Ok(Self { nginx, port, log, _directory: directory })
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn log(&self) -> Result<String> {
        ensure!(self.nginx.pid() > 0);
        Ok(fs::read_to_string(&self.log)?)
    }
}

/// Protects: the standard environment variables choose endpoint, protocol, headers and
/// compression, with no option given.
#[test]
fn the_environment_configures_otlp_over_http() -> Result<()> {
    on_each_backend(|backend| {
        let mut rotel = Rotel::start()?;
        let gate = Gate::start("", &format!("proxy_pass {};", rotel.http_endpoint()))?;
        let mut traffic = Traffic::start()?;
        let agent = traffic
            .both_ends(backend)
            .exporter("otlp")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &gate.endpoint())
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b,other=c")
            .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
            .start()?;
        ask(&mut traffic)?;
        received_as_written(agent, &mut rotel)?;
        for line in gate.log()?.lines() {
            assert_eq!(line, "/v1/traces|application/x-protobuf|gzip|-|a b|200");
        }
        Ok(())
    })
}

/// Protects: the same over gRPC.
#[test]
fn the_environment_configures_otlp_over_grpc() -> Result<()> {
    on_each_backend(|backend| {
        let mut rotel = Rotel::start()?;
        let grpc = rotel.grpc_endpoint().replace("http:", "grpc:");
        let gate = Gate::start("http2", &format!("grpc_pass {grpc};"))?;
        let mut traffic = Traffic::start()?;
        let agent = traffic
            .both_ends(backend)
            .exporter("otlp")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &gate.endpoint())
            .env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b")
            .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
            .start()?;
        ask(&mut traffic)?;
        received_as_written(agent, &mut rotel)?;
        let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        for line in gate.log()?.lines() {
            assert_eq!(line, format!("{path}|application/grpc|-|gzip|a b|200"));
        }
        Ok(())
    })
}

/// Protects: the signal's own variable is the whole URL, and an endpoint alone selects OTLP.
#[test]
fn a_traces_endpoint_is_taken_as_it_is() -> Result<()> {
    on_each_backend(|backend| {
        let mut rotel = Rotel::start()?;
        let pass = format!("rewrite ^ /v1/traces break; proxy_pass {};", rotel.http_endpoint());
        let gate = Gate::start("", &pass)?;
        let mut traffic = Traffic::start()?;
        let mut agent = traffic
            .both_ends(backend)
            .without_file()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
            .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &(gate.endpoint() + "/some/where"))
            .start()?;
        ask(&mut traffic)?;
        rotel.wait_for_spans(SPANS)?;
        agent.check_running()?;
        let finished = agent.stop()?;
        assert_eq!(finished.report.exported["otlp"], SPANS as u64);
        assert_eq!(finished.stdout, "");
        for line in gate.log()?.lines() {
            assert_eq!(line, "/some/where|application/x-protobuf|-|-|-|200");
        }
        Ok(())
    })
}

/// Protects: spans wait for a receiver that is not there yet.
#[test]
fn a_receiver_that_starts_late() -> Result<()> {
    for http in [false, true] {
        on_each_backend(|backend| {
            let (grpc_port, http_port) = (port::free()?, port::free()?);
            let mut traffic = Traffic::start()?;
            let options = traffic.both_ends(backend);
            let options = if http {
                options.otlp_http(&format!("http://127.0.0.1:{http_port}"))
            } else {
                options.otlp_grpc(&format!("http://127.0.0.1:{grpc_port}"))
            };
            let mut agent = options.start()?;
            ask(&mut traffic)?;
            agent.wait_for_spans(SPANS)?;
            // The operator is told before the agent gives up.
            wait::until("a failed attempt in the agent's log", || {
                Ok(agent.log().contains("the OTLP receiver takes no spans").then_some(()))
            })?;
            let mut rotel = Rotel::start_at(grpc_port, http_port)?;
            received_as_written(agent, &mut rotel)
        })?;
    }
    Ok(())
}

/// Protects: with no receiver at all the agent ends in time when told to, has lost nothing
/// silently, and other destinations have everything.
#[test]
fn a_receiver_that_never_starts() -> Result<()> {
    on_each_backend(|backend| {
        let nobody = format!("http://127.0.0.1:{}", port::free()?);
        let mut traffic = Traffic::start()?;
        let mut agent = traffic.both_ends(backend).otlp_grpc(&nobody).start()?;
        ask(&mut traffic)?;
        agent.wait_for_spans(SPANS)?;
        let finished = agent.stop()?;
        let report = finished.report;
        assert_eq!((report.spans, report.exported["otlp"]), (SPANS as u64, 0));
        let undelivered = report.json["undelivered"]["otlp"].as_object();
        let undelivered: u64 = undelivered
            .into_iter()
            .flat_map(|reasons| reasons.values())
            .filter_map(serde_json::Value::as_u64)
            .sum();
        assert_eq!(undelivered, SPANS as u64, "{}", report.json);
        assert_eq!(finished.spans.len(), SPANS);
        Ok(())
    })
}

/// Protects: what happened before the signal is delivered after it, without anybody waiting.
#[test]
fn a_signal_flushes() -> Result<()> {
    on_each_backend(|backend| {
        let mut rotel = Rotel::start()?;
        let nginx = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
        let mut launcher = Launcher::start()?;
        // Not nginx: its last call may still be on its way back when curl is gone.
        let agent = AgentOptions::new(backend)
            .pid(launcher.pid())
            .otlp_grpc(&rotel.grpc_endpoint())
            .start()?;
        for _ in 0..20 {
            launcher.curl([nginx.url("/hello")])?;
        }
        let finished = agent.stop()?;
        assert_eq!(finished.spans.len(), 20, "{}", finished.spans);
        assert_eq!(finished.report.exported["otlp"], 20, "{}", finished.report.json);
        assert_eq!(rotel.wait_for_spans(20)?.len(), 20);
        Ok(())
    })
}

/// The waterfalls on standard output, each a block of lines.
fn waterfalls(stdout: &str) -> Vec<Vec<&str>> {
    let blocks = stdout.split("\n\n").map(|block| block.trim_matches('\n'));
    blocks.filter(|block| !block.is_empty()).map(|block| block.lines().collect()).collect()
}

/// Spans in all waterfalls: each is a heading and a line a span.
fn spans_drawn(stdout: &str) -> usize {
    waterfalls(stdout).iter().map(|lines| lines.len() - 1).sum()
}

/// Protects: a trace is drawn as a tree that a person can read at 100 columns; nothing but text
/// goes to what is no terminal.
#[test]
fn a_waterfall_on_the_console() -> Result<()> {
    on_each_backend(|backend| {
        let flask = Gunicorn::default().start()?;
        let nginx = Nginx::proxy(&format!("http://{}", flask.address()))?.start()?;
        let mut launcher = Launcher::start()?;
        let mut agent = AgentOptions::new(backend)
            .pid(flask.pid())
            .pid(nginx.pid())
            .exporter("console")
            .start()?;
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let parent = format!("traceparent: 00-{trace}-b7ad6b7169203331-01");
        launcher.curl(["-H", &parent, &nginx.url("/status/503")])?;
        agent.wait_for_spans(3)?;
        let finished = agent.stop()?;

        let [waterfall] = waterfalls(&finished.stdout)
            .try_into()
            .map_err(|blocks| anyhow::anyhow!("not one waterfall: {blocks:?}\n{}", finished.log))?;
        assert_eq!(waterfall.len(), 4, "a heading and a line a span: {waterfall:#?}");
        let heading = format!("trace {trace} · 3 spans · 2 services · ");
        assert!(waterfall[0].starts_with(&heading), "{}", waterfall[0]);
        for (service, kind, count) in
            [("nginx", "server", 1), ("nginx", "client", 1), ("flask_app", "server", 1)]
        {
            let lines = waterfall[1..].iter().filter(|line| {
                line.contains(&format!("{service} GET")) && line.contains(&format!(" {kind} "))
            });
            assert_eq!(lines.count(), count, "{service} {kind}: {waterfall:#?}");
        }
        for line in &waterfall {
            assert!(line.chars().count() <= 100, "too wide: {line}");
            assert!(!line.contains(char::is_control), "not text: {line:?}");
        }
        for line in &waterfall[1..] {
            assert!(line.contains("✗ 503"), "the error is not shown: {line}");
            assert!(line.contains('█') || line.contains('▌') || line.contains('▐'), "{line}");
        }
        assert_eq!(finished.report.exported["console"], 3);
        Ok(())
    })
}

/// Protects: the first run needs no receiver: with nothing configured there is something to see.
#[test]
fn the_console_is_the_default() -> Result<()> {
    on_each_backend(|backend| {
        let mut traffic = Traffic::start()?;
        let mut agent = traffic.both_ends(backend).without_file().start()?;
        ask(&mut traffic)?;
        wait::until("all spans on the console", || {
            agent.check_running()?;
            Ok((spans_drawn(&agent.stdout()) == SPANS).then_some(()))
        })?;
        let report = agent.stop()?.report;
        assert_eq!(
            report.exported.iter().collect::<Vec<_>>(),
            [(&"console".into(), &(SPANS as u64))]
        );
        Ok(())
    })
}

/// Protects: several destinations at once, each with everything.
#[test]
fn several_exporters() -> Result<()> {
    on_each_backend(|backend| {
        let mut rotel = Rotel::start()?;
        let mut traffic = Traffic::start()?;
        let mut agent = traffic
            .both_ends(backend)
            .exporter("console")
            .otlp_grpc(&rotel.grpc_endpoint())
            .start()?;
        ask(&mut traffic)?;
        agent.wait_for_spans(SPANS)?;
        rotel.wait_for_spans(SPANS)?;
        let finished = agent.stop()?;
        assert_eq!(finished.report.exported.len(), 3, "{}", finished.report.json);
        for (exporter, sent) in &finished.report.exported {
            assert_eq!(*sent, SPANS as u64, "{exporter}");
        }
        let drawn = spans_drawn(&finished.stdout);
        assert_eq!((drawn, rotel.spans()?.len(), finished.spans.len()), (SPANS, SPANS, SPANS));
        Ok(())
    })
}

/// Protects: OTLP JSON lines on standard output can be piped on: nothing else is written there.
#[test]
fn json_lines_on_standard_output() -> Result<()> {
    for by_variable in [false, true] {
        on_each_backend(|backend| {
            let mut traffic = Traffic::start()?;
            let options = traffic.both_ends(backend).without_file();
            let agent = if by_variable {
                options.env("OTEL_TRACES_EXPORTER", "otlp/stdout").start()?
            } else {
                options.exporter("file:-").start()?
            };
            ask(&mut traffic)?;
            let spans = wait::until("all spans on standard output", || {
                let spans = Spans::from_otlp_json_lines(&agent.stdout())?;
                Ok((spans.len() >= SPANS).then_some(spans))
            })?;
            assert_eq!(spans.len(), SPANS);
            assert!(agent.stop()?.stdout.ends_with('\n'));
            Ok(())
        })?;
    }
    Ok(())
}

/// Protects: `none` sends nothing anywhere, also when an endpoint is configured.
#[test]
fn no_exporter() -> Result<()> {
    on_each_backend(|backend| {
        let rotel = Rotel::start()?;
        let nginx = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend)
            .pid(launcher.pid())
            .without_file()
            .exporter("none")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &rotel.http_endpoint())
            .start()?;
        launcher.curl([nginx.url("/hello")])?;
        let finished = agent.stop()?;
        assert_eq!((finished.report.spans, finished.report.exported.len()), (1, 0));
        assert_eq!((finished.stdout.as_str(), rotel.spans()?.len()), ("", 0));
        Ok(())
    })
}

/// Protects: a mistake in the choice of exporters stops the agent at once and says what is known.
#[test]
fn an_unknown_exporter_is_refused() -> Result<()> {
    let launcher = Launcher::start()?;
    let started = AgentOptions::new(Backend::Auto).pid(launcher.pid()).exporter("jaeger").start();
    let Err(error) = started else { panic!("the agent started") };
    let error = format!("{error:#}");
    assert!(error.contains("unknown exporter `jaeger`"), "{error}");
    assert!(error.contains("otlp, console, file:PATH"), "{error}");
    Ok(())
}
