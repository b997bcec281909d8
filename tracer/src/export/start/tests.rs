use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use super::*;
use crate::export::fixtures::{span, spans};
use crate::export::ledger::DropReason;
use crate::export::settings::Options;

fn settings(exporters: &str, variables: &[(&str, &str)]) -> Settings {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    let options = Options { exporters: Some(exporters.to_owned()), ..Options::default() };
    Settings::resolve(&options, |name| variables.get(name).map(|&it| it.to_owned())).unwrap().0
}

#[test]
fn every_submitted_span_reaches_the_file_before_shutdown_returns() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spans.jsonl");
    let (sink, handle) = start(settings(&format!("file:{}", path.display()), &[])).unwrap();
    for start in 0..1_000 {
        sink.submit(vec![span(start)]);
    }
    let report = handle.shutdown(Duration::from_mins(1));
    assert_eq!((report.exporters[0].submitted, report.exporters[0].sent), (1_000, 1_000));

    let mut starts: Vec<u64> = std::fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<ExportTraceServiceRequest>(line).unwrap())
        .flat_map(|request| request.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .map(|span| span.start_time_unix_nano)
        .collect();
    starts.sort_unstable();
    assert_eq!(starts, (0..1_000).collect::<Vec<_>>());
}

#[test]
fn a_dead_destination_holds_up_neither_another_nor_the_end() {
    // Accepts connections and never answers.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", deaf.local_addr().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spans.jsonl");
    let list = format!("otlp,file:{}", path.display());
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
    ];
    let (sink, handle) = start(settings(&list, &variables)).unwrap();
    let limit = std::time::Instant::now() + Duration::from_mins(1);
    for start in 0..30 {
        sink.submit(spans(10 * start..10 * start + 10));
        // The file keeps up; the other queue fills.
        while handle.report().exporters[1].pending > 0 {
            assert!(std::time::Instant::now() < limit, "the file does not keep up");
            thread::yield_now();
        }
    }
    let report = handle.shutdown(Duration::from_millis(50));
    let [otlp, file] = &report.exporters[..] else { panic!("{report}") };
    assert_eq!((file.sent, file.submitted), (300, 300));
    assert_eq!((otlp.sent, otlp.submitted, otlp.pending), (0, 300, 0));
    assert!(otlp.dropped(DropReason::QueueFull) >= 100, "{report}");
    assert_eq!(
        otlp.dropped(DropReason::QueueFull) + otlp.dropped(DropReason::Shutdown),
        300,
        "{report}"
    );
}

#[test]
fn no_exporter_takes_spans_and_reports_nothing() {
    let (sink, handle) = start(settings("none", &[])).unwrap();
    sink.submit(spans(0..3));
    assert_eq!(handle.shutdown(Duration::from_mins(1)), ExportReport::default());
}

#[test]
fn spans_after_the_end_are_counted() {
    let (sink, handle) = start(settings("console", &[])).unwrap();
    let queue = Arc::clone(&handle.queues[0]);
    handle.shutdown(Duration::from_mins(1));
    sink.submit(spans(0..3));
    assert_eq!(queue.ledger().report().dropped(DropReason::Shutdown), 3);
}

#[test]
fn what_cannot_start_says_why() {
    let error = start(settings("file:/nonexistent/x.jsonl", &[])).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/x.jsonl"), "{error}");

    let https = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:1");
    let missing = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent/ca.pem");
    let error = start(settings("otlp", &[https, missing])).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");

    let half = ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/nonexistent/key.pem");
    let error = start(settings("otlp", &[https, half])).unwrap_err();
    assert!(matches!(error, ExportError::Tls(TlsError::HalfIdentity)), "{error}");
}

#[test]
fn with_a_spool_nothing_is_dropped_at_the_end_and_the_next_run_finds_it() {
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", deaf.local_addr().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings("otlp", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
    settings.spool = Some(crate::export::SpoolSettings {
        directory: directory.path().join("spool"),
        max_bytes: 64 << 20,
    });
    for run in 1..=2 {
        let (sink, handle) = start(settings.clone()).unwrap();
        sink.submit(spans(0..3_000));
        let error = start(settings.clone()).unwrap_err();
        assert!(matches!(error, ExportError::Spool(SpoolError::InUse { .. })), "{error}");
        let [otlp] = &handle.shutdown(Duration::from_secs(5)).exporters[..] else { panic!() };
        assert_eq!((otlp.submitted, otlp.recovered), (3_000, (run - 1) * 3_000));
        assert_eq!((otlp.spooled, otlp.drops().count()), (run * 3_000, 0), "{otlp}");
    }
}

#[test]
fn every_receiver_gets_everything_under_its_own_name() {
    let unused = |port: u16| format!("http://127.0.0.1:{port}");
    let options = Options { otlp_endpoints: vec![unused(1), unused(2)], ..Options::default() };
    let (settings, _) = Settings::resolve(&options, |_| None).unwrap();
    let (sink, handle) = start(settings).unwrap();
    sink.submit(spans(0..3));
    let report = handle.shutdown(Duration::from_mins(1));
    let names: Vec<_> =
        report.exporters.iter().map(|it| (it.name.as_str(), it.submitted)).collect();
    assert_eq!(names, [("otlp http://127.0.0.1:1", 3), ("otlp http://127.0.0.1:2", 3)]);
}
