//! Programs with an SDK of their own among programs without: together they give one tree a
//! request, with no span twice. The SDK is OpenTelemetry's for Python, set up as its documentation
//! tells; it exports to a collector, the agent to a file.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use tracer_tests::service::{self, Gunicorn, Nginx};
use tracer_tests::{
    Agent, AgentOptions, Launcher, Rotel, Service, Span, Spans, layout, on_each_backend,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
/// Requests of a burst.
const REQUESTS: usize = 64;

/// A Flask service under OpenTelemetry's auto-instrumentation.
fn instrumented(name: &str, rotel: &Rotel) -> Result<Service> {
    Gunicorn::default()
        .source(&layout::service_source("sdk_app.py"))
        .threads(40)
        .wrapped_by(&["opentelemetry-instrument"])
        .env("OTEL_SERVICE_NAME", name)
        .env("OTEL_TRACES_EXPORTER", "otlp")
        .env("OTEL_METRICS_EXPORTER", "none")
        .env("OTEL_LOGS_EXPORTER", "none")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &rotel.http_endpoint())
        .env("OTEL_BSP_SCHEDULE_DELAY", "500")
        .start()
}

fn encoded(url: &str) -> String {
    url.replace(':', "%3A").replace('/', "%2F").replace('?', "%3F").replace('=', "%3D")
}

/// Asks for a URL so often, by so many connections at a time.
fn ask(launcher: &mut Launcher, url: &str, times: usize, at_once: usize) -> Result<()> {
    let mut words = vec!["--fail-early".to_owned(), "--globoff".to_owned()];
    if at_once > 1 {
        words.extend(["--parallel", "--parallel-immediate", "--parallel-max"].map(str::to_owned));
        words.push(at_once.to_string());
    }
    words.extend((0..times).map(|_| url.to_owned()));
    launcher.curl(words)?;
    Ok(())
}

/// Waits for what the SDKs and the agent tell, and stops the agent.
fn all_spans(
    mut agent: Agent,
    rotel: &mut Rotel,
    ours: usize,
    theirs: usize,
) -> Result<(Spans, Spans, Json)> {
    agent.wait_for_spans(ours)?;
    let theirs_seen = rotel.wait_for_spans(theirs)?;
    let finished = agent.stop()?;
    ensure!(
        finished.spans.len() == ours,
        "{} instead of {ours}:\n{}",
        finished.spans.len(),
        finished.spans
    );
    ensure!(theirs_seen.len() == theirs, "{} instead of {theirs}", theirs_seen.len());
    finished.report.assert_nothing_lost();
    Ok((finished.spans, theirs_seen, finished.report.json))
}

fn only<'a>(spans: &'a Spans, what: &str) -> Result<&'a Span> {
    spans.only().with_context(|| format!("{what} of one trace"))
}

/// Protects: SDK service → service without one, which passes the context on → SDK service. Each
/// request is one trace, each span is there once and has the right parent.
#[test]
fn a_chain_of_services_with_and_without_an_sdk() -> Result<()> {
    on_each_backend(|backend| {
        for at_once in [1, 32] {
            let mut rotel = Rotel::start()?;
            let first = instrumented("first", &rotel)?;
            let second = Gunicorn::default().threads(40).start()?;
            let third = instrumented("third", &rotel)?;
            let mut launcher = Launcher::start()?;
            let agent = AgentOptions::new(backend)
                .pid(first.pid())
                .pid(second.pid())
                .pid(third.pid())
                .start()?;
            let call = second.url(&format!("/call?url={}", third.url("/hello")));
            let url = first.url(&format!("/work?known={}", encoded(&call)));
            ask(&mut launcher, &url, REQUESTS, at_once)?;

            let (ours, theirs, report) = all_spans(agent, &mut rotel, 2 * REQUESTS, 3 * REQUESTS)?;
            ensure!(ours.of_service("flask_app").len() == ours.len(), "not only second:\n{ours}");
            let mut traces: BTreeMap<&str, usize> = BTreeMap::new();
            for span in ours.iter().chain(theirs.iter()) {
                *traces.entry(&span.trace_id).or_default() += 1;
            }
            assert_eq!(traces.len(), REQUESTS, "one trace a request");
            for (trace, spans) in traces {
                assert_eq!(spans, 5, "{trace} has {spans} spans");
                let (ours, theirs) = (ours.of_trace(trace), theirs.of_trace(trace));
                let first = theirs.of_service("first");
                let (request, call) = (first.servers(), first.clients());
                let (request, call) = (only(&request, "request")?, only(&call, "call")?);
                assert_eq!(request.parent_span_id, None);
                assert_eq!(call.parent_span_id.as_ref(), Some(&request.span_id));
                let (server, client) = (ours.servers(), ours.clients());
                let (server, client) = (only(&server, "server")?, only(&client, "client")?);
                assert_eq!(server.parent_span_id.as_ref(), Some(&call.span_id));
                assert_eq!(client.parent_span_id.as_ref(), Some(&server.span_id));
                let third = theirs.of_service("third");
                // By the header, which `second` passed on.
                let third = only(&third, "third")?;
                assert_eq!(third.parent_span_id.as_ref(), Some(&call.span_id));
            }
            let muted = &report["muted"];
            assert_eq!(muted["sdk_client_span"], REQUESTS as u64, "{report}");
            assert_eq!(muted["sdk_server_span"], 2 * REQUESTS as u64, "{report}");
            assert!(muted["otlp_export"].as_u64() > Some(0), "{report}");
        }
        Ok(())
    })
}

