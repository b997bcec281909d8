//! What the agent tells in numbers: judged by Prometheus' own tools, and by a receiver of OTLP.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use tracer_tests::{Agent, Backend, Process, Traffic, http, layout, on_each_backend, port, wait};

/// Requests: one server and one client span each.
const REQUESTS: usize = 3;
const SPANS: usize = 2 * REQUESTS;
const OPENMETRICS: (&str, &str) = ("Accept", "application/openmetrics-text; version=1.0.0");

/// Several shapes of them.
const PATHS: [&str; REQUESTS] = ["/hello", "/hello", "/nothing"];

fn scrape(address: SocketAddr, headers: &[(&str, &str)]) -> Result<String> {
    let response = http::get(address, "/metrics", headers)?;
    ensure!(response.status == 200, "{response:?}");
    Ok(response.body)
}

/// Sums of samples by name, without labels.
fn sums(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        *sums.entry(name.to_owned()).or_default() += value.unwrap_or(f64::NAN);
    }
    sums
}

fn sample(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let line = text.lines().find(|line| {
        line.split(['{', ' ']).next() == Some(name)
            && labels.iter().all(|label| line.contains(label))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

/// The agent publishes once a second: waits until all spans are told of.
fn settled(agent: &mut Agent, address: SocketAddr) -> Result<String> {
    agent.wait_for_spans(SPANS)?;
    wait::until("the numbers of all spans", || {
        let text = scrape(address, &[])?;
        let sums = sums(&text);
        let told = sums.get("otel_sdk_span_started_total") == Some(&(SPANS as f64));
        Ok(told.then_some(text))
    })
}

/// Protects: Prometheus' linter has nothing to complain about, its parser of `OpenMetrics` reads
/// everything, and the numbers are those of what happened.
#[test]
fn prometheus_reads_and_likes_it() -> Result<()> {
    on_each_backend(|backend| {
        let address = port::loopback(port::free()?);
        let mut traffic = Traffic::start()?;
        let mut agent = traffic
            .both_ends(backend)
            .argument("--metrics")
            .argument(address.to_string())
            .argument("--probe-times")
            .argument("--memory-limit=4G")
            .start()?;
        for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/", 404)] {
            assert_eq!(http::get(address, path, &[])?.status, status, "{path}");
        }
        traffic.ask(&PATHS)?;
        let text = settled(&mut agent, address)?;

        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("no promtool; run `cargo xtask setup test`")?;
        promtool.stdin.take().context("no input")?.write_all(text.as_bytes())?;
        let judged = promtool.wait_with_output()?;
        let complaints = String::from_utf8_lossy(&judged.stderr);
        ensure!(judged.status.success() && complaints.is_empty(), "{complaints}\n{text}");

        let read = read_openmetrics(&scrape(address, &[OPENMETRICS])?)?;
        let exemplars = read["exemplars"].as_array().context("no exemplars")?;
        let traces: Vec<String> = agent.spans()?.iter().map(|span| span.trace_id.clone()).collect();
        ensure!(!exemplars.is_empty());
        for exemplar in exemplars {
            let trace = exemplar.as_str().unwrap_or_default().to_owned();
            assert!(traces.contains(&trace), "{trace} is none of {traces:?}");
        }

        for (name, labels, expected) in [
            ("tracer_spans_total", &["kind=\"server\""][..], 3.0),
            ("tracer_spans_total", &["kind=\"client\""], 3.0),
            ("http_server_request_duration_seconds_count", &["status_code=\"200\"", "nginx"], 2.0),
            ("http_server_request_duration_seconds_count", &["status_code=\"404\"", "nginx"], 1.0),
            ("http_client_request_duration_seconds_count", &["status_code=\"200\"", "curl"], 2.0),
            ("http_client_request_duration_seconds_count", &["error_type=\"404\"", "curl"], 1.0),
            ("otel_sdk_exporter_span_exported_total", &["otlp_file_span_exporter"], 6.0),
            ("tracer_memory_shed_total", &["what=\"newest_spans\""], 0.0),
        ] {
            assert_eq!(sample(&text, name, labels), Some(expected), "{name} {labels:?}\n{text}");
        }
        let sums = sums(&text);
        for name in [
            "tracer_events_captured_total",
            "tracer_captured_bytes_total",
            "tracer_links_total",
            "tracer_memory_bytes",
            "tracer_probe_runs_total",
            "tracer_probe_time_seconds_total",
            "tracer_connections_opened_total",
            "target_info",
        ] {
            assert!(sums.get(name).is_some_and(|sum| *sum > 0.0), "{name}\n{text}");
        }
        assert_eq!(sample(&text, "tracer_events_lost_total", &["ring_full_data"]), Some(0.0));
        assert!(!text.contains("/hello"), "a path is no attribute:\n{text}");
        agent.finish(SPANS)?;
        Ok(())
    })
}

/// By the parser of Prometheus' own Python library: names of metrics, and traces of exemplars.
fn read_openmetrics(text: &str) -> Result<Json> {
    let program = "import json, sys\n\
        from prometheus_client.openmetrics.parser import text_string_to_metric_families\n\
        families = list(text_string_to_metric_families(sys.stdin.read()))\n\
        samples = [sample for family in families for sample in family.samples]\n\
        print(json.dumps({'names': [family.name for family in families],\n\
            'exemplars': [s.exemplar.labels['trace_id'] for s in samples if s.exemplar]}))";
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("metrics");
    fs::write(&file, text)?;
    let mut python = Command::new(layout::python_program("python3")?);
    let output = python.args(["-c", program]).stdin(fs::File::open(&file)?).output()?;
    ensure!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Protects: a receiver that we did not write reads our metrics, over either transport, and those
/// of the traced service are the service's.
#[test]
fn a_receiver_gets_the_same_by_otlp() -> Result<()> {
    for protocol in ["grpc", "http/protobuf", "http/json"] {
        let receiver = MetricsReceiver::start()?;
        let mut traffic = Traffic::start()?;
        let variable = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
        let endpoint = receiver.endpoint(protocol);
        let mut agent = traffic
            .both_ends(Backend::Auto)
            .env(variable, &endpoint)
            .env("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", protocol)
            .env("OTEL_METRIC_EXPORT_INTERVAL", "300")
            .env("OTEL_RESOURCE_ATTRIBUTES", "host.rack=7")
            .start()?;
        traffic.ask(&PATHS)?;
        agent.wait_for_spans(SPANS)?;
        let finished = agent.stop()?;
        ensure!(!finished.log.contains("takes no metrics"), "{protocol}: {}", finished.log);
        // Cumulative: the last export, made at the end, tells everything.
        let metrics = receiver.metrics()?;
        for expected in ["otel.sdk.span.started|tracer|6", "http.server.request.duration|nginx|3"] {
            assert!(
                metrics.lines().any(|line| line == expected),
                "{protocol}: no {expected} in\n{metrics}"
            );
        }
    }
    Ok(())
}

/// A receiver by the OpenTelemetry project's own protobuf classes, which prints the last value of
/// each metric: name, service, and count or sum.
struct MetricsReceiver {
    process: Process,
    grpc: u16,
    http: u16,
    _directory: tempfile::TempDir,
}

impl MetricsReceiver {
    fn start() -> Result<Self> {
        let (grpc, http) = (port::free()?, port::free()?);
        let directory = tempfile::tempdir()?;
        let program = layout::workspace().join("tests/programs/metrics_receiver.py");
        let mut command = Command::new(layout::python_program("python3")?);
        command.arg(program).arg(grpc.to_string()).arg(http.to_string());
        let log = directory.path().join("log");
        let mut process = Process::start("metrics receiver", &command, &log)?;
        process.wait_until("the receiver of metrics", |_| {
            let open = [grpc, http].iter().all(|port| port::is_open(port::loopback(*port)));
            Ok(open.then_some(()))
        })?;
        Ok(Self { process, grpc, http, _directory: directory })
    }

    fn endpoint(&self, protocol: &str) -> String {
        match protocol {
            "grpc" => format!("http://127.0.0.1:{}", self.grpc),
            _ => format!("http://127.0.0.1:{}/v1/metrics", self.http),
        }
    }

    /// The last export.
    fn metrics(&self) -> Result<String> {
        let log = self.process.log();
        let last = log.rsplit("export\n").next().context("nothing came")?;
        Ok(last.to_owned())
    }
}

/// Protects: an address in use is told before anything is attached.
#[test]
fn an_address_in_use() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let mut command = Command::new(layout::agent()?);
    let output = command.args(["run", "--port", "9", "--metrics", &address]).output()?;
    let error = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(&address) && error.contains("--metrics"), "{error}");
    Ok(())
}

/// Protects: requests that are not exported, whoever decides so, are measured all the same.
#[test]
fn requests_that_are_not_sampled_are_measured() -> Result<()> {
    for (option, decided) in [("--sample=off", "head"), ("--tail=error", "tail")] {
        let mut traffic = Traffic::start()?;
        let address = port::loopback(port::free()?);
        let agent = traffic
            .both_ends(Backend::Auto)
            .argument(option)
            .argument("--tail-wait=1s")
            .argument("--metrics")
            .argument(address.to_string())
            .start()?;
        traffic.hello(REQUESTS)?;
        wait::until("all requests to be measured and decided on", || {
            let text = scrape(address, &[])?;
            let is = |name: &str, label: &str, expected: usize| {
                sample(&text, name, &[label]) == Some(expected as f64)
            };
            let measured = is("http_server_request_duration_seconds_count", "nginx", REQUESTS)
                && is("http_client_request_duration_seconds_count", "curl", REQUESTS);
            let decided = format!("decided=\"{decided}\"");
            Ok((measured && is("tracer_spans_unsampled_total", &decided, SPANS)).then_some(()))
        })
        .with_context(|| option.to_owned())?;
        let spans = agent.stop()?.spans;
        assert!(spans.is_empty(), "{option}: {spans}");
    }
    Ok(())
}

/// Protects: an agent with next to no memory gives up spans, counts every one, and lives.
#[test]
fn a_memory_limit_is_kept_by_giving_up_and_counting() -> Result<()> {
    let mut traffic = Traffic::start()?;
    let address = port::loopback(port::free()?);
    // Below what the agent takes at rest: everything new is given up.
    let agent = traffic
        .both_ends(Backend::Auto)
        .argument("--memory-limit=1M")
        .argument("--metrics")
        .argument(address.to_string())
        .start()?;
    traffic.ask(&PATHS)?;
    wait::until("events to be given up", || {
        let text = scrape(address, &[])?;
        let shed = sample(&text, "tracer_memory_shed_total", &["what=\"events\""]);
        Ok(shed.is_some_and(|events| events > 0.0).then_some(()))
    })?;
    assert_eq!(http::get(address, "/healthz", &[])?.status, 200);
    let finished = agent.stop()?;
    assert!(finished.spans.is_empty(), "{}", finished.spans);
    assert!(finished.report.json["shed"]["events"].as_u64() > Some(0), "{}", finished.report.json);
    assert!(finished.log.contains("memory limit"), "{}", finished.log);
    Ok(())
}

/// Protects: log messages as JSON are JSON.
#[test]
fn logs_may_be_json() -> Result<()> {
    let traffic = Traffic::start()?;
    let agent = traffic
        .both_ends(Backend::Auto)
        .argument("--memory-limit=1M")
        .argument("--log-format=json")
        .start()?;
    let log = agent.stop()?.log;
    let line = log.lines().find(|line| line.starts_with('{')).context("no JSON")?;
    let message: Json = serde_json::from_str(line)?;
    assert_eq!(
        (&message["level"], &message["limit"]),
        (&"WARN".into(), &(1 << 20).into()),
        "{log}"
    );
    Ok(())
}