/// Protects: what the SDK does not know of still appears, in the trace of its request; what the
/// SDK calls is below the SDK's span.
#[test]
fn calls_that_the_sdk_does_not_know_of() -> Result<()> {
    on_each_backend(|backend| {
        for at_once in [1, 32] {
            let mut rotel = Rotel::start()?;
            let service = instrumented("shop", &rotel)?;
            let nginx = Nginx::new("")?.file("known", b"1\n")?.file("unknown", b"2\n")?.start()?;
            let mut launcher = Launcher::start()?;
            let agent = AgentOptions::new(backend).pid(service.pid()).pid(nginx.pid()).start()?;
            let (known, unknown) = (nginx.url("/known"), nginx.url("/unknown"));
            let url = service.url(&format!("/work?known={known}&unknown={unknown}"));
            let mut words = vec!["-H".to_owned(), format!("traceparent: 00-{TRACE}-{PARENT}-01")];
            if at_once > 1 {
                words.extend(["--parallel", "--parallel-max", "32"].map(str::to_owned));
            }
            words.extend((0..REQUESTS).map(|_| url.clone()));
            launcher.curl(words)?;

            let (ours, theirs, report) = all_spans(agent, &mut rotel, 3 * REQUESTS, 2 * REQUESTS)?;
            assert_eq!(ours.of_trace(TRACE).len(), ours.len(), "{ours}");
            let calls = ours.clients();
            assert_eq!(calls.of_service("shop").len(), REQUESTS, "{ours}");
            for call in calls.iter() {
                assert_eq!(call.attributes.text("url.full"), Some(&*unknown));
                assert_eq!(call.parent_span_id.as_deref(), Some(PARENT), "as near as is known");
            }
            let answered = |path: &str| ours.servers().with("url.path", path);
            let parents = |spans: &Spans| {
                let parents = spans.iter().filter_map(|span| span.parent_span_id.clone());
                let mut parents: Vec<String> = parents.collect();
                parents.sort();
                parents
            };
            let ids = |spans: &Spans| {
                let mut ids: Vec<String> = spans.iter().map(|it| it.span_id.clone()).collect();
                ids.sort();
                ids
            };
            assert_eq!(parents(&answered("/unknown")), ids(&calls), "{report}");
            assert_eq!(parents(&answered("/known")), ids(&theirs.clients()), "{report}");
        }
        Ok(())
    })
}

/// Protects: a process is called what its SDK publishes, and `tracer targets` tells so. This SDK
/// does not know the server's library: requests remain ours.
#[test]
fn a_resource_that_an_sdk_publishes() -> Result<()> {
    let environment = [
        ("DD_SERVICE", "published"),
        ("DD_ENV", "proving"),
        ("DD_VERSION", "1.2"),
        ("DD_INSTRUMENTATION_TELEMETRY_ENABLED", "false"),
        ("DD_REMOTE_CONFIGURATION_ENABLED", "false"),
    ];
    let service = service::python(&layout::service_source("published_app.py"), &environment)?;
    on_each_backend(|backend| {
        let agent = AgentOptions::new(backend).pid(service.pid()).start()?;
        for _ in 0..3 {
            service.get("/hello")?;
        }
        let spans = agent.finish(3)?;
        for span in spans.iter() {
            let resource = |name| span.resource.text(name);
            assert_eq!(span.service(), "published");
            assert_eq!(resource("deployment.environment.name"), Some("proving"));
            assert_eq!(resource("service.version"), Some("1.2"));
            assert_eq!(resource("telemetry.sdk.name"), Some("tracer"), "who made the span");
            assert_eq!(span.pid(), Some(service.pid()), "what is not published is observed");
        }
        Ok(())
    })?;

    let output = Command::new(layout::agent()?)
        .args(["targets", "--json", "--pid", &service.pid().to_string()])
        .output()?;
    let listing: Json = serde_json::from_slice(&output.stdout)?;
    let rows = listing["processes"].as_array().context("no processes")?;
    let row = rows.iter().find(|row| row["pid"] == service.pid()).context("not listed")?;
    assert_eq!(row["service_name"], "published");
    assert_eq!(row["service_name_source"], "process_context");
    let sdk = row["instrumented"]["process_context"].as_str();
    assert!(sdk.is_some_and(|sdk| sdk.contains("python")), "{row}");
    let output = Command::new(layout::agent()?).arg("targets").output()?;
    let line = format!("\n{} is instrumented (by ", service.pid());
    assert!(String::from_utf8_lossy(&output.stdout).contains(&line));
    Ok(())
}
